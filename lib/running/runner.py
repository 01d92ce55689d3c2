"""Runs what is not recorded yet, here or on a cluster, and finds what is recorded."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from .. import experiments, paths, records, training
from ..config import Config
from ..machinery import checkpoints, files
from ..machinery.locks import Lock
from ..training import DivergedError, Run
from . import cluster

#: Seconds after which it is looked again whether another process has ended a run.
POLL_SECONDS = 1.0


class _Work(NamedTuple):
    """A run, where it is recorded, and every how many steps."""

    config: Config
    path: Path
    every: int


def record_path(experiment: str, scale: str, name: str, config: Config) -> Path:
    """Where a run of an experiment is recorded."""
    return paths.records(scale) / experiment / records.file_name(name, config)


def planned(names: Iterable[str], scales: Iterable[str]) -> dict[str, tuple[Path, Config]]:
    """Where each run of these experiments is recorded, and its config, by ``scale/experiment/file``."""
    runs = {}
    for scale in scales:
        for experiment in names:
            for name, config in experiments.configs(experiment, scale).items():
                path = record_path(experiment, scale, name, config)
                runs[f"{scale}/{experiment}/{path.name}"] = path, config
    return runs


def recorded(experiment: str, scale: str) -> dict[str, Run]:
    """The recorded runs of an experiment at a scale, by name.

    Raises
    ------
    ValueError
        If the experiment or the scale is not known.
    NotRecordedError
        If none is recorded.
    RecordError
        If a record is damaged.
    DivergedError
        If a run diverged, of an experiment where that is no result.
    """
    wanted = experiments.configs(experiment, scale)
    found = {name: record_path(experiment, scale, name, config) for name, config in wanted.items()}
    runs = {name: records.read(path) for name, path in found.items() if path.exists()}
    if experiment not in experiments.MAY_DIVERGE:
        for run in runs.values():
            if run.diverged_at is not None:
                raise DivergedError(run)
    if not runs:
        raise records.NotRecordedError(
            f"no run of {experiment} is recorded at scale {scale}; `python -m lib run {experiment} --scale {scale}` makes them"
        )
    return runs


def run(
    names: Iterable[str],
    scale: str,
    retrain: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Trains and records the runs of the named experiments that are not recorded yet.

    Each run is recorded as soon as it ends, also one that diverges. Stopped at any moment and started
    again, this goes on where it was, a run in progress at its last checkpoint. Several processes
    may do this on one folder at the same time: none trains what another is training; it waits for
    that at the end, and takes it over should the other be gone.

    With ``jobs`` above 1, so many run at a time, each in a process with one thread. With
    ``scheduler``, the address of a Dask scheduler, its workers train, each with as many threads as
    it has; records are written here, and checkpoints nowhere.

    Raises
    ------
    ValueError
        If an experiment or the scale is not known, or ``jobs`` and ``scheduler`` are both given.
    RuntimeError
        If the cluster cannot be reached, is lost, or runs other code.
    Exception
        What `train`, `records.read` and `records.write` raise.
    """
    if scheduler and jobs != 1:
        raise ValueError(
            f"jobs={jobs} is not allowed with a scheduler, whose workers set how many run at a time"
        )
    todo = _not_recorded(names, scale, retrain, report)
    for work in todo.values():
        files.check_writable(work.path)
    waits = False
    while todo:
        claims = _Claims(todo, retrain, report)
        with closing(claims), closing(_trained(claims, jobs, scheduler)) as trained:
            for title, result in trained:
                claims.record(title, result)
        todo = claims.elsewhere
        if todo:
            if not waits:
                report(f"{', '.join(todo)}: in training by another process, which is waited for")
            waits = True
            time.sleep(POLL_SECONDS)


def _trained(claims: "_Claims", jobs: int, scheduler: str | None) -> Iterator[tuple[str, Run]]:
    if not scheduler:
        yield from _in_processes(claims.items(), jobs) if jobs > 1 else _here(claims.items())
    elif configs := {title: work.config for title, work in claims.items()}:
        yield from cluster.train_all(configs, scheduler, claims.report)


def _not_recorded(names, scale, retrain, report) -> dict[str, _Work]:
    """What is to be trained, by title."""
    todo = {}
    for experiment in names:
        for name, config in experiments.configs(experiment, scale).items():
            path = record_path(experiment, scale, name, config)
            if path.exists() and not retrain:
                _report_recorded(f"{experiment} {name}", path, report)
            else:
                every = experiments.steps_kept(experiment, config)
                todo[f"{experiment} {name}"] = _Work(config, path, every)
    return todo


def _report_recorded(title: str, path: Path, report) -> None:
    run = records.read(path)  # a damaged record is an error, not a run that is done
    stale = checkpoints.path_beside(path)
    if stale.exists():  # of a process that was killed between the record and this
        stale.unlink(missing_ok=True)
    lock = Lock(path)
    if lock.path.exists() and lock.acquire():  # likewise; one that is held stays
        lock.release()
    note = "" if run.diverged_at is None else f", diverged at step {run.diverged_at}"
    report(f"{title}: recorded already{note}")


class _Claims:
    """Runs that this process trains, and no other at the same time."""

    def __init__(self, todo: dict[str, _Work], retrain: bool, report: Callable[[str], None]):
        self.todo, self.retrain, self.report = todo, retrain, report
        self.held: dict[str, Lock] = {}
        self.elsewhere: dict[str, _Work] = {}  # those that another process trains

    def items(self) -> Iterator[tuple[str, _Work]]:
        """Each run that nobody else trains or has recorded meanwhile; it is claimed when it is given out."""
        for title, work in self.todo.items():
            lock = Lock(work.path)
            if not lock.acquire():
                self.elsewhere[title] = work
                continue
            self.held[title] = lock
            if work.path.exists() and not self.retrain:
                _report_recorded(title, work.path, self.report)
                self.held.pop(title).release()
            else:
                files.remove_leftovers(work.path)
                yield title, work

    def record(self, title: str, run: Run) -> None:
        """Records a run that is claimed, and gives it free."""
        work, seconds = self.todo[title], run.provenance["seconds"]
        records.write(run, work.path, every=work.every)
        checkpoints.path_beside(work.path).unlink(missing_ok=True)
        self.held.pop(title).release()
        if run.diverged_at is None:
            self.report(f"{title}: test accuracy {run.test_accuracy:.2%}, {seconds:.0f} s")
        else:
            self.report(f"{title}: recorded as diverged, {DivergedError(run)}")

    def close(self) -> None:
        """Gives free what is not recorded."""
        while self.held:
            self.held.popitem()[1].release()


def _here(works: Iterator[tuple[str, _Work]]) -> Iterator[tuple[str, Run]]:
    for title, work in works:
        yield title, training.outcome(work.config, **_how(title, work))


def _how(title: str, work: _Work) -> dict[str, object]:
    return {"title": title, "checkpoint": checkpoints.path_beside(work.path)}


def _in_processes(works: Iterator[tuple[str, _Work]], jobs: int) -> Iterator[tuple[str, Run]]:
    running, failure = {}, None
    # spawn: a forked child would inherit torch's threads in an unknown state
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_process) as pool:
        try:
            while True:
                # no more than are run: what the pool has taken in, it runs also after a failure
                while not failure and len(running) < jobs and (given := next(works, None)):
                    title, work = given
                    with _interrupts_kept_from_children():
                        future = pool.submit(training.outcome, work.config, **_how(title, work))
                    running[future] = title
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    title = running.pop(future)
                    if future.exception():
                        failure = failure or future.exception()  # the others may end and be kept
                    else:
                        yield title, future.result()
        except BaseException:
            # stopped, and not by a run: without this, the pool would wait for those in progress
            for process in active_children():
                process.terminate()
            raise
    if failure:
        raise failure


def _start_process() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    # its own lock is a semaphore of the system, which a process that is terminated leaves behind
    tqdm.set_lock(threading.RLock())


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, killed perhaps; it would train on, and then wait for ever."""
    parent_process().join()
    os._exit(1)


@contextmanager
def _interrupts_kept_from_children():
    """A Ctrl-C goes to every process of the terminal; what is started here leaves it to its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
