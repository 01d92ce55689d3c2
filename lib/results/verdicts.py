"""The verdicts on the claims: from what is recorded at a scale, by the rule, to tables for readers."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd

from .. import library, scales
from ..run import Run
from ..scales import Chosen
from . import analysis, claims
from .claims import CLAIMS, Claim
from .rule import Bound, Verdict, decide
from .statistics import Seeds, Window, of_24

NOT_RECORDED = "not recorded yet"


def recorded(scale: str | Chosen, some: Iterable[Claim] = CLAIMS) -> Seeds:
    """The runs that some claims may look at, by form and seed; raises what `lib.library.forms` raises."""
    of = {form.partition("/")[0] for claim in some for form in claim.forms}
    return {form: {r.config.seed: r for r in runs} for form, runs in library.every_form(scale, of).items()}


def judge(claim: Claim, recorded: Seeds) -> Verdict | None:
    """The verdict on a claim; None where nothing is recorded that decides it.

    Only seeds that are recorded in every form it looks at count.
    """
    return _judge(claim, *((form, *runs.items()) for form, runs in _looked_at(claim, recorded).items()))


@lru_cache(maxsize=128)  # a chapter's figure and its table judge the same
def _judge(claim: Claim, *forms: tuple) -> Verdict | None:
    seeds = {form: dict(runs) for form, *runs in forms}
    runs = [run for of_form in seeds.values() for run in of_form.values()]
    if not runs:
        return None
    bound = claim.bound
    if claim.bf16 and any(run.config.precision == "bf16" for run in runs):
        bound = claim.bf16
    table = claim.statistic(seeds, claim.epochs or (0, 24))
    if table.empty:
        return None
    return decide(table, bound, _worst(claim, seeds, bound))


def _looked_at(claim: Claim, recorded: Seeds) -> Seeds:
    """The runs of the claim's forms, in its order, of the seeds that all of them have; none where one has no run."""
    of_each = [[form for form in recorded if _is_meant(form, by=name)] for name in claim.forms]
    forms = [form for some in of_each for form in some] if all(of_each) else []
    usable = [
        {
            seed
            for seed, run in recorded[form].items()
            if claim.epochs is None or len(run.steps) or len(run.noise)
        }
        for form in forms
    ]
    seeds = sorted(set.intersection(*usable)) if usable else []
    return {form: {seed: recorded[form][seed] for seed in seeds} for form in forms}


def _is_meant(form: str, by: str) -> bool:
    """Whether a name means a form: its own, or how several begin, as ``sweep/`` and ``layers/up-``."""
    return form.startswith(by) if by.endswith(("/", "-")) else form == by


def _worst(claim: Claim, seeds: Seeds, bound: Bound) -> pd.Series | None:
    """For each layer the number furthest out of those of single epochs and seeds."""
    if claim.epochs is None or not claim.single:
        return None
    first, last = claim.epochs
    one_seed = [next(iter(of_form.values())) for of_form in seeds.values()]
    windows = [(epoch, epoch + 1) for epoch in range(int(first), int(last))]
    each = [claim.statistic(seeds, w) for w in windows if all(_has_rows(run, w) for run in one_seed)]
    if not each:  # of so short a run that no 24th of it was looked at
        return None
    numbers = pd.concat(each, ignore_index=True)
    furthest = bound.beyond(numbers).dropna(how="all", axis=1).idxmax()
    return pd.Series({layer: numbers.loc[row, layer] for layer, row in furthest.items()}, dtype=float)


def _has_rows(run: Run, window: Window) -> bool:
    """Whether anything was measured there: a short run may have no step in a 24th part of itself."""
    table = run.noise if run.steps.empty else run.steps
    return not analysis.in_window(table, run.config.epochs, of_24(window)).empty


def judged(some: Iterable[Claim], recorded: Seeds) -> list[tuple[Claim, Verdict | None]]:
    """Each of some claims with its verdict."""
    return [(claim, judge(claim, recorded)) for claim in some]


def table(judged: Iterable[tuple[Claim, Verdict | None]]) -> pd.DataFrame:
    """Claims with what was found and why, as text."""
    rows = {
        claim.sentence: {
            "whose": claim.origin,
            "verdict": brief(found),
            "bound": claim.bound_text,
            "why": found.reason if found else "–",
            "what is looked at": claim.looked_at,
        }
        for claim, found in judged
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="claim")


def of_chapter(chapter: str, scale: str | Chosen) -> pd.DataFrame:
    """The `table` of a chapter's claims, from the records of a scale."""
    some = claims.of_chapter(chapter)
    return table(judged(some, recorded(scale, some)))


def side_by_side(chosen: Chosen | None = None) -> pd.DataFrame:
    """The verdict on every claim at each scale, with what was found, as text; first at settings of one's own, if any."""
    columns = {
        "whose": {claim.sentence: claim.origin for claim in CLAIMS},
        "bound": {claim.sentence: claim.bound_text for claim in CLAIMS},
    }
    own = [chosen] if chosen and chosen.changes else []
    for name in (*own, *scales.SCALES):
        columns[f"{name} ({about(name)})"] = {
            claim.sentence: brief(found) for claim, found in judged(CLAIMS, recorded(name))
        }
    return pd.DataFrame(columns).rename_axis(columns="claim")


def about(scale: str | Chosen) -> str:
    """The width of a scale's network, and whose the bounds are where it is not the full one."""
    width = scales.base(scale).width
    full = max(at.base.width for at in scales.SCALES.values())
    return f"width {width}" if width == full else f"width {width}; the bounds are those of width {full}"


def brief(found: Verdict | None) -> str:
    """A verdict with all that has to stand beside it, in a line."""
    if found is None:
        return NOT_RECORDED
    worst = "" if np.isnan(found.worst) else f"worst epoch {found.worst_text}"
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    count = found.count if len(found.layers) > 1 else ""
    span = "too few to tell" if found.layers["mean"].isna().all() else found.span
    return f"{found.verdict}: " + "; ".join(filter(None, [count, span, worst, seeds]))
