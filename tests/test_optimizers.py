import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import models
from lib.optimizers import SGD

FORMS = [dict(momentum=0), dict(momentum=0.9), dict(momentum=0.9, nesterov=True)]


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in [(4, 3), (5,), (2, 3, 2), ()]]


@pytest.mark.parametrize("weight_decay", [0, 0.05])
@pytest.mark.parametrize("form", FORMS)
def test_steps_are_those_of_torch(form, weight_decay):
    ours, theirs = ([nn.Parameter(t) for t in tensors()] for _ in range(2))
    pair = [(SGD(ours, lr=0.1, weight_decay=weight_decay, **form), ours)]
    pair += [(torch.optim.SGD(theirs, lr=0.1, weight_decay=weight_decay, **form), theirs)]
    for step in range(100):
        for optimizer, weights in pair:
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.sin(step))
            for w, g in zip(weights, tensors(seed=step), strict=True):
                w.grad = g
            weights[1].grad = None if step % 3 else weights[1].grad  # sometimes without a gradient
            optimizer.step()
            for w, g in zip(weights, tensors(seed=step), strict=True):
                assert w.grad is None or torch.equal(w.grad, g), "a probe reads gradients after the step"
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_a_parameter_without_gradient_stays(form):
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = SGD([used, unused], lr=0.1, weight_decay=0.1, **form)
    used.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(unused, torch.ones(3)) and unused not in optimizer.state
    assert not torch.equal(used, torch.ones(3))


@pytest.mark.parametrize(
    "name, value",
    [
        *(("lr", x) for x in (-1.0, math.nan)),
        *(("momentum", x) for x in (-0.1, 1.0, math.nan)),
        *(("weight_decay", x) for x in (-0.1, math.nan)),
        ("nesterov", True),
    ],
)
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        SGD([nn.Parameter(torch.ones(1))], **{"lr": 0.1, name: value})


@pytest.mark.parametrize("form", FORMS)
def test_state_dict_round_trip(form):
    def steps(optimizer, weights, seeds):
        for seed in seeds:
            for w, g in zip(weights, tensors(seed), strict=True):
                w.grad = g
            optimizer.step()

    weights = [nn.Parameter(t) for t in tensors()]
    optimizer = SGD(weights, lr=0.1, weight_decay=0.1, **form)
    steps(optimizer, weights, range(3))
    resumed = [nn.Parameter(w.detach().clone()) for w in weights]
    other = SGD(resumed, lr=9.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for o, ws in [(optimizer, weights), (other, resumed)]:
        steps(o, ws, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(weights, resumed, strict=True))


def test_a_closure_is_called_with_gradients_on():
    w = nn.Parameter(torch.tensor(2.0))
    optimizer = SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = w**2
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4.0
    assert w == 1.0  # 2 − ¼·4


def test_equations_1_and_2_hold_for_a_step_of_the_network():
    """Δ|w|² = −2λα|w|² + λ²|g|² + (λα)²|w|² at ρ = 0 in every convolution, not in the classifier."""
    torch.manual_seed(0)
    lr, weight_decay = 4.0, 5e-4
    model = models.build("Residual:L1+L3", width=4).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30  # without it (torch wants one above 0) the scale-invariance is exact
    F.cross_entropy(model(torch.randn(32, 3, 32, 32).double()), torch.randint(10, (32,))).backward()
    weights = models.probed_weights(model)
    before = {name: w.detach().square().sum() for name, w in weights.items()}
    SGD(model.parameters(), lr=lr, weight_decay=weight_decay).step()
    for name, w in weights.items():
        change = w.detach().square().sum() - before[name]
        shrinkage, growth = 2 * lr * weight_decay * before[name], lr**2 * w.grad.square().sum()
        expected = growth - shrinkage + (lr * weight_decay) ** 2 * before[name]
        assert (abs(change - expected) < 1e-10 * growth) == (name != "classifier"), name
