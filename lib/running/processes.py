"""Runs trained in processes of their own, several at a time."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process

import torch
from tqdm import tqdm

from .. import training
from ..machinery import machine
from ..run import Run


def each_in_one(trainings: Iterator[tuple[str, Callable[[], Run]]], jobs: int) -> Iterator[tuple[str, Run]]:
    """Title and run of each titled training as it ends, ``jobs`` at a time, in processes with one thread.

    What a training raises is raised here, once the others in progress have ended.
    """
    running, failure = {}, None
    # forked from a server that has torch loaded and has started no thread: forked from here, they would inherit
    # torch's threads in an unknown state
    context = get_context("forkserver")
    context.set_forkserver_preload([training.__name__])
    with ProcessPoolExecutor(jobs, context, _start) as pool:
        try:
            while True:
                # no more than are run: what the pool has taken in, it runs also after a failure
                while not failure and len(running) < jobs and (given := next(trainings, None)):
                    title, train = given
                    with _interrupts_kept_from_children():
                        running[pool.submit(train)] = title
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


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    machine.start_without_compiler()
    # its own lock is a semaphore of the system, which a process that is terminated leaves behind
    tqdm.set_lock(threading.RLock())


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, killed perhaps; it would train on, and then wait for ever."""
    parent_process().join()  # pyrefly: ignore[missing-attribute]
    os._exit(1)


@contextmanager
def _interrupts_kept_from_children():
    """A Ctrl-C goes to every process of the terminal; what is started here leaves it to its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
