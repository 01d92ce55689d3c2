"""The claims of the post, and ours, each decided by a number.

A claim is one value: what it says, what is looked at, in which epochs, and the bound. What a reader sees of
it is made from the numbers that decide. `lib.results.verdicts` has the rule.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import experiments, library
from ..run import Run
from . import statistics as st
from .statistics import Seeds, Statistic, Window, of_each_seed
from .verdicts import Bound, Verdict, around, decide

POST, OURS = "post", "ours"
NOT_RECORDED = "not recorded yet"
SGD, HEAVY_BALL, NESTEROV = "dynamics/sgd", "dynamics/heavy-ball", "dynamics/nesterov"
LARS, QUARTER_BATCH, FROZEN = "lars/lars", "batch-size/quarter-batch", "gradient-noise/frozen"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence, and the number that decides it.

    ``statistic`` is made from the runs of ``forms``, or of those whose names begin so, in that order, and of
    ``epochs``, of 24; where there are none it is that of whole runs. ``of`` says what it has a number for.
    ``bf16`` is the bound of runs in that precision, where it is another. ``single`` is False where a single epoch
    says nothing.
    """

    name: str
    chapter: str
    origin: str
    sentence: str
    observable: str
    statistic: Statistic
    forms: tuple[str, ...]
    bound: Bound
    bf16: Bound | None = None
    epochs: Window | None = None
    of: str = "layers"
    single: bool = True

    @property
    def bound_text(self) -> str:
        """The bound, and that of bf16 where it is another."""
        return str(self.bound) + (f" (bf16: {self.bf16})" if self.bf16 else "")

    @property
    def looked_at(self) -> str:
        """What is looked at, in which epochs."""
        if self.epochs is None:
            return f"{self.observable}; at the end"
        first, last = (f"{epoch:g}" for epoch in self.epochs)
        return f"{self.observable}; epochs {first}–{last} of 24"


def recorded(scale: str) -> Seeds:
    """All recorded runs of a scale, by form and seed; raises what `lib.library.forms` raises."""
    return {form: {run.config.seed: run for run in runs} for form, runs in library.every_form(scale).items()}


def judge(claim: Claim, recorded: Seeds) -> Verdict | None:
    """The verdict on a claim; None where nothing is recorded that decides it.

    Only seeds that are recorded in every form it looks at count.
    """
    seeds = _looked_at(claim, recorded)
    runs = [run for of_form in seeds.values() for run in of_form.values()]
    if not runs:
        return None
    lower = claim.bf16 and any(run.config.precision == "bf16" for run in runs)
    bound = claim.bf16 if lower else claim.bound
    table = claim.statistic(seeds, claim.epochs or (0, 24))
    if table.empty:
        return None
    return decide(table, bound, _worst(claim, seeds, bound))


def _looked_at(claim: Claim, recorded: Seeds) -> Seeds:
    """The runs of the claim's forms, in its order, of the seeds that all of them have."""
    forms = [form for prefix in claim.forms for form in recorded if form.startswith(prefix)]
    usable = [
        {seed for seed, run in recorded[form].items() if claim.epochs is None or _has_epochs(run)}
        for form in forms
    ]
    seeds = sorted(set.intersection(*usable)) if usable else []
    return {form: {seed: recorded[form][seed] for seed in seeds} for form in forms}


def _has_epochs(run: Run) -> bool:
    return not run.steps.empty or not run.noise.empty


def _worst(claim: Claim, seeds: Seeds, bound: Bound) -> pd.Series | None:
    """For each layer the number furthest out of those of single epochs and seeds."""
    if claim.epochs is None or not claim.single:
        return None
    first, last = claim.epochs
    each = [claim.statistic(seeds, (epoch, epoch + 1)) for epoch in range(int(first), int(last))]
    numbers = pd.concat(each, ignore_index=True)
    furthest = bound.beyond(numbers).dropna(how="all", axis=1).idxmax()
    return pd.Series({layer: numbers.at[row, layer] for layer, row in furthest.items()})


def of_chapter(chapter: str | None) -> list[Claim]:
    """The claims of a chapter, or all; raises ValueError when it has none."""
    chosen = [claim for claim in CLAIMS if chapter in (None, claim.chapter)]
    if not chosen:
        chapters = ", ".join(dict.fromkeys(claim.chapter for claim in CLAIMS))
        raise ValueError(f"chapter={chapter!r} has no claims; it must be one of {chapters}")
    return chosen


def judged(claims: Iterable[Claim], recorded: Seeds) -> list[tuple[Claim, Verdict | None]]:
    """Each claim with its verdict."""
    return [(claim, judge(claim, recorded)) for claim in claims]


def table(judged: Iterable[tuple[Claim, Verdict | None]]) -> pd.DataFrame:
    """Claims with what was found and why, as text."""
    rows = {
        claim.sentence: {
            "of": claim.origin,
            "verdict": found.verdict if found else NOT_RECORDED,
            "inside": found.count if found else "–",
            "found": found.span if found else "–",
            "bound": claim.bound_text,
            "worst epoch": found.worst_text if found else "–",
            "why": found.reason if found else "–",
            "what is looked at": claim.looked_at,
        }
        for claim, found in judged
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="claim")


def side_by_side() -> pd.DataFrame:
    """The verdict on every claim at each scale, with what was found, as text."""
    columns = {
        "of": {claim.sentence: claim.origin for claim in CLAIMS},
        "bound": {claim.sentence: claim.bound_text for claim in CLAIMS},
    }
    for name in experiments.SCALES:
        columns[f"{name} ({about(name)})"] = {
            claim.sentence: brief(found) for claim, found in judged(CLAIMS, recorded(name))
        }
    return pd.DataFrame(columns).rename_axis(columns="claim")


def about(scale: str) -> str:
    """The width of a scale's network, and whose the bounds are where it is not the full one."""
    widths = {name: at.base.width for name, at in experiments.SCALES.items()}
    width, full = widths[scale], max(widths.values())
    return f"width {width}" if width == full else f"width {width}; the bounds are those of width {full}"


def brief(found: Verdict | None) -> str:
    """A verdict with all that has to stand beside it, in a line."""
    if found is None:
        return NOT_RECORDED
    worst = "" if np.isnan(found.worst) else f"worst epoch {found.worst_text}"
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    count = found.count if len(found.layers) > 1 else ""
    return f"{found.verdict}: " + "; ".join(filter(None, [count, found.span, worst, seeds]))


CLAIMS = (
    Claim(
        name="right angle", chapter="dynamics", origin=POST,
        sentence="Gradients are orthogonal to weights that have a batch norm behind them.",
        observable="largest |cos(w, g)|", statistic=of_each_seed(st.largest_cosine), forms=(SGD,),
        bound=Bound(high=1e-3, strict=True), bf16=Bound(high=5e-3, strict=True), epochs=(0, 24),
    ),
    Claim(
        name="control", chapter="dynamics", origin=OURS,
        sentence="Those of the classifier, which has none, are not: the control.",
        observable="largest |cos(w, g)|", statistic=of_each_seed(st.largest_cosine_of_classifier), forms=(SGD,),
        bound=Bound(low=1e-3), bf16=Bound(low=5e-3), epochs=(0, 24), of="classifier", single=False,
    ),
    Claim(
        name="norm change", chapter="dynamics", origin=POST,
        sentence="Equations (1′) and (2′) account for every change of |w|².",
        observable="what they leave of the change over an epoch, over the smaller of the two, rms over epochs",
        statistic=of_each_seed(st.unexplained_change), forms=(SGD,),
        bound=Bound(high=0.01, strict=True), bf16=Bound(high=0.02, strict=True), epochs=(0, 24),
    ),
    Claim(
        name="balance", chapter="dynamics", origin=POST, sentence="Growth and shrinkage are in equilibrium.",
        observable="Σ growth / Σ shrinkage", statistic=of_each_seed(st.growth_over_shrinkage), forms=(SGD,),
        bound=around(1, 0.2), epochs=(6, 14),
    ),
    Claim(
        name="early peak", chapter="dynamics", origin=POST,
        sentence="Norms of most layers grow, then level out or decay slowly.",
        observable="how many layers have their largest |w|² there", statistic=of_each_seed(st.peaks_within),
        forms=(SGD,), bound=Bound(low=5), epochs=(1, 10), of="layers together", single=False,
    ),
    Claim(
        name="ratio", chapter="equilibrium", origin=POST,
        sentence="Without momentum λ|g|/|w| is √(2λα): equations (5) and (6).",
        observable="R", statistic=of_each_seed(st.ratio), forms=(SGD,), bound=around(1, 0.1), epochs=(6, 14),
    ),
    Claim(
        name="norm equation", chapter="equilibrium", origin=OURS,
        sentence="The norm equation predicts R from the gradients of other seeds, in and out of equilibrium.",
        observable="R − R of the equation, rms over epochs", statistic=st.against_equation, forms=(SGD,),
        bound=Bound(high=0.1), epochs=(2, 23),
    ),
    Claim(
        name="end", chapter="equilibrium", origin=OURS,
        sentence="How R falls at the end follows from the schedule alone.",
        observable="R − the closed form, rms over epochs", statistic=of_each_seed(st.against_closed_form),
        forms=(SGD,), bound=Bound(high=0.1), epochs=(17, 23),
    ),
    Claim(
        name="correlation", chapter="batch-size", origin=POST,
        sentence="Gradients of successive batches are close to uncorrelated.",
        observable="κ, the mean", statistic=of_each_seed(st.correlation), forms=(HEAVY_BALL,),
        bound=around(0, 0.05, strict=True), epochs=(2, 22),
    ),
    Claim(
        name="noise", chapter="batch-size", origin=POST,
        sentence="Gradients are mostly noise: |g| falls as 1/√N.",
        observable="slope of log |g| against log N, weights frozen", statistic=of_each_seed(st.noise_slope),
        forms=(FROZEN,), bound=around(-0.5, 0.08), epochs=(5, 20),
    ),
    Claim(
        name="step of a batch", chapter="batch-size", origin=POST,
        sentence="With n times the batch and n times λ, the step is √n times as long.",
        observable="quotient of λ|g|/|w| for n = 4", statistic=of_each_seed(st.step_of_batch),
        forms=(HEAVY_BALL, QUARTER_BATCH), bound=around(2, 0.15), epochs=(6, 14),
    ),
    Claim(
        name="rotation", chapter="momentum", origin=OURS,
        sentence="Heavy-ball turns every layer by √(2λα/(1+ρ)) a step, however gradients are correlated.",
        observable="|Δw|/|w| over that angle", statistic=of_each_seed(st.rotation), forms=(HEAVY_BALL,),
        bound=around(1, 0.05), epochs=(6, 14),
    ),
    Claim(
        name="rotation of Nesterov", chapter="momentum", origin=OURS,
        sentence="Nesterov turns every layer by an angle that the overlap of its gradients gives.",
        observable="|Δw|/|w| over that angle", statistic=of_each_seed(st.rotation), forms=(NESTEROV,),
        bound=around(1, 0.05), epochs=(6, 14),
    ),
    Claim(
        name="ratio with momentum", chapter="momentum", origin=POST,
        sentence="With ρ = 0.9, λ|g|/|w| is √(2λα(1−ρ)): equation (7).",
        observable="R", statistic=of_each_seed(st.ratio), forms=(HEAVY_BALL,),
        bound=around(1, 0.15), epochs=(6, 14),
    ),
    Claim(
        name="larger discrepancy", chapter="momentum", origin=POST,
        sentence="With momentum the discrepancy is larger than without.",
        observable="how many layers have a larger |R − 1|", statistic=of_each_seed(st.further_from_line),
        forms=(HEAVY_BALL, SGD), bound=Bound(low=6), epochs=(6, 14), of="layers together",
    ),
    Claim(
        name="slight discrepancy", chapter="momentum", origin=POST, sentence="But it is slight.",
        observable="median |R − 1| of the layers", statistic=of_each_seed(st.median_distance),
        forms=(HEAVY_BALL,), bound=Bound(high=0.1), epochs=(6, 14), of="layers together",
    ),
    Claim(
        name="corrected ratio", chapter="momentum", origin=OURS,
        sentence="Correlation explains the discrepancy of heavy-ball.",
        observable="R over the factor of the overlap", statistic=of_each_seed(st.corrected_ratio),
        forms=(HEAVY_BALL,), bound=around(1, 0.05), epochs=(6, 14),
    ),
    Claim(
        name="corrected ratio of Nesterov", chapter="momentum", origin=OURS,
        sentence="And that of Nesterov.",
        observable="R over the factor of the overlap", statistic=of_each_seed(st.corrected_ratio),
        forms=(NESTEROV,), bound=around(1, 0.05), epochs=(6, 14),
    ),
    Claim(
        name="only λ/(1−ρ)", chapter="momentum", origin=POST,
        sentence="Only λ/(1−ρ) matters, not λ or ρ by itself.",
        observable="test accuracy at ρ = 0 less that at ρ = 0.9, in %, seed by seed",
        statistic=of_each_seed(st.accuracy_difference), forms=(SGD, HEAVY_BALL), bound=around(0, 0.3),
        of="difference",
    ),
    Claim(
        name="rotation of LARS", chapter="lars", origin=OURS,
        sentence="LARS turns every layer by λ√((1+2ρo)/(1−ρ²)) a step, with o the overlap of its gradients.",
        observable="|Δw|/|w| over that angle", statistic=of_each_seed(st.rotation), forms=(LARS,),
        bound=around(1, 0.05), epochs=(6, 14),
    ),
    Claim(
        name="LARS better", chapter="lars", origin=POST,
        sentence="LARS is clearly better than SGD on CIFAR-10: asked by the post, which had not found it so.",
        observable="test accuracy of LARS less that of heavy-ball, in %, seed by seed, each at its best λ tried",
        statistic=st.tuned_difference, forms=("tuning/",), bound=Bound(low=0.3), of="difference",
    ),
    Claim(
        name="shared optimum", chapter="learning-rates", origin=POST,
        sentence="Architectures share an optimal learning rate.",
        observable="octaves from the best λ of one network to that of another", statistic=st.octaves_apart,
        forms=("sweep/",), bound=around(0, 1), of="pairs",
    ),
    Claim(
        name="no loss", chapter="learning-rates", origin=POST, sentence="λ = 0.4 loses no accuracy.",
        observable="accuracy of a network at its best λ less that at 0.4, in %", statistic=st.loss_of_selection,
        forms=("sweep/",), bound=Bound(high=0.15), of="networks",
    ),
    Claim(
        name="order", chapter="learning-rates", origin=POST,
        sentence="λ = 0.4 orders architectures as their best rates do.",
        observable="rank correlation of networks at 0.4 and at their best, "
        f"which needs {st.ENOUGH_NETWORKS} networks to say anything",
        statistic=st.rank_correlation, forms=("sweep/",), bound=Bound(low=0.85), of="networks together",
    ),
)  # fmt: skip
