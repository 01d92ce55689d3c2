import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import recordable_run
from matplotlib.figure import Figure

from lib import config as config_module
from lib import experiments, library, paths, records, scales
from lib.figures import gallery, question_plots, strips, style
from lib.results import answers, claims, prose, verdicts

#: Lines that lead the eye, and show no number of a run.
GUIDES = {"slope −1/2", "slope ½", "diverged"}
#: These are no series of numbers, or, of the schedule, a line between those of the epochs.
DRAWINGS = {"vectors", "network", "augmentation", "schedule"}
#: Their numbers lie along x, as those of claims do.
ROWS = {"lars-parts", "layers"}
#: Open questions that have no run at demo, and what they are held against.
NOT_AT_DEMO = ("start", "adam", "layers", "decay")
BESIDE = ("dynamics/heavy-ball", "lars", "lars-parts/heavy-ball", "lars-parts/lars")


def scale_of(name: str) -> str:
    return "small" if name.removeprefix("claims-") in NOT_AT_DEMO else "demo"


@pytest.fixture(scope="module")
def synthetic_records(tmp_path_factory):
    """A record for every run of the scale demo, whose numbers nobody trained; at small, of what demo has not."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("records")
        patch.setattr(paths, "records", lambda scale: folder / scale)
        patch.setitem(config_module.EPOCH_IMAGES, "digits", 6 * 64)  # six steps an epoch are enough
        patch.setitem(config_module.EPOCH_IMAGES, "cifar10", 2 * 512)
        small = experiments.planned("small", [*NOT_AT_DEMO, *BESIDE])
        first = [one for one in small if one.config.seed == 0 or one.form == "baseline"]
        for planned in [*experiments.planned("demo"), *first]:
            run, c = recordable_run(planned.config), planned.config
            best = 0.8 + 0.1 * (c.architecture == "backbone") - 0.01 * abs(np.log2(c.lr / 0.4))
            run = replace(run, epochs=run.epochs.assign(test_accuracy=best))
            records.write(run, library.path(planned), every=planned.every)
        yield folder


def drawn_numbers(figure: Figure, across: bool) -> np.ndarray:
    """What lines, marks and bands show of numbers, along x where ``across``; without guides and annotations."""
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_transform() == axes.transData and line.get_label() not in GUIDES:
                found.append(line.get_xdata() if across else line.get_ydata())
        for drawn in axes.collections:
            found += [path.vertices[:, 0 if across else 1] for path in drawn.get_paths()]
    numbers = np.concatenate([np.ravel(some) for some in found]).astype(float)
    return numbers[np.isfinite(numbers)]


def check_numbers(name: str, drawn: gallery.Picture, figure: Figure) -> None:
    """Every number that is drawn is in the table."""
    known = np.sort(drawn.numbers.select_dtypes("number").to_numpy(dtype=float), axis=None)
    # what is further out than that is drawn there
    known = np.append(known[np.isfinite(known)], [strips.FAR, -question_plots.FAR, question_plots.FAR])
    shown = drawn_numbers(figure, across=name.startswith("claims") or name in ROWS)
    assert len(shown) and np.abs(shown[:, None] - known).min(axis=1).max() < 1e-9


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_every_figure_is_drawn_with_its_numbers_and_its_source(synthetic_records, name, monkeypatch):
    scale, asked = scale_of(name), []
    depends_on = gallery.those_it_depends_on
    monkeypatch.setattr(
        gallery, "those_it_depends_on", lambda name, *of: asked.append(of[0]) or depends_on(name, *of)
    )
    drawn = gallery.picture(name, scale)
    figure = drawn.draw()
    assert [bool(needed) for needed in asked] == [name not in gallery.OF_NO_RUN]
    assert isinstance(figure, Figure) and not plt.get_fignums()
    assert drawn.source.startswith(f"scale {scale}") or name == "cost"  # which is of no scale
    assert drawn.source.endswith(f"; `python -m lib figure {name} --scale {scale}`")
    if name not in gallery.OF_NO_RUN and not name.startswith("claims"):  # which are of many runs
        assert scales.base(scale).dataset in drawn.source and "CPU" in drawn.source
        assert re.search("seeds? 0", drawn.source)
        assert not drawn.numbers.isna().all().any()
    if name not in DRAWINGS:
        check_numbers(name, drawn, figure)


#: Another value of every knob.
OTHERS = {"lr": 0.3, "weight_decay": 0.002, "momentum": 0.5, "batch_size": 32, "epochs": 6, "seeds": 2}
OTHERS |= {"architecture": "backbone", "width": 4}


@pytest.mark.parametrize("name", gallery.OF_NO_RUN)
def test_a_figure_of_no_run_depends_on_what_is_said_and_on_nothing_else(name):
    def drawn(**changes):
        with library.asked() as needed:
            draw, numbers, _ = gallery.FIGURES[name](scales.chosen("demo", **changes))
        assert not needed
        return style.files(draw(), "svg"), numbers.to_csv()

    assert OTHERS.keys() == {*scales.KNOBS}
    counted, as_recorded = gallery.OF_NO_RUN[name], drawn()
    assert drawn(**{knob: value for knob, value in OTHERS.items() if knob not in counted}) == as_recorded
    assert all(drawn(**{knob: OTHERS[knob]}) != as_recorded for knob in counted)


def test_chapters_show_every_figure_once_and_say_where_it_is_from():
    shown, sourced = [], []
    for path in (paths.ROOT / "book").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            figure = cell["metadata"].get("mystnb", {}).get("figure")
            if figure is None or "gallery.show" not in "".join(cell["source"]):
                continue
            name = figure["name"].removeprefix("fig-")
            shown += [name]
            sourced += [name] * (f"{{glue:md}}`source-{name}`" in figure["caption"])
            assert f'gallery.show("{name}"' in "".join(cell["source"])
            assert cell["metadata"]["mystnb"]["image"]["alt"]
    assert sorted(shown) == sorted(gallery.FIGURES) and sourced == shown


@pytest.mark.parametrize("chapter", prose.CHAPTERS)
def test_every_chapter_has_its_numbers(synthetic_records, chapter):
    numbers = prose.of_chapter(chapter, scale_of(chapter))
    # a NumPy number would be glued as a blank
    assert numbers and all(type(value) in (int, float, str) for value in numbers.values())


@pytest.mark.usefixtures("without_layout")
@pytest.mark.parametrize("chapter", answers.ANSWERS)
def test_a_chapter_fills_itself_once_its_runs_are_recorded(synthetic_records, chapter):
    names = {}
    for cell in json.loads((paths.BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"]["tags"]:
                names["scale"] = scale_of(chapter)
    assert names["scale"].scale == scale_of(chapter)


def test_every_claim_is_judged_from_records(synthetic_records):
    recorded = verdicts.recorded("demo")

    def is_planned(claim):
        return all(any(form.startswith(prefix) for form in recorded) for prefix in claim.forms)

    judged = verdicts.judged(filter(is_planned, claims.CLAIMS), recorded)
    # a single seed has no others to predict it
    assert [claim.name for claim, found in judged if found is None] == [
        "norm equation",
        "norm equation with momentum",
    ]


@pytest.mark.parametrize("suffix, begins", [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_figure_is_saved_in_the_format_of_its_suffix(synthetic_records, tmp_path, suffix, begins):
    path = gallery.save("schedule", "demo", tmp_path / f"schedule.{suffix}")
    assert path.read_bytes().startswith(begins)


def test_the_numbers_are_saved_as_a_table(synthetic_records, tmp_path):
    table = pd.read_csv(gallery.save("step", "demo", tmp_path / "step.csv"))
    assert list(table) == ["layer", "epoch", "ratio", "predicted"] and len(table) == 8 * 24 * 6
    table = pd.read_csv(gallery.save("forms", "demo", tmp_path / "forms.csv"))
    assert list(table)[:3] == ["form", "layer", "R"]
    with pytest.raises(ValueError, match="network is a drawing; it has no numbers"):
        gallery.save("network", "demo", tmp_path / "network.csv")
    assert not (tmp_path / "network.csv").exists()


@pytest.mark.parametrize(
    "name, scale, file, reason",
    [
        ("stp", "demo", "a.svg", "figure='stp' is not known; it must be one of vectors, "),
        ("step", "huge", "a.svg", "scale='huge' is not known"),
        ("step", "demo", "a.gif", "a.gif: the name must end in one of .svg, .png, .pdf, .csv"),
    ],
)
def test_what_cannot_be_made_is_named(synthetic_records, name, scale, file, reason):
    with pytest.raises(ValueError, match=reason):
        gallery.save(name, scale, file)
