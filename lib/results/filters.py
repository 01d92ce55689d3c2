"""Each output filter by itself: batch norm makes it scale-invariant alone, with a balance of its own."""

import numpy as np
import pandas as pd

from .. import theory
from ..config import CLASSIFIER, Config, layers_of
from ..run import Run
from . import analysis, rule

#: How far a filter may be from its layer to count as near it.
NEAR = 0.15
NOT_MEASURED = "In the runs that are recorded here, filters were not measured by themselves yet."


def count(config: Config) -> int:
    """How many filters the convolutions of a network have."""
    layers = layers_of(config.architecture, config.width)
    return sum(layer.channels_out for name, layer in layers.items() if name != CLASSIFIER)


def table(runs: list[Run]) -> pd.DataFrame:
    """The filters of some runs at their frozen checkpoints, those of the classifier, its rows, too.

    Adds to `lib.gradient_noise.measure_filters`: ``seed``, ``relative`` (|g|/|w| over that of the layer, by mean squares)
    and ``R`` (λ|g|/|w| over its equilibrium value; NaN where that is 0). Filters without a gradient are left out.
    """
    return pd.concat([_of_run(run) for run in runs], ignore_index=True)


def _of_run(run: Run) -> pd.DataFrame:
    t = run.frozen_filters[run.frozen_filters["grad_norm_sq"] > 0]
    sums = t.groupby(["epoch", "layer"])[["grad_norm_sq", "weight_norm_sq"]].transform("sum")
    steps = np.sqrt(t["grad_norm_sq"] / t["weight_norm_sq"])
    lr = run.config.lr_schedule(t["epoch"].to_numpy(float))
    line = theory.equilibrium_ratio(lr=lr, nesterov=run.config.nesterov, **analysis.settings(run))
    measured = np.divide(lr * steps, line, out=np.full(len(t), np.nan), where=line > 0)
    return t.assign(
        seed=run.config.seed,
        relative=steps / np.sqrt(sums["grad_norm_sq"] / sums["weight_norm_sq"]),
        R=measured,
    )


def text(runs: list[Run]) -> str:
    """What is measured of filters, in sentences; that nothing is, where that is so."""
    measured = [run for run in runs if len(run.frozen_filters)]
    return _sentences(measured) if measured else NOT_MEASURED


def _sentences(runs: list[Run]) -> str:
    found = table(runs)
    of_classifier = found["layer"] == CLASSIFIER
    convolutions = found[~of_classifier]
    cosine, control = convolutions["cosine"].max(), found.loc[of_classifier, "cosine"].max()
    config = runs[0].config
    within = analysis.in_window(convolutions, config.epochs)
    if within["R"].isna().all():
        return "Without decay, or without a look at the middle of training, there is no balance to find."
    start, moments = convolutions[convolutions["epoch"] == 0], convolutions["epoch"].nunique()
    near = int(((within["relative"] - 1).abs() <= NEAR).sum())
    epochs = " and ".join(f"{epoch:g}" for epoch in sorted(within["epoch"].unique()))
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    return (
        f"With the weights held still at {moments} moments of the training, ρ = {config.momentum:g}, {seeds}, the largest "
        f"|cos(w, g)| of any filter is {rule.power(cosine)}; of a row of the classifier it is {rule.number(control)}. "
        f"Before the first step |g|/|w| of nine in ten filters is {_span(start['relative'])} times that of their layer. "
        f"After epoch {epochs} it is {_span(within['relative'])} times that, and {near} of {len(within)} filters are "
        f"within {100 * NEAR:.0f} % of their layer. Their R is {_span(within['R'])}. {_verdict(start, within)}"
    )


def _span(values: pd.Series) -> str:
    """From what to what nine of ten are."""
    low, high = values.quantile([0.05, 0.95])
    return f"{low:.2f} to {high:.2f}"


def _verdict(start: pd.DataFrame, within: pd.DataFrame) -> str:
    before, after = (np.log(t["relative"]).std() for t in (start, within))
    if after < before / 2:
        return "So each filter finds the balance by itself."
    return "So the filters of a layer do not find one balance in that time."
