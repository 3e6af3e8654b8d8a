"""Rules of chapter 8: how readily a pattern is learnt from a few images (Y1 to Y5).

Rows are those of ``rare_patterns``: a network each, asked about one pattern. A panel is a data set
and a target class; `usual` are the rows of the schedule on which all patterns were run.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, rule, sources

DATA = {"mnist": "MNIST", "mnist5k": "MNIST subset", "fashion_mnist": "Fashion-MNIST",
        "cifar10": "CIFAR-10"}  # fmt: skip
LEAST = 5  # networks in each cell that carries a claim
LEARNT = 0.05  # the smallest difference of scores that matters
FULL_CIFAR = 50_000
NOISE_OVER_SQUARES = (("R3", "S3"), ("R2", "S2"), ("R1", "S1"))
WITHIN_FAMILIES = (("R3", "R2"), ("R2", "R1"), ("S3", "S2"), ("S2", "S1"))
RARE = 100  # images that carry a rare pattern, at most
NONE = {f"a panel with {LEAST} networks in each cell": False}
# those of the paper's Figures 2 and 20
PAPERS = ("mnist", "fashion_mnist", "cifar10")
PANELS = [f"{DATA[name]}, class {target}" for name in PAPERS for target in (0, 1)]
NEEDS = ("dataset", "target", "epochs", "samples", "pattern", "spurious", "trial", "data_source")


# -- tables ----------------------------------------------------------------------------------------


def panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows by data set and target class, under names like "MNIST, class 0"; no diverged network."""
    rows = rows.dropna(subset=["score"]) if "score" in rows else rows
    grouped = rows.groupby(["dataset", "target"], sort=False)
    return {f"{DATA[name]}, class {target}": part for (name, target), part in grouped}


def usual(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each data set's shortest schedule, on which all patterns were run."""
    return rows[rows["epochs"] == rows.groupby("dataset")["epochs"].transform("min")]


def at(rows: pd.DataFrame, pattern: str, n: int, column: str = "score") -> pd.Series:
    """A column of the networks that saw n images with the pattern, by trial."""
    found = rows[(rows["pattern"] == pattern) & (rows["spurious"] == n)]
    return found.set_index("trial")[column].sort_index()


def change(
    rows: pd.DataFrame, pattern: str, start: int, end: int, column: str = "score"
) -> pd.Series:
    """The column at n = end minus that at n = start, for each trial that has both."""
    return (at(rows, pattern, end, column) - at(rows, pattern, start, column)).dropna()


def networks(rows: pd.DataFrame) -> int:
    """The fewest networks in any cell of pattern and n."""
    return int(rows.groupby(["pattern", "spurious"])["trial"].nunique().min())


def averages(rows: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """Mean over n of each pattern in each trial (one row each), over the n that all patterns have.

    A trial in which a pattern lacks one of them has NaN there.
    """
    return averages_of(cells(rows, column))


def cells(rows: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """A column of one panel: a row a trial, columns are pairs of n and pattern."""
    return rows.pivot(index="trial", columns=["spurious", "pattern"], values=column)


def averages_of(table: pd.DataFrame) -> pd.DataFrame:
    """The `averages` of a table of `cells`."""
    patterns = list(dict.fromkeys(name for _, name in table))
    counts = sorted({n for n, _ in table if n > 0})
    common = [n for n in counts if all((n, name) in table for name in patterns)]
    means = {
        name: np.mean([table[(n, name)] for n in common], axis=0) if common else np.nan
        for name in patterns
    }
    return pd.DataFrame(means, index=table.index)


def complete(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The panels of the usual schedule in which all patterns were run at three n or more."""
    return {
        title: part
        for title, part in panels(usual(rows)).items()
        if part["pattern"].nunique() > 2
        and part[part["pattern"] != "R3"].groupby("pattern")["spurious"].nunique().min() > 2
    }


def judged_panels(found: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Those panels that have `LEAST` networks in each cell."""
    return {title: part for title, part in found.items() if networks(part) >= LEAST}


def too_few(found: Iterable[str], kept: Mapping, what: str = "") -> dict[str, bool]:
    """A side check that fails for each panel that has too few networks."""
    words = ", ".join(filter(None, (what, f"{LEAST} networks in every cell")))
    return {f"{title}: {words}": False for title in found if title not in kept}


def inside(made: stats.Interval, low: float = -1.0, high: float = 1.0) -> stats.Interval:
    """The interval of a quantity that cannot leave [low, high]."""
    return stats.Interval(made.mean, *np.clip(made[1:], low, high).tolist())


def pooled(groups: list[pd.Series]) -> stats.Interval:
    """Mean over panels with its interval over trials; no ends where there are fewer than two."""
    if len({trial for values in groups for trial in values.index}) < 2:
        return stats.Interval(*[float("nan")] * 3)
    return inside(stats.pooled(groups))


def told(mean: float, form: str = "{:.2f}") -> str:
    """A mean in words.

    >>> told(0.5), told(float("nan"))
    ('0.50', 'too few networks')
    """
    return "too few networks" if np.isnan(mean) else form.format(mean)


# -- one to three images ---------------------------------------------------------------------------


class Few(NamedTuple):
    """What R3 does in a panel: schedule, scores by trial at n = 0, 1 and 3, and what follows."""

    epochs: int
    clean: pd.Series
    one: pd.Series
    three: pd.Series

    @property
    def networks(self) -> int:
        """The fewer of those with none and with three images."""
        return min(len(self.clean), len(self.three))

    @property
    def rise(self) -> pd.Series:
        """From n = 0 to n = 3, by trial."""
        return (self.three - self.clean).dropna()

    @property
    def p(self) -> float:
        """Of Welch's one-sided test, n = 3 above n = 0; NaN without two networks each."""
        enough = self.networks >= 2
        return stats.welch_greater(self.three, self.clean) if enough else float("nan")

    @property
    def learnt_from_one(self) -> int:
        """Networks that saw one image and score 0.1 above every clean network of the panel."""
        return int((self.one > self.clean.max() + 0.1).sum())


def few(rows: pd.DataFrame, epochs: int | None = None) -> Few:
    """What R3 does in the rows of one panel.

    On the longest schedule that has `LEAST` networks, or else on that with most of them; or on the
    one of so many epochs.
    """
    made = {}
    for length in sorted(rows["epochs"].unique() if epochs is None else [epochs]):
        part = rows[rows["epochs"] == length]
        made[length] = Few(int(length), *(at(part, "R3", n) for n in (0, 1, 3)))
    return max(made.values(), key=lambda found: (min(found.networks, LEAST), found.epochs))


def schedules(rows: pd.DataFrame, column: str) -> pd.Series:
    """Mean of a column over networks with R3 on three images, by epochs: shortest and longest.

    Of the panels and trials that have both schedules; empty where there is one only.
    """
    own = rows[(rows["pattern"] == "R3") & (rows["spurious"] == 3)]
    table = own.pivot(index=["dataset", "target", "trial"], columns="epochs", values=column)
    ends = sorted({table.columns.min(), table.columns.max()})
    return table[ends].dropna().mean() if len(ends) == 2 else pd.Series(dtype=float)


@rule("Y1", needs=(*NEEDS, "score"))
def three_images(rows: pd.DataFrame) -> Judgement:
    """R3 is learnt from three images, in each of the six pairs of data set and target class.

    Welch's one-sided test over five networks or more, corrected for six panels after Holm, on the
    longest schedule that has so many, and a mean rise above 0.05. A pair without them is a side
    check that fails.
    """
    found = {title: few(part) for title, part in panels(rows).items()}
    judged = {title: one for title, one in found.items() if one.networks >= LEAST}
    corrected = stats.power.holm([one.p for one in judged.values()]) if judged else []
    p = dict(zip(judged, corrected, strict=True))
    checks = {
        f"{title}, {one.epochs} epochs: rise {one.rise.mean():.2f}, p = {p[title]:.2g}":
        p[title] < 0.05 and one.rise.mean() > LEARNT
        for title, one in judged.items()
    }  # fmt: skip
    mean = pooled([one.rise for one in (judged or found).values()])
    ones = "; ".join(
        f"{title} {one.learnt_from_one} of {len(one.one)}"
        for title, one in found.items()
        if len(one.one)
    )
    return Judgement(
        checks or NONE,
        f"rise of the score of R3 from n = 0 to n = 3, mean over panels: {told(mean.mean)}; "
        f"networks that learn it from one image: {ones or 'not run'}",
        mean[1:],
        min(one.networks for one in (judged or found).values()) or 1,
        sources(rows),
        side=too_few(PANELS, judged),
        # a rise too small to be called a jump
        excluded=bool(judged) and mean.high < LEARNT,
    )


# -- more images, other patterns -------------------------------------------------------------------


def growth(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each pattern that a panel's networks learn: `rank` with n, and `rise` from 3 to the end.

    Whether it `holds` that the score grows: a rank above 0.8, and a rise. Learnt is a mean score
    above `LEARNT` at the largest n. The rank is Spearman's, of the mean.
    """
    table = {}
    for name, own in rows.groupby("pattern", sort=False):
        means = own.groupby("spurious")["score"].mean()
        if means.iloc[-1] > LEARNT and 3 in means.index:
            rank = stats.rank_correlation(means.index, means)
            table[name] = {"rank": rank, "rise": means.iloc[-1] - means[3]}
    made = pd.DataFrame(table, index=["rank", "rise"]).T
    return made.assign(holds=(made["rank"] > 0.8) & (made["rise"] > 0))


def without_growth(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """The patterns that are learnt and whose score does not grow with n, panel by panel."""
    tables = {title: growth(part) for title, part in found.items()}
    return [f"{name} ({title})" for title, t in tables.items() for name in t.index[~t["holds"]]]


@rule("Y2", needs=(*NEEDS, "score"))
def more_images(rows: pd.DataFrame) -> Judgement:
    """In each panel, the mean score of every pattern that is learnt grows with n."""
    found = complete(rows)
    judged = judged_panels(found)
    checks, rises, falls = {}, [], []
    for title, part in judged.items():
        table = growth(part)
        checks[f"{title}: every pattern that is learnt"] = len(table) > 0 and bool(
            table["holds"].all()
        )
        last = part["spurious"].max()
        own = pd.DataFrame({name: change(part, name, 3, last) for name in table.index})
        rises.append(own.mean(axis=1, skipna=False).dropna())
        falls += [name for name in own if stats.mean_ci(own[name].dropna()).high < 0]
    mean = pooled(rises)
    return Judgement(
        checks or NONE,
        "rise of the score from n = 3 to the largest n, mean over panels and the patterns that are "
        f"learnt: {told(mean.mean)}; no growth: {', '.join(without_growth(judged)) or 'none'}",
        mean[1:],
        min(map(networks, (judged or panels(rows)).values())),
        sources(rows),
        side=too_few(PANELS, judged),
        excluded=bool(judged) and (mean.high < LEARNT or bool(falls)),
    )


def ahead(
    found: Mapping[str, pd.DataFrame], first: str, second: str, column: str = "score"
) -> dict[str, pd.Series]:
    """One pattern's mean over n minus another's, by panel and trial."""
    tables = {title: averages(part, column) for title, part in found.items()}
    return {title: (table[first] - table[second]).dropna() for title, table in tables.items()}


def rare_excess(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one panel with 1 to `RARE` images; `score` is what these images have added.

    That is the score less that of the network of the same trial without any, asked about the same
    pattern: some patterns turn predictions around that no training image has taught.
    """
    key = ["pattern", "trial"]
    clean = rows[rows["spurious"] == 0].set_index(key)["score"].rename("clean")
    few_ = rows[rows["spurious"].between(1, RARE)].join(clean, on=key, how="inner")
    return few_.assign(score=few_["score"] - few_["clean"]).drop(columns="clean")


def against_order(found: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], list[str]]:
    """The panels in which a comparison of Y3 goes the other way, by comparison."""
    return {
        pair: [title for title, own in ahead(found, *pair).items() if not own.mean() > 0]
        for pair in (*NOISE_OVER_SQUARES, *WITHIN_FAMILIES)
    }


def in_words(wrong: Mapping[tuple[str, str], list[str]]) -> str:
    """The comparisons of `against_order` with the panels where they fail.

    >>> in_words({("R3", "R2"): ["MNIST, class 1"], ("R2", "R1"): []})
    'R3 over R2 (MNIST, class 1)'
    """
    failed = [f"{a} over {b} ({', '.join(titles)})" for (a, b), titles in wrong.items() if titles]
    return "; ".join(failed) or "none"


@rule("Y3", needs=(*NEEDS, "score"))
def noise_first(rows: pd.DataFrame) -> Judgement:
    """Noise is learnt more readily than squares; at its side, the larger pattern of each family.

    Compared is what up to a hundred images add to the score. A comparison holds where the mean
    difference is above 0 in every panel (noise against squares may miss one of six), and its mean
    over panels with the whole interval.
    """
    judged = {t: rare_excess(part) for t, part in judged_panels(complete(rows)).items()}
    pairs = (*NOISE_OVER_SQUARES, *WITHIN_FAMILIES)
    by_pair = {pair: ahead(judged, *pair) for pair in pairs}
    means = {pair: pooled(list(values.values())) for pair, values in by_pair.items()}
    wrong = against_order(judged)

    def holds(pair: tuple[str, str]) -> bool:
        spare = int(pair in NOISE_OVER_SQUARES and len(judged) >= 6)
        return len(wrong[pair]) <= spare and means[pair].low > 0

    mean = pooled(
        [pd.concat([by_pair[pair][title] for pair in NOISE_OVER_SQUARES], axis=1).mean(axis=1)
         for title in judged]
    )  # fmt: skip
    against = in_words(wrong)
    name = "noise over the square of the same rank, for each of three"
    core = {name: all(map(holds, NOISE_OVER_SQUARES))} if judged else NONE
    families = "within a family, the larger pattern over the smaller"
    return Judgement(
        core,
        f"excess of noise minus that of squares, mean over n up to {RARE}, ranks and panels: "
        f"{told(mean.mean)}; other way round: {against}",
        mean[1:],
        min(map(networks, (judged or panels(rows)).values())),
        sources(rows),
        side={families: bool(judged) and all(map(holds, WITHIN_FAMILIES))}
        | too_few(PANELS, judged),
        excluded=bool(judged) and any(means[pair].high < LEARNT for pair in NOISE_OVER_SQUARES),
    )


# -- single panels ---------------------------------------------------------------------------------


@rule("Y4", needs=(*NEEDS, "score"))
def bar_is_learnt(rows: pd.DataFrame) -> Judgement:
    """On MNIST, a hundred images with the bar raise the score by 0.05 or more, for both classes."""
    found = {
        title: change(part, "Inv", 0, 100)
        for title, part in panels(usual(rows)).items()
        if title.startswith("MNIST") and "Inv" in set(part["pattern"])
    }
    made = {
        title: inside(stats.mean_ci(values))
        for title, values in found.items()
        if len(values) >= LEAST
    }
    mean = pooled(list(found.values()))
    return Judgement(
        {f"{title}: rise {one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]":
         one.mean > LEARNT and one.low > 0 for title, one in made.items()} or NONE,
        f"rise of the score of Inv from n = 0 to n = 100, mean over classes: {told(mean.mean)}",
        mean[1:],
        max(min(map(len, found.values()), default=1), 1),
        sources(rows[rows["dataset"].str.startswith("mnist")]),
        side={f"two classes with {LEAST} networks": len(made) == 2},
        excluded=bool(made) and all(one.high < LEARNT for one in made.values()),
    )  # fmt: skip


@rule("Y5", needs=(*NEEDS, "score", "augment"))
def crops(rows: pd.DataFrame) -> Judgement:
    """On all of CIFAR-10, cropped and mirrored, a hundred images raise the score of R3 by 0.1."""
    colour = rows[(rows["dataset"] == "cifar10") & (rows["target"] == 0)]
    whole = colour[(colour["samples"] == FULL_CIFAR) & colour["augment"]]
    values = change(usual(whole), "R3", 0, 100)
    made = inside(stats.interval_from(list(values), stats.mean_ci))
    enough = len(values) >= LEAST
    name = f"{LEAST} networks on {FULL_CIFAR:,} images: the whole interval above 0.1"
    return Judgement(
        {name: enough and made.low > 0.1},
        f"rise of the score of R3 from n = 0 to n = 100: {told(made.mean)}",
        made[1:],
        max(len(values), 1),
        sources(colour),
        excluded=enough and made.high < 0.1,
    )
