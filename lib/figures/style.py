"""How every figure looks: its style, and which colour and marker stand for what.

Layers keep their colour everywhere, dark to light from input to output; the classifier, which is
not scale-invariant, is grey. Where colours could be mistaken for each other, by a colour-blind
reader or in grey, markers differ too.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import SVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from PIL import Image

from ..config import CLASSIFIER, parse_architecture
from .vector import TEXT, adaptive, readable, smaller

STYLE = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be found, and takes its colour from the page
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "lib",  # the same figure gives the same file
}
#: Dots per inch of a PNG: for slides, twice what the page shows.
PNG_DPI = 220
#: Inches that a figure is wide: as a page is on a screen, and as it is on a phone.
WIDE, NARROW = 7.5, 3.7
THEORY = {"color": "black", "linewidth": 1.5}
CIRCLES = {"marker": "o", "linestyle": "none", "markersize": 2.6, "markeredgewidth": 0.5, "fillstyle": "none"}

_width: ContextVar[float] = ContextVar("width", default=WIDE)

_BLUE, _ORANGE, _GREEN, _VERMILION, *_, _SKY = map(readable, sns.color_palette("colorblind").as_hex())
#: Wine, of Paul Tol's muted scheme: the palette's own next colours are too near to these three.
_FORMS = {
    "sgd": {"marker": "o", "color": _BLUE},
    "heavy-ball": {"marker": "s", "color": _ORANGE},
    "nesterov": {"marker": "D", "color": _GREEN},
    "lars": {"marker": "^", "color": "#7f1d4e"},
}
#: Colours of Paul Tol's muted scheme, which has enough of them; two are darker, to be seen on white.
_BRANCHES = {
    (): ("#000000", "o"),
    ("L1",): ("#0f97dc", "s"),
    ("L2",): ("#117733", "^"),
    ("L3",): ("#1a4e4a", "v"),
    ("L1", "L2"): ("#DDCC77", "P"),
    ("L1", "L3"): ("#332288", "D"),
    ("L2", "L3"): ("#CC6677", "X"),
    ("L1", "L2", "L3"): ("#AA4499", "p"),
}
#: What readers call a form, where that is not its name in the records.
_CALLED = {"sgd": "no momentum"}
_OTHERS = [{"marker": "o", "color": _VERMILION}, {"marker": "^", "color": _SKY}]
#: What `lib.running.bench` measures, but for the trainer without probes, which would hide under that with them.
VARIANTS = {
    "plain": {"label": "plain loop", "marker": "s", "color": _ORANGE},
    "trainer": {"label": "trainer", "marker": "o", "color": _BLUE},
    "convolutions": {"label": "convolutions alone", "marker": "D", "color": _GREEN},
    "arithmetic": {"label": "arithmetic alone", "linestyle": "--", **THEORY},
}


def layer_colours(layers: Iterable[str]) -> dict[str, tuple]:
    """A colour for each layer, by depth; safe for colour-blind readers and in grey."""
    deep = [layer for layer in layers if layer != CLASSIFIER]
    # the last two fifths of viridis are too pale on white
    colours = [plt.get_cmap("viridis")(x)[:3] for x in np.linspace(0, 0.6, len(deep))]
    return dict(zip(deep, colours, strict=True)) | {CLASSIFIER: (0.5, 0.5, 0.5)}


def form_name(form: str) -> str:
    """What readers call a form: ``no momentum`` is ``sgd`` in the records."""
    return _CALLED.get(form, form)


def form_style(form: str) -> dict[str, object]:
    """Marker and colour of a form of SGD or of LARS; raises ValueError for another."""
    if form not in _FORMS:
        raise ValueError(f"form={form!r} is not known; it must be one of {', '.join(_FORMS)}")
    return dict(_FORMS[form])


def architecture_style(architecture: str) -> dict[str, Any]:
    """Marker, colour and kind of line of a network, by its name.

    The layers that carry a branch give colour and marker; what they carry gives the line: solid
    and filled for residual branches, dashed and hollow for extra convolutions. Raises ValueError
    for a name that is not of the family.
    """
    kind, branches = parse_architecture(architecture)
    colour, marker = _BRANCHES[branches]
    hollow = kind == "Extra"
    return {
        "color": readable(colour),
        "marker": marker,
        "linestyle": "--" if hollow else "-",
        "fillstyle": "none" if hollow else "full",
    }


def label_styles(labels: Iterable[str]) -> dict[str, dict[str, object]]:
    """Marker and colour of each of two things at most that have none of their own, in order.

    Raises ValueError for more than two.
    """
    labels = list(labels)
    if len(labels) > len(_OTHERS):
        raise ValueError(f"labels={labels} are too many; there are styles for {len(_OTHERS)}")
    return {label: dict(style) for label, style in zip(labels, _OTHERS, strict=False)}


def _book_style():
    """The book's settings upon matplotlib's own: those of the reader's matplotlibrc change no figure."""
    return plt.style.context(["default", STYLE])


def styled(draw):
    """Draws in the book's style, and leaves it to the caller to show the figure, which says what drew it."""

    @wraps(draw)
    def styled(*args, **kwargs) -> Figure:
        with _book_style():
            figure = draw(*args, **kwargs)
        figure.set_gid(figure.get_gid() or f"{draw.__module__}.{draw.__name__}")
        plt.close(figure)  # else pyplot would show it a second time
        return figure

    return styled


@contextmanager
def narrow() -> Iterator[None]:
    """In this block figures are drawn for a phone: narrower, with fewer panels in a row."""
    token = _width.set(NARROW)
    try:
        yield
    finally:
        _width.reset(token)


def is_narrow() -> bool:
    """Whether figures are drawn for a phone."""
    return _width.get() == NARROW


def width() -> float:
    """Inches that a figure is wide."""
    return _width.get()


def save(figure: Figure, file: str | Path | BinaryIO, format: str) -> None:
    """Writes a figure in the book's style as ``svg``, ``pdf`` or ``png``; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with _book_style():
        figure.savefig(drawn, format=format, dpi=PNG_DPI, metadata=undated.get(format))
    content = drawn.getvalue()
    if format == "svg":
        content = adaptive(smaller(content.decode())).encode()
    elif format == "png" and not any(axes.images for axes in figure.axes):
        content = _few_colours(drawn)
    if isinstance(file, str | Path):
        Path(file).write_bytes(content)
    else:
        file.write(content)


def _few_colours(png: BinaryIO) -> bytes:
    """The picture with 256 colours, which are enough for lines and save two thirds of it."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def shown(figure: Figure) -> SVG:
    """The figure as a chapter shows it: vectors, crisp at every size."""
    file = io.BytesIO()
    save(figure, file, "svg")
    return SVG(file.getvalue().decode())


def new_axes(columns: int = 1, rows: int = 1, height: float = 3.4, **sharing) -> tuple[Figure, Any]:
    """A figure as wide as its page and its axes, laid out so that nothing overlaps; ``height`` in inches."""
    return plt.subplots(rows, columns, figsize=(width(), height), layout="constrained", **sharing)


def grid(panels: int, height: float = 2.0, columns: int | None = None, below: float = 0):
    """A figure and that many axes with the same limits, in rows; ``height`` of each in inches.

    Rows are full, or the last of them stands in the middle; on a phone they have two panels, or one where
    ``columns`` is 2. With ``below``, another axes of that height lies under them, the last of the figure.
    """
    columns = columns or (3 if panels % 4 and panels % 3 == 0 else 4)
    columns = min(panels, columns if not is_narrow() else columns // 2 if columns < 4 else 2)
    rows = -(-panels // columns)
    figure = plt.figure(figsize=(width(), rows * height + below), layout="constrained")
    heights = [height] * rows + [below] * (below > 0)
    halves = figure.add_gridspec(len(heights), 2 * columns, height_ratios=heights)
    all_axes = []
    for i in range(panels):
        row, column = divmod(i, columns)
        missing = max(0, columns * (row + 1) - panels)
        place = halves[row, 2 * column + missing : 2 * column + missing + 2]
        first = all_axes[0] if all_axes else None
        all_axes.append(figure.add_subplot(place, sharex=first, sharey=first))
        # the lowest say what x is, and those above where there is not one under each
        lowest = row == rows - 1 or (row == rows - 2 and panels % columns)
        all_axes[-1].tick_params(labelbottom=bool(lowest), labelleft=column == 0)
    if below:
        figure.add_subplot(halves[-1, :])
    return figure, all_axes


def layer_panels(table: pd.DataFrame, below: float = 0):
    """A figure against the epoch with a panel for each layer: triples of axes, ``(layer, rows)`` and colour.

    ``below`` is as for `grid`.
    """
    groups = list(table.groupby("layer", observed=True))
    figure, axes = grid(len(groups), below=below)
    if not below:
        figure.supxlabel("epoch", fontsize=10)
    colours = layer_colours(table["layer"].cat.categories)
    return figure, [(a, g, colours[g[0]]) for a, g in zip(axes, groups, strict=True)]


def name_ends(
    axes, ends: pd.Series, colours: Mapping[str, Any], apart: float = 0.08, fontsize: float = 9
) -> None:
    """Writes each line's name beside its end, moved as far as it takes for none to lie on another.

    ``ends`` are the last y by name; ``apart`` is the distance of two names, as a fraction of the axis. The
    limits of the axis have to be set before.
    """
    at = (axes.transScale + axes.transLimits).transform([(axes.get_xlim()[1], y) for y in ends])[:, 1]
    at = pd.Series(np.clip(at, 0, 1), ends.index).sort_values()
    steps = apart * np.arange(len(at))
    heights = np.maximum.accumulate(at - steps) + steps
    heights -= (heights - at).mean()  # as many move down as up
    for (name, end), height in zip(at.items(), heights, strict=True):
        axes.annotate(
            name,
            (1, end),
            xytext=(1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=fontsize,
            color=readable(colours[name], TEXT),
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.7},
        )


def say_cut_off(axes, values: pd.Series) -> None:
    """Writes into the corner of a panel how many of the values lie above or below its limits, if any."""
    low, high = axes.get_ylim()
    for sign, count, y, side in (
        ("↑", (values > high).sum(), 0.98, "top"),
        ("↓", (values < low).sum(), 0.02, "bottom"),
    ):
        if count:
            axes.text(
                0.98,
                y,
                f"{sign} {count:,} of {len(values):,}",
                transform=axes.transAxes,
                ha="right",
                va=side,
                fontsize=8,
            )


def legend_above(figure: Figure, columns: int = 4) -> None:
    """One legend for all axes, each label once, with lines that are thick enough to tell colours."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    columns = min(columns, 2) if is_narrow() else columns
    legend = figure.legend(once.values(), once, loc="outside upper center", ncols=columns)
    for line in legend.get_lines():
        line.set(linewidth=max(2, line.get_linewidth()), alpha=1)


def log_ticks(axes, ticks) -> None:
    """Makes x logarithmic, with these ticks and no others, as plain numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def percent_ticks(axes) -> None:
    """Labels y, a fraction, in percent, at round numbers: a label that was rounded would lie."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
