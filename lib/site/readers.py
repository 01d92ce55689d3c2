"""Chapters as readers take them away: with the numbers in their sentences, and a first cell that brings what they need.

On the site a number is put into a sentence by a role of MyST, which no other notebook program knows. A copy has
no outputs: it computes them in seconds from the records.
"""

import ast
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode, v4
from pybtex.database import parse_file

from .. import paths
from ..results.numbers import NONE
from . import book

#: How glue marks what it stores, before the kind of the data.
GLUED = "application/papermill.record/"
#: The first cell, where the book can be fetched, and where it has no address yet.
FETCH = """\
# brings the book with its records, and installs what it needs, where they are not here already
import os
import sys
from importlib.util import find_spec

try:
    import lib.experiments
except ImportError:
    if not os.path.isdir("clone"):
        !git clone --quiet --depth 1 {address} clone
    if find_spec("weight_decay_equilibrium") is None:
        %pip install --quiet ./clone
    sys.path.insert(0, os.path.abspath("clone"))
    os.chdir("clone/book")"""
STAY = """\
# this notebook needs the book's package and records: where this fails, move it into the folder `book` of
# a clone of the book, and open it with the Python of that clone, .venv/bin/python
import lib.experiments"""


def write(target: Path) -> list[Path]:
    """Writes copies of all chapters of the checkout into a folder; their paths."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for chapter in book.notebooks(paths.ROOT):
        written.append(target / chapter.name)
        written[-1].write_text(nbformat.writes(copy(chapter, address())) + "\n", encoding="utf-8")
    return written


def address() -> str:
    """Where the repository of the book is published, as ``_config.yml`` says; empty as long as it is not."""
    config = yaml.safe_load((paths.ROOT / "_config.yml").read_text(encoding="utf-8"))
    return config["sphinx"]["config"]["html_theme_options"]["repository_url"]


def copy(chapter: Path, address: str) -> NotebookNode:
    """A reader's copy of a chapter, which fetches the book from ``address``, or without one expects it to be there.

    Raises BookError when a sentence asks for a number that the chapter does not have.
    """
    notebook = nbformat.read(chapter, as_version=4)
    first = v4.new_code_cell(FETCH.format(address=address) if address else STAY, id="first")
    cells = [first]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, chapter)
        else:
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        figure = cell.metadata.pop("mystnb", {}).get("figure")
        if figure:
            name = figure["name"].replace("fig-", "Figure ", 1)
            caption = f"**{name}.** {plain(figure['caption'], chapter)}"
            cells.append(v4.new_markdown_cell(caption, id=f"caption-{figure['name'].removeprefix('fig-')}"))
    notebook.cells = cells
    return notebook


def plain(text: str, chapter: Path) -> str:
    """Markdown of a chapter without what only this book's pages understand, its numbers filled in."""
    text = re.sub(r"(?m)^```\{glue:md\} (\S+)\n(:.*\n)*```$", r"{glue:md}`\1`", text)
    text = with_numbers(text, chapter)
    text = re.sub(r"(?m)^\([\w-]+\)=\n", "", text)  # targets of links, and links to them
    text = re.sub(r"\[([^]]+)\]\(#?[\w-]+\)", r"\1", text)
    text = re.sub(r" *<button.*?</button>", "", text, flags=re.DOTALL)
    text = re.sub(r"\{cite(:\w)?\}`([^`]+)`", lambda match: f"({cited(match[2])})", text)
    text = re.sub(r"\{numref\}`fig-([^`]+)`", r"Figure \1", text)
    text = re.sub(r"\{eq\}`eq-([^`]+)`", r"(\1)", text)
    return re.sub(r"\{(py:\w+|ref|doc)\}(`[^`]+`)", r"\2", text)


def with_numbers(text: str, chapter: Path, only_missing: bool = False) -> str:
    """A text of a chapter with the values that it names by ``{glue:…}`` roles, of its own or of ``page.ipynb::``.

    A dash stands for what is no number, as R without weight decay; with ``only_missing``, for these roles alone.
    """

    def value(match: re.Match[str]) -> str:
        page, _, key = match["key"].rpartition("::")
        values = glued(chapter.with_name(page) if page else chapter)
        if key not in values:
            raise book.BookError(f"chapter {chapter.stem}: {match[0]} names a number that it does not have")
        found = values[key]
        if isinstance(found, float) and not math.isfinite(found):
            return NONE
        return match[0] if only_missing else format(found, match["format"] or "")

    return re.sub(r"\{glue:(text|md)\}`(?P<key>[^`:]+(::[^`:]+)?)(:(?P<format>[^`]+))?`", value, text)


@cache
def _glued(chapter: Path, written: int) -> Mapping[str, object]:
    values = {}
    for cell in nbformat.read(chapter, as_version=4).cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            data = output.get("data", {})
            if f"{GLUED}text/markdown" in data:
                values[name] = data[f"{GLUED}text/markdown"]
            elif name:
                values[name] = _literal(data[f"{GLUED}text/plain"])
    return values


def _literal(text: str) -> object:
    """A value as Python writes it; infinity and what is no number are names there, and no literals."""
    return float(text) if text in ("nan", "inf", "-inf") else ast.literal_eval(text)


def glued(chapter: Path) -> Mapping[str, object]:
    """What a chapter has glued when it was executed: numbers and texts, by name."""
    return _glued(chapter, chapter.stat().st_mtime_ns)


def cited(keys: str) -> str:
    """Author and year of some references, as in ``Hoffer et al. 2018, Page 2019``."""
    entries = parse_file(paths.BOOK / "references.bib").entries
    texts = []
    for key in keys.split(","):
        authors = [
            " ".join(person.prelast_names + person.last_names) for person in entries[key].persons["author"]
        ]
        names = " and ".join(authors) if len(authors) < 3 else f"{authors[0]} et al."
        texts.append(f"{names} {entries[key].fields['year']}")
    return ", ".join(texts)
