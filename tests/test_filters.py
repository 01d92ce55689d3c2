from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import recordable_run

from lib import scales, theory
from lib.config import Config, layers_of
from lib.results import filters
from lib.run import FILTER_COLUMNS

CONFIG = Config(width=2, noise_every=8)
EPOCHS = (0, 8, 16, 24)


def run(spread, seed=0, R=1.0):
    """Filters whose |g|/|w| is so many e-foldings about what makes R, at each checkpoint."""
    random = np.random.default_rng(seed)
    rows = []
    for epoch in EPOCHS:
        for layer, shape in layers_of(CONFIG.architecture, CONFIG.width).items():
            lr = float(CONFIG.lr_schedule(epoch)) or CONFIG.lr
            line = (
                theory.equilibrium_ratio(lr=lr, weight_decay=CONFIG.weight_decay, momentum=CONFIG.momentum)
                / lr
            )
            for i in range(shape.channels_out):
                w_sq = random.uniform(1, 9)
                step = R * line * np.exp(spread[EPOCHS.index(epoch)] * random.standard_normal())
                rows.append((epoch, layer, i, w_sq, step**2 * w_sq, 0.3 if layer == "classifier" else 1e-4))
    made = recordable_run(replace(CONFIG, dataset="digits", seed=seed))
    return replace(made, frozen_filters=pd.DataFrame(rows, columns=list(FILTER_COLUMNS)))


def test_the_books_network_has_280_filters():
    assert filters.count(scales.base("small")) == 280


def test_in_balance_every_filter_has_the_step_of_its_layer():
    found = filters.table([run([0, 0, 0, 0], seed, R=1.2) for seed in range(2)])
    assert np.allclose(found["relative"], 1) and set(found["seed"]) == {0, 1}
    ratios = found.groupby("epoch")["R"].agg(["min", "max"])
    assert ratios.loc[[0, 24]].isna().all(axis=None)  # λ is 0 there
    assert np.allclose(ratios.loc[[8, 16]], 1.2)


def test_filters_are_compared_with_their_own_layer_by_mean_squares():
    rows = [(8, "prep", 0, 1.0, 4.0, 0.0), (8, "prep", 1, 3.0, 4.0, 0.0), (8, "layer1", 0, 1.0, 100.0, 0.0)]
    made = replace(run([0] * 4), frozen_filters=pd.DataFrame(rows, columns=list(FILTER_COLUMNS)))
    assert filters.table([made])["relative"].tolist() == pytest.approx([2 / 2**0.5, (4 / 3 / 2) ** 0.5, 1])


def test_a_filter_that_nothing_reaches_is_left_out():
    made = run([0] * 4)
    made.frozen_filters.loc[5, "grad_norm_sq"] = 0.0
    assert len(filters.table([made])) == len(made.frozen_filters) - 1


@pytest.mark.parametrize(
    "late, verdict", [(0.05, "finds the balance by itself"), (0.5, "do not find one balance")]
)
def test_what_is_said_follows_the_numbers(late, verdict):
    text = filters.text([run([0.5, late, late, late], seed) for seed in range(2)])
    assert verdict in text and "2 seeds" in text and "After epoch 8 it is" in text and "nan" not in text
    assert "is 1.0 × 10⁻⁴; of a row of the classifier it is 0.30" in text
    assert f"of {2 * filters.count(CONFIG)} filters" in text


def test_without_decay_there_is_no_balance():
    made = run([0] * 4)
    bare = replace(made, config=replace(made.config, weight_decay=0.0))
    assert "no balance to find" in filters.text([bare])


def test_older_records_have_none_and_it_is_said():
    bare = run([0] * 4)
    bare = replace(bare, frozen_filters=bare.frozen_filters[:0])
    assert filters.text([bare]) == filters.NOT_MEASURED and filters.count(CONFIG) == 70
