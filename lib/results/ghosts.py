"""Gradients with batch norm's groups held at one size: what is left of their dependence on the batch size.

A gradient of N images has batch norm's means and variances from these N. An average of the gradients of
k groups of n images has them from n, whatever k: *ghost groups*. With P = |ḡ|² from products of the
gradients of different groups and S = E|g_n|², its mean square is P + (S − P)/k.
"""

import numpy as np
import pandas as pd

from ..run import Run
from . import analysis
from .numbers import Numbers, signed

#: Images in a ghost group: the smallest batch that is measured.
GROUP = 32
NOT_MEASURED = (
    "Groups of one size would take that away; in the runs that are recorded here they were not measured yet."
)


def with_products(runs: list[Run]) -> list[Run]:
    """The runs whose frozen checkpoints have products of gradients."""
    return [run for run in runs if run.noise["grad_product"].notna().all()]


def slopes(noise: pd.DataFrame) -> pd.DataFrame:
    """Slopes of log |g| against log N at each frozen checkpoint, from an `analysis.noise` table with products.

    Columns: ``layer``, ``epoch``, ``slope`` with whole batches, ``ghost`` with averages over ghost groups of
    `GROUP` images, over the same range of N, and ``variance``: V = N(S − P) at the largest N over that at the least,
    1 if V is a constant. NaN where P is so far below 0, by chance, that a mean square would be.
    """
    rows = []
    for (layer, epoch), table in noise.groupby(["layer", "epoch"], observed=True):
        n, whole, product = (
            table[c].to_numpy(dtype=float) for c in ("batch_size", "grad_norm_sq", "grad_product")
        )
        (at_group,) = np.flatnonzero(n == GROUP)
        noise_of_group = whole[at_group] - product[at_group]
        ghost = product[at_group] + noise_of_group * GROUP / n
        variance = n * (whole - product)
        rows.append((layer, epoch, _slope(n, whole), _slope(n, ghost), variance[-1] / variance[0]))
    return pd.DataFrame(rows, columns=["layer", "epoch", "slope", "ghost", "variance"])


def _slope(n: np.ndarray, norm_sq: np.ndarray) -> float:
    if (norm_sq <= 0).any():
        return np.nan
    return float(np.polyfit(np.log(n), np.log(norm_sq) / 2, 1)[0])


def critical_batches(runs: list[Run]) -> pd.Series:
    """V/|ḡ|² of each convolution, the batch size at which signal and noise are equal, within the run.

    From the share of the signal in E|g|² at the batch size of the training, mean over its frozen checkpoints: by
    products of different batches, or, where these were not measured, by the fit of `analysis.noise_slopes`. Infinite
    where there is none.
    """
    config = runs[0].config
    measured = with_products(runs)
    table = analysis.convolutions(analysis.noise(measured or runs))
    size = config.batch_size
    if measured:
        # that of the training, or the nearest that was measured: V depends on it but little
        size = min(set(table["batch_size"]), key=lambda n: abs(np.log(n / config.batch_size)))
        shares = table[table["batch_size"] == size]
        shares = shares.assign(signal=shares["grad_product"] / shares["grad_norm_sq"])
    else:
        shares = analysis.noise_slopes(table, config.batch_size)
    inner = shares["epoch"].between(1, config.epochs - 1)
    within = shares[inner] if inner.any() else shares  # a run may be too short to have any but its two ends
    share = within.groupby("layer", observed=True, sort=False)["signal"].mean().clip(lower=0)
    return (size * (1 / share - 1)).rename("V/|ḡ|²")


def numbers(runs: list[Run]) -> Numbers:
    """``ghosts``, what ghost groups say of slopes below −½, in sentences; ``critical_…`` of `critical_batches`.

    Slopes are those of the second half of the training.
    """
    critical = critical_batches(runs)
    measured = with_products(runs)
    return {
        "ghosts": _sentences(measured) if measured else NOT_MEASURED,
        "critical_median": batch(critical.median()),
        "critical_least": batch(critical.min()),
        "critical_worst": str(critical.idxmin()),
        "critical_how": "from products of different batches" if measured else "by the fit",
    }


def _sentences(runs: list[Run]) -> str:
    table = slopes(analysis.convolutions(analysis.noise(runs)))
    late = table[table["epoch"] >= runs[0].config.epochs / 2].dropna()
    steep = late[late["slope"] < -0.5]
    low, middle, high = late["variance"].quantile([0.1, 0.5, 0.9])
    return (
        "Groups of one size take that away. The product of the gradients of two different groups of "
        f"{GROUP} images is |ḡ|² on average, without a fit. From it follows how long the average of any number of "
        f"such groups is. {_conclusion(steep)} V itself, measured so, is with the largest batches {middle:.2f} times "
        f"what it is with the smallest, in the median of all places of that half; in eight of ten it is {low:.2f} to "
        f"{high:.2f} times that."
    )


def _conclusion(steep: pd.DataFrame) -> str:
    """What groups of one size leave of the slopes below −½."""
    if steep.empty:
        return "But no slope is below −½, and none is left to explain."
    whole, ghost = steep["slope"].mean(), steep["ghost"].mean()
    compared = (
        f"In the places where whole batches have a slope below −½, {signed(whole, 3)} in the mean, averages of groups "
        f"have {signed(ghost, 3)}. "
    )
    if ghost + 0.5 > (whole + 0.5) / 2:
        return compared + "So it is batch norm that makes the slopes steeper."
    return compared + "So something else than batch norm's groups makes the slopes steeper."


def batch(size: float) -> str:
    """A batch size in words, to two digits."""
    return "none at all" if np.isinf(size) else f"{float(f'{size:.2g}'):,.0f}"
