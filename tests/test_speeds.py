from dataclasses import replace

import pytest

from lib.machinery import speeds
from lib.machinery.speeds import Bench, Sweep

MACHINE = {"device": "CPU", "processor": "a", "cores": 2, "threads": 2, "torch": "2", "date": "2000-01-01"}
SPEEDS = {"trainer": [90.0, 100.0, 80.0], "no_probes": [100.0, 100.0, 100.0], "plain": [40.0, 50.0, 40.0]}
SPEEDS |= {"convolutions": [180.0, 160.0, 160.0], "arithmetic": [1.0, 1.0, 1.0]}
BENCH = Bench(8, 512, SPEEDS, 1000.0, MACHINE, "bf16")
SWEEP = Sweep(4, 2, [10.0, 15.0, 11.0], 25.2, MACHINE)


def test_ratios_are_taken_round_by_round():
    assert BENCH.ratio("no_probes") == pytest.approx((0.9, 0.8, 1.0))
    assert BENCH.ratio("plain") == pytest.approx((2.0, 2.0, 2.25))
    assert BENCH.ratio("convolutions") == pytest.approx((0.5, 0.5, 0.625))
    assert "trainer / plain: 2.00 (2.00 to 2.25)" in BENCH.text() and "512, bf16, CPU" in BENCH.text()


def test_goals_are_asked_of_medians_where_bf16_has_units():
    with_units = replace(BENCH, machine=MACHINE | {"bf16_units": True})
    assert "no_probes: 0.90 (0.80 to 1.00), goal 0.97 missed" in BENCH.text()
    assert "plain: 2.00 (2.00 to 2.25), goal 2.5 missed" in with_units.text()
    assert "plain: 2.00 (2.00 to 2.25), goal 1.7 reached" in replace(with_units, width=64).text()
    assert "convolutions: 0.50 (0.50 to 0.62)\n" in with_units.text()
    for other in (BENCH, replace(with_units, width=32), replace(with_units, precision="fp32")):
        assert other.goal("plain") is None


def test_a_sweep_on_two_cores_that_loses_nothing_takes_half_as_long():
    assert Sweep(8, 2, [10.0], 40.0, MACHINE).ratio == 1
    assert SWEEP.ratio == pytest.approx(25.2 / 22)  # of the median
    assert "4 runs, 2 at a time: 25.2 s" in SWEEP.text() and ": 1.15" in SWEEP.text()


def test_what_is_read_is_what_was_written(tmp_path):
    speeds.write([BENCH], [SWEEP], tmp_path / "bench.json")
    assert speeds.read(tmp_path / "bench.json") == ([BENCH], [SWEEP])


def test_the_committed_measurements_have_five_rounds_of_every_variant():
    measured, sweeps = speeds.read()
    assert measured and all(set(b.images_per_second) == set(speeds.VARIANTS) for b in measured)
    assert all(len(rounds) >= 5 for b in measured for rounds in b.images_per_second.values())
    assert len(sweeps) == 1 and sweeps[0].runs >= 8
