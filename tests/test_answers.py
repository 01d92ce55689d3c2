"""Answers to the open questions, chosen by verdicts; and the tables of their figures, of runs whose numbers are known."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_open_questions import configs, held_run, run_of, with_accuracy

from lib import experiments, library, paths, questions, records, scales, theory
from lib.config import Config
from lib.figures import question_plots
from lib.results import answers, claims, question_numbers, question_tables, rule, summaries
from lib.results.answers import ANSWERS

SMALL = scales.base("small")


def verdict(kind: str) -> rule.Verdict:
    """Of three seeds, on a bound of ± 1."""
    middle = {rule.HOLDS: 0.25, rule.FAILS: 5.0, rule.NOT_RESOLVED: 1.0}[kind]
    found = rule.decide(pd.DataFrame({"a": [middle - 0.1, middle, middle + 0.1]}), rule.around(0, 1))
    assert found.verdict == kind
    return found


def judged(chapter: str, kind: str, **others: str) -> dict:
    """All claims of a chapter with a verdict of that kind, but for others, by their slug."""
    names = [claim.name for claim in claims.of_chapter(chapter)]
    return {name: verdict(others.get(answers.slug(name), kind)) for name in names}


def test_each_question_has_an_answer():
    assert list(ANSWERS) == list(questions.QUESTIONS)


@pytest.mark.parametrize("chapter", ANSWERS)
def test_a_sentence_is_chosen_by_the_verdict_and_has_its_number(chapter):
    answer = ANSWERS[chapter]
    kinds = (rule.HOLDS, rule.FAILS, rule.NOT_RESOLVED)
    of_kind = {kind: f"{verdict(kind).span} ({verdict(kind).interval(0)})" for kind in kinds}
    assert of_kind[rule.HOLDS] == "0.25 (0.081 to 0.42)"
    names = set(re.findall(r"\{(\w+)\}", str(answer))) - {
        answers.slug(n) for n in judged(chapter, rule.HOLDS)
    }
    assert names <= {*question_numbers.beside(chapter, "small")}
    said = {
        kind: answers.chosen(answer, judged(chapter, kind), beside=dict.fromkeys(names, number))
        for kind, number in of_kind.items()
    }
    sentences = (next(iter(answer.yes.values())), answer.no, answer.open)
    for found, sentence, number in zip(said.values(), sentences, of_kind.values(), strict=True):
        pattern = re.escape(re.sub(r"\{\w+\}", "#", sentence)).replace(r"\#", re.escape(number))
        assert re.fullmatch(pattern, found) and number in found
    assert len(set(said.values())) == 3
    open_ = answers.chosen(
        answer, judged(chapter, rule.HOLDS), decides=False, beside=dict.fromkeys(names, "0")
    )
    assert open_.startswith(answer.open.partition(":")[0])
    deciding = {name for names in answer.yes for name in names}
    missing = judged(chapter, rule.HOLDS) | dict.fromkeys(sorted(deciding)[:1])
    assert answers.chosen(answer, missing) == "The runs that decide it are not recorded yet."


def test_lars_lacks_annealing_or_clips_or_neither():
    answer = ANSWERS["lars-parts"]

    def said(annealing, clipping):
        found = judged("lars-parts", rule.FAILS, it_is_annealing=annealing, it_is_clipping=clipping)
        return answers.chosen(answer, found).partition(":")[0]

    assert said(rule.HOLDS, rule.HOLDS) == said(rule.HOLDS, rule.FAILS) == "It is annealing that it lacks"
    assert said(rule.FAILS, rule.HOLDS) == said(rule.NOT_RESOLVED, rule.HOLDS) == "It is clipping"
    assert said(rule.FAILS, rule.FAILS) == "Neither is 0.7 of it"
    assert said(rule.NOT_RESOLVED, rule.FAILS) == said(rule.FAILS, rule.NOT_RESOLVED) == "It is not resolved"


def test_digits_decide_nothing_and_the_page_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / scale)
    with pytest.raises(records.NotRecordedError):
        answers.numbers("plateau", "demo")
    assert set(answers.of_all().values()) == {("It is not known yet.", "Not recorded yet.")}
    with pytest.raises(ValueError, match="chapter='x' is not known; it must be one of plateau, "):
        answers.numbers("x", "demo")


def test_a_scale_that_plans_no_run_of_a_question_does_not_answer_it(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "records", lambda scale: tmp_path / scale)
    against = ["lars-parts/heavy-ball", "lars-parts/lars"]
    for one in experiments.planned("demo", against):
        library.path(one).parent.mkdir(parents=True, exist_ok=True)
        library.path(one).touch()
    assert library.largest(against) == "demo"
    with pytest.raises(records.NotRecordedError, match=f"start, {', '.join(against)}: recorded at no"):
        library.largest(experiments.CHAPTERS["start"])


@pytest.mark.parametrize("chapter", ANSWERS)
def test_a_chapter_uses_only_numbers_that_it_has(chapter):
    text = (paths.BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8")
    beside = question_numbers.beside(chapter, "small")
    known = {answers.slug(claim.name) for claim in claims.of_chapter(chapter)}
    used = set(re.findall(r"\{glue:text\}`(\w+)[:`]", text))
    assert used <= known | {"answer", "state", *beside}
    assert {"answer", "state"} <= used


# Tables


def test_the_plateau_lies_on_its_prediction():
    tau = theory.relaxation_steps(lr=4.0, weight_decay=5e-4)
    run = held_run(1e-3, tau)
    table = question_tables.corrected_by_epoch({"sgd": [run]}, 5e-4).set_index("epoch")
    window = table.loc[6.5:13.5]
    np.testing.assert_allclose(window["predicted"], np.sqrt(1 + 1e-3 * tau), rtol=1e-3)
    np.testing.assert_allclose(window["R"], window["predicted"], rtol=5e-3)
    assert table["predicted"].notna().sum() == 8
    # without decay there is no line, and that of the others is taken
    norm_sq = theory.equilibrium_norm_sq(1.0, lr=4.0, weight_decay=5e-4)
    at_rest = run_of(
        replace(run.config, weight_decay=0.0), weight_norm_sq=2 * norm_sq, grad_norm_sq=0.5 / norm_sq,
        grad_dot_average=0.0,
    )  # fmt: skip
    control = question_tables.corrected_by_epoch({"no-decay": [at_rest]}, 5e-4)
    np.testing.assert_allclose(control["R"].iloc[2:16], 0.5, rtol=2e-3)
    assert control["predicted"].isna().all()


def test_rotations_are_over_that_of_heavy_ball():
    base = run_of(SMALL, weight_norm_sq=1.0)
    angle = theory.rotation(lr=base.steps["lr"].to_numpy(float)[::9], weight_decay=5e-4, momentum=0.9)
    run = run_of(SMALL, weight_norm_sq=4.0, update_norm_sq=lambda i: (i + 1) * 4 * angle**2)
    table = question_tables.rotations({"a": [run]}, base)
    assert table["rotation"].to_numpy() == pytest.approx(np.sqrt(np.arange(1, 9)), rel=1e-3)
    assert table["form"].eq("a").all() and table["low"].equals(table["high"])


def test_vertices_are_those_of_the_parabola_with_an_interval_that_holds_it():
    def at(octaves):
        return with_accuracy(
            replace(SMALL, layers="layer2", layers_lr=2.0**octaves), 80 - (octaves - 0.6) ** 2 / 4
        )

    baseline = [with_accuracy(SMALL, 80 - 0.09 + error) for error in (-0.2, 0.0, 0.2)]
    row = question_tables.vertices(baseline, [at(3), at(-3)]).iloc[0]
    assert row["layer"] == "layer2" and row["octaves"] == pytest.approx(0.6, abs=1e-6)
    assert row["low"] < 0.6 < row["high"] and row["high"] - row["low"] < 2
    valley = [with_accuracy(replace(SMALL, layers="layer2", layers_lr=x), 90) for x in (8.0, 0.125)]
    assert np.isnan(question_tables.vertices(baseline, valley)["octaves"]).all()


def test_initial_scales_are_told_apart_from_starts_in_equilibrium():
    runs = [
        with_accuracy(replace(SMALL, init_scale=(8.0,)), 60),
        with_accuracy(replace(SMALL, optimizer="lars"), 70),
        with_accuracy(replace(SMALL, init_scale=(2.0,) * 4 + (8.0,) * 4), 75),
    ]
    table = question_tables.by_initial_scale(runs).set_index("optimizer")
    assert table["scale"].to_dict() == pytest.approx({"sgd": 8, "lars": 1, "from equilibrium": 4})
    assert table["accuracy"].to_dict() == pytest.approx({"sgd": 60, "lars": 70, "from equilibrium": 75})


def test_rates_are_those_of_the_convolutions():
    config = replace(SMALL, layers="convolutions", layers_lr=2.0, layers_decay=10.0)
    run = run_of(config, weight_norm_sq=1.0, update_norm_sq=lambda i: 4.0 ** (i % 2))
    row = question_tables.against_rate([run]).iloc[0]
    assert (row["decay"], row["lr"]) == pytest.approx((5e-3, 0.8))
    assert row["rotation"] == pytest.approx(np.sqrt(2))


def test_a_gap_is_drawn_from_its_first_form_to_its_last():
    runs = {name: [with_accuracy(Config(seed=s), 90 + 3 * i + s) for s in range(2)] for i, name in enumerate(
        ("heavy-ball", "clipped", "lars"))}  # fmt: skip
    figure = question_plots.gap(question_tables.accuracies(runs))
    (axes,) = figure.axes
    dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([90.5, 96.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["heavy-ball", "clipped", "LARS"]


def test_a_layer_without_a_top_has_a_cross():
    rows = [("prep", 0.5, -0.2, 1.1), ("layer1", np.nan, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["layer", "octaves", "low", "high"])
    (axes,) = question_plots.vertices(table).axes
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("×", (0, 1))]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_color() == "0.2"] == [
        [-0.2, 1.1],
        [0.5],
    ]


def test_a_top_beyond_what_was_tried_is_an_arrow():
    rows = [("prep", -8.3, -40.0, -2.0), ("layer1", 4.7, 1.0, 9.0), ("layer2", 3.5, 3.0, 3.9)]
    table = pd.DataFrame(rows, columns=["layer", "octaves", "low", "high"])
    (axes,) = question_plots.vertices(table).axes
    tops = [line for line in axes.lines if line.get_color() == "0.2" and len(line.get_xdata()) == 1]
    assert [(line.get_marker(), *line.get_xdata()) for line in tops] == [("<", -4), (">", 4), ("o", 3.5)]
    assert axes.get_xlim() == pytest.approx((-4.2, 4.2))


def test_what_a_factor_of_eight_does_is_told_beside_the_answer(monkeypatch):
    def run(accuracy, turn, **changes):
        config = replace(SMALL, averages=8, **changes)
        trained = run_of(config, weight_norm_sq=1.0, update_norm_sq=turn**2)
        return replace(trained, epochs=trained.epochs.assign(train_accuracy=accuracy / 100))

    forms = {
        "baseline": [run(80.0, 1), run(80.2, 1)],
        "up-prep": [run(79.0, 3, layers="prep", layers_lr=8.0)],
        "down-prep": [run(80.3, 0.5, layers="prep", layers_lr=0.125)],
        "control-prep": [run(80.6, 1, layers="prep", layers_lr=8.0, layers_decay=0.125)],
    }
    monkeypatch.setattr(question_numbers.library, "forms", lambda scale, name: forms)
    found = question_numbers._layers("small")
    assert (found["moved"], found["control_moved"], found["scatter"]) == (
        "−1.10 to 0.20",
        "0.50",
        0.14,
    )
    assert (found["slowed"], found["most_won"], found["baselines"]) == ("1.41", "0.20", "2 seeds")
    assert found["tops"] == "−2.17" and (found["lower"], found["higher"]) == ("prep", "no layer")


def test_what_decay_does_is_told_beside_the_answer(monkeypatch):
    """With networks that turn by √α, but for an angle of their own without decay, and a best rate of 0.4/α."""
    runs, norms = [], np.where(np.arange(200) == 0, 1.0, 4.0)
    for config in configs("decay").values():
        more, faster = config.layers_decay, config.layers_lr
        octaves = np.log2(faster * more) if more else 0.0
        slow = 0.25 if not more and faster < 1 else 1.0  # which no slope from λ = 0.4 up sees
        run = run_of(config, weight_norm_sq=norms, update_norm_sq=4e-4 * (more or 0.25) * slow)
        runs.append(replace(run, epochs=with_accuracy(config, 70 - octaves**2).epochs))
    forms = {"baseline": [with_accuracy(SMALL, x) for x in (80.0, 80.2)]}
    monkeypatch.setattr(question_numbers.library, "runs", lambda scale, name: runs)
    monkeypatch.setattr(question_numbers.library, "forms", lambda scale, name: forms)
    found = question_numbers._decay("small")
    assert (found["lowest"], found["lr"], found["grown"]) == ("0.1", "0.4", "2.00")
    assert found["slopes"] == "0.00"
    assert found["varies_without"] == "0.00" and found["varies_as_usual"] == "9.00"
    assert (found["rates_as_usual"], found["rates_with_ten"]) == ("0.4 and 0.4", "0.1 and 0.1")
    assert (found["angles_as_usual"], found["angles_with_ten"]) == ("0.010 and 0.010", "0.032 and 0.032")
    assert "scatter by 0.14" in found["by_chance"]
    forms["baseline"].pop()
    assert "cannot be told" in question_numbers._decay("small")["by_chance"]
    monkeypatch.setattr(summaries.library, "forms", lambda scale, name: {"some": runs})
    assert summaries._of_ten_times_the_decay("small") == "3.16 to 3.16 for n = 10, at the highest λ tried"


def test_the_other_layer_that_changes_most_is_named_with_what_its_gradients_make_of_it():
    def run(turn=1.0, change=0.0, **changes):
        """A turn of layer1.res2, the others' being 1, and a change of c² of its branch in each relaxation."""
        trained = run_of(replace(SMALL, averages=8, **changes), weight_norm_sq=1.0, update_norm_sq=1.0)
        relaxation = theory.relaxation_steps(
            lr=SMALL.lr, weight_decay=SMALL.weight_decay, momentum=SMALL.momentum
        )
        s = trained.steps
        branch = s["layer"].isin(["layer1.res1", "layer1.res2"])
        c_squared = np.exp(change / relaxation * s["step"]).where(branch, 1.0)
        turned = (s["layer"] == "layer1.res2").map({True: turn**2, False: 1.0})
        return replace(trained, steps=s.assign(grad_norm_sq=c_squared, update_norm_sq=turned))

    up = run(0.7, -0.36, layers="layer1.res1", layers_lr=8.0)
    found = question_numbers._others([run(1.0), run(1.2)], [run(layers="prep", layers_lr=8.0), up])
    said = found["others_said"]
    assert "is layer1.res2, when layer1.res1 has eight times its λ: it turns 0.70 times as far" in said
    assert (
        "one residual branch, which the network seems to turn down" in said
        and "to turn 0.80 times as far" in said
    )
    assert (found["others_scattered"], found["others_scatter"]) == ("layer1.res2", "12.9")
    growing = run(0.7, 0.1, layers="layer1.res1", layers_lr=8.0)
    assert "turn down" not in question_numbers._others([run()], [growing])["others_said"]


def test_what_is_drawn_is_planned():
    for chapter in ANSWERS:
        planned = experiments.planned("small", experiments.CHAPTERS[chapter])
        assert {one.experiment for one in planned} >= {chapter}
