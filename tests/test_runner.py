from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from conftest import TINY, assert_same_run, synthetic_run

from lib import experiments, records, runner
from lib.training import DivergedError

NAMES = [f"{form}-seed{seed}" for seed in range(2) for form in ("sgd", "nesterov")]


def tiny(base, seeds=2):
    """Four runs that take no time to train."""
    forms = {"sgd": replace(base, momentum=0.0), "nesterov": replace(base, nesterov=True)}
    return {f"{form}-seed{seed}": replace(c, seed=seed) for seed in range(seeds) for form, c in forms.items()}


@pytest.fixture(autouse=True)
def experiment(monkeypatch, records_in):
    small = replace(TINY, epochs=1, peak_epoch=0.5, batch_size=3000)
    monkeypatch.setattr(experiments, "SCALES", {"demo": small})
    monkeypatch.setattr(experiments, "SEEDS", {"demo": 2})
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"tiny": tiny, "other": tiny})


@pytest.fixture
def trained(monkeypatch):
    """Replaces training; the configs that were trained, in order."""
    configs = []

    def train(config, **_):
        configs.append(config)
        return synthetic_run(config)

    monkeypatch.setattr(runner, "train", train)
    return configs


def run(*args, **kwargs):
    """Lines of the report."""
    lines = []
    runner.run(*args, report=lines.append, **kwargs)
    return lines


def test_runs_are_trained_recorded_and_reported_in_order(trained, records_in):
    lines = run(["tiny"], "demo")
    configs = experiments.configs("tiny", "demo")
    assert trained == list(configs.values())
    assert [line.partition(":")[0] for line in lines] == [f"tiny {name}" for name in NAMES]
    assert all("test accuracy" in line for line in lines)
    files = {p.relative_to(records_in).as_posix() for p in records_in.rglob("*") if p.is_file()}
    assert files == {f"demo/tiny/{name}-{config.key}.parquet" for name, config in configs.items()}
    for name, found in runner.recorded("tiny", "demo").items():
        assert_same_run(found, synthetic_run(configs[name]))
    assert list(runner.recorded("tiny", "demo")) == NAMES


def test_only_what_is_missing_is_trained(trained):
    run(["tiny"], "demo")
    configs = experiments.configs("tiny", "demo")
    runner.record_path("tiny", "demo", NAMES[2], configs[NAMES[2]]).unlink()
    trained.clear()
    lines = run(["tiny"], "demo")
    assert trained == [configs[NAMES[2]]]
    recorded = [line for line in lines if line.endswith("recorded already")]
    assert recorded == [f"tiny {n}: recorded already" for n in NAMES if n != NAMES[2]]


def test_retrain_trains_all(trained):
    run(["tiny"], "demo")
    run(["tiny"], "demo", retrain=True)
    assert len(trained) == 2 * len(NAMES)


def test_several_experiments_are_run_one_after_the_other(trained):
    lines = run(["other", "tiny"], "demo")
    assert [line.split()[0] for line in lines] == ["other"] * 4 + ["tiny"] * 4


@pytest.mark.parametrize("failure", [KeyboardInterrupt, DivergedError])
def test_what_was_trained_before_a_stop_is_kept(trained, monkeypatch, failure):
    def train(config, **_):
        if len(trained) == 2:
            raise failure
        trained.append(config)
        return synthetic_run(config)

    with monkeypatch.context() as stopping:
        stopping.setattr(runner, "train", train)
        with pytest.raises(failure):
            run(["tiny"], "demo")
    assert list(runner.recorded("tiny", "demo")) == NAMES[:2]
    run(["tiny"], "demo")  # goes on where it was stopped
    assert trained == list(experiments.configs("tiny", "demo").values())


def test_a_damaged_record_is_an_error_and_stays(trained):
    run(["tiny"], "demo")
    path = runner.record_path("tiny", "demo", NAMES[1], experiments.configs("tiny", "demo")[NAMES[1]])
    path.write_bytes(b"damaged")
    trained.clear()
    for call in (lambda: run(["tiny"], "demo"), lambda: runner.recorded("tiny", "demo")):
        with pytest.raises(records.RecordError, match=str(path)):
            call()
    assert not trained and path.read_bytes() == b"damaged"
    run(["tiny"], "demo", retrain=True)  # the remedy
    assert len(runner.recorded("tiny", "demo")) == 4


def test_records_of_other_settings_are_not_taken_for_these(trained, monkeypatch):
    run(["tiny"], "demo")
    monkeypatch.setitem(experiments.SCALES, "demo", replace(experiments.SCALES["demo"], lr=0.1))
    with pytest.raises(
        records.RecordError, match="no run of tiny is recorded at scale demo; .* run tiny --scale demo"
    ):
        runner.recorded("tiny", "demo")


@pytest.mark.parametrize(
    "names, scale, match", [(["tiny", "nosuch"], "demo", "nosuch"), (["tiny"], "huge", "huge")]
)
def test_an_unknown_name_is_an_error_before_anything_is_trained(trained, names, scale, match):
    with pytest.raises(ValueError, match=match):
        run(names, scale)
    assert not trained


def test_jobs_give_the_records_of_one_process(monkeypatch):
    """Two runs, really trained, here and in two processes."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # it would give one thread, too
    monkeypatch.setitem(
        experiments.EXPERIMENTS, "tiny", lambda base, seeds: dict(list(tiny(base).items())[:2])
    )
    run(["tiny"], "demo")
    alone = runner.recorded("tiny", "demo")
    lines = run(["tiny"], "demo", retrain=True, jobs=2)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(f"tiny {name}" for name in NAMES[:2])
    together = runner.recorded("tiny", "demo")
    for name in NAMES[:2]:
        assert_same_run(together[name], alone[name])
        assert together[name].provenance["threads"] == 1


def test_a_failing_job_is_an_error_and_what_was_done_is_kept(trained, monkeypatch):
    def train(config, **_):
        if config == failing:
            raise DivergedError("the loss became nan")
        return synthetic_run(config)

    failing = experiments.configs("tiny", "demo")[NAMES[2]]
    monkeypatch.setattr(runner, "train", train)
    # one thread stands in for processes, which would not see the replaced training
    monkeypatch.setattr(runner, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    with pytest.raises(DivergedError):
        run(["tiny"], "demo", jobs=2)
    done = runner.recorded("tiny", "demo")
    assert set(NAMES[:2]) <= set(done) <= set(NAMES) - {NAMES[2]}
