"""The numbers on the pages that close the book: the summary, and the conclusion."""

from collections import Counter

import numpy as np

from .. import library, theory
from ..config import Config
from ..run import Run
from . import (
    analysis,
    learning_rates,
    numbers,
    open_questions,
    phrases,
    question_tables,
    recipes,
    rule,
    verdicts,
)
from .claims import CLAIMS, OURS, POST
from .numbers import Numbers

#: What stands for a verdict in a sentence that counts them, for one and for more.
COUNTED = {
    "holds": ("holds", "hold"),
    "inside": ("lies inside its bound", "lie inside their bounds"),
    "fails": ("fails", "fail"),
    "outside": ("lies outside", "lie outside"),
    "not resolved": ("is not resolved", "are not resolved"),
    verdicts.NOT_RECORDED: ("is not recorded yet", "are not recorded yet"),
}


#: The claims that carry the argument of the conclusion.
CARRYING = ("norm change", "balance", "norm equation", "end")


def summary(scale: str) -> Numbers:
    """What the page of formulas, and that on what to do with them, say of this book's own runs and of recipes of others."""
    sgd, whole, quarter, lars = (
        library.runs(scale, name)
        for name in ("dynamics/sgd", "dynamics/heavy-ball", "batch-size", "lars/lars")
    )
    base, accuracy = whole[0], numbers.paired(sgd, whole)
    beside = numbers.beside_numbers(base, lars[0])
    quotient = numbers.quotient_numbers(whole, quarter)
    sweep = [learning_rates.relaxations(run.config) for run in library.runs(scale, "sweep")]
    return (
        numbers.relaxation_numbers(base)
        | numbers.rotation_numbers("heavy-ball", whole)
        | {name: beside[name] for name in ("turn_low", "turn_high")}
        | {f"quotient_{end}": quotient[f"quotient_{end}"] for end in ("low", "high")}
        | {"accuracy_difference": numbers.difference("d", accuracy)["d"]}
        | {"lars_difference": numbers.difference("d", numbers.paired(lars, whole))["d"]}
        | {"verdict": rule.decide(accuracy.to_frame("difference"), rule.around(0, 0.3)).verdict}
        | settling(sgd[0])
        | {"one_layer": _of_one_layer(scale), "ten_times": _of_ten_times_the_decay(scale)}
        | numbers.rounded({"sweep_low": min(sweep)}, 2)
        | recipes.of_text()
        | {"runs": analysis.describe(whole, scale)}
    )


def _of_one_layer(scale: str) -> str:
    """What λ times eight and α divided by eight make of the rotation of the one layer that has them."""
    forms = library.forms(scale, "layers")
    changed = [run for form, runs in forms.items() if form.startswith("control-") for run in runs]
    if not (changed and forms["baseline"]):
        return "not recorded"
    turned = open_questions.turn_of_the_layer(open_questions.WINDOW, forms["baseline"][0], *changed)
    return f"{turned.min():.2f} to {turned.max():.2f} for n = 8"


def _of_ten_times_the_decay(scale: str) -> str:
    """What ten times α makes of the rotation of each network at the highest λ, where equilibrium comes soonest."""
    runs = [run for of_form in library.forms(scale, "decay").values() for run in of_form]
    if not runs:
        return "not recorded"
    table = question_tables.against_rate(runs)
    fastest = table[table["lr"] == table["lr"].max()].pivot(
        index="architecture", columns="decay", values="rotation"
    )
    turned = fastest.iloc[:, -1] / fastest.iloc[:, -2]
    return f"{turned.min():.2f} to {turned.max():.2f} for n = 10, at the highest λ tried"


def conclusion(scale: str) -> Numbers:
    """How many claims hold, and the numbers that carry the argument."""
    forms = library.forms(scale, "dynamics")
    tables = {form: analysis.equilibrium(runs) for form, runs in forms.items()}
    whole, lars = forms["heavy-ball"], library.runs(scale, "lars/lars")
    judged = verdicts.judged(CLAIMS, verdicts.recorded(scale))
    found = {claim.name: verdict for claim, verdict in judged}
    said = {name.replace(" ", "_"): verdicts.brief(found[name]) for name in CARRYING}
    return (
        numbers.form_numbers(tables, 0.10)
        | numbers.rotation_numbers("heavy-ball", whole)
        | {"furthest": str((tables["heavy-ball"].drop(index=analysis.CLASSIFIER)["R"] - 1).abs().idxmax())}
        | {"lars_difference": phrases.difference(numbers.paired(lars, whole))}
        | {f"of_{origin}": counted(judged, origin) for origin in (POST, OURS)}
        | said
        | {"runs": analysis.describe(whole, scale)}
    )


def counted(judged: list, origin: str) -> str:
    """How many claims of an origin hold and how many do not, in words: ``5 of 12 hold, 4 fail, 3 are not resolved``."""
    found = [verdict for claim, verdict in judged if claim.origin == origin]
    count = Counter(verdict.verdict if verdict else verdicts.NOT_RECORDED for verdict in found)
    first, *others = (
        f"{count[kind]} {words[count[kind] > 1]}" for kind, words in COUNTED.items() if count[kind]
    )
    return ", ".join([first.replace(" ", f" of {len(found)} ", 1), *others])


def settling(run: Run) -> Numbers:
    """How a run gets to its equilibrium and how it leaves it.

    ``warm_up`` is how many relaxation times the warm-up has, ``warm_up_left`` what they leave of a deviation
    of |w|⁴, in %; ``R_…`` are means over the convolutions, in the first epoch, in that after the warm-up and in
    the last, and ``R_closed`` is what the schedule alone gives for the last; ``lag_epochs`` is τ*, the scale of
    time of the end, in epochs.
    """
    c, steps = run.config, run.steps_per_epoch
    table = analysis.convolutions(analysis.ratio_by_epoch(run))
    R = table.groupby("epoch")[["R", "R_end"]].mean()
    times = relaxations_of_warm_up(c, steps)
    fall = (c.epochs - c.peak_epoch) * steps
    lag = np.sqrt(fall * (1 - c.momentum) / (2 * c.weight_decay * c.lr))
    found = {
        "warm_up": times,
        "warm_up_left": 100 * np.exp(-times),
        "R_first": R["R"].iloc[0],
        "R_warm": R["R"].iloc[int(c.peak_epoch)],
        "R_last": R["R"].iloc[-1],
        "R_closed": R["R_end"].iloc[-1],
        "lag_epochs": lag / steps,
    }
    return numbers.rounded(found, 2) | {"warm_up_epochs": float(c.peak_epoch), "epochs": c.epochs}


def relaxations_of_warm_up(config: Config, steps_per_epoch: int) -> float:
    """∫4λ̃α over a warm-up in which λ rises linearly: half of what it is at the peak, all along."""
    peak = theory.relaxation_steps(lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum)
    return float(config.peak_epoch * steps_per_epoch / 2 / peak)
