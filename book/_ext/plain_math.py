"""Formulas as plain text, λ|g|/|w| for example, where none can be set: in results of the search and in descriptions.

Each formula of a page carries it as ``data-plain``, from which ``search.js`` takes it.
"""

import html
import re
import unicodedata

#: What TeX calls by a name of its own.
NAMES = {
    "cdot": "·",
    "approx": "≈",
    "infty": "∞",
    "propto": "∝",
    "neq": "≠",
    "pm": "±",
    "sum": "∑",
    "int": "∫",
}
NAMES |= {
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "times": "×",
    "to": "→",
    "leftarrow": "←",
    "prod": "∏",
}
NAMES |= {
    "mid": "|",
    "ll": "≪",
    "gg": "≫",
    "sim": "∼",
    "varepsilon": "ε",
    "dots": "…",
    "ldots": "…",
    "in": "∈",
}
NAMES |= dict.fromkeys(
    ["left", "right", "big", "bigl", "bigr", "Bigl", "Bigr", "quad", "qquad", "displaystyle"], ""
)
BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"
#: What a macro takes: something in braces, or the next character or macro.
ARGUMENT = rf"\s*({BRACES}|\\[a-zA-Z]+|\w)"
MATH = re.compile(r'<(span|div) class="math notranslate nohighlight"( id="[^"]*")?>(.*?)</\1>', re.DOTALL)


def setup(app):
    """Registers the extension with Sphinx."""
    app.connect("html-page-context", tell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def tell(app, pagename, templatename, context, doctree):
    """Gives each formula of a page its plain text."""

    def told(match):
        tag, name, tex = match[1], match[2] or "", html.unescape(match[3])
        text = html.escape(plain(re.sub(r"^\s*\\[(\[]|\\[)\]]\s*$", "", re.sub("<.*?>", "", tex))))
        return f'<{tag} class="math notranslate nohighlight"{name} data-plain="{text}">{match[3]}</{tag}>'

    if "body" in context:
        context["body"] = MATH.sub(told, context["body"])


def plain(tex):
    """TeX as a reader would write it in a line of text."""
    text = re.sub(r"\\(tag|label)" + ARGUMENT, "", tex)
    text = re.sub(r"\\(begin|end)\{\w+\*?\}|&|\\[,;:! ]|\\\\|~", " ", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|operatorname)" + ARGUMENT, lambda match: inside(match[1]), text)
    text = re.sub(r"\\tilde" + ARGUMENT, lambda match: inside(match[1]) + "\u0303", text)
    for _ in range(3):  # as deep as they are nested
        text = re.sub(
            r"\\[td]?frac" + ARGUMENT + ARGUMENT, lambda match: "/".join(map(factor, match.groups())), text
        )
        text = re.sub(r"\\sqrt" + ARGUMENT, lambda match: f"√{root(match[1])}", text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda match: character(match[1]), text)
    for power, sign in {"^2": "²", "^3": "³", "^4": "⁴", "_0": "₀", "_1": "₁"}.items():
        text = text.replace(power, sign)
    return " ".join(re.sub(r"[\\{}$]", "", text).split())


def inside(argument):
    """An argument without its braces."""
    return argument[1:-1] if argument.startswith("{") else argument


def factor(argument):
    """An argument that something is multiplied or divided by: in brackets, if it is more than a product."""
    text = inside(argument)
    return text if re.fullmatch(r"[\\\w|]+", text) else f"({text})"


def root(argument):
    """An argument that a root is taken of: in brackets, if it is more than one thing."""
    text = inside(argument)
    return text if re.fullmatch(r"\\?[a-zA-Z]+|\d", text) else f"({text})"


def character(name):
    """What a macro stands for; its name, as of log, where it is no Greek letter and none of `NAMES`."""
    if name in NAMES:
        return NAMES[name]
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    letter = {"lambda": "lamda"}.get(name.lower(), name)  # as Unicode spells it
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {letter}")
    except KeyError:
        return name
