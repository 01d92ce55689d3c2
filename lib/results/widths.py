"""What the width of a network changes: the same forms of SGD, at the scales that train on CIFAR-10."""

from collections.abc import Mapping

import pandas as pd

from .. import library, scales
from ..run import Run
from . import analysis, ghosts, numbers, statistics

#: The narrow scale and the wide one, on the same images and with the same schedule.
SCALES = ("small", "paper")
FORMS = {"sgd": "no momentum", "heavy-ball": "heavy-ball", "nesterov": "Nesterov"}
WINDOW = (6, 14)


def recorded() -> dict[str, tuple[list[Run], list[Run]]]:
    """The runs of each form of SGD that is recorded, with its steps, at both scales: narrow ones and wide ones."""
    narrow, wide = (library.forms(scale, "dynamics") for scale in SCALES)
    both = {form: (analysis.with_steps(narrow[form]), analysis.with_steps(wide[form])) for form in FORMS}
    return {form: runs for form, runs in both.items() if all(runs)}


def of_layers(runs: list[Run]) -> pd.DataFrame:
    """R, κ, R over its correction, and rotation over its prediction, in epochs 6 to 14: means over runs, by layer."""
    found = analysis.equilibrium(runs)
    kappa = pd.concat([statistics.correlation(WINDOW, run) for run in runs], axis=1).mean(axis=1)
    table = pd.DataFrame(
        {
            "R": found["R"],
            "κ": kappa,
            "R corrected": found["R_corrected"],
            "rotation": analysis.rotations(runs)["R"],
        }
    )
    return table.loc[found.index.drop(analysis.CLASSIFIER)]


def table(both: Mapping[str, tuple[list[Run], list[Run]]]) -> pd.DataFrame:
    """`of_layers` at both widths side by side: a row for each form and layer, columns by quantity and width."""
    wide = {
        FORMS[form]: pd.concat(
            {f"width {runs[0].config.width}": of_layers(runs) for runs in of_form}, axis=1
        ).swaplevel(axis=1)
        for form, of_form in both.items()
    }
    found = pd.concat(wide, names=["form", "layer"])
    return found[list(dict.fromkeys(found.columns.get_level_values(0)))]  # widths side by side


def shown() -> pd.DataFrame:
    """The `table` of what is recorded, as a reader sees it."""
    return table(recorded()).map(lambda x: numbers.signed(x, 3))


def text() -> str:
    """What the table says, form by form, what explains it, and what is not recorded, in Markdown."""
    both = recorded()
    missing = [name for form, name in FORMS.items() if form not in both]
    unsaid = f"Not recorded at both widths yet: {', '.join(missing)}." if missing else ""
    if not both:
        return unsaid
    pairs = {FORMS[form]: tuple(map(of_layers, of_form)) for form, of_form in both.items()}
    said = [_compared(form, *pair) for form, pair in pairs.items()]
    # pyrefly: ignore[no-matching-overload], for it takes a text out of a list with a star for None
    return "\n\n".join(filter(None, [*said, unsaid, _why(list(pairs.values())), _noise()]))


def source() -> str:
    """The runs that the table is made from, as the rest of a sentence."""
    made = [
        analysis.describe(of_form[i], scale)
        for i, scale in enumerate(SCALES)
        for of_form in recorded().values()
    ]
    return "; ".join(dict.fromkeys(made))


def _nearer(column: str, to: float, narrow: pd.DataFrame, wide: pd.DataFrame) -> int:
    """In how many layers a number of the wide network is nearer to some value."""
    return int(((wide[column] - to).abs() < (narrow[column] - to).abs()).sum())


def _compared(form: str, narrow: pd.DataFrame, wide: pd.DataFrame) -> str:
    spans = {
        column: [f"{t[column].min():.2f} to {t[column].max():.2f}" for t in (narrow, wide)]
        for column in ("R corrected", "rotation")
    }
    return (
        f"With {form}, R is nearer to 1 at the larger width in {_nearer('R', 1, narrow, wide)} of {len(wide)} "
        f"layers, and κ nearer to 0 in {_nearer('κ', 0, narrow, wide)}. Corrected, R runs from "
        f"{spans['R corrected'][0]} at the smaller width and from {spans['R corrected'][1]} at the larger; the "
        f"rotation over its prediction from {spans['rotation'][0]} and from {spans['rotation'][1]}."
    )


def _why(pairs: list[tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    """Whether correlation explains what width changes: it does where both change in most layers of every form."""
    if all(
        _nearer(column, to, *pair) > len(pair[1]) / 2 for pair in pairs for column, to in (("R", 1), ("κ", 0))
    ):
        return (
            "What the width changes, then, is above all how much successive gradients oppose each other: less in the "
            "wide network, whose steps are so much closer to the formula that takes them for uncorrelated. The "
            "corrected formula knows nothing of the width."
        )
    return "Correlation alone does not explain what the width changes: it is not weaker in most layers of every form."


def _noise() -> str:
    """How the critical batches of both widths compare, in a sentence, or that they are not recorded."""
    runs = {scale: library.forms(scale, "gradient-noise")["frozen"] for scale in SCALES}
    if not all(runs.values()):
        return (
            "Gradients at frozen weights are not recorded at both widths yet, so their noise cannot be compared: "
            f"`python -m lib run gradient-noise --scale {SCALES[-1]}` makes them."
        )
    narrow, wide = (ghosts.critical_batches(runs[scale]) for scale in SCALES)
    larger = int((wide > narrow).sum())
    widths = [scales.base(scale).width for scale in SCALES]
    return (
        f"The critical batch, at which signal and noise are equal, is larger at width {widths[1]} than at width "
        f"{widths[0]} in {larger} of {len(wide)} layers; in the median it is {wide.median():,.0f} "
        f"against {narrow.median():,.0f}."
    )
