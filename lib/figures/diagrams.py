"""The network as a diagram."""

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ..config import CLASSIFIER, Config, parse_architecture
from .style import layer_colours, new_axes, styled


@styled
def network(config: Config, image_size: int) -> Figure:
    """The network of a config as a diagram, from image to logits, with channels and image sizes."""
    boxes, skips = _blocks(config, image_size)
    figure, axes = new_axes(size=(10, 2.3))
    colours = layer_colours([layer for _, _, layer in boxes if layer])
    for i, (title, detail, layer) in enumerate(boxes):
        colour = (*colours[layer], 0.35) if layer else "white"
        axes.add_patch(
            FancyBboxPatch(
                (i - 0.4, 0), 0.8, 1, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="black"
            )
        )
        axes.text(i, 0.85, title, ha="center", va="center", fontsize=10, fontweight="bold")
        axes.text(i, 0.38, detail, ha="center", va="center", fontsize=9)
        if i:
            axes.add_patch(_arrow((i - 0.6, 0.5), (i - 0.4, 0.5)))
    for start, end in skips:
        axes.plot([start, start, end + 0.5], [1.02, 1.25, 1.25], color="black", linewidth=1)
        axes.add_patch(_arrow((end + 0.5, 1.26), (end + 0.5, 0.52)))
    axes.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-0.1, 1.35))
    axes.axis("off")
    return figure


def _arrow(start, end) -> FancyArrowPatch:
    return FancyArrowPatch(start, end, arrowstyle="->", mutation_scale=10, shrinkA=0, shrinkB=0)


def _blocks(config: Config, size: int):
    """Boxes ``(title, detail, layer or None)`` in order, and skip connections ``(from, to)``."""
    kind, branches = parse_architecture(config.architecture)
    boxes: list[tuple[str, str, str | None]] = [("image", f"3 × {size}²", None)]
    skips = []
    channels = config.width

    def conv(layer: str, pool: str = "") -> None:
        title = layer.rpartition(".")[2]
        boxes.append((title, f"3×3 conv\nBN, ReLU\n{pool}\n{channels} × {size}²", layer))

    conv("prep")
    for i in (1, 2, 3):
        channels, size = channels * 2, size // 2
        conv(f"layer{i}", "max 2×2")
        if f"L{i}" in branches and kind == "Residual":
            skips.append((len(boxes) - 1, len(boxes) + 1))
            conv(f"layer{i}.res1")
            conv(f"layer{i}.res2")
        elif f"L{i}" in branches:
            conv(f"layer{i}.extra")
    boxes.append(("classifier", f"max {size}×{size}\nlinear\n× 1/8\n10 logits", CLASSIFIER))
    return boxes, skips
