"""Figures that a reader can change: their numbers, as HTML that scripts of the site draw.

The scripts are in ``book/_static``. Numbers are rounded to what a screen can show, and equal runs
give equal bytes.
"""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd
from IPython.display import HTML

from .. import paths, scales, theory
from ..config import layers_of
from ..results import analysis, learning_rates, tops
from ..run import Run
from . import style

#: About how many points a curve has.
POINTS = 200
#: A layer of few weights near the input, and one of many near the output.
LAYERS = ("layer1", "layer3")
#: Forms that the norm equation is about, the one for which it is exact first.
FORMS = ("sgd", "heavy-ball")


def explorer(runs: dict[str, list[Run]], layers: Iterable[str] = LAYERS) -> HTML:
    """The explorer, with some layers of the first recorded run of each of `FORMS` to start from.

    ``runs`` are by form. Raises ValueError when no run is of these forms with its steps, or one lacks a layer.
    """
    recorded = [
        _recorded(form, run, layer)
        for form in FORMS
        for run in analysis.with_steps(runs.get(form, []))[:1]
        for layer in layers
    ]
    if not recorded:
        raise ValueError(
            f"no run of {', '.join(FORMS)} with its steps is among {', '.join(runs) or 'no runs'}; "
            f"`{paths.COMMAND} run dynamics` makes them"
        )
    return _figure("explorer", {"runs": recorded}, ("charts", "norm-equation", "explorer"))


def _recorded(form: str, run: Run, layer: str) -> dict[str, object]:
    """Settings of a run, and of one layer |w|², mean c² and root mean square λ|g|/|w| in each of some steps."""
    c = run.config
    table = analysis.dynamics(run)
    names = table["layer"].cat.categories
    if layer not in names:
        raise ValueError(f"layer={layer!r} is not of the network; it must be one of {', '.join(names)}")
    channels_in, channels_out, _ = layers_of(c.architecture, c.width)[layer]
    table = table[table["layer"] == layer].reset_index(drop=True)
    table["c_sq"] = table["grad_norm_sq"] * table["weight_norm_sq"]
    table["ratio_sq"] = table["ratio"] ** 2
    every = -(-len(table) // POINTS)
    bins = table.groupby(table.index // every)
    return {
        "name": f"{layer}, {'no momentum' if form == 'sgd' else form}",
        **{"lr": c.lr, "weightDecay": c.weight_decay, "momentum": c.momentum, "batchSize": c.batch_size},
        **{"epochs": c.epochs, "peakEpoch": c.peak_epoch, "stepsPerEpoch": run.steps_per_epoch},
        "size": 9 * channels_in * channels_out,  # of 3×3 convolutions
        "every": every,
        "meanCSq": float(f"{analysis.in_window(table, c.epochs)['c_sq'].mean():.4g}"),
        "normSq": _rounded(bins["weight_norm_sq"].first()),
        "cSq": _rounded(bins["c_sq"].mean()),
        "ratio": _rounded(np.sqrt(bins["ratio_sq"].mean())),
    }


def accuracy_against_lr(table: pd.DataFrame) -> HTML:
    """Figures 8 and 9 in one: test accuracy against λ, networks and smoothing to be chosen.

    ``table`` is of `lib.results.learning_rates.table`. A network with too few learning rates for a smooth
    curve is left out; a run without an accuracy, because it diverged, is told apart from the others.
    """
    table = learning_rates.with_enough(table)
    means, smoothed = learning_rates.means(table), learning_rates.smoothed(table)
    optima = tops.optima(table)
    networks = []
    for name, runs in table.groupby("architecture", observed=True):
        curve = smoothed[smoothed["architecture"] == name]
        looks = style.architecture_style(name)
        diverged = runs["accuracy"].isna()
        networks.append(
            {
                "name": name,
                # black would vanish on a dark page
                "colour": looks["color"].replace("#000000", "currentColor"),
                "marker": looks["marker"],
                "hollow": looks["fillstyle"] == "none",
                "dash": "6 4" if looks["linestyle"] == "--" else "none",
                "runs": _rows(runs.loc[~diverged, ["lr", "seed", "accuracy"]]),
                "diverged": _rows(runs.loc[diverged, ["lr", "seed"]]),
                "means": _rows(means.loc[means["architecture"] == name, ["lr", "accuracy"]]),
                "smoothed": _rows(curve[["lr", "accuracy"]].iloc[::4]),
                "optimum": _optimum(optima.loc[name], curve),
            }
        )
    data: dict[str, object] = {
        "reference": scales.base(scales.DEFAULT_SCALE).lr,
        "lrs": _rounded(np.unique(table["lr"])),
        "networks": networks,
    }
    return _figure("learning-rates", data, ("charts", "learning-rates"))


def spirals() -> HTML:
    """Three vectors under SGD with weight decay, which the page plays: lengths differ, and angles become equal.

    With noise of constant c = |g||w| and no momentum. Each starts off its circle, and c is what gives it that.
    """
    lr, weight_decay = 0.1, 0.05  # λα = 0.005: a turn is seen, and the formulas are good to a percent
    vermilion = style.label_styles(["A"])["A"]["color"]
    vectors = [
        {
            "name": name,
            "colour": colour,
            "start": start,
            "angle": angle,
            "cSq": float(f"{2 * weight_decay * circle**4 / lr:.4g}"),
        }
        for name, colour, start, angle, circle in (
            ("A", vermilion, 0.5, 0.3, 1.0),
            ("B", style.form_style("sgd")["color"], 1.15, 2.4, 0.7),
            ("C", style.form_style("nesterov")["color"], 0.3, 4.5, 0.4),
        )
    ]
    data: dict[str, object] = {"lr": lr, "weightDecay": weight_decay, "steps": 300, "vectors": vectors}
    data["rotation"] = float(f"{theory.rotation(lr=lr, weight_decay=weight_decay):.4g}")
    return _figure("spirals", data, ("charts", "norm-equation", "spirals"))


def _optimum(optimum: pd.Series, curve: pd.DataFrame) -> list[list[float]]:
    """Where λ* lies on the curve; nowhere when it is only a bound."""
    if not optimum["inside"]:
        return []
    height = np.interp(np.log(optimum["lr"]), np.log(curve["lr"]), curve["accuracy"])
    return [_rounded([optimum["lr"], height])]


def _rows(table: pd.DataFrame) -> list[list[float]]:
    return [_rounded(row) for row in table.to_numpy()]


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [float(f"{number:.4g}") for number in numbers]


def _figure(name: str, data: dict[str, object], scripts: Iterable[str]) -> HTML:
    """An element with the data and, until the scripts have drawn them, with what to read instead."""
    # "<" would let text in the data end the element
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace(
        "<", "\\u003c"
    )
    tags = "".join(f'<script defer src="../_static/{script}.js"></script>\n' for script in scripts)
    return HTML(
        f'<div class="interactive" data-interactive="{name}">\n<p>{FALLBACKS[name]}</p>\n'
        f'<script type="application/json">{text}</script>\n</div>\n{tags}'
    )


#: What is read where no script runs.
FALLBACKS = {
    "explorer": "This figure is drawn by the page of the site, and needs JavaScript. "
    "The chapter on equilibrium shows recorded runs beside the norm equation.",
    "learning-rates": "This figure is drawn by the page of the site, and needs JavaScript. "
    "The figures of this chapter show the same curves.",
    "spirals": "This figure is played by the page of the site, and needs JavaScript. "
    "The figure above it shows one step of it.",
}
