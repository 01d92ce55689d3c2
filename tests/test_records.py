import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, assert_same_run, recordable_run

from lib import checks, records
from lib.config import Config, layers_of
from lib.machinery import files
from lib.records import RecordError
from lib.run import QUANTITIES, STEP_COLUMNS, DivergedError, no_frozen_filters

NETWORK = list(layers_of(TINY.architecture))


@pytest.fixture
def path(tmp_path, run):
    """Where the synthetic run is recorded."""
    path = tmp_path / f"tiny-{run.config.key}.parquet"
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
    run = recordable_run(config)
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
    run = recordable_run(Config())
    records.write(run, tmp_path / "run.parquet")
    assert os.path.getsize(tmp_path / "run.parquet") < len(run.steps) * 6 * 4


@pytest.mark.parametrize("every, rows", [(1, 432), (2, 216), (5, 90), (100, 9), (0, 0)])
def test_some_or_none_of_the_steps_can_be_kept(path, run, every, rows):
    records.write(run, path, every)
    back = records.read(path)
    assert len(back.steps) == rows and list(back.steps) == list(run.steps)
    if every:
        kept = run.steps[run.steps["step"] % every == 0].reset_index(drop=True)
        pd.testing.assert_frame_equal(back.steps, kept, check_exact=True)
        assert back.steps_per_epoch == run.steps_per_epoch == 12
    else:
        with pytest.raises(ValueError, match="keeps its epochs only"):
            back.steps_per_epoch  # noqa: B018
    assert back.epochs.equals(run.epochs)
    records.write(back, path)  # and what was read can be written and read again
    pd.testing.assert_frame_equal(records.read(path).steps, back.steps, check_categorical=False)


def test_measured_noise_is_kept(tmp_path):
    noisy = recordable_run(replace(TINY, noise_every=2))
    records.write(noisy, tmp_path / "noisy.parquet", every=0)
    kept = records.read(tmp_path / "noisy.parquet").noise
    assert len(kept) == 3 * 2 * 9
    pd.testing.assert_frame_equal(kept, noisy.noise, check_exact=True)
    none = replace(noisy, noise=noisy.noise[:0])
    with pytest.raises(
        RecordError, match=r"noise is of the epochs \[\] and not \[0, 2, 4\], with noise_every=2"
    ):
        records.write(none, tmp_path / "none.parquet")
    for change, reason in [({"grad_norm_sq": 1.0}, "damaged"), ({"layer": "prep"}, "noise is of the layers")]:
        rewritten(tmp_path / "noisy.parquet", noise=json.dumps(noisy.noise.assign(**change).to_dict("list")))
        assert_refused(tmp_path / "noisy.parquet", reason)


def test_measured_filters_are_kept_and_those_of_other_epochs_refused(tmp_path):
    run = recordable_run(replace(TINY, noise_every=2))
    records.write(run, tmp_path / "filters.parquet", every=0)
    kept = records.read(tmp_path / "filters.parquet").frozen_filters
    assert len(kept) == 3 * 3 * 9
    pd.testing.assert_frame_equal(kept, run.frozen_filters, check_exact=True)
    late = replace(run, frozen_filters=run.frozen_filters[run.frozen_filters["epoch"] > 0])
    with pytest.raises(
        RecordError, match=r"its table of filters is of the epochs \[2.0, 4.0\] and not \[0, 2, 4\]"
    ):
        records.write(late, tmp_path / "late.parquet")
    with pytest.raises(RecordError, match="its cosine is not finite everywhere"):
        records.write(
            replace(run, frozen_filters=run.frozen_filters.assign(cosine=np.nan)), tmp_path / "nan.parquet"
        )


def test_a_record_of_before_products_and_filters_were_measured_is_read(tmp_path):
    run = recordable_run(replace(TINY, noise_every=2))
    before = replace(run, noise=run.noise.drop(columns="grad_product"), frozen_filters=no_frozen_filters())
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(checks, "NOISE_COLUMNS", list(before.noise))
        records.write(before, tmp_path / "before.parquet", every=0)
    back = records.read(tmp_path / "before.parquet")
    assert back.noise["grad_product"].isna().all() and back.frozen_filters.empty
    assert back.noise["grad_norm_sq"].equals(run.noise["grad_norm_sq"])
    records.write(back, tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(records.read(tmp_path / "again.parquet").noise, back.noise)
    with pytest.raises(RecordError, match="its grad_norm_sq is not finite everywhere"):
        records.write(replace(run, noise=run.noise.assign(grad_norm_sq=np.nan)), tmp_path / "nan.parquet")


@pytest.mark.parametrize("at, epochs", [(0, 0), (11, 0), (12, 1), (40, 3), (47, 3)])
@pytest.mark.parametrize("every", [0, 1])
def test_a_run_that_diverged_is_kept_with_the_epochs_before(tmp_path, at, epochs, every):
    run = recordable_run(replace(TINY, noise_every=2), diverged_at=at)
    records.write(run, tmp_path / "diverged.parquet", every=every)
    back = records.read(tmp_path / "diverged.parquet")
    assert back.diverged_at == at and len(back.epochs) == epochs
    assert len(back.steps) == every * epochs * 12 * 9
    assert back.epochs.to_dict("list") == run.epochs.to_dict("list")
    assert back.noise.equals(run.noise)
    with pytest.raises(DivergedError, match=f"at step {at} with Config.*try a smaller lr"):
        back.test_accuracy  # noqa: B018
    for wrong in ("48", "-1", "true", "1.5", '"1"', str(at + 12)):
        rewritten(tmp_path / "diverged.parquet", diverged_at=wrong)
        assert_refused(
            tmp_path / "diverged.parquet", "diverged_at" if wrong != str(at + 12) or at > 35 else "epochs"
        )


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


def set_to(column, value):
    def change(table):
        values = table[column].to_numpy().copy()
        values[7] = value
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values))

    return change


def with_layers(order=lambda codes: codes, names=NETWORK):
    def change(table):
        codes = order(np.arange(len(table)) % 9).astype(np.int8)
        layer = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(names)), ordered=True)
        return table.set_column(2, "layer", layer)

    return change


@pytest.mark.parametrize(
    "change, reason",
    [
        *((lambda t, c=c: t.drop_columns([c]), c) for c in STEP_COLUMNS),
        *((set_to(c, value), f"its {c} is not finite") for c in QUANTITIES for value in (np.nan, np.inf)),
        *((set_to(c, -1), f"its {c} is below 0") for c in QUANTITIES if c.endswith("norm_sq")),
        (set_to("lr", np.nan), "learning rates"),
        (set_to("lr", 0.5), "its learning rates are not those of its config"),
        (set_to("epoch", np.nan), "its epochs are not those of its steps"),
        (set_to("epoch", 0.05), "its epochs are not those of its steps"),
        (set_to("step", 1), "rows"),
        (with_layers(lambda codes: codes[::-1]), "not in their order"),
        (with_layers(names="abcdefghi"), "its layers are ['a', 'b'"),
        (with_layers(names=layers_of("Residual:L1+L2")), "those of Residual:L1+L3 are ['prep'"),
        (lambda t: t.set_column(4, t.column_names[4], t.column(4).cast(pa.string())), "not of numbers"),
        (lambda t: t.slice(0, 0), "damaged"),
        (lambda t: t.slice(1), "rows"),
        (lambda t: t.slice(0, 324), "rows"),  # the last epoch is cut off
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
        *(
            ({name: None}, f"do not make a run ('{name}')")
            for name in ("config", "key", "epochs", "provenance")
        ),
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


@pytest.mark.parametrize(
    "column, value, reason",
    [
        ("test_loss", np.nan, "test_loss is not finite"),
        ("train_loss", -1.0, "train_loss is below 0"),
        ("test_accuracy", -0.1, "test_accuracy is below 0"),
        ("train_accuracy", 1.5, "train_accuracy is above 1"),
        ("epoch", 5, "its epochs are [1, 2, 5, 4] and not 1 to 4"),
        ("test_loss", "low", "['test_loss'] of its epochs are not of numbers"),
        ("test_loss", None, "test_loss"),
    ],
)
def test_epochs_that_are_not_those_of_a_run(path, run, column, value, reason):
    values = run.epochs.to_dict("list")
    values[column][2] = value
    rewritten(path, epochs=json.dumps(values))
    assert_refused(path, reason)


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
    other = path.with_name(f"tiny-{replace(TINY, seed=1).key}.parquet")
    path.rename(other)
    assert_refused(other, "its name says", replace(TINY, seed=1).key, TINY.key)


@pytest.mark.parametrize("name", ["mine.parquet", "my-run.parquet", "run-2.parquet", "a-0123456789.parquet"])
def test_a_name_of_ones_own_is_no_other_run(path, run, name):
    assert_same_run(records.read(path.rename(path.with_name(name))), run)


def test_a_run_that_cannot_be_read_is_not_written(path, run):
    bad = recordable_run()
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
    newer = replace(recordable_run(), provenance={"device": "another"})
    records.write(newer, path)
    assert records.read(path).provenance == {"device": "another"}
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_where_nothing_can_be_written_is_said_before_training(tmp_path):
    files.check_writable(tmp_path / "new" / "run.parquet")
    assert not any(p.is_file() for p in tmp_path.rglob("*"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.check_writable(Path(tmp_path / "file" / "run.parquet"))
