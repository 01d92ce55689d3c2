"""What must not be torn apart at the end of a line, a formula and its comma, a number and its percent sign.

And of what is pasted from the records, only numbers are bold: whole sentences would outweigh the text.
"""

import re

FORMULA = re.compile(r'(<span class="math notranslate nohighlight"[^>]*>[^<]*</span>)((?:[.,;:?!)]|’s)+)')
#: A number, which may be set off by a tag, and its percent sign; and one with a power of ten.
PERCENT, POWER = re.compile(r"(?<=[\d>]) (?=%(?!\w))"), re.compile(r"(?<=\d) × (?=10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹])")
#: What is pasted and longer than a number with its range, or has none.
SENTENCE = re.compile(r'<span class="pasted-text">(?=[^<]{18,}<|[^<\d]*<)')


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("html-page-context", join, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def join(app, pagename, templatename, context, doctree):
    """Keeps them together in the text of a page; code is left as it is."""
    if "body" in context:
        parts = re.split(r"(<pre\b.*?</pre>|<script\b.*?</script>)", context["body"], flags=re.DOTALL)
        parts[::2] = map(joined, parts[::2])
        context["body"] = "".join(parts)


def joined(text):
    """A stretch of HTML with the signs that no line may end before."""
    text = FORMULA.sub(r'<span class="one-line">\1\2</span>', text)
    text = POWER.sub("&#160;×&#160;", PERCENT.sub("&#160;", text))
    return SENTENCE.sub('<span class="pasted-text sentence">', text)
