"""How every figure looks: its style, and which colour and marker stand for what.

Layers keep their colour everywhere, dark to light from input to output; the classifier, which is
not scale-invariant, is grey. Where colours could be mistaken for each other, by a colour-blind
reader or in grey, markers differ too.
"""

import io
import os
from collections.abc import Iterable
from functools import wraps
from typing import Any, BinaryIO

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import SVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..config import CLASSIFIER, parse_architecture

STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "svg.hashsalt": "lib",  # the same figure gives the same file
}
#: Pixels per inch of what is drawn as pixels in a vector file.
VECTOR_DPI = 120
THEORY = {"color": "black", "linewidth": 1.5}
# points, thousands of them, are drawn as pixels also in vector files
CIRCLES = {"s": 6, "linewidth": 0.4, "facecolor": "none", "rasterized": True}
STEPS = {"linewidth": 0.8, "alpha": 0.8, "rasterized": True}
#: Panels for a figure that is also read on a phone: three in a row, in inches.
NARROW = {"columns": 3, "size": (2.35, 2.1)}

_BLUE, _ORANGE, _GREEN, _VERMILION, *_, _SKY = sns.color_palette("colorblind").as_hex()
#: Wine, of Paul Tol's muted scheme: the palette's own next colours are too near to these three.
_FORMS = {
    "sgd": {"marker": "o", "color": _BLUE},
    "heavy-ball": {"marker": "s", "color": _ORANGE},
    "nesterov": {"marker": "D", "color": _GREEN},
    "lars": {"marker": "^", "color": "#882255"},
}
#: Colours of Paul Tol's muted scheme, which has enough of them.
_BRANCHES = {
    (): ("#000000", "o"),
    ("L1",): ("#88CCEE", "s"),
    ("L2",): ("#117733", "^"),
    ("L3",): ("#44AA99", "v"),
    ("L1", "L2"): ("#DDCC77", "P"),
    ("L1", "L3"): ("#332288", "D"),
    ("L2", "L3"): ("#CC6677", "X"),
    ("L1", "L2", "L3"): ("#AA4499", "p"),
}
_OTHERS = [{"marker": "o", "color": _VERMILION}, {"marker": "^", "color": _SKY}]
#: What `lib.running.bench` measures, but for the trainer without probes, which would hide under that with them.
VARIANTS = {
    "plain": {"label": "plain loop", "marker": "s", "color": _ORANGE},
    "trainer": {"label": "trainer", "marker": "o", "color": _BLUE},
    "convolutions": {"label": "convolutions alone", "marker": "D", "color": _GREEN},
    "arithmetic": {"label": "arithmetic alone", "linestyle": "--", **THEORY},
}


def layer_colours(layers: Iterable[str]) -> dict[str, tuple]:
    """A colour for each layer, by depth; safe for colour-blind readers and in grey."""
    deep = [layer for layer in layers if layer != CLASSIFIER]
    # the last fifth of viridis is too pale on white
    colours = dict(zip(deep, sns.color_palette("viridis", int(len(deep) * 1.25))[: len(deep)], strict=True))
    return colours | {CLASSIFIER: (0.55, 0.55, 0.55)}


def form_style(form: str) -> dict[str, object]:
    """Marker and colour of a form of SGD or of LARS; raises ValueError for another."""
    if form not in _FORMS:
        raise ValueError(f"form={form!r} is not known; it must be one of {', '.join(_FORMS)}")
    return dict(_FORMS[form])


def architecture_style(architecture: str) -> dict[str, Any]:
    """Marker, colour and kind of line of a network, by its name.

    The layers that carry a branch give colour and marker; what they carry gives the line: solid
    and filled for residual branches, dashed and hollow for extra convolutions. Raises ValueError
    for a name that is not of the family.
    """
    kind, branches = parse_architecture(architecture)
    colour, marker = _BRANCHES[branches]
    hollow = kind == "Extra"
    return {
        "color": colour,
        "marker": marker,
        "linestyle": "--" if hollow else "-",
        "fillstyle": "none" if hollow else "full",
    }


def label_styles(labels: Iterable[str]) -> dict[str, dict[str, object]]:
    """Marker and colour of each of two things at most that have none of their own, in order.

    Raises ValueError for more than two.
    """
    labels = list(labels)
    if len(labels) > len(_OTHERS):
        raise ValueError(f"labels={labels} are too many; there are styles for {len(_OTHERS)}")
    return {label: dict(style) for label, style in zip(labels, _OTHERS, strict=False)}


def _book_style():
    """The book's settings upon matplotlib's own: those of the reader's matplotlibrc change no figure."""
    return plt.style.context(["default", STYLE])


def styled(draw):
    """Draws in the book's style, and leaves it to the caller to show the figure."""

    @wraps(draw)
    def styled(*args, **kwargs) -> Figure:
        with _book_style():
            figure = draw(*args, **kwargs)
        plt.close(figure)  # else pyplot would show it a second time
        return figure

    return styled


def save(figure: Figure, file: str | os.PathLike | BinaryIO, format: str) -> None:
    """Writes a figure in the book's style as ``svg``, ``pdf`` or ``png``; the same figure gives the same bytes."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    dpi = STYLE["savefig.dpi"] if format == "png" else VECTOR_DPI
    with _book_style():
        figure.savefig(file, format=format, dpi=dpi, metadata=undated.get(format))


def shown(figure: Figure) -> SVG:
    """The figure as a chapter shows it: vectors, crisp at every size; points by the thousand are pixels in it."""
    file = io.BytesIO()
    save(figure, file, "svg")
    return SVG(file.getvalue().decode())


def new_axes(
    columns: int = 1, rows: int = 1, size: tuple[float, float] = (8, 4), **sharing
) -> tuple[Figure, Any]:
    """A figure and its axes, laid out so that nothing overlaps; ``size`` in inches."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **sharing)


def grid(panels: int, columns: int, size: tuple[float, float]):
    """A figure and that many axes with the same limits, in rows of ``columns``; ``size`` of each, in inches."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    figure, axes = new_axes(
        columns, rows, (columns * size[0], rows * size[1]), sharex=True, sharey=True, squeeze=False
    )
    for spare, above in zip(axes.flat[panels:], axes.flat[panels - columns :], strict=False):
        spare.set_visible(False)
        above.tick_params(labelbottom=True)  # nothing under it has them
    return figure, list(axes.flat[:panels])


def layer_panels(table: pd.DataFrame, columns: int = 4, size: tuple[float, float] = (2.5, 2.6)):
    """A figure against the epoch with a panel for each layer: triples of axes, ``(layer, rows)`` and colour."""
    groups = list(table.groupby("layer", observed=True))
    figure, axes = grid(len(groups), columns, size)
    figure.supxlabel("epoch")
    colours = layer_colours(table["layer"].cat.categories)
    return figure, [(a, g, colours[g[0]]) for a, g in zip(axes, groups, strict=True)]


def legend_above(figure: Figure, columns: int = 4) -> None:
    """One legend for all axes, each label once, with lines that are thick enough to tell colours."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    legend = figure.legend(once.values(), once, loc="outside upper center", ncols=columns)
    for line in legend.get_lines():
        line.set(linewidth=max(2, line.get_linewidth()), alpha=1)


def log_ticks(axes, ticks) -> None:
    """Makes x logarithmic, with these ticks and no others, as plain numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def percent_ticks(axes) -> None:
    """Labels y, a fraction, in percent, at round numbers: a label that was rounded would lie."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
