"""What chapter 12 shows beside its verdicts: methods compared best with best, and the advice.

Tables are those of :func:`.prevention.compared`, at levels that were chosen on other trials.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.part2.prevention import CLAIMED, TOLERABLE, Levels, cells, compared, pooled


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


def at_edge(rows: pd.DataFrame, levels: Levels) -> dict[str, list[tuple[str, str]]]:
    """Methods whose chosen level is the first or the last tried, each with data set and pattern.

    There a better level may lie outside. One level alone is no choice and has no edge.
    """
    tried = rows.groupby(["dataset", "pattern", "method"])["level"].unique()
    found: dict[str, list[tuple[str, str]]] = {}
    for (dataset, pattern, method), own in tried.items():
        level = levels.get((dataset, pattern), {}).get(method)
        if len(own) > 1 and level in (min(own), max(own)):
            found.setdefault(method, []).append((dataset, pattern))
    return found


def kept_share(table: pd.DataFrame, pattern: str, n: int) -> tuple[float, int]:
    """Share of the excess of a pattern that noise and weight decay leave at n, and of how many.

    Ratio of the means over the cells in which the pattern is learnt without a method; NaN and 0
    where there is none.
    """
    mine = table[table["method"].isin(CLAIMED) & (table["pattern"] == pattern)]
    found = cells(mine[mine["spurious"] == n])
    found = found[found["learnt"]]
    if not len(found):
        return math.nan, 0
    return float(found["excess"].mean() / found["plain"].mean()), len(found)


def course(rows: pd.DataFrame) -> pd.Series:
    """Excess at an early stop over that after all epochs, by data set, n and epochs of the stop.

    Ratio of the means over patterns and trials. Above 1: the pattern counts for more early in
    training. The rows are to have all stops for each data set, as those of the trials that choose.
    """
    seen = compared(rows)
    early = seen[seen["method"] == "early stopping"]
    means = early.groupby(["dataset", "spurious", "level"])[["excess", "plain"]].mean()
    return means["excess"] / means["plain"]


def fitted_late(rows: pd.DataFrame) -> tuple[str, stats.Interval]:
    """In words, whether few images are learnt later than many, and by how much.

    Returns:
        The words, and the share of :func:`course` with the fewest images minus that with the most:
        mean over data sets and stops, with its interval over trials.
    """
    early = rows[rows["method"].isin(("none", "early stopping"))]
    shares = {trial: course(mine) for trial, mine in early.groupby("trial")}
    counts = [n for n in sorted(early["spurious"].unique()) if n > 0]
    if len(counts) < 2:
        nothing = stats.Interval(math.nan, math.nan, math.nan)
        return "With one n, nothing can be said of few and many images", nothing
    gaps = [
        (own.xs(counts[0], level="spurious") - own.xs(counts[-1], level="spurious")).mean()
        for own in shares.values()
    ]
    gap = stats.interval_from(gaps, stats.mean_ci)
    if gap.high < 0:
        return "Few images are learnt later than many", gap
    if gap.low > 0:
        return "Few images are learnt earlier than many", gap
    return "There is no clear order in n here", gap
