"""Rules of chapter 16 on other damage: noise, rewinding, single weights, and faces (M7 to M9, M11).

Rows are those of `changed_weights`: what a change of the ranked units costs each training group
(`lost_`), beside the same change of random units of the same layers (`like_`), or of single weights
anywhere. X8 is about what two splits make of a change that does nothing.
"""

import numpy as np
import pandas as pd

from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part3 import damage
from helpers.claims.part3.groups import (
    GARMENTS,
    ONE_RARE,
    by_network,
    is_none,
    judged,
    main,
    over,
    points,
    selectivity,
    setting,
)  # fmt: skip
from helpers.claims.part3.lesions import Selective, one_rare_group

RELEASED, LARGER, NOTHING = (0.005, 0.01, 0.02), 0.1, 0.001  # sizes of noise
WITHIN = 0.02  # two points
LARGEST = "largest weights"
_GROUPS = tuple(f"{name}_{g}" for name in ("lost", "like") for g in range(4))
NEEDS = ("setting", "place", "amount", "how", "size", "trial", "data_source", *_GROUPS)


def changed(rows: pd.DataFrame, name: str, how: str, sizes: tuple[float, ...]) -> pd.DataFrame:
    """Rows of a change of ranked units.

    Raises:
        LookupError: there are none.
    """
    here = setting(rows, name)
    here = here[here["place"].str.startswith("gradient") & (here["how"] == how)]
    found = here[here["size"].isin(sizes)]
    if not len(found):
        raise LookupError(f"{how} of sizes {', '.join(map(str, sizes))} on {name!r}")
    return found


def apart(rows: pd.DataFrame, random: pd.DataFrame, name: str) -> Selective:
    """How much more rare groups lose than frequent ones, by a change of ranked units.

    Minus the same change of random units of the same layers, and minus random units of these layers
    that do equal damage by being zeroed.

    Args:
        rows: of `changed_weights`, of that change.
        random: of `random_lesions`.
        name: the setting.
    """
    own, like = (selectivity(rows, what, name) for what in ("lost", "like"))
    more = damage.beyond(rows, "lost", name, random)
    return Selective(
        over(by_network(rows, own)), over(by_network(rows, own - like)),
        damage.by_network(more, rows), damage.alone(more),
    )  # fmt: skip


def _said(found: Selective) -> str:
    own, same, equal = (points(one.found) for one in found.bars)
    return (f"{own}, minus random filters changed alike {same}, at equal damage {equal} "
            f"({found.alone})")  # fmt: skip


@rule("M8", needs=NEEDS)
def noise(rows: pd.DataFrame, random: pd.DataFrame, note: str = "") -> Judgement:
    """Random weights, and noise, of the release's sizes: each selective, beyond random filters.

    The larger size is ours, and told beside it.

    Args:
        rows: of `changed_weights`.
        random: of `random_lesions`.
        note: below the card.
    """
    on = main(rows)
    names = {"random_init": "random weights in place of theirs", "random_noise": "noise added"}
    found = {how: apart(changed(rows, on, how, RELEASED), random, on) for how in names}
    ours = {how: apart(changed(rows, on, how, (LARGER,)), random, on) for how in names}
    words = [
        f"{names[how]}, sizes of the release: {_said(found[how])} (ours, {LARGER:g}: "
        f"{_said(ours[how])})"
        for how in names
    ]
    return judged(
        {f"{name}: rare groups lose more than frequent ones, and more so than by random filters of "
         "the same layers, changed alike and at equal damage": found[how].bars
         for how, name in names.items()},
        "rare minus frequent groups: " + "; ".join(words),
        found["random_noise"].equal.found, setting(rows, on), note,
    )  # fmt: skip


@rule("M9", needs=NEEDS)
def rewound(rows: pd.DataFrame, random: pd.DataFrame, note: str = "") -> Judgement:
    """Weights of some epochs earlier: selective, beyond random filters.

    Args:
        rows: of `changed_weights`.
        random: of `random_lesions`.
        note: below the card.
    """
    on = main(rows)
    sizes = tuple(sorted(rows.loc[rows["how"] == "rewind", "size"].unique()))
    photos = changed(rows, on, "rewind", sizes)
    found, side = apart(photos, random, on), {}
    if len(rows[rows["setting"] == GARMENTS]):
        garments = changed(rows, GARMENTS, "rewind", sizes)
        side["the same on garments"] = apart(garments, random, GARMENTS).bars
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random filters of the same "
         "layers, rewound alike and at equal damage": found.bars},
        f"rare minus frequent groups, {' and '.join(f'{s:g}' for s in sizes)} epochs back: "
        f"{_said(found)}",
        found.equal.found, photos, note, side,
    )  # fmt: skip


def single(rows: pd.DataFrame, random: pd.DataFrame, name: str) -> pd.DataFrame:
    """The largest single weights, at the smallest share that costs some group enough to be felt.

    Args:
        rows: of `changed_weights`.
        random: of `random_lesions`.
        name: the setting.

    Returns:
        By trial `share`, and whether it is the `smallest` that was tried; `own`: what rare groups
        lose more than frequent ones, `more`: minus single draws of random weights that do equal
        damage (NaN where none do).
    """
    here = setting(rows, name)
    largest = here[here["place"] == LARGEST]
    felt = damage.first_felt(largest, "lost").assign(place=damage.RANDOM_WEIGHTS)
    found = pd.DataFrame({
        "share": felt["amount"], "own": selectivity(felt, "lost", name),
        "more": damage.beyond(felt, "lost", name, random),
        "smallest": felt["amount"] == largest["amount"].min(),
    })  # fmt: skip
    return found.set_index(felt["trial"]).sort_index()


def single_bars(found: pd.DataFrame) -> list[Bar]:
    """M7's bars: the largest weights, and minus random ones of equal damage."""
    return [over(found["own"]), over(found["more"].dropna())]


@rule("M7", needs=NEEDS)
def single_weights(rows: pd.DataFrame, random: pd.DataFrame, note: str = "") -> Judgement:
    """The largest single weights are selective, beyond random ones that do as much damage.

    Args:
        rows: of `changed_weights`.
        random: of `random_lesions`.
        note: below the card.
    """
    on = main(rows)
    found, side = single(rows, random, on), {}
    own, more = single_bars(found)
    at_once = f"{int(found['smallest'].sum())} of {len(found)}"
    if len(rows[rows["setting"] == GARMENTS]):
        side["the same on garments"] = single_bars(single(rows, random, GARMENTS))
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random weights at equal "
         "damage": [own, more]},
        f"rare minus frequent groups at the smallest share of largest weights that costs a group "
        f"{100 * damage.FELT:.0f} points: {points(own.found)} (in {at_once} networks "
        f"the smallest share that was tried); minus random weights of equal damage "
        f"{points(more.found)} ({damage.alone(found['more'])})",
        more.found, setting(rows, on), note, side,
    )  # fmt: skip


@rule("M11", needs=NEEDS)
def faces(
    rows: pd.DataFrame, paired: pd.DataFrame, random: pd.DataFrame, note: str = ""
) -> Judgement:
    """M5 to M8, all of them, where one group alone is rare, in proportions of CelebA.

    Args:
        rows: of `changed_weights`.
        paired: of `paired_lesions`.
        random: of `random_lesions`.
        note: below the card.
    """
    lesioned = one_rare_group(paired, random)
    parts = {"M5, filters by gradient": lesioned["by gradient"].bars,
             "M6, by size": lesioned["by size"].bars,
             "M7, single weights": single_bars(single(rows, random, ONE_RARE))}  # fmt: skip
    for how, name in (("random_init", "random weights"), ("random_noise", "noise")):
        parts[f"M8, {name}"] = apart(changed(rows, ONE_RARE, how, RELEASED), random, ONE_RARE).bars
    words = [f"{name}: {points(bars[-1].found)}" for name, bars in parts.items()]
    return judged(
        {"M5, M6, M7 and both kinds of M8 hold": [bar for bars in parts.values() for bar in bars]},
        f"rare minus frequent groups, beyond random ones at equal damage: {'; '.join(words)}",
        lesioned["by gradient"].equal.found, setting(rows, ONE_RARE), note,
    )  # fmt: skip


@rule("X8", needs=("setting", "size", "trial", "data_source", "mixed_0", "gap_0"))
def two_splits(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Before on training minus after on test images, of a change that does nothing, is the gap.

    Within two points in every group of every network; and the rare groups seem to lose more.
    """
    on = main(rows)
    photos = setting(rows, on)
    nothing = photos[photos["size"] == NOTHING]
    if not len(nothing):
        raise LookupError(f"a change of size {NOTHING}")
    off = max(float((nothing[f"mixed_{g}"] - nothing[f"gap_{g}"]).abs().max()) for g in range(4))
    seeming = over(by_network(nothing, selectivity(nothing, "mixed", on)))
    ends = (seeming.found.low, seeming.found.high)
    known = bool(np.isfinite(ends).all())
    # that the two agree is next to an identity: it is no part of the claim that could hold alone
    said = f"by the gap but for {100 * off:.1f} points at most, in every group and network"
    return Judgement(
        {f"rare groups seem to lose more, {said}": seeming.holds and off <= WITHIN},
        f"rare minus frequent groups, of a change without effect: {points(seeming.found)}",
        ends if known else None, nothing["trial"].nunique(), sources(nothing), note,
        excluded=known and (is_none(seeming) or seeming.excluded or off > WITHIN),
    )  # fmt: skip
