r"""Closed forms of the papers, one section a paper.

Part I: Bombari & Mondelli (2024). Symbols: :math:`\mu_l` Hermite coefficients of the activation,
:math:`\alpha = d_y/d` the share of the input that is spurious, ratio = N/d.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.hermite import Activation, basis, coefficients, quadrature, resolve, second_moment

# ----------------------------------------------------------------------------------------------
# Part I: random features
# ----------------------------------------------------------------------------------------------

QUERIES = ("resample", "zero")
_DEGREE = 100


def gamma_rf_bound(activation: str | Activation, alpha: float) -> float:
    r"""The theorem's lower bound on the alignment constant of random features.

    .. math:: \gamma_{RF} > \frac{\sum_{l \ge 2} \mu_l^2 \alpha^l}{\sum_{l \ge 1} \mu_l^2}

    Args:
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.
        alpha: share of spurious coordinates, inside (0, 1).

    Raises:
        ValueError: alpha outside (0, 1), unknown activation.

    Source: Bombari & Mondelli 2024, Theorem 1.

    >>> round(gamma_rf_bound("phi2", 0.5), 6)        # alpha^2 / 2
    0.125
    """
    _check_alpha(alpha)
    mu2 = coefficients(activation, _DEGREE) ** 2
    return float(mu2[2:] @ _powers(alpha)[2:] / (second_moment(activation) - mu2[0]))


def gamma_rf(
    activation: str | Activation,
    alpha: float,
    ratio: float,
    query: str = "resample",
    samples: float | None = None,
) -> float:
    r"""Alignment constant of random features at a finite ratio N/d.

    The finite-sample equivalent of Theorem 1: replace the kernel by
    :math:`\mu_0^2 11^\top + \mu_1^2 ZZ^\top/d + s_2 I` with :math:`s_2 = \sum_{l\ge2}\mu_l^2`.
    A share :math:`\rho` of the linear direction is still unlearned; with :math:`c = s_2/\mu_1^2`
    it solves :math:`\rho = 1/(1 + (N/d)/(c + \rho))`, and

    .. math::
       \gamma_{RF} = \frac{\mu_1^2 \alpha \rho + \sum_{l\ge2} \mu_l^2 \alpha^l}
                          {\mu_1^2 \rho + s_2}.

    Args:
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.
        alpha: share of spurious coordinates, inside (0, 1).
        ratio: N/d in [0, inf]; inf gives the limit of many samples.
        query: `"resample"` (the core is drawn again, the theorem's case) or `"zero"` (the core is
            blanked, as on images: :math:`\mu_l^2\alpha^l` becomes :math:`\mu_l\alpha^{l/2}c_l`
            with :math:`c_l = E[\phi(\sqrt\alpha\,t)h_l(t)]`).
        samples: N, to include the part of the mean :math:`\mu_0` that few samples leave unlearned;
            None leaves it out (N large).

    Returns:
        The constant around which F(z_i^s, z_i) concentrates for isotropic inputs.

    Raises:
        ValueError: an argument outside its range, or a linear activation with N >= d, whose
            kernel is singular.

    Source: derived in the book's third chapter; Marchenko & Pastur 1967 for the resolvent.

    >>> [round(gamma_rf("phi2", 0.25, ratio), 4) for ratio in (0, 1, float("inf"))]
    [0.1563, 0.1341, 0.0625]
    >>> round(gamma_rf("relu", 0.25, 3, query="zero"), 3)
    0.151
    """
    _check_alpha(alpha)
    if not ratio >= 0:
        raise ValueError(f"ratio is {ratio}: allowed is N/d in [0, inf]")
    if samples is not None and samples < 1:
        raise ValueError(f"samples is {samples}: allowed is at least 1, or None")
    mu = coefficients(activation, _DEGREE)
    tail = second_moment(activation) - mu[0] ** 2 - mu[1] ** 2
    shared = _query_weights(activation, mu, alpha, query)
    rho = _unlearned_share(mu[1] ** 2, tail, ratio)
    own = mu[1] ** 2 * rho + tail
    if own <= 1e-12 * second_moment(activation):
        raise ValueError(
            f"activation {activation!r} at N/d = {ratio} has nothing left to tell samples apart "
            "(the kernel is singular): use N < d, or an activation with a non-linear part"
        )
    with_query = shared[1] * rho + shared[2:].sum()
    if samples is not None:
        damping = 1 + (samples - 1) * mu[0] ** 2 / own
        own += mu[0] ** 2 / damping
        with_query += shared[0] / damping
    return float(with_query / own)


def alignment_sd(activation: str | Activation, alpha: float, dim: int) -> float:
    r"""Spread of the alignment around its constant for N << d and block-normalised inputs.

    .. math:: \mathrm{sd}(F) \approx \frac{\kappa'(\alpha)}{\kappa(1) - \mu_0^2}
              \sqrt{\frac{1-\alpha}{d}}, \qquad \kappa(t) = \sum_l \mu_l^2 t^l

    It comes from the overlap of the drawn core with the old one and shrinks with d, not with N.

    Args:
        activation, alpha: as in :func:`gamma_rf`.
        dim: input dimension d, at least 1.

    Source: derived in the book's third chapter.

    >>> round(alignment_sd("phi2", 0.5, 100) * 10, 3)
    0.707
    """
    _check_alpha(alpha)
    if dim < 1:
        raise ValueError(f"dim is {dim}: allowed is at least 1")
    mu2 = coefficients(activation, _DEGREE) ** 2
    order = np.arange(1, _DEGREE + 1)
    slope = float((order * mu2[1:]) @ _powers(alpha)[:-1])
    return slope * math.sqrt((1 - alpha) / dim) / (second_moment(activation) - float(mu2[0]))


def _query_weights(
    activation: str | Activation, mu: np.ndarray, alpha: float, query: str
) -> np.ndarray:
    """What each Hermite degree contributes to the kernel of a sample with its own query."""
    if query == "resample":
        return mu**2 * _powers(alpha)
    if query == "zero":
        nodes, weights = quadrature()
        values = resolve(activation)(math.sqrt(alpha) * nodes)
        shrunk = (basis(_DEGREE, nodes) @ (weights * values)).numpy()
        return mu * _powers(math.sqrt(alpha)) * shrunk
    raise ValueError(f"query is {query!r}: allowed are {', '.join(map(repr, QUERIES))}")


def _unlearned_share(linear: float, tail: float, ratio: float) -> float:
    """Root in [0, 1] of rho = 1 / (1 + ratio / (tail / linear + rho))."""
    if math.isinf(ratio) or linear < 1e-20:
        return 0.0
    ridge = tail / linear
    b = 1 - ridge - ratio
    root = math.hypot(b, 2 * math.sqrt(max(ridge, 0.0)))
    # Two forms of one root: each loses no digits on its side of zero.
    return (b + root) / 2 if b > 0 else (2 * ridge / (root - b) if root > b else 0.0)


def _powers(base: float) -> np.ndarray:
    return base ** np.arange(_DEGREE + 1)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: allowed is the open interval (0, 1)")
