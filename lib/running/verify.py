"""Whether records can be believed: each file of their folder looked at, or a run trained again."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import checks, experiments, library, paths, records, scales, training
from ..config import PRECISIONS
from ..machinery import checkpoints, files, machine, sources
from ..run import EPOCH_COLUMNS, QUANTITIES, Run

#: Parts of a run over which its numbers are averaged where they cannot be equal bit for bit.
PARTS = 2
#: How far these averages of two trainings may be apart, relative to the record's: trainings are chaotic,
#: and one that rounds otherwise soon goes its own way. Halves of a run of the demo with two threads
#: instead of one are apart by up to 0.21, in squares of gradients; single steps by any factor.
TOLERANCE = 0.35


class State(NamedTuple):
    """A file, what it is, and whether it is a record that is refused."""

    path: Path
    text: str
    bad: bool = False


def states(scale: str | None = None) -> Iterator[State]:
    """The state of every file in the records folder of a scale, or of all.

    Raises ValueError when the scale is not known.
    """
    if scale is not None:
        scales.base(scale)  # refuses an unknown one
    names = [scale] if scale else list(scales.SCALES)
    root = paths.records(scale) if scale else paths.records(names[0]).parent
    planned = {
        library.path(one)
        for name in names
        for precision in PRECISIONS
        for one in experiments.planned(name, precision=precision)
    }
    for path in sorted(p for p in root.rglob("*") if p.is_file() or p.is_symlink()):
        yield _state(path, planned)


def _state(path: Path, planned: set[Path]) -> State:
    record = path.with_suffix("")  # if it is one of these
    if record in planned and path in (checkpoints.path_beside(record), files.lock_beside(record)):
        return State(path, "of a run in progress")
    if path.suffix != ".parquet":
        return State(path, "unknown: no record")
    try:
        run = records.read(path)
    except records.RecordError as error:
        return State(path, f"refused: {str(error).removeprefix(f'{path}: ')}", bad=True)
    if path not in planned and paths.records("own") not in path.parents:
        return State(path, f"unknown: a good record, of no run that is planned: {run.config}")
    made_by = sources.origin(run.provenance)
    if run.diverged_at is not None:
        return State(path, f"good: diverged at step {run.diverged_at}; {made_by}")
    return State(path, f"good: test accuracy {run.test_accuracy:.2%}; {made_by}")


def find(run: str, scale: str) -> Path:
    """The record of a run, given as a path or as ``experiment/name``.

    Raises ValueError when it is neither.
    """
    if Path(run).is_file():
        return Path(run)
    for planned in experiments.planned(scale):
        if run == f"{planned.experiment}/{planned.name}":
            return library.recorded(planned) or library.path(planned)
    raise ValueError(
        f"run={run!r} is not known; it must be the path of a record, or experiment/name as in "
        f"dynamics/sgd-seed0: `{paths.COMMAND} list` lists them"
    )


def again(recorded: Run) -> Run:
    """The same run, trained now with as many threads as then, and the steps that the record keeps."""
    machine.start_without_compiler()
    threads = torch.get_num_threads()
    torch.set_num_threads(int(recorded.provenance["threads"]))
    try:
        run = training.outcome(recorded.config, title="training again")
    finally:
        torch.set_num_threads(threads)
    kept = run.steps["step"].isin(recorded.steps["step"])
    return Run(**vars(run) | {"steps": run.steps[kept].reset_index(drop=True)})


def differences(recorded: Run, run: Run) -> pd.DataFrame:
    """How far two runs of one config are apart: a row for each quantity.

    ``largest`` is the largest difference of two numbers, over the root mean square of the record's.
    ``averages`` is the largest of averages over a half of the run, relative to the record's own; of
    losses and accuracies that after the last epoch, and NaN for products, which have either sign.
    """
    rows = {}
    for quantity in QUANTITIES if len(recorded.steps) else ():
        rows[quantity] = {
            "largest": _largest(recorded.steps[quantity], run.steps[quantity]),
            "averages": _averages(recorded, run, quantity) if quantity in checks.NOT_NEGATIVE else np.nan,
        }
    for quantity in EPOCH_COLUMNS[1:]:
        old, new = (r.epochs[quantity].to_numpy(dtype=float) for r in (recorded, run))
        rows[quantity] = {"largest": _largest(old, new), "averages": _last(old, new)}
    if len(recorded.noise):
        old, new = (r.noise["grad_norm_sq"].to_numpy() for r in (recorded, run))
        rows["noise"] = {"largest": _largest(old, new), "averages": np.nan}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("quantity")


def _largest(old, new) -> float:
    old, new = (np.asarray(x, dtype=float) for x in (old, new))
    if np.array_equal(old, new):
        return 0.0
    return float(np.abs(new - old).max() / np.sqrt(np.mean(old**2)))


def _last(old: np.ndarray, new: np.ndarray) -> float:
    return abs(new[-1] / old[-1] - 1) if len(old) else 0.0


def _averages(recorded: Run, run: Run, quantity: str) -> float:
    old, new = (
        r.steps.assign(part=np.floor(PARTS * r.steps["epoch"] / r.config.epochs))
        .astype({quantity: float})
        .groupby(["part", "layer"], observed=True)[quantity]
        .mean()
        for r in (recorded, run)
    )
    return float((new / old.where(old > 0) - 1).abs().max())
