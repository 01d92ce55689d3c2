"""The figures that a reader can change: their arithmetic against lib.theory, and that they follow the hand."""

import json
import re
import shutil
from dataclasses import replace
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import pytest
from browser import new_page, watched
from conftest import synthetic_run

from lib import experiments, library, paths, scales, theory
from lib.figures import interactive
from lib.results import analysis, learning_rates
from lib.schedules import PiecewiseLinear, per_step

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
def js(browser):
    """Calls a JavaScript function of one argument beside the site's scripts."""
    page = new_page(browser)
    page.add_script_tag(content="\n".join(path.read_text() for path in SCRIPTS))
    return page.evaluate


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


def test_the_norm_equation_takes_a_decay_that_changes(js):
    steps = 30
    lr, decay = np.linspace(0.1, 4, steps), np.geomspace(5e-2, 1e-6, steps)
    curve = js(
        """([lr, weightDecay]) => Array.from(normEquation.normCurve(
            3, new Float64Array(lr.length).fill(2), lr, { weightDecay, momentum: 0.9 }))""",
        [lr.tolist(), decay.tolist()],
    )
    expected = theory.norm_ode(3, 2, lr=lr, weight_decay=decay, momentum=0.9)
    np.testing.assert_allclose(curve, expected, rtol=1e-9)


def test_adamws_norm_equation_is_that_of_theory(js):
    steps, size = 40, 72
    lr = 1e-3 * (1 + np.sin(np.arange(steps)))
    for decay in (0.5, np.linspace(2, 0.01, steps)):
        curve = js(
            "([lr, weightDecay]) => Array.from(normEquation.adamwCurve(3, 72, lr, { weightDecay }))",
            [lr.tolist(), np.asarray(decay).tolist()],
        )
        expected = size * theory.adamw_ode(np.sqrt(3 / size), lr=lr, weight_decay=decay) ** 2
        np.testing.assert_allclose(curve, expected, rtol=1e-9)


def test_adamw_is_one_that_turns_as_much(js):
    grid = [case | {"adamLr": lr} for case in GRID if case["lr"] < 1 for lr in (1e-4, 2e-3, 0.1)]
    found = js(
        "(grid) => grid.map((s) => explorer.readings({ meanCSq: 2, batchSize: 512, size: 72 }, s))", grid
    )
    for case, reading in zip(grid, found, strict=True):
        at = {"lr": case["adamLr"], "weight_decay": reading["adamwDecay"]}
        expected = [72 * theory.adamw_rms(**at) ** 2, 2 * theory.relaxation_steps(**at)]
        np.testing.assert_allclose([reading["adamwNormSq"], reading["adamwRelaxation"]], expected, rtol=1e-9)
        turn = theory.rotation(lr=case["lr"], **settings(case))
        if case["lr"] * case["weightDecay"] < 1e-3 * (1 - case["momentum"]):  # to leading order
            assert theory.adamw_rotation(**at, beta1=case["momentum"]) == pytest.approx(turn, rel=2e-3)


def test_both_are_drawn_as_the_step_of_an_sgd_that_turns_as_much(js):
    run = drive_of(scales.base("small"), 97) | {"every": 97, "size": 72, "batchSize": 512, "meanCSq": 2}
    run |= {"normSq": [1.0] * 24, "cSq": [2.0] * 24, "ratio": [1.0] * 24}
    run |= {"lr": 0.4, "weightDecay": 5e-4, "momentum": 0.9}
    ask = """([run, changed]) => {
        const shown = explorer.curves(run, { ...explorer.settingsOf(run), schedule: "constant", ...changed });
        return [shown.norm, shown.ratio].map((group) => [group.adamw, group.target].map((c) => c.map(([, y]) => y)));
    }"""
    (norm, _), (ratio, line) = js(ask, [run, {"adamw": True}])
    assert norm[-1] == pytest.approx(72 * 2e-3 / 2, rel=3e-3)  # α is 1, and nine relaxations are over
    assert ratio[-1] == pytest.approx(line[-1], rel=2e-3)
    again = js(ask, [run, {"adamw": True, "batchSize": 64}])
    assert again[0][0] == norm and again[0][1] != norm  # of the gradients it knows nothing
    assert [group[0] for group in js(ask, [run, {}])] == [[], []]


@pytest.mark.parametrize("shape", ["scheduled", "constant", "flat", "cosine"])
def test_decay_that_follows_falls_as_the_rate_does(js, shape):
    config = scales.base("small")
    found = js(
        f"(run) => Array.from(normEquation.followingDecay(5e-4, run, '{shape}'))", drive_of(config, 97)
    )
    follows = replace(config, decay_follows_lr=True)
    shapes = {
        "scheduled": follows.weight_decay_schedule,
        "constant": PiecewiseLinear((0,), (5e-4,)),
        "flat": replace(follows, peak_epoch=2, hold_epoch=16).weight_decay_schedule,
        "cosine": lambda epoch: 5e-4 * np.cos(np.pi * epoch / 48) ** 2,
    }
    np.testing.assert_allclose(found, per_step(shapes[shape], config.epochs, 97), rtol=1e-9)


@pytest.mark.parametrize("shape", ["scheduled", "constant", "flat", "cosine"])
def test_the_schedules_are_those_that_they_are_called(js, shape):
    config = scales.base("small")
    found = js(f"(run) => Array.from(normEquation.scheduledLr(0.4, run, '{shape}'))", drive_of(config, 97))
    shapes = {
        "scheduled": config.lr_schedule,
        "constant": PiecewiseLinear((0,), (0.4,)),
        "flat": PiecewiseLinear((0, 2, 16, 24), (0, 0.4, 0.4, 0)),
        "cosine": lambda epoch: 0.4 * np.cos(np.pi * epoch / 48) ** 2,
    }
    np.testing.assert_allclose(found, per_step(shapes[shape], config.epochs, 97), rtol=1e-9)


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


def test_an_axis_of_accuracies_is_as_long_as_what_it_shows(js):
    networks = data_of(interactive.accuracy_against_lr(sweep()))["networks"]
    asked = [[networks, True, True], [networks[:1], False, False], [[], True, True]]
    ranges = js(
        "(all) => all.map(([networks, smooth, seeds]) => learningRates.rangeOf(networks, { smooth, seeds }))",
        asked,
    )
    runs = [accuracy for network in networks for _, _, accuracy in network["runs"]]
    means = [accuracy for _, accuracy in networks[0]["means"]]
    for (low, high), shown in zip(ranges, [runs, means], strict=False):
        assert low < min(shown) < low + 0.02 and high - 0.02 < max(shown) < high
    assert (
        ranges[1][1] - ranges[1][0] < ranges[0][1] - ranges[0][0]
    )  # without the others there is more to see
    assert ranges[2] == [0, 1]


# What the page offers

BUTTON = re.compile(r"<button[^>]*data-explore='([^']*)'[^>]*>([^<]*)</button>")
TEXT = "".join(cell.source for cell in nbformat.read(paths.BOOK / "explorer.ipynb", 4).cells)
BUTTONS = [(json.loads(asked), name) for asked, name in BUTTON.findall(TEXT)]


def test_each_button_has_a_name_of_its_own_and_sets_what_sliders_can(js):
    assert len({name for _, name in BUTTONS}) == len(BUTTONS) == TEXT.count("data-explore")
    runs = data_of(interactive.explorer(library.forms(scales.DEFAULT_SCALE, "dynamics")))["runs"]
    found = js(
        """([runs, asked]) => runs.flatMap((run) => asked.map((one) => {
            const settings = explorer.experiment(run, one);
            return Object.keys(explorer.SLIDERS).map((name) => [settings[name], explorer.reachable(name, settings[name])]);
        }))""",
        [runs, [asked for asked, _ in BUTTONS]],
    )
    wanted, reached = np.transpose(np.array(found).reshape(-1, 2))
    np.testing.assert_allclose(reached, wanted, rtol=1e-12)


def test_a_link_holds_the_settings_and_no_others(js):
    run = {"lr": 4, "weightDecay": 5e-4, "momentum": 0.9, "batchSize": 512}
    there_and_back = """([run, changed]) => {
        const settings = { ...explorer.settingsOf(run), ...changed };
        const fragment = explorer.fragment({ run: 1, settings });
        return [{ run: 1, settings }, explorer.stateOf(fragment, [run, run]), explorer.stateOf(fragment, [run])];
    }"""
    switched = {"decayFollows": True, "adamw": True, "adamLr": 0.01}
    for changed in ({}, {"schedule": "constant", "lr": 0.4, "startFactor": 0.25}, switched):
        state, back, without_that_run = js(there_and_back, [run, changed])
        assert back == state and without_that_run is None
    others = ["", "#what-to-try", "#run=0&schedule=stepwise&lr=4", "#run=0&schedule=constant&lr=fast"]
    assert js("(all) => all.map((one) => explorer.stateOf(one, [{}]))", others) == [None] * len(others)
    beyond = "#run=0&schedule=constant&lr=1e9&weightDecay=5e-4&momentum=0.9&batchSize=500&startFactor=1"
    settings = js("(one) => explorer.stateOf(one, [{}])", beyond)["settings"]
    assert (settings["lr"], settings["batchSize"]) == (20, 512)
    # an address from before AdamW was there
    assert (settings["adamw"], settings["decayFollows"], settings["adamLr"]) == (False, False, 2e-3)


# The data


def data_of(figure) -> dict:
    return json.loads(re.search(r'json">(.*?)</script>', figure.data, re.DOTALL)[1])


def runs_of(*names):
    """A run of each of these forms, by form."""
    forms = {form.name: form.config for form in experiments.dynamics(scales.SCALES["demo"])}
    run = synthetic_run()
    kept = ("momentum", "lr", "nesterov")
    return {
        name: [
            replace(
                run, config=replace(run.config, batch_size=512, **{k: getattr(forms[name], k) for k in kept})
            )
        ]
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
    shown = data_of(interactive.explorer(library.forms(scales.DEFAULT_SCALE, "dynamics")))
    run = next(r for r in shown["runs"] if r["momentum"] == 0)
    equation = js(
        "(run) => explorer.curves(run, explorer.settingsOf(run)).norm.equation.map(([, y]) => y)", run
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
def opened(browser, tmp_path_factory):
    """Both figures on one page, as the site has them, and its address."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, root / "_static")
    (root / "book").mkdir()
    figures = [interactive.explorer(runs_of("heavy-ball", "sgd"), ["prep"])]
    figures.append(interactive.accuracy_against_lr(sweep()))
    buttons = "".join(
        f"<p>What to try. {match[0]}</p><div style='height: 300px'></div>" for match in BUTTON.finditer(TEXT)
    )
    html = "".join(figure.data for figure in figures) + buttons
    path = root / "book" / "page.html"
    style = '<link rel="stylesheet" href="../_static/interactive.css">'
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>Figures</title>{style}{html}")
    page = new_page(browser, viewport={"width": 1000, "height": 800})
    wrong = watched(page)
    yield page, path.as_uri()
    assert not wrong


@pytest.fixture
def page(opened):
    """The page as a reader finds it: nothing moved by the test before."""
    page, address = opened
    page.goto("about:blank")  # or a change of what stands behind # would load nothing
    page.goto(address)
    page.wait_for_selector("svg .equation")
    return page


def drawn(page, selector):
    """What a chart shows, after the next frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return [path.get_attribute("d") for path in page.query_selector_all(f"svg {selector}")]


def test_every_slider_moves_curves_by_keyboard_and_can_be_undone(page):
    recorded = settled(page)
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
        assert settled(page) == recorded, name


def test_a_decay_that_follows_moves_curves_where_the_rate_falls(page):
    box = page.locator("input[name=decayFollows]")
    for shape in ("scheduled", "flat", "cosine"):
        page.check(f"input[value={shape}]")
        without = drawn(page, ".equation")
        box.press("Space")
        assert box.is_checked() and drawn(page, ".equation") != without, shape
        assert "decayFollows=true" in address(page)
        box.press("Space")
        assert not box.is_checked() and "decayFollows=false" in address(page)
    page.check("input[value=constant]")
    settled(page)
    assert box.is_disabled()  # as nothing falls that it could follow


def test_adamw_is_beside_it_where_it_is_asked_for(page):
    rate, switch = page.locator("input[name=adamLr]"), page.locator("input[name=adamw]")
    shown = page.locator(".view:not(.beside) .of-adamw")
    assert not any(drawn(page, ".adamw")) and not rate.is_visible() and not shown.is_visible()
    chart = page.locator("[data-interactive=explorer] svg[role=img]").first
    assert "AdamW" not in chart.get_attribute("aria-label")
    switch.press("Space")
    beside = drawn(page, ".line.adamw")
    assert len(beside) == 2 and all(beside) and shown.is_visible()
    assert "AdamW goes to" in chart.get_attribute("aria-label")
    said = shown.text_content()
    rate.press("ArrowRight")
    moved = drawn(page, ".line.adamw")
    assert moved != beside and shown.text_content() != said
    for name in ("lr", "weightDecay", "momentum", "startFactor"):
        before = drawn(page, ".line.adamw")
        page.locator(f"input[name={name}]").press("ArrowRight")
        assert drawn(page, ".line.adamw") != before, name
    shared, wanted = address(page), shown.text_content()
    page.click("button[name=reset]")
    assert not any(drawn(page, ".adamw")) and address(page) != shared
    page.evaluate("(shared) => { location.href = shared; }", shared)
    page.wait_for_function("() => document.querySelector('input[name=adamw]').checked")
    assert all(drawn(page, ".line.adamw")) and shown.text_content() == wanted
    page.click("button[name=reset]")


def test_the_recorded_run_is_drawn_with_its_own_schedule_only(page):
    page.click("button[name=reset]")
    assert all(drawn(page, ".line.recorded"))
    assert page.locator(".key", has_text="recorded run").is_visible()
    page.check("input[value=constant]")
    assert not any(drawn(page, ".line.recorded"))
    assert not page.locator(".key", has_text="recorded run").is_visible()


def settled(page) -> dict[str, str]:
    """What the sliders say, after the next frame, with the schedule."""
    drawn(page, ".equation")
    names = ("lr", "weightDecay", "momentum", "batchSize", "startFactor")
    said = {name: page.get_attribute(f"input[name={name}]", "aria-valuetext") for name in names}
    return said | {"schedule": page.locator("input[name=schedule]:checked").get_attribute("value")}


def address(page) -> str:
    """The address of the page, once it holds what the sliders say."""
    # it is written when nothing has changed for 200 ms: by the page's own clock, however slow the machine is
    return page.evaluate("() => new Promise((done) => setTimeout(() => done(location.href), 300))")


def test_back_to_the_recorded_settings_means_all_of_them(page):
    for layer in ("1", "0"):
        page.select_option("select", layer)
        recorded = settled(page)
        assert recorded["schedule"] == "scheduled"
        page.click("button[data-explore] >> nth=0")
        assert settled(page) != recorded
        page.click("button[name=reset]")
        assert settled(page) == recorded


@pytest.mark.parametrize("nth", range(len(BUTTONS)))
def test_a_button_acts_where_it_stands(page, js, nth):
    asked, name = BUTTONS[nth]
    page.select_option("select", "1")
    button = page.locator("button[data-explore]").nth(nth)
    button.scroll_into_view_if_needed()
    button.click()
    said = settled(page)
    run = data_of(interactive.explorer(runs_of("heavy-ball", "sgd"), ["prep"]))["runs"][1]
    wanted = js("([run, asked]) => explorer.experiment(run, asked)", [run, asked])
    shown = {
        key: float(said[key].replace("\u202f", "")) for key in ("lr", "weightDecay", "momentum", "batchSize")
    }
    assert shown == {key: pytest.approx(wanted[key], rel=1e-3) for key in shown}
    assert said["schedule"] == wanted["schedule"]
    assert f"startFactor={wanted['startFactor']:g}" in address(page)
    # the charts below it are those of the figure, and it stays in sight
    below = button.locator("xpath=..").locator(".beside svg[role=img]")
    figure = page.locator("[data-interactive=explorer] svg[role=img]")
    labels = [[one.get_attribute("aria-label") for one in charts.all()] for charts in (below, figure)]
    assert labels[0] == labels[1] and len(labels[0]) == 2
    for element in (button, below.last):
        box = element.bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] <= page.viewport_size["height"], name
    assert page.locator(".beside").count() == 1


def test_what_was_before_the_last_change_stays_as_a_pale_line(page):
    page.check("input[value=constant]")
    slider = page.locator("input[name=weightDecay]")

    def lines():
        return drawn(page, ".line.equation"), drawn(page, ".line.before")

    slider.press("ArrowRight")
    slider.press("ArrowLeft")
    equation, pale = lines()
    slider.press("ArrowRight")
    assert lines() == (pale, equation) and pale != equation  # on axes that hold both
    start = address(page)
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    equation, pale = lines()
    assert address(page) != start
    page.evaluate("(start) => { location.href = start; }", start)
    assert address(page) == start
    assert lines() == (pale, equation)  # that of the whole way, not of its last step


def test_an_address_with_settings_shows_them(page):
    page.click("button[data-explore] >> nth=2")
    said = settled(page)
    shared = address(page)
    page.click("button[name=reset]")
    assert settled(page) != said and address(page) != shared
    page.evaluate("(shared) => { location.href = shared; }", shared)
    page.wait_for_function("() => document.querySelector('input[value=constant]').checked")
    assert settled(page) == said
    page.reload()
    page.wait_for_selector("svg .equation")
    assert settled(page) == said


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
