import copy
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, assert_same_run, few_images
from torch.nn import functional as F

from lib import data, gradient_noise, models
from lib.run import FILTER_COLUMNS, NOISE_COLUMNS
from lib.training import train


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("Residual:L1+L3", width=2)


@pytest.fixture
def few(monkeypatch):
    """Less work than the book does."""
    monkeypatch.setattr(gradient_noise, "IMAGES", 600)
    monkeypatch.setattr(gradient_noise, "BATCH_SIZES", (100, 250, 2000))


def test_it_is_the_mean_over_whole_batches(monkeypatch, few, digits, model):
    shown = []
    augment = data.augment
    monkeypatch.setattr(data, "augment", lambda *a: shown.append(a[1]) or augment(*a))
    found = gradient_noise.measure(model, digits, epoch=3, seed=7)
    assert list(found) == list(NOISE_COLUMNS) and set(found["epoch"]) == {3}
    assert set(found["batch_size"]) == {100, 250}  # two batches of more there are not
    images, labels = augment(digits, shown[0]), shown[0].label
    assert len(images) == 600
    # the hundred images left over make no batch of 250
    grads = {n: [grad_of(model, images, labels, i, n) for i in range(600 // n)] for n in (100, 250)}
    for n, of_size in grads.items():
        row = found[(found["batch_size"] == n) & (found["layer"] == "layer2")]
        assert row["grad_norm_sq"].item() == pytest.approx(
            np.mean([(g * g).sum() for g in of_size]), rel=1e-5
        )
        products = [(a * b).sum() for a, b in itertools.combinations(of_size, 2)]
        assert row["grad_product"].item() == pytest.approx(np.mean(products), rel=1e-4)


def grad_of(model, images, labels, batch, size):
    """The gradient of layer2 that a batch gives, in double precision."""
    plain = copy.deepcopy(model).train()
    part = slice(batch * size, (batch + 1) * size)
    F.cross_entropy(plain(images[part]), labels[part]).backward()
    return plain.layer2.conv.weight.grad.double().numpy()


def test_products_of_batches_find_the_mean_gradient_below_the_noise():
    """A thousand batches whose noise is a hundred times as large as what they share."""
    random = np.random.default_rng(0)
    shared, noise = 0.1, 1.0
    drawn = [
        torch.tensor(shared + noise * random.standard_normal(400), dtype=torch.float32) for _ in range(1000)
    ]
    norm_sq, product = gradient_noise._moments((g,) for g in drawn)
    assert norm_sq[0] == pytest.approx(400 * (shared**2 + noise**2), rel=0.01)
    assert product[0] == pytest.approx(400 * shared**2, rel=0.1)


def test_filters_are_measured_each_by_itself(monkeypatch, few, digits, model):
    shown = []
    augment = data.augment
    monkeypatch.setattr(data, "augment", lambda *a: shown.append(a[1]) or augment(*a))
    found = gradient_noise.measure_filters(model, digits, epoch=3, seed=7, batch_size=250)
    assert list(found) == list(FILTER_COLUMNS) and set(found["epoch"]) == {3}
    filters = found.groupby("layer", sort=False)["filter"].agg(list)
    assert filters.to_dict() == {n: list(range(len(w))) for n, w in models.probed_weights(model).items()}
    images, labels = augment(digits, shown[0]), shown[0].label
    grads = [grad_of(model, images, labels, i, 250)[3].ravel() for i in range(2)]
    w = model.layer2.conv.weight[3].detach().double().numpy().ravel()
    row = found[(found["layer"] == "layer2") & (found["filter"] == 3)].iloc[0]
    assert row["weight_norm_sq"] == pytest.approx(w @ w, rel=1e-5)
    assert row["grad_norm_sq"] == pytest.approx(np.mean([g @ g for g in grads]), rel=1e-4)
    cosine = max(abs(w @ g) / np.sqrt(w @ w * (g @ g)) for g in grads)
    assert row["cosine"] == pytest.approx(cosine, abs=1e-4)  # a rounding error


def test_every_filter_is_at_a_right_angle_to_its_gradient_but_the_classifiers(few, digits, model):
    found = gradient_noise.measure_filters(model, digits, 0, 0, batch_size=250)
    largest = found.groupby(found["layer"] == "classifier")["cosine"].agg(["min", "max"])
    assert largest.loc[False, "max"] < 2e-3 < largest.loc[True, "min"]


def test_a_filter_that_nothing_reaches_has_no_angle(few, digits, model):
    with torch.no_grad():
        model.layer2.bn.weight[3] = model.layer2.bn.bias[3] = 0
    found = gradient_noise.measure_filters(model, digits, 0, 0, batch_size=250)
    row = found[(found["layer"] == "layer2") & (found["filter"] == 3)].iloc[0]
    assert row["grad_norm_sq"] == 0 and row["cosine"] == 0


def test_the_model_is_left_as_it_is(few, digits, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_noise.measure(model.eval(), digits, 0, 0)
    gradient_noise.measure_filters(model, digits, 0, 0, batch_size=250)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training and all(w.grad is None for w in model.parameters())


def test_seed_and_epoch_choose_the_images(few, digits, model):
    tables = [gradient_noise.measure(model, digits, *at) for at in ((0, 0), (0, 0), (1, 0), (0, 1))]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert len({t["grad_norm_sq"].sum() for t in tables}) == 3


def test_a_run_measures_it_at_the_start_and_after_so_many_epochs(monkeypatch):
    few_images(monkeypatch)
    monkeypatch.setattr(gradient_noise, "IMAGES", 160)
    monkeypatch.setattr(gradient_noise, "BATCH_SIZES", (80,))
    config = replace(TINY, batch_size=40)
    asked = train(replace(config, noise_every=2))
    assert list(asked.noise["epoch"].unique()) == [0, 2, 4] == list(asked.frozen_filters["epoch"].unique())
    assert list(train(replace(config, noise_every=3)).noise["epoch"].unique()) == [0, 3]
    plain = train(config)
    assert plain.noise.empty and plain.frozen_filters.empty
    assert_same_run(
        replace(asked, config=config, noise=plain.noise, frozen_filters=plain.frozen_filters), plain
    )  # looking changes nothing
