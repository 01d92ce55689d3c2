"""Figures that compare runs: one function for each takes tables, returns a matplotlib figure.

What stands for what is in `lib.figures.style`.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..results import learning_rates
from .layout import grid, is_narrow, legend_above, log_ticks, name_ends, new_axes, percent_ticks, width
from .plots import shared_limits
from .reduced import over_runs
from .style import THEORY, VARIANTS, architecture_style, form_name, form_style, layer_colours, styled


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
    legend_above(figure)
    return figure


@styled
def correction(tables: dict[str, pd.DataFrame], tolerance: float) -> Figure:
    """R before (hollow) and after (filled) the correction for gradient correlation, as `equilibrium`."""
    figure, axes = _ratio_axes(tables, tolerance)
    for x, label, table, style in _beside(tables):
        axes.plot(x, table["R"], linestyle="none", fillstyle="none", label=f"{label}, as measured", **style)
        axes.plot(x, table["R_corrected"], linestyle="none", label=f"{label}, corrected", **style)
    legend_above(figure, columns=2)
    return figure


def _ratio_axes(tables: dict[str, pd.DataFrame], tolerance: float, quantity: str = "R"):
    """Axes with the layers along x, R or another quantity along y, a line at 1 and a band of that tolerance."""
    figure, axes = new_axes()
    axes.axhspan(1 - tolerance, 1 + tolerance, color="black", alpha=0.08, linewidth=0)
    axes.axhline(1, color="black", linewidth=0.8)
    layers = next(iter(tables.values())).index
    axes.set_xticks(np.arange(len(layers)), layers, rotation=45 if is_narrow() else 30, ha="right")
    axes.set_ylabel(f"{quantity}, measured over predicted")
    return figure, axes


def _beside(tables: dict[str, pd.DataFrame]):
    """For each form's table: its positions along x, the form's name, and its marker and colour."""
    offsets = np.linspace(-0.15, 0.15, len(tables)) if len(tables) > 1 else [0]
    for (form, table), offset in zip(tables.items(), offsets, strict=True):
        yield np.arange(len(table)) + offset, form_name(form), table, form_style(form)


def noise_norms(noise: pd.DataFrame) -> pd.DataFrame:
    """rms |g| of `analysis.noise`: ``epoch``, ``layer``, ``batch_size`` and ``grad_norm``."""
    squares = noise.groupby(["epoch", "layer", "batch_size"], observed=True)["grad_norm_sq"].mean()
    return np.sqrt(squares).rename("grad_norm").reset_index()


@styled
def gradient_noise(table: pd.DataFrame) -> Figure:
    """rms |g| against the batch size with the weights held still, a panel for each epoch.

    ``table`` has ``epoch``, ``batch_size``, ``layer`` (categorical) and ``grad_norm_sq``, the mean of
    |g|² over batches. Dashed: the slope −1/2 of gradients that are all noise.
    """
    sizes = np.unique(table["batch_size"])
    norms = noise_norms(table)
    epochs = list(norms.groupby("epoch"))
    figure, panels = grid(len(epochs), 2.5, columns=2)
    colours = layer_colours(table["layer"].cat.categories)
    for axes, (epoch, rows) in zip(panels, epochs, strict=True):
        ends = {}
        for layer, of_layer in rows.groupby("layer", observed=True):
            axes.plot(of_layer["batch_size"], of_layer["grad_norm"], "o-", markersize=3, color=colours[layer])
            ends[layer] = of_layer["grad_norm"].iloc[-1]
        start = 1.5 * rows["grad_norm"].max()
        axes.plot(sizes, start * np.sqrt(sizes[0] / sizes), label="slope −1/2", linestyle="--", **THEORY)
        axes.set(title=f"epoch {epoch:g}", yscale="log")
        axes.set_ylim(shared_limits(norms["grad_norm"]))
        log_ticks(axes, sizes[::2])
        name_ends(axes, pd.Series(ends), colours, apart=0.095, fontsize=8)
    figure.supxlabel("batch size N", fontsize=10)
    figure.supylabel("|g|, rms over batches", fontsize=10)
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
    figure, axes = new_axes(height=4.5)
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
        if optima is not None:
            of_curve = marks(curve, optima.loc[[architecture]])
            axes.plot(of_curve["lr"], of_curve["accuracy"], markersize=9, **style)
    _crosses(axes, table[table["diverged"]], bottom)
    log_ticks(axes, np.unique(table["lr"]))
    axes.set(xlabel="learning rate λ", ylabel="test accuracy", ylim=(bottom, top))
    percent_ticks(axes)
    legend_above(figure, columns=2)
    return figure


def marks(smooth: pd.DataFrame, optima: pd.DataFrame) -> pd.DataFrame:
    """Where a curve of `learning_rates.smoothed` is at λ* of `tops.optima`, unless that is only a bound.

    Columns: ``architecture``, ``lr`` and ``accuracy``.
    """
    found = optima.loc[optima["inside"], ["lr"]].reset_index()
    curves = dict(list(smooth.groupby("architecture", observed=True)))
    heights = [
        np.interp(np.log(lr), np.log(curves[name]["lr"]), curves[name]["accuracy"])
        for name, lr in zip(found["architecture"], found["lr"], strict=True)
    ]
    return found.assign(accuracy=heights)


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
    shape: dict[str, Any] = {"rows": 2, "height": 5.5} if is_narrow() else {"columns": 2, "height": 3.5}
    figure, (left, right) = new_axes(**shape, sharey=True)
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
    figure.supylabel("milliseconds for an image", fontsize=10)
    legend_above(figure)
    return figure


@styled
def schedule(lr_schedule, epochs: int) -> Figure:
    """The learning rate against the epoch."""
    figure, axes = new_axes(height=2.6)
    time = np.linspace(0, epochs, 500)
    axes.plot(time, lr_schedule(time), **THEORY)
    axes.set(xlabel="epoch", ylabel="learning rate λ", xlim=(0, epochs), ylim=(0, None))
    return figure


@styled
def learning_curves(tables: dict[str, list[pd.DataFrame]]) -> Figure:
    """Test accuracy against the epoch, a colour for each form: the mean of its runs, and their range as a band."""
    figure, axes = new_axes()
    ends, colours = {}, {}
    for form, runs in tables.items():
        rows, colour = over_runs(runs, "test_accuracy"), form_style(form)["color"]
        axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(rows["epoch"], rows["test_accuracy"], color=colour, linewidth=1.5, label=form_name(form))
        ends[form_name(form)], colours[form_name(form)] = rows["test_accuracy"].iloc[-1], colour
    # pyrefly: ignore[unbound-name], for there is a form at least
    axes.set(xlabel="epoch", ylabel="test accuracy", xlim=(0, rows["epoch"].max()))
    percent_ticks(axes)
    name_ends(axes, pd.Series(ends), colours)
    return figure


@styled
def images(rows: dict[str, np.ndarray]) -> Figure:
    """Rows of images with a label each; an image is ``(H, W, 3)`` with values in 0..1. On a phone, half of them."""
    columns = max(len(row) for row in rows.values())
    columns = -(-columns // 2) if is_narrow() else columns
    height = len(rows) * width() / (columns + 1)
    figure, axes = new_axes(columns, len(rows), height, squeeze=False)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis, image in zip(line, row, strict=False):
            axis.imshow(image, interpolation="none")  # pixels as they are, for the page to enlarge
            axis.grid(False)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure
