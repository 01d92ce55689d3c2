import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import models
from lib.optimizers import LARS, SGD, ClippedSGD

FORMS = [dict(momentum=0), dict(momentum=0.9), dict(momentum=0.9, nesterov=True)]


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in [(4, 3), (5,), (2, 3, 2), ()]]


def take_steps(optimizer, weights, seeds):
    """A step for each seed, along random gradients."""
    for seed in seeds:
        for w, g in zip(weights, tensors(seed), strict=True):
            w.grad = g
        optimizer.step()


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


def by_hand(optimizer, weights, seeds):
    """Runs an optimiser over random gradients and changing λ, and one weight at a time by its formula."""
    plain = [w.detach().clone() for w in weights]
    buffers = [torch.zeros_like(w) for w in weights]
    for seed in seeds:
        lr = optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.sin(seed))
        grads = tensors(seed)
        for w, g in zip(weights, grads, strict=True):
            w.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(w.grad, g) for w, g in zip(weights, grads, strict=True))
        yield lr, list(zip(plain, grads, buffers, strict=True))
    torch.testing.assert_close([w.detach() for w in weights], plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_decoupled_decay_is_outside_momentum(momentum, nesterov):
    weights = [nn.Parameter(t) for t in tensors()]
    settings = dict(momentum=momentum, nesterov=nesterov, weight_decay=0.05, decoupled=True)
    for lr, layers in by_hand(SGD(weights, lr=1.0, **settings), weights, range(30)):
        for w, g, v in layers:
            v.mul_(momentum).add_(g)
            w.mul_(1 - lr * 0.05).sub_(lr * (g + momentum * v if nesterov else v))


def test_without_momentum_decay_is_the_same_coupled_or_not():
    pairs = [[nn.Parameter(t) for t in tensors()] for _ in range(2)]
    for weights, decoupled in zip(pairs, (False, True), strict=True):
        take_steps(SGD(weights, lr=0.3, weight_decay=0.1, decoupled=decoupled), weights, [1])
    torch.testing.assert_close(*pairs, rtol=1e-14, atol=1e-15)


def norms_of_filters(t):
    """The norm of each output filter, at each of its weights; a vector is one filter."""
    rows = t.reshape(t.shape[0], -1) if t.ndim > 1 else t.reshape(1, -1)
    return rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(t.shape)


def lars_step(form, w, g, v, lr, momentum, weight_decay):
    if form == "post":
        v.mul_(momentum).add_(g * w.norm() / g.norm())
        w.sub_(lr * v)
    elif form == "page":
        d = lr * norms_of_filters(w) / (norms_of_filters(g) + 0.01) * (g + weight_decay * w)
        v.mul_(momentum).add_(d)
        w.sub_(d + momentum * v)
    else:
        local = 0.02 * w.norm() / (g.norm() + weight_decay * w.norm())
        v.mul_(momentum).add_(lr * local * (g + weight_decay * w))
        w.sub_(v)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form, weight_decay", [("post", 0), ("page", 0.05), ("you", 0.05), ("you", 0)])
def test_lars_is_each_published_form(form, weight_decay, momentum):
    weights = [nn.Parameter(t) for t in tensors()]
    optimizer = LARS(weights, lr=1.0, momentum=momentum, weight_decay=weight_decay, form=form, trust=0.02)
    for lr, layers in by_hand(optimizer, weights, range(30)):
        for w, g, v in layers:
            lars_step(form, w, g, v, lr, momentum, weight_decay)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_posts_lars_is_another_librarys(momentum):
    """Trust 1 and no decay; λ changes, which tells a buffer with λ inside from one without."""
    from pytorch_optimizer import LARS as OtherLARS  # here, as all of its optimisers take a second to load

    def matrices(seed=0):
        return [t for t in tensors(seed) if t.dim() > 1]  # the other library leaves vectors unscaled

    ours, theirs = ([nn.Parameter(t) for t in matrices()] for _ in range(2))
    pair = [(LARS(ours, lr=0.1, momentum=momentum), ours)]
    pair += [(OtherLARS(theirs, lr=0.1, momentum=momentum, trust_coefficient=1.0), theirs)]
    for step in range(100):
        for optimizer, weights in pair:
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.sin(step))
            for w, g in zip(weights, matrices(seed=step), strict=True):
                w.grad = g
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_step_of_lars_is_its_rate_times_the_weight_whatever_the_gradient(scale):
    weights = [nn.Parameter(t) for t in tensors()]
    before = [w.detach().clone() for w in weights]
    for w, g in zip(weights, tensors(1), strict=True):
        w.grad = scale * g
    LARS(weights, lr=0.02).step()
    for w, old in zip(weights, before, strict=True):
        assert (w.detach() - old).norm() / old.norm() == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("form", ["post", "page", "you"])
def test_lars_of_a_zero_weight_or_gradient_is_a_plain_step(form):
    zero_weight, zero_grad = nn.Parameter(torch.zeros(1, 3)), nn.Parameter(torch.ones(1, 3))
    zero_weight.grad, zero_grad.grad = torch.ones(1, 3), torch.zeros(1, 3)
    LARS([zero_weight, zero_grad], lr=0.25, form=form).step()
    assert zero_weight.tolist() == [[-0.25] * 3] and zero_grad.tolist() == [[1.0] * 3]


@pytest.mark.parametrize(
    "setting",
    [
        {"form": "original"},
        {"weight_decay": 0.1, "form": "post"},
        *({"trust": x} for x in (0, -1.0, math.nan)),
        *({"lr": x} for x in (-1.0, math.nan)),
        {"momentum": 1.0},
        {"weight_decay": -0.1, "form": "you"},
    ],
)
def test_a_bad_setting_of_lars_is_named(setting):
    name, value = next(iter(setting.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        LARS([nn.Parameter(torch.ones(1))], **{"lr": 0.1} | setting)


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
    weights = [nn.Parameter(t) for t in tensors()]
    optimizer = SGD(weights, lr=0.1, weight_decay=0.1, **form)
    take_steps(optimizer, weights, range(3))
    resumed = [nn.Parameter(w.detach().clone()) for w in weights]
    other = SGD(resumed, lr=9.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for o, ws in [(optimizer, weights), (other, resumed)]:
        take_steps(o, ws, range(3, 6))
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


def one_weight():
    return nn.Parameter(torch.ones(2, 3))


@pytest.mark.parametrize(
    "kind, bad",
    [
        (SGD, {"lr": -0.1}),
        (SGD, {"lr": math.inf}),
        (SGD, {"lr": "0.1"}),
        (SGD, {"momentum": 1.5}),
        (SGD, {"weight_decay": -1.0}),
        (SGD, {"nesterov": True}),
        (LARS, {"lr": -0.1}),
        (LARS, {"form": "their"}),
        (LARS, {"weight_decay": 0.1}),
        (LARS, {"trust": 0.0}),
    ],
)
def test_a_bad_setting_of_a_group_is_refused_when_it_is_given(kind, bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        kind([{"params": [one_weight()], **bad}], lr=0.1)
    optimizer = kind([one_weight()], lr=0.1)
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        optimizer.add_param_group({"params": [one_weight()], **bad})
    assert len(optimizer.param_groups) == 1
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0].update(bad)
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0][name] != value


def test_a_group_may_have_settings_of_its_own():
    groups = [{"params": [one_weight()], "lr": 0.5}, {"params": [one_weight()], "form": "you"}]
    optimizer = LARS(groups, lr=0.1)
    assert [(g["lr"], g["form"]) for g in optimizer.param_groups] == [(0.5, "post"), (0.1, "you")]


@pytest.mark.parametrize("form", FORMS)
def test_the_state_of_torchs_sgd_is_gone_on_from(form):
    theirs = [nn.Parameter(t) for t in tensors()]
    torchs = torch.optim.SGD(theirs, lr=0.1, weight_decay=0.01, **form)
    take_steps(torchs, theirs, range(3))
    ours = [nn.Parameter(w.detach().clone()) for w in theirs]
    optimizer = SGD(ours, lr=9.0)
    optimizer.load_state_dict(copy.deepcopy(torchs.state_dict()))
    take_steps(torchs, theirs, range(3, 6))
    take_steps(optimizer, ours, range(3, 6))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "kind, state_of, why",
    [
        (SGD, lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, dampening=0.5), "dampening=0.5"),
        (SGD, lambda w: torch.optim.SGD(w, lr=0.1, maximize=True), "maximize=True"),
        (SGD, lambda w: torch.optim.Adam(w, lr=0.1), "no momentum, nesterov: it is not that of a SGD"),
        (SGD, lambda w: LARS(w, lr=0.1), "no nesterov"),
        (LARS, lambda w: torch.optim.SGD(w, lr=0.1), "no form, trust: it is not that of a LARS"),
    ],
)
def test_the_state_of_another_optimiser_is_refused_and_changes_nothing(kind, state_of, why):
    optimizer = kind([one_weight()], lr=0.25)
    with pytest.raises(ValueError, match=why):
        optimizer.load_state_dict(state_of([one_weight()]).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.25


class RunningRms:
    """√(Σ β^k |g_{t−k}|² / Σ β^k), written out."""

    def __init__(self, decay):
        self.decay, self.norms = decay, []

    def __call__(self, g):
        self.norms.append(float(g.norm()))
        weights = self.decay ** np.arange(len(self.norms))[::-1]
        return math.sqrt((weights * np.square(self.norms)).sum() / weights.sum())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_long_gradient_is_clipped_at_a_multiple_of_its_rms(momentum):
    weights = [nn.Parameter(t) for t in tensors()]
    optimizer = ClippedSGD(weights, lr=1.0, momentum=momentum, weight_decay=0.05, clip=0.9, decay=0.8)
    running, clipped = [RunningRms(0.8) for _ in weights], 0
    for lr, layers in by_hand(optimizer, weights, range(30)):
        for (w, g, v), rms in zip(layers, running, strict=True):
            most = 0.9 * rms(g)
            clipped += bool(g.norm() > most)
            v.mul_(momentum).add_(g * min(1.0, most / float(g.norm())) + 0.05 * w)
            w.sub_(lr * v)
    assert 30 < clipped < 120 - 4  # some and not all


def test_a_clip_that_no_gradient_reaches_is_sgd():
    ours, theirs = ([nn.Parameter(t) for t in tensors()] for _ in range(2))
    settings = dict(lr=0.1, momentum=0.9, weight_decay=0.05)
    pair = [ClippedSGD(ours, **settings, clip=1e3, decay=0.99), SGD(theirs, **settings)]
    for optimizer, weights in zip(pair, (ours, theirs), strict=True):
        take_steps(optimizer, weights, range(20))
    assert all(map(torch.equal, ours, theirs))


def test_a_clipped_gradient_of_zero_stays_zero():
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.zeros(3)
    ClippedSGD([weight], lr=0.1, clip=1.25, decay=0.99).step()
    assert torch.equal(weight.data, torch.ones(3))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_smoothed_lars_divides_by_the_rms_of_the_gradient(momentum):
    weights = [nn.Parameter(t) for t in tensors()]
    optimizer = LARS(weights, lr=1.0, momentum=momentum, smoothing=0.8)
    running = [RunningRms(0.8) for _ in weights]
    for lr, layers in by_hand(optimizer, weights, range(30)):
        for (w, g, v), rms in zip(layers, running, strict=True):
            v.mul_(momentum).add_(g * w.norm() / rms(g))
            w.sub_(lr * v)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda w: ClippedSGD(w, lr=0.1, clip=0.0, decay=0.9), "clip"),
        (lambda w: ClippedSGD(w, lr=0.1, clip=math.inf, decay=0.9), "clip"),
        (lambda w: ClippedSGD(w, lr=0.1, clip=1.0, decay=1.0), "decay"),
        (lambda w: LARS(w, lr=0.1, smoothing=1.0), "smoothing"),
        (lambda w: LARS(w, lr=0.1, smoothing=0.9, form="you"), "smoothing"),
    ],
)
def test_a_variant_out_of_range_is_named(make, name):
    with pytest.raises(ValueError, match=f"^{name}=.* is not allowed; it must be"):
        make([one_weight()])


def test_clipped_sgd_goes_on_from_its_state():
    first, second = ([nn.Parameter(t) for t in tensors()] for _ in range(2))
    optimizer = ClippedSGD(first, lr=0.1, momentum=0.9, clip=1.0, decay=0.9)
    take_steps(optimizer, first, range(5))
    for a, b in zip(first, second, strict=True):
        b.data.copy_(a.data)
    other = ClippedSGD(second, lr=0.1, momentum=0.9, clip=1.0, decay=0.9)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for weights, its in ((first, optimizer), (second, other)):
        take_steps(its, weights, range(5, 10))
    assert all(map(torch.equal, first, second))
