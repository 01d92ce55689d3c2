"""What is drawn to scale rather than measured: the vectors of a step, and the network."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch, Wedge

from .. import theory
from ..config import CLASSIFIER, Config, parse_architecture
from .layout import is_narrow, new_axes
from .style import label_styles, layer_colours, styled

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
    figure, axes = new_axes(height=5.0 if is_narrow() else 2.5)
    w, stepped, after = _step_on_circle(axes, (0, 0), 1.0)
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
    # on a phone the pair stands below
    left, low = (0, -1.35) if is_narrow() else (1.9, 0)
    for x, length, name in ((left, 0.5, "a short $w$"), (left + 0.8, 1.0, "a long $w$")):
        *_, after = _step_on_circle(axes, (x, low), length)
        turned = np.degrees(np.arctan2(*after[::-1]))
        between = np.radians((DIRECTION + turned) / 2)
        axes.add_patch(Wedge((x, low), 0.3, DIRECTION, turned, facecolor="black", alpha=0.15))
        axes.text(
            x + 0.22 * np.cos(between),
            low + 0.22 * np.sin(between),
            "θ",
            ha="center",
            va="center",
            fontsize=12,
        )
        axes.text(x + 0.5 * length, low - 0.14, name, ha="center", va="center", fontsize=12)
    axes.set(xlim=(-0.03, 1.9 if is_narrow() else 3.8), ylim=(low - 0.22, 0.97), aspect="equal")
    axes.axis("off")
    return figure


def _step_on_circle(axes, start: tuple[float, float], length: float) -> np.ndarray:
    """Draws a step from ``start``, with a part of its circle; its points beside that, those of `step`."""
    w, stepped, after = step(length)
    parts = label_styles(("step", "decay"))
    arc = {"theta1": -4, "theta2": 72, "linestyle": "--", "color": "0.5"}
    axes.add_patch(Arc(start, 2 * length, 2 * length, **arc))
    for tail, tip, colour in (
        ((0, 0), after, "0.6"),
        ((0, 0), w, "black"),
        (w, stepped, parts["step"]["color"]),
        (stepped, after, parts["decay"]["color"]),
    ):
        arrow = _arrow(np.add(start, tail), np.add(start, tip))
        arrow.set(arrowstyle="-|>", color=colour, linewidth=2, joinstyle="miter")
        axes.add_patch(arrow)
    return np.array([w, stepped, after])


@styled
def network(config: Config, image_size: int) -> Figure:
    """The network of a config as a diagram, from image to logits, with channels and image sizes.

    From left to right; on a phone from top to bottom.
    """
    boxes, skips = _blocks(config, image_size)
    down, last = is_narrow(), len(boxes) - 0.5
    figure, axes = new_axes(height=0.5 * len(boxes) if down else 2.0)
    colours = layer_colours([layer for _, _, layer in boxes if layer])

    def place(along: float, across: float) -> tuple[float, float]:
        return (3.2 * across, -along) if down else (along, across)

    for i, (title, detail, layer) in enumerate(boxes):
        colour = (*colours[layer], 0.35) if layer else "white"
        corner, size = (place(i + 0.33, 0), (3.2, 0.66)) if down else ((i - 0.42, 0), (0.84, 1))
        axes.add_patch(
            FancyBboxPatch(corner, *size, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="black")
        )
        one_line = ", ".join(filter(None, detail.replace("BN, ReLU", "BN+ReLU").split("\n")))
        at, text = (place(i - 0.14, 0.5), place(i + 0.17, 0.5)) if down else ((i, 0.87), (i, 0.38))
        axes.text(*at, title, ha="center", va="center", fontsize=8, fontweight="bold")
        axes.text(*text, one_line if down else detail, ha="center", va="center", fontsize=7.5 if down else 7)
        if i:
            gap = (0.67, 0.33) if down else (0.57, 0.44)
            axes.add_patch(_arrow(place(i - gap[0], 0.5), place(i - gap[1], 0.5), head=10 if down else 5))
    for start, end in skips:
        joint = place(end + 0.5, 0.5)
        corners = [place(start, 1.02), place(start, 1.2), place(end + 0.5, 1.2), joint]
        axes.plot(*np.transpose(corners), color="black", linewidth=1)
        axes.plot(*joint, "o", color="black", markersize=3)
    limits = (
        {"xlim": (-0.1, 4), "ylim": (-last, 0.5)} if down else {"xlim": (-0.5, last), "ylim": (-0.1, 1.35)}
    )
    axes.set(**limits)
    axes.axis("off")
    return figure


def _arrow(start, end, head: float = 10) -> FancyArrowPatch:
    return FancyArrowPatch(start, end, arrowstyle="->", mutation_scale=head, shrinkA=0, shrinkB=0)


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
