"""Installed from a wheel, in a folder of its own: another name, no `lib`, and nothing written beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib import paths

NAME = "weight_decay_equilibrium"
#: Records an epoch of a tiny run, as `run` does, by default and where the user says; then some errors.
RECORD = f"""
import os, sys
from {NAME} import __main__, experiments, paths, scales
from {NAME}.config import Config
from {NAME}.running import runner
tiny = Config(dataset="digits", width=1, epochs=1, peak_epoch=0.5, batch_size=3000)
for command in (["figure", "step", "--scale", "demo"], ["book", "--scale", "demo"]):
    sys.argv[1:] = command
    try:
        __main__.main()
    except SystemExit as end:
        print(end.code)
scales.SCALES["demo"] = scales.Scale(base=tiny, seeds=1, architectures=())
for folder in ("", "here"):
    os.environ["RECORDS_ROOT"] = folder
    runner.run(experiments.planned("demo", ["lars"]))
print(paths.cifar10())
assert not {{"lib", "torch._dynamo"}} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which a wheel of the package is installed."""
    root, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(paths.ROOT / name, root)
    shutil.copytree(paths.PACKAGE, root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    # without the network: what it needs is here
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--no-compile", "--target", site, root]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def python(installed, tmp_path):
    """Runs Python with the installed package, for a user with an empty home, in a folder of his own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RECORDS_ROOT", "CIFAR10_ROOT")}
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "somewhere"
    folder.mkdir()
    environment |= {"HOME": str(tmp_path / "home")}

    def python(*arguments, **more):
        command = [sys.executable, *map(str, arguments)]
        more = environment | more
        return subprocess.run(command, cwd=folder, env=more, capture_output=True, encoding="utf-8")

    return python


def contents(folder: Path) -> list[str]:
    """Its files, but for what is compiled of its own modules."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(str(p) for p in found if "__pycache__" not in p.parts)


def test_the_package_has_a_name_that_one_can_depend_on(installed):
    names = {p.name for p in installed.iterdir()}
    assert names == {NAME, f"{NAME}-0.1.0.dist-info"}
    modules = {str(p.relative_to(paths.PACKAGE)) for p in paths.PACKAGE.rglob("*.py")}
    assert modules == {str(p.relative_to(installed / NAME)) for p in (installed / NAME).rglob("*.py")}


def test_its_command_line_trains_and_names_itself(installed, python, tmp_path):
    before = contents(installed)
    out = tmp_path / "run.parquet"
    tiny = ("--width", "1", "--epochs", "1", "--batch-size", "3000")
    done = python("-m", NAME, "train", *tiny, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and out.exists()
    assert f"`python -m {NAME} figure momentum-step --run" in done.stdout
    assert contents(installed) == before


def test_records_and_data_are_the_users(installed, python, tmp_path):
    before = contents(installed)
    done = python("-c", RECORD)
    assert done.returncode == 0, done.stderr
    figure, book, *_, data = done.stdout.splitlines()
    assert (
        figure.startswith("error: ") and f"`python -m {NAME} run dynamics --scale demo` makes them" in figure
    )
    assert book.startswith("error: there are no chapters in")
    (record,) = (tmp_path / "home").rglob("*.parquet")
    assert Path(data).is_relative_to(tmp_path / "home") and Path(data).parent in record.parents
    assert list((tmp_path / "somewhere" / "here").rglob("*.parquet"))
    assert contents(installed) == before
