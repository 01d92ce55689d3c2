"""What is drawn of tables with thousands of rows: some of their points, or means and the range around them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

#: About how many points of a layer are drawn.
POINTS = 300
#: Parts of an epoch over which steps are averaged.
PARTS = 4
#: Between these quantiles most steps of a part lie.
MOST = (0.1, 0.9)


def thinned(steps: pd.DataFrame) -> pd.DataFrame:
    """The rows of every n-th step, with the n for which about `POINTS` steps are left."""
    every = -(-steps["step"].nunique() // POINTS)
    return steps[steps["step"] % every == 0]


def circles(steps: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Those columns of the steps that are drawn as circles, with ``layer`` and ``epoch``."""
    return thinned(steps)[["layer", "epoch", *columns]].reset_index(drop=True)


def averaged(steps: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of a column over each quarter of an epoch, with the range of most steps around them.

    Columns: ``layer``, ``epoch`` (the middle of the quarter), the column's own, ``low`` and ``high``.
    """
    middle = (np.floor(PARTS * steps["epoch"]) + 0.5) / PARTS
    groups = steps[column].groupby([steps["layer"], middle], observed=True)
    low, high = (groups.quantile(q) for q in MOST)
    return pd.DataFrame({column: groups.mean(), "low": low, "high": high}).reset_index()


def means(steps: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of a column over each epoch: ``layer``, ``epoch`` (its middle), and the column."""
    by = [steps["layer"], np.floor(steps["epoch"]) + 0.5]
    return steps[column].groupby(by, observed=True).mean().reset_index()


def root_mean_squares(steps: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Root mean squares of columns over each epoch: ``layer``, ``epoch`` (its middle), and the columns."""
    squares = steps[list(columns)] ** 2
    by = [steps["layer"], np.floor(steps["epoch"]) + 0.5]
    return np.sqrt(squares.groupby(by, observed=True).mean()).reset_index()


def over_runs(tables: Iterable[pd.DataFrame], column: str) -> pd.DataFrame:
    """Mean of a column over runs, and its range, by ``epoch``: the column's own, ``low`` and ``high``."""
    groups = pd.concat(tables).groupby("epoch")[column]
    return pd.DataFrame({column: groups.mean(), "low": groups.min(), "high": groups.max()}).reset_index()
