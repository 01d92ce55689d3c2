"""What the functions have in common that make the figures of `lib.figures.gallery`."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from ..run import Run

#: What draws the figure, its numbers, and the runs that they are from, or what else they are from in words.
Drawn = tuple[Callable[[], Figure], pd.DataFrame, list[Run] | str]
#: Those of SGD.
FORMS = ("sgd", "heavy-ball", "nesterov")


def all_runs(forms: Mapping[str, Sequence[Run]]) -> list[Run]:
    """The runs of all forms, one form after the other."""
    return [run for runs in forms.values() for run in runs]
