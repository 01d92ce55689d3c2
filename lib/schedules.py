"""Schedules: frozen callables from training time, in epochs, to a value."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PiecewiseLinear:
    """Straight lines through ``(knots[i], values[i])``, constant outside the first and last knot.

    A schedule: a frozen callable from training time, in epochs, to a value.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, epoch):
        """Value at ``epoch``, a number or an array of them."""
        return np.interp(epoch, self.knots, self.values)


def per_step(schedule, epochs: int, steps_per_epoch: int) -> np.ndarray:
    """One value of a schedule for each step, shape ``(epochs * steps_per_epoch,)``, taken at its middle.

    The middle makes the sum over steps the schedule's exact integral (but for the step that holds a
    knot), and keeps a schedule that starts and ends at zero from wasting its first and last step.
    """
    steps = np.arange(epochs * steps_per_epoch)
    return schedule((steps + 0.5) / steps_per_epoch)
