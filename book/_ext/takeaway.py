"""Below each figure stand its files to take away, and the page shows the very file that is taken: its SVG.

Figures are drawn anew when the site is built, by the command in their caption: for a screen, and for a phone. That
begins as soon as the chapters are known, in processes of its own, while the pages are read. A figure of a network that
its chapter trains has the one file that the chapter holds.
"""

import html
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

from docutils import nodes

from lib import paths
from lib.figures import gallery
from lib.site import book, takeaway

FOLDER = "figures"
CODE = paths.ROOT / "lib"
#: A page that is no wider shows the figure that is drawn for phones.
PHONE = "(max-width: 576px)"


def setup(app):
    """Registers the extension with Sphinx."""
    pool = ProcessPoolExecutor(book.AT_ONCE)

    @cache  # each once, wherever it is asked for
    def drawing(name, chosen):
        return pool.submit(takeaway.write, name, chosen, Path(app.outdir) / FOLDER)

    app.connect("env-before-read-docs", keep_code_of_figures)
    app.connect("env-before-read-docs", partial(begin_to_draw, drawing))
    app.connect("doctree-resolved", partial(show_files, drawing))
    app.connect("build-finished", lambda app, exception: pool.shutdown(cancel_futures=True))
    return {"parallel_read_safe": True, "parallel_write_safe": False}


def keep_code_of_figures(app, env, docnames):
    """Lets `sphinx.ext.viewcode` make pages of the code of figures alone: those of all of it are 3 MB."""
    modules = (".".join(path.relative_to(CODE.parent).with_suffix("").parts) for path in CODE.rglob("*.py"))
    env._viewcode_modules = {name: False for name in modules if not name.startswith("lib.figures.")}


def begin_to_draw(drawing, app, env, docnames):
    """Begins with the figures that the chapters name as glued; their pages wait for them."""
    if app.builder.format != "html":
        return
    for path in map(Path, map(env.doc2path, docnames)):
        if path.suffix == ".ipynb":
            for found in takeaway.commands(path):
                drawing(*found)


def show_files(drawing, app, doctree, docname):
    """Puts the files in place of the pictures that the chapters hold, and their links below the captions."""
    if app.builder.format != "html":
        return
    up = "" if app.builder.name == "singlehtml" else "../" * docname.count("/")
    for figure in doctree.findall(nodes.figure):
        caption, picture = next(figure.findall(nodes.caption), None), next(figure.findall(nodes.image), None)
        if caption is None or picture is None:
            continue
        found = takeaway.command(caption.astext())
        if found is None or found[0] not in gallery.FIGURES:  # drawn by its chapter, in one format
            file = Path(app.builder.imagedir, app.env.images[picture["uri"]][1])
            name = "".join(figure["ids"][:1]) + file.suffix
            figure += below([link(f"{up}{file.as_posix()}", file.suffix[1:].upper(), name)])
            continue
        files = drawing(*found).result()
        picture.replace_self(nodes.raw("", shown(files, picture["alt"], up), format="html"))
        links = {"SVG": files.svg, "PNG": files.png, "CSV": files.csv}
        texts = [link(f"{up}{FOLDER}/{file.name}", name) for name, file in links.items() if file]
        if app.builder.name == "html":
            module, _, function = files.function.rpartition(".")
            page = app.builder.get_relative_uri(docname, f"_modules/{module.replace('.', '/')}")
            texts.append(f'<a href="{page}#{function}">source</a>')
        figure += below(texts)


def link(address, text, name=""):
    """A link to a file to take away, under another name where that of the file says nothing."""
    return f'<a href="{address}" download="{name}">{text}</a>'


def below(links):
    """A row of links below the caption of a figure."""
    row = f'<p class="takeaway">{" · ".join(links)}</p>'
    return nodes.legend("", nodes.raw("", row, format="html"))


def shown(files, alt, up):
    """The picture as a page shows it; a click enlarges it, or, where no scripts run, opens its file."""
    width, height = files.size
    wide, narrow = (f"{up}{FOLDER}/{file.name}" for file in (files.svg, files.narrow))
    return (
        f'<a class="enlarge" href="{wide}"><picture><source media="{PHONE}" srcset="{narrow}">'
        f'<img src="{wide}" alt="{html.escape(alt)}" width="{width}" height="{height}"></picture></a>'
    )
