"""On a phone what is wider than the page can be moved, and shows that it can; in both modes code is read."""

import re

import pytest
from conftest import SITE, needs_site
from test_site import visit

PHONE = (390, 844)
#: Which way what is wider than its place can be moved, and which it is said to, by the order on the page.
MOVES = """() => [...document.querySelectorAll("article *")]
  .filter((e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1)
  .map((e) => [e.classList.contains("more-before"), e.classList.contains("more-after")])"""
MOVE = """() => document.querySelectorAll(".more-after").forEach((e) => { e.scrollLeft = e.scrollWidth; })"""
#: How far an equation begins before the place that it stands in.
BEFORE = """() => [...document.querySelectorAll("div.math")].map(
  (e) => e.getBoundingClientRect().left - e.querySelector("mjx-math").getBoundingClientRect().left)"""
#: The least contrast of the words of code with their ground, and how many words there are.
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const channel = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (e) => {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    return (colour[3] ?? 1) === 1 ? colour : ground(e.parentElement);
  };
  const contrasts = [...document.querySelectorAll("article pre span")].filter((e) => e.innerText.trim()).map((e) => {
    const [a, b] = [luminance(numbers(getComputedStyle(e).color)), luminance(ground(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
  return [Math.min(...contrasts), contrasts.length];
}"""


@needs_site
@pytest.mark.parametrize("name", ["own-network", "cost", "summary"])
def test_what_is_wider_than_a_phone_fades_where_there_is_more(tab, name):
    visit(tab, name, *PHONE)
    tab.wait_for_selector(".more-after")
    tab.wait_for_function(f"() => ({MOVES})().every(([before, after]) => !before && after)")
    tab.evaluate(MOVE)
    tab.wait_for_function(f"() => ({MOVES})().every(([before, after]) => before && !after)")
    assert tab.evaluate(MOVES)


@needs_site
def test_a_long_equation_begins_at_its_beginning(tab):
    visit(tab, "derivations", *PHONE)
    before = tab.evaluate(BEFORE)
    assert len(before) > 10 and max(before) < 1  # what lies before the left end cannot be reached


@needs_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["own-network", "status", "index"])
def test_code_is_read_by_day_and_by_night(tab, name, scheme):
    visit(tab, name, scheme=scheme)
    least, words = tab.evaluate(CONTRAST)
    assert words > 5 and least >= 4.5  # WCAG 2.2, 1.4.3


@needs_site
def test_a_number_and_its_percent_sign_stay_on_one_line():
    text = (SITE / "book" / "index.html").read_text(encoding="utf-8")
    article = re.search(r"<article.*</article>", text, re.DOTALL)
    assert article and "&#160;%" in article[0] and not re.search(r"\d(</span>)? %", article[0])
    assert re.search(r'<span class="one-line"><span class="math[^>]*>[^<]*</span>,</span>', article[0])
