"""How every figure is laid out: for the width of a screen or of a phone, in panels, with names and ticks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .style import layer_colours
from .vector import TEXT, readable

#: Inches that a figure is wide: as a page is on a screen, and as it is on a phone.
WIDE, NARROW = 7.5, 3.7

_width: ContextVar[float] = ContextVar("width", default=WIDE)


@contextmanager
def narrow() -> Iterator[None]:
    """In this block figures are drawn for a phone: narrower, with fewer panels in a row."""
    token = _width.set(NARROW)
    try:
        yield
    finally:
        _width.reset(token)


def is_narrow() -> bool:
    """Whether figures are drawn for a phone."""
    return _width.get() == NARROW


def width() -> float:
    """Inches that a figure is wide."""
    return _width.get()


def new_axes(columns: int = 1, rows: int = 1, height: float = 3.4, **sharing) -> tuple[Figure, Any]:
    """A figure as wide as its page and its axes, laid out so that nothing overlaps; ``height`` in inches."""
    return plt.subplots(rows, columns, figsize=(width(), height), layout="constrained", **sharing)


def grid(panels: int, height: float = 2.0, columns: int | None = None, below: float = 0):
    """A figure and that many axes with the same limits, in rows; ``height`` of each in inches.

    Rows are full, or the last of them stands in the middle; on a phone they have two panels, or one where
    ``columns`` is 2. With ``below``, another axes of that height lies under them, the last of the figure.
    """
    columns = columns or (3 if panels % 4 and panels % 3 == 0 else 4)
    columns = min(panels, columns if not is_narrow() else columns // 2 if columns < 4 else 2)
    rows = -(-panels // columns)
    figure = plt.figure(figsize=(width(), rows * height + below), layout="constrained")
    heights = [height] * rows + [below] * (below > 0)
    halves = figure.add_gridspec(len(heights), 2 * columns, height_ratios=heights)
    all_axes = []
    for i in range(panels):
        row, column = divmod(i, columns)
        missing = max(0, columns * (row + 1) - panels)
        place = halves[row, 2 * column + missing : 2 * column + missing + 2]
        first = all_axes[0] if all_axes else None
        all_axes.append(figure.add_subplot(place, sharex=first, sharey=first))
        # the lowest say what x is, and those above where there is not one under each
        lowest = row == rows - 1 or (row == rows - 2 and panels % columns)
        all_axes[-1].tick_params(labelbottom=bool(lowest), labelleft=column == 0)
    if below:
        figure.add_subplot(halves[-1, :])
    return figure, all_axes


def layer_panels(table: pd.DataFrame, below: float = 0):
    """A figure against the epoch with a panel for each layer: triples of axes, ``(layer, rows)`` and colour.

    ``below`` is as for `grid`.
    """
    groups = list(table.groupby("layer", observed=True))
    figure, axes = grid(len(groups), below=below)
    if not below:
        figure.supxlabel("epoch", fontsize=10)
    colours = layer_colours(table["layer"].cat.categories)
    return figure, [(a, g, colours[g[0]]) for a, g in zip(axes, groups, strict=True)]


def name_ends(
    axes, ends: pd.Series, colours: Mapping[str, Any], apart: float = 0.08, fontsize: float = 9
) -> None:
    """Writes each line's name beside its end, moved as far as it takes for none to lie on another.

    ``ends`` are the last y by name; ``apart`` is the distance of two names, as a fraction of the axis. The
    limits of the axis have to be set before.
    """
    at = (axes.transScale + axes.transLimits).transform([(axes.get_xlim()[1], y) for y in ends])[:, 1]
    at = pd.Series(np.clip(at, 0, 1), ends.index).sort_values()
    steps = apart * np.arange(len(at))
    heights = np.maximum.accumulate(at - steps) + steps
    heights -= (heights - at).mean()  # as many move down as up
    for (name, end), height in zip(at.items(), heights, strict=True):
        axes.annotate(
            name,
            (1, end),
            xytext=(1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=fontsize,
            color=readable(colours[name], TEXT),
            # to the front of the name: a line to its middle would cross the names above and below
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.7, "relpos": (0, 0.5)},
        )


def say_cut_off(axes, values: pd.Series) -> None:
    """Writes into the corner of a panel how many of the values lie above or below its limits, if any."""
    low, high = axes.get_ylim()
    for sign, count, y, side in (
        ("↑", (values > high).sum(), 0.98, "top"),
        ("↓", (values < low).sum(), 0.02, "bottom"),
    ):
        if count:
            axes.text(
                0.98,
                y,
                f"{sign} {count:,} of {len(values):,}",
                transform=axes.transAxes,
                ha="right",
                va=side,
                fontsize=8,
            )


def legend_above(figure: Figure, columns: int = 4) -> None:
    """One legend for all axes, each label once, with lines that are thick enough to tell colours."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    columns = min(columns, 2) if is_narrow() else columns
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
