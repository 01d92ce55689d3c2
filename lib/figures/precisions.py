"""fp32 beside bf16."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..results.precisions import FORMS
from .layout import is_narrow, legend_above, new_axes
from .style import label_styles, styled

#: Hollow without momentum, filled with it.
FILLS = {"sgd": "none", "heavy-ball": "full"}


@styled
def side_by_side(table: pd.DataFrame) -> Figure:
    """Each quantity of `lib.results.precisions.by_layer` in a panel: mean and range over seeds.

    A colour for each precision, hollow for the runs without momentum.
    """
    quantities = list(dict.fromkeys(table["quantity"]))
    figure, panels = new_axes(1, 4, 10) if is_narrow() else new_axes(2, 2, 5.5)
    colours = label_styles(sorted(table["precision"].unique(), reverse=True))
    groups = list(table.groupby(["precision", "form"], sort=False))
    offsets = np.linspace(-0.24, 0.24, len(groups)) if len(groups) > 1 else [0.0]
    for axes, quantity in zip(panels.flat, quantities, strict=True):
        layers = list(dict.fromkeys(table.loc[table["quantity"] == quantity, "layer"]))
        for ((precision, form), rows), offset in zip(groups, offsets, strict=True):
            rows = rows[rows["quantity"] == quantity]
            error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            look = colours[precision] | {"fillstyle": FILLS[form], "linestyle": "", "markersize": 5}
            places = np.arange(len(rows)) + offset
            axes.errorbar(places, rows["mean"], yerr=error, label=f"{FORMS[form]}, {precision}", **look)
        axes.set(title=quantity, yscale="log" if quantity.startswith("|cos") else "linear")
        axes.set_xticks(np.arange(len(layers)), layers, rotation=45, ha="right")
    legend_above(figure, columns=2)
    return figure
