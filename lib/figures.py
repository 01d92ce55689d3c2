"""One function for each figure: takes tables, returns a matplotlib figure.

Layers keep their colour everywhere, dark to light from input to output; the classifier, which is
not scale-invariant, is grey. Points, thousands of them, are drawn as pixels also in vector files.
"""

from collections.abc import Iterable
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.analysis import CLASSIFIER

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
THEORY = {"color": "black", "linewidth": 1.5}
CIRCLES = {"s": 6, "linewidth": 0.4, "facecolor": "none", "rasterized": True}


def layer_colours(layers: Iterable[str]) -> dict[str, tuple]:
    """A colour for each layer, by depth; safe for colour-blind readers and in grey."""
    deep = [layer for layer in layers if layer != CLASSIFIER]
    # the last fifth of viridis is too pale on white
    colours = dict(zip(deep, sns.color_palette("viridis", int(len(deep) * 1.25))[: len(deep)], strict=True))
    return colours | {CLASSIFIER: (0.55, 0.55, 0.55)}


def styled(draw):
    """Draws in the book's style, and leaves it to the caller to show the figure."""

    @wraps(draw)
    def styled(*args, **kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)  # else pyplot would show it a second time
        return figure

    return styled


def new_axes(columns: int = 1, rows: int = 1, size: tuple[float, float] = (8, 4), **sharing):
    """A figure and its axes, laid out so that nothing overlaps; ``size`` in inches."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **sharing)


def _by_layer(table: pd.DataFrame):
    return table.groupby("layer", observed=True)


def _against_epoch(axes, table: pd.DataFrame, column: str, label: str, log: bool = True) -> None:
    """One coloured line for each layer against the epoch, with a legend beside the axes."""
    colours = layer_colours(table["layer"].cat.categories)
    for layer, rows in _by_layer(table):
        axes.plot(rows["epoch"], rows[column], color=colours[layer], linewidth=0.8, label=layer)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    legend = axes.legend(title="layer", loc="center left", bbox_to_anchor=(1, 0.5))
    for line in legend.get_lines():
        line.set_linewidth(3)


@styled
def norm_change(table: pd.DataFrame, column: str, limits: tuple[float, float] | None = None) -> Figure:
    """Figures 1 and 2: what each step takes from |w|² or adds to it, from `analysis.dynamics`.

    ``column`` is ``shrinkage``, by weight decay, or ``growth``, by the gradient.
    """
    labels = {"shrinkage": "decrease of |w|² per step", "growth": "increase of |w|² per step"}
    figure, axes = new_axes()
    _against_epoch(axes, table, column, labels[column])
    axes.set_ylim(limits)
    return figure


def shared_limits(*columns: pd.Series) -> tuple[float, float]:
    """Limits of a log axis that hold all but the extreme 0.1 % of the columns, so that figures compare."""
    values = np.concatenate(columns)
    low, high = np.quantile(values[values > 0], [0.001, 0.999])
    return low / 2, high * 2


@styled
def balance(table: pd.DataFrame) -> Figure:
    """Figure 3: growth as circles, shrinkage as a black line, a panel for each layer."""
    figure, panels = _panels(table)
    limits = shared_limits(table["growth"], table["shrinkage"])
    for axes, (layer, rows), colour in panels:
        axes.scatter(rows["epoch"], rows["growth"], edgecolor=colour, label="growth", **CIRCLES)
        axes.plot(rows["epoch"], rows["shrinkage"], label="shrinkage", **THEORY)
        axes.set(title=layer, yscale="log", ylim=limits)
    figure.supylabel("change of |w|² per step")
    return figure


@styled
def weight_norms(table: pd.DataFrame) -> Figure:
    """Figure 4: |w|² of each layer over its initial value, from `analysis.dynamics`."""
    figure, axes = new_axes()
    _against_epoch(axes, table, "norm_sq_relative", "|w|², relative to the start", log=False)
    axes.set_ylim(0, None)
    return figure


@styled
def effective_step(table: pd.DataFrame, line: str) -> Figure:
    """Figures 5 and 7: λ|g|/|w| at every step as circles, its equilibrium value as a black line.

    ``line`` is the label of that value, such as ``√(2λα)``.
    """
    figure, panels = _panels(table)
    top = 2 * table["predicted"].max() or None  # without weight decay there is no line
    for axes, (layer, rows), colour in panels:
        axes.scatter(rows["epoch"], rows["ratio"], edgecolor=colour, label="λ|g|/|w|", **CIRCLES)
        axes.plot(rows["epoch"], rows["predicted"], label=line, **THEORY)
        axes.set(title=layer, ylim=(0, top))
    figure.supylabel(f"λ|g|/|w| (circles) and {line} (line)")
    return figure


@styled
def gradient_correlation(table: pd.DataFrame) -> Figure:
    """Figure 6: κ, the correlation of each gradient with the average of earlier ones, as circles.

    The line is the mean over each epoch. From `analysis.dynamics`.
    """
    figure, panels = _panels(table)
    for axes, (layer, rows), colour in panels:
        axes.scatter(rows["epoch"], rows["correlation"], edgecolor=colour, **CIRCLES)
        means = rows["correlation"].groupby(np.floor(rows["epoch"]) + 0.5).mean()
        axes.plot(means.index, means, **THEORY)
        axes.set(title=layer, ylim=(-1, 1))
    figure.supylabel("κ at each step (circles), mean over an epoch (line)")
    return figure


def _panels(table: pd.DataFrame):
    """A panel for each layer, in rows of four: pairs of axes, rows and colour."""
    groups = list(_by_layer(table))
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = new_axes(columns, rows, (10, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    for spare in axes.flat[len(groups) :]:
        spare.set_visible(False)
    figure.supxlabel("epoch")
    colours = layer_colours(table["layer"].cat.categories)
    panels = [(a, g, colours[g[0]]) for a, g in zip(axes.flat, groups, strict=False)]
    return figure, panels


@styled
def ratio_by_epoch(table: pd.DataFrame) -> Figure:
    """R for each epoch and layer, and what the norm equation gives, from `analysis.ratio_by_epoch`."""
    figure, panels = _panels(table)
    for axes, (layer, rows), colour in panels:
        axes.plot(rows["epoch"], rows["R"], "o", markersize=4, color=colour, label="measured")
        axes.plot(rows["epoch"], rows["R_ode"], label="norm equation", **THEORY)
        axes.axhline(1, color="black", linewidth=0.6, linestyle=":")
        axes.set(title=layer, ylim=(0, 2.5))
    figure.supylabel("R, measured over predicted")
    return figure


@styled
def equilibrium(tables: dict[str, pd.DataFrame], tolerance: float) -> Figure:
    """R over the equilibrium window for each layer, mean and range over seeds, a colour for each run.

    ``tables`` are of `analysis.equilibrium`, by label; the band is 1 ± ``tolerance``.
    """
    figure, axes = _ratio_axes(tables, tolerance)
    for x, label, table, style in _side_by_side(tables):
        around = [table["R"] - table["low"], table["high"] - table["R"]]
        axes.errorbar(x, table["R"], yerr=around, linestyle="none", capsize=3, label=label, **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def correction(tables: dict[str, pd.DataFrame], tolerance: float) -> Figure:
    """R before (hollow) and after (filled) the correction for gradient correlation, as `equilibrium`."""
    figure, axes = _ratio_axes(tables, tolerance)
    for x, label, table, style in _side_by_side(tables):
        axes.plot(x, table["R"], linestyle="none", fillstyle="none", label=f"{label}, as measured", **style)
        axes.plot(x, table["R_corrected"], linestyle="none", label=f"{label}, corrected", **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _ratio_axes(tables: dict[str, pd.DataFrame], tolerance: float):
    """Axes with the layers along x, R along y, a line at 1 and a band of that tolerance."""
    figure, axes = new_axes(size=(8, 3.6))
    axes.axhspan(1 - tolerance, 1 + tolerance, color="black", alpha=0.08, linewidth=0)
    axes.axhline(1, color="black", linewidth=0.8)
    layers = next(iter(tables.values())).index
    axes.set_xticks(np.arange(len(layers)), layers, rotation=30, ha="right")
    axes.set_ylabel("R, measured over predicted")
    return figure, axes


def _side_by_side(tables: dict[str, pd.DataFrame]):
    """For each labelled table: its positions along x, and its marker and colour."""
    offsets = np.linspace(-0.15, 0.15, len(tables)) if len(tables) > 1 else [0]
    for (label, table), offset in zip(tables.items(), offsets, strict=True):
        yield np.arange(len(table)) + offset, label, table, form_style(label)


def form_style(form: str) -> dict[str, object]:
    """Marker and colour of a form of SGD, the same in every figure; raises ValueError for another."""
    markers = dict(zip(("sgd", "heavy-ball", "nesterov"), "osD", strict=True))
    if form not in markers:
        raise ValueError(f"form={form!r} is not known; it must be one of {', '.join(markers)}")
    colours = dict(zip(markers, sns.color_palette("colorblind"), strict=False))
    return {"marker": markers[form], "color": colours[form]}


@styled
def schedule(lr_schedule, epochs: int) -> Figure:
    """The learning rate against the epoch."""
    figure, axes = new_axes(size=(6, 2.6))
    time = np.linspace(0, epochs, 500)
    axes.plot(time, lr_schedule(time), **THEORY)
    axes.set(xlabel="epoch", ylabel="learning rate λ", xlim=(0, epochs), ylim=(0, None))
    return figure


@styled
def learning_curves(tables: dict[str, list[pd.DataFrame]]) -> Figure:
    """Test accuracy against the epoch, a colour for each label, a line for each of its runs."""
    figure, axes = new_axes(size=(7, 3.6))
    for label, runs in tables.items():
        colour = form_style(label)["color"]
        for i, epochs in enumerate(runs):
            text = label if i == 0 else None
            axes.plot(epochs["epoch"], epochs["test_accuracy"], color=colour, linewidth=1.2, label=text)
    axes.set(xlabel="epoch", ylabel="test accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right")
    return figure


@styled
def images(rows: dict[str, np.ndarray]) -> Figure:
    """Rows of images with a label each; an image is ``(H, W, 3)`` with values in 0..1."""
    columns = max(len(row) for row in rows.values())
    figure, axes = new_axes(columns, len(rows), (columns, 1.05 * len(rows)), squeeze=False)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.grid(False)
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
    return figure
