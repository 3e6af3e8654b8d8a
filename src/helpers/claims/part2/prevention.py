"""Rules of chapter 12: ways of training that might keep a rare pattern out (Y15, Y16, Y17, Y31).

Rows are those of `rare_mitigation`, a network each. The *excess* is the score of a network minus
that of the clean network of the same trial, method and level: what the spurious images have added.
A method's level is chosen on some trials (`chosen`) and judged on others (`compared`), so that a
lucky level gains nothing. Intervals are Student's over trials.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources
from helpers.claims.part2.score import DATA

TOLERABLE = 0.02  # clean accuracy that a method may cost, the same for all
KEPT = 0.7  # "weakened": the excess is at most this share of that without the method
REMOVED = 0.01  # "removed": the excess is at most this, one test image in a hundred
BOTH = {"mnist", "fashion_mnist"}  # the data sets on which a method has to help
CLAIMED, CLIPS = ("noise", "weight decay"), ("clip value", "clip norm")
NEEDS = ("dataset", "pattern", "method", "level", "spurious", "trial", "score", "clean_accuracy",
         "spurious_accuracy")  # fmt: skip
Levels = Mapping[tuple[str, str], Mapping[str, float]]  # by data set and pattern, by method


def compared(rows: pd.DataFrame, levels: Levels | None = None) -> pd.DataFrame:
    """Every network with the pattern beside its clean network and the one without any method.

    Args:
        rows: with the columns `NEEDS`.
        levels: which level of each method is kept; None: all.

    Returns:
        A row each for data set, pattern, method, level, n (`spurious`) and trial: `excess`;
        `plain`, the excess without any method; `change`, the first minus the second; `contrast`,
        the first minus `KEPT` times the second; `lost` clean accuracy and `gain` of accuracy on
        images with the pattern, both against no method; `calm`, the score of the clean network.
        Networks without such partners are left out.
    """
    key = ["dataset", "pattern", "method", "level", "trial"]
    calm = rows[rows["spurious"] == 0].groupby(key)["score"].first().rename("calm").reset_index()
    seen = rows[rows["spurious"] > 0].merge(calm, on=key)
    seen = seen.assign(excess=seen["score"] - seen["calm"])
    same = ["dataset", "pattern", "spurious", "trial"]
    plain = seen.loc[seen["method"] == "none", [*same, "excess", "score", "clean_accuracy",
                                                "spurious_accuracy"]]  # fmt: skip
    new = {"excess": "plain", "score": "plain_score", "clean_accuracy": "plain_clean",
           "spurious_accuracy": "plain_spurious"}  # fmt: skip
    made = seen.merge(plain.rename(columns=new), on=same)
    made = made.assign(
        change=made["excess"] - made["plain"],
        contrast=made["excess"] - KEPT * made["plain"],
        lost=made["plain_clean"] - made["clean_accuracy"],
        gain=made["spurious_accuracy"] - made["plain_spurious"],
    )
    if levels is None:
        return made
    wanted = [
        levels.get((r.dataset, r.pattern), {}).get(r.method, 0.0) == r.level
        for r in made[["dataset", "pattern", "method", "level"]].itertuples()
    ]
    return made[wanted]


def chosen(rows: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """The level of each method that these trials recommend, for each data set and pattern.

    It has the smallest excess (mean over n and trials) among those that cost at most `TOLERABLE`
    clean accuracy; where none is so cheap, it is the cheapest. One level has to do for all n,
    which nobody knows. A level at which a network diverged is not cheap.
    """
    seen = compared(rows)
    keys = ["dataset", "pattern", "method", "level"]
    means = (
        seen[seen["method"] != "none"]
        .groupby(keys)[["lost", "excess"]]
        .agg(lambda values: values.mean(skipna=False))
    )
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (dataset, pattern, method), mine in means.groupby(level=keys[:3]):
        cheap = mine[mine["lost"] <= TOLERABLE]
        best = cheap["excess"].idxmin() if len(cheap) else mine["lost"].fillna(np.inf).idxmin()
        found.setdefault((dataset, pattern), {})[method] = float(best[-1])
    return found


# -- one cell: a data set, a pattern, a method at its level, and n --------------------------------


def _ends(groups: DataFrameGroupBy, column: str, level: float) -> pd.DataFrame:
    """Means of a column with Student's intervals; of a cell with a diverged network, no ends."""
    of = functools.partial(stats.mean_ci, level=level)
    unknown = stats.Interval(math.nan, -math.inf, math.inf)
    made = {
        key: stats.interval_from(values, of, none=math.inf) if values.notna().all() else unknown
        for key, values in groups[column]
    }
    index = pd.MultiIndex.from_tuples(made, names=groups.keys)
    return pd.DataFrame(list(made.values()), index, [column, f"{column}_low", f"{column}_high"])


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """What `compared` says of each data set, pattern, method and n, over its trials.

    Columns: means and 95 % intervals (`lost_low`, `lost_high`) of `lost`, `gain`, `change` and
    `contrast`; mean and 90 % interval of the `excess` and of `plain`, which together with a bound
    make a test of equivalence at 5 %. `learnt`: without a method the excess is above `REMOVED`,
    so that there is something to weaken. `sure_low`, `sure_high`: the interval of the excess for
    that test at 5 % over all learnt cells of the table together (Bonferroni), so that a lucky one
    does not count as removed.
    """
    keys = ["dataset", "pattern", "method", "spurious"]
    groups = table[table["method"] != "none"].groupby(keys, sort=False)
    if not len(groups):
        raise LookupError("a method beside networks without one")
    parts = [_ends(groups, column, 0.95) for column in ("lost", "gain", "change", "contrast")]
    parts += [_ends(groups, column, 0.9) for column in ("excess", "plain")]
    found = pd.concat([groups.size().rename("trials"), groups["level"].first(), *parts], axis=1)
    found["learnt"] = found["plain_low"] > REMOVED
    sure = _ends(groups, "excess", 1 - 0.1 / max(int(found["learnt"].sum()), 1))
    return found.assign(sure_low=sure["excess_low"], sure_high=sure["excess_high"])


def weakened(found: pd.DataFrame) -> pd.Series:
    """Y15 in one cell: "yes", "no" or "open", by intervals of `cells`.

    Yes: excess at most `KEPT` times, accuracy with the pattern raised, and clean accuracy lost at
    most `TOLERABLE`. No: the interval of one of the three excludes it.
    """
    yes = (found["contrast_high"] < 0) & (found["gain_low"] > 0)
    yes &= found["lost_high"] <= TOLERABLE
    no = (found["contrast_low"] > 0) | (found["gain_high"] < 0) | (found["lost_low"] > TOLERABLE)
    return pd.Series(np.select([no, yes], ["no", "yes"], "open"), index=found.index)


def remaining(found: pd.DataFrame) -> pd.Series:
    """Y17 in one cell: "left", "trace", "removed" or "open", by intervals of `cells`.

    Left and trace: the 90 % interval of the excess is above 0; a trace is inside ±`REMOVED`, but
    not nothing. Removed: not above 0, and inside ±`REMOVED`, corrected over the cells.
    """
    above = found["excess_low"] > 0
    small = found["excess_high"] < REMOVED
    gone = found[["sure_low", "sure_high"]].abs().max(axis=1) < REMOVED
    states = np.select([above & small, above, gone], ["trace", "left", "removed"], "open")
    return pd.Series(states, index=found.index)


def pooled(mine: pd.DataFrame, column: str) -> stats.Interval:
    """Mean over data sets, patterns and n; trials, which they share, are the repetitions."""
    if mine["trial"].nunique() < 2 or mine[column].isna().any():
        return stats.Interval(float(mine[column].mean(skipna=False)), -math.inf, math.inf)
    groups = mine.set_index("trial").groupby(["dataset", "pattern", "spurious"])[column]
    return stats.pooled(values for _, values in groups)


# -- rules ----------------------------------------------------------------------------------------


def _name(key: tuple) -> str:
    dataset, pattern, method, n = key
    return f"{method}, {DATA.get(dataset, dataset)}, {pattern}, n = {n}"


def _listed(keys: pd.MultiIndex) -> str:
    """Cells in words, those that differ in n alone together; "none" where there is none."""
    together: dict[tuple, list[str]] = {}
    for *place, n in keys:
        together.setdefault(tuple(place), []).append(str(n))
    return "; ".join(_name((*p, ", ".join(counts))) for p, counts in together.items()) or "none"


def _told(states: pd.Series, word: str) -> str:
    return _listed(states.index[states == word])


def _judged(rows: pd.DataFrame, levels: Levels, methods: Sequence[str]) -> pd.DataFrame:
    """`compared` for these methods; LookupError where a chosen level has no rows."""
    table = compared(rows, levels)
    table = table[table["method"].isin(methods)]
    there = set(table[["dataset", "pattern", "method"]].itertuples(index=False, name=None))
    for place, own in levels.items():
        for method in methods:
            if method in own and (*place, method) not in there:
                raise LookupError(f"{method} at {own[method]:g} ({' '.join(place)})")
    return table


def _learnt(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the cells that are learnt."""
    keys = pd.MultiIndex.from_frame(table[list(found.index.names)])
    return table[keys.isin(found.index)]


def _nothing(rows: pd.DataFrame, table: pd.DataFrame) -> Judgement:
    """No pattern is learnt even without a method: there is nothing to prevent."""
    plain = pooled(table, "plain")
    check = {f"an excess above {REMOVED:g} without any method, somewhere": False}
    effect = f"excess without any method {plain.mean:+.3f}"
    return by_trial(check, effect, plain, table, sources(rows), excluded=False)


@rule("Y15", needs=(*NEEDS, "data_source"))
def regularised(rows: pd.DataFrame, levels: Levels, note: str = "") -> Judgement:
    """A level of noise and one of weight decay weaken the pattern at little cost.

    A check for each pattern and n that is learnt without a method; in it, both methods must have
    `weakened` the pattern on all data sets on which it is learnt. One data set alone is named in
    the check, and then the claim holds in part at most.
    """
    table = _judged(rows, levels, CLAIMED)
    found = cells(table)
    found = found[found["learnt"]]
    if not len(found):
        return _nothing(rows, table)
    states = weakened(found)
    checks, refuted, whole = {}, [], []
    for (pattern, n), mine in states.groupby(level=["pattern", "spurious"]):
        there = mine.index.unique("dataset")
        whole.append(set(there) >= BOTH)
        alone = "" if whole[-1] else f", {' and '.join(DATA[name] for name in there)} alone"
        name = f"{pattern}, n = {n}{alone}: weakened by noise and by weight decay"
        checks[f"{name} ({len(mine)} cells)"] = bool((mine == "yes").all())
        refuted.append(bool((mine == "no").any()))
    change = pooled(table, "change")
    return by_trial(
        checks,
        f"excess {change.mean:+.3f} at the chosen levels, mean over data sets, patterns and n "
        f"(of {table['plain'].mean():.3f} without a method); all three conditions met in "
        f"{(states == 'yes').sum()} of {len(states)} cells",
        change,
        table,
        sources(rows),
        f"Not met: {_told(states, 'no')}. Open: {_told(states, 'open')}. {note}".strip(),
        side={"each of these patterns and n is learnt on both data sets": all(whole)},
        excluded=all(refuted),
    )


@rule("Y16", needs=(*NEEDS, "data_source"))
def clipping(rows: pd.DataFrame, levels: Levels, note: str = "") -> Judgement:
    """Clipping does not weaken the pattern, by value or by norm.

    A check for each way and n: more than `KEPT` of the excess is kept on average (the interval
    excludes less), and in no cell is it weakened at a tolerable cost. Where no check holds, one
    weakened cell is enough against the claim.
    """
    table = _judged(rows, levels, CLIPS)
    found = cells(table)
    found = found[found["learnt"]]
    if not len(found):
        return _nothing(rows, table)
    weak = (found["contrast_high"] < 0) & (found["lost"] <= TOLERABLE)
    learnt, checks = _learnt(table, found), {}
    for (method, n), mine in weak.groupby(level=["method", "spurious"]):
        kept = pooled(learnt[(learnt["method"] == method) & (learnt["spurious"] == n)], "contrast")
        by = method.replace("clip", "by")
        checks[f"{by}, n = {n}: not weakened ({len(mine)} cells)"] = kept.low > 0 and not mine.any()
    change = {m: pooled(table[table["method"] == m], "change") for m in table["method"].unique()}
    together = pooled(table, "change")
    told = "; ".join(f"{m.replace('clip', 'by')} {c.mean:+.3f}" for m, c in change.items())
    return by_trial(
        checks,
        f"excess {together.mean:+.3f} at the chosen levels, mean over data sets, patterns and n "
        f"({told})",
        together,
        table,
        sources(rows),
        f"Less is kept at a mean cost of {TOLERABLE:g} or less: {_listed(weak.index[weak])}. "
        f"{note}".strip(),
        excluded=bool(weak.any()),
    )


@rule("Y17", needs=(*NEEDS, "data_source"))
def removal(rows: pd.DataFrame, levels: Levels, note: str = "") -> Judgement:
    """None of the three methods removes the correlation, at each n by itself.

    A check for each n: in every cell in which the pattern is learnt something is left, be it a
    trace, since the claim is that nothing is *completely* removed. A cell that is shown to be
    removed refutes it.
    """
    table = _judged(rows, levels, (*CLAIMED, *CLIPS))
    found = cells(table)
    found = found[found["learnt"]]
    if not len(found):
        return _nothing(rows, table)
    states = remaining(found)
    checks = {
        f"n = {n}: something is left in all {len(mine)} cells": bool(
            mine.isin(("left", "trace")).all()
        )
        for n, mine in states.groupby(level="spurious")
    }
    least, count = found["excess"].idxmin(), states.value_counts()
    told = ", ".join(f"{word} in {count.get(word, 0)}" for word in ("trace", "open", "removed"))
    rest = pooled(_learnt(table, found), "excess")
    return by_trial(
        checks,
        f"excess {rest.mean:+.3f} of {found['plain'].mean():.3f} left, mean over the {len(found)} "
        f"cells; plainly left in {count.get('left', 0)}, {told}; smallest "
        f"{found.loc[least, 'excess']:+.4f} ({_name(least)})",
        rest,
        table,
        sources(rows),
        f"Removed: {_told(states, 'removed')}. A trace: {_told(states, 'trace')}. Open: "
        f"{_told(states, 'open')}. {note}".strip(),
        excluded=bool((states == "removed").any()),
    )


def trends(table: pd.DataFrame) -> pd.DataFrame:
    """Change of the excess under noise and weight decay, by method, data set and pattern.

    Means over n with 95 % intervals over trials.
    """
    mine = table[table["method"].isin(CLAIMED)]
    groups = mine.groupby(["method", "dataset", "pattern"], sort=False)
    made = {key: pooled(rows, "change")._asdict() for key, rows in groups}
    found = pd.DataFrame.from_dict(made, orient="index")
    found.index = pd.MultiIndex.from_tuples(found.index, names=["method", "dataset", "pattern"])
    return found


@rule("Y31", needs=(*NEEDS, "data_source"))
def same_trend(
    rows: pd.DataFrame, levels: Levels, linear: pd.DataFrame, note: str = ""
) -> Judgement:
    """S3, R3 and the linear model answer to noise and to weight decay in the same direction.

    A check for each method and data set: the excess falls for S3 and for R3, each with its interval
    below 0, and the linear model's difference falls from every level to the next. At the side,
    CIFAR-10 is among the data sets, as in the paper.

    Args:
        linear: columns `method`, `level` (from 0 on) and `difference`, of the linear model.
    """
    table = _judged(rows, levels, CLAIMED)
    found = trends(table)
    steps = linear.sort_values("level").groupby("method")["difference"]
    down = steps.agg(lambda course: bool((course.diff().iloc[1:] < 0).all()))
    up = steps.agg(lambda course: bool((course.diff().iloc[1:] > 0).all()))
    checks, refuted = {}, []
    for (method, dataset), mine in found.groupby(level=["method", "dataset"], sort=False):
        falls = [*(mine["high"] < 0), down[method]]
        rises = [*(mine["low"] > 0), up[method]]
        patterns = " and ".join(mine.index.get_level_values("pattern"))
        name = f"{method}, {DATA.get(dataset, dataset)}: {patterns} and the linear model fall"
        checks[name] = all(falls) and len(mine) == 2
        refuted.append(any(falls) and any(rises))
    change = pooled(table, "change")
    return by_trial(
        checks,
        f"change of the excess at the chosen levels {change.mean:+.3f}, mean over both methods, "
        "data sets, patterns and n",
        change,
        table,
        sources(rows) + "; linear model: closed form",
        note,
        side={"CIFAR-10 as well": "cifar10" in set(table["dataset"])},
        excluded=all(refuted),
    )
