"""CONTRIBUTING.md: its steps, followed to the letter in a copy of the tree, do what it says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from lib import paths

GUIDE = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACE = r"(?:In|At the end of) `(?P<file>[^`]+)`(?:, (?P<side>above|below) `(?P<line>[^`]+)`)?:\n\n"
EDIT = re.compile(PLACE + r"```python\n(?P<code>.*?)```", re.DOTALL)
#: The demo is a matter of minutes; in a copy of it, seconds do.
DEMO = 'Config(dataset="digits", width=8, batch_size=64)'
TINY = 'Config(dataset="digits", width=8, batch_size=40, epochs=2, peak_epoch=0.5)'
#: The command line, called for each of some lists of arguments in one process, where torch is loaded once, with an
#: epoch of four steps; what it printed, by command.
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
import pytest
from lib import __main__
sys.path.append("tests")
import conftest
conftest.few_images(pytest.MonkeyPatch())
printed = {}
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            __main__.main()
        except SystemExit as end:
            if end.code:
                sys.exit(f"{arguments}: {end.code}")
    printed[arguments[0]] = out.getvalue()
print(json.dumps(printed))
"""
WITHOUT = (".*", "_build", "data", "records", "__pycache__", "*.egg-info")


def insert(text: str, code: str, side: str | None, line: str | None) -> str:
    """The text with the code above or below the line that begins so, or at the end."""
    if line is None:
        return text + code
    found = re.findall(f"(?m)^{re.escape(line)}.*\n", text)
    assert len(found) == 1, f"{len(found)} lines begin with {line!r}: name another one in CONTRIBUTING.md"
    return text.replace(found[0], code + found[0] if side == "above" else found[0] + code)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree after all edits that the guide asks for."""
    copy = tmp_path_factory.mktemp("clone") / "book"
    shutil.copytree(paths.ROOT, copy, ignore=shutil.ignore_patterns(*WITHOUT))
    edits = list(EDIT.finditer(GUIDE))
    # a block in any other form would be a step that nobody has tried
    assert len(edits) == GUIDE.count("```python\n") == 7
    for edit in edits:
        file = copy / edit["file"]
        file.write_text(insert(file.read_text(encoding="utf-8"), edit["code"], edit["side"], edit["line"]))
    scales = copy / "lib" / "scales.py"
    assert scales.read_text().count(DEMO) == 1
    scales.write_text(scales.read_text().replace(DEMO, TINY))
    return copy


@pytest.fixture(scope="module")
def output(tree):
    """What the guide's commands print, by command."""
    commands = "".join(re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)).splitlines()
    asked = [shlex.split(command) for command in commands]
    assert all(command[:3] == [".venv/bin/python", "-m", "lib"] for command in asked)
    # first on the path: lib of the copy, although this one is installed
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    environment.pop("RECORDS_ROOT", None)
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps([command[3:] for command in asked])]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_experiment_is_listed_and_recorded(tree, output):
    assert "half-decay: 0 of 1 runs recorded at scale demo" in output["list"]
    assert "half-decay half-seed0: test accuracy" in output["run"]
    assert len(list((tree / "book" / "records" / "demo" / "half-decay").glob("half-seed0-*.parquet"))) == 1


def test_the_figure_is_drawn(tree, output):
    assert output["figure"].strip() == "half-decay.svg"
    assert "<svg" in (tree / "half-decay.svg").read_text(encoding="utf-8")


def test_the_claim_is_decided(output):
    lines = output["claims"].splitlines()
    (at,) = [
        i for i, line in enumerate(lines) if "Half the weight decay makes the step 1/√2 as long." in line
    ]
    assert re.match(r"(inside|outside): \d of 8.*; 1 seed", lines[at - 1])
    assert lines[at + 1] == "  quotient of λ|g|/|w|; epochs 6–14 of 24; bound 0.71 ± 0.05"


def test_what_is_added_has_the_style_of_the_rest(tree):
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "lib"]
        result = subprocess.run(ruff, cwd=tree, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
