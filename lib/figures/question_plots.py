"""Plots of the open questions: one function for each takes tables of `lib.results.question_tables`."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..results.open_questions import OCTAVES, OF_A_FILTER
from .layout import is_narrow, legend_above, log_ticks, new_axes
from .style import THEORY, architecture_style, form_name, form_style, styled

#: Of Paul Tol's muted scheme, for forms that have no colour in other chapters.
_EXTRA = ("#332288", "#117733", "#AA4499", "#88621a", "#44AA99", "#CC6677")
#: Octaves at which the axis of `vertices` ends, one beyond what was tried.
FAR = OCTAVES + 1
BAND = {"color": "black", "alpha": 0.08, "linewidth": 0}


def _beside(height: float, tall: float, **kwargs):
    """Two axes, side by side, or on a phone one above the other."""
    shape: dict[str, Any] = {"rows": 2, "height": tall} if is_narrow() else {"columns": 2, "height": height}
    return new_axes(**shape, **kwargs)


def styles(forms: Iterable[str]) -> dict[str, dict]:
    """Marker and colour of each form: its own, or the next of some others."""
    known = ("sgd", "heavy-ball", "nesterov", "lars")
    others = [form for form in dict.fromkeys(forms) if form not in known]
    found = {form: {"marker": "o", "color": c} for form, c in zip(others, _EXTRA, strict=False)}
    return {form: form_style(form) for form in known} | found


@styled
def plateau(by_epoch: pd.DataFrame, filters: pd.DataFrame) -> Figure:
    """R√(1+2ρo) against the epoch for each form, its prediction as a dashed line; and a histogram of filters."""
    figure, (left, right) = _beside(3.4, 6)
    looks = styles(by_epoch["form"])
    left.axhspan(0.97, 1.03, **BAND)
    for form, table in by_epoch.groupby("form", sort=False):
        colour = looks[form]["color"]
        left.fill_between(table["epoch"], table["low"], table["high"], color=colour, alpha=0.15, linewidth=0)
        left.plot(table["epoch"], table["R"], label=form_name(form), markersize=3.5, **looks[form])
        left.plot(table["epoch"], table["predicted"], color=colour, linestyle="--", linewidth=2)
    left.set(xlabel="epoch", ylabel="R√(1+2ρo), mean and range of layers", ylim=(0, 2))
    right.axvspan(1 - OF_A_FILTER, 1 + OF_A_FILTER, **BAND)
    bins = np.arange(0.5, 1.525, 0.025)
    for form, table in filters.groupby("form", sort=False):
        right.hist(
            table["ratio"].clip(bins[0], bins[-1]),
            bins,
            histtype="step",
            linewidth=1.5,
            color=looks[form]["color"],
        )
    right.set(xlabel="R√(1+2ρo) over its prediction", ylabel="filters")
    legend_above(figure)
    return figure


@styled
def gap(table: pd.DataFrame) -> Figure:
    """Training accuracy of each form, mean and seeds, a row for each; lines at the first and the last, whose gap it is."""
    forms = list(dict.fromkeys(table["form"]))
    means = table.groupby("form")["mean"].first()
    figure, axes = new_axes(height=0.42 * len(forms) + 0.9)
    looks = styles(forms)
    for form in (forms[0], forms[-1]):
        axes.axvline(means[form], color=looks[form]["color"], linewidth=1, linestyle=":")
    for y, form in enumerate(forms):
        of_form = table.loc[table["form"] == form, "accuracy"]
        axes.plot(of_form, [y] * len(of_form), "|", color=looks[form]["color"], markersize=9)
        axes.plot(means[form], y, markersize=7, **looks[form])
    axes.set_yticks(range(len(forms)), [form_name(form) for form in forms])
    axes.set(xlabel="accuracy in the last epoch of training, %", ylim=(len(forms) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    return figure


@styled
def start(ratios: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """R against the epoch by initial scale; and training accuracy against the scale, of SGD and LARS.

    ``table`` has ``optimizer``, ``scale`` and ``accuracy``; starts from equilibrium are an optimizer of their own.
    """
    import seaborn as sns  # which takes as long to load as all else that draws

    figure, (left, right) = _beside(3.6, 6.4)
    scales = list(dict.fromkeys(ratios["form"]))
    colours = dict(zip(scales, sns.color_palette("viridis", len(scales) + 1), strict=False))
    left.axhline(1, color="black", linewidth=0.6, linestyle=":")
    for scale, rows in ratios.groupby("form", sort=False):
        left.plot(rows["epoch"], rows["R"], color=colours[scale], label=f"× {scale}")
    left.set(xlabel="epoch", ylabel="R of SGD, mean of layers", ylim=(0, 2.5))
    left.legend(title="initial norms", ncols=2, fontsize=8)
    looks = {"sgd": form_style("heavy-ball"), "lars": form_style("lars")}
    looks |= {"from equilibrium": {"marker": "*", "color": _EXTRA[0]}}
    for optimizer, rows in table.groupby("optimizer", sort=False):
        means = rows.groupby("scale")["mean"].first()
        line = "none" if optimizer == "from equilibrium" else "-"
        label = {"sgd": "SGD", "lars": "LARS"}.get(optimizer, f"SGD {optimizer}")
        right.plot(means.index, means, label=label, linestyle=line, **looks[optimizer])
        right.plot(rows["scale"], rows["accuracy"], ".", markersize=4, color=looks[optimizer]["color"])
    log_ticks(right, [0.125, 1, 4, 8, 16])
    right.set(xlabel="initial norms, over the usual ones", ylabel="training accuracy, %")
    right.legend(fontsize=8)
    return figure


@styled
def rotations(table: pd.DataFrame) -> Figure:
    """Rotation of each layer for each form, mean and range over seeds, over that which heavy-ball should have.

    With a dash where something else is ``expected``.
    """
    forms, layers = (list(dict.fromkeys(table[column])) for column in ("form", "layer"))
    figure, axes = new_axes()
    axes.axhspan(0.9, 1.1, **BAND)
    axes.axhline(1, color="black", linewidth=0.8)
    looks = styles(forms)
    for form, offset in zip(forms, np.linspace(-0.2, 0.2, len(forms)), strict=True):
        rows = table[table["form"] == form]
        around = [rows["rotation"] - rows["low"], rows["high"] - rows["rotation"]]
        x = np.arange(len(rows)) + offset
        axes.errorbar(
            x,
            rows["rotation"],
            yerr=around,
            linestyle="none",
            capsize=3,
            label=form_name(form),
            **looks[form],
        )
        axes.plot(x, rows["expected"], "_", color="black", markersize=13, zorder=3)
    axes.set_xticks(range(len(layers)), layers, rotation=45 if is_narrow() else 30, ha="right")
    axes.set(ylabel="|Δw|/|w| over √(2λα/(1+ρ))", yscale="log")
    axes.set_yticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
    axes.yaxis.minorticks_off()
    legend_above(figure)
    return figure


@styled
def vertices(table: pd.DataFrame) -> Figure:
    """Octaves from the common λ to each layer's best, with intervals; the band is the bound. No top: a cross.

    The axis ends an octave beyond what was tried, where dotted lines stand; a top beyond that is an arrow.
    """
    figure, axes = new_axes(height=3.2)
    axes.axvspan(-1, 1, **BAND)
    axes.axvline(0, color="black", linewidth=0.8)
    for tried in (-OCTAVES, OCTAVES):
        axes.axvline(tried, color="black", linewidth=0.8, linestyle=":")
    for y, row in enumerate(table.itertuples()):
        if np.isnan(row.octaves):
            axes.text(0, y, "×", ha="center", va="center", color="0.35")
            continue
        shown = np.clip(row.octaves, -FAR, FAR)
        marker = "o" if shown == row.octaves else "<" if shown < 0 else ">"
        axes.plot(np.clip([row.low, row.high], -FAR, FAR), [y, y], color="0.2", linewidth=1.2)
        axes.plot(shown, y, marker, color="0.2")
    axes.set_yticks(range(len(table)), table["layer"])
    axes.set(xlabel="octaves from the common λ to the layer's best", ylim=(len(table) - 0.5, -0.5))
    axes.set_xlim(-1.05 * FAR, 1.05 * FAR)
    axes.grid(axis="y", visible=False)
    return figure


@styled
def decay(table: pd.DataFrame) -> Figure:
    """Rotation and training accuracy against λ of the convolutions, a colour for each decay, a line for each network."""
    figure, (left, right) = _beside(3.6, 6.4)
    decays = sorted(set(table["decay"]))
    colours = dict(zip(decays, _EXTRA, strict=False))
    for (architecture, alpha), rows in table.groupby(["architecture", "decay"], sort=False):
        dashed = architecture_style(architecture)["marker"] != "o"  # all but the backbone
        look = {"color": colours[alpha], "linestyle": "--" if dashed else "-", "marker": "o", "markersize": 4}
        for axes, column in ((left, "rotation"), (right, "accuracy")):
            axes.plot(rows["lr"], rows[column], label=f"α = {alpha:g}, {architecture}", **look)
    _slope(left, table)
    for axes in (left, right):
        log_ticks(axes, np.unique(table["lr"]))
        axes.set_xlabel("λ of the convolutions")
    left.set(ylabel="|Δw|/|w|, mean of layers", yscale="log")
    right.set_ylabel("training accuracy, %")
    legend_above(figure, columns=2)
    return figure


def _slope(axes, table: pd.DataFrame) -> None:
    """The slope ½ of equilibrium, above all points."""
    lr = np.unique(table["lr"])
    axes.plot(lr, 1.2 * table["rotation"].max() * np.sqrt(lr / lr[-1]), label="slope ½", **THEORY)
