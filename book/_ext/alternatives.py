"""What is read instead of a picture has its numbers from where the sentences have theirs: the records.

A cell may name them in the alternative text of its figure, by the same roles. Where a sentence names what is no number,
it gets a dash.
"""

import json
from pathlib import Path

from lib.site import readers


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill(app, page, source):
    """Puts the numbers of a chapter into its alternative texts, and dashes for those that there are not.

    This is in the source that is about to be parsed.
    """
    path = Path(app.env.doc2path(page))
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        image = cell["metadata"].get("mystnb", {}).get("image", {})
        if "alt" in image:
            image["alt"] = readers.with_numbers(image["alt"], path)
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = readers.with_numbers(text, path, only_missing=True)
    source[0] = json.dumps(notebook)
