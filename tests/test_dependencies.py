"""Every direct requirement is pinned, installed as pinned, used, and has a reason."""

import ast
import json
import re
from importlib import metadata

import pytest

from lib import paths

LINE = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.]+) +# (?P<reason>.+)")
LINES = [
    line
    for line in (paths.ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
REQUIRED = {match["name"]: match for line in LINES if (match := LINE.fullmatch(line))}
#: What is used without an import by a name that is not its own, and where: the file must say this.
BY_NAME = {
    "ruff": ("Makefile", "-m ruff check"),
    "import-linter": ("pyproject.toml", "[tool.importlinter]"),
    "pyrefly": ("pyproject.toml", "[tool.pyrefly]"),
    "jupyter-book": ("lib/site/book.py", "jupyter_book.cli.main"),
    "pytest-xdist": ("Makefile", "-n 2"),
    "pytest-mpl": ("pyproject.toml", "--mpl"),
    "sphinxcontrib-bibtex": ("_config.yml", "bibtex_bibfiles"),
    "sphinx-mathjax-offline": ("book/_ext/offline_mathjax.py", 'files("sphinx-mathjax-offline")'),
    "sphinx-book-theme": ("_config.yml", "sphinx_book_theme"),
}
#: Pinned below another that needs it, since its newer versions break the book; the one that needs it.
HELD_BACK = {
    "sphinx": "jupyter-book",
    "docutils": "sphinx",
    "myst-parser": "myst-nb",
    "pydata-sphinx-theme": "sphinx-book-theme",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def sources():
    """All Python of the project: modules, tests, extensions of the site, and cells."""
    for folder in ("lib", "tests", "book"):
        for path in (paths.ROOT / folder).rglob("*.py"):
            yield path.read_text()
    for path in (paths.ROOT / "book").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                yield re.sub(r"^[%!].*$", "", "".join(cell["source"]), flags=re.M)


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The distributions that something imports."""
    names = set()
    for source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    providers = metadata.packages_distributions()
    return {normal(distribution) for name in names for distribution in providers.get(name, ())}


def test_every_line_is_a_pin_with_a_reason():
    assert [line for line in LINES if not LINE.fullmatch(line)] == []
    assert len(REQUIRED) == len(LINES) > 20


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_installed_is_what_is_pinned(name):
    assert metadata.version(name).partition("+")[0] == REQUIRED[name]["version"]


@pytest.mark.parametrize("name", REQUIRED)
def test_every_requirement_is_used(imported, name):
    if name in BY_NAME:
        file, text = BY_NAME[name]
        assert text in (paths.ROOT / file).read_text()
    elif name in HELD_BACK:
        needs = {normal(re.match(r"[\w.-]+", r)[0]) for r in metadata.requires(HELD_BACK[name])}
        assert name in needs and HELD_BACK[name] in REQUIRED
    else:
        assert normal(name) in imported


def test_no_other_way_of_use_is_claimed(imported):
    """An entry that outlived its package, or one that an import would show, is removed."""
    assert {*BY_NAME, *HELD_BACK} <= set(REQUIRED)
    assert not {normal(name) for name in BY_NAME} & imported


def test_what_lib_imports_is_required_by_the_package():
    project = (paths.ROOT / "pyproject.toml").read_text()
    providers = metadata.packages_distributions()
    for path in (paths.ROOT / "lib").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:  # what is imported in a function may be missing
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {n.partition(".")[0] for n in names} & set(providers):
                if name != "lib":
                    assert any(f'"{normal(d)}' in project for d in providers[name]), (path.name, name)


def test_a_requirement_that_nothing_uses_is_found(imported):
    """The control: installed, and imported by nobody here."""
    assert "pip" not in imported and "torch" in imported
