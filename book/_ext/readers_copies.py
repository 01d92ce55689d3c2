"""The button that downloads a chapter gives its reader's copy, with numbers in its sentences, and not its source."""

from pathlib import Path

import nbformat

from lib.site import readers


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("build-finished", write_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_copies(app, exception):
    """Puts copies in place of the chapters in the finished site; a failed build is left alone."""
    if exception or app.builder.name != "html":
        return
    address = app.config.html_theme_options.get("repository_url", "")
    for page in app.env.found_docs:
        source = Path(app.env.doc2path(page))
        if source.suffix == ".ipynb":
            copy = nbformat.writes(readers.copy(source, address))
            (Path(app.outdir) / "_sources" / f"{page}.ipynb").write_text(copy + "\n", encoding="utf-8")
