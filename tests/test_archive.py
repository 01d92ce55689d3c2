import io
import os
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, assert_same_run, recordable_run

from lib import experiments, paths, records
from lib.running import archive, runner


@pytest.fixture(autouse=True)
def experiment(monkeypatch, records_in):
    def runs(scale):
        return {f"sgd-seed{seed}": replace(experiments.base(scale), seed=seed) for seed in range(3)}

    monkeypatch.setattr(experiments, "SCALES", {"demo": TINY, "small": replace(TINY, lr=0.2)})
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"one": runs, "two": runs})


def record(experiment, seed, scale="demo", **changes):
    """Records a run; where it lies, and what it would be called in an archive."""
    name = f"sgd-seed{seed}"
    config = experiments.configs(experiment, scale)[name]
    path = runner.record_path(experiment, scale, name, config)
    records.write(replace(recordable_run(config), **changes), path)
    return path, f"{scale}/{experiment}/{name}-{config.key}.parquet"


def here():
    """Every file of the records folder, and its bytes."""
    root = paths.records("demo").parent
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def elsewhere(monkeypatch, folder):
    monkeypatch.setattr(paths, "records", lambda scale: folder / scale)


@pytest.fixture
def packed(tmp_path):
    """An archive of two records, and their names; the records folder is empty again."""
    made = [record("one", seed) for seed in (1, 0)]
    assert archive.export(["one"], "demo", tmp_path / "runs.zip") == 2
    for path, _ in made:
        path.unlink()
    return tmp_path / "runs.zip", sorted(member for _, member in made)


def test_what_is_merged_is_what_was_exported(tmp_path, monkeypatch):
    for experiment, seed, scale in [("one", 0, "demo"), ("two", 2, "demo"), ("one", 1, "small")]:
        record(experiment, seed, scale)
    before = here()
    files = [tmp_path / "demo.zip", tmp_path / "small.zip"]
    assert archive.export(["one", "two"], "demo", files[0]) == 2
    assert archive.export(["one"], "small", files[1]) == 1
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    for file in files:
        assert not any(archive.merge(file)[1:])
    assert here() == before
    run = runner.recorded("two", "demo")["sgd-seed2"]
    assert_same_run(run, recordable_run(run.config))


def test_only_what_is_named_is_exported_and_the_same_records_give_the_same_bytes(tmp_path):
    _, zero = record("one", 0)
    _, one = record("one", 1)
    record("two", 1), record("one", 1, "small")
    archive.export(["one"], "demo", tmp_path / "a.zip")
    for path in paths.records("demo").rglob("*.parquet"):
        os.utime(path, (0, 0))
    archive.export(["one"], "demo", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.namelist() == sorted([zero, one])
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("failure", ["too large", "disk full"])
def test_a_failing_export_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    def fail(*_):
        raise OSError("disk full")

    record("one", 0)
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "runs.zip").write_text("old")
    if failure == "too large":
        monkeypatch.setattr(archive, "EXPORT_LIMIT", 1 << 10)
    else:
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((archive.ArchiveError, OSError), match="MiB|disk full"):
        archive.export(["one"], "demo", folder / "runs.zip")
    assert [p.name for p in folder.iterdir()] == ["runs.zip"]
    assert (folder / "runs.zip").read_text() == "old"


def test_a_record_that_is_here_stays(packed):
    file, members = packed
    path, _ = record("one", 0, provenance={"device": "another"})  # same numbers
    other = recordable_run(experiments.configs("one", "demo")["sgd-seed1"])
    other.epochs.loc[0, "train_loss"] += 1e-12
    record("one", 1, epochs=other.epochs)
    before = here()
    assert archive.merge(file) == ([], [members[0]], [members[1]])
    assert here() == before
    records.write(recordable_run(other.config, diverged_at=30), record("one", 1)[0])
    assert archive.merge(file).different == [members[1]]
    path.unlink()
    assert archive.merge(file) == ([members[0]], [], [members[1]])
    assert archive.merge(file) == ([], [members[0]], [members[1]])
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 and path.stat().st_nlink == 1


def rewritten(file, change):
    """Writes an archive again, each member as ``change`` of its name and bytes says."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            for entry in change(name, content):
                archive.writestr(*entry)


def other_bytes(name, content):
    table = pq.read_table(io.BytesIO(content))
    values = table["grad_norm_sq"].to_numpy().copy()
    values[3] = 7.0
    file = io.BytesIO()
    pq.write_table(table.set_column(5, "grad_norm_sq", pa.array(values)), file)
    return [(name, file.getvalue())]


def bomb(name, content):
    file = io.BytesIO()
    pq.write_table(pa.table({"step": np.zeros(archive.IMPORT_LIMIT + 1, np.int8)}), file)
    assert len(file.getvalue()) < 1 << 20
    return [(name, file.getvalue())]


def of_kind(mode):
    def change(name, content):
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        return [(info, content)]

    return change


UNKNOWN = "not the record of a run that this version knows"
CHANGES = {
    "parent folder": (lambda n, c: [("../" + n, c)], UNKNOWN),
    "absolute": (lambda n, c: [("/" + n, c)], UNKNOWN),
    "round about": (lambda n, c: [(n.replace("/one/", "/two/../one/"), c)], UNKNOWN),
    "backslashes": (lambda n, c: [(n.replace("/", "\\"), c)], UNKNOWN),
    "no experiment": (lambda n, c: [(n.replace("one", "three"), c)], UNKNOWN),
    "no scale": (lambda n, c: [(n.replace("demo", "paper"), c)], UNKNOWN),
    "other key": (lambda n, c: [(n.replace(".parquet", "0.parquet"), c)], UNKNOWN),
    "foreign file": (lambda n, c: [(n, c), ("README", b"")], UNKNOWN),
    "folder": (lambda n, c: [("demo/", b""), (n, c)], UNKNOWN),
    "link": (of_kind(stat.S_IFLNK | 0o777), "not a plain file"),
    "compression": (lambda n, c: [(n, c, zipfile.ZIP_LZMA)], "one of stored, deflated"),
    "too large": (lambda n, c: [(n, bytes(archive.EXPORT_LIMIT + 1), zipfile.ZIP_DEFLATED)], "larger than 16 MiB"),
    "no Parquet": (lambda n, c: [(n, b"text")], "Parquet"),
    "cut off": (lambda n, c: [(n, c[:-100])], "arquet"),
    "changed number": (other_bytes, "not those that were written"),
    "Parquet bomb": (bomb, "its table unpacks to more than"),
}  # fmt: skip


@pytest.mark.parametrize("change, reason", CHANGES.values(), ids=CHANGES)
def test_one_bad_member_and_nothing_is_merged(packed, change, reason):
    file, (_, last) = packed
    rewritten(file, lambda name, content: change(name, content) if name == last else [(name, content)])
    with pytest.raises(archive.ArchiveError, match=reason) as error:
        archive.merge(file)
    assert str(error.value).startswith(f"{file}: ") and "nothing was merged" in str(error.value)
    assert not here() and not list(paths.records("demo").parent.glob(".*"))


def test_a_rewritten_archive_is_merged(packed):
    """The control of the test above, deflated."""
    file, members = packed
    rewritten(file, lambda name, content: [(name, content, zipfile.ZIP_DEFLATED)])
    assert archive.merge(file).new == members


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_members_of_one_name(packed):
    file, _ = packed
    rewritten(file, lambda name, content: [(name, content)] * 2)
    with pytest.raises(archive.ArchiveError, match="two of that name"):
        archive.merge(file)
    assert not here()


def test_a_record_under_the_name_of_another(packed):
    file, members = packed
    rewritten(file, lambda name, content: [(members[name == members[0]], content)])
    with pytest.raises(archive.ArchiveError, match="its name says run"):
        archive.merge(file)
    assert not here()


def test_more_than_is_merged_at_a_time(packed, monkeypatch):
    file, _ = packed
    rewritten(file, lambda name, content: [(name, bytes(1 << 20), zipfile.ZIP_DEFLATED)])
    monkeypatch.setattr(archive, "IMPORT_LIMIT", (2 << 20) - 1)
    with pytest.raises(archive.ArchiveError, match="unpacks to more than"):
        archive.merge(file)
    monkeypatch.setattr(archive, "IMPORT_LIMIT", 10)
    with pytest.raises(archive.ArchiveError, match="larger than"):
        archive.merge(file)


def test_damaged_archives_are_refused(packed):
    """Wherever a bit is flipped: all is refused, or all that is merged is what was exported."""
    file, _ = packed
    content = file.read_bytes()
    archive.merge(file)
    exported = here()
    for position in [*range(0, len(content), 977), len(content) - 10]:
        for name in here():
            (paths.records("demo").parent / name).unlink()
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            archive.merge(file)
        except archive.ArchiveError:
            assert not here()
        else:
            assert here() == exported
    for nothing in (b"", b"text", content[:-30]):
        file.write_bytes(nothing)
        with pytest.raises(archive.ArchiveError, match="not an archive of records"):
            archive.merge(file)


def test_a_damaged_record_that_is_here_is_said_and_stays(packed):
    file, _ = packed
    path, _ = record("one", 0)
    path.write_bytes(b"damaged")
    before = here()
    with pytest.raises(records.RecordError, match=str(path)):
        archive.merge(file)
    assert here() == before
