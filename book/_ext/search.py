"""Chapters before the package in the results of the search, and formulas in them as plain text."""

from pathlib import Path


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("config-inited", set_scorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def set_scorer(app, config):
    """Names the script that Sphinx puts behind its own; it looks for a relative name in the current folder."""
    config.html_search_scorer = str(Path(__file__).with_name("search.js"))
