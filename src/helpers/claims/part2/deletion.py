"""Rules of chapter 13: what is left of a pattern that was to be deleted (Y26, Y32).

Rows are those of the experiment `deletion`, one a network, way to delete and number of epochs. The
unit is the network, and a case (data set, target class, number of images) stands alone: each has to
show what is claimed.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar, bar, checks, excluded
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part2.score import DATA

CASE = ["dataset", "target", "spurious"]
SLOW, DECAY = "constant rate 1e-05", "weight decay 0.0001"
RELEASED = "lissa as released"
COURSES = ("constant rate", "schedule", "weight decay")  # with their looks on the way
PLAIN = ("before", "schedule", "scratch")  # have no number, or one that goes with the data
LEFT = 0.8  # of the score: with as much, nothing was deleted
GONE = 0.2  # with at most this, the pattern was deleted
LEARNT = 0.2  # a score below it leaves nothing to delete
COST = 0.01  # of clean accuracy that a deletion may cost

_NEEDS = (*CASE, "trial", "method", "strength", "after", "score", "clean_accuracy", "step",
          "weights", "data_source")  # fmt: skip


def with_way(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `way`: method and number, or the method alone where that is enough."""
    alone = rows["method"].isin(PLAIN) | rows["method"].str.startswith("lissa")
    numbered = rows["method"] + rows["strength"].map(" {:g}".format)
    return rows.assign(way=rows["method"].where(alone, numbered))


def at_last(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their way, of further training those at its end alone."""
    rows = with_way(rows)
    return rows[~rows["method"].isin(COURSES) | (rows["after"] == rows["after"].max())]


def what_is_left(rows: pd.DataFrame) -> pd.DataFrame:
    """Attempts at deletion, at their end, on networks that had learnt the pattern.

    Returns:
        The rows with `left`, the score over that before; `moved`, the length of the step over that
        of the weights before; `cost`, the clean accuracy lost.
    """
    last = at_last(rows[rows["spurious"] > 0])
    start = last[last["way"] == "before"].set_index([*CASE, "trial"])
    start = start.loc[start["score"] >= LEARNT, ["score", "clean_accuracy", "weights"]]
    found = last.join(start.add_suffix("_before"), on=[*CASE, "trial"], how="inner")
    return found.assign(
        left=found["score"] / found["score_before"],
        moved=found["step"] / found["weights_before"],
        cost=found["clean_accuracy_before"] - found["clean_accuracy"],
    )


def bounded(values: Iterable[float], top: float = np.inf) -> stats.Interval:
    """Mean over networks with an interval that stays inside 0 and `top`, as what is measured does.

    >>> [round(x, 2) for x in bounded([0.0, 0.0, 0.3])]
    [0.1, 0.0, 0.53]
    """
    found = stats.interval_from(list(values), stats.mean_ci)
    return stats.Interval(*np.clip(found, 0.0, top).tolist())


def case_name(case: tuple[str, int, int]) -> str:
    """A case in words.

    >>> case_name(("mnist", 1, 10))
    'MNIST, class 1, n = 10'
    """
    return f"{DATA[case[0]]}, class {case[1]}, n = {case[2]}"


def smallest(left: pd.DataFrame, way: str) -> tuple[str, stats.Interval]:
    """The case in which the least is left, in words, and how much that is.

    Raises:
        LookupError: nobody went this way.
    """
    return _extreme(left, way, "idxmin")


def most(left: pd.DataFrame, way: str) -> tuple[str, stats.Interval]:
    """The case in which the most is left, in words, and how much that is.

    Raises:
        LookupError: nobody went this way.
    """
    return _extreme(left, way, "idxmax")


def _extreme(left: pd.DataFrame, way: str, which: str) -> tuple[str, stats.Interval]:
    rows = _of(left, way)
    case = getattr(rows.groupby(CASE)["left"].mean(), which)()
    return case_name(case), bounded(rows.set_index(CASE)["left"].loc[[case]])


def _of(left: pd.DataFrame, way: str) -> pd.DataFrame:
    rows = left[left["way"] == way]
    if not len(rows):
        raise LookupError(f"{way!r} on a network that had learnt the pattern")
    return rows


def _controlled(left: pd.DataFrame) -> pd.DataFrame:
    """The cases whose positive control passes: from scratch, the score is seen to be gone."""
    gone = {
        case: bar(-rows["left"], -LEFT).holds for case, rows in _of(left, "scratch").groupby(CASE)
    }
    cases = pd.MultiIndex.from_frame(left[CASE])
    return left[[gone.get(case, False) for case in cases]]


def reach(left: pd.DataFrame) -> dict[tuple, float]:
    """Of each case, the length of the shortest step that is seen to lower the score below `LEFT`.

    The steps are those along the direction of influence. Where none is seen to do it, it is the
    length of the longest tried.
    """
    found: dict[tuple, float] = {}
    for case, mine in left[left["method"] == "direction"].groupby(CASE):
        lower = [
            length for length, rows in mine.groupby("strength") if bar(-rows["left"], -LEFT).holds
        ]
        found[case] = float(min(lower, default=mine["strength"].max()))
    return found


def _bars(left: pd.DataFrame, way: str, least: Mapping[tuple, float]) -> dict[tuple, Bar]:
    """A bar for each case whose step is long enough to show something: as much is left as `LEFT`.

    A step that is shorter than any that is seen to lower the score would leave it anyway.
    """
    return {
        case: bar(rows["left"], LEFT)
        for case, rows in left[left["way"] == way].groupby(CASE)
        if rows["step"].median() >= least.get(case, np.inf)
    }


def _untested(left: pd.DataFrame, found: Mapping[str, Mapping], least: Iterable[float]) -> str:
    """The ways that are not testable in every case, with the lengths of their steps, in words."""
    cases = left.groupby(CASE).ngroups
    ways = []
    for name, bars in found.items():
        if len(bars) < cases:
            longest = left[left["way"] == WAYS[name]].groupby(CASE)["step"].median().max()
            ways.append(
                f"{name} ({cases - len(bars)} of {cases} cases, longest step {longest:.2g})"
            )
    if not ways:
        return ""
    return (
        f"Not testable: {'; '.join(ways)}. The shortest step that is seen to lower the score, "
        f"along the direction of influence, has a length of {min(least, default=np.inf):g}. "
    )


WAYS = {
    "further training along a whole schedule": "schedule",
    "further training as released, at a rate of 0.00001": SLOW,
    "a step of group influence, as released": RELEASED,
}


@rule("Y26", needs=_NEEDS)
def survives_deletion(rows: pd.DataFrame) -> Judgement:
    """Neither further training nor group influence lowers the score.

    A case counts for a way to delete where training from scratch without the images is seen to
    lower its score, and where the step is as long as one that is seen to lower it: a step that was
    done, and no more, is no control. A way without such a case is not tested, and is named.
    """
    left = what_is_left(rows)
    for way in WAYS.values():
        _of(left, way)
    able, least, cases = _controlled(left), reach(left), left.groupby(CASE).ngroups
    found = {name: _bars(able, way, least) for name, way in WAYS.items()}
    statements = {
        f"{name}: {LEFT} of the score or more is left, in each of {len(bars)} cases": list(
            bars.values()
        )
        for name, bars in found.items()
        if bars
    } or {"further training along a whole schedule can be judged": [bar([], LEFT)]}
    short = [name for name, bars in found.items() if len(bars) < cases]
    worst, share = smallest(left, "schedule")
    return Judgement(
        checks(statements),
        f"share of the score left after a whole schedule, smallest mean of a case ({worst}): "
        f"{share.mean:.2f}, largest {most(left, 'schedule')[1].mean:.2f}; after further training "
        f"as released {smallest(left, SLOW)[1].mean:.2f}, after influence as released "
        f"{smallest(left, RELEASED)[1].mean:.2f}",
        (share.low, share.high),
        int(left.groupby([*CASE, "way"])["trial"].nunique().min()),
        sources(rows),
        _untested(left, found, least.values()) + "CIFAR-10 is not tested.",
        side={f"{name}: testable in every case": False for name in short},
        boundary=LEFT,
        excluded=excluded(statements),
    )


@rule("Y32", needs=_NEEDS)
def decay_deletes(rows: pd.DataFrame) -> Judgement:
    """A second training with weight decay deletes the pattern, and costs no clean accuracy."""
    left = what_is_left(rows)
    decayed, plain = _of(left, DECAY), _of(left, "schedule")
    key = [*CASE, "trial"]
    less = (plain.set_index(key)["left"] - decayed.set_index(key)["left"]).dropna()
    groups = [part.droplevel(CASE) for _, part in less.groupby(CASE)]
    trials = less.index.get_level_values("trial").nunique()
    gain = stats.pooled(groups) if trials > 1 else stats.Interval(less.mean(), np.nan, np.nan)
    statements = {
        f"{DATA[name]}: at most {GONE} of the score is left, in every case": [
            bar(-part["left"], -GONE) for _, part in own.groupby(CASE)
        ]
        for name, own in decayed.groupby("dataset", sort=False)
    }
    beside = {
        "less is left than without weight decay, mean over cases": [Bar(gain, 0.0)],
        f"at most {COST} of clean accuracy is lost, in every case": [
            bar(-part["cost"], -COST) for _, part in decayed.groupby(CASE)
        ],
    }
    worst, share = most(left, DECAY)
    return Judgement(
        checks(statements),
        f"share of the score left, largest mean of a case ({worst}): {share.mean:.2f}; mean over "
        f"cases {decayed.groupby(CASE)['left'].mean().mean():.2f}, and "
        f"{plain.groupby(CASE)['left'].mean().mean():.2f} without weight decay",
        (share.low, share.high),
        int(decayed.groupby(CASE)["trial"].nunique().min()),
        sources(rows),
        side=checks(beside),
        boundary=GONE,
        excluded=excluded(statements),
    )
