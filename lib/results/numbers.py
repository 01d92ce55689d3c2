"""The numbers in the sentences: what is said of tables and runs, rounded; text where a sentence depends on them.

What is said of a range over layers is said of the convolutions, unless the classifier is named.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .. import theory
from ..config import Config
from ..run import Run
from . import analysis, rule

Numbers = dict[str, float | int | str]
#: What stands where there is no number.
NONE = "–"


def percent(runs: list[Run]) -> float:
    """Mean test accuracy in %."""
    return round(float(100 * analysis.accuracy(runs).mean()), 2)


def rounded(values: dict[str, float], digits: int = 4) -> Numbers:
    """The values as Python's own numbers: NumPy's would be glued as a blank."""
    return {name: round(float(value), digits) for name, value in values.items()}


def signed(x: float, digits: int = 2) -> str:
    """A number that may be negative, with a true minus; zero has none."""
    return f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "−")


def difference(name: str, of_seeds: pd.Series) -> Numbers:
    """Mean over seeds with half its 90 % interval, as text: ``−0.63 ± 0.12``; without it for too few seeds."""
    low, high = rule.interval(of_seeds.to_frame("d"))
    mean, half = float(of_seeds.mean()), float(high["d"] - low["d"]) / 2
    text = signed(mean) + (f" ± {half:.2f}" if len(of_seeds) >= rule.ENOUGH_SEEDS else "")
    return {name: text, f"{name}_seeds": len(of_seeds)}


def paired(
    runs: list[Run], reference: list[Run], accuracy: Callable[[Run], float] = lambda r: 100 * r.test_accuracy
) -> pd.Series:
    """Final ``accuracy`` less that of a reference, in %, for each seed that both have."""
    of, to = ({run.config.seed: accuracy(run) for run in some} for some in (runs, reference))
    return pd.Series({seed: of[seed] - to[seed] for seed in of if seed in to})


def form_numbers(tables: dict[str, pd.DataFrame], tolerance: float) -> Numbers:
    """`of_equilibrium` of each form's table, with the form before each name, as in ``sgd_low``."""
    return {
        f"{form}_{k}": v
        for form, table in tables.items()
        for k, v in of_equilibrium(table, tolerance).items()
    }


def of_equilibrium(table: pd.DataFrame, tolerance: float) -> Numbers:
    """What the prose says of an `equilibrium` table, for the convolutions only, rounded.

    ``low`` and ``high`` are the least and greatest R of a layer, ``within`` how many of the
    ``layers`` lie in 1 ± tolerance, ``classifier`` is the classifier's R; ``corrected_…`` are the
    same of ``R_corrected``.
    """
    convolutions = table.drop(index=analysis.CLASSIFIER)
    out: Numbers = {
        "layers": len(convolutions),
        "classifier": round(float(table.loc[analysis.CLASSIFIER, "R"]), 4),
    }
    for prefix, R in (("", convolutions["R"]), ("corrected_", convolutions["R_corrected"])):
        out |= {
            f"{prefix}low": round(float(R.min()), 4),
            f"{prefix}high": round(float(R.max()), 4),
            f"{prefix}within": int(((R - 1).abs() <= tolerance).sum()),
        }
    return out


def norm_numbers(table: pd.DataFrame) -> Numbers:
    """What the prose says of gradients and norms, from a `dynamics` table, rounded.

    ``cosine_convolutions`` and ``cosine_classifier`` are the largest |cos(w, g)|, the first as text; ``peak_first``
    and ``peak_last`` the earliest and latest epoch in which |w|² of one of the ``layers``, the convolutions, peaks. ``jump`` is the largest growth of a |w|² in a step, in %, and
    ``jump_layer`` where that is.
    """
    cosine = table["cosine"].abs().groupby(table["layer"], observed=True).max()
    convolutions = analysis.convolutions(table)
    peak = analysis.peaks(convolutions)
    jump = convolutions.groupby("layer", observed=True)["weight_norm_sq"].pct_change()
    return {
        "cosine_convolutions": rule.power(cosine.drop(analysis.CLASSIFIER).max()),
        "cosine_classifier": round(float(cosine[analysis.CLASSIFIER]), 3),
        "layers": len(peak),
        "peak_first": round(float(peak.min()), 1),
        "peak_last": round(float(peak.max()), 1),
        "jump": round(float(100 * jump.max()), 1),
        "jump_layer": str(convolutions.loc[jump.idxmax(), "layer"]),
    }


def clipped(table: pd.DataFrame) -> Numbers:
    """How many circles of a figure of steps lie above its axis, in % of those of the worst layer.

    The axis goes to twice the highest line, and holds all of them where there is no decay and no line; see
    `lib.figures.plots.effective_step`.
    """
    above = table["ratio"] > (2 * table["predicted"].max() or np.inf)
    share = 100 * above.groupby(table["layer"], observed=True).mean()
    return {"clipped": round(float(share.max()), 1), "clipped_layer": str(share.idxmax())}


def crossing(tables: list[pd.DataFrame], window: tuple[float, float], epochs: int) -> Numbers:
    """Mean R of the convolutions in the first and the last epoch of a window, from `ratio_by_epoch` tables."""
    rows = analysis.in_window(analysis.convolutions(pd.concat(tables, ignore_index=True)), epochs, window)
    R = rows.groupby("epoch")["R"].mean()
    return rounded({"R_first": R.iloc[0], "R_last": R.iloc[-1]}, 3) | {
        "epoch_first": int(R.index[0]),
        "epoch_last": int(R.index[-1]),
    }


def equation_numbers(by_epoch: pd.DataFrame, after_epoch: float = 2) -> Numbers:
    """How well the norm equation and the closed form give R, from a `ratio_by_epoch` table, rounded.

    ``equation_difference`` is the greatest |R − R_ode| of a convolution after that epoch,
    ``equation_difference_classifier`` the classifier's, and ``others_difference`` that of R_others, in ``others_layer`` and ``others_epoch``;
    ``end_…`` are the means over convolutions in the last epoch, and ``late_…`` those in the epoch seven
    24ths of the run before it.
    """
    late = by_epoch[by_epoch["epoch"] > after_epoch]
    off = late[["R_ode", "R_others"]].rsub(late["R"], axis=0).abs()
    off = off.groupby(late["layer"], observed=True).max()
    convolutions = analysis.convolutions(by_epoch)
    means = convolutions.groupby("epoch")[["R", "R_ode", "R_others", "R_end"]].mean()
    before = max(1, round(7 / 24 * len(means)))
    out = {
        "equation_difference": off["R_ode"].drop(analysis.CLASSIFIER).max(),
        "equation_difference_classifier": off.loc[analysis.CLASSIFIER, "R_ode"],
        "others_difference": off["R_others"].drop(analysis.CLASSIFIER).max(),
    }
    for name, row in (("end", means.iloc[-1]), ("late", means.iloc[-before])):
        out |= {
            f"{name}_measured": row["R"],
            f"{name}_equation": row["R_ode"],
            f"{name}_others": row["R_others"],
            f"{name}_closed": row["R_end"],
        }
    found = rounded(out) | {"late_epoch": int(means.index[-before]), "end_epoch": int(means.index[-1])}
    distance = (convolutions["R"] - convolutions["R_others"]).abs()[convolutions["epoch"] > after_epoch]
    if distance.isna().all():  # a single seed has no others
        return found | {"others_epoch": NONE, "others_layer": NONE}
    worst = convolutions.loc[distance.idxmax()]
    return found | {"others_epoch": int(worst["epoch"]), "others_layer": str(worst["layer"])}


def rotation_numbers(name: str, runs: list[Run]) -> Numbers:
    """Least and greatest measured over predicted rotation of a layer, and how many are within 5 %."""
    turn = analysis.rotations(runs)["R"].drop(analysis.CLASSIFIER)
    found = rounded({f"{name}_turn_low": turn.min(), f"{name}_turn_high": turn.max()}, 3)
    return found | {f"{name}_turn_within": int(((turn - 1).abs() <= 0.05).sum())}


def of_plain(config: Config) -> float:
    """1/(1−ρ): how many times the base run's λ the run without momentum has."""
    return round(1 / (1 - config.momentum), 4)


def relaxation_numbers(run: Run) -> Numbers:
    """Peak ``lr``, and the ``relaxation`` of |w|⁴ there in steps and in epochs, rounded."""
    steps = theory.relaxation_steps(lr=run.config.lr, **analysis.settings(run))
    found = {"lr": run.config.lr, "relaxation": steps, "relaxation_epochs": steps / run.steps_per_epoch}
    return rounded(found, 2)


def correlation_numbers(table: pd.DataFrame, prefix: str = "kappa") -> Numbers:
    """κ of a `dynamics` table, the mean over epochs 2 to 22 of 24, as text, and its worst layer."""
    epochs = table["epoch"].max()
    convolutions = analysis.convolutions(analysis.in_window(table, round(epochs), (2 / 24, 22 / 24)))
    kappa = convolutions.groupby("layer", observed=True)["correlation"].mean()
    return {
        f"{prefix}_low": signed(kappa.min()),
        f"{prefix}_high": signed(kappa.max()),
        f"{prefix}_worst": str(kappa.abs().idxmax()),
        f"{prefix}_small": int((kappa.abs() < 0.05).sum()),
        f"{prefix}_negative": int((kappa < 0).sum()),
    }


def noise_numbers(runs: list[Run]) -> Numbers:
    """Slopes of log |g| against log N, and shares of the mean gradient, from runs with frozen checkpoints.

    ``slope_…``, as text, and ``signal_…``, in %, are of the checkpoints within the run: least, median and greatest
    over these and the convolutions, and ``signal_worst`` the layer of the greatest share. ``start_…`` and
    ``end_…`` are the same before the first step and after the last. ``steep`` is how many of the ``slopes`` within
    the run are below −½.
    """
    config = runs[0].config
    slopes = analysis.noise_slopes(analysis.convolutions(analysis.noise(runs)), config.batch_size)
    within = slopes[slopes["epoch"].between(1, config.epochs - 1)]
    parts = {
        "": within,
        "start_": slopes[slopes["epoch"] == 0],
        "end_": slopes[slopes["epoch"] == config.epochs],
    }
    found: Numbers = {"signal_worst": str(within.loc[within["signal"].idxmax(), "layer"])}
    for prefix, rows in parts.items():
        for name, value in {"low": min, "median": np.median, "high": max}.items():
            found[f"{prefix}slope_{name}"] = signed(value(rows["slope"]))
        found |= rounded({f"{prefix}signal_median": 100 * rows["signal"].median()}, 0)
        found |= rounded({f"{prefix}signal_high": 100 * rows["signal"].max()}, 0)
    steep = slopes[slopes["epoch"] >= config.epochs / 2]
    return found | {"steep": int((steep["slope"] < -0.5).sum()), "steep_of": len(steep)}


def quotient_numbers(whole: list[Run], quarter: list[Run]) -> Numbers:
    """λ|g|/|w| of the whole batch over that of a quarter, mean over seeds; and R of both.

    ``…_rest`` leaves out the first convolution.
    """
    steps = [
        pd.concat([analysis.mean_step(run) for run in analysis.with_steps(runs)], axis=1).mean(axis=1)
        for runs in (whole, quarter)
    ]
    quotient = (steps[0] / steps[1]).drop(analysis.CLASSIFIER)
    tables = {"whole": analysis.equilibrium(whole), "quarter": analysis.equilibrium(quarter)}
    found = {
        "quotient_low": quotient.min(),
        "quotient_high": quotient.max(),
        "quotient_high_rest": quotient.iloc[1:].max(),
    }
    return rounded(found) | form_numbers(tables, 0.15) | {"within": int(((quotient - 2).abs() <= 0.15).sum())}


def beside_numbers(sgd: Run, lars: Run) -> Numbers:
    """LARS beside the SGD whose rate it has: turns of a step, scatter, growth of the norms.

    ``turn_…``: |Δw|/|w| of LARS over that of SGD in the equilibrium window, by root mean squares, and
    ``turn_worst`` the layer where it is least; ``expected_…``: what the overlap of LARS's gradients makes of it;
    ``scatter_…``: standard deviation of SGD's λ|g|/|w| over its line there, over the mean, in %;
    ``growth_…``: |w|² at the end of LARS over its start, and ``growth_expected`` what orthogonal
    gradients would give, a factor 1 + λ²/(1−ρ)² a step.
    """
    epochs, rho = sgd.config.epochs, sgd.config.momentum
    tables = [analysis.convolutions(analysis.dynamics(run)) for run in (sgd, lars)]
    windows = [analysis.in_window(t, epochs) for t in tables]
    turns = [np.sqrt((t["turn"] ** 2).groupby(t["layer"], observed=True).mean()) for t in windows]
    quotient = turns[1] / turns[0]
    # √((1+2ρo)/(1−ρ²)) · √(2λα(1−ρ)) over √(2λα/(1+ρ))
    expected = np.sqrt(1 + 2 * rho * analysis.overlap(windows[1]))
    relative = (windows[0]["ratio"] / windows[0]["predicted"]).groupby(windows[0]["layer"], observed=True)
    scatter = 100 * relative.std() / relative.mean()
    growth = tables[1].groupby("layer", observed=True)["norm_sq_relative"].last()
    steps = lars.steps.groupby("step")["lr"].first().to_numpy(dtype=float)
    lr = theory.equilibrium_ratio(lr=steps, **analysis.settings(lars))
    found = {
        "turn_low": quotient.min(),
        "turn_high": quotient.max(),
        "expected_low": expected.min(),
        "expected_high": expected.max(),
        "scatter_low": scatter.min(),
        "scatter_high": scatter.max(),
        "growth_low": growth.min(),
        "growth_high": growth.max(),
        "growth_expected": np.prod(1 + (lr / (1 - rho)) ** 2),
    }
    return rounded(found, 3) | {"turn_worst": str(quotient.idxmin())}
