"""What a data set with an attribute will do to a linear model, before any training.

Source: ours, after Part I (the felt ridge), Part II (the knee) and Part IV (the flip) of the book.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from helpers import stats, training
from helpers.audit.linear import GROUPS, Directions, Metric, directions, metric
from helpers.audit.report import CLEAR, FLAG, OPEN, Finding, Report
from helpers.errors import check_whole
from helpers.probes import auc

MOST_ROWS = 4_000  # samples whose covariance is taken where there are more dimensions than samples
_NULLS = 20  # times that the attribute is shuffled
_LEADING = 50  # directions of largest variance that are looked through
_LINEAR = "a linear model with squared loss; groups that differ in their means, not in their noise"


class Sample(NamedTuple):
    """Inputs `(n, d)` in float64 and what their rows are: group 0 to 3, as in `linear.GROUPS`."""

    inputs: Tensor
    group: np.ndarray

    @property
    def aligned_share(self) -> float:
        """Share of samples whose attribute goes with the class more often than not, in [½, 1]."""
        share = float(np.isin(self.group, (0, 3)).mean())
        return max(share, 1 - share)


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

    Findings: ``core_noise`` and ``attribute_noise`` (noise-to-signal ratios of class and
    attribute), ``effective_ridge`` (what the samples add to the ridge), ``flip_share`` (aligned
    share at which a linear model fails most conflicting samples), ``knee`` (how many samples with
    the attribute teach half of it), ``visible`` (does a direction of large variance show it).

    Args:
        inputs: `(n, …)` numbers, raw or features of a backbone (:func:`features`).
        labels: `(n,)`, two values.
        attribute: `(n,)`, two values; the larger one goes with the larger label, or the smaller.
        ridge: penalty a sample in units of the mean variance of an input, above 0.
        samples: n, how many the model will be trained on; all if None, and never more.
        seed: of what is drawn (parts of the jackknife, shuffled attributes).

    Raises:
        ValueError: no numbers, values that are not finite, more or fewer than two labels or
            attributes, an attribute that is the label, a group without samples, a ridge that is
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
    sample = sample_of(inputs, labels, attribute)
    seen = _metric(sample, ridge, samples, seed)
    found = directions(sample.inputs, sample.group, seen, seed=seed)
    null = _shuffled(sample, seen, seed)
    groups = np.bincount(sample.group, minlength=4)
    about = (
        f"{len(sample.group):,} samples of {sample.inputs.shape[1]:,} numbers, groups "
        f"{', '.join(f'{count:,}' for count in groups)}, {sample.aligned_share:.1%} aligned"
    )
    findings = [
        _noise("core_noise", "class", found.inverse[:, 0], None),
        _noise("attribute_noise", "attribute", found.inverse[:, 1], null),
        _felt(seen, ridge),
        _flip(sample, found),
        _knee(found, seen.samples),
        _visible(sample, seed),
    ]
    return Report("data", about, findings)


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


def sample_of(inputs: object, labels: object, attribute: object) -> Sample:
    """Check and centre what :func:`data` is given."""
    X = torch.as_tensor(inputs)
    if X.ndim < 2 or not len(X) or X.is_complex():
        raise ValueError(f"inputs have shape {tuple(X.shape)}: expected (n, …) numbers, n > 0")
    X = X.flatten(1).double()
    if not torch.isfinite(X).all():
        bad = int((~torch.isfinite(X)).any(1).sum())
        raise ValueError(f"inputs hold values that are not finite, in {bad:,} of {len(X):,} rows")
    signs = [two_valued(*pair, len(X)) for pair in (("labels", labels), ("attribute", attribute))]
    y, s = signs
    if (y == s).all() or (y == -s).all():
        raise ValueError(
            "the attribute is the label: no sample conflicts, so that nothing can tell them apart"
        )
    group = (2 * (y > 0) + (s > 0)).astype(int)
    counts = np.bincount(group, minlength=4)
    if (counts < 2).any():
        which = ", ".join(
            f"label {GROUPS[g][0]:+d} with attribute {GROUPS[g][1]:+d} has {counts[g]}"
            for g in np.flatnonzero(counts < 2)
        )
        raise ValueError(f"a group has fewer than 2 samples ({which}; the larger value is +1)")
    return Sample(X - X.mean(0), group)


def two_valued(name: str, values: object, count: int) -> np.ndarray:
    """`(n,)` signs of numbers that take two values.

    Raises:
        ValueError: another length, or more or fewer than two values.
    """
    found = torch.as_tensor(values).cpu().numpy()
    if found.shape != (count,):
        raise ValueError(f"{name} has shape {found.shape}: expected one for each of {count} rows")
    kinds = np.unique(found)
    if len(kinds) != 2 or not np.isfinite(kinds).all():
        shown = ", ".join(str(kind) for kind in kinds[:5])
        raise ValueError(
            f"{name} takes {len(kinds)} values ({shown}{', …' * (len(kinds) > 5)}): expected two; "
            "choose the rows of two of them"
        )
    return np.where(found == kinds[1], 1, -1)


def _metric(sample: Sample, ridge: float, samples: int | None, seed: int) -> Metric:
    if not (isinstance(ridge, int | float) and 0 < ridge < math.inf):
        raise ValueError(f"ridge is {ridge!r}: allowed is above 0, finite")
    n, d = sample.inputs.shape
    count = n if samples is None else samples
    check_whole(samples=count)
    if not 8 <= count <= n:
        raise ValueError(f"samples is {count}: allowed is 8 to {n:,}, as many as there are")
    if d > count:
        count = min(count, MOST_ROWS)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:count])
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
    return metric(residuals, ridge * variance)


def _shuffled(sample: Sample, seen: Metric, seed: int) -> np.ndarray:
    """Signal-to-noise ratios of an attribute that is shuffled within the classes, several times."""
    rng, found = np.random.default_rng(seed + 1), []
    for _ in range(_NULLS):
        group = sample.group.copy()
        for label in (0, 1):
            rows = np.flatnonzero(group // 2 == label)
            group[rows] = group[rng.permutation(rows)]
        found.append(directions(sample.inputs, group, seen, seed=seed, draws=0).overlaps[1, 1])
    return np.array(found)


def _noise(name: str, what: str, ends: np.ndarray, null: np.ndarray | None) -> Finding:
    value, low, high = map(float, ends)
    says = f"The {what}'s noise is {value:.2g} times its signal, as the model feels it."
    if null is None:
        return Finding(name, value, low, high, says, assumes=_LINEAR)
    shown = 1 / max(null.max(), 1e-300)
    there = value < shown
    if not there:
        says = "The inputs do not tell the attribute better than a shuffled one."
    return Finding(
        name, value, low, high, says, assumes=_LINEAR, state=OPEN if there else CLEAR,
        control=f"shuffled within the classes {len(null)} times, it is {shown:.3g} at the least",
    )  # fmt: skip


def _felt(seen: Metric, ridge: float) -> Finding:
    value = seen.felt_ridge / seen.ridge * ridge
    says = (
        f"{seen.samples:,} samples make the model answer as if the ridge were {value:.3g} and the "
        f"samples without end; it uses {seen.degrees_of_freedom:.0f} degrees of freedom."
    )
    return Finding(
        "effective_ridge", value, says=says, control=f"the ridge that was asked for is {ridge:g}",
        assumes="units of the mean variance of an input, within groups",
        detail={"absolute": seen.felt_ridge, "degrees_of_freedom": seen.degrees_of_freedom},
    )  # fmt: skip


def _flip(sample: Sample, found: Directions) -> Finding:
    value, low, high = found.flip
    share = sample.aligned_share
    if math.isinf(value):
        says = "At no aligned share below 1 would the model fail most conflicting samples."
    else:
        says = (
            f"From an aligned share of {value:.3f} on, a linear model fails most conflicting "
            f"samples; in these data it is {share:.3f}."
        )
    state = FLAG if high <= share else CLEAR if low > share else OPEN
    turned = found.conflicting(min(share, 1.0))
    return Finding(
        "flip_share", value, low, high, says, state=state,
        control=f"at an aligned share of ½ conflicting samples are answered "
                f"{found.conflicting(0.5):+.2f} (1 is right and sure), at the present one "
                f"{turned:+.2f}",
        assumes=f"{_LINEAR}; classes of one size, aligned alike",
        detail={"aligned_share": share, "overlap": float(found.overlaps[0, 1])},
    )  # fmt: skip


def _knee(found: Directions, samples: int) -> Finding:
    shares = np.array(found.knee())
    value, low, high = (float(x) for x in shares * samples)
    if math.isinf(value):
        says = "The attribute is too faint for this model: not even half of it is ever learnt."
    else:
        says = (
            f"If the attribute came with one class only, {value:,.0f} such samples among "
            f"{samples:,} would teach the model half of it."
        )
    return Finding(
        "knee", value, low, high, says, assumes=f"{_LINEAR}; the attribute is rare",
        control=f"without noise it would be 1 of {samples:,}",
    )  # fmt: skip


def _visible(sample: Sample, seed: int) -> Finding:
    """The leading direction that shows the attribute best: chosen on one half, read on another."""
    rng = np.random.default_rng(seed)
    X, group = sample.inputs, sample.group
    half = torch.from_numpy(rng.permutation(len(group)) < len(group) // 2)
    label = torch.from_numpy(group // 2)
    inside = X.clone()
    for value in (0, 1):
        inside[label == value] -= inside[label == value].mean(0)
    modes = min(_LEADING, int(half.sum()), X.shape[1])
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    _, _, axes = torch.svd_lowrank(inside[half], q=modes, niter=4)
    torch.random.set_rng_state(torch_state)
    scores, sign = inside @ axes, torch.from_numpy(2 * (group % 2) - 1)
    chosen = max(range(modes), key=lambda j: abs(auc(scores[half, j], sign[half]) - 0.5))
    turn = 1 if auc(scores[half, chosen], sign[half]) > 0.5 else -1
    read, positive = turn * scores[~half, chosen].numpy(), sign[~half].numpy() > 0
    area = stats.auc_ci(read[positive], read[~positive])
    mixed = sign[~half][torch.from_numpy(rng.permutation(int((~half).sum())))]
    says = (
        f"Of the {modes} directions of largest variance within the classes, the {_nth(chosen + 1)} "
        f"tells the attribute best: it ranks {area.mean:.0%} of pairs rightly."
    )
    state = FLAG if area.low > 0.75 else CLEAR if area.high < 0.75 else OPEN
    return Finding(
        "visible", *area, says, state=state, detail={"direction": chosen + 1},
        control=f"of a shuffled attribute it ranks {auc(scores[~half, chosen], mixed):.0%}",
        assumes="chosen on one half of the samples, read on the other; flagged above 75 %",
    )  # fmt: skip


def _nth(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{n}th")
