import json
import math
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from lib import config, models, paths
from lib.config import Config, layers_of, operations, parse_architecture
from lib.schedules import PiecewiseLinear

# a value for each setting that is not its default
OTHERS = {
    "dataset": "digits",
    "architecture": "backbone",
    "width": 8,
    "epochs": 25,
    "batch_size": 64,
    "optimizer": "lars",
    "lr": 0.8,
    "peak_epoch": 4.0,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 1e-3,
    "noise_every": 8,
    "hold_epoch": 16.0,
    "decay_follows_lr": True,
    "layers": "layer2",
    "layers_lr": 8.0,
    "layers_decay": 0.125,
    "init_scale": (4.0,),
    "clip": 1.25,
    "smoothing": 0.99,
    "lag": True,
    "overlap": (-0.1,),
    "averages": 8,
    "by_filter": True,
    "precision": "bf16",
    "seed": 1,
}
# what some mean nothing without
BESIDE = {
    "layers_lr": {"layers": "layer2"},
    "layers_decay": {"layers": "layer2"},
    "clip": {"smoothing": 0.9},
    "smoothing": {"optimizer": "lars"},
    "lag": {"optimizer": "lars"},
    "overlap": {"optimizer": "lars"},
}
LAYERWISE = {"init_scale": (0.5,) * 8, "overlap": (0.1,) * 8}
ADAM = {"layers": "convolutions", "layers_lr": 0.005, "layers_decay": 2000.0}


@pytest.mark.parametrize(
    "name, value",
    [
        *(("dataset", x) for x in ("mnist", "", "CIFAR10", 1, None)),
        *(
            ("architecture", x)
            for x in ("resnet18", "", "Residual", "Residual:", "Extra:L4", "backbone:L1", None)
        ),
        *(("optimizer", x) for x in ("adam", "SGD", "", None)),
        *(("precision", x) for x in ("fp16", "bfloat16", "", 16, None)),
        # one network has one name
        *(
            ("architecture", x)
            for x in ("Residual:L3+L1", "Residual:L1+L1", "residual:L1", "Residual:L1+", "Extra:l1")
        ),
        *((x, y) for x in ("width", "epochs", "batch_size") for y in (0, -1, 1.0, "8", True, None, math.nan)),
        *((x, y) for x in ("lr", "weight_decay") for y in (-0.1, math.nan, math.inf, "0.4", True, None)),
        *(("lr", x) for x in (0.0, 10**400)),
        *(("peak_epoch", x) for x in (0.0, -1.0, 24.0, 30.0, math.nan, math.inf, "5", True)),
        *(("momentum", x) for x in (1.0, 1.5, -0.1, math.nan, math.inf, "0.9", False)),
        *(("nesterov", x) for x in (1, 0, "yes", None)),
        *(("seed", x) for x in (-1, 2**63, 0.5, True, "0")),
    ],
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(ValueError) as error:
        Config(**{name: value})
    assert f"{name}={value!r}" in str(error.value)
    assert "must be" in str(error.value)  # what is allowed


@pytest.mark.parametrize("name, value", [("nesterov", True), ("weight_decay", 0.0)])
def test_what_lars_cannot_use_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} is not allowed.*optimizer='lars'"):
        Config(**{"optimizer": "lars", name: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov=True .* momentum above 0"):
        Config(nesterov=True, momentum=0.0)


@pytest.mark.parametrize(
    "setting",
    [{"lr": 1e-9}, {"momentum": 0.0}, {"weight_decay": 0.0}, {"seed": 2**63 - 1}, {"peak_epoch": 23.9}],
)
def test_the_last_good_value_is_good(setting):
    Config(**setting)


@pytest.mark.parametrize(
    "name, parsed",
    [
        ("backbone", ("", ())),
        ("Extra:L2", ("Extra", ("L2",))),
        ("Residual:L1+L3", ("Residual", ("L1", "L3"))),
        ("Residual:L1+L2+L3", ("Residual", ("L1", "L2", "L3"))),
    ],
)
def test_architecture_names(name, parsed):
    assert parse_architecture(name) == parsed


BRANCHES = ["+".join(layers) for n in (1, 2, 3) for layers in combinations(config.LAYERS, n)]
NETWORKS = ["backbone", *(f"{kind}:{layers}" for kind in ("Extra", "Residual") for layers in BRANCHES)]


@pytest.mark.parametrize("architecture", NETWORKS)
def test_layers_and_operations_are_those_of_the_network_that_is_built(architecture):
    model = models.build(architecture, width=3)
    weights = models.probed_weights(model)
    layers = layers_of(architecture, width=3)
    assert list(layers) == list(weights)
    assert [(c.channels_out, c.channels_in) for c in layers.values()] == [
        w.shape[:2] for w in weights.values()
    ]
    seen = {}  # in what each multiplies: numbers of the weight times pixels, and height of the image

    def look(module, inputs, output):
        x = inputs[0]
        pixels = output.shape[2:].numel()
        seen[id(module.weight)] = module.weight.numel() * pixels, x.shape[2] if x.ndim == 4 else 1

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(look)
    model(torch.randn(2, 3, 32, 32))
    counted = operations(architecture, width=3)
    for i, (name, weight) in enumerate(weights.items()):
        products, height = seen[id(weight)]
        assert layers[name].shrunk * height == 32
        # two for each product; the first passes no gradient on
        assert counted[name] == pytest.approx((2e-6 * products, 2e-6 * products * (3 if i else 2)))


def test_the_schedule_is_the_triangle():
    schedule = Config(lr=0.8, peak_epoch=6, epochs=30).lr_schedule
    assert [schedule(e) for e in (0, 3, 6, 18, 30)] == pytest.approx([0, 0.4, 0.8, 0.4, 0])


def test_a_stretched_run_has_the_same_schedule_in_proportion():
    run, longer = Config(lr=0.8), Config(lr=0.8).stretched(60)
    assert longer == Config(lr=0.8, epochs=60, peak_epoch=12.5)
    assert [longer.lr_schedule(2.5 * e) for e in range(25)] == pytest.approx(
        [run.lr_schedule(e) for e in range(25)]
    )


# These keys are part of the names of the recorded runs. If one changes, every record is orphaned:
# raise TRAINING_VERSION and record anew only when the meaning of a config has changed.
@pytest.mark.parametrize(
    "settings, key",
    [({}, "7674a781fc38"), ({"dataset": "digits", "width": 8, "batch_size": 64, "seed": 2}, "46cd13fda2ab")],
)
def test_the_key_is_stable(settings, key):
    assert Config(**settings).key == key


def test_the_key_depends_on_every_setting(monkeypatch):
    assert set(OTHERS) == {f.name for f in fields(Config)}
    keys = {Config().key} | {
        Config(**BESIDE.get(name, {}) | {name: value}).key for name, value in OTHERS.items()
    }
    assert len(keys) == len(OTHERS) + 1
    monkeypatch.setattr(config, "TRAINING_VERSION", config.TRAINING_VERSION + 1)
    assert Config().key not in keys


def test_a_setting_added_later_leaves_earlier_keys():
    @dataclass(frozen=True, kw_only=True)
    class Later(Config):
        label_smoothing: float = 0.0

    assert Later(lr=0.8).key == Config(lr=0.8).key != Later(lr=0.8, label_smoothing=0.1).key


@pytest.mark.parametrize("name, whole", [("lr", 4), ("momentum", 0), ("weight_decay", 0), ("peak_epoch", 4)])
def test_equal_configs_have_one_key(name, whole):
    as_int, as_float = Config(**{name: whole}), Config(**{name: float(whole)})
    assert as_int == as_float
    assert as_int.key == as_float.key


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            dataset="digits", width=8, epochs=25, hold_epoch=16.0, averages=8, by_filter=True, noise_every=8
        ),
        Config(lr=0.1 + 0.2, seed=2**63 - 1),
        Config(optimizer="lars", smoothing=0.99, lag=True, **LAYERWISE),
        Config(optimizer="adamw", **ADAM),
        Config(clip=1.25, smoothing=0.99, decay_follows_lr=True, precision="bf16"),
    ],
)
def test_json_round_trip(config):
    assert Config.from_json(config.to_json()) == config
    assert Config.from_json(config.to_json()).key == config.key


def test_every_record_has_the_key_that_its_settings_have_now():
    """Settings that were added since leave it as it is."""
    for path in (paths.BOOK / "records").rglob("*.parquet"):
        settings = json.loads(pq.read_schema(path).metadata[b"run.config"])
        assert path.stem.endswith(Config.from_json(json.dumps(settings)).key), path


def test_the_defaults_of_variants_are_the_old_behaviour():
    old = {"lr": 0.8, "peak_epoch": 6, "epochs": 30}
    assert Config(**old).lr_schedule == PiecewiseLinear((0.0, 6.0, 30.0), (0.0, 0.8, 0.0))
    assert (Config(**old).weight_decay_schedule(np.arange(31)) == 5e-4).all()


def test_a_held_rate_stays_at_its_peak():
    schedule = Config(peak_epoch=2, hold_epoch=16).lr_schedule
    assert [schedule(e) for e in (1, 2, 9, 16, 20, 24)] == pytest.approx([0.2, 0.4, 0.4, 0.4, 0.2, 0])
    longer = Config(peak_epoch=2, hold_epoch=16).stretched(48)
    assert (longer.peak_epoch, longer.hold_epoch) == (4.0, 32.0)


@pytest.mark.parametrize("held", [{}, {"hold_epoch": 16.0}])
def test_decay_that_follows_falls_as_the_rate_does(held):
    run = Config(decay_follows_lr=True, weight_decay=0.002, **held)
    before, after = np.linspace(0, run.fall_epoch, 50), np.linspace(run.fall_epoch, 24, 50)
    np.testing.assert_allclose(run.weight_decay_schedule(before), 0.002)
    np.testing.assert_allclose(
        run.weight_decay_schedule(after), 0.002 * run.lr_schedule(after) / 0.4, atol=1e-18
    )


@pytest.mark.parametrize(
    "name, settings",
    [
        ("hold_epoch", {"hold_epoch": 4.0}),
        ("hold_epoch", {"hold_epoch": 24.0}),
        ("layers", {"layers": "layer4"}),
        ("layers", {"layers": "layer2.res1"}),  # which the network has not
        ("layers", {"layers": "convolutions", "optimizer": "lars"}),
        ("layers", {"optimizer": "adamw"}),
        ("layers", {"optimizer": "adam", "layers": "layer2"}),
        ("layers_lr", {"layers_lr": 8.0}),
        ("layers_decay", {"layers_decay": 0.0}),
        ("layers_lr", {"layers": "layer2", "layers_lr": -1.0}),
        ("init_scale", {"init_scale": (1.0, 2.0)}),
        ("init_scale", {"init_scale": (0.0,)}),
        ("init_scale", {"init_scale": ()}),
        ("init_scale", {"init_scale": 4.0}),
        ("init_scale", {"init_scale": (math.inf,)}),
        ("clip", {"clip": -1.0, "smoothing": 0.9}),
        ("clip", {"clip": 1.25, "smoothing": 0.99, "optimizer": "lars"}),
        ("clip", {"clip": 1.25, "smoothing": 0.99, "layers": "layer2"}),
        ("smoothing", {"smoothing": 0.99}),
        ("smoothing", {"clip": 1.25}),
        ("smoothing", {"smoothing": 1.0, "optimizer": "lars"}),
        ("lag", {"lag": True}),
        ("overlap", {"overlap": (-0.1,)}),
        ("overlap", {"overlap": (-0.56,), "optimizer": "lars"}),  # 1 + 2ρo is below 0
        ("decay_follows_lr", {"decay_follows_lr": True, "optimizer": "lars"}),
        ("nesterov", {"nesterov": True, "optimizer": "adamw", **ADAM}),
        ("averages", {"averages": -1}),
    ],
)
def test_variants_that_mean_nothing_are_named(name, settings):
    with pytest.raises(ValueError, match=f"^{name}=.* is not allowed; it must be "):
        Config(**settings)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="warmup"):
        Config.from_json(json.dumps({"lr": 0.4, "warmup": 5}))


def test_a_config_is_frozen_and_hashable():
    assert {Config(), Config()} == {Config()}
    with pytest.raises(AttributeError):
        Config().lr = 1.0
