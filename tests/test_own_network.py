"""The page for a reader's own network: its code runs from the installed package, in another folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from lib import paths

MODULES = {path.relative_to(paths.ROOT).as_posix() for path in (paths.ROOT / "lib").rglob("*.py")}
#: What the book needs, and the page must do without.
HEAVY = {"papermill", "jupyter_book", "myst_nb", "matplotlib", "seaborn", "torchvision"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as a wheel, built from a copy: a build leaves folders behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(paths.ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", target, source)
    (built,) = target.iterdir()
    return built


def pip(*arguments) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [sys.executable, "-m", "pip", arguments[0], *quiet, *map(str, arguments[1:])]
    subprocess.run(command, check=True, env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"})


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == MODULES


def test_the_page_runs_in_another_folder_from_the_installed_package(wheel, tmp_path):
    pip("install", "--target", tmp_path / "installed", wheel)
    cells = json.loads((paths.BOOK / "own-network.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    report = """
import json, sys
import lib
print(json.dumps({"lib": lib.__file__, "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "layers": layers, "R": R.tolist(), "R_weak": R_weak.tolist()}))
"""
    (tmp_path / "elsewhere").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["lib"] == str(tmp_path / "installed" / "lib" / "__init__.py")
    assert HEAVY.isdisjoint(found["modules"])  # what `pip install --no-deps` does without
    assert found["layers"] == ["0", "3", "7"]  # of four weights, those before a batch norm
    assert found["R"] == pytest.approx([1, 1, 1], abs=0.12)
    assert min(found["R_weak"]) > 2
    assert not list((tmp_path / "elsewhere").iterdir())
