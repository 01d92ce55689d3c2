"""The figures that a reader can change: their arithmetic against lib.theory, and that they follow the hand."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from browser import new_page, watched
from conftest import synthetic_run

from lib import experiments, library, paths, theory
from lib.figures import interactive
from lib.results import analysis, learning_rates
from lib.schedules import per_step

STATIC = paths.BOOK / "_static"
SCRIPTS = [STATIC / f"{name}.js" for name in ("charts", "norm-equation", "explorer", "learning-rates")]
#: λ, α, ρ, N and the initial |w|², up to where the sliders end.
GRID = [
    {"lr": lr, "weightDecay": decay, "momentum": momentum, "batchSize": batch, "startNormSq": start}
    for lr, decay, momentum, batch, start in product(
        (0.01, 0.4, 10), (1e-5, 5e-4, 1e-2), (0, 0.9, 0.99), (32, 512, 8192), (0.01, 5.6, 1e4)
    )
]


@pytest.fixture(scope="module")
def js(request):
    """Calls a JavaScript function of one argument beside the site's scripts, in Node or in a browser."""
    scripts = "\n".join(path.read_text() for path in SCRIPTS)
    node = shutil.which("node")
    if not node:
        page = new_page(request.getfixturevalue("browser"))
        page.add_script_tag(content=scripts)
        return page.evaluate

    def call(function, argument=None):
        source = f"{scripts}\nconsole.log(JSON.stringify(({function})({json.dumps(argument)})))"
        done = subprocess.run([node, "-"], input=source, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return call


def settings(case):
    """A case as keyword arguments of `lib.theory`."""
    return {"weight_decay": case["weightDecay"], "momentum": case["momentum"]}


def c_sq_of(case):
    """Mean (|g||w|)² of pure noise, 2 at N = 512."""
    return 2 * 512 / case["batchSize"]


def test_the_norm_equation_is_that_of_theory(js):
    steps = 40
    shape = 1 + np.sin(np.arange(steps))  # λ and c vary, each in its own way
    drive = {"lr": shape.tolist(), "cSq": np.roll(shape, 7).tolist()}
    curves = js(
        """([grid, drive]) => grid.map((s) => Array.from(normEquation.normCurve(
            s.startNormSq, drive.cSq.map((c) => c * 2 * 512 / s.batchSize), drive.lr.map((x) => x * s.lr), s)))""",
        [GRID, drive],
    )
    for case, curve in zip(GRID, curves, strict=True):
        c_sq = np.array(drive["cSq"]) * c_sq_of(case)
        lr = shape * case["lr"]
        expected = theory.norm_ode(case["startNormSq"], c_sq, lr=lr, **settings(case))
        np.testing.assert_allclose(curve, expected, rtol=1e-9)


def test_the_fixed_point_is_that_of_theory(js):
    # λ|g|/|w| to all orders of λα; the norm to leading order, as in lib.theory
    found = js(
        """(grid) => grid.map((s) => explorer.readings({ meanCSq: 2, batchSize: 512 }, s))""",
        GRID,
    )
    for case, reading in zip(GRID, found, strict=True):
        at = {"lr": case["lr"], **settings(case)}
        expected = [
            theory.equilibrium_ratio(**at),
            theory.relaxation_steps(**at),
            theory.equilibrium_norm_sq(c_sq_of(case), **at),
        ]
        np.testing.assert_allclose(
            [reading[k] for k in ("ratio", "relaxation", "normSq")], expected, rtol=1e-9
        )


def test_the_schedule_is_that_of_training(js):
    config = experiments.base("small")
    found = js("(run) => Array.from(normEquation.scheduledLr(0.4, run))", drive_of(config, 97))
    np.testing.assert_allclose(found, per_step(config.lr_schedule, config.epochs, 97), rtol=1e-12)


def drive_of(config, steps_per_epoch):
    return {"epochs": config.epochs, "peakEpoch": config.peak_epoch, "stepsPerEpoch": steps_per_epoch}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_simulation_settles_where_theory_says(js, momentum):
    # λα = 0.1, where terms of next order are 2 % of the ratio; the tolerance is 4 standard errors of 20 000
    # steps that are correlated over 1/λα of them
    found = js(
        """(momentum) => {
            const fill = (x) => new Float64Array(21000).fill(x);
            const s = normEquation.simulate(1, fill(1), fill(2), { weightDecay: 0.05, momentum, seed: 5 });
            const mean = (a) => a.slice(1000).reduce((x, y) => x + y) / 20000;
            return [mean(s.gradNormSq), mean(s.normSq), mean(s.normSq.map((n, t) => n * s.gradNormSq[t]))];
        }""",
        momentum,
    )
    assert found[2] == pytest.approx(1, rel=5e-3)  # c²: four times √(2/63/20 000)
    ratio = 2 * np.sqrt(found[0] / found[1])
    exact = theory.equilibrium_ratio(lr=2, weight_decay=0.05, momentum=momentum)
    assert ratio == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize(
    "momentum, factor, batch", [(0.0, 4, 512), (0.9, 4, 512), (0.9, 0.7, 512), (0.9, 1, 2048)]
)
def test_the_simulation_follows_the_norm_equation(js, momentum, factor, batch):
    lr, decay, steps = 0.5 * (1 - momentum), 1e-3, 3000
    case = {
        "weightDecay": decay,
        "momentum": momentum,
        "startNormSq": factor**2 * 10,
        "lr": lr,
        "batchSize": batch,
    }
    simulated = js(
        """([s, cSq, steps]) => Array.from(normEquation.simulate(
            s.startNormSq, new Float64Array(steps).fill(cSq), new Float64Array(steps).fill(s.lr), s).normSq)""",
        [case, c_sq_of(case), steps],
    )
    expected = theory.norm_ode(
        case["startNormSq"], np.full(steps, c_sq_of(case)), lr=np.full(steps, lr), **settings(case)
    )
    after_delay = slice(200, None)  # momentum holds the first gradients back for 1/(1−ρ) steps
    np.testing.assert_allclose(simulated[after_delay], expected[after_delay], rtol=0.04)


def test_random_numbers_are_uniform_and_belong_to_their_seed(js):
    first, again, other = js(
        """() => [1, 1, 2].map((seed) => {
            const next = normEquation.uniforms(seed);
            return Array.from({ length: 20000 }, next);
        })"""
    )
    assert first == again
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    counts, _ = np.histogram(first, bins=10, range=(0, 1))
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(2000)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_sliders_reach_what_they_started_from_and_doubles_of_it(js):
    values = {"lr": [0.4, 4, 0.8, 1.6], "weightDecay": [5e-4, 2.5e-4, 1e-3], "batchSize": [64, 512, 2048]}
    values |= {"momentum": [0, 0.5, 0.9, 0.99], "startFactor": [1, 16, 0.25]}
    there_and_back = """(values) => Object.fromEntries(Object.entries(values).map(([name, list]) => {
        const { value, position, range } = explorer.SLIDERS[name];
        const inside = (k) => Math.min(range[1], Math.max(range[0], k));
        return [name, list.map((x) => value(inside(position(x))))];
    }))"""
    assert js(there_and_back, values) == values


@pytest.mark.parametrize("low, high", [(0.0021, 0.19), (5.6, 85), (1e-6, 3e4), (7, 7)])
def test_an_axis_holds_what_it_shows_at_few_round_ticks(js, low, high):
    axis = js("([low, high]) => charts.logAxis(low, high, '')", [low, high])
    assert axis["range"][0] <= low <= high <= axis["range"][1]
    assert axis["range"][0] < axis["range"][1]
    assert 2 <= len(axis["ticks"]) <= 12
    assert {f"{t:.0e}"[0] for t in axis["ticks"]} <= set("125")


# The data


def data_of(figure) -> dict:
    return json.loads(re.search(r'json">(.*?)</script>', figure.data, re.DOTALL)[1])


def runs_of(*names):
    """A run of each of these forms, by form."""
    forms = {form.name: form.config for form in experiments.dynamics(experiments.SCALES["demo"])}
    run = synthetic_run()
    kept = ("momentum", "lr", "nesterov")
    return {
        name: [replace(run, config=replace(run.config, **{k: getattr(forms[name], k) for k in kept}))]
        for name in names
    }


def test_equal_runs_give_equal_bytes():
    first, second = (
        interactive.explorer(runs_of("heavy-ball", "sgd"), layers=["prep"]).data for _ in range(2)
    )
    assert first == second
    assert not re.search(r"NaN|Infinity|0x", first)


def test_the_explorer_starts_from_what_was_recorded():
    runs = runs_of("heavy-ball", "nesterov", "sgd")
    data = data_of(interactive.explorer(runs, layers=["prep", "layer1"]))["runs"]
    assert [(d["name"], d["momentum"]) for d in data] == [
        ("prep, no momentum", 0.0),
        ("layer1, no momentum", 0.0),
        ("prep, heavy-ball", 0.9),
        ("layer1, heavy-ball", 0.9),
    ]
    rows = analysis.dynamics(runs["sgd"][0]).query("layer == 'layer1'")
    assert data[1]["every"] == 1
    np.testing.assert_allclose(data[1]["normSq"], rows["weight_norm_sq"], rtol=1e-3)
    np.testing.assert_allclose(data[1]["ratio"], rows["ratio"], rtol=1e-3)
    np.testing.assert_allclose(data[1]["cSq"], rows["weight_norm_sq"] * rows["grad_norm_sq"], rtol=1e-3)
    middle = rows[(rows["epoch"] >= 1) & (rows["epoch"] < 4 * 14 / 24)]
    mean = (middle["weight_norm_sq"] * middle["grad_norm_sq"]).mean()
    assert data[1]["meanCSq"] == pytest.approx(mean, rel=1e-3)


def test_at_its_settings_the_equation_lies_on_the_recorded_run(js):
    # as the page says, without momentum; c is averaged over some steps, as the page does
    shown = data_of(interactive.explorer(library.forms(experiments.DEFAULT_SCALE, "dynamics")))
    run = next(r for r in shown["runs"] if r["momentum"] == 0)
    equation = js(
        "(run) => explorer.curves(run, explorer.settingsOf(run), true).norm.equation.map(([, y]) => y)", run
    )
    after_first = run["stepsPerEpoch"] // run["every"]
    np.testing.assert_allclose(equation[after_first:], run["normSq"][after_first:], rtol=0.05)


@pytest.mark.parametrize(
    "names, layers, message",
    [
        (
            [],
            ["prep"],
            "no run of sgd, heavy-ball with its steps is among no runs; `python -m lib run dynamics`",
        ),
        (["nesterov"], ["prep"], "is among nesterov"),
        (
            ["sgd"],
            ["layer9"],
            "layer='layer9' is not of the network; it must be one of prep, layer1, classifier",
        ),
    ],
)
def test_what_the_explorer_cannot_show_is_named(names, layers, message):
    with pytest.raises(ValueError, match=message):
        interactive.explorer(runs_of(*names), layers=layers)


def sweep():
    """Accuracies of three networks; the last is best at the end of the range."""
    octaves = np.arange(-3, 4)
    rows = [
        (name, 0.4 * 2.0**k, seed, 0.9 - 0.004 * (k - top) ** 2 + 0.002 * seed)
        for name, top in (("backbone", 0.25), ("Extra:L2", -0.5), ("Residual:L1+L3", 9))
        for k in octaves
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=["architecture", "lr", "seed", "accuracy"])
    names = pd.Categorical(table["architecture"], categories=table["architecture"].unique())
    return table.assign(architecture=names, diverged=False)


def test_accuracies_are_those_of_the_tables():
    table = sweep()
    data = data_of(interactive.accuracy_against_lr(table))
    assert [n["name"] for n in data["networks"]] == ["backbone", "Extra:L2", "Residual:L1+L3"]
    assert [n["hollow"] for n in data["networks"]] == [False, True, False]
    network = data["networks"][0]
    assert network["runs"] == [
        [lr, seed, pytest.approx(a, rel=1e-3)] for lr, seed, a in table.iloc[:14, 1:4].to_numpy()
    ]
    means = learning_rates.means(table).query("architecture == 'backbone'")
    assert network["means"] == [[lr, pytest.approx(a, rel=1e-3)] for lr, a in means.iloc[:, 1:].to_numpy()]
    curve = learning_rates.smoothed(table).query("architecture == 'backbone'")
    lr, accuracy = np.transpose(network["smoothed"])
    np.testing.assert_allclose(accuracy, np.interp(lr, curve["lr"], curve["accuracy"]), rtol=1e-3)
    assert lr[[0, -1]].tolist() == [0.05, 3.2]
    assert network["optimum"] == [[pytest.approx(0.4 * 2**0.25, rel=1e-3), pytest.approx(0.901, abs=1e-3)]]
    assert data["networks"][2]["optimum"] == []  # only a bound
    assert data["range"][0] < table["accuracy"].min() < table["accuracy"].max() < data["range"][1]


def test_networks_with_few_learning_rates_are_left_out_and_text_stays_data():
    table = sweep()
    stopped = table[(table["architecture"] != "Extra:L2") | (table["lr"] < 0.4)]
    figure = interactive.accuracy_against_lr(stopped)
    assert [n["name"] for n in data_of(figure)["networks"]] == ["backbone", "Residual:L1+L3"]
    assert interactive.accuracy_against_lr(stopped).data == figure.data
    layer = {"name": "</script><b>"}
    assert "</script><b>" not in interactive._figure("explorer", layer, ()).data


def test_a_run_that_diverged_is_a_cross_and_no_accuracy(js):
    table = sweep()
    lost = (table["architecture"] == "backbone") & (table["lr"] == 3.2) & (table["seed"] == 1)
    table["diverged"] = lost
    table.loc[lost, "accuracy"] = np.nan
    figure = interactive.accuracy_against_lr(table)
    assert "NaN" not in figure.data
    network = data_of(figure)["networks"][0]
    assert network["diverged"] == [[3.2, 1]]
    assert len(network["runs"]) == 13
    series = js("(n) => learningRates.seriesOf(n, { smooth: true, seeds: false }, 0.8, 0)", network)
    crosses = next(s for s in series if "diverged" in s["name"])
    assert (crosses["points"], crosses["titles"]) == ([[3.2, 0.8]], ["backbone, λ = 3.2: seed 1 diverged"])


# The page


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """Both figures on one page, as the site has them."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, root / "_static")
    (root / "book").mkdir()
    figures = [interactive.explorer(runs_of("heavy-ball", "sgd"), ["prep"])]
    figures.append(interactive.accuracy_against_lr(sweep()))
    button = """<button hidden data-explore='{"schedule":"constant","times":{"lr":2},"set":{"momentum":0.5}}'></button>"""
    html = "".join(figure.data for figure in figures) + button
    path = root / "book" / "page.html"
    style = '<link rel="stylesheet" href="../_static/interactive.css">'
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>Figures</title>{style}{html}")
    page = new_page(browser, viewport={"width": 1000, "height": 800})
    wrong = watched(page)
    page.goto(path.as_uri())
    page.wait_for_selector("svg .equation")
    yield page
    assert not wrong


def drawn(page, selector):
    """What a chart shows, after the next frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return [path.get_attribute("d") for path in page.query_selector_all(f"svg {selector}")]


def test_every_slider_moves_curves_by_keyboard_and_can_be_undone(page):
    page.check("input[value=constant]")
    for name in ("lr", "weightDecay", "momentum", "batchSize", "startFactor"):
        before = drawn(page, ".equation")
        slider = page.locator(f"input[name={name}]")
        said = slider.get_attribute("aria-valuetext")
        slider.focus()
        page.keyboard.press("ArrowRight")
        after = drawn(page, ".equation")
        assert after != before, name
        assert slider.get_attribute("aria-valuetext") != said
        page.click("button[name=reset]")
        assert drawn(page, ".equation") == before, name


def test_the_recorded_run_is_drawn_with_its_own_schedule_only(page):
    page.check("input[value=scheduled]")
    assert all(drawn(page, ".line.recorded"))
    assert page.locator(".key", has_text="recorded run").is_visible()
    page.check("input[value=constant]")
    assert not any(drawn(page, ".line.recorded"))
    assert not page.locator(".key", has_text="recorded run").is_visible()


def test_an_experiment_sets_the_sliders(page):
    page.select_option("select", "1")
    page.check("input[value=scheduled]")
    page.click("button[data-explore]")
    drawn(page, ".equation")
    shown = [page.get_attribute(f"input[name={name}]", "aria-valuetext") for name in ("lr", "momentum")]
    assert shown == ["0.8", "0.5"]
    assert page.is_checked("input[value=constant]")


def test_networks_smoothing_and_seeds_can_be_chosen(page):
    chart = "[data-interactive=learning-rates] svg[role=img]"
    assert [d.count("L") for d in drawn(page, "g path.line.series")] == [48] * 3  # smooth
    page.uncheck("input[name=network] >> nth=1")
    drawn(page, ".series")
    assert len(page.query_selector_all(f"{chart} path.line.series")) == 2
    assert not page.query_selector_all(f"{chart} .diverged path")
    label = page.get_attribute(chart, "aria-label")
    assert "smoothed: backbone, Residual:L1+L3." in label
    assert len(page.query_selector_all(f"{chart} .dots path")) == 1  # the optimum that is inside
    page.check("input[value=raw]")
    page.check("input[name=seeds]")
    drawn(page, ".series")
    assert [d.count("L") for d in drawn(page, "g path.line.series")] == [6] * 2  # seven means
    titles = [t.text_content() for t in page.query_selector_all(f"{chart} .seed title")]
    assert len(titles) == 2 * 14
    assert "backbone, λ = 0.05: 85.8 % with seed 0" in titles
