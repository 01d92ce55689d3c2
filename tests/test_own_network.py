"""The page for a reader's own network: its code runs from the installed package, in another folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from lib import paths

NAME = "weight_decay_equilibrium"
MODULES = {path.relative_to(paths.ROOT / "lib").as_posix() for path in (paths.ROOT / "lib").rglob("*.py")}
PIXELS = {f"figures/pixels/{data}.png" for data in ("cifar10", "digits")}
#: What the book is made with, and the page must do without.
HEAVY = {"papermill", "jupyter_book", "myst_nb", "seaborn"}
FEWER = {"resnet_steps": 2, "gpt_steps": 30, "tuning_steps": 2}


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


def code_of_the_page() -> list[str]:
    cells = json.loads((paths.BOOK / "own-network.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {f"{NAME}/{part}" for part in MODULES | PIXELS}


def test_what_a_reader_copies_is_short():
    """But for the network that the page is about to watch."""
    lengths = [len(code.splitlines()) for code in code_of_the_page() if "class GPT" not in code]
    assert max(lengths) <= 15


def test_the_page_runs_in_another_folder_from_the_installed_package(wheel, tmp_path):
    """With a few steps; the chapters beside it are what its language model reads."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(paths.BOOK, elsewhere, ignore=shutil.ignore_patterns("records", "_*"))
    code = "\n".join(code_of_the_page()).replace("from lib.", f"from {NAME}.")
    few = "\n".join(f"{name} = {steps}" for name, steps in FEWER.items())
    first, *_ = code_of_the_page()
    assert first.count("=") == len(FEWER) and all(name in first for name in FEWER)
    report = f"""
import {NAME}
tables = dict(resnet=resnet_table, gpt=gpt_table, tuning=tuning_table)
print(json.dumps({{"package": {NAME}.__file__, "modules": sorted({{n.partition(".")[0] for n in sys.modules}}),
    "invariant": {{name: table.index[table["invariant"]].tolist() for name, table in tables.items()}},
    "verdicts": {{name: sorted(set(table["verdict"])) for name, table in tables.items()}},
    "R": gpt_table["R"].dropna().tolist()}}))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import sys\n" + code.replace(first, few) + report],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["package"] == str(tmp_path / "installed" / NAME / "__init__.py")
    assert HEAVY.isdisjoint(found["modules"])
    convolutions = found["invariant"]["resnet"]
    assert len(convolutions) == 20 and all("conv" in n or "downsample.0" in n for n in convolutions)
    maps = [f"blocks.{i}.{n}.weight" for i in range(2) for n in "qk"]
    assert found["invariant"]["gpt"] == ["embedding.weight", *maps]
    assert found["invariant"]["tuning"] == [] and found["verdicts"]["tuning"] == ["not scale-invariant"]
    assert len(found["R"]) >= 5 and all(0 < R < 10 for R in found["R"])
