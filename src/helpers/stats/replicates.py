"""From rows of results to statements over independent repetitions (trials, networks, splits).

Ours, on the tests and intervals of this package.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from helpers.stats.intervals import Interval, bootstrap_ci, interval_from, mean_ci


def per_trial(values: pd.Series, trials: pd.Series) -> pd.Series:
    """One number a trial: the mean over its rows (rankings, groups, sizes).

    A trial that lacks rows which others have would be a mean of something else: it is left out.

    Args:
        values: one number a row.
        trials: the trial of each row, with the same index.

    >>> per_trial(pd.Series([1.0, 3.0, 5.0]), pd.Series([0, 0, 1])).to_dict()
    {0: 2.0}
    """
    table = values.groupby(trials).agg(["mean", "size"])
    return table.loc[table["size"] == table["size"].max(), "mean"].dropna()


def paired(
    first: pd.DataFrame, second: pd.DataFrame, column: str, key: Sequence[str] = ("trial",)
) -> pd.Series:
    """A column under the first condition minus the same under the second, for each shared trial.

    Args:
        first, second: rows of the two conditions, each with one row for every value of the key.
        column: what is subtracted.
        key: columns that say which rows belong together.

    Returns:
        The differences by key, without those that only one condition has.

    Raises:
        ValueError: a condition with two rows of the same key.

    >>> rows = pd.DataFrame({"trial": [0, 1, 0], "n": [0, 0, 3], "score": [0.1, 0.2, 0.6]})
    >>> paired(rows[rows["n"] == 3], rows[rows["n"] == 0], "score").to_dict()
    {0: 0.5}
    """
    sides = [rows.set_index(list(key))[column] for rows in (first, second)]
    for side in sides:
        if side.index.has_duplicates:
            again = side.index[side.index.duplicated()][0]
            raise ValueError(f"{', '.join(key)} = {again} has more than one row: no pairs")
    return (sides[0] - sides[1]).dropna()


def pooled(groups: Iterable[pd.Series]) -> Interval:
    """Mean over groups (data sets, panels) with an interval over the trials that they share.

    The groups of one trial have the same seeds, so they count as one. Each is taken by its distance
    from its own mean, since not every group has every trial; empty groups are left out.

    Args:
        groups: one series a group, a number for each trial, indexed by trial.

    Raises:
        ValueError: fewer than two trials, or NaN among them.

    >>> pooled([pd.Series([1.0, 2.0]), pd.Series([11.0, 12.0])]).mean
    6.5
    """
    there = [values for values in groups if len(values)]
    if not there:
        raise ValueError("no group has a trial: at least two trials are needed")
    centre = float(np.mean([values.mean() for values in there]))
    apart = pd.concat([values - values.mean() for values in there]).groupby(level=0).mean()
    return mean_ci(centre + apart.to_numpy())


def above_zero(
    values: Sequence[float],
    of: Callable[[Sequence[float]], Interval] = bootstrap_ci,
    *,
    least: int = 5,
) -> bool:
    """The rule of most claims on networks: the interval lies above 0, on `least` trials or more.

    >>> above_zero([1.0, 2.0, 1.5, 2.5, 2.0]), above_zero([1.0, 2.0])
    (True, False)
    """
    return bool(interval_from(values, of, least=least).low > 0)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of the Student-t interval over trials; NaN is the width of a single one.

    >>> [round(x, 3) for x in mean_and_half([1.0, 2.0, 3.0])], mean_and_half([2.0])
    ([2.0, 2.484], (2.0, nan))
    """
    found = interval_from(list(values), mean_ci)
    return found.mean, found.high - found.mean


def error_bars(samples: Iterable[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Means and half widths for `Axes.errorbar`, one of each a sample.

    Trials that are NaN (diverged) are left out; where none is left, both numbers are NaN.

    >>> [x.round(2).tolist() for x in error_bars([[1.0, 2.0, 3.0], [float("nan")]])]
    [[2.0, nan], [2.48, nan]]
    """
    kept = [sample[~np.isnan(sample)] for sample in (np.asarray(s, dtype=float) for s in samples)]
    made = [mean_and_half(sample) if len(sample) else (np.nan, np.nan) for sample in kept]
    return tuple(np.array(made, dtype=float).reshape(-1, 2).T)


def arms(intervals: Sequence[Interval]) -> np.ndarray:
    """Lengths `(2, n)` of the two arms of each interval, as `Axes.errorbar` wants them.

    >>> arms([Interval(2.0, 1.5, 3.0)]).tolist()
    [[0.5], [1.0]]
    """
    return np.abs([[made.mean - made.low, made.high - made.mean] for made in intervals]).T


def courses(rows: pd.DataFrame, columns: Sequence[Hashable], step: str = "epoch") -> np.ndarray:
    """Columns along the steps of each trial, `(trials, steps, columns)`, both in rising order.

    Raises:
        ValueError: trials that do not all have the same steps.

    >>> rows = pd.DataFrame({"trial": [1, 0, 0, 1], "epoch": [0, 1, 0, 1], "a": [3.0, 2, 1, 4]})
    >>> courses(rows, ["a"])[..., 0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    rows = rows.sort_values(["trial", step])
    trials = rows["trial"].nunique()
    steps = rows[step].to_numpy().reshape(trials, -1) if len(rows) % max(trials, 1) == 0 else None
    if steps is None or (steps != steps[:1]).any():
        raise ValueError(f"the trials do not all have the same values of {step}")
    return rows[list(columns)].to_numpy().reshape(trials, -1, len(columns))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN where one of the two is constant, or shorter than two.

    >>> rank_correlation([1, 2, 3], [10, 20, 15]), rank_correlation([1, 2, 3], [1, 1, 1])
    (0.5, nan)
    """
    if min(len(a), len(b)) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def z_score(values: Sequence[float]) -> float:
    """Mean over its standard error; a difference that never varies counts by its sign, if any.

    NaN without two values, or with one that is not finite: nothing is known then.

    >>> round(z_score([1.0, 2.0, 3.0]), 3), z_score([-1.0, -1.0])
    (3.464, -inf)
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan
    mean, error = float(values.mean()), float(stats.sem(values))
    if error > 0 and (values != values[0]).any():  # sums of equal values may round
        return mean / error
    return math.copysign(math.inf, mean) if mean else 0.0


def fall(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column at the smallest N minus the same at the largest, by trial."""
    values = rows.pivot(index="trial", columns="samples", values=column)
    return values.iloc[:, 0] - values.iloc[:, -1]


def mean_fall(panels: Mapping[str, pd.DataFrame], column: str) -> Interval:
    """The fall, mean over panels, with its interval over the trials that all panels have."""
    falls = pd.DataFrame({title: fall(rows, column) for title, rows in panels.items()})
    return mean_ci(falls.dropna().mean(axis=1))


def rank_with_samples(rows: pd.DataFrame, column: str) -> float:
    """Spearman correlation of N with the mean over trials; NaN for a constant column."""
    means = rows.groupby("samples")[column].mean()
    return rank_correlation(means.index, means)
