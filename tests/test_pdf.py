"""The book as a PDF: equations and figures are in it, and a missing browser is named."""

import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lib import paths
from lib.site import book, pdf

INDEX = """# Toy

```{figure} picture.png
A picture.
```
"""
CHAPTER = "# A chapter\n\n$$\\lambda\\frac{|g|}{|w|} = \\sqrt{2\\lambda\\alpha}$$\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A book of two pages with the settings of this one; its pages lie in a folder, as here."""
    for name, folder in {"ROOT": ".", "BOOK": "book", "BUILD": "_build"}.items():
        monkeypatch.setattr(paths, name, tmp_path / folder)
    source = Path(book.__file__).parents[2]
    shutil.copy(source / "_config.yml", tmp_path)
    for part in ("_ext", "_static"):
        shutil.copytree(source / "book" / part, tmp_path / "book" / part)
    shutil.copy(source / "book" / "references.bib", tmp_path / "book")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n")
    (tmp_path / "book" / "index.md").write_text(INDEX)
    (tmp_path / "book" / "chapter.md").write_text(CHAPTER)
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    figure.savefig(tmp_path / "book" / "picture.png")
    return tmp_path


def test_equations_and_figures_of_every_page_are_printed(toy):
    try:
        pdf.find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    printed = pdf.build()
    assert printed == toy / "_build" / "pdf" / pdf.NAME
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"MathJax_Math-Italic" in content  # the font of λ: without MathJax, TeX's source would stand there
    assert b"/Subtype /Image" in content
    assert not list(printed.parent.glob("printing-*")) and not list(printed.parent.glob("building-*"))


def test_without_a_browser_nothing_is_built_and_what_to_do_is_said(toy, monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(toy))
    with pytest.raises(
        RuntimeError, match="none of chromium, .* is a command here; install Chromium or Chrome"
    ):
        pdf.build()
    monkeypatch.setenv("CHROMIUM", "nowhere")
    with pytest.raises(RuntimeError, match="CHROMIUM, 'nowhere', is no command; install"):
        pdf.build()
    assert not paths.BUILD.exists()


@pytest.mark.parametrize("script", ["exit 0", "echo broken >&2; exit 3"])
def test_a_browser_that_prints_nothing_is_an_error_and_the_last_pdf_stays(tmp_path, script):
    browser, last = tmp_path / "browser", tmp_path / "book.pdf"
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    last.write_text("before")
    with pytest.raises(RuntimeError, match=r"browser did not print .*page\.html"):
        pdf.print_page(str(browser), tmp_path / "page.html", last)
    assert last.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.pdf", "browser"]
