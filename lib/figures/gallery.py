"""Every figure of the book by name, from the records of a scale: what is drawn, and its source."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import SVG, Markdown
from matplotlib.figure import Figure

from .. import experiments, library, paths, scales
from ..library import Given
from ..machinery import files
from ..results import analysis, claims
from ..run import DivergedError
from ..scales import Chosen
from . import questions, story, style
from .beside import behind
from .drawn import FORMS, Drawn

SUFFIXES = (".svg", ".png", ".pdf", ".csv")


@dataclass(frozen=True, eq=False)
class Picture:
    """What draws a figure, the numbers it shows as a table, and a line of Markdown on where they come from."""

    draw: Callable[[], Figure]
    numbers: pd.DataFrame
    source: str


def picture(name: str, scale: str | Chosen | Given, beside: bool = False) -> Picture:
    """The figure of that name, from the records of a scale, at settings of one's own, or from a run of one's own.

    With ``beside``, that of the recorded runs is drawn in grey behind. Raises ValueError when there is no such
    figure or scale, or it cannot be drawn from that run, and what `lib.library.runs` raises.
    """
    check_known(name)
    if not isinstance(scale, Given):
        scale = scales.chosen(scale)
    with library.asked() as needed:
        draw, numbers, runs = FIGURES[name](scale)
    about = runs if isinstance(runs, str) else analysis.describe(runs, scale)
    options = scale.options if isinstance(scale, Given) else _that_count(name, needed, scale).options
    options += " --beside" if beside else ""
    source = f"{about}; `{paths.COMMAND} figure {name} {options}`"  # code: prose makes a dash of two hyphens
    if beside:
        draw_recorded, _, runs = FIGURES[name](scale.scale)
        draw = partial(behind, draw, draw_recorded)
        source += f"; grey: {runs if isinstance(runs, str) else analysis.describe(runs, scale.scale)}"
    return Picture(draw, numbers, source)


def _that_count(name: str, needed: list[str], chosen: Chosen) -> Chosen:
    """The choice without the changes on which a figure does not depend, which the command that makes it refuses."""
    knobs = those_it_depends_on(name, needed, chosen)
    return replace(chosen, changes=tuple(change for change in chosen.changes if change[0] in knobs))


def those_it_depends_on(name: str, needed: list[str], chosen: Chosen) -> list[str]:
    """The changed knobs without whose change a figure that is drawn from the ``needed`` runs is another one."""
    if not needed:
        return [knob for knob, _ in chosen.changes if knob in OF_NO_RUN[name]]
    with_all = _planned(needed, chosen)
    return [knob for knob, _ in chosen.changes if _planned(needed, chosen.without(knob)) != with_all]


def _planned(needed: list[str], chosen: Chosen) -> set[tuple[str, object]]:
    return {(one.experiment, one.config.key) for one in experiments.planned(chosen, needed)}


def check_known(name: str) -> None:
    """Raises ValueError when there is no such figure."""
    if name not in FIGURES:
        raise ValueError(f"figure={name!r} is not known; it must be one of {', '.join(FIGURES)}")


def show(name: str, scale: str | Chosen) -> SVG:
    """The figure, for a chapter to show; its source is glued as ``source-<name>``, in Markdown.

    Raises what `picture` raises; that it is not drawn is glued before.
    """
    from myst_nb import glue

    try:
        drawn = picture(name, scale)
        shown = style.shown(drawn.draw())
    except (DivergedError, ValueError):
        glue(f"source-{name}", Markdown("not drawn, see above"), display=False)
        raise
    glue(f"source-{name}", Markdown(drawn.source), display=False)
    return shown


def save(name: str, scale: str | Chosen | Given, path: str | Path, beside: bool = False) -> Path:
    """Writes the figure, or its numbers, to a file whose suffix says which format; to a device as SVG.

    Raises ValueError on another suffix, OSError when the file cannot be written.
    """
    path, suffix = Path(path), check_suffix(path)
    drawn = picture(name, scale, beside)
    if suffix == ".csv" and drawn.numbers.empty:
        raise ValueError(f"{name} is a drawing; it has no numbers to write to {path}")
    with files.whole(path) as file:
        file.write(table(drawn) if suffix == ".csv" else style.files(drawn.draw(), suffix[1:])[0])
    return path


def table(drawn: Picture) -> bytes:
    """The numbers of a figure as CSV, to four digits, which is more than can be read from it."""
    indexed = drawn.numbers.index.names != [None]
    return drawn.numbers.to_csv(index=indexed, float_format="%.4g", lineterminator="\n").encode()


def check_suffix(path: str | Path) -> str:
    """The format of a file, by its suffix; raises ValueError when figures have none of that kind."""
    path = Path(path)
    suffix = path.suffix or (".svg" if files.is_stream(path) else "")
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    return suffix


#: The figures in the order of the chapters; those of the post with their number there.
FIGURES: dict[str, Callable[[Any], Drawn]] = {
    "vectors": story.vectors,
    "collapse": story.collapsed,
    "overview": lambda scale: story.equilibrium(scale, FORMS, 0.10),
    "augmentation": story.augmentation,
    "network": story.network,
    "schedule": story.schedule,
    "baseline": lambda scale: story.accuracy(scale, *(f"dynamics/{form}" for form in FORMS)),
    "shrinkage": lambda scale: story.norm_change(scale, "shrinkage"),  # 1
    "growth": lambda scale: story.norm_change(scale, "growth"),  # 2
    "balance": story.balance,  # 3
    "norms": story.weight_norms,  # 4
    "step": lambda scale: story.step(scale, "sgd", "√(2λα)"),  # 5
    "sgd-equilibrium": lambda scale: story.equilibrium(scale, ("sgd",), 0.10),
    "lag": lambda scale: story.lag(scale, "sgd"),
    "correlation": story.correlation,  # 6
    "noise": story.noise,
    "batch-sizes": story.batch_sizes,
    "momentum-step": lambda scale: story.step(scale, "heavy-ball", "√(2λα(1−ρ))"),  # 7
    "forms": lambda scale: story.equilibrium(scale, FORMS, 0.15),
    "corrected": lambda scale: story.equilibrium(scale, ("heavy-ball", "nesterov"), 0.05, corrected=True),
    "momentum-lag": lambda scale: story.lag(scale, "heavy-ball"),
    "rotation": lambda scale: story.rotation(scale, "dynamics/heavy-ball", "dynamics/nesterov"),
    "lars-rotation": lambda scale: story.rotation(scale, "lars/lars"),
    "lars-norms": lambda scale: story.side_by_side(
        scale, "norm_sq_relative", "|w|², relative to the start", log=True
    ),
    "lars-turns": lambda scale: story.side_by_side(scale, "turn", "|Δw|/|w|"),
    "lars-accuracy": lambda scale: story.accuracy(scale, "dynamics/heavy-ball", "lars/lars"),
    "learning-rates": lambda scale: story.sweep(scale, smooth=True),  # 8
    "learning-rates-raw": lambda scale: story.sweep(scale, smooth=False),  # 9
    "plateau": questions.plateau,
    "lars-parts": questions.lars_parts,
    "start": questions.start,
    "adam": questions.adam,
    "layers": questions.layers,
    "decay": questions.decay,
    "cost": story.cost,
    "precision": story.precision,
    "claims": story.verdict_strips,
    **{f"claims-{chapter}": partial(story.verdict_strips, chapter=chapter) for chapter in claims.CHAPTERS},
}
#: What the figures depend on that are drawn from no run.
OF_NO_RUN = {
    "vectors": (),
    "augmentation": (),
    "network": ("architecture", "width"),
    "schedule": ("lr", "epochs"),
    "cost": (),
}
