r"""What the felt ridge leaves of a spurious direction and of the core: when it cures, and when not.

In the population, with second moment :math:`M = E[xx^\top]` of the inputs (their mean is 0) and
:math:`\ell = E[gx]`, ridge regression with the penalty :math:`k'` has the weights
:math:`w = (M + k'I)^{-1}\ell`; n samples with a penalty k answer like that on average, with
:math:`k'` of :func:`helpers.theory.smoother.effective_ridge`. So one number says what all parts of
the book measure.

Source: the felt ridge is classical (Dobriban & Wager 2018; Jacot et al. 2020; Canatar et al. 2021;
Simon et al. 2023), with lengths that differ El Karoui 2018; what a ridge does to one spurious block
is in Bombari & Mondelli 2025. The reading as a ratio to the core, and its map, are ours.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from helpers.theory import smoother
from helpers.theory.ranges import Numbers, check_ranges


@dataclass(frozen=True)
class Population:
    r"""Second moment and label moment of inputs; make it by :func:`population`.

    Attributes:
        values: `(d,)` eigenvalues of M, rising.
        vectors: `(d, d)` its eigenvectors in columns.
        label: `(d,)` :math:`\ell = E[gx]`.
    """

    values: np.ndarray
    vectors: np.ndarray
    label: np.ndarray

    def felt(self, ridge: Numbers, samples: Numbers) -> Numbers:
        """:math:`k'` of n samples with the penalty k a sample."""
        return smoother.effective_ridge(self.values, ridge, samples)

    def weights(self, felt: Numbers) -> np.ndarray:
        r""":math:`w = (M + k')^{-1}\ell`, `(d,)` for each of `felt`."""
        (felt,) = check_ranges({"felt": "above 0, finite"}, felt)
        along = (self.vectors.T @ self.label) / (self.values + felt[..., None])
        return along @ self.vectors.T

    def answer(self, direction: np.ndarray, felt: Numbers) -> Numbers:
        """How far the output moves when the input moves by `direction` `(d,)`."""
        found = self.weights(felt) @ np.asarray(direction, dtype=float)
        return float(found) if found.ndim == 0 else found

    def alignment(self, cross: np.ndarray, felt: Numbers, samples: Numbers) -> Numbers:
        r"""Part I's mean alignment of a sample x with a query x' of its own.

        .. math:: \frac1n\mathrm{tr}\,C(M + k')^{-1}, \qquad C = E[x x'^\top]

        Args:
            cross: C, `(d, d)`.
            felt: :math:`k'` of `samples`.
            samples: n.
        """
        along = ((np.asarray(cross, dtype=float) @ self.vectors) * self.vectors).sum(0)
        (felt,) = check_ranges({"felt": "above 0, finite"}, felt)
        found = (along / (self.values + felt[..., None])).sum(-1) / samples
        return float(found) if np.ndim(found) == 0 else found

    def reliance(self, spurious: np.ndarray, core: np.ndarray, felt: Numbers) -> Numbers:
        """Answer to the spurious direction over that to the core, R; above 1 conflicts are lost."""
        return self.answer(spurious, felt) / self.answer(core, felt)

    def lift_ratio(self, spurious: np.ndarray, core: np.ndarray) -> float:
        r"""Where R ends as the ridge grows: :math:`\ell^\top` spurious over :math:`\ell^\top` core.

        The direction is light below 1 and heavy above.
        """
        return float(self.label @ spurious) / float(self.label @ core)


def population(moment: np.ndarray, label: np.ndarray) -> Population:
    """Factorise a second moment once.

    Args:
        moment: M, `(d, d)`, symmetric, without negative eigenvalues.
        label: `(d,)`.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a matrix that is no moment.

    >>> two = population(np.diag([4.0, 1.0]), np.array([2.0, 1.0]))
    >>> two.weights(1.0).tolist(), two.lift_ratio(np.array([2.0, 0]), np.array([0, 1.0]))
    ([0.4, 0.5], 4.0)
    """
    moment, label = np.asarray(moment, dtype=float), np.asarray(label, dtype=float)
    if moment.ndim != 2 or moment.shape != (len(moment), len(moment)) or not len(moment):
        raise ValueError(f"the moment has shape {moment.shape}: expected (d, d)")
    if label.shape != moment.shape[:1]:
        raise ValueError(f"the label moment has shape {label.shape}: expected ({len(moment)},)")
    if not (np.isfinite(moment).all() and np.isfinite(label).all()):
        raise ValueError("moments must be finite")
    size = np.abs(moment).max()
    values, vectors = np.linalg.eigh(moment)
    if np.abs(moment - moment.T).max() > 1e-9 * size or values[0] < -1e-9 * len(values) * size:
        raise ValueError("a second moment is symmetric and has no negative eigenvalue")
    return Population(values.clip(min=0), vectors, label)


@dataclass(frozen=True)
class Marks:
    r"""A rare mark and a common attribute, two further inputs of every sample.

    Attributes:
        share: q, of all samples, all of the positive class: they have the rare mark.
        strength: S, its squared size; noise: variance of that input in all samples.
        agree: r, correlation of the attribute with the label.
        weight: squared size of the attribute.
    """

    share: float
    strength: float
    noise: float
    agree: float
    weight: float

    def __post_init__(self) -> None:
        allowed = dict.fromkeys(("strength", "noise", "weight"), "0 or more, finite")
        check_ranges(allowed, self.strength, self.noise, self.weight)
        if not 0 <= self.share <= 0.5 or not -1 <= self.agree <= 1:
            raise ValueError(
                f"share is {self.share} and agree {self.agree}: allowed are [0, 1/2] and [-1, 1]"
            )

    def draw(self, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Both inputs, `(n, 2)`; the numbers of rare and of conflicting samples are exact."""
        n = len(labels)
        rare, b = np.zeros(n), np.array(labels, dtype=float)
        positive = random.permutation(np.flatnonzero(labels > 0))
        rare[positive[: round(self.share * n)]] = np.sqrt(self.strength)
        rare += np.sqrt(self.noise) * random.standard_normal(n) - self._mean
        b[random.permutation(n)[: round((1 - self.agree) / 2 * n)]] *= -1
        return np.stack([rare, np.sqrt(self.weight) * b], 1)

    def added(self, moment: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """M and l of centred inputs with balanced classes, once they have the marks."""
        d = len(label)
        rare, attribute = np.sqrt(self.strength), np.sqrt(self.weight)
        M, longer = np.zeros((d + 2, d + 2)), np.zeros(d + 2)
        M[:d, :d], longer[:d] = moment, label
        # the mean input of the positive class is l, as classes are balanced and centred
        longer[d:] = self.share * rare, self.agree * attribute
        M[d:, :d] = longer[d:, None] * label
        M[:d, d:] = M[d:, :d].T
        M[d, d] = self.share * self.strength + self.noise - self._mean**2
        M[d + 1, d + 1], M[d, d + 1] = self.weight, longer[d] * longer[d + 1]
        M[d + 1, d] = M[d, d + 1]
        return M, longer

    @property
    def _mean(self) -> float:
        return self.share * float(np.sqrt(self.strength))


def two_directions(lift: Numbers, spurious: Numbers, core: Numbers, felt: Numbers) -> Numbers:
    r"""R of one spurious and one core direction: lift (core + k') / (spurious + k').

    Args:
        lift: ratio of the lifts, spurious to core.
        spurious, core: variances that the label leaves of each, :math:`V_s`, :math:`V_c`.
        felt: :math:`k'`.

    >>> two_directions(0.5, 0.1, 1.0, [0.0, 0.8, 1e6]).round(3).tolist()       # cured at 0.8
    [5.0, 1.0, 0.5]
    """
    allowed = dict.fromkeys(("lift", "spurious", "core", "felt"), "0 or more, finite")
    lift, spurious, core, felt = check_ranges(allowed, lift, spurious, core, felt)
    found = lift * (core + felt) / (spurious + felt)
    return float(found) if found.ndim == 0 else found


def turning_point(lift: float, spurious: float, core: float) -> float:
    r"""The :math:`k'` at which R of :func:`two_directions` passes 1; NaN where it never does.

    >>> turning_point(0.5, 0.1, 1.0), turning_point(0.5, 0.8, 1.0)
    (0.8, nan)
    """
    allowed = dict.fromkeys(("lift", "spurious", "core"), "0 or more, finite")
    lift, spurious, core = map(float, check_ranges(allowed, lift, spurious, core))
    where = (lift * core - spurious) / (1 - lift) if lift != 1 else np.nan
    return where if where > 0 else np.nan


def felt_by_lengths(
    eigenvalues: Numbers, ridge: float, samples: float, lengths: np.ndarray
) -> float:
    r""":math:`k'` where samples are :math:`\xi_i x_i` with lengths :math:`\xi_i` that differ.

    .. math:: \frac k{k'} = E\,\frac{\xi^2}{1 + \xi^2\delta}, \qquad
              \delta = \frac1{n}\,\frac{k'}k\sum_i\frac{\lambda_i}{\lambda_i + k'}

    For lengths 1 it is :func:`helpers.theory.smoother.effective_ridge`; residuals keep the share
    :math:`\tau = E\,1/(1 + \xi^2\delta)`, see :func:`residual_by_lengths`.

    Args:
        eigenvalues: of the covariance of x, `(m,)`.
        ridge: k, above 0.
        samples: n.
        lengths: a sample of :math:`\xi`, `(l,)`, or all values where they are equally frequent.

    Source: El Karoui 2018 for elliptical data, derived anew.
    """
    ridge, samples = check_ranges(
        dict.fromkeys(("ridge", "samples"), "above 0, finite"), ridge, samples
    )
    squared = np.asarray(lengths, dtype=float) ** 2
    values = np.asarray(eigenvalues, dtype=float)

    def excess(log_felt: float) -> float:
        delta = _delta(values, ridge, samples, np.exp(log_felt))
        return ridge * np.exp(-log_felt) - (squared / (1 + squared * delta)).mean()

    # without samples' help k' is k over the mean square; above n k' = nk + trace none is felt
    low = np.log(ridge / squared.mean()) - 1e-9
    high = np.log((ridge + values.sum() / samples * squared.max()) / squared[squared > 0].min())
    return float(np.exp(optimize.brentq(excess, low, high + 1, xtol=1e-13)))


def residual_by_lengths(
    eigenvalues: Numbers, ridge: float, samples: float, lengths: np.ndarray
) -> float:
    r"""Part II's :math:`\tau` where samples have lengths that differ.

    >>> values = np.ones(60)
    >>> felt = smoother.effective_ridge(values, 0.1, 30)
    >>> bool(np.isclose(residual_by_lengths(values, 0.1, 30, np.ones(1)), 0.1 / felt))
    True
    """
    felt = felt_by_lengths(eigenvalues, ridge, samples, lengths)
    delta = _delta(np.asarray(eigenvalues, float), ridge, samples, felt)
    return float((1 / (1 + np.asarray(lengths, float) ** 2 * delta)).mean())


def _delta(values: np.ndarray, ridge: float, samples: float, felt: float) -> float:
    return float(felt / ridge / samples * (values / (values + felt)).sum())


def stopped(features: np.ndarray, labels: np.ndarray, time: Numbers) -> np.ndarray:
    r"""Weights `(d,)` of gradient flow on half the mean squared error, from 0, after each time.

    Each eigenvalue :math:`\mu` of the sample's moment has the filter :math:`(1 - e^{-\mu t})/\mu`
    where a ridge k has :math:`1/(\mu + k)`: alike for k = 1/t, not equal.

    Source: Ali, Kolter & Tibshirani 2019.
    """
    (time,) = check_ranges({"time": "above 0, finite"}, time)
    features, labels = np.asarray(features, float), np.asarray(labels, float)
    n, d = features.shape
    few = n < d  # then in the span of the samples
    moment = (features @ features.T if few else features.T @ features) / n
    values, vectors = np.linalg.eigh(moment)
    values = values.clip(min=1e-15 * values[-1])
    filters = -np.expm1(-values * time[..., None]) / values / n
    if few:
        return (filters * (vectors.T @ labels)) @ (vectors.T @ features)
    return (filters * (vectors.T @ (features.T @ labels))) @ vectors.T


def ridge_weights(features: np.ndarray, labels: np.ndarray, ridge: float) -> np.ndarray:
    r"""Weights `(d,)` of ridge regression with the penalty k a sample, in the smaller of two forms.

    >>> ridge_weights(np.eye(2), np.array([1.0, -1.0]), 0.5)
    array([ 0.5, -0.5])
    """
    check_ranges({"ridge": "above 0, finite"}, ridge)
    features, labels = np.asarray(features, float), np.asarray(labels, float)
    n, d = features.shape
    if n < d:
        return features.T @ np.linalg.solve(features @ features.T + n * ridge * np.eye(n), labels)
    return np.linalg.solve(features.T @ features + n * ridge * np.eye(d), features.T @ labels)
