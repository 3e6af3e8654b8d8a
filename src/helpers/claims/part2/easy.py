"""Rules of chapter 10: which patterns, networks and ways of training are susceptible (Y18 to Y25).

Rows are those of the experiments `pattern_norms`, `rare_patterns`, `rare_conditions` and
`pixel_removal`, one a network. The trial is the seed of a network, of its data and of its spurious
images. A statement holds when the 95 % interval of each of its means lies on its side of the limit,
and is excluded once one lies on the other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from helpers import naming, stats
from helpers.claims.bars import Bar, bar, checks, excluded, inside
from helpers.claims.judgement import Judgement, by_trial, rule, sources
from helpers.claims.part2.score import DATA

MLPS = ("small mlp", "mlp", "large mlp")
ALIKE, LITTLE, NOTHING = 0.15, 0.1, 0.05  # differences of scores: alike, little, almost none
PRINTED = {  # S1, S2, S3, R1, R2, R3, Inv
    "mnist": (1.00, 3.00, 5.00, 3.88, 7.70, 15.19, 5.98),
    "fashion_mnist": (1.00, 3.00, 4.98, 3.90, 7.40, 13.65, 4.44),
    "cifar10": (0.84, 2.57, 4.34, 7.72, 14.54, 23.20, 8.00),
}
NORM_LIMITS = {"mnist": 0.01, "fashion_mnist": 0.01, "cifar10": 0.03}
TABLE2 = {
    "small MLP": 203_530, "MLP": 335_114, "large MLP": 932_362, "CNN": 312_202,
    "ResNet20": 269_722, "ResNet32": 464_154, "ResNet110": 1_727_962, "VGG-16": 134_301_514,
}  # fmt: skip
WAYS = ("Adam", "SGD", "Adam, clipped by value", "Adam, clipped by norm")
_WAY = ["dataset", "samples", "network", "epochs", "optimiser", "clip_value", "clip_norm"]


def with_excess(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with n > 0, with the score of the clean network of the same seed and their excess.

    Where two experiments hold the same network, it counts once.
    """
    rows = rows.drop_duplicates([*_WAY, "pattern", "spurious", "target", "trial"])
    key = [*_WAY, "pattern", "trial"]
    clean = rows[rows["spurious"] == 0].drop_duplicates(key).set_index(key)["score"].rename("clean")
    found = rows[rows["spurious"] > 0].join(clean, on=key)
    return found.assign(excess=found["score"] - found["clean"])


def with_ways(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the name of their way of training, one of `WAYS`."""
    ways = np.select(
        [rows["optimiser"] == "sgd", np.isfinite(rows["clip_value"]),
         np.isfinite(rows["clip_norm"])], [*WAYS[1:]], WAYS[0],
    )  # fmt: skip
    return rows.assign(way=ways)


def welch(first: Sequence[float], second: Sequence[float]) -> stats.Interval:
    """Mean of the first minus mean of the second, with Welch's interval; NaN ends without one."""
    a, b = (np.asarray(side, dtype=float) for side in (first, second))
    gap = float(a.mean() - b.mean()) if len(a) and len(b) else np.nan
    if min(len(a), len(b)) < 2:
        return stats.Interval(gap, np.nan, np.nan)
    if np.ptp(a) == np.ptp(b) == 0:
        return stats.Interval(gap, gap, gap)
    ends = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    return stats.Interval(gap, float(ends.low), float(ends.high))


# -- patterns --------------------------------------------------------------------------------------


@rule("Y18", needs=("dataset", "pattern", "norm", "data_source"))
def printed_norms(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Every norm of the printed table, over the test images of its data set."""
    off = norm_errors(rows)
    if not off:
        raise KeyError("a data set of the table")
    known = all(np.isfinite(value) for value in off.values())
    found = {
        f"{DATA[name]}: all 7 norms within {NORM_LIMITS[name]}": bool(value <= NORM_LIMITS[name])
        for name, value in off.items()
    }
    words = ", ".join(f"{DATA[name]} {value:.4f}" for name, value in off.items())
    side = {"all three data sets": len(off) == len(PRINTED)}
    return Judgement(
        found, f"largest difference from the table: {words}", None, 1,
        sources(rows[rows["dataset"].isin(list(off))]), note, side=side, excluded=known,
    )  # fmt: skip


def norm_errors(rows: pd.DataFrame) -> dict[str, float]:
    """Largest difference from the printed norms, by data set; NaN where a pattern lacks."""
    order = ["S1", "S2", "S3", "R1", "R2", "R3", "Inv"]
    tables = {
        name: rows[rows["dataset"] == name].set_index("pattern")["norm"].reindex(order)
        for name in PRINTED
        if (rows["dataset"] == name).any()
    }
    return {name: float(np.abs(table.to_numpy() - np.array(PRINTED[name])).max())
            for name, table in tables.items()}  # fmt: skip


def pattern_means(rows: pd.DataFrame, norms: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Mean score over n of 3 and more by data set, pattern and trial, beside the norm.

    Args:
        rows: of `rare_patterns`, one class, with `score_others`.
        norms: norm of a data set and pattern.
    """
    by = ["dataset", "pattern", "trial"]
    with_n = rows[rows["spurious"] >= 3].groupby(by)["score_others"].mean().rename("score")
    clean = rows[rows["spurious"] == 0].groupby(by)["score_others"].mean().rename("clean")
    found = pd.concat([with_n, clean], axis=1).dropna(subset=["score"]).reset_index()
    found["norm"] = [norms[key] for key in zip(found["dataset"], found["pattern"], strict=True)]
    return found.merge(rows[["dataset", "data_source"]].drop_duplicates("dataset"), on="dataset")


def correlation_limit(points: int) -> float:
    """The size that chance gives a Pearson correlation of so many points once in twenty times.

    >>> round(correlation_limit(7), 3)
    0.754
    """
    t = scipy.stats.t.ppf(0.975, points - 2)
    return float(t / np.sqrt(points - 2 + t**2))


def correlation(rows: pd.DataFrame) -> stats.Interval:
    """Pearson's correlation of norm and mean score over patterns, its interval over trials.

    Jackknife over trials of Fisher's z, Student's t: inside [-1, 1].
    """
    norms = rows.groupby("pattern")["norm"].first()
    scores = rows.pivot(index="pattern", columns="trial", values="score").loc[norms.index]

    def z(kept: pd.DataFrame) -> float:
        return float(np.arctanh(np.corrcoef(norms, kept.mean(axis=1))[0, 1]))

    whole, n = z(scores), scores.shape[1]
    if n < 2:
        return stats.Interval(float(np.tanh(whole)), np.nan, np.nan)
    pseudo = [n * whole - (n - 1) * z(scores.drop(columns=trial)) for trial in scores]
    ends = stats.interval_from(pseudo, stats.mean_ci)
    half = ends.high - ends.mean
    return stats.Interval(*(float(np.tanh(x)) for x in (whole, whole - half, whole + half)))


@rule("Y19", needs=("dataset", "pattern", "trial", "norm", "score", "data_source"))
def norm_and_score(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Pearson's correlation of norm and mean score is above what chance gives seven patterns.

    The interval is over networks: how it would come out with others, for the same patterns.
    """
    limit, bars, words = correlation_limit(rows["pattern"].nunique()), {}, []
    for name, part in rows.groupby("dataset", sort=False):
        found = correlation(part)
        bars[f"{DATA[name]}: correlation above {limit:.3f}, over networks"] = [Bar(found, limit)]
        words.append(f"{DATA[name]} {found.mean:.2f}")
    lowest = min((one[0].found for one in bars.values()), key=lambda one: one.low)
    return by_trial(
        checks(bars), "Pearson " + ", ".join(words), lowest, rows, sources(rows), note,
        side={"CIFAR-10: all seven patterns": "cifar10" in set(rows["dataset"])},
        excluded=excluded(bars),
    )  # fmt: skip


# -- networks --------------------------------------------------------------------------------------


def network_scores(rows: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """Mean over n of a column of `with_excess`, by data set, pattern, network and trial."""
    by = ["dataset", "pattern", "network", "trial"]
    means = rows.groupby(by, sort=False)[column].mean().reset_index()
    return means.merge(rows[["dataset", "data_source"]].drop_duplicates("dataset"), on="dataset")


class _Cell(NamedTuple):
    """Values by trial of every network in one case."""

    title: str
    of: dict[str, pd.Series]


def _cells(rows: pd.DataFrame, by: Sequence[str], column: str) -> list[_Cell]:
    cells = []
    for key, part in rows.groupby(list(by), sort=False):
        of = {name: r.set_index("trial")[column] for name, r in part.groupby("network", sort=False)}
        title = DATA[key[0]] if len(key) == 1 else f"{key[1]} on {DATA[key[0]]}"
        cells.append(_Cell(title, of))
    return cells


def mlp_gaps(cell: _Cell) -> list[Bar]:
    """The MLPs of all sizes within `ALIKE` of each other: two bars a pair, paired by trial."""
    here = [cell.of[name] for name in MLPS if name in cell.of]
    pairs = [(a, b) for i, a in enumerate(here) for b in here[i + 1 :]]
    return [one for a, b in pairs for one in inside((a - b).dropna(), ALIKE)]


@rule("Y20", needs=("dataset", "pattern", "network", "trial", "score", "data_source"))
def kind_not_size(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Scores, means over n: MLPs of three sizes alike, the CNN below each of them."""
    bars, lead = {}, []
    for cell in _cells(rows, ["dataset", "pattern"], "score"):
        if set(MLPS) <= set(cell.of):
            bars[f"{cell.title}: the MLPs within {ALIKE} of each other"] = mlp_gaps(cell)
        if "cnn" in cell.of:
            gaps = [welch(cell.of[name], cell.of["cnn"]) for name in MLPS if name in cell.of]
            bars[f"{cell.title}: the CNN below each MLP"] = [Bar(gap, 0) for gap in gaps]
            lead.append(min(gaps, key=lambda gap: gap.mean))
        bars |= _colour_bars(cell)
    if not lead:
        raise KeyError("a convolutional network")
    least = min(lead, key=lambda gap: gap.mean)
    alike = [one for name, row in bars.items() if "the MLPs" in name for one in row]
    largest = max((abs(one.found.mean) for one in alike), default=np.nan)
    words = f"smallest lead of an MLP over the CNN {least.mean:+.3f}; largest gap of two MLPs "
    return by_trial(
        checks(bars), words + f"{largest:.3f}", least, rows, sources(rows), note,
        side={"ResNets and VGG-16 compared as well": _COLOUR <= set(rows["network"])},
        excluded=excluded(bars),
    )  # fmt: skip


_COLOUR = {"resnet20", "resnet32", "vgg16"}


def _colour_bars(cell: _Cell) -> dict[str, list[Bar]]:
    """Where the networks of colour images are there: ResNets alike, VGG-16 not above them."""
    if not _COLOUR <= set(cell.of):
        return {}
    small, large, vgg = (cell.of[name] for name in ("resnet20", "resnet32", "vgg16"))
    return {
        f"{cell.title}: the ResNets within {LITTLE} of each other": inside(small - large, LITTLE),
        f"{cell.title}: VGG-16 not above the ResNets by {NOTHING}": [
            Bar(welch(small, vgg), -NOTHING)
        ],
    }


@rule("Y21", needs=("dataset", "network", "trial", "excess", "data_source"))
def few_and_small(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Excess of S3 with few images: the MLP learns it, the CNN less, a ResNet almost nothing.

    Rows of the networks "mlp", "cnn" and "resnet20". "Almost nothing" is a bound: the whole
    interval lies below 0.05.
    """
    bars, gap = {}, stats.Interval(np.nan, np.nan, np.nan)
    for cell in _cells(rows, ["dataset"], "excess"):
        if "mlp" in cell.of:
            bars[f"{cell.title}: MLP above {NOTHING}"] = [bar(cell.of["mlp"], NOTHING)]
        if "mlp" in cell.of and "cnn" in cell.of:
            gap = welch(cell.of["mlp"], cell.of["cnn"])
            bars[f"{cell.title}: CNN below the MLP"] = [Bar(gap, 0)]
        for net, words in (("resnet20", "ResNet-20"), ("vgg16", "VGG-16")):
            if net in cell.of:
                bars[f"{cell.title}: {words} below {NOTHING}"] = [bar(-cell.of[net], -NOTHING)]
    means = rows.groupby(["dataset", "network"], sort=False)["excess"].mean()
    words = ", ".join(f"{naming.shown(net)} {DATA[d]} {v:+.3f}" for (d, net), v in means.items())
    there = set(rows["network"])
    return by_trial(
        checks(bars), f"excess of S3: {words}; interval: MLP minus CNN, last data set", gap, rows,
        sources(rows), note, excluded=excluded(bars),
        side={"a ResNet is among the networks": "resnet20" in there, "VGG-16": "vgg16" in there},
    )  # fmt: skip


def areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Area under the probability of the true label over the removed share, by network and trial."""
    by = ["dataset", "network", "trial"]
    found = rows.sort_values("removed").groupby(by, sort=False)[["removed", "true_probability"]]
    made = found.apply(lambda part: float(np.trapezoid(part["true_probability"], part["removed"])))
    return made.rename("area").reset_index()


@rule("Y22", needs=("dataset", "network", "trial", "what", "value"))
def sensitive_and_susceptible(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Of MLP and CNN, the one that suffers more from removed pixels picks S3 up more.

    Rows have `what`: "area", of clean networks, and "excess", of networks that saw S3. Data sets
    in which the areas cannot be told apart decide nothing.
    """
    bars, words, order, last = {}, [], {}, stats.Interval(np.nan, np.nan, np.nan)
    for name, part in rows.groupby("dataset", sort=False):
        of = {key: values["value"] for key, values in part.groupby(["what", "network"])}
        if {(what, net) for what in ("area", "excess") for net in ("mlp", "cnn")} - set(of):
            continue
        kept = welch(of["area", "mlp"], of["area", "cnn"])
        taken = welch(of["excess", "mlp"], of["excess", "cnn"])
        order[f"Fig. 15, {DATA[name]}: the MLP suffers less"] = bool(kept.low > 0)
        if kept.low > 0:  # the CNN is the sensitive one
            taken = stats.Interval(-taken.mean, -taken.high, -taken.low)
        elif not kept.high < 0:
            taken = stats.Interval(taken.mean, np.nan, np.nan)
        bars[f"{DATA[name]}: the more sensitive network has the larger excess"] = [Bar(taken, 0)]
        words.append(f"{DATA[name]} {taken.mean:+.3f} (areas apart by {abs(kept.mean):.3f})")
        last = taken
    if not bars:
        raise KeyError("a data set with area and excess of an MLP and a CNN")
    ends = (last.low, last.high)
    return Judgement(
        checks(bars), f"excess of the more minus the less sensitive network: {', '.join(words)}",
        ends, rows["trial"].nunique(), " and ".join(DATA[n] for n in rows["dataset"].unique()),
        note, side=order, excluded=excluded(bars),
    )  # fmt: skip


@rule("Y23", needs=("dataset", "network", "trial", "score", "data_source"))
def parameters(rows: pd.DataFrame, counts: Mapping[str, int], note: str = "") -> Judgement:
    """A CNN with more parameters than the small MLP has the lower score; counts are Table 2's."""
    bars, gap = {}, None
    for cell in _cells(rows, ["dataset"], "score"):
        if {"small mlp", "cnn"} <= set(cell.of):
            gap = welch(cell.of["small mlp"], cell.of["cnn"])
            bars[f"{cell.title}: CNN below the small MLP"] = [Bar(gap, 0)]
    if gap is None:
        raise KeyError("a data set with a CNN and a small MLP")
    return by_trial(
        checks(bars), f"small MLP minus CNN, S3: {gap.mean:+.3f} ({list(bars)[-1].split(':')[0]})",
        gap, rows, sources(rows), note, excluded=excluded(bars),
        side={"all eight parameter counts agree": dict(counts) == TABLE2,
              "VGG-16 beside ResNet-20": {"vgg16", "resnet20"} <= set(rows["network"])},
    )  # fmt: skip


# -- ways of training ------------------------------------------------------------------------------

_CASE = ["dataset", "pattern", "spurious"]


def way_minus_adam(rows: pd.DataFrame, way: str) -> pd.DataFrame:
    """Score with a way of training minus the score with Adam: `difference`, by case and trial."""
    sides = [rows[rows["way"] == name] for name in (way, "Adam")]
    return stats.paired(*sides, "score", [*_CASE, "trial"]).rename("difference").reset_index()


@rule("Y24", needs=("dataset", "pattern", "spurious", "trial", "way", "score", "data_source"))
def optimisers(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Adam is above SGD on each data set, mean over four cases, and by less than 0.15.

    Refuted where two data sets exclude it: the claim asks for two of three.
    """
    bars, leads, words = {}, [], []
    for name, part in way_minus_adam(rows, "SGD").groupby("dataset", sort=False):
        lead = -stats.per_trial(part["difference"], part["trial"])
        both = [bar(lead, 0), bar(-lead, -ALIKE)]
        bars[f"{DATA[name]}: Adam above SGD, and by less than {ALIKE}"] = both
        leads.append(lead)
        own = both[0].found
        words.append(f"{DATA[name]} {own.mean:+.3f} [{own.low:+.3f}, {own.high:+.3f}]")
    found = _pooled(leads)
    return by_trial(
        checks(bars),
        f"score with Adam minus score with SGD: {found.mean:+.3f} ({'; '.join(words)})",
        found, rows, sources(rows), note,
        excluded=sum(excluded({name: both}) for name, both in bars.items()) >= 2,
    )  # fmt: skip


def _pooled(groups: Sequence[pd.Series]) -> stats.Interval:
    """`stats.pooled`; without ends where there is one trial only."""
    if len(pd.concat(groups).index.unique()) < 2:
        return stats.Interval(float(np.mean([group.mean() for group in groups])), np.nan, np.nan)
    return stats.pooled(groups)


def clipping_cases(rows: pd.DataFrame) -> pd.DataFrame:
    """Score with clipping minus without, by kind and case: `mean`, `low`, `high`, `equal`, `apart`.

    Equal: the 95 % interval over networks lies within 0.1 of zero; apart: all of it outside.
    """
    found = []
    for kind in ("value", "norm"):
        for key, part in way_minus_adam(rows, f"Adam, clipped by {kind}").groupby(_CASE):
            ends = stats.interval_from(part["difference"].to_numpy(), stats.mean_ci)
            found.append((kind, *key, *ends))
    made = pd.DataFrame(found, columns=["kind", *_CASE, "mean", "low", "high"])
    return made.assign(
        equal=(made["low"] > -LITTLE) & (made["high"] < LITTLE),
        apart=(made["low"] > LITTLE) | (made["high"] < -LITTLE),
    )


@rule("Y25", needs=("dataset", "pattern", "spurious", "trial", "way", "score", "data_source"))
def clipping_little(rows: pd.DataFrame, note: str = "") -> Judgement:
    """In most cases, clipping at 0.1 leaves the mean score within 0.1, as far as it is known.

    Each case counts as equal, apart or undecided by its own interval; most means more than half.
    """
    cases = clipping_cases(rows)
    found, apart, words = {}, [], []
    for kind, part in cases.groupby("kind", sort=False):
        equal, most = int(part["equal"].sum()), len(part) / 2
        found[f"by {kind}: equal in more than half of {len(part)} cases"] = equal > most
        apart.append(int(part["apart"].sum()) >= most)
        words.append(f"by {kind}: {equal} equal, {int(part['apart'].sum())} apart")
    change = way_minus_adam(rows, "Adam, clipped by value")
    mean = _pooled([case.set_index("trial")["difference"] for _, case in change.groupby(_CASE)])
    return by_trial(
        found, f"{'; '.join(words)}; mean change by value {mean.mean:+.3f}", mean, rows,
        sources(rows), note, excluded=all(apart),
        side={"all 12 cases of the paper (with CIFAR-10)": len(cases) == 24},
    )  # fmt: skip
