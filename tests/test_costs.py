from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib import models
from lib.config import Config
from lib.results import costs
from lib.running import bench

MACHINE = {"device": "CPU", "processor": "a", "cores": 2, "threads": 2, "torch": "2", "date": "2000-01-01"}


def measured(width: int, batch_size: int = 512, factor: float = 1.0) -> bench.Bench:
    speeds = {"trainer": [50.0, 60.0, 40.0], "no_probes": [50.0, 60.0, 50.0], "plain": [25.0, 24.0, 20.0]}
    speeds |= {"convolutions": [100.0, 100.0, 100.0], "arithmetic": [200.0, 200.0, 200.0]}
    speeds = {name: [factor * s for s in of_rounds] for name, of_rounds in speeds.items()}
    return bench.Bench(width, batch_size, speeds, 1024.0, MACHINE)


SPEEDS = [measured(8), measured(64, factor=0.1), measured(8, 128)]
SWEEP = costs.Sweep(4, 2, [10.0, 15.0, 11.0], 25.2, MACHINE)


def test_what_is_read_is_what_was_written(tmp_path):
    costs.write(SPEEDS, [SWEEP], tmp_path / "bench.json")
    assert costs.read(tmp_path / "bench.json") == (SPEEDS, [SWEEP])


def test_a_sweep_on_two_cores_that_loses_nothing_takes_half_as_long():
    assert costs.Sweep(8, 2, [10.0], 40.0, MACHINE).ratio == 1
    assert SWEEP.ratio == pytest.approx(25.2 / 22)  # of the median
    assert "4 runs, 2 at a time: 25.2 s" in SWEEP.text() and ": 1.15" in SWEEP.text()


def test_aims_are_held_against_medians_of_the_batch_size_they_are_for():
    table = costs.aims(SPEEDS, [SWEEP])
    reached = table["reached"].to_dict()
    assert reached == {
        ("trainer / no_probes", "width 8"): "yes",
        ("trainer / no_probes", "width 64"): "yes",
        ("trainer / plain", "width 8"): "yes",
        ("trainer / convolutions", "width 8"): "no",
        ("trainer / convolutions", "width 64"): "no",
        ("sweep / runs one by one", "4 runs, 2 at a time"): "yes",
    }
    assert table.loc[("trainer / plain", "width 8"), "measured"] == "2.00 (2.00 to 2.50)"


def test_operations_are_those_that_torch_counts():
    """torch's own counter, of a forward and a backward pass."""
    config = Config(width=2, architecture="Extra:L2")
    model, images = models.build(config.architecture, config.width), torch.randn(3, 3, 32, 32)
    with FlopCounterMode(display=False) as forward:
        logits = model(images)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    table = bench.operations(config)
    assert table["layer"].tolist() == list(models.layer_names(config.architecture))
    assert table["forward"].sum() * 1e6 * 3 == pytest.approx(forward.get_total_flops())
    both = forward.get_total_flops() + backward.get_total_flops()
    assert table["training"].sum() * 1e6 * 3 == pytest.approx(both)


def test_numbers_compare_the_smallest_and_the_largest_network():
    numbers = costs.numbers(SPEEDS, [SWEEP])
    assert (numbers["small_width"], numbers["large_width"]) == (8, 64)
    assert (numbers["small_images"], numbers["large_images"], numbers["times_time"]) == (50, 5, 10)
    assert numbers["small_share"] == numbers["large_share"] == numbers["small_of_arithmetic"] == 50
    assert numbers["small_minutes"] == 24 * 50_000 / 50 / 60
    # eight times the channels: 64 times the work, but for the layer that starts from three
    assert 60 < numbers["times_operations"] < 64
    assert numbers["gigaflops"] == round(numbers["large_operations"] * 20 / 1000)
    assert numbers["sweep_ratio"] == 1.15 and numbers["memory"] == 1.0
    assert all(type(value) in (int, float, str) for value in numbers.values())


def test_tables_have_a_row_for_each_measurement():
    assert costs.speeds(SPEEDS).index.tolist() == [(8, 512), (64, 512), (8, 128)]
    per_image = costs.per_image(SPEEDS)
    trainer = per_image[per_image["variant"] == "trainer"]
    np.testing.assert_allclose(trainer["ms"], [20, 200, 20])


def test_a_run_by_itself_and_a_sweep_are_timed_whole_on_one_thread_each(monkeypatch):
    asked = []

    def run(command, env, **_):
        asked.append(" ".join(command[3:]))
        assert env["OMP_NUM_THREADS"] == "1" and not list(Path(env["RECORDS_ROOT"]).iterdir())
        return CompletedProcess(command, 0)

    monkeypatch.setattr(costs.subprocess, "run", run)
    monkeypatch.setattr(costs.machine, "describe", lambda device: MACHINE)
    sweep = costs.sweep(jobs=3)
    assert asked == ["train --epochs 5"] * 3 + ["run tuning --scale demo --jobs 3"]
    assert (sweep.runs, sweep.jobs, len(sweep.alone)) == (8, 3, 3) and sweep.machine["threads"] == 1


def test_a_sweep_that_fails_is_said(monkeypatch):
    monkeypatch.setattr(costs.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="the sweep failed"):
        costs.sweep(jobs=1)


def test_the_committed_measurements_are_those_of_the_plan():
    speeds, sweeps = costs.read()
    assert [(b.width, b.batch_size) for b in speeds] == list(costs.PLAN)
    assert all(len(rounds) >= 5 for b in speeds for rounds in b.images_per_second.values())
    assert len(sweeps) == 1 and sweeps[0].runs == 8
