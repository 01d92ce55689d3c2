"""Settings of one's own: every chapter and figure at any of them, with runs that nobody trained."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import myst_nb
import numpy as np
import pandas as pd
import pytest
from conftest import recordable_run
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Markdown
from traitlets.config import Config

from lib import __main__ as command_line
from lib import config as config_module
from lib import experiments, library, paths, records, scales, training
from lib.figures import gallery, origins
from lib.questions import QUESTIONS
from lib.results import analysis, prose, tries, verdicts
from lib.running import own, verify


def made_up(config, **_):
    """A run of that config whose numbers nobody trained: accuracies have a top, and gradients scatter little."""
    run = recordable_run(config)
    best = 0.8 + 0.1 * (config.architecture == "backbone") - 0.01 * abs(np.log2(config.lr / 0.4))
    return replace(
        run,
        epochs=run.epochs.assign(test_accuracy=best + 1e-3 * config.seed),
        steps=run.steps.assign(grad_dot_average=run.steps["grad_dot_average"] / 100),
    )


@pytest.fixture
def trained(monkeypatch, records_in):
    """Configs of what is trained, in no time; the runs of the demo are recorded."""
    monkeypatch.setitem(config_module.EPOCH_IMAGES, "digits", 6 * 64)
    configs = []

    def outcome(config, **_):
        configs.append(config)
        return made_up(config)

    monkeypatch.setattr(training, "outcome", outcome)
    return configs


def record(*names, scale="demo", **changes):
    for one in experiments.planned(scales.chosen(scale, **changes), names):
        records.write(made_up(one.config), library.path(one), every=one.every)


def cells_of(chapter):
    return json.loads((paths.ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]


def execute(chapter, **parameters):
    """Executes the code of a chapter here, as papermill would with these parameters; its names."""
    names = {}
    for cell in cells_of(chapter):
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= parameters
    return names


# which runs

OF_THE_STORY = ("dynamics", "lars", "batch-size", "gradient-noise", "sweep", "tuning")


def test_a_setting_reaches_every_run_with_its_relations_kept():
    chosen = scales.chosen("demo", lr="0.8", weight_decay=0.002, momentum=0.5, batch_size=32, epochs=48)
    runs = {f"{one.experiment}/{one.form}": one.config for one in experiments.planned(chosen, OF_THE_STORY)}
    assert {c.weight_decay for c in runs.values()} == {0.002}
    sgd, heavy, nesterov = (runs[f"dynamics/{form}"] for form in ("sgd", "heavy-ball", "nesterov"))
    assert (sgd.lr, sgd.momentum) == (1.6, 0.0) and (heavy.lr, heavy.momentum) == (0.8, 0.5)
    assert nesterov == replace(heavy, nesterov=True) and heavy.peak_epoch == 10
    quarter = runs["batch-size/quarter-batch"]
    assert (quarter.batch_size, quarter.lr) == (8, 0.2)
    assert runs["gradient-noise/frozen"].noise_every == 16
    swept = {c.lr / 0.8 for name, c in runs.items() if name.startswith("sweep/backbone")}
    assert swept == set(experiments.LR_FACTORS) and {c.epochs for c in runs.values()} == {48, 10}


def test_without_momentum_the_forms_are_one_and_without_decay_lars_has_no_run():
    plain = experiments.planned(scales.chosen("demo", momentum=0), ["dynamics"])
    assert {one.config for one in plain} == {replace(scales.base("demo"), momentum=0.0)}
    assert not experiments.planned(scales.chosen("demo", weight_decay=0), ["lars"])
    tuned = experiments.planned(scales.chosen("demo", weight_decay=0), ["tuning"])
    assert {one.config.optimizer for one in tuned} == {"sgd"}


def test_what_is_as_recorded_is_no_change():
    assert scales.chosen("demo", lr=0.4, seeds=None, width="8") == scales.chosen("demo")
    assert scales.chosen("demo", seeds=2).options == "--scale demo --set seeds=2"
    assert str(scales.chosen("demo", momentum=0, lr=1)) == "demo with lr=1.0, momentum=0.0"


BAD = [
    ({"rate": 1}, "setting 'rate' is not known; it must be one of lr, weight_decay, momentum, batch_size"),
    ({"lr": "fast"}, "lr='fast' is not allowed; it must be a number"),
    ({"lr": "nan"}, "lr=nan is not allowed; it must be above 0"),
    ({"lr": 1e39}, "lr=1e[+]39 is not allowed; it must be above 0 and below 1e[+]38"),
    ({"momentum": 1}, "momentum=1.0 is not allowed; it must be at least 0 and below 1"),
    (
        {"weight_decay": 0.51},
        "lr=0.4 with weight_decay=0.51 and momentum=0.9 is not allowed, as λα/.* is 2.04",
    ),
    (
        {"weight_decay": "1e300"},
        "weight_decay=1e[+]300 .* it must be at most 2, beyond which decay lengthens",
    ),
    ({"weight_decay": "inf"}, "weight_decay=inf is not allowed; it must be a finite number from 0 up"),
    ({"batch_size": 6001}, "batch_size=6001 is not allowed; it must be at least 1 and at most"),
    ({"epochs": 0}, "epochs=0 is not allowed; it must be a whole number from 1"),
    ({"epochs": "2.5"}, "epochs='2.5' is not allowed; it must be a whole number"),
    ({"width": 2.5}, "width=2.5 is of type float"),
    ({"seeds": 0}, "seeds=0 is not allowed; it must be a whole number from 1"),
    ({"architecture": "ResNet-50"}, "architecture='ResNet-50' is not known"),
]


@pytest.mark.parametrize("changes, message", BAD)
def test_what_makes_no_run_is_said_before_anything_is_trained(trained, changes, message):
    with pytest.raises(ValueError, match=message):
        own.chapter("dynamics", {"scale": "demo"} | changes)
    assert not trained


@pytest.mark.parametrize(
    "name, changes, message",
    [
        (
            "batch-size",
            {"batch_size": 3},
            "batch-size has no run at scale demo with batch_size=3: batch_size=0",
        ),
        (
            "momentum",
            {"lr": 9e37, "weight_decay": 0},
            r"dynamics has no run at scale demo with lr=9e\+37, weight_decay=0.0: lr=9.*e\+38 is not allowed",
        ),
        (
            "lars",
            {"weight_decay": 0},
            "lars has no run at scale demo with weight_decay=0.0: without weight decay the rate",
        ),
        ("dynamics", {"scale": "huge", "lr": 1}, "scale='huge' is not known"),
    ],
)
def test_what_makes_no_run_of_an_experiment_is_said_as_well(trained, name, changes, message):
    with pytest.raises(ValueError, match=message):
        own.chapter(name, changes)
    assert not trained


# training what is needed, once


def test_own_runs_are_trained_once_and_lie_beside_the_books(trained, records_in, capsys):
    chosen = own.chapter("momentum", {"weight_decay": 0.002, "seeds": None})
    assert str(chosen) == "demo with weight_decay=0.002"
    files = sorted(p.relative_to(records_in) for p in records_in.rglob("*.parquet"))
    assert {p.parent.as_posix() for p in files} == {"own/demo/dynamics"} and len(files) == 3
    err = capsys.readouterr().err
    assert "3 of 3 done, about 0 s to go" in err
    assert len(trained) == 3 and {c.weight_decay for c in trained} == {0.002}
    own.chapter("momentum", {"weight_decay": 0.002})
    own.chapter("equilibrium", {"weight_decay": 0.002, "scale": "demo"})  # which shares a run with it
    assert len(trained) == 3 and capsys.readouterr().err == ""
    assert [run.config for run in library.runs(chosen, "dynamics/sgd")] == [
        c for c in trained if not c.momentum
    ]


def test_one_run_of_many_names_is_trained_once_and_one_of_the_book_not_at_all(trained):
    own.chapter("momentum", {"momentum": 0.0})
    assert len(trained) == 1
    record("dynamics")
    own.chapter("momentum", {"seeds": 2})
    assert [c.seed for c in trained[1:]] == [1, 1, 1]
    assert len(library.runs(scales.chosen("demo", seeds=2), "dynamics/nesterov")) == 2


def test_what_was_stopped_goes_on(trained, monkeypatch):
    def stopped(config, **_):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(config)
        return made_up(config)

    with monkeypatch.context() as patch:
        patch.setattr(training, "outcome", stopped)
        with pytest.raises(KeyboardInterrupt):
            own.chapter("momentum", {"weight_decay": 0.002})
    own.chapter("momentum", {"weight_decay": 0.002})
    assert len(trained) == len(set(trained)) == 3


# left alone


def test_left_alone_a_chapter_shows_the_largest_scale_that_has_all_its_runs(trained, records_in):
    with pytest.raises(
        records.NotRecordedError, match="dynamics/sgd: recorded at no scale; `python -m lib run"
    ):
        own.chapter("dynamics", {})
    record("dynamics", scale="demo")
    assert {own.chapter(name, {}).scale for name in ("dynamics", "momentum")} == {"demo"}
    for scale, names in {"small": ["dynamics/sgd-seed0"], "paper": ["dynamics/nesterov-seed0"]}.items():
        for one in experiments.planned(scale, names):  # whose numbers nobody reads here
            library.path(one).parent.mkdir(parents=True, exist_ok=True)
            library.path(one).touch()
    assert own.chapter("dynamics", {"scale": None, "lr": None}).scale == "small"
    assert own.chapter("momentum", {}).scale == "demo"
    (one,) = experiments.planned("paper", ["dynamics/sgd-seed0"])
    other = replace(one, config=replace(one.config, precision="fp32"))
    library.path(other).touch()
    assert own.chapter("dynamics", {}).scale == "paper"
    assert own.chapter("dynamics", {"scale": "small"}).scale == "small"
    assert not trained


def test_left_alone_nothing_is_trained_and_no_torch_is_loaded():
    code = "import sys; from lib.running import own; print(own.chapter('lars', {}).scale, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False" and done.stderr == ""


# what is shown

NO_DECAY = {"weight_decay": 0.0, "epochs": 2}
MANY = {
    "momentum": 0.0,
    "lr": 0.3,
    "epochs": 4,
    "seeds": 2,
    "architecture": "backbone",
    "width": 4,
    "batch_size": 96,
}
AT = [
    (chapter, NO_DECAY)
    for chapter in experiments.CHAPTERS
    if chapter not in ("lars", "conclusion", "summary", *QUESTIONS)
]  # without runs; those of questions are tested with their figures
AT += [
    (chapter, MANY) for chapter in ("setup", "batch-size", "momentum", "lars", "learning-rates", "summary")
]


@pytest.mark.usefixtures("without_layout")
@pytest.mark.parametrize("chapter, changes", AT)
def test_every_chapter_can_be_executed_at_settings_of_ones_own(trained, chapter, changes):
    with warnings.catch_warnings(), library.asked() as asked:
        for what in ("divide by zero", "invalid value"):  # in R without decay
            warnings.filterwarnings("ignore", what, RuntimeWarning)
        names = execute(chapter, **changes)
    chosen = names["scale"]
    assert dict(chosen.changes) == changes
    needed = {one.title for one in experiments.planned(chosen, experiments.CHAPTERS[chapter])}
    # but for its claims, which look at whole experiments, and for what is not planned there
    shown = [name for name in asked if "/" in name or chapter in ("index", "momentum")]
    known = [name for name in shown if experiments.planned(chosen, [name.partition("/")[0]])]
    assert {one.title for one in experiments.planned(chosen, known)} <= needed
    assert {c.epochs for c in trained} <= {changes["epochs"], max(1, round(5 * changes["epochs"] / 24))}


def test_a_name_that_is_no_parameter_is_refused(trained):
    with pytest.raises(ValueError, match="setting 'weightdecay' is not known"):
        execute("dynamics", weightdecay=0.002)


def test_sentences_about_the_settings_follow_them(trained):
    chosen = scales.chosen("demo", momentum=0.5, epochs=6, lr=0.3, architecture="backbone")
    own.train(chosen, ["dynamics", "sweep"])
    setup = prose.of_chapter("setup", chosen)
    assert (setup["peak_epoch"], setup["fall_epochs"], setup["epochs"]) == (1.25, 4.75, 6)
    assert (setup["factor"], setup["convolutions"]) == (2, 4)
    assert setup["network"] == "backbone, of the family of Page's ResNet-9"
    assert prose.of_chapter("dynamics", chosen)["peak_window"] == "0.25 to 2.5"
    momentum = prose.of_chapter("momentum", chosen)
    assert (momentum["momentum"], momentum["factor"]) == (0.5, 2)
    swept = prose.of_chapter("learning-rates", chosen)
    assert swept["middle"] == swept["common"] == 0.3


def test_ones_own_verdicts_stand_beside_those_of_each_scale(trained):
    own.train(scales.chosen("demo", lr=0.3), ["dynamics"])
    table = verdicts.side_by_side(scales.chosen("demo", lr=0.3))
    mine = table.columns[2]
    assert mine.startswith("demo with lr=0.3 (width 8") and table.shape[1] == 3 + len(scales.SCALES)
    assert table[mine].str.contains("1 seed").any()
    assert list(verdicts.side_by_side(scales.chosen("demo"))) == list(table.drop(columns=mine))


# figures


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Calls the command line in a folder of its own: what it prints, or the line with which it ends."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lib", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        printed = capsys.readouterr()
        return end.value.code if isinstance(end.value.code, str) else printed.out + printed.err

    return call


def test_a_figure_is_drawn_at_settings_of_ones_own_and_listed(trained, call, tmp_path):
    record("dynamics")
    call("figure", "step", "--set", "weight_decay=0.002", "--set", "epochs=2", "--beside", "--out", "own.svg")
    assert [(c.weight_decay, c.epochs, c.momentum, c.lr) for c in trained] == [(0.002, 2, 0.0, 4.0)]
    call("figure", "step", "--set", "weight_decay=0.002", "--set", "epochs=2", "--out", "own.csv")
    assert len(trained) == 1
    numbers = pd.read_csv(tmp_path / "own.csv")
    assert numbers["epoch"].max() < 2
    np.testing.assert_allclose(numbers["predicted"].max(), np.sqrt(2 * 4 * 0.002), rtol=0.1)
    (own_run,) = [line for line in call("list", "--scale", "demo").splitlines() if line.startswith("own: ")]
    assert own_run.startswith("own: dynamics sgd-seed0: epochs=2, peak_epoch=0.41") and own_run.endswith(
        ", weight_decay=0.002"
    )
    assert "own: " not in call("list", "--scale", "small")
    (state,) = [state for state in verify.states() if "own" in state.path.parts]
    assert state.text.startswith("good: test accuracy") and not state.bad
    assert call("run", "dynamics/sgd", "--set", "weight_decay=0.002", "--set", "epochs=2").endswith(
        "already\n"
    )


def test_the_caption_says_what_differs_and_how_to_make_the_figure(trained):
    record("dynamics", weight_decay=0.002)
    drawn = gallery.picture("step", scales.chosen("demo", weight_decay=0.002))
    assert drawn.source.startswith(
        "scale demo with weight_decay=0.002: digits, width 8, 24 epochs, seed 0, fp32"
    )
    assert drawn.source.endswith("`python -m lib figure step --scale demo --set weight_decay=0.002`")


def test_the_command_of_a_caption_is_one_that_makes_the_figure(trained):
    """It has no setting on which the figure does not depend, as the command would refuse it."""
    changes = {"weight_decay": 0.002, "epochs": 2, "seeds": 2}
    record("dynamics")
    record("dynamics", **changes)
    chosen = scales.chosen("demo", **changes)
    depends = {
        "step": {"weight_decay", "epochs"},
        "overview": set(changes),
        "schedule": {"epochs"},
        "network": set(),
    }
    for name, counted in depends.items():
        kept = dict(set_by(gallery.picture(name, chosen).source))
        assert kept.keys() == counted, name
        origins.check_depends(name, scales.chosen("demo", **kept))


def set_by(source):
    """What the command of a caption sets."""
    return [one.split("=") for one in source.rstrip("`").split(" --set ")[1:]]


def test_the_recorded_run_is_drawn_in_grey_behind(trained):
    record("dynamics")
    record("dynamics", weight_decay=0.002)
    chosen = scales.chosen("demo", weight_decay=0.002)
    alone, both = (gallery.picture("step", chosen, beside).draw() for beside in (False, True))
    recorded = gallery.picture("step", "demo").draw()
    for axes, with_it, other in zip(alone.axes, both.axes, recorded.axes, strict=True):
        assert len(other.lines) == 2  # circles and theory
        grey = [line for line in with_it.lines if line.get_color() == "0.75"]
        assert len(with_it.lines) == len(axes.lines) + 2 == len(grey) + len(axes.lines)
        for line, theirs in zip(grey, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), theirs.get_xydata())
        assert grey[0].zorder < axes.lines[0].zorder


def test_a_run_of_ones_own_is_drawn(trained, call, tmp_path):
    record("dynamics", "gradient-noise", "lars")
    sgd = made_up(replace(scales.base("demo").stretched(5), momentum=0.0))
    records.write(sgd, tmp_path / "mine.parquet")
    call("figure", "step", "--run", "mine.parquet", "--out", "mine.csv")
    assert pd.read_csv(tmp_path / "mine.csv")["epoch"].max() == pytest.approx(
        sgd.steps["epoch"].max(), abs=0.1
    )
    assert call("figure", "step", "--run", "mine.parquet", "--beside").startswith("step.svg")
    drawn = gallery.picture("step", origins.given("step", sgd, "mine.parquet"))
    assert "digits, width 8, 5 epochs" in drawn.source and drawn.source.endswith("step --run mine.parquet`")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["step", "--set", "seeds=3"],
            "figure step does not depend on seeds, as it is drawn from dynamics/sgd-seed0",
        ),
        (["cost", "--set", "lr=1"], "figure cost does not depend on lr, as it is drawn from no run"),
        (["network", "--set", "width=4", "--set", "lr=1"], "figure network does not depend on lr"),
        (
            ["step", "--run", "heavy.parquet"],
            "heavy.parquet holds a run of sgd with heavy-ball momentum, where",
        ),
        (["noise", "--run", "heavy.parquet"], "heavy.parquet has no gradients at frozen weights"),
        (["forms", "--run", "heavy.parquet"], "figure forms is drawn from dynamics/sgd, dynamics/heavy-ball"),
        (["step", "--run", "broken.parquet"], "broken.parquet: damaged"),
        (["correlation", "--run", "bare.parquet"], "bare.parquet keeps its epochs only, and no steps"),
        (
            ["lars-rotation", "--set", "weight_decay=0"],
            "lars has no run at scale demo with weight_decay=0.0: without",
        ),
        (["step", "--set", "lr=1", "--out", "a.gif"], "a.gif: the name must end in one of .svg"),
    ],
)
def test_what_a_figure_cannot_show_is_said_before_anything_is_trained(
    trained, call, tmp_path, arguments, message
):
    record("dynamics", "gradient-noise", "lars")
    records.write(made_up(scales.base("demo")), tmp_path / "heavy.parquet")
    records.write(made_up(scales.base("demo")), tmp_path / "bare.parquet", every=0)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    before = sorted(tmp_path.rglob("*"))
    assert message in call("figure", *arguments)
    assert not trained and sorted(tmp_path.rglob("*")) == before


def diverges(monkeypatch, at, which=lambda config: True):
    """From now on trainings diverge at that step."""

    def outcome(config, **_):
        return recordable_run(config, diverged_at=at) if which(config) else made_up(config)

    monkeypatch.setattr(training, "outcome", outcome)


def test_a_run_that_diverges_is_drawn_as_far_as_it_went(trained, monkeypatch, call):
    record("dynamics")
    diverges(monkeypatch, 20)
    chosen = scales.chosen("demo", lr=50)
    own.train(chosen, ["dynamics"])
    drawn = gallery.picture("step", chosen)
    assert "seed 0 diverged at step 20, in epoch 4" in drawn.source
    assert drawn.numbers["epoch"].max() < 4  # of the epochs that it finished
    assert gallery.picture("baseline", chosen).numbers["epoch"].max() == 3
    assert call("figure", "sgd-equilibrium", "--set", "lr=50").startswith(
        "error: the loss or a weight became infinite"
    )
    diverges(monkeypatch, 5)  # before an epoch was over
    assert call("figure", "step", "--set", "lr=60").startswith(
        "error: the loss or a weight became infinite or NaN at step 5"
    )


@pytest.fixture
def shell(tmp_path):
    """What executes the cells of a notebook, without a process of its own."""
    InteractiveShell.clear_instance()
    settings = Config()
    settings.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=settings, ipython_dir=str(tmp_path))
    InteractiveShell.clear_instance()


@pytest.fixture
def glued(monkeypatch):
    """What a chapter glues, by name."""
    values = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: values.update({name: value}))
    return values


def shown_by(shell, chapter, **parameters):
    """What each cell of a chapter shows, by its last line."""
    shown = {}
    for cell in cells_of(chapter):
        if cell["cell_type"] == "code":
            result = shell.run_cell("".join(cell["source"]))
            result.raise_error()
            shown[cell["source"][-1]] = result.result
            if "parameters" in cell["metadata"].get("tags", ()):
                shell.user_ns |= parameters
    return shown


def not_shown(shown):
    """The last lines of the cells of which it is said that they are not shown."""
    return {
        line for line, it in shown.items() if isinstance(it, Markdown) and it.data.startswith("*Not shown")
    }


def test_a_chapter_shows_what_can_be_shown_beside_a_run_that_diverged(
    trained, monkeypatch, shell, glued, capsys
):
    record("dynamics")
    diverges(monkeypatch, 20, lambda config: not config.momentum)
    shown = shown_by(shell, "momentum", lr=5.0, epochs=6)
    needs_it = {'gallery.show("forms", scale)', 'gallery.show("claims-momentum", scale)'}
    assert not_shown(shown) == needs_it | {'verdicts.of_chapter("momentum", scale)'}
    assert (
        "the run of seed 0 at λ = 50 diverged at step 20, in epoch 4"
        in shown['gallery.show("forms", scale)'].data
    )
    assert np.isnan(glued["sgd_low"]) and glued["others_said"] == "–"
    assert glued["source-forms"].data.startswith("not drawn")
    assert "momentum-step --scale demo --set lr=5.0" in glued["source-momentum-step"].data
    assert "Markdown object" in capsys.readouterr().out  # the two lines of the first cell


def test_where_too_many_runs_of_a_sweep_diverged_no_curve_is_drawn(trained, monkeypatch, shell, glued):
    record("dynamics", "sweep")
    diverges(monkeypatch, 5, lambda config: config.lr > 10)
    shown = shown_by(shell, "learning-rates", lr=40.0)
    assert 'gallery.show("learning-rates", scale)' in not_shown(shown)
    assert shown['gallery.show("learning-rates-raw", scale)'] not in not_shown(
        shown
    )  # which has a cross for each


def test_an_error_that_is_no_divergence_ends_the_chapter(trained, monkeypatch, shell, glued):
    record("dynamics")
    own.chapter("dynamics", {"lr": 5.0})
    assert not shell.ast_transformers
    assert isinstance(shell.run_cell("raise ValueError('no')").error_in_exec, ValueError)
    diverges(monkeypatch, 20)
    own.chapter("dynamics", {"lr": 6.0})
    assert isinstance(shell.run_cell("1 / 0").error_in_exec, ZeroDivisionError)
    assert shell.run_cell("x = 2\nx + 1").result == 3 and shell.run_cell("x = 3").result is None


# try it


def test_each_chapter_of_the_story_has_something_to_try_with_what_to_expect():
    story = [chapter for chapter in experiments.CHAPTERS if f'tries.shown("{chapter}")' in source_of(chapter)]
    assert story == list(tries.TRIES) and len(story) == 7
    for chapter in story:
        text = tries.shown(chapter).data
        for one in tries.TRIES[chapter]:
            options = " ".join(f"-p {name} {value:g}" for name, value in one.changes.items())
            assert f"papermill book/{chapter}.ipynb out.ipynb -p scale demo {options}\n" in text
            assert tries.chosen(one).changes  # each makes a run, and differs
            assert not experiments.why_empty(chapter, tries.chosen(one))
    assert "0.0632 to 0.126" in tries.shown("equilibrium").data  # √(2·4·5e-4), and twice that
    with pytest.raises(ValueError, match="chapter='x' is not known; it must be one of setup, "):
        tries.shown("x")


def source_of(chapter):
    return "\n".join("".join(cell["source"]) for cell in cells_of(chapter))


#: Short and narrow, for the tests: what they show is seen within a few times of relaxation.
SHORT = {"epochs": 6, "width": 4}


def tried(name, changes):
    """The first run of a form, really trained, where a change is tried."""
    chosen = scales.chosen("demo", **(SHORT | changes))
    own.train(chosen, [f"{name}-seed0"])
    return library.first(chosen, name)


def test_four_times_the_decay_makes_the_step_twice_as_long(records_in):
    run = tried("dynamics/sgd", tries.TRIES["equilibrium"][0].changes | {"architecture": "backbone"})
    R = analysis.equilibrium([run])["R"].drop("classifier")
    assert R.between(0.8, 1.25).all()  # of the new line, which is at twice the height of the recorded one


def test_without_decay_norms_only_grow(records_in):
    run = tried("dynamics/sgd", tries.TRIES["dynamics"][1].changes | {"epochs": 2})
    norms = analysis.convolutions(run.steps).pivot_table("weight_norm_sq", "step", "layer", observed=True)
    assert (norms.diff().dropna() > -1e-3 * norms.max()).all(axis=None)  # but for how numbers are rounded
    assert (norms.iloc[-1] > 2 * norms.iloc[0]).all()


def test_with_less_momentum_layers_turn_as_predicted(records_in):
    run = tried("dynamics/heavy-ball", tries.TRIES["momentum"][0].changes | {"weight_decay": 0.002})
    turn = analysis.rotations([run])["R"].drop("classifier")
    assert run.config.momentum == 0.5 and turn.between(0.75, 1.35).all()
