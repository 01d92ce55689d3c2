"""Ends of sentences that depend on how many seeds are recorded."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from ..config import Config
from ..run import Run
from . import analysis, numbers, rule, statistics
from .numbers import NONE, Numbers

#: Where the fall of λ alone makes R less than that within the window, there is no balance to speak of.
SETTLED = 0.85


def counted(n: int, what: str) -> str:
    """``one epoch``, or ``5 epochs``."""
    return f"one {what}" if n == 1 else f"{n} {what}s"


def seeds(n: int) -> str:
    """``one seed``, or ``3 seeds``."""
    return counted(n, "seed")


def seeds_each(runs: list[Run]) -> str:
    """How many seeds each setting has among some runs: ``3 seeds``, or ``1 to 6 seeds``."""
    counts = Counter(replace(run.config, seed=0) for run in runs).values()
    fewest, most = min(counts), max(counts)
    return seeds(most) if fewest == most else f"{fewest} to {most} seeds"


def chance(alike: list[Run]) -> str:
    """How far runs are apart that differ in their seed alone."""
    if len(alike) == 1:
        return "With one seed recorded, that cannot be said."
    apart = 100 * np.ptp(analysis.accuracy(alike))
    return (
        f"The {len(alike)} heavy-ball runs of the other chapters differ in their seed alone, and the best of them "
        f"ends {apart:.1f} percentage points above the worst. Near the top of a curve, neighbouring learning rates "
        "often differ by less."
    )


def mean_of(n: int) -> str:
    """``the mean of 5 seeds``, or ``with one seed``."""
    return "with one seed" if n == 1 else f"the mean of {seeds(n)}"


def accuracy(runs: list[Run]) -> str:
    """What some runs reached: ``85.9 %, the mean of 5 seeds (from 85.4 to 86.5 %)``."""
    found = 100 * analysis.accuracy(runs)
    span = f" (from {found.min():.1f} to {found.max():.1f} %)" if len(runs) > 1 else ""
    return f"{found.mean():.1f} %, {mean_of(len(runs))}{span}"


def difference(of_seeds: pd.Series) -> str:
    """A difference in accuracy: ``−0.11 ± 0.55 percentage points, mean and 90 % interval of 5 seeds``."""
    n = len(of_seeds)
    text = numbers.difference("d", of_seeds)["d"]
    if n >= rule.ENOUGH_SEEDS:
        return f"{text} percentage points, mean and 90 % interval of {n} seeds"
    return f"{text} percentage points, {mean_of(n)}: too few for an interval"


def network(config: Config) -> str:
    """``Page's ResNet-9``, or what else of its family a network is."""
    if config.architecture == Config.architecture:
        return "Page's ResNet-9"
    return f"{config.architecture}, of the family of Page's ResNet-9"


def peaks(runs: list[Run]) -> str:
    """How many convolutions have their largest |w|² in epochs 1 to 10: ``2 to 6, depending on the seed,``."""
    early = sorted({int(statistics.peaks_within((1, 10), run).iloc[0]) for run in runs})
    return f"{early[0]} to {early[-1]}, depending on the seed," if len(early) > 1 else str(early[0])


def crossing(found: Numbers) -> str:
    """How R goes through the window, and what kind of equilibrium that is; from `numbers.crossing`."""
    first, last = float(found["R_first"]), float(found["R_last"])
    if not np.isfinite([first, last]).all():
        return "Without decay there is no balance, and R has no value."
    moves = (
        f"In epoch {found['epoch_first']} the mean R of the convolutions is {first:.2f}, and in epoch {found['epoch_last']} it is "
        f"{last:.2f}. "
    )
    if last < 1 < first:
        return moves + (
            "While the norms are still on their way up, R is above 1. Later the norms are on their way down, behind a rate "
            "that falls, and R is below. Somewhere in between it goes through 1. So what is called equilibrium here is the "
            "slow crossing of a balance that moves, and R ≈ 1 on average over the window is in part a gift of the schedule."
        )
    if max(first, last) <= 1:
        return moves + (
            "The norms are on their way down already, behind a rate that falls, and R is below 1. So what is called "
            "equilibrium here is a balance that moves, with norms that follow it at a small distance."
        )
    return moves + (
        "Where R is above 1, norms are still on their way up, and where it is below, on their way down. So what is called "
        "equilibrium here is a balance that norms are not through with."
    )


def window_of(found: Numbers) -> str:
    """Why the window is where it is, or why no balance can be expected there; from `prose.equilibrium`'s numbers."""
    late, relaxation = float(found["window_end"]), float(found["relaxation_epochs"])
    peak = f"The rate peaks in epoch {found['peak_epoch']:g}"
    if not np.isfinite(relaxation):
        return f"{peak}. Without decay norms have nothing to catch up with."
    if float(found["peak_epoch"]) + relaxation >= late:
        return (
            f"{peak}, and norms need a relaxation time, {relaxation:.1f} epochs, to catch up with it. That is longer than the "
            "window, so that a balance cannot be expected in it."
        )
    closed = float(found["window_closed"])
    if closed < SETTLED:
        return (
            f"{peak}, and norms need {relaxation:.1f} epochs to catch up with it. By epoch {late:g} the fall of the rate alone "
            f"makes R {closed:.2f}, as the last section of this chapter will show. In so short a training the way up and the "
            "way down leave little room for a balance."
        )
    return (
        f"{peak}, and a relaxation time later the norms have caught up with it. By epoch {late:g} the fall of the rate alone "
        f"makes R {closed:.2f}, as the last section of this chapter will show: from then on norms lag behind. "
        "Between the two a balance can be expected."
    )


def deviation(found: Numbers) -> str:
    """Whether the end is what the schedule makes of it; from `numbers.equation_numbers`."""
    off = abs(float(found["end_closed"]) - float(found["end_measured"]))
    if not np.isfinite(off):
        return "Without decay there is no equilibrium to leave."
    if off < 0.1:
        return (
            "So the deviation is no flaw of the theory: equilibrium is left because the schedule ends, and the theory says "
            "by how much."
        )
    return (
        "Here the schedule alone does not give the end: the closed form takes gradients for constant, and the fall for so "
        "long that its start is forgotten."
    )


def unexplained(left: pd.Series, left_along: pd.Series) -> str:
    """What (1′) and (2′) leave of the change of a norm, and what the part of g along w makes of that; by layer."""
    if not np.isfinite([left.max(), left_along.max()]).all():
        return "Without decay there is but one of them, and nothing to compare it with."
    said = (
        f"Of the smaller of them they leave at most {100 * left.max():.2g} % over an epoch, rms over epochs, in {left.idxmax()}. "
        f"With the mixed term −2λ w·g, which a right angle makes zero, it is {100 * left_along.max():.2g} % in "
        f"{left_along.idxmax()}."
    )
    if left_along.max() < left.max() / 2:
        said += " So what they miss is the small part of g along w. It counts for most at the end, where steps are shortest."
    return said


def at_scale(scale: str, sentence: str) -> str:
    """The sentence as said of a scale that is not that of the page."""
    return f"At scale {scale}, {sentence[0].lower()}{sentence[1:]}"


def of_others(found: Numbers) -> Numbers:
    """What other seeds predict of R, from `numbers.equation_numbers`; that there are none, where there are none."""
    late, end = (found[name] for name in ("late_others", "end_others"))
    if found["others_layer"] == NONE:
        return {
            "others_said": "With no others recorded at this scale, or without weight decay, it cannot be predicted.",
            "late_others": NONE,
            "end_others": NONE,
        }
    return {
        "others_said": f"From the gradients of other seeds it comes out within {found['others_difference']:.2f} in the "
        f"worst layer and epoch after the first twelfth, {found['others_layer']} in epoch {found['others_epoch']}.",
        "late_others": f"{late:.2f}",
        "end_others": f"{end:.2f}",
    }
