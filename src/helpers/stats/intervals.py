"""Confidence intervals over independent repetitions.

Source: Student 1908; Efron & Tibshirani 1993 for the bootstrap.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from helpers.errors import check_whole


def check_level(level: float) -> None:
    """Raise ValueError where a level of confidence or of a test is outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: allowed is the open interval (0, 1)")


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def mean_ci(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval over independent trials.

    Args:
        values: one number a trial, at least two, none of them NaN.
        level: confidence level inside (0, 1).

    Raises:
        ValueError: fewer than two values, not one column of them, NaN among them, or a level
            outside (0, 1).

    Source: Student 1908, by SciPy (whose `t.interval` is NaN where all values are equal).

    >>> [round(x, 3) for x in mean_ci([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size < 2 or np.isnan(sample).any():
        raise ValueError(f"an interval needs at least two numbers and no NaN, got {values!r}")
    check_level(level)
    half = stats.t.ppf((1 + level) / 2, sample.size - 1) * stats.sem(sample)
    return Interval(float(sample.mean()), float(sample.mean() - half), float(sample.mean() + half))


def share_ci(hits: int, count: int, level: float = 0.95) -> Interval:
    """A share with its exact (Clopper-Pearson) interval; all of [0, 1] where nothing was counted.

    Raises:
        ValueError: hits outside 0 to count, or a level outside (0, 1).

    Source: Clopper & Pearson 1934, by SciPy.

    >>> [round(x, 3) for x in share_ci(8, 10)]
    [0.8, 0.444, 0.975]
    """
    check_level(level)
    check_whole(0, hits=hits, count=count)
    if hits > count:
        raise ValueError(f"hits is {hits}: allowed is 0 to {count}, how many were counted")
    if not count:
        return Interval(math.nan, 0.0, 1.0)
    ends = stats.binomtest(hits, count).proportion_ci(level, method="exact")
    return Interval(hits / count, float(ends.low), float(ends.high))


def bootstrap_ci(
    values: Sequence[float], level: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean and percentile bootstrap interval over independent trials.

    With five trials it is too narrow (it covers the truth in about five of six cases instead of 19
    of 20), hence :func:`mean_ci` where the data allow it.

    Args:
        values: one number a trial, at least two, none of them NaN.
        level: confidence level inside (0, 1).
        resamples: how often the trials are drawn anew, at least once.
        seed: of the draws.

    Raises:
        ValueError: as in :func:`mean_ci`, or fewer resamples.

    Source: Efron 1979.

    >>> bootstrap_ci([2.0, 2.0, 2.0])
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    mean = mean_ci(values, level).mean  # refuses what is no sample
    check_whole(resamples=resamples)
    sample = np.asarray(values, dtype=float)
    # `scipy.stats.bootstrap` draws the same, but rounds quantiles differently in the last digit
    drawn = np.random.default_rng(seed).choice(sample, (resamples, sample.size)).mean(1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def interval_from(
    values: Sequence[float],
    of: Callable[[Sequence[float]], Interval] = bootstrap_ci,
    *,
    least: int = 2,
    none: float = float("nan"),
) -> Interval:
    """Mean and interval of the trials; without ends where they are fewer than `least`.

    The mean of no trial is NaN. No end is NaN, or -`none` and `none` where another number is given
    (infinity: nothing is known).

    >>> interval_from([2.0])
    Interval(mean=2.0, low=nan, high=nan)
    """
    sample = np.asarray(values, dtype=float)
    if sample.size < least:
        return Interval(float(sample.mean()) if sample.size else math.nan, -none, none)
    return of(sample)
