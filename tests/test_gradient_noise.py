import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, assert_same_run
from torch.nn import functional as F

from lib import data, gradient_noise, models
from lib.run import NOISE_COLUMNS
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
    assert set(found["batch_size"]) == {100, 250}  # more images than 600 there are not
    images, labels = augment(digits, shown[0]), shown[0].label
    assert len(images) == 600
    norms = []
    for start in (0, 250):  # the hundred images left over make no batch
        plain = copy.deepcopy(model).train()
        F.cross_entropy(plain(images[start : start + 250]), labels[start : start + 250]).backward()
        norms.append(float(plain.layer2.conv.weight.grad.norm()) ** 2)
    row = found[(found["batch_size"] == 250) & (found["layer"] == "layer2")]
    assert row["grad_norm_sq"].item() == pytest.approx(np.mean(norms), rel=1e-5)


def test_the_model_is_left_as_it_is(few, digits, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_noise.measure(model.eval(), digits, 0, 0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training and all(w.grad is None for w in model.parameters())


def test_seed_and_epoch_choose_the_images(few, digits, model):
    tables = [gradient_noise.measure(model, digits, *at) for at in ((0, 0), (0, 0), (1, 0), (0, 1))]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert len({t["grad_norm_sq"].sum() for t in tables}) == 3


def test_a_run_measures_it_at_the_start_and_after_so_many_epochs(few):
    asked = train(replace(TINY, noise_every=2))
    assert list(asked.noise["epoch"].unique()) == [0, 2, 4]
    assert list(train(replace(TINY, noise_every=3)).noise["epoch"].unique()) == [0, 3]
    plain = train(TINY)
    assert plain.noise.empty
    assert_same_run(replace(asked, config=TINY, noise=plain.noise), plain)  # looking changes nothing
