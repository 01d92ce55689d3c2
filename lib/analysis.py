"""Tidy tables from runs: pure functions of what was recorded."""

import numpy as np
import pandas as pd

from lib import theory
from lib.probes import AVERAGE_DECAY
from lib.training import Run

#: The part of a run that equilibrium is judged on: epochs 6 to 14 of 24, after the peak of λ and
#: well before its end.
EQUILIBRIUM_WINDOW = (6 / 24, 14 / 24)
CLASSIFIER = "classifier"


def settings(run: Run) -> dict[str, float]:
    """Weight decay and momentum of a run, as keyword arguments of `lib.theory`."""
    return {"weight_decay": run.config.weight_decay, "momentum": run.config.momentum}


def dynamics(run: Run) -> pd.DataFrame:
    """The steps of a run with what the theory compares, a row for each step and layer.

    Adds ``shrinkage`` and ``growth`` of |w|² (`lib.theory`), ``norm_sq_relative`` (|w|² over its
    value at the first step), ``ratio`` (λ|g|/|w|), ``predicted`` (its equilibrium value),
    ``cosine`` (of w and g), and ``correlation`` (κ, the cosine of g_t and the average v_{t−1} of
    earlier gradients; NaN where there are none).
    """
    s = run.steps
    lr = s["lr"].astype(float)
    return s.assign(
        shrinkage=theory.shrinkage(s["weight_norm_sq"], lr=lr, **settings(run)),
        growth=theory.growth(s["grad_norm_sq"], lr=lr, momentum=run.config.momentum),
        norm_sq_relative=s["weight_norm_sq"]
        / s.groupby("layer", observed=True)["weight_norm_sq"].transform("first"),
        ratio=lr * np.sqrt(s["grad_norm_sq"] / s["weight_norm_sq"]),
        predicted=theory.equilibrium_ratio(lr=lr, nesterov=run.config.nesterov, **settings(run)),
        cosine=s["weight_dot_grad"] / np.sqrt(s["weight_norm_sq"] * s["grad_norm_sq"]),
        correlation=s["grad_dot_average"] / np.sqrt(s["grad_norm_sq"] * s["average_norm_sq"]),
    )


def convolutions(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the convolutions, whose weights are scale-invariant: all but the classifier's."""
    rows = table[table["layer"] != CLASSIFIER]
    return rows.assign(layer=rows["layer"].cat.remove_unused_categories())


def in_window(
    table: pd.DataFrame, epochs: int, window: tuple[float, float] = EQUILIBRIUM_WINDOW
) -> pd.DataFrame:
    """The rows whose ``epoch`` lies in a window, given as fractions of a run of that many epochs."""
    low, high = (fraction * epochs for fraction in window)
    return table[(table["epoch"] >= low) & (table["epoch"] < high)]


def window_text(epochs: int, window: tuple[float, float] = EQUILIBRIUM_WINDOW) -> str:
    """The window in epochs, in words: ``6 to 14`` of 24."""
    low, high = (fraction * epochs for fraction in window)
    return f"{low:g} to {high:g}"


def ratio_to_line(table: pd.DataFrame, by: list[str]) -> pd.Series:
    """Measured λ|g|/|w| over predicted, R, by root mean squares over each group of rows.

    The balance is one of mean squares: R² = Σ λ²|g|² / Σ predicted²|w|². A mean of ``ratio``
    itself would sit lower, by the scatter of the gradients.
    """
    lr = table["lr"].astype(float)
    squares = table[by].assign(
        measured=lr**2 * table["grad_norm_sq"], balance=table["predicted"] ** 2 * table["weight_norm_sq"]
    )
    sums = squares.groupby(by, observed=True)[["measured", "balance"]].sum()
    return np.sqrt(sums["measured"] / sums["balance"]).rename("R")


def with_norm_equation(run: Run) -> pd.DataFrame:
    """`dynamics` of a run, with ``norm_sq_ode``: |w|² by the norm equation (`lib.theory.norm_ode`).

    It starts at the run's first |w|² and is driven by the run's own c(t) = |g||w|, which does not
    depend on the norm.
    """
    table = dynamics(run)
    c_sq = (table["grad_norm_sq"] * table["weight_norm_sq"]).astype(float)
    for _, rows in table.groupby("layer", observed=True):
        initial = float(rows["weight_norm_sq"].iloc[0])
        ode = theory.norm_ode(initial, c_sq[rows.index].to_numpy(), lr=rows["lr"].to_numpy(), **settings(run))
        table.loc[rows.index, "norm_sq_ode"] = ode
    return table


def ratio_by_epoch(run: Run) -> pd.DataFrame:
    """R for each layer and epoch: ``layer``, ``epoch`` (its middle), ``R``, and ``R_ode``.

    ``R_ode`` is R along the solution of the norm equation; it leaves 1 only because the norm needs
    time to follow λ and c.
    """
    table = with_norm_equation(run)
    table["epoch"] = np.floor(table["epoch"]) + 0.5
    # where the norm is the equation's, the gradient is c over that norm
    equation = table.assign(
        grad_norm_sq=table["grad_norm_sq"] * table["weight_norm_sq"] / table["norm_sq_ode"],
        weight_norm_sq=table["norm_sq_ode"],
    )
    by = ["layer", "epoch"]
    return pd.concat(
        [ratio_to_line(table, by), ratio_to_line(equation, by).rename("R_ode")], axis=1
    ).reset_index()


def equilibrium(runs: dict[str, Run]) -> pd.DataFrame:
    """R over the equilibrium window, for each layer, mean and range over runs.

    Columns: ``R``, ``low`` and ``high`` (least and greatest of the runs), ``overlap`` (g·v/|g|² of
    `lib.theory.correlation_correction`), and ``R_corrected``: R over that correction.
    """
    per_run = []
    for run in runs.values():
        table = in_window(dynamics(run), run.config.epochs)
        sums = table.groupby("layer", observed=True)[["grad_dot_average", "grad_norm_sq"]].sum()
        overlap = sums["grad_dot_average"] / (1 - AVERAGE_DECAY) / sums["grad_norm_sq"]
        R = ratio_to_line(table, ["layer"])
        correction = theory.correlation_correction(
            overlap, momentum=run.config.momentum, nesterov=run.config.nesterov
        )
        per_run.append(pd.DataFrame({"R": R, "overlap": overlap, "R_corrected": R / correction}))
    over_runs = pd.concat(per_run).groupby("layer", observed=True)
    return over_runs.mean().assign(low=over_runs["R"].min(), high=over_runs["R"].max())


def of_form(runs: dict[str, Run], form: str) -> dict[str, Run]:
    """The runs whose name is that form with any seed, such as ``sgd`` of ``sgd-seed0``."""
    return {name: run for name, run in runs.items() if name.rpartition("-seed")[0] == form}


def equilibrium_by_form(runs: dict[str, Run]) -> dict[str, pd.DataFrame]:
    """The `equilibrium` table of each form of SGD among runs named ``<form>-seed<n>``, by form."""
    forms = dict.fromkeys(name.rpartition("-seed")[0] for name in runs)
    return {form: equilibrium(of_form(runs, form)) for form in forms}


def form_numbers(tables: dict[str, pd.DataFrame], tolerance: float) -> dict[str, float | int]:
    """`numbers` of each form's table, with the form before each name, as in ``sgd_low``."""
    return {f"{form}_{k}": v for form, table in tables.items() for k, v in numbers(table, tolerance).items()}


def numbers(table: pd.DataFrame, tolerance: float) -> dict[str, float | int]:
    """What the prose says of an `equilibrium` table, for the convolutions only, rounded.

    ``low`` and ``high`` are the least and greatest R of a layer, ``within`` how many of the
    ``layers`` lie in 1 ± tolerance, ``classifier`` is the classifier's R; ``corrected_…`` are the
    same of ``R_corrected``.
    """
    deep = table.drop(index=CLASSIFIER)
    out = {"layers": len(deep), "classifier": round(float(table.loc[CLASSIFIER, "R"]), 4)}
    for prefix, R in (("", deep["R"]), ("corrected_", deep["R_corrected"])):
        out |= {
            f"{prefix}low": round(float(R.min()), 4),
            f"{prefix}high": round(float(R.max()), 4),
            f"{prefix}within": int(((R - 1).abs() <= tolerance).sum()),
        }
    return out


def peaks(table: pd.DataFrame) -> pd.Series:
    """The epoch at which |w|² of each layer is greatest."""
    at = table.groupby("layer", observed=True)["weight_norm_sq"].idxmax()
    return table.loc[at].set_index("layer")["epoch"].rename("peak")


def norm_numbers(table: pd.DataFrame) -> dict[str, float | int]:
    """What the prose says of gradients and norms, from a `dynamics` table, rounded.

    ``cosine_convolutions`` and ``cosine_classifier`` are the largest |cos(w, g)|; ``peak_first``
    and ``peak_last`` the earliest and latest epoch in which |w|² of a convolution peaks, and
    ``peaks_early`` how many of the ``layers`` do so in epochs 1 to 10.
    """
    cosine = table["cosine"].abs().groupby(table["layer"], observed=True).max()
    peak = peaks(convolutions(table))
    return {
        "cosine_convolutions": round(float(cosine.drop(CLASSIFIER).max()), 6),
        "cosine_classifier": round(float(cosine[CLASSIFIER]), 3),
        "layers": len(peak),
        "peaks_early": int(peak.between(1, 10).sum()),
        "peak_first": round(float(peak.min()), 1),
        "peak_last": round(float(peak.max()), 1),
    }


def accuracy(runs: dict[str, Run]) -> pd.Series:
    """Test accuracy of each run after its last epoch, by name."""
    return pd.Series({name: run.test_accuracy for name, run in runs.items()}, name="test accuracy")


def describe(runs: dict[str, Run], scale: str) -> str:
    """Scale, data, network, seeds and device of some runs, in a line for captions."""
    run = next(iter(runs.values()))
    c = run.config
    seeds = sorted({r.config.seed for r in runs.values()})
    devices = sorted({r.provenance["device"] for r in runs.values()})
    return (
        f"scale {scale}: {c.dataset}, width {c.width}, {c.epochs} epochs, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, {' and '.join(devices)}"
    )


def steps_per_epoch(run: Run) -> int:
    """Steps in an epoch of a run."""
    return run.steps["step"].nunique() // run.config.epochs


def equation_numbers(by_epoch: pd.DataFrame, after_epoch: float = 2) -> dict[str, float]:
    """How well the norm equation gives R, from a `ratio_by_epoch` table, rounded.

    ``equation_difference`` is the greatest |R − R_ode| of a convolution after that epoch,
    ``equation_difference_classifier`` the classifier's; ``end_measured`` and ``end_equation`` are
    the means over convolutions in the last epoch.
    """
    late = by_epoch[by_epoch["epoch"] > after_epoch]
    difference = (late["R"] - late["R_ode"]).abs().groupby(late["layer"], observed=True).max()
    deep = convolutions(by_epoch)
    end = deep[deep["epoch"] == deep["epoch"].max()]
    out = {
        "equation_difference": difference.drop(CLASSIFIER).max(),
        "equation_difference_classifier": difference[CLASSIFIER],
        "end_measured": end["R"].mean(),
        "end_equation": end["R_ode"].mean(),
    }
    return {name: round(float(value), 4) for name, value in out.items()}


def relaxation_numbers(run: Run) -> dict[str, float]:
    """Peak ``lr``, and the ``relaxation`` of |w|⁴ there in steps and in epochs, rounded."""
    steps = theory.relaxation_steps(lr=run.config.lr, **settings(run))
    in_epochs = steps / steps_per_epoch(run)
    return {"lr": run.config.lr, "relaxation": round(steps, 1), "relaxation_epochs": round(in_epochs, 2)}


def further_from_line(table: pd.DataFrame, reference: pd.DataFrame) -> int:
    """In how many convolutions |R − 1| is larger than in a reference, both `equilibrium` tables."""
    distance, nearer = ((t.drop(index=CLASSIFIER)["R"] - 1).abs() for t in (table, reference))
    return int((distance > nearer).sum())


def turn(runs: dict[str, Run]) -> dict[str, float]:
    """Measured over predicted |Δw|/|w| in the equilibrium window, least and greatest of all layers.

    By mean squares, against `lib.theory.rotation`, over the convolutions; mean over runs, rounded.
    """
    per_run = []
    for run in runs.values():
        t = convolutions(in_window(dynamics(run), run.config.epochs))
        angle = theory.rotation(lr=t["lr"].astype(float), nesterov=run.config.nesterov, **settings(run))
        squares = t[["layer", "update_norm_sq"]].assign(balance=angle**2 * t["weight_norm_sq"])
        sums = squares.groupby("layer", observed=True).sum()
        per_run.append(np.sqrt(sums["update_norm_sq"] / sums["balance"]))
    mean = pd.concat(per_run, axis=1).mean(axis=1)
    return {"turn_low": round(float(mean.min()), 4), "turn_high": round(float(mean.max()), 4)}
