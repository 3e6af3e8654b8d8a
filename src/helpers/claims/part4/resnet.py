"""Rules of chapter 24: ResNet-18 (L19 to L21, L23).

Each is judged apart for every data set and way of taking the kernel. A cell counts only where its
controls pass; where none does, the verdict is inconclusive.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers import stats
from helpers.claims.judgement import Judgement, by_trial, rule, sources

# what the first modes must tell of the attribute, and may tell of the label on conflicting images
TOLD, CONFLICTING = 0.8, 0.3
SETTINGS = {"data": "statistics of the data", "none": "normalisation off"}
_UNDECIDED = {"a data set whose controls pass": False}


def shows(rows: pd.DataFrame) -> pd.Series:
    """Whether the first modes of each kernel are the shortcut.

    Together they tell the attribute of more than 80 % of balanced images, and the label read off
    them is right on fewer than 30 % of conflicting ones.
    """
    return (rows["told_centred"] > TOLD) & (rows["conflicting_centred"] < CONFLICTING)


def share_of_kernels(rows: pd.DataFrame) -> stats.Interval:
    """Share of the kernels that show the shortcut, with its exact interval; nothing known of none.

    >>> rows = pd.DataFrame({"told_centred": [0.9] * 10, "conflicting_centred": [0.1] * 10})
    >>> round(share_of_kernels(rows).low, 3)
    0.692
    """
    return stats.share_ci(int(shows(rows).sum()), len(rows))


def at_start(rows: pd.DataFrame, width: int | None = None) -> pd.DataFrame:
    """Kernels of untrained networks (of the usual width, the most frequent, unless given)."""
    found = rows[(rows["kernel"] == "resnet") & (rows["stage"] == "start")]
    return found[found["width"] == (found["width"].mode()[0] if width is None else width)]


def controls(rows: pd.DataFrame, dataset: str, images: int) -> dict[str, bool]:
    """What has to pass, and what must not, before a data set says anything of a network.

    The linear and the ReLU kernel on the same images show the shortcut; networks do not show one
    where the attribute says nothing about the label, and permuted attributes are not told.
    """
    here = rows[rows["dataset"] == dataset]
    same = here[(here["images"] == images) & (here["rho"] > 0.5)]
    closed = {kind: same[same["kernel"] == kind] for kind in ("linear", "relu")}
    half = here[here["rho"] == 0.5]
    found = {f"{kind} kernel": share_of_kernels(part).low > 0.5 for kind, part in closed.items()}
    found["attribute without the label"] = share_of_kernels(half).high < 0.5
    found["permuted attributes"] = bool(same["null_told_centred"].mean() < 0.6)
    return found


_NEEDS = ("dataset", "rho", "kernel", "stage", "statistics", "width", "images", "trial", "loss",
          "data_source")  # fmt: skip


@rule("L19", needs=(*_NEEDS, "told_centred", "conflicting_centred", "null_told_centred"))
def first_modes(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Most untrained networks show the shortcut among the first five modes of their kernel."""
    start = at_start(rows)
    start = start[start["rho"] > 0.5]
    decided, found = [], {}
    for (dataset, images), part in start.groupby(["dataset", "images"], sort=False):
        if all(controls(rows, dataset, images).values()):
            decided.append(dataset)
            for statistics, kernels in part.groupby("statistics", sort=False):
                name = f"{dataset}, {SETTINGS[statistics]}, {images} images"
                found[name] = share_of_kernels(kernels)
    checks = {name: share.low > 0.5 for name, share in found.items()} or _UNDECIDED
    largest = start[start["images"] == start["images"].max()]
    with_data = share_of_kernels(largest[largest["statistics"] == "data"])
    counts = "; ".join(
        f"{SETTINGS[statistics]}: "
        + ", ".join(f"{d} {int(shows(p).sum())} of {len(p)}" for d, p in part.groupby("dataset"))
        for statistics, part in largest.groupby("statistics", sort=False)
    )
    out = sorted(set(start["dataset"]) - set(decided))
    told = f"Controls fail, so not judged: {', '.join(out)}." if out else ""
    return by_trial(
        checks,
        f"networks that show the shortcut before training: {counts}; interval of the share with "
        "the statistics of the data",
        with_data,
        start,
        sources(start),
        f"{told} {note}".strip(),
        boundary=0.5,
        excluded=bool(found) and all(share.high < 0.5 for share in found.values()),
    )


def advantage(rows: pd.DataFrame) -> pd.Series:
    """Log of the attribute's availability over the label's, by trial."""
    ratio = np.log(rows["a_bias_centred"] / rows["a_label_centred"])
    return ratio.groupby(rows["trial"]).mean()


@rule("L23", needs=(*_NEEDS, "a_bias_centred", "a_label_centred", "a_null_centred"))
def availability(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The attribute is more available than the label where the two are independent.

    At an aligned share above one half the label is available through the attribute; at one half
    each stands for itself. The linear kernel is the positive control, as in `first_modes`.
    """
    half = rows[rows["rho"] == 0.5]
    start, checks, found = at_start(half), {}, []
    for (dataset, statistics), part in start.groupby(["dataset", "statistics"], sort=False):
        linear = half[(half["dataset"] == dataset) & (half["kernel"] == "linear")]
        if stats.interval_from(list(advantage(linear)), stats.mean_ci).low > 0:
            made = stats.interval_from(list(advantage(part)), stats.mean_ci)
            checks[f"{dataset}, {SETTINGS[statistics]}"] = made.low > 0
            found.append(made)
    data = start[start["statistics"] == "data"]
    mean = _mean(advantage(part) for _, part in data.groupby("dataset"))
    times = "; ".join(
        f"{SETTINGS[s]}: "
        + ", ".join(f"{d} {np.exp(advantage(p).mean()):.1f}" for d, p in part.groupby("dataset"))
        for s, part in start.groupby("statistics", sort=False)
    )
    return by_trial(
        checks or _UNDECIDED,
        f"availability of the attribute over that of the label before training: {times}; interval "
        "of the mean logarithm with the statistics of the data",
        mean,
        start,
        sources(start),
        note,
        excluded=bool(found) and all(one.high < 0 for one in found),
    )


FITTED = 0.99  # mean training accuracy of networks that have finished


def _ended(rows: pd.DataFrame, loss: str) -> dict[str, pd.DataFrame]:
    """Trained networks by data set, one row a trial."""
    end = rows[(rows["kernel"] == "resnet") & (rows["stage"] == "end") & (rows["loss"] == loss)]
    end = end[end["images"] == end["images"].min()]
    return dict(list(end.set_index("trial").groupby("dataset", sort=False)))


def _trained(rows: pd.DataFrame, loss: str) -> dict[str, pd.DataFrame]:
    """Those data sets whose networks fit their training set."""
    parts = _ended(rows, loss)
    return {name: p for name, p in parts.items() if p["train_accuracy"].mean() >= FITTED}


def _and_unfinished(note: str, rows: pd.DataFrame) -> str:
    """The note, and which data sets are not judged since their networks have not finished."""
    reached = {name: p["train_accuracy"].mean() for name, p in _ended(rows, "logistic").items()}
    left = ", ".join(f"{name} ({share:.3f})" for name, share in reached.items() if share < FITTED)
    told = f"Not judged, mean training accuracy below {FITTED:g}: {left}." if left else ""
    return f"{told} {note}".strip()


def _by_set(values: Mapping[str, pd.Series]) -> dict[str, stats.Interval]:
    return {name: stats.interval_from(list(part), stats.mean_ci) for name, part in values.items()}


def _mean(groups: Iterable[pd.Series]) -> stats.Interval:
    """Over data sets; no interval where none is left, or one trial only."""
    kept = list(groups)
    if not kept or min(map(len, kept)) < 2:
        return stats.Interval(np.nan, np.nan, np.nan)
    return stats.pooled(kept)


def _listed(values: Mapping[str, stats.Interval]) -> str:
    return ", ".join(
        f"{name} {made.mean:+.2f} [{made.low:.2f}, {made.high:.2f}]"
        for name, made in values.items()
    )


_OUTPUTS = (*_NEEDS, "train_accuracy", "average", "worst")


@rule("L20", needs=(*_OUTPUTS, "share", "rival"))
def after_training(rows: pd.DataFrame, note: str = "") -> Judgement:
    """In networks that fit their training set, the attribute's mode holds most of the output."""
    parts = _trained(rows, "logistic")
    ahead = _by_set({name: part["share"] - part["rival"] for name, part in parts.items()})
    gaps = _by_set({name: part["average"] - part["worst"] for name, part in parts.items()})
    mean = _mean(part["share"] - part["rival"] for part in parts.values())
    return by_trial(
        {f"{name}: above every other mode": made.low > 0 for name, made in ahead.items()}
        or _UNDECIDED,
        f"share of the output's energy in the attribute's mode minus the largest other: "
        f"{_listed(ahead)}; interval of the mean",
        mean,
        rows[rows["stage"] == "end"],
        sources(rows),
        _and_unfinished(note, rows),
        side={f"{name}: worst group 10 points below average": m.low > 0.1
              for name, m in gaps.items()},
        excluded=bool(ahead) and all(made.high < 0 for made in ahead.values()),
    )  # fmt: skip


@rule("L21", needs=(*_OUTPUTS, "margin_cv"))
def margin_control(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Where spectral decoupling evens out the margins, more than half of the gap stays.

    The gap is average minus worst-group accuracy. A data set counts where the margins' coefficient
    of variation does fall, with the same seeds.
    """
    plain, even = (_trained(rows, loss) for loss in ("logistic", "sd"))
    both = [name for name in plain if name in even]
    falls = _by_set({name: plain[name]["margin_cv"] - even[name]["margin_cv"] for name in both})
    counted = [name for name in both if falls[name].low > 0]
    gap = {
        loss: {name: part["average"] - part["worst"] for name, part in parts.items()}
        for loss, parts in (("plain", plain), ("even", even))
    }
    left = _by_set({name: gap["even"][name] - gap["plain"][name] / 2 for name in counted})
    change = {name: gap["even"][name] - gap["plain"][name] for name in counted}
    return by_trial(
        {f"{name}: more than half of the gap stays": made.low > 0 for name, made in left.items()}
        or _UNDECIDED,
        f"gap with even margins minus gap with the logistic loss: {_listed(_by_set(change))}; "
        "interval of the mean",
        _mean(change.values()),
        rows[rows["loss"] == "sd"],
        sources(rows),
        _and_unfinished(note, rows),
        excluded=bool(left) and all(made.high < 0 for made in left.values()),
    )
