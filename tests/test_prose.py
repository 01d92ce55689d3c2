from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run

from lib.config import Config
from lib.results import analysis, numbers, prose

POST = Config(dataset="digits", width=1)  # its 24 epochs, and an equilibrium window of 6 to 14
R = pd.Series(
    [0.8, 1.1, 2.0], index=pd.CategoricalIndex(LAYERS, categories=LAYERS, ordered=True, name="layer")
)


def test_where_equation_and_run_differ():
    layers = pd.Categorical(np.repeat(LAYERS, 3), categories=LAYERS)
    table = pd.DataFrame({"layer": layers, "epoch": [1.5, 2.5, 3.5] * 3, "R": 1.0, "R_ode": 1.0})
    table["R"] += [0.9, -0.1, 0.2, 0.9, 0.3, 0.0, 0.9, 0.5, 0.7]  # the first two epochs do not count
    numbers = numbers.equation_numbers(table, after_epoch=2)
    assert numbers == {
        "equation_difference": 0.3,
        "equation_difference_classifier": 0.7,
        "end_measured": 1.1,
        "end_equation": 1.0,
    }


def test_numbers_of_the_prose_leave_out_the_classifier():
    table = pd.DataFrame({"R": R, "R_corrected": R + 0.15})
    assert numbers.of_equilibrium(table, tolerance=0.15) == {
        "layers": 2,
        "classifier": 2.0,
        "low": 0.8,
        "high": 1.1,
        "within": 1,
        "corrected_low": 0.95,
        "corrected_high": 1.25,
        "corrected_within": 1,
    }


def test_norm_numbers_are_the_extremes_of_the_convolutions():
    run = synthetic_run(POST)  # its norms are of order 1
    s = run.steps.astype({"layer": str})
    at = {"prep": 3.1, "layer1": 12.3, "classifier": 20.1}  # the epoch of each peak
    peak = s["epoch"].to_numpy() == s["layer"].map(at).to_numpy(dtype=np.float32)
    assert peak.sum() == 3
    dot = s["layer"].map({"prep": 1e-4, "layer1": -2e-4, "classifier": 0.5})
    steps = run.steps.assign(
        weight_norm_sq=np.where(peak, 9.0, s["weight_norm_sq"]),
        weight_dot_grad=dot * np.sqrt(s["grad_norm_sq"] * np.where(peak, 9.0, s["weight_norm_sq"])),
    )
    numbers = numbers.norm_numbers(analysis.dynamics(replace(run, steps=steps)))
    assert numbers == pytest.approx(
        {
            "cosine_convolutions": 2e-4,
            "cosine_classifier": 0.5,
            "layers": 2,
            "peaks_early": 1,
            "peak_first": 3.1,
            "peak_last": 12.3,
        }
    )


def test_relaxation_is_of_the_peak():
    assert numbers.relaxation_numbers(synthetic_run(POST)) == {
        "lr": 0.4,
        "relaxation": 125.0,  # 0.1/(4 · 0.4 · 5e-4)
        "relaxation_epochs": 25.0,
    }


def with_columns(config, **columns):
    """A run with some of its quantities given; the others are random."""
    run = synthetic_run(config)
    return replace(run, steps=run.steps.assign(**columns))


def test_quotient_of_two_batch_sizes():
    quarter = replace(POST, batch_size=128, lr=0.1)
    runs = [
        with_columns(c, weight_norm_sq=1.0, grad_norm_sq=norm_sq)
        for c, norm_sq in ((POST, 1.0), (quarter, 4.0), (quarter, 16.0))
    ]
    # λ is a quarter and |g| twice or four times as large: the step is a half, or as long
    numbers = numbers.quotient_numbers(runs[:1], runs[1:2])
    assert numbers["quotient_low"] == numbers["quotient_high"] == pytest.approx(2.0)
    assert numbers["within"] == numbers["whole_layers"] == 2
    numbers = numbers.quotient_numbers(runs[:1], runs[2:])
    assert numbers["quotient_high_rest"] == pytest.approx(1.0) and numbers["within"] == 0


def test_lars_beside_sgd():
    sgd = with_columns(POST, update_norm_sq=1.0, weight_norm_sq=4.0)
    steps = sgd.steps["step"].to_numpy()
    lars = with_columns(
        replace(POST, optimizer="lars"), update_norm_sq=1.0 * (1 + steps), weight_norm_sq=1.0 * (1 + steps)
    )
    numbers = numbers.beside_numbers(sgd, lars)
    assert numbers["turn_low"] == numbers["turn_high"] == pytest.approx(2.0)
    assert numbers["growth_low"] == numbers["growth_high"] == steps.max() + 1
    lr = POST.lr_schedule((np.arange(120) + 0.5) / 5)
    # uncorrelated gradients: |w|² grows by λ²/(1−ρ)² a step, here ≈ 2λα/(1−ρ)
    assert numbers["growth_expected"] == pytest.approx(np.prod(1 + 2 * lr * 5e-4 / 0.1), rel=0.01)


def test_correlation_is_averaged_over_all_but_the_ends():
    run = with_columns(POST, grad_norm_sq=1.0, average_norm_sq=1.0)
    s = run.steps
    kappa = s["layer"].map({"prep": -0.3, "layer1": 0.1, "classifier": 0.9}).astype(float)
    inside = s["epoch"].between(2, 22)
    table = analysis.dynamics(replace(run, steps=s.assign(grad_dot_average=np.where(inside, kappa, 1.0))))
    assert numbers.correlation_numbers(table) == {"kappa_low": -0.3, "kappa_high": 0.1, "kappa_worst": "prep"}


def test_an_unknown_chapter_is_named():
    with pytest.raises(ValueError, match="chapter='x' is not known; it must be one of index, "):
        prose.of_chapter("x", "demo")
