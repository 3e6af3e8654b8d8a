"""Rules of chapter 16 on other damage: noise, rewinding, single weights, and faces (M7 to M9, M11).

Rows are those of `changed_weights`: what a change of the ranked units costs each training group
(`lost_`), beside the same change of random units of the same layers (`like_`), or of single weights
anywhere. X8 is about what two splits make of a change that does nothing.
"""

import numpy as np
import pandas as pd

from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part3.groups import (
    GARMENTS,
    ONE_RARE,
    at_damage,
    by_network,
    is_none,
    judged,
    main,
    over,
    points,
    selectivity,
    setting,
)  # fmt: skip
from helpers.claims.part3.lesions import beyond_random, one_rare_group, random_curves

RELEASED, LARGER, NOTHING = (0.005, 0.01, 0.02), 0.1, 0.001  # sizes of noise
FELT = 0.05  # accuracy of a group: the smallest share of weights that costs so much is looked at
WITHIN = 0.02  # two points
LARGEST, RANDOM = "largest weights", "random weights"
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


def apart(rows: pd.DataFrame, paired: pd.DataFrame, name: str) -> tuple[Bar, Bar, Bar]:
    """How much more rare groups lose than frequent ones, and that minus random units.

    First minus the same change of random units; then minus as many zeroed random units of the
    same layers as do equal damage (rows of `paired_lesions`).
    """
    own, like = (selectivity(rows, what, name) for what in ("lost", "like"))
    curves = random_curves(paired, name, tuple(rows["place"].unique()))
    same = over(by_network(rows, own - like))
    return over(by_network(rows, own)), same, beyond_random(rows, "lost", name, curves)


def _said(bars: tuple[Bar, Bar, Bar]) -> str:
    own, same, equal = (points(one.found) for one in bars)
    return f"{own}, minus random filters changed alike {same}, at equal damage {equal}"


@rule("M8", needs=NEEDS)
def noise(rows: pd.DataFrame, paired: pd.DataFrame, note: str = "") -> Judgement:
    """Random weights, and noise, of the release's sizes: each selective, beyond random filters.

    The larger size is ours, and told beside it.

    Args:
        rows: of `changed_weights`.
        paired: of `paired_lesions`.
        note: below the card.
    """
    on = main(rows)
    names = {"random_init": "random weights in place of theirs", "random_noise": "noise added"}
    found = {how: apart(changed(rows, on, how, RELEASED), paired, on) for how in names}
    ours = {how: apart(changed(rows, on, how, (LARGER,)), paired, on) for how in names}
    words = [
        f"{names[how]}, sizes of the release: {_said(found[how])} (ours, {LARGER:g}: "
        f"{_said(ours[how])})"
        for how in names
    ]
    return judged(
        {f"{name}: rare groups lose more than frequent ones, and more so than by random filters of "
         "the same layers, changed alike and at equal damage": found[how]
         for how, name in names.items()},
        "rare minus frequent groups; " + "; ".join(words),
        found["random_noise"][-1].found, setting(rows, on), note,
    )  # fmt: skip


@rule("M9", needs=NEEDS)
def rewound(rows: pd.DataFrame, paired: pd.DataFrame, note: str = "") -> Judgement:
    """Weights of some epochs earlier: selective, beyond random filters.

    Args:
        rows: of `changed_weights`.
        paired: of `paired_lesions`.
        note: below the card.
    """
    on = main(rows)
    sizes = tuple(sorted(rows.loc[rows["how"] == "rewind", "size"].unique()))
    photos = changed(rows, on, "rewind", sizes)
    bars = apart(photos, paired, on)
    side = {}
    if len(rows[rows["setting"] == GARMENTS]):
        garments = changed(rows, GARMENTS, "rewind", sizes)
        side["the same on garments"] = list(apart(garments, paired, GARMENTS))
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random filters of the same "
         "layers, rewound alike and at equal damage": bars},
        f"rare minus frequent groups, {' and '.join(f'{s:g}' for s in sizes)} epochs back: "
        f"{_said(bars)}",
        bars[-1].found, photos, note, side,
    )  # fmt: skip


def equal_damage(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The largest single weights beside random ones that do as much damage, a network a row.

    Damage is the mean over the four groups of the accuracy lost. The share of largest weights is
    the smallest that costs some group :data:`FELT`; random weights are read off at the same damage,
    linearly between the shares that were tried.

    Returns:
        By trial `largest` and `random`: what rare groups lose more than frequent ones; NaN for
        `random` where no random share does so much damage, or no largest share any.
    """
    here, found = setting(rows, name), {}
    for trial, part in here.groupby("trial"):
        made = {
            side: part[part["place"] == side].sort_values("amount") for side in (LARGEST, RANDOM)
        }
        losses = {
            side: one[[f"lost_{g}" for g in range(4)]].to_numpy() for side, one in made.items()
        }
        gaps = {side: selectivity(one, "lost", name).to_numpy() for side, one in made.items()}
        felt = np.flatnonzero(losses[LARGEST].max(axis=1) >= FELT)
        if not len(felt):
            found[trial] = (np.nan, np.nan)
            continue
        damage = losses[LARGEST][felt[0]].mean()
        at = at_damage(damage, losses[RANDOM].mean(axis=1), gaps[RANDOM])
        found[trial] = (gaps[LARGEST][felt[0]], at)
    return pd.DataFrame(found, index=["largest", "random"]).T


def single(rows: pd.DataFrame, name: str) -> tuple[Bar, Bar]:
    """M7's bars: the largest weights, and minus random ones at equal damage."""
    table = equal_damage(rows, name)
    known = table.dropna()
    return over(table["largest"].dropna()), over(known["largest"] - known["random"])


@rule("M7", needs=NEEDS)
def single_weights(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The largest single weights are selective, beyond random ones that do as much damage."""
    on = main(rows)
    photos, both, side = setting(rows, on), single(rows, on), {}
    if len(rows[rows["setting"] == GARMENTS]):
        side["the same on garments"] = list(single(rows, GARMENTS))
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random weights at equal "
         "damage": both},
        f"rare minus frequent groups where the largest weights first cost a group "
        f"{100 * FELT:.0f} points: {points(both[0].found)}; minus random weights at equal damage "
        f"{points(both[1].found)}",
        both[1].found, photos, note, side,
    )  # fmt: skip


@rule("M11", needs=NEEDS)
def faces(rows: pd.DataFrame, paired: pd.DataFrame, note: str = "") -> Judgement:
    """M5 to M8, all of them, where one group alone is rare, in proportions of CelebA.

    Args:
        rows: of `changed_weights`.
        paired: of `paired_lesions`.
        note: below the card.
    """
    found = one_rare_group(paired)
    statements = {"M5, filters by gradient": found["by gradient"], "M6, by size": found["by size"],
                  "M7, single weights": single(rows, ONE_RARE)}  # fmt: skip
    for how, name in (("random_init", "random weights"), ("random_noise", "noise")):
        statements[f"M8, {name}"] = apart(changed(rows, ONE_RARE, how, RELEASED), paired, ONE_RARE)
    words = [f"{name}: {points(parts[-1].found)}" for name, parts in statements.items()]
    all_of_them = [bar for bars in statements.values() for bar in bars]
    return judged(
        {"M5, M6, M7 and both kinds of M8 hold": all_of_them},
        f"rare minus frequent groups, beyond random ones at equal damage; {'; '.join(words)}",
        statements["M5, filters by gradient"][-1].found, setting(rows, ONE_RARE), note,
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
