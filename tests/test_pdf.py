"""The book as a PDF: equations and figures are in it, its contents are right, and a missing browser is named.

``$PDF`` names one of the whole book; without it, it is that of `make pdf`.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from pypdf import PdfReader

from lib import paths
from lib.figures import interactive
from lib.site import book, pdf

INDEX = """# Toy

```{figure} picture.png
A picture.
```
"""
CHAPTER = """# A chapter

$$\\lambda\\frac{|g|}{|w|} = \\sqrt{2\\lambda\\alpha}$$

See [the package](api.md).

## Another one

A section that is called as the next chapter is.
"""
MOVING = f"# Another one\n\n{interactive.spirals().data}\n"
#: The PDF of the whole book, where one was made.
BOOK = Path(os.environ.get("PDF", paths.BUILD / "pdf" / pdf.NAME))


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
    # a page that is printed by itself without its cells
    summary = "# Summary on one page\n\n<div class='cell'>A figure of a cell.</div>\n"
    pages = {"index": INDEX, "chapter": CHAPTER, "summary": summary, "moving": MOVING}
    pages["api"] = "# The package\n\nIs looked up.\n"
    chapters = "".join(f"- file: book/{name}\n" for name in pages if name != "index")
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{chapters}")
    for name, text in pages.items():
        (tmp_path / "book" / f"{name}.md").write_text(text)
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
    assert pdf.outline(printed) == [
        (1, "Toy", 1),
        (2, "Contents", 1),
        (2, "A chapter", 3),
        (3, "Another one", 3),
        (2, "Summary on one page", 4),
        (2, "Another one", 5),
    ]
    first, *_, last = pages = [page.extract_text() for page in PdfReader(printed).pages]
    assert re.findall(r"(A chapter|Another one)\s*(\d+)", first) == [("A chapter", "3"), ("Another one", "5")]
    assert all(str(number) in page.split() for number, page in enumerate(pages, 1)) and len(pages) == 5
    assert "A figure of a cell." in pages[3]
    assert "looked up" not in "".join(pages) and "See the package." in pages[2]
    # the figure as it ends, without what one could press
    assert "angle of each step" in last and "needs JavaScript" not in last and "Play" not in last
    assert not list(printed.parent.glob("printing-*")) and not list(printed.parent.glob("building-*"))


@pytest.mark.skipif(not BOOK.exists(), reason=f"needs the book as a PDF, and {BOOK} is not there: `make pdf`")
def test_the_whole_book_is_short_and_each_chapter_is_found():
    headings = {(title, page) for _, title, page in pdf.outline(BOOK)}
    pages = [page.extract_text() for page in PdfReader(BOOK).pages]
    assert len(pages) < 60
    chapters = pages[0].partition("Contents\n")[2].splitlines()
    listed = [re.fullmatch(r"(.+?)\s*(\d+)", line) for line in chapters]
    assert len(listed) >= 16 and all((match[1], int(match[2])) in headings for match in listed)
    begins = [int(match[2]) for match in listed]
    assert begins == sorted(set(begins))  # each on a new page
    text = "".join(pages)
    assert "needs JavaScript" not in text
    numbers = {int(number) for number in re.findall(r"Fig\. (\d+)", text)}
    assert (
        numbers >= set(range(1, 13)) and len(numbers) >= 35
    )  # each with its caption; strips are left to the site


def test_claims_and_commands_of_a_chapter_are_left_to_the_site():
    cell = "<div class='cell'><figure></figure></div>"
    body = "".join(
        f"<section><h3>{title}<a>#</a></h3>{cell}</section>"
        for title in ("Claims", "What came out", "Try it")
    )
    page = f"<html><head></head><body><article><h1>Book</h1>{body}</article></body></html>"
    paper = BeautifulSoup(pdf.for_paper(page, []), "html.parser")
    assert [heading.get_text() for heading in paper.select("h3")] == ["What came out#"]
    assert len(paper.select("figure")) == 1


def test_without_a_browser_nothing_is_built_and_what_to_do_is_said(toy, monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(toy))
    with pytest.raises(
        RuntimeError,
        match="none of chromium-headless-shell, .* is a command here; install Chromium or Chrome",
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
