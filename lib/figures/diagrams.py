"""What is drawn to scale rather than measured: the vectors of a step, and the network."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch, Wedge

from .. import theory
from ..config import CLASSIFIER, Config, parse_architecture
from .style import label_styles, layer_colours, new_axes, styled

#: λα of the drawn steps: far above that of a training, so that decay can be seen.
DRAWN_DECAY = 0.08
#: Where the drawn weights point, in degrees.
DIRECTION = 15


def step(length: float, decay: float = DRAWN_DECAY) -> np.ndarray:
    """w, w − λg, and w − λg − λαw of a step at equilibrium, as three points in the plane, (3, 2).

    ``length`` is |w|, and ``decay`` λα. As g is orthogonal to w and of equilibrium size, the last is as long as w.
    """
    w = length * np.array([np.cos(np.radians(DIRECTION)), np.sin(np.radians(DIRECTION))])
    along_gradient = np.array([-w[1], w[0]]) * theory.equilibrium_ratio(lr=1.0, weight_decay=decay)
    return np.array([w, w + along_gradient, w + along_gradient - decay * w])


@styled
def vectors() -> Figure:
    """One step at equilibrium with its names, and the same step of a short and of a long vector, to scale."""
    figure, axes = new_axes(size=(6.6, 2.2))
    w, stepped, after = _step_on_circle(axes, 0, 1.0)
    corner = 0.05 * np.array([-w, [-w[1], w[0]]])
    square = np.transpose([w + corner[0], w + corner.sum(axis=0), w + corner[1]])
    axes.plot(*square, color="black", linewidth=0.8)
    for text, at, offset, side in (
        ("$w$", 0.6 * w, (4, -11), "center"),
        ("$-\\lambda g$, the step", (w + stepped) / 2, (7, 0), "left"),
        ("$-\\lambda\\alpha w$, decay", (stepped + after) / 2, (2, 11), "left"),
        ("$w$ after it", 0.6 * after, (-6, 8), "right"),
    ):
        axes.annotate(text, at, xytext=offset, textcoords="offset points", ha=side, va="center", fontsize=12)
    for start, length, name in ((1.9, 0.5, "a short $w$"), (2.7, 1.0, "a long $w$")):
        *_, after = _step_on_circle(axes, start, length)
        turned = np.degrees(np.arctan2(*after[::-1]))
        between = np.radians((DIRECTION + turned) / 2)
        axes.add_patch(Wedge((start, 0), 0.3, DIRECTION, turned, facecolor="black", alpha=0.15))
        axes.text(
            start + 0.22 * np.cos(between), 0.22 * np.sin(between), "θ", ha="center", va="center", fontsize=12
        )
        axes.text(start + 0.5 * length, -0.14, name, ha="center", va="center", fontsize=12)
    axes.set(xlim=(-0.03, 3.8), ylim=(-0.22, 0.97), aspect="equal")
    axes.axis("off")
    return figure


def _step_on_circle(axes, start: float, length: float) -> np.ndarray:
    """Draws a step from (start, 0), with a part of its circle; its points beside that, those of `step`."""
    w, stepped, after = step(length)
    parts = label_styles(("step", "decay"))
    arc = {"theta1": -4, "theta2": 72, "linestyle": "--", "color": "0.5"}
    axes.add_patch(Arc((start, 0), 2 * length, 2 * length, **arc))
    for tail, tip, colour in (
        ((0, 0), after, "0.6"),
        ((0, 0), w, "black"),
        (w, stepped, parts["step"]["color"]),
        (stepped, after, parts["decay"]["color"]),
    ):
        arrow = _arrow((start + tail[0], tail[1]), (start + tip[0], tip[1]))
        arrow.set(arrowstyle="-|>", color=colour, linewidth=2, joinstyle="miter")
        axes.add_patch(arrow)
    return np.array([w, stepped, after])


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
