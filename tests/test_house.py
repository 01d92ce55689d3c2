"""The rules of the house: who may import whom, and what the reading side does without."""

import json
import shutil
import subprocess
import sys

import pytest

from lib import paths

#: What reads records and shows them.
READING = (
    *("run", "records", "experiments", "library", "site.status"),
    *(
        f"{room}.{module.stem}"
        for room in ("results", "figures")
        for module in sorted((paths.PACKAGE / room).glob("*.py"))
        if module.stem != "__init__"
    ),
)
LOOK = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(f"lib.{name}")
    heavy = {"torch"} & set(sys.modules)
    # other packages may lock files
    heavy |= {f"fcntl in {n}" for n, m in sys.modules.items() if n.startswith("lib.") and hasattr(m, "fcntl")}
    if heavy:
        sys.exit(f"importing lib.{name} loads {', '.join(sorted(heavy))}")
print(json.dumps(sorted(n for n in sys.modules if n.startswith("lib."))))
"""


def look(*names: str, cwd=paths.ROOT) -> subprocess.CompletedProcess:
    """Imports modules of `lib` in a Python of its own."""
    return subprocess.run([sys.executable, "-c", LOOK, *names], cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_the_reading_side_loads_neither_torch_nor_fcntl():
    found = look(*READING)
    assert found.returncode == 0, found.stderr
    assert {f"lib.{name}" for name in READING} <= set(json.loads(found.stdout))


@pytest.mark.slow
def test_what_trains_is_found_to_load_them():
    """The control."""
    assert "importing lib.training loads torch" in look("run", "training").stderr


def lint(root) -> subprocess.CompletedProcess:
    """Holds the package in a folder against the contracts of pyproject.toml."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    return subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True)


def test_modules_import_only_what_their_room_may():
    found = lint(paths.ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    "file, line, broken",
    [
        ("theory.py", "from . import records", "lib.theory is not allowed to import lib.records"),
        ("machinery/files.py", "from .. import config", "lib.machinery is not allowed to import lib.config"),
        (
            "results/prose.py",
            "from ..figures import style",
            "lib.results is not allowed to import lib.figures",
        ),
        (
            "running/merge.py",
            "from ..results import costs",
            "lib.running is not allowed to import lib.results",
        ),
        ("site/book.py", "from ..running import runner", "lib.site is not allowed to import lib.running"),
        ("site/pdf.py", "from .. import __main__", "lib.site is not allowed to import lib.__main__"),
        ("added.py", "", "lib.added"),
    ],
)
def test_a_rule_that_is_broken_is_named(tmp_path, file, line, broken):
    """The control: the same package, with a line or a module more."""
    shutil.copytree(paths.PACKAGE, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "lib" / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    found = lint(tmp_path)
    assert found.returncode == 1 and broken in found.stdout, found.stdout + found.stderr
