"""Figures as files for readers to take away, as the site has them below each figure."""

import re
from pathlib import Path
from typing import NamedTuple

from .. import paths, scales
from ..figures import gallery, layout, style
from ..scales import Chosen
from . import readers

#: The command that a caption ends with: the figure's name, and the options that choose its runs.
COMMAND = re.compile(
    rf"{re.escape(paths.COMMAND)} figure (?P<name>[\w-]+) --scale (?P<scale>\w+)(?P<changes>( --set [^\s)`]+)*)"
)


class Files(NamedTuple):
    """The files of a figure: wide and narrow as SVG, a PNG, its numbers if it has any; and what function drew it."""

    svg: Path
    narrow: Path
    png: Path
    csv: Path | None
    function: str | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the wide SVG, in pixels of a page."""
        found = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', self.svg.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError(
                f"{self.svg}: the size of the figure is not in the file; matplotlib writes it in points"
            )
        return round(float(found[1]) * 4 / 3), round(float(found[2]) * 4 / 3)


def command(caption: str) -> tuple[str, Chosen] | None:
    """The figure and the runs that the command in a caption names, or None where it has no such command."""
    found = COMMAND.search(" ".join(caption.split()))
    if found is None:
        return None
    changes = (change.partition("=") for change in found["changes"].replace(" --set ", " ").split())
    return found["name"], scales.chosen(found["scale"], **{name: value for name, _, value in changes})


def commands(chapter: Path) -> list[tuple[str, Chosen]]:
    """The figures of a chapter, and their runs, that the commands in its captions name."""
    captions = [str(text) for name, text in readers.glued(chapter).items() if name.startswith("source-")]
    return [found for found in map(command, captions) if found is not None]


def write(name: str, chosen: Chosen, folder: Path) -> Files:
    """Draws a figure, for a screen and for a phone, and writes all its files; raises what `gallery.picture` raises."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = gallery.picture(name, chosen)
    wide = drawn.draw()
    with layout.narrow():
        narrow = drawn.draw()
    svg, png, csv = (folder / f"{name}{suffix}" for suffix in (".svg", ".png", ".csv"))
    slim = folder / f"{name}-narrow.svg"
    contents = [*style.files(wide, "svg", "png"), *style.files(narrow, "svg")]
    for path, content in zip((svg, png, slim), contents, strict=True):
        path.write_bytes(content)
    if drawn.numbers.empty:
        return Files(svg, slim, png, None, wide.get_gid())
    csv.write_bytes(gallery.table(drawn))
    return Files(svg, slim, png, csv, wide.get_gid())
