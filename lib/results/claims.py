"""The claims of the post, and ours, each decided by a number.

A claim is one value: what it says, what is looked at, in which epochs, and the bound. What a reader sees of
it is made from the numbers that decide. `lib.results.verdicts` judges it.
"""

from . import statistics as st
from .claim import OURS, POST, Claim
from .open_claims import OPEN_CLAIMS
from .rule import Bound, around
from .statistics import of_each_seed

SGD, HEAVY_BALL, NESTEROV = "dynamics/sgd", "dynamics/heavy-ball", "dynamics/nesterov"
LARS, QUARTER_BATCH, FROZEN = "lars/lars", "batch-size/quarter-batch", "gradient-noise/frozen"


def of_chapter(chapter: str | None) -> list[Claim]:
    """The claims of a chapter, or all; raises ValueError when it has none."""
    chosen = [claim for claim in CLAIMS if chapter in (None, claim.chapter)]
    if not chosen:
        raise ValueError(f"chapter={chapter!r} has no claims; it must be one of {', '.join(CHAPTERS)}")
    return chosen


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
        bound=Bound(low=1e-3), bf16=Bound(low=5e-3), epochs=(0, 24), single=False,
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
        forms=(SGD,), bound=Bound(low=5), epochs=(1, 10), single=False,
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
        forms=(HEAVY_BALL, SGD), bound=Bound(low=6), epochs=(6, 14),
    ),
    Claim(
        name="slight discrepancy", chapter="momentum", origin=POST, sentence="But it is slight.",
        observable="median |R − 1| of the layers", statistic=of_each_seed(st.median_distance),
        forms=(HEAVY_BALL,), bound=Bound(high=0.1), epochs=(6, 14),
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
        name="norm equation with momentum", chapter="momentum", origin=OURS,
        sentence="With its overlap, the norm equation of heavy-ball predicts R from the gradients of other seeds.",
        observable="R − R of the equation, rms over epochs", statistic=st.against_equation, forms=(HEAVY_BALL,),
        bound=Bound(high=0.1), epochs=(2, 23),
    ),
    Claim(
        name="only λ/(1−ρ)", chapter="momentum", origin=POST,
        sentence="Only λ/(1−ρ) matters, not λ or ρ by itself.",
        observable="test accuracy at ρ = 0 less that at ρ = 0.9, in percentage points, seed by seed",
        statistic=of_each_seed(st.accuracy_difference), forms=(SGD, HEAVY_BALL), bound=around(0, 0.3),
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
        observable="test accuracy of LARS less that of heavy-ball, in percentage points, seed by seed, "
        "each at its best λ tried",
        statistic=st.tuned_difference, forms=("tuning/lars-", "tuning/heavy-ball-"), bound=Bound(low=0.3),
    ),
    Claim(
        name="shared optimum", chapter="learning-rates", origin=POST,
        sentence="Architectures share an optimal learning rate.",
        observable="octaves from the best λ of one network to that of another", statistic=st.octaves_apart,
        forms=("sweep/",), bound=around(0, 1),
    ),
    Claim(
        name="no loss", chapter="learning-rates", origin=POST, sentence="λ = 0.4 loses no accuracy.",
        observable="accuracy of a network at its best λ less that at 0.4, in percentage points",
        statistic=st.loss_of_selection, forms=("sweep/",), bound=Bound(high=0.15),
    ),
    Claim(
        name="order", chapter="learning-rates", origin=POST,
        sentence="λ = 0.4 orders architectures as their best rates do.",
        observable="rank correlation of networks at 0.4 and at their best, "
        f"which needs {st.ENOUGH_NETWORKS} networks to say anything",
        statistic=st.rank_correlation, forms=("sweep/",), bound=Bound(low=0.85),
    ),
    *OPEN_CLAIMS,
)  # fmt: skip
#: Those that have claims, in their order.
CHAPTERS = tuple(dict.fromkeys(claim.chapter for claim in CLAIMS))
