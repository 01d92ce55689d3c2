import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import models
from lib.invariance import scale_invariant

NAMES = ["backbone", "Extra:L2", "Extra:L1+L2+L3", "Residual:L1+L3", "Residual:L1+L2+L3"]
CONVS = {
    "backbone": ["prep", "layer1", "layer2", "layer3"],
    "Extra:L2": ["prep", "layer1", "layer2", "layer2.extra", "layer3"],
    "Residual:L1+L3": "prep layer1 layer1.res1 layer1.res2 layer2 layer3 layer3.res1 layer3.res2".split(),
}


def batch(n=8, size=32, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, size, size, generator=generator)
    return images.to(dtype), torch.randint(10, (n,), generator=generator)


def network(name, width=2, dtype=torch.float64, eps=None):
    """A network in training mode with batch norm's scales and shifts away from 1 and 0."""
    torch.manual_seed(0)
    model = models.build(name, width).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            module.eps = module.eps if eps is None else eps
    return model


def by_hand(x, state, branches, kind):
    """The family's forward pass from its description, on the tensors of a state dict."""

    def conv_bn_relu(x, name):
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        scale, shift = (state[f"{name}.bn.{p}"][:, None, None] for p in ("weight", "bias"))
        return torch.relu((x - mean) / torch.sqrt(var + 1e-5) * scale + shift)

    x = conv_bn_relu(x, "prep")
    for layer in ("layer1", "layer2", "layer3"):
        x = F.max_pool2d(conv_bn_relu(x, layer), 2)
        if layer.replace("layer", "L") in branches:
            if kind == "Residual":
                x = x + conv_bn_relu(conv_bn_relu(x, f"{layer}.residual.res1"), f"{layer}.residual.res2")
            else:
                x = conv_bn_relu(x, f"{layer}.extra")
    x = F.max_pool2d(x, x.shape[-1]).flatten(1)
    return x @ state["classifier.linear.weight"].T * 0.125


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_description(name, size):
    model, (images, _) = network(name), batch(size=size, dtype=torch.float64)
    kind, _, branches = name.partition(":")
    expected = by_hand(images, model.state_dict(), branches.split("+"), kind)
    assert expected.shape == (8, 10)
    torch.testing.assert_close(model(images), expected)


def test_the_published_network_has_its_size():
    def conv(a, b):
        return 9 * a * b + 2 * b  # 3×3, no bias; batch norm's scale and shift

    convs = [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    expected = sum(conv(*c) for c in convs) + 512 * 10
    with torch.device("meta"):
        model = models.build("Residual:L1+L3", width=64)
    assert sum(p.numel() for p in model.parameters()) == expected == 6_573_120
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [(b, a, 3, 3) for a, b in convs]


@pytest.mark.parametrize("name", CONVS)
def test_probed_weights_are_named_in_order(name):
    model = network(name)
    weights = models.probed_weights(model)
    assert list(weights) == [*CONVS[name], "classifier"]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    assert len(matrices) == len(weights)
    assert all(w is m for w, m in zip(weights.values(), matrices, strict=True))


@pytest.mark.parametrize("name", CONVS)
def test_scale_invariant_are_all_but_the_classifier(name):
    model, (images, labels) = network(name), batch(size=16, dtype=torch.float64)
    found = models.scale_invariant_weights(model)
    assert list(found) == CONVS[name]
    measured = scale_invariant(model, lambda: F.cross_entropy(model(images), labels))
    assert [id(w) for w in found.values()] == [id(w) for w in measured.values()]


def test_batch_norm_starts_at_one_and_zero_with_epsilon_1e_5():
    norms = [m for m in models.build("Residual:L1+L2+L3", 2).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 10
    for norm in norms:
        assert norm.eps == 1e-5 and norm.weight.eq(1).all() and norm.bias.eq(0).all()


@pytest.mark.parametrize("name", ["resnet18", "Residual:", "Extra:L4", "Residual:L3+L1"])
def test_an_unknown_name_is_named(name):
    with pytest.raises(ValueError, match=re.escape(f"architecture='{name}' is not known")):
        models.build(name)


@pytest.mark.parametrize("width", [0, -8])
def test_a_bad_width_is_named(width):
    with pytest.raises(ValueError, match=f"width={width}"):
        models.build("backbone", width)


def logits_and_gradients(model, images, labels):
    model.zero_grad()
    logits = model(images)
    F.cross_entropy(logits, labels).backward()
    return logits.detach(), {name: w.grad.clone() for name, w in models.probed_weights(model).items()}


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("name", ["backbone", "Extra:L2", "Residual:L1+L3", "Residual:L1+L2+L3"])
def test_scaling_a_convolution_scales_only_its_gradient(name, factor):
    # without batch norm's ε (torch wants one above 0) the invariance is exact; with 1e-5, ε/variance ≈ 1e-4 would be left
    model, (images, labels) = network(name, eps=1e-30), batch(dtype=torch.float64)
    logits, grads = logits_and_gradients(model, images, labels)
    for scaled, weight in models.probed_weights(model).items():
        with torch.no_grad():
            weight *= factor
        new_logits, new_grads = logits_and_gradients(model, images, labels)
        with torch.no_grad():
            weight /= factor
        if scaled == "classifier":  # the negative control: no batch norm follows it
            assert not torch.allclose(new_logits, logits, rtol=0.1)
            continue
        torch.testing.assert_close(new_logits, logits, rtol=1e-9, atol=1e-9)
        for layer in grads:
            expected = grads[layer] / (factor if layer == scaled else 1)
            torch.testing.assert_close(new_grads[layer], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["backbone", "Residual:L1+L3"])
def test_in_float32_gradients_are_orthogonal_to_convolutions(name):
    torch.manual_seed(0)
    model = models.build(name, width=8)  # as it starts: batch norm with its ε
    _, grads = logits_and_gradients(model, *batch(64))
    for layer, weight in models.probed_weights(model).items():
        cosine = F.cosine_similarity(
            weight.detach().flatten().double(), grads[layer].flatten().double(), dim=0
        )
        assert (abs(cosine) < 1e-5) == (layer != "classifier"), f"{layer}: {cosine}"


def test_what_epsilon_takes_from_orthogonality():
    """w·g = Σ over channels of ε/(variance+ε) · γ ∂L/∂γ: exactly what batch norm's ε leaves."""
    eps = 0.1  # a large one, to see it
    model, (images, labels) = network("Residual:L1+L3", eps=eps), batch(dtype=torch.float64)
    left = {}

    def keep(norm, inputs, _):
        left[norm] = eps / (inputs[0].var((0, 2, 3), correction=0) + eps)

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(keep)
    _, grads = logits_and_gradients(model, images, labels)
    weights = models.probed_weights(model)
    for norm, layer in zip(norms, CONVS["Residual:L1+L3"], strict=True):
        measured = (weights[layer].detach() * grads[layer]).sum()
        expected = (left[norm].detach() * norm.weight.detach() * norm.weight.grad).sum()
        torch.testing.assert_close(measured, expected)


@pytest.mark.parametrize("pool", [False, True])
def test_relu_after_the_pool_is_relu_before_it(pool):
    """Values, gradients and averages are those of the description, and the input stays as it is."""
    generator = torch.Generator().manual_seed(0)
    norm = models.BatchNormReLU(5, pool).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-0.5, 2, 5))  # below 0, the least of a square is let through
        norm.bias.copy_(torch.linspace(1, -1, 5))
    x = 3 + 2 * torch.randn(8, 5, 6, 4, generator=generator, dtype=torch.float64)
    inputs = [x.clone().requires_grad_(), norm.weight, norm.bias]
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)
    centred = (inputs[0] - mean[:, None, None]) / torch.sqrt(variance + 1e-5)[:, None, None]
    expected = torch.relu(centred * norm.weight[:, None, None] + norm.bias[:, None, None])
    if pool:
        expected = expected.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    y = norm(inputs[0])
    torch.testing.assert_close(y, expected)
    grad = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, grad), torch.autograd.grad(expected, inputs, grad)
    )
    assert torch.equal(inputs[0], x)
    pixels = 8 * 6 * 4
    torch.testing.assert_close(norm.running_mean, 0.1 * mean.detach())
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance.detach() * pixels / (pixels - 1))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_convolution_by_product_is_one(size):
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(3, 4, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    y, expected = models.ConvolutionByProduct.apply(x, weight), F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y, expected)
    grad = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
    )


def test_bf16_computes_in_bfloat16_and_fp32_does_not():
    model, (images, labels) = network("Residual:L1+L3", width=4, dtype=torch.float32), batch(64)
    found = {}
    for precision in ("fp32", "bf16"):
        seen = set()
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda m, x, y, seen=seen: seen.add(y.dtype)
        )
        logits = models.logits(model, images, precision)
        hook.remove()
        assert seen == {torch.float32 if precision == "fp32" else torch.bfloat16}
        assert logits.dtype == torch.float32
        grads = torch.autograd.grad(F.cross_entropy(logits, labels), list(model.parameters()))
        assert {grad.dtype for grad in grads} == {torch.float32}
        found[precision] = torch.cat([grad.flatten() for grad in grads])
    # bfloat16 has 8 bits: far from equal, and far from another direction
    assert 0.9 < F.cosine_similarity(*found.values(), dim=0) < 1 - 1e-6
