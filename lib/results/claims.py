"""The claims of the post, each decided by a number.

Tolerances and epochs were fixed before the runs, for the network at full size. A claim is measured
on each seed by itself: it *holds* if it does on all of them, *fails* if it does on none, and else
is *not resolved at this scale*, as it is with fewer seeds than it needs. Where accuracies are
compared, which scatter from seed to seed, their mean over seeds decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from .. import experiments, library
from ..run import Run
from . import observables
from .observables import FROZEN, HEAVY_BALL, NESTEROV, QUARTER_BATCH, SGD, Observation, Runs

HOLDS, FAILS, NOT_RESOLVED = "holds", "fails", "not resolved at this scale"
NOT_RECORDED = "not recorded yet"
#: The runs of a scale, by form, such as ``dynamics/sgd``, and seed; a form without a record is empty.
Recorded = dict[str, dict[int, Run]]


@dataclass(frozen=True)
class Claim:
    """A claim, what is looked at, and how it is decided.

    ``measure`` takes runs by form and returns the observed number and whether it is within the
    tolerance; ``forms`` are those it looks at, or the beginning of their names. ``seeds`` is how
    many the claim needs; ``pooled`` when their mean decides, and not each of them.
    """

    name: str
    chapter: str
    sentence: str
    observable: str
    tolerance: str
    epochs: str
    measure: Callable[[Runs], Observation]
    forms: tuple[str, ...]
    seeds: int = 1
    pooled: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was observed, its range over seeds, and the verdict; without a record the numbers are NaN."""

    observed: float
    low: float
    high: float
    verdict: str


def recorded(scale: str) -> Recorded:
    """All recorded runs of a scale; raises what `lib.library.forms` raises."""
    return {form: {run.config.seed: run for run in runs} for form, runs in library.every_form(scale).items()}


def judge(claim: Claim, recorded: Recorded) -> Verdict:
    """The verdict on a claim. Only seeds that are recorded in every form it looks at count."""
    looked_at = {form: seeds for form, seeds in recorded.items() if form.startswith(claim.forms)}
    usable = [
        {seed for seed, run in seeds.items() if claim.pooled or run.noise.size or run.steps.size}
        for seeds in looked_at.values()
    ]
    seeds = sorted(set.intersection(*usable))
    if not seeds:
        return Verdict(np.nan, np.nan, np.nan, NOT_RECORDED)
    each = [claim.measure({form: [by_seed[seed]] for form, by_seed in looked_at.items()}) for seed in seeds]
    values, holds = zip(*each, strict=True)
    observed = float(np.mean(values))
    if claim.pooled:
        together = {form: [by_seed[seed] for seed in seeds] for form, by_seed in looked_at.items()}
        observed, *holds = claim.measure(together)
    if len(seeds) < claim.seeds or len(set(holds)) > 1:
        verdict = NOT_RESOLVED
    else:
        verdict = HOLDS if holds[0] else FAILS
    return Verdict(float(observed), float(min(values)), float(max(values)), verdict)


def table(recorded: Recorded, chapter: str | None = None) -> pd.DataFrame:
    """The claims of a chapter, or all, with what was observed and the verdict, as text."""
    rows = []
    for claim in CLAIMS:
        if chapter in (None, claim.chapter):
            found = judge(claim, recorded)
            rows.append(
                {
                    "claim": claim.sentence,
                    "verdict": found.verdict,
                    "observed": _text(found),
                    "tolerance": claim.tolerance,
                    "what is looked at": f"{claim.observable}; epochs: {claim.epochs}",
                }
            )
    return pd.DataFrame(rows).set_index("claim").rename_axis(index=None, columns="claim")


def side_by_side() -> pd.DataFrame:
    """The verdict on every claim at each scale, with what was observed, as text."""
    columns = {"tolerance": {claim.sentence: claim.tolerance for claim in CLAIMS}}
    for scale in experiments.SCALES:
        runs = recorded(scale)
        found = {claim.sentence: judge(claim, runs) for claim in CLAIMS}
        columns[scale] = {
            s: v.verdict if v.verdict == NOT_RECORDED else f"{v.verdict} ({v.observed:.2g})"
            for s, v in found.items()
        }
    return pd.DataFrame(columns).rename_axis(columns="claim")


def _text(found: Verdict) -> str:
    if found.verdict == NOT_RECORDED:
        return "–"
    mean, low, high = (f"{x:.2g}" for x in (found.observed, found.low, found.high))
    return mean if low == high else f"{mean} ({low} to {high})"


CLAIMS = (
    Claim(
        "right angle", "dynamics", "Gradients are orthogonal to weights, but for the classifier's.",
        "|cos(w, g)|", "< 0.001", "all", observables.right_angle, (SGD,),
    ),
    Claim(
        "norm change", "dynamics", "Equations (1′) and (2′) account for every change of |w|².",
        "residual over an epoch, relative to the smaller term", "< 0.01", "all",
        observables.norm_change, (SGD,),
    ),
    Claim(
        "balance", "dynamics", "Growth and shrinkage are in equilibrium.",
        "|growth/shrinkage − 1| over an epoch", "≤ 0.10", "6–14", observables.growth_over_shrinkage, (SGD,),
    ),
    Claim(
        "early peak", "dynamics", "Norms grow, then level out or decay slowly.",
        "layers whose |w|² peaks in epochs 1–10", "≥ 5", "all", observables.early_peaks, (SGD,),
    ),
    Claim(
        "ratio", "equilibrium", "Without momentum λ|g|/|w| is √(2λα): equations (5) and (6).",
        "|R − 1| over an epoch", "≤ 0.10", "6–14", observables.ratio, (SGD,),
    ),
    Claim(
        "norm equation", "equilibrium", "The norm equation gives R, in and out of equilibrium.",
        "|R − R of the equation| over an epoch", "≤ 0.05", "2–23", observables.norm_equation, (SGD,),
    ),
    Claim(
        "end", "equilibrium", "The deviation at the end is the norm's lag: R falls as the equation says.",
        "|R − R of the equation| over an epoch", "≤ 0.05, and R falls", "17–23", observables.end, (SGD,),
    ),
    Claim(
        "correlation", "batch-size", "Gradients of successive batches are close to uncorrelated.",
        "|κ|, mean over an epoch", "≤ 0.05", "2–22", observables.correlation, (HEAVY_BALL,),
    ),
    Claim(
        "noise", "batch-size", "Gradients are mostly noise: |g| falls as 1/√N.",
        "|slope + ½| of log |g| against log N, weights frozen", "≤ 0.08", "5–20",
        observables.noise_slope, (FROZEN,),
    ),
    Claim(
        "step of a batch", "batch-size", "With n times the batch and n times λ, the step is √n times as long.",
        "|quotient − 2| of λ|g|/|w| for n = 4", "≤ 0.15", "6–14",
        observables.step_of_batch, (HEAVY_BALL, QUARTER_BATCH),
    ),
    Claim(
        "ratio with momentum", "momentum", "With ρ = 0.9, λ|g|/|w| is √(2λα(1−ρ)): equation (7).",
        "|R − 1|", "≤ 0.15", "6–14",
        partial(observables.with_momentum, column="R", tolerance=0.15), (HEAVY_BALL,),
    ),
    Claim(
        "corrected ratio", "momentum", "Correlation explains what is left of the discrepancy.",
        "|R − 1| after the correction", "≤ 0.05", "6–14",
        partial(observables.with_momentum, column="R_corrected", tolerance=0.05), (HEAVY_BALL,),
    ),
    Claim(
        "larger discrepancy", "momentum", "With momentum the discrepancy is slightly larger.",
        "layers with a larger |R − 1| than without", "≥ 6", "6–14",
        observables.larger_discrepancy, (HEAVY_BALL, SGD),
    ),
    Claim(
        "rotation", "momentum", "Heavy-ball turns weights by √(2λα/(1+ρ)) a step.",
        "|measured/predicted − 1| of |Δw|/|w|", "≤ 0.03", "6–14",
        partial(observables.rotation, form=HEAVY_BALL, tolerance=0.03), (HEAVY_BALL,),
    ),
    Claim(
        "rotation of Nesterov", "momentum", "Nesterov turns weights by √(2λα(1+2ρ−2ρ³)/(1+ρ)) a step.",
        "|measured/predicted − 1| of |Δw|/|w|", "≤ 0.07", "6–14",
        partial(observables.rotation, form=NESTEROV, tolerance=0.07), (NESTEROV,),
    ),
    Claim(
        "only λ/(1−ρ)", "momentum", "Only λ/(1−ρ) matters, not λ or ρ by itself.",
        "final accuracy at ρ = 0 less that at ρ = 0.9, in %", "± 0.3, five seeds", "end",
        observables.same_accuracy, (SGD, HEAVY_BALL), seeds=5, pooled=True,
    ),
    Claim(
        "LARS better", "lars", "LARS is clearly better than SGD, both tuned: a question the post left open.",
        "final accuracy of LARS less that of heavy-ball, in %", "≥ 0.3, five seeds", "end",
        observables.better_accuracy, ("tuning/",), seeds=5, pooled=True,
    ),
    Claim(
        "shared optimum", "learning-rates", "Architectures share an optimal learning rate.",
        "octaves from the smallest λ* to the largest", "≤ 1", "end",
        observables.shared_optimum, ("sweep/",), seeds=3, pooled=True,
    ),
    Claim(
        "selection", "learning-rates", "λ = 0.4 selects the right architecture.",
        "accuracy at λ* less that at 0.4, in %; rank correlation of the two", "≤ 0.15; ≥ 0.85", "end",
        observables.selection, ("sweep/",), seeds=3, pooled=True,
    ),
)  # fmt: skip
