"""Claims at a glance: for each a strip with a dot for each layer, its interval, and the bound as a grey band."""

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..config import CLASSIFIER
from ..results.claims import POST, Claim
from ..results.rule import FAILS, HOLDS, INSIDE, OUTSIDE, Verdict
from ..results.verdicts import NOT_RECORDED, brief
from .layout import is_narrow, new_axes, width
from .style import layer_colours, styled

Judged = list[tuple[Claim, Verdict | None]]
BAND = {"color": "0.88", "zorder": 0}
WORST: dict[str, Any] = {
    "marker": "x",
    "markersize": 4,
    "linestyle": "none",
    "color": "0.35",
    "markeredgewidth": 0.8,
}
#: Verdicts by shade and fill, which are seen in grey as well.
_SHADES = {HOLDS: "#117733", INSIDE: "#117733", FAILS: "#AA3377", OUTSIDE: "#AA3377"}
_UNRESOLVED = "0.45"
#: In the overview no number is drawn further out than this many bounds.
FAR = 3.0
#: Inches of a strip: for each line of its heading, each of its rows, and its axis.
LINE, ROW, AXIS = 0.15, 0.16, 0.35
#: Letters of a heading to an inch.
LETTERS = 14.5


@styled
def strips(judged: Judged) -> Figure:
    """A strip for each claim, from `lib.results.verdicts.judged`; those of the post have filled dots, ours hollow.

    A row is a layer, or whatever the claim speaks of. A small cross is the worst single epoch of a seed.
    """
    headings = [_heading(claim, found) for claim, found in judged]
    rows = [max(len(found.layers) if found else 1, 2) for _, found in judged]
    heights = [LINE * (1 + text.count("\n")) + ROW * n + AXIS for text, n in zip(headings, rows, strict=True)]
    figure = plt.figure(figsize=(width(), sum(heights) + 0.4), layout="constrained")
    places = figure.subfigures(len(judged), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, heading, (_, found), (claim, _) in zip(places, headings, judged, judged, strict=True):
        place.suptitle(heading, x=0.01, ha="left", fontsize=9)
        axis = place.subplots()
        if found is None:
            axis.set(xticks=[], yticks=[])
            axis.text(0.5, 0.5, NOT_RECORDED, ha="center", va="center", transform=axis.transAxes)
        else:
            _strip(axis, found, filled=claim.origin == POST)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=2 if is_narrow() else 4, fontsize=8)
    return figure


def _heading(claim: Claim, found: Verdict | None) -> str:
    lines = (
        f"{claim.origin}: {claim.sentence}",
        f"{claim.looked_at}; bound {claim.bound_text}",
        brief(found),
    )
    return "\n".join(fill(line, round(LETTERS * width())) for line in lines)


def _strip(axis, found: Verdict, filled: bool) -> None:
    table = found.layers
    names = [str(name) for name in table.index]
    colours = layer_colours(names) if CLASSIFIER in names or len(names) > 6 else dict.fromkeys(names, "0.2")
    for y, (name, row) in enumerate(zip(names, table.itertuples(), strict=True)):
        axis.plot([row.low, row.high], [y, y], color=colours[name], linewidth=1.2)
        face = colours[name] if filled else "white"
        axis.plot(row.mean, y, "o", markersize=5, color=colours[name], markerfacecolor=face)
        axis.plot(row.worst, y, **WORST)
    _limits(axis, found)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="y", visible=False)


def _limits(axis, found: Verdict) -> None:
    """Limits that hold all numbers and the ends of the bound, and the bound as a band within them."""
    ends = [end for end in (found.bound.low, found.bound.high) if np.isfinite(end)]
    numbers = found.layers[["low", "high", "worst"]].to_numpy().ravel()
    numbers = [*numbers[np.isfinite(numbers)], *ends]
    if np.isinf(found.bound.low):
        numbers.append(0)  # else of what lies close to zero the band would hardly be seen
    room = 0.06 * (max(numbers) - min(numbers)) or 0.1
    low, high = min(numbers) - room, max(numbers) + room
    axis.axvspan(max(low, found.bound.low), min(high, found.bound.high), **BAND)
    axis.set_xlim(low, high)


def _legend() -> list:
    dot = {"marker": "o", "color": "0.2", "markersize": 5}
    return [
        Line2D([], [], label="layer, 90 % interval (post)", **dot),
        Line2D([], [], label="(ours)", markerfacecolor="white", **dot),
        Line2D([], [], label="worst epoch", **WORST),
        Patch(label="bound", **BAND),
    ]


@styled
def overview(judged: Judged) -> Figure:
    """All claims that are recorded: a row for each, with a dot for each layer at its distance from the bound.

    The distance is in units of the bound, whose end is at 1; lines lead to the far end of an interval. Numbers
    further out than `FAR` are drawn there, as triangles. `relative` has the numbers.
    """
    shown = [(claim, found) for claim, found in judged if found]
    figure, axis = new_axes(height=(0.4 if is_narrow() else 0.27) * len(shown) + 0.9)
    axis.axvspan(0, 1, **BAND)
    for y, (claim, found) in enumerate(shown):
        colour = _SHADES.get(found.verdict, _UNRESOLVED)
        face = colour if claim.origin == POST else "white"
        for row in relative(found).itertuples():
            place = min(row.mean, FAR)
            axis.plot([place, min(row.far, FAR)], [y, y], color=colour, linewidth=1)
            marker = ">" if row.mean > FAR else "o"
            axis.plot(place, y, marker, markersize=5, color=colour, markerfacecolor=face, clip_on=False)
        beside = {"va": "center", "fontsize": 8, "transform": axis.get_yaxis_transform()}
        axis.text(1.02, y, found.verdict, color=colour, **beside)
        if is_narrow():  # the names would leave no room for the dots
            axis.text(0.01, y - 0.45, f"{claim.name} ({claim.origin})", **beside)
    names = [f"{claim.name} ({claim.origin})" for claim, _ in shown]
    axis.set_yticks(range(len(shown)), [""] * len(shown) if is_narrow() else names, fontsize=8)
    axis.set(xlim=(0, FAR), ylim=(len(shown) - 0.5, -0.8 if is_narrow() else -0.5))
    missing = len(judged) - len(shown)
    axis.set_xlabel(
        "distance from the middle of the bound, whose end is at 1"
        + (f"\n{missing} more claims: {NOT_RECORDED}" if missing else ""),
        fontsize=9,
    )
    axis.grid(axis="y", visible=False)
    return figure


def relative(found: Verdict) -> pd.DataFrame:
    """Of each layer the distance of its ``mean`` and of the ``far`` end of its interval, in units of the bound.

    A bound with one end has its middle at 0, or, where the number has to be at least so much, at twice that end.
    """
    low, high = found.bound.low, found.bound.high
    middle, half = (low + high) / 2, (high - low) / 2
    if np.isinf(low):
        middle, half = 0.0, high
    elif np.isinf(high):
        middle, half = 2 * low, low
    distance = (found.layers[["mean", "low", "high"]] - middle) / half
    if np.isinf(found.bound.high):
        distance = -distance.clip(upper=0)  # more than enough is no distance
    else:
        distance = distance.abs()
    return pd.DataFrame({"mean": distance["mean"], "far": distance[["low", "high"]].max(axis=1)})
