"""The rule by which every claim is decided: one number for each layer and seed, and a bound.

With `ENOUGH_SEEDS` or more, each layer has the two-sided 90 % t-interval of its mean over seeds. A claim
*holds* if the interval of every layer lies inside the bound, *fails* if that of some layer lies wholly
outside, and is *not resolved* otherwise. A claim whose layers lie exactly at the bound holds by chance in
5 % of cases at most. Fewer seeds have no interval: their mean is *inside* or *outside*, and no more is said.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # t's quantile; scipy.stats has it too, and takes a second to load

HOLDS, FAILS, NOT_RESOLVED = "holds", "fails", "not resolved"
INSIDE, OUTSIDE = "inside", "outside"
CONFIDENCE = 0.9
#: Of fewer seeds the scatter is not known well enough for an interval.
ENOUGH_SEEDS = 3
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Bound:
    """Where a number has to lie: from ``low`` to ``high``, which belong to it unless it is ``strict``."""

    low: float = -np.inf
    high: float = np.inf
    strict: bool = False

    def below(self, number):
        """Whether a number, or each of an array, is under the bound."""
        return np.less_equal(number, self.low) if self.strict else np.less(number, self.low)

    def above(self, number):
        """Whether a number, or each of an array, is over the bound."""
        return np.greater_equal(number, self.high) if self.strict else np.greater(number, self.high)

    def beyond(self, number):
        """How far out a number lies, for numbers to be compared: from the middle, or towards the open side."""
        if np.isinf(self.low):
            return number - self.high
        if np.isinf(self.high):
            return self.low - number
        return np.abs(number - (self.low + self.high) / 2)

    def __str__(self):
        or_equal = not self.strict
        if np.isinf(self.low):
            return f"{'≤' if or_equal else '<'} {_exact(self.high)}"
        if np.isinf(self.high):
            return f"{'≥' if or_equal else '>'} {_exact(self.low)}"
        middle, half = round((self.high + self.low) / 2, 12), round((self.high - self.low) / 2, 12)
        return f"{_exact(middle)} ± {half:g}" if middle else f"± {half:g}"


def around(middle: float, half: float, strict: bool = False) -> Bound:
    """The bound ``middle`` ± ``half``."""
    return Bound(round(middle - half, 12), round(middle + half, 12), strict)  # 1.1, not 1.1…01


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is found of a claim, and from how many ``seeds``.

    ``layers`` has a row for each layer, or for whatever the claim speaks of: ``mean`` over seeds, ``low`` and
    ``high`` of its interval (the mean itself, of too few seeds), ``inside`` and ``outside``: whether all of that
    lies so, and ``worst``: of the single epochs and seeds the number furthest out, NaN where there are none.
    """

    verdict: str
    bound: Bound
    seeds: int
    layers: pd.DataFrame

    @property
    def worst(self) -> float:
        """The number furthest out of all layers, seeds and single epochs; NaN where epochs are not looked at."""
        worst = self.layers["worst"].dropna()
        return float(worst[self.bound.beyond(worst).idxmax()]) if len(worst) else np.nan

    @property
    def worst_text(self) -> str:
        """``worst`` as text, a dash where there is none."""
        return "–" if np.isnan(self.worst) else number(self.worst)

    @property
    def count(self) -> str:
        """How many layers are inside, and which are not: ``7 of 8, all but prep``; a dash of a single number."""
        inside = self.layers["inside"]
        if len(inside) == 1:
            return "–"
        text = f"{inside.sum()} of {len(inside)}"
        if inside.all() or not inside.any():
            return text
        out, within = (", ".join(map(str, inside.index[x])) for x in (~inside, inside))
        return f"{text}, all but {out}" if inside.mean() >= 0.5 else f"{text}: {within}"

    @property
    def span(self) -> str:
        """The mean over seeds, of the layers from least to greatest."""
        low, high = (number(x) for x in (self.layers["mean"].min(), self.layers["mean"].max()))
        return low if low == high else f"{low} to {high}"

    @property
    def with_interval(self) -> str:
        """The ``span``; of a single number with its interval: ``0.81 (0.51 to 1.1)``."""
        one = len(self.layers) == 1 and self.seeds >= ENOUGH_SEEDS
        return f"{self.span} ({self.interval(0)})" if one else self.span

    @property
    def reason(self) -> str:
        """Why this is the verdict, in a line."""
        if self.verdict in (INSIDE, OUTSIDE):
            return f"{self.seeds} seed{'s' if self.seeds > 1 else ''}: no interval"
        if self.verdict == HOLDS:
            return "every interval lies inside" if len(self.layers) > 1 else f"{self.interval(0)} lies inside"
        if self.layers["mean"].isna().any():
            return "not enough to tell"
        wrong = self.layers["outside"] if self.verdict == FAILS else ~self.layers["inside"]
        distance = self.bound.beyond(self.layers["mean"]).where(wrong)
        worst = int(np.nanargmax(distance))
        return f"{self.interval(worst)} {'lies outside' if self.verdict == FAILS else 'crosses the bound'}"

    def interval(self, i: int) -> str:
        """That of a layer, by its place, with the layer's name if there are several."""
        row = self.layers.iloc[i]
        name = f"{row.name}: " if len(self.layers) > 1 else ""
        return f"{name}{number(row['low'])} to {number(row['high'])}"


def interval(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The two-sided 90 % t-interval of the mean over seeds, the rows, of each column.

    Fewer than `ENOUGH_SEEDS` have none, and what is returned is their mean, twice.
    """
    n, mean = len(table), table.mean(skipna=False)
    if n < ENOUGH_SEEDS:
        return mean, mean
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * table.std(skipna=False) / np.sqrt(n)
    return mean - half, mean + half


def decide(table: pd.DataFrame, bound: Bound, worst: pd.Series | None = None) -> Verdict:
    """The verdict on numbers with a row for each seed and a column for each layer.

    ``worst`` is, for each layer, the number furthest out of single epochs. What is no number, or infinite as R without
    weight decay, resolves nothing.
    """
    table = table.replace([np.inf, -np.inf], np.nan)
    low, high = interval(table)
    layers = pd.DataFrame(
        {
            "mean": table.mean(skipna=False),
            "low": low,
            "high": high,
            "inside": ~(bound.below(low) | bound.above(high) | low.isna()),
            "outside": bound.below(high) | bound.above(low),
            "worst": np.nan
            if worst is None
            else worst.replace([np.inf, -np.inf], np.nan).reindex(table.columns),
        }
    )
    if table.isna().any(axis=None):
        verdict = NOT_RESOLVED
    elif len(table) < ENOUGH_SEEDS:
        verdict = INSIDE if layers["inside"].all() else OUTSIDE
    elif layers["outside"].any():
        verdict = FAILS
    else:
        verdict = HOLDS if layers["inside"].all() else NOT_RESOLVED
    return Verdict(verdict, bound, len(table), layers)


def number(x: float) -> str:
    """Short, with a true minus; very small or large, as a power of ten."""
    if np.isnan(x):
        return "–"
    text = f"{x:.2f}" if 0.095 <= abs(x) < 1000 and x != round(x) else f"{x:.2g}"
    return power(x) if "e" in text else text.replace("-", "−")


def _exact(x: float) -> str:
    """As it was fixed, with a true minus."""
    return f"{x:g}".replace("-", "−")


def power(x: float) -> str:
    """A number as a power of ten: ``3.5 × 10⁻⁴``."""
    mantissa, exponent = f"{x:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", "−")
