"""What Part III's rules share: which groups are rare, and statements over networks.

Rows have a column for each group, `<name>_0` to `<name>_3`. Units of replication are networks, each
trained on its own draw of images: intervals are Student's over them.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims import bars
from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, sources

PHOTOS, GARMENTS, ONE_RARE = "sky", "birds", "sky faces"
TRANSFORMER = "birds, transformer"
SMALL = "digits"  # of smoke runs
RARE = {ONE_RARE: (1,), "faces": (3,)}  # of other settings: groups 1 and 2
LEAST = 5  # networks, fewer of which decide nothing
NEGLIGIBLE = 0.01  # an effect that is surely below one point is none


def rare(setting: str) -> tuple[int, ...]:
    """The rare groups of a setting.

    >>> rare("sky"), rare("sky faces")
    ((1, 2), (1,))
    """
    return RARE.get(setting, (1, 2))


def frequent(setting: str) -> tuple[int, ...]:
    """The other groups."""
    return tuple(g for g in range(4) if g not in rare(setting))


def main(rows: pd.DataFrame) -> str:
    """The setting that a claim is judged on: photographs, or what a small run has in their place.

    >>> main(pd.DataFrame({"setting": ["birds", "sky"]}))
    'sky'
    """
    return PHOTOS if (rows["setting"] == PHOTOS).any() else SMALL


def of_groups(rows: pd.DataFrame, name: str, groups: Sequence[int]) -> pd.Series:
    """Mean of a column over some groups, a number a row; NaN where one of them is."""
    return rows[[f"{name}_{g}" for g in groups]].mean(axis=1, skipna=False)


def selectivity(rows: pd.DataFrame, name: str, setting: str) -> pd.Series:
    """Mean over the rare groups minus mean over the frequent ones, a number a row."""
    return of_groups(rows, name, rare(setting)) - of_groups(rows, name, frequent(setting))


def by_network(rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Mean over the rows of each network; networks with fewer rows are left out.

    Raises:
        LookupError: no rows.
    """
    if not len(rows):
        raise LookupError("these networks")
    return stats.per_trial(values, rows["trial"])


def over(values: Sequence[float] | pd.Series, limit: float = 0.0, **how: bool) -> Bar:
    """A bar over networks; fewer than :data:`LEAST` and nothing is known.

    >>> over([0.1, 0.2, 0.3]).holds, over([0.1, 0.2, 0.3, 0.2, 0.1]).holds
    (False, True)
    """
    sample = np.asarray(values, dtype=float)
    return bars.bar(sample if len(sample) >= LEAST else [np.nan], limit, **how)


def points(found: stats.Interval) -> str:
    """An interval of shares in points; in words where nothing is known (too few networks).

    >>> points(stats.Interval(0.031, 0.01, 0.052))
    '+3.1 points [+1.0, +5.2]'
    """
    if not math.isfinite(found.low):
        return "not known"
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def judged(
    statements: Mapping[str, Sequence[Bar]], effect: str, shown: stats.Interval,
    rows: pd.DataFrame, note: str = "", side: Mapping[str, Sequence[Bar]] | None = None,
) -> Judgement:  # fmt: skip
    """A judgement by statements, see :mod:`helpers.claims.bars`; `shown` is the effect's interval.

    An effect that is surely below :data:`NEGLIGIBLE` is none, even if it is surely above 0: a bar
    with limit 0 does not hold then. A statement is excluded once one of its effects is none or lies
    below its limit. What the statements at the side say does not exclude a claim, it restricts one
    that holds.
    """
    held = {
        name: all(one.holds and not is_none(one) for one in parts)
        for name, parts in statements.items()
    }
    excluded = all(any(one.excluded or is_none(one) for one in parts)
                   for parts in statements.values())  # fmt: skip
    ends = (shown.low, shown.high) if np.isfinite([shown.low, shown.high]).all() else None
    return Judgement(
        held, effect, ends, rows["trial"].nunique(), sources(rows), note,
        side=bars.checks(side or {}), excluded=excluded,
    )  # fmt: skip


def is_none(one: Bar) -> bool:
    """Whether an effect that has to be above 0 is surely smaller than :data:`NEGLIGIBLE`.

    >>> is_none(over([0.004] * 5)), is_none(over([0.02] * 5)), is_none(over([0.004] * 2))
    (True, False, False)
    """
    return bool(one.decides and not one.limit and one.found.high < NEGLIGIBLE)


def setting(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of a setting.

    Raises:
        LookupError: there are none.
    """
    found = rows[rows["setting"] == name]
    if not len(found):
        raise LookupError(f"networks of {name!r}")
    return found
