"""The ResNet-9 family, built from a name such as ``Residual:L1+L3``."""

from collections import OrderedDict
from functools import cache

import torch
from torch import fx, nn

from lib.config import LAYERS, parse_architecture

BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d


class _FewChannels(torch.autograd.Function):
    """Batch norm whose backward pass sees channels first."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps):
        y, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(x, weight, running_mean, running_var, mean, inverse_std)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx, grad):
        x, weight, *averages = ctx.saved_tensors
        grads = torch.ops.aten.native_batch_norm_backward(
            grad.contiguous(), x.contiguous(), weight, *averages, True, ctx.eps, (True, True, True)
        )
        return grads[0].contiguous(memory_format=torch.channels_last), *grads[1:], None, None, None, None


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, also fast for few channels on several threads of a CPU.

    There, with channels last, every thread of torch's backward pass adds up its own sum for each
    channel, and the sums of two threads lie in one line of the cache when channels are fewer than
    the 16 numbers of a line: the threads wait for each other at every addition. With 8 channels two
    threads take eight times as long as one. With channels first they do not.
    """

    CACHE_LINE = 16

    def forward(self, x):
        """Normalised ``x``, of the same shape."""
        if not self._threads_collide(x):
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        averages = (self.running_mean, self.running_var)
        return _FewChannels.apply(x, self.weight, self.bias, *averages, self.momentum, self.eps)

    def _threads_collide(self, x) -> bool:
        several = x.device.type == "cpu" and torch.get_num_threads() > 1
        return self.training and several and self.num_features < self.CACHE_LINE


def conv_bn_relu(channels_in: int, channels_out: int, pool: bool = False) -> nn.Sequential:
    """3×3 convolution without bias, batch norm, ReLU, and if asked a max-pool to half height and width.

    ReLU comes last: it commutes with the maximum, and has a quarter of the work behind it.
    """
    modules = OrderedDict(
        conv=nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        bn=BatchNorm2d(channels_out),
    )
    if pool:
        modules["pool"] = nn.MaxPool2d(2)
    # neither batch norm nor the pool keeps its output for the backward pass: ReLU may overwrite it
    modules["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(modules)


class Residual(nn.Module):
    """``x + res2(res1(x))``, each branch a `conv_bn_relu` of the same width."""

    def __init__(self, channels: int):
        super().__init__()
        self.res1 = conv_bn_relu(channels, channels)
        self.res2 = conv_bn_relu(channels, channels)

    def forward(self, x):
        return x + self.res2(self.res1(x))


class Classifier(nn.Module):
    """Global max pool, linear map without bias, logits scaled by 1/8 as in the original network."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(channels, classes, bias=False)

    def forward(self, x):
        return 0.125 * self.linear(x.amax(dim=(2, 3)))


def build(architecture: str, width: int = 64, classes: int = 10) -> nn.Module:
    """The network of that name, for RGB images, as an `nn.Sequential` from input to logits.

    Input ``(N, 3, H, W)`` with H and W multiples of 8, output ``(N, classes)``. The convolutions
    have ``width``, 2, 4 and 8 times ``width`` channels; 64 is the post's own width. Weights are
    drawn from torch's global generator by torch's default initialisers.

    Raises ValueError when the name is not of the family or the width is below 1.
    """
    kind, branches = parse_architecture(architecture)
    if width < 1:
        raise ValueError(f"width={width!r} is not allowed; it must be a whole number from 1 up")
    net = OrderedDict(prep=conv_bn_relu(3, width))
    for i, name in enumerate(LAYERS):
        channels = width * 2 ** (i + 1)
        layer = conv_bn_relu(channels // 2, channels, pool=True)
        if name in branches and kind == "Residual":
            layer.add_module("residual", Residual(channels))
        elif name in branches:
            layer.add_module("extra", conv_bn_relu(channels, channels))
        net[f"layer{i + 1}"] = layer
    net["classifier"] = Classifier(8 * width, classes)
    return nn.Sequential(net)


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The model's logits, float32; on a GPU computed in bfloat16."""
    # bfloat16 has float32's range: no loss scaling, and weights and optimiser stay float32
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=images.device.type == "cuda"):
        return model(images).float()


def probed_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear maps, by name, from input to output.

    Names leave out the parts that say nothing: ``layer1.residual.res1.conv.weight`` is
    ``layer1.res1``, ``classifier.linear.weight`` is ``classifier``.
    """
    return {
        _short(name): module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


@cache
def layer_names(architecture: str) -> tuple[str, ...]:
    """The names of `probed_weights` of the network of that name.

    Raises ValueError when the name is not of the family.
    """
    with torch.device("meta"):  # which neither draws nor stores a number
        return tuple(probed_weights(build(architecture, width=1)))


def scale_invariant_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those of `probed_weights` whose length does not matter, found from the module graph.

    Such is the weight of a convolution or linear map whose output goes into batch norms and
    nowhere else; a bias in between would cancel. The model must be one that `torch.fx` can trace.
    """
    modules = dict(model.named_modules())

    def is_a(node: fx.Node, kinds) -> bool:
        return node.op == "call_module" and isinstance(modules[node.target], kinds)

    return {
        _short(node.target): modules[node.target].weight
        for node in _Tracer().trace(model).nodes
        if is_a(node, nn.Conv2d | nn.Linear) and all(is_a(user, BATCH_NORMS) for user in node.users)
    }


class _Tracer(fx.Tracer):
    """Traces modules, but none within a batch norm, whoever made it."""

    def is_leaf_module(self, module, name):
        return isinstance(module, BATCH_NORMS) or super().is_leaf_module(module, name)


def _short(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in {"conv", "linear", "residual"})
