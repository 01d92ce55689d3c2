"""The figure that holds the whole finding: norms and gradients that differ, and steps that do not."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .layout import is_narrow, name_ends, width
from .reduced import root_mean_squares
from .style import THEORY, layer_colours, styled

#: What each panel shows, by its column.
PANELS = {
    "weight_norm": "|w|, length of the weights",
    "grad_norm": "|g|, length of the gradient",
    "ratio": "λ|g|/|w|, relative step",
}


def table(steps: pd.DataFrame) -> pd.DataFrame:
    """|w|, |g| and λ|g|/|w| of each layer, root mean squares over each epoch, and the ratio predicted.

    ``steps`` are of `lib.results.analysis.dynamics`; ``epoch`` is the middle of each.
    """
    norms = {"weight_norm": steps["weight_norm_sq"] ** 0.5, "grad_norm": steps["grad_norm_sq"] ** 0.5}
    return root_mean_squares(steps.assign(**norms), [*PANELS, "predicted"])


@styled
def layers(table: pd.DataFrame, line: str) -> Figure:
    """The columns of `table`, a panel for each, a line for each layer with its name at its end.

    ``line`` is the label of the predicted ratio, such as ``√(2λα)``.
    """
    colours = layer_colours(table["layer"].cat.categories)
    above, below = ["weight_norm", "grad_norm"], ["ratio", "ratio"]
    shape: list[Any] = [[column] for column in PANELS] if is_narrow() else [above, below]
    figure, panels = plt.subplot_mosaic(shape, figsize=(width(), 2.8 * len(shape)), layout="constrained")
    end = table["epoch"].max()
    for column, title in PANELS.items():
        axes = panels[column]
        for layer, rows in table.groupby("layer", observed=True):
            axes.plot(rows["epoch"], rows[column], color=colours[layer], linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlabel="epoch", xlim=(0, end + 0.5), ylim=(0, 1.05 * table[column].max()))
        if column != "ratio":
            name_ends(axes, table[table["epoch"] == end].set_index("layer")[column], colours)
    predicted = table.groupby("epoch")["predicted"].first()
    panels["ratio"].plot(predicted.index, predicted, linestyle="--", **THEORY)
    middle = predicted.index[len(predicted) // 2]
    panels["ratio"].annotate(
        f"dashed: {line}",
        (middle, predicted[middle]),
        xytext=(0.98, 0.75),
        textcoords="axes fraction",
        ha="right",
        arrowprops={"arrowstyle": "-", "linewidth": 0.8},
    )
    return figure
