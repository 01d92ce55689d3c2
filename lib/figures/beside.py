"""One figure in grey behind another of the same kind: the recorded run behind one of the reader's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .style import styled

GREY = {"color": "0.75", "zorder": 0.5, "label": "_recorded"}


@styled
def behind(draw: Callable[[], Figure], draw_recorded: Callable[[], Figure]) -> Figure:
    """The figure that the first draws, with the lines and points of the other in grey behind its own, panel by panel.

    Panels are told by their titles; limits grow until both fit. Lines that span the axes stay with their figure.
    """
    figure, recorded = draw(), draw_recorded()
    panels = {axes.get_title(): axes for axes in recorded.axes if axes.get_visible()}
    for axes in figure.axes:
        if (other := panels.get(axes.get_title())) is None:
            continue
        limits = [(*own(), *theirs()) for own, theirs in zip(_limits(axes), _limits(other), strict=True)]
        for line in other.lines:
            if line.get_transform().contains_branch_seperately(other.transData) == (True, True):
                looks: dict[str, Any] = {"linestyle": line.get_linestyle(), "marker": line.get_marker()}
                # open circles stay open, so that a line among them is seen
                if line.get_markerfacecolor() == "none":
                    looks |= {"markerfacecolor": "none", "markeredgewidth": line.get_markeredgewidth()}
                axes.plot(*line.get_data(), markersize=line.get_markersize(), linewidth=2, **looks, **GREY)
        for points in other.collections:
            if len(at := np.asarray(points.get_offsets())) > 1:
                axes.plot(*at.T, ".", markersize=2, rasterized=True, **GREY)
        for put, both in zip((axes.set_xlim, axes.set_ylim), limits, strict=True):
            put(min(both), max(both))
    return figure


def _limits(axes):
    return axes.get_xlim, axes.get_ylim
