"""Rules of chapter 24: ResNet-18 (L19 to L21, L23, L24).

Each is judged apart for every data set, and there is no population of data sets: intervals are by
set, over networks. A set counts only where its controls pass; where none does, the verdict is
inconclusive. Rules are about one width, that of most networks.
"""

from collections.abc import Mapping

import pandas as pd

from helpers import stats
from helpers.claims import bars
from helpers.claims.judgement import Judgement, rule, sources

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


def of_width(rows: pd.DataFrame, width: int | None = None) -> pd.DataFrame:
    """Rows of networks (of the usual width, the most frequent, unless given)."""
    found = rows[rows["kernel"] == "resnet"]
    return found[found["width"] == (found["width"].mode()[0] if width is None else width)]


def at_start(rows: pd.DataFrame, width: int | None = None) -> pd.DataFrame:
    """Kernels of untrained networks."""
    return of_width(rows[rows["stage"] == "start"], width)


def controls(rows: pd.DataFrame, dataset: str, images: int) -> dict[str, bool]:
    """What has to pass, and what must not, before a data set says anything of a network.

    The linear and the ReLU kernel on the same images show the shortcut; networks do not show one
    where the attribute says nothing about the label. (A permuted attribute is no control here: on
    images that the permutation has not seen, no kernel tells it.)
    """
    here = rows[rows["dataset"] == dataset]
    same = here[(here["images"] == images) & (here["rho"] > 0.5)]
    closed = {kind: same[same["kernel"] == kind] for kind in ("linear", "relu")}
    found = {f"{kind} kernel": share_of_kernels(part).low > 0.5 for kind, part in closed.items()}
    half = here[here["rho"] == 0.5]
    found["attribute without the label"] = share_of_kernels(half).high < 0.5
    return found


_NEEDS = ("dataset", "rho", "kernel", "stage", "statistics", "width", "images", "trial", "loss",
          "data_source")  # fmt: skip


def _judged(
    statements: Mapping[str, bool], effect: str, rows: pd.DataFrame, out: list[str], note: str,
    **further: object,
) -> Judgement:  # fmt: skip
    """A judgement whose intervals, one a set, are in its effect; `out` says what is not judged."""
    told = f"Not judged: {'; '.join(out)}." if out else ""
    return Judgement(
        statements or _UNDECIDED, effect, None, rows["trial"].nunique(), sources(rows),
        f"{told} {note}".strip(), **further,
    )  # fmt: skip


def _share(part: pd.DataFrame) -> str:
    share = share_of_kernels(part)
    return f"{int(shows(part).sum())} of {len(part)} [{share.low:.2f}, {share.high:.2f}]"


def _shown(rows: pd.DataFrame, statistics: str, note: str) -> Judgement:
    """Most untrained networks show the shortcut, in one setting of batch normalisation.

    A claim about several data sets is refuted by one of them, where no other one shows it.
    """
    start = at_start(rows)
    start = start[(start["rho"] > 0.5) & (start["statistics"] == statistics)]
    if start.empty:
        raise LookupError(SETTINGS[statistics])
    found, words, out = {}, [], []
    for (dataset, images), part in start.groupby(["dataset", "images"], sort=False):
        name = f"{dataset}, {images} images"
        failed = [what for what, passes in controls(rows, dataset, images).items() if not passes]
        if failed:
            out.append(f"{name} (control: {', '.join(failed)})")
        else:
            found[name] = share_of_kernels(part)
        words.append(f"{name} {_share(part)}")
    return _judged(
        {name: share.low > 0.5 for name, share in found.items()},
        f"networks that show the shortcut before training, {SETTINGS[statistics]}, with 95 % "
        f"intervals: {'; '.join(words)}",
        start,
        out,
        note,
        excluded=any(share.high < 0.5 for share in found.values()),
    )


_MODES = (*_NEEDS, "told_centred", "conflicting_centred")


@rule("L19", needs=_MODES)
def first_modes(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The first five modes are the shortcut; batch normalisation has the data's statistics."""
    return _shown(rows, "data", note)


@rule("L24", needs=_MODES)
def first_modes_off(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The first five modes are the shortcut; batch normalisation does nothing yet."""
    return _shown(rows, "none", note)


def excess(rows: pd.DataFrame, over: str, under: str) -> pd.Series:
    """Availability of one thing minus that of another, in percent of the trace, by trial."""
    apart = rows[f"a_{over}_centred"] - rows[f"a_{under}_centred"]
    return 100 * apart.groupby(rows["trial"]).mean()


@rule("L23", needs=(*_NEEDS, "a_bias_centred", "a_label_centred", "a_null_centred"))
def availability(rows: pd.DataFrame, note: str = "") -> Judgement:
    """The attribute is more available than the label where the two are independent.

    The linear kernel is the positive control. Every attribute has about 1/n of a kernel, so the
    attribute has to be above a permuted one. Where the label is not, there is nothing to compare
    the attribute with, and the set stands at the side.
    """
    half = rows[rows["rho"] == 0.5]
    start, core, side, words, out = at_start(half), {}, {}, [], []
    for (dataset, statistics), part in start.groupby(["dataset", "statistics"], sort=False):
        name = f"{dataset}, {SETTINGS[statistics]}"
        linear = half[(half["dataset"] == dataset) & (half["kernel"] == "linear")]
        if not bars.bar(excess(linear, "bias", "label"), 0.0).holds:
            out.append(f"{name} (control: linear kernel)")
            continue
        found = [bars.bar(excess(part, "bias", other), 0.0) for other in ("label", "null")]
        label = bars.bar(excess(part, "label", "null"), 0.0)
        what = "attribute above its null and the label" + (
            "" if label.holds else " (itself not above its null)"
        )
        (core if label.holds else side)[f"{name}: {what}"] = found
        words.append(f"{name} {_said(found[0].found)} (label minus null {_said(label.found)})")
    return _judged(
        bars.checks(core),
        f"attribute minus label, percent of the trace, {start['images'].iloc[0]} images: "
        f"{'; '.join(words)}",
        start,
        out,
        note,
        side=bars.checks(side),
        excluded=bool(core) and bars.excluded(core),
    )


FITTED = 0.99  # mean training accuracy of networks that have finished
GAP = 0.1  # of accuracy between aligned and conflicting images: a reliance that counts


def _said(found: stats.Interval) -> str:
    return f"{found.mean:+.2f} [{found.low:.2f}, {found.high:.2f}]"


def _listed(values: Mapping[str, pd.Series]) -> str:
    return ", ".join(f"{name} {_said(bars.bar(one, 0.0).found)}" for name, one in values.items())


def _trained(rows: pd.DataFrame, loss: str) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Networks that fit their training set, by data set, one row a trial; and which do not."""
    end = of_width(rows[(rows["stage"] == "end") & (rows["loss"] == loss)])
    end = end[end["images"] == end["images"].min()]
    parts = dict(list(end.set_index("trial").groupby("dataset", sort=False)))
    reached = {name: part["train_accuracy"].mean() for name, part in parts.items()}
    out = [f"{name} (training accuracy {r:.3f})" for name, r in reached.items() if r < FITTED]
    return {name: part for name, part in parts.items() if reached[name] >= FITTED}, out


def gap(part: pd.DataFrame) -> pd.Series:
    """Accuracy of the output on aligned minus that on conflicting test images."""
    return part["aligned_output"] - part["conflicting_output"]


_OUTPUTS = (*_NEEDS, "train_accuracy", "aligned_output", "conflicting_output")


@rule("L20", needs=(*_OUTPUTS, "share", "rival", "explained_bias", "explained_label"))
def after_training(rows: pd.DataFrame, note: str = "") -> Judgement:
    """In networks that fit their training set, the output is the attribute's more than the label's.

    On balanced images it correlates with the attribute more, and the mode best aligned with the
    attribute (which may hold the label as well) has more of its energy than any other.
    """
    parts, out = _trained(rows, "logistic")
    more = {name: p["explained_bias"] - p["explained_label"] for name, p in parts.items()}
    ahead = {name: p["share"] - p["rival"] for name, p in parts.items()}
    statements = {
        f"{name}: R² with the attribute above that with the label, and the attribute's mode above "
        "every other": [bars.bar(more[name], 0.0), bars.bar(ahead[name], 0.0)]
        for name in parts
    }
    gaps = {f"{name}: gap above {GAP}": [bars.bar(gap(p), GAP)] for name, p in parts.items()}
    return _judged(
        bars.checks(statements),
        f"R² attribute minus R² label: {_listed(more)}; share of the energy in the attribute's "
        f"mode minus the largest other: {_listed(ahead)}",
        rows[rows["stage"] == "end"],
        out,
        note,
        side=bars.checks(gaps),
        excluded=bool(parts) and bars.excluded(statements),
    )


@rule("L21", needs=(*_OUTPUTS, "margin_cv"))
def margin_control(rows: pd.DataFrame, note: str = "") -> Judgement:
    """Where spectral decoupling evens out the margins, more than half of the gap stays.

    A data set counts where there is a gap under the logistic loss, and where the margins'
    coefficient of variation does fall, with the same seeds.
    """
    (plain, out), (even, late) = (_trained(rows, loss) for loss in ("logistic", "sd"))
    out = list(dict.fromkeys(out + [f"SD, {one}" for one in late]))
    statements, gaps = {}, {}
    for name in [name for name in plain if name in even]:
        before, after = gap(plain[name]), gap(even[name])
        if not bars.bar(before, GAP).holds:
            out.append(f"{name} (no gap above {GAP} to keep)")
        elif not bars.bar(plain[name]["margin_cv"] - even[name]["margin_cv"], 0.0).holds:
            out.append(f"{name} (margins no more even)")
        else:
            statements[f"{name}: more than half of the gap stays, and more than {GAP}"] = [
                bars.bar(after - before / 2, 0.0), bars.bar(after, GAP)
            ]  # fmt: skip
            gaps |= {f"{name} {loss}": one for loss, one in (("logistic", before), ("SD", after))}
    return _judged(
        bars.checks(statements),
        f"accuracy on aligned minus conflicting test images: {_listed(gaps)}",
        rows[rows["loss"] == "sd"],
        out,
        note,
        excluded=bool(statements) and bars.excluded(statements),
    )
