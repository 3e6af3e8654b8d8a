"""Rules of chapter 8 on the same networks, read in other ways (Y6, Y9, Y27 to Y29).

The first layer, the accuracy, the score under other definitions, and the other target class.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part2 import score
from helpers.claims.part2.score import DATA, LEAST, NEEDS, NONE

# -- the first layer -------------------------------------------------------------------------------


def corner_growth(rows: pd.DataFrame) -> pd.DataFrame:
    """Importance of pixels by trial (rows), over that of clean networks of the same trial.

    Columns are pairs of "corner" or "elsewhere" and n, of 0, 10, 100 and 2,000 what there is.
    """
    own = rows[(rows["pattern"] == "S3") & rows["spurious"].isin([0, 10, 100, 2_000])]
    places = {
        place: own.pivot(index="trial", columns="spurious", values=place).dropna()
        for place in ("corner", "elsewhere")
    }
    return pd.concat({name: t.div(t[0], axis=0) for name, t in places.items()}, axis=1)


def digits_of_class_0(rows: pd.DataFrame) -> pd.DataFrame:
    """The usual rows on MNIST with target class 0."""
    found = score.usual(rows)
    return found[found["dataset"].str.startswith("mnist") & (found["target"] == 0)]


@rule("Y6", needs=(*NEEDS, "corner", "elsewhere"))
def first_layer(rows: pd.DataFrame) -> Judgement:
    """Weights on the corner of S3 grow from n to n and double at least; those elsewhere do not."""
    digits = digits_of_class_0(rows)
    table = corner_growth(digits)
    corner = [_interval(values) for _, values in table["corner"].items()]
    moved = [_interval(values - 1) for _, values in table["elsewhere"].items()]
    most = max(max(-one.low, one.high) for one in moved)
    enough, times = len(table) >= LEAST, corner[-1]
    grows = bool((np.diff([one.mean for one in corner]) > 0).all()) and times.low > 2
    name = "the corner grows from n to n and at least doubles; elsewhere less than 25 % changes"
    refuted = times.high < 2 or any(max(one.low, -one.high) > 0.25 for one in moved)
    return Judgement(
        {name: enough and grows and most < 0.25},
        f"importance of the corner at n = {table['corner'].columns[-1]:,} over that at n = 0: "
        f"{times.mean:.1f}; elsewhere it changes by less than {100 * most:.0f} %",
        times[1:],
        max(len(table), 1),
        sources(digits),
        excluded=enough and refuted,
    )


def _interval(values: pd.Series) -> stats.Interval:
    return stats.interval_from(list(values.dropna()), stats.mean_ci)


# -- the accuracy ----------------------------------------------------------------------------------

LIMITS = {"mnist": 0.01, "mnist5k": 0.01, "fashion_mnist": 0.02, "cifar10": 0.02}
FEW, FEW_LIMIT, MOST = 100, 0.005, 2_000  # n: "few", and beyond which a class is nearly full


class Accuracy(NamedTuple):
    """Clean accuracy of one data set: how far its means lie apart, and changes against n = 0."""

    span: float
    few: float
    changes: pd.DataFrame

    def surely_beyond(self, limit: float) -> bool:
        """Whether some mean change is beyond the limit, whichever of all it is (Bonferroni)."""
        level = 1 - 0.05 / max(self.changes.shape[1], 1)
        columns = [self.changes[name].dropna() for name in self.changes]
        made = [stats.mean_ci(values, level) for values in columns if len(values) > 1]
        return any(max(one.low, -one.high) > limit for one in made)


def accuracies(rows: pd.DataFrame) -> dict[str, Accuracy]:
    """Clean accuracy by data set, up to n = 2,000, of cells with `LEAST` networks.

    Changes are a column for each target, pattern and n, a row for each trial.
    """
    rows = score.usual(rows)
    rows = rows[rows["spurious"] <= MOST].dropna(subset=["clean_accuracy"])
    key, found = ["target", "pattern", "spurious"], {}
    count = rows.groupby(["dataset", *key])["trial"].transform("nunique")
    for name, own in rows[count >= LEAST].groupby("dataset", sort=False):
        cells = own.pivot(index="trial", columns=key, values="clean_accuracy")
        changes = pd.DataFrame(
            {one: cells[one] - cells[(*one[:2], 0)]
             for one in cells if one[2] and (*one[:2], 0) in cells}
        )  # fmt: skip
        few = [one for one in changes if one[2] <= FEW]
        if few:
            means = cells.mean()
            span = float(means.max() - means.min())
            found[name] = Accuracy(span, float(changes[few].mean().abs().max()), changes)
    return found


def accuracy_change(found: Mapping[str, Accuracy]) -> stats.Interval:
    """Mean change against n = 0 over data sets, patterns and n, with its interval over trials."""
    return score.pooled(
        [one.changes[key].dropna() for one in found.values() for key in one.changes]
    )


@rule("Y9", needs=(*NEEDS, "clean_accuracy"))
def accuracy_kept(rows: pd.DataFrame) -> Judgement:
    """The mean accuracies of a data set lie within 0.01 (MNIST) or 0.02 of each other.

    On MNIST, those up to n = 100 are also within 0.005 of the clean networks of the same trials.
    A pair of data set and class without all patterns is a side check that fails.
    """
    found, checks = accuracies(rows), {}
    for name, one in found.items():
        holds, words = one.span < LIMITS[name], ""
        if name.startswith("mnist"):
            holds = holds and one.few < FEW_LIMIT
            words = f", up to n = {FEW} within {FEW_LIMIT} of clean networks ({one.few:.4f})"
        checks[f"{DATA[name]}: means within {LIMITS[name]} ({one.span:.4f}){words}"] = holds
    mean = accuracy_change(found)
    count = [one.changes[key].count() for one in found.values() for key in one.changes]
    whole = score.judged_panels(score.complete(rows))
    return Judgement(
        checks or NONE,
        "change of clean accuracy against n = 0, mean over patterns and n: "
        + score.told(mean.mean, "{:+.4f}"),
        mean[1:],
        min(count, default=1),
        sources(rows),
        side=score.too_few(score.PANELS, whole, "all patterns"),
        excluded=any(one.surely_beyond(LIMITS[name]) for name, one in found.items()),
    )


# -- other scores, and the other class -------------------------------------------------------------

THRESHOLDS = {f"threshold {eps}": f"score_{eps}" for eps in ("0.01", "0.05", "0.2", "0.5")}
READINGS = {"over the room above": "headroom", "over the probability": "relative"}
AT_ZERO = "over the score at n = 0"
AGREE = 0.9  # share of comparisons
MANY, SOME = 10, 5  # decided comparisons without which nothing follows: in all, in a data set
_FIRST = "R3: n = 3 over n = 0"


def conclusions(
    rows: pd.DataFrame, column: str = "score", *, over_clean: bool = False
) -> pd.DataFrame:
    """What Y1, Y2 and Y3 compare in one panel: a column a comparison, a row a trial.

    R3 at n = 3 against n = 0, each pattern at the largest n against n = 3, and the mean over n of
    one pattern against another's; above 0 is the paper's way round. `over_clean` divides these
    means by the score of clean networks for the pattern, which may be 0.
    """
    cells = score.cells(rows, column)
    last = max(n for n, _ in cells)
    means, clean = score.averages_of(cells), cells.mean()
    made = {_FIRST: cells[(3, "R3")] - cells[(0, "R3")]} if (3, "R3") in cells else {}
    for name in means:
        if last > 3 and {(3, name), (last, name)} <= set(cells):
            made[f"{name}: n = {last:,} over n = 3"] = cells[(last, name)] - cells[(3, name)]
        if over_clean:
            means[name] /= clean[(0, name)]
    for first, second in (*score.NOISE_OVER_SQUARES, *score.WITHIN_FAMILIES):
        if {first, second} <= set(means):
            made[f"{first} over {second}"] = means[first] - means[second]
    return pd.DataFrame(made)


def decided(table: pd.DataFrame) -> pd.Series:
    """The sign, +1 or -1, of each comparison whose interval over trials lies on one side of 0."""
    signs = {}
    for name in table:
        values = table[name].dropna()
        if len(values) >= LEAST:
            made = stats.mean_ci(values)
            if not made.low <= 0 <= made.high:
                signs[name] = np.sign(made.mean)
    return pd.Series(signs, dtype=float)


class Agreement(NamedTuple):
    """Comparisons that a score decides, and what another makes of them.

    Attributes:
        count: how many are decided.
        same: how many of them have means of the same sign.
        reversed: those that go the other way in every trial.
        by_trial: share of them with the same sign as the score has in the same trial.
    """

    count: int
    same: int
    reversed: list[str]
    by_trial: pd.Series

    @property
    def holds(self) -> bool:
        """Whether nearly all go the same way, and none the other way in every trial."""
        return self.same >= AGREE * self.count and not self.reversed


def agreement(base: pd.DataFrame, other: pd.DataFrame) -> Agreement:
    """What another score or class makes of the comparisons of `base`; both as `conclusions`."""
    signs = decided(base)
    kept = [name for name in signs.index if name in other]
    with np.errstate(invalid="ignore"):  # two infinite values are in no order
        means = np.sign(other[kept].mean())
    against = np.sign(other[kept]).eq(-signs[kept]) | other[kept].isna()
    enough = other[kept].count() >= LEAST
    reversed_ = [name for name in kept if enough[name] and against[name].all()]
    shared = base.index.intersection(other.index)
    both = base.loc[shared, kept].notna() & other.loc[shared, kept].notna()
    same = np.sign(base.loc[shared, kept]).eq(np.sign(other.loc[shared, kept])) & both
    share = same.sum(axis=1).div(both.sum(axis=1)).dropna()
    return Agreement(
        len(kept), int((means.to_numpy() == signs[kept].to_numpy()).sum()), reversed_, share
    )


def _all_panels(rows: pd.DataFrame, column: str = "score", *, over_clean: bool = False):
    tables = {
        title: conclusions(part, column, over_clean=over_clean)
        for title, part in score.panels(score.usual(rows)).items()
    }
    return pd.concat(tables, axis=1)


def variants(rows: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, Agreement]:
    """How other columns of the same networks agree with the score, in all panels together."""
    base = _all_panels(rows)
    return {name: agreement(base, _all_panels(rows, column)) for name, column in columns.items()}


def _variants_judgement(found: Mapping[str, Agreement], rows: pd.DataFrame) -> Judgement:
    worst = min(found.values(), key=lambda one: one.same)
    made = score.inside(stats.interval_from(list(worst.by_trial), stats.mean_ci), 0.0)
    enough = worst.count >= MANY
    checks = {
        f"{name}: {one.same} of {one.count} comparisons the same way round"
        + (f", {len(one.reversed)} reversed" if one.reversed else ""): enough and one.holds
        for name, one in found.items()
    }
    return Judgement(
        checks,
        "comparisons that the score decides and that stay the same way round: "
        + (
            f"{worst.same} of {worst.count} or more; interval of the smallest share of signs "
            "shared by trial"
            if enough
            else f"it decides fewer than {MANY}"
        ),
        made[1:],
        max(len(worst.by_trial), 1),
        sources(rows),
        boundary=AGREE,
        excluded=enough and made.high < AGREE,
    )


@rule("Y27", needs=(*NEEDS, "score", *READINGS.values()))
def normalised(rows: pd.DataFrame) -> Judgement:
    """Nine in ten of the comparisons of Y1 to Y3 keep their sign under each reading of Eq. 5."""
    found = variants(rows, READINGS)
    found[AT_ZERO] = agreement(_all_panels(rows), _all_panels(rows, over_clean=True))
    return _variants_judgement(found, rows)


@rule("Y28", needs=(*NEEDS, "score", *THRESHOLDS.values()))
def thresholds(rows: pd.DataFrame) -> Judgement:
    """Nine in ten of the comparisons of Y1 to Y3 keep their sign at other thresholds."""
    return _variants_judgement(variants(rows, THRESHOLDS), rows)


class Classes(NamedTuple):
    """Target class 1 against 0: agreement of comparisons, rank correlation by trial."""

    agreement: Agreement
    rank: pd.Series

    @property
    def holds(self) -> bool:
        """Whether comparisons agree, and the classes rank the patterns alike."""
        return self.agreement.holds and self.rank.mean() > 0.7


def classes(rows: pd.DataFrame) -> dict[str, Classes]:
    """Target class 1 against class 0 by data set, at the n of both; needs more than two patterns.

    The rank correlation is Spearman's, of the mean scores of the patterns of both.
    """
    found = {}
    for name, own in score.usual(rows).groupby("dataset", sort=False):
        first, second = (own[own["target"] == target] for target in (0, 1))
        cells = [
            set(zip(part["pattern"], part["spurious"], strict=True)) for part in (first, second)
        ]
        first, second = (
            part[
                [
                    key in cells[0] & cells[1]
                    for key in zip(part["pattern"], part["spurious"], strict=True)
                ]
            ]
            for part in (first, second)
        )
        if first["pattern"].nunique() > 2:
            a, b = score.averages(first).dropna(), score.averages(second).dropna()
            rank = {
                t: stats.rank_correlation(a.loc[t], b.loc[t]) for t in a.index.intersection(b.index)
            }
            found[name] = Classes(
                agreement(conclusions(first), conclusions(second)), pd.Series(rank, dtype=float)
            )
    return found


@rule("Y29", needs=(*NEEDS, "score"))
def other_class(rows: pd.DataFrame) -> Judgement:
    """Nine in ten of the comparisons that class 0 decides go the same way for class 1.

    None goes the other way in every trial, and the two rank the patterns alike.
    """
    found = classes(rows)
    judged = {
        name: one
        for name, one in found.items()
        if len(one.rank) >= LEAST and one.agreement.count >= SOME
    }
    ranks = {name: one.rank for name, one in (judged or found).items()}
    mean = score.pooled(list(ranks.values()))
    checks = {
        f"{DATA[name]}: {one.agreement.same} of {one.agreement.count} comparisons the same way "
        f"round, rank correlation {one.rank.mean():.2f} above 0.7": one.holds
        for name, one in judged.items()
    }
    return Judgement(
        checks or NONE,
        "rank correlation of the scores of the patterns between the two classes: "
        + score.told(mean.mean),
        mean[1:],
        max(min(map(len, ranks.values()), default=1), 1),
        sources(rows),
        side=score.too_few([DATA[n] for n in score.PAPERS], [DATA[n] for n in judged]),
        boundary=0.7,
        excluded=bool(judged) and mean.high < 0.7,
    )  # fmt: skip
