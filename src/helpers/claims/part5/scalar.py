"""The rules of Part V's second chapter: one scalar, its limits, and when it cures or poisons.

The unit of replication is a draw of data. A law holds where the 95 % interval of its relative error
lies within 10 %, and fails where it lies outside; in between nothing is decided.
"""

import itertools
import math

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part5.conjunction import Conjunction
from helpers.stats import Interval

WITHIN = 0.1  # relative error that is allowed
CLEAR = math.log(1.1)  # distance of log R from 0 that counts
WRONG = {"raw": "the ridge itself", "flat": "a flat spectrum"}  # scalars that must fail
_CELL = ["samples", "ridge"]


def interval_of(values: pd.Series) -> Interval:
    """Mean and 95 % interval over draws; nothing is known where a number is not finite."""
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        return Interval(math.nan, math.nan, math.nan)
    return stats.interval_from(sample, stats.mean_ci)


def holds(error: Interval) -> bool:
    """Whether the interval of an error lies within 10 %."""
    return bool(error.low > -WITHIN and error.high < WITHIN)


def fails(error: Interval) -> bool:
    """Whether it lies outside."""
    return bool(error.low > WITHIN or error.high < -WITHIN)


def cell_errors(rows: pd.DataFrame, scalar: str = "felt") -> list[Interval]:
    """Relative error of what a scalar predicts, for each number of samples and ridge."""
    errors = rows.assign(error=rows["measured"] / rows[scalar] - 1).groupby(_CELL)["error"]
    return [interval_of(error) for _, error in errors]


def one_scalar(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Each quantity is as the felt ridge says in every cell; by each wrong scalar it is not.

    A quantity that a wrong scalar predicts as well decides nothing.
    """
    checks, excluded, largest = {}, [], 0.0
    for (world, quantity), part in rows.groupby(["world", "quantity"], sort=False):
        errors = cell_errors(part)
        largest = max([largest, *(abs(error.mean) for error in errors)])
        tells = all(any(map(fails, cell_errors(part, wrong))) for wrong in WRONG)
        name = f"{world}, {quantity}: within 10 % (control: not by {' or '.join(WRONG.values())})"
        checks[name] = all(map(holds, errors)) and tells
        excluded.append(tells and any(map(fails, errors)))
    words = f"largest mean error of a cell {100 * largest:.1f} %"
    seeds = rows["trial"].nunique()
    return Conjunction(checks, words, None, seeds, data, note, excluded=any(excluded))


_LAW = ("world", "quantity", *_CELL, "trial", "measured", "felt", *WRONG)


@rule("S6", needs=_LAW)
def simulated(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """One felt ridge predicts five quantities of three parts on simulated data."""
    return one_scalar(rows, data, note)


@rule("S7", needs=_LAW)
def images(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """The same on images: digits and features of a pretrained network."""
    return one_scalar(rows, data, note)


@rule("S8", needs=("limit", "arm", "trial", "error"))
def limits(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Where the law fails by more than 10 %, and holds once the named reason is taken away.

    Arms: `broken`; `matched`, alike but for the reason; `repaired`, a law that knows the reason.
    """
    checks, side, excluded, words = {}, {}, [], []
    for limit, part in rows.groupby("limit", sort=False):
        arms = {name: interval_of(arm["error"]) for name, arm in part.groupby("arm")}
        broken, matched = arms["broken"], arms["matched"]
        named = fails(broken) and holds(matched)
        checks[f"{limit}: off by more than 10 %; without, within"] = named
        excluded.append(holds(broken) or fails(matched))
        if "repaired" in arms:
            side[f"{limit}: the law that knows of it, within 10 %"] = holds(arms["repaired"])
        words.append(f"{limit} {100 * broken.mean:+.0f} % against {100 * matched.mean:+.1f} %")
    seeds = rows["trial"].nunique()
    effect = "error of the law: " + "; ".join(words)
    return Conjunction(
        checks, effect, None, seeds, data, note, side=side, excluded=any(excluded))  # fmt: skip


CORNERS = {"cure": (1, -1), "poison": (-1, 1), "no remedy": (1, 1), "no harm": (-1, -1)}


@rule("S9", needs=("corner", "dial", "trial", "weak", "strong", "core"))
def lift_decides(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Each dial takes R across 1 where the map says so, down or up, and nowhere else.

    At both ends R is off 1 by a tenth or more.

    `weak` and `strong`: R at both ends of a dial, `core`: answer to the core at the strong end,
    without which R means nothing. That R stays on its side elsewhere is a side check: a dial that
    does nothing has it as well.
    """
    found, wrong, words = {}, [], []
    dials = rows["dial"].unique()
    for (corner, sides), dial in itertools.product(CORNERS.items(), dials):
        part = rows[(rows["corner"] == corner) & (rows["dial"] == dial)]
        if part.empty:
            raise KeyError(f"{corner} by {dial}")
        alive = interval_of(part["core"]).low > 0
        with np.errstate(invalid="ignore"):
            weak, strong = np.log(part["weak"]), np.log(part["strong"])
        ends = [interval_of(sides[0] * weak), interval_of(sides[1] * strong)]
        found[corner, dial] = bool(alive and all(end.low > CLEAR for end in ends))
        if sides[0] != sides[1]:
            wrong.append(any(end.high < 0 for end in ends))
            means = (math.exp(s * end.mean) for s, end in zip(sides, ends, strict=True))
            words.append(f"{corner} by {dial} {' → '.join(f'{mean:.2f}' for mean in means)}")
    crossing = {key: ok for key, ok in found.items() if key[0] in ("cure", "poison")}
    checks, side = (
        {f"{corner} by {dial}: {_SAYS[corner]}": ok for (corner, dial), ok in part.items()}
        for part in (crossing, {key: ok for key, ok in found.items() if key not in crossing})
    )
    effect, seeds = "R: " + "; ".join(words), rows["trial"].nunique()
    return Conjunction(checks, effect, None, seeds, data, note, side=side, excluded=any(wrong))


_SAYS = {"cure": "R from above 1 to below", "poison": "R from below 1 to above",
         "no remedy": "R stays above 1", "no harm": "R stays below 1"}  # fmt: skip
