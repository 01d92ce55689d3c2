"""One function for each figure: takes tables, returns a matplotlib figure.

What stands for what is in `lib.figures.style`.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ..results import learning_rates
from .style import (
    CIRCLES,
    NARROW,
    STEPS,
    THEORY,
    VARIANTS,
    architecture_style,
    form_style,
    grid,
    label_styles,
    layer_colours,
    layer_panels,
    legend_above,
    log_ticks,
    new_axes,
    percent_ticks,
    styled,
)


def _against_epoch(axes, table: pd.DataFrame, column: str, label: str, log: bool = True) -> None:
    """One coloured line for each layer against the epoch, with a legend beside the axes."""
    colours = layer_colours(table["layer"].cat.categories)
    for layer, rows in table.groupby("layer", observed=True):
        axes.plot(rows["epoch"], rows[column], color=colours[layer], label=layer, **STEPS | {"alpha": 1})
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
    _against_epoch(axes, table, column, labels[column], log=bool((table[column] > 0).any()))
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
    figure, panels = layer_panels(table)
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
    figure, panels = layer_panels(table)
    top = 2 * table["predicted"].max() or None
    label = f"λ|g|/|w| (circles) and {line} (line)" if top else "λ|g|/|w|; no decay, and so no line"
    for axes, (layer, rows), colour in panels:
        axes.scatter(rows["epoch"], rows["ratio"], edgecolor=colour, label="λ|g|/|w|", **CIRCLES)
        if top:
            axes.plot(rows["epoch"], rows["predicted"], label=line, **THEORY)
        axes.set(title=layer, ylim=(0, top))
    figure.supylabel(label)
    return figure


@styled
def gradient_correlation(table: pd.DataFrame) -> Figure:
    """Figure 6: κ, the correlation of each gradient with the average of earlier ones, as circles.

    The line is the mean over each epoch. From `analysis.dynamics`.
    """
    figure, panels = layer_panels(table)
    for axes, (layer, rows), colour in panels:
        axes.scatter(rows["epoch"], rows["correlation"], edgecolor=colour, **CIRCLES)
        means = rows["correlation"].groupby(np.floor(rows["epoch"]) + 0.5).mean()
        axes.plot(means.index, means, **THEORY)
        axes.set(title=layer, ylim=(-1, 1))
    figure.supylabel("κ at each step (circles), mean over an epoch (line)")
    return figure


@styled
def ratio_by_epoch(table: pd.DataFrame) -> Figure:
    """R for each epoch and layer, and what the norm equation and the closed form of the end give for it.

    From `analysis.ratio_by_epoch`; where it is driven by the run's own gradients alone, that is drawn.
    """
    figure, panels = layer_panels(table)
    top = 2.5 if table["R"].quantile(0.95) < 2.5 else 4
    for axes, (layer, rows), colour in panels:
        axes.plot(rows["epoch"], rows["R"], "o", markersize=4, color=colour, label="measured")
        axes.plot(
            rows["epoch"], rows["R_ode"], color="0.6", linewidth=3, zorder=1, label="equation, own c(t)"
        )
        axes.plot(rows["epoch"], rows["R_others"], label="equation, c(t) of other seeds", **THEORY)
        axes.plot(
            rows["epoch"], rows["R_end"], label="closed form of the end", **THEORY | {"linestyle": "--"}
        )
        axes.axhline(1, color="black", linewidth=0.6, linestyle=":")
        axes.set(title=layer, ylim=(0, top))
    figure.supylabel("R, measured over predicted")
    legend_above(figure, columns=2)
    return figure


@styled
def equilibrium(tables: dict[str, pd.DataFrame], tolerance: float, quantity: str = "R") -> Figure:
    """R, or another ``quantity``, over the equilibrium window for each layer, a colour for each form.

    Mean and range over seeds. ``tables`` are of `analysis.equilibrium` or `analysis.rotations`, by form; the band
    is 1 ± ``tolerance``.
    """
    figure, axes = _ratio_axes(tables, tolerance, quantity)
    for x, label, table, style in _beside(tables):
        around = [table["R"] - table["low"], table["high"] - table["R"]]
        axes.errorbar(x, table["R"], yerr=around, linestyle="none", capsize=3, label=label, **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def correction(tables: dict[str, pd.DataFrame], tolerance: float) -> Figure:
    """R before (hollow) and after (filled) the correction for gradient correlation, as `equilibrium`."""
    figure, axes = _ratio_axes(tables, tolerance)
    for x, label, table, style in _beside(tables):
        axes.plot(x, table["R"], linestyle="none", fillstyle="none", label=f"{label}, as measured", **style)
        axes.plot(x, table["R_corrected"], linestyle="none", label=f"{label}, corrected", **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _ratio_axes(tables: dict[str, pd.DataFrame], tolerance: float, quantity: str = "R"):
    """Axes with the layers along x, R or another quantity along y, a line at 1 and a band of that tolerance."""
    figure, axes = new_axes(size=(8, 3.6))
    axes.axhspan(1 - tolerance, 1 + tolerance, color="black", alpha=0.08, linewidth=0)
    axes.axhline(1, color="black", linewidth=0.8)
    layers = next(iter(tables.values())).index
    axes.set_xticks(np.arange(len(layers)), layers, rotation=30, ha="right")
    axes.set_ylabel(f"{quantity}, measured over predicted")
    return figure, axes


def _beside(tables: dict[str, pd.DataFrame]):
    """For each labelled table: its positions along x, and its marker and colour."""
    offsets = np.linspace(-0.15, 0.15, len(tables)) if len(tables) > 1 else [0]
    for (label, table), offset in zip(tables.items(), offsets, strict=True):
        yield np.arange(len(table)) + offset, label, table, form_style(label)


@styled
def batch_sizes(tables: dict[str, pd.DataFrame]) -> Figure:
    """λ|g|/|w| of runs of two batch sizes, root mean square over each epoch; dashed, the equilibrium values.

    ``tables`` are of `analysis.dynamics`, by label.
    """
    styles = label_styles(tables)
    figure, panels = layer_panels(next(iter(tables.values())), **NARROW)
    top = 2 * max(table["predicted"].max() for table in tables.values()) or None
    for axes, (layer, _), _ in panels:
        of_layer = _of_layer(tables, layer)
        for label, rows in of_layer.items():
            squares = (rows["ratio"] ** 2).groupby(np.floor(rows["epoch"]) + 0.5).mean()
            axes.plot(squares.index, np.sqrt(squares), label=label, markersize=4, **styles[label])
        for rows in of_layer.values():
            axes.plot(rows["epoch"], rows["predicted"], label="equilibrium", linestyle="--", **THEORY)
        axes.set(title=layer, ylim=(0, top))
    figure.supylabel("λ|g|/|w|, rms over an epoch")
    legend_above(figure)
    return figure


@styled
def side_by_side(tables: dict[str, pd.DataFrame], column: str, label: str, log: bool = False) -> Figure:
    """A column of two forms' tables at every step, a panel for each layer, a colour for each form.

    ``tables`` are of `analysis.dynamics`, by form, such as ``heavy-ball`` and ``lars``; ``label``
    says what the column is.
    """
    figure, panels = layer_panels(next(iter(tables.values())), **NARROW)
    low, high = shared_limits(*(table[column] for table in tables.values()))
    limits = (low, high) if log else (0, high / 1.5)  # a log axis needs more room
    for axes, (layer, _), _ in panels:
        for form, rows in _of_layer(tables, layer).items():
            colour = form_style(form)["color"]
            axes.plot(rows["epoch"], rows[column], label=form, color=colour, **STEPS)
        axes.set(title=layer, yscale="log" if log else "linear", ylim=limits)
    figure.supylabel(label)
    legend_above(figure)
    return figure


def _of_layer(tables: dict[str, pd.DataFrame], layer: str) -> dict[str, pd.DataFrame]:
    return {label: table[table["layer"] == layer] for label, table in tables.items()}


@styled
def gradient_noise(table: pd.DataFrame) -> Figure:
    """rms |g| against the batch size with the weights held still, a panel for each epoch.

    ``table`` has ``epoch``, ``batch_size``, ``layer`` (categorical) and ``grad_norm_sq``, the mean of
    |g|² over batches. Dashed: the slope −1/2 of gradients that are all noise.
    """
    sizes = np.unique(table["batch_size"])
    epochs = list(table.groupby("epoch"))
    figure, panels = grid(len(epochs), 2, (3.5, 2.7))
    colours = layer_colours(table["layer"].cat.categories)
    for axes, (epoch, rows) in zip(panels, epochs, strict=True):
        for layer, of_layer in rows.groupby("layer", observed=True):
            rms = np.sqrt(of_layer.groupby("batch_size")["grad_norm_sq"].mean())
            axes.plot(rms.index, rms, "o-", markersize=3, color=colours[layer], label=layer)
        start = 1.5 * np.sqrt(rows["grad_norm_sq"].max())
        axes.plot(sizes, start * np.sqrt(sizes[0] / sizes), label="slope −1/2", linestyle="--", **THEORY)
        axes.set(title=f"epoch {epoch:g}", yscale="log")
        axes.set_ylim(shared_limits(np.sqrt(table["grad_norm_sq"])))
        log_ticks(axes, sizes[::2])
    figure.supxlabel("batch size N")
    figure.supylabel("|g|, rms over batches")
    legend_above(figure)
    return figure


@styled
def accuracy_against_lr(
    table: pd.DataFrame, smooth: pd.DataFrame | None = None, optima: pd.DataFrame | None = None
) -> Figure:
    """Figures 8 and 9: test accuracy against λ for each architecture; the thin line is at λ = 0.4.

    ``table`` is of `learning_rates.table`: the means over seeds, and each run as a dot beside them. With
    ``smooth``, of `learning_rates.smoothed`, its curves are drawn instead; a marker on a curve is
    at λ* of ``optima``, of `tops.optima`, unless that is only a bound. A run that diverged
    is a cross at the bottom.
    """
    figure, axes = new_axes(size=(6.5, 4.5))
    axes.axvline(learning_rates.common(table), color="black", linewidth=0.8, linestyle=":")
    bottom, top = _whole_percents(table["accuracy"])
    for architecture, runs in table.groupby("architecture", observed=True):
        style = architecture_style(architecture)
        axes.plot([], [], label=architecture, **style)
        runs = learning_rates.finished(runs)
        if smooth is None:
            means = runs.groupby("lr")["accuracy"].mean()
            axes.plot(means.index, means, **style)
            several = runs[runs.groupby("lr")["seed"].transform("nunique") > 1]
            beside = 1.06 * several["lr"]  # under the mean they would not be seen
            axes.plot(beside, several["accuracy"], ".", markersize=4, color=style["color"])
            continue
        curve = smooth[smooth["architecture"] == architecture]
        axes.plot(curve["lr"], curve["accuracy"], **style | {"marker": ""})
        if optima is not None and optima.loc[architecture, "inside"]:
            best = optima.loc[architecture, "lr"]
            height = np.interp(np.log(best), np.log(curve["lr"]), curve["accuracy"])
            axes.plot(best, height, markersize=9, **style)
    _crosses(axes, table[table["diverged"]], bottom)
    log_ticks(axes, np.unique(table["lr"]))
    axes.set(xlabel="learning rate λ", ylabel="test accuracy", ylim=(bottom, top))
    percent_ticks(axes)
    legend_above(figure, columns=2)
    return figure


def _crosses(axes, diverged: pd.DataFrame, bottom: float) -> None:
    """A cross at the bottom for each run that diverged, side by side where they have one learning rate."""
    if len(diverged):
        axes.plot([], [], "x", color="black", label="diverged")
    places = diverged["lr"] * 1.08 ** diverged.groupby("lr").cumcount()
    for lr, architecture in zip(places, diverged["architecture"], strict=True):
        colour = architecture_style(architecture)["color"]
        axes.plot(lr, bottom, "x", markersize=7, color=colour, clip_on=False)


def _whole_percents(accuracy: pd.Series) -> tuple[float, float]:
    """Limits that hold the accuracies, the same for a figure of the runs and one of their means."""
    if accuracy.isna().all():  # every run diverged
        return 0.0, 1.0
    return np.floor(100 * accuracy.min() - 0.5) / 100, np.ceil(100 * accuracy.max() + 0.5) / 100


@styled
def cost(per_image: pd.DataFrame, width: int, batch_size: int) -> Figure:
    """Milliseconds for an image, against the width at one batch size and against the batch size at one width.

    ``per_image`` is of `lib.results.costs.per_image`.
    """
    figure, (left, right) = new_axes(2, size=(8, 3.8), sharey=True)
    for axes, by, rows in (
        (left, "width", per_image[per_image["batch_size"] == batch_size]),
        (right, "batch_size", per_image[per_image["width"] == width]),
    ):
        for variant, style in VARIANTS.items():
            of_variant = rows[rows["variant"] == variant].sort_values(by)
            axes.plot(of_variant[by], of_variant["ms"], **style)
        log_ticks(axes, np.unique(rows[by]))
        axes.set(xlabel=by.replace("_", " "), yscale="log")
    left.set_title(f"batch size {batch_size}")
    right.set_title(f"width {width}")
    figure.supylabel("milliseconds for an image")
    legend_above(figure)
    return figure


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
    percent_ticks(axes)
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
