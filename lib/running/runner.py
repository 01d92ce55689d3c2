"""Trains and records what is planned and not recorded yet, here, in processes or on a cluster."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from filelock import BaseFileLock

from .. import library, records, training
from ..experiments import Planned
from ..machinery import checkpoints, files, machine
from ..run import Run
from . import cluster, processes

#: Seconds after which it is looked again whether another process has ended a run.
POLL_SECONDS = 1.0


def run(
    planned: Iterable[Planned],
    retrain: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[str], None] = print,
    ended: Callable[[str], None] | None = None,
) -> None:
    """Trains and records the planned runs that are not recorded yet.

    Each run is recorded as soon as it ends, also one that diverges. Stopped at any moment and started
    again, this goes on where it was, a run in progress at its last checkpoint. Several processes
    may do this on one folder at the same time: none trains what another is training; it waits for
    that at the end, and takes it over should the other be gone.

    With ``jobs`` above 1, so many run at a time, each in a process with one thread. With
    ``scheduler``, the address of a Dask scheduler, its workers train, each with as many threads as
    it has; records are written here, and checkpoints nowhere.

    What happens is said to ``report`` in lines; how each run ended to ``ended``, once for each, if that is given.

    Raises
    ------
    ValueError
        If ``jobs`` and ``scheduler`` are both given.
    RuntimeError
        If the cluster cannot be reached, is lost, or runs other code.
    Exception
        What `train`, `records.read` and `records.write` raise.
    """
    if scheduler and jobs != 1:
        raise ValueError(
            f"jobs={jobs} is not allowed with a scheduler, whose workers set how many run at a time"
        )
    machine.start_without_compiler()
    todo, ended = {}, ended or report
    for one in planned:
        if (path := library.recorded(one, any_precision=False)) and not retrain:
            _report_recorded(one, path, ended)
        else:
            todo[one.title] = one
            files.check_writable(library.path(one))
    waits = False
    while todo:
        claims = _Claims(todo, retrain, ended)
        with closing(claims), closing(_trained(claims, jobs, scheduler, report)) as trained:
            for title, result in trained:
                claims.record(title, result)
        todo = claims.elsewhere
        if todo:
            if not waits:
                report(f"in training by another process, which is waited for: {', '.join(todo)}")
            waits = True
            time.sleep(POLL_SECONDS)


def _trained(
    claims: "_Claims", jobs: int, scheduler: str | None, report: Callable[[str], None]
) -> Generator[tuple[str, Run], None, None]:
    if scheduler:
        if configs := {one.title: one.config for one in claims.given_out()}:
            yield from cluster.train_all(configs, scheduler, report)
        return
    trainings = (
        (one.title, partial(training.outcome, one.config, title=one.title, checkpoint=_checkpoint(one)))
        for one in claims.given_out()
    )
    if jobs > 1:
        yield from processes.each_in_one(trainings, jobs)
    else:
        yield from ((title, train()) for title, train in trainings)


def _checkpoint(one: Planned):
    return checkpoints.path_beside(library.path(one))


def _report_recorded(one: Planned, path: Path, ended: Callable[[str], None]) -> None:
    run = library.read(path)  # a damaged record is an error, not a run that is done
    # of a process that was killed between the record and this; a read-only disk refuses to remove even nothing
    if _checkpoint(one).exists():
        _checkpoint(one).unlink(missing_ok=True)
    # likewise; one that is held stays
    if files.lock_beside(path).exists() and (lock := files.claim(path)):
        files.give_free(lock)
    note = "" if run.diverged_at is None else f", diverged at step {run.diverged_at}"
    ended(f"{one.title}: recorded already{note}")


class _Claims:
    """Runs that this process trains, and no other at the same time."""

    def __init__(self, todo: dict[str, Planned], retrain: bool, ended: Callable[[str], None]):
        self.todo, self.retrain, self.ended = todo, retrain, ended
        self.held: dict[str, BaseFileLock] = {}
        self.elsewhere: dict[str, Planned] = {}  # those that another process trains

    def given_out(self) -> Iterator[Planned]:
        """Each run that nobody else trains or has recorded meanwhile; it is claimed when it is given out."""
        for title, one in self.todo.items():
            path = library.path(one)
            lock = files.claim(path)
            if lock is None:
                self.elsewhere[title] = one
                continue
            self.held[title] = lock
            done = library.recorded(one, any_precision=False)
            if done and not self.retrain:
                _report_recorded(one, done, self.ended)
                files.give_free(self.held.pop(title))
            else:
                files.remove_leftovers(path)
                yield one

    def record(self, title: str, run: Run) -> None:
        """Records a run that is claimed, and gives it free."""
        one, seconds = self.todo[title], run.provenance["seconds"]
        records.write(run, library.path(one), every=one.every)
        _checkpoint(one).unlink(missing_ok=True)
        files.give_free(self.held.pop(title))
        if run.diverged_at is None:
            self.ended(f"{title}: test accuracy {run.test_accuracy:.2%}, {seconds:.0f} s")
        else:
            remedy = "a smaller lr, or a later peak_epoch, may help"
            self.ended(f"{title}: recorded as diverged {run.diverged_in}; {remedy}")

    def close(self) -> None:
        """Gives free what is not recorded."""
        while self.held:
            files.give_free(self.held.popitem()[1])
