from dataclasses import replace

import pytest

from lib import experiments
from lib.config import Config

EVERY = [(e, s) for e in experiments.EXPERIMENTS for s in experiments.SCALES]


def test_the_paper_is_at_the_settings_of_the_post():
    base = experiments.base("paper")
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
        seed=0,
    )


def test_scales_differ_in_size_only():
    bases = [experiments.base(scale) for scale in ("demo", "small", "paper")]
    size = {"dataset": "cifar10", "width": 64, "batch_size": 512}
    assert {replace(base, **size) for base in bases} == {experiments.base("paper")}
    assert experiments.DEFAULT_SCALE in experiments.SCALES


@pytest.mark.parametrize("experiment, scale", EVERY)
def test_runs_have_names_and_keys_of_their_own(experiment, scale):
    configs = experiments.configs(experiment, scale)
    assert len({c.key for c in configs.values()}) == len(configs) > 0
    # a name is part of a file name, and the key follows its last hyphen
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.+") for name in configs)


@pytest.mark.parametrize("scale", experiments.SCALES)
def test_dynamics_compares_three_forms_at_one_step_size(scale):
    configs = experiments.configs("dynamics", scale)
    forms = ["sgd", "heavy-ball", "nesterov"]
    # seed by seed: stopped early, it has recorded every form once
    seeds = experiments.SEEDS[scale]
    assert list(configs) == [f"{form}-seed{seed}" for seed in range(seeds) for form in forms]
    assert [c.seed for c in configs.values()] == [seed for seed in range(seeds) for _ in forms]
    # λ/(1−ρ) is that of the base run; only the form and what it needs differ
    for name, c in configs.items():
        assert c.lr / (1 - c.momentum) == pytest.approx(4.0)
        assert c.momentum == (0.0 if name.startswith("sgd") else 0.9)
        assert c.nesterov == name.startswith("nesterov")
        assert replace(c, lr=0.4, momentum=0.9, nesterov=False, seed=0) == experiments.base(scale)


@pytest.mark.parametrize("scale", experiments.SCALES)
def test_lars_and_the_quarter_batch_stand_beside_the_heavy_ball(scale):
    dynamics = experiments.configs("dynamics", scale)
    for seed in range(min(experiments.SEEDS[scale], 3)):
        reference = dynamics[f"heavy-ball-seed{seed}"]
        lars = experiments.configs("lars", scale)[f"lars-seed{seed}"]
        assert replace(lars, optimizer="sgd") == reference != lars
        quarter = experiments.configs("batch-size", scale)[f"quarter-batch-seed{seed}"]
        assert quarter.lr / quarter.batch_size == reference.lr / reference.batch_size
        assert quarter.batch_size * 4 == reference.batch_size
        assert replace(quarter, batch_size=reference.batch_size, lr=reference.lr) == reference
        frozen = experiments.configs("gradient-noise", scale)[f"frozen-seed{seed}"]
        assert replace(frozen, noise_every=0) == reference and frozen.noise_every == 8


@pytest.mark.parametrize("scale, networks", [("demo", 2), ("small", 4), ("paper", 7)])
def test_the_sweep_is_a_grid_around_the_base_rate(scale, networks):
    configs = experiments.configs("sweep", scale).values()
    lrs = {0.4 * 2.0**k for k in range(-3, 4)}
    seeds = {1: 1, 5: 3}[experiments.SEEDS[scale]]
    assert (
        len({(c.architecture, c.lr, c.seed) for c in configs}) == networks * len(lrs) * seeds == len(configs)
    )
    assert {c.lr for c in configs} == lrs and len({c.architecture for c in configs}) == networks
    base = experiments.base(scale)
    epochs = 20 if scale == "paper" else 5
    for c in configs:
        same = replace(c, architecture=base.architecture, lr=base.lr, seed=0)
        assert same == replace(base, nesterov=True, epochs=epochs, peak_epoch=epochs / 5)


@pytest.mark.parametrize("scale", experiments.SCALES)
def test_lars_and_sgd_are_tuned_over_the_same_rates(scale):
    configs = experiments.configs("tuning", scale).values()
    by_optimizer = {
        o: {replace(c, optimizer="sgd") for c in configs if c.optimizer == o} for o in ("sgd", "lars")
    }
    assert by_optimizer["sgd"] == by_optimizer["lars"] and len(configs) == 8 * experiments.SEEDS[scale]
    swept = {replace(c, nesterov=False) for c in experiments.configs("sweep", scale).values()}
    assert {c for c in by_optimizer["sgd"] if c.seed < 3} <= swept


def test_steps_are_kept_where_something_is_taken_from_them():
    kept = {
        (e, config.seed): experiments.steps_kept(e, config)
        for e in experiments.EXPERIMENTS
        for config in experiments.configs(e, "paper").values()
    }
    assert {e for (e, seed), every in kept.items() if every == 1} == {"dynamics", "lars"}
    assert {(e, seed) for (e, seed), every in kept.items() if every == 4} == {
        ("batch-size", s) for s in range(3)
    }
    assert all(kept[e, 0] == 0 for e in ("sweep", "tuning", "gradient-noise"))
    assert kept["dynamics", 2] == 1 and kept["dynamics", 3] == 0


@pytest.mark.parametrize(
    "call", [lambda: experiments.base("huge"), lambda: experiments.configs("dynamics", "huge")]
)
def test_an_unknown_scale_is_named(call):
    with pytest.raises(ValueError, match="scale='huge' is not known; it must be one of demo, small, paper"):
        call()


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match="experiment='dynamic' is not known; it must be one of dynamics"):
        experiments.configs("dynamic", "demo")
