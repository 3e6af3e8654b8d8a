"""Rules of chapters 16 and 18: units that a ranking names, against matched random ones.

Rows are those of `paired_lesions`: what zeroing the first units of a ranking costs each group
(`ranked_`), beside as many random units of the same layers (`like_`) or from anywhere (`any_`) of
the same network. A claim about a ranking holds where the ranked units do it *and* do it more than
the matched ones, both with intervals over networks; so that no random lesion passes.
"""

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part3.groups import (
    GARMENTS,
    ONE_RARE,
    at_damage,
    by_network,
    frequent,
    judged,
    main,
    of_groups,
    over,
    points,
    rare,
    selectivity,
    setting,
)

FEW = (1, 2, 3)  # units of the release's tables
LARGER = (5, 10, 30)  # of random sets with the damage of a few ranked ones
WIDER = (1, 3, 10)
AT_MOST = 10  # units that are "few" of thousands
POINT, SPARED = 0.03, 0.015  # "several points" and "less than 1.5", as reported
_LOST = tuple(f"{kind}_lost_{g}" for kind in ("ranked", "like") for g in range(4))
NEEDS = ("setting", "ranking", "amount", "trial", "data_source", *_LOST)


def by_gradient(name: str) -> tuple[str, ...]:
    """Rankings by the loss of each rare group."""
    return tuple(f"gradient {g}" for g in rare(name))


def chosen(
    rows: pd.DataFrame, name: str, rankings: tuple[str, ...], amounts: tuple[int, ...] = FEW
) -> pd.DataFrame:
    """Rows of a setting, of these rankings and sizes.

    Raises:
        LookupError: there are none.
    """
    here = setting(rows, name)
    found = here[here["ranking"].isin(rankings) & here["amount"].isin(amounts)]
    if not len(found):
        raise LookupError(f"rankings {', '.join(rankings)} of {name!r}")
    return found


def apart(rows: pd.DataFrame, name: str, what: str = "lost") -> tuple[Bar, Bar]:
    """How much more rare groups lose than frequent ones: by the ranking, and minus matched."""
    own, like = (selectivity(rows, f"{kind}_{what}", name) for kind in ("ranked", "like"))
    return over(by_network(rows, own)), over(by_network(rows, own - like))


def random_curves(
    rows: pd.DataFrame, name: str, rankings: tuple[str, ...]
) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """What growing random sets with the layers of a ranking do: damage, and rare minus frequent.

    Damage is the mean over the four groups of the accuracy lost. By trial and ranking.
    """
    every = chosen(rows, name, rankings, (*FEW, *LARGER)).sort_values("amount")
    damage = of_groups(every, "like_lost", range(4))
    gap = selectivity(every, "like_lost", name)
    parts = every.groupby(["trial", "ranking"]).groups
    return {key: (damage[at].to_numpy(), gap[at].to_numpy()) for key, at in parts.items()}


def evened(rows: pd.DataFrame, name: str, rankings: tuple[str, ...]) -> Bar:
    """Rare minus frequent groups, minus the same by random units that do equal damage.

    Whatever does more damage reaches the small margins of rare groups first. Random sets are read
    off at the damage of each ranked one, along sets of growing size. Ranked sets beyond the largest
    random damage say nothing.
    """
    few = chosen(rows, name, rankings)
    return beyond_random(
        few.assign(place=few["ranking"]), "ranked_lost", name, random_curves(rows, name, rankings)
    )


def beyond_random(
    rows: pd.DataFrame, what: str, name: str,
    curves: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]],
) -> Bar:  # fmt: skip
    """Rare minus frequent groups of some damage, minus random sets that do as much; see `evened`.

    Rows have a `trial` and the ranking as `place`; networks without any known row are left out.
    """
    damage = of_groups(rows, what, range(4))
    gap = selectivity(rows, what, name)
    like = [
        at_damage(one, *curves[trial, place])
        for one, trial, place in zip(damage, rows["trial"], rows["place"], strict=True)
    ]
    return over((gap - like).groupby(rows["trial"]).mean().dropna())


def harm(rows: pd.DataFrame, name: str, what: str, like: str = "like") -> tuple[Bar, Bar]:
    """What rare groups lose by the ranking, and that minus what they lose by random units."""
    own = of_groups(rows, f"ranked_{what}", rare(name))
    other = of_groups(rows, f"{like}_{what}", rare(name))
    return over(by_network(rows, own)), over(by_network(rows, own - other))


def bars_of(rows: pd.DataFrame, name: str, rankings: tuple[str, ...]) -> tuple[Bar, Bar, Bar]:
    """Rare minus frequent groups; the same minus as many random units, and at equal damage."""
    return *apart(chosen(rows, name, rankings), name), evened(rows, name, rankings)


def _selective(rows: pd.DataFrame, rankings: tuple[str, ...], note: str) -> Judgement:
    on = main(rows)
    photos, bars = chosen(rows, on, rankings), bars_of(rows, on, rankings)
    side = {}
    for k in FEW:
        one = apart(chosen(rows, on, rankings, (k,)), on)
        side[f"{k} alone: the same direction"] = [bar._replace(lenient=True) for bar in one]
    if (rows["setting"] == GARMENTS).any():
        side["the same on garments"] = list(bars_of(rows, GARMENTS, rankings))
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random filters of the "
         "same layers, as many of them and at equal damage": bars},
        f"rare minus frequent groups, 1 to 3 filters: {points(bars[0].found)}; minus as many "
        f"random filters of the same layers {points(bars[1].found)}; minus random filters at equal "
        f"damage {points(bars[2].found)}",
        bars[2].found, photos, note, side,
    )  # fmt: skip


@rule("M5", needs=NEEDS)
def by_loss(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Filters ranked by a rare group's gradient are selective, beyond matched random ones."""
    on = main(rows)
    return _selective(rows, by_gradient(on), note)


@rule("M6", needs=NEEDS)
def by_size(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The same for filters ranked by the norm of their weights."""
    return _selective(rows, ("magnitude",), note)


def _first(rows: pd.DataFrame, name: str) -> dict[int, pd.DataFrame]:
    """The first filter by each rare group's own gradient."""
    return {g: chosen(rows, name, (f"gradient {g}",), (1,)) for g in rare(name)}


@rule("M4", needs=NEEDS)
def one_filter(rows: pd.DataFrame, note: str = "") -> Judgement:
    """One filter costs each rare group three points or more, and the frequent ones 1.5 at most."""
    on = main(rows)
    statements, words, shown = [], [], None
    for g, part in _first(rows, on).items():
        own = over(by_network(part, part[f"ranked_lost_{g}"]), POINT)
        more = over(by_network(part, part[f"ranked_lost_{g}"] - part[f"like_lost_{g}"]))
        common = [over(by_network(part, -part[f"ranked_lost_{h}"]), -SPARED) for h in frequent(on)]
        statements += [own, more, *common]
        words.append(f"group {g} loses {points(own.found)}, {points(more.found)} more than by a "
                     "random filter of the same layer")  # fmt: skip
        shown = shown or more.found
    photos = setting(rows, on)
    return judged(
        {"each rare group loses at least 3 points by the first filter of its own ranking, and more "
         "than by a random one; frequent groups at most 1.5": statements},
        "; ".join(words), shown, photos, note,
    )  # fmt: skip


@rule("M10", needs=(*NEEDS, "ranked_selective", "like_selective"))
def few_are_enough(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Up to ten filters cost a rare group ten points and no frequent one more than two.

    In most networks some such set exists, and a ranked set is such a set more often than a random
    set of the same layers is.
    """
    on = main(rows)
    rankings = by_gradient(on)
    sizes = tuple(k for k in sorted(rows["amount"].unique()) if k <= AT_MOST)
    photos = chosen(rows, on, rankings, sizes)
    some = photos.groupby("trial")["ranked_selective"].max()
    more = over(by_network(photos, photos["ranked_selective"] - photos["like_selective"]))
    most = over(some, 0.5)
    share = share_of(some)
    return judged(
        {f"such a set of at most {AT_MOST} filters exists in most networks, and ranked sets are "
         "such sets more often than random ones of the same layers": [most, more]},
        f"{int(some.sum())} of {len(some)} networks have one ({share}); ranked minus random sets "
        f"{points(more.found)}",
        more.found, photos, note,
    )  # fmt: skip


def share_of(hits: pd.Series) -> str:
    """A share of networks with its exact interval, in words."""
    found = stats.share_ci(int(hits.sum()), len(hits))
    return f"share {found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _beyond(rows: pd.DataFrame, like: str, place: str, note: str) -> Judgement:
    on = main(rows)
    rankings = by_gradient(on)
    photos = chosen(rows, on, rankings, WIDER)
    _, more = harm(photos, on, "lost", like)
    side = {}
    for k in WIDER:
        _, one = harm(chosen(rows, on, rankings, (k,)), on, "lost", like)
        side[f"{k} alone: the same direction"] = [one._replace(lenient=True)]
    if len(rows[rows["setting"] == GARMENTS]):
        _, one = harm(chosen(rows, GARMENTS, rankings, WIDER), GARMENTS, "lost", like)
        side["the same on garments"] = [one]
    return judged(
        {f"rare groups lose more than by random filters {place}": [more]},
        f"accuracy lost by rare groups, ranked minus random filters {place}, "
        f"{', '.join(map(str, WIDER))} filters: {points(more.found)}",
        more.found, photos, note, side,
    )  # fmt: skip


_ANY = tuple(f"any_lost_{g}" for g in range(4))


@rule("X1", needs=(*NEEDS, *_ANY))
def beyond_chance(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Ranked filters harm rare groups more than random filters from anywhere do."""
    return _beyond(rows, "any", "from anywhere", note)


@rule("X2", needs=NEEDS)
def beyond_layers(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Ranked filters harm rare groups more than random filters of the same layers do."""
    return _beyond(rows, "like", "of the same layers", note)


@rule("X3", needs=NEEDS)
def of_the_group(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Filters ranked by a rare group harm rare groups more than those ranked by a frequent one.

    Of both rankings, what matched random filters do is taken off before they are compared. The
    rankings by rare groups have to be beyond matched filters themselves: where those by frequent
    groups do less than matched ones, random filters would be ahead of them too.
    """
    on = main(rows)
    found = {}
    for name, groups in (("rare", rare(on)), ("frequent", frequent(on))):
        part = chosen(rows, on, tuple(f"gradient {g}" for g in groups))
        own, like = (of_groups(part, f"{kind}_lost", rare(on)) for kind in ("ranked", "like"))
        found[name] = by_network(part, own - like), by_network(part, own)
    both = [over((found["rare"][i] - found["frequent"][i]).dropna()) for i in range(2)]
    beyond = over(found["rare"][0])
    return judged(
        {"rankings by rare groups harm rare groups more than rankings by frequent groups, also "
         "beyond matched random filters, and more than such filters": [*both, beyond]},
        f"rankings by rare minus by frequent groups: {points(both[1].found)}, beyond matched "
        f"random filters {points(both[0].found)}",
        both[0].found, setting(rows, on), note,
    )  # fmt: skip


def _columns(what: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{what}_{g}" for kind in ("ranked", "like") for g in range(4))


@rule("X4", needs=(*NEEDS, *_columns("offset")))
def more_than_an_offset(rows: pd.DataFrame, note: str = "") -> Judgement:
    """What rare groups lose beyond the lesion's mean shift of the output, also beyond matched."""
    on = main(rows)
    photos = chosen(rows, on, by_gradient(on))
    own, like = (
        of_groups(photos, f"{kind}_lost", rare(on)) - of_groups(photos, f"{kind}_offset", rare(on))
        for kind in ("ranked", "like")
    )
    both = [over(by_network(photos, own)), over(by_network(photos, own - like))]
    return judged(
        {"rare groups lose more than by the same shift of the output, and more so than by random "
         "filters of the same layers": both},
        f"beyond the shift: {points(both[0].found)}; minus random filters of the same layers "
        f"{points(both[1].found)}",
        both[1].found, photos, note,
    )  # fmt: skip


@rule("X7", needs=(*NEEDS, *_columns("matched"), *_columns("raw")))
def memory_or_kind(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Training images of rare groups lose more than test images of the same margin do.

    Test images have smaller margins: each training image is matched with the test images of its
    group, all right before the lesion, whose margins are nearest.
    """
    on = main(rows)
    photos = chosen(rows, on, by_gradient(on))
    own, like = (
        photos[[f"{kind}_matched_{g}" for g in rare(on)]].mean(axis=1)
        for kind in ("ranked", "like")
    )
    raw = photos[[f"ranked_raw_{g}" for g in rare(on)]].mean(axis=1).where(own.notna())
    both = [over(by_network(photos, own)), over(by_network(photos, own - like))]
    without = over(by_network(photos, raw))
    return judged(
        {"training images lose more than test images of the same margin, and more so than by "
         "random filters of the same layers": both},
        f"training minus matched test images: {points(both[0].found)}; minus random filters of the "
        f"same layers {points(both[1].found)}; without matching {points(without.found)}",
        both[0].found, photos, note,
    )  # fmt: skip


@rule("X9", needs=(*NEEDS, *_columns("refit")))
def survives_a_refit(rows: pd.DataFrame, note: str = "") -> Judgement:
    """What rare groups lose when the output's bias is fitted anew, before and after the lesion."""
    on = main(rows)
    photos = chosen(rows, on, by_gradient(on))
    both = harm(photos, on, "refit")
    return judged(
        {"rare groups still lose, and more than by random filters of the same layers": both},
        f"lost after the refit: {points(both[0].found)}; minus random filters of the same layers "
        f"{points(both[1].found)}",
        both[1].found, photos, note,
    )  # fmt: skip


def one_rare_group(rows: pd.DataFrame) -> dict[str, tuple[Bar, Bar, Bar]]:
    """M5's and M6's bars where one group alone is rare."""
    return {
        "by gradient": bars_of(rows, ONE_RARE, by_gradient(ONE_RARE)),
        "by size": bars_of(rows, ONE_RARE, ("magnitude",)),
    }
