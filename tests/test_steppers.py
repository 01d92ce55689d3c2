"""Which optimiser moves which weight, at which rate and decay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import models, optimizers, steppers, theory, training
from lib.config import CLASSIFIER, Config

BASE = Config(dataset="digits", width=1, epochs=6, peak_epoch=1.5, batch_size=500)
LRS = BASE.lr_schedule((np.arange(72) + 0.5) / 12).reshape(6, 12)
ADAM = dict(layers="convolutions", layers_lr=0.005, layers_decay=2000.0)
VARIANTS = {
    "sgd": {},
    "lars": dict(optimizer="lars"),
    "lars by layer": dict(optimizer="lars", lag=True, overlap=(-0.1, -0.2, *(0.1,) * 6)),
    "smoothed": dict(optimizer="lars", smoothing=0.9),
    "clipped": dict(clip=1.25, smoothing=0.99),
    "one layer": dict(layers="layer2", layers_lr=8.0, layers_decay=0.125),
    "classifier": dict(layers=CLASSIFIER, layers_lr=2.0),
    "convolutions": dict(layers="convolutions", layers_decay=0.0),
    "adamw": dict(optimizer="adamw", **ADAM),
    "adam": dict(optimizer="adam", **ADAM),
    "decay follows": dict(decay_follows_lr=True, hold_epoch=4.0),
}


def stepped(**settings):
    """The network of a config, and what moves it."""
    config = replace(BASE, **settings)
    model = training.build(config, "cpu")
    lrs = config.lr_schedule((np.arange(72) + 0.5) / 12).reshape(6, 12)
    return model, steppers.of(model, config, lrs)


def settings_of(weight, some) -> dict[str, np.ndarray]:
    """Those that move a weight; fails unless one optimiser does."""
    (found,) = [s for s in some if any(w is weight for g in s.optimizer.param_groups for w in g["params"])]
    return found.settings


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_is_moved_by_one_optimiser(settings):
    model, some = stepped(**settings)
    moved = [id(w) for s in some for group in s.optimizer.param_groups for w in group["params"]]
    assert sorted(moved) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_settings_of_a_step_are_those_of_the_schedule(settings):
    _, some = stepped(**settings)
    for stepper in some:
        stepper.at(2).set(5)
        for name, values in stepper.settings.items():
            assert values.shape == (6, 12)
            assert {group[name] for group in stepper.optimizer.param_groups} == {values[2, 5]}


def test_the_others_have_the_base_runs_settings():
    for settings in VARIANTS.values():
        model, some = stepped(**settings)
        norm = settings_of(next(p for p in model.parameters() if p.dim() == 1), some)
        if "decay_follows_lr" not in settings:
            np.testing.assert_allclose(norm["lr"], LRS)
            np.testing.assert_allclose(norm["weight_decay"], 5e-4)


def test_layers_of_their_own_have_their_share_of_the_rate_and_decay():
    model, some = stepped(**VARIANTS["one layer"])
    weights = models.probed_weights(model)
    own, other = (settings_of(weights[layer], some) for layer in ("layer2", "layer1"))
    np.testing.assert_allclose(own["lr"], 8 * other["lr"])
    np.testing.assert_allclose(own["weight_decay"], other["weight_decay"] / 8)


def test_decay_that_follows_is_that_of_each_step():
    model, some = stepped(**VARIANTS["decay follows"])
    found = settings_of(next(model.parameters()), some)
    falling = (np.arange(72) + 0.5).reshape(6, 12) > 4 * 12
    np.testing.assert_allclose(found["weight_decay"][falling], 5e-4 * found["lr"][falling] / 0.4)
    np.testing.assert_allclose(found["weight_decay"][~falling], 5e-4)


def test_lars_lags_as_sgd_does_while_the_rate_falls():
    model, some = stepped(optimizer="lars", lag=True)
    rates = settings_of(next(iter(models.scale_invariant_weights(model).values())), some)["lr"].ravel()
    plain = theory.equilibrium_ratio(lr=LRS.ravel(), weight_decay=5e-4, momentum=0.9)
    left = 72 - np.arange(72) - 0.5
    s = left * np.sqrt(2 * 5e-4 * 0.4 / (54 * 0.1))  # over √(T(1−ρ)/(2αλ)), T of 4.5 epochs
    lag = (1 + np.sqrt(np.pi) / 2 * theory.erfcx(s) / s) ** -0.5
    np.testing.assert_allclose(rates, plain * np.where(left < 54, lag, 1), rtol=1e-12)


def test_lars_turns_each_layer_by_its_own_overlap():
    overlap = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
    model, some = stepped(optimizer="lars", overlap=overlap)
    plain = theory.equilibrium_ratio(lr=LRS, weight_decay=5e-4, momentum=0.9)
    for w, o in zip(models.scale_invariant_weights(model).values(), overlap, strict=True):
        np.testing.assert_allclose(settings_of(w, some)["lr"], plain / np.sqrt(1 + 1.8 * o), rtol=1e-12)


@pytest.mark.parametrize("name, kind", [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_adam_is_torchs(name, kind):
    model, some = stepped(**VARIANTS[name])
    assert type(some[0].optimizer) is kind and some[0].optimizer.defaults["betas"] == (0.9, 0.999)
    found = settings_of(next(iter(models.scale_invariant_weights(model).values())), some)
    np.testing.assert_allclose(found["lr"], 0.002 * LRS / 0.4)
    np.testing.assert_allclose(found["weight_decay"], 1.0)


def test_clipping_has_the_settings_of_the_run():
    _, some = stepped(**VARIANTS["clipped"])
    clipped = some[0].optimizer
    assert (type(clipped), clipped.clip, clipped.decay) == (optimizers.ClippedSGD, 1.25, 0.99)
    _, some = stepped(**VARIANTS["smoothed"])
    assert some[0].optimizer.defaults["smoothing"] == 0.9


@pytest.mark.parametrize("scale", [(16.0,), (0.5, 1, 2, 3, 4, 5, 6, 7.0)])
def test_initial_convolutions_are_scaled_and_nothing_else(scale):
    usual, scaled = (training.build(replace(BASE, init_scale=s), "cpu") for s in ((1.0,), scale))
    factors = dict(zip(models.scale_invariant_weights(usual), np.broadcast_to(scale, 8), strict=True))
    names = {id(w): name for name, w in models.probed_weights(scaled).items()}
    for old, new in zip(usual.parameters(), scaled.parameters(), strict=True):
        factor = factors.get(names.get(id(new)), 1.0)
        torch.testing.assert_close(new, old * factor)
