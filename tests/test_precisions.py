from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, synthetic_run
from matplotlib.figure import Figure

from lib import library
from lib.figures import precisions as precision_figure
from lib.results import precisions

LONG = replace(TINY, epochs=24, peak_epoch=5)


def run(precision, seed, accuracy, scale=1.0, cosine=1e-4):
    """A run whose gradients are ``scale`` times those of its seed, at a right angle but for so much."""
    made = synthetic_run(replace(LONG, seed=seed))
    steps = made.steps.assign(
        grad_norm_sq=scale**2 * (1 + 0.02 * seed),
        weight_norm_sq=1.0,
        weight_dot_grad=cosine * scale,
        average_norm_sq=1.0,
    )
    steps["grad_dot_average"] = 0.1 * scale
    epochs = made.epochs.assign(test_accuracy=accuracy)
    return replace(made, config=replace(LONG, seed=seed, precision=precision), steps=steps, epochs=epochs)


def recorded(monkeypatch, fp32, bf16):
    monkeypatch.setattr(library, "runs", lambda scale, name: fp32)
    monkeypatch.setattr(library, "forms", lambda scale, name: {"sgd": bf16})


FP32 = [run("fp32", seed, 0.85 + 0.001 * seed) for seed in range(3)]


def test_each_quantity_has_its_mean_and_range_over_seeds(monkeypatch):
    recorded(monkeypatch, FP32, [run("bf16", 0, 0.86, cosine=2e-3)])
    table = precisions.by_layer(precisions.recorded("small"))
    assert set(table["form"]) == {"sgd", "heavy-ball"}
    assert set(table.loc[table["form"] == "heavy-ball", "precision"]) == {"fp32"}
    of = table[table["form"] == "sgd"].set_index(["precision", "quantity", "layer"])
    assert of.loc[("bf16", "test accuracy, %", ""), "mean"] == pytest.approx(86)
    assert tuple(of.loc[("fp32", "test accuracy, %", ""), ["low", "high"]]) == pytest.approx((85, 85.2))
    assert of.loc[("bf16", "|cos(w, g)|", "prep"), "mean"] == pytest.approx(2e-3, rel=1e-3)
    assert of.loc[("fp32", "κ", "layer1"), "mean"] == pytest.approx(
        0.1 * np.mean((1 + 0.02 * np.arange(3)) ** -0.5)
    )
    assert isinstance(precision_figure.side_by_side(table), Figure)


def test_where_one_precision_is_recorded_it_is_said_and_drawn_alone(monkeypatch):
    recorded(monkeypatch, FP32, [])
    assert precisions.text("demo") == precisions.NOT_RECORDED
    figure = precision_figure.side_by_side(precisions.by_layer(precisions.recorded("demo")))
    assert all("bf16" not in text.get_text() for text in figure.legends[0].get_texts())


def test_what_is_said_follows_the_numbers(monkeypatch):
    recorded(monkeypatch, FP32, [run("bf16", 0, 0.86, cosine=2e-3)])
    few = precisions.text("small")
    assert "1 seed in bf16 beside 3 seeds in fp32" in few and "R and κ no more than another seed" in few
    assert "is 2.0 × 10⁻³ in bf16 and 1.0 × 10⁻⁴ in fp32" in few and "too few seeds for an interval" in few
    assert "86.0 % in bf16 and 85.0 to 85.2 % in fp32" in few
    recorded(monkeypatch, FP32, [run("bf16", seed, 0.86, scale=1.5) for seed in range(3)])
    many = precisions.text("small")
    assert "seed by seed, is 0.90 ± 0.17 percentage points" in many
    assert "changes R by more than another seed" in many
