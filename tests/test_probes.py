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


def with_gradient(*shape, dtype=torch.float32, value=1.0):
    w = nn.Parameter(torch.ones(*shape, dtype=dtype))
    w.grad = torch.full_like(w, value)
    return w


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (nn.Parameter(torch.ones(2, 3)), TypeError, "weights is a Parameter; it must be a list"),
        ({"a": nn.Parameter(torch.ones(2))}, TypeError, "weights is a dict; it must be a list"),
        ([], ValueError, "0 weights were given"),
        ([nn.Parameter(torch.ones(2))] * 2, ValueError, "none of them twice"),
    ],
)
def test_what_is_no_list_of_weights_is_refused(weights, error, message):
    with pytest.raises(error, match=message):
        WeightProbe(weights, steps=1)


def test_calls_that_do_not_bracket_a_step_are_refused():
    w = with_gradient(2)
    probe, optimizer = WeightProbe([w], steps=3), torch.optim.SGD([w], lr=0.1)
    with pytest.raises(RuntimeError, match=r"after_step\(\) needs a before_step"):
        probe.after_step()
    optimizer.step()
    probe.before_step()  # both after the step
    with pytest.raises(RuntimeError, match=r"before_step\(\) was called twice"):
        probe.before_step()
    probe.after_step()
    optimizer.step()
    with pytest.raises(RuntimeError, match="the weights moved, but not between"):
        probe.before_step()


def test_a_step_that_was_skipped_is_no_mistake():
    w = with_gradient(2)
    probe, optimizer = WeightProbe([w], steps=3), torch.optim.SGD([w], lr=0.1)
    for steps in (1, 0, 1):
        probe.before_step()
        for _ in range(steps):
            optimizer.step()
        probe.after_step()
    updates = probe.fetch()[:, 0, QUANTITIES.index("update_norm_sq")]
    np.testing.assert_allclose(updates, [0.02, 0, 0.02], rtol=1e-5)


def test_more_steps_than_there_is_room_for_are_refused():
    probe = WeightProbe([with_gradient(2)], steps=1)
    probe.before_step(), probe.after_step()
    with pytest.raises(RuntimeError, match="room for 1 steps; call fetch"):
        probe.before_step()
    assert len(probe.fetch()) == 1
    probe.before_step()


def test_a_weight_without_gradient_is_named():
    probe = WeightProbe([with_gradient(2), nn.Parameter(torch.ones(3, 4))], steps=1)
    with pytest.raises(ValueError, match=r"weights\[1\], of shape \(3, 4\), has no gradient"):
        probe.before_step()


@pytest.mark.parametrize("overflow", [float("inf"), float("nan")])
def test_an_overflowed_step_does_not_reach_the_average(overflow):
    w, other = with_gradient(4), with_gradient(4)
    probe = WeightProbe([w, other], steps=4)
    for value in (1.0, overflow, 1.0, 1.0):
        w.grad = torch.full_like(w, value)
        probe.before_step(), probe.after_step()
    rows = dict(zip(QUANTITIES, np.moveaxis(probe.fetch(), -1, 0), strict=True))
    assert np.isfinite(rows["grad_norm_sq"]).tolist() == [[True] * 2, [False, True], [True] * 2, [True] * 2]
    decay = AVERAGE_DECAY ** np.array([[0, 0], [1, 1], [1, 2], [2, 3]])
    np.testing.assert_allclose(rows["average_norm_sq"], 4 * (1 - decay) ** 2, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_do_not_overflow(dtype):
    w = with_gradient(300, dtype=dtype, value=3e4)
    probe, optimizer = WeightProbe([w], steps=1), torch.optim.SGD([w], lr=1.0)
    probe.before_step()
    optimizer.step()
    probe.after_step()
    value = float(w.grad[0])
    expected = [300, 300 * value**2, 300 * value, 300 * value**2, 0, 0]
    np.testing.assert_allclose(probe.fetch()[0, 0], expected, rtol=1e-2)
