"""Runs in fp32 beside the same runs in bf16: what the precision changes, and whether more than the seed does."""

import numpy as np
import pandas as pd

from .. import library
from ..config import PRECISIONS
from ..run import Run
from . import analysis, numbers, rule
from . import statistics as st

FORMS = {"sgd": "without momentum", "heavy-ball": "with heavy-ball"}
NOT_RECORDED = "At this scale nothing is recorded in both precisions, and so the figure shows one alone."
#: What is compared, one number for each layer and seed.
QUANTITIES = {
    "R": lambda run: st.ratio((6, 14), run),
    "κ": lambda run: st.correlation((2, 22), run),
    "|cos(w, g)|": lambda run: st.largest_cosine((0, 24), run),
    "test accuracy, %": lambda run: pd.Series({"": 100 * run.test_accuracy}),
}


def recorded(scale: str) -> dict[str, dict[str, list[Run]]]:
    """The runs of each form with steps, by precision; those of a form that has none are left out."""
    found = {}
    others = library.forms(scale, "precision")
    for form in FORMS:
        runs = analysis.with_steps([*library.runs(scale, f"dynamics/{form}"), *others.get(form, [])])
        by_precision = {p: [run for run in runs if run.config.precision == p] for p in PRECISIONS}
        found[form] = {p: of_p for p, of_p in by_precision.items() if of_p}
    return found


def by_layer(forms: dict[str, dict[str, list[Run]]]) -> pd.DataFrame:
    """``form``, ``precision``, ``quantity``, ``layer`` (empty for accuracy), ``mean`` over seeds, ``low``, ``high``."""
    rows = []
    for form, by_precision in forms.items():
        for precision, runs in by_precision.items():
            for quantity, measure in QUANTITIES.items():
                seeds = pd.DataFrame([measure(run) for run in runs])
                rows += [
                    (form, precision, quantity, layer, x.mean(), x.min(), x.max())
                    for layer, x in seeds.items()
                ]
    return pd.DataFrame(rows, columns=["form", "precision", "quantity", "layer", "mean", "low", "high"])


def text(scale: str) -> str:
    """What the records say of precision, in sentences."""
    forms = recorded(scale)
    both = {
        form: by_precision for form, by_precision in forms.items() if len(by_precision) == len(PRECISIONS)
    }
    if not both:
        return NOT_RECORDED
    table = by_layer(both)
    return " ".join(
        [*(_of_form(form, both[form], table[table["form"] == form]) for form in both), _verdict(table)]
    )


def _of_form(form: str, runs: dict[str, list[Run]], table: pd.DataFrame) -> str:
    apart = _apart(table)
    cosines = table[table["quantity"] == "|cos(w, g)|"].groupby("precision")["high"].max()
    return (
        f"{FORMS[form].capitalize()}, with {_seeds(runs['bf16'])} in bf16 beside {_seeds(runs['fp32'])} in fp32, R of a "
        f"layer differs by {apart.loc['R', 'precisions']:.3f} at most, means over seeds, and seeds of fp32 by up to "
        f"{apart.loc['R', 'seeds']:.3f}. For κ these are {apart.loc['κ', 'precisions']:.3f} and "
        f"{apart.loc['κ', 'seeds']:.3f}. The largest |cos(w, g)| is {rule.power(cosines['bf16'])} in bf16 and "
        f"{rule.power(cosines['fp32'])} in fp32. {_accuracy(runs)}"
    )


def _seeds(runs: list[Run]) -> str:
    return f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"


def _apart(table: pd.DataFrame) -> pd.DataFrame:
    """For R and κ the largest difference of a layer: of the means of two ``precisions``, and of ``seeds`` of fp32."""
    rows = table[table["quantity"].isin(["R", "κ"])].set_index(["quantity", "form", "layer"])
    fp32, bf16 = (rows[rows["precision"] == p] for p in ("fp32", "bf16"))
    differences = pd.DataFrame(
        {"precisions": (bf16["mean"] - fp32["mean"]).abs(), "seeds": fp32["high"] - fp32["low"]}
    )
    return differences.groupby("quantity").max()


def _accuracy(runs: dict[str, list[Run]]) -> str:
    """The difference with its interval, seed by seed; of too few seeds their range."""
    of_seeds = numbers.paired(runs["bf16"], runs["fp32"])
    if len(of_seeds) >= rule.ENOUGH_SEEDS:
        text = numbers.difference("d", of_seeds)["d"]
        return f"The accuracy of bf16 less that of fp32, seed by seed, is {text} percentage points."
    ranges = {p: 100 * np.array([run.test_accuracy for run in of_p]) for p, of_p in runs.items()}
    spans = {
        p: f"{x.min():.1f} %" if len(x) == 1 else f"{x.min():.1f} to {x.max():.1f} %"
        for p, x in ranges.items()
    }
    return (
        f"The accuracy is {spans['bf16']} in bf16 and {spans['fp32']} in fp32: too few seeds for an interval."
    )


def _verdict(table: pd.DataFrame) -> str:
    apart = _apart(table)
    more = list(apart.index[apart["precisions"] > apart["seeds"]])
    if not more:
        return "So precision changes R and κ no more than another seed does. What it changes is how exactly the angle is right."
    return f"So precision changes {' and '.join(more)} by more than another seed does."
