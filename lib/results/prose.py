"""The numbers that the chapters use in their sentences, rounded, by chapter.

What is said of a range over layers is said of the convolutions, unless the classifier is named.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .. import library, theory
from ..machinery import speeds
from ..run import Run
from . import analysis, costs, learning_rates

Numbers = dict[str, float | int | str]


def of_chapter(chapter: str, scale: str) -> Numbers:
    """The numbers of a chapter, by name, from the records of a scale.

    Raises ValueError when the chapter has none, and what `lib.library.runs` raises.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"chapter={chapter!r} is not known; it must be one of {', '.join(CHAPTERS)}")
    return CHAPTERS[chapter](scale)


def glue(chapter: str, scale: str) -> None:
    """Glues the numbers of a chapter, for its sentences to use."""
    from myst_nb import glue

    for name, value in of_chapter(chapter, scale).items():
        glue(name, value, display=False)


def index(scale: str) -> Numbers:
    """R of the three forms of SGD, and their accuracies in %."""
    forms = library.forms(scale, "dynamics")
    tables = {form: analysis.equilibrium(runs) for form, runs in forms.items()}
    accuracies = {f"{form}_accuracy": _percent(runs) for form, runs in forms.items()}
    return form_numbers(tables, tolerance=0.10) | accuracies


def setup(scale: str) -> Numbers:
    """Accuracies of the baseline in %, mean and range."""
    runs = library.runs(scale, "dynamics/nesterov")
    accuracy = 100 * analysis.accuracy(runs)
    extremes = {"accuracy_low": accuracy.min(), "accuracy_high": accuracy.max()}
    return _rounded({"accuracy": accuracy.mean()} | extremes, 2) | {"runs": len(runs)}


def dynamics(scale: str) -> Numbers:
    """`norm_numbers` of the first run without momentum."""
    return norm_numbers(analysis.dynamics(library.first(scale, "dynamics/sgd")))


def equilibrium(scale: str) -> Numbers:
    """R without momentum, the norm equation beside it, and its time of relaxation."""
    runs = analysis.with_steps(library.runs(scale, "dynamics/sgd"))
    run = runs[0]
    counted = {"window": analysis.window_text(run.config.epochs), "runs": len(runs)}
    table = analysis.ratio_by_epoch(run)
    return (
        numbers(analysis.equilibrium(runs), 0.10)
        | equation_numbers(table)
        | relaxation_numbers(run)
        | counted
    )


def batch_size(scale: str) -> Numbers:
    """Correlations, slopes and shares of the signal, and the steps of two batch sizes."""
    whole = library.runs(scale, "dynamics/heavy-ball")
    quarter = library.runs(scale, "batch-size")
    frozen = library.runs(scale, "gradient-noise")
    return (
        correlation_numbers(analysis.dynamics(library.first(scale, "dynamics/heavy-ball")))
        | noise_numbers(frozen)
        | quotient_numbers(whole, quarter)
        | {"accuracy": _percent(whole), "quarter_accuracy": _percent(quarter)}
        | {"window": analysis.window_text(library.first(scale, "dynamics/heavy-ball").config.epochs)}
    )


def momentum(scale: str) -> Numbers:
    """R of the three forms, corrected and not, and the angle of a step."""
    forms = library.forms(scale, "dynamics")
    tables = {form: analysis.equilibrium(runs) for form, runs in forms.items()}
    return (
        form_numbers(tables, 0.15)
        | analysis.turn(forms["heavy-ball"])
        | {"further": analysis.further_from_line(tables["heavy-ball"], tables["sgd"])}
        | {"window": analysis.window_text(library.first(scale, "dynamics/heavy-ball").config.epochs)}
        | {f"{form}_accuracy": _percent(forms[form]) for form in ("sgd", "heavy-ball")}
    )


def lars(scale: str) -> Numbers:
    """Steps, norms and accuracies of LARS beside those of SGD."""
    sgd = library.runs(scale, "dynamics/heavy-ball")
    lars = library.runs(scale, "lars/lars")
    return (
        beside_numbers(library.first(scale, "dynamics/heavy-ball"), lars[0])
        | {"accuracy": _percent(lars), "sgd_accuracy": _percent(sgd), "runs": len(lars), "sgd_runs": len(sgd)}
        | {"window": analysis.window_text(library.first(scale, "dynamics/heavy-ball").config.epochs)}
        | _tuned(library.runs(scale, "tuning"))
    )


def _tuned(runs: list[Run]) -> dict[str, float | int]:
    """The best accuracy of each optimiser, in %, at which λ, and what was tried."""
    accuracies = learning_rates.tuned(runs)
    best = {"sgd": accuracies["sgd"], "lars": accuracies["lars"]}
    return (
        {f"{name}_best": round(float(100 * of.max()), 2) for name, of in best.items()}
        | {f"{name}_best_lr": float(of.idxmax()) for name, of in best.items()}
        | {"tuned_low": float(accuracies.index.min()), "tuned_high": float(accuracies.index.max())}
        | {"tuned_epochs": runs[0].config.epochs}
        | {"tuned_seeds": len({run.config.seed for run in runs})}
    )


def sweep(scale: str) -> Numbers:
    """Best learning rates, what it costs to choose by λ = 0.4, and how far seeds alone are apart, in %."""
    table = learning_rates.with_enough(learning_rates.table(library.runs(scale, "sweep")))
    alike = library.runs(scale, "dynamics/heavy-ball")
    optima = learning_rates.optima(table)
    losses, rank_correlation = learning_rates.selection(table)
    found = {
        "best_low": optima["lr"].min(),
        "best_high": optima["lr"].max(),
        "octaves": learning_rates.spread_octaves(optima),
        "loss": 100 * losses["loss"].max(),
        "rank_correlation": rank_correlation,
        "scatter": 100 * np.ptp(analysis.accuracy(alike)),
    }
    counted = {"networks": len(optima), "alike": len(alike), "best": losses["best"].idxmax()}
    return _rounded(found, 3) | counted


def live(run: Run) -> str:
    """What is found in a run that was trained just now, in Markdown."""
    if not run.config.weight_decay:
        return (
            "Without weight decay nothing shrinks the norms. There is no equilibrium, and no line that the steps "
            "could be held against: they grow shorter as the norms grow."
        )
    n = numbers(analysis.equilibrium([run]), 0.15)
    return (
        f"In epochs {analysis.window_text(run.config.epochs)}, {n['within']} of {n['layers']} layers are within "
        f"15 % of the line. Their $R$ runs from {n['low']:.2f} to {n['high']:.2f}."
    )


def live_table(run: Run) -> pd.DataFrame:
    """R of each layer of such a run, and R corrected; without weight decay, the steps themselves."""
    if not run.config.weight_decay:
        table = analysis.mean_step(run).to_frame("λ|g|/|w|").round(5)
    else:
        table = analysis.equilibrium([run])[["R", "R_corrected"]].round(3)
    return table.rename_axis(index=None, columns="layer")


def cost(scale: str) -> Numbers:
    """What was measured of speed, which is the same whatever the scale of the other chapters."""
    return costs.numbers(*speeds.read())


#: By the chapter's file name.
CHAPTERS: dict[str, Callable[[str], Numbers]] = {
    "index": index,
    "setup": setup,
    "dynamics": dynamics,
    "equilibrium": equilibrium,
    "batch-size": batch_size,
    "momentum": momentum,
    "lars": lars,
    "learning-rates": sweep,
    "cost": cost,
}


def _percent(runs: list[Run]) -> float:
    return round(float(100 * analysis.accuracy(runs).mean()), 2)


def _rounded(values: dict[str, float], digits: int = 4) -> Numbers:
    return {name: round(float(value), digits) for name, value in values.items()}


def form_numbers(tables: dict[str, pd.DataFrame], tolerance: float) -> Numbers:
    """`numbers` of each form's table, with the form before each name, as in ``sgd_low``."""
    return {f"{form}_{k}": v for form, table in tables.items() for k, v in numbers(table, tolerance).items()}


def numbers(table: pd.DataFrame, tolerance: float) -> Numbers:
    """What the prose says of an `equilibrium` table, for the analysis.convolutions only, rounded.

    ``low`` and ``high`` are the least and greatest R of a layer, ``within`` how many of the
    ``layers`` lie in 1 ± tolerance, ``classifier`` is the classifier's R; ``corrected_…`` are the
    same of ``R_corrected``.
    """
    deep = table.drop(index=analysis.CLASSIFIER)
    out = {"layers": len(deep), "classifier": round(float(table.loc[analysis.CLASSIFIER, "R"]), 4)}
    for prefix, R in (("", deep["R"]), ("corrected_", deep["R_corrected"])):
        out |= {
            f"{prefix}low": round(float(R.min()), 4),
            f"{prefix}high": round(float(R.max()), 4),
            f"{prefix}within": int(((R - 1).abs() <= tolerance).sum()),
        }
    return out


def norm_numbers(table: pd.DataFrame) -> Numbers:
    """What the prose says of gradients and norms, from a `dynamics` table, rounded.

    ``cosine_convolutions`` and ``cosine_classifier`` are the largest |cos(w, g)|; ``peak_first``
    and ``peak_last`` the earliest and latest epoch in which |w|² of a convolution analysis.peaks, and
    ``peaks_early`` how many of the ``layers`` do so in epochs 1 to 10.
    """
    cosine = table["cosine"].abs().groupby(table["layer"], observed=True).max()
    peak = analysis.peaks(analysis.convolutions(table))
    return {
        "cosine_convolutions": round(float(cosine.drop(analysis.CLASSIFIER).max()), 6),
        "cosine_classifier": round(float(cosine[analysis.CLASSIFIER]), 3),
        "layers": len(peak),
        "peaks_early": int(peak.between(1, 10).sum()),
        "peak_first": round(float(peak.min()), 1),
        "peak_last": round(float(peak.max()), 1),
    }


def equation_numbers(by_epoch: pd.DataFrame, after_epoch: float = 2) -> Numbers:
    """How well the norm equation gives R, from a `ratio_by_epoch` table, rounded.

    ``equation_difference`` is the greatest |R − R_ode| of a convolution after that epoch,
    ``equation_difference_classifier`` the classifier's; ``end_measured`` and ``end_equation`` are
    the means over analysis.convolutions in the last epoch.
    """
    late = by_epoch[by_epoch["epoch"] > after_epoch]
    difference = (late["R"] - late["R_ode"]).abs().groupby(late["layer"], observed=True).max()
    deep = analysis.convolutions(by_epoch)
    end = deep[deep["epoch"] == deep["epoch"].max()]
    out = {
        "equation_difference": difference.drop(analysis.CLASSIFIER).max(),
        "equation_difference_classifier": difference[analysis.CLASSIFIER],
        "end_measured": end["R"].mean(),
        "end_equation": end["R_ode"].mean(),
    }
    return _rounded(out)


def relaxation_numbers(run: Run) -> Numbers:
    """Peak ``lr``, and the ``relaxation`` of |w|⁴ there in steps and in epochs, rounded."""
    steps = theory.relaxation_steps(lr=run.config.lr, **analysis.settings(run))
    in_epochs = steps / run.steps_per_epoch
    return {"lr": run.config.lr, "relaxation": round(steps, 1), "relaxation_epochs": round(in_epochs, 2)}


def correlation_numbers(table: pd.DataFrame) -> Numbers:
    """κ of a `dynamics` table, the mean over epochs 2 to 22 of 24, and its worst layer."""
    epochs = table["epoch"].max()
    deep = analysis.convolutions(analysis.in_window(table, round(epochs), (2 / 24, 22 / 24)))
    kappa = deep.groupby("layer", observed=True)["correlation"].mean()
    return _rounded({"kappa_low": kappa.min(), "kappa_high": kappa.max()}) | {
        "kappa_worst": kappa.abs().idxmax()
    }


def noise_numbers(runs: list[Run]) -> Numbers:
    """Slopes of log |g| against log N, and shares of the mean gradient, from runs with frozen checkpoints.

    ``slope_…`` and ``signal_…`` are of the checkpoints within the run: least, median and greatest over
    these and the convolutions, and ``signal_worst`` the layer of the greatest share. ``start_…`` and
    ``end_…`` are the same before the first step and after the last.
    """
    config = runs[0].config
    slopes = analysis.noise_slopes(analysis.convolutions(analysis.noise(runs)), config.batch_size)
    within = slopes[slopes["epoch"].between(1, config.epochs - 1)]
    parts = {
        "": within,
        "start_": slopes[slopes["epoch"] == 0],
        "end_": slopes[slopes["epoch"] == config.epochs],
    }
    found = {}
    for prefix, rows in parts.items():
        found |= {
            f"{prefix}slope_low": rows["slope"].min(),
            f"{prefix}slope_median": rows["slope"].median(),
            f"{prefix}slope_high": rows["slope"].max(),
            f"{prefix}signal_median": rows["signal"].median(),
            f"{prefix}signal_high": rows["signal"].max(),
        }
    return _rounded(found, 3) | {"signal_worst": str(within.loc[within["signal"].idxmax(), "layer"])}


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
    return (
        _rounded(found) | form_numbers(tables, 0.15) | {"within": int(((quotient - 2).abs() <= 0.15).sum())}
    )


def beside_numbers(sgd: Run, lars: Run) -> Numbers:
    """LARS beside the SGD whose rate it has: turns of a step, scatter, growth of the norms.

    ``turn_…``: |Δw|/|w| of LARS over that of SGD in the equilibrium window, by root mean squares, and
    ``turn_worst`` the layer where it is least;
    ``scatter_…``: standard deviation of SGD's λ|g|/|w| over its line there, over the mean;
    ``growth_…``: |w|² at the end of LARS over its start, and ``growth_expected`` what orthogonal
    gradients would give, a factor 1 + λ²/(1−ρ)² a step.
    """
    epochs = sgd.config.epochs
    tables = [analysis.convolutions(analysis.dynamics(run)) for run in (sgd, lars)]
    windows = [analysis.in_window(t, epochs) for t in tables]
    turns = [np.sqrt((t["turn"] ** 2).groupby(t["layer"], observed=True).mean()) for t in windows]
    quotient = turns[1] / turns[0]
    relative = (windows[0]["ratio"] / windows[0]["predicted"]).groupby(windows[0]["layer"], observed=True)
    scatter = relative.std() / relative.mean()
    growth = tables[1].groupby("layer", observed=True)["norm_sq_relative"].last()
    lr = theory.equilibrium_ratio(lr=_lr_of_steps(lars), **analysis.settings(lars))
    found = {
        "turn_low": quotient.min(),
        "turn_high": quotient.max(),
        "scatter_low": scatter.min(),
        "scatter_high": scatter.max(),
        "growth_low": growth.min(),
        "growth_high": growth.max(),
        "growth_expected": np.prod(1 + (lr / (1 - lars.config.momentum)) ** 2),
    }
    return _rounded(found, 3) | {"turn_worst": str(quotient.idxmin())}


def _lr_of_steps(run: Run) -> np.ndarray:
    return run.steps.groupby("step")["lr"].first().to_numpy(dtype=float)
