from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LAYERS, TINY, recordable_run

from lib import gradient_noise
from lib.results import ghosts
from lib.run import NOISE_COLUMNS

SIZES = (32, 64, 128, 256, 512, 1024, 2048)


def table(mean_sq, variance):
    """Checkpoints at which E|g_N|² = |ḡ|² + V(N)/N, and products of batches are |ḡ|²."""
    rows = [
        (epoch, n, layer, mean_sq + variance(n) / n, mean_sq)
        for epoch in (0, 8, 16, 24)
        for n in SIZES
        for layer in LAYERS
    ]
    noise = pd.DataFrame(rows, columns=list(NOISE_COLUMNS))
    return noise.assign(layer=pd.Categorical(noise["layer"], categories=LAYERS, ordered=True))


def frozen(mean_sq, variance, seed=0, **changes):
    run = recordable_run(replace(TINY, epochs=24, batch_size=512, noise_every=8, seed=seed))
    noise = table(mean_sq, variance).astype({"layer": str}).assign(**changes)
    return replace(run, noise=noise)


@pytest.mark.parametrize("mean_sq", [0, 0.01])
def test_without_batch_norm_ghost_groups_have_the_slope_of_whole_batches(mean_sq):
    found = ghosts.slopes(table(mean_sq, lambda n: 5.0))
    assert np.allclose(found["ghost"], found["slope"]) and np.allclose(found["variance"], 1)
    assert (found["slope"] > -0.5).all() if mean_sq else np.allclose(found["slope"], -0.5)


def test_a_variance_that_falls_with_the_batch_steepens_whole_batches_alone():
    found = ghosts.slopes(table(0, lambda n: n**-0.04))
    assert np.allclose(found["slope"], -0.52) and np.allclose(found["ghost"], -0.5)
    assert np.allclose(found["variance"], (2048 / 32) ** -0.04)


def test_averages_of_groups_are_as_long_as_their_products_say():
    """Gradients drawn with a mean and noise, averaged group by group: an oracle that knows no product."""
    random = np.random.default_rng(0)
    groups = 0.3 + random.standard_normal((4096, 50))
    norm_sq, product = (x[0] for x in gradient_noise._moments((torch.tensor(g),) for g in groups))
    for k in (1, 2, 16, 64):
        direct = (groups.reshape(-1, k, 50).mean(axis=1) ** 2).sum(axis=1).mean()
        assert product + (norm_sq - product) / k == pytest.approx(direct, rel=0.03)


def test_a_mean_square_below_zero_has_no_slope():
    noise = table(0, lambda n: 5.0).assign(grad_product=-1.0)
    assert ghosts.slopes(noise)["ghost"].isna().all()


@pytest.mark.parametrize("measured", [True, False])
def test_the_critical_batch_is_where_signal_and_noise_are_equal(measured):
    products = {} if measured else {"grad_product": np.nan}
    runs = [frozen(0.01, lambda n: 5.0, seed, **products) for seed in range(2)]
    assert ghosts.critical_batches(runs).to_dict() == pytest.approx(
        {layer: 500 for layer in LAYERS[:2]}, rel=1e-3
    )
    found = ghosts.numbers(runs)
    assert found["critical_median"] == "500" and ("products" in found["critical_how"]) is measured
    assert (found["ghosts"] == ghosts.NOT_MEASURED) is not measured


def test_of_products_below_zero_there_is_no_critical_batch():
    run = frozen(0.01, lambda n: 5.0, grad_product=-1e-9)
    assert np.isinf(ghosts.critical_batches([run])).all()
    assert ghosts.numbers([run])["critical_median"] == "none at all"


@pytest.mark.parametrize(
    "mean_sq, variance, conclusion",
    [
        (0, lambda n: n**-0.04, "it is batch norm that makes"),
        (0.001, lambda n: 1.0, "left to explain"),
        (-1e-5, lambda n: 1.0, "something else than batch norm's groups"),
    ],
)
def test_the_conclusion_follows_the_numbers(mean_sq, variance, conclusion):
    text = ghosts.numbers([frozen(mean_sq, variance)])["ghosts"]
    assert conclusion in text and "nan" not in text
    assert ("below −½, −0.520 in the mean, averages of groups have −0.500" in text) is (
        "it is batch norm" in text
    )
