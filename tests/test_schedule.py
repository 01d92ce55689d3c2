import numpy as np
import pytest

from lib.schedules import PiecewiseLinear, per_step

TRIANGLE = PiecewiseLinear((0, 5, 24), (0, 0.4, 0))


@pytest.mark.parametrize(
    "epoch, value", [(-1, 0), (0, 0), (2.5, 0.2), (5, 0.4), (14.5, 0.2), (23, 0.4 / 19), (24, 0), (30, 0)]
)
def test_straight_lines_between_knots_and_constant_outside(epoch, value):
    assert TRIANGLE(epoch) == pytest.approx(value, abs=1e-15)


def test_an_array_gives_an_array():
    epochs = np.linspace(0, 24, 7)
    np.testing.assert_array_equal(TRIANGLE(epochs), [TRIANGLE(e) for e in epochs])


def test_equal_schedules_are_one():
    assert {TRIANGLE, PiecewiseLinear((0, 5, 24), (0, 0.4, 0))} == {TRIANGLE}


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 97])
def test_steps_sum_to_the_area_of_the_triangle(steps_per_epoch):
    lrs = per_step(TRIANGLE, 24, steps_per_epoch)
    assert lrs.shape == (24 * steps_per_epoch,)
    assert lrs.sum() / steps_per_epoch == pytest.approx(0.4 * 24 / 2, rel=1e-12)
    # half a step's worth of slope, not zero: neither the first step nor the last is wasted
    assert lrs[0] == pytest.approx(0.4 / 5 / 2 / steps_per_epoch)
    assert lrs[-1] == pytest.approx(0.4 / 19 / 2 / steps_per_epoch)
