"""The fused batch norm, pool and ReLU against torch's own operations."""

import os
import platform
import subprocess
import sys

import numba
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import models
from lib.machinery import fused

CHANNELS_LAST = torch.channels_last
NAMES = ["output", "gradient", "weight", "bias", "mean", "variance", "count"]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(min(request.param, numba.config.NUMBA_NUM_THREADS))
    yield request.param
    torch.set_num_threads(before)


def images(n=32, channels=8, height=8, width=8, dtype=torch.float32, rounded=False):
    """Images away from zero mean; rounded ones have equal corners in many squares of the pool."""
    torch.manual_seed(channels + height)
    x = 3 + 2 * torch.randn(n, channels, height, width, dtype=dtype)
    return (x.round() if rounded else x).contiguous(memory_format=CHANNELS_LAST)


def norms(channels, pool, dtype=torch.float32):
    """Ours and torch's, with the same numbers in them."""
    ours, theirs = models.BatchNormReLU(channels, pool).to(dtype), nn.BatchNorm2d(channels).to(dtype)
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(-0.5, 2, channels))  # some reverse the order in a square
        ours.bias.copy_(torch.linspace(1, -1, channels))
        ours.weight[0] = 0  # all equal
    theirs.load_state_dict(ours.state_dict())
    return ours, lambda x: torch.relu(F.max_pool2d(theirs(x), 2) if pool else theirs(x)), theirs


def results(function, norm, x, calls=2):
    """All that a step changes; two calls, as the averages move from where they are."""
    for _ in range(calls):
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
        # as a convolution's output, the input of the norm is nobody's leaf
        y = function(inputs * 1)
    torch.manual_seed(0)
    grads = torch.autograd.grad(y, [inputs, norm.weight, norm.bias], torch.randn_like(y))
    return [y, *grads, norm.running_mean, norm.running_var, norm.num_batches_tracked]


CASES = [(8, 32, 32), (16, 16, 16), (24, 4, 6), (64, 2, 2), (128, 8, 8)]


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("channels, height, width", CASES)
def test_it_is_torchs_own(channels, height, width, pool, rounded, threads):
    ours, reference, theirs = norms(channels, pool)
    x = images(16, channels, height, width, rounded=rounded)
    found, expected = results(ours, ours, x), results(reference, theirs, x)
    exact = threads == 1 and platform.system() == "Linux" and platform.machine() == "x86_64"
    for name, a, b in zip(NAMES, found, expected, strict=True):
        # several threads add up in another order
        assert torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-4, atol=2e-4), name
    assert found[0].is_contiguous(memory_format=CHANNELS_LAST)


@pytest.mark.parametrize("pool", [False, True])
def test_gradients_are_those_of_double_precision(pool, threads):
    x = images(64, 3, 6, 4)
    ours, _, _ = norms(3, pool)
    _, reference, theirs = norms(3, pool, torch.float64)
    found, expected = results(ours, ours, x), results(reference, theirs, x.double())
    for name, a, b in zip(NAMES, found, expected, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("pool", [False, True])
def test_the_same_threads_give_the_same_bits(pool, threads):
    x = images(33, 8, 16, 16)  # a share of 16 and one of 17
    first, second = (results(ours := norms(8, pool)[0], ours, x) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_torch_keeps_its_threads():
    code = "import torch; from lib import fused, models; x = torch.randn(2, 8, 4, 4)"
    code += (
        "; models.BatchNormReLU(8)(x.to(memory_format=torch.channels_last)); print(torch.get_num_threads())"
    )
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert found.stdout == "1\n", found.stderr


@pytest.mark.parametrize("pool", [False, True])
def test_a_number_that_is_none_is_passed_on(pool, threads):
    ours, reference, _ = norms(8, pool)
    x = images()
    x[3, 5, 2, 1] = torch.nan
    assert ours(x * 1)[:, 5].isnan().all() and ours(x * 1)[:, :5].isfinite().all()
    assert torch.equal(ours(x * 1).isnan(), reference(x).isnan())


@pytest.mark.parametrize("pool", [False, True])
def test_a_second_backward_pass_is_refused(pool):
    ours, _, _ = norms(8, pool)
    loss = ours(images().requires_grad_() * 1).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_who_keeps_the_input_for_a_gradient_of_his_own_learns_that_it_has_changed():
    ours, _, _ = norms(8, pool=False)
    x = images().requires_grad_() * 1
    square = (x * x).sum()  # keeps x
    ours(x).sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()


def test_a_gradient_of_a_gradient_is_refused():
    x = images().requires_grad_()
    (grad,) = torch.autograd.grad(norms(8, pool=True)[0](x * 1).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


OTHERS = {
    "double precision": (images(dtype=torch.float64), True, True),
    "a test": (images(), True, False),
    "odd and pooled": (images(height=7), True, True),
    "channels first": (images().contiguous(), True, True),
}


@pytest.mark.parametrize("case", OTHERS)
def test_torch_does_what_is_not_fused(case, monkeypatch):
    x, pool, training = OTHERS[case]
    monkeypatch.setattr(fused, "batch_norm_relu", lambda *_: pytest.fail("fused"))
    ours, reference, theirs = norms(8, pool, x.dtype)
    ours.train(training), theirs.train(training)
    for a, b in zip(results(ours, ours, x), results(reference, theirs, x), strict=True):
        torch.testing.assert_close(a, b)


def test_a_single_pixel_is_refused():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        models.BatchNormReLU(8)(images(1, 8, 1, 1))


def test_a_step_on_a_cpu_is_fused(monkeypatch):
    calls, real = [], fused.batch_norm_relu
    monkeypatch.setattr(
        fused, "batch_norm_relu", lambda x, norm, pool: calls.append(pool) or real(x, norm, pool)
    )
    model = models.build("Residual:L1+L3", width=8).to(memory_format=CHANNELS_LAST)
    model(images(4, 3, 32, 32))
    assert calls == [False, True, False, False, True, True, False, False]
