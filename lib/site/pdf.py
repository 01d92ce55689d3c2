"""The whole book in one PDF: jupyter-book makes one page of it, and Chromium prints that page."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import paths
from ..machinery import machine
from . import book

NAME = "how-weight-decay-sets-the-step.pdf"
#: Where Chromium or a browser made of it is looked for, unless ``$CHROMIUM`` names it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
#: On paper, code cannot be unfolded, nor a button pressed; and a figure belongs on one page.
STYLE = """<style>
@page { size: A4; margin: 20mm 18mm; }
html { font-size: 12px; }
details.hide, .bd-header-article, .prev-next-footer, .bd-footer, .headerlink { display: none !important; }
pre { white-space: pre-wrap !important; }
h1, h2, h3, dt { break-after: avoid; }
figure, .cell_output, table, pre { break-inside: avoid; }
</style></head>"""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # the page is our own; where the user is root, Chromium does not start in its sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
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
    page = at_the_root(start)
    pdf = output / NAME
    print_page(browser, page, pdf)
    return pdf


def find_browser() -> str:
    """The command of Chromium; raises RuntimeError when there is none."""
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else BROWSERS:
        if command := shutil.which(name):
            return command
    looked_for = f"$CHROMIUM, {named!r}, is no command" if named else f"none of {', '.join(BROWSERS)} is"
    raise RuntimeError(
        f"no Chromium to print the PDF with: {looked_for}{'' if named else ' a command here'}; install "
        "Chromium or Chrome, or set CHROMIUM to the path of one"
    )


def at_the_root(start: Path) -> Path:
    """Writes the page in place of ``start``, which leads to it, with a style for paper; its path.

    The builder leaves it in the folder of the first chapter, with links to pictures and scripts
    that are right from the root.
    """
    html = (start.parent / paths.BOOK.name / "index.html").read_text(encoding="utf-8")
    start.write_text(html.replace("</head>", STYLE, 1), encoding="utf-8")
    return start


def print_page(browser: str, page: Path, pdf: Path) -> None:
    """Prints a page to a PDF; raises RuntimeError when that fails, and leaves an earlier PDF as it was."""
    with tempfile.TemporaryDirectory(dir=pdf.parent, prefix="printing-") as folder:
        printed = Path(folder) / "page.pdf"
        places = [f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}", page.as_uri()]
        result = subprocess.run([browser, *OPTIONS, *places], capture_output=True, text=True)
        if result.returncode or not printed.exists():
            raise RuntimeError(f"{browser} did not print {page}; it says:\n{result.stderr.strip()}")
        os.replace(printed, pdf)


if __name__ == "__main__":
    machine.print_what_can_be_printed()
    try:
        print(build())
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
