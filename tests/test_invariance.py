"""Scale-invariant parameters: small networks against brute force, large ones against their known counts."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from lib import data
from lib.invariance import examine, scale_invariant, scale_invariant_filters


class Net(nn.Module):
    """Modules by name, and the function of them and the input that is the forward pass."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            if isinstance(module, nn.Parameter):
                self.register_parameter(name, module)
            else:
                self.add_module(name, module)

    def forward(self, x):
        return self.run(self, x)


def conv(i=2, o=4, kernel=3, **how):
    return nn.Conv2d(i, o, kernel, bias=how.pop("bias", False), **how)


def linear(i, o, bias=False):
    return nn.Linear(i, o, bias=bias)


def heads(x, n=2):
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def attention(n, x, norm):
    q, k, v = (heads(f(x)) for f in (n.q, n.k, n.v))
    return n.o(F.scaled_dot_product_attention(norm(q), norm(k), v).transpose(1, 2).flatten(2))


def qkv(e, norm=True):
    def forward(n, x):
        q, k, v = n.qkv(x).chunk(3, -1)
        q, k = (F.rms_norm(t, (t.shape[-1],), eps=e) if norm else t for t in (q, k))
        return F.scaled_dot_product_attention(q, k, v)

    return Net(forward, qkv=linear(6, 18))


class StandardisedConv(nn.Conv2d):
    """As in Qiao et al.: the weight has mean zero and unit variance over each filter before it is used."""

    eps = 1e-5

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / (w.flatten(1).std(1).view(-1, 1, 1, 1) + self.eps)
        return F.conv2d(x, w, self.bias)


def standardised(e):
    layer = StandardisedConv(2, 4, 3)
    layer.eps = e
    return Net(lambda n, x: n.c(x).relu(), c=layer)


class Rms(nn.Module):
    """RMS norm written by hand, in float32 whatever the input, as language models have it."""

    def __init__(self, size, eps):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float() if x.dtype != torch.float64 else x
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class Counting(nn.Module):
    """Writes a buffer, a new tensor in a buffer's place, a number and a list, at every forward pass."""

    def __init__(self, e):
        super().__init__()
        self.c, self.bn = conv(), nn.BatchNorm2d(4, e)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("last", torch.zeros(4))
        self.calls, self.log = 0, []

    def forward(self, x):
        y = self.c(x)
        self.mean.mul_(0.9).add_(y.detach().mean((0, 2, 3)), alpha=0.1)
        self.last = y.detach().mean((0, 2, 3))
        self.calls += 1
        self.log.append(self.calls)
        return self.bn(y) + self.calls


def chain(*layers):
    return nn.Sequential(*layers)


def frozen_norm(e):
    model = chain(conv(), nn.BatchNorm2d(4, e), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4, e))
    model[1].eval()
    return model


def unet(e):
    def forward(n, x):
        low = F.relu(n.bn1(n.down(x)))
        high = F.relu(n.bn2(n.up(low)))
        return n.bn3(n.merge(torch.cat([x, high], 1)))

    return Net(
        forward, down=conv(2, 4, 2, stride=2), bn1=nn.BatchNorm2d(4, e), bn2=nn.BatchNorm2d(3, e),
        up=nn.ConvTranspose2d(4, 3, 2, stride=2, bias=False), merge=conv(5, 2, 1), bn3=nn.BatchNorm2d(2, e),
    )  # fmt: skip


def dense(e):
    def forward(n, x):
        y = torch.cat([x, n.c2(F.relu(n.bn1(n.c1(x))))], 1)
        return n.c3(F.relu(n.bn2(torch.cat([y, n.c4(x)], 1))))

    return Net(
        forward, c1=conv(2, 4, 1), bn1=nn.BatchNorm2d(4, e), c2=conv(4, 2, 3, padding=1), c4=conv(2, 1, 1),
        bn2=nn.BatchNorm2d(5, e), c3=conv(5, 2, 1),
    )  # fmt: skip


def residual(e):
    return Net(
        lambda n, x: x + n.bn2(n.c2(F.relu(n.bn1(n.c1(x))))),
        c1=conv(2, 4, 1), bn1=nn.BatchNorm2d(4, e), c2=conv(4, 2, 1), bn2=nn.BatchNorm2d(2, e),
    )  # fmt: skip


def tied(e, norm=True):
    def forward(n, x):
        y = n.emb(x)
        y = F.rms_norm(y, (6,), eps=e) if norm else y
        return F.linear(y, n.emb.weight)

    return Net(forward, emb=nn.Embedding(5, 6))


def old_weight_norm(e):
    layer = weight_norm(conv(bias=True))
    layer.weight = layer.weight.detach()  # else it cannot be copied
    return chain(layer, nn.ReLU())


def no_grad(n, x):
    with torch.no_grad():
        y = n.c(x)
    return n.bn(y)


def dataparallel(e):
    return nn.DataParallel(chain(conv(), nn.BatchNorm2d(4, e)), device_ids=[])


def lazy(e):
    model = chain(nn.LazyConv2d(4, 3, bias=False), nn.BatchNorm2d(4, e))
    model(images())
    return model


def images(channels=2, size=6, n=5):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def vectors(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def tokens():
    return torch.tensor([[0, 1, 2, 3], [4, 3, 1, 0], [2, 2, 4, 1]])


BN1, BN2, BN3, GN, LN = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm
IN1, IN2 = nn.InstanceNorm1d, nn.InstanceNorm2d

#: For each network: how it is made with that ε, its input, and the parameters that are scale-invariant.
NETWORKS = {
    "convolution, batch norm": (lambda e: chain(conv(), BN2(4, e)), images, "0.weight"),
    "with a bias between": (lambda e: chain(conv(bias=True), BN2(4, e)), images, "0.weight"),
    "a chain of two": (
        lambda e: chain(conv(), BN2(4, e), nn.ReLU(), conv(4, 3), BN2(3, e)), images, "0.weight 3.weight"),
    "with a classifier": (
        lambda e: chain(conv(), BN2(4, e), nn.ReLU(), nn.Flatten(), linear(64, 3)), images, "0.weight"),
    "batch norm without scale and shift": (lambda e: chain(conv(), BN2(4, e, affine=False)), images, "0.weight"),
    "batch norm without averages": (
        lambda e: chain(conv(), BN2(4, e, track_running_stats=False)), images, "0.weight"),
    "batch norm in eval mode": (lambda e: chain(conv(), BN2(4, e)).eval(), images, ""),
    "batch norm in eval mode without averages": (
        lambda e: chain(conv(), BN2(4, e, track_running_stats=False)).eval(), images, "0.weight"),
    "one of two norms frozen": (frozen_norm, images, "3.weight"),
    "no norm": (lambda e: chain(conv(), nn.ReLU(), conv(4, 2)), images, ""),
    "a nonlinearity between": (lambda e: chain(conv(), nn.Tanh(), BN2(4, e)), images, ""),
    "ReLU between": (lambda e: chain(conv(), nn.ReLU(), BN2(4, e)), images, "0.weight"),
    "ReLU between, and a bias": (lambda e: chain(conv(bias=True), nn.ReLU(), BN2(4, e)), images, ""),
    "average pool between": (lambda e: chain(conv(), nn.AvgPool2d(2), BN2(4, e)), images, "0.weight"),
    "max pool between": (lambda e: chain(conv(), nn.MaxPool2d(2), BN2(4, e)), images, "0.weight"),
    "dropout between": (lambda e: chain(conv(), nn.Dropout(0.3), BN2(4, e)), images, "0.weight"),
    "pixel shuffle between": (lambda e: chain(conv(), nn.PixelShuffle(2), BN2(1, e)), images, "0.weight"),
    "a second convolution between": (
        lambda e: chain(conv(), conv(4, 3), BN2(3, e)), images, "0.weight 1.weight"),
    "a second convolution between, with a bias": (
        lambda e: chain(conv(bias=True), conv(4, 3, padding=1), BN2(3, e)), images, "1.weight"),
    "forked about the norm": (
        lambda e: Net(lambda n, x: n.bn(n.c(x)) + n.c(x), c=conv(), bn=BN2(4, e)), images, ""),
    "forked into two norms": (
        lambda e: Net(lambda n, x: n.a(n.c(x)) + n.b(n.c(x)), c=conv(), a=BN2(4, e), b=BN2(4, e)), images,
        "c.weight"),
    "sum of two before the norm": (
        lambda e: Net(lambda n, x: n.bn(n.a(x) + n.b(x)), a=conv(), b=conv(), bn=BN2(4, e)), images, ""),
    "two concatenated before the norm": (
        lambda e: Net(lambda n, x: n.bn(torch.cat([n.a(x), n.b(x)], 1)), a=conv(), b=conv(), bn=BN2(8, e)),
        images, "a.weight b.weight"),
    "two concatenated before group norm": (
        lambda e: Net(lambda n, x: n.gn(torch.cat([n.a(x), n.b(x)], 1)), a=conv(), b=conv(), gn=GN(1, 8, e)),
        images, ""),
    "residual block": (residual, images, "c1.weight c2.weight"),
    "dense block": (dense, images, "c1.weight c2.weight c4.weight"),
    "U-net": (unet, images, "down.weight up.weight merge.weight"),
    "group norm": (lambda e: chain(conv(), GN(2, 4, e)), images, "0.weight"),
    "group norm, with a bias": (lambda e: chain(conv(bias=True), GN(2, 4, e)), images, ""),
    "group norm of single channels, with a bias": (
        lambda e: chain(conv(bias=True), GN(4, 4, e)), images, "0.weight"),
    "instance norm, with a bias": (lambda e: chain(conv(bias=True), IN2(4, e)), images, "0.weight"),
    "local response norm": (lambda e: chain(conv(), nn.LocalResponseNorm(3, alpha=0.5)), images, ""),
    "grouped convolution": (lambda e: chain(conv(2, 4, groups=2), BN2(4, e)), images, "0.weight"),
    "depthwise, then pointwise": (
        lambda e: chain(conv(2, 2, groups=2), BN2(2, e), nn.ReLU(), conv(2, 3, 1), BN2(3, e)), images,
        "0.weight 3.weight"),
    "transposed convolution": (
        lambda e: chain(nn.ConvTranspose2d(2, 4, 2, stride=2, bias=False), BN2(4, e)), images, "0.weight"),
    "convolution of sequences": (
        lambda e: chain(nn.Conv1d(2, 4, 3), BN1(4, e)), lambda: vectors(4, 2, 7), "0.weight"),
    "convolution of volumes": (
        lambda e: chain(nn.Conv3d(2, 3, 2), BN3(3, e)), lambda: vectors(3, 2, 3, 3, 3), "0.weight"),
    "instance norm of sequences": (
        lambda e: chain(nn.Conv1d(2, 4, 3), IN1(4, e, affine=True)), lambda: vectors(4, 2, 7), "0.weight"),
    "linear, batch norm": (lambda e: chain(linear(6, 4, True), BN1(4, e)), lambda: vectors(8, 6), "0.weight"),
    "linear, norm over another dimension": (
        lambda e: chain(linear(12, 8), BN1(5, e)), lambda: vectors(6, 5, 12), "0.weight"),
    "linear with bias, norm over another dimension": (
        lambda e: chain(linear(12, 8, True), BN1(5, e)), lambda: vectors(6, 5, 12), ""),
    "layer norm": (lambda e: chain(linear(6, 4), LN(4, e)), lambda: vectors(8, 6), "0.weight"),
    "layer norm without bias": (lambda e: chain(linear(6, 4), LN(4, e, bias=False)), lambda: vectors(8, 6), "0.weight"),
    "layer norm, with a bias before": (lambda e: chain(linear(6, 4, True), LN(4, e)), lambda: vectors(8, 6), ""),
    "RMS norm": (lambda e: chain(linear(6, 4), nn.RMSNorm(4, e)), lambda: vectors(8, 6), "0.weight"),
    "RMS norm by hand": (lambda e: chain(linear(6, 4), Rms(4, e)), lambda: vectors(8, 6), "0.weight"),
    "RMS norm's scale before another": (
        lambda e: chain(Rms(6, e), linear(6, 4), Rms(4, e), linear(4, 2)), lambda: vectors(8, 6),
        "0.weight 1.weight"),
    "RMS norm without ε in sight": (
        lambda e: Net(lambda n, x: n.l(x) / n.l(x).norm(dim=-1, keepdim=True), l=linear(6, 4)),
        lambda: vectors(8, 6), "l.weight"),
    "normalised features": (
        lambda e: Net(lambda n, x: F.normalize(n.l(x), dim=-1), l=linear(6, 4)), lambda: vectors(8, 6), "l.weight"),
    "cosine of features and classes": (
        lambda e: Net(lambda n, x: F.linear(F.normalize(n.l(x)), F.normalize(n.classes)), l=linear(6, 4),
        classes=nn.Parameter(torch.ones(3, 4))), lambda: vectors(8, 6), "classes l.weight"),
    "pre-norm residual stream": (
        lambda e: Net(lambda n, x: x + n.b(F.relu(n.a(n.ln(x)))), ln=LN(6, e), a=linear(6, 8), b=linear(8, 6)),
        lambda: vectors(8, 6), ""),
    "post-norm residual stream": (
        lambda e: Net(lambda n, x: n.ln(x + n.a(x)), ln=LN(6, e), a=linear(6, 6)), lambda: vectors(8, 6), ""),
    "attention with QK-norm": (
        lambda e: Net(lambda n, x: attention(n, x, lambda t: F.rms_norm(t, (3,), eps=e)),
        **{name: linear(6, 6) for name in "qkvo"}), lambda: vectors(2, 4, 6), "q.weight k.weight"),
    "attention without": (
        lambda e: Net(lambda n, x: attention(n, x, lambda t: t), **{name: linear(6, 6) for name in "qkvo"}),
        lambda: vectors(2, 4, 6), ""),
    "torch's own attention": (
        lambda e: Net(lambda n, x: n.m(x, x, x)[0], m=nn.MultiheadAttention(6, 2, batch_first=True)),
        lambda: vectors(2, 4, 6), ""),
    "torch's transformer layer": (
        lambda e: nn.TransformerEncoderLayer(6, 2, 8, layer_norm_eps=e, batch_first=True), lambda: vectors(2, 4, 6),
        ""),
    "fused q, k and v as one": (qkv, lambda: vectors(2, 4, 6), ""),
    "embedding, RMS norm, own decoder": (
        lambda e: Net(lambda n, x: n.out(n.norm(n.emb(x))), emb=nn.Embedding(5, 6), norm=nn.RMSNorm(6, e),
        out=linear(6, 5)), tokens, "emb.weight"),
    "embeddings added before the norm": (
        lambda e: Net(lambda n, x: n.out(n.norm(n.emb(x) + n.place.weight)), emb=nn.Embedding(5, 6),
        place=nn.Embedding(4, 6), norm=nn.RMSNorm(6, e), out=linear(6, 5)), tokens, ""),
    "tied decoder": (tied, tokens, ""),
    "tied decoder, no norm": (lambda e: tied(e, norm=False), tokens, ""),
    "shared by two normed layers": (
        lambda e: Net(lambda n, x: n.b(n.c(F.relu(n.a(n.c(x))))), c=conv(2, 2), a=BN2(2, e), b=BN2(2, e)), images,
        "c.weight"),
    "shared with a layer without norm": (
        lambda e: Net(lambda n, x: n.c(F.relu(n.a(n.c(x)))), c=conv(2, 2), a=BN2(2, e)), images, ""),
    "recurrent": (lambda e: Net(lambda n, x: n.rnn(x)[0], rnn=nn.LSTM(6, 4, batch_first=True)),
        lambda: vectors(2, 3, 6), ""),
    "recurrent, normed": (
        lambda e: Net(lambda n, x: n.l(n.rnn(x)[0]), rnn=nn.RNN(6, 4, batch_first=True, nonlinearity="relu",
        bias=False), l=LN(4, e)), lambda: vectors(2, 1, 6), "rnn.weight_ih_l0"),
    "an output that is not used": (
        lambda e: Net(lambda n, x: (n.dead(x), n.bn(n.c(x)))[1], c=conv(), dead=conv(), bn=BN2(4, e)), images,
        "c.weight"),
    "a branch times zero": (
        lambda e: Net(lambda n, x: n.bn(n.c(x)) + 0 * n.other(n.dead(x)), c=conv(), dead=conv(), bn=BN2(4, e),
        other=BN2(4, e)), images, "c.weight"),
    "without gradient": (lambda e: Net(no_grad, c=conv(), bn=BN2(4, e)), images, ""),
    "detached": (lambda e: Net(lambda n, x: n.bn(n.c(x).detach()), c=conv(), bn=BN2(4, e)), images, ""),
    "standardised weights": (standardised, images, "c.weight"),
    "weight norm": (
        lambda e: chain(parametrizations.weight_norm(conv(bias=True)), nn.ReLU()), images,
        "0.parametrizations.weight.original1"),
    "weight norm, the older one": (old_weight_norm, images, "0.weight_v"),
    "weight norm before batch norm": (
        lambda e: chain(parametrizations.weight_norm(conv()), BN2(4, e)), images,
        "0.parametrizations.weight.original1"),
    "spectral norm": (lambda e: chain(spectral_norm(conv(bias=True)), nn.ReLU()), images, "0.weight_orig"),
    "spectral norm, parametrised": (
        lambda e: chain(parametrizations.spectral_norm(linear(6, 4)), nn.Tanh()), lambda: vectors(8, 6),
        "0.parametrizations.weight.original"),
    "a scale of its own": (
        lambda e: Net(lambda n, x: n.bn(n.c(x) * n.scale), c=conv(), scale=nn.Parameter(torch.ones(1)),
        bn=BN2(4, e)), images, "c.weight"),
    "buffers written in the forward pass": (Counting, images, "c.weight"),
    "functional": (
        lambda e: Net(lambda n, x: F.batch_norm(F.conv2d(x, n.w), None, None, training=True, eps=e),
        w=nn.Parameter(torch.ones(4, 2, 3, 3))), images, "w"),
    "batch norm by hand": (
        lambda e: Net(lambda n, x: (n.l(x) - n.l(x).mean(0)) / (n.l(x).var(0) + e).sqrt(), l=linear(6, 4)),
        lambda: vectors(8, 6), "l.weight"),
    "recomputed in the backward pass": (
        lambda e: Net(lambda n, x: checkpoint(n.block, x, use_reentrant=False),
        block=chain(conv(), BN2(4, e), nn.ReLU())), images, "block.0.weight"),
    "one number": (
        lambda e: Net(lambda n, x: n.a * n.bn(n.c(x)), a=nn.Parameter(torch.ones(())), c=conv(), bn=BN2(4, e)),
        images, "c.weight"),
    "two that only cancel together": (
        lambda e: Net(lambda n, x: n.a(x) / n.b(x).norm(), a=linear(6, 4), b=linear(6, 4)), lambda: vectors(8, 6), ""),
    "on several devices": (dataparallel, images, "0.weight"),
    "shapes from the first batch": (lazy, images, "0.weight"),
}  # fmt: skip


def made(name, eps=1e-5):
    """The network of that name with random parameters, its loss as a function of a model, and its input."""
    make, inputs, _ = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make(eps), inputs()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    with torch.random.fork_rng(devices=[]):
        target = torch.randn(copy.deepcopy(model)(x).shape, generator=generator)

    def loss(model, x=x):
        torch.manual_seed(3)  # the same dropout
        return (model(x) - target.to(x if x.is_floating_point() else target)).square().mean()

    return model, loss, x


def names_inside(model):
    inside = model.module if isinstance(model, nn.DataParallel) else model
    return dict(inside.named_parameters())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_is_that_of_brute_force(name):
    """In float64, practically without ε: the loss with one parameter twice as long."""
    model, loss, x = made(name, eps=1e-20)
    model, x = model.double(), x.double() if x.is_floating_point() else x

    def loss_with(scaled=None):
        copied = copy.deepcopy(model)
        if scaled is not None:
            names_inside(copied)[scaled].data *= 2
        return loss(copied, x), names_inside(copied)

    start, parameters = loss_with()
    grads = torch.autograd.grad(start, list(parameters.values()), allow_unused=True)
    start = start.detach()
    expected = []
    for (parameter, w), grad in zip(parameters.items(), grads, strict=True):
        used = grad is not None and float(grad.norm() * w.detach().norm()) > 1e-12
        if used and float((loss_with(parameter)[0].detach() - start).abs()) < 1e-9 * float(start):
            expected.append(parameter)
    assert expected == NETWORKS[name][2].split()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", NETWORKS)
def test_scale_invariant_parameters_are_found(name):
    model, loss, _ = made(name)
    found = scale_invariant(model, lambda: loss(model))
    assert list(found) == NETWORKS[name][2].split()
    assert all(w is names_inside(model)[parameter] for parameter, w in found.items())


def everything(model):
    """What must not change, in a form that can be compared."""
    return {
        "tensors": {n: (t.clone(), t.data_ptr(), t.dtype, id(t)) for n, t in model.state_dict(keep_vars=True).items()},
        "grads": {n: (p.grad, None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
        "modes": [m.training for m in model.modules()],
        "hooks": [list(vars(m)["_forward_hooks"]) for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "random": (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()),  # noqa: NPY002
        "default": torch.get_default_dtype(),
    }  # fmt: skip


def assert_same(before, after):
    for name, (tensor, *identity) in before["tensors"].items():
        assert torch.equal(tensor, after["tensors"][name][0]), name
        assert identity == list(after["tensors"][name][1:]), name
    for name, (grad, value) in before["grads"].items():
        assert after["grads"][name][0] is grad
        assert grad is None or torch.equal(value, after["grads"][name][1])
    assert torch.equal(before["random"][0], after["random"][0])
    assert before["random"][1:] == after["random"][1:]
    for key in ("modes", "hooks", "attributes", "default"):
        assert before[key] == after[key]


def test_a_parameter_without_a_shape_is_named():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match="0.weight has no shape yet; run the model once before"):
        scale_invariant(model, lambda: model(torch.ones(2, 4)).sum())


@pytest.mark.parametrize("raises_at", [None, 1, 2, 4])
def test_the_model_is_left_as_it_was(raises_at):
    model = nn.Sequential(Counting(1e-5), nn.Dropout(0.2), frozen_norm_of_four())
    x = images()
    model(x).square().mean().backward()
    first, calls = model[0], 0

    def loss():
        nonlocal calls
        calls += 1
        np.random.rand(), random.random()  # noqa: NPY002
        value = model(x).square().mean()
        model.register_forward_hook(lambda *_: None)
        model.eval()
        if calls == raises_at:
            raise OSError("no more data")
        return value

    before, log = everything(model), list(first.log)
    if raises_at:
        with pytest.raises(OSError, match="no more data"):
            scale_invariant(model, loss)
    else:
        assert list(scale_invariant(model, loss)) == ["0.c.weight"]
    assert_same(before, everything(model))
    assert (first.calls, first.log) == (len(log), log)


def frozen_norm_of_four():
    return chain(conv(4, 4), BN2(4).eval())


def test_two_names_for_one_parameter_are_one():
    model = chain(conv(2, 2), BN2(2), nn.ReLU(), conv(2, 2), BN2(2))
    model[3].weight = model[0].weight
    x = images()
    assert list(scale_invariant(model, lambda: model(x).pow(3).mean())) == ["0.weight"]


def test_a_norm_in_the_loss_is_no_invariance():
    model, x = chain(conv(), BN2(4), nn.ReLU(), conv(4, 2), BN2(2)), images()
    penalised = scale_invariant(model, lambda: model(x).pow(3).mean() + 1e-4 * model[0].weight.square().sum())
    assert list(penalised) == ["3.weight"]


def test_zeros_of_an_initialiser_hide_nothing():
    """With a scale of zero no gradient reaches the branch; a bias of zero does not matter yet."""
    block = residual(1e-5)
    nn.init.zeros_(block.bn2.weight)
    x = images()
    assert list(scale_invariant(block, lambda: block(x).square().mean())) == ["c1.weight", "c2.weight"]
    model, x = chain(linear(12, 8, bias=True), BN1(5)), vectors(6, 5, 12)
    nn.init.zeros_(model[0].bias)
    assert not scale_invariant(model, lambda: model(x).pow(3).mean())


def test_frozen_parameters_are_named_so():
    model, x = chain(conv(), BN2(4), nn.ReLU(), conv(4, 2), BN2(2)), images()
    model[0].weight.requires_grad_(False)
    found = examine(model, lambda: model(x).pow(3).mean())
    assert found["0.weight"] == (False, "frozen") and found["3.weight"].invariant
    assert not model[0].weight.requires_grad


def test_slices_of_a_fused_weight():
    model, x = qkv(1e-5), vectors(2, 4, 6)
    parts = {"qkv.weight": [slice(0, 6), slice(6, 12), slice(12, None)]}
    found = scale_invariant(model, lambda: model(x).pow(3).sum(), slices=parts)
    assert list(found) == ["qkv.weight[0:6]", "qkv.weight[6:12]"]
    assert torch.equal(found["qkv.weight[6:12]"], model.qkv.weight[6:12])
    with pytest.raises(ValueError, match="slices name 'kv.weight', which is no parameter of the model"):
        scale_invariant(model, lambda: model(x).sum(), slices={"kv.weight": [slice(0, 1)]})


def test_output_filters():
    """Batch norm makes each filter invariant, group norm of several channels only all of them."""
    x = images()
    model = chain(conv(), BN2(4))
    assert scale_invariant_filters(model, lambda: model(x).pow(3).mean())["0.weight"].all()
    model = chain(conv(), GN(2, 4))
    assert not scale_invariant_filters(model, lambda: model(x).pow(3).mean())["0.weight"].any()
    model = Net(lambda n, x: torch.cat([n.bn(n.c(x)[:, :3]), n.c(x)[:, 3:]], 1), c=conv(), bn=BN2(3))
    found = scale_invariant_filters(model, lambda: model(x).pow(3).mean())
    assert found["c.weight"].tolist() == [True, True, True, False]


@pytest.mark.parametrize("groups", [1, 2])
def test_output_filters_of_a_transposed_convolution(groups):
    layer = nn.ConvTranspose2d(2, 4, 2, groups=groups, bias=False)
    model = Net(lambda n, x: torch.cat([n.bn(n.c(x)[:, :3]), n.c(x)[:, 3:]], 1), c=layer, bn=BN2(3))
    x = images()
    found = scale_invariant_filters(model, lambda: model(x).pow(3).mean())
    assert found["c.weight"].tolist() == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_any_precision(dtype):
    model = chain(conv(), BN2(4), nn.ReLU(), conv(4, 2)).to(dtype)
    x = images().to(dtype)
    assert list(scale_invariant(model, lambda: model(x).float().pow(3).mean())) == ["0.weight"]
    assert model[0].weight.dtype == dtype


def test_under_autocast():
    model, x = chain(conv(), BN2(4), nn.ReLU(), conv(4, 2)), images()

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x).float().pow(3).mean()

    assert list(scale_invariant(model, loss)) == ["0.weight"]


class OnlySingle(torch.autograd.Function):
    """An operation that knows no float64, as many fused kernels do."""

    @staticmethod
    def forward(ctx, x):
        if x.dtype != torch.float32:
            raise RuntimeError(f"expected float32, got {x.dtype}")
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_where_float64_cannot_be_had_it_is_said():
    model = Net(lambda n, x: n.out(OnlySingle.apply(n.bn(n.c(x)))), c=conv(), bn=BN2(4), out=conv(4, 2))
    x = images()
    found = examine(model, lambda: model(x).pow(3).mean())
    assert [name for name in found if found[name].invariant] == ["c.weight"]
    assert found["c.weight"].why == "rescaling leaves the loss unchanged, in the model's own precision"


def test_a_compiled_model_is_not_compiled_again():
    model, x = chain(conv(), BN2(4)), images()
    compiled = torch.compile(model, backend="eager")
    assert list(scale_invariant(compiled, lambda: compiled(x).pow(3).mean())) == ["0.weight"]


def test_wrapped_for_several_processes(tmp_path):
    """`DistributedDataParallel`: no process waits for another, and training goes on."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(chain(conv(), BN2(4)))
        x = images()
        assert list(scale_invariant(model, lambda: model(x).pow(3).mean())) == ["0.weight"]
        for _ in range(2):
            model(x).pow(3).mean().backward()
        assert model.module[0].weight.grad.norm() > 0
    finally:
        torch.distributed.destroy_process_group()


def test_sparse_gradients_are_gradients():
    model = Net(lambda n, x: n.norm(n.emb(x)), emb=nn.Embedding(5, 6, sparse=True), norm=nn.RMSNorm(6, 1e-5))
    assert list(scale_invariant(model, lambda: model(tokens()).pow(3).mean())) == ["emb.weight"]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m: m(images()).sum().item(), "must be a tensor of one number with a gradient"),
        (lambda m: m(images()), "must be a tensor of one number with a gradient"),
        (lambda m: m(images()).sum() * float("nan"), "the loss is nan; it must be finite"),
        (lambda m: m(images()).sum() * next(COUNT), "must be of one batch"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss, message):
    model = chain(conv(), nn.ReLU())
    with pytest.raises(ValueError, match=message):
        scale_invariant(model, lambda: loss(model))


COUNT = iter(range(1, 1000))


#: The layers of torchvision's vit_b_16, each a tenth as wide.
NARROW = {"patch_size": 16, "num_layers": 12, "num_heads": 12, "hidden_dim": 72, "mlp_dim": 288}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "invariant", "of"),
    [("resnet18", 32, 20, 21), ("resnet50", 32, 53, 54), ("densenet121", 32, 120, 121), ("VisionTransformer", 16, 0, 38)],
)  # fmt: skip
def test_networks_of_torchvision(name, size, invariant, of):
    """Every convolution before batch norm; and none of a vision transformer, whose stream has biases."""
    models = data.torchvision("models")

    how = NARROW | {"image_size": size} if name == "VisionTransformer" else {}
    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=10, **how)
    x, y = torch.randn(4, 3, size, size), torch.tensor([1, 7, 2, 0])
    found = scale_invariant(model, lambda: F.cross_entropy(model(x), y))
    maps = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert len(maps) == of and len(found) == invariant
    assert found.keys() <= maps
