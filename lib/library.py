"""What is recorded: the one answer to "the runs of this form at this scale"."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

from . import experiments, paths, records, scales
from .config import PRECISIONS, Config
from .experiments import Planned
from .records import NotRecordedError
from .run import DivergedError, Run
from .scales import Chosen


def path(planned: Planned) -> Path:
    """Where a planned run is recorded."""
    folder = paths.own_records(planned.scale) if planned.own else paths.records(planned.scale)
    return folder / planned.experiment / f"{planned.name}-{planned.config.key}.parquet"


def recorded(planned: Planned, any_precision: bool = True) -> Path | None:
    """Where a planned run is recorded, if it is: in its own precision, or else in another.

    A run with settings of one's own is any that has all of them: one of the book's perhaps, or of another form.
    """
    config = planned.config
    others = (
        replace(planned, config=replace(config, precision=precision))
        for precision in PRECISIONS
        if precision != config.precision and any_precision
    )
    for same in chain([planned], others):
        file = path(same)
        if file.exists():
            return file
        if same.own:
            alike = sorted(file.parent.glob(f"*-{same.config.key}.parquet"))
            of_the_book = path(replace(same, own=False))
            if found := [*alike, *[of_the_book][: of_the_book.exists()]]:
                return found[0]
    return None


@dataclass(frozen=True, eq=False)
class Given:
    """A run from a file of one's own, which stands for the form that it is of; ``scale`` has the recorded one."""

    run: Run
    file: Path
    scale: str

    def __str__(self):
        return f"of its own, {self.file}"

    @property
    def options(self) -> str:
        """The options by which a command chooses it."""
        return f"--run {shlex.quote(str(self.file))}"

    def runs(self, name: str) -> list[Run]:
        """The run; raises ValueError when it is not of the form of that name."""
        form, run = experiments.planned(self.scale, [name])[0].config, self.run
        if (wanted := _kind(form)) != (found := _kind(run.config)):
            raise ValueError(f"{self.file} holds a run of {found}, where {name} is wanted, which is {wanted}")
        if form.noise_every and not run.config.noise_every:
            raise ValueError(f"{self.file} has no gradients at frozen weights: noise_every=0")
        if not form.noise_every and run.steps.empty and run.diverged_at is None:
            raise ValueError(f"{self.file} keeps its epochs only, and no steps; `train --out` keeps them")
        return [run]


def _kind(config: Config) -> str:
    """What kind of optimiser it is, in words: what tells one form from another."""
    momentum = "with Nesterov momentum" if config.nesterov else "with heavy-ball momentum"
    return f"{config.optimizer} {momentum if config.momentum else 'without momentum'}"


#: What is asked for within `asked`.
_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)


@contextmanager
def asked() -> Iterator[list[str]]:
    """Keeps what is asked for in the block: the names of experiments, forms or first runs."""
    names: list[str] = []
    token = _asked.set(names)
    try:
        yield names
    finally:
        _asked.reset(token)


def _note(name: str) -> None:
    if (names := _asked.get()) is not None and name not in names:
        names.append(name)


def forms(scale: str | Chosen, experiment: str) -> dict[str, list[Run]]:
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
    _note(experiment)
    found = _planned_and_recorded(scale, [experiment])
    return {form: _whole(of_form) for form, of_form in found.items()}


def _planned_and_recorded(scale: str | Chosen, names: Iterable[str]) -> dict[str, list[tuple[Planned, Run]]]:
    found = {}
    for planned in experiments.planned(scale, names):
        of_form = found.setdefault(planned.form, [])
        if file := recorded(planned):
            of_form.append((planned, read(file)))
    return found


def _whole(of_form: list[tuple[Planned, Run]]) -> list[Run]:
    """The runs; raises DivergedError when one diverged where that is no result."""
    for planned, run in of_form:
        if run.diverged_at is not None and not planned.may_diverge:
            raise DivergedError(run)
    return [run for _, run in of_form]


def diverged(scale: str | Chosen, names: Iterable[str]) -> dict[str, Run]:
    """The runs of some names that diverged, by what they are called in messages; raises what `forms` raises."""
    found = _planned_and_recorded(scale, names).values()
    return {one.title: run for some in found for one, run in some if run.diverged_at is not None}


def every_form(scale: str | Chosen, of: Iterable[str] | None = None) -> dict[str, list[Run]]:
    """The recorded runs of some experiments, or of all, by ``experiment/form``; raises what `forms` raises."""
    return {
        f"{experiment}/{form}": runs
        for experiment in (experiments.EXPERIMENTS if of is None else of)
        for form, runs in forms(scale, experiment).items()
    }


def runs(scale: str | Chosen | Given, name: str, as_far: bool = False) -> list[Run]:
    """The recorded runs of an experiment, or of one ``experiment/form``, such as ``dynamics/heavy-ball``.

    With ``as_far``, also those that diverged, as far as they went. Raises NotRecordedError when there is none,
    ValueError when the name is not known, and what `forms` raises.
    """
    _note(name)
    return _runs(scale, name, as_far)


def _runs(scale: str | Chosen | Given, name: str, as_far: bool) -> list[Run]:
    if isinstance(scale, Given):
        return scale.runs(name)
    experiment, _, form = name.partition("/")
    found = _planned_and_recorded(scale, [experiment])
    if not found:
        raise NotRecordedError(f"{experiment} is not planned at scale {scale}, and so not recorded")
    if form and form not in found:
        known = ", ".join(f"{experiment}/{form}" for form in found)
        raise ValueError(f"form={name!r} is not known; it must be one of {known}")
    wanted = found[form] if form else [one for of_form in found.values() for one in of_form]
    if not wanted:
        options = scales.chosen(scale).options
        raise NotRecordedError(
            f"no run of {name} is recorded at scale {scale}; "
            f"`{paths.COMMAND} run {experiment} {options}` makes them"
        )
    return [run for _, run in wanted] if as_far else _whole(wanted)


def first(scale: str | Chosen | Given, name: str, as_far: bool = False) -> Run:
    """The first seed of a form: what a figure of single steps shows; ``as_far`` and what it raises are as of `runs`."""
    _note(f"{name}-seed0")
    return _runs(scale, name, as_far)[0]


def own(scale: str) -> dict[Path, str]:
    """What is trained at settings of one's own at a scale: each record, and what differs from the book's of that name.

    Where the book has none, as of another learning rate of a sweep, from the base run. Raises RecordError when a
    record is damaged.
    """
    of_book = {(one.experiment, one.name): one.config for one in experiments.planned(scale)}
    found = {}
    for file in sorted(paths.own_records(scale).rglob("*.parquet")):
        name = file.parent.name, file.stem.rpartition("-")[0]
        base, settings = vars(of_book.get(name, scales.base(scale))), vars(read(file).config).items()
        found[file] = ", ".join(f"{name}={value}" for name, value in settings if value != base[name])
    return found


def largest(names: Iterable[str]) -> str:
    """The largest scale at which each of some names is planned, and each form of it recorded with one seed at least.

    Raises NotRecordedError when there is none.
    """
    names = list(names)
    for scale in reversed(scales.SCALES):
        planned = [experiments.planned(scale, [name]) for name in names]
        if all(planned) and _has_each_form([one for some in planned for one in some]):
            return scale
    raise NotRecordedError(
        f"{', '.join(names)}: recorded at no scale; `{paths.COMMAND} run {' '.join(names)} --scale demo` makes them"
    )


def _has_each_form(planned: Iterable[Planned]) -> bool:
    wanted = {(one.experiment, one.form): False for one in planned}
    for one in planned:
        wanted[one.experiment, one.form] |= recorded(one) is not None
    return all(wanted.values())


def read(file: Path) -> Run:
    """The run of a record, read once for as long as the file stays as it is; raises RecordError."""
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=512)
def _read(file: Path, modified: int, size: int) -> Run:
    return records.read(file)
