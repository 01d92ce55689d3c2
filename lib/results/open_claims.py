"""The claims on the post's open questions: predictions and rules, fixed before their runs were recorded.

They are ours. The date of a claim is that of the commit which brought it; no bound has moved since.
"""

from functools import partial

from . import open_questions as oq
from . import statistics as st
from .claim import OURS, Claim
from .rule import Bound, around
from .statistics import of_each_seed

SGD, LARS = "lars-parts/heavy-ball", "lars-parts/lars"
IN_PERCENT = "in %, seed by seed"
of_plateau, of_lars, of_start, of_adam, of_layers, of_decay = (
    partial(Claim, chapter=chapter, origin=OURS)
    for chapter in ("plateau", "lars-parts", "start", "adam", "layers", "decay")
)


def _stationary(name: str, form: str, of: str) -> Claim:
    return of_plateau(
        name=f"plateau{name}",
        sentence=f"While λ stays, the formulas are exact: {of}.",
        observable="R√(1+2ρo) over √(1 + τ d ln c²/dt), with ρ² for Nesterov",
        statistic=of_each_seed(oq.stationary_ratio), forms=(f"plateau/{form}",), bound=around(1, 0.03),
        epochs=oq.WINDOW,
    )  # fmt: skip


def _recovery(scale: str, bound: Bound) -> Claim:
    return of_start(
        name=f"recovery from {scale}",
        sentence=f"From {scale} times the initial norms R comes back when the norm equation says.",
        observable="the first epoch, from 0, in which R is 0.9 of that from the usual norms; 24: in none",
        statistic=of_each_seed(oq.recovery), forms=(f"start/sgd-x{float(scale):g}", SGD), bound=bound,
        epochs=(0, 24), single=False,
    )  # fmt: skip


OPEN_CLAIMS = (
    _stationary("", "sgd", "without momentum"),
    _stationary(" with heavy-ball", "heavy-ball", "with heavy-ball"),
    _stationary(" with Nesterov", "nesterov", "with Nesterov"),
    of_plateau(
        name="rotation on the plateau", sentence="While λ stays, heavy-ball turns by √(2λα/(1+ρ)), or hardly more.",
        observable="|Δw|/|w| over that angle", statistic=of_each_seed(st.rotation), forms=("plateau/heavy-ball",),
        bound=Bound(1, 1.02), epochs=oq.WINDOW,
    ),
    of_plateau(
        name="filters", sentence="Each filter by itself is in equilibrium, as batch norm follows each.",
        observable=f"share of the filters within {oq.OF_A_FILTER:g} of the prediction",
        statistic=of_each_seed(oq.filters_within),
        forms=("plateau/sgd", "plateau/heavy-ball", "plateau/nesterov"), bound=Bound(low=0.9), epochs=oq.WINDOW,
        single=False,
    ),
    of_plateau(
        name="no decay", sentence="Without weight decay there is no equilibrium: the control.",
        observable="R, with the line of α = 0.0005", statistic=of_each_seed(oq.ratio_to_line_of),
        forms=("plateau/no-decay", "plateau/heavy-ball"), bound=Bound(high=0.9), epochs=oq.WINDOW, single=False,
    ),
    of_lars(
        name="clipped", sentence="SGD with |g| clipped at 1.25 of its running rms trains as SGD does.",
        observable=f"training accuracy less that of SGD, {IN_PERCENT}", statistic=of_each_seed(oq.train_difference),
        forms=("lars-parts/clipped", SGD), bound=around(0, 0.3),
    ),
    of_lars(
        name="smoothed", sentence="LARS with smoothed norms of gradients trains as LARS does.",
        observable=f"training accuracy less that of LARS, {IN_PERCENT}", statistic=of_each_seed(oq.train_difference),
        forms=("lars-parts/lars-smoothed", LARS), bound=around(0, 0.3),
    ),
    of_lars(
        name="annealed", sentence="LARS with the end of SGD closes half of the gap or more.",
        observable="share of the gap in training accuracy from LARS to SGD", statistic=oq.gap_closed,
        forms=("lars-parts/lars-annealed", SGD, LARS), bound=Bound(low=0.5),
    ),
    of_lars(
        name="turning", sentence="LARS that turns as SGD does trains as SGD does.",
        observable=f"training accuracy less that of SGD, {IN_PERCENT}", statistic=of_each_seed(oq.train_difference),
        forms=("lars-parts/lars-turning", SGD), bound=around(0, 0.3),
    ),
    of_lars(
        name="decay that follows", sentence="With decay that follows λ, SGD keeps its equilibrium to the end.",
        observable="R, with the line of each step's α", statistic=of_each_seed(oq.ratio_with_its_decay),
        forms=("lars-parts/decay-follows",), bound=Bound(1.03, 1.28), epochs=(23, 24), single=False,
    ),
    of_lars(
        name="it is clipping", sentence="What LARS does is clipping.",
        observable="the larger share of the gap in training accuracy that clipping SGD, or smoothing LARS, moves",
        statistic=oq.gap_of_clipping, forms=("lars-parts/clipped", "lars-parts/lars-smoothed", SGD, LARS),
        bound=Bound(low=0.7, strict=True),
    ),
    of_lars(
        name="it is annealing", sentence="What LARS does is to leave out SGD's annealing.",
        observable="share of the gap in training accuracy that the end of SGD closes", statistic=oq.gap_closed,
        forms=("lars-parts/lars-annealed", SGD, LARS), bound=Bound(low=0.7, strict=True),
    ),
    _recovery("0.125", Bound(high=0)),
    _recovery("4", Bound(5, 8)),
    _recovery("8", Bound(8, 13)),
    _recovery("16", Bound(low=14)),
    of_start(
        name="LARS from any norm", sentence="LARS trains alike from any initial norm.",
        observable=f"training accuracy less that from the usual norms, {IN_PERCENT}, by scale",
        statistic=of_each_seed(oq.scale_differences), forms=("start/lars-", LARS), bound=around(0, 0.3),
    ),
    of_start(
        name="SGD from large norms", sentence="From 16 times the initial norms SGD loses a percentage point or more.",
        observable=f"training accuracy less that from the usual norms, {IN_PERCENT}",
        statistic=of_each_seed(oq.train_difference), forms=("start/sgd-x16", SGD), bound=Bound(high=-1),
    ),
    of_start(
        name="LARS wins", sentence="From 16 times the initial norms LARS clearly wins: what the post looked for.",
        observable=f"training accuracy of LARS less that of SGD, {IN_PERCENT}",
        statistic=of_each_seed(oq.train_difference), forms=("start/lars-x16", "start/sgd-x16"), bound=Bound(low=0.3),
    ),
    of_start(
        name="LARS wins in the test", sentence="And so it does on images that it has not seen.",
        observable=f"test accuracy of LARS less that of SGD, {IN_PERCENT}",
        statistic=of_each_seed(st.accuracy_difference), forms=("start/lars-x16", "start/sgd-x16"),
        bound=Bound(low=0.3),
    ),
    of_adam(
        name="rotation of AdamW", sentence="AdamW turns every layer by √(2λα(1−β₁)/(1+β₁)) a step.",
        observable="|Δw|/|w| over that angle", statistic=of_each_seed(oq.turn_of_adamw), forms=("adam/adamw-x1",),
        bound=around(1, 0.1), epochs=oq.WINDOW,
    ),
    of_adam(
        name="alike with AdamW", sentence="Layers turn alike with AdamW.",
        observable="|Δw|/|w| of the layer that turns most, over that of the one that turns least, less 1",
        statistic=of_each_seed(oq.spread_of_turns), forms=("adam/adamw-x1",), bound=Bound(high=0.1),
        epochs=oq.WINDOW,
    ),
    of_adam(
        name="apart with Adam", sentence="With decay in Adam's gradient they do not.",
        observable="|Δw|/|w| of the layer that turns most, over that of the one that turns least, less 1",
        statistic=of_each_seed(oq.spread_of_turns), forms=("adam/l2-x1",), bound=Bound(low=0.3), epochs=oq.WINDOW,
    ),
    of_layers(
        name="rotation of one layer", sentence="A layer with eight times the λ turns √8 = 2.83 times as far.",
        observable="change of |Δw|/|w|, over √8", statistic=of_each_seed(oq.turn_of_the_layer),
        forms=("layers/baseline", "layers/up-"), bound=around(1, 0.05), epochs=oq.WINDOW, single=False,
    ),
    of_layers(
        name="rotation of the others", sentence="And the other layers turn as before.",
        observable="largest change of |Δw|/|w| of another layer, as a fraction",
        statistic=of_each_seed(oq.turn_of_others), forms=("layers/baseline", "layers/up-"), bound=Bound(high=0.03),
        epochs=oq.WINDOW, single=False,
    ),
    of_layers(
        name="only λα of a layer", sentence="With an eighth of the α besides, it turns as before: the control.",
        observable="change of |Δw|/|w|", statistic=of_each_seed(oq.turn_of_the_layer),
        forms=("layers/baseline", "layers/control-"), bound=around(1, 0.05), epochs=oq.WINDOW, single=False,
    ),
    of_layers(
        name="optima of layers", sentence="No layer wants a learning rate of its own.",
        observable="octaves from the common λ to the top of a parabola through training accuracies at ⅛, 1, 8",
        statistic=of_each_seed(oq.vertices), forms=("layers/baseline", "layers/up-", "layers/down-"),
        bound=around(0, 1),
    ),
    of_decay(
        name="step without decay", sentence="Without decay a step forgets λ: |w|⁴ = |w₀|⁴ + 2Σλ̃²c².",
        observable="slope of log |Δw|/|w| against log λ", statistic=of_each_seed(oq.slopes_of_turns),
        forms=("decay/backbone-decay0-", "decay/residual-l1+l2+l3-decay0-"), bound=around(0, 0.1),
        epochs=oq.WINDOW, single=False,
    ),
    of_decay(
        name="step with decay", sentence="With ten times the decay it has the λ of equilibrium.",
        observable="slope of log |Δw|/|w| against log λ", statistic=of_each_seed(oq.slopes_of_turns),
        forms=("decay/backbone-decay0.005-", "decay/residual-l1+l2+l3-decay0.005-"), bound=around(0.5, 0.05),
        epochs=oq.WINDOW, single=False,
    ),
    of_decay(
        name="optimum with decay", sentence="With ten times the decay two networks share an optimal λ.",
        observable="octaves from the best λ of one network to that of the other, by training accuracy",
        statistic=of_each_seed(oq.octaves_between),
        forms=("decay/backbone-decay0.005-", "decay/residual-l1+l2+l3-decay0.005-"), bound=around(0, 1),
    ),
    of_decay(
        name="no optimum without", sentence="Without decay there is no optimum: λ from 0.4 up does not matter.",
        observable="largest training accuracy less least, in %", statistic=of_each_seed(oq.range_of_accuracy),
        forms=("decay/backbone-decay0-", "decay/residual-l1+l2+l3-decay0-"), bound=Bound(high=1),
    ),
)  # fmt: skip
