import pytest
import torch

from lib.running import bench

MACHINE = {"device": "CPU", "processor": "a", "cores": 2, "threads": 2, "torch": "2", "date": "2000-01-01"}
SPEEDS = {"trainer": [90.0, 100.0, 80.0], "no_probes": [100.0, 100.0, 100.0], "plain": [40.0, 50.0, 40.0]}
MADE = bench.Bench(
    8, 512, SPEEDS | {"convolutions": [180.0, 160.0, 160.0], "arithmetic": [1.0, 1.0, 1.0]}, 1000.0, MACHINE
)


def test_ratios_are_taken_round_by_round():
    assert MADE.ratio("no_probes") == pytest.approx((0.9, 0.8, 1.0))
    assert MADE.ratio("plain") == pytest.approx((2.0, 2.0, 2.25))
    assert MADE.ratio("convolutions") == pytest.approx((0.5, 0.5, 0.625))
    assert "trainer / plain: 2.00 (2.00 to 2.25)" in MADE.text()


def test_every_variant_trains():
    threads = torch.get_num_threads()
    found = bench.run(width=1, device="cpu", rounds=2, steps=1)
    assert list(found.images_per_second) == list(bench.VARIANTS)
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in found.images_per_second.values())
    assert found.memory_mib > 100 and found.machine["threads"] == threads == torch.get_num_threads()


@pytest.mark.parametrize("setting", [{"width": 0}, {"rounds": 0}, {"steps": 0}, {"batch_size": 0}])
def test_what_cannot_be_measured_is_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=0 is not allowed"):
        bench.run(**setting)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device='cuda' is not there"):
        bench.run(device="cuda")
