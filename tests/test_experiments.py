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


@pytest.mark.parametrize(
    "call", [lambda: experiments.base("huge"), lambda: experiments.configs("dynamics", "huge")]
)
def test_an_unknown_scale_is_named(call):
    with pytest.raises(ValueError, match="scale='huge' is not known; it must be one of demo, small, paper"):
        call()


def test_an_unknown_experiment_is_named():
    with pytest.raises(ValueError, match="experiment='dynamic' is not known; it must be one of dynamics"):
        experiments.configs("dynamic", "demo")
