import numpy as np
import pytest
import torch
from torch import nn

from lib.optimizers import SGD
from lib.probes import AVERAGE_DECAY, QUANTITIES, WeightProbe


def measured(make_optimizer, fetch_after, seed=0):
    """Rows of the probe over some steps of a small model, and the same by plain float64 products."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    weights = [model[0].weight, model[3].weight]
    optimizer = make_optimizer(model.parameters())
    probe = WeightProbe(weights, steps=max(fetch_after))
    average = [np.zeros(w.shape) for w in weights]
    fetched, expected = [], []
    for steps in fetch_after:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(5, 2, 4, 4)).square().mean().backward()
            w = [p.detach().double().numpy().copy() for p in weights]
            g = [p.grad.double().numpy().copy() for p in weights]
            probe.before_step()
            optimizer.step()
            probe.after_step()
            update = [p.detach().double().numpy() - old for p, old in zip(weights, w, strict=True)]
            rows = zip(w, g, update, average, strict=True)
            expected.append(
                [[(w * w).sum(), (g * g).sum(), (w * g).sum(), (u * u).sum(), (g * v).sum(), (v * v).sum()]
                 for w, g, u, v in rows]
            )  # fmt: skip
            average = [0.9 * v + 0.1 * g for v, g in zip(average, g, strict=True)]
        fetched.append(probe.fetch())
    return fetched, np.array(expected)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: SGD(parameters, lr=0.3, momentum=0.9, weight_decay=0.01),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    ],
    ids=["SGD", "AdamW"],
)
def test_rows_are_those_of_plain_products(make_optimizer):
    fetched, expected = measured(make_optimizer, fetch_after=[3, 1, 4])
    assert [len(rows) for rows in fetched] == [3, 1, 4]
    rows = np.concatenate(fetched)
    assert rows.dtype == np.float32 and rows.shape == expected.shape == (8, 2, len(QUANTITIES))
    # a product of vectors is as exact as float32 makes the product of their norms
    scale = np.abs(expected)
    scale[..., 2] = np.sqrt(expected[..., 0] * expected[..., 1])
    scale[..., 4] = np.sqrt(expected[..., 1] * expected[..., 5])
    # an update is the difference of weights that float32 keeps to 6e-8 of their size
    scale[..., 3] += 0.01 * np.sqrt(expected[..., 0] * expected[..., 3])
    assert (np.abs(rows - expected) <= 1e-5 * scale).all()


def test_the_average_of_constant_gradients():
    """v_{t−1} = (1 − ρ^t) g, so that g·v_{t−1} = (1 − ρ^t)|g|²."""
    w = nn.Parameter(torch.zeros(4))
    probe = WeightProbe([w], steps=30)
    for _ in range(30):
        w.grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
        probe.before_step()
        probe.after_step()
    rows = dict(zip(QUANTITIES, probe.fetch()[:, 0].T, strict=True))
    share = 1 - AVERAGE_DECAY ** np.arange(30)
    np.testing.assert_allclose(rows["grad_dot_average"], 30 * share, rtol=1e-5)
    np.testing.assert_allclose(rows["average_norm_sq"], 30 * share**2, rtol=1e-5)
    assert (rows["update_norm_sq"] == 0).all()


def test_nothing_is_left_over_between_fetches():
    w = nn.Parameter(torch.ones(2))
    probe = WeightProbe([w], steps=2)
    w.grad = torch.ones(2)

    def step():
        probe.before_step()
        probe.after_step()

    step(), step()
    first = probe.fetch()
    kept = first.copy()
    assert probe.fetch().shape == (0, 1, len(QUANTITIES))
    w.data.fill_(5.0)
    step()
    assert probe.fetch()[:, 0, 0] == [50.0]
    np.testing.assert_array_equal(first, kept)  # what was fetched is the caller's


def test_probing_changes_neither_weights_nor_gradients():
    w = nn.Parameter(torch.randn(7))
    w.grad = torch.randn(7)
    before = w.detach().clone(), w.grad.clone()
    probe = WeightProbe([w], steps=1)
    probe.before_step()
    probe.after_step()
    assert torch.equal(w, before[0]) and torch.equal(w.grad, before[1])
