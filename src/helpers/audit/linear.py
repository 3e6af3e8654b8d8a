"""Two directions of a data set, class and attribute, as ridge regression on it sees them.

Source: ours; what n samples do to ridge regression after Dobriban & Wager 2018, the jackknife after
Tukey 1958.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor

from helpers.theory.flip_share import conflicting_output, flip_share

FOLDS, DRAWS = 20, 2_000
_MOST_FREEDOM = 0.9  # of degrees of freedom a row; from there on the spectrum of few rows misleads
GROUPS = ((-1, -1), (-1, 1), (1, -1), (1, 1))  # class and attribute, as signs
_SIGNS = np.array(GROUPS, dtype=float).T  # (2, 4)


@dataclass(frozen=True)
class Metric:
    r"""The inverse :math:`(\hat C + k)^{-1}` of a sample covariance, kept as its eigenvectors.

    Attributes:
        values: `(r,)` eigenvalues of the covariance within groups.
        vectors: `(d, r)` their eigenvectors, which need not span all dimensions.
        ridge: k, a sample; at it these rows feel what the model's samples feel at `asked`.
        rows: from how many it was made.
        samples: n, of the model that it answers for.
        asked: the ridge of that model.
    """

    values: Tensor
    vectors: Tensor
    ridge: float
    rows: int
    samples: int
    asked: float

    @property
    def degrees_of_freedom(self) -> float:
        """Trace of the hat matrix."""
        return float((self.values / (self.values + self.ridge)).sum())

    @property
    def felt_ridge(self) -> float:
        """The ridge that the samples feel; what an infinite sample would have to be given."""
        return self.ridge / (1 - self.degrees_of_freedom / self.rows)

    def inner(self, rows: Tensor) -> Tensor:
        """`(p, p)` products of the rows of `(p, d)` in the metric, at the felt ridge."""
        along = rows @ self.vectors
        found = (along / (self.values + self.ridge)) @ along.T
        if self.vectors.shape[1] < self.vectors.shape[0]:
            found = found + (rows @ rows.T - along @ along.T) / self.ridge
        return found * (self.ridge / self.felt_ridge)

    def noise(self, rows: Tensor) -> Tensor:
        r"""`(p, p)` covariance of noise along the rows after the metric: :math:`A^{-1}CA^{-1}`."""
        along = rows @ self.vectors
        found = (along * (self.values / (self.values + self.ridge) ** 2)) @ along.T
        return found * (self.ridge / self.felt_ridge) ** 2


def metric(residuals: Tensor, ridge: float, samples: int | None = None) -> Metric:
    r"""Factorise the covariance of residuals `(m, d)`, through the smaller of its two sides.

    For a model of n = `samples` that are more than the m rows, the ridge of the rows is the one at
    which they feel what n samples feel at k (both have the same degrees of freedom D then):

    .. math:: k_m \frac{1 - D(k_m)/n}{1 - D(k_m)/m} = k.

    Where even the smallest ridge is too much for that, it answers for m samples.

    Args:
        residuals: what is left of inputs without the means of their groups.
        ridge: k of the model.
        samples: n, at least m; as many as there are rows if None.

    Raises:
        ValueError: fewer samples than rows.
    """
    rows, d = residuals.shape
    count = rows if samples is None else samples
    if count < rows:
        raise ValueError(
            f"samples is {count}: allowed is {rows}, as many as there are rows, or more"
        )
    if d <= rows:
        values, vectors = torch.linalg.eigh(residuals.T @ residuals / rows)
        values = values.clamp(min=0)
    else:
        values, left = torch.linalg.eigh(residuals @ residuals.T / rows)
        there = values > 1e-10 * values[-1]
        vectors = residuals.T @ (left[:, there] / (rows * values[there]).sqrt())
        values = values[there]
    own = ridge if count == rows else _ridge_of_rows(values, ridge, rows, count)
    if own is None:
        return Metric(values, vectors, ridge, rows, rows, ridge)
    return Metric(values, vectors, own, rows, count, ridge)


def _ridge_of_rows(values: Tensor, ridge: float, rows: int, samples: int) -> float | None:
    """What :func:`metric` gives its rows; None where there is none."""
    found = values.cpu().numpy()

    def freedom(log: float) -> float:
        return float((found / (found + np.exp(log))).sum())

    def above(log: float) -> float:
        free = freedom(log)
        return log + np.log1p(-free / samples) - np.log1p(-free / rows) - np.log(ridge)

    most, low = np.log(ridge), np.log(ridge) - 30.0
    if freedom(most) >= _MOST_FREEDOM * rows:
        return None
    if freedom(low) > _MOST_FREEDOM * rows:
        low = optimize.brentq(lambda log: freedom(log) - _MOST_FREEDOM * rows, low, most)
    return float(np.exp(optimize.brentq(above, low, most))) if above(low) < 0 else None


class Directions(NamedTuple):
    r"""Products of the two directions in the metric.

    overlaps: G, `(2, 2)`, class first: :math:`1/n_c` and :math:`1/n_s` on the diagonal, without the
    part that the noise in the means alone would give. draws: `(m, 2, 2)` the same as the data leave
    it open, Student's t around G.
    """

    overlaps: np.ndarray
    draws: np.ndarray

    @property
    def inverse(self) -> np.ndarray:
        """`(3, 2)`: noise-to-signal ratios of class and attribute; value, low and high."""
        # nearest: between two infinities there is no number
        ends = np.quantile(_ratios(self.draws), [0.025, 0.975], axis=0, method="nearest")
        return np.vstack([_ratios(self.overlaps[None])[0], ends])

    def flip(self, prior: float = 0.5, label: int = 0) -> tuple[float, float, float]:
        """Flip share, low and high; infinite where no share flips.

        `prior` and `label` as in :func:`.theory.flip_share.flip_share`.
        """
        drawn = flip_share(self.draws, prior, label=label)
        low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
        return float(flip_share(self.overlaps, prior, label=label)), float(low), float(high)

    def knee(self) -> tuple[float, float, float]:
        """Share of samples with the attribute at which half of it is learnt, low and high.

        Half: a model that is asked for the attribute alone, 1 with it and 0 without, answers
        samples with it by 1/2 more than others, on average.
        """
        ends = np.quantile(_knees(self.draws), [0.025, 0.975], method="nearest")
        return float(_knees(self.overlaps[None])[0]), float(ends[0]), float(ends[1])

    def conflicting(self, share: float, prior: float = 0.5, label: int = 0) -> float:
        """What conflicting samples are answered at this aligned share; below 0 is wrong."""
        return float(conflicting_output(self.overlaps, share, prior, label=label))


def _ratios(overlaps: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1 / np.maximum(overlaps[:, [0, 1], [0, 1]], 0)


def _knees(overlaps: np.ndarray) -> np.ndarray:
    """Smaller root of q (1 - q) |2 m_s|^2 = 1; infinite where even half the samples are too few."""
    room = 1 - 1 / np.maximum(overlaps[:, 1, 1], 1e-300)
    return np.where(room >= 0, (1 - np.sqrt(np.maximum(room, 0))) / 2, np.inf)


def directions(
    inputs: Tensor,
    group: np.ndarray,
    seen_as: Metric,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    shuffled: int | None = None,
) -> Directions:
    """Class and attribute of `(n, d)` inputs whose `group` `(n,)` is a row of `GROUPS`.

    The jackknife leaves out one of 20 parts at a time. It takes off what the noise in four means
    adds to their products (groups may differ in their noise, and the small ones have most of it),
    and gives standard errors, to which comes what the metric's own samples leave open. A group that
    sits in one part alone is never left out.

    The metric is made of what the means of the groups leave, so that noise within the groups looks
    smaller in it than that of the means. Where class (0) or attribute (1) is `shuffled`, noise
    within the groups is all there is in its means, and they look smaller as well.
    """
    sums, counts = _folds(inputs, group, seed)
    flat = sums.reshape(-1, sums.shape[-1])
    gram, noise = (
        part(flat).cpu().numpy().reshape(FOLDS, 4, FOLDS, 4)
        for part in (seen_as.inner, seen_as.noise)
    )
    every = np.ones(FOLDS)
    plain = _overlaps(gram, counts, every)
    parts = np.array([_overlaps(gram, counts, 1 - row) for row in np.eye(FOLDS)])
    known = min(1.0, seen_as.rows / len(group)) * seen_as.degrees_of_freedom / seen_as.rows
    mixed = np.arange(2) == (-1 if shuffled is None else shuffled)
    smaller = np.sqrt(1 - known)  # of a length, in the metric
    fold, mean = np.where(mixed, 1.0, smaller), np.where(mixed, smaller, 1.0)
    excess = (FOLDS - 1) * (parts.mean(0) - plain) / np.outer(fold, fold)
    whole = _possible((plain - excess) / np.outer(mean, mean))
    if not draws:
        return Directions(whole, np.empty((0, 2, 2)))
    free = parts[:, [0, 0, 1], [0, 1, 1]]
    spread = (free - free.mean(0)).T @ (free - free.mean(0)) * (FOLDS - 1) / FOLDS
    spread += _of_the_metric(_overlaps(noise, counts, every), seen_as.rows)
    drawn = stats.multivariate_t(
        whole[[0, 0, 1], [0, 1, 1]], spread, df=FOLDS - 1, allow_singular=True, seed=seed
    ).rvs(draws)
    return Directions(whole, _possible(drawn[:, [0, 1, 1, 2]].reshape(-1, 2, 2)))


def _folds(inputs: Tensor, group: np.ndarray, seed: int) -> tuple[Tensor, np.ndarray]:
    """Sums `(20, 4, d)` and counts `(20, 4)` of the groups in 20 parts."""
    rng, part = np.random.default_rng(seed), np.empty(len(group), dtype=int)
    for g in range(4):
        rows = rng.permutation(np.flatnonzero(group == g))
        part[rows] = np.arange(len(rows)) % FOLDS
    place = torch.from_numpy(4 * part + group).to(inputs.device)
    sums = inputs.new_zeros(FOLDS * 4, inputs.shape[1]).index_add_(0, place, inputs)
    counts = np.bincount(4 * part + group, minlength=FOLDS * 4).reshape(FOLDS, 4)
    return sums.reshape(FOLDS, 4, -1), counts


def _overlaps(gram: np.ndarray, counts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Products of the two directions, from the means of the parts that are kept."""
    weights = kept[:, None] * np.ones((FOLDS, 4))
    alone = (weights * counts).sum(0) == 0  # a group that sits in the one part left out
    weights[:, alone] = 1.0
    share = weights / (weights * counts).sum(0)  # of the sums, in the means
    means = np.einsum("fg,fghk,hk->gk", share, gram, share)
    return _SIGNS / 4 @ means @ (_SIGNS / 4).T


def _of_the_metric(noise: np.ndarray, samples: int) -> np.ndarray:
    """Covariance `(3, 3)` of G's entries since the covariance of the inputs is a sample's.

    For Gaussian noise, to first order in 1/n; Wishart 1928.
    """
    pairs = ((0, 0), (0, 1), (1, 1))
    found = [
        [noise[i, p] * noise[j, q] + noise[i, q] * noise[j, p] for p, q in pairs] for i, j in pairs
    ]
    return np.array(found) / samples


def _possible(overlaps: np.ndarray) -> np.ndarray:
    """The same where it is positive semidefinite; else the nearest that is."""
    values, vectors = np.linalg.eigh(overlaps)
    return (vectors * values.clip(min=0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
