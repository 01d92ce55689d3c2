"""What leads from a page to the outside, once the book has an address; until then nothing points nowhere.

The one place for it is ``repository_url`` in ``_config.yml``. The site is taken to be published as GitHub
does it: from the branch `PAGES`, which holds the finished pages.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from matplotlib.figure import Figure
from plain_math import plain
from sphinx.errors import ConfigError

from lib.figures import diagrams

ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)")
#: The branch in which Colab finds the readers' copies, and the folder in which Binder's `postBuild` puts them.
PAGES, COPIES = "gh-pages", "copies"
#: The picture that is shown where a page is linked, with its size in pixels.
PICTURE, WIDTH, HEIGHT = "_static/social.png", 1200, 630
#: About how many letters a page is described in.
LENGTH = 200


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("config-inited", read_address)
    app.connect("html-page-context", add_launch_buttons, priority=502)  # beside the theme's own buttons
    app.connect("html-page-context", describe)
    app.connect("build-finished", draw_picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_address(app, config):
    """Sets where the pages are, or takes all buttons that lead outside from the theme's options."""
    options = config.html_theme_options
    address = options.get("repository_url")
    if not address:
        # with an empty address the theme fails on these buttons instead of leaving them out
        for name in ("use_repository_button", "use_source_button", "use_issues_button"):
            options.pop(name, None)
    elif match := ADDRESS.fullmatch(address):
        config.html_baseurl = f"https://{match[1].lower()}.github.io/{match[2]}/"
    else:
        raise ConfigError(
            f"repository_url={address!r} is not allowed; it must be empty, or like https://github.com/NAME/REPOSITORY"
        )


def add_launch_buttons(app, pagename, templatename, context, doctree):
    """Lets Colab and Binder open the reader's copy of a chapter, which has its numbers and runs there."""
    options = app.config.html_theme_options
    if not options.get("repository_url") or context.get("page_source_suffix") != ".ipynb":
        return
    repository = "/".join(ADDRESS.fullmatch(options["repository_url"]).groups())
    copy = f"{COPIES}/{Path(pagename).name}.ipynb"
    places = {
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/{PAGES}/_sources/{pagename}.ipynb",
        "Binder": f"https://mybinder.org/v2/gh/{repository}/{options['repository_branch']}?urlpath=lab/tree/{copy}",
    }
    buttons = [
        {"type": "link", "text": name, "tooltip": f"Open in {name}", "url": url, "icon": "fas fa-rocket"}
        for name, url in places.items()
    ]
    group = {
        "type": "group",
        "tooltip": "Run this chapter",
        "icon": "fas fa-rocket",
        "label": "launch-buttons",
    }
    context["header_buttons"].append(group | {"buttons": buttons})


def describe(app, pagename, templatename, context, doctree):
    """Describes a page to search engines, and with an address to whoever links to it."""
    if doctree is None:
        return
    tags = {"description": summary(doctree)}
    if base := app.config.html_baseurl:
        tags |= {
            "og:type": "article",
            "og:site_name": app.config.html_title,
            "og:title": app.env.titles[pagename].astext(),
        }
        tags |= {"og:description": tags["description"], "og:url": base + app.builder.get_target_uri(pagename)}
        tags |= {"og:image": base + PICTURE, "og:image:width": WIDTH, "og:image:height": HEIGHT}
        tags |= {"og:image:alt": "Weights, and a step of the gradient at a right angle to them"}
        tags |= {"twitter:card": "summary_large_image"}
    for name, content in tags.items():
        key = "property" if name.startswith("og:") else "name"
        context["metatags"] += f'<meta {key}="{name}" content="{html.escape(str(content))}" />\n'


def summary(doctree):
    """The first sentences of a page, as many as fit."""
    paragraphs = (
        node for node in doctree.findall(nodes.paragraph) if not isinstance(node.parent, nodes.list_item)
    )
    first = next(paragraphs, nodes.paragraph()).deepcopy()
    for formula in list(first.findall(nodes.math)):
        formula.replace_self(nodes.Text(plain(formula.astext())))
    text = " ".join(first.astext().split())
    if len(text) <= LENGTH:
        return text
    sentences = text[:LENGTH].rpartition(". ")[0]
    return f"{sentences}." if sentences else text[:LENGTH].rpartition(" ")[0] + " …"


def draw_picture(app, exception):
    """Draws the picture into a finished site that has an address."""
    if exception or app.builder.format != "html" or not app.config.html_baseurl:
        return
    figure: Figure = diagrams.vectors()
    figure.set_size_inches(WIDTH / 100, HEIGHT / 100)
    figure.suptitle(app.config.html_theme_options["logo"]["text"], fontsize=30)
    figure.savefig(Path(app.outdir) / PICTURE, dpi=100)
