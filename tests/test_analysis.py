from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run
from scipy.special import erfcx

from lib import theory
from lib.config import Config
from lib.results import analysis, numbers
from lib.run import NOISE_COLUMNS

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
        "turn": np.sqrt(s.update_norm_sq) / np.sqrt(s.weight_norm_sq),
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
    runs = [off_the_line(replace(config, seed=k), k * R) for k in (1, 2, 6)]
    table = analysis.equilibrium(runs)
    assert table.index.tolist() == LAYERS
    for column, factor in {"R": 3, "low": 1, "high": 6}.items():
        np.testing.assert_allclose(table[column], factor * R, rtol=1e-5)


@pytest.mark.parametrize("config, power", list(zip(FORMS, (1, 1, 2), strict=True)))
def test_the_correction_uses_the_sum_of_earlier_gradients(config, power):
    run = off_the_line(config)
    # the probe's average has weights 0.1·0.9^k: g·v of the sum is ten times as large
    run.steps["grad_dot_average"] = 0.03 * run.steps["grad_norm_sq"]
    table = analysis.equilibrium([run])
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
    steps["grad_dot_average"] = np.float32(0)
    table = analysis.with_norm_equation(run)
    np.testing.assert_allclose(table["norm_sq_ode"], table["weight_norm_sq"], rtol=1e-5)
    by_epoch = analysis.ratio_by_epoch(run)
    assert by_epoch["epoch"].tolist() == [e + 0.5 for e in range(24)] * 3
    assert by_epoch["layer"].tolist() == np.repeat(LAYERS, 24).tolist()
    np.testing.assert_allclose(by_epoch["R"], by_epoch["R_ode"], rtol=1e-4)
    assert (by_epoch["R"].to_numpy()[23::24] < 0.9).all()
    found = numbers.equation_numbers(by_epoch)
    assert found["equation_difference"] == pytest.approx(0, abs=1e-3)
    assert found["end_measured"] == pytest.approx(by_epoch["R"].to_numpy()[[23, 47]].mean(), abs=1e-4)


def test_R_of_an_epoch_is_that_of_its_steps():
    run = off_the_line()
    factors = 1 + np.floor(run.steps["epoch"]) / 24
    by_epoch = analysis.ratio_by_epoch(
        replace(run, steps=run.steps.assign(grad_norm_sq=run.steps["grad_norm_sq"] * factors**2))
    )
    expected = np.outer(R, 1 + np.arange(24) / 24).ravel()
    np.testing.assert_allclose(by_epoch["R"], expected, rtol=1e-5)


def test_further_from_the_line():
    def table(*values):
        return pd.DataFrame({"R": pd.Series(values, index=R.index)})

    reference = table(0.9, 1.1, 1.0)
    # 0.8 and 1.2 are further than 0.9 and 1.1, 1.05 is nearer; the classifier does not count
    assert analysis.further_from_line(table(0.8, 1.2, 9.0), reference) == 2
    assert analysis.further_from_line(table(1.05, 1.2, 9.0), reference) == 1
    assert analysis.further_from_line(reference, reference) == 0


def test_gradients_that_repeat_each_other_force_the_norm_more():
    """With an overlap o in every step, c² counts 1+2ρo times."""
    run = synthetic_run(POST, steps_per_epoch=40)
    run = replace(
        run, steps=run.steps.assign(grad_norm_sq=1.0, weight_norm_sq=1.0, grad_dot_average=0.1 * 0.5)
    )
    forced = theory.norm_ode(
        1.0, np.full(24 * 40, 1 + 2 * 0.9 * 0.5), lr=run.steps["lr"][::3], weight_decay=5e-4, momentum=0.9
    )
    found = analysis.with_norm_equation(run)
    np.testing.assert_allclose(found.loc[found["layer"] == "prep", "norm_sq_ode"], forced, rtol=1e-5)
    plain = analysis.with_norm_equation(run, correlated=False)["norm_sq_ode"]
    assert (plain[3:] < found["norm_sq_ode"][3:]).all()
    assert analysis.equation_error(run, correlated=False) != analysis.equation_error(run, correlated=True)


def test_other_runs_drive_the_equation_by_their_mean():
    run, a, b = (synthetic_run(replace(POST, seed=seed)) for seed in range(3))
    found = analysis.with_norm_equation(run, [a, b])
    products = [r.steps["grad_norm_sq"] * r.steps["weight_norm_sq"] for r in (a, b)]
    np.testing.assert_allclose(found["c_sq"], (products[0] + products[1]) / 2, rtol=1e-6)
    overlaps = [10 * r.steps["grad_dot_average"] * r.steps["weight_norm_sq"] for r in (a, b)]
    np.testing.assert_allclose(found["overlap"], sum(overlaps) / sum(products), rtol=1e-5)
    first = found["norm_sq_ode"].to_numpy()[: len(LAYERS)]
    np.testing.assert_allclose(first, run.steps["weight_norm_sq"][: len(LAYERS)], rtol=1e-6)  # its own start
    assert analysis.ratio_by_epoch(run)["R_others"].isna().all()
    assert [(r, *others) for r, others in analysis.each_and_the_others([run, a, b])] == [
        (run, a, b),
        (a, run, b),
        (b, run, a),
    ]


def test_the_end_is_the_closed_forms():
    """At the middle of the last epoch but s = τ/τ*, τ* = √(T(1−ρ)/(2αλ)); before the peak there is none."""
    table = analysis.ratio_by_epoch(synthetic_run(POST, steps_per_epoch=40))
    table = table[table["layer"] == "prep"].set_index("epoch")["R_end"]
    assert table[:5].isna().all() and table[5.5:].notna().all()
    s = 2.5 * 40 / np.sqrt(19 * 40 * 0.1 / (2 * 5e-4 * 0.4))
    assert table[21.5] == pytest.approx((1 + np.sqrt(np.pi) / 2 * erfcx(s) / s) ** -0.5)


@pytest.mark.parametrize("config", FORMS)
def test_rotations_compare_updates_with_the_angle(config):
    def turning(seed, factors):
        run = synthetic_run(replace(config, seed=seed))
        s = run.steps.astype({"lr": float})
        settings = dict(weight_decay=config.weight_decay, momentum=config.momentum, nesterov=config.nesterov)
        angle = theory.rotation(lr=s.lr, **settings) * s["layer"].map(factors).astype(float)
        uncorrelated = run.steps.assign(grad_dot_average=0.0)
        return replace(run, steps=uncorrelated.assign(update_norm_sq=angle**2 * s.weight_norm_sq))

    found = analysis.rotations([turning(seed, (1 + 0.1 * seed) * R) for seed in (0, 2)])
    for column, factor in {"R": 1.1, "low": 1.0, "high": 1.2}.items():
        np.testing.assert_allclose(found[column], factor * R, rtol=1e-4)


def test_peaks_are_where_the_norm_is_greatest():
    run = synthetic_run()
    for i, layer in enumerate(LAYERS):
        run.steps.loc[(run.steps["layer"] == layer) & (run.steps["step"] == 3 * i + 2), "weight_norm_sq"] = (
            99.0
        )
    peaks = analysis.peaks(run.steps)
    assert peaks.index.tolist() == LAYERS
    np.testing.assert_allclose(peaks, (3 * np.arange(3) + 2.5) / 5, rtol=1e-6)


def test_accuracies_and_a_line_on_where_runs_are_from():
    runs = [synthetic_run(replace(POST, seed=seed)) for seed in (2, 0, 2)]
    expected = [run.epochs["test_accuracy"].iloc[-1] for run in runs]
    assert analysis.accuracy(iter(runs)).tolist() == expected
    assert analysis.describe(runs, "demo") == "scale demo: digits, width 1, 24 epochs, seeds 0, 2, fp32, CPU"
    assert analysis.describe(runs[:1], "demo").endswith("24 epochs, seed 2, fp32, CPU")
    chip = replace(runs[0], provenance=runs[0].provenance | {"processor": "a chip"})
    gpu = synthetic_run(replace(POST, seed=1, precision="bf16"))
    gpu = replace(gpu, provenance=gpu.provenance | {"device": "a GPU", "processor": "a chip"})
    assert analysis.describe([chip, gpu], "demo").endswith("seeds 1, 2, fp32 and bf16, a GPU and a chip")


def test_tables_are_made_not_changed():
    run = synthetic_run(POST)
    before = run.steps.copy(deep=True)
    for make in (analysis.dynamics, analysis.with_norm_equation, analysis.ratio_by_epoch):
        make(run)
    analysis.equilibrium([run]), analysis.rotations([run])
    pd.testing.assert_frame_equal(run.steps, before)


def test_numbers_by_form_are_those_of_its_table():
    tables = {
        f: analysis.equilibrium([off_the_line(c)])
        for f, c in zip(("sgd", "heavy-ball"), FORMS[:2], strict=True)
    }
    found = numbers.form_numbers(tables, 0.15)
    assert found["sgd_high"] == pytest.approx(1.1, rel=1e-3) and found["heavy-ball_within"] == 1
    assert found["sgd_classifier"] == numbers.of_equilibrium(tables["sgd"], 0.15)["classifier"]


def noise_run(seed, mean_sq, variance):
    """A run with frozen checkpoints that obeys E|g_N|² = |ḡ|² + V/N, layer by layer."""
    rows = [
        (epoch, n, layer, (mean_sq[layer] + variance / n) * (1 + seed), mean_sq[layer] * (1 + seed))
        for epoch in (0, 8)
        for n in (32, 128, 512, 2048)
        for layer in LAYERS
    ]
    run = synthetic_run(replace(POST, seed=seed, noise_every=8))
    return replace(run, noise=pd.DataFrame(rows, columns=list(NOISE_COLUMNS)))


def test_slope_and_share_of_the_signal():
    mean_sq = {"prep": 0.0, "layer1": 0.01, "classifier": 1e9}
    table = analysis.noise([noise_run(0, mean_sq, 5.0), noise_run(2, mean_sq, 5.0)])
    assert list(table["layer"].cat.categories) == LAYERS
    found = analysis.noise_slopes(table, batch_size=500).set_index(["layer", "epoch"])
    for epoch in (0, 8):
        assert found.loc[("prep", epoch), "slope"] == pytest.approx(-0.5)  # noise alone
        assert found.loc[("classifier", epoch), "slope"] == pytest.approx(0, abs=1e-6)  # signal alone
        # as much signal as noise at N = V/|ḡ|² = 500
        assert found.loc[("layer1", epoch), "signal"] == pytest.approx(0.5)
        assert -0.5 < found.loc[("layer1", epoch), "slope"] < 0


def test_the_mean_step_is_of_mean_squares_in_the_window():
    run = off_the_line()
    s = run.steps[run.steps["epoch"].between(6, 14) & (run.steps["layer"] == "prep")].astype(
        float, errors="ignore"
    )
    expected = np.sqrt((s["lr"] ** 2 * s["grad_norm_sq"]).sum() / s["weight_norm_sq"].sum())
    assert analysis.mean_step(run)["prep"] == pytest.approx(expected, rel=1e-5)


def test_runs_without_steps_are_left_out():
    run = off_the_line()
    bare = replace(run, steps=run.steps[:0])
    both, one = [run, bare], [run]
    assert analysis.with_steps(both) == one
    pd.testing.assert_frame_equal(analysis.equilibrium(both), analysis.equilibrium(one))
    pd.testing.assert_frame_equal(analysis.rotations(both), analysis.rotations(one))
