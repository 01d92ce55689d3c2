"""Whether a run holds what its config says: its columns, epochs, steps and layers, and numbers that can be."""

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .config import Config, layers_of
from .run import (
    EPOCH_COLUMNS,
    FILTER_COLUMNS,
    NOISE_COLUMNS,
    QUANTITIES,
    STEP_COLUMNS,
    Run,
    part_of_epoch,
)

#: Squares and losses are not negative; accuracies are fractions.
NOT_NEGATIVE = (*(q for q in QUANTITIES if q.endswith("norm_sq")), "train_loss", "test_loss")
FRACTIONS = ("train_accuracy", "test_accuracy")


def what_is_wrong(run: Run) -> str | None:
    """The first thing that a run has and cannot have, or lacks, in words; None where it is as its config says."""
    return _wrong_columns(run) or _wrong_epochs(run) or _wrong_steps(run) or _wrong_numbers(run)


def _wrong_columns(run: Run) -> str | None:
    for what, table, columns in (
        ("", run.steps, STEP_COLUMNS),
        (" of its epochs", run.epochs, EPOCH_COLUMNS),
        (" of its noise", run.noise, NOISE_COLUMNS),
        (" of its filters", run.frozen_filters, FILTER_COLUMNS),
    ):
        kinds = dict(zip(table, table.dtypes, strict=True))
        missing = [c for c in columns if c not in kinds]
        if missing:
            return f"columns {missing}{what} are missing"
        # of one that has rows: without any, a column has lost its type
        text = [c for c in columns if c != "layer" and len(table) and not is_numeric_dtype(kinds[c])]
        if text:
            return f"columns {text}{what} are not of numbers"
    if not isinstance(run.steps["layer"].dtype, pd.CategoricalDtype):
        return "its column layer is not categorical"
    return None


def _wrong_epochs(run: Run) -> str | None:
    """Each epoch of the config, or, of a run that diverged, those before."""
    epochs, at = run.config.epochs, run.diverged_at
    if at is not None:
        steps = epochs * run.config.steps_per_epoch
        if type(at) is not int or not 0 <= at < steps:
            return f"diverged_at={at!r} is not one of its {steps} steps"
        epochs = at // run.config.steps_per_epoch
    if len(run.epochs) != epochs:
        return f"has {len(run.epochs)} epochs, its config {epochs}"
    if run.epochs["epoch"].tolist() != list(range(1, epochs + 1)):
        return f"its epochs are {run.epochs['epoch'].tolist()} and not 1 to {epochs}"
    every = run.config.noise_every
    expected = list(range(0, epochs + 1, every)) if every else []
    for name, table in _at_frozen_weights(run).items():
        measured = np.unique(table["epoch"].to_numpy(dtype=float)).tolist()
        if measured != expected:
            return f"its {name} is of the epochs {measured} and not {expected}, with noise_every={every}"
    return None


def _at_frozen_weights(run: Run) -> dict[str, pd.DataFrame]:
    """The tables of `lib.gradient_noise`; records made before filters were measured have the first alone."""
    tables = {"noise": run.noise, "table of filters": run.frozen_filters}
    return {name: table for name, table in tables.items() if name == "noise" or len(table)}


def _wrong_steps(run: Run) -> str | None:
    """Each layer of the network at every step of these epochs, or at one in so many; or no step at all."""
    if run.steps.empty:
        return None
    layers = list(run.steps["layer"].cat.categories)
    network = list(layers_of(run.config.architecture))
    if layers != network:
        return f"its layers are {layers}, those of {run.config.architecture} are {network}"
    c, all_steps = run.config, np.arange(run.config.steps_per_epoch * len(run.epochs))
    if c.averages:
        part = part_of_epoch(all_steps, c.steps_per_epoch, c.averages)
    else:
        steps = run.steps["step"].to_numpy()[:: len(layers)]
        every = max(steps[1], 1) if len(steps) > 1 else max(len(all_steps), 1)  # one step: the first
        all_steps = part = all_steps[::every]
    wrong = _wrong_rows(run.steps, layers, all_steps, part, c)
    if wrong or not c.by_filter:
        return wrong
    convolutions = list(layers_of(c.architecture, c.width).items())[:-1]
    filters = [f"{layer}[{i}]" for layer, size in convolutions for i in range(size.channels_out)]
    per_epoch = np.arange(c.steps_per_epoch * len(run.epochs))
    return _wrong_rows(run.by_filter, filters, per_epoch, per_epoch // c.steps_per_epoch, c)


def _wrong_rows(
    table: pd.DataFrame, names: list[str], steps: np.ndarray, part: np.ndarray, c: Config
) -> str | None:
    """Rows for each name at the means over each part of the steps, which may be of one step."""
    counts = np.unique(part, return_counts=True)[1]
    starts = np.cumsum(counts) - counts

    def means(values):
        return np.repeat(np.add.reduceat(values, starts) / counts, len(names))

    if len(table) != len(names) * len(counts) or not np.array_equal(means(steps) // 1, table["step"]):
        return f"its {len(table)} rows are not those of {len(names)} layers at each step of {steps[-1] / c.steps_per_epoch:.0f} epochs"
    codes = table["layer"].cat.codes.to_numpy()
    if list(table["layer"].cat.categories) != names or not np.array_equal(
        codes, np.arange(len(codes)) % len(names)
    ):
        return "the layers of a step are not in their order"
    epoch = (steps + 0.5) / c.steps_per_epoch
    if not np.allclose(table["epoch"], means(epoch), rtol=1e-6):
        return "its epochs are not those of its steps"
    # single precision, and an absolute error where λ is close to 0 at the end
    if not np.allclose(table["lr"], means(c.lr_schedule(epoch)), rtol=1e-5, atol=1e-6 * c.lr):
        return "its learning rates are not those of its config"
    return None


def _wrong_numbers(run: Run) -> str | None:
    frozen = _at_frozen_weights(run)
    for name, table in frozen.items():
        layers = list(dict.fromkeys(table["layer"]))
        if layers and layers != list(layers_of(run.config.architecture)):
            return f"its {name} is of the layers {layers}, those of {run.config.architecture} are others"
    tables = [(table, QUANTITIES) for table in (run.steps, run.by_filter) if len(table)]
    tables += [(table, [c for c in table if c != "layer"]) for table in (run.epochs, *frozen.values())]
    for table, columns in tables:
        for column in columns:
            values = table[column].to_numpy(dtype=float)
            if column == "grad_product" and np.isnan(values).all():  # of before it was measured
                continue
            if not np.isfinite(values).all():
                return f"its {column} is not finite everywhere"
            if column in (*NOT_NEGATIVE, *FRACTIONS) and (values < 0).any():
                return f"its {column} is below 0 somewhere"
            if column in FRACTIONS and (values > 1).any():
                return f"its {column} is above 1 somewhere"
    return None
