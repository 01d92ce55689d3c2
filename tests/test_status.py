"""What the page on trust, the README and the citation say is what the records and the project say."""

import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import TINY, recordable_run
from matplotlib import image

from lib import experiments, library, paths, records, scales
from lib.experiments import Form
from lib.figures import gallery
from lib.scales import Scale
from lib.site import status

#: That of the landing page, and so of the README.
SCALE = library.largest(experiments.CHAPTERS["index"])
REMAKE = f"`.venv/bin/python -m lib figure overview --scale {SCALE} --out book/_static/overview.png`"


def with_accuracy(config, accuracy: float, **provenance):
    """A synthetic run that ends at this accuracy, made on 2000-01-01 in 90 s but for what is given."""
    run = recordable_run(config)
    epochs = run.epochs.assign(test_accuracy=accuracy)
    made = run.provenance | {"date": "2000-01-01", "seconds": 90.0} | provenance
    return replace(run, epochs=epochs, provenance=made)


@pytest.fixture
def two_forms(monkeypatch, records_in):
    """An experiment of two forms and two seeds; three of its runs are recorded, of two days."""
    scale = Scale(base=TINY, seeds=2, architectures=())
    monkeypatch.setattr(scales, "SCALES", dict.fromkeys(scales.SCALES, scale))
    forms = [Form("a", TINY, 2), Form("b", replace(TINY, nesterov=True), 2)]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"dynamics": lambda scale: forms})
    planned = {one.name: one for one in experiments.planned("demo")}
    made = {
        "a-seed0": (0.80, {}),
        "a-seed1": (0.82, {"date": "2000-01-03", "commit": "1" * 40 + "-dirty"}),
        "b-seed0": (0.95, {"device": "A GPU", "seconds": 10_000.0}),
    }
    for name, (accuracy, origin) in made.items():
        run = with_accuracy(planned[name].config, accuracy, **origin)
        records.write(run, library.path(planned[name]))


def test_the_table_says_what_is_recorded_and_where_it_is_from(two_forms, monkeypatch):
    monkeypatch.setattr(status.sources, "origin", lambda origin: origin["commit"][:7])
    table = status.table()
    assert list(table.index) == [(scale, "dynamics") for scale in scales.SCALES]
    assert table.loc[("demo", "dynamics")].to_dict() == {
        "recorded": "3 of 4",
        "dates": "2000-01-01 to 2000-01-03",
        "device": "CPU, 1 thread, A GPU",
        "Python": "3",
        "torch": "2",
        "made by": "2 by 0000000, 1 by 1111111",
        "training": "2.8 h",
        "scatter": "1.41 %",  # of 80 and 82 about 81: √(1 + 1); a form with one seed adds nothing
    }
    nothing = table.loc[("paper", "dynamics")]
    assert nothing["recorded"] == "0 of 4" and set(nothing.drop("recorded")) == {status.NONE}


def test_scatter_pools_forms_and_leaves_out_what_diverged(two_forms):
    forms = library.forms("demo", "dynamics")
    other = with_accuracy(replace(TINY, nesterov=True, seed=1), 0.99)
    # (1 + 1 + 4 + 4) squared percents, with 4 runs less 2 means
    assert 100 * status.scatter(forms | {"b": [*forms["b"], other]}) == pytest.approx(np.sqrt(10 / 2))
    other = replace(other, diverged_at=3)
    assert 100 * status.scatter(forms | {"b": [*forms["b"], other]}) == pytest.approx(np.sqrt(2))


def test_the_numbers_of_the_page_are_those_of_the_records(two_forms):
    numbers = status.numbers("demo")
    assert (numbers["recorded"], numbers["planned"], numbers["uncommitted"]) == (3, 4, 1)
    assert (numbers["seeds"], numbers["time"], numbers["longest"]) == (
        "dynamics 1 to 2 seeds",
        "2.8 h",
        "2.8 h",
    )
    assert numbers["scatter"] == 1.41
    assert all(
        type(value) in (int, float, str) for value in numbers.values()
    )  # a NumPy number is glued as a blank
    with pytest.raises(records.NotRecordedError, match="no run of dynamics is recorded at scale paper"):
        status.numbers("paper")


@pytest.mark.parametrize("seconds, text", [(45, "45 s"), (100, "2 min"), (5399, "90 min"), (5400, "1.5 h")])
def test_a_duration_is_said_in_the_unit_that_suits_it(seconds, text):
    assert status.duration(seconds) == text


def test_a_chapter_says_when_and_where_it_was_executed(tmp_path, monkeypatch):
    book, copy = tmp_path / "book", tmp_path / "copy"
    book.mkdir()
    copy.mkdir()
    monkeypatch.setattr(paths, "BOOK", book)
    monkeypatch.chdir(tmp_path)
    here = {"processor": "a chip", "cores": 2, "torch": "2", "python": "3"}
    for day, seconds in (("2000-01-01", 1.04), ("2000-01-02", 2.0)):
        monkeypatch.setattr(status.machine, "describe", lambda day=day: here | {"date": day})
        status.record_chapter(book, "momentum", seconds)
        status.record_chapter(book, f"other{day}", seconds)
    table = status.chapters()
    assert table.index.tolist() == ["momentum", "other2000-01-01", "other2000-01-02"]
    assert table.loc["momentum", ["seconds", "date", "processor"]].tolist() == [2.0, "2000-01-02", "a chip"]
    status.record_chapter(copy, "momentum", 5.0)  # what is not executed in place leaves the book alone
    assert status.chapters().loc["momentum", "seconds"] == 2.0
    monkeypatch.chdir(copy)  # where its copy is executed
    assert status.chapters()["seconds"].tolist() == [5.0]


def test_the_readme_says_what_the_records_say():
    findings = status.findings(SCALE)
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert findings in readme, (
        f"replace the findings in README.md by these, which the records give:\n\n{findings}"
    )


def test_the_figure_of_the_readme_is_the_one_of_the_records(tmp_path):
    committed = paths.BOOK / "_static" / "overview.png"
    assert "(book/_static/overview.png)" in (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert committed.stat().st_size < 100_000
    now = gallery.save("overview", SCALE, tmp_path / "overview.png")
    left, right = image.imread(committed), image.imread(now)
    assert left.shape == right.shape, f"the figure has changed; {REMAKE} makes it anew"
    # grey levels of 256, for fonts that another machine smoothes otherwise
    difference = 255 * np.sqrt(np.mean((left - right) ** 2))
    assert difference < 3, f"the figure has changed; {REMAKE} makes it anew"


def test_the_citation_is_the_same_to_readers_and_to_programs():
    cff = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cells = json.loads((paths.BOOK / "status.ipynb").read_text(encoding="utf-8"))["cells"]
    page = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    bibtex = dict(re.findall(r"^ *(\w+) *= \{+(.*?)\}+,$", page, re.MULTILINE))
    year = re.search(r"\(c\) (\d{4})", (paths.ROOT / "LICENSE").read_text())[1]
    assert bibtex == {
        "author": cff["authors"][0]["name"],
        "title": cff["title"],
        "year": year,
        "version": cff["version"],
    }
    assert (cff["version"], cff["license"]) == (project["version"], project["license"])
    assert cff["authors"][0]["name"] == project["authors"][0]["name"]
