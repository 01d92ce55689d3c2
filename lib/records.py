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
from pandas.api.types import is_numeric_dtype

from . import paths
from .config import Config, layers_of
from .machinery import files
from .run import EPOCH_COLUMNS, FILTER_COLUMNS, NOISE_COLUMNS, QUANTITIES, STEP_COLUMNS, Run

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
    run = replace(run, steps=run.steps[kept].reset_index(drop=True))
    _check(run, run.config.key, path)  # what could not be read again is not written
    table = pa.Table.from_pandas(run.steps[list(STEP_COLUMNS)], preserve_index=False)
    metadata = {
        "format": FORMAT,
        "config": run.config.to_json(),
        "key": run.config.key,
        "epochs": json.dumps(run.epochs.to_dict("list")),
        "provenance": json.dumps(run.provenance),
    }
    for name in ("noise", "filters"):
        if len(table_of := getattr(run, name)):
            metadata[name] = json.dumps(table_of.to_dict("list"))
    if run.diverged_at is not None:
        metadata["diverged_at"] = json.dumps(run.diverged_at)
    metadata["digest"] = _digest(metadata, run.steps)
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
        run = Run(
            config,
            _steps(table, config),
            pd.DataFrame(json.loads(metadata["run.epochs"])),
            json.loads(metadata["run.provenance"]),
            _small_table(metadata, "noise", NOISE_COLUMNS),
            _small_table(metadata, "filters", FILTER_COLUMNS),
            json.loads(metadata.get("run.diverged_at", "null")),
        )
        key, digest = metadata["run.key"], metadata.pop("run.digest")
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise _refused(path, f"its contents do not make a run ({error})") from error
    _check(run, key, path)
    # Parquet checks none of its numbers: a flipped bit in a page is another number
    written = {k.removeprefix("run."): v for k, v in metadata.items() if k.startswith("run.")}
    if _digest(written, run.steps) != digest:
        raise _refused(path, "damaged, its numbers are not those that were written")
    return run


def _small_table(metadata: dict[str, str], name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table that a record keeps in its metadata; a column that it does not have is NaN."""
    kept = json.loads(metadata.get(f"run.{name}", "{}"))
    return pd.DataFrame(kept, columns=list(columns)).infer_objects()


def _steps(table: pa.Table, config: Config) -> pd.DataFrame:
    steps = table.to_pandas()
    if len(steps) or "layer" not in steps:
        return steps
    # a table without rows has lost its categories
    layers = pd.CategoricalDtype(layers_of(config.architecture), ordered=True)
    return steps.astype({"layer": layers})


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
        (" of its filters", run.filters, FILTER_COLUMNS),
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
    return {"noise": run.noise} | ({"table of filters": run.filters} if len(run.filters) else {})


def _wrong_steps(run: Run) -> str | None:
    """Each layer of the network at every step of these epochs, or at one in so many; or no step at all."""
    if run.steps.empty:
        return None
    layers = list(run.steps["layer"].cat.categories)
    network = list(layers_of(run.config.architecture))
    if layers != network:
        return f"its layers are {layers}, those of {run.config.architecture} are {network}"
    per_epoch = run.config.steps_per_epoch
    steps = run.steps["step"].to_numpy()[:: len(layers)]
    every = steps[1] if len(steps) > 1 else per_epoch * len(run.epochs)  # one step: the first
    expected = np.repeat(np.arange(0, per_epoch * len(run.epochs), max(every, 1)), len(layers))
    if not np.array_equal(expected, run.steps["step"]):
        return f"its {len(run.steps)} rows are not those of {len(layers)} layers at each step of {len(run.epochs)} epochs"
    codes = run.steps["layer"].cat.codes.to_numpy()
    if not np.array_equal(codes, np.arange(len(codes)) % len(layers)):
        return "the layers of a step are not in their order"
    epoch = (expected + 0.5) / per_epoch
    if not np.allclose(run.steps["epoch"], epoch, rtol=1e-6):
        return "its epochs are not those of its steps"
    # single precision, and an absolute error where λ is close to 0 at the end
    if not np.allclose(run.steps["lr"], run.config.lr_schedule(epoch), rtol=1e-5, atol=1e-6 * run.config.lr):
        return "its learning rates are not those of its config"
    return None


def _wrong_numbers(run: Run) -> str | None:
    frozen = _at_frozen_weights(run)
    for name, table in frozen.items():
        layers = list(dict.fromkeys(table["layer"]))
        if layers and layers != list(layers_of(run.config.architecture)):
            return f"its {name} is of the layers {layers}, those of {run.config.architecture} are others"
    numbers = (run.steps[list(QUANTITIES)], run.epochs, *(t.drop(columns="layer") for t in frozen.values()))
    for table in numbers:
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
