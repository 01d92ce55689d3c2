"""Tables that can be read without seeing them: what a heading is for, and what the table is about.

A cell that shows a table says what it is about in its metadata, as ``{"table": {"caption": "…"}}``; any
other table is called as its section. With ``"cards": true`` each row is a card on a phone, where a
row of sentences is wider than the screen.
"""

import html
import re

from docutils import nodes

TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
#: The roles of the parts, which browsers forget when a table is laid out otherwise.
ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "td": "cell"}


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("doctree-read", read_captions)
    app.connect("html-page-context", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_captions(app, doctree):
    """Writes what cells say about their tables into these."""
    for cell in doctree.findall(
        lambda node: node.get("nb_element") == "cell_code" if isinstance(node, nodes.Element) else False
    ):
        about = cell["cell_metadata"].get("table")
        if not about:
            continue
        for raw in [raw for raw in cell.findall(nodes.raw) if "<table" in raw.astext()]:
            text = TABLE.sub(lambda match, about=about: captioned(match[0], **about), raw.astext())
            raw.replace_self(nodes.raw("", text, format="html", classes=raw["classes"]))


def captioned(table, caption, cards=False):
    """A table with a caption; one of cards has the heading of its column beside every cell."""
    opening, rest = re.match(r"(<table\b[^>]*>)(.*)", table, re.DOTALL).groups()
    if cards:
        rest = as_cards(rest)
        opening = opening.replace('class="', 'role="table" class="cards ')
    return f"{opening}<caption>{html.escape(caption)}</caption>{rest}"


def as_cards(rows):
    """Rows whose cells say what column they are of."""
    head, body = rows.split("</thead>")
    labels = [re.sub("<.*?>", "", label).strip() for label in re.findall(r"<th\b.*?</th>", head, re.DOTALL)]

    def labelled(row):
        of_columns = iter(labels)
        return re.sub(
            r"<(th|td)\b",
            lambda cell: f'<{cell[1]} data-label="{html.escape(next(of_columns), quote=True)}"',
            row[0],
        )

    body = re.sub(r"<tr\b.*?</tr>", labelled, body, flags=re.DOTALL)
    rows = head + "</thead>" + body
    return re.sub(r"<(thead|tbody|tr|td)\b", lambda part: f'<{part[1]} role="{ROLES[part[1]]}"', rows)


def complete(app, pagename, templatename, context, doctree):
    """Gives headings of all tables of a page their scope, and tables without a caption that of their section."""
    if "body" not in context:
        return
    section = ""

    def completed(match):
        nonlocal section
        if match["heading"]:
            section = re.sub(r"<a\b.*", "", match["heading"])
            return match[0]
        table = match[0]
        if "<caption" not in table:
            table = re.sub(
                r"<table\b[^>]*>", rf"\g<0><caption class='unseen'>{section}</caption>", table, count=1
            )
        table = re.sub(r"<(th|td)>(?=[^<]{25,}<)", r'<\1 class="long">', table)
        head, end, body = table.partition("</thead>")
        return scoped(joined(head), "col") + end + scoped(body, "row")

    parts = rf"<h[1-4]>(?P<heading>.*?)</h[1-4]>|{TABLE.pattern}"
    context["body"] = re.sub(parts, completed, context["body"], flags=re.DOTALL)


def joined(head):
    """Headings with the names of the index in the row of the columns, where pandas gives them a row of their own."""
    *_, above, below = ["", "", *re.findall(r"<tr\b.*?</tr>", head, re.DOTALL)]
    pairs = list(zip(*(re.findall(r"<th\b.*?</th>", row, re.DOTALL) for row in (above, below)), strict=False))
    empty = [[not re.sub("<.*?>", "", cell) for cell in pair] for pair in pairs]
    if not pairs or above.count("<th") != below.count("<th") or not all(map(any, empty)):
        return head
    one = "".join(
        lower if is_empty else upper for (upper, lower), (is_empty, _) in zip(pairs, empty, strict=True)
    )
    return head.replace(above, f"<tr>{one}</tr>").replace(below, "")


def scoped(part, scope):
    """Part of a table whose headings say what they are headings of."""
    role = {"col": "columnheader", "row": "rowheader"}[scope]
    return re.sub(r"<th\b(?! scope)", f'<th scope="{scope}" role="{role}"', part)
