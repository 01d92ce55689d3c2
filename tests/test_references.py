"""The bibliography: what is cited is there, what is there is cited, and each entry can be found."""

import json
import re
from collections import Counter

import pytest
from pybtex.database import parse_file

from lib import paths

ENTRIES = parse_file(paths.BOOK / "references.bib").entries
#: One of these says where a text was published.
VENUES = {"booktitle", "journal", "institution", "howpublished", "eprint"}
#: One of these leads to the text.
ADDRESSES = {"eprint", "doi", "url"}
#: A report of its university, which gave it neither number nor address that lasts.
WITHOUT_ADDRESS = {"krizhevsky2009"}


def prose(path) -> str:
    """The text of a page, without the code of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


def cited() -> dict[str, str]:
    """Each key that a page cites, and one page that does."""
    pages = [*paths.BOOK.glob("*.md"), *paths.BOOK.glob("*.ipynb")]
    return {
        key.strip(): page.name
        for page in pages
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose(page))
        for key in keys.split(",")
    }


def test_every_citation_has_an_entry():
    missing = {key: page for key, page in cited().items() if key not in ENTRIES}
    assert not missing, f"cited, but not in references.bib: {missing}"


def test_every_entry_is_cited():
    unused = set(ENTRIES) - set(cited())
    assert not unused, f"in references.bib, but cited on no page: {sorted(unused)}"


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_says_who_what_when_and_where(key):
    entry = ENTRIES[key]
    assert entry.persons["author"] and entry.fields["title"]
    assert VENUES & set(entry.fields), f"{key} names no venue"
    assert ADDRESSES & set(entry.fields) or key in WITHOUT_ADDRESS, f"{key} has no eprint, doi or url"
    # the key is what an author types: the first author's name and the year
    surname = "".join(entry.persons["author"][0].prelast_names + entry.persons["author"][0].last_names)
    assert re.fullmatch(surname.lower() + entry.fields["year"] + "[a-z]*", key)


@pytest.mark.parametrize("key", [k for k, entry in ENTRIES.items() if "eprint" in entry.fields])
def test_an_arxiv_number_is_of_the_year_of_the_paper_or_before(key):
    fields = ENTRIES[key].fields
    number = re.fullmatch(r"(\d\d)(0[1-9]|1[0-2])\.\d{4,5}", fields["eprint"])
    assert number and fields["archiveprefix"] == "arXiv"
    years_in_review = int(fields["year"]) - 2000 - int(number[1])
    # a paper that was never published is of its preprint's year
    assert 0 <= years_in_review <= (0 if ENTRIES[key].type == "misc" else 2)


def test_no_paper_is_listed_twice():
    titles = Counter(
        entry.fields["title"].lower().translate(str.maketrans("", "", "{}")) for entry in ENTRIES.values()
    )
    numbers = Counter(entry.fields["eprint"] for entry in ENTRIES.values() if "eprint" in entry.fields)
    assert not [what for what, n in (titles + numbers).items() if n > 1]
