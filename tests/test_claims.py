from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run

from lib import claims, records, runner, theory
from lib.config import Config

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
        f"{form}-seed{i}": run_at(R, replace(config, seed=i))
        for i, R in enumerate(Rs)
        for form, config in forms.items()
    }


ON_THE_LINE = ["ratio", "ratio with momentum", "corrected ratio", "rotation", "rotation of Nesterov"]


@pytest.mark.parametrize("name", [*ON_THE_LINE, "right angle", "correlation"])
def test_runs_on_the_line_hold(name):
    found = claims.judge(BY_NAME[name], runs_at(1.0, 1.0))
    assert found.verdict == claims.HOLDS and len(found.observed) == 2


@pytest.mark.parametrize("name", ON_THE_LINE)
@pytest.mark.parametrize("R", [0.8, 1.2])
def test_runs_off_the_line_fail_by_as_much(name, R):
    found = claims.judge(BY_NAME[name], runs_at(R, R))
    assert found.verdict == claims.FAILS
    np.testing.assert_allclose(found.observed, 0.2, rtol=1e-3)


def test_balance_is_the_ratio_squared():
    assert claims.judge(BY_NAME["balance"], runs_at(1.04)).verdict == claims.HOLDS
    found = claims.judge(BY_NAME["balance"], runs_at(1.1))
    assert found.verdict == claims.FAILS and found.observed[0] == pytest.approx(0.21, rel=0.01)


def test_seeds_that_disagree_resolve_nothing():
    assert claims.judge(BY_NAME["ratio"], runs_at(1.0, 1.3)).verdict == claims.NOT_RESOLVED


def test_a_seed_counts_only_with_every_form():
    runs = runs_at(1.0, 1.3)
    del runs["nesterov-seed1"]
    assert claims.judge(BY_NAME["ratio"], runs).observed == pytest.approx((0.0,), abs=1e-3)
    with pytest.raises(ValueError, match="all three forms"):
        claims.judge(BY_NAME["ratio"], {"sgd-seed0": runs["sgd-seed0"]})


def test_too_few_seeds_resolve_nothing():
    few, enough = runs_at(*[1.0] * 4), runs_at(*[1.0] * 5)
    same = pd.Series(0.9, index=range(24))
    for runs in (few, enough):
        for name, run in runs.items():
            runs[name] = replace(run, epochs=run.epochs.assign(test_accuracy=same))
    assert claims.judge(BY_NAME["only λ/(1−ρ)"], few).verdict == claims.NOT_RESOLVED
    assert claims.judge(BY_NAME["only λ/(1−ρ)"], enough).verdict == claims.HOLDS


def test_a_convolution_at_an_angle_fails_and_so_does_a_classifier_at_a_right_one():
    for layer, cosine in (("prep", 0.01), ("classifier", 1e-5)):
        runs = runs_at(1.0)
        s = runs["sgd-seed0"].steps
        dot = np.where(
            s["layer"] == layer, cosine * np.sqrt(s.weight_norm_sq * s.grad_norm_sq), s.weight_dot_grad
        )
        runs["sgd-seed0"] = replace(runs["sgd-seed0"], steps=s.assign(weight_dot_grad=dot))
        assert claims.judge(BY_NAME["right angle"], runs).verdict == claims.FAILS


@pytest.mark.parametrize("unexplained, verdict", [(0.0, claims.HOLDS), (0.05, claims.FAILS)])
def test_every_change_of_the_norm_is_accounted_for(unexplained, verdict):
    """|w|² moved by the equations step by step; then with a part of the growth left out."""
    runs = runs_at(1.0)
    run = runs["sgd-seed0"]
    s = run.steps.astype({"lr": float})
    c_sq, layers = 30.0, len(LAYERS)
    norm_sq = np.full(len(s), 300.0)
    for i in range(layers, len(s)):
        w, lr = norm_sq[i - layers], s.lr[i - layers]
        norm_sq[i] = w - 2 * lr * 5e-4 * w + (1 - unexplained) * lr**2 * c_sq / w
    runs["sgd-seed0"] = replace(run, steps=s.assign(weight_norm_sq=norm_sq, grad_norm_sq=c_sq / norm_sq))
    found = claims.judge(BY_NAME["norm change"], runs)
    assert found.verdict == verdict and found.observed[0] >= unexplained * 0.99
    if not unexplained:  # and then the norm equation, which is these steps in continuous time, holds as well
        assert claims.judge(BY_NAME["norm equation"], runs).verdict == claims.HOLDS


def test_the_tables_hold_every_claim_once():
    runs = runs_at(1.0)
    everything = claims.table(runs)
    assert everything.index.is_unique and len(everything) == len(claims.CLAIMS)
    by_chapter = [claims.table(runs, chapter) for chapter in ("dynamics", "equilibrium", "momentum")]
    pd.testing.assert_frame_equal(pd.concat(by_chapter), everything)


def test_a_scale_without_records_is_said_to_be_so(monkeypatch):
    def recorded(experiment, scale):
        if scale != "small":
            raise records.NotRecordedError("none")
        return runs_at(1.0)

    monkeypatch.setattr(runner, "recorded", recorded)
    table = claims.side_by_side()
    assert (table[["demo", "paper"]] == claims.NOT_RECORDED).all(axis=None)
    assert table["small"].str.startswith((claims.HOLDS, claims.FAILS, claims.NOT_RESOLVED)).all()
