"""`Run`: what a training measured, and the names of its columns."""

from dataclasses import dataclass, field

import pandas as pd

from .config import Config

#: What is measured at every step for each layer.
QUANTITIES = (
    "weight_norm_sq",  # |w|², before the step
    "grad_norm_sq",  # |g|², g the gradient of the mean loss, without weight decay
    "weight_dot_grad",  # w·g
    "update_norm_sq",  # |Δw|², Δw all that the step changed
    "grad_dot_average",  # g_t·v_{t−1}
    "average_norm_sq",  # |v_{t−1}|², v_t = ρ v_{t−1} + (1−ρ) g_t, v_{−1} = 0
)
#: Decay ρ of the average v of earlier gradients, as in the post's test of gradient correlation.
AVERAGE_DECAY = 0.9
STEP_COLUMNS = ("step", "epoch", "layer", "lr", *QUANTITIES)
EPOCH_COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
NOISE_COLUMNS = ("epoch", "batch_size", "layer", "grad_norm_sq", "grad_product")
FILTER_COLUMNS = ("epoch", "layer", "filter", "weight_norm_sq", "grad_norm_sq", "cosine")


def no_noise() -> pd.DataFrame:
    """The table of `lib.gradient_noise.measure` without a row."""
    return pd.DataFrame(columns=list(NOISE_COLUMNS))


def no_frozen_filters() -> pd.DataFrame:
    """The table of `lib.gradient_noise.measure_filters` without a row."""
    return pd.DataFrame(columns=list(FILTER_COLUMNS))


def no_filter() -> pd.DataFrame:
    """The table of single filters without a row."""
    return pd.DataFrame(columns=list(STEP_COLUMNS))


def part_of_epoch(step, steps_per_epoch: int, averages: int):
    """In which part of the run a step lies, where each epoch has ``averages`` parts, as even as can be.

    >>> [part_of_epoch(step, 5, 2) for step in range(7)]
    [0, 0, 0, 1, 1, 2, 2]
    """
    return step // steps_per_epoch * averages + step % steps_per_epoch * averages // steps_per_epoch


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its settings, what was measured, and how it came about.

    ``steps`` has a row for each step that is kept and each layer, in that order: ``step`` from 0, ``epoch`` (the
    step's middle, in epochs), ``layer`` (categorical, from input to output), ``lr``, and the
    `QUANTITIES`. ``epochs`` has a row for each epoch: ``epoch`` from 1,
    ``train_loss``, ``train_accuracy`` (while training, on augmented images), ``test_loss``,
    ``test_accuracy``; accuracies are fractions. ``noise`` and ``frozen_filters`` are the tables of `lib.gradient_noise`;
    they are empty unless the config asks for them. A run that diverged has the epochs before that, none
    perhaps, and ``diverged_at``, the step at which a number was NaN or infinite.

    Where the config asks for ``averages``, a row of ``steps`` is the mean over a part of an epoch, and its ``step``
    and ``epoch`` are the middle of it. ``by_filter`` is a table of the same columns, empty unless the config asks
    for it: a row for each epoch, the mean over it, and filter, whose name stands for the layer's: ``prep[0]``.
    """

    config: Config
    steps: pd.DataFrame
    epochs: pd.DataFrame
    provenance: dict[str, str | int | float]
    noise: pd.DataFrame = field(default_factory=no_noise)
    frozen_filters: pd.DataFrame = field(default_factory=no_frozen_filters)
    diverged_at: int | None = None
    by_filter: pd.DataFrame = field(default_factory=no_filter)

    @property
    def test_accuracy(self) -> float:
        """Fraction of the test images that are right after the last epoch.

        Raises DivergedError when the run diverged: it has none, and chance is no measurement.
        """
        if self.diverged_at is not None:
            raise DivergedError(self)
        return float(self.epochs["test_accuracy"].iloc[-1])

    @property
    def diverged_in(self) -> str:
        """Where it diverged, in words: ``at step 20, in epoch 4``; raises ValueError when it did not."""
        if self.diverged_at is None:
            raise ValueError(f"{self.config} did not diverge")
        return f"at step {self.diverged_at}, in epoch {1 + self.diverged_at // self.config.steps_per_epoch}"

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; raises ValueError when the run keeps none."""
        if self.steps.empty:
            raise ValueError(f"{self.config} keeps its epochs only, and no steps")
        last = self.steps.iloc[-1]
        return round((last["step"] + 0.5) / last["epoch"])


class DivergedError(RuntimeError):
    """The loss of a run, or what was measured, became NaN or infinite; ``run`` is what there is of it."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.run = run

    def __str__(self):
        return (
            f"the loss or a weight became infinite or NaN at step {self.run.diverged_at} with {self.run.config}; "
            "try a smaller lr, or a later peak_epoch"
        )
