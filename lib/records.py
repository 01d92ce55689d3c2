"""A `Run` to and from one Parquet file: a row per step and layer, all else in its metadata."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.config import Config
from lib.probes import QUANTITIES
from lib.training import Run

FORMAT = "1"
EPOCH_COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
COLUMNS = ("step", "epoch", "layer", "lr", *QUANTITIES)


class RecordError(RuntimeError):
    """A record cannot be used; the message names the file, says why, and what to do."""


class NotRecordedError(RecordError):
    """There is no record of what was asked for."""


def _refused(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path}: {reason}; remove it, and `python -m lib run` trains the run anew")


def file_name(name: str, config: Config) -> str:
    """``<name>-<key>.parquet``."""
    return f"{name}-{config.key}.parquet"


def check_writable(path: str | os.PathLike) -> None:
    """Raises OSError when `write` could not write to ``path``: better before a training than after."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


def write(run: Run, path: str | os.PathLike) -> None:
    """Writes a run to ``path``, whole or not at all, and replaces what was there.

    Raises OSError when the file cannot be written; an earlier file is then as it was.
    """
    path = Path(path)
    _check(run, run.config.key, path)  # what could not be read again is not written
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(run.steps[list(COLUMNS)], preserve_index=False)
    metadata = {
        "format": FORMAT,
        "config": run.config.to_json(),
        "key": run.config.key,
        "epochs": json.dumps(run.epochs.to_dict("list")),
        "provenance": json.dumps(run.provenance),
    }
    metadata["digest"] = _digest(metadata, run.steps)
    table = table.replace_schema_metadata(
        table.schema.metadata | {f"run.{k}": v for k, v in metadata.items()}
    )
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                compression_level=19,
                use_dictionary=["step", "epoch", "layer", "lr"],
                use_byte_stream_split=list(QUANTITIES),  # exponents beside exponents compress well
            )
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
        raise RecordError(f"{path}: there is no such record; `python -m lib run` makes it") from None
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
        run = Run(
            Config.from_json(metadata["run.config"]),
            table.to_pandas(),
            pd.DataFrame(json.loads(metadata["run.epochs"])),
            json.loads(metadata["run.provenance"]),
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
    missing = [c for c in COLUMNS if c not in run.steps]
    if missing:
        raise _refused(path, f"columns {missing} are missing")
    if len(run.epochs) != run.config.epochs:
        raise _refused(path, f"has {len(run.epochs)} epochs, its config {run.config.epochs}")
    missing = [c for c in EPOCH_COLUMNS if c not in run.epochs]
    if missing:
        raise _refused(path, f"columns {missing} of its epochs are missing")
    if not isinstance(run.steps["layer"].dtype, pd.CategoricalDtype):
        raise _refused(path, "its column layer is not categorical")
    layers = run.steps["layer"].cat.categories
    steps = run.steps["step"].nunique()
    if steps == 0 or steps % run.config.epochs or len(run.steps) != steps * len(layers):
        raise _refused(
            path, f"{len(run.steps)} rows are not {len(layers)} layers at each step of whole epochs"
        )
    numbers = (run.steps.drop(columns="layer"), run.epochs)
    if not all(np.isfinite(table.to_numpy(dtype=float)).all() for table in numbers):
        raise _refused(path, "holds numbers that are not finite")


def _digest(metadata: dict[str, str], steps: pd.DataFrame) -> str:
    """A hash of all that a record holds: its metadata as written, and its table."""
    layers = list(steps["layer"].cat.categories)
    digest = hashlib.sha256(json.dumps([metadata, layers], sort_keys=True).encode())
    for column in COLUMNS:
        values = steps[column].cat.codes if column == "layer" else steps[column]
        digest.update(values.to_numpy().tobytes())
    return digest.hexdigest()
