"""The book: its chapters are executed whole or not at all, and its site has no warning."""

import json
import sys
import time
from hashlib import sha256
from itertools import chain
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lib import paths, scales
from lib.site import book

TOC = "format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n"
CONFIG = "title: Toy\nexclude_patterns: ['.*/**', '_build/**']\nexecute: {execute_notebooks: 'off'}\n"


def write_chapter(path: Path, *sources: str, parameters: str = 'scale = "small"\nlr = 0.5\n') -> Path:
    cells = [v4.new_markdown_cell("# A chapter"), *map(v4.new_code_cell, (parameters, *sources))]
    cells[1].metadata.tags = ["parameters", "remove-cell"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def printed(chapter: Path) -> str:
    cells = nbformat.read(chapter, 4).cells
    return "".join(
        out.text for cell in cells for out in cell.get("outputs", ()) if out.get("name") == "stdout"
    )


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file of a folder but for its builds."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and "_build" not in p.parts]
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A book of two pages."""
    for name, folder in {"ROOT": ".", "BOOK": "book", "BUILD": "_build"}.items():
        monkeypatch.setattr(paths, name, tmp_path / folder)
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# Toy\n")
    write_chapter(tmp_path / "book" / "chapter.ipynb", "print('at', scale, 'with', lr)")
    return tmp_path


def test_an_unknown_scale_is_named_before_anything_is_done(root):
    before = contents(root)
    with pytest.raises(ValueError, match="scale='tiny' is not known; it must be one of demo, small, paper"):
        book.build("tiny")
    assert contents(root) == before
    assert not paths.BUILD.exists()


def test_a_chapter_executed_twice_is_the_same_file(tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # there is progress to be taken out
    progress = "from tqdm import tqdm\nfor _ in tqdm(range(3)):\n    print('step', flush=True)"
    chapter = write_chapter(tmp_path / "chapter.ipynb", progress, "import numpy; numpy.ones(2)")
    book.execute(chapter, {})
    first = chapter.read_bytes()
    book.execute(chapter, {})
    assert chapter.read_bytes() == first
    assert printed(chapter) == "step\n" * 3
    assert "stderr" not in first.decode()
    assert list(tmp_path.iterdir()) == [chapter]


def test_a_chapter_runs_in_its_folder_by_this_interpreter(tmp_path, monkeypatch):
    decoy = tmp_path / "kernels" / "python3"
    decoy.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "another Python", "language": "python"}
    (decoy / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    chapter = write_chapter(tmp_path / "chapter.ipynb", "import os, sys; print(sys.executable, os.getcwd())")
    book.execute(chapter, {})
    assert printed(chapter).split() == [sys.executable, str(tmp_path)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('first\\nsecond')", "chapter chapter failed: ValueError: second"),
        ("import os; os._exit(1)", "chapter chapter could not be executed: Kernel died"),
    ],
)
def test_a_failing_chapter_is_named_and_left_as_it_was(root, source, message):
    write_chapter(root / "book" / "chapter.ipynb", "print('fine')", source)
    before = contents(root)
    with pytest.raises(book.BookError, match=message):
        book.build()
    assert contents(root) == before
    assert not list(root.rglob("*.html"))


def test_settings_reach_the_site_and_leave_the_tree_alone(root):
    (root / "book" / "chapters.json").write_text(
        '{"chapter": {"seconds": 0.1}}'
    )  # how long the book's own took
    before = contents(root)
    chosen = scales.chosen("demo", lr="0.25", architecture="Extra:L1+L2")
    site = book.build(chosen)
    assert contents(root) == before
    assert site == root / "_build" / "demo-lr=0.25-architecture=Extra-L1+L2" / "html" / "index.html"
    line = "Settings of your own, at scale demo: lr=0.25, architecture=Extra:L1+L2"
    pages = {name: (site.parent / "book" / name).read_text() for name in ("index.html", "chapter.html")}
    assert all(line in page for page in pages.values())
    assert "at demo with 0.25" in pages["chapter.html"]
    assert "# Parameters" not in pages["chapter.html"]  # papermill's own cell
    assert "does not depend" not in pages["chapter.html"]
    assert {p.name for p in paths.BUILD.glob("*/*")} == {"html", "source"}


def test_a_page_without_these_settings_or_without_runs_says_so(root):
    write_chapter(root / "book" / "lars.ipynb", "raise ValueError")
    (root / "_toc.yml").write_text(TOC + "- file: book/lars\n")
    site = book.build(scales.chosen("demo", weight_decay=0))  # which the toy's chapter does not declare
    pages = {name: (site.parent / "book" / name).read_text() for name in ("chapter.html", "lars.html")}
    assert "This page does not depend on the settings above." in pages["chapter.html"]
    assert "<h1>A chapter" in pages["chapter.html"]
    why = "lars has no run at scale demo with weight_decay=0.0: without weight decay the rate"
    assert why in pages["lars.html"] and why not in pages["chapter.html"]


def test_it_is_kept_how_long_each_chapter_took(root, monkeypatch):
    monkeypatch.setattr(book, "build_site", lambda *of: None)
    write_chapter(root / "book" / "chapter.ipynb", "import time; time.sleep(0.3)")
    start = time.monotonic()
    book.build()
    kept = json.loads((root / "book" / "chapters.json").read_text())
    whole = round(time.monotonic() - start, 1)  # as what is kept
    assert list(kept) == ["chapter"] and 0.3 <= kept["chapter"]["seconds"] <= whole


def test_a_warning_stops_the_site_and_keeps_the_one_before(root):
    html = root / "_build" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("before")
    (root / "book" / "index.md").write_text("# Toy\n\n{ref}`nowhere`\n")
    with pytest.raises(book.BookError, match=r"index\.md.*undefined label: 'nowhere'"):
        book.build_site(root, root / "_build")
    assert [p.relative_to(html.parent) for p in html.parent.rglob("*")] == [
        Path("html"),
        Path("html/index.html"),
    ]
    assert (html / "index.html").read_text() == "before"


def test_every_page_of_the_book_is_there():
    toc = book.parse_toc_yaml(paths.ROOT / "_toc.yml")
    missing = [page for page in toc if not any((paths.ROOT / page).parent.glob(Path(page).name + ".*"))]
    assert not missing


def test_pages_are_in_groups_and_the_status_is_executed_last():
    toc = book.parse_toc_yaml(paths.ROOT / "_toc.yml")
    groups = {group.caption: list(group.files()) for group in toc.root.subtrees}
    assert list(groups) == ["The story", "The open questions", "Play", "The evidence", "The package"]
    assert sorted([toc.root.docname, *chain(*groups.values())]) == sorted(toc)
    assert book.notebooks(paths.ROOT)[-1].stem == "status"  # it shows how long the others took


#: They show what is the same at every scale, or train on digits.
OF_NO_SCALE = ("live", "own-network", "cost", "width", "practice", "answers")


def test_committed_chapters_are_as_papermill_found_them():
    for chapter in book.notebooks(paths.ROOT):
        assert chapter.stem in OF_NO_SCALE or book.declared(chapter)["scale"] is None
        tags = [tag for cell in nbformat.read(chapter, 4).cells for tag in cell.metadata.get("tags", ())]
        assert "injected-parameters" not in tags, chapter
