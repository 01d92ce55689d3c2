"""Below each figure stand its files to take away, and the page shows the very file that is taken: its SVG.

Figures are drawn anew when the site is built, by the command in their caption: for a screen, and for a phone.
"""

import html
from pathlib import Path

from docutils import nodes

from lib import paths
from lib.figures import gallery
from lib.site import takeaway

FOLDER = "figures"
CODE = paths.ROOT / "lib"
#: A page that is no wider shows the figure that is drawn for phones.
PHONE = "(max-width: 576px)"


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("env-before-read-docs", keep_code_of_figures)
    app.connect("doctree-resolved", show_files)
    return {"parallel_read_safe": True, "parallel_write_safe": False}


def keep_code_of_figures(app, env, docnames):
    """Lets `sphinx.ext.viewcode` make pages of the code of figures alone: those of all of it are 3 MB."""
    modules = (".".join(path.relative_to(CODE.parent).with_suffix("").parts) for path in CODE.rglob("*.py"))
    env._viewcode_modules = {name: False for name in modules if not name.startswith("lib.figures.")}


def show_files(app, doctree, docname):
    """Puts the files in place of the pictures that the chapters hold, and their links below the captions."""
    if app.builder.format != "html":
        return
    up = "" if app.builder.name == "singlehtml" else "../" * docname.count("/")
    for figure in doctree.findall(nodes.figure):
        caption, picture = next(figure.findall(nodes.caption), None), next(figure.findall(nodes.image), None)
        found = takeaway.command(caption.astext()) if caption and picture else None
        if found is None or found[0] not in gallery.FIGURES:
            continue
        files = takeaway.write(*found, Path(app.outdir) / FOLDER)
        picture.replace_self(nodes.raw("", shown(files, picture["alt"], up), format="html"))
        links = {"SVG": files.svg, "PNG": files.png, "CSV": files.csv}
        texts = [
            f'<a href="{up}{FOLDER}/{file.name}" download>{name}</a>' for name, file in links.items() if file
        ]
        if app.builder.name == "html":
            module, _, function = files.function.rpartition(".")
            page = app.builder.get_relative_uri(docname, f"_modules/{module.replace('.', '/')}")
            texts.append(f'<a href="{page}#{function}">source</a>')
        row = f'<p class="takeaway">{" · ".join(texts)}</p>'
        figure += nodes.legend("", nodes.raw("", row, format="html"))


def shown(files, alt, up):
    """The picture as a page shows it; a click enlarges it, or, where no scripts run, opens its file."""
    width, height = files.size
    wide, narrow = (f"{up}{FOLDER}/{file.name}" for file in (files.svg, files.narrow))
    return (
        f'<a class="enlarge" href="{wide}"><picture><source media="{PHONE}" srcset="{narrow}">'
        f'<img src="{wide}" alt="{html.escape(alt)}" width="{width}" height="{height}"></picture></a>'
    )
