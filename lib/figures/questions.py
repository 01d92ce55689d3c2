"""The figures of the post's open questions from the records of a scale: a function gives that of each question.

`lib.figures.gallery` has their names. ``scale`` is as of `lib.library.runs`, which also says what they raise.
"""

from functools import partial

import pandas as pd

from .. import library, scales
from ..results import analysis, question_tables
from . import question_plots
from .drawn import FORMS, Drawn, all_runs


def plateau(scale: str) -> Drawn:
    """R of each form while λ stays, by epoch, and of single filters."""
    forms = {form: library.runs(scale, f"plateau/{form}") for form in (*FORMS, "no-decay")}
    decay = scales.base(scale).weight_decay
    by_epoch = question_tables.corrected_by_epoch(forms, decay)
    filters = question_tables.filters({form: forms[form] for form in FORMS})
    numbers = pd.concat([by_epoch, filters], ignore_index=True)
    return partial(question_plots.plateau, by_epoch, filters), numbers, all_runs(forms)


def lars_parts(scale: str) -> Drawn:
    """Training accuracy of what may make LARS differ from SGD, between both."""
    parts = ("clipped", "decay-follows", "lars-turning", "lars-annealed", "lars-smoothed")
    forms = {form: library.runs(scale, f"lars-parts/{form}") for form in ("heavy-ball", *parts, "lars")}
    table = question_tables.accuracies(forms)
    return partial(question_plots.gap, table), table, all_runs(forms)


def start(scale: str) -> Drawn:
    """R from other initial norms, and training accuracy of SGD and of LARS from each."""
    usual = {form: library.runs(scale, f"lars-parts/{form}") for form in ("heavy-ball", "lars")}
    forms = library.forms(scale, "start")
    by_scale = {
        f"{x:g}": usual["heavy-ball"] if x == 1 else forms[f"sgd-x{x:g}"] for x in (0.125, 1, 4, 8, 16)
    }
    ratios = question_tables.ratios_by_epoch(by_scale)
    table = question_tables.by_initial_scale([*all_runs(usual), *all_runs(forms)])
    runs = [*all_runs(forms), *all_runs(usual)]
    return partial(question_plots.start, ratios, table), pd.concat([ratios, table]), runs


def adam(scale: str) -> Drawn:
    """Rotation of each layer with SGD, LARS and both forms of Adam."""
    names = ("dynamics/heavy-ball", "lars/lars", "adam/adamw-x1", "adam/l2-x1")
    called = ("heavy-ball", "lars", "AdamW", "Adam + L2")
    forms = {call: library.runs(scale, name) for call, name in zip(called, names, strict=True)}
    forms = {call: analysis.with_steps(runs) for call, runs in forms.items()}
    table = question_tables.rotations(forms, forms["heavy-ball"][0])
    return partial(question_plots.rotations, table), table, all_runs(forms)


def layers(scale: str) -> Drawn:
    """The best λ of each layer, where the others keep theirs."""
    forms = library.forms(scale, "layers")
    baseline = library.runs(scale, "layers/baseline")
    moved = [run for form, runs in forms.items() for run in runs if form.startswith(("up-", "down-"))]
    table = question_tables.vertices(baseline, moved)
    return partial(question_plots.vertices, table), table, [*baseline, *moved]


def decay(scale: str) -> Drawn:
    """Rotation and training accuracy against λ, with no decay, the usual one and more."""
    runs = library.runs(scale, "decay")
    table = question_tables.against_rate(runs)
    return partial(question_plots.decay, table), table, runs
