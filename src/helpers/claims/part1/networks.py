"""Rules on trained networks, and what chapter 5 tells of them (the paper's Figures 4 and 5)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import naming, stats
from helpers.claims.judgement import Judgement, rule, sources
from helpers.claims.part1.trade_offs import ACCURACIES, LEAST_FALL, course

NETWORKS = {"fc": "FC", "cnn": "CNN", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
DATA = {"gaussian": "Gaussian", "mnist": "MNIST", "mnist5k": "MNIST subset", "cifar10": "CIFAR-10"}
READINGS = ["test_accuracy", "spurious_accuracy", "spurious_auc"]
# A rank correlation of four sizes beyond 0.9 means perfect order, once in 24 times by chance.
LEAST_SIZES = 5
FULL_SIZE = 50_000  # where the paper's curves end


class Panels(NamedTuple):
    """Rows of the networks experiment: all curves, cells that train on, and the paper's panels."""

    curves: pd.DataFrame
    to_the_end: pd.DataFrame
    plain: dict[str, pd.DataFrame]
    resnets: dict[str, pd.DataFrame]

    @property
    def published(self) -> pd.DataFrame:
        """The rows of both figures' panels."""
        return pd.concat([*self.plain.values(), *self.resnets.values()])


def network_panels(rows: pd.DataFrame) -> Panels:
    """Rows with a `panel` and its `chance`, sorted; the paper's panels have raw pixels if any do.

    A panel's curve has the largest `stop_loss`; rows with a smaller one train on.
    """
    scaled = rows["scaling"].map({"raw": "", "unit": ", pixels / 255"})
    names = rows["architecture"].map(NETWORKS) + " on " + rows["dataset"].map(DATA) + scaled
    chance = np.where(rows["dataset"] == "gaussian", 0.5, 0.1)
    rows = rows.assign(panel=names, chance=chance)
    early = rows["stop_loss"] == rows.groupby("panel")["stop_loss"].transform("max")
    curves = rows[early]
    first = curves.groupby(["dataset", "architecture"])["scaling"].transform("min")
    published = curves[curves["scaling"] == first]
    is_resnet = published["architecture"].str.startswith("resnet")
    plain, resnets = (
        dict(list(published[which].groupby("panel", sort=False)))
        for which in (~is_resnet, is_resnet)
    )
    return Panels(curves, rows[~early], plain, resnets)


def at_end(rows: pd.DataFrame, end: str = "max") -> pd.DataFrame:
    """The rows of each panel at its largest N, or with `end="min"` at its smallest."""
    return rows[rows["samples"] == rows.groupby("panel")["samples"].transform(end)]


def panel_table(panels: Mapping[str, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """For each panel: means of `columns` at the largest N, and rank correlations with N."""
    table = {}
    for title, rows in panels.items():
        end = at_end(rows)
        table[title] = (
            {"N": end["samples"].iloc[0]}
            | {naming.shown(name): end[name].mean() for name in columns}
            | {"median epochs": int(end["epochs_run"].median())}
            | {f"rank, {naming.shown(name)}": stats.rank_with_samples(rows, name)
               for name in READINGS}
        )  # fmt: skip
    return pd.DataFrame(table)


def towards_certainty(rows: pd.DataFrame) -> pd.DataFrame:
    """The readings of the outputs, each on a scale from 0 (chance) to 1 (certainty)."""
    accuracy = (rows["spurious_accuracy"] - rows["chance"]) / (1 - rows["chance"])
    return rows.assign(
        spurious_accuracy=accuracy, spurious_auc=2 * rows["spurious_auc"] - 1,
        unseen_auc=2 * rows["unseen_auc"] - 1, chance=0.0,
    )  # fmt: skip


def widest_gap(rows: pd.DataFrame) -> tuple[str, int]:
    """Panel and N where the AUC is farthest above the accuracy, both towards certainty."""
    scaled = towards_certainty(rows)
    gap = scaled["spurious_auc"] - scaled["spurious_accuracy"]
    return gap.groupby([rows["panel"], rows["samples"]]).mean().idxmax()


def schedule_changes(found: Panels) -> pd.DataFrame:
    """Full schedule minus early end, on the same networks.

    Returns:
        A row for each panel, N and reading: mean, low and high over trials, `up`, the share of
        trials in which it rises, `trials`, and the median epochs of both.
    """
    key, table = ["panel", "samples", "trial"], []
    pairs = found.to_the_end.merge(found.curves, on=key, suffixes=("_full", "_early"))
    for (panel, size), rows in pairs.groupby(["panel", "samples"], sort=False):
        for column in READINGS:
            change = rows[f"{column}_full"] - rows[f"{column}_early"]
            table.append(
                {"panel": panel, "N": size, "reading": naming.shown(column),
                 "early": int(rows["epochs_run_early"].median()),
                 "full": int(rows["epochs_run_full"].median()),
                 "up": int((change > 0).sum()), "trials": len(change),
                 **stats.interval_from(list(change), stats.mean_ci)._asdict()}
            )  # fmt: skip
    return pd.DataFrame(table)


def scaling_change(rows: pd.DataFrame, column: str) -> stats.Interval:
    """Pixels divided by 255 minus raw ones at the largest N, by trial; NaN without a pair."""
    end = rows[rows["samples"] == rows["samples"].max()]
    values = end.pivot(index="trial", columns="scaling", values=column)
    if not {"unit", "raw"} <= set(values):
        return stats.Interval(*[float("nan")] * 3)
    return stats.mean_ci((values["unit"] - values["raw"]).dropna())


# -- the rules -------------------------------------------------------------------------------------


def network_checks(panels: Mapping[str, pd.DataFrame]) -> dict[str, bool]:
    """One check a panel: accuracy rises *and* memory falls (`Course.holds`), near chance at 50,000.

    A rise of the test accuracy alone is no part of the claim. Panels of fewer than `LEAST_SIZES`
    sizes are left out.
    """
    checks = {}
    for title, rows in panels.items():
        if rows["samples"].nunique() < LEAST_SIZES:
            continue
        made, ends = course(rows, rows["chance"].iloc[0]), ""
        holds = made.holds
        if rows["samples"].max() >= FULL_SIZE:
            holds, ends = holds and abs(made.end) < 0.1, ", which ends within 0.1 of chance"
        name = (
            f"{title}: test accuracy rises with N and spurious accuracy falls by more than "
            f"{LEAST_FALL}{ends}"
        )
        checks[f"{name} ({made.words})"] = bool(holds)
    return checks


def too_few_sizes(rows: pd.DataFrame) -> str:
    """Why these rows cannot test a trade-off over N, whatever they show; empty where they can."""
    panels = dict(list(rows.groupby("panel", sort=False)))
    sizes = {title: sorted(part["samples"].unique()) for title, part in panels.items()}
    if any(len(each) >= LEAST_SIZES for each in sizes.values()):
        return ""
    there = "; ".join(f"{t}: {len(each)} sizes up to {each[-1]:,}" for t, each in sizes.items())
    drop = stats.mean_fall(panels, "spurious_accuracy")
    return (
        f"at least {LEAST_SIZES} sizes are needed ({there}; the paper goes to {FULL_SIZE:,}): in "
        f"fewer, chance alone often gives the right order. The spurious accuracy falls by "
        f"{drop.mean:.2f} (95 % interval {drop.low:.2f} to {drop.high:.2f}), which decides nothing"
        + (" either." if drop.low < 0 < drop.high else " over so few sizes.")
    )


def network_note(panels: Mapping[str, pd.DataFrame]) -> str:
    """What the rule leaves open in these panels, as a note below the card."""
    short = [t for t, rows in panels.items() if rows["samples"].nunique() < LEAST_SIZES]
    ends = [t for t, rows in panels.items() if rows["samples"].max() < FULL_SIZE]
    notes = (
        [f"Not judged, with fewer than {LEAST_SIZES} sizes: {', '.join(short)}."] if short else []
    )
    if ends:
        notes.append(
            f"An end near chance is not tested before N = {FULL_SIZE:,}: {', '.join(ends)}."
        )
    return " ".join(notes)


def _network_judgement(rows: pd.DataFrame) -> Judgement:
    panels = dict(list(rows.groupby("panel", sort=False)))
    checks = network_checks(panels)
    if not checks:
        raise ValueError(f"no panel has {LEAST_SIZES} sizes: not tested, see too_few_sizes")
    judged = {t: p for t, p in panels.items() if p["samples"].nunique() >= LEAST_SIZES}
    drop, loss = (stats.mean_fall(judged, c) for c in ("spurious_accuracy", "test_accuracy"))
    return Judgement(
        checks,
        f"fall of spurious accuracy from smallest to largest N: {drop.mean:.3f}",
        (drop.low, drop.high),
        min(part["trial"].nunique() for part in judged.values()),
        sources(rows),
        network_note(panels),
        # a fall that is no monotone course is not the opposite of the claim
        excluded=drop.high < LEAST_FALL or loss.low > 0,
    )


_NEEDS = ("panel", "samples", "trial", "chance", "data_source", *ACCURACIES)


@rule("B13", needs=_NEEDS)
def plain_networks(rows: pd.DataFrame) -> Judgement:
    """Fully connected networks and small CNNs show the trade-off in every panel."""
    return _network_judgement(rows)


@rule("B14", needs=_NEEDS)
def residual_networks(rows: pd.DataFrame) -> Judgement:
    """ResNets show the trade-off in every panel."""
    return _network_judgement(rows)
