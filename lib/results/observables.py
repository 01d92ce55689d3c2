"""What each claim looks at: from runs to the observed number, and whether it is within the tolerance.

Every function takes ``runs``: by form, such as ``dynamics/sgd``, the runs of one seed, or of all
seeds for what is an average over them. Where layers or epochs are many, the number is that of the
worst one, and it alone decides. Epochs are of 24.
"""

from functools import cache

import numpy as np
import pandas as pd

from ..run import Run
from . import analysis, learning_rates

Runs = dict[str, list[Run]]
Observation = tuple[float, bool]
SGD, HEAVY_BALL, NESTEROV = "dynamics/sgd", "dynamics/heavy-ball", "dynamics/nesterov"
QUARTER_BATCH, FROZEN = "batch-size/quarter-batch", "gradient-noise/frozen"


def _one(runs: Runs, form: str) -> Run:
    (run,) = runs[form]
    return run


def _between(table: pd.DataFrame, run: Run, first: float, last: float) -> pd.DataFrame:
    """The rows between two epochs of 24, at their place in a run of any length."""
    return analysis.in_window(table, run.config.epochs, (first / 24, last / 24))


@cache  # three claims look at it, and the norm equation takes a moment
def _by_epoch(run: Run) -> pd.DataFrame:
    return analysis.convolutions(analysis.ratio_by_epoch(run))


def _largest_deviation(values: pd.Series, target: float, tolerance: float) -> Observation:
    observed = (values - target).abs().max()
    return observed, observed <= tolerance


def right_angle(runs: Runs) -> Observation:
    """Largest |cos(w, g)| of a convolution; the classifier must be off a right angle."""
    cosine = analysis.dynamics(_one(runs, SGD)).assign(cosine=lambda t: t["cosine"].abs())
    largest = cosine.groupby("layer", observed=True)["cosine"].max()
    observed = largest.drop(analysis.CLASSIFIER).max()
    return observed, observed < 1e-3 < largest[analysis.CLASSIFIER]


def norm_change(runs: Runs) -> Observation:
    """What equations (1′) and (2′) leave of the change of |w|² over an epoch, over the smaller of the two."""
    t = analysis.convolutions(analysis.dynamics(_one(runs, SGD))).astype({"weight_norm_sq": float})
    after = t.groupby("layer", observed=True)["weight_norm_sq"].shift(-1)
    # the last step has no norm after it
    t = t.assign(residual=after - t["weight_norm_sq"] - t["growth"] + t["shrinkage"]).dropna()
    sums = t.groupby(["layer", np.floor(t["epoch"])], observed=True)[
        ["residual", "growth", "shrinkage"]
    ].sum()
    observed = (sums["residual"].abs() / sums[["growth", "shrinkage"]].min(axis=1)).max()
    return observed, observed < 0.01


def growth_over_shrinkage(runs: Runs) -> Observation:
    """|growth/shrinkage − 1| over an epoch."""
    run = _one(runs, SGD)
    t = _between(analysis.convolutions(analysis.dynamics(run)), run, 6, 14)
    sums = t.groupby(["layer", np.floor(t["epoch"])], observed=True)[["growth", "shrinkage"]].sum()
    return _largest_deviation(sums["growth"] / sums["shrinkage"], 1, 0.1)


def early_peaks(runs: Runs) -> Observation:
    """Convolutions whose |w|² peaks in epochs 1 to 10."""
    run = _one(runs, SGD)
    peaks = analysis.peaks(analysis.convolutions(run.steps)) * 24 / run.config.epochs
    observed = int(peaks.between(1, 10).sum())
    return observed, observed >= 5


def ratio(runs: Runs) -> Observation:
    """|R − 1| over an epoch, without momentum."""
    run = _one(runs, SGD)
    return _largest_deviation(_between(_by_epoch(run), run, 6, 14)["R"], 1, 0.10)


def norm_equation(runs: Runs, first: float = 2, last: float = 23) -> Observation:
    """|R − R of the norm equation| over an epoch between two, without momentum."""
    run = _one(runs, SGD)
    t = _between(_by_epoch(run), run, first, last)
    return _largest_deviation(t["R"] - t["R_ode"], 0, 0.05)


def end(runs: Runs) -> Observation:
    """The same at the end of training, where R must also fall."""
    run = _one(runs, SGD)
    t = _between(_by_epoch(run), run, 17, 23)
    ends = t.groupby("layer", observed=True)["R"].agg(["first", "last"])
    observed, within = norm_equation(runs, 17, 23)
    return observed, within and bool((ends["last"] < ends["first"]).all())


def correlation(runs: Runs) -> Observation:
    """|κ|, the mean over an epoch."""
    run = _one(runs, HEAVY_BALL)
    t = _between(analysis.convolutions(analysis.dynamics(run)), run, 2, 22)
    per_epoch = t.groupby(["layer", np.floor(t["epoch"])], observed=True)["correlation"].mean()
    return _largest_deviation(per_epoch, 0, 0.05)


def with_momentum(runs: Runs, column: str, tolerance: float) -> Observation:
    """|R − 1| of heavy-ball in the equilibrium window, of that column of `analysis.equilibrium`."""
    deep = analysis.equilibrium(runs[HEAVY_BALL]).drop(index=analysis.CLASSIFIER)
    return _largest_deviation(deep[column], 1, tolerance)


def larger_discrepancy(runs: Runs) -> Observation:
    """Convolutions that are further from the line with momentum than without."""
    tables = (analysis.equilibrium(runs[form]) for form in (HEAVY_BALL, SGD))
    observed = analysis.further_from_line(*tables)
    return observed, observed >= 6


def rotation(runs: Runs, form: str, tolerance: float) -> Observation:
    """|measured/predicted − 1| of |Δw|/|w| in the equilibrium window."""
    return _largest_deviation(pd.Series(analysis.turn(runs[form])), 1, tolerance)


def same_accuracy(runs: Runs) -> Observation:
    """Final accuracy without momentum less that with it, in %, mean over seeds."""
    observed = 100 * (_accuracy(runs[SGD]) - _accuracy(runs[HEAVY_BALL]))
    return observed, abs(observed) <= 0.3


def noise_slope(runs: Runs) -> Observation:
    """|slope + ½| of log |g| against log N at the frozen checkpoints between epochs 5 and 20."""
    run = _one(runs, FROZEN)
    table = analysis.convolutions(analysis.noise([run]))
    slopes = analysis.noise_slopes(table, run.config.batch_size)
    return _largest_deviation(_between(slopes, run, 5, 20)["slope"], -0.5, 0.08)


def step_of_batch(runs: Runs) -> Observation:
    """|quotient − 2| of λ|g|/|w| with the whole batch and λ, over that with a quarter of both."""
    whole, quarter = (analysis.mean_step(_one(runs, form)) for form in (HEAVY_BALL, QUARTER_BATCH))
    return _largest_deviation((whole / quarter).drop(analysis.CLASSIFIER), 2.0, 0.15)


def shared_optimum(runs: Runs) -> Observation:
    """Octaves between the smallest and the largest best λ of the networks."""
    observed = learning_rates.spread_octaves(learning_rates.optima(_swept(runs)))
    return observed, observed <= 1


def selection(runs: Runs) -> Observation:
    """Accuracy lost by λ = 0.4 against a network's own best λ, in %; the order of networks must stay."""
    costs, rank_correlation = learning_rates.selection(_swept(runs))
    observed = 100 * costs["loss"].max()
    return observed, observed <= 0.15 and rank_correlation >= 0.85


def better_accuracy(runs: Runs) -> Observation:
    """Accuracy of LARS less that of SGD, each at its best λ of those tried, in %, means over seeds."""
    lars, sgd = (
        max(_accuracy(seeds) for seeds in runs.values() if _is_of(seeds, optimizer))
        for optimizer in ("lars", "sgd")
    )
    observed = 100 * (lars - sgd)
    return observed, observed >= 0.3


def _is_of(seeds: list[Run], optimizer: str) -> bool:
    """Whether it is the optimizer's at a λ where every seed came to an end: one that diverged is not the best."""
    return seeds[0].config.optimizer == optimizer and all(run.diverged_at is None for run in seeds)


def _accuracy(seeds: list[Run]) -> float:
    return float(np.mean([run.test_accuracy for run in seeds]))


def _swept(runs: Runs) -> pd.DataFrame:
    return learning_rates.table([run for of_form in runs.values() for run in of_form])
