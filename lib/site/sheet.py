"""The page of formulas on one sheet of paper: Chromium prints the page of a site that is built."""

import sys
from pathlib import Path

from .. import paths
from ..machinery import machine
from . import pdf

NAME = "summary.pdf"
PAGE = Path("book") / "summary.html"


def build(site: Path | None = None) -> Path:
    """Prints the summary of a site, ``_build/html`` if none is named, to ``_build/pdf``; the path of the PDF.

    Raises
    ------
    RuntimeError
        If there is no browser, or it does not print.
    FileNotFoundError
        If the site is not built.
    """
    page = (site or paths.BUILD / "html") / PAGE
    if not page.exists():
        raise FileNotFoundError(f"{page} is not there to be printed; `{paths.COMMAND} book` builds it")
    browser = pdf.find_browser()
    sheet = paths.BUILD / "pdf" / NAME
    sheet.parent.mkdir(parents=True, exist_ok=True)
    pdf.print_page(browser, page, sheet)
    return sheet


if __name__ == "__main__":
    machine.print_what_can_be_printed()
    try:
        print(build())
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
