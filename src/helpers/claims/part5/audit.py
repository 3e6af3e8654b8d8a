"""The rules of Part V's last chapter: what an audit foretells, how often it cries wolf or misses.

The unit of replication is a trial: an audited set with the linear models trained beside it, or a
network with what was planted in it.
"""

import math

import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part5.conjunction import Conjunction
from helpers.claims.part5.scalar import interval_of
from helpers.stats import Interval

NEAR = 0.03  # between a flip share that is foretold and one that is measured
ALARMS, HITS = 0.05, 0.9  # share of clean networks flagged at most, of planted ones at least
ASKED = ("worst_group", "spurious_score", "hidden_pattern", "membership_auc", "own_background",
         "leading_mode", "critical_channels")  # fmt: skip
# what was planted -> the findings that have to be flagged
OWED = {
    "trigger": ("spurious_score", "hidden_pattern"),
    "wrong labels": ("membership_auc",),
}


def flip_errors(rows: pd.DataFrame, column: str = "foretold") -> dict[str, Interval]:
    """What is foretold minus what is measured, over trials, by world."""
    errors = rows[column] - rows["measured"]
    return {str(world): interval_of(e) for world, e in errors.groupby(rows["world"], sort=False)}


@rule("S17", needs=("world", "trial", "foretold", "measured"))
def flip_share(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """In each world, the interval of the error of the foretold flip share lies within 0.03.

    Control: one number for all worlds, the mean of what was measured, must not do. A share above
    which nothing flips counts as 1.
    """
    found = flip_errors(rows)
    constant = flip_errors(rows.assign(constant=rows["measured"].mean()), "constant")
    tells = any(one.low > NEAR or one.high < -NEAR for one in constant.values())
    checks = {
        f"{world}: within {NEAR} (control: one number for all worlds is not)":
        tells and one.low > -NEAR and one.high < NEAR
        for world, one in found.items()
    }  # fmt: skip
    off = any(one.low > NEAR or one.high < -NEAR for one in found.values())
    words = "; ".join(f"{world} {one.mean:+.3f}" for world, one in found.items())
    seeds = rows["trial"].nunique()
    return Conjunction(checks, f"foretold minus measured: {words}", None, seeds, data, note,
                       excluded=tells and off)  # fmt: skip


def flagged(rows: pd.DataFrame, question: str) -> Interval:
    """Share of the networks that were asked, in which this finding is flagged."""
    told = rows.loc[rows[f"{question}_value"].notna(), f"{question}_flagged"]
    return stats.share_ci(int(told.sum()), len(told))


_FINDINGS = tuple(f"{name}_{end}" for name in ASKED for end in ("value", "flagged"))
_PLANTED = ("network", "planted", "trial", "inside", *_FINDINGS)


@rule("S18", needs=_PLANTED)
def false_alarms(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Of networks in which nothing was planted, each question flags one in twenty at most.

    At the side: the share over all questions is known to be as small. Refuted where the interval of
    a question lies above.
    """
    clean = rows[rows["planted"] == "nothing"]
    found = {name: flagged(clean, name) for name in ASKED}
    asked = {name: int(clean[f"{name}_value"].notna().sum()) for name in ASKED}
    told = sum(asked.values())
    hits = sum(clean.loc[clean[f"{name}_value"].notna(), f"{name}_flagged"].sum() for name in ASKED)
    pooled = stats.share_ci(int(hits), told)
    enough = all(
        count >= 20 for count in asked.values()
    )  # with fewer, one is more than a twentieth
    checks = {
        f"{name.replace('_', ' ')}: {asked[name]} asked, {one.mean:.0%} flagged":
        asked[name] >= 20 and one.mean <= ALARMS
        for name, one in found.items()
    }  # fmt: skip
    return Conjunction(
        checks, f"share of clean answers that are flagged: {100 * pooled.mean:.1f} %",
        tuple(pooled[1:]) if told else None, max(len(clean), 1), data, note,
        side={"all questions together: known to be below 5 %": pooled.high < ALARMS},
        excluded=enough and any(one.low > ALARMS for one in found.values()),
    )  # fmt: skip


@rule("S19", needs=_PLANTED)
def planted_found(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Nine in ten planted triggers and wrong labels are flagged by each question that ought to.

    A trigger has to be found where it is. Control: of clean networks each of these questions flags
    one in twenty at most. Refuted where the interval of a question lies below nine in ten.
    """
    clean = rows[rows["planted"] == "nothing"]
    checks, excluded, words = {}, [], []
    for kind, questions in OWED.items():
        own = rows[rows["planted"] == kind]
        for name in questions:
            right = own if name != "hidden_pattern" else own.assign(
                hidden_pattern_flagged=own["hidden_pattern_flagged"] * own["inside"]
            )  # fmt: skip
            found, quiet = flagged(right, name), flagged(clean, name).mean <= ALARMS
            what = f"{kind}: {name.replace('_', ' ')}"
            checks[f"{what} in nine of ten (control: in one of 20 clean ones)"] = bool(
                found.mean >= HITS and quiet
            )
            excluded.append(found.high < HITS)
            words.append(f"{what} {found.mean:.0%}")
    planted = rows[rows["planted"].isin(OWED)]
    return Conjunction(checks, "; ".join(words), None, max(len(planted), 1), data, note,
                       excluded=any(excluded))  # fmt: skip


def alarms(rows: pd.DataFrame) -> pd.DataFrame:
    """Share flagged by question (rows) and what was planted (columns); NaN where none was asked."""
    table = {
        str(kind): {
            name: flagged(part, name).mean if part[f"{name}_value"].notna().any() else math.nan
            for name in ASKED
        }
        for kind, part in rows.groupby("planted", sort=False)
    }
    return pd.DataFrame(table)
