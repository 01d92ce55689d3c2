"""What the claims on the post's open questions look at.

Statistics are as in `lib.results.statistics`. Accuracies are those of the last epoch of training, whose scatter is
a third of the test's, in %, paired by seed.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from .. import theory
from ..config import layers_of
from ..run import Run, part_of_epoch
from ..schedules import per_step
from . import analysis
from . import statistics as st
from .statistics import Seeds, Window, rows

#: Where equilibrium is looked for, and the drift of gradients on the plateau is fitted.
WINDOW = (6, 14)
#: How far from its prediction a filter may be.
OF_A_FILTER = 0.15
#: What is as good as R of a normal start.
RECOVERED = 0.9
#: By how much λ of a layer is changed, in octaves.
OCTAVES = 3


def train_accuracy(run: Run) -> float:
    """In the last epoch, in %, on augmented images."""
    return 100 * float(run.epochs["train_accuracy"].iloc[-1])


# plateau


@lru_cache(maxsize=32)  # asked for every epoch
def drift(run: Run) -> pd.Series:
    """τ d ln c²/dt of each layer: by how much c² grows while |w|⁴ relaxes, at the peak of λ; a fit over `WINDOW`.

    NaN in a run so short that the window has but one epoch.
    """
    table = rows(run, WINDOW)
    layers = pd.Index(table.loc[table["step"] == table["step"].iloc[0], "layer"])
    steps = table["step"].to_numpy(float)[:: len(layers)]
    # a filter without gradients has no drift, and counts as outside
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log((table["grad_norm_sq"] * table["weight_norm_sq"]).to_numpy(float))
        logs = logs.reshape(len(steps), len(layers))
        steps = steps - steps.mean()
        slopes = steps @ (logs - logs.mean(axis=0)) / (steps @ steps)
    tau = theory.relaxation_steps(lr=run.config.lr, **analysis.settings(run))
    return pd.Series(tau * slopes, layers)


def behind(run: Run) -> pd.Series:
    """√(1 + τ d ln c²/dt) of each layer: by what its steps are longer where c² grows and |w|⁴ is a little behind.

    NaN where c² falls so fast that no norm could follow.
    """
    return np.sqrt((1 + drift(run)).where(lambda square: square > 0))


def stationary_ratio(window: Window, run: Run) -> pd.Series:
    """R √(1+2ρo) over √(1 + τ d ln c²/dt), which is what it is while λ stays and c² grows slowly."""
    return st.corrected_ratio(window, run) / behind(run)


def by_filter(run: Run) -> Run:
    """The run with its filters in place of its layers."""
    return replace(run, steps=run.by_filter)


def filters_within(window: Window, *runs: Run) -> pd.Series:
    """The share of filters whose `stationary_ratio` is within `OF_A_FILTER` of 1, of each form; NaN where none is known."""
    found = {}
    for run in runs:
        off = (stationary_ratio(window, by_filter(run)) - 1).abs()
        c = run.config
        name = ("Nesterov" if c.nesterov else "heavy-ball") if c.momentum else "ρ = 0"
        found[name] = (off <= OF_A_FILTER).mean() if off.notna().any() else np.nan
    return pd.Series(found)


def ratio_to_line_of(window: Window, run: Run, reference: Run) -> pd.Series:
    """R, with the line that a reference has: without decay a run has none."""
    line = replace(run.config, weight_decay=reference.config.weight_decay)
    return analysis.ratio_to_line(rows(replace(run, config=line), window), ["layer"])


# what LARS does


def train_difference(window: Window, run: Run, reference: Run) -> pd.Series:
    """Training accuracy less that of a reference."""
    return st.number(train_accuracy(run) - train_accuracy(reference), "difference")


def gap_closed(seeds: Seeds, window: Window) -> pd.DataFrame:
    """How much of the mean gap from LARS to SGD a form of LARS closes, seed by seed."""
    form, sgd, lars = _accuracies(seeds)
    return ((form - lars) / (sgd - lars).mean()).to_frame("share")


def gap_of_clipping(seeds: Seeds, window: Window) -> pd.DataFrame:
    """The larger of what clipped SGD opens of the mean gap from SGD to LARS, and what smoothed LARS closes of it."""
    clipped, smoothed, sgd, lars = _accuracies(seeds)
    moved = pd.concat([sgd - clipped, smoothed - lars], axis=1)
    return (moved.max(axis=1) / (sgd - lars).mean()).to_frame("share")


def _accuracies(seeds: Seeds) -> list[pd.Series]:
    return [pd.Series({seed: train_accuracy(r) for seed, r in runs.items()}) for runs in seeds.values()]


def ratio_with_its_decay(window: Window, run: Run) -> pd.Series:
    """R, with the line of the decay that a step has."""
    table = rows(run, window)
    weight_decay = run.config.weight_decay_schedule(table["epoch"])
    line = theory.equilibrium_ratio(
        lr=table["lr"].astype(float), weight_decay=weight_decay, momentum=run.config.momentum
    )
    return analysis.ratio_to_line(table.assign(predicted=line), ["layer"])


# start


def recovery(window: Window, run: Run, reference: Run) -> pd.Series:
    """The first epoch, from 0, in which R of a layer is `RECOVERED` of a reference's; how many there are, if none."""
    R, normal = (analysis.ratio_of_epochs(rows(r)) for r in (run, reference))
    return _first_epoch(R / normal >= RECOVERED, run)


def recovery_by_equation(run: Run, reference: Run) -> pd.Series:
    """The epoch of `recovery` by the norm equation, from the norms of a run and the gradients of a reference."""
    along = analysis.ratio_by_epoch(_every_step(run), [_every_step(reference)]).set_index(["layer", "epoch"])
    normal = analysis.ratio_of_epochs(rows(reference))
    return _first_epoch(along["R_others"].reindex(normal.index) / normal >= RECOVERED, run)


def _first_epoch(reached: pd.Series, run: Run) -> pd.Series:
    """The first epoch of each layer in which something is so; how many there are, if none."""
    back = reached.groupby("layer", observed=True)
    return back.agg(lambda of_layer: float(np.argmax(of_layer)) if of_layer.any() else run.config.epochs)


def _every_step(run: Run) -> Run:
    """A run of averages with a row for each step: those of its part of the epoch, and its own λ."""
    c = run.config
    steps, layers = np.arange(c.epochs * c.steps_per_epoch), len(run.steps["layer"].cat.categories)
    # of so many parts some have no step, where epochs are short
    _, part = np.unique(part_of_epoch(steps, c.steps_per_epoch, c.averages), return_inverse=True)
    table = run.steps.iloc[(part[:, None] * layers + np.arange(layers)).ravel()].reset_index(drop=True)
    of_step = {
        "step": steps,
        "epoch": (steps + 0.5) / c.steps_per_epoch,
        "lr": per_step(c.lr_schedule, c.epochs, c.steps_per_epoch),
    }
    return replace(run, steps=table.assign(**{name: np.repeat(x, layers) for name, x in of_step.items()}))


def scale_differences(window: Window, *runs: Run) -> pd.Series:
    """Training accuracy from each initial scale, less that of the last of the runs."""
    *scaled, reference = runs
    return pd.Series(
        {f"{r.config.init_scale[0]:g}": train_accuracy(r) - train_accuracy(reference) for r in scaled}
    )


# adam, layers, decay


def turns(run: Run, window: Window = WINDOW) -> pd.Series:
    """|Δw|/|w| of each convolution, by root mean squares."""
    table = analysis.convolutions(analysis.in_window(run.steps, run.config.epochs, st.of_24(window)))
    turn, weight = analysis.sums([table["layer"]], table["update_norm_sq"], table["weight_norm_sq"])
    return np.sqrt(turn / weight).rename("turn")


def adamw_turn(run: Run, window: Window = WINDOW) -> float:
    """The rotation that is predicted for AdamW, by root mean squares; that of no layer in particular."""
    c = run.config
    lr = c.layers_lr * analysis.in_window(run.steps, c.epochs, st.of_24(window))["lr"].astype(float)
    turn = theory.adamw_rotation(lr=lr, weight_decay=c.layers_decay * c.weight_decay, beta1=c.momentum)
    return float(np.sqrt((turn**2).mean()))


def turn_by_adamw_equation(run: Run, window: Window = WINDOW) -> pd.Series:
    """The rotation of each convolution with AdamW while its norm is on the way from where it was drawn.

    By `lib.theory.adamw_ode`, in which no gradient is; at equilibrium it is `adamw_turn`.
    """
    c, table = run.config, analysis.convolutions(run.steps)
    lr = c.layers_lr * per_step(c.lr_schedule, c.epochs, c.steps_per_epoch)
    first, last = (round(epoch * c.steps_per_epoch * c.epochs / 24) for epoch in window)
    # of noise of rms 1, averaged with β₁
    step_sq = lr**2 * (1 - c.momentum) / (1 + c.momentum)
    found = {}
    for name, layer in list(layers_of(c.architecture, c.width).items())[:-1]:
        drawn = table.loc[table["layer"] == name, "weight_norm_sq"].iloc[0]
        size = 9 * layer.channels_in * layer.channels_out
        rms = theory.adamw_ode(
            np.sqrt(float(drawn) / size), lr=lr, weight_decay=c.layers_decay * c.weight_decay
        )
        found[name] = np.sqrt(step_sq[first:last].sum() / (rms[first:last] ** 2).sum())
    return pd.Series(found)


def turn_of_adamw(window: Window, run: Run) -> pd.Series:
    """|Δw|/|w| over the rotation that is predicted for AdamW."""
    return turns(run, window) / adamw_turn(run, window)


def spread_of_turns(window: Window, run: Run) -> pd.Series:
    """By how much the layer that turns most turns more than the one that turns least, as a fraction."""
    found = turns(run, window)
    return st.number(found.max() / found.min() - 1, "layers")


def turn_of_the_layer(window: Window, baseline: Run, *runs: Run) -> pd.Series:
    """Rotation of the layer that is changed, over the baseline's times √(λα): what λ and α make of it."""
    normal = turns(baseline, window)
    found = {}
    for run in runs:
        c = run.config
        found[c.layers] = (
            turns(run, window)[c.layers] / normal[c.layers] / np.sqrt(c.layers_lr * c.layers_decay)
        )
    return pd.Series(found)


def turn_of_others(window: Window, baseline: Run, *runs: Run) -> pd.Series:
    """Largest |change| of the rotation of a layer that is not changed, as a fraction, by the layer that is."""
    normal = turns(baseline, window)
    return pd.Series(
        {r.config.layers: (turns(r, window) / normal - 1).drop(r.config.layers).abs().max() for r in runs}
    )


def last_gradients(run: Run) -> pd.Series:
    """c = |g||w| of each convolution in the last epoch, by root mean squares."""
    last = rows(run, (24 - 24 / run.config.epochs, 24))
    squared = (last["grad_norm_sq"] * last["weight_norm_sq"]).groupby(last["layer"], observed=True)
    return np.sqrt(squared.mean())


def vertices(window: Window, baseline: Run, *runs: Run) -> pd.Series:
    """Where the parabola through a layer's three accuracies is highest, in octaves of its λ; NaN where it has no top."""
    accuracy = {(r.config.layers, r.config.layers_lr): train_accuracy(r) for r in runs}
    layers = dict.fromkeys(layer for layer, _ in accuracy)
    step = 2.0**OCTAVES
    middle = train_accuracy(baseline)
    return pd.Series(
        {layer: vertex(accuracy[layer, 1 / step], middle, accuracy[layer, step]) for layer in layers}
    )


def vertex(low: float, middle: float, high: float) -> float:
    """Where the parabola through values at −`OCTAVES`, 0 and `OCTAVES` is highest; NaN where it has no top."""
    curvature = low + high - 2 * middle
    return OCTAVES * (low - high) / (2 * curvature) if curvature < 0 else np.nan


def growth(run: Run, window: Window = WINDOW) -> pd.Series:
    """|w| of each convolution over that of its first row, by root mean squares."""
    steps = analysis.convolutions(run.steps)
    later = analysis.in_window(steps, run.config.epochs, st.of_24(window))
    norm_sq, first = (table.groupby("layer", observed=True)["weight_norm_sq"] for table in (later, steps))
    return np.sqrt(norm_sq.mean() / first.first())


def slopes_of_turns(window: Window, *runs: Run) -> pd.Series:
    """Slope of log rotation against log λ of each layer of each network."""
    found = {}
    for name, some in _by_network(runs).items():
        logs = np.log(pd.DataFrame({r.config.layers_lr: turns(r, window) for r in some}))
        slopes = np.polyfit(np.log(logs.columns.to_numpy(float)), logs.T, 1)[0]
        found |= {f"{name} {layer}": slope for layer, slope in zip(logs.index, slopes, strict=True)}
    return pd.Series(found)


def _by_network(runs: tuple[Run, ...]) -> dict[str, list[Run]]:
    names = dict.fromkeys(r.config.architecture for r in runs)
    return {name: [r for r in runs if r.config.architecture == name] for name in names}


def best_rate(runs: list[Run]) -> float:
    """log₂ of the best λ of the convolutions over that of the others, from the parabola near the best of the runs.

    Near are the rates within two octaves, or the nearest three.
    """
    octave = np.log2([r.config.layers_lr for r in runs])
    accuracy = np.array([train_accuracy(r) for r in runs])
    distance = np.abs(octave - octave[accuracy.argmax()])
    near = distance <= max(2.0, np.sort(distance)[2])
    curvature, slope, _ = np.polyfit(octave[near], accuracy[near], 2)
    if curvature >= 0:
        return float(octave[accuracy.argmax()])
    return float(np.clip(-slope / (2 * curvature), octave[near].min(), octave[near].max()))


def octaves_between(window: Window, *runs: Run) -> pd.Series:
    """Octaves from the best λ of the first network to that of the second."""
    first, second = (best_rate(some) for some in _by_network(runs).values())
    return st.number(second - first, "octaves")


def range_of_accuracy(window: Window, *runs: Run) -> pd.Series:
    """Largest training accuracy less least, of the rates from that of the base run up, of each network."""
    found = {}
    for name, some in _by_network(runs).items():
        accuracy = [train_accuracy(r) for r in some if r.config.layers_lr >= 1]
        found[name] = max(accuracy) - min(accuracy)
    return pd.Series(found)
