"""Which runs a figure is drawn from, for those who draw it from runs of their own."""

from pathlib import Path

from .. import library, scales
from ..library import Given
from ..records import NotRecordedError
from ..run import Run
from ..scales import Chosen
from . import gallery


def needs(name: str) -> list[str]:
    """The runs that a figure is drawn from, by names as `lib.experiments.planned` takes them.

    They are what it asks the library for when it is drawn from the recorded runs. Raises NotRecordedError when
    these are recorded at no scale.
    """
    gallery.check_known(name)
    reasons = []
    for scale in scales.SCALES:
        with library.asked() as names:
            try:
                gallery.FIGURES[name](scale)
                return names
            except NotRecordedError as error:
                reasons.append(error)
    raise reasons[-1]


def check_depends(name: str, chosen: Chosen) -> list[str]:
    """The `needs` of a figure; raises ValueError when there is a change on which it does not depend."""
    needed = needs(name)
    counting = gallery.those_it_depends_on(name, needed, chosen)
    if others := [knob for knob, _ in chosen.changes if knob not in counting]:
        runs = ", ".join(needed) or "no run"
        raise ValueError(
            f"figure {name} does not depend on {others[0]}, as it is drawn from {runs}; leave {others[0]} out"
        )
    return needed


def given(name: str, run: Run, file: str | Path, scale: str | None = None) -> Given:
    """A run of one's own, for a figure that is drawn from one form; raises ValueError when it cannot be."""
    needed = needs(name)
    if len(needed) != 1 or "/" not in needed[0]:
        drawn = ", ".join(needed) or "no run"
        raise ValueError(f"figure {name} is drawn from {drawn}, and not from one run")
    scale = scale or {"digits": "demo"}.get(run.config.dataset, scales.DEFAULT_SCALE)
    found = Given(run, Path(file), scale)
    found.runs(needed[0])  # refuses one of another form
    return found
