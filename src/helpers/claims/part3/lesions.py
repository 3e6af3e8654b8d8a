"""Rules of chapters 16 and 18: units that a ranking names, against matched random ones.

Rows are those of `paired_lesions`: what zeroing the first units of a ranking costs each group
(`ranked_`), beside as many random units of the same layers (`like_`) or from anywhere (`any_`) of
the same network. A claim about a ranking holds where the ranked units do it *and* do it more than
the matched ones, both with intervals over networks; so that no random lesion passes.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from helpers import stats
from helpers.claims.bars import Bar
from helpers.claims.judgement import Judgement, rule
from helpers.claims.part3 import damage
from helpers.claims.part3.groups import (
    GARMENTS,
    ONE_RARE,
    by_network,
    frequent,
    is_none,
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


def placed(
    rows: pd.DataFrame, name: str, rankings: tuple[str, ...], amounts: tuple[int, ...] = FEW
) -> pd.DataFrame:
    """Rows of these rankings and sizes, with the ranking as `place`, as random lesions have it."""
    found = chosen(rows, name, rankings, amounts)
    return found.assign(place=found["ranking"])


def rare_minus_frequent(
    rows: pd.DataFrame, name: str, values: Callable[[pd.DataFrame], pd.Series]
) -> pd.Series:
    """Something of rankings by rare groups minus the same of rankings by frequent ones, by trial.

    Sets of one to three units; `values` says what, a number a row.
    """
    found = []
    for groups in (rare(name), frequent(name)):
        here = chosen(rows, name, tuple(f"gradient {g}" for g in groups))
        found.append(by_network(here, values(here)))
    return (found[0] - found[1]).dropna()


class Selective(NamedTuple):
    """How much more rare groups lose than frequent ones, in three ways.

    Attributes:
        own: by the ranked sets.
        same: minus random sets, as many units of the same layers.
        equal: minus single random sets of the same layers that do equal damage.
        alone: how many ranked sets have no equals, in words.
    """

    own: Bar
    same: Bar
    equal: Bar
    alone: str

    @property
    def bars(self) -> list[Bar]:
        """All three."""
        return [self.own, self.same, self.equal]


def selective(
    rows: pd.DataFrame, random: pd.DataFrame, name: str, rankings: tuple[str, ...]
) -> Selective:
    """Sets of one to three units of these rankings.

    Args:
        rows: of `paired_lesions`.
        random: of `random_lesions`.
        name: the setting.
        rankings: which.
    """
    few = placed(rows, name, rankings)
    more = damage.beyond(few, "ranked_lost", name, random)
    return Selective(*apart(few, name), damage.by_network(more, few), damage.alone(more))


def _judged_selective(
    rows: pd.DataFrame, random: pd.DataFrame, rankings: tuple[str, ...], note: str,
    side: dict[str, list[Bar]],
) -> Judgement:  # fmt: skip
    on = main(rows)
    photos, found = chosen(rows, on, rankings), selective(rows, random, on, rankings)
    for k in FEW:
        one = apart(chosen(rows, on, rankings, (k,)), on)
        side[f"{k} alone: the same direction"] = [bar._replace(lenient=True) for bar in one]
    if (rows["setting"] == GARMENTS).any():
        side["the same on garments"] = selective(rows, random, GARMENTS, rankings).bars
    return judged(
        {"rare groups lose more than frequent ones, and more so than by random filters of the "
         "same layers, as many of them and at equal damage": found.bars},
        f"rare minus frequent groups, 1 to 3 filters: {points(found.own.found)}; minus as many "
        f"random filters of the same layers {points(found.same.found)}; minus random filters at "
        f"equal damage {points(found.equal.found)} ({found.alone})",
        found.equal.found, photos, note, side,
    )  # fmt: skip


@rule("M5", needs=NEEDS)
def by_loss(rows: pd.DataFrame, random: pd.DataFrame, note: str = "") -> Judgement:
    """Filters ranked by a rare group's gradient are selective, beyond matched random ones.

    Args:
        rows: of `paired_lesions`.
        random: of `random_lesions`.
        note: below the card.
    """
    on = main(rows)
    more = rare_minus_frequent(rows, on, lambda at: selectivity(at, "ranked_lost", on))
    side = {"more selective than filters ranked by a frequent group": [over(more)]}
    return _judged_selective(rows, random, by_gradient(on), note, side)


@rule("M6", needs=NEEDS)
def by_size(rows: pd.DataFrame, random: pd.DataFrame, note: str = "") -> Judgement:
    """The same for filters ranked by the norm of their weights; arguments as there."""
    return _judged_selective(rows, random, ("magnitude",), note, {})


def _first(rows: pd.DataFrame, name: str) -> dict[int, pd.DataFrame]:
    """The first filter by each rare group's own gradient."""
    return {g: chosen(rows, name, (f"gradient {g}",), (1,)) for g in rare(name)}


@rule("M4", needs=NEEDS)
def one_filter(rows: pd.DataFrame, note: str = "") -> Judgement:
    """One filter costs each rare group three points or more, and the frequent ones 1.5 at most."""
    on = main(rows)
    statements, words = [], []
    for g, part in _first(rows, on).items():
        own = over(by_network(part, part[f"ranked_lost_{g}"]), POINT)
        more = over(by_network(part, part[f"ranked_lost_{g}"] - part[f"like_lost_{g}"]))
        common = {
            h: over(by_network(part, -part[f"ranked_lost_{h}"]), -SPARED) for h in frequent(on)
        }
        statements += [own, more, *common.values()]
        paid = ", ".join(f"group {h} {points(_turned(one.found))}" for h, one in common.items())
        words.append(f"by the first filter of its ranking group {g} loses {points(own.found)}, "
                     f"{points(more.found)} more than by a random one of the same layer, and "
                     f"{paid}")  # fmt: skip
    photos = setting(rows, on)
    against = [one for one in statements if one.excluded or is_none(one)]
    shown = (against or statements)[0]
    return judged(
        {"each rare group loses at least 3 points by the first filter of its own ranking, and more "
         "than by a random one; frequent groups at most 1.5": statements},
        "; ".join(words), _turned(shown.found) if shown.limit < 0 else shown.found, photos, note,
    )  # fmt: skip


def _turned(found: stats.Interval) -> stats.Interval:
    return stats.Interval(-found.mean, -found.high, -found.low)


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


def harm(rows: pd.DataFrame, group: int, what: str, like: str = "like") -> list[Bar]:
    """What a rare group loses by the ranking, and that minus what it loses by random units."""
    own, other = rows[f"ranked_{what}_{group}"], rows[f"{like}_{what}_{group}"]
    return [over(by_network(rows, own)), over(by_network(rows, own - other))]


def _by_group(found: dict[int, list[Bar]]) -> str:
    return "; ".join(f"group {g} {points(bars[-1].found)}" for g, bars in found.items())


def _worst(found: dict[int, list[Bar]]) -> stats.Interval:
    """The interval of that group which speaks least for the claim."""
    return min((bars[-1].found for bars in found.values()), key=lambda one: one.low)


def _beyond(rows: pd.DataFrame, like: str, place: str, note: str) -> Judgement:
    on = main(rows)

    def more(name: str, amounts: tuple[int, ...] = WIDER) -> dict[int, list[Bar]]:
        here = chosen(rows, name, by_gradient(on), amounts)
        return {g: harm(here, g, "lost", like)[1:] for g in rare(name)}

    found, side = more(on), {}
    for k in WIDER:
        one = [bar for bars in more(on, (k,)).values() for bar in bars]
        side[f"{k} alone: the same direction"] = [bar._replace(lenient=True) for bar in one]
    if len(rows[rows["setting"] == GARMENTS]):
        side["the same on garments"] = [bar for bars in more(GARMENTS).values() for bar in bars]
    return judged(
        {f"group {g} loses more than by random filters {place}": bars for g, bars in found.items()},
        f"accuracy lost, ranked minus random filters {place}, {', '.join(map(str, WIDER))} "
        f"filters: {_by_group(found)}",
        _worst(found), chosen(rows, on, by_gradient(on), WIDER), note, side,
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

    def own(at: pd.DataFrame) -> pd.Series:
        return of_groups(at, "ranked_lost", rare(on))

    def more(at: pd.DataFrame) -> pd.Series:
        return own(at) - of_groups(at, "like_lost", rare(on))

    both = [over(rare_minus_frequent(rows, on, values)) for values in (more, own)]
    ranked = chosen(rows, on, by_gradient(on))
    beyond = over(by_network(ranked, more(ranked)))
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
    """What each rare group loses beyond the lesion's mean shift of the output, also beyond matched.

    One statement a group.
    """
    on = main(rows)
    photos, found = chosen(rows, on, by_gradient(on)), {}
    for g in rare(on):
        own, like = (
            photos[f"{kind}_lost_{g}"] - photos[f"{kind}_offset_{g}"] for kind in ("ranked", "like")
        )
        found[g] = [over(by_network(photos, own)), over(by_network(photos, own - like))]
    first = {g: bars[:1] for g, bars in found.items()}
    return judged(
        {f"group {g} loses more than by the same shift of the output, and more so than by random "
         "filters of the same layers": bars for g, bars in found.items()},
        f"beyond the shift: {_by_group(first)}; minus random filters of the same layers: "
        f"{_by_group(found)}",
        _worst(found), photos, note,
    )  # fmt: skip


@rule("X7", needs=(*NEEDS, *_columns("matched"), *_columns("raw")))
def memory_or_kind(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Training images of rare groups lose more than test images of the same margin do.

    Test images have smaller margins: each training image is matched with the test images of its
    group, all right before the lesion, whose margins are nearest.
    """
    on = main(rows)
    photos = chosen(rows, on, by_gradient(on))

    def matched(at: pd.DataFrame, kind: str = "ranked") -> pd.Series:
        return at[[f"{kind}_matched_{g}" for g in rare(on)]].mean(axis=1)

    own, like = matched(photos), matched(photos, "like")
    raw = photos[[f"ranked_raw_{g}" for g in rare(on)]].mean(axis=1).where(own.notna())
    both = [over(by_network(photos, own)), over(by_network(photos, own - like))]
    without = over(by_network(photos, raw))
    side = {
        "more than by filters ranked by a frequent group": [
            over(rare_minus_frequent(rows, on, matched))
        ]
    }
    return judged(
        {"training images lose more than test images of the same margin, and more so than by "
         "random filters of the same layers": both},
        f"training minus matched test images: {points(both[0].found)}; minus random filters of the "
        f"same layers {points(both[1].found)}; without matching {points(without.found)}",
        min((bar.found for bar in both), key=lambda one: one.low), photos, note, side,
    )  # fmt: skip


@rule("X9", needs=(*NEEDS, *_columns("refit")))
def survives_a_refit(rows: pd.DataFrame, note: str = "") -> Judgement:
    """What each rare group loses with the output's bias fitted anew before and after the lesion.

    One statement a group.
    """
    on = main(rows)
    photos = chosen(rows, on, by_gradient(on))
    found = {g: harm(photos, g, "refit") for g in rare(on)}
    first = {g: bars[:1] for g, bars in found.items()}
    return judged(
        {f"group {g} still loses, and more than by random filters of the same layers": bars
         for g, bars in found.items()},
        f"lost after the refit: {_by_group(first)}; minus random filters of the same layers: "
        f"{_by_group(found)}",
        _worst(found), photos, note,
    )  # fmt: skip


def one_rare_group(rows: pd.DataFrame, random: pd.DataFrame) -> dict[str, Selective]:
    """What M5 and M6 ask, where one group alone is rare."""
    return {
        "by gradient": selective(rows, random, ONE_RARE, by_gradient(ONE_RARE)),
        "by size": selective(rows, random, ONE_RARE, ("magnitude",)),
    }
