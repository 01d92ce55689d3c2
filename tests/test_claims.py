from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, recordable_run, synthetic_run

from lib import experiments, library, records, theory
from lib.config import Config
from lib.results import claims

SGD = Config(dataset="digits", width=1, momentum=0.0, lr=4.0)  # its 24 epochs
BY_NAME = {claim.name: claim for claim in claims.CLAIMS}


def run_at(R: float, config: Config, uncorrelated: bool = True):
    """A run whose layers are all R times off the line, on every step; its weights turn as predicted, times R."""
    run = synthetic_run(config)
    s = run.steps.astype({"lr": float, "weight_norm_sq": float})
    form = {"weight_decay": config.weight_decay, "momentum": config.momentum, "nesterov": config.nesterov}
    line, angle = (f(lr=s.lr, **form) for f in (theory.equilibrium_ratio, theory.rotation))
    steps = run.steps.assign(
        grad_norm_sq=(R * line / s.lr) ** 2 * s.weight_norm_sq,
        update_norm_sq=(R * angle) ** 2 * s.weight_norm_sq,
        weight_dot_grad=np.where(s["layer"] == "classifier", 0.5, 1e-5)
        * R * line / s.lr * s.weight_norm_sq,
    )  # fmt: skip
    if uncorrelated:
        steps["grad_dot_average"] = np.float32(0)
    return replace(run, steps=steps)


def runs_at(*Rs: float):
    """All forms, a seed for each R."""
    forms = {"sgd": SGD, "heavy-ball": replace(SGD, momentum=0.9, lr=0.4)}
    forms["nesterov"] = replace(forms["heavy-ball"], nesterov=True)
    return {
        f"dynamics/{form}": {i: run_at(R, replace(config, seed=i)) for i, R in enumerate(Rs)}
        for form, config in forms.items()
    }


ON_THE_LINE = ["ratio", "ratio with momentum", "corrected ratio", "rotation", "rotation of Nesterov"]


@pytest.mark.parametrize("name", [*ON_THE_LINE, "right angle", "correlation"])
def test_runs_on_the_line_hold(name):
    found = claims.judge(BY_NAME[name], runs_at(1.0, 1.0))
    assert found.verdict == claims.HOLDS and found.low <= found.observed <= found.high


@pytest.mark.parametrize("name", ON_THE_LINE)
@pytest.mark.parametrize("R", [0.8, 1.2])
def test_runs_off_the_line_fail_by_as_much(name, R):
    found = claims.judge(BY_NAME[name], runs_at(R, R))
    assert found.verdict == claims.FAILS
    np.testing.assert_allclose([found.low, found.observed, found.high], 0.2, rtol=1e-3)


def test_balance_is_the_ratio_squared():
    assert claims.judge(BY_NAME["balance"], runs_at(1.04)).verdict == claims.HOLDS
    found = claims.judge(BY_NAME["balance"], runs_at(1.1))
    assert found.verdict == claims.FAILS and found.observed == pytest.approx(0.21, rel=0.01)


def test_seeds_that_disagree_resolve_nothing():
    assert claims.judge(BY_NAME["ratio"], runs_at(1.0, 1.3)).verdict == claims.NOT_RESOLVED


def test_a_seed_counts_only_with_all_that_is_looked_at():
    runs = runs_at(1.0, 1.3)
    del runs["dynamics/sgd"][1]
    assert (
        claims.judge(BY_NAME["larger discrepancy"], runs).low
        == claims.judge(BY_NAME["larger discrepancy"], runs).high
    )
    assert (
        claims.judge(BY_NAME["ratio with momentum"], runs).verdict == claims.NOT_RESOLVED
    )  # it needs no sgd
    runs["dynamics/sgd"].clear()
    found = claims.judge(BY_NAME["ratio"], runs)
    assert found.verdict == claims.NOT_RECORDED and np.isnan(found.observed)


def test_runs_that_keep_no_steps_count_where_accuracies_are_compared():
    runs = with_accuracies(runs_at(1.0, 1.0), sgd=[0.8, 0.9])
    runs["dynamics/sgd"][1] = replace(runs["dynamics/sgd"][1], steps=runs["dynamics/sgd"][1].steps[:0])
    runs["dynamics/heavy-ball"][1] = run_at(1.3, runs["dynamics/heavy-ball"][1].config)
    assert claims.judge(BY_NAME["ratio"], runs).verdict == claims.HOLDS  # of the first seed
    found = claims.judge(BY_NAME["only λ/(1−ρ)"], runs)
    assert found.low < found.high  # two


def with_accuracies(runs, **by_form):
    """The runs with these final accuracies, one for each seed."""
    for form, accuracies in by_form.items():
        seeds = runs[f"dynamics/{form.replace('_', '-')}"]
        for seed, accuracy in enumerate(accuracies):
            epochs = seeds[seed].epochs.assign(test_accuracy=accuracy)
            seeds[seed] = replace(seeds[seed], epochs=epochs)
    return runs


def test_too_few_seeds_resolve_nothing():
    for seeds, verdict in ((4, claims.NOT_RESOLVED), (5, claims.HOLDS)):
        runs = with_accuracies(runs_at(*[1.0] * seeds), sgd=[0.9] * seeds, heavy_ball=[0.9] * seeds)
        assert claims.judge(BY_NAME["only λ/(1−ρ)"], runs).verdict == verdict


@pytest.mark.parametrize("mean, verdict", [(0.25, claims.HOLDS), (-0.35, claims.FAILS)])
def test_the_mean_of_accuracies_decides(mean, verdict):
    off = np.array([-1, -0.5, 0, 0.5, 1]) / 100  # each seed but one is off by more than the tolerance
    runs = with_accuracies(runs_at(*[1.0] * 5), sgd=0.9 + mean / 100 + off, heavy_ball=[0.9] * 5)
    found = claims.judge(BY_NAME["only λ/(1−ρ)"], runs)
    assert found.verdict == verdict
    assert [found.low, found.observed, found.high] == pytest.approx([mean - 1, mean, mean + 1])


def test_a_convolution_at_an_angle_fails_and_so_does_a_classifier_at_a_right_one():
    for layer, cosine in (("prep", 0.01), ("classifier", 1e-5)):
        runs = runs_at(1.0)
        run = runs["dynamics/sgd"][0]
        s = run.steps
        dot = np.where(
            s["layer"] == layer, cosine * np.sqrt(s.weight_norm_sq * s.grad_norm_sq), s.weight_dot_grad
        )
        runs["dynamics/sgd"][0] = replace(run, steps=s.assign(weight_dot_grad=dot))
        assert claims.judge(BY_NAME["right angle"], runs).verdict == claims.FAILS


@pytest.mark.parametrize("unexplained, verdict", [(0.0, claims.HOLDS), (0.05, claims.FAILS)])
def test_every_change_of_the_norm_is_accounted_for(unexplained, verdict):
    """|w|² moved by the equations step by step; then with a part of the growth left out."""
    runs = runs_at(1.0)
    run = runs["dynamics/sgd"][0]
    s = run.steps.astype({"lr": float})
    c_sq, layers = 30.0, len(LAYERS)
    norm_sq = np.full(len(s), 300.0)
    for i in range(layers, len(s)):
        w, lr = norm_sq[i - layers], s.lr[i - layers]
        norm_sq[i] = w - 2 * lr * 5e-4 * w + (1 - unexplained) * lr**2 * c_sq / w
    runs["dynamics/sgd"][0] = replace(
        run, steps=s.assign(weight_norm_sq=norm_sq, grad_norm_sq=c_sq / norm_sq)
    )
    found = claims.judge(BY_NAME["norm change"], runs)
    assert found.verdict == verdict and found.observed >= unexplained * 0.99
    if not unexplained:  # and then the norm equation, which is these steps in continuous time, holds as well
        assert claims.judge(BY_NAME["norm equation"], runs).verdict == claims.HOLDS


@pytest.mark.parametrize(
    "slope, verdict", [(-0.5, claims.HOLDS), (-0.43, claims.HOLDS), (-0.4, claims.FAILS)]
)
def test_the_slope_of_the_noise(slope, verdict):
    """|g| as a power of N within the run; before its first step, where nothing is claimed, another."""
    rows = [
        (epoch, n, layer, n ** (2 * (slope if epoch else -0.1)) if layer != "classifier" else 1.0)
        for epoch in (0, 8, 16, 24)
        for n in (32, 128, 512)
        for layer in LAYERS
    ]
    noise = pd.DataFrame(rows, columns=["epoch", "batch_size", "layer", "grad_norm_sq"])
    run = replace(synthetic_run(replace(SGD, noise_every=8)), noise=noise)
    found = claims.judge(BY_NAME["noise"], {"gradient-noise/frozen": {0: replace(run, steps=run.steps[:0])}})
    assert found.verdict == verdict and found.observed == pytest.approx(slope + 0.5)


@pytest.mark.parametrize("quotient, verdict", [(2.1, claims.HOLDS), (2.3, claims.FAILS), (1.0, claims.FAILS)])
def test_the_step_of_a_batch(quotient, verdict):
    runs = runs_at(1.0)
    (whole,) = runs["dynamics/heavy-ball"].values()
    config = replace(whole.config, batch_size=16, lr=0.1)
    norms = whole.steps["grad_norm_sq"] * 16 / quotient**2  # λ is a quarter of the whole batch's
    steps = whole.steps.assign(lr=whole.steps["lr"] / 4, grad_norm_sq=norms)
    runs["batch-size/quarter-batch"] = {0: replace(whole, config=config, steps=steps)}
    found = claims.judge(BY_NAME["step of a batch"], runs)
    assert found.verdict == verdict and found.observed == pytest.approx(abs(quotient - 2), abs=1e-3)


def swept(best: dict[str, float], seeds: int = 3):
    """A sweep whose accuracies are parabolas in log₂ λ with their tops at ``best``, one above the other."""
    runs = {}
    for i, (architecture, top) in enumerate(best.items()):
        for lr in (0.1, 0.2, 0.4, 0.8, 1.6):
            for seed in range(seeds):
                config = replace(SGD, architecture=architecture, lr=lr, seed=seed)
                accuracy = 0.8 + 0.01 * i - 0.01 * np.log2(lr / top) ** 2
                run = synthetic_run(config)
                run = replace(run, steps=run.steps[:0], epochs=run.epochs.assign(test_accuracy=accuracy))
                runs.setdefault(f"sweep/{architecture}-lr{lr:g}", {})[seed] = run
    return runs


def test_architectures_that_share_their_optimum():
    runs = swept({"backbone": 0.4, "Residual:L1": 0.4, "Residual:L2": 0.42})
    for name in ("shared optimum", "selection"):
        assert claims.judge(BY_NAME[name], runs).verdict == claims.HOLDS
    assert (
        claims.judge(BY_NAME["selection"], swept({"backbone": 0.4, "Extra:L1": 0.4}, 2)).verdict
        == claims.NOT_RESOLVED
    )


def test_architectures_that_do_not():
    runs = swept({"backbone": 0.2, "Residual:L1": 0.8})
    shared, selected = (claims.judge(BY_NAME[name], runs) for name in ("shared optimum", "selection"))
    assert shared.verdict == selected.verdict == claims.FAILS
    assert shared.observed == pytest.approx(2) and selected.observed == pytest.approx(1)  # octaves, %


def test_each_optimiser_is_taken_at_its_best_rate():
    runs = {}
    best = {"lars-lr0.4": 0.8, "lars-lr0.2": 0.904, "heavy-ball-lr0.4": 0.9, "heavy-ball-lr0.8": 0.85}
    for form, accuracy in best.items():
        config = replace(SGD, optimizer="lars" if form.startswith("lars") else "sgd")
        runs[f"tuning/{form}"] = {
            s: replace(r, epochs=r.epochs.assign(test_accuracy=accuracy))
            for s in range(5)
            for r in [synthetic_run(replace(config, seed=s))]
        }
    found = claims.judge(BY_NAME["LARS better"], runs)
    assert found.verdict == claims.HOLDS and found.observed == pytest.approx(0.4)


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    sgd = {s: synthetic_run(replace(SGD, seed=s)) for s in range(5)}
    lars = {s: synthetic_run(replace(SGD, optimizer="lars", seed=s)) for s in range(5)}
    runs = {"tuning/heavy-ball-lr0.4": sgd, "tuning/lars-lr0.4": lars}
    expected = claims.judge(BY_NAME["LARS better"], runs)
    runs["tuning/lars-lr3.2"] = {
        s: replace(run, diverged_at=3, epochs=run.epochs[:0]) for s, run in lars.items()
    }
    assert claims.judge(BY_NAME["LARS better"], runs) == expected


def everything():
    runs = runs_at(1.0) | swept({"backbone": 0.4, "Extra:L1": 0.4}, 1)
    return runs | {
        form: {} for form in ("tuning/lars-lr0.4", "gradient-noise/frozen", "batch-size/quarter-batch")
    }


def test_the_tables_hold_every_claim_once():
    table = claims.table(everything())
    assert table.index.is_unique and len(table) == len(claims.CLAIMS)
    chapters = dict.fromkeys(claim.chapter for claim in claims.CLAIMS)
    by_chapter = [claims.table(everything(), chapter) for chapter in chapters]
    pd.testing.assert_frame_equal(pd.concat(by_chapter), table)
    # what is not recorded is said to be so, and has no number
    missing = table.loc[[c.sentence for c in claims.CLAIMS if c.name in ("noise", "LARS better")]]
    assert (missing["verdict"] == claims.NOT_RECORDED).all() and (missing["observed"] == "–").all()


def test_a_scale_without_records_is_said_to_be_so(monkeypatch):
    nothing = {form: {} for form in everything()}
    monkeypatch.setattr(claims, "recorded", lambda scale: everything() if scale == "small" else nothing)
    table = claims.side_by_side()
    assert (table[["demo", "paper"]] == claims.NOT_RECORDED).all(axis=None)
    judged = table["small"][table["small"] != claims.NOT_RECORDED]
    assert len(judged) == len(claims.CLAIMS) - 3
    assert judged.str.startswith((claims.HOLDS, claims.FAILS, claims.NOT_RESOLVED)).all()


def test_recorded_has_every_planned_form(records_in):
    planned = claims.recorded("small")
    assert {"dynamics/sgd", "lars/lars", "sweep/backbone-lr0.05"} < set(planned)
    assert not any(planned.values())
    lars = experiments.planned("small", ["lars"])[1]
    records.write(recordable_run(lars.config), library.path(lars))
    assert list(claims.recorded("small")["lars/lars"]) == [1]
