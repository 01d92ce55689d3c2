"""The tops of curves of accuracy against the learning rate: where they are, how well that is known.

An optimum λ* is the vertex of a parabola in log₂ λ, fitted to the runs within `REACH` octaves of the learning
rate with the best mean: far from its top a curve is no parabola, and `lack_of_fit` says so. The fit uses all
runs near the top, so that no best of seven noisy numbers is picked.
"""

import numpy as np
import pandas as pd
from scipy.special import fdtrc  # 1 − F's distribution; scipy.stats takes a second to load

from .. import paths
from .learning_rates import at_common, common, finished

#: How far from the best mean, in octaves, a learning rate still belongs to the top of the curve.
REACH = 2
RESAMPLES = 2000


def near_top(table: pd.DataFrame) -> pd.DataFrame:
    """The finished runs within `REACH` octaves of their architecture's learning rate with the best mean.

    Raises ValueError when an architecture has fewer than three learning rates there.
    """
    rows = finished(table)
    of_architecture = rows.groupby("architecture", observed=True)
    best = of_architecture.apply(lambda r: r.groupby("lr")["accuracy"].mean().idxmax())
    distance = np.log2(rows["lr"] / rows["architecture"].map(best).astype(float))
    near = rows[distance.abs() <= REACH + 1e-9]
    for architecture, some in near.groupby("architecture", observed=True):
        if some["lr"].nunique() < 3:
            raise ValueError(
                f"{architecture} has the learning rates {sorted(set(some['lr']))}; a parabola needs three: "
                f"`{paths.COMMAND} run sweep` trains the rest, and with_enough leaves such architectures out"
            )
    return near


def optima(table: pd.DataFrame) -> pd.DataFrame:
    """The best learning rate of each architecture, from the runs `near_top`.

    ``lr`` is λ*, where the parabola is highest within the range of its learning rates, and ``accuracy`` the
    parabola's there; ``low`` and ``high`` the 90 % interval of λ* over bootstrap resamples of the seeds at each
    learning rate, NaN where there is one. ``inside`` is False when the parabola has no vertex within the range,
    or a lowest one: λ* is then an end of the range, and only a bound. ``runs`` is how many were used. Raises what
    `near_top` raises.
    """
    found = {}
    for architecture, rows in near_top(table).groupby("architecture", observed=True):
        octave = np.log2(rows["lr"].to_numpy())
        best, height, inside = (x[0] for x in _tops(octave, rows["accuracy"].to_numpy()[:, None]))
        resampled, _, _ = _tops(octave, _resampled(rows))
        low, high = np.exp2(np.quantile(resampled, [0.05, 0.95]))
        found[architecture] = {
            "lr": float(np.exp2(best)),
            "low": float(low),
            "high": float(high),
            "accuracy": float(height),
            "inside": bool(inside),
            "runs": len(rows),
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("architecture")


def _tops(octave: np.ndarray, accuracy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the parabola through each column of accuracies is highest, how high, and whether that is a vertex."""
    middle = octave.mean()
    x = octave - middle
    constant, slope, curvature = np.linalg.lstsq(np.vander(x, 3, increasing=True), accuracy, rcond=None)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(curvature < 0, -slope / (2 * curvature), np.nan)
    inside = (vertex >= x.min()) & (vertex <= x.max())
    # a parabola without a vertex here is highest at one end
    end = np.where(slope + curvature * (x.min() + x.max()) > 0, x.max(), x.min())
    best = np.where(np.isnan(slope), np.nan, np.where(inside, vertex, end))
    return best + middle, constant + slope * best + curvature * best**2, inside


def _resampled(rows: pd.DataFrame) -> np.ndarray:
    """Accuracies of the rows, resampled: means over seeds with deviations drawn from those at all learning rates.

    Shape ``(runs, RESAMPLES)``; NaN where no learning rate has two seeds.
    """
    by_lr = rows.groupby("lr")["accuracy"]
    means, counts = (by_lr.transform(how).to_numpy(float) for how in ("mean", "count"))
    several = counts > 1
    if not several.any():
        return np.full((len(rows), RESAMPLES), np.nan)
    # deviations from a mean that they helped to make are too small
    deviations = ((rows["accuracy"] - means) * np.sqrt(counts / np.maximum(counts - 1, 1)))[several]
    drawn = np.random.default_rng(0).choice(deviations.to_numpy(), (len(rows), RESAMPLES))
    return means[:, None] + drawn


def optima_by_seed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """What each seed by itself says, a row for each, of each architecture.

    ``column`` is ``lr``, its λ*; ``accuracy``, that there; or ``loss``, ``accuracy`` less that at the `common` one. The
    learning rates near the top are those of all seeds. Raises what `near_top` and `at_common` raise.
    """
    at = at_common(table)
    found = {}
    for (architecture, seed), rows in near_top(table).groupby(["architecture", "seed"], observed=True):
        best, height, _ = _tops(np.log2(rows["lr"].to_numpy()), rows["accuracy"].to_numpy()[:, None])
        values = {"lr": np.exp2(best[0]), "accuracy": height[0], "loss": height[0] - at[architecture][seed]}
        found.setdefault(str(architecture), {})[seed] = values[column]
    return pd.DataFrame(found)


def lack_of_fit(table: pd.DataFrame) -> pd.Series:
    """Probability that means over seeds are as far from a parabola through all of a table, by architecture.

    An F-test of the means' distances from the parabola against the scatter of seeds. NaN where there is no
    scatter or nothing to fit.
    """
    found = {}
    for architecture, rows in finished(table).groupby("architecture", observed=True):
        by_lr = rows.groupby("lr")["accuracy"]
        rates, runs = by_lr.ngroups, len(rows)
        octave = np.log2(rows["lr"])
        parabola = np.polynomial.Polynomial.fit(octave, rows["accuracy"], 2)(octave)
        pure = ((rows["accuracy"] - by_lr.transform("mean")) ** 2).sum()
        off = max(((rows["accuracy"] - parabola) ** 2).sum() - pure, 0.0)  # rounding can leave it below
        enough = rates > 3 and runs > rates and pure > 0
        statistic = (off / (rates - 3)) / (pure / (runs - rates)) if enough else np.nan
        found[architecture] = fdtrc(rates - 3, runs - rates, statistic)
    return pd.Series(found)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader sees of a sweep, by architecture: best λ with its interval, accuracy there and at λ = 0.4 in %."""
    costs, _ = selection(table)
    found = optima(table)
    return pd.DataFrame(
        {
            "best λ": [
                f"{o.lr:.2g}" + ("" if o.inside else ", the end of the range") for o in found.itertuples()
            ],
            "90 % interval": [
                "–" if np.isnan(o.low) else f"{o.low:.2g} to {o.high:.2g}" for o in found.itertuples()
            ],
            "accuracy at best λ, %": (100 * costs["best"]).round(1),
            f"accuracy at λ = {common(table):g}, %": (100 * costs["accuracy"]).round(1),
            "runs near the top": found["runs"],
        }
    ).rename_axis(index=None, columns="network")


def spread_octaves(optima: pd.DataFrame) -> float:
    """How far apart the best learning rates are, in octaves: log₂ of the largest over the smallest.

    It is a lower bound when one of them is not ``inside``.
    """
    return float(np.log2(optima["lr"].max() / optima["lr"].min()))


def selection(table: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """What it costs to compare architectures at one learning rate, the `common` one.

    Returns a table by architecture, ``accuracy`` there, mean over seeds, ``best`` at its own best and ``loss``,
    the difference, all fractions; and Spearman's rank correlation of ``accuracy`` and ``best``. Raises ValueError
    when there are fewer than two architectures, and what `optima` and `at_common` raise.
    """
    at = at_common(table).mean()
    if len(at) < 2:
        raise ValueError(
            f"the sweep has the architectures {list(at.index)}; to rank them takes two: `{paths.COMMAND} run sweep` trains the rest"
        )
    costs = pd.DataFrame({"accuracy": at, "best": optima(table)["accuracy"]}).rename_axis("architecture")
    costs["loss"] = costs["best"] - costs["accuracy"]
    return costs, _rank_correlation(costs["accuracy"], costs["best"])


def rank_correlations(table: pd.DataFrame) -> pd.Series:
    """Rank correlation of networks at the `common` one with networks at their best, for each seed."""
    at, best = at_common(table), optima_by_seed(table, "accuracy")
    return pd.Series(
        {seed: _rank_correlation(at.loc[seed, best.columns], best.loc[seed]) for seed in best.index}
    )


def _rank_correlation(a: pd.Series, b: pd.Series) -> float:
    """Spearman's."""
    return float(a.rank().corr(b.rank()))
