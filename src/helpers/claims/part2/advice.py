"""What chapter 12 shows beside its verdicts: methods compared best with best, and the advice.

Tables are those of :func:`.prevention.compared`, at levels that were chosen on other trials.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.part2.prevention import TOLERABLE, compared, pooled


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Methods at their chosen levels, best first: `change` of the excess, `lost` clean accuracy.

    Means over data sets, patterns and n, with 95 % intervals over trials; `kept` is the share of
    the excess that is left on average, `tolerable` whether the mean loss is in every data set.
    """
    lines = {}
    for method, mine in table[table["method"] != "none"].groupby("method", sort=False):
        place = mine.groupby(["dataset", "pattern", "spurious"])
        line = {"kept": place["excess"].mean().mean() / place["plain"].mean().mean()}
        for column in ("change", "lost"):
            made = pooled(mine, column)
            line |= {column: made.mean, f"{column}_low": made.low, f"{column}_high": made.high}
        line["tolerable"] = bool((mine.groupby("dataset")["lost"].mean() <= TOLERABLE).all())
        lines[method] = line
    return pd.DataFrame.from_dict(lines, orient="index").sort_values("change")


def sorted_out(made: pd.DataFrame) -> dict[str, list[str]]:
    """Methods of `best` by what they are good for, best first.

    `"helps"`: the excess falls (its interval is below 0) at a tolerable cost; `"costs"`: it falls,
    for more accuracy than that; `"does not"`: the interval does not exclude that nothing is gained.
    """
    falls = made["change_high"] < 0
    parts = {
        "helps": falls & made["tolerable"],
        "costs": falls & ~made["tolerable"],
        "does not": ~falls,
    }
    return {word: list(made.index[which]) for word, which in parts.items()}


def ahead(table: pd.DataFrame, first: str, second: str) -> stats.Interval:
    """Excess with the first method minus that with the second, both at their chosen levels."""
    same = ["dataset", "pattern", "spurious", "trial"]
    sides = [table[table["method"] == m].set_index(same)["excess"] for m in (first, second)]
    return pooled((sides[0] - sides[1]).dropna().rename("gap").reset_index(), "gap")


def front(lost: Sequence[float], excess: Sequence[float]) -> list[int]:
    """Positions of the points that no other point beats in both, by rising loss.

    >>> front([0.0, 1.0, 2.0], [0.5, 0.6, 0.1])
    [0, 2]
    """
    kept, least = [], math.inf
    for index in np.lexsort((excess, lost)):
        if excess[index] < least:
            kept.append(int(index))
            least = excess[index]
    return kept


def course(rows: pd.DataFrame) -> pd.Series:
    """Excess at an early stop over that after all epochs, by n and epochs of the stop.

    Ratio of the means over data sets, patterns and trials. Above 1: the pattern counts for more
    early in training.
    """
    seen = compared(rows)
    early = seen[seen["method"] == "early stopping"]
    means = early.groupby(["spurious", "level"])[["excess", "plain"]].mean()
    return means["excess"] / means["plain"]


def fitted_late(ratios: pd.Series) -> str:
    """In words, what the shares of :func:`course` at their earliest stop say of few images.

    >>> index = pd.MultiIndex.from_tuples([(10, 1.0), (100, 1.0)], names=["spurious", "level"])
    >>> fitted_late(pd.Series([0.5, 1.0], index))
    'The fewer images carry a pattern, the later it is learnt'
    """
    shares = ratios.dropna().xs(ratios.index.get_level_values("level").min(), level="level")
    if len(shares) < 2:
        return "With one n, nothing can be said of few and many images"
    if (shares.sort_index().diff().iloc[1:] > 0).all():
        return "The fewer images carry a pattern, the later it is learnt"
    return "There is no clear order in n here"
