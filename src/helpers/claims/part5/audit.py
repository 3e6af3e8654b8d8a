"""The rules of Part V's last chapter: what an audit foretells, how often it cries wolf or misses.

The unit of replication is a trial: an audited set with the linear models trained beside it, or a
network with what was planted in it.
"""

import math
from collections.abc import Collection

import pandas as pd

from helpers import naming, stats
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part5.conjunction import Conjunction
from helpers.claims.part5.scalar import interval_of
from helpers.stats import Interval
from helpers.theory.flip_share import LAW_ERROR

NEAR = LAW_ERROR  # between a flip share that is foretold and one that is measured
FLIPS, SAFE = 0.95, 0.95  # measured share below which a world flips; share of sets called safe
ALARMS, HITS = 0.05, 0.9  # share of clean networks flagged at most, of planted ones at least
ASKED = ("worst_group", "spurious_score", "hidden_pattern", "membership_auc", "own_background",
         "leading_mode", "critical_channels")  # fmt: skip
CLEAN = ("nothing", "aligned")  # with an attribute that goes with no class; that goes with it
# what was planted -> the findings that have to be flagged
OWED = {
    "trigger": ("spurious_score", "hidden_pattern"),
    "wrong labels": ("membership_auc",),
    "shortcut": ("worst_group", "leading_mode"),
    "background": ("own_background",),
}
_LEAST, _OF_EACH = 20, 10  # clean networks that a question is put to: in all, and of each kind


def flip_errors(rows: pd.DataFrame, column: str = "foretold") -> dict[str, Interval]:
    """What is foretold minus what is measured, over trials, by world."""
    errors = rows[column] - rows["measured"]
    return {str(world): interval_of(e) for world, e in errors.groupby(rows["world"], sort=False)}


def flips_below(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's world flips below 0.95, in the mean of what was measured in it."""
    return rows.groupby("world")["measured"].transform("mean") < FLIPS


def _hits(rows: pd.DataFrame, column: pd.Series) -> dict[str, Interval]:
    """Share of trials by world and aligned share."""
    names = rows["world"] + ", " + rows["aligned"].map("{:.0%} aligned".format)
    return {str(name): stats.share_ci(int(part.sum()), len(part))
            for name, part in column.groupby(names, sort=False)}  # fmt: skip


def _beyond(one: Interval) -> bool:
    return one.low > NEAR or one.high < -NEAR


@rule("S17", needs=("world", "aligned", "trial", "foretold", "low", "high", "naive", "measured",
                    "safe", "flagged"))  # fmt: skip
def flip_share(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """The flip share is foretold, its interval holds, and worlds without a flip are called safe.

    In worlds that flip below 0.95: from sets of the smallest aligned share (others have few
    conflicting samples), the interval of the mean error lies within 0.03; and of all sets nine in
    ten have the measured share in their interval. In the others: sets of the smallest aligned share
    are called safe, and the rest are not flagged, in 95 % (the ends of an interval are moved by
    0.03, so that a share near 0.95 cannot be cleared). A share above which nothing flips counts
    as 1.

    Control, without which nothing holds: the naive law, the sample's covariance plugged in, is off
    by more than 0.03 in two of the worlds that flip.
    """
    flips, least = flips_below(rows), rows["aligned"] == rows["aligned"].min()
    told = flip_errors(rows[flips & least])
    naive = flip_errors(rows[flips & least], "naive")
    tells = sum(_beyond(one) for one in naive.values()) >= 2
    inside = rows["measured"].between(rows["low"], rows["high"])
    held = _hits(rows[flips], inside[flips])
    quiet = _hits(rows[~flips], (rows["safe"] > 0).where(least, rows["flagged"] == 0)[~flips])
    checks = {
        f"{world}: within {NEAR} (control: the naive law is not, in two worlds)":
        tells and one.low > -NEAR and one.high < NEAR
        for world, one in told.items()
    }  # fmt: skip
    checks |= {f"{name}: nine in ten intervals hold": tells and one.mean >= HITS
               for name, one in held.items()}  # fmt: skip
    checks |= {f"{name}: safe, or not flagged, in 95 %": tells and one.mean >= SAFE
               for name, one in quiet.items()}  # fmt: skip
    checks["worlds of both kinds"] = tells and bool(told and quiet)
    off = (
        any(_beyond(one) for one in told.values())
        or any(one.high < HITS for one in held.values())
        or any(one.high < SAFE for one in quiet.values())
    )
    words = "; ".join(f"{world} {one.mean:+.3f}" for world, one in told.items())
    seeds = rows["trial"].nunique()
    return Conjunction(checks, f"foretold minus measured: {words}", None, seeds, data, note,
                       excluded=off)  # fmt: skip


def flagged(rows: pd.DataFrame, question: str) -> Interval:
    """Share of the networks that were asked, in which this finding is flagged."""
    told = rows.loc[rows[f"{question}_value"].notna(), f"{question}_flagged"]
    return stats.share_ci(int(told.sum()), len(told))


def _raised(rows: pd.DataFrame) -> pd.Series:
    """Whether a network raises an alarm, of those that were asked anything."""
    asked = rows[[f"{name}_value" for name in ASKED]].notna().to_numpy()
    alarm = rows[[f"{name}_flagged" for name in ASKED]].gt(0) & asked
    return alarm.any(axis=1)[asked.any(axis=1)]


_FINDINGS = tuple(f"{name}_{end}" for name in ASKED for end in ("value", "flagged"))
_PLANTED = ("network", "planted", "trial", "inside", *_FINDINGS)


@rule("S18", needs=_PLANTED)
def false_alarms(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Of networks in which nothing was planted, each question flags one in twenty at most.

    They are of two kinds: the attribute that is told goes with no class, or with the class of most
    training images without being in them; each question is put to ten or more of each kind. At the
    side: the share of networks that raise any alarm is known to be as small (answers of one network
    are not independent). Refuted where the interval of a question lies above.
    """
    clean = rows[rows["planted"].isin(CLEAN)]
    found = {name: flagged(clean, name) for name in ASKED}
    asked = {name: int(clean[f"{name}_value"].notna().sum()) for name in ASKED}
    counts = {
        name: [int(clean.loc[clean["planted"] == kind, f"{name}_value"].notna().sum())
               for kind in CLEAN]
        for name in ASKED
    }  # fmt: skip
    # with fewer than twenty, one is more than a twentieth
    enough = {name: asked[name] >= _LEAST and min(counts[name]) >= _OF_EACH for name in ASKED}
    raised = _raised(clean)
    some = stats.share_ci(int(raised.sum()), len(raised))
    checks = {
        f"{naming.shown(name)}: {asked[name]} asked, {one.mean:.0%} flagged":
        enough[name] and one.mean <= ALARMS
        for name, one in found.items()
    }  # fmt: skip
    return Conjunction(
        checks, f"clean networks that raise any alarm: {100 * some.mean:.1f} %",
        tuple(some[1:]) if len(raised) else None, max(len(raised), 1), data, note,
        side={"networks that raise any alarm: known to be below 5 %": some.high < ALARMS},
        excluded=all(enough.values()) and any(one.low > ALARMS for one in found.values()),
    )  # fmt: skip


@rule("S19", needs=_PLANTED)
def planted_found(rows: pd.DataFrame, data: str, note: str = "") -> Judgement:
    """Nine in ten planted truths of each kind are flagged by each question that ought to.

    The kinds: triggers, wrong labels, shortcuts, backgrounds. A trigger has to be found where it
    is. Control: of clean networks of both kinds each of these questions flags one in twenty at
    most. Refuted where the interval of a question lies below nine in ten. Channels are owed by no
    kind: a planted channel is a test of its own.
    """
    clean = rows[rows["planted"].isin(CLEAN)]
    checks, excluded, words = {}, [], []
    for kind, questions in OWED.items():
        own = rows[rows["planted"] == kind]
        for name in questions:
            right = own if name != "hidden_pattern" else own.assign(
                hidden_pattern_flagged=own["hidden_pattern_flagged"] * own["inside"]
            )  # fmt: skip
            found, quiet = flagged(right, name), flagged(clean, name).mean <= ALARMS
            what = f"{kind}: {naming.shown(name)}"
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


def spoken(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of trials in which a tool (columns) spoke up about a case (rows); NaN: could not."""
    return rows.pivot_table(
        index="case", columns="tool", values="flagged", aggfunc="mean", sort=False, dropna=False
    )


def only(table: pd.DataFrame, tools: Collection[str]) -> list[str]:
    """Cases in which one of these tools speaks up in most trials, and no other tool in any."""
    own = table.columns.isin(tools)
    heard = table.loc[:, own].max(axis=1) > 0.5
    return list(table.index[heard & (table.loc[:, ~own].fillna(0.0) == 0).all(axis=1)])
