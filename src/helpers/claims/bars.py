"""Statements as sets of bars: means over trials that have to lie above a limit.

A statement holds when the whole 95 % interval of each of its bars lies above the limit, and is
excluded once one interval lies below; in between nothing is decided.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from helpers import stats


class Bar(NamedTuple):
    """A mean over trials, with its interval, and the limit above which it has to lie.

    Attributes:
        found: mean and 95 % interval; NaN where nothing is known.
        limit: what the interval is compared with.
        decides: False for a condition (a manipulation that worked): without it the statement does
            not hold, but that speaks not against it.
        lenient: the interval needs not lie above the limit, only not below.
    """

    found: stats.Interval
    limit: float
    decides: bool = True
    lenient: bool = False

    @property
    def holds(self) -> bool:
        """Whether the interval lies above the limit (lenient: not below)."""
        return bool((self.found.high if self.lenient else self.found.low) > self.limit)

    @property
    def excluded(self) -> bool:
        """Whether the interval lies below the limit, and that decides."""
        return bool(self.decides and self.found.high < self.limit)


def bar(values: Iterable[float], limit: float, **how: bool) -> Bar:
    """A bar over independent trials; one number that is not finite, and nothing is known.

    >>> bar([0.5, 0.6, 0.7], 0.2).holds, bar([0.5, float("inf")], 0.2).holds
    (True, False)
    """
    sample = np.asarray(list(values), dtype=float)
    unknown = stats.Interval(math.nan, math.nan, math.nan)
    known = sample.size and np.isfinite(sample).all()
    return Bar(stats.interval_from(sample, stats.mean_ci) if known else unknown, limit, **how)


def inside(values: Iterable[float], width: float) -> list[Bar]:
    """The two bars of a mean within `width` of 0.

    >>> all(one.holds for one in inside([0.01, -0.01], 0.2))
    True
    """
    sample = np.asarray(list(values), dtype=float)
    return [bar(sample, -width), bar(-sample, -width)]


def checks(statements: Mapping[str, Sequence[Bar]]) -> dict[str, bool]:
    """Whether each statement holds."""
    return {name: all(one.holds for one in bars) for name, bars in statements.items()}


def excluded(statements: Mapping[str, Sequence[Bar]]) -> bool:
    """Whether each statement has a part that the rows exclude."""
    return all(any(one.excluded for one in bars) for bars in statements.values())
