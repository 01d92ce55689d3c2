"""Leaves out the buttons that open a chapter elsewhere until the book has an address to open it from.

With an empty ``repository_url`` the theme fails on its launch buttons instead of leaving them out.
"""


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("config-inited", drop_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def drop_buttons(app, config):
    """Removes the launch buttons from the theme's options when no repository is set."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)
