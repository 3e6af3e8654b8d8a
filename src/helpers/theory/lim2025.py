r"""Closed forms on Gaussian mixtures, of Lim, Kim & Moon 2025 and ours, and laws for few samples.

Everything follows from one matrix. With the kernel :math:`K(x, x') = \langle x, x'\rangle` and data
of law p, every feature is linear, and the features are the eigenvectors of the second moment
:math:`M = E[xx^\top]`, not centred. The book writes r for the paper's correlation of shortcut and
label, and :math:`\mu_i` for eigenvalues of M, which are those of the kernel matrix over the number
of samples.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from helpers.theory import smoother
from helpers.theory.ranges import Numbers, check_ranges

_TWO_AXIS = dict(rho="[0, 1]", m_s="above 0, finite", m_c="above 0, finite")
_TWO_AXIS |= dict.fromkeys(("sigma_s", "sigma_c"), "0 or more, finite")
_TWO_AXIS |= dict(kappa="(1/2, 1]", ridge="0 or more, finite", time="above 0")


class MixtureSpectrum(NamedTuple):
    """Eigenvalues `(d,)` of M, the largest first, eigenvectors `(d, d)` in columns, and M."""

    values: np.ndarray
    vectors: np.ndarray
    moment: np.ndarray


def mixture_spectrum(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> MixtureSpectrum:
    r"""Features of a linear network on a mixture of Gaussians.

    .. math:: M = \sum_k \pi_k(\mu_k\mu_k^\top + \Sigma_k)

    For round clusters, :math:`\Sigma_k = \sigma_k^2 I`, the eigenvalues are
    :math:`\sum_k\pi_k\sigma_k^2 + a_i` with the nonzero eigenvalues :math:`a_i` of
    :math:`\sum_k\pi_k\mu_k\mu_k^\top`, and :math:`\sum_k\pi_k\sigma_k^2` in all other directions.

    Args:
        weights: `(K,)` positive, with sum 1.
        means: `(K, d)`.
        variances: `(K,)` for round clusters, or `(K, d, d)` covariances.

    Raises:
        ValueError: shapes that do not fit, weights that are no weights, a covariance that is none.

    Source: Lim, Kim & Moon 2025, Proposition 3.1; general covariances, our derivation.

    >>> means = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> mixture_spectrum(np.array([0.9, 0.1]), means, np.array([0.5, 0.5])).values.round(6).tolist()
    [4.1, 0.6, 0.5]
    """
    weights, means, variances = check_mixture(weights, means, variances)
    dim = means.shape[1]
    within = np.tensordot(weights, variances, 1)
    if within.ndim == 0:
        within = within * np.eye(dim)
    moment = (weights[:, None] * means).T @ means + within
    values, vectors = np.linalg.eigh(moment)
    return MixtureSpectrum(values[::-1], vectors[:, ::-1], moment)


def check_mixture(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of :func:`mixture_spectrum` as float arrays; raises what it does."""
    weights, means, variances = (np.asarray(a, dtype=float) for a in (weights, means, variances))
    if weights.ndim != 1 or means.ndim != 2 or len(means) != len(weights) or not means.size:
        raise ValueError(
            f"weights have shape {weights.shape} and means {means.shape}: expected (K,) and (K, d)"
        )
    if not (weights > 0).all() or abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"weights are {weights.tolist()}: they are above 0, with sum 1")
    count, dim = means.shape
    if variances.shape not in ((count,), (count, dim, dim)):
        shapes = f"({count},) or ({count}, {dim}, {dim})"
        raise ValueError(f"variances have shape {variances.shape}: expected {shapes}")
    if not all(np.isfinite(a).all() for a in (means, variances)):
        raise ValueError("means and variances must be finite")
    if variances.ndim == 1:
        if (variances < 0).any():
            raise ValueError(f"variances are {variances.tolist()}: allowed is 0 or more")
    elif (
        np.abs(variances - variances.transpose(0, 2, 1)).max() > 1e-9 * np.abs(variances).max()
        or np.linalg.eigvalsh(variances).min() < -1e-9 * np.abs(variances).max()
    ):
        raise ValueError("covariances must be symmetric, with no negative eigenvalue")
    return weights, means, variances


class TwoAxis(NamedTuple):
    r"""What `two_axis` returns; the first axis of an array is feature 1, 2 where there are two.

    Attributes:
        eigenvalues: :math:`\mu_1 \ge \mu_2` of M.
        angle: of feature 1, from the shortcut axis towards the core axis, in radians.
        label_alignments: :math:`A_i(y) = \langle u_i, E[yx]\rangle^2/\mu_i`.
        bias_alignments: :math:`A_i(b)`, the same with the bias attribute b.
        coefficients: :math:`\beta_i` of the trained function along :math:`u_i`.
        weights: :math:`(w_s, w_c)` of the trained function.
        reliance: :math:`R = w_sm_s/(w_cm_c)`.
        aligned: accuracy on samples with b = y.
        conflicting: accuracy on samples with b = -y.
        flips: whether `conflicting` is below 1/2.
    """

    eigenvalues: np.ndarray
    angle: Numbers
    label_alignments: np.ndarray
    bias_alignments: np.ndarray
    coefficients: np.ndarray
    weights: np.ndarray
    reliance: Numbers
    aligned: Numbers
    conflicting: Numbers
    flips: Numbers


def two_axis(
    rho: Numbers,
    m_s: Numbers,
    m_c: Numbers,
    sigma_s: Numbers,
    sigma_c: Numbers,
    kappa: Numbers = 1.0,
    ridge: Numbers = 0.0,
    time: Numbers = math.inf,
) -> TwoAxis:
    r"""A linear network on data with one shortcut axis and one core axis.

    Inputs are :math:`x = (b\,m_s + \sigma_sg_1,\ c\,m_c + \sigma_cg_2)` with standard Gaussians g,
    labels :math:`y = \pm1`, a bias attribute b that equals y with probability rho, and a core
    attribute c that equals y with probability kappa, independently. With :math:`r = 2\rho - 1`,
    :math:`q = 2\kappa - 1`,

    .. math:: M = \begin{pmatrix} m_s^2 + \sigma_s^2 & rqm_sm_c\\ rqm_sm_c & m_c^2 + \sigma_c^2
              \end{pmatrix}, \qquad E[yx] = (rm_s, qm_c).

    Gradient flow on half the mean squared error with a ridge :math:`\lambda`, from zero, has
    after time t :math:`\beta_i = (1 - e^{-\mu_i't})\langle u_i, E[yx]\rangle/\mu_i'` with
    :math:`\mu_i' = \mu_i + \lambda`; at the end

    .. math:: R = \frac{r\,(n_c + 1 - q^2 + \lambda/m_c^2)}{q\,(n_s + 1 - r^2 + \lambda/m_s^2)},
              \qquad n_s = \sigma_s^2/m_s^2,\ n_c = \sigma_c^2/m_c^2.

    All arguments may be arrays; they are broadcast.

    Args:
        rho: share of aligned samples, in [0, 1].
        m_s, m_c: amplitudes of shortcut and core, above 0.
        sigma_s, sigma_c: standard deviations of the noise on either axis, 0 or more.
        kappa: share of samples whose core tells the label, in (1/2, 1].
        ridge: penalty :math:`\lambda\|w\|^2/2`, 0 or more.
        time: of training, above 0, with learning rate 1; inf for the end.

    Raises:
        ValueError: an argument outside its range, or a matrix M that is singular without a ridge.

    Source: our derivation (the mixture of Lim, Kim & Moon 2025 with two attributes).

    >>> found = two_axis(rho=0.95, m_s=2, m_c=1, sigma_s=0.7, sigma_c=1)
    >>> [round(float(x), 4) for x in (found.reliance, found.aligned, found.conflicting)]
    [2.88, 0.9969, 0.0927]
    >>> two_axis(0.9, 1, 1, 0, 0.0).eigenvalues.round(3).tolist()       # 2 rho and 2 (1 - rho)
    [1.8, 0.2]
    """
    arguments = check_two_axis(rho, m_s, m_c, sigma_s, sigma_c, kappa, ridge, time)
    rho, m_s, m_c, sigma_s, sigma_c, kappa, ridge, time = arguments
    r, q = 2 * rho - 1, 2 * kappa - 1
    S, C, cross = m_s**2 + sigma_s**2, m_c**2 + sigma_c**2, r * q * m_s * m_c
    spread = np.hypot(S - C, 2 * cross)
    top = (S + C + spread) / 2
    # determinant over the larger root: no digits are lost where the smaller one is near zero
    low = (sigma_s**2 * C + m_s**2 * (sigma_c**2 + m_c**2 * (1 - (r * q) ** 2))) / top
    values = np.stack([top, low])
    if ((values[1] + ridge) <= 1e-14 * values[0]).any():
        raise ValueError("the second moment is singular: add noise or a ridge, or rho below 1")
    angle = np.arctan2(2 * cross, S - C) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    on_label = np.stack([cos * r * m_s + sin * q * m_c, cos * q * m_c - sin * r * m_s])
    with np.errstate(invalid="ignore", divide="ignore"):
        on_bias = np.stack([cos * m_s + sin * r * q * m_c, cos * r * q * m_c - sin * m_s])
        shares = [np.where(values > 0, on**2 / values, 0.0) for on in (on_label, on_bias)]
    learnt = -np.expm1(-(values + ridge) * time)
    beta = learnt * on_label / (values + ridge)
    weights = np.stack([cos * beta[0] - sin * beta[1], sin * beta[0] + cos * beta[1]])
    if np.isinf(time).all():  # the same without cancellation
        reliance = r * (sigma_c**2 + m_c**2 * (1 - q**2) + ridge) * m_s**2
        reliance = reliance / (q * (sigma_s**2 + m_s**2 * (1 - r**2) + ridge) * m_c**2)
    else:
        reliance = weights[0] * m_s / (weights[1] * m_c)
    aligned, conflicting = linear_accuracies(*weights, m_s, m_c, sigma_s, sigma_c, kappa)
    found = TwoAxis(
        values, angle, *shares, beta, weights, reliance, aligned, conflicting, conflicting < 0.5
    )
    return TwoAxis(*(x.item() if np.ndim(x) == 0 else x for x in found))


def linear_accuracies(
    w_s: Numbers,
    w_c: Numbers,
    m_s: Numbers,
    m_c: Numbers,
    sigma_s: Numbers,
    sigma_c: Numbers,
    kappa: Numbers = 1.0,
) -> tuple[Numbers, Numbers]:
    r"""Accuracy of the sign of :math:`w_sx_s + w_cx_c` on aligned and on conflicting samples.

    With a perfect core (kappa = 1), :math:`\Phi\big((m_cw_c \pm m_sw_s) /
    \sqrt{\sigma_s^2w_s^2 + \sigma_c^2w_c^2}\big)`. Arguments as in :func:`two_axis`.

    Raises:
        ValueError: an argument that is not finite, a negative sigma, a kappa outside [0, 1].

    Source: our derivation.

    >>> [round(float(x), 4) for x in linear_accuracies(0.0, 1.0, 2.0, 1.0, 0.7, 1.0)]
    [0.8413, 0.8413]
    """
    allowed = dict.fromkeys(("w_s", "w_c", "m_s", "m_c"), "finite")
    allowed |= dict.fromkeys(("sigma_s", "sigma_c"), "0 or more, finite")
    check_ranges(allowed | {"kappa": "[0, 1]"}, w_s, w_c, m_s, m_c, sigma_s, sigma_c, kappa)
    sd = np.sqrt((sigma_s * w_s) ** 2 + (sigma_c * w_c) ** 2)

    def accuracy(sign: int) -> Numbers:
        with np.errstate(divide="ignore", invalid="ignore"):
            right = ndtr(np.nan_to_num((m_c * w_c + sign * m_s * w_s) / sd, posinf=40, neginf=-40))
            wrong = ndtr(np.nan_to_num((-m_c * w_c + sign * m_s * w_s) / sd, posinf=40, neginf=-40))
        return kappa * right + (1 - kappa) * wrong

    return accuracy(1), accuracy(-1)


def flip_rule(rho: Numbers, n_s: Numbers, n_c: Numbers) -> Numbers:
    r"""Whether training ends wrong on most conflicting samples: :math:`rn_c > n_s + 1 - r^2`.

    Args:
        rho: share of aligned samples.
        n_s, n_c: noise-to-signal ratios :math:`\sigma^2/m^2` of shortcut and core; the core is
            perfect (kappa = 1) and there is no ridge.

    Raises:
        ValueError: an argument outside its range.

    Source: our derivation.

    >>> flip_rule(0.95, 0.1225, 0.25), flip_rule(0.95, 0.1225, 0.5625)
    (False, True)
    """
    allowed = {"rho": "[0, 1]", "n_s": "0 or more, finite", "n_c": "0 or more, finite"}
    check_ranges(allowed, rho, n_s, n_c)
    r = 2 * rho - 1
    return r * n_c > n_s + 1 - r**2


def check_two_axis(*arguments: Numbers) -> list[np.ndarray]:
    """The arguments of :func:`two_axis` as arrays of one shape.

    Raises:
        ValueError: an argument outside its range.
    """
    return check_ranges(_TWO_AXIS, *arguments)


def effective_ridge(noise: float, dim: int, samples: int, ridge: float = 0.0) -> float:
    r"""What stands in the place of the noise variance when n samples have d dimensions.

    In the population the coefficient along a direction of the means is
    :math:`\langle u_i, E[yx]\rangle/(a_i + s)`, where s is the noise variance in every direction.
    With n samples and a ridge :math:`\lambda` it is, up to fluctuations,
    :math:`\langle u_i, E[yx]\rangle/(a_i + \kappa)` with

    .. math:: \kappa = s + \lambda', \qquad
              \lambda' = \lambda + \frac dn\,\frac{\lambda's}{s + \lambda'},

    and without a ridge :math:`\kappa = s\max(1, d/n)`.

    Args:
        noise: variance s of the isotropic noise, above 0.
        dim, samples: d and n, at least 1.
        ridge: of half the mean squared error plus :math:`\lambda\|w\|^2/2`, 0 or more.

    Raises:
        ValueError: an argument outside its range.

    Source: our derivation, after Marchenko & Pastur 1967.

    >>> effective_ridge(2.0, 50, 100), effective_ridge(2.0, 300, 100)
    (2.0, 6.0)
    """
    allowed = dict.fromkeys(("noise", "dim", "samples"), "above 0, finite")
    check_ranges(allowed | {"ridge": "0 or more, finite"}, noise, dim, samples, ridge)
    felt = smoother.solved(([noise], [dim / samples]), ridge, 1.0)  # counted per sample
    return float(noise + felt)


class Spike(NamedTuple):
    """Whether an axis is visible in a sample, its eigenvalue there, and its squared overlap."""

    visible: bool
    eigenvalue: float
    overlap: float


def visible_spike(lift: float, noise: float, ratio: float) -> Spike:
    r"""How an axis of M shows in a sample of n inputs of d dimensions.

    M has the eigenvalue s + a along the axis and s elsewhere. With c = d/n the sample has a
    separate eigenvalue :math:`(s + a)(1 + cs/a)` if :math:`a > s\sqrt c`, and its eigenvector has
    the squared overlap :math:`(1 - cs^2/a^2)/(1 + cs/a)` with the axis. Otherwise the largest
    eigenvalue is the edge of the bulk, :math:`s(1 + \sqrt c)^2`, and there is no overlap.

    Args:
        lift: a, above 0.
        noise: s, above 0.
        ratio: d/n, above 0.

    Raises:
        ValueError: an argument outside its range.

    Source: Baik, Ben Arous & Péché 2005 (transition); Paul 2007 (eigenvector).

    >>> [(spike.eigenvalue, round(spike.overlap, 3)) for spike in
    ...  (visible_spike(lift, 1.0, 1.0) for lift in (0.5, 2.0, 4.0))]
    [(4.0, 0.0), (4.5, 0.5), (6.25, 0.75)]
    """
    check_ranges(dict.fromkeys(("lift", "noise", "ratio"), "above 0, finite"), lift, noise, ratio)
    if lift <= noise * math.sqrt(ratio):
        return Spike(False, noise * (1 + math.sqrt(ratio)) ** 2, 0.0)
    inflation = 1 + ratio * noise / lift
    overlap = (1 - ratio * noise**2 / lift**2) / inflation
    return Spike(True, (noise + lift) * inflation, overlap)
