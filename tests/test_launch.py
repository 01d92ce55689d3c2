"""Chapters can be taken elsewhere, and once the book has an address, its pages lead there and say what they are."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from matplotlib import image
from nbformat import v4

from lib import paths
from lib.site import book

ADDRESS = "https://github.com/NAME/REPOSITORY"
TEXT = '# A chapter\n\nThe step is $\\sqrt{2\\lambda\\alpha}$ "in balance". It has no parameter.\n'


def built(address: str, tmp_path: Path) -> Path:
    """A site of two pages with the book's own settings, but for its address."""
    config = (paths.ROOT / "_config.yml").read_text(encoding="utf-8")
    config, places = re.subn("(?m)repository_url: .*$", f'repository_url: "{address}"', config)
    assert places == 1  # the one place
    (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n")
    for part in ("_ext", "_static"):
        shutil.copytree(paths.BOOK / part, tmp_path / "book" / part)
    shutil.copy(paths.BOOK / "references.bib", tmp_path / "book")
    (tmp_path / "book" / "index.md").write_text("# Toy\n\nA book.\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(TEXT)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "book" / "chapter.ipynb")
    return book.build_site(tmp_path, tmp_path / "_build").parent


def outside(page: BeautifulSoup) -> set[str]:
    """All that a page links to or loads from elsewhere."""
    found = {
        e[name] for name in ("href", "src") for e in page.find_all(attrs={name: re.compile("^(https?:)?//")})
    }
    return found | {e["content"] for e in page.find_all("meta", content=re.compile("^https?:"))}


@pytest.mark.parametrize("address", ["", ADDRESS], ids=["unpublished", "published"])
def test_pages_lead_where_the_address_says_and_without_one_nowhere(address, tmp_path):
    site = built(address, tmp_path)
    pages = {
        name: BeautifulSoup((site / "book" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "chapter")
    }
    meta = {
        tag.get("name") or tag.get("property"): tag["content"]
        for tag in pages["chapter"].find_all("meta", content=True)
    }
    assert meta["description"] == "The step is √(2λα) “in balance”. It has no parameter."
    chapter = pages["chapter"]
    assert chapter.find("a", href="../_sources/book/chapter.ipynb")
    assert "make book SCALE=demo" in chapter.get_text() and "-p scale demo" in chapter.get_text()
    copy = (site / "_sources" / "book" / "chapter.ipynb").read_text(encoding="utf-8")
    assert (f"git clone --quiet --depth 1 {address} clone" in copy) == bool(address)
    if not address:
        assert not outside(pages["index"]) | outside(chapter)
        assert not [name for name in meta if name.startswith(("og:", "twitter:"))]
        assert not (site / "_static" / "social.png").exists()
        return
    repository = "NAME/REPOSITORY"
    of_every_page = {
        ADDRESS,
        f"{ADDRESS}/issues/new?title=Issue%20on%20page%20%2Fbook/chapter.html&body=Your%20issue%20content%20here.",
        f"{ADDRESS}/blob/main/book/chapter.ipynb?plain=1",
        "https://name.github.io/REPOSITORY/book/chapter.html",
        "https://name.github.io/REPOSITORY/_static/social.png",
    }
    of_chapters = {
        f"https://colab.research.google.com/github/{repository}/blob/gh-pages/_sources/book/chapter.ipynb",
        f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/copies/chapter.ipynb",
    }
    assert outside(chapter) == of_every_page | of_chapters
    expected = {
        address.replace("chapter.ipynb", "index.md").replace("chapter", "index") for address in of_every_page
    }
    assert outside(pages["index"]) == expected
    assert not [
        e for e in chapter.find_all(src=True) if e["src"].startswith("http")
    ]  # links, nothing is loaded
    assert (meta["og:title"], meta["og:description"]) == ("A chapter", meta["description"])
    assert image.imread(site / "_static" / "social.png").shape[:2] == (630, 1200)
    assert (site / ".nojekyll").exists()  # else GitHub leaves out _static and _sources


@pytest.mark.parametrize("address", ["github.com/NAME/REPOSITORY", "https://example.org/NAME", f"{ADDRESS}/"])
def test_an_address_of_another_form_is_refused(address):
    sys.path.insert(0, str(paths.BOOK / "_ext"))
    try:
        import published
    finally:
        del sys.path[0]
    config = SimpleNamespace(html_theme_options={"repository_url": address})
    with pytest.raises(published.ConfigError, match=f"repository_url='{re.escape(address)}' is not allowed"):
        published.read_address(None, config)


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
    assert os.access(binder / "postBuild", os.X_OK)  # which puts lib on the path of the kernels, and
    assert '"-m", "lib", "copies"' in (binder / "postBuild").read_text()  # writes what the button opens
