"""Tidy tables from runs: pure functions of what was recorded."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import theory
from ..config import CLASSIFIER
from ..run import AVERAGE_DECAY, Run

#: The part of a run that equilibrium is judged on: epochs 6 to 14 of 24, after the peak of λ and
#: well before its end.
EQUILIBRIUM_WINDOW = (6 / 24, 14 / 24)


def settings(run: Run) -> dict[str, Any]:
    """Weight decay and momentum of a run, as keyword arguments of `lib.theory`."""
    return {"weight_decay": run.config.weight_decay, "momentum": run.config.momentum}


def dynamics(run: Run) -> pd.DataFrame:
    """The steps of a run with what the theory compares, a row for each step and layer.

    Adds ``shrinkage`` and ``growth`` of |w|² (`lib.theory`), ``norm_sq_relative`` (|w|² over its
    value at the first step), ``ratio`` (λ|g|/|w|), ``predicted`` (its equilibrium value),
    ``turn`` (|Δw|/|w|), ``cosine`` (of w and g), and ``correlation`` (κ, the cosine of g_t and the average v_{t−1} of
    earlier gradients; NaN where there are none).
    """
    s = run.steps
    lr = s["lr"].astype(float)
    return s.assign(
        shrinkage=theory.shrinkage(s["weight_norm_sq"], lr=lr, **settings(run)),
        growth=theory.growth(s["grad_norm_sq"], lr=lr, momentum=run.config.momentum),
        norm_sq_relative=s["weight_norm_sq"]
        / s["weight_norm_sq"].groupby(s["layer"], observed=True).transform("first"),
        ratio=lr * np.sqrt(s["grad_norm_sq"] / s["weight_norm_sq"]),
        predicted=theory.equilibrium_ratio(lr=lr.to_numpy(), nesterov=run.config.nesterov, **settings(run)),
        turn=np.sqrt(s["update_norm_sq"] / s["weight_norm_sq"]),
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
    epoch = table["epoch"].to_numpy()
    within = np.flatnonzero((epoch >= low) & (epoch < high))
    if len(within) and within[-1] - within[0] + 1 == len(within):  # as steps do: no copy is needed
        return table.iloc[within[0] : within[-1] + 1]
    return table.iloc[within]


def window_text(epochs: int, window: tuple[float, float] = EQUILIBRIUM_WINDOW) -> str:
    """The window in epochs, in words: ``6 to 14`` of 24."""
    low, high = (fraction * epochs for fraction in window)
    return f"{low:g} to {high:g}"


def sums(by: Sequence[pd.Series], *values: np.ndarray | pd.Series) -> list[pd.Series]:
    """Sums of some values, one for each row, over the groups of rows that are alike in ``by``.

    Pandas' own ``groupby`` does the same; but an epoch has few rows, of which it would cost ten times as much.
    """
    codes, levels = zip(*(pd.factorize(column, sort=True) for column in by), strict=True)
    sizes = [len(level) for level in levels]
    found, place = np.unique(np.ravel_multi_index(codes, sizes), return_inverse=True)
    groups = levels[0].rename(by[0].name)
    if len(by) > 1:
        groups = pd.MultiIndex(levels, np.unravel_index(found, sizes), names=[column.name for column in by])
    return [pd.Series(np.bincount(place, of_row), groups) for of_row in values]


def _columns(table: pd.DataFrame, *names: str) -> Iterator[np.ndarray]:
    """Columns in double precision."""
    return (table[name].to_numpy(float) for name in names)


def ratio_to_line(table: pd.DataFrame, by: Sequence[str | pd.Series]) -> pd.Series:
    """Measured λ|g|/|w| over predicted, R, by root mean squares over each group of rows.

    The balance is one of mean squares: R² = Σ λ²|g|² / Σ predicted²|w|². A mean of ``ratio``
    itself would sit lower, by the scatter of the gradients.
    """
    lr, predicted, grad_norm_sq, weight_norm_sq = _columns(
        table, "lr", "predicted", "grad_norm_sq", "weight_norm_sq"
    )
    measured, balance = sums(
        [table[x] if isinstance(x, str) else x for x in by],
        lr**2 * grad_norm_sq,
        predicted**2 * weight_norm_sq,
    )
    return np.sqrt(measured / balance).rename("R")


def overlap_of_steps(table: pd.DataFrame) -> pd.Series:
    """o = g·v/|g|² of each step, v the plain sum of earlier gradients: the probes keep (1−ρ)v."""
    return table["grad_dot_average"] / (1 - AVERAGE_DECAY) / table["grad_norm_sq"]


def overlap(table: pd.DataFrame) -> pd.Series:
    """o = Σ g·v / Σ |g|² of each layer over the rows; see `lib.theory.correlation_correction`."""
    with_average, with_itself = sums([table["layer"]], *_columns(table, "grad_dot_average", "grad_norm_sq"))
    return with_average / (1 - AVERAGE_DECAY) / with_itself


def correction(table: pd.DataFrame, run: Run) -> pd.Series:
    """Factor on λ|g|/|w| of each layer that the overlap of gradients in the rows makes."""
    return theory.correlation_correction(
        overlap(table), momentum=run.config.momentum, nesterov=run.config.nesterov
    )


def with_norm_equation(run: Run, others: Sequence[Run] = (), correlated: bool = True) -> pd.DataFrame:
    """`dynamics` of a run, with ``c_sq`` and ``norm_sq_ode``: |w|² by the norm equation (`lib.theory.norm_ode`).

    The equation starts at the run's first |w|². It is driven by the mean c² = |g|²|w|² and the mean overlap of
    ``others``, runs of the same form; where there are none, by the run's own, which restates that gradients are
    orthogonal to weights and predicts nothing. Unless ``correlated``, gradients are taken for uncorrelated.
    """
    table, sources = dynamics(run), others or [run]
    c_sq = sum((r.steps["grad_norm_sq"] * r.steps["weight_norm_sq"]).to_numpy(float) for r in sources)
    # the forcing has c²(1+2ρo): o weighs as c² does
    doubled = sum(
        (overlap_of_steps(r.steps) * r.steps["grad_norm_sq"] * r.steps["weight_norm_sq"]).to_numpy(float)
        for r in sources
    )
    table["c_sq"] = c_sq / len(sources)
    table["overlap"] = doubled / c_sq if correlated else 0.0
    of_layers = (
        column.reshape(-1, table["layer"].nunique()).T
        for column in _columns(table, "weight_norm_sq", "c_sq", "lr", "overlap")
    )
    odes = [
        theory.norm_ode(norm_sq[0], c_sq, lr=lr, overlap=o, nesterov=run.config.nesterov, **settings(run))
        for norm_sq, c_sq, lr, o in zip(*of_layers, strict=True)
    ]
    return table.assign(norm_sq_ode=np.transpose(odes).ravel())


def ratio_by_epoch(run: Run, others: Sequence[Run] = ()) -> pd.DataFrame:
    """R for each layer and epoch: ``layer``, ``epoch`` (its middle), ``R``, ``R_ode``, ``R_others`` and ``R_end``.

    R leaves 1 because the norm needs time to follow λ and c, and because gradients overlap. ``R_ode`` is that
    along the solution of the norm equation, driven by the run's own gradients, and ``R_others`` by those of
    ``others``, NaN without them; see `with_norm_equation`. ``R_end`` is `lib.theory.final_decay_ratio`: what the
    fall of λ alone makes of it; NaN before the fall.
    """
    own = with_norm_equation(run)
    columns = [ratio_of_epochs(own), _along_equation(own).rename("R_ode")]
    if others:
        columns.append(_along_equation(with_norm_equation(run, others)).rename("R_others"))
    table = pd.concat(columns, axis=1).reset_index()
    return table.assign(R_others=table.get("R_others", np.nan), R_end=end_of_training(run, table["epoch"]))


def ratio_of_epochs(table: pd.DataFrame) -> pd.Series:
    """R for each layer and ``epoch``, its middle, from `dynamics`."""
    return ratio_to_line(table, ["layer", np.floor(table["epoch"]) + 0.5])


def _along_equation(table: pd.DataFrame) -> pd.Series:
    """R by epoch where the norm is that of `with_norm_equation`, and so the gradient c over that norm."""
    gradient = table["c_sq"] / table["norm_sq_ode"]
    return ratio_of_epochs(table.assign(grad_norm_sq=gradient, weight_norm_sq=table["norm_sq_ode"]))


def equation_error(run: Run, correlated: bool, after_epoch: float = 2) -> float:
    """Greatest |R − R of the norm equation, driven by the run's own c| of a convolution in an epoch after that."""
    table = convolutions(with_norm_equation(run, correlated=correlated))
    off = (ratio_of_epochs(table) - _along_equation(table)).abs().reset_index(name="off")
    return float(off.loc[off["epoch"] > after_epoch * run.config.epochs / 24, "off"].max())


def end_of_training(run: Run, epochs: pd.Series) -> np.ndarray:
    """R at some epochs of a run by the closed form of a linear fall of λ; NaN before the fall."""
    c, steps = run.config, run.steps_per_epoch
    ratio = theory.final_decay_ratio(
        (c.epochs - epochs.to_numpy()) * steps,
        peak_lr=c.lr,
        decay_steps=(c.epochs - c.peak_epoch) * steps,
        **settings(run),
    )
    return np.where(epochs > c.peak_epoch, ratio, np.nan)


def each_and_the_others(runs: Iterable[Run]) -> list[tuple[Run, list[Run]]]:
    """Each run, beside those that are left when it is taken out."""
    runs = list(runs)
    return [(run, runs[:i] + runs[i + 1 :]) for i, run in enumerate(runs)]


def rotation_to_prediction(table: pd.DataFrame, run: Run) -> pd.Series:
    """Measured |Δw|/|w| of each layer over the predicted rotation, by root mean squares.

    The prediction has the overlap of the rows where it matters, for Nesterov and LARS; see
    `lib.theory.rotation` and `lib.theory.lars_rotation`.
    """
    o = overlap(table).reindex(table["layer"]).to_numpy()
    lr, update_norm_sq, weight_norm_sq = _columns(table, "lr", "update_norm_sq", "weight_norm_sq")
    if run.config.optimizer == "lars":
        # the rate that the optimiser has: that of the SGD whose equilibrium it takes
        angle = theory.lars_rotation(
            o, lr=theory.equilibrium_ratio(lr=lr, **settings(run)), momentum=run.config.momentum
        )
    else:
        angle = theory.rotation(lr=lr, nesterov=run.config.nesterov, overlap=o, **settings(run))
    measured, balance = sums([table["layer"]], update_norm_sq, angle**2 * weight_norm_sq)
    return np.sqrt(measured / balance).rename("turn")


def rotations(runs: Iterable[Run]) -> pd.DataFrame:
    """`rotation_to_prediction` in the equilibrium window, of all layers: ``R``, ``low`` and ``high`` over runs."""
    each = [
        rotation_to_prediction(in_window(dynamics(run), run.config.epochs), run) for run in with_steps(runs)
    ]
    table = pd.concat(each, axis=1)
    return pd.DataFrame({"R": table.mean(axis=1), "low": table.min(axis=1), "high": table.max(axis=1)})


def equilibrium(runs: Iterable[Run]) -> pd.DataFrame:
    """R over the equilibrium window, for each layer, mean and range over runs.

    Columns: ``R``, ``low`` and ``high`` (least and greatest of the runs), ``overlap`` (g·v/|g|² of
    `lib.theory.correlation_correction`), and ``R_corrected``: R over that correction.
    """
    per_run = []
    for run in with_steps(runs):
        table = in_window(dynamics(run), run.config.epochs)
        R = ratio_to_line(table, ["layer"])
        found = {"R": R, "overlap": overlap(table), "R_corrected": R / correction(table, run)}
        per_run.append(pd.DataFrame(found))
    over_runs = pd.concat(per_run).groupby("layer", observed=True)
    return over_runs.mean().assign(low=over_runs["R"].min(), high=over_runs["R"].max())


def with_steps(runs: Iterable[Run]) -> list[Run]:
    """The runs that keep steps, and not only their epochs."""
    return [run for run in runs if not run.steps.empty]


def peaks(table: pd.DataFrame) -> pd.Series:
    """The epoch at which |w|² of each layer is greatest."""
    at = table.groupby("layer", observed=True)["weight_norm_sq"].idxmax()
    return table.loc[at].set_index("layer")["epoch"].rename("peak")


def mean_step(run: Run, window: tuple[float, float] = EQUILIBRIUM_WINDOW) -> pd.Series:
    """λ|g|/|w| of each layer over a window, by root mean squares."""
    table = in_window(run.steps, run.config.epochs, window)
    lr, grad_norm_sq, weight_norm_sq = _columns(table, "lr", "grad_norm_sq", "weight_norm_sq")
    step, weight = sums([table["layer"]], lr**2 * grad_norm_sq, weight_norm_sq)
    return np.sqrt(step / weight).rename("step")


def noise(runs: Iterable[Run]) -> pd.DataFrame:
    """The `lib.gradient_noise` tables of some runs, means over runs; ``layer`` is categorical."""
    table = pd.concat([run.noise for run in runs])
    table["layer"] = pd.Categorical(table["layer"], categories=table["layer"].unique(), ordered=True)
    return table.groupby(["epoch", "batch_size", "layer"], observed=True, as_index=False)[
        ["grad_norm_sq", "grad_product"]
    ].mean()


def noise_slopes(noise: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """How |g| falls with the batch size N at each frozen checkpoint, from a `noise` table.

    Columns: ``layer``, ``epoch``, ``slope`` of log |g| against log N by least squares, −½ for pure
    noise; and ``signal``, the share φ = |ḡ|²/E|g_N|² of the mean gradient ḡ at N = ``batch_size``,
    from a fit of E|g_N|² = |ḡ|² + V/N, neither below 0, by least squares of relative deviations.
    """
    from scipy.optimize import nnls  # slow to load, and seldom needed

    rows = []
    for (layer, epoch), table in noise.groupby(["layer", "epoch"], observed=True):
        n, norm_sq = (table[c].to_numpy(dtype=float) for c in ("batch_size", "grad_norm_sq"))
        slope = np.polyfit(np.log(n), np.log(norm_sq) / 2, 1)[0]
        (mean_sq, variance), _ = nnls(np.stack([1 / norm_sq, 1 / (n * norm_sq)], 1), np.ones(len(n)))
        rows.append((layer, epoch, slope, mean_sq / (mean_sq + variance / batch_size)))
    return pd.DataFrame(rows, columns=["layer", "epoch", "slope", "signal"])


def accuracy(runs: Iterable[Run]) -> np.ndarray:
    """Test accuracy of each run after its last epoch, a fraction."""
    return np.array([run.test_accuracy for run in runs])


def describe(runs: Iterable[Run], scale: object) -> str:
    """Scale, data, network, seeds, precision and device of some runs, in a line for captions."""
    runs = list(runs)
    c = runs[0].config
    seeds = sorted({run.config.seed for run in runs})
    precisions = sorted({run.config.precision for run in runs}, reverse=True)
    devices = sorted({_device(run.provenance) for run in runs})
    diverged = [run for run in runs if run.diverged_at is not None and len(run.steps)]  # else a cross says it
    return (
        f"scale {scale}: {c.dataset}, width {c.width}, {c.epochs} epochs, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, "
        f"{' and '.join(precisions)}, {' and '.join(devices)}"
        + "".join(f"; seed {run.config.seed} diverged {run.diverged_in}" for run in diverged)
    )


def _device(provenance: dict) -> str:
    """The device by name: of a processor its own name, where the record has it."""
    return provenance.get("processor", "CPU") if provenance["device"] == "CPU" else provenance["device"]


def further_from_line(table: pd.DataFrame, reference: pd.DataFrame) -> int:
    """In how many convolutions |R − 1| is larger than in a reference, both `equilibrium` tables."""
    distance, nearer = ((t.drop(index=CLASSIFIER)["R"] - 1).abs() for t in (table, reference))
    return int((distance > nearer).sum())
