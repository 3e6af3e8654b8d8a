"""The flip share by training: ridge regressions at one aligned share after another.

Source: ours.
"""

import numpy as np
import torch
from torch import Tensor

from helpers import stats
from helpers.audit.linear import GROUPS
from helpers.audit.sample import Sample, sample_of

SHARES = tuple(np.linspace(0.5, 1.0, 11).round(3).tolist())


def measured_flip_share(
    inputs: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    attribute: Tensor | np.ndarray,
    *,
    samples: int,
    ridge: float = 0.1,
    draws: int = 5,
    seed: int = 0,
    prior: float = 0.5,
    label: int = 0,
    as_coded: bool = False,
) -> stats.Interval:
    """Aligned share at which linear models, trained one share after another, flip.

    Training sets have two classes that are aligned alike; what is not in them is asked. The share
    is read off a straight line between the two shares around an accuracy of ½ on conflicting
    samples (mean of both classes).

    Args:
        inputs, labels, attribute, ridge: as in :func:`.data`.
        samples: in a training set; a multiple of 40. Each group needs as many as its class has in
            it, and some more.
        draws: training sets at each share, of which each gives a flip share of its own.
        seed: of the first.
        prior: share of the larger label in a training set.
        label: +1 or -1 for conflicting samples of the larger or the smaller label alone.
        as_coded: aligned is the larger attribute with the larger label, even if it goes with the
            smaller one in most of these samples.

    Returns:
        Mean and interval over the draws; infinite where a draw never flips.

    Raises:
        ValueError: as in :func:`.data`, groups that are too small, a prior outside (0, 1), another
            label.
    """
    sample = sample_of(inputs, labels, attribute)
    if not as_coded:
        sample, _ = sample.oriented()
    if not 0 < prior < 1 or label not in (-1, 0, 1):
        raise ValueError(
            f"prior is {prior} and label {label}: allowed are the open interval (0, 1), and "
            "-1, 0 or 1"
        )
    larger = round(samples * prior)
    sizes = (samples - larger, larger)
    there = np.bincount(sample.group, minlength=4).reshape(2, 2).min(1)
    if samples < 40 or samples % 40 or min(sizes) < 20 or (sizes >= there).any():
        raise ValueError(
            f"samples is {samples}, in classes of {sizes[0]} and {sizes[1]}: allowed are multiples "
            f"of 40 with 20 or more in a class, and below {there[0]} and {there[1]}, what the "
            "smaller groups of the classes have"
        )
    flips = [_one(sample, sizes, ridge, seed + k, label) for k in range(draws)]
    if np.isinf(flips).any():
        return stats.Interval(float("inf"), float(np.min(flips)), float("inf"))
    found = stats.interval_from(flips, stats.mean_ci)  # of one draw there is no interval
    return found._replace(low=max(found.low, 0.5), high=min(found.high, 1.0))


def _one(sample: Sample, sizes: tuple[int, int], ridge: float, seed: int, label: int) -> float:
    """Flip share of one order of the samples, of which training sets take the first."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(sample.group == g)) for g in range(4)]
    asked = {g: orders[g][sizes[g // 2] :] for g in (1, 2) if label in (0, GROUPS[g][0])}
    right = []
    for share in SHARES:
        lower, upper = (round(size * share) for size in sizes)
        counts = (lower, sizes[0] - lower, sizes[1] - upper, upper)
        rows = np.concatenate([o[:c] for o, c in zip(orders, counts, strict=True)])
        right.append(_conflicting(sample, rows, asked, ridge))
        if right[-1] < 0.5:
            break
    else:
        return float("inf")
    if len(right) == 1:
        return 0.5
    above, below = right[-2:]
    return SHARES[len(right) - 2] + (SHARES[1] - SHARES[0]) * (above - 0.5) / (above - below)


def _conflicting(
    sample: Sample, rows: np.ndarray, asked: dict[int, np.ndarray], ridge: float
) -> float:
    """Accuracy on conflicting samples of ridge regression with an intercept on these rows."""
    X, group = sample.inputs[torch.from_numpy(rows)], sample.group[rows]
    labels = torch.from_numpy(2.0 * (group // 2) - 1)
    means = torch.stack([X[torch.from_numpy(group == g)].mean(0) for g in np.unique(group)])
    place = torch.from_numpy(np.searchsorted(np.unique(group), group))
    penalty = ridge * float((X - means[place]).square().mean()) * len(X)
    centre, intercept = X.mean(0), labels.mean()
    X, labels = X - centre, labels - intercept
    if X.shape[1] <= len(X):
        gram = X.T @ X
        gram.diagonal().add_(penalty)
        weights = torch.linalg.solve(gram, X.T @ labels)
    else:
        gram = X @ X.T
        gram.diagonal().add_(penalty)
        weights = X.T @ torch.linalg.solve(gram, labels)
    hits = []
    for g, own in asked.items():
        said = (sample.inputs[torch.from_numpy(own)] - centre) @ weights + intercept
        hits.append(float((said.sign() == GROUPS[g][0]).double().mean()))
    return float(np.mean(hits))
