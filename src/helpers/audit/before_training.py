"""What a data set with an attribute will do to a linear model, before any training.

Source: ours, after Part I (the felt ridge), Part II (the knee) and Part IV (the flip) of the book.
"""

import math
from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from helpers import stats, training
from helpers.audit.linear import Directions, Metric, directions, metric
from helpers.audit.report import CLEAR, FLAG, OPEN, Finding, Report
from helpers.audit.sample import Sample, sample_of
from helpers.audit.sample import two_valued as two_valued  # the audit of a model takes it from here
from helpers.errors import check_whole
from helpers.theory.flip_share import LAW_ERROR, conflicting_output

MOST_ROWS = 4_000  # samples whose covariance is taken where there are more dimensions than samples
_NULLS = 20  # times that the attribute, or the class, is shuffled
_ALIKE = 0.1  # by which the aligned shares of the classes may differ
_LEADING = 50  # directions of largest variance that are looked through
_MEANS = "groups that differ in their means, not in their noise"


def data(
    inputs: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    attribute: Tensor | np.ndarray,
    *,
    ridge: float = 0.1,
    samples: int | None = None,
    seed: int = 0,
) -> Report:
    r"""Audit a data set with two classes and an attribute, before any training.

    Findings:

    - ``core_noise`` and ``attribute_noise``: noise-to-signal ratios of class and attribute;
    - ``effective_ridge``: what the samples add to the ridge;
    - ``flip_share``: aligned share at which a linear model fails most conflicting samples, mean of
      both classes. Its interval is that of the data with the law's own error, 0.03, added at both
      ends (no noise that averages out), and it is given to two digits; unrounded it is
      ``detail["exact"]``. ``detail["rarer"]`` is the share of the rarer class alone. Flagged where
      one of them is reached and the answers are worse than with every shuffled attribute. Open
      where the aligned shares of the classes differ by more than 0.1, which the law does not know;
    - ``knee``: how many samples with the attribute teach half of it. Half: asked for the attribute
      alone, without the class, 1 with it and 0 without, a model answers samples with it by ½ more
      than others;
    - ``visible``: does a direction of large variance show the attribute.

    With more dimensions than samples the covariance is that of 4,000 samples at most. The answer is
    for n all the same, since the ridge of the rows is set so that they feel what n samples feel; if
    no ridge does that (a small one, and variance in very many directions), `about` says for how
    many it is.

    Args:
        inputs: `(n, …)` numbers, raw or features of a backbone (:func:`features`); a tensor, an
            array, a data frame, lists.
        labels: `(n,)`, two values: numbers, truth values or strings (in alphabetical order).
        attribute: `(n,)`, two values as the labels. The value that goes with a label more often is
            said to be aligned with it; where both do as often, the larger with the larger.
        ridge: penalty a sample in units of the mean variance of an input, above 0.
        samples: n, how many the model will be trained on; all if None, and never more.
        seed: of what is drawn (parts of the jackknife, shuffled attributes).

    Raises:
        ValueError: no numbers, values that are not finite or missing, more or fewer than two labels
            or attributes, an attribute that is the label, a group without samples, a ridge that is
            not above 0, a number of samples that are not there.

    >>> from helpers import audit
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([0, 1], 2_000)
    >>> a = np.where(rng.random(2_000) < 0.9, y, 1 - y)
    >>> means = np.outer(2 * y - 1, [0.5, 0.0]) + np.outer(2 * a - 1, [0.0, 1.0])
    >>> report = audit.data(means + rng.standard_normal((2_000, 2)), y, a)
    >>> report["flip_share"].state
    'flagged'
    """
    sample, turned = sample_of(inputs, labels, attribute).oriented()
    seen, count = _metric(sample, ridge, samples, seed)
    found = directions(sample.inputs, sample.group, seen, seed=seed)
    mixed = _shuffled(sample, seen, seed + 1, kept="class")
    core = _shuffled(sample, seen, seed + 2, kept="attribute")[:, 0, 0]
    findings = [
        _noise("core_noise", "class", found.inverse[:, 0], core, ridge),
        _noise("attribute_noise", "attribute", found.inverse[:, 1], mixed[:, 1, 1], ridge),
        _felt(seen, ridge),
        _flip(sample, found, mixed, ridge),
        _knee(found, seen.samples, ridge),
        _visible(sample, seed),
    ]
    return Report("data", _about(sample, turned, seen, count), findings)


def _about(sample: Sample, turned: bool, seen: Metric, count: int) -> str:
    groups = np.bincount(sample.group ^ turned, minlength=4)
    words = (
        f"{len(sample.group):,} samples of {sample.inputs.shape[1]:,} numbers, groups "
        f"{', '.join(f'{size:,}' for size in groups)}, {sample.aligned_share:.1%} aligned"
    )
    if turned:
        words += " (the larger label with the smaller attribute)"
    if seen.rows < count:
        words += f"; covariance from {seen.rows:,} of them"
        if seen.samples < count:
            words += (
                f", and answers for {seen.samples:,}: at so small a ridge they do not tell what "
                f"{count:,} would do"
            )
    return words


def features(
    backbone: nn.Module | Callable[[Tensor], Tensor], images: Tensor, *, batch: int = 100
) -> Tensor:
    """`(n, d)`: what a backbone without its last layer makes of images, in eval mode.

    Raises:
        ValueError: outputs that are not one row of finite numbers an image.
    """
    if isinstance(backbone, nn.Module):
        place = next(backbone.parameters(), images)
        rows = [training.predict(backbone, part.to(place)).cpu() for part in images.split(batch)]
    else:
        with torch.no_grad():  # a graph of every batch would fill the memory
            rows = [backbone(part) for part in images.split(batch)]
    found = torch.cat([row.flatten(1) for row in rows])
    if len(found) != len(images) or not torch.isfinite(found).all():
        raise ValueError(
            f"the backbone gives {tuple(found.shape)} for {len(images)} images, or numbers that "
            "are not finite: expected a row of finite numbers for each"
        )
    return found


# -- what is asked ---------------------------------------------------------------------------------


def _metric(sample: Sample, ridge: float, samples: int | None, seed: int) -> tuple[Metric, int]:
    """What the model sees by, and how many samples it was asked for."""
    if isinstance(ridge, bool) or not (isinstance(ridge, Real) and 0 < ridge < math.inf):
        raise ValueError(f"ridge is {ridge!r}: allowed is above 0, finite")
    n, d = sample.inputs.shape
    count = n if samples is None else samples
    check_whole(samples=count)
    if not 8 <= count <= n:
        raise ValueError(f"samples is {count}: allowed is 8 to {n:,}, as many as there are")
    most = min(count, MOST_ROWS) if d > count else count
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    residuals = sample.inputs[torch.from_numpy(rows)].clone()
    group = sample.group[rows]
    for g in range(4):
        if (group == g).any():
            residuals[torch.from_numpy(group == g)] -= residuals[torch.from_numpy(group == g)].mean(
                0
            )
    variance = float(residuals.square().mean())
    if not variance > 1e-20 * float(sample.inputs.square().mean()):
        raise ValueError("inputs do not vary within the groups: there is no noise to measure by")
    return metric(residuals, float(ridge) * variance, int(count)), int(count)


def _shuffled(sample: Sample, seen: Metric, seed: int, *, kept: str) -> np.ndarray:
    """`(20, 2, 2)` products of class and attribute, of which one is shuffled.

    `kept` is the other, "class" or "attribute": within its values the first is shuffled, so that it
    goes with it as often as before.
    """
    rng, part = np.random.default_rng(seed), {"class": 2, "attribute": 1}[kept]
    found = []
    for _ in range(_NULLS):
        group = _permuted(sample.group, sample.group & part, rng)
        one = directions(
            sample.inputs, group, seen, seed=seed, draws=0, shuffled=int(kept == "class")
        )
        found.append(one.overlaps)
    return np.array(found)


def _permuted(group: np.ndarray, within: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups shuffled among the samples that have one value of `within`."""
    mixed = group.copy()
    for value in np.unique(within):
        rows = np.flatnonzero(within == value)
        mixed[rows] = group[rng.permutation(rows)]
    return mixed


def _assumed(ridge: float, more: str = "") -> str:
    """What is asked about: a small ridge and a large one may have different answers."""
    model = f"a linear model with squared loss and a ridge of {ridge:g} mean variances of an input"
    return "; ".join(filter(None, (model, _MEANS, more)))


def _noise(name: str, what: str, ends: np.ndarray, null: np.ndarray, ridge: float) -> Finding:
    """The attribute's is clear where it is not told; the class's decides nothing alone."""
    value, low, high = map(float, ends)
    says = f"The {what}'s noise is {value:.2g} times its signal, as the model feels it."
    shown = 1 / max(null.max(), 1e-300)
    there = value < shown
    if not there:
        says = f"The inputs do not tell the {what} better than a shuffled one."
    other = "the values of the attribute" if what == "class" else "the classes"
    return Finding(
        name, value, low, high, says, assumes=_assumed(ridge),
        state=CLEAR if what == "attribute" and not there else OPEN,
        control=f"shuffled within {other} {len(null)} times, it is {shown:.3g} at the least",
        detail={"told": float(there)},
    )  # fmt: skip


def _felt(seen: Metric, ridge: float) -> Finding:
    value = seen.felt_ridge / seen.asked * float(ridge)
    says = (
        f"{seen.samples:,} samples make the model answer as if the ridge were {value:.3g} and the "
        f"samples without end; it uses {seen.degrees_of_freedom:.0f} degrees of freedom."
    )
    return Finding(
        "effective_ridge", value, says=says, control=f"the ridge that was asked for is {ridge:g}",
        assumes="units of the mean variance of an input, within groups",
        detail={"absolute": seen.felt_ridge, "degrees_of_freedom": seen.degrees_of_freedom},
    )  # fmt: skip


def _flip(sample: Sample, found: Directions, mixed: np.ndarray, ridge: float) -> Finding:
    """The mean of both classes, and the rarer one where its own share comes first."""
    share, prior, labels = sample.aligned_share, sample.prior, (0, sample.rarer)
    own, rarer = (_widened(*found.flip(prior, label)) for label in labels)
    here = [found.conflicting(share, prior, label) for label in labels]
    worst = [float(conflicting_output(mixed, share, prior, label=x).min()) for x in labels]
    below = [answer < null for answer, null in zip(here, worst, strict=True)]
    failed = (own[2] <= share and below[0]) or (rarer[2] <= share and below[1])
    state = FLAG if failed else CLEAR if min(own[1], rarer[1]) > share else OPEN
    says = _flip_says(own[0], rarer[0], share)
    if rarer[0] < own[0] and rarer[0] <= share and not below[1]:
        says += " So it would with an attribute that is not there."
    if np.ptp(sample.shares) > _ALIKE:
        low, high = sorted(sample.shares)
        state = OPEN
        says += (
            f" But one class has {low:.2f} and the other {high:.2f}, and the law is for classes "
            "that are aligned alike: it decides nothing here."
        )
    more = f"classes aligned alike; ends moved by the law's own error, {LAW_ERROR}"
    return Finding(
        "flip_share", *own, says, state=state, control=_flip_control(found, sample, here, worst),
        assumes=_assumed(ridge, more),
        detail={
            "aligned_share": share, "prior": prior, "overlap": float(found.overlaps[0, 1]),
            "exact": found.flip(prior)[0], "rarer": found.flip(prior, sample.rarer)[0],
            "rarer_low": rarer[1], "rarer_high": rarer[2],
        },
    )  # fmt: skip


def _widened(value: float, low: float, high: float) -> tuple[float, float, float]:
    """To two digits, ends outwards, which are moved by what the law itself may be off."""
    least = max(min(low, 1.0) - LAW_ERROR, 0.5)  # a share above 1 is off by as much as 1 is
    most = high + LAW_ERROR if high + LAW_ERROR <= 1 else math.inf
    # the rounding is of what a machine makes of 0.62 - 0.03
    least, most = (
        math.floor(round(100 * least, 6)) / 100,
        (math.ceil(round(100 * most, 6)) / 100 if math.isfinite(most) else most),
    )
    return (round(value, 2) if math.isfinite(value) else value), least, most


def _flip_says(value: float, rarer: float, share: float) -> str:
    if math.isinf(value):
        says = (
            "At no aligned share below 1 would a linear model fail most conflicting samples; "
            f"in these data it is {share:.2f}."
        )
    else:
        says = (
            f"From an aligned share of {value:.2f} on, a linear model fails most conflicting "
            f"samples; in these data it is {share:.2f}."
        )
    if rarer < value:
        says += f" Of the rarer class alone it fails most from {rarer:.2f} on."
    return says


def _flip_control(found: Directions, sample: Sample, here: list[float], worst: list[float]) -> str:
    words = (
        f"conflicting samples are answered {here[0]:+.2f} (1 is right and sure, below 0 wrong); "
        f"with the attribute shuffled within the classes {_NULLS} times {worst[0]:+.2f} at the "
        f"least, at an aligned share of ½ {found.conflicting(0.5, sample.prior):+.2f}"
    )
    if sample.rarer:
        words += f"; of the rarer class {here[1]:+.2f}, shuffled {worst[1]:+.2f} at the least"
    return words


def _knee(found: Directions, samples: int, ridge: float) -> Finding:
    shares = np.array(found.knee())
    value, low, high = (float(x) for x in shares * samples)
    asked = "Asked for the attribute alone, without the class (1 with it, 0 without), a model"
    if math.isinf(value):
        says = (
            f"{asked} would not learn half of it, answers that are ½ apart, from any number of "
            "samples. Beside a class that is fainter still it may win all the same."
        )
    else:
        says = (
            f"{asked} would learn half of it, answers that are ½ apart, once {value:,.0f} of "
            f"{samples:,} samples have it."
        )
    return Finding(
        "knee", value, low, high, says, assumes=_assumed(ridge, "the attribute is asked for alone"),
        control=f"without noise it would be 1 of {samples:,}",
    )  # fmt: skip


def _visible(sample: Sample, seed: int) -> Finding:
    """The leading direction that shows the attribute best: chosen on one half, read on another."""
    rng = np.random.default_rng(seed)
    X, group = sample.inputs, sample.group
    half = np.zeros(len(group), dtype=bool)
    for g in range(4):  # half of each, so that both halves have all of them
        rows = rng.permutation(np.flatnonzero(group == g))
        half[rows[: len(rows) // 2]] = True
    label = torch.from_numpy(group // 2)
    inside = X.clone()
    for value in (0, 1):
        inside[label == value] -= inside[label == value].mean(0)
    modes = min(_LEADING, int(half.sum()), X.shape[1])
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    _, _, axes = torch.svd_lowrank(inside[torch.from_numpy(half)], q=modes, niter=4)
    torch.random.set_rng_state(torch_state)
    scores = (inside @ axes).cpu().numpy()
    # the attribute itself comes first, then shuffled ones, which are chosen for and read alike
    mixed = [group] + [_permuted(group, group & 2, rng) for _ in range(_NULLS)]
    marks = np.array(mixed).T % 2 > 0
    areas = _areas(scores[half], marks[half])
    chosen = abs(areas - 0.5).argmax(0)
    turns = np.where(areas[chosen, np.arange(_NULLS + 1)] > 0.5, 1, -1)
    told = _areas(scores[~half], marks[~half])[chosen, np.arange(_NULLS + 1)]
    null = float((0.5 + turns * (told - 0.5))[1:].max())
    read, positive = turns[0] * scores[~half, chosen[0]], marks[~half, 0]
    area = stats.auc_ci(read[positive], read[~positive])
    says = (
        f"Of the {modes} directions of largest variance within the classes, the "
        f"{_nth(int(chosen[0]) + 1)} tells the attribute best: it ranks {area.mean:.0%} of pairs "
        "rightly."
    )
    state = FLAG if area.low > max(0.75, null) else CLEAR if area.high < 0.75 else OPEN
    return Finding(
        "visible", *area, says, state=state, detail={"direction": int(chosen[0]) + 1},
        control=f"of an attribute shuffled within the classes {_NULLS} times the best one ranks "
                f"{null:.0%} at the most",
        assumes="chosen on one half of the samples, read on the other; flagged above 75 % and "
                "above every shuffled one",
    )  # fmt: skip


def _areas(scores: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """`(p, k)` areas under the ROC curve of scores `(n, p)` for marks `(n, k)`."""
    ups = marks.sum(0)
    sums = rankdata(scores, axis=0).T @ marks
    return (sums - ups * (ups + 1) / 2) / (ups * (len(marks) - ups))


def _nth(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{n}th")
