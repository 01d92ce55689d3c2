"""The figures of the open questions from the records of a scale, by name, for `lib.figures.gallery`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from .. import library, scales
from ..results import analysis, question_tables
from ..run import Run
from . import questions

Drawn = tuple[Figure, pd.DataFrame, list[Run]]
FORMS = ("sgd", "heavy-ball", "nesterov")


def _all(forms: Mapping[str, Sequence[Run]]) -> list[Run]:
    return [run for runs in forms.values() for run in runs]


def _plateau(scale: str) -> Drawn:
    forms = {form: library.runs(scale, f"plateau/{form}") for form in (*FORMS, "no-decay")}
    decay = scales.base(scale).weight_decay
    by_epoch = question_tables.corrected_by_epoch(forms, decay)
    filters = question_tables.filters({form: forms[form] for form in FORMS})
    numbers = pd.concat([by_epoch, filters], ignore_index=True)
    return questions.plateau(by_epoch, filters), numbers, _all(forms)


def _lars_parts(scale: str) -> Drawn:
    parts = ("clipped", "decay-follows", "lars-turning", "lars-annealed", "lars-smoothed")
    names = ["dynamics/heavy-ball", *(f"lars-parts/{part}" for part in parts), "lars/lars"]
    forms = {name.partition("/")[2]: library.runs(scale, name) for name in names}
    table = question_tables.accuracies(forms)
    return questions.gap(table), table, _all(forms)


def _start(scale: str) -> Drawn:
    usual = {"sgd": library.runs(scale, "dynamics/heavy-ball"), "lars": library.runs(scale, "lars/lars")}
    forms = library.forms(scale, "start")
    by_scale = {"1": usual["sgd"]} | {f"{x:g}": forms[f"sgd-x{x:g}"] for x in (0.125, 4.0, 8.0, 16.0)}
    ratios = question_tables.ratios_by_epoch(by_scale)
    table = question_tables.by_initial_scale([*_all(usual), *_all(forms)])
    return questions.start(ratios, table), pd.concat([ratios, table]), [*_all(forms), *_all(usual)]


def _adam(scale: str) -> Drawn:
    names = ("dynamics/heavy-ball", "lars/lars", "adam/adamw-x1", "adam/l2-x1")
    called = ("heavy-ball", "lars", "AdamW", "Adam + L2")
    forms = {call: library.runs(scale, name) for call, name in zip(called, names, strict=True)}
    forms = {call: analysis.with_steps(runs) for call, runs in forms.items()}
    table = question_tables.rotations(forms, forms["heavy-ball"][0])
    return questions.rotations(table), table, _all(forms)


def _layers(scale: str) -> Drawn:
    forms = library.forms(scale, "layers")
    baseline = library.runs(scale, "layers/baseline")
    moved = [run for form, runs in forms.items() for run in runs if form.startswith(("up-", "down-"))]
    table = question_tables.vertices(baseline, moved)
    return questions.vertices(table), table, [*baseline, *moved]


def _decay(scale: str) -> Drawn:
    runs = library.runs(scale, "decay")
    table = question_tables.against_rate(runs)
    return questions.decay(table), table, runs


FIGURES: dict[str, Callable[[Any], Drawn]] = {
    "plateau": _plateau,
    "lars-parts": _lars_parts,
    "start": _start,
    "adam": _adam,
    "layers": _layers,
    "decay": _decay,
}
