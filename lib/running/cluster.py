"""Runs trained on the workers of a Dask cluster."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import torch

from .. import training
from ..config import Config
from ..run import Run

#: Seconds within which a scheduler must answer.
CONNECT_TIMEOUT = 8
#: Two trainings in one process would draw from one random generator, and give other numbers.
_one_training = threading.Lock()


def train_all(
    configs: dict[str, Config], scheduler: str, report: Callable[[str], None]
) -> Iterator[tuple[str, Run]]:
    """Trains runs on the workers of a Dask scheduler; title and run of each as it ends.

    A run whose worker dies is trained again by another; workers keep no checkpoint, since they
    share no folder with this process. Raises RuntimeError when the cluster cannot be reached, is
    lost, or runs other code.
    """
    with _connected(scheduler) as client:  # whose end cancels what is not done
        from distributed import KilledWorker, as_completed

        if not client.scheduler_info()["workers"]:
            report(f"no worker is connected to {scheduler} yet; the runs wait for one")
        keys = [config.key for config in configs.values()]
        futures = client.map(_train_on_worker, list(configs.values()), keys, pure=False)
        titles = dict(zip(futures, configs, strict=True))
        del futures
        for future in as_completed(list(titles), loop=client.loop):
            title = titles.pop(future)
            try:
                result = future.result()
            except KilledWorker as error:
                raise RuntimeError(
                    f"{title}: given up, {error.allowed_failures + 1} workers died while they trained it; "
                    "look for the reason in their logs, often too little memory"
                ) from error
            except CancelledError as error:
                raise RuntimeError(
                    f"the scheduler at {scheduler} is gone or gave up the runs: {' '.join(str(error).split())}"
                ) from error
            except (AttributeError, ImportError) as error:
                raise RuntimeError(
                    f"{title}: a worker cannot load the training code ({error}); "
                    "scheduler and workers must run the version that runs here"
                ) from error
            # what stays on a worker would be trained again when that worker dies
            future.release()
            yield title, result


def _connected(scheduler: str):
    """A client of the Dask scheduler at that address; raises RuntimeError when there is none."""
    try:
        from distributed import Client
        from distributed.comm import connect
    except ImportError:
        raise RuntimeError(
            "--scheduler needs the package distributed; `pip install distributed==2026.8.0` installs it"
        ) from None

    async def ask():
        async with asyncio.timeout(CONNECT_TIMEOUT + 1):  # connect waits longer for one that keeps silent
            await (await connect(scheduler, timeout=CONNECT_TIMEOUT)).close()

    try:
        asyncio.run(ask())  # first, since a client that fails to connect takes long to be gone
        return Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except Exception as error:  # of many kinds, when what answers is no scheduler
        raise RuntimeError(
            f"no Dask scheduler answers at {scheduler!r} ({str(error) or 'silence'}); --scheduler takes the address that "
            "`dask scheduler` prints, such as tcp://192.168.0.1:8786"
        ) from error


def _train_on_worker(config: Config, key: str) -> Run:
    """Trains one run, in a worker's process; ``key`` is what the client takes the run for."""
    from distributed import get_worker

    worker = get_worker()
    if config.key != key:
        raise RuntimeError(
            f"worker {worker.address} runs another version of the training code: the run is {config.key} there, "
            f"and {key} here; give it the version that runs here"
        )
    with _one_training:
        torch.set_num_threads(worker.state.nthreads)
        return training.outcome(config, progress=False)
