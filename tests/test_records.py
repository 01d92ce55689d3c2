import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, assert_same_run, synthetic_run

from lib import records
from lib.config import Config
from lib.probes import QUANTITIES
from lib.records import RecordError


@pytest.fixture
def path(tmp_path, run):
    """Where the synthetic run is recorded."""
    path = tmp_path / records.file_name("tiny", run.config)
    records.write(run, path)
    return path


def assert_refused(path, *reasons):
    with pytest.raises(RecordError) as error:
        records.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and all(reason in message for reason in reasons)


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, seed=2**63 - 1, lr=0.1 + 0.2), Config(nesterov=True)],
    ids=["tiny", "odd", "paper"],
)
def test_what_is_read_is_what_was_written(tmp_path, config):
    run = synthetic_run(config)
    records.write(run, tmp_path / "new" / "folder" / "run.parquet")
    back = records.read(tmp_path / "new" / "folder" / "run.parquet")
    assert_same_run(back, run)
    assert back.provenance == run.provenance and back.test_accuracy == run.test_accuracy


def test_anyone_can_read_the_columns(path, run):
    table = pd.read_parquet(path)
    assert list(table) == ["step", "epoch", "layer", "lr", *QUANTITIES]
    pd.testing.assert_frame_equal(table, run.steps)
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"run.config"])["lr"] == run.config.lr


def test_a_record_is_small(tmp_path):
    """A run at the book's largest scale, of noise that compresses worse than any real one: 8 bytes a number."""
    run = synthetic_run(Config(), layers=tuple("abcdefghi"), steps_per_epoch=97)
    records.write(run, tmp_path / "run.parquet")
    assert os.path.getsize(tmp_path / "run.parquet") < len(run.steps) * 6 * 4


def rewritten(path, change=lambda table: table, **metadata):
    """Writes the record again with another table or other metadata; None takes an entry out."""
    table = pq.read_table(path)
    kept = table.schema.metadata
    table = change(table)
    entries = {**kept, **{f"run.{k}".encode(): v and v.encode() for k, v in metadata.items()}}
    pq.write_table(table.replace_schema_metadata({k: v for k, v in entries.items() if v is not None}), path)


def test_writing_again_with_nothing_changed_is_no_damage(path, run):
    """The control of the tests below."""
    rewritten(path)
    assert_same_run(records.read(path), run)


def set_nan(column):
    def change(table):
        values = table[column].to_numpy().copy()
        values[7] = np.nan
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values))

    return change


@pytest.mark.parametrize(
    "change, reason",
    [
        *((lambda t, c=c: t.drop_columns([c]), c) for c in records.COLUMNS),
        *((set_nan(c), "not finite") for c in ("lr", "epoch", *QUANTITIES)),
        (lambda t: t.slice(0, 0), "rows"),
        (lambda t: t.slice(1), "rows"),
        (lambda t: t.slice(0, 45), "rows"),  # the last epoch is cut off
        (lambda t: pa.concat_tables([t, t]), "rows"),
        (lambda t: t.set_column(2, "layer", t["layer"].cast(pa.string())), "layer"),
    ],
)
def test_a_table_that_is_not_that_of_the_run(path, change, reason):
    rewritten(path, change)
    assert_refused(path, reason)


@pytest.mark.parametrize(
    "metadata, reason",
    [
        ({"format": "0"}, "format 0"),
        ({"format": "99"}, "format 99"),
        ({"format": None}, "not a record"),
        *(({name: None}, f"run.{name}") for name in ("config", "key", "epochs", "provenance")),
        *(({name: "{"}, "do not make a run") for name in ("config", "epochs", "provenance")),
        ({"config": "[1]"}, "do not make a run"),
        ({"config": '{"warmup": 5}'}, "warmup"),
        ({"config": '{"lr": -1.0}'}, "lr=-1.0"),
        ({"config": Config(dataset="digits", epochs=6).to_json()}, "key"),
        ({"key": "0" * 12}, "another version"),
        ({"epochs": '{"epoch": [1, 2, 3, 4]}'}, "test_accuracy"),
    ],
)
def test_metadata_that_is_not_that_of_a_run(path, metadata, reason):
    rewritten(path, **metadata)
    assert_refused(path, reason)


def test_an_epoch_is_missing(path, run):
    rewritten(path, epochs=json.dumps(run.epochs[:3].to_dict("list")))
    assert_refused(path, "has 3 epochs")


def test_numbers_of_epochs_that_are_not_finite(path, run):
    epochs = run.epochs.assign(test_loss=[1.0, 2.0, np.nan, 4.0])
    rewritten(path, epochs=json.dumps(epochs.to_dict("list")))
    assert_refused(path, "not finite")


@pytest.mark.parametrize("what", ["a missing file", "nothing", "text", "the start of a record", "a folder"])
def test_what_is_no_parquet_file(path, what):
    content = path.read_bytes()
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "a missing file":
        path.write_bytes({"nothing": b"", "text": b"step,lr\n0,1\n"}.get(what, content[:-100]))
    assert_refused(path, "no such record" if what == "a missing file" else "")


@pytest.mark.parametrize("size", [4, 100, 5000, -1])
def test_a_truncated_record(path, size):
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(path, "damaged")


def test_a_flipped_bit_is_never_believed(path, run):
    """Wherever it is: the record is refused, or what is read is what was written."""
    content = path.read_bytes()
    believed = []
    for position in range(5, len(content), 151):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            read = records.read(path)
        except RecordError as error:
            assert str(path) in str(error)
            continue
        try:
            assert_same_run(read, run)
            assert read.provenance == run.provenance
        except AssertionError:
            believed.append(position)
    assert not believed


def test_a_foreign_parquet_file(path):
    pd.DataFrame({"step": [1, 2]}).to_parquet(path)
    assert_refused(path, "not a record")


def test_a_record_under_the_name_of_another(path):
    other = path.with_name(records.file_name("tiny", replace(TINY, seed=1)))
    path.rename(other)
    assert_refused(other, "its name says", replace(TINY, seed=1).key, TINY.key)


@pytest.mark.parametrize("name", ["mine.parquet", "my-run.parquet", "run-2.parquet", "a-0123456789.parquet"])
def test_a_name_of_ones_own_is_no_other_run(path, run, name):
    assert_same_run(records.read(path.rename(path.with_name(name))), run)


def test_a_run_that_cannot_be_read_is_not_written(path, run):
    bad = synthetic_run()
    bad.steps.loc[3, "grad_norm_sq"] = np.inf
    with pytest.raises(RecordError, match="not finite"):
        records.write(bad, path)
    assert_same_run(records.read(path), run)


@pytest.mark.parametrize("where", [(records.pq, "write_table"), (os, "fsync"), (os, "replace")])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(path, run, monkeypatch, where, failure):
    def fail(*args, **kwargs):
        raise failure

    before = path.read_bytes()
    monkeypatch.setattr(*where, fail)
    with pytest.raises(type(failure)):
        records.write(replace(run, provenance={}), path)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_record_replaces_an_older_one_and_is_readable_by_all(path):
    newer = replace(synthetic_run(), provenance={"device": "another"})
    records.write(newer, path)
    assert records.read(path).provenance == {"device": "another"}
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_where_nothing_can_be_written_is_said_before_training(tmp_path):
    records.check_writable(tmp_path / "new" / "run.parquet")
    assert not any(p.is_file() for p in tmp_path.rglob("*"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        records.check_writable(Path(tmp_path / "file" / "run.parquet"))
