"""A browser for the tests that need one: Chromium as the system installs it, without the network."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import LIMIT
from playwright.sync_api import Browser, Page, sync_playwright

from lib.site import pdf


@contextmanager
def launched() -> Iterator[Browser]:
    """A running browser; skips the test where none is installed."""
    try:
        executable = pdf.find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        # as root, in a container, there is no sandbox to be had
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=executable, args=options, timeout=1000 * LIMIT)
        yield browser
        browser.close()


def new_page(browser: Browser, **options) -> Page:
    """An empty page that waits for what it is asked to wait for, however busy the machine is."""
    page = browser.new_page(**options)
    page.set_default_timeout(1000 * LIMIT)
    return page


def watched(page: Page) -> list[str]:
    """What goes wrong on a page from now on: errors of its scripts, and requests that leave the disk."""
    wrong = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None
    )
    page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
    page.on("request", lambda r: wrong.append(f"outside: {r.url}") if _leaves(r.url) else None)
    return wrong


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:", "about:"))
