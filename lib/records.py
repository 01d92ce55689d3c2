"""A `Run` to and from one Parquet file: a row per step and layer, all else in its metadata."""

import hashlib
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals

from . import checks, paths
from .config import Config, layers_of
from .machinery import files
from .run import FILTER_COLUMNS, NOISE_COLUMNS, QUANTITIES, STEP_COLUMNS, Run, no_filter

FORMAT = "1"


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
        table = pq.read_table(path, use_threads=False)  # so small that threads cost more than they save
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no such record; `{paths.COMMAND} run` makes it") from None
    except (pa.ArrowException, OSError) as error:
        raise _refused(path, f"damaged, it cannot be read as Parquet ({error})") from error
    metadata = {
        name.removeprefix(b"run.").decode(errors="replace"): text.decode(errors="replace")
        for name, text in (table.schema.metadata or {}).items()
        if name.startswith(b"run.")
    }
    if "format" not in metadata:
        raise _refused(path, "not a record of a run; it was not written by this project")
    if metadata["format"] != FORMAT:
        raise _refused(path, f"of format {metadata['format']}; this version reads format {FORMAT}")
    try:
        config = Config.from_json(metadata["config"])
        rows = _rows(table, config)
        steps, by_filter = _steps_and_filters(rows, config)
        run = Run(
            config,
            steps,
            pd.DataFrame(json.loads(metadata["epochs"])),
            json.loads(metadata["provenance"]),
            _small_table(metadata, "noise", NOISE_COLUMNS),
            _small_table(metadata, "frozen_filters", FILTER_COLUMNS),
            json.loads(metadata.get("diverged_at", "null")),
            by_filter,
        )
        key, digest = metadata["key"], metadata.pop("digest")
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise _refused(path, f"its contents do not make a run ({error})") from error
    _check(run, key, path)
    # Parquet checks none of its numbers: a flipped bit in a page is another number
    if _digest(metadata, rows) != digest:
        raise _refused(path, "damaged, its numbers are not those that were written")
    return run


def _small_table(metadata: dict[str, str], name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table that a record keeps in its metadata; a column that it does not have is NaN."""
    if name not in metadata:
        return _without_rows(columns).copy()
    return pd.DataFrame(json.loads(metadata[name]), columns=list(columns)).infer_objects()


@cache  # most records lack some table, and to make one is a tenth of what reading them takes
def _without_rows(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


def _rows(table: pa.Table, config: Config) -> pd.DataFrame:
    rows = table.to_pandas()
    if rows.empty and "layer" in rows:  # without rows it has lost its categories
        rows["layer"] = pd.Categorical([], list(layers_of(config.architecture)), ordered=True)
    return rows


def _steps_and_filters(rows: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the layers, and those of single filters, which are written below them."""
    if not config.by_filter or rows.empty:
        return rows, _without_rows(STEP_COLUMNS).copy()
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
    if reason := checks.what_is_wrong(run):
        raise _refused(path, reason)


def _digest(metadata: dict[str, str], steps: pd.DataFrame) -> str:
    """A hash of all that a record holds: its metadata as written, and its table."""
    # a table without rows does not keep its categories
    layers = list(steps["layer"].cat.categories) if len(steps) else []
    digest = hashlib.sha256(json.dumps([metadata, layers], sort_keys=True).encode())
    for column in STEP_COLUMNS:
        values = steps[column].cat.codes if column == "layer" else steps[column]
        digest.update(values.to_numpy().tobytes())
    return digest.hexdigest()
