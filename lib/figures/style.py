"""How every figure looks: its style, and which colour and marker stand for what.

Layers keep their colour everywhere, dark to light from input to output; the classifier, which is
not scale-invariant, is grey. Where colours could be mistaken for each other, by a colour-blind
reader or in grey, markers differ too.
"""

import io
from collections.abc import Iterable
from functools import wraps
from typing import Any, BinaryIO

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import SVG
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from ..config import CLASSIFIER, parse_architecture
from .vector import adaptive, readable, smaller

STYLE = {
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 10,
    "axes.titley": 1.0,  # its place is looked for otherwise
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be found, and takes its colour from the page
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "lib",  # the same figure gives the same file
}
#: Dots per inch of a PNG: for slides, twice the 96 of the page.
PNG_DPI = 192
THEORY = {"color": "black", "linewidth": 1.5}
CIRCLES = {"marker": "o", "linestyle": "none", "markersize": 2.6, "markeredgewidth": 0.5, "fillstyle": "none"}

#: Of seaborn's palette for the colour-blind. Seaborn itself takes a third of a figure's start, for its statistics.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#56b4e9")
_BLUE, _ORANGE, _GREEN, _VERMILION, _SKY = map(readable, PALETTE)
#: Wine, of Paul Tol's muted scheme: the palette's own next colours are too near to these three.
_FORMS = {
    "sgd": {"marker": "o", "color": _BLUE},
    "heavy-ball": {"marker": "s", "color": _ORANGE},
    "nesterov": {"marker": "D", "color": _GREEN},
    "lars": {"marker": "^", "color": "#7f1d4e"},
}
#: Colours of Paul Tol's muted scheme, which has enough of them; two are darker, to be seen on white.
_BRANCHES: dict[tuple[str, ...], tuple[str, str]] = {
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
_CALLED = {"sgd": "no momentum", "nesterov": "Nesterov", "lars": "LARS", "no-decay": "no decay"}
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
    convolutions = [layer for layer in layers if layer != CLASSIFIER]
    # the last two fifths of viridis are too pale on white
    colours = [plt.get_cmap("viridis")(x)[:3] for x in np.linspace(0, 0.6, len(convolutions))]
    return dict(zip(convolutions, colours, strict=True)) | {CLASSIFIER: (0.5, 0.5, 0.5)}


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


def files(figure: Figure, *formats: str) -> list[bytes]:
    """A figure in the book's style as files: ``svg``, ``pdf`` or ``png``; the same figure gives the same bytes."""
    with _book_style():
        box = _laid_out(figure)
        return [_file(figure, format, box) for format in formats]


def _file(figure: Figure, format: str, box: Bbox) -> bytes:
    drawn = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    of_lines = format == "png" and not any(axes.images for axes in figure.axes)
    quick: dict[str, Any] = {"pil_kwargs": {"compress_level": 0}} if of_lines else {}  # it is packed anew
    figure.savefig(drawn, format=format, dpi=PNG_DPI, metadata=undated.get(format), bbox_inches=box, **quick)
    if format == "svg":
        return adaptive(smaller(drawn.getvalue().decode())).encode()
    return _few_colours(drawn) if of_lines else drawn.getvalue()


def _laid_out(figure: Figure) -> Bbox:
    """What of a figure is drawn on, in inches; its layout is settled once, for all its files.

    matplotlib's own ``bbox="tight"`` draws the figure a second time for each file, to find the same.
    """
    for axes in figure.axes:
        for axis, side in ((axes.xaxis, "bottom"), (axes.yaxis, "left")):
            # for the place of a label that says nothing, and for the ends of ticks, beyond which their own labels
            # stand, matplotlib would measure every tick once more
            if not axis.get_label_text():
                axis.set_label_coords(0, 0)
            if axis.get_tick_params()[f"label{side}"]:
                axes.spines[side].set_in_layout(False)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    for part in figure.subfigs:
        part.bbox_relative.set(_rounded(part.bbox_relative))
    for axes in figure.axes:
        axes.set_position(_rounded(axes.get_position(original=True)))
    return _rounded(figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"]))


def _rounded(box: Bbox) -> Bbox:
    """Without the last digits, in which two layouts of the same figure differ."""
    step = np.pi * 1e-10  # a place is often at half a decimal, but at half of no such step
    return Bbox((box.get_points() / step).round() * step)


def _few_colours(png: BinaryIO) -> bytes:
    """The picture with 64 colours, which are enough for lines and save two thirds of it."""
    small = io.BytesIO()
    few = Image.open(png).convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "png", compress_level=7)  # 8 takes twice the time, for a twentieth of the size
    return small.getvalue()


def shown(figure: Figure) -> SVG:
    """The figure as a chapter shows it: vectors, crisp at every size."""
    (svg,) = files(figure, "svg")
    return SVG(svg.decode())
