import os
from dataclasses import replace

import pytest
from conftest import TINY, assert_same_run, recordable_run

from lib import experiments, library, records, scales
from lib.experiments import Form, Planned
from lib.records import NotRecordedError, RecordError
from lib.run import DivergedError
from lib.scales import Scale


@pytest.fixture(autouse=True)
def plan(monkeypatch, records_in) -> dict[str, Planned]:
    """Two experiments at one scale, and their runs by ``experiment/form-seed``; nothing is recorded."""
    forms = [Form("sgd", TINY, 2), Form("wild", replace(TINY, lr=0.8), 2, may_diverge=True)]
    two = {"one": lambda scale: forms, "two": lambda scale: [Form("sgd", replace(TINY, lr=0.2), 1)]}
    monkeypatch.setattr(scales, "SCALES", {"demo": Scale(base=TINY, seeds=2, architectures=())})
    monkeypatch.setattr(experiments, "EXPERIMENTS", two)
    return {f"{one.experiment}/{one.name}": one for one in experiments.planned("demo")}


def record(planned: Planned, **changes):
    run = replace(recordable_run(planned.config), **changes)
    records.write(run, library.path(planned))
    return run


def other_precision(planned: Planned) -> Planned:
    return replace(planned, config=replace(planned.config, precision="bf16"))


def test_a_record_lies_under_scale_experiment_name_and_key(records_in, plan):
    one = plan["one/sgd-seed1"]
    assert library.path(one) == records_in / "demo" / "one" / f"sgd-seed1-{one.config.key}.parquet"
    assert library.recorded(one) is None
    record(one)
    assert library.recorded(one) == library.path(one)


def test_forms_have_their_recorded_runs_seed_by_seed_or_none(plan):
    assert library.forms("demo", "one") == {"sgd": [], "wild": []}
    runs = [record(plan[f"one/sgd-seed{seed}"]) for seed in (1, 0)]
    found = library.forms("demo", "one")
    assert list(found) == ["sgd", "wild"] and not found["wild"]
    for run, expected in zip(found["sgd"], reversed(runs), strict=True):
        assert_same_run(run, expected)
    assert {name: len(runs) for name, runs in library.every_form("demo").items()} == {
        "one/sgd": 2, "one/wild": 0, "two/sgd": 0
    }  # fmt: skip


def test_runs_are_those_of_an_experiment_or_of_one_form(plan):
    for name in ("one/wild-seed0", "one/sgd-seed1", "one/sgd-seed0", "two/sgd-seed0"):
        record(plan[name])

    def found(name):
        return [(run.config.lr, run.config.seed) for run in library.runs("demo", name)]

    assert found("one/sgd") == [(0.4, 0), (0.4, 1)]
    assert found("one") == [(0.4, 0), (0.4, 1), (0.8, 0)]
    assert found("two/sgd") == found("two") == [(0.2, 0)]
    assert library.first("demo", "one/sgd").config == TINY


def test_the_planned_precision_is_taken_and_else_the_other(plan):
    one = plan["one/sgd-seed0"]
    record(other_precision(one))
    assert library.recorded(one) == library.path(other_precision(one)) != library.path(one)
    assert library.first("demo", "one/sgd").config.precision == "bf16"
    record(one)
    assert library.recorded(one) == library.path(one)
    assert [run.config.precision for run in library.runs("demo", "one/sgd")] == ["fp32"]


@pytest.mark.parametrize("name", ["one", "one/sgd"])
def test_what_is_not_recorded_is_said_with_the_command_that_makes_it(plan, name):
    with pytest.raises(NotRecordedError) as error:
        library.runs("demo", name)
    assert str(error.value) == (
        f"no run of {name} is recorded at scale demo; `python -m lib run one --scale demo` makes them"
    )
    record(plan["two/sgd-seed0"])
    with pytest.raises(NotRecordedError):
        library.first("demo", name)


@pytest.mark.parametrize(
    "scale, name, message",
    [
        ("demo", "one/adam", "form='one/adam' is not known; it must be one of one/sgd, one/wild"),
        ("demo", "three", "experiment='three' is not known; it must be one of one, two"),
        ("huge", "one", "scale='huge' is not known; it must be one of demo"),
    ],
)
def test_what_is_not_planned_is_named(scale, name, message):
    with pytest.raises(ValueError, match=message):
        library.runs(scale, name)


def test_a_run_that_diverged_is_a_result_only_where_that_was_asked(plan):
    run = recordable_run(plan["one/wild-seed0"].config, diverged_at=20)
    records.write(run, library.path(plan["one/wild-seed0"]))
    assert library.first("demo", "one/wild").diverged_at == 20
    run = recordable_run(TINY, diverged_at=7)
    records.write(run, library.path(plan["one/sgd-seed0"]))
    assert library.diverged("demo", ["one"]) == {
        "one wild-seed0": library.first("demo", "one/wild"),
        "one sgd-seed0": library.first("demo", "one/sgd", as_far=True),
    }
    for name in ("one/sgd", "one"):
        assert len(library.runs("demo", name, as_far=True)) == name.count("/") + 2 * (name == "one")
        with pytest.raises(DivergedError, match="at step 7"):
            library.runs("demo", name)
    with pytest.raises(DivergedError, match="at step 7"):
        library.forms("demo", "one")


def test_a_damaged_record_is_no_missing_one(plan):
    record(plan["one/sgd-seed0"])
    path = library.path(plan["one/sgd-seed0"])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RecordError, match="damaged") as error:
        library.runs("demo", "one/sgd")
    assert not isinstance(error.value, NotRecordedError)


def test_a_record_is_read_once_and_again_when_its_file_changes(plan, monkeypatch):
    asked = []
    read = records.read
    monkeypatch.setattr(records, "read", lambda path: asked.append(path) or read(path))
    one = plan["one/sgd-seed0"]
    record(one)
    assert library.first("demo", "one/sgd") is library.runs("demo", "one")[0]
    assert asked == [library.path(one)]
    record(one, provenance={"device": "another"})
    os.utime(library.path(one), (0, 0))  # also where a clock is too coarse to tell
    assert library.first("demo", "one/sgd").provenance == {"device": "another"}
    assert len(asked) == 2
