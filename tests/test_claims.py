"""The rule on made-up numbers, and every claim on made-up runs just inside and just outside its bound and window."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic_run
from scipy.special import erfcx

from lib.config import CLASSIFIER, Config, layers_of
from lib.results import claims, rule, verdicts
from lib.results.open_claims import OPEN_CLAIMS
from lib.results.rule import Bound, around, decide

ALPHA, RHO, EPOCHS, STEPS = 5e-4, 0.9, 24, 5  # steps in an epoch, at .1, .3, …
PLAIN = Config(dataset="digits", width=1, momentum=0.0, lr=4.0)
HEAVY_BALL = replace(PLAIN, momentum=RHO, lr=0.4)
CONFIGS = {
    "dynamics/sgd": PLAIN,
    "dynamics/heavy-ball": HEAVY_BALL,
    "dynamics/nesterov": replace(HEAVY_BALL, nesterov=True),
    "lars/lars": replace(HEAVY_BALL, optimizer="lars"),
    "batch-size/quarter-batch": replace(HEAVY_BALL, batch_size=128, lr=0.1),
}
LAYERS = tuple(layers_of(PLAIN.architecture, PLAIN.width))
BY_NAME = {claim.name: claim for claim in claims.CLAIMS}
#: What is claimed, copied from where it was fixed: least and greatest value, and epochs.
SHEET = {
    "right angle": (None, 1e-3, (0, 24)),
    "control": (1e-3, None, (0, 24)),
    "norm change": (None, 0.01, (0, 24)),
    "balance": (0.8, 1.2, (6, 14)),
    "early peak": (5, None, (1, 10)),
    "ratio": (0.9, 1.1, (6, 14)),
    "norm equation": (None, 0.1, (2, 23)),
    "norm equation with momentum": (None, 0.1, (2, 23)),
    "end": (None, 0.1, (17, 23)),
    "correlation": (-0.05, 0.05, (2, 22)),
    "noise": (-0.58, -0.42, (5, 20)),
    "step of a batch": (1.85, 2.15, (6, 14)),
    "rotation": (0.95, 1.05, (6, 14)),
    "rotation of Nesterov": (0.95, 1.05, (6, 14)),
    "ratio with momentum": (0.85, 1.15, (6, 14)),
    "larger discrepancy": (6, None, (6, 14)),
    "slight discrepancy": (None, 0.1, (6, 14)),
    "corrected ratio": (0.95, 1.05, (6, 14)),
    "corrected ratio of Nesterov": (0.95, 1.05, (6, 14)),
    "only λ/(1−ρ)": (-0.3, 0.3, None),
    "rotation of LARS": (0.95, 1.05, (6, 14)),
    "LARS better": (0.3, None, None),
    "shared optimum": (-1, 1, None),
    "no loss": (None, 0.15, None),
    "order": (0.85, None, None),
}
COUNTS = {"early peak", "larger discrepancy"}
OVERLAP = -0.2


def run_of(form: str, seed: int = 0, R=1.0, turn=1.0, overlap=0.0, **columns):
    """A run of the form with |w|² = 1, R and turn of every layer as given, in closed form; other columns replaced."""
    config = replace(CONFIGS[form], seed=seed)
    run = synthetic_run(config, LAYERS, STEPS)
    s = run.steps.astype({c: float for c in run.steps if c != "layer"})
    lr, rho = s["lr"], config.momentum
    power = rho**2 if config.nesterov else rho
    ratio = np.sqrt(2 * lr * ALPHA * (1 - rho)) * (1 + 2 * power * overlap) ** -0.5
    if config.optimizer == "lars":
        angle = np.sqrt(2 * lr * ALPHA * (1 - rho)) * np.sqrt((1 + 2 * rho * overlap) / (1 - rho**2))
    elif config.nesterov:
        bracket = (1 + rho) ** 2 + rho**4 * (1 + 2 * rho * overlap) / (1 - rho**2)
        bracket += 2 * (1 + rho) * rho**2 * overlap
        angle = np.sqrt(2 * lr * ALPHA * (1 - rho) * bracket / (1 + 2 * rho**2 * overlap))
    else:
        angle = np.sqrt(2 * lr * ALPHA / (1 + rho))
    found = {
        "weight_norm_sq": 1.0,
        "grad_norm_sq": (_of_layers(R, s) * ratio / lr) ** 2,
        "update_norm_sq": (turn * angle) ** 2,
        "average_norm_sq": 1.0,
    }
    # the probe keeps (1−ρ) times the sum
    found |= {"grad_dot_average": 0.1 * overlap * found["grad_norm_sq"], "weight_dot_grad": 0.0}
    return replace(run, steps=s.assign(**found).assign(**columns))


def _of_layers(values, steps):
    """One value for all layers, or a list with one for each convolution."""
    if np.isscalar(values):
        return values
    return steps["layer"].astype(str).map(dict(zip(LAYERS, [*values, 1.0], strict=True))).to_numpy(float)


def seeds_of(form: str, **how):
    return {form: {seed: run_of(form, seed, **how) for seed in range(3)}}


def with_accuracies(form: str, accuracy, config=PLAIN, seeds=3):
    of_seed = [accuracy] * seeds if np.isscalar(accuracy) else accuracy
    runs = [synthetic_run(replace(config, seed=seed), LAYERS[-2:]) for seed in range(len(of_seed))]
    return {
        form: {
            seed: replace(run, steps=run.steps[:0], epochs=run.epochs.assign(test_accuracy=of_seed[seed]))
            for seed, run in enumerate(runs)
        }
    }


def cosine_of(x, layer_is):
    run = run_of("dynamics/sgd")
    s = run.steps
    cosine = np.where(layer_is(s["layer"].astype(str)), x, 0.5)
    return seeds_of("dynamics/sgd", weight_dot_grad=cosine * np.sqrt(s["grad_norm_sq"]))


def changes_by(x):
    """Growth is shrinkage, and |w|² grows by x times as much all the same."""
    run = run_of("dynamics/sgd")
    lr = run.steps["lr"].to_numpy().reshape(-1, len(LAYERS))
    norm_sq = np.vstack([np.ones(len(LAYERS)), np.cumprod(1 + x * 2 * lr * ALPHA, axis=0)[:-1]]).ravel()
    return seeds_of(
        "dynamics/sgd", weight_norm_sq=norm_sq, grad_norm_sq=2 * ALPHA / run.steps["lr"] * norm_sq
    )


def peaks_at(epoch, layers=8):
    run = run_of("dynamics/sgd")
    s = run.steps
    of_layer = s["layer"].cat.codes < layers
    at = np.where(of_layer, epoch, 20.1)
    return seeds_of("dynamics/sgd", weight_norm_sq=np.where(np.isclose(s["epoch"], at), 2.0, 1.0))


def off_equation(x, form="dynamics/sgd", overlap=0.0):
    """|w|² moves by growth and shrinkage; from epoch 2 on R is then off by x, while c(t) stays what it was."""
    run, rho = run_of(form), CONFIGS[form].momentum
    lr = run.steps["lr"].to_numpy()[:: len(LAYERS)] / (1 - rho)
    norm_sq, c_sq = np.empty(len(lr)), 1000.0
    norm_sq[0] = 1000.0
    for t in range(len(lr) - 1):
        growth = lr[t] ** 2 * c_sq / norm_sq[t] * (1 + 2 * rho * overlap)
        norm_sq[t + 1] = norm_sq[t] * (1 - lr[t] * ALPHA) ** 2 + growth
    epoch = np.floor((np.arange(len(lr)) + 0.5) / STEPS)
    sums = [np.bincount(epoch.astype(int), v) for v in (lr**2 * c_sq / norm_sq, 2 * lr * ALPHA * norm_sq)]
    R = np.sqrt(sums[0] / sums[1])[epoch.astype(int)]
    q = np.repeat(np.where(epoch < 2, 1, 1 + x / R), len(LAYERS))
    norm_sq = np.repeat(norm_sq, len(LAYERS)) / q
    grad_norm_sq = c_sq / norm_sq
    dot = 0.1 * overlap * grad_norm_sq
    return seeds_of(form, weight_norm_sq=norm_sq, grad_norm_sq=grad_norm_sq, grad_dot_average=dot)


def off_closed_form(x):
    epoch = np.floor(run_of("dynamics/sgd").steps["epoch"]) + 0.5
    s = (EPOCHS - epoch) * STEPS / np.sqrt((EPOCHS - 5) * STEPS / (2 * ALPHA * 4.0))
    closed = (1 + np.sqrt(np.pi) / 2 * erfcx(s) / s) ** -0.5
    lr = run_of("dynamics/sgd").steps["lr"]
    return seeds_of("dynamics/sgd", grad_norm_sq=(closed + x) ** 2 * 2 * ALPHA / lr)


def slopes(x, at=(5, 8, 16, 19), elsewhere=-0.5):
    rows = [
        (epoch, n, layer, n ** (2 * (x if epoch in at else elsewhere)))
        for epoch in (4, 5, 8, 16, 19, 20)
        for n in (32, 128, 512)
        for layer in LAYERS
    ]
    noise = pd.DataFrame(rows, columns=["epoch", "batch_size", "layer", "grad_norm_sq"]).assign(
        grad_product=np.nan
    )
    runs = {seed: replace(run_of("dynamics/sgd", seed), noise=noise) for seed in range(3)}
    return {"gradient-noise/frozen": {seed: replace(run, steps=run.steps[:0]) for seed, run in runs.items()}}


def correlated(x):
    gradient = np.sqrt(run_of("dynamics/heavy-ball").steps["grad_norm_sq"])
    return seeds_of("dynamics/heavy-ball", grad_dot_average=x * gradient)


def batches(x):
    lr = run_of("dynamics/heavy-ball").steps["lr"]
    whole = seeds_of("dynamics/heavy-ball", grad_norm_sq=(x / lr) ** 2)
    return whole | seeds_of("batch-size/quarter-batch", grad_norm_sq=(4 / lr) ** 2)


def further(x):
    """x layers further from the line than without momentum."""
    R = [1.2] * x + [1.0] * (8 - x)
    return seeds_of("dynamics/heavy-ball", R=R) | seeds_of("dynamics/sgd", R=1.1)


def at_distance(x):
    return seeds_of("dynamics/heavy-ball", R=[1 + x, 1 - x] * 4)


def swept(tops, heights, curvatures):
    """Accuracies that are parabolas in log₂ λ, a network for each."""
    names = ["backbone", "Residual:L1", "Residual:L2", "Residual:L3", "Extra:L1", "Extra:L2"]
    found = {}
    for name, top, height, curvature in zip(names, tops, heights, curvatures, strict=False):
        for lr in 0.4 * 2.0 ** np.arange(-3, 4):
            accuracy = height - curvature * np.log2(lr / top) ** 2
            config = replace(PLAIN, architecture=name, lr=float(lr))
            found |= with_accuracies(f"sweep/{name.lower()}-lr{lr:g}", accuracy, config)
    return found


def ordered(x):
    """Six networks whose order at 0.4 is that of their best, but for as many swaps of neighbours as give x."""
    heights, common = 0.8 + 0.01 * np.arange(6), 0.7 + 0.01 * np.arange(6)
    for i in range(round((1 - x) * 210 / 12)):
        common[[2 * i, 2 * i + 1]] = common[[2 * i + 1, 2 * i]]
    return swept([0.8] * 6, heights, heights - common)


def tuned(x):
    rates = {"lars-lr0.4": 0.9 + x / 100, "lars-lr0.2": 0.7, "heavy-ball-lr0.4": 0.8, "heavy-ball-lr0.8": 0.9}
    found = {}
    for name, accuracy in rates.items():
        optimizer = "lars" if name.startswith("lars") else "sgd"
        config = replace(PLAIN, optimizer=optimizer, lr=float(name.partition("-lr")[2]))
        found |= with_accuracies(f"tuning/{name}", accuracy, config)
    return found


#: Runs of which a claim's number is x, in every layer and epoch.
AT = {
    "right angle": lambda x: cosine_of(x, lambda layer: layer != CLASSIFIER),
    "control": lambda x: cosine_of(x, lambda layer: layer == CLASSIFIER),
    "norm change": changes_by,
    "balance": lambda x: seeds_of("dynamics/sgd", R=np.sqrt(x)),
    "early peak": lambda x: peaks_at(5.1, x),
    "ratio": lambda x: seeds_of("dynamics/sgd", R=x),
    "norm equation": off_equation,
    "norm equation with momentum": lambda x: off_equation(x, "dynamics/heavy-ball", OVERLAP),
    "end": off_closed_form,
    "correlation": correlated,
    "noise": slopes,
    "step of a batch": batches,
    "rotation": lambda x: seeds_of("dynamics/heavy-ball", turn=x, overlap=OVERLAP),
    "rotation of Nesterov": lambda x: seeds_of("dynamics/nesterov", turn=x, overlap=OVERLAP),
    "ratio with momentum": lambda x: seeds_of("dynamics/heavy-ball", R=x),
    "larger discrepancy": further,
    "slight discrepancy": at_distance,
    "corrected ratio": lambda x: seeds_of("dynamics/heavy-ball", R=x, overlap=OVERLAP),
    "corrected ratio of Nesterov": lambda x: seeds_of("dynamics/nesterov", R=x, overlap=OVERLAP),
    "only λ/(1−ρ)": lambda x: (
        with_accuracies("dynamics/sgd", 0.9 + x / 100) | with_accuracies("dynamics/heavy-ball", 0.9)
    ),
    "rotation of LARS": lambda x: seeds_of("lars/lars", turn=x, overlap=OVERLAP),
    "LARS better": tuned,
    "shared optimum": lambda x: swept([0.4, 0.4 * 2**x], [0.8, 0.8], [0.01, 0.01]),
    "no loss": lambda x: swept([0.8, 0.4], [0.8, 0.8], [x / 100, 0.01]),
    "order": ordered,
}


def judge(name, runs):
    """The verdict without the worst epoch, which takes no part in it."""
    return verdicts.judge(replace(BY_NAME[name], single=False), runs)


def just(name):
    """Pairs of values just inside and just outside each end of a claim's bound, as the sheet has it."""
    low, high, _ = SHEET[name]
    if name in COUNTS:
        return [(low, low - 1)]
    if name == "order":
        return [(1 - 24 / 210, 1 - 36 / 210)]  # what permutations of six allow next to 0.85
    width = abs(high - low) if None not in (low, high) else abs(high or low)
    step = 0.03 * width
    ends = [(low + step, low - step)] if low is not None else []
    return ends + ([(high - step, high + step)] if high is not None else [])


def test_the_sheet_has_every_claim():
    assert list(BY_NAME) == [c.name for c in claims.CLAIMS]  # no name twice
    open_questions = {claim.name for claim in OPEN_CLAIMS}  # whose sheet is in test_open_questions
    assert set(BY_NAME) - open_questions == set(SHEET) == set(AT)
    assert {claim.origin for claim in claims.CLAIMS} == {claims.POST, claims.OURS}


@pytest.mark.parametrize("name", SHEET)
def test_just_inside_holds_and_just_outside_fails(name):
    for inside, outside in just(name):
        found = judge(name, AT[name](inside))
        assert found.verdict == rule.HOLDS, (inside, found.layers)
        assert found.seeds == 3
        assert found.layers["mean"].iloc[0] == pytest.approx(inside, abs=0.2 * abs(inside - outside))
        assert judge(name, AT[name](outside)).verdict == rule.FAILS, outside


@pytest.mark.parametrize("name", [name for name in SHEET if SHEET[name][2]])
def test_the_window_is_the_sheets(name):
    assert BY_NAME[name].epochs == SHEET[name][2]


# before the window, more than c(t) is disturbed: the overlap, too, which drives the equation with momentum
UNDISTURBED = ("control", "early peak", "noise", "norm equation with momentum")
WINDOWS = [name for name in SHEET if SHEET[name][2] and name not in UNDISTURBED]


@pytest.mark.parametrize("name", WINDOWS)
def test_the_last_row_inside_a_window_counts_and_the_first_outside_does_not(name):
    low, high, (first, last) = SHEET[name]
    middle = (
        (low + high) / 2 if None not in (low, high) else 8 if name in COUNTS else 2 * low if low else high / 2
    )
    runs = AT[name](middle)
    form = BY_NAME[name].forms[-1]
    undisturbed = judge(name, runs)
    assert undisturbed.verdict == rule.HOLDS
    for epoch in (first + 0.1, last - 0.1):
        assert judge(name, disturbed(runs, form, epoch)).verdict == rule.FAILS, epoch
    for epoch in (first - 0.1, last + 0.1):
        found = judge(name, disturbed(runs, form, epoch))
        pd.testing.assert_frame_equal(found.layers, undisturbed.layers)


def disturbed(runs, form, epoch):
    """The runs with one step of a form much longer, and c = |g||w| as it was."""

    def disturb(run):
        s = run.steps.copy()
        at = np.isclose(s["epoch"], epoch)
        kept = s["layer"] != CLASSIFIER
        s.loc[at & kept, ["grad_norm_sq", "update_norm_sq"]] *= 1e3
        s.loc[at & kept, "weight_norm_sq"] /= 1e3
        s.loc[at, "grad_dot_average"] += 1e6
        # w·g: a right angle is one no more, and that of the classifier is one
        s.loc[at & kept, "weight_dot_grad"] = 1e6
        return replace(run, steps=s)

    return runs | {form: {seed: disturb(run) for seed, run in runs[form].items()}}


def test_the_window_of_peaks():
    for epoch, verdict in ((0.9, rule.FAILS), (1.1, rule.HOLDS), (9.9, rule.HOLDS), (10.1, rule.FAILS)):
        assert judge("early peak", peaks_at(epoch)).verdict == verdict


def test_the_window_of_slopes():
    for epoch, verdict in ((4, rule.HOLDS), (5, rule.FAILS), (19, rule.FAILS), (20, rule.HOLDS)):
        assert judge("noise", slopes(0.5, at=(epoch,))).verdict == verdict


@pytest.mark.parametrize("name, x", [("right angle", 4e-3), ("norm change", 0.018), ("control", 4e-3)])
def test_runs_in_bf16_have_their_own_bound(name, x):
    runs = AT[name](x)
    other = {
        form: {
            seed: replace(run, config=replace(run.config, precision="bf16")) for seed, run in seeds.items()
        }
        for form, seeds in runs.items()
    }
    found = [judge(name, r).verdict for r in (runs, other)]
    assert found == ([rule.HOLDS, rule.FAILS] if name == "control" else [rule.FAILS, rule.HOLDS])


def test_what_is_read_is_made_from_what_decides():
    claim = BY_NAME["ratio"]
    assert str(claim.bound) in claim.bound_text and claim.looked_at == "R; epochs 6–14 of 24"
    other = replace(claim, bound=around(1, 0.07), epochs=(5, 13))
    assert "0.07" in other.bound_text and "5–13" in other.looked_at
    table = verdicts.table([(other, verdicts.judge(other, AT["ratio"](1.08)))])
    assert table.loc[claim.sentence, "bound"] == "1 ± 0.07"
    assert table.loc[claim.sentence, "verdict"].startswith("fails: 0 of 8; 1.08; worst epoch 1.08; 3 seeds")


@pytest.mark.parametrize(
    "bound, text",
    [
        (around(1, 0.05), "1 ± 0.05"),
        (around(-0.5, 0.08), "−0.5 ± 0.08"),
        (Bound(1.03, 1.28), "1.155 ± 0.125"),
        (Bound(high=-1), "≤ −1"),
        (around(0, 0.3), "± 0.3"),
        (Bound(high=0.001, strict=True), "< 0.001"),
        (Bound(high=0.1), "≤ 0.1"),
        (Bound(low=5), "≥ 5"),
    ],
)
def test_bounds_in_words(bound, text):
    assert str(bound) == text


def table_of(**layers):
    return pd.DataFrame(layers)


def test_the_interval_is_students():
    """Of 1, 2 and 3: 2 ± 2.920 · 1/√3, with the 95 % quantile of t with two degrees of freedom."""
    low, high = rule.interval(table_of(a=[1.0, 2.0, 3.0]))
    assert [low["a"], high["a"]] == pytest.approx([2 - 2.91999 / 3**0.5, 2 + 2.91999 / 3**0.5], abs=1e-4)


@pytest.mark.parametrize(
    "a, b, verdict",
    [
        ([0.99, 1.00, 1.01], [1.02, 1.03, 1.04], rule.HOLDS),
        ([0.99, 1.00, 1.01], [1.08, 1.09, 1.10], rule.NOT_RESOLVED),  # the interval goes on to 1.107
        ([0.99, 1.00, 1.01], [1.18, 1.19, 1.20], rule.FAILS),
        ([0.99, 1.00, 1.01], [0.60, 1.00, 1.40], rule.NOT_RESOLVED),  # too much scatter to say
        ([0.5, 0.5, 0.5], [0.60, 1.00, 1.40], rule.FAILS),  # one layer that is out is enough
        ([1.1, 1.1, 1.1], [0.9, 0.9, 0.9], rule.HOLDS),  # the ends belong to a bound
        ([0.99, 1.00], [1.02, 1.04], rule.INSIDE),
        ([0.99, 1.00], [1.10, 1.12], rule.OUTSIDE),
        ([1.0], [1.1], rule.INSIDE),
        ([1.0, 1.0, 1.0], [np.nan, 1.0, 1.0], rule.NOT_RESOLVED),
    ],
)
def test_the_rule(a, b, verdict):
    assert decide(table_of(a=a, b=b), around(1, 0.1)).verdict == verdict


def test_a_strict_bound_excludes_its_end():
    assert decide(table_of(a=[0.125] * 3), Bound(high=0.125)).verdict == rule.HOLDS
    assert decide(table_of(a=[0.125] * 3), Bound(high=0.125, strict=True)).verdict == rule.FAILS


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("bound", [around(1, 0.1), Bound(high=0.1), Bound(low=0.3)])
def test_at_the_bound_one_claim_in_twenty_passes(seeds, bound):
    """A layer whose true value is at the bound, with scatter far below the bound's width."""
    studies, layers = 20_000, 8
    end = bound.high if np.isfinite(bound.high) else bound.low
    numbers = np.random.default_rng(1).normal(end, 0.01, (seeds, studies))
    found = decide(pd.DataFrame(numbers), bound).layers
    # sampling error of a share of 5 % is 0.15 %
    assert found["inside"].mean() == pytest.approx(0.05, abs=0.006)
    assert found["outside"].mean() == pytest.approx(0.05, abs=0.006)
    # of claims about several layers, all of which have to be inside, hardly any passes
    assert found["inside"].to_numpy().reshape(-1, layers).all(axis=1).mean() < 0.05


@pytest.mark.parametrize("distance, share", [(-0.03, 0.99), (0.03, 0.0)])
def test_at_a_distance_from_the_bound_the_rule_decides(distance, share):
    """Three standard deviations inside or outside, five seeds."""
    numbers = np.random.default_rng(2).normal(1.1 + distance, 0.01, (5, 20_000))
    inside = decide(pd.DataFrame(numbers), around(1, 0.1)).layers["inside"].mean()
    assert inside == pytest.approx(share, abs=0.011)


def test_the_count_names_who_is_out():
    def count(**layers):
        return decide(table_of(**{k: [v] * 3 for k, v in layers.items()}), around(1, 0.1)).count

    assert count(a=1, b=1, c=2) == "2 of 3, all but c"
    assert count(a=1, b=2, c=2) == "1 of 3: a"
    assert count(a=1, b=1) == "2 of 2" and count(a=2, b=2) == "0 of 2"
    assert count(a=1) == "–"


def test_the_reason_names_the_layer_that_is_furthest_out():
    found = decide(table_of(a=[1.0] * 3, b=[1.3] * 3, c=[0.5] * 3), around(1, 0.1))
    assert found.reason == "c: 0.50 to 0.50 lies outside"
    found = decide(table_of(a=[1.0] * 3, b=[1.05, 1.1, 1.15]), around(1, 0.1))
    assert found.reason.startswith("b: ") and found.reason.endswith("crosses the bound")
    assert decide(table_of(a=[1.0]), around(1, 0.1)).reason == "1 seed: no interval"


def test_the_worst_epoch_stands_beside_and_decides_nothing():
    runs = seeds_of("dynamics/sgd")
    bad = runs["dynamics/sgd"][1]
    at = bad.steps["epoch"].between(8, 9) & (bad.steps["layer"] == "layer2")
    bad.steps.loc[at, "grad_norm_sq"] *= 1.4**2
    found = verdicts.judge(BY_NAME["ratio"], runs)
    assert found.verdict == rule.HOLDS and found.worst == pytest.approx(1.4, rel=1e-3)
    assert found.layers["worst"].drop("layer2").to_numpy() == pytest.approx(1, abs=1e-3)


def test_a_seed_counts_only_with_all_that_is_looked_at():
    runs = further(8)
    del runs["dynamics/sgd"][1]
    assert judge("larger discrepancy", runs).seeds == 2
    assert judge("ratio with momentum", runs).seeds == 3  # it needs no sgd
    one = runs["dynamics/sgd"][0]
    runs["dynamics/sgd"][0] = replace(one, steps=one.steps[:0])
    assert judge("ratio", runs).seeds == 1
    runs["dynamics/sgd"].clear()
    assert judge("ratio", runs) is None


def test_a_run_so_short_that_some_of_its_24th_parts_have_no_step():
    config = replace(PLAIN, epochs=4, peak_epoch=1.0)
    runs = {}
    for form, of in CONFIGS.items():
        c = replace(of, epochs=4, peak_epoch=1.0)
        runs[form] = {seed: synthetic_run(replace(c, seed=seed), LAYERS, 3) for seed in range(3)}
    assert config.epochs / 24 < 1 / 3  # a step is longer
    for claim in claims.CLAIMS:
        if claim.epochs and claim.forms[0] in runs:
            found = verdicts.judge(claim, runs)
            assert found.seeds == 3 and found.layers["mean"].notna().all(), claim.name


def test_accuracies_are_paired_by_seed():
    """Seeds that are good for both: their difference scatters less than either."""
    luck = np.array([0, 0.02, -0.02])
    runs = with_accuracies("dynamics/sgd", 0.9 + luck) | with_accuracies("dynamics/heavy-ball", 0.901 + luck)
    found = judge("only λ/(1−ρ)", runs)
    assert found.verdict == rule.HOLDS and found.layers["high"].iloc[0] == pytest.approx(-0.1, abs=1e-6)


def test_the_equation_is_driven_by_the_others_alone():
    """What one seed's gradients do moves the predictions of the others, not its own; one seed predicts nothing."""
    runs = off_equation(0.0)
    s = runs["dynamics/sgd"][0].steps
    s["grad_norm_sq"] *= 4
    table = BY_NAME["norm equation"].statistic(runs, (2, 23))
    assert (table.loc[0] > 0.5).all()  # its own R is twice what the others make of it
    assert (table.loc[1:] > 0.05).all(axis=None) and (table.loc[1:] < 0.5).all(axis=None)
    alone = {"dynamics/sgd": {0: runs["dynamics/sgd"][1]}}
    assert judge("norm equation", alone) is None


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    runs = tuned(0.5)
    expected = judge("LARS better", runs).layers
    gone = with_accuracies("tuning/lars-lr3.2", 0.99, replace(PLAIN, optimizer="lars", lr=3.2))
    one = gone["tuning/lars-lr3.2"][1]
    gone["tuning/lars-lr3.2"][1] = replace(one, diverged_at=3, epochs=one.epochs[:0])
    pd.testing.assert_frame_equal(judge("LARS better", runs | gone).layers, expected)


def test_the_order_of_few_networks_is_not_resolved():
    few = {form: of for form, of in ordered(1).items() if "extra:l2" not in form}
    found = judge("order", few)
    assert found.verdict == rule.NOT_RESOLVED and found.reason == "not enough to tell"


def test_the_tables_hold_every_claim_once(monkeypatch):
    runs = {}
    for name in ("ratio", "only λ/(1−ρ)", "noise"):
        runs = AT[name](SHEET[name][0] * 1.02) | runs
    judged = verdicts.judged(claims.CLAIMS, runs)
    table = verdicts.table(judged)
    assert table.index.is_unique and len(table) == len(claims.CLAIMS)
    chapters = dict.fromkeys(claim.chapter for claim in claims.CLAIMS)
    assert [c for chapter in chapters for c in claims.of_chapter(chapter)] == list(claims.CLAIMS)
    with pytest.raises(ValueError, match="chapter='x' has no claims; it must be one of dynamics, "):
        claims.of_chapter("x")
    monkeypatch.setattr(verdicts, "recorded", lambda scale: runs if scale == "small" else {})
    table = verdicts.side_by_side()
    small = next(column for column in table if column.startswith("small"))
    assert small == "small (width 8; the bounds are those of width 64)" and "paper (width 64)" in table
    assert (table["paper (width 64)"] == verdicts.NOT_RECORDED).all()
    assert table.loc[BY_NAME["ratio"].sentence, small].startswith("holds: 8 of 8; ")


def test_recorded_has_every_planned_form(records_in):
    planned = verdicts.recorded("small")
    assert {"dynamics/sgd", "lars/lars", "sweep/backbone-lr0.05"} < set(planned)
    assert not any(planned.values())
