"""Lets docstrings be written as they read well in an editor and in a terminal.

A norm is written as |w|. reStructuredText takes a pair of bars for a substitution. None is defined in this book, so bars are
escaped, except inside double backticks, where a backslash would show.

What is said of a value may have a colon: Napoleon would take what stands before it for a type.
"""

import re

from sphinx.ext.napoleon.docstring import NumpyDocstring


def setup(app):
    """Registers the extension with Sphinx."""
    NumpyDocstring._parse_attribute_docstring = lambda self: list(self._consume_to_end())
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_places)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def escape_bars(app, what, name, obj, options, lines):
    """Escapes the bars of a docstring, in place, as autodoc's event asks."""
    lines[:] = [
        re.sub(r"``.+?``|\\?\|", lambda m: m[0] if m[0][0] in "`\\" else r"\|", line) for line in lines
    ]


def skip_places(app, what, name, obj, skip, options):
    """Leaves out the fields of a named tuple, of which Python says nothing but their place."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None
