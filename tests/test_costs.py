from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib import models
from lib.config import Config, layers_of
from lib.machinery.speeds import Bench, Sweep
from lib.results import costs

MACHINE = {"device": "CPU", "processor": "a", "cores": 2, "threads": 2, "torch": "2", "date": "2000-01-01"}


def measured(width: int, batch_size: int = 512, factor: float = 1.0, precision: str = "fp32") -> Bench:
    speeds = {"trainer": [50.0, 60.0, 40.0], "no_probes": [50.0, 60.0, 50.0], "plain": [25.0, 24.0, 20.0]}
    speeds |= {"convolutions": [100.0, 100.0, 100.0], "arithmetic": [200.0, 200.0, 200.0]}
    speeds = {name: [factor * s for s in of_rounds] for name, of_rounds in speeds.items()}
    return Bench(width, batch_size, speeds, 1024.0, MACHINE, precision)


SPEEDS = [measured(8), measured(64, factor=0.1), measured(8, 128)]
SWEEP = Sweep(4, 2, [10.0, 15.0, 11.0], 25.2, MACHINE)


def test_operations_are_those_that_torch_counts():
    """torch's own counter, of a forward and a backward pass."""
    config = Config(width=2, architecture="Extra:L2")
    model, images = models.build(config.architecture, config.width), torch.randn(3, 3, 32, 32)
    with FlopCounterMode(display=False) as forward:
        logits = model(images)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    table = costs.operations(config)
    assert table["layer"].tolist() == list(layers_of(config.architecture))
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
    assert costs.speeds(SPEEDS).index.tolist() == [(8, 512, "fp32"), (64, 512, "fp32"), (8, 128, "fp32")]
    per_image = costs.per_image(SPEEDS)
    trainer = per_image[per_image["variant"] == "trainer"]
    np.testing.assert_allclose(trainer["ms"], [20, 200, 20])


def test_a_gpu_is_told_of_with_what_was_measured_there():
    on_gpu = [
        replace(b, machine=MACHINE | {"device": "a GPU"})
        for b in (measured(8, factor=1e3), measured(64, factor=500))
    ]
    text = costs.gpu_text(on_gpu)
    assert "On one a GPU, in fp32, the networks of width 8 and 64 train at 50,000 and 25,000 images" in text
    # 24 epochs of 50,000 images
    assert "take 24 and 48 seconds" in text and "has 24,000 and 12,000" in text
    assert text.endswith("cost 0 % and 0 % of the speed.")


def test_precisions_stand_side_by_side_and_do_not_mix():
    both = [*SPEEDS, measured(8, factor=2.0, precision="bf16"), measured(64, factor=0.05, precision="bf16")]
    assert len(costs.speeds(both)) == 5
    of_fp32 = {name: value for name, value in costs.numbers(both, [SWEEP]).items() if name != "bf16"}
    assert of_fp32 == {
        name: value for name, value in costs.numbers(SPEEDS, [SWEEP]).items() if name != "bf16"
    }
    assert costs.per_image(both).equals(costs.per_image(SPEEDS))
    assert costs.minutes(both).loc[8].to_dict() == {"fp32": 400.0, "bf16": 200.0}
    text = costs.bf16_text(both)
    assert "2.00 at width 8, 0.50 at width 64" in text and "the wrong choice here at width 64" in text
    assert "faster at every width" in costs.bf16_text(both[:-1])
    assert "not been measured yet" in costs.bf16_text(SPEEDS) and list(costs.minutes(SPEEDS)) == ["fp32"]
