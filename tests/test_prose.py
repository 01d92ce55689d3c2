import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run

from lib import experiments, library, paths, scales
from lib.config import Config
from lib.records import NotRecordedError
from lib.results import (
    analysis,
    filters,
    numbers,
    phrases,
    prose,
    recipes,
    rule,
    statistics,
    summaries,
    sweeps,
    widths,
)

POST = Config(dataset="digits", width=1)  # its 24 epochs, and an equilibrium window of 6 to 14
R = pd.Series(
    [0.8, 1.1, 2.0], index=pd.CategoricalIndex(LAYERS, categories=LAYERS, ordered=True, name="layer")
)


def test_where_equation_and_run_differ():
    layers = pd.Categorical(np.repeat(LAYERS, 8), categories=LAYERS)
    epochs = np.arange(8) + 0.5
    table = pd.DataFrame({"layer": layers, "epoch": [*epochs] * 3, "R": 1.0, "R_ode": 1.0, "R_others": 1.0})
    table["R_end"] = 0.5
    off = np.zeros((3, 8))
    off[:, 0] = 0.9  # the first two epochs do not count
    off[0, 3], off[1, 4], off[2, 5], off[:2, 7] = -0.1, 0.3, 0.7, [0.2, 0.0]
    table["R"] += off.ravel()
    found = numbers.equation_numbers(table, after_epoch=2)
    assert found == pytest.approx(
        {
            "equation_difference": 0.3,
            "equation_difference_classifier": 0.7,
            "others_difference": 0.3,
            "others_epoch": 4,
            "others_layer": "layer1",
            "end_measured": 1.1,
            "end_equation": 1.0,
            "end_others": 1.0,
            "end_closed": 0.5,
            "late_measured": 1.0,
            "late_equation": 1.0,
            "late_others": 1.0,
            "late_closed": 0.5,
            "late_epoch": 6,  # 7 24ths of the run, before the end
            "end_epoch": 7,
        }
    )
    alone = numbers.equation_numbers(table.assign(R_others=np.nan))
    assert alone["others_epoch"] == numbers.NONE


def test_numbers_of_the_prose_leave_out_the_classifier():
    table = pd.DataFrame({"R": R, "R_corrected": R + 0.15})
    assert numbers.of_equilibrium(table, tolerance=0.15) == {
        "layers": 2,
        "classifier": 2.0,
        "low": 0.8,
        "high": 1.1,
        "within": 1,
        "corrected_low": 0.95,
        "corrected_high": 1.25,
        "corrected_within": 1,
    }


def test_norm_numbers_are_the_extremes_of_the_convolutions():
    run = synthetic_run(POST)  # its norms are of order 1
    s = run.steps.astype({"layer": str})
    at = {"prep": 3.1, "layer1": 12.3, "classifier": 20.1}  # the epoch of each peak
    peak = s["epoch"].to_numpy() == s["layer"].map(at).to_numpy(dtype=np.float32)
    assert peak.sum() == 3
    dot = s["layer"].map({"prep": 1e-4, "layer1": -2e-4, "classifier": 0.5})
    steps = run.steps.assign(
        weight_norm_sq=np.where(peak, 9.0, s["weight_norm_sq"]),
        weight_dot_grad=dot * np.sqrt(s["grad_norm_sq"] * np.where(peak, 9.0, s["weight_norm_sq"])),
    )
    found = numbers.norm_numbers(analysis.dynamics(replace(run, steps=steps)))
    jump, layer = found.pop("jump"), found.pop("jump_layer")
    norms = steps.astype({"layer": str}).groupby("layer")["weight_norm_sq"].pct_change()
    expected = norms[steps["layer"] != "classifier"]
    assert jump == pytest.approx(100 * expected.max(), abs=0.1) and layer == steps["layer"][expected.idxmax()]
    assert found == pytest.approx(
        {
            "cosine_convolutions": "2.0 × 10⁻⁴",
            "cosine_classifier": 0.5,
            "layers": 2,
            "peak_first": 3.1,
            "peak_last": 12.3,
        }
    )


def test_relaxation_is_of_the_peak():
    assert numbers.relaxation_numbers(synthetic_run(POST)) == {
        "lr": 0.4,
        "relaxation": 125.0,  # 0.1/(4 · 0.4 · 5e-4)
        "relaxation_epochs": 25.0,
    }


def with_columns(config, **columns):
    """A run with some of its quantities given; the others are random."""
    run = synthetic_run(config)
    return replace(run, steps=run.steps.assign(**columns))


def test_quotient_of_two_batch_sizes():
    quarter = replace(POST, batch_size=128, lr=0.1)
    runs = [
        with_columns(c, weight_norm_sq=1.0, grad_norm_sq=norm_sq)
        for c, norm_sq in ((POST, 1.0), (quarter, 4.0), (quarter, 16.0))
    ]
    # λ is a quarter and |g| twice or four times as large: the step is a half, or as long
    found = numbers.quotient_numbers(runs[:1], runs[1:2])
    assert found["quotient_low"] == found["quotient_high"] == pytest.approx(2.0)
    assert found["within"] == found["whole_layers"] == 2
    found = numbers.quotient_numbers(runs[:1], runs[2:])
    assert found["quotient_high_rest"] == pytest.approx(1.0) and found["within"] == 0


def test_lars_beside_sgd():
    sgd = with_columns(POST, update_norm_sq=1.0, weight_norm_sq=4.0)
    steps = sgd.steps["step"].to_numpy()
    lars = with_columns(
        replace(POST, optimizer="lars"), update_norm_sq=1.0 * (1 + steps), weight_norm_sq=1.0 * (1 + steps)
    )
    found = numbers.beside_numbers(sgd, lars)
    assert found["turn_low"] == found["turn_high"] == pytest.approx(2.0)
    assert found["growth_low"] == found["growth_high"] == steps.max() + 1
    lr = POST.lr_schedule((np.arange(120) + 0.5) / 5)
    # uncorrelated gradients: |w|² grows by λ²/(1−ρ)² a step, here ≈ 2λα/(1−ρ)
    assert found["growth_expected"] == pytest.approx(np.prod(1 + 2 * lr * 5e-4 / 0.1), rel=0.01)


def test_correlation_is_averaged_over_all_but_the_ends():
    run = with_columns(POST, grad_norm_sq=1.0, average_norm_sq=1.0)
    s = run.steps
    kappa = s["layer"].map({"prep": -0.3, "layer1": 0.1, "classifier": 0.9}).astype(float)
    inside = s["epoch"].between(2, 22)
    table = analysis.dynamics(replace(run, steps=s.assign(grad_dot_average=np.where(inside, kappa, 1.0))))
    assert numbers.correlation_numbers(table) == {
        "kappa_low": "−0.30",
        "kappa_high": "0.10",
        "kappa_worst": "prep",
        "kappa_small": 0,
        "kappa_negative": 1,
    }


def test_differences_are_of_pairs():
    """Seeds that are good for both: 1 % apart in each; the third has no partner."""

    def runs(*accuracies):
        made = [synthetic_run(replace(POST, seed=seed)) for seed in range(len(accuracies))]
        return [
            replace(r, epochs=r.epochs.assign(test_accuracy=a)) for r, a in zip(made, accuracies, strict=True)
        ]

    of_seeds = numbers.paired(runs(0.90, 0.80, 0.70), runs(0.91, 0.81))
    assert of_seeds.tolist() == pytest.approx([-1, -1])
    assert numbers.difference("d", of_seeds) == {"d": "−1.00", "d_seeds": 2}
    # of −1, −1 and −2: t is 2.92, the standard error 1/3
    three = numbers.difference("d", pd.Series([-1.0, -1.0, -2.0]))
    assert three == {"d": "−1.33 ± 0.97", "d_seeds": 3}


def test_the_circles_that_no_axis_holds():
    table = pd.DataFrame(
        {"layer": ["a"] * 4 + ["b"] * 4, "predicted": 1.0, "ratio": [1, 1, 1, 2.1, 1, 3, 3, 1]}
    )
    assert numbers.clipped(table) == {"clipped": 50.0, "clipped_layer": "b"}


def test_numbers_are_written_as_in_print():
    assert numbers.signed(-0.4712) == "−0.47" and numbers.signed(0.5, 1) == "0.5"
    assert rule.power(3.46e-4) == "3.5 × 10⁻⁴" and rule.power(-1.2e12) == "−1.2 × 10¹²"
    written = {
        5.2e-7: "5.2 × 10⁻⁷",
        -5e-5: "−5.0 × 10⁻⁵",
        0.0003: "0.0003",
        -0.471: "−0.47",
        2.0: "2",
        0.0: "0",
    }
    assert {x: rule.number(x) for x in written} == written and rule.number(float("nan")) == "–"


#: What chapters say that no glued number says, and of which numbers it must be true, at the scale of the book.
SAID = [
    ("dynamics", "It is not zero", lambda n: n["cosine_convolutions"] != "0.0 × 10⁰"),
    ("momentum", "With it, the\nlargest error", lambda n: n["overlap_error"] < n["plain_error"] / 4),
    (
        "conclusion",
        "**Close to uncorrelated is not close enough.**",
        lambda n: n["heavy-ball_high"] > 1.05 > n["heavy-ball_corrected_high"],
    ),
    (
        "conclusion",
        "The angle knows nothing of that",
        lambda n: n["heavy-ball_turn_high"] - 1 < (n["heavy-ball_high"] - 1) / 4,
    ),
    ("summary", "They stay long, and steps become shorter", lambda n: n["R_last"] < 0.6),
    ("summary", "as the overlap changes too", lambda n: n["quotient_high"] > 2),
    ("practice", "We have such runs", lambda n: n["sweep_low"] < 3),
    ("practice", "as LARS then turns", lambda n: n["turn_high"] < 1),
    ("lars", "They fall short where", lambda n: n["growth_high"] < n["growth_expected"]),
    (
        "lars",
        "Here the argument lets one expect the same of both",
        lambda n: abs(n["accuracy"] - n["sgd_accuracy"]) < 1,
    ),
    ("learning-rates", "At the low end the norms", lambda n: n["relaxations_low"] < 1),
]


@pytest.mark.parametrize("chapter, sentence, true", SAID)
def test_what_a_chapter_says_is_true_of_the_records(chapter, sentence, true):
    cells = json.loads((paths.ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert sentence in text
    assert true(glued(chapter))


@cache
def glued(chapter):
    """The numbers at the scale that the chapter shows."""
    needed = experiments.CHAPTERS.get(chapter)
    try:
        scale = library.largest(needed) if needed else scales.DEFAULT_SCALE
    except NotRecordedError as error:
        pytest.skip(f"the chapter shows nothing: {error}")
    return prose.of_chapter(chapter, scale)


def test_an_unknown_chapter_is_named():
    with pytest.raises(ValueError, match="chapter='x' is not known; it must be one of index, "):
        prose.of_chapter("x", "demo")


def test_phrases_know_how_many_seeds_there_are():
    runs = [synthetic_run(replace(POST, seed=seed)) for seed in range(2)]
    runs = [
        replace(r, epochs=r.epochs.assign(test_accuracy=a)) for r, a in zip(runs, (0.9, 0.8), strict=True)
    ]
    assert phrases.accuracy(runs[:1]) == "90.0 %, with one seed"
    assert phrases.accuracy(runs) == "85.0 %, the mean of 2 seeds (from 80.0 to 90.0 %)"
    assert (
        phrases.difference(pd.Series([-1.0]))
        == "−1.00 percentage points, with one seed: too few for an interval"
    )
    three = pd.Series([-1.0, -1.0, -2.0])
    assert phrases.difference(three) == "−1.33 ± 0.97 percentage points, mean and 90 % interval of 3 seeds"


def test_seeds_are_counted_for_each_setting():
    runs = [
        synthetic_run(replace(POST, seed=seed, lr=lr)) for lr, n in ((0.1, 3), (0.2, 1)) for seed in range(n)
    ]
    assert phrases.seeds_each(runs[:3]) == "3 seeds" and phrases.seeds_each(runs[3:]) == "one seed"
    assert phrases.seeds_each(runs) == "1 to 3 seeds"


def test_what_other_seeds_predict_is_said_only_where_there_are_others():
    alone = {"others_layer": numbers.NONE, "others_epoch": numbers.NONE} | dict.fromkeys(
        ("others_difference", "late_others", "end_others"), float("nan")
    )
    said = phrases.of_others(alone)
    assert "no others" in said["others_said"] and said["late_others"] == said["end_others"] == numbers.NONE
    found = alone | {"others_layer": "prep", "others_epoch": 4, "others_difference": 0.2149}
    said = phrases.of_others(found | {"late_others": 0.8, "end_others": 0.333})
    assert said["others_said"].endswith(
        "within 0.21 in the worst layer and epoch after the first twelfth, prep in epoch 4."
    )
    assert (said["late_others"], said["end_others"]) == ("0.80", "0.33")


@pytest.mark.parametrize(
    "first, last, said",
    [
        (
            1.06,
            0.94,
            "is 1.06, and in epoch 13 it is 0.94. While the norms are still on their way up, R is above 1.",
        ),
        (0.98, 0.92, "on their way down already"),
        (1.2, 1.1, "a balance that norms are not through with"),
        (0.9, 1.1, "a balance that norms are not through with"),
        (np.inf, np.inf, "Without decay there is no balance"),
    ],
)
def test_what_is_called_equilibrium_follows_R(first, last, said):
    found = {"R_first": first, "R_last": last, "epoch_first": 6, "epoch_last": 13}
    assert said in phrases.crossing(found)
    assert ("goes through 1" in phrases.crossing(found)) == (first > 1 > last)


@pytest.mark.parametrize(
    "relaxation, said",
    [
        (1.3, "Between the two a balance can be expected"),
        (12, "cannot be expected"),
        (np.inf, "Without decay"),
    ],
)
def test_a_window_is_explained_by_the_relaxation_time(relaxation, said):
    found = {"peak_epoch": 5.0, "window_end": 14.0, "window_closed": 0.91, "relaxation_epochs": relaxation}
    assert said in phrases.window_of(found)
    assert "little room for a balance" in phrases.window_of(
        found | {"window_closed": 0.7, "relaxation_epochs": 1.3}
    )


def test_the_end_is_the_schedules_only_where_it_is():
    assert "no flaw" in phrases.deviation({"end_closed": 0.28, "end_measured": 0.33})
    assert "does not give the end" in phrases.deviation({"end_closed": 0.28, "end_measured": 0.6})
    assert "Without decay" in phrases.deviation({"end_closed": 0.28, "end_measured": np.inf})


def test_what_the_two_equations_leave_is_the_part_of_the_gradient_along_the_weights():
    """w·g = −0.01 |w||g| is what one run has more of than another, and −2λ w·g accounts for all of it."""
    run = synthetic_run(replace(POST, momentum=0.0, lr=4.0))
    s = run.steps.astype({c: float for c in run.steps if c != "layer"})
    norm_sq, kept = s["weight_norm_sq"].to_numpy(copy=True), s["layer"].to_numpy()
    for layer in s["layer"].cat.categories:
        rows = np.flatnonzero(kept == layer)
        lr, grad = s["lr"].to_numpy()[rows], s["grad_norm_sq"].to_numpy()[rows]
        for i, (at, after) in enumerate(pairwise(rows)):
            along = -0.01 * np.sqrt(norm_sq[at] * grad[i])
            s.loc[s.index[at], "weight_dot_grad"] = along
            norm_sq[after] = (
                norm_sq[at] * (1 - 2 * lr[i] * POST.weight_decay) + lr[i] ** 2 * grad[i] - 2 * lr[i] * along
            )
    run = replace(run, steps=s.assign(weight_norm_sq=norm_sq))
    left, mixed = (statistics.unexplained_change((0, 24), run, x) for x in (False, True))
    assert (left > 1e-3).all() and (mixed < 1e-6).all()
    said = phrases.unexplained(left, mixed)
    assert f"at most {100 * left.max():.2g} %" in said and said.endswith("where steps are shortest.")
    assert "So what they miss" not in phrases.unexplained(left, left)
    assert "Without decay" in phrases.unexplained(left * np.inf, left)


def test_where_the_posts_own_size_has_one_seed_small_says_what_others_predict(monkeypatch):
    seeds = {"paper": 1, "small": 3, "demo": 1}

    def runs(scale, name, **_):
        return [synthetic_run(replace(POST, seed=seed)) for seed in range(seeds[scales.chosen(scale).scale])]

    monkeypatch.setattr(library, "runs", runs)
    monkeypatch.setattr(library, "forms", lambda scale, name: {"frozen": []})
    said = {scale: prose._by_others("sgd", scale)["others_said"] for scale in seeds}
    assert said["small"].startswith("From the gradients of other seeds")
    assert said["paper"] == f"One seed has no others. At scale small, f{said['small'][1:]}"
    assert "no others recorded at this scale" in said["demo"]
    assert prose._filters("paper") == f"At scale small, i{filters.NOT_MEASURED[1:]}"


def test_peaks_are_counted_in_each_seed():
    def peaking(seed, epoch):
        run = synthetic_run(replace(POST, seed=seed))
        at = (run.steps["epoch"] - epoch).abs() < 0.1
        return replace(run, steps=run.steps.assign(weight_norm_sq=np.where(at, 9.0, 1.0)))

    assert phrases.peaks([peaking(0, 4.1)]) == "2"  # both convolutions, and not the classifier
    assert phrases.peaks([peaking(0, 4.1), peaking(1, 12.3)]) == "0 to 2, depending on the seed,"


def test_claims_are_counted_by_verdict():
    def judged(origin, verdict):
        return SimpleNamespace(origin=origin), verdict and SimpleNamespace(verdict=verdict)

    some = [judged("post", v) for v in ("holds", "fails", "holds", "not resolved", None)]
    some.append(judged("ours", "inside"))
    assert summaries.counted(some, "post") == "2 of 5 hold, 1 fails, 1 is not resolved, 1 is not recorded yet"
    assert summaries.counted(some, "ours") == "1 of 1 lies inside its bound"


def test_the_warm_up_has_half_the_relaxations_of_its_peak():
    steps = 98
    epochs = (np.arange(5 * steps) + 0.5) / steps
    lr = POST.lr_schedule(epochs)
    exact = np.sum(4 * lr / 0.1 * 5e-4)
    assert summaries.relaxations_of_warm_up(POST, steps) == pytest.approx(exact)


def test_widths_are_compared_layer_by_layer():
    layers = ["prep", "layer1", "layer2"]
    narrow = pd.DataFrame({"R": [1.5, 1.2, 0.9], "κ": [-0.3, -0.1, 0.1]}, layers).assign(rotation=1.02)
    wide = pd.DataFrame({"R": [1.3, 1.1, 0.8], "κ": [-0.2, 0.05, 0.2]}, layers).assign(rotation=0.98)
    narrow["R corrected"], wide["R corrected"] = 1.01, 0.97
    said = widths._compared("heavy-ball", narrow, wide)
    assert "nearer to 1 at the larger width in 2 of 3 layers" in said and "nearer to 0 in 2." in said
    assert "1.01 to 1.01 at the smaller width and from 0.97 to 0.97 at the larger" in said
    assert "how much successive gradients oppose" in widths._why([(narrow, wide)])
    assert "does not explain" in widths._why([(narrow, wide), (wide, narrow)])


def test_widths_are_those_of_the_forms_that_are_recorded_at_both(monkeypatch):
    def forms(scale, experiment):
        if experiment == "gradient-noise":
            return {"frozen": []}
        config = replace(POST, width=widths.SCALES.index(scale) + 1)
        runs = [synthetic_run(replace(config, seed=seed)) for seed in range(2)]
        return {"sgd": runs[:0], "heavy-ball": runs, "nesterov": runs if scale == "small" else []}

    monkeypatch.setattr(library, "forms", forms)
    of_both = widths.recorded()
    assert list(of_both) == ["heavy-ball"]
    found = widths.table(of_both)
    assert list(found.columns)[:2] == [("R", "width 1"), ("R", "width 2")]
    assert list(found.index) == [("heavy-ball", layer) for layer in LAYERS[:2]]
    expected = analysis.equilibrium(of_both["heavy-ball"][1])["R"].drop("classifier")
    np.testing.assert_allclose(found["R", "width 2"], expected)
    assert widths.shown().loc[("heavy-ball", "prep"), ("R", "width 2")] == f"{expected['prep']:.3f}"
    said = widths.text()
    assert (
        "Not recorded at both widths yet: no momentum, Nesterov." in said and "With heavy-ball, R is" in said
    )
    assert "run gradient-noise --scale paper" in said
    assert widths.source().startswith("scale small: digits, width 1") and "; scale paper:" in widths.source()


def test_the_angles_of_others_are_those_of_their_settings():
    found = recipes.turns_of_others(replace(POST, lr=0.4, weight_decay=5e-4, momentum=0.9))
    assert found == {"turn_wan": "0.0046", "turn_kosson": "0.0032", "turn_here": "0.015"}  # √(2λα/1.9)


@pytest.mark.parametrize(
    "networks, said",
    [
        (2, "from 1 to −1.00, so a bound of 0.85 asks for the perfect order"),
        (4, "from 1 to 0.80, so a bound of 0.85 asks for the perfect order"),
        (5, "from 1 to 0.90, so a bound of 0.85 asks for one such mistake at most"),
        (7, "from 1 to 0.96, and a bound of 0.85 allows 4 of them."),
        (1, "One network has no order."),
    ],
)
def test_what_an_order_can_say_depends_on_how_many_are_in_it(networks, said):
    assert said in sweeps.order(networks)
    assert ("But that says little" in sweeps.order(networks)) == (1 < networks < 6)


def test_a_best_rate_at_the_edge_is_named():
    assert sweeps._edge([]).startswith("Both lie inside")
    assert sweeps._edge(["LARS"]).startswith("That of LARS is at the edge")
    assert sweeps._edge(["SGD", "LARS"]).startswith("That of SGD and that of LARS is")
