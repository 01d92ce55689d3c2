"""A `Run` to and from one Parquet file: a row per step and layer, all else in its metadata."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype, union_categoricals

from . import paths
from .config import Config, layers_of
from .machinery import files
from .run import (
    EPOCH_COLUMNS,
    FILTER_COLUMNS,
    NOISE_COLUMNS,
    QUANTITIES,
    STEP_COLUMNS,
    Run,
    no_filter,
    part_of_epoch,
)

FORMAT = "1"
#: Squares and losses are not negative; accuracies are fractions.
NOT_NEGATIVE = (*(q for q in QUANTITIES if q.endswith("norm_sq")), "train_loss", "test_loss")
FRACTIONS = ("train_accuracy", "test_accuracy")


class RecordError(RuntimeError):
    """A record cannot be used; the message names the file, says why, and what to do."""


class NotRecordedError(RecordError):
    """There is no record of what was asked for."""


def _refused(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path}: {reason}; remove it, and `{paths.COMMAND} run` trains the run anew")


def write(run: Run, path: str | os.PathLike, every: int = 1) -> None:
    """Writes a run to ``path``, whole or not at all, and replaces what was there.

    Of its steps, one in ``every`` is written, and none with ``every=0``. Raises OSError when the
    file cannot be written; an earlier file is then as it was.
    """
    path = Path(path)
    kept = run.steps["step"] % every == 0 if every else np.zeros(len(run.steps), bool)
    by_filter = run.by_filter if every else no_filter()
    run = replace(run, steps=run.steps[kept].reset_index(drop=True), by_filter=by_filter)
    _check(run, run.config.key, path)  # what could not be read again is not written
    rows = _joined(run)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    metadata = {
        "format": FORMAT,
        "config": run.config.to_json(),
        "key": run.config.key,
        "epochs": json.dumps(run.epochs.to_dict("list")),
        "provenance": json.dumps(run.provenance),
    }
    for name in ("noise", "frozen_filters"):
        if len(table_of := getattr(run, name)):
            metadata[name] = json.dumps(table_of.to_dict("list"))
    if run.diverged_at is not None:
        metadata["diverged_at"] = json.dumps(run.diverged_at)
    metadata["digest"] = _digest(metadata, rows)
    table = table.replace_schema_metadata(
        table.schema.metadata | {f"run.{k}": v for k, v in metadata.items()}
    )
    with files.whole(path) as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=19,
            use_dictionary=["step", "epoch", "layer", "lr"],
            use_byte_stream_split=list(QUANTITIES),  # exponents beside exponents compress well
        )


def read(path: str | os.PathLike) -> Run:
    """The run that `write` wrote to ``path``.

    Raises
    ------
    RecordError
        If the file is missing, damaged, not a record, of another format, or does not hold what its
        config and name say.
    """
    path = Path(path)
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no such record; `{paths.COMMAND} run` makes it") from None
    except (pa.ArrowException, OSError) as error:
        raise _refused(path, f"damaged, it cannot be read as Parquet ({error})") from error
    metadata = {
        k.decode(errors="replace"): v.decode(errors="replace")
        for k, v in (table.schema.metadata or {}).items()
    }
    if "run.format" not in metadata:
        raise _refused(path, "not a record of a run; it was not written by this project")
    if metadata["run.format"] != FORMAT:
        raise _refused(path, f"of format {metadata['run.format']}; this version reads format {FORMAT}")
    try:
        config = Config.from_json(metadata["run.config"])
        rows = _rows(table, config)
        steps, by_filter = _steps_and_filters(rows, config)
        run = Run(
            config,
            steps,
            pd.DataFrame(json.loads(metadata["run.epochs"])),
            json.loads(metadata["run.provenance"]),
            _small_table(metadata, "noise", NOISE_COLUMNS),
            _small_table(metadata, "frozen_filters", FILTER_COLUMNS),
            json.loads(metadata.get("run.diverged_at", "null")),
            by_filter,
        )
        key, digest = metadata["run.key"], metadata.pop("run.digest")
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise _refused(path, f"its contents do not make a run ({error})") from error
    _check(run, key, path)
    # Parquet checks none of its numbers: a flipped bit in a page is another number
    written = {k.removeprefix("run."): v for k, v in metadata.items() if k.startswith("run.")}
    if _digest(written, rows) != digest:
        raise _refused(path, "damaged, its numbers are not those that were written")
    return run


def _small_table(metadata: dict[str, str], name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table that a record keeps in its metadata; a column that it does not have is NaN."""
    kept = json.loads(metadata.get(f"run.{name}", "{}"))
    return pd.DataFrame(kept, columns=list(columns)).infer_objects()


def _rows(table: pa.Table, config: Config) -> pd.DataFrame:
    rows = table.to_pandas()
    if len(rows) or "layer" not in rows:
        return rows
    # a table without rows has lost its categories
    layers = pd.CategoricalDtype(layers_of(config.architecture), ordered=True)
    return rows.astype({"layer": layers})


def _steps_and_filters(rows: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the layers, and those of single filters, which are written below them."""
    if not config.by_filter or rows.empty:
        return rows, no_filter()
    layers = rows["layer"].cat.categories
    n = len(layers_of(config.architecture))
    of_filter = rows["layer"].cat.codes >= n
    return tuple(
        some.assign(layer=some["layer"].cat.set_categories(names, ordered=True)).reset_index(drop=True)
        for some, names in ((rows[~of_filter], layers[:n]), (rows[of_filter], layers[n:]))
    )


def _joined(run: Run) -> pd.DataFrame:
    """The rows of the layers, and below them those of single filters."""
    rows = run.steps[list(STEP_COLUMNS)]
    if run.by_filter.empty:
        return rows
    layers = union_categoricals([rows["layer"], run.by_filter["layer"]], ignore_order=True)
    return pd.concat([rows, run.by_filter[list(STEP_COLUMNS)]], ignore_index=True).assign(layer=layers)


def _check(run: Run, key: str, path: Path) -> None:
    """Holds a run against its own config and file name."""
    if run.config.key != key:
        raise _refused(
            path, f"made by another version of the training code (key {key}, now {run.config.key})"
        )
    # a path of one's own choosing carries no key; one that does must carry the right one
    stem_key = path.stem.rpartition("-")[2]
    if len(stem_key) == len(key) and set(stem_key) <= set("0123456789abcdef") and stem_key != key:
        raise _refused(path, f"its name says run {stem_key}, it holds run {key}")
    reason = _wrong_columns(run) or _wrong_epochs(run) or _wrong_steps(run) or _wrong_numbers(run)
    if reason:
        raise _refused(path, reason)


def _wrong_columns(run: Run) -> str | None:
    for what, table, columns in (
        ("", run.steps, STEP_COLUMNS),
        (" of its epochs", run.epochs, EPOCH_COLUMNS),
        (" of its noise", run.noise, NOISE_COLUMNS),
        (" of its filters", run.frozen_filters, FILTER_COLUMNS),
    ):
        missing = [c for c in columns if c not in table]
        if missing:
            return f"columns {missing}{what} are missing"
        # of one that has rows: without any, a column has lost its type
        text = [c for c in columns if c != "layer" and len(table) and not is_numeric_dtype(table[c])]
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
    return {"noise": run.noise} | (
        {"table of filters": run.frozen_filters} if len(run.frozen_filters) else {}
    )


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
    filters = [(layer, size.channels_out) for layer, size in layers_of(c.architecture, c.width).items()]
    filters = [f"{layer}[{i}]" for layer, size in filters[:-1] for i in range(size)]
    wrong = _wrong_rows(run.steps, layers, all_steps, part, c)
    if wrong or not c.by_filter:
        return wrong
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
    measured = [table[list(QUANTITIES)] for table in (run.steps, run.by_filter)]
    for table in (*measured, run.epochs, *(t.drop(columns="layer") for t in frozen.values())):
        for column, values in table.astype(float).items():
            if column == "grad_product" and values.isna().all():  # of before it was measured
                continue
            if not np.isfinite(values).all():
                return f"its {column} is not finite everywhere"
            if column in (*NOT_NEGATIVE, *FRACTIONS) and (values < 0).any():
                return f"its {column} is below 0 somewhere"
            if column in FRACTIONS and (values > 1).any():
                return f"its {column} is above 1 somewhere"
    return None


def _digest(metadata: dict[str, str], steps: pd.DataFrame) -> str:
    """A hash of all that a record holds: its metadata as written, and its table."""
    # a table without rows does not keep its categories
    layers = list(steps["layer"].cat.categories) if len(steps) else []
    digest = hashlib.sha256(json.dumps([metadata, layers], sort_keys=True).encode())
    for column in STEP_COLUMNS:
        values = steps[column].cat.codes if column == "layer" else steps[column]
        digest.update(values.to_numpy().tobytes())
    return digest.hexdigest()
