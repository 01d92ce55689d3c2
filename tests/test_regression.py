"""The numbers behind every figure and chapter at the scale demo, trained anew, against committed ones.

Trainings are chaotic. On another machine, or with another number of threads, they round otherwise
and part ways within an epoch, as two seeds do. So averages over stretches of a training are
compared, to tolerances that hold between one thread and two; on one machine the numbers are equal.
After a change that was meant: ``pytest tests/test_regression.py --force-regen``, twice.
"""

import numpy as np
import pandas as pd
import pytest

from lib import experiments
from lib.figures import gallery
from lib.results import analysis, prose
from lib.running import runner

STRETCH = 4  # epochs that are averaged over
TOLERANCE = {"rtol": 0.15, "atol": 0.0}
TOLERANCES = {
    "value": {"rtol": 0.15, "atol": 0.12},  # extremes over layers, some of them near zero
    "growth": {"rtol": 0.35, "atol": 0.0},  # goes with the square of the gradient
    "correlation": {"rtol": 0.0, "atol": 0.06},  # near zero
    "overlap": {"rtol": 0.0, "atol": 0.06},
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Every run of the scale demo, trained now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECORDS_ROOT", str(tmp_path_factory.mktemp("records")))
        runner.run(experiments.planned("demo"), report=lambda line: None)
        yield


def summary(numbers: pd.DataFrame) -> pd.DataFrame:
    """Means of a figure's numbers: over stretches of epochs where it shows steps, else as they are."""
    table = numbers.reset_index().drop(columns=["index", "seed"], errors="ignore")
    if "test_accuracy" in table:  # which swings while the learning rate is high
        table = table[table["epoch"] == table["epoch"].max()]
    elif "batch_size" in table:  # a few batches each: single layers scatter
        table = (
            table[table["layer"] != analysis.CLASSIFIER]
            .drop(columns=["layer", "epoch"])
            .astype({"batch_size": str})
        )
    elif "epoch" in table:
        table["epoch"] = table["epoch"] // STRETCH * STRETCH
    if "lr" in table:
        table["lr"] = table["lr"].map("{:.3g}".format)
    by = [c for c in table if c == "epoch" or not pd.api.types.is_numeric_dtype(table[c])]
    means = table.groupby(by, observed=True, sort=False).mean(numeric_only=True)
    means.index = [" ".join(map(str, np.atleast_1d(key))) for key in means.index.to_flat_index()]
    return means


def check(dataframe_regression, table: pd.DataFrame) -> None:
    """Compares with the committed table, row by row."""
    table = table.astype(float).rename_axis("of").reset_index()
    dataframe_regression.check(table, tolerances={c: TOLERANCES.get(c, TOLERANCE) for c in table.columns[1:]})


NOT_OF_RUNS = ("augmentation", "network", "schedule", "cost")


@pytest.mark.parametrize("name", [n for n in gallery.FIGURES if n not in NOT_OF_RUNS])
def test_numbers_behind_a_figure(demo, dataframe_regression, name):
    check(dataframe_regression, summary(gallery.picture(name, "demo").numbers))


# The digits hardly depend on λ, and the place of a flat maximum is chance; costs are those of a machine.
@pytest.mark.parametrize("chapter", [c for c in prose.CHAPTERS if c not in ("learning-rates", "cost")])
def test_numbers_in_a_chapter(demo, dataframe_regression, chapter):
    numbers = {
        k: v
        for k, v in prose.of_chapter(chapter, "demo").items()
        if isinstance(v, float) and not k.endswith("_best_lr")  # chance, as above
    }
    check(dataframe_regression, pd.DataFrame({"value": numbers}))
