"""What is kept in place of steps: averages over parts of epochs, and over epochs of each filter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import assert_same_run, few_images

from lib import records, training
from lib.config import CLASSIFIER, Config, layers_of
from lib.machinery import checkpoints
from lib.run import QUANTITIES, Run, part_of_epoch
from lib.training import train

EVERY_STEP = Config(
    dataset="digits", width=1, epochs=3, peak_epoch=1, batch_size=23
)  # of 160 images: 6 steps
AVERAGED = replace(EVERY_STEP, averages=4, by_filter=True)


@pytest.fixture(scope="module")
def runs() -> dict[Config, Run]:
    with pytest.MonkeyPatch.context() as patch:
        few_images(patch)
        return {config: train(config, progress=False) for config in (EVERY_STEP, AVERAGED)}


@pytest.fixture
def few(monkeypatch):
    few_images(monkeypatch)


def test_parts_of_an_epoch_are_as_even_as_can_be():
    parts = [part_of_epoch(step, 97, 8) for step in range(2 * 97)]
    assert parts == sorted(parts) and set(parts) == set(range(16))
    assert {parts.count(part) for part in set(parts)} == {12, 13}
    assert [part_of_epoch(step, 3, 8) for step in range(3)] == [0, 2, 5]  # more parts than steps: each step


@pytest.mark.slow
def test_averages_are_those_of_the_steps(runs):
    steps, averages = runs[EVERY_STEP].steps, runs[AVERAGED].steps
    pd.testing.assert_frame_equal(runs[EVERY_STEP].epochs, runs[AVERAGED].epochs, check_exact=True)
    rows = iter(averages.to_dict("records"))
    for epoch in range(3):
        for part in ([0, 1], [2], [3, 4], [5]):  # six steps in four parts
            for layer in averages["layer"].cat.categories:
                some = steps[steps["step"].isin([6 * epoch + i for i in part]) & (steps["layer"] == layer)]
                row = next(rows)
                assert (row["layer"], row["step"]) == (layer, 6 * epoch + part[0])
                for name in ("epoch", "lr", *QUANTITIES):
                    assert row[name] == pytest.approx(some[name].astype(float).mean(), rel=1e-5, abs=1e-12)
    assert next(rows, None) is None and runs[AVERAGED].steps_per_epoch == 6


def test_filters_add_up_to_their_layer(runs):
    by_filter = runs[AVERAGED].by_filter
    sizes = {layer: size.channels_out for layer, size in layers_of(AVERAGED.architecture, 1).items()}
    sizes.pop(CLASSIFIER)
    names = [f"{layer}[{i}]" for layer, size in sizes.items() for i in range(size)]
    assert list(by_filter["layer"].cat.categories) == names and len(by_filter) == 3 * len(names)
    assert by_filter["epoch"].unique().tolist() == [0.5, 1.5, 2.5]
    steps = runs[EVERY_STEP].steps
    for quantity in QUANTITIES:
        whole = steps.groupby([np.floor(steps["epoch"]), "layer"], observed=True)[quantity].mean()
        layer = by_filter["layer"].astype(str).str.partition("[")[0]
        summed = by_filter[quantity].groupby([np.floor(by_filter["epoch"]), layer]).sum()
        for (epoch, name), value in summed.items():
            assert value == pytest.approx(whole[epoch, name], rel=1e-4, abs=1e-7), quantity


def test_they_are_recorded_and_read_as_steps_are(runs, tmp_path, few):
    for run in runs.values():
        path = tmp_path / f"{run.config.key}.parquet"
        records.write(run, path)
        back = records.read(path)
        assert_same_run(back, run)
        pd.testing.assert_frame_equal(back.by_filter, run.by_filter, check_exact=True)
    records.write(runs[AVERAGED], path, every=0)
    back = records.read(path)
    assert back.steps.empty and back.by_filter.empty


def test_rows_that_are_not_those_of_the_config_are_refused(runs, tmp_path, few):
    run = runs[AVERAGED]
    wrong = {
        "rows": replace(run, steps=runs[EVERY_STEP].steps),
        "not those of": replace(run, by_filter=run.by_filter[:-1]),
        "epochs": replace(run, by_filter=run.by_filter.assign(epoch=run.by_filter["epoch"] + 1)),
        "learning rates": replace(run, steps=run.steps.assign(lr=run.steps["lr"] * 1.01)),
        "not finite": replace(run, by_filter=run.by_filter.assign(grad_norm_sq=np.nan)),
    }
    for reason, other in wrong.items():
        with pytest.raises(records.RecordError, match=reason):
            records.write(other, tmp_path / "wrong.parquet")


def test_a_run_that_was_stopped_goes_on_with_its_filters(tmp_path, few, monkeypatch, runs):
    epoch = training._Training.epoch

    def stopped(self, dataset, bar):
        if len(self.epochs) == 2:
            raise KeyboardInterrupt
        epoch(self, dataset, bar)

    monkeypatch.setattr(training._Training, "epoch", stopped)
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        train(AVERAGED, progress=False, checkpoint=tmp_path / "state")
    monkeypatch.setattr(training._Training, "epoch", epoch)
    assert (tmp_path / "state").exists()
    again = train(AVERAGED, progress=False, checkpoint=tmp_path / "state")
    assert again.provenance["resumed"] == 1
    assert_same_run(again, runs[AVERAGED])
    pd.testing.assert_frame_equal(again.by_filter, runs[AVERAGED].by_filter, check_exact=True)
