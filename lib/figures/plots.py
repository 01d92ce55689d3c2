"""Figures of a training: one function for each takes the table of its steps, returns a matplotlib figure.

What stands for what is in `lib.figures.style`; of thousands of steps `lib.figures.reduced` says what is drawn.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .layout import layer_panels, legend_above, name_ends, new_axes, say_cut_off
from .reduced import averaged, means, root_mean_squares, thinned
from .style import CIRCLES, THEORY, form_name, form_style, label_styles, layer_colours, styled


def _against_epoch(axes, table: pd.DataFrame, column: str) -> None:
    """One coloured line for each layer against the epoch, with the range of most steps as a band around it."""
    colours = layer_colours(table["layer"].cat.categories)
    for layer, rows in averaged(table, column).groupby("layer", observed=True):
        axes.fill_between(
            rows["epoch"], rows["low"], rows["high"], color=colours[layer], alpha=0.15, linewidth=0
        )
        axes.plot(rows["epoch"], rows[column], color=colours[layer], linewidth=1.5, label=layer)
    axes.set(xlabel="epoch", xlim=(0, np.ceil(table["epoch"].max())))


def _name_layers(axes, apart: float) -> None:
    """Names the lines at their ends, once limits are set."""
    ends = {line.get_label(): line.get_ydata()[-1] for line in axes.lines}
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    name_ends(axes, pd.Series(ends), colours, apart)


@styled
def norm_change(table: pd.DataFrame, column: str, limits: tuple[float, float] | None = None) -> Figure:
    """Figures 1 and 2: what each step takes from |w|² or adds to it, from `analysis.dynamics`.

    ``column`` is ``shrinkage``, by weight decay, or ``growth``, by the gradient.
    """
    labels = {"shrinkage": "decrease of |w|² per step", "growth": "increase of |w|² per step"}
    figure, axes = new_axes()
    _against_epoch(axes, table, column)
    axes.set(ylabel=labels[column], yscale="log" if (table[column] > 0).any() else "linear", ylim=limits)
    _name_layers(axes, 0.07)
    return figure


def shared_limits(*columns: pd.Series) -> tuple[float, float]:
    """Limits of a log axis that hold all but the extreme 0.1 % of the columns, so that figures compare."""
    values = np.concatenate(columns)
    low, high = np.quantile(values[values > 0], [0.001, 0.999])
    return low / 2, high * 2


@styled
def balance(table: pd.DataFrame) -> Figure:
    """Figure 3: growth as circles, shrinkage as a black line, a panel for each layer; below it their ratio.

    The ratio is that of means over each quarter of an epoch, which the wide range of both would hide.
    """
    figure, panels = layer_panels(table, below=2.1)
    limits = shared_limits(table["growth"], table["shrinkage"])
    for axes, (layer, rows), colour in panels:
        drawn = thinned(rows)
        axes.plot(drawn["epoch"], drawn["growth"], color=colour, label="growth", **CIRCLES)
        axes.plot(drawn["epoch"], drawn["shrinkage"], label="shrinkage", **THEORY)
        axes.set(title=layer, yscale="log", ylim=limits)
        say_cut_off(axes, rows["growth"])
    panels[0][0].set_ylabel("|w|² per step")
    axes = figure.axes[-1]
    for layer, rows in growth_over_shrinkage(table).groupby("layer", observed=True):
        colour = layer_colours(table["layer"].cat.categories)[layer]
        axes.plot(rows["epoch"], rows["growth / shrinkage"], color=colour, linewidth=1.2)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(
        xlabel="epoch", ylabel="growth / shrinkage", ylim=(0, 3), xlim=(0, np.ceil(table["epoch"].max()))
    )
    say_cut_off(axes, growth_over_shrinkage(table)["growth / shrinkage"])
    return figure


def growth_over_shrinkage(table: pd.DataFrame) -> pd.DataFrame:
    """The ratio of their means over each quarter of an epoch: ``layer``, ``epoch``, ``growth / shrinkage``."""
    growth, shrinkage = (averaged(table, column) for column in ("growth", "shrinkage"))
    return growth[["layer", "epoch"]].assign(
        **{"growth / shrinkage": growth["growth"] / shrinkage["shrinkage"]}
    )


@styled
def weight_norms(table: pd.DataFrame) -> Figure:
    """Figure 4: |w|² of each layer over its initial value, from `analysis.dynamics`."""
    figure, axes = new_axes()
    _against_epoch(axes, table, "norm_sq_relative")
    axes.set_ylabel("|w|², relative to the start")
    axes.set_ylim(0, None)
    _name_layers(axes, 0.07)
    return figure


@styled
def effective_step(table: pd.DataFrame, line: str) -> Figure:
    """Figures 5 and 7: λ|g|/|w| of steps as circles, its equilibrium value as a black line.

    ``line`` is the label of that value, such as ``√(2λα)``.
    """
    figure, panels = layer_panels(table)
    top = 2 * table["predicted"].max() or None
    label = f"λ|g|/|w| (circles) and {line} (line)" if top else "λ|g|/|w|; no decay, and so no line"
    for axes, (layer, rows), colour in panels:
        drawn = thinned(rows)
        axes.plot(drawn["epoch"], drawn["ratio"], color=colour, label="λ|g|/|w|", **CIRCLES)
        if top:
            axes.plot(drawn["epoch"], drawn["predicted"], label=line, **THEORY)
        axes.set(title=layer, ylim=(0, top))
        say_cut_off(axes, rows["ratio"])
    figure.supylabel(label, fontsize=10)
    return figure


@styled
def gradient_correlation(table: pd.DataFrame) -> Figure:
    """Figure 6: κ, the correlation of each gradient with the average of earlier ones, as circles.

    The line is the mean over each epoch. From `analysis.dynamics`.
    """
    figure, panels = layer_panels(table)
    for axes, (layer, rows), colour in panels:
        drawn = thinned(rows)
        axes.plot(drawn["epoch"], drawn["correlation"], color=colour, **CIRCLES)
        by_epoch = means(rows, "correlation")
        axes.plot(by_epoch["epoch"], by_epoch["correlation"], **THEORY)
        axes.set(title=layer, ylim=(-1, 1))
    figure.supylabel("κ at each step (circles), mean of an epoch (line)", fontsize=10)
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
        if table["R_others"].notna().any():
            axes.plot(rows["epoch"], rows["R_others"], label="equation, c(t) of other seeds", **THEORY)
        axes.plot(
            rows["epoch"], rows["R_end"], label="closed form of the end", **THEORY | {"linestyle": "--"}
        )
        axes.axhline(1, color="black", linewidth=0.6, linestyle=":")
        axes.set(title=layer, ylim=(0, top))
        say_cut_off(axes, rows["R"])
    figure.supylabel("R, measured over predicted", fontsize=10)
    legend_above(figure, columns=2)
    return figure


@styled
def batch_sizes(tables: dict[str, pd.DataFrame]) -> Figure:
    """λ|g|/|w| of runs of two batch sizes, root mean square over each epoch; dashed, the equilibrium values.

    ``tables`` are of `analysis.dynamics`, by label.
    """
    styles = label_styles(tables)
    figure, panels = layer_panels(next(iter(tables.values())))
    of_epochs = {label: root_mean_squares(table, ["ratio", "predicted"]) for label, table in tables.items()}
    top = 2 * max(table["predicted"].max() for table in tables.values()) or None
    for axes, (layer, _), _ in panels:
        of_layer = _of_layer(of_epochs, layer)
        for label, rows in of_layer.items():
            axes.plot(rows["epoch"], rows["ratio"], label=label, markersize=3.5, **styles[label])
        for rows in of_layer.values():
            axes.plot(rows["epoch"], rows["predicted"], label="equilibrium", linestyle="--", **THEORY)
        axes.set(title=layer, ylim=(0, top))
        say_cut_off(axes, pd.concat(rows["ratio"] for rows in of_layer.values()))
    figure.supylabel("λ|g|/|w|, rms over an epoch", fontsize=10)
    legend_above(figure)
    return figure


@styled
def side_by_side(tables: dict[str, pd.DataFrame], column: str, label: str, log: bool = False) -> Figure:
    """A column of two forms' tables, a panel for each layer, a colour for each form: means, and most steps' range.

    ``tables`` are of `analysis.dynamics`, by form, such as ``heavy-ball`` and ``lars``; ``label``
    says what the column is.
    """
    figure, panels = layer_panels(next(iter(tables.values())))
    quarters = {form: averaged(table, column) for form, table in tables.items()}
    low, high = shared_limits(*(table[end] for table in quarters.values() for end in (column, "low", "high")))
    limits = (low, high) if log else (0, high / 1.5)  # a log axis needs more room
    for axes, (layer, _), _ in panels:
        for form, rows in _of_layer(quarters, layer).items():
            colour = form_style(form)["color"]
            axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
            axes.plot(rows["epoch"], rows[column], label=form_name(form), color=colour, linewidth=1.5)
        axes.set(title=layer, yscale="log" if log else "linear", ylim=limits)
    figure.supylabel(label, fontsize=10)
    legend_above(figure)
    return figure


def _of_layer(tables: dict[str, pd.DataFrame], layer: str) -> dict[str, pd.DataFrame]:
    return {label: table[table["layer"] == layer] for label, table in tables.items()}
