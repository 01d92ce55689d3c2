import io
import re

import numpy as np
import pandas as pd
import pytest
from conftest import SITE, needs_site
from PIL import Image
from test_site import show_in, soup, visit

from lib import data, paths, scales
from lib.figures import examples, gallery, layout, vector
from lib.questions import QUESTIONS
from lib.site import book, takeaway


def pages_with_figures() -> dict[str, tuple]:
    """Each figure that the site shows with its files: its page, its element, and the command in its caption."""
    found = {}
    for page in sorted((SITE / "book").glob("*.html")):
        for figure in soup(page).select("figure:has(.takeaway)"):
            if command := takeaway.command(figure.figcaption.get_text()):
                name, chosen = command
                found[name] = page, figure, chosen
    return found


@pytest.mark.parametrize(
    "options, changes",
    [("--scale demo", {}), ("--scale demo --set lr=0.2 --set momentum=0.5", {"lr": 0.2, "momentum": 0.5})],
)
def test_the_command_in_a_caption_says_what_is_drawn(options, changes):
    caption = f"A step. (scale demo: digits; python -m lib figure momentum-step\n {options})"
    assert takeaway.command(caption) == ("momentum-step", scales.chosen("demo", **changes))
    glued = f"digits; `python -m lib figure momentum-step {options}`"  # before it is a page
    assert takeaway.command(glued) == takeaway.command(caption)
    assert takeaway.command("A figure of no command.") is None


def test_the_figures_of_the_chapters_are_known_before_their_pages_are_made():
    named = [found for chapter in book.notebooks(paths.ROOT) for found in takeaway.commands(chapter)]
    assert sorted(name for name, _ in named) == sorted(gallery.FIGURES)


def test_a_figure_has_four_files_of_one_drawing(tmp_path):
    files = takeaway.write("schedule", scales.chosen("small"), tmp_path)
    assert files.function == "lib.figures.comparisons.schedule"
    drawn = gallery.picture("schedule", "small").numbers
    pd.testing.assert_frame_equal(pd.read_csv(files.csv), drawn, rtol=1e-3, check_dtype=False)
    with Image.open(files.png) as png:
        # twice as many dots as the page has, where an inch of a page is 96 of them
        assert png.width == pytest.approx(2 * files.size[0], rel=0.2) and png.width > 1400
    assert "viewBox" in files.svg.read_text() and files.narrow.read_text() != files.svg.read_text()
    wide, narrow = (re.search(r'width="([\d.]+)pt"', path.read_text()) for path in (files.svg, files.narrow))
    assert float(narrow[1]) / float(wide[1]) == pytest.approx(layout.NARROW / layout.WIDE, rel=0.1)


def test_a_drawing_has_no_numbers_to_take(tmp_path):
    files = takeaway.write("network", scales.chosen("small"), tmp_path)
    assert files.csv is None and sorted(p.name for p in tmp_path.iterdir()) == [
        "network-narrow.svg",
        "network.png",
        "network.svg",
    ]


@pytest.mark.parametrize("dataset", examples.SOURCES)
def test_the_pixels_of_the_example_images_are_those_of_the_data(dataset, request):
    if dataset == "cifar10":
        request.getfixturevalue("cifar10_files")
    kept, made = examples.read(dataset), data.examples(dataset)
    assert list(kept) == list(made)
    for label, row in made.items():
        np.testing.assert_allclose(kept[label], row, atol=0.5 / 255 + 1e-6)
    with Image.open(examples.FOLDER / f"{dataset}.png") as picture:
        assert picture.info["Source"] == examples.SOURCES[dataset]


def test_only_data_with_a_picture_has_example_images():
    with pytest.raises(ValueError, match="dataset='mnist' is not known; it must be one of cifar10, digits"):
        examples.read("mnist")


#: All but those of questions that are not recorded, whose chapters are no pages yet.
PAGES = {chapter.stem for chapter in book.notebooks(paths.ROOT)}
SHOWN = [name for name in gallery.FIGURES if {name.removeprefix("claims-")} & {*QUESTIONS} <= PAGES]


@needs_site
def test_the_site_has_every_figure_with_its_files():
    found = pages_with_figures()
    assert sorted(found) == sorted(SHOWN)
    for name, (page, figure, _) in found.items():
        links = {a.get_text(): a["href"] for a in figure.select(".takeaway a")}
        assert set(links) - {"CSV"} == {"SVG", "PNG", "source"}
        for kind in set(links) - {"source"}:
            assert (page.parent / links[kind]).read_bytes()
        path, _, function = links["source"].partition("#")
        block = soup((page.parent / path).resolve()).find(id=function)
        assert f"def {function}" in block.get_text()
        # what is shown is what is taken
        assert figure.img["src"] == links["SVG"] == figure.select_one(".enlarge")["href"]
        assert (page.parent / figure.source["srcset"]).read_bytes() != (
            page.parent / links["SVG"]
        ).read_bytes()
        assert ("CSV" in links) == (SITE / "figures" / f"{name}.csv").exists()


@needs_site
def test_a_figure_that_a_chapter_trains_can_be_taken_as_it_is():
    for name in ("live", "own-network"):
        page = SITE / "book" / f"{name}.html"
        figures = soup(page).select("figure:has(> img)")
        assert figures
        for figure in figures:
            link = figure.select_one(".takeaway a")
            assert link["href"] == figure.img["src"] and (page.parent / link["href"]).read_bytes()
            assert link["download"] == f"{figure['id']}.{link.get_text().lower()}"


@needs_site
@pytest.mark.parametrize(
    "name", ["norms", "noise", "claims-equilibrium", "network"]
)  # a drawing, all else a table
def test_the_numbers_to_take_are_those_of_the_library(name):
    _, _, chosen = pages_with_figures()[name]
    drawn, path = gallery.picture(name, chosen), SITE / "figures" / f"{name}.csv"
    assert path.exists() == (not drawn.numbers.empty)
    if path.exists():
        indexed = drawn.numbers.index.names != [None]
        numbers = drawn.numbers.reset_index() if indexed else drawn.numbers
        taken = pd.read_csv(path)
        assert list(taken) == list(numbers) and len(taken) == len(numbers)
        for column in numbers.select_dtypes("number"):
            np.testing.assert_allclose(taken[column], numbers[column], rtol=6e-4)


@pytest.fixture(scope="module")
def opened(site, tab):
    """A page with figures, in the tab."""
    visit(tab, "equilibrium")
    return tab


@pytest.mark.parametrize("scheme, page_colour", [("light", vector.PAPER), ("dark", vector.NIGHT)])
@pytest.mark.parametrize("width", [1400, 390])
def test_a_figure_stands_on_the_page_that_its_reader_has_chosen(opened, scheme, page_colour, width):
    opened.set_viewport_size({"width": width, "height": 900})
    show_in(opened, scheme)
    picture = opened.locator("#fig-step img")
    opened.wait_for_function(
        "([img, narrow]) => img.complete && img.currentSrc.endsWith('narrow.svg') === narrow",
        arg=[picture.element_handle(), width == 390],
    )
    shot = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB"))
    wanted = np.array([int(page_colour[i : i + 2], 16) for i in (1, 3, 5)])
    assert (np.abs(shot.astype(int) - wanted).max(axis=2) <= 2).mean() > 0.5
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_a_click_enlarges_a_figure_and_another_puts_it_back(opened):
    opened.set_viewport_size({"width": 1400, "height": 900})
    show_in(opened, "dark")
    small = opened.locator("#fig-step img").bounding_box()
    opened.locator("#fig-step .enlarge").click()
    assert opened.locator("dialog.enlarged img").bounding_box()["width"] > 1.3 * small["width"]
    # it is drawn for the dark, which the theme would dim once more
    assert opened.locator("dialog.enlarged img").evaluate("img => getComputedStyle(img).filter") == "none"
    opened.keyboard.press("Escape")
    opened.locator("dialog.enlarged").wait_for(state="detached")
