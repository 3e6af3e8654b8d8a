"""Rules of chapter 15: who is learnt when, and who is only memorised (M1 to M3, M12).

Rows are those of `minority`: accuracy by group on training and test images after every epoch.
"""

import pandas as pd

from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part3 import damage
from helpers.claims.part3.groups import (
    GARMENTS,
    ONE_RARE,
    TRANSFORMER,
    by_network,
    frequent,
    judged,
    main,
    over,
    points,
    rare,
    selectivity,
    setting,
)  # fmt: skip
from helpers.claims.part3.lesions import by_gradient, placed

FITTED, GAP, HARDLY = 0.85, 0.15, 0.06  # memorised: fitted, and a gap; hardly any gap
LEARNT = 0.9  # training accuracy of a group that is learnt
NEEDS = ("setting", "epoch", "trial", "data_source",
         *(f"{split}_{g}" for split in ("train", "test") for g in range(4)))  # fmt: skip


def at_end(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Networks of a setting after their last epoch, with `gap_<g>`: training minus test."""
    here = setting(rows, name)
    last = here[here["epoch"] == here["epoch"].max()]
    return last.assign(**{f"gap_{g}": last[f"train_{g}"] - last[f"test_{g}"] for g in range(4)})


def memorised(rows: pd.DataFrame, name: str) -> list[Bar]:
    """Each rare group is fitted and has a gap, each frequent one hardly any."""
    end = at_end(rows, name)
    bars = []
    for g in rare(name):
        bars += [over(by_network(end, end[f"train_{g}"]), FITTED, lenient=True),
                 over(by_network(end, end[f"gap_{g}"]), GAP)]  # fmt: skip
    return bars + [
        over(by_network(end, -end[f"gap_{g}"]), -HARDLY, lenient=True) for g in frequent(name)
    ]


@rule("M1", needs=NEEDS)
def gap(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Rare groups are fitted but not recognised, frequent ones hardly differ.

    On photographs: training accuracy of each rare group not below 85 %, its gap above 15 points,
    the gap of each frequent group not above 6. The difference between them on garments too; and all
    of it where one group alone is rare.
    """
    on = main(rows)
    end = at_end(rows, on)
    more = over(by_network(end, selectivity(end, "gap", on)))
    words = [f"group {g} {points(over(by_network(end, end[f'gap_{g}'])).found)}" for g in range(4)]
    side = {}
    if len(rows[rows["setting"] == GARMENTS]):
        other = at_end(rows, GARMENTS)
        side["on garments the gap of rare groups is larger too"] = [
            over(by_network(other, selectivity(other, "gap", GARMENTS)))
        ]
    if len(rows[rows["setting"] == ONE_RARE]):
        side["the same where one group alone is rare"] = memorised(rows, ONE_RARE)
    return judged(
        {"rare groups: training accuracy 85 % or more, gap above 15 points; frequent groups: a gap "
         "that is not shown to exceed 6 points": [*memorised(rows, on), more]},
        f"gap of rare minus frequent groups {points(more.found)}; gaps: {', '.join(words)}",
        more.found, end, note, side,
    )  # fmt: skip


def first_epoch(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """First epoch in which each group is learnt, by trial; one after the last where it never is.

    Epoch 0 does not count: before training a network often says one thing about every image, and
    is right about a whole class.
    """
    here = setting(rows, name)
    never = here["epoch"].max() + 1
    here = here[here["epoch"] > 0]
    found = {
        g: here["epoch"].where(here[f"train_{g}"] >= LEARNT, never).groupby(here["trial"]).min()
        for g in range(4)
    }
    return pd.DataFrame(found)


@rule("M3", needs=NEEDS)
def later(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Each rare group reaches 90 % training accuracy later than each frequent one.

    A group that never does counts as one epoch after the last, which is in the claim's favour by
    less than the truth.
    """
    on = main(rows)
    first = first_epoch(rows, on)
    apart_by = [over(first[g] - first[h]) for g in rare(on) for h in frequent(on)]
    mean = over(first[list(rare(on))].mean(axis=1) - first[list(frequent(on))].mean(axis=1))
    side = {}
    if len(rows[rows["setting"] == GARMENTS]):
        other = first_epoch(rows, GARMENTS)
        side["the same on garments"] = [
            over(other[g] - other[h]) for g in rare(GARMENTS) for h in frequent(GARMENTS)
        ]
    return judged(
        {"each rare group is learnt later than each frequent one": apart_by},
        f"epochs later, rare minus frequent groups: {mean.found.mean:+.1f} "
        f"[{mean.found.low:+.1f}, {mean.found.high:+.1f}]",
        mean.found, setting(rows, on), note, side,
    )  # fmt: skip


@rule("M12", needs=NEEDS)
def transformer(
    rows: pd.DataFrame, paired: pd.DataFrame, random: pd.DataFrame, note: str = ""
) -> Judgement:
    """M1's gap and M5 for a small vision transformer on garments, hidden units for filters.

    Few hidden units of a transformer may do nothing. Those of a ranking are looked at which are the
    fewest that cost some group enough to be felt; a network without such says nothing.

    Args:
        rows: of `minority`.
        paired: of `paired_lesions`.
        random: of `random_lesions`.
        note: below the card.
    """
    end = at_end(rows, TRANSFORMER)
    gaps = over(by_network(end, selectivity(end, "gap", TRANSFORMER)))
    every = tuple(sorted(paired["amount"].unique()))
    units = placed(paired, TRANSFORMER, by_gradient(TRANSFORMER), every)
    felt = damage.first_felt(units, "ranked_lost")
    lost, like = (selectivity(felt, f"{kind}_lost", TRANSFORMER) for kind in ("ranked", "like"))
    more = damage.beyond(felt, "ranked_lost", TRANSFORMER, random)
    own, same, equal = (damage.by_network(gap, felt) for gap in (lost, lost - like, more))
    return judged(
        {"the gap of rare groups is larger, and they lose more by the fewest hidden units that are "
         "felt, also than by random ones of the same layers, as many and at equal damage":
         [gaps, own, same, equal]},
        f"gap of rare minus frequent groups {points(gaps.found)}; rare minus frequent groups, by "
        f"the fewest units (of {every[0]} to {every[-1]}) that cost a group "
        f"{100 * damage.FELT:.0f} points, in {felt['trial'].nunique()} of "
        f"{units['trial'].nunique()} networks: {points(own.found)}, minus as many random units "
        f"{points(same.found)}, at equal damage {points(equal.found)}",
        equal.found, end, note,
    )  # fmt: skip
