"""What the claims look at: from runs to one number for each layer.

Each function takes a window, as first and last epoch of 24, and a run, or one of each form that it
compares, all of the same seed. `of_each_seed` makes a table of one of them, with a row for each seed; what
needs all seeds at once, to choose a best learning rate or to predict one run by the others, is a table from
the outset. Numbers of single layers are indexed by layer, others by what they are of.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from ..config import CLASSIFIER
from ..run import Run
from . import analysis, learning_rates, tops

Window = tuple[float, float]
#: The runs of each form, by seed; the seeds of all forms are the same.
Seeds = dict[str, dict[int, Run]]
#: From runs and a window to a table, a row for each seed.
Statistic = Callable[[Seeds, Window], pd.DataFrame]
#: Fewer networks than this have no rank correlation worth the name: by chance alone it often is 1.
ENOUGH_NETWORKS = 6


def of_each_seed(measure: Callable[..., pd.Series]) -> Statistic:
    """The statistic that has a row for each seed: what is measured on its runs, one of each form."""

    def statistic(seeds: Seeds, window: Window) -> pd.DataFrame:
        of_seed = zip(*(of_form.values() for of_form in seeds.values()), strict=True)
        found = [measure(window, *runs) for runs in of_seed]
        return pd.DataFrame(found, index=next(iter(seeds.values())))

    return statistic


@lru_cache(maxsize=32)  # several claims look at the same run, epoch by epoch
def _dynamics(run: Run) -> pd.DataFrame:
    """`analysis.dynamics`, with ``residual``: what (1′) and (2′) leave of the change of |w|² in a step."""
    t = analysis.dynamics(run)
    norm_sq = t["weight_norm_sq"].astype(float)
    after = norm_sq.groupby(t["layer"], observed=True).shift(-1)  # the last step has no norm after it
    return t.assign(residual=after - norm_sq - t["growth"] + t["shrinkage"])


@lru_cache(maxsize=32)
def _convolutions(run: Run) -> pd.DataFrame:
    return analysis.convolutions(_dynamics(run))


@lru_cache(maxsize=32)
def _by_epoch(run: Run) -> pd.DataFrame:
    return analysis.convolutions(analysis.ratio_by_epoch(run))


@lru_cache(maxsize=32)
def _noise_slopes(run: Run) -> pd.DataFrame:
    return analysis.noise_slopes(analysis.convolutions(analysis.noise([run])), run.config.batch_size)


def of_24(window: Window) -> Window:
    """The window as fractions of a run, whatever its length."""
    return window[0] / 24, window[1] / 24


def _all_layers(run: Run, window: Window) -> pd.DataFrame:
    return analysis.in_window(_dynamics(run), run.config.epochs, of_24(window))


def rows(run: Run, window: Window = (0, 24)) -> pd.DataFrame:
    """`analysis.dynamics` of the convolutions in a window."""
    return analysis.in_window(_convolutions(run), run.config.epochs, of_24(window))


def number(value: float, of: str) -> pd.Series:
    """One number, of what it is."""
    return pd.Series({of: float(value)})


def largest_cosine(window: Window, run: Run) -> pd.Series:
    """Largest |cos(w, g)| of each convolution."""
    return _largest_cosines(run, window).drop(CLASSIFIER)


def largest_cosine_of_classifier(window: Window, run: Run) -> pd.Series:
    """Largest |cos(w, g)| of the classifier."""
    return _largest_cosines(run, window)[[CLASSIFIER]]


def _largest_cosines(run: Run, window: Window) -> pd.Series:
    t = _all_layers(run, window)
    return t["cosine"].abs().groupby(t["layer"], observed=True).max()


def unexplained_change(window: Window, run: Run, mixed: bool = False) -> pd.Series:
    """What (1′) and (2′) leave of the change of |w|² over an epoch, over the smaller of the two; rms over epochs.

    With ``mixed``, what these and −2λ w·g leave, which is zero where gradients are orthogonal to weights.
    """
    t = rows(run, window)
    t = t[t["residual"].notna()]
    left = t["residual"] + 2 * t["lr"] * t["weight_dot_grad"].astype(float) if mixed else t["residual"]
    terms = (left, t["growth"], t["shrinkage"])
    residual, growth, shrinkage = analysis.sums([t["layer"], np.floor(t["epoch"])], *terms)
    return _rms_over_epochs(residual / np.minimum(growth, shrinkage))


def _rms_over_epochs(values: pd.Series, by: str | pd.Series = "layer") -> pd.Series:
    return np.sqrt((values**2).groupby(by, observed=True).mean())


def growth_over_shrinkage(window: Window, run: Run) -> pd.Series:
    """Σ growth / Σ shrinkage."""
    t = rows(run, window)
    growth, shrinkage = analysis.sums([t["layer"]], t["growth"], t["shrinkage"])
    return growth / shrinkage


def peaks_within(window: Window, run: Run) -> pd.Series:
    """How many convolutions have their largest |w|² of the run within the window."""
    peaks = analysis.peaks(analysis.convolutions(run.steps)) * 24 / run.config.epochs
    return number(peaks.between(*window).sum(), "layers")


def ratio(window: Window, run: Run) -> pd.Series:
    """R: measured λ|g|/|w| over its equilibrium value, by mean squares."""
    return analysis.ratio_to_line(rows(run, window), ["layer"])


def corrected_ratio(window: Window, run: Run) -> pd.Series:
    """R over the factor that the measured overlap of gradients makes."""
    t = rows(run, window)
    return analysis.ratio_to_line(t, ["layer"]) / analysis.correction(t, run)


def rotation(window: Window, run: Run) -> pd.Series:
    """|Δw|/|w| over the predicted rotation, by mean squares."""
    return analysis.rotation_to_prediction(rows(run, window), run)


def further_from_line(window: Window, run: Run, reference: Run) -> pd.Series:
    """How many convolutions have a larger |R − 1| than in a reference."""
    further = (ratio(window, run) - 1).abs() > (ratio(window, reference) - 1).abs()
    return number(further.sum(), "layers")


def median_distance(window: Window, run: Run) -> pd.Series:
    """Median |R − 1| of the convolutions."""
    return number((ratio(window, run) - 1).abs().median(), "layers")


def against_equation(seeds: Seeds, window: Window) -> pd.DataFrame:
    """Rms over epochs of R − R of the norm equation that the other seeds' mean c(t) drives.

    No number of the run enters its prediction, but its |w|² at the first step. A run without others has none.
    """
    (runs,) = seeds.values()
    if len(runs) == 1:
        return pd.DataFrame(index=runs)
    return pd.DataFrame(
        [_off(t, run, window, "R_others") for run, t in _predicted(tuple(runs.values()))], index=runs
    )


@lru_cache(maxsize=4)
def _predicted(runs: tuple[Run, ...]) -> list[tuple[Run, pd.DataFrame]]:
    return [
        (run, analysis.convolutions(analysis.ratio_by_epoch(run, others)))
        for run, others in analysis.each_and_the_others(runs)
    ]


def against_closed_form(window: Window, run: Run) -> pd.Series:
    """Rms over epochs of R − the closed form of the end, which knows the schedule and nothing else."""
    return _off(_by_epoch(run), run, window, "R_end")


def _off(by_epoch: pd.DataFrame, run: Run, window: Window, column: str) -> pd.Series:
    t = analysis.in_window(by_epoch, run.config.epochs, of_24(window))
    return _rms_over_epochs(t["R"] - t[column], t["layer"])


def correlation(window: Window, run: Run) -> pd.Series:
    """κ, the mean over the window."""
    t = rows(run, window)
    return t["correlation"].groupby(t["layer"], observed=True).mean()


def noise_slope(window: Window, run: Run) -> pd.Series:
    """Slope of log |g| against log N, the mean of the frozen checkpoints in the window."""
    within = analysis.in_window(_noise_slopes(run), run.config.epochs, of_24(window))
    return within.groupby("layer", observed=True, sort=False)[
        "slope"
    ].mean()  # in their order, not the alphabet's


def step_of_batch(window: Window, whole: Run, part: Run) -> pd.Series:
    """λ|g|/|w| with the whole batch and λ, over that with a part of both."""
    steps = [analysis.mean_step(run, of_24(window)) for run in (whole, part)]
    return (steps[0] / steps[1]).drop(CLASSIFIER)


def accuracy_difference(window: Window, run: Run, reference: Run) -> pd.Series:
    """Final test accuracy less that of a reference, in %."""
    return number(100 * (run.test_accuracy - reference.test_accuracy), "difference")


def tuned_difference(seeds: Seeds, window: Window) -> pd.DataFrame:
    """Final accuracy of LARS less that of SGD, each at its best λ in the mean over seeds, in %."""
    best = [learning_rates.best_tuned(_all(seeds), optimizer) for optimizer in ("lars", "sgd")]
    return (100 * (best[0] - best[1])).to_frame("difference")


def octaves_apart(seeds: Seeds, window: Window) -> pd.DataFrame:
    """Octaves from the best λ of one network to that of another, for every pair."""
    octaves = np.log2(tops.optima_by_seed(learning_rates.table(_all(seeds)), "lr"))
    return pd.DataFrame({f"{a} to {b}": octaves[b] - octaves[a] for a, b in _pairs(octaves.columns)})


def _pairs(names) -> Iterator[tuple[str, str]]:
    names = list(names)
    return ((a, b) for i, a in enumerate(names) for b in names[i + 1 :])


def loss_of_selection(seeds: Seeds, window: Window) -> pd.DataFrame:
    """Accuracy of each network at its best λ less that at λ = 0.4, in %."""
    return 100 * tops.optima_by_seed(learning_rates.table(_all(seeds)), "loss")


def rank_correlation(seeds: Seeds, window: Window) -> pd.DataFrame:
    """Rank correlation of networks at λ = 0.4 with networks at their best; NaN for fewer than `ENOUGH_NETWORKS`."""
    table = learning_rates.table(_all(seeds))
    found = tops.rank_correlations(table)
    if table["architecture"].nunique() < ENOUGH_NETWORKS:
        found[:] = np.nan
    return found.to_frame("networks")


def _all(seeds: Seeds) -> list[Run]:
    return [run for of_form in seeds.values() for run in of_form.values()]
