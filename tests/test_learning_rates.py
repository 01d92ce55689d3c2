from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic_run

from lib.config import Config
from lib.results import learning_rates, tops
from lib.run import Run

LRS = [0.4 * 2.0**k for k in range(-3, 4)]
#: Architectures with the octave, from 0.4, at which their parabola is highest, and how high it is.
TOPS = {"Residual:L1+L3": (-0.5, 0.94), "backbone": (0.25, 0.90), "Extra:L2": (1.0, 0.92)}


def runs_of(accuracy, architectures=tuple(TOPS), lrs=tuple(LRS), seeds=(0, 1)) -> list[Run]:
    """Runs as a record of the sweep has them, without steps; ``accuracy`` of architecture, octave, seed."""
    template = synthetic_run()
    runs = []
    for seed in seeds:
        for architecture in architectures:
            for lr in lrs:
                config = Config(architecture=architecture, lr=lr, seed=seed)
                last = accuracy(architecture, np.log2(lr / 0.4), seed)
                epochs = template.epochs.assign(test_accuracy=[0.0, 0.1, 0.2, last])
                runs.append(Run(config, template.steps.iloc[:0], epochs, template.provenance))
    return runs


def parabola(architecture, octave, seed=0):
    vertex, height = TOPS[architecture]
    return height - 0.004 * (octave - vertex) ** 2


def table_of(accuracy, **which) -> pd.DataFrame:
    return learning_rates.table(runs_of(accuracy, **which))


def diverging(runs, architecture, lr) -> list[Run]:
    """The runs, of which those of this architecture diverged from that learning rate on."""
    return [
        replace(run, diverged_at=7, epochs=run.epochs[:0])
        if run.config.architecture == architecture and run.config.lr >= lr
        else run
        for run in runs
    ]


def without(table, architecture, lrs=(), seed=None) -> pd.DataFrame:
    """A sweep that was stopped: some of its rows."""
    gone = (table["architecture"] == architecture) & (table["lr"].isin(lrs) | (table["seed"] == seed))
    return table[~gone]


def test_the_table_has_a_row_for_each_run_in_their_order():
    table = table_of(parabola)
    assert list(table) == ["architecture", "lr", "seed", "accuracy", "diverged"]
    assert len(table) == 3 * 7 * 2
    assert table["architecture"].cat.categories.tolist() == list(TOPS)  # not the alphabet's order
    row = table.iloc[-1]
    assert (row["architecture"], row["lr"], row["seed"]) == ("Extra:L2", 3.2, 1)
    assert row["accuracy"] == pytest.approx(parabola("Extra:L2", 3.0))
    assert list(tops.optima(table).index) == list(TOPS)
    assert learning_rates.smoothed(table)["architecture"].cat.categories.tolist() == list(TOPS)


def test_runs_that_diverged_are_marked_and_left_out_of_all_that_is_made_of_accuracies():
    table = learning_rates.table(diverging(runs_of(parabola), "Extra:L2", 1.6))
    gone = table["diverged"]
    assert table["accuracy"].isna().tolist() == gone.tolist()
    assert set(table.loc[gone, "architecture"]) == {"Extra:L2"} and set(table.loc[gone, "lr"]) == {1.6, 3.2}
    rest = table[~gone]
    assert len(rest) == 3 * 7 * 2 - 4
    for make in (learning_rates.means, learning_rates.smoothed, tops.optima):
        found = make(table)
        pd.testing.assert_frame_equal(found, make(rest))
        assert not found.isna().any(axis=None)
    # of 0.05 to 0.8, the best of which is the last, three are near the top
    assert tops.optima(table).loc["Extra:L2", "runs"] == 2 * 3
    costs, _ = tops.selection(table)
    np.testing.assert_allclose(costs["best"], [height for _, height in TOPS.values()])
    assert learning_rates.with_enough(table)["diverged"].sum() == 4  # to be drawn
    few = learning_rates.table(diverging(runs_of(parabola), "Extra:L2", 0.4))
    assert "Extra:L2" not in set(learning_rates.with_enough(few)["architecture"])


def test_a_rate_where_a_seed_diverged_is_no_best_one():
    sgd = runs_of(lambda _, octave, seed: 0.5 + 0.01 * octave + 0.1 * seed, ["backbone"], [0.2, 0.4])
    lars = [replace(run, config=replace(run.config, optimizer="lars")) for run in sgd]
    lars[-1] = replace(lars[-1], diverged_at=7, epochs=lars[-1].epochs[:0])
    assert (lars[-1].config.lr, lars[-1].config.seed) == (0.4, 1)
    expected = pd.DataFrame({"sgd": [0.54, 0.55], "lars": [0.54, np.nan]}, index=[0.2, 0.4])
    pd.testing.assert_frame_equal(
        learning_rates.tuned(sgd + lars), expected, check_names=False, check_like=True
    )


def test_no_run_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="no run over learning rates; `python -m lib run sweep tuning`"):
        learning_rates.table([])


def test_means_are_over_the_seeds_there_are():
    table = table_of(lambda architecture, octave, seed: 0.5 + 0.1 * seed, seeds=(0, 1, 2))
    means = learning_rates.means(without(table, "backbone", seed=2)).set_index("architecture")["accuracy"]
    np.testing.assert_allclose(means["Extra:L2"], 0.6)
    np.testing.assert_allclose(means["backbone"], 0.55)
    assert len(means) == 21


@pytest.mark.parametrize("missing", [{}, {"lrs": LRS[2:3]}, {"lrs": LRS[-2:]}, {"seed": 1}])
def test_the_best_learning_rate_of_a_parabola_is_its_vertex(missing):
    table = without(table_of(parabola), "backbone", **missing)
    optima = tops.optima(table)
    octaves, heights = zip(*TOPS.values(), strict=True)
    np.testing.assert_allclose(np.log2(optima["lr"] / 0.4), octaves, atol=1e-9)
    np.testing.assert_allclose(optima["accuracy"], heights, atol=1e-12)
    assert optima["inside"].all()
    # two octaves about the best rate of the grid: 0.2 or 0.4, 0.4 and 0.8
    assert optima["runs"].sum() == len(tops.near_top(table)) < len(table)
    several = optima[["low", "high"]].div(optima["lr"], axis=0).dropna()
    np.testing.assert_allclose(several, 1)  # seeds do not scatter
    assert len(several) == len(TOPS) - ("seed" in missing)  # a single seed has no interval
    assert tops.spread_octaves(optima) == pytest.approx(1.5)


def test_a_reader_sees_best_rates_with_intervals_and_what_the_common_one_costs():
    shown = tops.summary(table_of(parabola))
    assert shown["best λ"].tolist() == ["0.28", "0.48", "0.8"] and list(shown.index) == list(TOPS)
    assert shown["90 % interval"].tolist() == ["0.28 to 0.28", "0.48 to 0.48", "0.8 to 0.8"]
    assert shown["accuracy at best λ, %"].tolist() == [94.0, 90.0, 92.0]
    assert shown["accuracy at λ = 0.4, %"].tolist() == [93.9, 90.0, 91.6]
    rising = tops.summary(table_of(lambda name, octave, seed: TOPS[name][1] + 0.01 * octave, seeds=(0,)))
    assert set(rising["best λ"]) == {"3.2, the end of the range"} and set(rising["90 % interval"]) == {"–"}


def test_the_best_learning_rate_is_that_of_the_means_over_seeds():
    noise = np.random.default_rng(0).normal(0, 0.002, 7)

    def noisy(architecture, octave, seed):
        return parabola(architecture, octave) + (1 - 2 * seed) * noise[round(octave) + 3]

    expected = tops.optima(table_of(parabola))
    columns = ["lr", "accuracy", "inside", "runs"]
    pd.testing.assert_frame_equal(tops.optima(table_of(noisy))[columns], expected[columns])
    one = tops.optima(table_of(noisy, seeds=(0,)))
    assert (np.log2(one["lr"] / expected["lr"]).abs() > 0.001).all()


@pytest.mark.parametrize(
    "accuracy, best",
    [
        (lambda o: -((o - 5) ** 2), LRS[-1]),  # highest above the range
        (lambda o: -((o + 4) ** 2), LRS[0]),  # below it
        (lambda o: (o - 1) ** 2, LRS[0]),  # a vertex in the range, but a lowest one
        (lambda o: 0.1 * o, LRS[-1]),  # none at all
    ],
)
def test_a_best_learning_rate_at_an_end_of_the_range_is_only_a_bound(accuracy, best):
    table = table_of(lambda architecture, octave, seed: accuracy(octave))
    optima = tops.optima(table)
    np.testing.assert_allclose(optima["lr"], best)
    np.testing.assert_allclose(optima["accuracy"], accuracy(np.log2(best / 0.4)), atol=1e-12)
    assert not optima["inside"].any()


def test_a_parabola_needs_three_learning_rates():
    with pytest.raises(
        ValueError, match=r"backbone has the learning rates \[0.1, 0.2\]; a parabola needs three"
    ):
        tops.optima(without(table_of(parabola), "backbone", [LRS[0], *LRS[3:]]))


def test_a_straight_line_is_smooth_already():
    table = table_of(lambda architecture, octave, seed: 0.9 + 0.01 * octave)
    smooth = learning_rates.smoothed(without(table, "backbone", LRS[-2:]))
    np.testing.assert_allclose(smooth["accuracy"], 0.9 + 0.01 * np.log2(smooth["lr"] / 0.4), atol=1e-9)
    spans = smooth.groupby("architecture", observed=True)["lr"].agg(["min", "max", "size"])
    assert spans.loc["backbone"].tolist() == pytest.approx([0.05, 0.8, 4 * learning_rates.FINENESS + 1])
    assert spans.loc["Extra:L2"].tolist() == pytest.approx([0.05, 3.2, 6 * learning_rates.FINENESS + 1])


@pytest.mark.parametrize("octaves, left", [(16, 1.0), (4, 0.5), (2, 0.113)])
def test_smoothing_halves_waves_of_four_octaves(octaves, left):
    def wave(architecture, octave, seed):
        return 0.5 + 0.1 * np.cos(2 * np.pi * octave / octaves)

    # a long range, whose middle is far from its ends
    lrs = [0.4 * 2.0**k for k in range(-16, 17)]
    smooth = learning_rates.smoothed(table_of(wave, architectures=["backbone"], lrs=lrs))
    middle = smooth["accuracy"].iloc[len(smooth) // 2]
    assert (middle - 0.5) / 0.1 == pytest.approx(left, abs=0.01)


def test_fewer_learning_rates_than_a_curve_needs():
    table = without(table_of(parabola), "backbone", LRS[:3])
    with pytest.raises(ValueError, match="backbone has 4 learning rates, .*; smoothing needs 5"):
        learning_rates.smoothed(table)
    kept = learning_rates.with_enough(table)
    assert kept["architecture"].cat.categories.tolist() == ["Residual:L1+L3", "Extra:L2"]
    assert len(kept) == 2 * 7 * 2
    assert len(learning_rates.smoothed(kept)["architecture"].unique()) == 2
    with pytest.raises(ValueError, match="no architecture has 5 learning rates, only {'backbone': 4}"):
        learning_rates.with_enough(table[table["architecture"] == "backbone"])


def bent(architecture, octave, seed=0):
    """A parabola near its top, as it is at 0.4, and far from one further out."""
    vertex, _ = TOPS[architecture]
    return parabola(architecture, octave) - 0.1 * max(abs(octave - vertex) - 2.6, 0)


def test_what_is_far_from_the_top_does_not_move_it():
    expected = tops.optima(table_of(parabola))
    columns = ["lr", "accuracy", "inside", "runs"]
    pd.testing.assert_frame_equal(tops.optima(table_of(bent))[columns], expected[columns])


def scattered(of, seed) -> pd.DataFrame:
    """A sweep of one network with three seeds, whose accuracies scatter about a curve."""
    lr = np.repeat(LRS, 3)
    accuracy = [of("backbone", octave) for octave in np.log2(lr / 0.4)]
    accuracy += np.random.default_rng(seed).normal(0, 0.0005, len(lr))
    architecture = pd.Categorical(["backbone"] * len(lr))
    return pd.DataFrame(
        {
            "architecture": architecture,
            "lr": lr,
            "seed": [0, 1, 2] * 7,
            "accuracy": accuracy,
            "diverged": False,
        }
    )


def test_a_test_of_fit_rejects_what_is_no_parabola():
    assert tops.lack_of_fit(scattered(bent, 0))["backbone"] < 0.001
    none = tops.lack_of_fit(table_of(parabola, seeds=(0,)))  # one seed does not scatter
    assert none.isna().all()


@pytest.mark.slow
def test_a_test_of_fit_is_wrong_as_often_as_it_says():
    found = [tops.lack_of_fit(scattered(parabola, i))["backbone"] for i in range(200)]
    assert 2 <= (np.array(found) < 0.05).sum() <= 20  # 10 ± 3 of 200 are expected


@pytest.mark.slow
def test_the_interval_of_an_optimum_holds_it_nine_times_in_ten():
    inside = []
    for i in range(100):
        optimum = tops.optima(scattered(parabola, i)).loc["backbone"]
        inside.append(optimum["low"] <= 0.4 * 2**0.25 <= optimum["high"])
    assert 80 <= sum(inside) <= 98  # 90 ± 3 of 100 are expected


def test_a_single_seed_has_no_interval():
    assert tops.optima(table_of(parabola, seeds=(0,)))[["low", "high"]].isna().all(axis=None)


def test_each_seed_by_itself():
    """A seed whose rates are all four times as high."""

    def moved(architecture, octave, seed):
        return parabola(architecture, octave - 0.5 * seed)

    found = np.log2(tops.optima_by_seed(table_of(moved, architectures=["backbone"]), "lr") / 0.4)
    np.testing.assert_allclose(found["backbone"], [0.25, 0.75])
    loss = tops.optima_by_seed(table_of(moved, architectures=["backbone"]), "loss")
    np.testing.assert_allclose(loss["backbone"], [0.004 * 0.25**2, 0.004 * 0.75**2], atol=1e-12)


def test_the_cost_of_one_learning_rate_for_all():
    costs, correlation = tops.selection(table_of(parabola))
    octaves, heights = (np.array(x) for x in zip(*TOPS.values(), strict=True))
    assert costs.index.tolist() == list(TOPS)
    np.testing.assert_allclose(costs["best"], heights)
    np.testing.assert_allclose(costs["loss"], 0.004 * octaves**2, atol=1e-12)
    np.testing.assert_allclose(costs["accuracy"], heights - 0.004 * octaves**2)
    assert correlation == pytest.approx(1)
    assert tops.rank_correlations(table_of(parabola)).tolist() == pytest.approx([1, 1])


def test_two_networks_that_change_places():
    """At 0.4 the one with its top there is better, at its best the other."""
    highest = {"backbone": (0, 0.9), "Extra:L2": (1.5, 0.905)}

    def changing(architecture, octave, seed):
        vertex, height = highest[architecture]
        return height - 0.004 * (octave - vertex) ** 2

    table = table_of(changing, architectures=tuple(highest))
    assert tops.selection(table)[1] == pytest.approx(-1)


def test_one_learning_rate_for_all_must_be_there_and_networks_more_than_one():
    table = table_of(parabola)
    with pytest.raises(ValueError, match="backbone: no run at lr=0.4, by which networks are compared"):
        tops.selection(without(table, "backbone", LRS[:4]))
    with pytest.raises(ValueError, match=r"the architectures \['backbone'\]; to rank them takes two"):
        tops.selection(table[table["architecture"] == "backbone"])


def test_relaxations_of_a_run():
    """λ rises to its peak and falls to 0: its mean is half the peak. The post's 24 epochs have 9.3 of them."""
    assert learning_rates.relaxations(Config()) == pytest.approx(
        4 * 0.2 * 5e-4 / 0.1 * 24 * Config().steps_per_epoch, rel=1e-3
    )
    assert learning_rates.relaxations(Config()) == pytest.approx(9.3, abs=0.05)


def test_tables_are_made_not_changed():
    table = table_of(parabola)
    before = table.copy(deep=True)
    for make in (
        learning_rates.means,
        learning_rates.with_enough,
        learning_rates.smoothed,
        tops.optima,
        tops.selection,
    ):
        make(table)
    pd.testing.assert_frame_equal(table, before)
