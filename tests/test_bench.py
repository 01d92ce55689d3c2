from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from lib.machinery import speeds
from lib.running import bench


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_variant_trains(precision):
    threads = torch.get_num_threads()
    found = bench.run(width=1, device="cpu", rounds=2, steps=1, batch_size=32, precision=precision)
    assert list(found.images_per_second) == list(speeds.VARIANTS) and found.precision == precision
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in found.images_per_second.values())
    assert found.machine["bf16_units"] is bench.machine.has_bf16_units(torch.device("cpu"))
    assert found.memory_mib > 100 and found.machine["threads"] == threads == torch.get_num_threads()


@pytest.mark.parametrize("setting", [{"width": 0}, {"rounds": 0}, {"steps": 0}, {"batch_size": 0}])
def test_what_cannot_be_measured_is_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=0 is not allowed"):
        bench.run(**setting)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device='cuda' is not there"):
        bench.run(device="cuda")


def test_a_run_by_itself_and_a_sweep_are_timed_whole_on_one_thread_each(monkeypatch):
    asked = []

    def run(command, env, **_):
        asked.append(" ".join(command[3:]))
        assert env["OMP_NUM_THREADS"] == "1" and not list(Path(env["RECORDS_ROOT"]).iterdir())
        return CompletedProcess(command, 0)

    monkeypatch.setattr(bench.subprocess, "run", run)
    monkeypatch.setattr(bench.machine, "of_training", lambda device: {"device": "CPU", "threads": 2})
    sweep = bench.sweep(jobs=3)
    assert asked == ["train --epochs 5"] * 3 + ["run tuning --scale demo --jobs 3"]
    assert (sweep.runs, sweep.jobs, len(sweep.alone)) == (10, 3, 3) and sweep.machine["threads"] == 1


def test_a_sweep_that_fails_is_said(monkeypatch):
    monkeypatch.setattr(bench.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="the sweep failed"):
        bench.sweep(jobs=1)
