from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lib.config import LAYERS
from lib.figures import style

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
def test_a_figure_saved_twice_is_the_same_file(tmp_path, format):
    for name in ("first", "second"):
        figure, axes = style.new_axes()
        axes.plot([0, 1], label="a")
        axes.legend()
        style.save(figure, tmp_path / name, format)
        plt.close(figure)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_chapter_shows_vectors_with_thousands_of_points_as_pixels():
    figure, axes = style.new_axes()
    axes.plot(range(3))
    drawn = len(style.shown(figure).data)
    assert "<image" not in style.shown(figure).data
    axes.scatter(range(5000), range(5000), edgecolor="black", **style.CIRCLES)
    plt.close(figure)
    assert "<image" in style.shown(figure).data and len(style.shown(figure).data) < drawn + 100_000
