"""What is recorded: the one answer to "the runs of this form at this scale"."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from . import experiments, paths, records
from .config import PRECISIONS
from .experiments import Planned
from .records import NotRecordedError
from .run import DivergedError, Run


def path(planned: Planned) -> Path:
    """Where a planned run is recorded."""
    folder = paths.records(planned.scale) / planned.experiment
    return folder / f"{planned.name}-{planned.config.key}.parquet"


def recorded(planned: Planned) -> Path | None:
    """Where a planned run is recorded, if it is: in its own precision, or else in another."""
    others = [p for p in PRECISIONS if p != planned.config.precision]
    for precision in (planned.config.precision, *others):
        found = path(replace(planned, config=replace(planned.config, precision=precision)))
        if found.exists():
            return found
    return None


def forms(scale: str, experiment: str) -> dict[str, list[Run]]:
    """The recorded runs of an experiment, seed by seed, for each of its forms; of some there may be none.

    Raises
    ------
    ValueError
        If the experiment or the scale is not known.
    RecordError
        If a record is damaged.
    DivergedError
        If a run diverged, of a form where that is no result.
    """
    found = {}
    for planned in experiments.planned(scale, [experiment]):
        of_form = found.setdefault(planned.form, [])
        if file := recorded(planned):
            run = read(file)
            if run.diverged_at is not None and not planned.may_diverge:
                raise DivergedError(run)
            of_form.append(run)
    return found


def every_form(scale: str, of: Iterable[str] | None = None) -> dict[str, list[Run]]:
    """The recorded runs of some experiments, or of all, by ``experiment/form``; raises what `forms` raises."""
    return {
        f"{experiment}/{form}": runs
        for experiment in (experiments.EXPERIMENTS if of is None else of)
        for form, runs in forms(scale, experiment).items()
    }


def runs(scale: str, name: str) -> list[Run]:
    """The recorded runs of an experiment, or of one ``experiment/form``, such as ``dynamics/heavy-ball``.

    Raises NotRecordedError when there is none, ValueError when the name is not known, and what
    `forms` raises.
    """
    experiment, _, form = name.partition("/")
    found = forms(scale, experiment)
    if not found:
        raise NotRecordedError(f"{experiment} is not planned at scale {scale}, and so not recorded")
    if form and form not in found:
        known = ", ".join(f"{experiment}/{form}" for form in found)
        raise ValueError(f"form={name!r} is not known; it must be one of {known}")
    wanted = found[form] if form else [run for of_form in found.values() for run in of_form]
    if not wanted:
        raise NotRecordedError(
            f"no run of {name} is recorded at scale {scale}; "
            f"`{paths.COMMAND} run {experiment} --scale {scale}` makes them"
        )
    return wanted


def first(scale: str, name: str) -> Run:
    """The first seed of a form: what a figure of single steps shows; raises what `runs` raises."""
    return runs(scale, name)[0]


def read(file: Path) -> Run:
    """The run of a record, read once for as long as the file stays as it is; raises RecordError."""
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=512)
def _read(file: Path, modified: int, size: int) -> Run:
    return records.read(file)
