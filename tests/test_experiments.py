from dataclasses import replace

import pytest

from lib import experiments, scales
from lib.config import Config
from lib.experiments import Planned

EVERY = [(e, s) for e in experiments.EXPERIMENTS for s in scales.SCALES]


def configs(experiment: str, scale: str, **settings) -> dict[str, Config]:
    """The configs of an experiment's runs, by name."""
    return {one.name: one.config for one in experiments.planned(scale, [experiment], **settings)}


def test_the_paper_is_at_the_settings_of_the_post():
    base = scales.base("paper")
    assert base == Config(
        dataset="cifar10",
        architecture="Residual:L1+L3",
        width=64,
        epochs=24,
        batch_size=512,
        lr=0.4,
        peak_epoch=5.0,
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
        precision="bf16",
        seed=0,
    )


def test_scales_differ_in_size_only():
    bases = [scales.base(scale) for scale in ("demo", "small", "paper")]
    size = {"dataset": "cifar10", "width": 64, "batch_size": 512, "precision": "bf16"}
    assert {replace(base, **size) for base in bases} == {scales.base("paper")}
    assert scales.DEFAULT_SCALE in scales.SCALES


@pytest.mark.parametrize("experiment, scale", EVERY)
def test_runs_have_names_and_keys_of_their_own(experiment, scale):
    runs = experiments.planned(scale, [experiment])
    assert len({one.config.key for one in runs}) == len({one.name for one in runs}) == len(runs)
    # where bf16 may be emulated, and nobody has half an hour
    assert runs or (scale == "demo" and experiment in ("precision", "start", "adam", "layers", "decay"))
    assert {(one.scale, one.experiment) for one in runs} <= {(scale, experiment)}
    # a name is part of a file name, and the key follows its last hyphen
    assert all(set(one.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.+") for one in runs)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_all_that_is_planned_is_each_experiment_in_its_order(scale):
    by_experiment = [one for e in experiments.EXPERIMENTS for one in experiments.planned(scale, [e])]
    assert experiments.planned(scale) == by_experiment


def test_a_run_is_named_by_form_and_seed():
    one = Planned("demo", "dynamics", "heavy-ball", Config(seed=3))
    assert (one.name, one.title) == ("heavy-ball-seed3", "dynamics heavy-ball-seed3")


@pytest.mark.parametrize("scale", scales.SCALES)
def test_dynamics_compares_three_forms_at_one_step_size(scale):
    runs = configs("dynamics", scale)
    forms = ["sgd", "heavy-ball", "nesterov"]
    # seed by seed: stopped early, it has recorded every form once
    seeds = scales.SCALES[scale].seeds
    assert list(runs) == [f"{form}-seed{seed}" for seed in range(seeds) for form in forms]
    assert [c.seed for c in runs.values()] == [seed for seed in range(seeds) for _ in forms]
    # λ/(1−ρ) is that of the base run; only the form and what it needs differ
    for name, c in runs.items():
        assert c.lr / (1 - c.momentum) == pytest.approx(4.0)
        assert c.momentum == (0.0 if name.startswith("sgd") else 0.9)
        assert c.nesterov == name.startswith("nesterov")
        assert replace(c, lr=0.4, momentum=0.9, nesterov=False, seed=0) == scales.base(scale)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_lars_and_the_quarter_batch_stand_beside_the_heavy_ball(scale):
    dynamics = configs("dynamics", scale)
    for seed in range(scales.SCALES[scale].few_seeds):
        reference = dynamics[f"heavy-ball-seed{seed}"]
        lars = configs("lars", scale)[f"lars-seed{seed}"]
        assert replace(lars, optimizer="sgd") == reference != lars
        quarter = configs("batch-size", scale)[f"quarter-batch-seed{seed}"]
        assert quarter.lr / quarter.batch_size == reference.lr / reference.batch_size
        assert quarter.batch_size * 4 == reference.batch_size
        assert replace(quarter, batch_size=reference.batch_size, lr=reference.lr) == reference
        frozen = configs("gradient-noise", scale)[f"frozen-seed{seed}"]
        assert replace(frozen, noise_every=0) == reference and frozen.noise_every == 8


@pytest.mark.parametrize("scale, networks", [("demo", 2), ("small", 4), ("paper", 7)])
def test_the_sweep_is_a_grid_around_the_base_rate(scale, networks):
    runs = configs("sweep", scale).values()
    lrs = {0.4 * 2.0**k for k in range(-3, 4)}
    seeds = {"demo": 1, "small": 3, "paper": 3}[scale]
    assert len({(c.architecture, c.lr, c.seed) for c in runs}) == networks * len(lrs) * seeds == len(runs)
    assert {c.lr for c in runs} == lrs and len({c.architecture for c in runs}) == networks
    base = scales.base(scale)
    epochs = 20 if scale == "paper" else 5
    for c in runs:
        same = replace(c, architecture=base.architecture, lr=base.lr, seed=0)
        assert same == replace(base, nesterov=True, epochs=epochs, peak_epoch=epochs / 5)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_lars_and_sgd_are_tuned_over_the_same_rates(scale):
    runs = configs("tuning", scale).values()
    by_optimizer = {
        o: {replace(c, optimizer="sgd") for c in runs if c.optimizer == o} for o in ("sgd", "lars")
    }
    assert by_optimizer["sgd"] == by_optimizer["lars"] and len(runs) == 10 * scales.SCALES[scale].seeds
    swept = {replace(c, nesterov=False) for c in configs("sweep", scale).values()}
    assert {c for c in by_optimizer["sgd"] if c.seed < 3} <= swept


@pytest.mark.parametrize("scale, other", [("small", "bf16"), ("paper", "fp32")])
def test_the_other_precision_differs_in_nothing_else(scale, other):
    dynamics, runs = configs("dynamics", scale), configs("precision", scale)
    assert {c.precision for c in runs.values()} == {other}
    assert {name.rpartition("-")[0] for name in runs} == {"sgd", "heavy-ball"}
    for name, config in runs.items():
        assert replace(config, precision=dynamics[name].precision) == dynamics[name]


def test_a_precision_of_ones_own_is_that_of_every_run():
    assert {c.precision for c in configs("dynamics", "paper", precision="fp32").values()} == {"fp32"}
    assert list(configs("dynamics", "paper", precision="fp32")) == list(configs("dynamics", "paper"))
    with pytest.raises(ValueError, match="precision='fp16' is not allowed"):
        experiments.planned("demo", precision="fp16")


def test_steps_are_kept_where_something_is_taken_from_them():
    kept = {(one.experiment, one.config.seed): one.every for one in experiments.planned("paper")}
    assert {e for (e, seed), every in kept.items() if every == 1} == {
        *("dynamics", "lars", "precision"),
        *experiments.QUESTIONS,
    }
    assert {(e, seed) for (e, seed), every in kept.items() if every == 4} == {
        ("batch-size", s) for s in range(3)
    }
    assert all(kept[e, 0] == 0 for e in ("sweep", "tuning", "gradient-noise"))
    assert kept["dynamics", 2] == 1 and kept["dynamics", 3] == 0


def test_only_where_the_rate_is_what_is_asked_a_run_may_diverge():
    assert {one.experiment for one in experiments.planned("paper") if one.may_diverge} == {"sweep", "tuning"}


@pytest.mark.parametrize("call", [scales.base, experiments.planned])
def test_an_unknown_scale_is_named(call):
    with pytest.raises(ValueError, match="scale='huge' is not known; it must be one of demo, small, paper"):
        call("huge")


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match="experiment='dynamic' is not known; it must be one of dynamics"):
        experiments.planned("demo", ["dynamic"])
