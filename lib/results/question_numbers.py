"""What the chapters of the open questions say beside their answers: a function gathers the numbers of each question."""

import pandas as pd

from .. import library, scales, theory
from ..records import NotRecordedError
from ..run import Run
from ..scales import Chosen
from . import analysis, open_questions, phrases, question_tables, rule, statistics
from .numbers import Numbers, paired, signed


def _plateau(scale: str | Chosen) -> Numbers:
    """How many filters there are, and the most of a run that have no gradient in some epoch of the window; and the
    rotation of heavy-ball, when the drift is in its formula."""
    window = open_questions.WINDOW
    turned = [
        statistics.rotation(window, run) / open_questions.behind(run)
        for run in library.runs(scale, "plateau/heavy-ball")
    ]
    without, filters = [], 0
    for form in ("sgd", "heavy-ball", "nesterov"):
        for run in library.runs(scale, f"plateau/{form}"):
            table = open_questions.rows(open_questions.by_filter(run), window)
            least = table.groupby("layer", observed=True)["grad_norm_sq"].min()
            without.append(int((least == 0).sum()))
            filters = len(least)
    return {
        "filters_all": filters,
        "filters_without": max(without),
        "rotation_with_drift": _span(_mean(turned)),
    }


def _lars_parts(scale: str | Chosen) -> Numbers:
    """The gap in training accuracy from LARS to SGD, and with the runs of other chapters in their places; what decay
    that follows λ adds to SGD's accuracy, in training and in the test."""
    forms = library.forms(scale, "lars-parts")
    sgd, lars, follows = (forms[form] for form in ("heavy-ball", "lars", "decay-follows"))
    other_sgd, other_lars = (
        library.runs(scale, name)[: len(lars)] for name in ("dynamics/heavy-ball", "lars/lars")
    )
    against = {"annealed": forms["lars-annealed"], "sgd": other_sgd, "lars": other_lars}
    seeds = {name: {run.config.seed: run for run in runs} for name, runs in against.items()}
    of_others = open_questions.gap_closed(seeds, (0, 24))
    trained = open_questions.train_accuracy
    return {
        "gap": phrases.difference(paired(sgd, lars, trained)),
        "gap_of_others": phrases.difference(paired(other_sgd, other_lars, trained)),
        "annealed_of_others": rule.decide(of_others, rule.Bound()).with_interval,
        "follows": phrases.difference(paired(follows, sgd, trained)),
        "follows_in_the_test": phrases.difference(paired(follows, sgd)),
    }


def _start(scale: str | Chosen) -> Numbers:
    """What a start in equilibrium changes, with the warm-up and with a fifth of it; and by how many epochs R of a layer
    is back later than the norm equation says."""
    sgd = library.runs(scale, "lars-parts/heavy-ball")
    late = pd.concat(
        [
            _mean(
                [
                    open_questions.recovery((0, 24), *pair) - open_questions.recovery_by_equation(*pair)
                    for pair in zip(library.runs(scale, f"start/sgd-x{times}"), sgd, strict=True)
                ]
            )
            for times in (4, 8)
        ]
    )
    found: Numbers = {
        "late": _span(late),
        "late_mean": signed(late.mean()),
        "full_size": _start_at_full_size(),
    }
    for warm_up in (5, 1):
        runs = library.runs(scale, f"start/equilibrium-warm-up{warm_up}")
        apart = paired(runs, sgd, open_questions.train_accuracy)
        found[f"equilibrium_{warm_up}"] = phrases.difference(apart)
    return found


def _start_at_full_size() -> str:
    """By how much LARS is ahead from 16 times the initial norms at scale paper, in a sentence; nothing without its runs."""
    try:
        lars, sgd = (library.runs("paper", f"start/{form}-x16") for form in ("lars", "sgd"))
    except NotRecordedError:
        return ""
    return f"At the post's own size it is, in the test, by {phrases.difference(paired(lars, sgd))}."


def _adam(scale: str | Chosen) -> Numbers:
    """Rotation with AdamW over that by its norm equation, of all rates; by how much layers differ, also at the highest
    rate and with decay in the gradient; and how many steps its norms take, beside those of heavy-ball."""
    forms = library.forms(scale, "adam")
    ratios = [
        _mean([open_questions.turns(r) / open_questions.turn_by_adamw_equation(r) for r in runs])
        for form, runs in forms.items()
        if form.startswith("adamw")
    ]
    apart = {
        form: 1 + _mean([open_questions.spread_of_turns(open_questions.WINDOW, r) for r in runs]).item()
        for form, runs in forms.items()
    }
    c = forms["adamw-x1"][0].config
    return {
        "by_equation": _span(pd.concat(ratios)),
        "apart": f"{apart['adamw-x1']:.2f}",
        "apart_fast": f"{apart['adamw-x2']:.2f}",
        "apart_with_decay": f"{apart['l2-x1']:.1f}",
        "adamw_steps": f"{1 / (2 * c.layers_lr * c.lr * c.layers_decay * c.weight_decay):.0f}",
        "sgd_steps": f"{theory.relaxation_steps(lr=c.lr, **analysis.settings(forms['adamw-x1'][0])):.0f}",
    }


def _mean(of_seeds: list[pd.Series]) -> pd.Series:
    return pd.concat(of_seeds, axis=1).mean(axis=1)


def _layers(scale: str | Chosen) -> Numbers:
    """What a factor of eight in λ does to accuracy and, where it is less λ, to rotation; where the tops lie, as drawn."""
    forms = library.forms(scale, "layers")
    baseline = forms["baseline"]
    normal = pd.Series([open_questions.train_accuracy(run) for run in baseline])

    def of(kind: str) -> list[Run]:
        return [run for form, runs in forms.items() if form.startswith(kind) for run in runs]

    def moved(*kinds: str) -> pd.Series:
        return pd.Series([open_questions.train_accuracy(r) - normal.mean() for k in kinds for r in of(k)])

    def named(which: pd.Series) -> str:
        return ", ".join(tops.index[which]) or "no layer"

    tops = question_tables.vertices(baseline, of("up-") + of("down-")).set_index("layer")["octaves"]
    turned = open_questions.turn_of_the_layer(open_questions.WINDOW, baseline[0], *of("down-"))
    return {
        "moved": _span(moved("up-", "down-")),
        "most_won": signed(moved("up-", "down-").max()),
        "control_moved": _span(moved("control-")),
        "scatter": round(float(normal.std()), 2),
        "baselines": phrases.seeds(len(baseline)),
        "slowed": _span(turned),
        "tops": _span(tops),
        "lower": named(tops <= -1),
        "higher": named(tops >= 1),
        "without_top": named(tops.isna()),
    } | _others(baseline, of("up-"))


def _others(baseline: list[Run], changed: list[Run]) -> Numbers:
    """The layer whose rotation changes most when another's λ does, what its gradients say of it, and what seeds do."""
    normal = open_questions.turns(baseline[0])
    change = {
        (layer, r.config.layers): turn
        for r in changed
        for layer, turn in (open_questions.turns(r) / normal).drop(r.config.layers).items()
    }
    layer, of = max(change, key=lambda pair: abs(change[pair] - 1))
    runs = [next(r for r in changed if r.config.layers == of), baseline[0]]
    after, before = (1 + open_questions.drift(run)[layer] for run in runs)
    c = open_questions.last_gradients(runs[0]) / open_questions.last_gradients(runs[1])
    of_seeds = pd.DataFrame([open_questions.turns(run) for run in baseline])
    scatter = (100 * of_seeds.std() / of_seeds.mean()).fillna(0)
    branch = layer.rpartition(".")[0]
    turned_down = branch and branch == of.rpartition(".")[0] and max(c[layer], c[of]) < 1
    why = " The two are one residual branch, which the network seems to turn down." if turned_down else ""
    return {
        "others_said": f"The one that changes most is {layer}, when {of} has eight times its λ: it turns "
        f"{change[layer, of]:.2f} times as far as before.{why} In the last epoch c = |g||w| is {c[of]:.2f} of the baseline's in "
        f"{of}, and {c[layer]:.2f} in {layer}. From the drift of c alone the norm equation expects {layer} to turn "
        f"{max(after / before, 0) ** 0.5:.2f} times as far.",
        "others_scatter": f"{scatter.max():.1f}",
        "others_scattered": str(scatter.idxmax()),
    }


def _decay(scale: str | Chosen) -> Numbers:
    """Slopes without decay from the base run's λ up, and how far norms have grown at the lowest λ; what accuracy
    varies by from there up, and λ and rotation of the best runs, for each decay."""
    runs, window = library.runs(scale, "decay"), open_questions.WINDOW
    none, usual, ten = ([run for run in runs if run.config.layers_decay == more] for more in (0, 1, 10))
    lowest = min(run.config.layers_lr for run in runs)
    faster = [run for run in none if run.config.layers_lr >= 1]
    grown = [open_questions.growth(run) for run in none if run.config.layers_lr == lowest]
    baselines = library.forms(scales.chosen(scale).scale, "layers")["baseline"]
    by_seeds = pd.Series([open_questions.train_accuracy(run) for run in baselines]).std()
    found: Numbers = {
        "lr": f"{scales.base(scale).lr:g}",
        "lowest": f"{lowest * scales.base(scale).lr:g}",
        "slopes": _span(open_questions.slopes_of_turns(window, *faster)),
        "grown": _span(pd.concat(grown)),
        "by_chance": f"Trainings as short scatter by {by_seeds:.2f} with the seed, their standard deviation; four that "
        "differ in nothing else would span about twice that."
        if len(baselines) > 1
        else "How much of that is chance cannot be told from one seed.",
    }
    for name, some in (("without", none), ("as_usual", usual), ("with_ten", ten)):
        table = question_tables.against_rate(some)
        best = table.loc[table.groupby("architecture")["accuracy"].idxmax()]
        found |= {
            f"varies_{name}": _span(open_questions.range_of_accuracy(window, *some)),
            f"rates_{name}": " and ".join(f"{lr:.3g}" for lr in best["lr"]),
            f"angles_{name}": " and ".join(f"{turn:.3f}" for turn in best["rotation"]),
        }
    return found


def _span(values: pd.Series) -> str:
    """``−1.17 to 0.63``, or one number where the two are the same."""
    ends = (signed(values.min()), signed(values.max()))
    return " to ".join(dict.fromkeys(ends))


_OF = {
    "plateau": _plateau,
    "lars-parts": _lars_parts,
    "start": _start,
    "adam": _adam,
    "layers": _layers,
    "decay": _decay,
}


def beside(chapter: str, scale: str | Chosen) -> Numbers:
    """What a chapter says beside its answer, and the answer may hold; raises what `lib.library.runs` raises."""
    return _OF[chapter](scale)
