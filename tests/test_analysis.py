from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run

from lib import analysis, theory
from lib.config import Config

POST = Config(dataset="digits", width=1)  # its 24 epochs, and an equilibrium window of 6 to 14
FORMS = [replace(POST, momentum=0.0, lr=4.0), POST, replace(POST, nesterov=True)]
R = pd.Series(
    [0.8, 1.1, 2.0], index=pd.CategoricalIndex(LAYERS, categories=LAYERS, ordered=True, name="layer")
)


def off_the_line(config=POST, R=R):
    """A run each of whose layers is R times off the line at every step, whatever its norm."""
    run = synthetic_run(config)
    s = run.steps.astype({"lr": float})
    line = theory.equilibrium_ratio(
        lr=s.lr, weight_decay=config.weight_decay, momentum=config.momentum, nesterov=config.nesterov
    )
    factor = s["layer"].map(R).astype(float)
    return replace(run, steps=run.steps.assign(grad_norm_sq=(factor * line / s.lr) ** 2 * s.weight_norm_sq))


def test_dynamics_is_what_its_columns_say():
    run = synthetic_run()
    table = analysis.dynamics(run)
    pd.testing.assert_frame_equal(table[list(run.steps)], run.steps)
    s = run.steps.astype({c: float for c in run.steps if c != "layer"})
    first = s.weight_norm_sq.to_numpy()[: len(LAYERS)]
    expected = {
        "shrinkage": 2 * s.lr * 5e-4 * s.weight_norm_sq / 0.1,
        "growth": s.lr**2 * s.grad_norm_sq / 0.01,
        "norm_sq_relative": s.weight_norm_sq / np.tile(first, len(s) // len(LAYERS)),
        "ratio": s.lr * np.sqrt(s.grad_norm_sq) / np.sqrt(s.weight_norm_sq),
        "predicted": np.sqrt(2 * s.lr * 5e-4 * 0.1 * (1 - s.lr * 5e-4 / 3.8)),
        "correlation": s.grad_dot_average / np.sqrt(s.grad_norm_sq) / np.sqrt(s.average_norm_sq),
        "cosine": s.weight_dot_grad / np.sqrt(s.weight_norm_sq) / np.sqrt(s.grad_norm_sq),
    }
    assert set(table) == set(run.steps) | set(expected)
    for column, values in expected.items():
        np.testing.assert_allclose(table[column], values, rtol=1e-5)


@pytest.mark.parametrize("config", FORMS)
def test_R_is_how_far_a_run_is_off_the_line(config):
    table = analysis.dynamics(off_the_line(config))
    np.testing.assert_allclose(analysis.ratio_to_line(table, ["layer"]), R, rtol=1e-5)


def test_R_is_of_mean_squares():
    """Gradients of 1 and 3 on a line at 1: √((1+9)/2), not their mean 2."""
    table = pd.DataFrame(
        {"lr": 1.0, "predicted": 1.0, "weight_norm_sq": 1.0, "grad_norm_sq": [1.0, 9.0], "all": 0}
    )
    assert analysis.ratio_to_line(table, ["all"])[0] == pytest.approx(5**0.5)


def test_convolutions_are_all_but_the_classifier():
    table = analysis.convolutions(synthetic_run().steps)
    assert table["layer"].unique().tolist() == table["layer"].cat.categories.tolist() == LAYERS[:-1]


def test_the_window_is_epochs_6_to_14():
    table = analysis.in_window(synthetic_run(POST).steps, POST.epochs)
    assert table["epoch"].min() == pytest.approx(6.1) and table["epoch"].max() == pytest.approx(13.9)
    assert table["step"].nunique() == 8 * 5
    assert analysis.window_text(24) == "6 to 14"
    edge = pd.DataFrame({"epoch": [0.0, 1.0, 2.0]})  # from its start up to, not with, its end
    assert analysis.in_window(edge, 2, (0.5, 1.0))["epoch"].tolist() == [1.0]


@pytest.mark.parametrize("config", FORMS)
def test_equilibrium_is_the_mean_and_range_over_runs(config):
    runs = {str(k): off_the_line(replace(config, seed=k), k * R) for k in (1, 2, 6)}
    table = analysis.equilibrium(runs)
    assert table.index.tolist() == LAYERS
    for column, factor in {"R": 3, "low": 1, "high": 6}.items():
        np.testing.assert_allclose(table[column], factor * R, rtol=1e-5)


@pytest.mark.parametrize("config, power", list(zip(FORMS, (1, 1, 2), strict=True)))
def test_the_correction_uses_the_sum_of_earlier_gradients(config, power):
    run = off_the_line(config)
    # the probe's average has weights 0.1·0.9^k: g·v of the sum is ten times as large
    run.steps["grad_dot_average"] = 0.03 * run.steps["grad_norm_sq"]
    table = analysis.equilibrium({"": run})
    np.testing.assert_allclose(table["overlap"], 0.3, rtol=1e-5)
    np.testing.assert_allclose(
        table["R_corrected"], R * (1 + 2 * config.momentum**power * 0.3) ** 0.5, rtol=1e-5
    )


@pytest.mark.parametrize("config", FORMS)
def test_a_run_that_obeys_the_norm_equation(config):
    """Its |w|² is the equation's, and so is its R: below the line where the norm cannot follow λ."""
    run = synthetic_run(config, steps_per_epoch=40)
    steps = run.steps
    for i, layer in enumerate(LAYERS):
        rows = steps["layer"] == layer
        c_sq = np.full(rows.sum(), 2.0 + i)
        norm_sq = theory.norm_ode(
            1.0, c_sq, lr=steps.loc[rows, "lr"], weight_decay=config.weight_decay, momentum=config.momentum
        )
        steps.loc[rows, "weight_norm_sq"] = norm_sq.astype(np.float32)
        steps.loc[rows, "grad_norm_sq"] = (c_sq / norm_sq).astype(np.float32)
    table = analysis.with_norm_equation(run)
    np.testing.assert_allclose(table["norm_sq_ode"], table["weight_norm_sq"], rtol=1e-5)
    by_epoch = analysis.ratio_by_epoch(run)
    assert by_epoch["epoch"].tolist() == [e + 0.5 for e in range(24)] * 3
    assert by_epoch["layer"].tolist() == np.repeat(LAYERS, 24).tolist()
    np.testing.assert_allclose(by_epoch["R"], by_epoch["R_ode"], rtol=1e-4)
    assert (by_epoch["R"].to_numpy()[23::24] < 0.9).all()
    numbers = analysis.equation_numbers(by_epoch)
    assert numbers["equation_difference"] == pytest.approx(0, abs=1e-3)
    assert numbers["end_measured"] == pytest.approx(by_epoch["R"].to_numpy()[[23, 47]].mean(), abs=1e-4)


def test_R_of_an_epoch_is_that_of_its_steps():
    run = off_the_line()
    factors = 1 + np.floor(run.steps["epoch"]) / 24
    by_epoch = analysis.ratio_by_epoch(
        replace(run, steps=run.steps.assign(grad_norm_sq=run.steps["grad_norm_sq"] * factors**2))
    )
    expected = np.outer(R, 1 + np.arange(24) / 24).ravel()
    np.testing.assert_allclose(by_epoch["R"], expected, rtol=1e-5)


def test_where_equation_and_run_differ():
    layers = pd.Categorical(np.repeat(LAYERS, 3), categories=LAYERS)
    table = pd.DataFrame({"layer": layers, "epoch": [1.5, 2.5, 3.5] * 3, "R": 1.0, "R_ode": 1.0})
    table["R"] += [0.9, -0.1, 0.2, 0.9, 0.3, 0.0, 0.9, 0.5, 0.7]  # the first two epochs do not count
    numbers = analysis.equation_numbers(table, after_epoch=2)
    assert numbers == {
        "equation_difference": 0.3,
        "equation_difference_classifier": 0.7,
        "end_measured": 1.1,
        "end_equation": 1.0,
    }


def test_numbers_of_the_prose_leave_out_the_classifier():
    table = pd.DataFrame({"R": R, "R_corrected": R + 0.15})
    assert analysis.numbers(table, tolerance=0.15) == {
        "layers": 2,
        "classifier": 2.0,
        "low": 0.8,
        "high": 1.1,
        "within": 1,
        "corrected_low": 0.95,
        "corrected_high": 1.25,
        "corrected_within": 1,
    }


def test_further_from_the_line():
    def table(*values):
        return pd.DataFrame({"R": pd.Series(values, index=R.index)})

    reference = table(0.9, 1.1, 1.0)
    # 0.8 and 1.2 are further than 0.9 and 1.1, 1.05 is nearer; the classifier does not count
    assert analysis.further_from_line(table(0.8, 1.2, 9.0), reference) == 2
    assert analysis.further_from_line(table(1.05, 1.2, 9.0), reference) == 1
    assert analysis.further_from_line(reference, reference) == 0


@pytest.mark.parametrize("config", FORMS)
def test_turn_compares_updates_with_the_rotation(config):
    def turning(seed, factors):
        run = synthetic_run(replace(config, seed=seed))
        s = run.steps.astype({"lr": float})
        settings = dict(weight_decay=config.weight_decay, momentum=config.momentum, nesterov=config.nesterov)
        angle = theory.rotation(lr=s.lr, **settings) * s["layer"].map(factors).astype(float)
        return replace(run, steps=run.steps.assign(update_norm_sq=angle**2 * s.weight_norm_sq))

    runs = {str(seed): turning(seed, (1 + 0.1 * seed) * R) for seed in (0, 2)}
    expected = {"turn_low": 1.1 * 0.8, "turn_high": 1.1 * 1.1}  # not the classifier's 2.0
    assert analysis.turn(runs) == pytest.approx(expected, abs=1e-4)


def test_peaks_are_where_the_norm_is_greatest():
    run = synthetic_run()
    for i, layer in enumerate(LAYERS):
        run.steps.loc[(run.steps["layer"] == layer) & (run.steps["step"] == 3 * i + 2), "weight_norm_sq"] = (
            99.0
        )
    peaks = analysis.peaks(run.steps)
    assert peaks.index.tolist() == LAYERS
    np.testing.assert_allclose(peaks, (3 * np.arange(3) + 2.5) / 5, rtol=1e-6)


def test_runs_by_form_and_in_words():
    runs = {
        f"{form}-seed{seed}": synthetic_run(replace(POST, seed=seed))
        for seed in (2, 0)
        for form in ("a", "a-b")
    }
    assert list(analysis.of_form(runs, "a")) == ["a-seed2", "a-seed0"]
    assert list(analysis.of_form(runs, "b")) == []
    accuracy = analysis.accuracy(runs)
    assert accuracy.to_dict() == {name: run.epochs["test_accuracy"].iloc[-1] for name, run in runs.items()}
    assert analysis.describe(runs, "demo") == "scale demo: digits, width 1, 24 epochs, seeds 0, 2, CPU"
    one = analysis.of_form(runs, "a")
    one.pop("a-seed0")
    assert analysis.describe(one, "demo").endswith("24 epochs, seed 2, CPU")


def test_steps_of_an_epoch():
    assert analysis.steps_per_epoch(synthetic_run(POST, steps_per_epoch=7)) == 7


def test_tables_are_made_not_changed():
    run = synthetic_run(POST)
    before = run.steps.copy(deep=True)
    for make in (analysis.dynamics, analysis.with_norm_equation, analysis.ratio_by_epoch):
        make(run)
    analysis.equilibrium({"": run}), analysis.turn({"": run})
    pd.testing.assert_frame_equal(run.steps, before)


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
    numbers = analysis.norm_numbers(analysis.dynamics(replace(run, steps=steps)))
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


def test_tables_by_form_are_of_that_forms_runs():
    configs = dict(zip(("sgd", "heavy-ball"), FORMS, strict=False))
    runs = {f"{f}-seed{i}": off_the_line(replace(c, seed=i)) for f, c in configs.items() for i in (0, 1)}
    tables = analysis.equilibrium_by_form(runs)
    assert list(tables) == ["sgd", "heavy-ball"]
    pd.testing.assert_frame_equal(tables["sgd"], analysis.equilibrium(analysis.of_form(runs, "sgd")))
    numbers = analysis.form_numbers(tables, 0.15)
    assert numbers["sgd_high"] == pytest.approx(1.1, rel=1e-3) and numbers["heavy-ball_within"] == 1


def test_relaxation_is_of_the_peak():
    assert analysis.relaxation_numbers(synthetic_run(POST)) == {
        "lr": 0.4,
        "relaxation": 125.0,  # 0.1/(4 · 0.4 · 5e-4)
        "relaxation_epochs": 25.0,
    }
