from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import synthetic_run
from matplotlib.text import Text

from lib.config import Config, layers_of
from lib.figures import collapse
from lib.results import analysis

CONFIG = Config(dataset="digits", width=1)


@pytest.fixture(scope="module")
def table():
    run = synthetic_run(CONFIG, tuple(layers_of(CONFIG.architecture)))
    return collapse.table(analysis.convolutions(analysis.dynamics(run)))


def test_a_number_is_a_root_mean_square_of_its_epoch():
    run = synthetic_run(CONFIG)
    table = collapse.table(analysis.dynamics(run)).set_index(["layer", "epoch"])
    steps = run.steps[(run.steps["layer"] == "layer1") & (run.steps["epoch"].between(3, 4))]
    found = table.loc[("layer1", 3.5)]
    assert len(steps) == 5
    assert found["weight_norm"] == pytest.approx(np.sqrt(steps["weight_norm_sq"].mean()), rel=1e-5)
    assert found["grad_norm"] == pytest.approx(np.sqrt(steps["grad_norm_sq"].mean()), rel=1e-5)
    squares = steps["lr"] ** 2 * steps["grad_norm_sq"] / steps["weight_norm_sq"]
    assert found["ratio"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)


def test_every_layer_has_a_line_in_each_panel_and_a_name_that_lies_on_no_other(table):
    figure = collapse.layers(table, "√(2λα)")
    layers = list(table["layer"].cat.categories)
    assert not plt.get_fignums()
    assert [len(axes.lines) for axes in figure.axes] == [len(layers), len(layers), len(layers) + 1]
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        assert sorted(text.get_text() for text in axes.texts) == sorted(layers)
        # without the lines that lead to them
        boxes = sorted(map(Text.get_window_extent, axes.texts), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
        # which end before the names, and so cross none
        ends = [text.arrow_patch.get_path().vertices[:, 0].max() for text in axes.texts]
        assert max(ends) <= min(box.x0 for box in boxes)


def test_a_line_is_that_of_its_layer(table):
    figure = collapse.layers(table, "√(2λα)")
    for axes, column in zip(figure.axes, collapse.PANELS, strict=True):
        for line, (_, rows) in zip(axes.lines, table.groupby("layer", observed=True), strict=False):
            np.testing.assert_allclose(line.get_ydata(), rows[column])
    dashed = figure.axes[-1].lines[-1]
    rows = table[table["layer"] == "prep"]
    np.testing.assert_allclose(dashed.get_ydata(), rows["predicted"])


@pytest.mark.mpl_image_compare(baseline_dir="baseline_images", savefig_kwargs={"dpi": 45})
def test_the_collapse_looks_as_it_did(table):
    return collapse.layers(table, "√(2λα)")
