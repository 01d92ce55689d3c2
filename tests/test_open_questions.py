"""The open questions: rules older than their records, statistics in closed form, and plans as the sheet has them."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import synthetic_run

from lib import experiments, library, paths, questions, scales, theory
from lib.config import CLASSIFIER, Config, layers_of
from lib.machinery import machine
from lib.records import NotRecordedError
from lib.results import open_questions as oq
from lib.results import rule, verdicts
from lib.results.open_claims import OPEN_CLAIMS
from lib.run import QUANTITIES, Run, part_of_epoch
from lib.schedules import per_step
from lib.site import book

RULES = "lib/results/open_claims.py"
#: Trained again on the machine of the runs that are held against them: the one change, which the page of claims tells.
TRAINED_AGAIN = {"dynamics/heavy-ball": "lars-parts/heavy-ball", "lars/lars": "lars-parts/lars"}
SMALL = scales.base("small")


def commits_of_records() -> dict[str, str]:
    """The commit that each record of an open question was made by, by its path."""
    found = {}
    for scale in scales.SCALES:
        for question in questions.QUESTIONS:
            for path in (paths.BOOK / "records" / scale / question).glob("*.parquet"):
                made_by = json.loads(pq.read_schema(path).metadata[b"run.provenance"])["commit"]
                found[f"{scale}/{question}/{path.name}"] = made_by.removesuffix("-dirty")
    return found


def rules_at(commit: str) -> dict[str, tuple] | None:
    """What decides each claim, as it was in a commit; None where there was none yet."""
    shown = subprocess.run(
        ["git", "show", f"{commit}:{RULES}"], cwd=paths.ROOT, capture_output=True, encoding="utf-8"
    )
    if shown.returncode:
        return None
    module = {"__name__": "lib.results.then", "__package__": "lib.results"}
    exec(shown.stdout, module)
    return rules(module["OPEN_CLAIMS"])


def rules(claims) -> dict[str, tuple]:
    return {
        c.name: (c.bound, c.bf16, c.epochs, [TRAINED_AGAIN.get(f, f) for f in c.forms], c.observable)
        for c in claims
    }


def test_rules_are_older_than_the_records_that_they_judge():
    made_by = commits_of_records()
    if not made_by:
        pytest.skip("nothing is recorded yet that they could be younger than")
    if machine.has_commit(next(iter(made_by.values()))) is None:
        pytest.skip("needs the whole history of the repository")
    today = rules(OPEN_CLAIMS)
    for commit in set(made_by.values()):
        then = rules_at(commit)
        assert then is not None, f"{commit} made a record before there was a rule"
        of_its_records = {path.split("/")[1] for path, by in made_by.items() if by == commit}
        judged = {c.name for c in OPEN_CLAIMS if c.forms[0].partition("/")[0] in of_its_records}
        assert {name: then.get(name) for name in judged} == {name: today[name] for name in judged}


def test_the_page_says_which_verdicts_the_runs_of_other_chapters_would_change():
    before = {again: form for form, again in TRAINED_AGAIN.items()}
    pairs = [
        (replace(claim, forms=tuple(before.get(form, form) for form in claim.forms)), claim)
        for claim in OPEN_CLAIMS
        if {*claim.forms} & {*before}
    ]
    recorded = verdicts.recorded("small", [claim for pair in pairs for claim in pair])
    changed = {}
    for other, claim in pairs:
        found = [v.verdict for one in (other, claim) if (v := verdicts.judge(one, recorded))]
        if len(set(found)) > 1:
            changed[claim.name] = found
    assert changed == {
        "smoothed": [rule.HOLDS, rule.NOT_RESOLVED],
        "it is annealing": [rule.HOLDS, rule.NOT_RESOLVED],
        "recovery from 4": [rule.FAILS, rule.NOT_RESOLVED],
    }


def test_bounds_are_those_of_the_sheet():
    recovery = {"0.125": (None, 0), "4": (5, 8), "8": (8, 13), "16": (14, None)}
    sheet = {
        "plateau": (0.97, 1.03), "plateau with heavy-ball": (0.97, 1.03), "plateau with Nesterov": (0.97, 1.03),
        "rotation on the plateau": (1, 1.02), "filters": (0.9, None), "no decay": (None, 0.9),
        "clipped": (-0.3, 0.3), "smoothed": (-0.3, 0.3), "annealed": (0.5, None), "turning": (-0.3, 0.3),
        "decay that follows": (1.03, 1.28), "it is clipping": (0.7, None), "it is annealing": (0.7, None),
        **{f"recovery from {scale}": bound for scale, bound in recovery.items()},
        "LARS from any norm": (-0.3, 0.3), "SGD from large norms": (None, -1), "LARS wins": (0.3, None),
        "LARS wins in the test": (0.3, None),
        "rotation of AdamW": (0.9, 1.1), "alike with AdamW": (None, 0.1), "apart with Adam": (0.3, None),
        "rotation of one layer": (0.95, 1.05), "rotation of the others": (None, 0.03),
        "only λα of a layer": (0.95, 1.05), "optima of layers": (-1, 1),
        "step without decay": (-0.1, 0.1), "step with decay": (0.45, 0.55), "optimum with decay": (-1, 1),
        "no optimum without": (None, 1),
    }  # fmt: skip
    infinite = {-np.inf: None, np.inf: None}
    found = {c.name: tuple(infinite.get(x, x) for x in (c.bound.low, c.bound.high)) for c in OPEN_CLAIMS}
    assert found == sheet
    assert {c.epochs for c in OPEN_CLAIMS} == {None, (6, 14), (23, 24), (0, 24)}


def test_the_rules_of_a_commit_are_read_as_they_were(tmp_path, monkeypatch):
    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command], cwd=tmp_path, check=True
        )

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "none yet")
    file = tmp_path / RULES
    file.parent.mkdir(parents=True)
    file.write_text("from .open_claims import OPEN_CLAIMS\nOPEN_CLAIMS = OPEN_CLAIMS[:2]\n")
    git("add", ".")
    git("commit", "-q", "-m", "two")
    assert rules_at("HEAD~") is None
    assert rules_at("HEAD") == rules(OPEN_CLAIMS[:2]) != rules(OPEN_CLAIMS)


# Plans


def configs(question: str, scale: str = "small") -> dict[str, Config]:
    return {one.form: replace(one.config, seed=0) for one in experiments.planned(scale, [question])}


@pytest.mark.parametrize(
    "question, runs, seeds",
    [
        ("plateau", 10, 3),
        ("lars-parts", 21, 3),
        ("start", 30, 3),
        ("adam", 12, 2),
        ("layers", 30, 6),
        ("decay", 30, 1),
    ],
)
def test_there_are_as_many_runs_as_the_sheet_has(question, runs, seeds):
    planned = experiments.planned("small", [question])
    assert len(planned) == runs and {one.config.seed for one in planned} == set(range(seeds))
    assert all(one.config.averages and one.every == (1 if one.config.seed < 3 else 0) for one in planned)


def test_the_demo_trains_few_of_them():
    epochs = sum(one.config.epochs for q in questions.QUESTIONS for one in experiments.planned("demo", [q]))
    assert 0 < epochs <= 220


@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_the_chapter_of_a_question_is_in_the_book_once_it_is_recorded(question):
    """When its runs come, its line goes into _toc.yml, below that of the answers, which lead to it."""
    try:
        recorded = bool(library.largest(experiments.CHAPTERS[question]))
    except NotRecordedError:
        recorded = False
    assert (paths.BOOK / f"{question}.ipynb").exists()
    assert ((paths.BOOK / f"{question}.ipynb") in book.notebooks(paths.ROOT)) == recorded
    assert (f"]({question}.ipynb)" in (paths.BOOK / "answers.ipynb").read_text(encoding="utf-8")) == recorded


def test_every_claim_looks_at_forms_that_are_planned():
    planned = [f"{one.experiment}/{one.form}" for one in experiments.planned("small")]
    for claim in OPEN_CLAIMS:
        assert claim.chapter in questions.QUESTIONS
        assert all(any(form.startswith(prefix) for form in planned) for prefix in claim.forms), claim.name


def test_the_plateau_is_flat_from_epoch_2_to_16():
    for name, c in configs("plateau").items():
        assert (c.peak_epoch, c.hold_epoch, c.epochs, c.by_filter) == (2, 16, 24, True)
        assert c.lr / (1 - c.momentum) == pytest.approx(4)
        assert c.weight_decay == (0 if name == "no-decay" else 5e-4)
    assert sum(size.channels_out for size in list(layers_of(SMALL.architecture, 8).values())[:-1]) == 280


def test_parts_of_lars_differ_from_it_in_what_they_are_named_after():
    plain = {
        "averages": 0,
        "clip": 0.0,
        "smoothing": 0.0,
        "lag": False,
        "overlap": (0.0,),
        "decay_follows_lr": False,
    }
    runs = configs("lars-parts")
    for name, c in runs.items():
        assert replace(c, **plain) == replace(SMALL, optimizer="lars" if name.startswith("lars") else "sgd")
    assert (runs["clipped"].clip, runs["clipped"].smoothing, runs["lars-smoothed"].smoothing) == (
        1.25,
        0.99,
        0.99,
    )
    assert runs["lars-annealed"].lag and runs["lars-turning"].lag and not any(runs["lars-annealed"].overlap)


def test_starts_are_of_four_sizes_and_of_equilibrium():
    runs = configs("start")
    for name in ("sgd", "lars"):
        scales = {c.init_scale for form, c in runs.items() if form.startswith(name)}
        assert scales == {(0.125,), (4.0,), (8.0,), (16.0,)}
    assert [runs[f"equilibrium-warm-up{n}"].peak_epoch for n in (5, 1)] == [5, 1]
    assert runs["equilibrium-warm-up5"].init_scale == runs["equilibrium-warm-up1"].init_scale != (1.0,)


def test_adam_is_matched_to_heavy_ball():
    for scale in ("small", "paper"):
        c = configs("adam", scale)["adamw-x1"]
        lr, weight_decay = c.lr * c.layers_lr, c.weight_decay * c.layers_decay
        heavy_ball = theory.rotation(lr=c.lr, weight_decay=c.weight_decay, momentum=c.momentum)
        assert theory.adamw_rotation(lr=lr, weight_decay=weight_decay) == pytest.approx(heavy_ball, rel=2e-3)


@pytest.mark.parametrize("network", questions.MEASURED)
def test_adams_decay_is_that_of_the_formula(network):
    """At the recorded c, layers turn in the geometric mean as heavy-ball does: |w| and √d/|g| by `lib.theory`."""
    measured, base = questions.MEASURED[network], replace(SMALL, dataset=network[0], width=network[1])
    c = {("digits", 8): (0.230, 0.429, 0.375, 0.383, 0.894, 1.561, 0.857, 0.828),
         ("cifar10", 8): (1.190, 1.248, 0.817, 0.605, 1.680, 2.820, 2.939, 1.764),
         ("cifar10", 64): (1.514, 2.091, 1.855, 1.804, 3.457, 4.954, 3.940, 2.383)}[network]  # fmt: skip
    sizes = [
        9 * x.channels_in * x.channels_out
        for x in list(layers_of(base.architecture, base.width).values())[:-1]
    ]
    lr, d, c = questions.ADAM_LR, np.array(sizes), np.array(c)
    norm = np.sqrt(theory.adam_l2_norm_sq(c**2, d, lr=lr, weight_decay=measured.adam_decay))
    shrinkage = lr * measured.adam_decay * np.sqrt(d) * norm / c  # λα over the rms of an entry of g
    assert np.exp(np.log(shrinkage).mean()) == pytest.approx(0.4 * 5e-4 / 0.1, rel=0.05)


def test_one_layer_at_a_time_and_a_control():
    runs = configs("layers")
    convolutions = list(layers_of(SMALL.architecture))[:-1]
    assert {c.layers for c in runs.values()} == {"", *convolutions}
    kinds = {"up": (8, 1), "down": (1 / 8, 1), "control": (8, 1 / 8), "baseline": (1, 1)}
    for name, c in runs.items():
        assert (c.layers_lr, c.layers_decay) == kinds[name.partition("-")[0]]
        assert (c.epochs, c.peak_epoch, c.weight_decay) == (5, 1, 2e-3)


def test_decay_changes_the_convolutions_alone():
    runs = configs("decay").values()
    assert {
        (c.architecture, c.layers_decay * c.weight_decay, round(c.layers_lr * c.lr, 9)) for c in runs
    } == {
        (network, decay, lr)
        for network in ("backbone", "Residual:L1+L2+L3")
        for decay in (0.0, 5e-4, 5e-3)
        for lr in (0.1, 0.4, 0.8, 1.6, 3.2)
    }
    assert {(c.layers, c.lr, c.weight_decay, c.epochs) for c in runs} == {("convolutions", 0.4, 5e-4, 5)}


def test_what_is_not_measured_cannot_be_started_from():
    with pytest.raises(ValueError, match="nothing is measured of width=5 on cifar10"):
        questions.start(replace(SMALL, width=5), SMALL, 3)


# Statistics, on runs whose numbers are known


def run_of(config: Config, steps_per_epoch: int = 40, **quantities) -> Run:
    """A run with given numbers, each an array by step, or a function of the layer's number that returns one."""
    layers = list(layers_of(config.architecture))
    run = synthetic_run(config, tuple(layers), steps_per_epoch)
    n = len(run.steps) // len(layers)
    table = run.steps.copy()
    for name in QUANTITIES:
        value = quantities.get(name, 1.0)
        columns = [np.broadcast_to(value(i) if callable(value) else value, n) for i in range(len(layers))]
        table[name] = np.stack(columns, axis=1).ravel()
    return replace(run, steps=table)


def with_accuracy(config: Config, percent: float) -> Run:
    run = synthetic_run(config)
    return replace(run, epochs=run.epochs.assign(train_accuracy=percent / 100))


HELD = Config(peak_epoch=2, hold_epoch=16, momentum=0.0, lr=4.0)


def held_run(growth_per_step: float, tau: float) -> Run:
    """On the quasi-stationary solution of the norm equation: z = z_eq/(1+γτ), where c² grows by γ a step."""
    steps = 24 * 40
    c_sq = np.exp(growth_per_step * np.arange(steps))
    norm_sq = theory.equilibrium_norm_sq(c_sq, lr=4.0, weight_decay=5e-4) / np.sqrt(1 + growth_per_step * tau)
    return run_of(HELD, weight_norm_sq=norm_sq, grad_norm_sq=c_sq / norm_sq, grad_dot_average=0.0)


def test_the_drift_of_gradients_explains_the_plateau():
    tau = theory.relaxation_steps(lr=4.0, weight_decay=5e-4)
    run = held_run(1e-3, tau)
    assert oq.drift(run).to_numpy() == pytest.approx([1e-3 * tau] * 8, rel=1e-3)
    assert oq.stationary_ratio((6, 14), run).to_numpy() == pytest.approx([1] * 8, abs=2e-3)


def test_filters_count_one_by_one():
    layers = [f"prep[{i}]" for i in range(4)]
    run = held_run(0.0, 1.0)
    names = pd.Categorical.from_codes(np.tile(range(4), 24), categories=layers, ordered=True)
    epochs = np.repeat(np.arange(24) + 0.5, 4)
    table = pd.DataFrame({"step": epochs * 40, "epoch": epochs, "layer": names, "lr": 4.0})
    norm_sq = theory.equilibrium_norm_sq(1.0, lr=4.0, weight_decay=5e-4) * np.array(
        [1, 1 / 1.1, 1 / 1.2, 1 / 0.8]
    )
    numbers = dict.fromkeys(QUANTITIES, 0.0)
    numbers |= {"weight_norm_sq": np.tile(norm_sq, 24), "grad_norm_sq": np.tile(1 / norm_sq, 24)}
    table = table.assign(**numbers)
    share = oq.filters_within((6, 14), replace(run, by_filter=table))
    assert share.to_dict() == {"ρ = 0": 0.5}  # 1 and 1.1, not 1.2 and 0.8
    short = table[table["epoch"].between(6, 7)]  # one epoch of the window
    assert np.isnan(oq.drift(replace(run, steps=short))).all()
    assert oq.filters_within((6, 14), replace(run, by_filter=short)).isna().all()
    own = replace(run, config=replace(run.config, momentum=0.5, nesterov=True), by_filter=table)
    assert list(oq.filters_within((6, 14), own).index) == ["Nesterov"]


def test_without_decay_the_line_is_that_of_the_reference():
    norm_sq = theory.equilibrium_norm_sq(1.0, lr=4.0, weight_decay=5e-4)
    run = run_of(replace(HELD, weight_decay=0.0), weight_norm_sq=2 * norm_sq, grad_norm_sq=0.5 / norm_sq)
    R = oq.ratio_to_line_of((6, 14), run, synthetic_run(HELD))
    assert R.to_numpy() == pytest.approx([0.5] * 8, rel=2e-3)


def test_a_share_of_the_gap_is_that_of_the_mean_gap():
    accuracies = {"form": [84.3, 84.6], "sgd": [85.0, 85.2], "lars": [84.0, 84.2]}
    seeds = {f: {s: with_accuracy(Config(seed=s), x) for s, x in enumerate(v)} for f, v in accuracies.items()}
    assert oq.gap_closed(seeds, (0, 24))["share"].to_dict() == pytest.approx({0: 0.3, 1: 0.4})
    clipped = {"clipped": {s: with_accuracy(Config(seed=s), x) for s, x in enumerate([84.9, 84.5])}} | seeds
    assert oq.gap_of_clipping(clipped, (0, 24))["share"].to_dict() == pytest.approx({0: 0.3, 1: 0.7})


def test_the_line_follows_a_decay_that_falls():
    c = Config(momentum=0.0, lr=4.0, decay_follows_lr=True)
    at = (np.arange(24 * 40) + 0.5) / 40
    norm_sq = c.lr_schedule(at) / (
        2 * c.weight_decay_schedule(at)
    )  # |g| = 1/|w| at z = z_eq, were λ and α to stay
    run = run_of(c, weight_norm_sq=np.sqrt(norm_sq), grad_norm_sq=1 / np.sqrt(norm_sq))
    for window in ((6, 14), (23, 24)):
        assert oq.ratio_with_its_decay(window, run).to_numpy() == pytest.approx([1] * 8, rel=1e-3)


def test_recovery_is_the_first_epoch_that_is_as_good():
    normal = run_of(SMALL)
    at = np.repeat(np.arange(24), 40)
    big = run_of(SMALL, weight_norm_sq=lambda i: np.where(at < i, 2.0, 1.0))
    assert oq.recovery((0, 24), big, normal).tolist() == list(range(8))
    never = run_of(SMALL, weight_norm_sq=2.0)
    assert oq.recovery((0, 24), never, normal).tolist() == [24] * 8


def test_the_equation_says_when_long_norms_are_back():
    """It is solved step by step here, and only averages over parts of epochs are kept of it."""
    c = replace(SMALL, averages=8)
    lr = per_step(c.lr_schedule, c.epochs, c.steps_per_epoch) / (1 - c.momentum)
    part = part_of_epoch(np.arange(len(lr)), c.steps_per_epoch, 8)

    def from_norm(start):
        z = np.empty(len(lr))
        z[0] = start**4
        for t in range(len(z) - 1):
            z[t + 1] = z[t] + 2 * lr[t] * (lr[t] - 2 * c.weight_decay * z[t])
        kept = [np.bincount(part, x) / np.bincount(part) for x in (z**0.5, z**-0.5)]
        return run_of(c, 8, weight_norm_sq=kept[0], grad_norm_sq=kept[1], grad_dot_average=0.0)

    normal, epochs = from_norm(3.0), []
    for start in (3.0, 12.0, 24.0, 48.0):
        run = from_norm(start)
        found = oq.recovery_by_equation(run, normal)
        assert found.equals(oq.recovery((0, 24), run, normal)) and len({*found}) == 1
        epochs.append(found.iloc[0])
    assert epochs[0] == 0 and 3 < epochs[1] < epochs[2] < epochs[3]


def test_rotations_are_compared_with_what_is_predicted():
    base = configs("layers")["baseline"]
    normal = run_of(base, update_norm_sq=lambda i: (i + 1.0) ** 2)

    def changed(name, by):
        c = configs("layers")[name]
        layer = list(layers_of(c.architecture)).index(c.layers)
        return run_of(c, update_norm_sq=lambda i: (i + 1.0) ** 2 * (by**2 if i == layer else 1.02**2))

    up, control = changed("up-layer2", 8**0.5), changed("control-prep", 1.0)
    assert oq.turn_of_the_layer((6, 14), normal, up, control).to_dict() == pytest.approx(
        {"layer2": 1, "prep": 1}
    )
    assert oq.turn_of_others((6, 14), normal, up).to_dict() == pytest.approx({"layer2": 0.02})
    assert oq.spread_of_turns((6, 14), normal)["layers"] == pytest.approx(7)


def test_adamws_rotation_is_that_of_its_own_rate():
    c = configs("adam")["adamw-x2"]
    lr = c.layers_lr * c.lr_schedule((np.arange(24 * 40) + 0.5) / 40)
    turn = theory.adamw_rotation(lr=lr, weight_decay=c.layers_decay * c.weight_decay)
    assert oq.turn_of_adamw((6, 14), run_of(c, update_norm_sq=turn**2)).to_numpy() == pytest.approx(
        [1] * 8, rel=1e-5
    )


def test_with_adamw_norms_are_on_their_way_from_where_they_were_drawn():
    c = configs("adam")["adamw-x1"]
    lr = c.layers_lr * per_step(c.lr_schedule, c.epochs, c.steps_per_epoch)
    alpha, window = c.layers_decay * c.weight_decay, slice(6 * c.steps_per_epoch, 14 * c.steps_per_epoch)
    sizes = [9 * x.channels_in * x.channels_out for x in layers_of(c.architecture, c.width).values()]
    drawn = [10.0**-k for k in range(1, 10)]  # mean squares of entries
    found = oq.turn_by_adamw_equation(run_of(c, weight_norm_sq=lambda i: drawn[i] * sizes[i]))
    for turn, r in zip(found, drawn[:-1], strict=True):
        of_steps = []
        for x in lr:
            of_steps.append(r)
            r = (1 - x * alpha) ** 2 * r + x**2  # decay, then an update whose entries have rms λ
        expected = np.sqrt((lr[window] ** 2).sum() * 0.1 / 1.9 / np.sum(of_steps[window]))
        assert turn == pytest.approx(expected, rel=5e-3)
    assert found.iloc[0] < 0.3 * found.iloc[-1] < 0.4 * oq.adamw_turn(run_of(c))


def test_a_vertex_is_that_of_the_parabola():
    at = np.array([-3, 0, 3.0])
    assert oq.vertex(*(80 - 0.1 * (at - 0.7) ** 2)) == pytest.approx(0.7)
    assert np.isnan(oq.vertex(80, 79, 80))
    runs = {
        name: with_accuracy(configs("layers")[name], x)
        for name, x in (("up-prep", 79.0), ("down-prep", 79.5))
    }
    baseline = with_accuracy(configs("layers")["baseline"], 80.0)
    assert oq.vertices((0, 24), baseline, *runs.values())["prep"] == pytest.approx(oq.vertex(79.5, 80, 79))


def test_slopes_and_optima_are_of_each_network():
    some = {name: c for name, c in configs("decay").items() if "decay0.005" in name}
    power = {"backbone": 0.5, "Residual:L1+L2+L3": 0.25}
    runs = [run_of(c, update_norm_sq=c.layers_lr ** (2 * power[c.architecture])) for c in some.values()]
    slopes = oq.slopes_of_turns((6, 14), *runs)
    for network, expected in power.items():
        of_network = [slope for name, slope in slopes.items() if name.startswith(network)]
        assert of_network == pytest.approx([expected] * (len(layers_of(network)) - 1), rel=1e-3)
    top = {"backbone": 1.0, "Residual:L1+L2+L3": 1.5}
    tops = [with_accuracy(c, 80 - (np.log2(c.layers_lr) - top[c.architecture]) ** 2) for c in some.values()]
    assert oq.octaves_between((0, 24), *tops)["octaves"] == pytest.approx(0.5)
    assert oq.range_of_accuracy((0, 24), *tops)["backbone"] == pytest.approx(4)  # at λ = 3.2


def test_the_best_rate_at_an_end_is_that_end():
    runs = [
        with_accuracy(replace(SMALL, layers="prep", layers_lr=x), 80 - np.log2(x))
        for x in (0.25, 1, 2, 4, 8.0)
    ]
    assert oq.best_rate(runs) == -2


def test_names_of_layers_are_those_of_convolutions():
    assert CLASSIFIER not in oq.turns(run_of(SMALL)).index
