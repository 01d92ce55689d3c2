"""The claims of the post, each decided by a number.

Tolerances and epochs were fixed before the runs, for the network at full size. A claim is measured
on each seed by itself: it *holds* if it does on all of them, *fails* if it does on none, and else
is *not resolved at this scale*, as it is with fewer seeds than it needs. Epochs are of 24.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from lib import analysis, experiments, records, runner
from lib.training import Run

HOLDS, FAILS, NOT_RESOLVED = "holds", "fails", "not resolved at this scale"
NOT_RECORDED = "not recorded yet"
Forms = dict[str, Run]  # the runs of one seed, by form: sgd, heavy-ball, nesterov


@dataclass(frozen=True)
class Claim:
    """A claim, what is looked at, and how it is decided.

    ``measure`` takes the `Forms` of one seed and returns the observed number and whether it is
    within the tolerance. Where layers or epochs are many, the number is that of the worst one, and
    it alone decides. ``seeds`` is how many the claim needs.
    """

    name: str
    chapter: str
    sentence: str
    observable: str
    tolerance: str
    epochs: str
    measure: Callable[[Forms], tuple[float, bool]]
    seeds: int = 1


@dataclass(frozen=True)
class Verdict:
    """The numbers observed, one for each seed, and the verdict on them."""

    observed: tuple[float, ...]
    verdict: str


def judge(claim: Claim, runs: dict[str, Run]) -> Verdict:
    """The verdict on a claim, from the runs of the experiment ``dynamics`` by name.

    Only seeds that every form is recorded for count. Raises ValueError when there is none.
    """
    by_seed = seeds(runs)
    if not by_seed:
        raise ValueError("no seed is recorded with all three forms of SGD; `python -m lib run` records them")
    measured = [claim.measure(forms) for forms in by_seed]
    values, holds = zip(*measured, strict=True)
    if len(by_seed) < claim.seeds or len(set(holds)) > 1:
        verdict = NOT_RESOLVED
    else:
        verdict = HOLDS if holds[0] else FAILS
    return Verdict(tuple(float(v) for v in values), verdict)


def seeds(runs: dict[str, Run]) -> list[Forms]:
    """The runs of each seed by form, for the seeds that have all three."""
    names = [name.rpartition("-seed") for name in runs]
    by_seed = {seed: {f: runs[f"{f}-seed{s}"] for f, _, s in names if s == seed} for _, _, seed in names}
    return [forms for forms in by_seed.values() if {"sgd", "heavy-ball", "nesterov"} <= set(forms)]


def table(runs: dict[str, Run], chapter: str | None = None) -> pd.DataFrame:
    """The claims of a chapter, or all, with what was observed and the verdict, as text.

    An observed number is the mean over seeds; where there are several, their range stands behind it.
    """
    rows = []
    for claim in CLAIMS:
        if chapter in (None, claim.chapter):
            found = judge(claim, runs)
            rows.append(
                {
                    "claim": claim.sentence,
                    "verdict": found.verdict,
                    "observed": _text(found.observed),
                    "tolerance": claim.tolerance,
                    "what is looked at": f"{claim.observable}; epochs: {claim.epochs}",
                }
            )
    return pd.DataFrame(rows).set_index("claim").rename_axis(index=None, columns="claim")


def side_by_side() -> pd.DataFrame:
    """The verdict on every claim at each scale, with the mean of what was observed, as text."""
    columns = {}
    for scale in experiments.SCALES:
        try:
            runs = runner.recorded("dynamics", scale)
        except records.NotRecordedError:
            columns[scale] = NOT_RECORDED
            continue
        found = {claim.sentence: judge(claim, runs) for claim in CLAIMS}
        columns[scale] = {s: f"{v.verdict} ({np.mean(v.observed):.2g})" for s, v in found.items()}
    tolerance = {claim.sentence: claim.tolerance for claim in CLAIMS}
    return pd.DataFrame({"tolerance": tolerance} | columns).rename_axis(columns="claim")


def _text(values: tuple[float, ...]) -> str:
    mean, low, high = (f"{x:.2g}" for x in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _between(table: pd.DataFrame, run: Run, first: float, last: float) -> pd.DataFrame:
    """The rows between two epochs of 24, at their place in a run of any length."""
    return analysis.in_window(table, run.config.epochs, (first / 24, last / 24))


@cache  # three claims look at it, and the norm equation takes a moment
def _by_epoch(run: Run) -> pd.DataFrame:
    return analysis.convolutions(analysis.ratio_by_epoch(run))


def _largest_deviation(values: pd.Series, target: float, tolerance: float) -> tuple[float, bool]:
    observed = (values - target).abs().max()
    return observed, observed <= tolerance


def _right_angle(forms: Forms) -> tuple[float, bool]:
    cosine = analysis.dynamics(forms["sgd"]).assign(cosine=lambda t: t["cosine"].abs())
    largest = cosine.groupby("layer", observed=True)["cosine"].max()
    observed = largest.drop(analysis.CLASSIFIER).max()
    return observed, observed < 1e-3 < largest[analysis.CLASSIFIER]


def _norm_change(forms: Forms) -> tuple[float, bool]:
    t = analysis.convolutions(analysis.dynamics(forms["sgd"])).astype({"weight_norm_sq": float})
    after = t.groupby("layer", observed=True)["weight_norm_sq"].shift(-1)
    # the last step has no norm after it
    t = t.assign(residual=after - t["weight_norm_sq"] - t["growth"] + t["shrinkage"]).dropna()
    sums = t.groupby(["layer", np.floor(t["epoch"])], observed=True)[
        ["residual", "growth", "shrinkage"]
    ].sum()
    observed = (sums["residual"].abs() / sums[["growth", "shrinkage"]].min(axis=1)).max()
    return observed, observed < 0.01


def _growth_over_shrinkage(forms: Forms) -> tuple[float, bool]:
    run = forms["sgd"]
    t = _between(analysis.convolutions(analysis.dynamics(run)), run, 6, 14)
    sums = t.groupby(["layer", np.floor(t["epoch"])], observed=True)[["growth", "shrinkage"]].sum()
    return _largest_deviation(sums["growth"] / sums["shrinkage"], 1, 0.1)


def _early_peaks(forms: Forms) -> tuple[float, bool]:
    run = forms["sgd"]
    peaks = analysis.peaks(analysis.convolutions(run.steps)) * 24 / run.config.epochs
    observed = int(peaks.between(1, 10).sum())
    return observed, observed >= 5


def _ratio(forms: Forms) -> tuple[float, bool]:
    run = forms["sgd"]
    return _largest_deviation(_between(_by_epoch(run), run, 6, 14)["R"], 1, 0.10)


def _norm_equation(forms: Forms, first: float = 2, last: float = 23) -> tuple[float, bool]:
    run = forms["sgd"]
    t = _between(_by_epoch(run), run, first, last)
    return _largest_deviation(t["R"] - t["R_ode"], 0, 0.05)


def _end(forms: Forms) -> tuple[float, bool]:
    run = forms["sgd"]
    t = _between(_by_epoch(run), run, 17, 23)
    ends = t.groupby("layer", observed=True)["R"].agg(["first", "last"])
    observed, within = _norm_equation(forms, 17, 23)
    return observed, within and bool((ends["last"] < ends["first"]).all())


def _correlation(forms: Forms) -> tuple[float, bool]:
    run = forms["heavy-ball"]
    t = _between(analysis.convolutions(analysis.dynamics(run)), run, 2, 22)
    per_epoch = t.groupby(["layer", np.floor(t["epoch"])], observed=True)["correlation"].mean()
    return _largest_deviation(per_epoch, 0, 0.05)


def _with_momentum(forms: Forms, column: str, tolerance: float) -> tuple[float, bool]:
    deep = analysis.equilibrium({"": forms["heavy-ball"]}).drop(index=analysis.CLASSIFIER)
    return _largest_deviation(deep[column], 1, tolerance)


def _larger_discrepancy(forms: Forms) -> tuple[float, bool]:
    tables = (analysis.equilibrium({"": forms[form]}) for form in ("heavy-ball", "sgd"))
    observed = analysis.further_from_line(*tables)
    return observed, observed >= 6


def _rotation(forms: Forms, form: str, tolerance: float) -> tuple[float, bool]:
    return _largest_deviation(pd.Series(analysis.turn({"": forms[form]})), 1, tolerance)


def _same_accuracy(forms: Forms) -> tuple[float, bool]:
    observed = 100 * (forms["sgd"].test_accuracy - forms["heavy-ball"].test_accuracy)
    return observed, abs(observed) <= 0.3


CLAIMS = (
    Claim(
        "right angle", "dynamics", "Gradients are orthogonal to weights, but for the classifier's.",
        "|cos(w, g)|", "< 0.001", "all", _right_angle,
    ),
    Claim(
        "norm change", "dynamics", "Equations (1′) and (2′) account for every change of |w|².",
        "residual over an epoch, relative to the smaller term", "< 0.01", "all", _norm_change,
    ),
    Claim(
        "balance", "dynamics", "Growth and shrinkage are in equilibrium.",
        "|growth/shrinkage − 1| over an epoch", "≤ 0.10", "6–14", _growth_over_shrinkage,
    ),
    Claim(
        "early peak", "dynamics", "Norms grow, then level out or decay slowly.",
        "layers whose |w|² peaks in epochs 1–10", "≥ 5", "all", _early_peaks,
    ),
    Claim(
        "ratio", "equilibrium", "Without momentum λ|g|/|w| is √(2λα): equations (5) and (6).",
        "|R − 1| over an epoch", "≤ 0.10", "6–14", _ratio,
    ),
    Claim(
        "norm equation", "equilibrium", "The norm equation gives R, in and out of equilibrium.",
        "|R − R of the equation| over an epoch", "≤ 0.05", "2–23", _norm_equation,
    ),
    Claim(
        "end", "equilibrium", "The deviation at the end is the norm's lag: R falls as the equation says.",
        "|R − R of the equation| over an epoch", "≤ 0.05, and R falls", "17–23", _end,
    ),
    Claim(
        "correlation", "momentum", "Gradients of successive batches are close to uncorrelated.",
        "|κ|, mean over an epoch", "≤ 0.05", "2–22", _correlation,
    ),
    Claim(
        "ratio with momentum", "momentum", "With ρ = 0.9, λ|g|/|w| is √(2λα(1−ρ)): equation (7).",
        "|R − 1|", "≤ 0.15", "6–14", lambda forms: _with_momentum(forms, "R", 0.15),
    ),
    Claim(
        "corrected ratio", "momentum", "Correlation explains what is left of the discrepancy.",
        "|R − 1| after the correction", "≤ 0.05", "6–14",
        lambda forms: _with_momentum(forms, "R_corrected", 0.05),
    ),
    Claim(
        "larger discrepancy", "momentum", "With momentum the discrepancy is slightly larger.",
        "layers with a larger |R − 1| than without", "≥ 6", "6–14", _larger_discrepancy,
    ),
    Claim(
        "rotation", "momentum", "Heavy-ball turns weights by √(2λα/(1+ρ)) a step.",
        "|measured/predicted − 1| of |Δw|/|w|", "≤ 0.03", "6–14",
        lambda forms: _rotation(forms, "heavy-ball", 0.03),
    ),
    Claim(
        "rotation of Nesterov", "momentum", "Nesterov turns weights by √(2λα(1+2ρ−2ρ³)/(1+ρ)) a step.",
        "|measured/predicted − 1| of |Δw|/|w|", "≤ 0.07", "6–14",
        lambda forms: _rotation(forms, "nesterov", 0.07),
    ),
    Claim(
        "only λ/(1−ρ)", "momentum", "Only λ/(1−ρ) matters, not λ or ρ by itself.",
        "final accuracy at ρ = 0 less that at ρ = 0.9, in %", "± 0.3, five seeds", "end", _same_accuracy, seeds=5,
    ),
)  # fmt: skip
