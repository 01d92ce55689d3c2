"""Accuracy against the learning rate: tables of the sweep over λ, its optima, and what they cost to miss.

An optimum λ* is the vertex of a parabola in log₂ λ. Accuracies at λ* and elsewhere are read off the
same parabola: it uses every run, so that their difference has far less noise than that of two means
over seeds, and no best of seven noisy numbers is picked.
"""

import numpy as np
import pandas as pd
from scipy.interpolate import make_smoothing_spline
from scipy.stats import spearmanr

from .. import paths
from ..run import Run

#: Penalty on the curvature of a smoothed curve, in octaves³. It halves waves of 2π·LAM^¼ = 4 octaves
#: and leaves a ninth of those from one learning rate to the next, which are noise on a grid of
#: octaves; the hump of accuracy, as wide as the whole grid, it leaves alone.
LAM = (4 / (2 * np.pi)) ** 4
#: How many learning rates the smoother needs; of fewer no curve can be told.
ENOUGH = 5
#: Points in an octave of a smoothed curve.
FINENESS = 32


def table(runs: list[Run]) -> pd.DataFrame:
    """A row for each run: ``architecture`` (categorical, in the order of the runs), ``lr``, ``seed``,
    ``accuracy`` on the test images after the last epoch, a fraction, and ``diverged``.

    A run that diverged has no accuracy, but NaN; all that is made from accuracies leaves it out.

    Raises ValueError when there is no run.
    """
    if not runs:
        raise ValueError(
            f"there is no run over learning rates; `{paths.COMMAND} run sweep tuning` makes them"
        )
    configs = [run.config for run in runs]
    names = [c.architecture for c in configs]
    return pd.DataFrame(
        {
            "architecture": pd.Categorical(names, categories=list(dict.fromkeys(names))),
            "lr": [float(c.lr) for c in configs],
            "seed": [c.seed for c in configs],
            "accuracy": [np.nan if run.diverged_at is not None else run.test_accuracy for run in runs],
            "diverged": [run.diverged_at is not None for run in runs],
        }
    )


def tuned(runs: list[Run]) -> pd.DataFrame:
    """Mean test accuracy over seeds, a fraction: a row for each ``lr``, a column for each optimiser.

    ``optimiser`` is as in `lib.config.Config`. NaN where a seed diverged.

    Raises ValueError when there is no run.
    """
    rows = table(runs).assign(optimiser=[run.config.optimizer for run in runs])
    return rows.pivot_table(
        "accuracy", "lr", "optimiser", aggfunc=lambda of_seeds: of_seeds.mean(skipna=False)
    )


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that did not diverge."""
    return table[~table["diverged"]]


def seeds(table: pd.DataFrame) -> pd.DataFrame:
    """How many seeds there are for each architecture (rows) and learning rate (columns); 0 for none."""
    return table.pivot_table(
        "seed", "architecture", "lr", aggfunc="count", fill_value=0, observed=True
    ).astype(int)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ``accuracy`` over the seeds that finished, for each ``architecture`` and ``lr`` that has any."""
    return finished(table).groupby(["architecture", "lr"], observed=True)["accuracy"].mean().reset_index()


def with_enough(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of those architectures that have enough learning rates for a curve, ``ENOUGH``.

    A sweep that was stopped has some of its last network only. Raises ValueError when none has enough.
    """
    counts = finished(table).groupby("architecture", observed=True)["lr"].nunique()
    kept = table[table["architecture"].isin(counts.index[counts >= ENOUGH])]
    if kept.empty:
        raise ValueError(
            f"no architecture has {ENOUGH} learning rates, only {counts.to_dict()}; `{paths.COMMAND} run sweep` trains the rest"
        )
    return kept.assign(architecture=kept["architecture"].cat.remove_unused_categories())


def smoothed(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ``accuracy`` over seeds, smoothed over log₂ λ: ``architecture``, ``lr`` on a fine grid, ``accuracy``.

    A cubic smoothing spline, with the penalty ``LAM`` on its curvature; each curve spans the
    learning rates that its architecture has. Raises ValueError when these are fewer than ``ENOUGH``.
    """
    curves = []
    for architecture, rows in means(table).groupby("architecture", observed=True):
        if len(rows) < ENOUGH:
            raise ValueError(
                f"{architecture} has {len(rows)} learning rates, {rows['lr'].tolist()}; smoothing needs {ENOUGH}: "
                f"`{paths.COMMAND} run sweep` trains the rest, and with_enough leaves such architectures out"
            )
        octave = np.log2(rows["lr"].to_numpy())
        fine = np.linspace(octave[0], octave[-1], round((octave[-1] - octave[0]) * FINENESS) + 1)
        spline = make_smoothing_spline(octave, rows["accuracy"].to_numpy(), lam=LAM)
        curves.append(
            pd.DataFrame({"architecture": architecture, "lr": np.exp2(fine), "accuracy": spline(fine)})
        )
    order = table["architecture"].dtype
    return pd.concat(curves, ignore_index=True).astype({"architecture": order})


def optima(table: pd.DataFrame) -> pd.DataFrame:
    """The best learning rate of each architecture: ``lr``, ``accuracy``, ``inside``, ``runs``.

    ``lr`` is λ*, where a parabola in log₂ λ, fitted by least squares to all ``runs`` of the
    architecture, is highest within the range of its learning rates, and ``accuracy`` is the
    parabola's there. With as many seeds at each λ that is the fit to the means over seeds; where a
    seed is missing, that λ weighs less. ``inside`` is False when the parabola has no vertex within
    the range, or a lowest one: λ* is then an end of the range, and only a bound. Raises ValueError
    when an architecture has fewer than three learning rates.
    """
    found = {}
    for architecture, rows in finished(table).groupby("architecture", observed=True):
        octave = np.log2(rows["lr"])
        parabola = _parabola(architecture, rows)
        ends = np.array([octave.min(), octave.max()])
        slope = parabola.deriv()
        vertex = -slope.coef[0] / slope.coef[1] if slope.coef[1] < 0 else np.nan
        inside = bool(ends[0] <= vertex <= ends[1])
        best = vertex if inside else ends[np.argmax(parabola(ends))]
        found[architecture] = {
            "lr": float(np.exp2(best)),
            "accuracy": float(parabola(best)),
            "inside": inside,
            "runs": len(rows),
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("architecture")


def _parabola(architecture: str, rows: pd.DataFrame) -> np.polynomial.Polynomial:
    if rows["lr"].nunique() < 3:
        raise ValueError(
            f"{architecture} has the learning rates {sorted(set(rows['lr']))}; a parabola needs three: "
            f"`{paths.COMMAND} run sweep` trains the rest, and with_enough leaves such architectures out"
        )
    # .convert: coefficients of log₂ λ itself, not of the fit's own scaled variable
    return np.polynomial.Polynomial.fit(np.log2(rows["lr"]), rows["accuracy"], 2).convert()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of a sweep, by architecture: best λ, accuracy there and at λ = 0.4 in %."""
    costs, _ = selection(table)
    found = optima(table)
    return pd.DataFrame(
        {
            "best λ": [
                f"{o.lr:.2g}" + ("" if o.inside else ", the end of the range") for o in found.itertuples()
            ],
            "accuracy at best λ, %": (100 * costs["best"]).round(1),
            "accuracy at λ = 0.4, %": (100 * costs["accuracy"]).round(1),
            "runs": found["runs"],
        }
    ).rename_axis(index=None, columns="network")


def spread_octaves(optima: pd.DataFrame) -> float:
    """How far apart the best learning rates are, in octaves: log₂ of the largest over the smallest.

    It is a lower bound when one of them is not ``inside``.
    """
    return float(np.log2(optima["lr"].max() / optima["lr"].min()))


def selection(table: pd.DataFrame, lr: float = 0.4) -> tuple[pd.DataFrame, float]:
    """What it costs to compare architectures at one learning rate.

    Returns a table by architecture, ``accuracy`` at that learning rate, ``best`` at its own best
    and ``loss``, the difference, all fractions and of the parabola of `optima`; and Spearman's rank
    correlation of ``accuracy`` and ``best``. Raises ValueError when there are fewer than two
    architectures, or the learning rate is outside the range of one.
    """
    groups = dict(list(finished(table).groupby("architecture", observed=True)))
    if len(groups) < 2:
        raise ValueError(
            f"the sweep has the architectures {list(groups)}; to rank them takes two: `{paths.COMMAND} run sweep` trains the rest"
        )
    for architecture, rows in groups.items():
        if not rows["lr"].min() <= lr <= rows["lr"].max():
            raise ValueError(
                f"lr={lr:g} is outside the learning rates of {architecture}, "
                f"{rows['lr'].min():g} to {rows['lr'].max():g}; choose one within"
            )
    at = {a: float(_parabola(a, rows)(np.log2(lr))) for a, rows in groups.items()}
    costs = pd.DataFrame({"accuracy": at, "best": optima(table)["accuracy"]}).rename_axis("architecture")
    costs["loss"] = costs["best"] - costs["accuracy"]
    return costs, float(spearmanr(costs["accuracy"], costs["best"]).statistic)
