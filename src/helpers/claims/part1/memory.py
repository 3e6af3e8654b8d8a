"""Rules on memory: chapters 5 to 7 (trained networks, generalisation, distance from the limit)."""

from collections.abc import Mapping

import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources
from helpers.claims.part1.features import ACCURACIES, GAUSSIAN, trade_off

# -- chapter 5: trained networks -------------------------------------------------------------------


def network_checks(panels: Mapping[str, pd.DataFrame]) -> dict[str, bool]:
    """The rule of both figures: accuracy rises, memory falls, and ends near chance at 50,000."""
    checks = {}
    for title, rows in panels.items():
        rises, falls = (stats.rank_with_samples(rows, column) for column in ACCURACIES)
        checks[f"{title}: test accuracy rises with N"] = rises > 0.9
        checks[f"{title}: spurious accuracy falls with N"] = falls < -0.9
        end = rows[rows["samples"] == rows["samples"].max()]
        if end["samples"].iloc[0] >= 50_000:
            above = end["spurious_accuracy"].mean() - end["chance"].iloc[0]
            checks[f"{title}: ends within 0.1 of chance"] = abs(above) < 0.1
    return checks


def _network_judgement(rows: pd.DataFrame, note: str) -> Judgement:
    panels = dict(list(rows.groupby("panel", sort=False)))
    drop = stats.mean_fall(panels, "spurious_accuracy")
    return Judgement(
        network_checks(panels),
        f"fall of spurious accuracy from smallest to largest N: {drop.mean:.3f}",
        (drop.low, drop.high),
        min(part["trial"].nunique() for part in panels.values()),
        sources(rows),
        note,
    )


_NETWORK_NEEDS = ("panel", "samples", "trial", "chance", "data_source", *ACCURACIES)


@rule("B13", needs=_NETWORK_NEEDS)
def plain_networks(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Fully connected networks and small CNNs show the trade-off in every panel."""
    return _network_judgement(rows, note)


@rule("B14", needs=_NETWORK_NEEDS)
def residual_networks(rows: pd.DataFrame, note: str = "") -> Judgement:
    """ResNets show the trade-off in every panel."""
    return _network_judgement(rows, note)


# -- chapter 6: stability and generalisation -------------------------------------------------------


def bound_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard error and z of memory over the bound and off the product, by cell."""
    kinds, cell = ["features", "family"], ["model", "data", "samples"]
    cells = rows.groupby([*kinds, *cell])[["over_bound", "off_product"]].agg(["mean", "sem"])
    cells.columns = ["over", "over_sem", "off", "off_sem"]
    return cells.assign(z=cells["over"] / cells["over_sem"]).reset_index()


@rule(
    "B8",
    needs=("features", "family", "model", "data", "samples", "trial", "over_bound", "off_product"),
)
def generalisation_bound(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Memory stays below the bound in every cell, as far as its mean is known to 0.05."""
    cells = bound_cells(rows)
    slack = stats.mean_ci(rows.groupby("trial")["over_bound"].mean())
    known = (slack.high - slack.low) / 2 < 0.05
    checks = {
        f"{features}, {family}: no cell above the bound by more than 2 standard errors": bool(
            known and (part["z"] <= 2).all()
        )
        for (features, family), part in cells.groupby(["features", "family"])
    }
    words = (
        f"memory minus bound, mean over {len(cells)} cells: {slack.mean:+.3f}; largest excess "
        f"{cells['over'].max():.3f}"
    )
    return by_trial(checks, words, slack, rows, "Gaussian blocks; framed images", note)


def prediction_errors(rows: pd.DataFrame) -> dict[str, float]:
    """Largest distance of mean predicted and measured spurious accuracy over cells, by family."""
    means = rows.groupby(["family", "cell"], sort=False)[["prediction", "spurious_accuracy"]].mean()
    off = (means["prediction"] - means["spurious_accuracy"]).abs()
    return off.groupby("family", sort=False).max().to_dict()


@rule(
    "B9", needs=("family", "cell", "trial", "prediction", "spurious_accuracy", "samples", "lawful")
)
def predicted_memory(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Spurious accuracy is predicted by the law and test data, within 0.03 in every cell.

    `family` names what is judged together; `lawful` marks the rows where the law's assumptions
    hold, over which the effect is taken.
    """
    lawful, size = rows[rows["lawful"]], rows["samples"].min()
    error = stats.mean_ci(
        (lawful["prediction"] - lawful["spurious_accuracy"]).groupby(lawful["trial"]).mean()
    )
    checks = {
        f"{name}: predicted by law and test data within 0.03 at every N from {size}": off < 0.03
        for name, off in prediction_errors(rows).items()
    }
    words = (
        "predicted minus measured spurious accuracy where the law's assumptions hold, mean "
        f"{error.mean:+.4f}"
    )
    return by_trial(checks, words, error, lawful, GAUSSIAN, note)


# -- chapter 7: how far from the limit -------------------------------------------------------------


@rule("B15", needs=("derivative", "alpha", "samples", "trial", *ACCURACIES))
def appendix_signs(
    rows: pd.DataFrame,
    regimes: Mapping[str, tuple[float, float]],
    shares: Mapping[str, bool],
    note: str = "",
) -> Judgement:
    """Our reconstruction shows the same signs: in N, in N/d and in the share of the background.

    `regimes`: alignment at few and at many samples per dimension, by activation; `shares`: whether
    the alignment rises with the share, by activation.
    """
    if not regimes or not shares:
        raise ValueError("no activation whose regimes and shares could be judged")
    ranks = trade_off(rows, ["derivative", "alpha"])
    first, last = rows["samples"].min(), rows["samples"].max()
    ends = rows.groupby(["trial", "samples"])["spurious_accuracy"].mean().unstack()
    drop = stats.mean_ci(ends[first] - ends[last])
    checks = {
        "NTK on Gaussian data: test and spurious accuracy in opposite order over N (rank "
        "correlation below −0.9), every curve": all(r < -0.9 for r in ranks.values()),
        "alignment falls from few to many samples per dimension, every activation (α = 1/2, "
        "infinite width)": all(few > many for few, many in regimes.values()),
        "alignment rises with the share of the background, every activation (N = d, infinite "
        "width)": all(shares.values()),
    }
    words = f"fall of spurious accuracy from N = {first} to {last}: {drop.mean:.3f}"
    return by_trial(checks, words, drop, rows, GAUSSIAN, note)
