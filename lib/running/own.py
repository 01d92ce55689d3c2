"""Settings of one's own: which runs a chapter or a figure shows, and their training where they are not recorded."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .. import experiments, library, scales
from ..run import AVERAGE_DECAY
from ..scales import Chosen


def chapter(name: str, parameters: Mapping[str, object]) -> Chosen:
    """Which runs a chapter shows; what it needs and has not at settings of one's own is trained first.

    ``parameters`` are ``scale`` and `lib.scales.KNOBS`, each None where it is left alone, among the names of
    the notebook. Left alone, it is the largest scale at which all its runs are recorded, and nothing is trained.
    With changes, it is that scale, or `lib.scales.OWN_SCALE`, with them; what differs is said in a line.

    Raises
    ------
    ValueError
        If the chapter, the scale or a parameter is not known, or a value makes no run.
    NotRecordedError
        If its runs are recorded at no scale.
    """
    needed = experiments.CHAPTERS[name]
    # papermill accepts any name; what else a notebook has in its first cells are modules and functions
    given: dict[str, Any] = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }
    scale = given.pop("scale", None) or (scales.OWN_SCALE if given else library.largest(needed))
    chosen = scales.chosen(scale, **given)
    if reason := experiments.why_empty(name, chosen):
        raise ValueError(reason)
    if chosen.changes:
        from IPython.display import Markdown, display

        display(Markdown(note(chosen)))
        train(chosen, needed)
    return chosen


def train(chosen: Chosen, names: Iterable[str], jobs: int = 1, scheduler: str | None = None) -> None:
    """Trains and records what is not recorded of some names, and says on standard error how long it will take.

    Stopped at any moment and started again, it goes on where it was. Raises what `runner.run` raises.
    """
    missing = [one for one in experiments.planned(chosen, names) if not library.recorded(one)]
    if not missing:
        return
    from . import runner  # with torch, which those who only read never load

    start = time.monotonic()

    def report(text: str) -> None:
        left = sum(library.recorded(one) is None for one in missing)
        done = len(missing) - left
        seconds = (time.monotonic() - start) / max(done, 1) * left
        print(
            f"{text}; {done} of {len(missing)} done, about {seconds:.0f} s to go", file=sys.stderr, flush=True
        )

    print(f"to be trained first, at scale {chosen}: {len(missing)} runs", file=sys.stderr, flush=True)
    runner.run(missing, jobs=jobs, scheduler=scheduler, report=report)


def note(chosen: Chosen) -> str:
    """What differs from the recorded settings, and what the theory says where it says something else; Markdown."""
    base = scales.base(chosen)
    lines = [
        f"**Settings of your own, at scale {chosen.scale}:** {chosen.differences}. All numbers are of these runs."
    ]
    if not base.weight_decay:
        lines.append(
            "Without weight decay nothing shortens the weights. There is no equilibrium and no line, and $R$ has no "
            "value: $|w|^4=|w_0|^4+2\\sum\\tilde\\lambda^2c^2$ only grows, and the steps become shorter."
        )
    if not base.momentum:
        lines.append(
            "Without momentum the three forms of SGD are one: $\\rho=0$ in every formula, and the step is "
            "$\\sqrt{2\\lambda\\alpha}$."
        )
    elif base.momentum != AVERAGE_DECAY:
        lines.append(
            f"Gradients are averaged with {AVERAGE_DECAY} whatever the momentum is, so that what is corrected for their "
            "overlap is so approximately."
        )
    return " ".join(lines)
