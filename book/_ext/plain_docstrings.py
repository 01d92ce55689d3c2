"""Lets docstrings write a norm as |w|, which reads well in an editor and in a terminal.

reStructuredText takes a pair of bars for a substitution. None is defined in this book, so bars are
escaped, except inside double backticks, where a backslash would show.
"""

import re


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def escape_bars(app, what, name, obj, options, lines):
    """Escapes the bars of a docstring, in place, as autodoc's event asks."""
    lines[:] = [
        re.sub(r"``.+?``|\\?\|", lambda m: m[0] if m[0][0] in "`\\" else r"\|", line) for line in lines
    ]
