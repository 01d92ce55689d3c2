"""Chapters can be taken elsewhere: as a notebook, and once the book has an address, into Colab and Binder."""

import os
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lib import paths
from lib.site import book

ADDRESS = "https://github.com/NAME/REPOSITORY"


@pytest.fixture(params=["", ADDRESS], ids=["unpublished", "published"])
def chapter(request, tmp_path) -> tuple[str, str]:
    """The address of the book's repository, and a chapter's page in a site with the book's own settings."""
    config = (paths.ROOT / "_config.yml").read_text(encoding="utf-8")
    config, places = re.subn("(?m)repository_url: .*$", f'repository_url: "{request.param}"', config)
    assert places == 1  # the one place
    (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n")
    for part in ("_ext", "_static"):
        shutil.copytree(paths.BOOK / part, tmp_path / "book" / part)
    shutil.copy(paths.BOOK / "references.bib", tmp_path / "book")
    (tmp_path / "book" / "index.md").write_text("# Toy\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A chapter")], metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "book" / "chapter.ipynb")
    site = book.build_site(tmp_path, tmp_path / "_build").parent
    return request.param, (site / "book" / "chapter.html").read_text(encoding="utf-8")


def test_a_chapter_leads_to_where_it_can_be_run(chapter):
    address, page = chapter
    outside = set(re.findall(r'href="(https?://[^"]*)"', page))
    repository = "NAME/REPOSITORY"
    expected = {
        f"https://colab.research.google.com/github/{repository}/blob/main/book/chapter.ipynb",
        f"https://mybinder.org/v2/gh/{repository}/main?urlpath=tree/book/chapter.ipynb",
    }
    # links only: nothing is loaded from there, and without an address no button leads nowhere
    assert outside == (expected if address else set())
    assert not re.findall(r'src="https?://', page)
    assert 'href="../_sources/book/chapter.ipynb"' in page
    assert "make book SCALE=demo" in page and "-p scale demo" in page


def test_binder_installs_the_book_on_a_python_that_it_runs_with():
    binder = paths.ROOT / ".binder"
    python = tuple(
        map(int, re.fullmatch(r"python-(\d+)\.(\d+)", (binder / "runtime.txt").read_text().strip()).groups())
    )
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert python >= tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))
    (line,) = [
        line for line in (binder / "requirements.txt").read_text().split("\n") if line.startswith("-r ")
    ]
    requirements = (binder / line.removeprefix("-r ")).resolve()
    assert requirements == Path(paths.ROOT / "requirements.txt").resolve()
    assert os.access(binder / "postBuild", os.X_OK)  # which puts lib on the path of the kernels
