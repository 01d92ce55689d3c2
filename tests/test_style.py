import html
import io
import re
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

from lib.config import LAYERS
from lib.figures import comparisons, layout, style, vector

FORMS = ["sgd", "heavy-ball", "nesterov", "lars"]
SUBSETS = ["+".join(s) for n in (1, 2, 3) for s in combinations(LAYERS, n)]
ARCHITECTURES = ["backbone", *(f"{kind}:{s}" for kind in ("Extra", "Residual") for s in SUBSETS)]
# what colour-blind readers see of linear RGB: Machado, Oliveira and Fernandes, 2009, at full severity
SEEN_BY = {
    "all": np.eye(3),
    "protanopes": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopes": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopes": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, seen_by="all"):
    """CIELAB of a colour as such a reader sees it; in that space distances are as seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(SEEN_BY[seen_by]) @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_palette_is_seaborns():
    assert set(style.PALETTE) < set(sns.color_palette("colorblind").as_hex())


def test_a_layer_keeps_its_colour_and_no_two_share_one():
    layers = ["prep", *(f"layer{i}" for i in range(7)), "classifier"]
    colours = style.layer_colours(layers)
    assert len({tuple(c) for c in colours.values()}) == len(layers)
    red, green, blue = colours["classifier"]
    assert red == green == blue
    lightness = [np.dot(colours[layer], (0.2126, 0.7152, 0.0722)) for layer in layers[:-1]]
    assert lightness == sorted(lightness)  # from input to output, dark to light
    assert lightness[-1] < 0.75  # and still seen on white


@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_forms_and_networks_are_told_apart_by_every_reader(seen_by):
    forms = [style.form_style(form)["color"] for form in FORMS]
    networks = [
        style.architecture_style(a)["color"] for a in ARCHITECTURES[:8]
    ]  # Residual has those of Extra
    others = [s["color"] for s in style.label_styles(["N = 512", "N = 128"]).values()]
    for colours in (forms, networks, others):
        for one, other in combinations(colours, 2):
            # 2.3 is the least difference that is seen at all
            assert np.linalg.norm(lab(one, seen_by) - lab(other, seen_by)) > 14


def test_lars_and_sgd_are_told_apart_in_grey():
    one, other = (lab(style.form_style(form)["color"])[0] for form in ("heavy-ball", "lars"))
    assert abs(one - other) > 30


def test_no_two_share_a_marker_and_a_kind_of_line():
    assert len({style.form_style(form)["marker"] for form in FORMS}) == len(FORMS)
    looks = {tuple(style.architecture_style(a)[k] for k in ("marker", "linestyle")) for a in ARCHITECTURES}
    assert len(looks) == len(ARCHITECTURES) == 15


def test_the_layers_give_a_network_its_colour_the_kind_of_branch_its_line():
    extra, residual = (style.architecture_style(f"{kind}:L1+L3") for kind in ("Extra", "Residual"))
    assert (extra["color"], extra["marker"]) == (residual["color"], residual["marker"])
    assert (extra["linestyle"], extra["fillstyle"]) == ("--", "none")
    assert (residual["linestyle"], residual["fillstyle"]) == ("-", "full")


def test_what_has_no_style_is_refused():
    with pytest.raises(
        ValueError, match="form='adam' is not known; it must be one of sgd, heavy-ball, nesterov, lars"
    ):
        style.form_style("adam")
    with pytest.raises(ValueError, match="architecture='Residual:L9' is not known"):
        style.architecture_style("Residual:L9")
    with pytest.raises(ValueError, match="too many; there are styles for 2"):
        style.label_styles("abc")


def test_a_style_that_was_changed_by_its_reader_is_not_changed_for_the_next():
    style.form_style("sgd")["color"] = "red"
    style.label_styles(["a"])["a"]["color"] = "red"
    assert style.form_style("sgd")["color"] != "red" != style.label_styles(["a"])["a"]["color"]


@pytest.mark.parametrize("format", ["svg", "pdf", "png"])
def test_a_figure_drawn_twice_is_the_same_file(format):
    def drawn(*formats):
        figure, axes = layout.new_axes()
        axes.plot([0, 1], label="a")
        axes.legend()
        plt.close(figure)
        return style.files(figure, *formats)

    assert drawn(format) == drawn(format) == drawn("svg", format)[1:]


def test_a_layout_of_other_last_digits_gives_the_same_file(monkeypatch):
    """The solver of layouts adds up in whatever order its objects lie in memory."""
    execute = ConstrainedLayoutEngine.execute

    def drawn(nudge):
        def nudged(engine, figure):
            execute(engine, figure)
            for part in figure.subfigs:
                part.bbox_relative.set_points(part.bbox_relative.get_points() + nudge)
            for axes in figure.axes:
                axes.set_position(Bbox(axes.get_position().get_points() + nudge))

        figure = plt.figure(layout="constrained")
        for part in figure.subfigures(2):
            part.subplots().plot([0, 1], label="a")
        plt.close(figure)
        with monkeypatch.context() as patch:
            patch.setattr(ConstrainedLayoutEngine, "execute", nudged)
            return style.files(figure, "svg")

    assert drawn(1e-13) == drawn(0) != drawn(1e-4)


def test_a_file_has_all_of_its_figure_and_no_more():
    """As much as matplotlib's own tight box, which lays the figure out and draws it to find the same."""

    def figure():
        figure, axes = layout.new_axes()
        axes.set(yticks=[0, 1], yticklabels=["a name that needs room", "1"])
        axes.annotate("outside", (1, 1), (1.2, 1.2), textcoords="axes fraction", annotation_clip=False)
        plt.close(figure)
        return figure

    tight = io.BytesIO()
    figure().savefig(tight, format="svg", bbox_inches="tight")
    sizes = [
        [float(size) for size in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()]
        for svg in (tight.getvalue().decode(), style.shown(figure()).data)
    ]
    np.testing.assert_allclose(*sizes, atol=3)  # points: text is measured in whole dots


def colours_of_everything():
    forms = [style.form_style(form)["color"] for form in FORMS]
    networks = [style.architecture_style(architecture)["color"] for architecture in ARCHITECTURES]
    layers = style.layer_colours([*(f"layer{i}" for i in range(8)), "classifier"]).values()
    others = [s["color"] for s in style.label_styles(["a", "b"]).values()]
    return ["black", *forms, *networks, *layers, *others]


def test_every_mark_is_seen_by_day_and_by_night():
    for colour in colours_of_everything():
        assert vector.contrast(colour, vector.PAPER) >= 3
        assert vector.contrast(vector.at_night(colour), vector.NIGHT) >= 3


@pytest.mark.parametrize(
    "one, other, contrast", [("white", "black", 21), ("white", "#767676", 4.54), ("red", "red", 1)]
)
def test_contrast_is_that_of_the_guidelines(one, other, contrast):
    assert vector.contrast(one, other) == pytest.approx(contrast, abs=0.01)
    assert vector.contrast(other, one) == pytest.approx(contrast, abs=0.01)


def test_night_turns_black_and_white_round_and_keeps_the_hue():
    assert vector.at_night("white") == vector.NIGHT
    assert vector.at_night("black") == "#ffffff"
    red, green, blue = to_rgb(vector.at_night("#7f1d4e"))
    assert red > blue > green


def test_marks_of_every_layer_are_seen_at_night_and_grids_stay_pale():
    for colour in style.layer_colours(["a", "b", "c", "classifier"]).values():
        assert vector.contrast(vector.at_night(colour), vector.NIGHT) >= vector.TEXT
    assert vector.contrast(vector.at_night("#b0b0b0"), vector.NIGHT) < 2


def test_a_colour_is_moved_until_it_can_be_read_and_no_further():
    assert vector.readable("#000000") == "#000000"
    assert 4.5 <= vector.contrast(vector.readable("#56b4e9", vector.TEXT), "white") < 5


def test_names_at_the_ends_of_lines_can_be_read_as_text():
    tables = {form: [pd.DataFrame({"epoch": [1, 2], "test_accuracy": [0.1, 0.2]})] for form in FORMS}
    figure = comparisons.learning_curves(tables)
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == [style.form_name(form) for form in FORMS]
    for text in texts:
        assert vector.contrast(text.get_color(), vector.PAPER) >= 4.5
        assert vector.contrast(vector.at_night(text.get_color()), vector.NIGHT) >= 4.5


def test_the_page_has_every_colour_of_the_night_and_text_as_text():
    figure, axes = layout.new_axes()
    axes.plot(range(3), color="#7f1d4e")
    axes.set_title("λ|g|/|w|")
    svg = html.unescape(style.shown(figure).data)
    plt.close(figure)
    assert "λ|g|/|w|</text>" in svg and "<image" not in svg
    light, dark = svg.split("</style>")[1], svg.split("</style>")[0]
    assert "prefers-color-scheme:dark" in dark and "#7f1d4e" in light
    for what, colour in set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", light)):
        assert f'[style*="{what}: {colour}"]{{{what}:{vector.at_night(colour)}!important}}' in dark


def test_what_is_black_by_day_is_white_by_night():
    figure, axes = layout.new_axes()
    axes.axhspan(0, 1, color="black", alpha=0.08, linewidth=0)
    svg = style.shown(figure).data
    plt.close(figure)
    # matplotlib gives what is black no colour: it is that of the whole drawing
    assert 'style="opacity: 0.08' in svg and f"svg,text{{fill:{vector.at_night('black')}}}" in svg


def test_a_smaller_drawing_has_the_same_marks():
    figure, axes = layout.new_axes()
    axes.plot(range(500), np.sin(range(500)), **style.CIRCLES)
    file = io.StringIO()
    figure.savefig(file, format="svg")
    plt.close(figure)
    before, after = file.getvalue(), vector.smaller(file.getvalue())
    found = [
        [tuple(map(float, at)) for at in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
        for svg in (before, after)
    ]
    assert len(found[0]) == len(found[1]) >= 500
    np.testing.assert_allclose(*found, atol=0.006)
    assert len(after) < 0.7 * len(before)


def test_marks_of_different_styles_keep_their_own():
    marks = ['<use x="1" style="fill: #111"/>', '<use x="2" style="fill: #222"/>']
    alike, mixed = (f'<g clip-path="url(#p)">\n{one}\n{other}\n</g>' for one, other in (marks[:1] * 2, marks))
    assert vector.smaller(mixed) == mixed
    assert vector.smaller(alike).count("style") == 1
