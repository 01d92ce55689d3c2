import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import TINY, assert_same_run, recordable_run

from lib import __main__ as command_line
from lib import experiments, library, records, scales, training
from lib.experiments import Form
from lib.running import verify
from lib.scales import Scale


@pytest.fixture(autouse=True)
def experiment(monkeypatch, records_in):
    scale = Scale(base=TINY, seeds=3, architectures=())
    two = {"demo": scale, "small": replace(scale, base=replace(TINY, lr=0.2))}
    monkeypatch.setattr(scales, "SCALES", two)
    monkeypatch.setattr(scales, "DEFAULT_SCALE", "demo")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"one": lambda s: [Form("sgd", s.base, s.seeds)]})


def record(seed=0, scale="demo", every=1, **changes) -> Path:
    planned = experiments.planned(scale, ["one"])[seed]
    path = library.path(planned)
    records.write(replace(recordable_run(planned.config), **changes), path, every=every)
    return path


def call(*arguments):
    return CliRunner().invoke(command_line.cli, [str(a) for a in arguments])


def test_every_file_has_its_state(records_in):
    good, renamed, damaged = record(0), record(1), record(2)
    os.replace(renamed, other := renamed.with_name(renamed.name.replace("seed1", "seed7")))
    damaged.write_bytes(damaged.read_bytes()[:-50])
    diverged = record(0, "small")
    records.write(recordable_run(replace(TINY, lr=0.2), diverged_at=3), diverged)
    moved = record(1, "small").rename(good.with_name(f"sgd-seed1-{good.stem[-12:]}.parquet"))
    running = [good.with_name(renamed.name + suffix) for suffix in (".checkpoint", ".lock")]
    foreign = [records_in / "README", good.with_name("x.checkpoint"), good.with_name(".a.tmp")]
    for path in (*running, *foreign):
        path.touch()
    (link := good.with_name("link.parquet")).symlink_to(records_in / "nowhere")
    states = {state.path: state for state in verify.states()}
    texts = {path: state.text for path, state in states.items()}
    assert texts.pop(good).startswith("good: test accuracy ")
    assert texts.pop(diverged).startswith("good: diverged at step 3; commit ")
    assert texts.pop(other).startswith("unknown: a good record, of no run that is planned: Config(")
    assert all(texts.pop(path) == "of a run in progress" for path in running)
    assert all(texts.pop(path) == "unknown: no record" for path in foreign)
    assert texts.pop(damaged).startswith("refused: damaged, it cannot be read as Parquet")
    assert texts.pop(moved).startswith("refused: its name says run ")
    assert texts.pop(link).startswith("refused: there is no such record")
    assert not texts
    assert {p for p, s in states.items() if s.bad} == {damaged, moved, link}
    # the command says the same
    result = call("verify")
    assert result.exit_code == 1 and result.output.endswith("11 files, 3 records refused\n")
    assert all(f"{s.path}: {s.text}\n" in result.output for s in states.values())


def test_good_records_are_no_error_and_a_scale_can_be_chosen(records_in):
    record(0), record(0, "small").write_text("damaged")
    result = call("verify", "--scale", "demo")
    assert result.exit_code == 0 and result.output.endswith("1 files, 0 records refused\n")
    assert call("verify", "--scale", "small").exit_code == 1
    result = call("verify", "--scale", "huge")
    assert isinstance(result.exception, ValueError) and "scale='huge' is not known" in str(result.exception)


@pytest.mark.slow
def test_the_committed_records_are_good(monkeypatch):
    monkeypatch.undo()
    states = list(verify.states())
    assert len(states) >= 20 and not [state for state in states if state.bad]


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by the numbers of the record, multiplied by a factor; threads that were used."""
    factor, threads = {}, []

    def outcome(config, **_):
        threads.append(torch.get_num_threads())
        run = recordable_run(config)
        changed = {c: (run.steps[c] * f).astype("float32") for c, f in factor.items() if c in run.steps}
        return replace(run, steps=run.steps.assign(**changed))

    monkeypatch.setattr(training, "outcome", outcome)
    return factor, threads


@pytest.mark.parametrize("every", [0, 1, 3])
def test_a_run_that_is_reproduced_is_that_of_the_record(trained, every):
    _, threads = trained
    before = torch.get_num_threads()
    path = record(0, every=every, provenance={"threads": 2})
    for name in (path, "one/sgd-seed0"):
        result = call("reproduce", name, "--scale", "demo")
        assert result.exit_code == 0 and "the same numbers, bit for bit" in result.output
        assert ("grad_norm_sq" in result.output) == bool(every) and "test_accuracy" in result.output
    assert threads == [2, 2] and torch.get_num_threads() == before
    if every:
        assert_same_run(verify.again(records.read(path)), records.read(path))


@pytest.mark.parametrize("factor, code", [(1.1, 3), (0.9, 3), (1.5, 1), (0.5, 1)])
def test_other_numbers_are_said_to_be_within_the_tolerance_or_not(trained, factor, code):
    trained[0]["grad_norm_sq"] = factor
    record(0)
    result = call("reproduce", "one/sgd-seed0", "--scale", "demo")
    assert result.exit_code == code
    assert f"averages differ by {abs(factor - 1):.2g}, the tolerance is 0.35" in result.output
    table = verify.differences(recordable_run(TINY), training.outcome(TINY))
    assert table.loc["grad_norm_sq", "averages"] == pytest.approx(abs(factor - 1), rel=1e-5)
    assert table.loc["grad_norm_sq", "largest"] > 0 and not table.drop("grad_norm_sq")["largest"].any()


def test_a_flipped_sign_is_a_difference(trained):
    trained[0]["weight_dot_grad"] = -1
    table = verify.differences(recordable_run(TINY), training.outcome(TINY))
    assert table.loc["weight_dot_grad", "largest"] > 1 and np.isnan(table.loc["weight_dot_grad", "averages"])


def test_a_run_that_diverges_elsewhere_is_no_reproduction(trained):
    path = record(0)
    records.write(recordable_run(TINY, diverged_at=20), path)
    result = call("reproduce", path)
    assert "diverged at step None, the record at 20" in str(result.exception)


@pytest.mark.parametrize("name", ["", "one", "one/sgd-seed9", "two/sgd-seed0", "nowhere.parquet", "/"])
def test_a_run_that_is_not_known_is_named(trained, name):
    result = call("reproduce", name)
    assert isinstance(result.exception, ValueError) and f"run={name!r} is not known" in str(result.exception)


def test_a_run_that_is_not_recorded_is_said_to_be_so(trained):
    assert "there is no such record" in str(call("reproduce", "one/sgd-seed1").exception)


@pytest.mark.slow
def test_a_committed_record_is_reproduced(monkeypatch):
    """Five epochs of the demo. On the machine of the record, `reproduce` says bit for bit."""
    monkeypatch.undo()
    recorded = records.read(verify.find("sweep/backbone-lr0.4-seed0", "demo"))
    found = verify.differences(recorded, verify.again(recorded))
    assert found["averages"].max() <= verify.TOLERANCE
