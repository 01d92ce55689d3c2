"""Leaves out of the site what no reader's browser loads: 4 MB.

Source maps of the theme's scripts and styles are for its authors, its translations for Sphinx. Its
fonts are there a second time as TrueType, for browsers without woff2, which all have had for ten years.
"""

from pathlib import Path


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("build-finished", remove)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def remove(app, exception):
    """Removes them from the finished site; a failed build is left alone."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    # MathJax loads packages one by one; those for chemistry and for proof trees are never asked for
    packages = (
        f"mathjax/input/tex/extensions/{name}.js" for name in ("all-packages", "mhchem", "bussproofs")
    )
    for pattern in ("**/*.map", "locales/**/*.*", "vendor/fontawesome/webfonts/*.ttf", *packages):
        for path in list(static.glob(pattern)):
            path.unlink()
