"""Closed forms of Bombari & Mondelli 2024: the alignment of random and NTK features."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from helpers.kernels.hermite import (
    Activation,
    basis_at_nodes,
    coefficients,
    quadrature,
    second_moment,
    values_of,
)
from helpers.theory import smoother
from helpers.theory.ranges import check_ranges

QUERIES = ("resample", "zero")
SERIES_DEGREE = 100


def gamma_rf_bound(activation: str | Activation, alpha: float) -> float:
    r"""The theorem's lower bound on the alignment constant of random features.

    .. math:: \gamma_{RF} > \frac{\sum_{l \ge 2} \mu_l^2 \alpha^l}{\sum_{l \ge 1} \mu_l^2}

    Args:
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
        alpha: share of spurious coordinates, inside (0, 1).

    Raises:
        ValueError: alpha outside (0, 1), an activation that is unknown or constant.

    Source: Bombari & Mondelli 2024, Theorem 1.

    >>> round(gamma_rf_bound("phi2", 0.5), 6)        # alpha^2 / 2
    0.125
    """
    check_alpha(alpha)
    mu2 = coefficients(activation, SERIES_DEGREE) ** 2
    return float(mu2[2:] @ _powers(alpha)[2:] / _variance(activation, mu2[0]))


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
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
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
    check_alpha(alpha)
    _check_ratio(ratio)
    if samples is not None:
        check_ranges({"samples": "1 or more"}, samples)
    mu = coefficients(activation, SERIES_DEGREE)
    tail = second_moment(activation) - mu[0] ** 2 - mu[1] ** 2
    shared = query_weights(activation, mu, alpha, query)
    rho = _unlearned_share(mu[1] ** 2, tail, ratio)
    own = mu[1] ** 2 * rho + tail
    _check_novel(own, activation, ratio)
    with_query = shared[1] * rho + shared[2:].sum()
    if samples is not None and not math.isinf(samples):
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

    Raises:
        ValueError: an argument outside its range, an activation that is unknown or constant.

    Source: derived in the book's third chapter.

    >>> round(alignment_sd("phi2", 0.5, 100) * 10, 3)
    0.707
    """
    check_alpha(alpha)
    check_ranges({"dim": "1 or more"}, dim)
    mu2 = coefficients(activation, SERIES_DEGREE) ** 2
    order = np.arange(1, SERIES_DEGREE + 1)
    slope = float((order * mu2[1:]) @ _powers(alpha)[:-1])
    return slope * math.sqrt((1 - alpha) / dim) / _variance(activation, float(mu2[0]))


def gamma_rf_cores(
    activation: str | Activation,
    overlaps: np.ndarray,
    alpha: float,
    background: int,
    query: str = "resample",
) -> float:
    r"""Mean alignment of random features for cores of any law, at infinite width.

    The background is isotropic noise with :math:`d_y` = `background` coordinates; the core enters
    only through the overlaps :math:`u = x^\top x'/d_x` of block-normalised training cores. With
    :math:`q(r) = \sum_l \mu_l^2 r^l`, :math:`q_\alpha(u) = q((1-\alpha)u)`, and the overlap v of
    two backgrounds, small unless they are the same, the kernel is expanded in v:

    .. math:: K \approx A + \alpha B \circ \tfrac1{d_y} YY^\top + s I, \quad
              A_{ij} = q_\alpha(u_{ij}), \quad B_{ij} = q'((1-\alpha)u_{ij}),

    where :math:`s = q(1) - q(1-\alpha) - \alpha q'(1-\alpha)` is what the expansion leaves of the
    diagonal. The noise Y averages itself out (Marchenko & Pastur 1967, once for every background
    coordinate): :math:`K^{-1} \approx G = (A + (s + \omega)I)^{-1}`, where with
    :math:`\epsilon = \frac{\alpha}{d_y}\frac{\mathrm{tr}\,G}{N}`

    .. math:: \omega = \tfrac{\alpha}{N}\mathrm{tr}\,B(I + \epsilon B)^{-1}, \qquad
              \gamma = \frac{\mathrm{tr}\,G}{N}
              \Big(w_1 \tfrac1N 1^\top(I + \epsilon B)^{-1}1 + w_2\Big) + \tfrac1N 1^\top G a.

    For `resample`, :math:`a_j` is the mean of :math:`q_\alpha(u)` between core j and other cores,
    :math:`w_1` the mean of :math:`\alpha q'((1-\alpha)u)` over pairs of different cores, and
    :math:`w_2` that of :math:`q((1-\alpha)u+\alpha) - q((1-\alpha)u) - \alpha q'((1-\alpha)u)`.
    For `zero`, with the weights :math:`\mu_l\alpha^{l/2}c_l` of :func:`gamma_rf`, :math:`a_j` is
    that of degree 0, :math:`w_1` of degree 1 and :math:`w_2` the sum of the others.

    Args:
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
        overlaps: `(N, N)` overlaps u of the training cores, ones on the diagonal. Neither their
            backgrounds nor their labels are needed.
        alpha: share of the background, inside (0, 1).
        background: number of background coordinates, at least 1.
        query: `"resample"` or `"zero"`.

    Raises:
        ValueError: an argument outside its range, or an activation that is constant.

    Source: derived in the book's chapter on the limit. Isotropic cores give :func:`gamma_rf`.

    >>> x = np.random.default_rng(0).standard_normal((400, 200))
    >>> x /= np.linalg.norm(x, axis=1, keepdims=True)
    >>> law = gamma_rf_cores("phi2", x @ x.T, 0.5, 200)
    >>> abs(law / gamma_rf("phi2", 0.5, 1.0) - 1) < 0.01
    True
    """
    check_ranges({"background": "1 or more"}, background)
    blocks = core_blocks(activation, overlaps, alpha, query)
    cores, slopes, own, field = blocks.cores, blocks.slopes, blocks.own, blocks.field
    first, rest = float(blocks.first.mean()), float(blocks.rest.mean())
    (of_cores, V), (of_slopes, W) = np.linalg.eigh(cores), np.linalg.eigh(slopes)
    of_cores, of_slopes = of_cores.clip(min=0), of_slopes.clip(min=0)

    def unlearned(omega: float) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of G and of (1 + epsilon B)^-1."""
        resolvent = 1 / (of_cores + own + omega)
        return resolvent, 1 / (1 + alpha / background * resolvent.mean() * of_slopes)

    def excess(omega: float) -> float:
        return alpha * float((of_slopes * unlearned(omega)[1]).mean()) - omega

    resolvent, kept = unlearned(brentq(excess, 0, alpha * float(of_slopes.mean())))
    linear = float(kept @ W.sum(0) ** 2) / len(cores)
    mean_part = float((V.T @ field * resolvent) @ V.sum(0)) / len(cores)
    return float(resolvent.mean() * (first * linear + rest) + mean_part)


class CoreBlocks(NamedTuple):
    """The kernel's parts of :func:`gamma_rf_cores`, and those of the queries.

    cores, slopes: A and B, `(N, N)`. own: s. field: the part `(N,)` of a query's kernel with the
    training samples that knows no background. first: the coefficients `(N,)` of the background
    overlaps v in it. rest: what is left of a sample's own query, `(N,)`.
    """

    cores: np.ndarray
    slopes: np.ndarray
    own: float
    field: np.ndarray
    first: np.ndarray
    rest: np.ndarray


def core_blocks(
    activation: str | Activation, overlaps: np.ndarray, alpha: float, query: str
) -> CoreBlocks:
    """What :func:`gamma_rf_cores` is made of; raises what it does."""
    check_alpha(alpha)
    overlaps = np.asarray(overlaps, dtype=float)
    if overlaps.ndim != 2 or overlaps.shape[0] != overlaps.shape[1] or len(overlaps) < 2:
        raise ValueError(f"overlaps have shape {overlaps.shape}: expected (N, N) with N > 1")
    if not np.isfinite(overlaps).all() or np.abs(overlaps.diagonal() - 1).max() > 1e-3:
        raise ValueError("overlaps must be finite, with ones on the diagonal (normalised cores)")
    if np.abs(overlaps - overlaps.T).max() > 1e-3 or np.abs(overlaps).max() > 1 + 1e-3:
        raise ValueError("overlaps must be symmetric and within [-1, 1] (normalised cores)")
    mu = coefficients(activation, SERIES_DEGREE)
    _variance(activation, mu[0] ** 2)
    q = np.polynomial.Polynomial(mu**2)
    slope, u = q.deriv(), (1 - alpha) * overlaps
    cores, slopes = q(u), slope(u)
    # degrees beyond the series belong to the sample alone
    own = second_moment(activation) - float(q(1 - alpha) + alpha * slope(1 - alpha))
    count = len(cores)
    if query != "resample":
        weights = query_weights(activation, mu, alpha, query)
        parts = (weights[0], weights[1], weights[2:].sum())
        return CoreBlocks(cores, slopes, own, *(np.full(count, part) for part in parts))
    pairs = ~np.eye(count, dtype=bool)
    field, first, whole = (
        np.where(pairs, values, 0).sum(1) / (count - 1)
        for values in (cores, alpha * slopes, q(u + alpha))
    )
    return CoreBlocks(cores, slopes, own, field, first, whole - field - first)


def gamma_ntk(
    derivative: str | Activation, alpha: float, ratio: float, query: str = "resample"
) -> float:
    r"""Alignment constant of the NTK features of a two-layer network at a finite ratio N/d.

    The theorem's constant is the limit of many samples per dimension, `ratio = inf`:

    .. math:: \gamma_{NTK} = \alpha\,\frac{\sum_{l\ge1}\mu_l'^2\alpha^l}{\sum_{l\ge1}\mu_l'^2},

    with :math:`\mu_l'` the Hermite coefficients of :math:`\phi'`. At a finite ratio the part
    :math:`\mu_0'^2 ZZ^\top/d` of the kernel is linear in the inputs and only partly learned; with
    :math:`s' = \sum_{l\ge1}\mu_l'^2`, :math:`c = s'/\mu_0'^2` and :math:`\rho` as in
    :func:`gamma_rf`,

    .. math:: \gamma_{NTK} = \frac{\mu_0'^2\alpha\rho + \sum_{l\ge1}\mu_l'^2\alpha^{l+1}}
                                 {\mu_0'^2\rho + s'}.

    Args:
        derivative: phi', a name of :func:`hermite.resolve` (`"h0+h1"`, `"h0+h3"`,
            `"h0+h7"`, `"step"`, …), or a callable on torch tensors.
        alpha: share of spurious coordinates, inside (0, 1).
        ratio: N/d in [0, inf].
        query: `"resample"`, or `"zero"` as in :func:`gamma_rf`.

    Raises:
        ValueError: an argument outside its range, or a constant derivative with N >= d.

    Source: Bombari & Mondelli 2024, Theorem 2 (`ratio = inf`); finite ratios derived in the book's
    chapter on NTK features.

    >>> [round(gamma_ntk("h0+h1", 0.25, ratio), 4) for ratio in (0, 1, float("inf"))]
    [0.1563, 0.1341, 0.0625]
    >>> round(gamma_ntk("step", 0.5, float("inf")), 6)        # 2 alpha / pi asin(alpha) = 1/6
    0.166667
    """
    check_alpha(alpha)
    _check_ratio(ratio)
    mu = coefficients(derivative, SERIES_DEGREE)
    tail = second_moment(derivative) - mu[0] ** 2
    if query == "resample" and derivative == "step":
        # the series of a jump converges slowly; its sum is known
        higher = math.asin(alpha) / (2 * math.pi)
        shared = np.array([mu[0] ** 2])
    else:
        shared = query_weights(derivative, mu, alpha, query)
        higher = shared[1:].sum()
    rho = _unlearned_share(mu[0] ** 2, tail, ratio)
    own = mu[0] ** 2 * rho + tail
    _check_novel(own, derivative, ratio)
    return float(alpha * (shared[0] * rho + higher) / own)


# -- parts of the laws ----------------------------------------------------------------------------


def query_weights(
    activation: str | Activation, mu: np.ndarray, alpha: float, query: str
) -> np.ndarray:
    """What each Hermite degree contributes to the kernel of a sample with its own query."""
    if query == "resample":
        return mu**2 * _powers(alpha)
    if query == "zero":
        nodes, weights = quadrature()
        values = values_of(activation, math.sqrt(alpha) * nodes)
        shrunk = (basis_at_nodes(SERIES_DEGREE) @ (weights * values)).numpy()
        return mu * _powers(math.sqrt(alpha)) * shrunk
    raise ValueError(f"query is {query!r}: allowed are {', '.join(map(repr, QUERIES))}")


def _unlearned_share(linear: float, tail: float, ratio: float) -> float:
    """Root in [0, 1] of rho = 1 / (1 + ratio / (tail / linear + rho))."""
    if math.isinf(ratio) or linear < 1e-20:
        return 0.0
    # a linear kernel of variance 1 whose ridge is the tail; samples are counted per dimension
    found = smoother.solved(([1.0], [1.0]), tail / linear, ratio)
    return float(smoother.unlearned_share(ratio, found))


def _variance(activation: str | Activation, mean_squared: float) -> float:
    """Of activations; ValueError where it is 0, and no sample differs from another."""
    total = second_moment(activation)
    if total - mean_squared <= 1e-12 * total:
        raise ValueError(f"activation {activation!r} is constant: its features tell nothing apart")
    return total - mean_squared


def _check_ratio(ratio: float) -> None:
    if not ratio >= 0:
        raise ValueError(f"ratio is {ratio}: allowed is N/d in [0, inf]")


def _check_novel(own: float, activation: str | Activation, ratio: float) -> None:
    if own <= 1e-12 * second_moment(activation):
        raise ValueError(
            f"activation {activation!r} at N/d = {ratio} has nothing left to tell samples apart "
            "(the kernel is singular): use N < d, or an activation with a non-linear part"
        )


def _powers(base: float) -> np.ndarray:
    return base ** np.arange(SERIES_DEGREE + 1)


def check_alpha(alpha: float) -> None:
    """ValueError unless alpha is inside (0, 1)."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: allowed is the open interval (0, 1)")
