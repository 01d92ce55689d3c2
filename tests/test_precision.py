"""bf16 beside fp32: trainings that differ by their rounding, and in nothing that the book speaks of."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import training
from lib.config import Config
from lib.machinery import machine
from lib.results import analysis

CONFIG = Config(dataset="digits", width=4, batch_size=64, epochs=3, peak_epoch=0.75, weight_decay=4e-3)
SEEDS = range(3)

if not machine.has_bf16_units(torch.device("cpu")):
    pytest.skip("without units for bfloat16 a training takes minutes", allow_module_level=True)


@pytest.fixture(scope="module")
def runs():
    return {
        precision: [
            training.train(replace(CONFIG, precision=precision, seed=seed), progress=False) for seed in SEEDS
        ]
        for precision in ("fp32", "bf16")
    }


def by_seed(runs, number) -> pd.DataFrame:
    """A number of each layer, a row for each seed."""
    return pd.DataFrame([number(run) for run in runs])


def ratio(run):
    table = analysis.in_window(analysis.dynamics(run), run.config.epochs)
    return analysis.ratio_to_line(analysis.convolutions(table), ["layer"])


def correlation(run):
    table = analysis.convolutions(analysis.in_window(analysis.dynamics(run), run.config.epochs))
    return table.groupby("layer", observed=True)["correlation"].mean()


@pytest.mark.parametrize("number", [ratio, correlation])
def test_a_layers_number_is_within_what_seeds_differ(runs, number):
    fp32, bf16 = (by_seed(runs[precision], number) for precision in runs)
    scatter = np.sqrt((fp32.var() + bf16.var()).mean() / 2)  # of one seed, pooled over layers
    apart = (bf16.mean() - fp32.mean()).abs()
    # a mean of three has scatter/√3; six of those of a difference is far beyond chance
    bound = 6 * scatter * np.sqrt(2 / len(SEEDS))
    assert (apart < bound).all()
    # R is about one, and an R that is off by a half is caught, or the test would say nothing
    assert bound < 0.5


def test_gradients_stay_orthogonal_to_weights_within_rounding(runs):
    cosines = {
        precision: max(
            analysis.convolutions(analysis.dynamics(run))["cosine"].abs().max() for run in of_precision
        )
        for precision, of_precision in runs.items()
    }
    assert cosines["fp32"] < 1e-3 < cosines["bf16"] < 2e-2


def test_the_trainings_are_not_the_same(runs):
    """The control: the setting reaches the arithmetic."""
    first = [runs[precision][0].steps["grad_norm_sq"] for precision in runs]
    assert not np.allclose(*first, rtol=1e-4)
