"""What a reader may try in each chapter: a change, what the theory expects of it, and the command."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from IPython.display import Markdown

from .. import scales, theory
from ..config import Config
from . import learning_rates


@dataclass(frozen=True, eq=False)
class Try:
    """A change of `lib.scales.KNOBS`, and what ``expected``, a formula of the base run, becomes by it.

    ``sentence`` says it, with ``{now}`` at the recorded settings and ``{then}`` after the change.
    """

    changes: Mapping[str, float | int]
    expected: Callable[[Config], float]
    sentence: str


def _line(config: Config) -> float:
    """√(2λα(1−ρ)) at the peak of λ; of the run without momentum too, which keeps λ/(1−ρ)."""
    return float(
        theory.equilibrium_ratio(lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum)
    )


def _plain_line(config: Config) -> float:
    """√(2λα) of the run without momentum, whose λ is the base run's over 1−ρ."""
    lr = config.lr / (1 - config.momentum)
    return float(theory.equilibrium_ratio(lr=lr, weight_decay=config.weight_decay))


def _rotation(config: Config) -> float:
    """√(2λα/(1+ρ)) at the peak of λ."""
    return float(theory.rotation(lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum))


def _relaxation(config: Config) -> float:
    """Steps in which |w|⁴ relaxes, at the peak of λ."""
    return float(
        theory.relaxation_steps(lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum)
    )


def _growth(config: Config) -> float:
    """By which factor the |w|² of LARS grows over a run, were its gradients uncorrelated."""
    steps = config.epochs * config.steps_per_epoch
    lr = config.lr_schedule((np.arange(steps) + 0.5) / config.steps_per_epoch)
    rate = theory.equilibrium_ratio(lr=lr, weight_decay=config.weight_decay, momentum=config.momentum)
    return float(np.prod(1 + (rate / (1 - config.momentum)) ** 2))


TRIES: dict[str, tuple[Try, ...]] = {
    "setup": (
        Try({"epochs": 12}, learning_rates.relaxations,
            "Half the training. It has {then} *relaxation times*, in which norms forget their start, where it had {now}."),
        Try({"weight_decay": 0.002}, learning_rates.relaxations,
            "Four times the decay. Now it has {then} of them, and not {now}: norms soon forget their start."),
    ),
    "dynamics": (
        Try({"weight_decay": 0.002}, _relaxation,
            "Four times the decay. A norm that is off its balance comes back in {then} steps at the peak, "
            "and no longer in {now}; growth and shrinkage meet earlier."),
        Try({"weight_decay": 0.0}, _plain_line,
            "No decay. The line of λ|g|/|w| falls from {now} to {then}: "
            "norms only grow, and steps become shorter."),
    ),
    "equilibrium": (
        Try({"weight_decay": 0.002}, _plain_line,
            "Four times the decay. The peak of the line goes from {now} to {then}, twice as high, and the circles with it."),
        Try({"lr": 0.8}, _plain_line,
            "Twice the learning rate. The peak of the line goes from {now} to {then}, by a factor of √2."),
    ),
    "batch-size": (
        Try({"batch_size": 128, "lr": 0.8}, _line,
            "Twice the batch and twice λ. The step goes from {now} to {then}, by √2, and the quotient of whole "
            "and quarter batch stays 2."),
        Try({"batch_size": 128}, _line,
            "Twice the batch alone. The norms shrink, as gradients are less noisy; the line stays at {then}."),
    ),
    "momentum": (
        Try({"momentum": 0.5}, _rotation,
            "Less momentum. At the peak the rotation goes only from {now} to {then}, while the line of "
            "λ|g|/|w| more than doubles."),
        Try({"momentum": 0.0}, _rotation,
            "None at all. The three forms are one run, and its rotation is {then} at the peak, where it was {now}."),
    ),
    "lars": (
        Try({"weight_decay": 0.002}, _line,
            "Four times the decay. LARS has none, but its rate is that of SGD: {then} at the peak, and not {now}."),
        Try({"epochs": 12}, _growth,
            "Half the training. The norms of LARS grow by the factor {then} at most, and not by {now}."),
    ),
    "learning-rates": (
        Try({"weight_decay": 0.002}, lambda config: 0.4 * 5e-4 / config.weight_decay,
            "Four times the decay. If the relative step is what counts, a rate of {now} is at {then} now, and so "
            "the best rates should move down, by up to two octaves."),
        Try({"epochs": 48}, learning_rates.relaxations,
            "Twice the training, and runs of the sweep twice as long. The base run has {then} relaxation times, where "
            "it had {now}, and curves at low λ should come closer to each other."),
    ),
}  # fmt: skip


def shown(chapter: str) -> Markdown:
    """What to try in a chapter, with numbers and commands; raises ValueError when there is nothing."""
    if chapter not in TRIES:
        raise ValueError(f"chapter={chapter!r} is not known; it must be one of {', '.join(TRIES)}")
    return Markdown("\n".join(_text(chapter, one) for one in TRIES[chapter]))


def _text(chapter: str, one: Try) -> str:
    now, then = (one.expected(scales.base(at)) for at in ("demo", chosen(one)))
    options = " ".join(f"-p {name} {value:g}" for name, value in one.changes.items())
    sentence = one.sentence.replace("{now}", f"{now:.3g}").replace("{then}", f"{then:.3g}")
    command = f".venv/bin/papermill book/{chapter}.ipynb out.ipynb -p scale demo {options}"
    return f"- {sentence}\n\n  ```sh\n  {command}\n  ```\n"


def chosen(one: Try) -> scales.Chosen:
    """The runs of a try, at the scale that any laptop trains."""
    return scales.chosen(scales.OWN_SCALE, **one.changes)
