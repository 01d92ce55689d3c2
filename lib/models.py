"""The ResNet-9 family, built from a name such as ``Residual:L1+L3``."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from .config import LAYERS, parse_architecture


class BatchNormReLU(nn.BatchNorm2d):
    """Batch norm, a 2×2 max pool if asked, and ReLU.

    ReLU comes last: it commutes with the maximum, and has a quarter of the work behind it.
    """

    def __init__(self, channels: int, pool: bool = False):
        super().__init__(channels)
        self.pool = pool

    def forward(self, x):
        """``x`` normalised, pooled and rectified, ``(N, C, H, W)`` to the same or half of H and W."""
        x = super().forward(x)
        # neither batch norm nor the pool keeps its output for the backward pass: ReLU may overwrite it
        return F.relu(F.max_pool2d(x, 2) if self.pool else x, inplace=True)

    def extra_repr(self):
        return f"{super().extra_repr()}, pool={self.pool}"


class Convolution(nn.Conv2d):
    """3×3 convolution with a border of zeros, without bias."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1, bias=False)

    def forward(self, x):
        """``(N, channels_in, H, W)`` to ``(N, channels_out, H, W)``."""
        few_pixels = x.shape[2] * x.shape[3] <= 16
        if few_pixels and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return ConvolutionByProduct.apply(x.bfloat16(), self.weight.bfloat16())
        return super().forward(x)


class ConvolutionByProduct(torch.autograd.Function):
    """The same as one matrix product each way, of the 3×3 surroundings of all pixels.

    oneDNN has no fast kernel in bfloat16 for many channels and images of a few pixels: forward and
    backward together take it 2.8 times as long, a quarter of a step of the largest network.
    """

    @staticmethod
    def forward(ctx, x, weight):
        """``x`` ``(N, C, H, W)`` and ``weight`` ``(D, C, 3, 3)`` to ``(N, D, H, W)``."""
        ctx.save_for_backward(x, weight)
        return _as_images(_surroundings(x) @ weight.permute(2, 3, 1, 0).flatten(0, 2), x)

    @staticmethod
    def backward(ctx, grad):
        """Gradients of ``x`` and ``weight`` from that of the output."""
        x, weight = ctx.saved_tensors
        # a gradient goes back along the way of its pixel: the kernel turned around
        grad_x = _surroundings(grad) @ weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
        grad_weight = grad.permute(0, 2, 3, 1).flatten(0, 2).T @ _surroundings(x)
        return _as_images(grad_x, x), grad_weight.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)


def _surroundings(x):
    """The 3×3 pixels about each pixel of ``(N, C, H, W)``, zeros outside: ``(N·H·W, 9·C)``."""
    height, width = x.shape[2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.cat(shifted, dim=3).flatten(0, 2)


def _as_images(pixels, like):
    """``(N·H·W, C)`` as ``(N, C, H, W)`` with N, H, W of ``like``, channels last in memory."""
    return pixels.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def conv_bn_relu(channels_in: int, channels_out: int, pool: bool = False) -> nn.Sequential:
    """3×3 convolution without bias, batch norm, ReLU, and if asked a max pool to half height and width."""
    conv = Convolution(channels_in, channels_out)
    # pyrefly: ignore[no-matching-overload], for modules of two classes are modules
    return nn.Sequential(OrderedDict(conv=conv, bn=BatchNormReLU(channels_out, pool)))


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
    net: OrderedDict[str, nn.Module] = OrderedDict(prep=conv_bn_relu(3, width))
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


def logits(model: nn.Module, images: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
    """The model's logits, float32; with ``precision="bf16"`` activations and convolutions are bfloat16."""
    # bfloat16 has float32's range: no loss scaling, and weights and optimiser stay float32
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return model(images).float()


def probed_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of all convolutions and linear maps, by name, from input to output.

    Names leave out the parts that say nothing: ``layer1.residual.res1.conv.weight`` is
    ``layer1.res1``, ``classifier.linear.weight`` is ``classifier``.
    """
    return {
        _short(name): module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def scale_invariant_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Those of `probed_weights` whose length does not matter, in a network that `build` made.

    These are its convolutions: batch norm follows each of them, and nothing else reads its output.
    `lib.invariance.scale_invariant` finds such weights in any network.
    """
    convolutions = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d)}
    return {name: w for name, w in probed_weights(model).items() if id(w) in convolutions}


def _short(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in {"conv", "linear", "residual"})
