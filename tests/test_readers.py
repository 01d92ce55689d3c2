"""Chapters as readers take them away: numbers in their sentences, no markup of this book alone, and they run."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat import v4
from test_everywhere import repository

from lib import __main__ as command_line
from lib import paths
from lib.site import book, readers

ADDRESS = "https://github.com/NAME/REPOSITORY"
CHAPTERS = book.notebooks(paths.ROOT)
#: Those that are run here: one trains, two need files of the book besides records. All others read records alone, and
#: are run by nbval, in the checkout, or, as own-network, have a test of their own where the package is installed.
RUN_HERE = ("live", "cost", "status")
#: Runs the cells of notebooks, in their order, in one process: torch is imported once.
RUN = """
import sys, warnings
from IPython.core.interactiveshell import InteractiveShell
import nbformat
import matplotlib; matplotlib.use("agg")
for path in sys.argv[1:]:
    shell = InteractiveShell()
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            done = shell.run_cell(cell.source)
            if not done.success:
                sys.exit(f"{path}: {cell.source}")
import lib
print("lib from", lib.__file__)
"""


@pytest.fixture
def chapter(tmp_path) -> Path:
    """A chapter with a number, a figure and what else only this book's pages understand."""
    glued = {"R": "1.23456", "who": "'heavy-ball'"}
    outputs = [
        v4.new_output(
            "display_data", {f"{readers.GLUED}text/plain": text}, metadata={"scrapbook": {"name": name}}
        )
        for name, text in glued.items()
    ]
    source = v4.new_output("display_data", {f"{readers.GLUED}text/markdown": "scale small"})
    source.metadata = {"scrapbook": {"name": "source-step"}}
    figure = v4.new_code_cell('gallery.show("step", scale)', outputs=[source])
    figure.metadata["mystnb"] = {
        "figure": {"caption": "Steps, $R$ = {glue:text}`R:.1f`. ({glue:md}`source-step`)", "name": "fig-step"}
    }
    text = "\n".join(
        [
            "(eq-5)=",
            "$$R$$",
            "With {glue:text}`who` $R$ is {glue:text}`R:.2f`, as [(5)](eq-5) says {cite}`page2019`.",
            "See {numref}`fig-step`, [lars](lars.ipynb), {py:func}`lib.watch.watch`. <button hidden>Try</button>",
        ]
    )
    cells = [v4.new_markdown_cell(text), v4.new_code_cell("1", outputs=outputs), figure]
    path = tmp_path / "chapter.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def test_a_copy_says_what_the_page_says(chapter):
    copy = readers.copy(chapter, "")
    assert copy.cells[1].source == (
        "$$R$$\nWith heavy-ball $R$ is 1.23, as (5) says (Page 2019).\n"
        "See Figure step, [lars](lars.ipynb), `lib.watch.watch`."
    )
    assert copy.cells[-1].source == "**Figure step.** Steps, $R$ = 1.2. (scale small)"
    assert [cell.source for cell in copy.cells if cell.cell_type == "code"][1:] == [
        "1",
        'gallery.show("step", scale)',
    ]


def test_a_number_of_another_page_is_found_and_a_missing_one_is_an_error(chapter):
    assert readers.with_numbers("{glue:text}`chapter.ipynb::R:.3f`", chapter) == "1.235"
    with pytest.raises(
        book.BookError, match="chapter chapter: {glue:text}`S` names a number that it does not"
    ):
        readers.with_numbers("{glue:text}`S`", chapter)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_dash_stands_for_what_is_no_number(chapter, value):
    notebook = nbformat.read(chapter, 4)
    notebook.cells[1].outputs[0].data[f"{readers.GLUED}text/plain"] = value
    nbformat.write(notebook, chapter)
    os.utime(chapter, ns=(1, 1))  # as it would be a while later
    text = "R = {glue:text}`R:.2f`, by {glue:text}`who`"
    assert readers.with_numbers(text, chapter) == "R = –, by heavy-ball"
    assert readers.with_numbers(text, chapter, only_missing=True) == "R = –, by {glue:text}`who`"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_markup_of_the_book_is_left_in_a_chapter(path):
    copy = readers.copy(path, ADDRESS)
    nbformat.validate(copy)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    source = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in code[1:]] == source
    assert f"git clone --quiet --depth 1 {ADDRESS} clone" in code[0].source
    text = "\n".join(cell.source for cell in copy.cells if cell.cell_type == "markdown")
    assert not re.findall(r"\{[\w:]+\}`|```\{|^:::|^\([\w-]+\)=$|<button", text, re.MULTILINE)
    assert len(copy.cells) == len({cell.id for cell in copy.cells})


def test_the_command_line_writes_all_of_them(tmp_path):
    done = CliRunner().invoke(command_line.cli, ["copies", "--out", str(tmp_path / "here")])
    assert done.output == f"{len(CHAPTERS)} notebooks in {tmp_path / 'here'}\n"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(
        path.name for path in CHAPTERS
    )


@pytest.fixture
def fresh(tmp_path) -> tuple[dict[str, str], Path]:
    """An environment without this book: the packages that it needs, and pip, which installs without a network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh"], check=True)
    python = tmp_path / "fresh" / "bin" / "python"
    (site,) = (tmp_path / "fresh").glob("lib/python*/site-packages")
    # a folder that a path file names has its own path files ignored, such as the one that leads to this checkout
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    kept = {
        name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "CIFAR10_ROOT") if name in os.environ
    }
    return kept | offline | {"HOME": str(tmp_path)}, python


@pytest.mark.slow
def test_copies_run_from_top_to_bottom_where_nothing_is_installed(fresh, tmp_path):
    environment, python = fresh
    # the repository as it would be published
    published = tmp_path / "published"
    for part in ("lib", "book"):
        others = shutil.ignore_patterns("__pycache__", "demo", "_static", "_ext")
        shutil.copytree(paths.ROOT / part, published / part, ignore=others)
    for name in ("pyproject.toml", "LICENSE", "_config.yml", "_toc.yml"):
        shutil.copy(paths.ROOT / name, published)
    repository(published)
    reader = tmp_path / "reader"
    reader.mkdir()
    for path in CHAPTERS:
        if path.stem not in RUN_HERE:
            continue
        copy = readers.copy(path, published.as_uri())
        for cell in copy.cells:
            if path.stem == "live" and "parameters" in cell.metadata.get("tags", []):
                cell.source += "\nepochs = 1"  # a shorter training of the same code
        nbformat.write(copy, reader / path.name)
    copies = sorted(reader.glob("*.ipynb"))
    assert len(copies) == len(RUN_HERE)
    done = subprocess.run(
        [python, "-c", RUN, *copies], cwd=reader, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"lib from {reader / 'clone' / 'lib' / '__init__.py'}\n")
    assert list((tmp_path / "fresh").glob("lib/python*/site-packages/weight_decay_equilibrium"))
