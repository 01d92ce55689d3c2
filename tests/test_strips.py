import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from lib.figures import layout, strips
from lib.results import claims, rule
from lib.results.rule import Bound, around, decide

CLAIMS = {claim.name: claim for claim in claims.CLAIMS}
LAYERS = ["prep", "layer1", "classifier"]


NEAR_ONE = around(1, 0.1)


def found(bound=NEAR_ONE, worst=1.3):
    """Three layers at 0.95, 1.0 and 1.2, whose seeds differ by 0.01."""
    table = pd.DataFrame([[0.94, 0.99, 1.19], [0.95, 1.0, 1.2], [0.96, 1.01, 1.21]], columns=LAYERS)
    return decide(table, bound, pd.Series(worst, index=LAYERS))


@pytest.mark.parametrize("name, filled", [("ratio", True), ("rotation", False)])
def test_a_strip_has_dot_interval_and_worst_epoch_of_each_layer(name, filled):
    verdict = found()
    figure = strips.strips([(CLAIMS[name], verdict)])
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx([0.95, 1.0, 1.2])
    assert [to_rgba(d.get_markerfacecolor()) == to_rgba("white") for d in dots] == [not filled] * 3
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [1.3] * 3
    spans = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(spans, verdict.layers[["low", "high"]])
    assert [text.get_text() for text in axes.get_yticklabels()] == LAYERS
    (band,) = axes.patches
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx([0.9, 1.1])
    title = figure.subfigs[0].get_suptitle()
    assert CLAIMS[name].sentence.split()[0] in title and "fails: 2 of 3, all but classifier" in title
    assert title.startswith(CLAIMS[name].origin) and str(CLAIMS[name].bound) in title


def test_what_is_not_recorded_is_said_to_be_so():
    (axes,) = strips.strips([(CLAIMS["ratio"], None)]).axes
    assert "not recorded yet" in [text.get_text() for text in axes.texts] and not axes.lines
    (axes,) = strips.overview([(CLAIMS["ratio"], found()), (CLAIMS["rotation"], None)]).axes
    assert len(axes.get_yticks()) == 1 and axes.get_xlabel().endswith("1 more claims: not recorded yet")


@pytest.mark.parametrize(
    "bound, mean",
    [
        (around(1, 0.1), [0.5, 0, 2]),
        (Bound(high=2.0), [0.475, 0.5, 0.6]),
        (Bound(low=1.0), [1.05, 1.0, 0.8]),  # at the end of the bound 1, further in less
    ],
)
def test_distances_are_in_units_of_the_bound(bound, mean):
    verdict = found(bound)
    table = strips.relative(verdict)
    assert table["mean"].tolist() == pytest.approx(mean)
    inside = verdict.layers["inside"].to_numpy()
    assert (table["far"] <= 1).tolist() == inside.tolist()  # the grey band tells the same as the verdict


def test_the_overview_has_a_row_of_dots_for_each_claim():
    judged = [(CLAIMS["ratio"], found()), (CLAIMS["rotation"], found(around(1.2, 0.01)))]
    (axes,) = strips.overview(judged).axes
    dots = [line for line in axes.lines if line.get_marker() in ("o", ">")]
    assert [line.get_ydata()[0] for line in dots] == [0, 0, 0, 1, 1, 1]
    assert max(line.get_xdata()[0] for line in dots) == strips.FAR  # 0.95 is 25 bounds from 1.2
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ratio (post)", "rotation (ours)"]
    assert [text.get_text() for text in axes.texts] == [rule.FAILS, rule.FAILS]


def test_on_a_phone_each_name_stands_above_its_row():
    with layout.narrow():
        (axes,) = strips.overview([(CLAIMS["ratio"], found())]).axes
    (above,) = [text for text in axes.texts if text.get_text() == "ratio (post)"]
    assert above.get_position()[1] < 0 and [text.get_text() for text in axes.get_yticklabels()] == [""]
