import inspect

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lib import analysis, figures, records
from lib.config import Config

matplotlib.use("agg")
POST = Config(dataset="digits", width=1)
FORMS = ["sgd", "heavy-ball", "nesterov"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was recorded: figures are drawn from records."""
    path = tmp_path_factory.mktemp("records") / "run.parquet"
    records.write(synthetic_run(POST), path)
    return records.read(path)


@pytest.fixture(scope="module")
def arguments(run):
    """What each figure function is called with."""
    table = analysis.dynamics(run)
    equilibrium = dict.fromkeys(FORMS, analysis.equilibrium({"": run}))
    pictures = {"original": np.zeros((3, 4, 4, 3)), "epoch 1": np.ones((3, 4, 4, 3))}
    return {
        "norm_change": (table, "growth"),
        "balance": (table,),
        "weight_norms": (table,),
        "effective_step": (table, "√(2λα)"),
        "gradient_correlation": (table,),
        "ratio_by_epoch": (analysis.ratio_by_epoch(run),),
        "equilibrium": (equilibrium, 0.15),
        "correction": (equilibrium, 0.15),
        "schedule": (run.config.lr_schedule, 24),
        "learning_curves": ({form: [run.epochs] for form in FORMS},),
        "images": (pictures,),
    }


NAMES = [n for n, f in inspect.getmembers(figures, inspect.isfunction) if hasattr(f, "__wrapped__")]
# a row of pictures has no axes to label
UNLABELLED = {"images"}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def draw(name, arguments) -> Figure:
    assert name in arguments, f"add what figures.{name} is called with to this test"
    return getattr(figures, name)(*arguments[name])


def test_a_figure_is_drawn_and_nothing_else_happens(name, arguments, tmp_path):
    mine = plt.figure()
    style, random = dict(plt.rcParams), np.random.get_state()[1].copy()  # noqa: NPY002
    tables = [(x, x.copy(deep=True)) for x in arguments[name] if isinstance(x, pd.DataFrame)]
    figure = draw(name, arguments)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == [mine.number], "a figure of its own stays open, or another's was closed"
    assert dict(plt.rcParams) == style
    assert np.array_equal(np.random.get_state()[1], random)  # noqa: NPY002
    for now, before in tables:
        pd.testing.assert_frame_equal(now, before)
    plt.close(mine)
    figure.savefig(tmp_path / "figure.png")  # layout and text may still warn here
    assert (tmp_path / "figure.png").stat().st_size > 3000


def test_axes_are_labelled(name, arguments):
    figure = draw(name, arguments)
    if name in UNLABELLED:
        return
    for axes in figure.axes:
        if axes.get_visible():
            by_name = name in ("equilibrium", "correction")  # layers say themselves what they are
            assert by_name or axes.get_xlabel() or figure.get_supxlabel() == "epoch"
            assert axes.get_ylabel() or figure.get_supylabel()


@pytest.mark.parametrize("column", ["shrinkage", "growth", "norm_sq_relative"])
def test_lines_are_the_columns(arguments, column):
    (table,), colours = arguments["weight_norms"], figures.layer_colours(LAYERS)
    relative = column == "norm_sq_relative"
    (axes,) = (figures.weight_norms(table) if relative else figures.norm_change(table, column)).axes
    assert [line.get_label() for line in axes.lines] == LAYERS
    assert [text.get_text() for text in axes.get_legend().get_texts()] == LAYERS
    for line in axes.lines:
        rows = table[table["layer"] == line.get_label()]
        np.testing.assert_array_equal(line.get_ydata(), rows[column])
        np.testing.assert_array_equal(line.get_xdata(), rows["epoch"])
        assert to_rgba(line.get_color()) == to_rgba(colours[line.get_label()])


@pytest.mark.parametrize(
    "name, circles, line", [("balance", "growth", "shrinkage"), ("effective_step", "ratio", "predicted")]
)
def test_panels_show_circles_and_a_line_for_each_layer(arguments, name, circles, line):
    figure = draw(name, arguments)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == LAYERS
    for axes in panels:
        rows = arguments[name][0].query("layer == @axes.get_title()")
        (points,) = (c for c in axes.collections if isinstance(c, PathCollection))
        np.testing.assert_allclose(points.get_offsets(), rows[["epoch", circles]], rtol=1e-6)
        (black,) = axes.lines
        np.testing.assert_array_equal(black.get_ydata(), rows[line])
        assert black.get_color() == "black"


@pytest.mark.parametrize("layers", [1, 3, 4, 5, 9])
def test_there_is_a_panel_for_each_of_any_number_of_layers(layers):
    names = [f"layer{i}" for i in range(layers)]
    figure = figures.balance(analysis.dynamics(synthetic_run(layers=tuple(names))))
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == names


def test_the_band_is_the_tolerance_and_bars_span_the_runs(run):
    runs = {str(seed): synthetic_run(Config(dataset="digits", width=1, seed=seed)) for seed in range(3)}
    table = analysis.equilibrium(runs)
    (axes,) = figures.equilibrium({"heavy-ball": table}, tolerance=0.15).axes
    band = axes.patches[0]
    assert (band.get_y(), band.get_height()) == pytest.approx((0.85, 0.3))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == LAYERS
    (bars,) = axes.containers
    assert bars.lines[0].get_ydata().tolist() == table["R"].tolist()
    ends = [[segment[:, 1].min(), segment[:, 1].max()] for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, table[["low", "high"]])


def test_corrected_ratios_are_filled_measured_ones_hollow(arguments):
    (axes,) = draw("correction", arguments).axes
    table = next(iter(arguments["correction"][0].values()))
    shown = {line.get_label(): line for line in axes.lines}
    for label, column, fill in (("as measured", "R", "none"), ("corrected", "R_corrected", "full")):
        line = shown[f"heavy-ball, {label}"]
        np.testing.assert_array_equal(line.get_ydata(), table[column])
        assert line.get_fillstyle() == fill


def test_a_layer_keeps_its_colour_and_no_two_share_one():
    layers = ["prep", *(f"layer{i}" for i in range(7)), "classifier"]
    colours = figures.layer_colours(layers)
    assert len({tuple(c) for c in colours.values()}) == len(layers)
    red, green, blue = colours["classifier"]
    assert red == green == blue
    lightness = [np.dot(colours[layer], (0.2126, 0.7152, 0.0722)) for layer in layers[:-1]]
    assert lightness == sorted(lightness)  # from input to output, dark to light
    assert lightness[-1] < 0.75  # and still seen on white


def test_shared_limits_hold_the_columns():
    low, high = figures.shared_limits(pd.Series([1.0, 2.0]), pd.Series([0.0, 4.0, 8.0]))
    assert 0 < low < 1.1 and high > 7.9


def test_pictures_are_shown_in_their_rows():
    rows = {"original": np.zeros((2, 4, 4, 3)), "epoch 1": np.ones((2, 4, 4, 3))}
    axes = np.reshape(figures.images(rows).axes, (2, 2))
    for i, label in enumerate(rows):
        assert axes[i, 0].get_ylabel() == label
        assert all((a.images[0].get_array() == i).all() for a in axes[i])
