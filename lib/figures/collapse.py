"""The figure that holds the whole finding: norms and gradients that differ, and steps that do not."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import THEORY, layer_colours, styled

#: What each panel shows, by its column.
PANELS = {
    "weight_norm": "|w|, length of the weights",
    "grad_norm": "|g|, length of the gradient",
    "ratio": "λ|g|/|w|, relative step",
}
#: How far apart the labels of two lines stay, as a fraction of the axis.
APART = 0.08


def table(steps: pd.DataFrame) -> pd.DataFrame:
    """|w|, |g| and λ|g|/|w| of each layer, root mean squares over each epoch, and the ratio predicted.

    ``steps`` are of `lib.results.analysis.dynamics`; ``epoch`` is the middle of each.
    """
    squares = pd.DataFrame(
        {
            "layer": steps["layer"],
            "epoch": np.floor(steps["epoch"]) + 0.5,
            "weight_norm": steps["weight_norm_sq"],
            "grad_norm": steps["grad_norm_sq"],
            "ratio": steps["ratio"] ** 2,
            "predicted": steps["predicted"] ** 2,
        }
    )
    return np.sqrt(squares.groupby(["layer", "epoch"], observed=True).mean()).reset_index()


@styled
def layers(table: pd.DataFrame, line: str) -> Figure:
    """The columns of `table`, a panel for each, a line for each layer with its name at its end.

    ``line`` is the label of the predicted ratio, such as ``√(2λα)``.
    """
    colours = layer_colours(table["layer"].cat.categories)
    # two above one, and no wider than can be read on a phone
    figure, panels = plt.subplot_mosaic(
        [["weight_norm", "grad_norm"], ["ratio", "ratio"]], figsize=(7, 6), layout="constrained"
    )
    end = table["epoch"].max()
    for column, title in PANELS.items():
        axes = panels[column]
        for layer, rows in table.groupby("layer", observed=True):
            axes.plot(rows["epoch"], rows[column], color=colours[layer], linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlabel="epoch", xlim=(0, end + 0.5), ylim=(0, 1.05 * table[column].max()))
        if column != "ratio":
            _name_ends(axes, table[table["epoch"] == end].set_index("layer")[column], colours)
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


def _name_ends(axes, ends: pd.Series, colours: dict[str, tuple]) -> None:
    """Writes each line's name beside its end, moved as far as it takes for none to lie on another."""
    ends = ends.sort_values()
    top = axes.get_ylim()[1]
    apart = APART * np.arange(len(ends))
    heights = np.maximum.accumulate(ends / top - apart) + apart
    heights -= (heights - ends / top).mean()  # as many move down as up
    for (layer, end), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            layer,
            (1, end / top),
            xytext=(1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colours[layer],
            arrowprops={"arrowstyle": "-", "color": colours[layer], "linewidth": 0.7},
        )
