"""The built site: what its pages say, where their links lead, and how a browser shows them.

``$SITE`` names the html folder of a build; without it, the site is built first.
"""

import re
from copy import copy
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import watched
from bs4 import BeautifulSoup
from conftest import SITE, needs_site
from sphinx_external_toc.parsing import parse_toc_yaml

from lib import paths
from lib.results import tries
from lib.site import pdf, sheet

MEGABYTE = 1_000_000
#: What a template or a missing number leaves behind, in the text of a page.
BROKEN = re.compile(
    r"\{(glue|numref|ref|cite|eq|doc)[:}]|\?\?|\$\\[a-z]|Alias for field|Unknown (directive|role|interpreted)|\d\.\d{7,}"
)
#: What is no number, where a number is glued or stands in a table.
NO_NUMBER = re.compile(r"^\W*(nan|inf|none|null|undefined)\W*$", re.IGNORECASE)
#: Elements that make a browser load something, with the attribute that says what.
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
#: Kinds of link elements that load nothing.
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author", "license", "alternate"}

PAGES = [SITE / f"{page}.html" for page in parse_toc_yaml(paths.ROOT / "_toc.yml")]


def pages(test):
    """A test of each page."""
    return needs_site(pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)(test))


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def targets(path: Path) -> set[str]:
    """What a link to a place on this page can name."""
    return {e[key] for key in ("id", "name") for e in soup(path).find_all(attrs={key: True})}


def prose(path: Path) -> BeautifulSoup:
    """The page's own article, without code, signatures, scripts and data."""
    article = copy(soup(path).find("article"))
    for element in article.select("pre, code, script, style, svg, .sig"):
        element.decompose()
    return article


def is_outside(address: str) -> bool:
    return address.startswith("//") or urlsplit(address.strip()).scheme in (
        "http",
        "https",
        "ftp",
        "ws",
        "wss",
    )


@pages
def test_no_number_is_missing_and_no_markup_is_left_over(path):
    article = prose(path)
    found = [match[0] for match in BROKEN.finditer(article.get_text(" "))]
    glued = [e.get_text().strip() for e in article.select(".pasted-text, .pasted-inline, td")]
    empty = [e for e in article.select(".pasted-text, .pasted-inline") if not e.get_text().strip()]
    found += [text for text in glued if NO_NUMBER.match(text)]
    errors = soup(path).select(".system-message, .problematic")
    assert not (found or empty or errors)


@needs_site
def test_a_number_and_its_percent_sign_stay_on_one_line():
    text = (SITE / "book" / "index.html").read_text(encoding="utf-8")
    article = re.search(r"<article.*</article>", text, re.DOTALL)
    assert article and "&#160;%" in article[0] and not re.search(r"\d(</span>)? %", article[0])
    assert re.search(r'<span class="one-line"><span class="math[^>]*>[^<]*</span>,</span>', article[0])


@pages
def test_every_link_leads_somewhere(path):
    dead = []
    for link in soup(path).find_all("a", href=True):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        target = (path.parent / unquote(address.path)).resolve() if address.path else path
        named = unquote(address.fragment)
        if not target.is_file() or (named and target.suffix == ".html" and named not in targets(target)):
            dead.append(link["href"])
    # an empty fragment is the top of the page
    assert not dead


@pages
def test_every_picture_is_told_in_words(path):
    images = soup(path).find("article").find_all("img")
    untold = [
        i["src"] for i in images if not re.search(r"\w+ \w+", i.get("alt", "")) or re.search("[/{]", i["alt"])
    ]
    # what is black by day is white by night
    assert not untold and not [i["alt"] for i in images if re.search("black|white", i["alt"])]


@pages
def test_every_table_says_what_it_is_about_and_what_its_headings_are_for(path):
    for table in soup(path).find("article").find_all("table"):
        assert table.caption and table.caption.get_text().strip()
        headings = table.find_all("th")
        assert headings and all(
            th["scope"] == ("col" if th.find_parent("thead") else "row") for th in headings
        )
        for rows in pairwise(table.select("thead tr")):  # names of the index stand in the row of the columns
            empty = [[not th.get_text().strip() for th in row.find_all("th")] for row in rows]
            assert len(empty[0]) != len(empty[1]) or not all(map(any, zip(*empty, strict=True)))
        if "cards" in table["class"]:
            columns = [th.get_text().strip() for th in table.thead.tr.find_all("th")]
            for row in table.tbody.find_all("tr"):
                assert [cell["data-label"] for cell in row.find_all(["th", "td"])] == columns


@needs_site
def test_the_claims_are_cards_on_a_phone():
    tables = {path: soup(path).select("table.cards") for path in PAGES}
    assert (
        sum(map(len, tables.values())) >= 7
    )  # one in each chapter with claims, and all on a page of their own


@pages
def test_a_page_is_described(path):
    (description,) = soup(path).find_all("meta", attrs={"name": "description"})
    text = description["content"]
    assert 40 < len(text) <= 202 and not re.search(r"[\\{}$]", text)


@pages
def test_a_page_has_one_heading_of_its_own(path):
    headings = soup(path).find("article").find_all("h1")
    assert len(headings) == 1
    assert soup(path).title.get_text().startswith(headings[0].find(string=True).strip())


@pages
def test_a_page_loads_nothing_from_outside_and_is_small(path):
    html = soup(path)
    loads = [
        e[attribute]
        for tag, attribute in LOADING.items()
        for e in html.find_all(tag, attrs={attribute: True})
        if not NOT_LOADED & set(e.get("rel", []))
    ]
    styles = [str(e) for e in html.find_all("style")] + [e["style"] for e in html.find_all(style=True)]
    assert not [address for address in loads + css_addresses("\n".join(styles)) if is_outside(address)]
    text = re.sub(r"data:image/[^\"')]+", "", path.read_text(encoding="utf-8"))
    assert len(text.encode()) < MEGABYTE


@pages
def test_a_page_names_no_folder_of_the_machine_that_built_it(path):
    assert str(paths.ROOT) not in path.read_text(encoding="utf-8")


def css_addresses(css: str) -> list[str]:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", css)
    return ["".join(pair) for pair in found]


@needs_site
def test_no_stylesheet_loads_from_outside():
    sheets = list(SITE.rglob("*.css"))
    assert sheets
    addresses = {(s.name, a) for s in sheets for a in css_addresses(s.read_text(encoding="utf-8"))}
    assert not [pair for pair in addresses if is_outside(pair[1])]


@needs_site
def test_the_whole_site_is_small():
    assert sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file()) < 18 * MEGABYTE


# In a browser


#: Sizes of the window, in pixels.
PHONE, LAPTOP = {"width": 400, "height": 800}, {"width": 1366, "height": 768}
#: Which way what is wider than its place can be moved, and which it is said to, by the order on the page.
MOVES = """() => [...document.querySelectorAll("article *")]
  .filter((e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1)
  .map((e) => [e.classList.contains("more-before"), e.classList.contains("more-after")])"""
MOVE = """() => document.querySelectorAll(".more-after").forEach((e) => { e.scrollLeft = e.scrollWidth; })"""
#: How far an equation begins before the place that it stands in, wherever it has been moved to.
BEFORE = """() => [...document.querySelectorAll("article div.math")].map((e) =>
  e.getBoundingClientRect().left - e.scrollLeft - e.querySelector("mjx-math").getBoundingClientRect().left)"""
#: How far below the top of the page each bar of code begins, and how many blocks of code are wider than their place.
CODE = """() => [
  [...document.querySelectorAll("article :is(.cell_input, details.hide)")].map((e) => e.getBoundingClientRect())
    .filter(({ height }) => height).map(({ top }) => top + scrollY),
  [...document.querySelectorAll("article .cell_input pre")].filter((e) => e.scrollWidth > e.clientWidth + 1).length,
]"""
#: What has to stand out, and by which colour.
CHART_LINES = (".interactive svg :is(.line, .dots):not(.grid, .circle, .trail)", "stroke")
CODE_WORDS = ("article pre span", "color")
#: The contrast of elements with what they stand on, by class, text and colour, which is that of a line or of
#: letters. A canvas lays a colour that lets some of its ground through on that, in whatever way it is written.
CONTRASTS = """([selector, property]) => {
  const size = { width: 1, height: 1 };
  const canvas = Object.assign(document.createElement("canvas"), size).getContext("2d", { willReadFrequently: true });
  const channel = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => (e ? [...ground(e.parentElement), getComputedStyle(e).backgroundColor] : ["white"]);
  const found = {};
  for (const element of document.querySelectorAll(selector)) {
    if (property === "color" && !element.textContent.trim()) continue;
    const colour = getComputedStyle(element)[property];
    const [a, b] = [luminance([...ground(element), colour]), luminance(ground(element))];
    const name = [element.getAttribute("class"), element.textContent, colour].join(" ");
    found[name] = Math.min(found[name] ?? Infinity, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return found;
}"""


#: The colours in which the page's text stands: its own, its ground's, that of the text around, how faded it is,
#: whether it is a link, what line it has, and whether it is large (WCAG 2.2). Marks a text of each that is not among those known.
COLOURS = """(known) => {
  const ancestors = (e) => (e ? [getComputedStyle(e), ...ancestors(e.parentElement)] : []);
  document.querySelectorAll("[data-new-colours]").forEach((e) => delete e.dataset.newColours);
  const texts = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  const found = new Set(known);
  while (texts.nextNode()) {
    if (!texts.currentNode.data.trim()) continue;
    const element = texts.currentNode.parentElement;
    const styles = ancestors(element);
    const ground = styles.find((s) => !/^rgba.* 0\\)$/.test(s.backgroundColor));
    const [{ color, fontSize, fontWeight, textDecorationLine }, around] = styles;
    const large = parseFloat(fontSize) >= (fontWeight >= 700 ? 18.66 : 24);
    const opacity = styles.reduce((product, s) => product * s.opacity, 1);
    const link = Boolean(element.closest("a"));
    const colours = [color, ground?.backgroundColor, around.color, opacity, link, textDecorationLine, large].join();
    if (!found.has(colours)) element.dataset.newColours = "";
    found.add(colours);
  }
  return [...found];
}"""
#: A formula and a block of code as mere text: the many elements in them are MathJax's and Pygments' own.
PLAIN = """() => document.querySelectorAll("article :is(pre, mjx-container)").forEach((e) => e.replaceChildren(e.textContent))"""
#: The rules of axe that look at colours, which takes them seconds for a whole page.
OF_COLOURS = ("color-contrast", "link-in-text-block")


def visit(page, name, width=1200, height=900, scheme="light"):
    """Opens a page of the site, and waits until its equations are set."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    page.goto((SITE / "book" / f"{name}.html").as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise")


def barriers(page, where="article", **options) -> set[tuple[str, str, str]]:
    """What axe finds serious in a part of the article; the rest of the page is the theme's."""
    context = {"include": [[where]], "exclude": [[".citation-list"]]}  # its role is docutils' own
    found = Axe().run(page, context=context, options={"resultTypes": ["violations"]} | options)
    return {
        (violation["id"], node["target"][0], node["failureSummary"])
        for violation in found.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    }


class Opened(NamedTuple):
    name: str
    wrong: list[str]


@pytest.fixture(scope="module", params=PAGES, ids=lambda path: path.stem)
def opened(request, site, tab) -> Opened:
    """A page in the tab, and what went wrong as it opened. Setting its equations takes long, so that all that is
    looked at in it is looked at in this one visit: each test sets the window and the colours that it needs."""
    tab.goto("about:blank")  # what the page before was still loading is not this one's
    opened = Opened(request.param.stem, watched(tab))
    visit(tab, opened.name, **PHONE)
    return opened


def show_in(tab, scheme):
    tab.emulate_media(color_scheme=scheme)
    tab.wait_for_selector(f"html[data-theme={scheme}]")


def test_a_browser_shows_the_page(tab, opened):
    tab.set_viewport_size(PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not tab.locator("mjx-container[tabindex]").count()  # a formula is no stop of the tab key
    # an aligned display is one container; each element of the source has one at least
    unset = tab.locator("article .math:not(:has(mjx-container))").all_text_contents()
    assert not opened.wrong + unset + tab.locator("mjx-merror").all_text_contents()


def test_what_is_wider_than_a_phone_fades_where_there_is_more(tab, opened):
    tab.set_viewport_size(PHONE)
    tab.wait_for_function(f"() => ({MOVES})().every(([before, after]) => !before && after)")
    tab.evaluate(MOVE)
    tab.wait_for_function(f"() => ({MOVES})().every(([before, after]) => before && !after)")
    assert tab.evaluate(MOVES) or opened.name not in ("own-network", "cost", "summary")


def test_a_long_equation_begins_at_its_beginning(tab, opened):
    tab.set_viewport_size(PHONE)
    before = tab.evaluate(BEFORE)
    assert max(before, default=0) < 1  # what lies before the left end cannot be reached
    assert len(before) > 10 or opened.name != "derivations"


def test_no_bar_of_code_is_on_the_first_screen_and_no_line_of_it_runs_out_of_the_page(tab, opened):
    tab.set_viewport_size(LAPTOP)
    tops, wide = tab.evaluate(CODE)
    assert wide == 0 and (min(tops, default=1000) >= LAPTOP["height"] or opened.name not in tries.TRIES)


@pytest.mark.parametrize("opened", [path for path in PAGES if path.stem == "explorer"], indirect=True)
def test_the_explorer_follows_its_sliders(tab, opened):
    curve = tab.locator("svg .equation").first
    curve.wait_for(state="attached")
    before = curve.get_attribute("d")
    tab.locator("input[name=weightDecay]").press("ArrowLeft")
    tab.wait_for_function(
        "(d) => document.querySelector('svg .equation').getAttribute('d') !== d", arg=before
    )


@pytest.fixture(scope="module")
def looked_at() -> set[str]:
    """The `COLOURS` whose contrast was looked at on a page before."""
    return set()


def test_lines_of_charts_and_words_stand_out_by_day_and_by_night(tab, opened, looked_at):
    tab.set_viewport_size(LAPTOP)
    # of the package's entries, hundreds of the same form, the first ones will do: from here on they are gone
    tab.evaluate("[...document.querySelectorAll('dl.py')].slice(5).forEach((entry) => entry.remove())")
    if tab.locator(".interactive").count():
        tab.wait_for_selector(".interactive svg .line", state="attached")
    for scheme in ("light", "dark"):  # each once: to change it takes time
        show_in(tab, scheme)
        lines, words = (tab.evaluate(CONTRASTS, what) for what in (CHART_LINES, CODE_WORDS))
        assert not {line: contrast for line, contrast in lines.items() if contrast < 3}  # WCAG 2.2, 1.4.11
        assert not {word: contrast for word, contrast in words.items() if contrast < 4.5}  # and 1.4.3
        assert len(lines) > 2 or opened.name not in ("index", "explorer", "learning-rates")
        assert len(words) > 5 or opened.name not in ("index", "own-network", "status")
        colours = set(tab.evaluate(COLOURS, [*looked_at]))
        if colours - looked_at:
            assert not barriers(tab, "[data-new-colours]", runOnly=[*OF_COLOURS])
        looked_at |= colours


def test_all_can_read_the_page(tab, opened):
    tab.set_viewport_size(LAPTOP)
    tab.evaluate(PLAIN)  # half of axe's time
    assert not barriers(tab, rules={rule: {"enabled": False} for rule in OF_COLOURS})


@pytest.fixture(scope="module")
def served():
    """The address of the site on a server: the search fetches pages, which it cannot from a disk."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_site
@pytest.mark.parametrize("words", ["cosine similarity", "AdamW", "learning rate", "rotation"])
def test_the_search_finds_chapters_before_the_package_and_tells_no_tex(tab, served, words):
    tab.goto(f"{served}/search.html?q={words.replace(' ', '+')}")
    tab.wait_for_function(
        "() => /found|did not match/.test(document.querySelector('.search-summary')?.innerText)"
    )
    tab.wait_for_load_state("networkidle")
    results = tab.locator("ul.search > li")
    of_package = ["book/api" in link.get_attribute("href") for link in results.locator("a:first-child").all()]
    assert of_package and not of_package[0] and of_package == sorted(of_package)
    snippets = tab.locator("ul.search p.context").all_inner_texts()
    assert snippets and not [text for text in snippets if re.search(r"\\[a-zA-Z(\[]", text)]


@needs_site
def test_the_summary_goes_on_one_sheet_of_paper(tmp_path, monkeypatch):
    try:
        pdf.find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    content = sheet.build(SITE).read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 1
    # A4 in points, and the font of λ: the formulas are set
    assert re.search(rb"/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]", content)
    assert b"MathJax_Math-Italic" in content


def test_a_summary_that_is_not_built_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"summary\.html is not there to be printed; `python -m lib book` builds it"
    ):
        sheet.build(tmp_path)
