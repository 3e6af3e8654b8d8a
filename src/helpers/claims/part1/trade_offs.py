"""Rules on the course of memory over N: the trade-offs of chapter 3, and what all of them share."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources

GAUSSIAN = "Gaussian blocks"
ACCURACIES = ["test_accuracy", "spurious_accuracy"]
# A fall that is certain but smaller than this is no trade-off: one training frame in twenty.
LEAST_FALL = 0.05


def paired(rows: pd.DataFrame, first: str, second: str, column: str) -> pd.DataFrame:
    """Differences of two settings (queries) on the same data: columns samples, trial, `column`."""
    sides = [rows.query(query) for query in (first, second)]
    return stats.paired(*sides, column, ("samples", "trial")).reset_index(name=column)


class Course(NamedTuple):
    """How one curve moves as N grows.

    Attributes:
        learns, forgets: rank correlations of N with mean test and mean spurious accuracy.
        fall: of spurious accuracy from the smallest to the largest N, over trials.
        start, end: mean spurious accuracy minus chance at the smallest and at the largest N.
    """

    learns: float
    forgets: float
    fall: stats.Interval
    start: float
    end: float

    @property
    def holds(self) -> bool:
        """Test accuracy rises; spurious accuracy falls, by `LEAST_FALL` for certain, to chance."""
        ordered = self.learns > 0.9 and self.forgets < -0.9
        return bool(ordered and self.fall.low > LEAST_FALL and abs(self.end) < abs(self.start))

    @property
    def words(self) -> str:
        """The numbers behind `holds`."""
        return (
            f"ranks {self.learns:+.2f}, {self.forgets:+.2f}; fall {self.fall.mean:.2f} "
            f"[{self.fall.low:.2f}, {self.fall.high:.2f}]; ends {self.end:+.2f} from chance"
        )


def course(rows: pd.DataFrame, chance: float = 0.5) -> Course:
    """The course over N of one curve: one row a trial and N."""
    above = rows.groupby("samples")["spurious_accuracy"].mean() - chance
    falls = stats.fall(rows, "spurious_accuracy").dropna()
    return Course(
        *(stats.rank_with_samples(rows, column) for column in ACCURACIES),
        stats.interval_from(list(falls), stats.mean_ci),
        float(above.iloc[0]),
        float(above.iloc[-1]),
    )


def courses(rows: pd.DataFrame, by: list[str]) -> dict[tuple, Course]:
    """The course of each curve, by what tells the curves apart."""
    return {key: course(curve) for key, curve in rows.groupby(by)}


def both_sets(there: Iterable[str]) -> dict[str, bool]:
    """The side check of claims on images: one data set alone shows them in part at best."""
    return {"both data sets of the paper were run": {"mnist", "cifar10"} <= set(there)}


def degree_effects(rows: pd.DataFrame) -> dict[float, pd.Series]:
    """For each share: spurious accuracy of phi2 minus that of phi4, mean over N, by trial."""
    column = "spurious_accuracy"
    return {
        alpha: paired(part, "activation == 'phi2'", "activation == 'phi4'", column)
        .groupby("trial")[column]
        .mean()
        for alpha, part in rows.groupby("alpha")
    }


@rule("B10", needs=("activation", "alpha", "samples", "trial", *ACCURACIES))
def synthetic_trade_off(rows: pd.DataFrame, degree_from: int = 50) -> Judgement:
    """Test accuracy rises and spurious accuracy falls; beside it, higher degree memorises less.

    The trade-off is the core, a check a curve: the order of the degrees without it is no trade-off.
    """
    degree = degree_effects(rows[rows["samples"] >= degree_from])
    effect = stats.mean_ci((degree[0.25] + degree[0.5]) / 2)
    curves = ["activation", "alpha"]
    found = courses(rows, curves)
    drop = stats.mean_fall(dict(list(rows.groupby(curves))), "spurious_accuracy")
    ends = [made.end for made in found.values()]
    checks = {
        f"{name}, α = {alpha}: test accuracy rises with N, spurious accuracy falls by more than "
        f"{LEAST_FALL} towards chance ({made.words})": made.holds
        for (name, alpha), made in found.items()
    }
    side = {
        f"α = {alpha}: φ₂ above φ₄ by 3 standard errors": stats.z_score(values) > 3
        for alpha, values in degree.items()
    }
    words = (
        f"fall of spurious accuracy from smallest to largest N: {drop.mean:.3f}, ending "
        f"{min(ends):+.2f} to {max(ends):+.2f} from chance; φ₂ minus φ₄: {effect.mean:+.3f}"
    )
    return by_trial(checks, words, drop, rows, GAUSSIAN, side=side, boundary=LEAST_FALL)


@rule("B11", needs=("dataset", "samples", "trial", "data_source", *ACCURACIES))
def image_trade_off(rows: pd.DataFrame, titles: Mapping[str, str], note: str = "") -> Judgement:
    """The same trade-off on framed images, for each data set in `titles`; one alone is not all."""
    there = {name: rows[rows["dataset"] == name] for name in titles if name in set(rows["dataset"])}
    checks = {}
    for name, part in there.items():
        made = course(part)
        checks[
            f"{titles[name]}: test accuracy rises with N, spurious accuracy falls by more than "
            f"{LEAST_FALL} towards chance ({made.words})"
        ] = made.holds
    drop = stats.mean_fall(there, "spurious_accuracy")
    words = f"fall of spurious accuracy from smallest to largest N: {drop.mean:.3f}"
    return by_trial(checks, words, drop, rows, sources(rows), note, side=both_sets(there),
                    excluded=drop.high < LEAST_FALL)  # fmt: skip
