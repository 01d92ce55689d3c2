import inspect
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import LAYERS, synthetic_run
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from lib import gradient_noise
from lib.config import Config
from lib.figures import comparisons, layout, plots, reduced, style
from lib.machinery.speeds import VARIANTS
from lib.results import analysis, learning_rates, tops
from lib.run import NOISE_COLUMNS

matplotlib.use("agg")
POST = Config(dataset="digits", width=1)
FORMS = ["sgd", "heavy-ball", "nesterov"]
ARCHITECTURES = ["backbone", "Extra:L2", "Residual:L1+L3"]
BATCHES = ["N = 512", "N = 128"]


@pytest.fixture(scope="module")
def run():
    return synthetic_run(POST)


@pytest.fixture(scope="module")
def arguments(run):
    """What each figure function is called with."""
    table = analysis.dynamics(run)
    equilibrium = dict.fromkeys(FORMS, analysis.equilibrium([run]))
    pictures = {"original": np.zeros((3, 4, 4, 3)), "epoch 1": np.ones((3, 4, 4, 3))}
    sweep = sweep_table()
    return {
        "norm_change": (table, "growth"),
        "balance": (table,),
        "weight_norms": (table,),
        "effective_step": (table, "√(2λα)"),
        "gradient_correlation": (table,),
        "ratio_by_epoch": (analysis.ratio_by_epoch(run),),
        "equilibrium": (equilibrium, 0.15),
        "correction": (equilibrium, 0.15),
        "batch_sizes": (dict.fromkeys(BATCHES, table),),
        "side_by_side": ({"heavy-ball": table, "lars": table}, "norm_sq_relative", "|w|²"),
        "gradient_noise": (noise_table(),),
        "accuracy_against_lr": (sweep, learning_rates.smoothed(sweep), tops.optima(sweep)),
        "cost": (cost_table(), 8, 512),
        "schedule": (run.config.lr_schedule, 24),
        "learning_curves": ({form: [run.epochs] for form in FORMS},),
        "images": (pictures,),
    }


def layers(names) -> pd.Categorical:
    return pd.Categorical(names, categories=LAYERS, ordered=True)


def sweep_table(factor=1.0) -> pd.DataFrame:
    """Three parabolas a percent apart, of two seeds; accuracies above 0.8 are multiplied by the factor."""
    rows = [
        (
            architecture,
            0.4 * 2.0**k,
            seed,
            0.8 + factor * (0.1 + 0.02 * i - 0.005 * (k - i / 2) ** 2 + 0.01 * seed),
        )
        for i, architecture in enumerate(ARCHITECTURES)
        for k in range(-3, 4)
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=["architecture", "lr", "seed", "accuracy"])
    return table.assign(
        architecture=pd.Categorical(table["architecture"], categories=ARCHITECTURES), diverged=False
    )


def with_diverged(table: pd.DataFrame) -> pd.DataFrame:
    """The same, where a network diverged at one learning rate and two at another."""
    gone = (table["lr"] == 3.2) & (table["architecture"] != "backbone") | (table["lr"] == 0.8) & (
        table["architecture"] == "Extra:L2"
    ) & (table["seed"] == 1)
    return table.assign(diverged=gone, accuracy=table["accuracy"].mask(gone))


def noise_table(factor=1.0) -> pd.DataFrame:
    """|g|² = 1/n of noise beside 0.002 of signal, a layer twice the one before."""
    rows = [
        (epoch, size, layer, factor**2 * 2**i * (1 / size + 0.002))
        for epoch in (0, 8)
        for size in gradient_noise.BATCH_SIZES
        for i, layer in enumerate(LAYERS)
    ]
    table = pd.DataFrame(rows, columns=list(NOISE_COLUMNS)[:4])
    return table.assign(layer=layers(table["layer"]))


def cost_table(factor=1.0) -> pd.DataFrame:
    """A hundredth of a millisecond for each channel, doubled from variant to variant; and less in large batches."""
    rows = [
        (width, batch, variant, factor * 0.01 * width * 2**i * (batch / 512) ** -0.1)
        for width, batch in ((8, 512), (16, 512), (64, 512), (8, 128), (8, 2048))
        for i, variant in enumerate(VARIANTS)
    ]
    return pd.DataFrame(rows, columns=["width", "batch_size", "variant", "ms"])


def dynamics_table(factor=1.0) -> pd.DataFrame:
    """Columns of `analysis.dynamics` that are drawn, from sines; the measured ones times the factor."""
    t, i = np.repeat(np.linspace(0.01, 0.99, 60), 3), np.tile(range(3), 60)
    hump = np.sin(np.pi * t)
    return pd.DataFrame(
        {
            "step": np.repeat(range(60), 3),
            "epoch": 24 * t,
            "layer": layers(np.tile(LAYERS, 60)),
            "shrinkage": 1e-3 * (1 + i) * hump,
            "growth": factor * 1e-3 * (1 + i) * hump * (1 + 0.3 * np.sin(50 * t)),
            "norm_sq_relative": factor * (1 + (1 + i) * hump),
            "predicted": 0.01 * np.sqrt(hump),
            "ratio": factor * 0.01 * np.sqrt(hump) * (1 + 0.2 * np.cos(50 * t)),
            "correlation": factor * (0.3 * np.sin(50 * t) + 0.2),
            "R": factor * (1 + 0.2 * i * np.cos(6 * t)),
            "R_ode": 1 + 0.2 * i * np.cos(6 * t),
            "R_others": 1.1 + 0.2 * i * np.cos(6 * t),
            "R_end": np.where(t > 0.3, 1.2 - t, np.nan),
        }
    )


def equilibrium_table(factor=1.0) -> pd.DataFrame:
    R = factor * pd.Series([0.9, 1.1, 1.2], index=pd.CategoricalIndex(layers(LAYERS)))
    return pd.DataFrame({"R": R, "low": R - 0.05, "high": R + 0.1, "R_corrected": R**0.5})


def canned(factor=1.0) -> dict[str, tuple]:
    """Arguments from closed forms, and the limits of y, for each image; measured numbers times the factor."""
    table, sweep = dynamics_table(factor), sweep_table(factor)
    forms = {form: equilibrium_table(factor + 0.05 * i) for i, form in enumerate(FORMS)}
    epochs = pd.DataFrame({"epoch": range(1, 25), "test_accuracy": factor * np.linspace(0.5, 0.9, 24)})
    optimum = learning_rates.smoothed(sweep), tops.optima(sweep)
    # where y has limits of its own, as with data, a change of all numbers alike would be seen in its ticks only
    return {
        "norm_change": ((table, "growth"), (1e-5, 1e-2)),
        "balance": ((table,), (1e-5, 1e-2)),
        "weight_norms": ((table,), (0, 5)),
        "effective_step": ((table, "√(2λα)"), (0, 0.02)),
        "gradient_correlation": ((table,), (-1, 1)),
        "ratio_by_epoch": ((table[::4],), (0, 2.5)),
        "equilibrium": ((forms, 0.15), (0.7, 1.5)),
        "correction": ((forms, 0.15), (0.7, 1.5)),
        "batch_sizes": ((dict(zip(BATCHES, (table, halved(table)), strict=True)),), (0, 0.02)),
        "side_by_side": (({"heavy-ball": table, "lars": halved(table)}, "norm_sq_relative", "|w|²", True), (0.2, 10)),
        "gradient_noise": ((noise_table(factor),), (0.02, 1)),
        "accuracy_against_lr": ((sweep,), (0.84, 0.96)),
        "accuracy_against_lr-diverged": ((with_diverged(sweep),), (0.84, 0.96)),
        "accuracy_against_lr-smooth": ((sweep, *optimum), (0.84, 0.96)),
        "cost": ((cost_table(factor), 8, 512), (0.05, 20)),
        "schedule": ((lambda epoch: factor * 0.4 * np.sin(epoch / 8), 24), (0, 0.5)),
        "learning_curves": (({form: [epochs - 0.1 * i] for i, form in enumerate(FORMS)},), (0, 1)),
        "images": (({"grey": np.full((2, 4, 4, 3), factor * 0.5), "black": np.zeros((2, 4, 4, 3))},), None),
    }  # fmt: skip


def halved(table: pd.DataFrame) -> pd.DataFrame:
    columns = ["ratio", "predicted", "norm_sq_relative"]
    return table.assign(**table[columns] / 2)


def draw_canned(image: str, factor=1.0) -> Figure:
    arguments, limits = canned(factor)[image]
    figure = DRAWING[image.partition("-")[0]](*arguments)
    for axes in figure.axes if limits else ():
        axes.set_ylim(limits)
    return figure


IMAGES = list(canned())
# drawn anew, these and the diagram's, when a figure is meant to change:
#   pytest tests/test_figures.py tests/test_diagrams.py -k looks --mpl-generate-path tests/baseline_images
# look at them before they are committed
BASELINES = Path(__file__).parent / "baseline_images"
SAVED = {"dpi": 45}


@pytest.mark.mpl_image_compare(baseline_dir=BASELINES.name, savefig_kwargs=SAVED)
@pytest.mark.parametrize("image", IMAGES)
def test_a_figure_looks_as_it_did(image):
    return draw_canned(image)


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
def test_a_change_of_five_per_cent_is_seen_in_the_image(image, tmp_path, pytestconfig):
    """Else the images would hold for figures of other numbers."""
    with plt.style.context("default", after_reset=True):
        draw_canned(image, 1.05).savefig(tmp_path / "changed.png", **SAVED)
    baseline = BASELINES / f"test_a_figure_looks_as_it_did_{image}.png"
    tolerance = float(pytestconfig.getini("mpl-default-tolerance"))
    assert compare_images(baseline, tmp_path / "changed.png", tol=tolerance) is not None


def test_every_figure_has_an_image():
    assert {image.partition("-")[0] for image in IMAGES} == set(NAMES)


DRAWING = {
    name: function
    for module in (plots, comparisons)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if hasattr(function, "__wrapped__")
}
NAMES = list(DRAWING)
# a row of pictures has no axes to label
UNLABELLED = {"images"}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def draw(name, arguments) -> Figure:
    assert name in arguments, f"add what {name} is called with to this test"
    return DRAWING[name](*arguments[name])


def test_a_figure_is_drawn_and_nothing_else_happens(name, arguments):
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


def test_axes_are_labelled(name, arguments):
    figure = draw(name, arguments)
    if name in UNLABELLED:
        return
    for axes in figure.axes:
        if axes.get_visible():
            if name == "balance" and axes is not figure.axes[-1]:
                continue  # the axes below say what is along x, and the first panel what is along y
            by_name = name in ("equilibrium", "correction")  # layers say themselves what they are
            assert by_name or axes.get_xlabel() or figure.get_supxlabel()
            assert axes.get_ylabel() or figure.get_supylabel()


@pytest.mark.parametrize("column", ["shrinkage", "growth", "norm_sq_relative"])
def test_lines_are_the_columns(arguments, column):
    (table,), colours = arguments["weight_norms"], style.layer_colours(LAYERS)
    relative = column == "norm_sq_relative"
    (axes,) = (plots.weight_norms(table) if relative else plots.norm_change(table, column)).axes
    assert [line.get_label() for line in axes.lines] == LAYERS
    assert sorted(text.get_text() for text in axes.texts) == sorted(LAYERS)
    for line in axes.lines:
        rows = table[table["layer"] == line.get_label()]
        parts = rows.groupby(np.floor(4 * rows["epoch"]))
        np.testing.assert_allclose(line.get_ydata(), parts[column].mean())
        np.testing.assert_allclose(4 * line.get_xdata() - 0.5, list(parts.groups))
        assert to_rgba(line.get_color()) == to_rgba(colours[line.get_label()])


@pytest.mark.parametrize(
    "name, circles, line", [("balance", "growth", "shrinkage"), ("effective_step", "ratio", "predicted")]
)
def test_panels_show_circles_and_a_line_for_each_layer(arguments, name, circles, line):
    figure = draw(name, arguments)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == LAYERS
    for axes in panels:
        rows = arguments[name][0].query("layer == @axes.get_title()")
        points, black = axes.lines
        np.testing.assert_allclose(points.get_xydata(), rows[["epoch", circles]], rtol=1e-6)
        np.testing.assert_array_equal(black.get_ydata(), rows[line])
        assert black.get_color() == "black"


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_there_is_a_panel_for_each_of_any_number_of_layers(count):
    names = [f"layer{i}" for i in range(count)]
    figure = plots.balance(analysis.dynamics(synthetic_run(layers=tuple(names))))
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == names
    # the lowest say what x is, and those above a row that is not full
    labelled = [axes.get_title() for axes in shown if axes.xaxis.get_tick_params()["labelbottom"]]
    assert labelled == (names if count == 5 else names[-3 if count == 9 else -4 :])


def test_a_row_that_is_not_full_stands_in_the_middle():
    figure, axes = layout.grid(5)
    figure.draw_without_rendering()
    middles = [(a.get_position().x0 + a.get_position().x1) / 2 for a in axes]
    assert middles[4] == pytest.approx((middles[0] + middles[3]) / 2, abs=0.02)
    plt.close(figure)


def test_a_phone_has_two_panels_in_a_row_and_a_figure_of_its_width():
    table = analysis.dynamics(synthetic_run(layers=tuple(f"layer{i}" for i in range(8))))
    with layout.narrow():
        figure = plots.effective_step(table, "line")
    assert figure.get_size_inches()[0] == layout.NARROW
    assert len({round(axes.get_position().x0, 2) for axes in figure.axes}) == 2
    assert plots.effective_step(table, "line").get_size_inches()[0] == layout.WIDE


def test_points_that_an_axis_cuts_off_are_counted():
    table = dynamics_table()
    rows = table["layer"] == LAYERS[0]
    table.loc[table.index[rows][:7], "ratio"] = 1.0
    figure = plots.effective_step(table, "line")
    found = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert found == [["↑ 7 of 60"], [], []]


def test_the_ratio_below_is_that_of_growth_to_shrinkage():
    table = dynamics_table()
    *_, below = plots.balance(table).axes
    rows = table[table["layer"] == LAYERS[1]]
    sums = rows.groupby(np.floor(4 * rows["epoch"]))[["growth", "shrinkage"]].sum()
    np.testing.assert_allclose(below.lines[1].get_ydata(), sums["growth"] / sums["shrinkage"])


def test_of_many_steps_about_three_hundred_are_drawn():
    steps = pd.DataFrame({"step": np.repeat(range(2328), 2), "layer": layers(LAYERS[:2] * 2328), "x": 1.0})
    drawn = reduced.thinned(steps)
    assert drawn.groupby("layer", observed=True).size().tolist() == [291, 291]
    assert set(np.diff(drawn["step"].unique())) == {8}


def test_a_learning_curve_is_the_mean_of_its_runs_and_a_band_of_their_range():
    runs = [pd.DataFrame({"epoch": [1, 2], "test_accuracy": a}) for a in ([0.2, 0.8], [0.4, 0.9])]
    (axes,) = comparisons.learning_curves({"sgd": runs}).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.3, 0.85])
    band = axes.collections[0].get_paths()[0].vertices
    assert {(1, 0.2), (1, 0.4), (2, 0.8), (2, 0.9)} <= set(map(tuple, band.tolist()))
    assert [text.get_text() for text in axes.texts] == ["no momentum"]


def test_the_band_is_the_tolerance_and_bars_span_the_runs(run):
    runs = [synthetic_run(Config(dataset="digits", width=1, seed=seed)) for seed in range(3)]
    table = analysis.equilibrium(runs)
    (axes,) = comparisons.equilibrium({"heavy-ball": table}, tolerance=0.15).axes
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


def test_shared_limits_hold_the_columns():
    low, high = plots.shared_limits(pd.Series([1.0, 2.0]), pd.Series([0.0, 4.0, 8.0]))
    assert 0 < low < 1.1 and high > 7.9


def test_batch_sizes_are_root_mean_squares_over_epochs():
    table = dynamics_table()
    for axes in plots.batch_sizes({"N = 512": table, "N = 128": halved(table)}).axes:
        rows = table[table["layer"] == axes.get_title()]
        by_epoch = rows.assign(epoch=np.floor(rows["epoch"]), square=rows["ratio"] ** 2).groupby("epoch")
        lines = {line.get_label(): line for line in axes.lines[:2]}
        assert list(lines) == BATCHES
        for label, scale in zip(BATCHES, (1, 0.5), strict=True):
            np.testing.assert_allclose(lines[label].get_xdata(), np.arange(24) + 0.5)
            np.testing.assert_allclose(lines[label].get_ydata(), scale * np.sqrt(by_epoch["square"].mean()))
        for dashed, scale in zip(axes.lines[2:], (1, 0.5), strict=True):
            squares = (rows["predicted"] ** 2).groupby(np.floor(rows["epoch"])).mean()
            np.testing.assert_allclose(dashed.get_ydata(), scale * np.sqrt(squares))
            assert dashed.get_linestyle() == "--"


def test_costs_are_drawn_by_width_and_by_batch_size():
    table = cost_table()
    by_width, by_batch = comparisons.cost(table, 8, 512).axes
    labels = ["plain loop", "trainer", "convolutions alone", "arithmetic alone"]
    for axes, by, rows in (
        (by_width, "width", table[table["batch_size"] == 512]),
        (by_batch, "batch_size", table[table["width"] == 8]),
    ):
        assert [line.get_label() for line in axes.lines] == labels
        for line, variant in zip(axes.lines, ("plain", "trainer", "convolutions", "arithmetic"), strict=True):
            shown = rows[rows["variant"] == variant].sort_values(by)
            np.testing.assert_array_equal(line.get_xydata(), shown[[by, "ms"]])
        assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize("log", [False, True])
def test_side_by_side_has_a_line_for_each_form_on_the_same_axes(log):
    tables = {"heavy-ball": dynamics_table(), "lars": halved(dynamics_table())}
    figure = plots.side_by_side(tables, "norm_sq_relative", "|w|²", log)
    assert figure.get_supylabel() == "|w|²"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["heavy-ball", "LARS"]
    assert [axes.get_title() for axes in figure.axes] == LAYERS
    for axes in figure.axes:
        assert axes.get_yscale() == ("log" if log else "linear")
        low, high = axes.get_ylim()
        for line, (form, table) in zip(axes.lines, tables.items(), strict=True):
            rows = table[table["layer"] == axes.get_title()]
            shown = rows.groupby(np.floor(4 * rows["epoch"]))["norm_sq_relative"].mean()
            np.testing.assert_allclose(line.get_ydata(), shown)
            assert line.get_color() == style.form_style(form)["color"]
            assert low < shown.min() and shown.max() < high


def test_gradient_noise_has_a_panel_for_each_epoch_and_a_guide_of_slope_a_half():
    table = noise_table()
    seeds = [table.assign(grad_norm_sq=scale * table["grad_norm_sq"]) for scale in (0.5, 1.5)]
    figure = comparisons.gradient_noise(pd.concat(seeds))
    assert [axes.get_title() for axes in figure.axes] == ["epoch 0", "epoch 8"]
    for axes, (_, rows) in zip(figure.axes, table.groupby("epoch"), strict=True):
        *lines, guide = axes.lines
        for line, layer in zip(lines, LAYERS, strict=True):
            shown = rows[rows["layer"] == layer]
            np.testing.assert_array_equal(line.get_xdata(), shown["batch_size"])
            # the mean over seeds of |g|², not of |g|
            np.testing.assert_allclose(line.get_ydata(), np.sqrt(shown["grad_norm_sq"]))
            assert to_rgba(line.get_color()) == to_rgba(style.layer_colours(LAYERS)[layer])
        slope = np.diff(np.log(guide.get_ydata())) / np.diff(np.log(guide.get_xdata()))
        np.testing.assert_allclose(slope, -0.5)
        assert axes.get_xscale() == axes.get_yscale() == "log"
        figure.draw_without_rendering()
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32", "128", "512", "2048"]


def test_means_over_seeds_have_their_runs_beside_them():
    table = sweep_table()
    figure = comparisons.accuracy_against_lr(table)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ARCHITECTURES
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    for i, (_, rows) in enumerate(table.groupby("architecture", observed=True)):
        mean, runs = lines[2 * i : 2 * i + 2]
        np.testing.assert_allclose(mean.get_ydata(), rows.groupby("lr")["accuracy"].mean())
        np.testing.assert_allclose(runs.get_ydata(), rows["accuracy"])
        assert mean.get_color() == runs.get_color()
    figure.draw_without_rendering()
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "0.05",
        "0.1",
        "0.2",
        "0.4",
        "0.8",
        "1.6",
        "3.2",
    ]


@pytest.mark.parametrize("limits", [(0.53, 0.74), (0.9, 0.95), (0.935, 0.945), (0, 1)])
def test_accuracies_are_labelled_in_percent_where_they_are(limits):
    figure = comparisons.accuracy_against_lr(sweep_table())
    (axes,) = figure.axes
    axes.set_ylim(limits)
    figure.draw_without_rendering()
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert all(label.endswith("%") and len(label) <= 5 for label in labels)
    np.testing.assert_allclose([float(label[:-1]) / 100 for label in labels], axes.get_yticks(), atol=1e-9)


def test_an_optimum_is_marked_on_its_curve_unless_it_is_a_bound():
    table = sweep_table()
    smooth, optima = learning_rates.smoothed(table), tops.optima(table)
    optima.loc["Extra:L2", "inside"] = False
    (axes,) = comparisons.accuracy_against_lr(table, smooth, optima).axes
    curves = {line.get_color(): line for line in axes.lines if len(line.get_xdata()) > 2}
    marks = {line.get_color(): line for line in axes.lines if len(line.get_xdata()) == 1}
    for architecture, best in optima.iterrows():
        colour = style.architecture_style(architecture)["color"]
        curve = smooth[smooth["architecture"] == architecture]
        np.testing.assert_array_equal(curves[colour].get_ydata(), curve["accuracy"])
        assert (colour in marks) == best["inside"]
        if best["inside"]:
            assert marks[colour].get_xdata() == best["lr"]
            nearest = (np.log(curve["lr"]) - np.log(best["lr"])).abs().idxmin()
            assert marks[colour].get_ydata()[0] == pytest.approx(curve["accuracy"][nearest], abs=2e-4)


@pytest.mark.parametrize("smooth", [False, True])
def test_a_run_that_diverged_is_a_cross_at_the_bottom_and_in_no_mean(smooth):
    table = with_diverged(sweep_table())
    curves = (learning_rates.smoothed(table), tops.optima(table)) if smooth else ()
    figure = comparisons.accuracy_against_lr(table, *curves)
    (axes,) = figure.axes
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in crosses] == [axes.get_ylim()[0]] * 5
    places = sorted(float(line.get_xdata()[0]) for line in crosses)
    assert len(set(places)) == 5 and all(0.8 <= x < 1 or 3.2 <= x < 4.5 for x in places)
    colours = [style.architecture_style(a)["color"] for a in ("Extra:L2", "Residual:L1+L3")]
    assert [sum(line.get_color() == colour for line in crosses) for colour in colours] == [3, 2]
    assert "diverged" in [text.get_text() for text in figure.legends[0].get_texts()]
    for line in axes.lines:
        assert np.isfinite(line.get_ydata()).all()


def test_where_all_diverged_there_are_crosses_only():
    table = sweep_table()
    (axes,) = comparisons.accuracy_against_lr(table.assign(diverged=True, accuracy=np.nan)).axes
    assert axes.get_ylim() == (0, 1)


def test_runs_and_their_means_are_shown_within_the_same_limits():
    table = sweep_table()
    raw, smooth = (
        comparisons.accuracy_against_lr(table, *s).axes[0] for s in ((), (learning_rates.smoothed(table),))
    )
    assert raw.get_ylim() == smooth.get_ylim()
    low, high = raw.get_ylim()
    assert low < table["accuracy"].min() and table["accuracy"].max() < high


def test_pictures_are_shown_in_their_rows():
    rows = {"original": np.zeros((2, 4, 4, 3)), "epoch 1": np.ones((2, 4, 4, 3))}
    axes = np.reshape(comparisons.images(rows).axes, (2, 2))
    for i, label in enumerate(rows):
        assert axes[i, 0].get_ylabel() == label
        assert all((a.images[0].get_array() == i).all() for a in axes[i])
