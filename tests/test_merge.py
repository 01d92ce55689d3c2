import stat
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, assert_same_run, recordable_run

from lib import experiments, library, paths, records, scales
from lib.experiments import Form
from lib.records import RecordError
from lib.running import merge
from lib.scales import Scale


@pytest.fixture(autouse=True)
def two_experiments(monkeypatch):
    scale = Scale(base=TINY, seeds=3, architectures=())
    two = {"demo": scale, "small": replace(scale, base=replace(TINY, lr=0.2))}
    runs = {name: lambda scale: [Form("sgd", scale.base, scale.seeds)] for name in ("one", "two")}
    monkeypatch.setattr(scales, "SCALES", two)
    monkeypatch.setattr(experiments, "EXPERIMENTS", runs)


def record(experiment="one", seed=0, scale="demo", **changes) -> Path:
    planned = experiments.planned(scale, [experiment])[seed]
    records.write(replace(recordable_run(planned.config), **changes), library.path(planned))
    return library.path(planned)


@pytest.fixture
def other(records_in, monkeypatch, tmp_path):
    """The records of another machine, of which the folder here has none."""
    made = [record(seed=0), record(seed=1), record("two", 2, "small")]
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / "here" / scale)
    return records_in, [path.relative_to(records_in).as_posix() for path in made]


def here() -> dict[str, bytes]:
    """Every file of the records folder, and its bytes."""
    root = paths.records("demo").parent
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_what_is_new_is_taken_over_byte_for_byte(other):
    folder, names = other
    assert merge.merge(folder) == (names, [], [])
    assert here() == {name: (folder / name).read_bytes() for name in names}
    (run,) = library.runs("small", "two/sgd")
    assert_same_run(run, recordable_run(run.config))
    mode = library.path(experiments.planned("demo", ["one"])[0]).stat().st_mode
    assert stat.S_IMODE(mode) == 0o644
    assert merge.merge(folder) == ([], names, [])


def test_a_record_that_is_here_stays(other):
    folder, names = other
    record(seed=0, provenance={"device": "another"})  # the same numbers
    changed = recordable_run(experiments.planned("demo", ["one"])[1].config)
    changed.epochs.loc[0, "train_loss"] += 1e-12
    record(seed=1, epochs=changed.epochs)
    before = here()
    assert merge.merge(folder) == (names[2:], names[:1], names[1:2])
    assert {name: here()[name] for name in before} == before


def test_a_run_in_the_other_precision_is_one_that_is_planned(other, records_in):
    folder, _ = other
    (planned, *_) = experiments.planned("demo", ["two"], precision="bf16")
    path = library.path(planned)
    away = folder / path.relative_to(paths.records("demo").parent)
    records.write(recordable_run(planned.config), away)
    assert path.relative_to(paths.records("demo").parent).as_posix() in merge.merge(folder).new
    assert library.runs("demo", "two/sgd")[0].config.precision == "bf16"


def test_runs_at_settings_of_ones_own_are_taken_over_as_well(other, monkeypatch):
    folder, _ = other
    chosen = scales.chosen("demo", weight_decay=0.002)
    (planned, *_) = experiments.planned(chosen, ["one"])
    away = folder / library.path(planned).relative_to(paths.records("demo").parent)
    records.write(recordable_run(planned.config), away)
    assert away.relative_to(folder).as_posix() in merge.merge(folder).new
    assert library.first(chosen, "one/sgd").config == planned.config
    stranger = away.parents[1] / "three" / away.name  # of no experiment
    stranger.parent.mkdir()
    stranger.write_bytes(away.read_bytes())
    with pytest.raises(RuntimeError, match="three.*not the record of a run that is planned here"):
        merge.merge(folder)


def rename(path, name):
    path.rename(path.with_name(name))


BAD = {
    "of no run": (lambda path: rename(path, "x.parquet"), RuntimeError, "not the record of a run that is planned"),
    "other key": (lambda path: rename(path, f"{path.stem}0.parquet"), RuntimeError, "not the record of a run"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-50]), RecordError, "damaged"),
    "no Parquet": (lambda path: path.write_text("text"), RecordError, "cannot be read as Parquet"),
    "of another seed": (
        lambda path: path.write_bytes(next(path.parent.glob("sgd-seed0-*")).read_bytes()),
        RecordError, "its name says run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoil, error, reason", BAD.values(), ids=BAD)
def test_one_bad_file_and_nothing_is_merged(other, spoil, error, reason):
    folder, names = other
    spoil(folder / names[1])
    with pytest.raises(error, match=reason) as raised:
        merge.merge(folder)
    assert str(raised.value).startswith(str((folder / names[1]).parent)) and not here()


def test_a_damaged_record_that_is_here_is_named(other):
    folder, _ = other
    path = record(seed=0)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RecordError, match="damaged") as raised:
        merge.merge(folder)
    assert str(raised.value).startswith(str(path)) and len(here()) == 1


def test_a_folder_without_a_record_is_named(tmp_path):
    (tmp_path / "README").touch()
    with pytest.raises(RuntimeError, match="there is no record in it; it must hold folders of scales"):
        merge.merge(tmp_path)
