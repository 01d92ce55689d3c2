"""What the figures of the open questions show, as tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .. import theory
from ..run import Run
from . import analysis, open_questions
from .open_questions import OCTAVES, WINDOW, rows, train_accuracy, turns, vertex

Forms = Mapping[str, Sequence[Run]]
#: Draws of accuracies about those that were found, for the interval of a vertex.
DRAWS = 2000


def corrected_by_epoch(forms: Forms, weight_decay: float) -> pd.DataFrame:
    """R√(1+2ρo) for each form and epoch: ``R``, its mean over layers and seeds, ``low`` and ``high`` over layers.

    With ρ² for Nesterov. ``predicted``, where drifts are fitted, is √(1 + τ d ln c²/dt), the mean over layers. The line
    is that of ``weight_decay``, also of a run without decay.
    """
    tables = []
    for form, runs in forms.items():
        of_layers = pd.concat([_corrected(run, weight_decay) for run in runs], axis=1).mean(axis=1)
        by_epoch = of_layers.groupby("epoch")
        table = pd.DataFrame({"R": by_epoch.mean(), "low": by_epoch.min(), "high": by_epoch.max()})
        tables.append(table.assign(form=form, predicted=_drifting(runs, table.index)).reset_index())
    return pd.concat(tables, ignore_index=True)[["form", "epoch", "R", "low", "high", "predicted"]]


def _corrected(run: Run, weight_decay: float) -> pd.Series:
    settings = {"momentum": run.config.momentum, "nesterov": run.config.nesterov}
    table = rows(run)
    line = theory.equilibrium_ratio(
        lr=table["lr"].astype(float), weight_decay=run.config.weight_decay or weight_decay, **settings
    )
    table = table.assign(epoch=np.floor(table["epoch"]) + 0.5, predicted=line)
    by = ["epoch", "layer"]
    sums = table.groupby(by, observed=True)[["grad_dot_average", "grad_norm_sq"]].sum()
    factor = theory.correlation_correction(analysis.overlap_of_steps(sums), **settings)
    return analysis.ratio_to_line(table, by) / factor


def _drifting(runs: Sequence[Run], epochs: pd.Index) -> np.ndarray:
    """√(1 + drift) of the mean over seeds and layers in `WINDOW`, and NaN outside it and without decay."""
    if not runs[0].config.weight_decay:
        return np.full(len(epochs), np.nan)
    square = 1 + pd.concat([open_questions.drift(run) for run in runs], axis=1).mean(axis=1)
    first, last = (epoch / 24 * runs[0].config.epochs for epoch in WINDOW)
    return np.where((epochs >= first) & (epochs < last), np.sqrt(square[square > 0]).mean(), np.nan)


def filters(forms: Forms) -> pd.DataFrame:
    """R√(1+2ρo) over its prediction for each filter, the mean over seeds: ``form``, ``filter``, ``ratio``."""
    found = {
        form: pd.concat(
            [open_questions.stationary_ratio(WINDOW, open_questions.by_filter(run)) for run in runs], axis=1
        ).mean(axis=1)
        for form, runs in forms.items()
    }
    table = pd.concat(found, names=["form", "filter"]).rename("ratio").reset_index()
    return table.astype({"filter": str})


def accuracies(forms: Forms) -> pd.DataFrame:
    """Accuracy of training in the last epoch, in %, of each run and ``mean``: ``form``, ``seed``, ``accuracy``."""
    records = [(form, run.config.seed, train_accuracy(run)) for form, runs in forms.items() for run in runs]
    table = pd.DataFrame(records, columns=["form", "seed", "accuracy"])
    return table.assign(mean=table.groupby("form")["accuracy"].transform("mean"))


def by_initial_scale(runs: Sequence[Run]) -> pd.DataFrame:
    """Training accuracy in %, and its ``mean``, by ``optimizer``, ``seed`` and ``scale``: of several, from equilibrium,
    the geometric mean."""
    found = []
    for run in runs:
        scale = run.config.init_scale
        kind = run.config.optimizer if len(scale) == 1 else "from equilibrium"
        found.append((kind, run.config.seed, float(np.exp(np.log(scale).mean())), train_accuracy(run)))
    table = pd.DataFrame(found, columns=["optimizer", "seed", "scale", "accuracy"])
    table["mean"] = table.groupby(["optimizer", "scale"])["accuracy"].transform("mean")
    return table.sort_values(["optimizer", "scale", "seed"], ignore_index=True)


def ratios_by_epoch(forms: Forms) -> pd.DataFrame:
    """R for each form and epoch, the mean over layers and seeds: ``form``, ``epoch``, ``R``."""
    found = {
        form: pd.concat(
            [analysis.ratio_of_epochs(rows(run)).groupby("epoch").mean() for run in runs], axis=1
        ).mean(axis=1)
        for form, runs in forms.items()
    }
    return pd.concat(found, names=["form", "epoch"]).rename("R").reset_index()


def rotations(forms: Forms, base: Run) -> pd.DataFrame:
    """|Δw|/|w| of each layer over √(2λα/(1+ρ)) of a heavy-ball run, by root mean squares over the window.

    Columns ``form``, ``layer``, ``rotation``, the range over seeds, ``low`` and ``high``, and of AdamW ``expected``,
    by its norm equation.
    """
    c = base.config
    lr = analysis.in_window(base.steps, c.epochs)["lr"].astype(float)
    angle = theory.rotation(lr=lr, weight_decay=c.weight_decay, momentum=c.momentum)
    predicted = float(np.sqrt((angle**2).mean()))
    tables = []
    for form, runs in forms.items():
        each = pd.concat([turns(run) / predicted for run in runs], axis=1)
        table = pd.DataFrame(
            {"rotation": each.mean(axis=1), "low": each.min(axis=1), "high": each.max(axis=1)}
        )
        adamw = runs[0].config.optimizer == "adamw"
        table["expected"] = open_questions.turn_by_adamw_equation(runs[0]) / predicted if adamw else np.nan
        tables.append(table.assign(form=form).reset_index())
    columns = ["form", "layer", "rotation", "low", "high", "expected"]
    return pd.concat(tables, ignore_index=True)[columns]


def vertices(baseline: Sequence[Run], runs: Sequence[Run]) -> pd.DataFrame:
    """Where the parabola through each layer's accuracies is highest, in octaves, with a 90 % interval by ``layer``.

    The interval is of draws whose scatter is that of the baseline's seeds. NaN where there is no top.
    """
    accuracy = {(r.config.layers, r.config.layers_lr): train_accuracy(r) for r in runs}
    middle = pd.Series([train_accuracy(run) for run in baseline])
    scatter = middle.std() if len(middle) > 1 else np.nan
    noise = np.random.default_rng(0).standard_normal((DRAWS, 3)) * scatter
    found = []
    for layer in dict.fromkeys(layer for layer, _ in accuracy):
        low, high = accuracy[layer, 2.0**-OCTAVES], accuracy[layer, 2.0**OCTAVES]
        three = np.array([low, middle.mean(), high])
        drawn = [vertex(*one) for one in three + noise / [1, np.sqrt(len(middle)), 1]]
        ends = np.nanquantile(drawn, [0.05, 0.95]) if np.isfinite(drawn).any() else [np.nan, np.nan]
        found.append((layer, vertex(*three), *ends))
    return pd.DataFrame(found, columns=["layer", "octaves", "low", "high"])


def against_rate(runs: Sequence[Run]) -> pd.DataFrame:
    """Rotation, the geometric mean over layers, and accuracy of training in %, by network, decay and λ."""
    found = []
    for run in runs:
        c = run.config
        turn = float(np.exp(np.log(turns(run)).mean()))
        decay, lr = c.layers_decay * c.weight_decay, c.layers_lr * c.lr
        found.append((c.architecture, decay, lr, turn, train_accuracy(run)))
    columns = ["architecture", "decay", "lr", "rotation", "accuracy"]
    return pd.DataFrame(found, columns=columns).sort_values(columns[:3], ignore_index=True)
