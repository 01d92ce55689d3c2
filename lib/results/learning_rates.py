"""Accuracy against the learning rate: tables of the sweep over λ, its optima, and what they cost to miss.

The best learning rates themselves are in `lib.results.tops`.
"""

import numpy as np
import pandas as pd

from .. import paths, theory
from ..config import Config
from ..run import Run

#: Penalty on the curvature of a smoothed curve, in octaves³. It halves waves of 2π·LAM^¼ = 4 octaves
#: and leaves a ninth of those from one learning rate to the next, which are noise on a grid of
#: octaves; the hump of accuracy, as wide as the whole grid, it leaves alone.
LAM = (4 / (2 * np.pi)) ** 4
#: How many learning rates the smoother needs; of fewer no curve can be told.
ENOUGH = 5
#: Points in an octave of a smoothed curve.
FINENESS = 32
#: The learning rate at which the post compares networks.
COMMON = 0.4


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


def best_tuned(runs: list[Run], optimiser: str) -> pd.Series:
    """Test accuracy of each seed, a fraction, at the learning rate where an optimiser's mean is best.

    A learning rate at which a seed diverged is not the best.
    """
    rows = table([run for run in runs if run.config.optimizer == optimiser])
    best = tuned(runs)[optimiser].idxmax()
    return rows[rows["lr"] == best].set_index("seed")["accuracy"]


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that did not diverge."""
    return table[~table["diverged"]]


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
    from scipy.interpolate import make_smoothing_spline  # slow to load, and seldom needed

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


def common(table: pd.DataFrame) -> float:
    """The learning rate at which networks are compared: `COMMON`, or the middle one where others were trained."""
    rates = np.unique(table["lr"])
    return COMMON if np.isclose(rates, COMMON).any() else float(rates[len(rates) // 2])


def at_common(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at the learning rate `common`, a row for each seed, a column for each architecture.

    Raises ValueError when an architecture has no run there.
    """
    rows = finished(table)
    lr = common(rows)
    there = rows[np.isclose(rows["lr"], lr)]
    if missing := set(rows["architecture"]) - set(there["architecture"]):
        raise ValueError(
            f"{', '.join(sorted(missing))}: no run at lr={lr:g}, by which networks are compared; "
            f"`{paths.COMMAND} run sweep` makes it"
        )
    return there.pivot_table("accuracy", "seed", "architecture", observed=True)


def relaxations(config: Config) -> float:
    """∫4λα/(1−ρ): in how many of its times of relaxation |w|⁴ goes towards equilibrium within a run.

    What is left of the first deviation is e to the minus this.
    """
    steps = config.epochs * config.steps_per_epoch
    lr = config.lr_schedule((np.arange(steps) + 0.5) / config.steps_per_epoch)
    return float(
        np.sum(1 / theory.relaxation_steps(lr=lr, weight_decay=config.weight_decay, momentum=config.momentum))
    )
