"""Settings of one's own: which runs a chapter or a figure shows, and their training where they are not recorded."""

import ast
import itertools
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from .. import experiments, library, scales
from ..run import AVERAGE_DECAY, DivergedError, Run
from ..scales import Chosen


def chapter(name: str, parameters: Mapping[str, object]) -> Chosen:
    """Which runs a chapter shows; what it needs and has not at settings of one's own is trained first.

    ``parameters`` are ``scale`` and `lib.scales.KNOBS`, each None where it is left alone, among the names of
    the notebook. Left alone, it is the largest scale at which all its runs are recorded, and nothing is trained.
    With changes, it is that scale, or `lib.scales.OWN_SCALE`, with them; what differs is said in a line, and so is
    which runs diverged. What later cells need such a run for is then not shown, and the chapter goes on.

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
        from IPython import get_ipython
        from IPython.display import Markdown, display

        display(Markdown(note(chosen)))
        train(chosen, needed)
        if diverged := library.diverged(chosen, needed):
            display(Markdown(said_of(diverged)))
            if shell := get_ipython():
                shell.ast_transformers.append(Forgiving())
    return chosen


def train(chosen: Chosen, names: Iterable[str], retrain: bool = False) -> None:
    """Trains and records what is not recorded of some names, and says on standard error how long it will take.

    With ``retrain``, also what is recorded. Stopped at any moment and started again, it goes on where it was.
    Raises what `runner.run` raises.
    """
    missing = [one for one in experiments.planned(chosen, names) if retrain or not library.recorded(one)]
    if not missing:
        return
    from . import runner  # with torch, which those who only read never load

    start, ends = time.monotonic(), itertools.count(1)
    say = partial(print, file=sys.stderr, flush=True)

    def ended(text: str) -> None:
        done = next(ends)
        seconds = (time.monotonic() - start) / done * (len(missing) - done)
        say(f"{text}; {done} of {len(missing)} done, about {seconds:.0f} s to go")

    say(f"to be trained first, at scale {chosen}: {len(missing)} run{'s' if len(missing) > 1 else ''}")
    runner.run(missing, retrain=retrain, report=say, ended=ended)


def said_of(diverged: Mapping[str, Run]) -> str:
    """Which runs diverged and where, and what becomes of what is made from them; Markdown."""
    each = ", ".join(f"{title} {run.diverged_in}" for title, run in diverged.items())
    return (
        f"**Diverged:** {each}. There the loss or a weight became infinite or NaN. Single steps are drawn up to the end "
        "of the epoch before. What needs the whole of such a run is not shown, and a dash stands for its numbers."
    )


class Forgiving(ast.NodeTransformer):
    """Makes a cell of a notebook say that it is not shown where it needs a run that diverged."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """The cell in a ``try``, and what it ends with, if that is a value, after it."""
        shown = ast.parse(
            "try:\n    _shown = None\n"
            f"except __import__({__name__!r}, fromlist=['*']).UNSHOWN as error:\n"
            f"    _shown = __import__({__name__!r}, fromlist=['*']).not_shown(error)\n"
            "_shown"
        )
        body = list(node.body)
        if body and isinstance(body[-1], ast.Expr):
            body[-1] = ast.copy_location(
                ast.Assign([ast.Name("_shown", ast.Store())], body[-1].value), body[-1]
            )
        guarded = shown.body[0]
        assert isinstance(guarded, ast.Try)
        guarded.body += body
        return ast.fix_missing_locations(shown)


#: What is raised where a run diverged: also by what is left of a sweep, where it is too little for a curve.
UNSHOWN = (DivergedError, ValueError)


def not_shown(error: Exception):
    """What stands in a chapter instead of what a cell would have shown."""
    from IPython.display import Markdown

    if isinstance(error, DivergedError):
        c = error.run.config
        return Markdown(
            f"*Not shown: the run of seed {c.seed} at λ = {c.lr:g} diverged {error.run.diverged_in}.*"
        )
    return Markdown(f"*Not shown, as too many runs diverged: {error}.*")


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
