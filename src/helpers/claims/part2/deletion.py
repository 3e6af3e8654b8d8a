"""Rules of chapter 13: what is left of a pattern that was to be deleted (Y26, Y32).

Rows are those of the experiment `deletion`, one a network, way to delete and number of epochs. The
unit is the network, and a case (data set, target class, number of images) stands alone: each has to
show what is claimed.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part4.bars import Bar, bar, checks, excluded

CASE = ["dataset", "target", "spurious"]
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "mnist5k": "MNIST subset"}
SLOW, DECAY = "constant rate 1e-05", "weight decay 0.0001"
RELEASED = "lissa as released"
COURSES = ("constant rate", "schedule", "weight decay")  # with their looks on the way
PLAIN = ("before", "schedule", "scratch")  # have no number, or one that goes with the data
LEFT = 0.8  # of the score: with as much, nothing was deleted
GONE = 0.2  # with at most this, the pattern was deleted
LEARNT = 0.2  # a score below it leaves nothing to delete
ROUNDING = 1e-6  # of the length of the weights; a shorter step is none in single precision
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


def _bars(left: pd.DataFrame, way: str) -> dict[tuple, Bar]:
    """A bar for each case: as much is left as `LEFT`, after a step that moved the weights."""
    return {
        case: bar(rows["left"], LEFT)
        for case, rows in left[left["way"] == way].groupby(CASE)
        if rows["moved"].median() > ROUNDING
    }


def _judged(bars: Mapping[tuple, Bar]) -> list[Bar]:
    """The bars of a statement; none to judge is one of which nothing is known."""
    return list(bars.values()) or [bar([], LEFT)]


def _released_note(left: pd.DataFrame, bars: Mapping[str, dict], held: list[bool]) -> str:
    """With which restriction the claim holds, and what was not judged."""
    *_, stated = (list(found.values()) for found in bars.values())
    cases = left.groupby(CASE).ngroups
    idle = [f"{n} ({cases - len(b)} of {cases} cases)" for n, b in bars.items() if len(b) < cases]
    notes = []
    if all(held[:-1]) and not held[-1]:
        refuted = any(one.excluded for one in stated)
        notes.append(
            "As released it holds, further training at the schedule's smallest rate; as stated it "
            + ("does not." if refuted else "is not decided.")
        )
    if idle:
        notes.append(
            f"Not judged where no step is beyond rounding or the control fails: {'; '.join(idle)}."
        )
    return " ".join([*notes, "CIFAR-10 is not tested."])


@rule("Y26", needs=_NEEDS)
def survives_deletion(rows: pd.DataFrame) -> Judgement:
    """Neither further training nor group influence lowers the score: as released, and as stated.

    A case counts for a way to delete when training from scratch without the images lowers its score
    (something can be seen to go) and the step moved the weights (something was done).
    """
    left = what_is_left(rows)
    ways = {
        "as released, further training at a rate of 0.00001": SLOW,
        "as released, a step of group influence": RELEASED,
        "as stated, further training along a whole schedule": "schedule",
    }
    for way in ways.values():
        _of(left, way)
    able = _controlled(left)
    bars = {name: _bars(able, way) for name, way in ways.items()}
    statements = {
        f"{name}: {LEFT} of the score or more is left, in each of {len(found)} cases": _judged(
            found
        )
        for name, found in bars.items()
    }
    held, (worst, share) = checks(statements), smallest(left, "schedule")
    return Judgement(
        held,
        f"share of the score left after a whole schedule, smallest mean of a case ({worst}): "
        f"{share.mean:.2f}; after further training as released {smallest(left, SLOW)[1].mean:.2f}, "
        f"after influence as released {smallest(left, RELEASED)[1].mean:.2f}",
        (share.low, share.high),
        int(left.groupby([*CASE, "way"])["trial"].nunique().min()),
        sources(rows),
        _released_note(left, bars, list(held.values())),
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
