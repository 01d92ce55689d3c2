"""What the pages have in common: no folded code, one cell to learn from, and nothing said twice."""

import ast
import json
import re
from collections import defaultdict
from itertools import chain

import pytest

from lib import paths
from lib.site import book

TOC = book.parse_toc_yaml(paths.ROOT / "_toc.yml")
STORY = next(list(group.files()) for group in TOC.root.subtrees if group.caption == "The story")
#: These measure nothing of their own.
WITHOUT_MEASUREMENT = {"conclusion", "summary"}
#: How sections begin that are the same in each chapter.
STANDING = ("## Claims", "## Try it")
#: Characters of code that a line of a page has room for.
ROOM = 88
#: Shorter ones may recur, as the names of tables and figures do.
LONG = 60


def cells(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def source(cell: dict) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", book.notebooks(paths.ROOT), ids=lambda path: path.stem)
def test_no_code_is_folded(path):
    folded = [source(cell) for cell in cells(path) if tags(cell) & {"hide-input", "hide-cell"}]
    assert not folded, f"show what a reader learns from, and remove the rest: {folded}"


@pytest.mark.parametrize("path", book.notebooks(paths.ROOT), ids=lambda path: path.stem)
def test_code_is_no_wider_than_its_page(path):
    shown = [
        c for c in cells(path) if c["cell_type"] == "code" and not tags(c) & {"remove-input", "remove-cell"}
    ]
    lines = chain.from_iterable(source(cell).splitlines() for cell in shown)
    assert not [line for line in lines if len(line) > ROOM]


@pytest.mark.parametrize("name", sorted({page.rpartition("/")[2] for page in STORY} - WITHOUT_MEASUREMENT))
def test_a_chapter_shows_once_how_its_number_comes_about(name):
    shown = [
        source(cell)
        for cell in cells(paths.BOOK / f"{name}.ipynb")
        if cell["cell_type"] == "code" and not tags(cell) & {"remove-input", "remove-cell"}
    ]
    assert len(shown) == 1
    checks = [node for node in ast.walk(ast.parse(shown[0])) if isinstance(node, ast.Assert)]
    # a number of the package, by one of its own functions
    assert checks and any(isinstance(node, ast.Attribute) for node in ast.walk(checks[-1]))


def sentences(text: str) -> set[str]:
    """The long sentences of a page, without code and tables."""
    text = re.sub(r"```.*?```|^\|.*?$|\$\$.*?\$\$", "", text, flags=re.DOTALL | re.MULTILINE)
    split = re.split(r"(?<=[.?!:])\s+|\n\n|\n- ", text)
    return {" ".join(part.split()) for part in split if len(part) > LONG}


def test_nothing_is_said_twice():
    said = defaultdict(set)
    for page in chain(paths.BOOK.glob("*.md"), paths.BOOK.glob("*.ipynb")):
        if page.suffix == ".md":
            text = page.read_text(encoding="utf-8")
        else:
            parts = [source(cell) for cell in cells(page) if cell["cell_type"] == "markdown"]
            text = "\n\n".join(part for part in parts if not part.startswith(STANDING))
        for sentence in sentences(text):
            said[sentence].add(page.stem)
    twice = {sentence: sorted(pages) for sentence, pages in said.items() if len(pages) > 1}
    assert not twice
