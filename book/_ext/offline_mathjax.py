"""Serves MathJax from the site itself, so that no page needs the network to show its equations.

The package sphinx-mathjax-offline brings all of MathJax, 24 MB, and copies it whole; this copies the
2 MB that TeX input and HTML output need. It does so when a build ends rather than by a static folder,
because jupyter-book makes every page load every script that it finds in one.
"""

import shutil
from importlib.resources import files
from pathlib import Path

NEEDED = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts")


def setup(app):
    """Registers the extension with Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def copy_mathjax(app, exception):
    """Copies what is needed of MathJax into the finished site; a failed build is left alone."""
    if exception or app.builder.format != "html":
        return
    mathjax = Path(str(files("sphinx-mathjax-offline"))) / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in NEEDED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (mathjax / name).is_dir():
            shutil.copytree(mathjax / name, target / name, dirs_exist_ok=True)
        else:
            shutil.copy(mathjax / name, target / name)
