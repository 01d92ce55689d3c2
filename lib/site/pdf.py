"""The book in one PDF: jupyter-book makes one page of it, and Chromium prints that page.

It is printed twice: where chapters begin is known only then, and stands in the table of contents.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader

from .. import paths
from . import book

NAME = "how-weight-decay-sets-the-step.pdf"
#: Where Chromium or a browser made of it is looked for, unless ``$CHROMIUM`` names it; first what has no window to
#: draw, and starts and loads pages in less time.
BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)
#: Pages that are looked up or worked with rather than read, and are left to the site.
LEFT_OUT = ("book/api", "book/api-reading", "book/own-network", "book/live")
#: Sections of chapters that are left out: commands, which are for those who sit at a computer; claims, which the
#: page of claims has in one figure and one table; and the list of records.
SECTIONS_LEFT_OUT = ("Try it", "How to re-run it", "Measure your own machine", "Claims", "What is recorded")
#: On paper, code cannot be unfolded, nor a button pressed; and a figure belongs on one page.
STYLE = """
@page { size: A4; margin: 13mm 15mm 15mm; @bottom-center { content: counter(page); font-size: 9pt; } }
html { font-size: 10px; line-height: 1.33; }
body, p, li { line-height: 1.33; }
p, ul, ol, dl, .highlight pre, div.cell { margin-block: 0 0.6em !important; }
h2, h3, h4 { margin-block: 1em 0.4em !important; }
mjx-container[display] { margin-block: 0.5em !important; }
figure { margin-block: 0.6em !important; }
details.hide, #jb-print-docs-body, .bd-header-article, .prev-next-footer, .bd-footer, .headerlink,
.interactive .controls, button { display: none !important; }
pre { font-size: 0.85em; line-height: 1.25; white-space: pre-wrap !important; }
#book-contents + *, span[id^=document-] + section { break-before: page; }
article h1 { display: block !important; } /* the theme prints the title of a page on a sheet of its own */
h1, h2, h3, h4, dt { break-after: avoid; }
figure, .cell_output:not(:has(table)), tr, pre { break-inside: avoid; } /* a table may be longer than a page */
figure img, .cell_output img { max-height: 64mm; width: auto; }
table { font-size: 0.85em; overflow-wrap: anywhere; }
.interactive .view .pair { position: static !important; }
#book-contents ol { list-style: none; padding: 0; }
#book-contents a { color: inherit; display: flex; text-decoration: none; }
#book-contents a::before { border-bottom: 1px dotted; content: ""; flex: 1; margin: 0 0.5em 0.3em; order: 1; }
#book-contents a span { order: 2; }
"""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # the page is our own; where the user is root, Chromium does not start in its sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
    "--force-prefers-reduced-motion",  # what moves on a page is shown as it ends
    "--virtual-time-budget=60000",  # milliseconds of the page's own time, for MathJax to set the equations
)


def build() -> Path:
    """Prints the chapters as they are to ``_build/pdf``; the path of the PDF.

    Raises
    ------
    RuntimeError
        If there is no browser, or it does not print.
    BookError
        If the page cannot be built.
    """
    browser = find_browser()  # first: building the page takes a minute
    output = paths.BUILD / "pdf"
    start = book.build_site(paths.ROOT, output, builder="singlehtml")
    # the builder leaves it in the folder of the first chapter, with links that are right from the root
    html = (start.parent / paths.BOOK.name / "index.html").read_text(encoding="utf-8")
    pdf = output / NAME
    headings: list[tuple[int, str, int]] = []
    for _ in range(2):
        start.write_text(for_paper(html, headings), encoding="utf-8")
        print_page(browser, start, pdf)
        headings = outline(pdf)
    return pdf


def for_paper(html: str, headings: list[tuple[int, str, int]]) -> str:
    """The page without what is left out, with a style for paper and a table of contents.

    ``headings`` say on which page a chapter begins; where they do not, a blank is left.
    """
    # scripts of figures are looked for from the folder of a chapter
    page = BeautifulSoup(html.replace('src="../_static/', 'src="_static/'), "html.parser")
    page.head.append(page.new_tag("style", string=STYLE))  # type: ignore[union-attr]
    contents = BeautifulSoup("<nav id='book-contents'><h2>Contents</h2><ol></ol></nav>", "html.parser")
    for mark in page.select("span[id^=document-]"):
        chapter = mark.find_next_sibling("section")
        assert isinstance(chapter, Tag)
        if str(mark["id"]).removeprefix("document-") in LEFT_OUT:
            chapter.decompose()
            mark.decompose()
            continue
        heading = chapter.select_one("h1, h2")
        assert heading is not None
        level = int(heading.name[1])
        title = "".join(
            heading.find_all(string=True, recursive=False)
        ).strip()  # without the sign of its link
        begins = [str(number) for *where, number in headings if where == [level, title]]
        link = page.new_tag("a", href=f"#{mark['id']}", string=title)
        link.append(page.new_tag("span", string=" ".join(begins)))
        item = page.new_tag("li")
        item.append(link)
        contents.ol.append(item)  # type: ignore[union-attr]
    page.select_one("article h1").insert_after(contents)  # type: ignore[union-attr]
    for heading in page.select("section > h2, section > h3"):
        if heading.get_text().rstrip("#") in SECTIONS_LEFT_OUT:
            heading.parent.decompose()  # type: ignore[union-attr]
    # what led to a page that is left out is text
    known = {str(element["id"]) for element in page.select("[id]")}
    for link in page.select("a[href^='#']"):
        if str(link["href"]).removeprefix("#") not in known:
            link.unwrap()
    return str(page)


def outline(pdf: Path) -> list[tuple[int, str, int]]:
    """The headings of a PDF, in their order: their level, the text, and the page, from 1."""
    reader = PdfReader(pdf)

    def entries(nodes, level):
        for node in nodes:
            if isinstance(node, list):
                yield from entries(node, level + 1)
            else:
                yield level, str(node.title), (reader.get_destination_page_number(node) or 0) + 1

    return list(entries(reader.outline, 1))


def find_browser() -> str:
    """The command of Chromium; raises RuntimeError when there is none."""
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else BROWSERS:
        if command := shutil.which(name):
            return command
    looked_for = f"$CHROMIUM, {named!r}, is no command" if named else f"none of {', '.join(BROWSERS)} is"
    raise RuntimeError(
        f"no Chromium: {looked_for}{'' if named else ' a command here'}; install "
        "Chromium or Chrome, or set CHROMIUM to the path of one"
    )


def print_page(browser: str, page: Path, pdf: Path) -> None:
    """Prints a page to a PDF; raises RuntimeError when that fails, and leaves an earlier PDF as it was."""
    with tempfile.TemporaryDirectory(dir=pdf.parent, prefix="printing-") as folder:
        printed = Path(folder) / "page.pdf"
        places = [f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}", page.as_uri()]
        result = subprocess.run([browser, *OPTIONS, *places], capture_output=True, text=True)
        if result.returncode or not printed.exists():
            raise RuntimeError(f"{browser} did not print {page}; it says:\n{result.stderr.strip()}")
        os.replace(printed, pdf)
