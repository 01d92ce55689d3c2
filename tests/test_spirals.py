"""The vectors that the first page plays: their angles and radii against lib.theory, and that they obey."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from browser import new_page, watched
from conftest import wait_for

from lib import paths, theory
from lib.figures import interactive

STATIC = paths.BOOK / "_static"
FIGURE = interactive.spirals().data
DATA = json.loads(re.search(r'json">(.*?)</script>', FIGURE, re.DOTALL)[1])
SETTINGS = {"lr": DATA["lr"], "weight_decay": DATA["weightDecay"]}
STEPS = (0, 1, 5, 40, DATA["steps"])
PATHS = """(data) => data.vectors.map((vector) => {
    const { norm, angle, turn } = spirals.path(vector, data);
    return [norm, angle, turn].map((values) => Array.from(values));
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The figure on a page, as the site has it."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, root / "_static")
    (root / "book").mkdir()
    path = root / "book" / "page.html"
    sheet = '<link rel="stylesheet" href="../_static/interactive.css">'
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>Vectors</title>{sheet}{FIGURE}")
    return path.as_uri()


def opened(browser, site, **options):
    page = new_page(browser, viewport={"width": 1000, "height": 800}, **options)
    page.wrong = watched(page)
    page.goto(site)
    page.wait_for_selector("svg .vector", state="attached")
    return page


@pytest.fixture(scope="module")
def page(browser, site):
    """The page of a reader who wants no motion, on which nothing moves by itself."""
    page = opened(browser, site, reduced_motion="reduce")
    yield page
    assert not page.wrong
    page.close()


def step_of(page) -> int:
    """The step that is shown, after the next frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.input_value("[name=at]"))


def walked(vector):
    """w at each step of SGD itself, as complex numbers: −λg at a right angle to w, and |g||w| = c."""
    c = math.sqrt(vector["cSq"])
    w = [vector["start"] * np.exp(1j * vector["angle"])]
    for _ in range(DATA["steps"]):
        ahead = 1j * w[-1] / abs(w[-1]) ** 2 * c  # −g
        w.append(w[-1] + DATA["lr"] * (ahead - DATA["weightDecay"] * w[-1]))
    return np.array(w)


def test_radii_are_those_of_the_norm_equation(page):
    for vector, (norm, _, _) in zip(DATA["vectors"], page.evaluate(PATHS, DATA), strict=True):
        c_sq = np.full(DATA["steps"] + 1, vector["cSq"])
        expected = np.sqrt(theory.norm_ode(vector["start"] ** 2, c_sq, **SETTINGS))
        np.testing.assert_allclose(norm, expected, rtol=1e-9)


def test_angles_are_those_of_sgd_and_end_at_the_rotation_of_theory(page):
    for vector, (norm, angle, turn) in zip(DATA["vectors"], page.evaluate(PATHS, DATA), strict=True):
        w = walked(vector)
        np.testing.assert_allclose(norm, np.abs(w), rtol=0.02)  # a step is no infinitesimal one
        np.testing.assert_allclose(turn[0], np.angle(w[1] / w[0]), rtol=1e-9)
        np.testing.assert_allclose(turn[:-1], np.angle(w[1:] / w[:-1]), rtol=0.04)
        np.testing.assert_allclose(np.diff(angle), turn[:-1], rtol=1e-9)
        assert angle[0] == vector["angle"]
        assert turn[-1] == pytest.approx(theory.rotation(**SETTINGS), rel=0.01)


def test_vectors_start_unlike_and_end_alike_in_their_angles_alone(page):
    norms, _, turns = np.array(page.evaluate(PATHS, DATA)).swapaxes(0, 1)
    assert np.ptp(turns[:, 0]) > theory.rotation(**SETTINGS)
    assert np.ptp(turns[:, -1]) < 0.01 * turns[:, -1].mean()
    circles = [np.sqrt(theory.equilibrium_norm_sq(v["cSq"], **SETTINGS)) for v in DATA["vectors"]]
    np.testing.assert_allclose(norms[:, -1], circles, rtol=0.005)
    assert np.ptp(circles) > 0.3
    assert all(np.abs(norms[:, 0] / circles - 1) > 0.2)
    assert DATA["rotation"] == pytest.approx(theory.rotation(**SETTINGS), rel=1e-3)


@pytest.mark.parametrize("step", STEPS)
def test_the_page_draws_what_was_calculated(page, step):
    page.fill("[name=at]", str(step))
    assert step_of(page) == step
    ends = [
        [float(line.get_attribute(k)) for k in ("x2", "y2")] for line in page.query_selector_all(".vector")
    ]
    circles = [float(c.get_attribute("r")) for c in page.query_selector_all(".circle")]
    scale = circles[0] / np.sqrt(theory.equilibrium_norm_sq(DATA["vectors"][0]["cSq"], **SETTINGS))
    for vector, (x, y) in zip(DATA["vectors"], ends, strict=True):
        c_sq = np.full(DATA["steps"] + 1, vector["cSq"])
        norm = np.sqrt(theory.norm_ode(vector["start"] ** 2, c_sq, **SETTINGS))[step]
        assert np.hypot(x, y) / scale == pytest.approx(norm, rel=1e-6)
        turned = np.angle((x - 1j * y) / walked(vector)[step])  # on a screen y is downwards
        assert abs(turned) < 0.04 * (1 + step * theory.rotation(**SETTINGS))
    said = page.get_attribute("[name=at]", "aria-valuetext")
    assert said.startswith(f"{step}; angles ") and len(re.findall(r"\d+\.\d°", said)) == 3


def test_who_wants_no_motion_sees_the_end_and_can_still_step_by_keyboard(browser, site):
    page = opened(browser, site, reduced_motion="reduce")
    assert step_of(page) == DATA["steps"] and page.inner_text("[name=play]") == "Play"
    page.locator("[name=restart]").press("Enter")
    assert step_of(page) == 0
    page.locator("[name=step]").press("Enter")
    page.locator("[name=step]").press("Space")
    assert step_of(page) == 2
    page.locator("[name=at]").press("ArrowRight")
    assert step_of(page) == 3
    assert step_of(page) == 3  # and nothing moves by itself
    assert not page.wrong
    page.close()


def test_it_plays_by_itself_and_stops_when_told(browser, site):
    page = new_page(browser, viewport={"width": 1000, "height": 800})
    page.clock.install(time=0)  # its time is the test's own, however busy the machine is
    page.clock.pause_at(3600)
    page.goto(site)

    def after(milliseconds):
        """The step and the first button's name, so much later."""
        page.clock.run_for(milliseconds)
        return int(page.input_value("[name=at]")), page.inner_text("[name=play]")

    wait_for(lambda: after(100)[0] > 0)  # it has come into sight
    page.click("[name=play]")
    stopped, name = after(100)
    assert name == "Play" and after(1000) == (stopped, "Play")
    page.click("[name=restart]")
    assert after(1000) == (0, "Play")
    page.click("[name=play]")
    step, name = after(1000)
    assert 20 <= step <= 26 and name == "Pause"
    page.click("[name=step]")  # pauses, too
    assert after(100) == after(1000) == (step + 1, "Play")
    page.click("[name=play]")
    page.clock.fast_forward(60_000)
    assert after(100) == (DATA["steps"], "Play")  # where it ends
    page.click("[name=play]")
    step, name = after(400)
    assert 5 <= step <= 12 and name == "Pause"  # from the start again
    page.close()


def test_every_control_has_a_name(page):
    assert [b.inner_text() for b in page.query_selector_all("button")] == [
        "Play",
        "One step",
        "Back to the start",
    ]
    assert page.get_by_role("slider", name=re.compile("^Step")).count() == 1
    assert all(len(s.get_attribute("aria-label")) > 20 for s in page.query_selector_all("svg[role=img]"))
