"""The staircase of forgetting: alignment once samples outnumber the harmonics of a degree.

The laws of `bombari2024` let the linear part of the kernel be learned and leave all higher degrees
to each sample alone. That holds for N far below d^2/2. Here every degree has its own fate.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh_tridiagonal

from helpers.kernels.hermite import Activation, coefficients, second_moment
from helpers.theory import smoother
from helpers.theory.bombari2024 import QUERIES, SERIES_DEGREE, query_weights
from helpers.theory.ranges import Numbers, check_ranges

_NODES = 80  # exact for the series times a harmonic
_HARMONICS = 24  # highest degree on either block that is not left to the sample alone
_ROUNDED = 1e-14  # below this share of the kernel a coefficient is rounding
_FAR = 1e6  # harmonics per sample beyond which nothing of a degree is learned


def gamma_staircase(
    activation: str | Activation,
    alpha: Numbers,
    samples: Numbers,
    dim: int,
    query: str = "resample",
) -> Numbers:
    r"""Alignment constant of random features at any number of samples, infinite width.

    In short: with :math:`D_l` harmonics of degree l in d dimensions (1, d, about
    :math:`d^2/2`, …) a share :math:`\rho_l` of that degree is still unlearned,

    .. math:: \rho_l = \frac{1}{1 + N\mu_l^2/(D_l\kappa)}, \quad
              \kappa = \sum_l \mu_l^2\rho_l, \quad
              \gamma = \frac1\kappa\sum_l \mu_l^2\alpha^l\rho_l,

    so each degree is forgotten at its own :math:`N \sim D_l`. This is the form for large d. What is
    computed is the same law on the two spheres of core and background at finite d. The kernel is
    a sum over harmonics of degree a of the core times degree b of the background,

    .. math:: q((1-\alpha)u + \alpha v) = \sum_{a,b} w_{ab} P_a(u) P_b(v), \qquad
              D_{ab} = D_a D_b, \quad P(1) = 1,

    with :math:`q(r) = \sum_l\mu_l^2r^l`. With the N - 1 other samples and `w`, `D` in the places of
    :math:`\mu^2` and :math:`D_l` it gives :math:`\rho_{ab}` and :math:`\kappa`; and a new core
    leaves of the kernel what does not depend on the core:
    :math:`\gamma = \sum_b w_{0b}\rho_{0b}/\kappa`. For the query `zero`, :math:`w_{0b}` becomes the
    weight at :math:`P_b` of :math:`\sum_l\mu_lc_l\alpha^{l/2}v^l`, with :math:`c_l` as in
    :func:`gamma_rf`.

    Args:
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
        alpha: share of spurious coordinates, inside (0, 1); both blocks have 2 or more.
        samples: number N of training samples, 1 or more, finite.
        dim: input dimension d.
        query: `"resample"` (the core is drawn again) or `"zero"` (it is blanked).

    Returns:
        The mean of F(z_i^s, z_i): a float, or an array where `alpha` or `samples` is one.

    Raises:
        ValueError: an argument outside its range, an activation that is constant, or a polynomial
            with no more harmonics than samples, whose kernel is singular.

    Inputs are isotropic, with blocks of fixed norm (Gaussian blocks, normalised). N may be anything
    beside d and its powers. Against measurement the law is within 1 % (`zero`) and a few %
    (`resample`, noisier) from d = 16 on, and off by up to 15 % at d = 6. Images are not isotropic.

    Source: derived in the book's chapter on the limit. The effective ridge is classical (Dobriban &
    Wager 2018; Simon et al. 2023), the steps too (Ghorbani et al. 2021; Mei et al. 2022).

    >>> [round(gamma_staircase("relu", 0.5, n, 60), 3) for n in (60, 1_800, 3_600)]
    [0.388, 0.199, 0.142]
    """
    mu = coefficients(activation, SERIES_DEGREE)
    return _curve(
        mu**2,
        second_moment(activation),
        lambda share: query_weights(activation, mu, share, "zero"),
        alpha,
        samples,
        dim,
        query,
    )


def gamma_staircase_ntk(
    derivative: str | Activation,
    alpha: Numbers,
    samples: Numbers,
    dim: int,
    query: str = "resample",
) -> Numbers:
    r"""Alignment constant of the NTK features of a two-layer network at any number of samples.

    The kernel is :math:`r\,E[\phi'\phi'] = \sum_l\mu_l'^2 r^{l+1}`: the law is that of
    :func:`gamma_staircase` with every degree raised by one, and for the query `zero`
    the function :math:`\alpha v\sum_l\mu_l'c_l'\alpha^{l/2}v^l`.

    Args:
        derivative: phi', a name of :func:`hermite.resolve`, or a callable on torch tensors.
        alpha, samples, dim, query: as in :func:`gamma_staircase`.

    Returns:
        As :func:`gamma_staircase`.

    Raises:
        ValueError: as :func:`gamma_staircase`.

    Source: derived in the book's chapter on the limit.

    >>> same = gamma_staircase("h1+h2", 0.5, 900, 60)
    >>> round(gamma_staircase_ntk("h0+h1", 0.5, 900, 60) - same, 12)
    0.0
    """
    mu = coefficients(derivative, SERIES_DEGREE)
    return _curve(
        np.append(0, mu**2),
        second_moment(derivative),
        lambda share: np.append(0, share * query_weights(derivative, mu, share, "zero")),
        alpha,
        samples,
        dim,
        query,
    )


def _curve(
    kernel: np.ndarray,
    total: float,
    blanked: Callable[[float], np.ndarray],
    alpha: Numbers,
    samples: Numbers,
    dim: int,
    query: str,
) -> Numbers:
    """The law at every pair of alpha and samples.

    `kernel` are the coefficients of q in powers of r, `total` is q(1) with what lies beyond them;
    `blanked` gives at a share the coefficients of the kernel with the query zero, in powers of v.
    """
    if query not in QUERIES:
        raise ValueError(f"query is {query!r}: allowed are {', '.join(map(repr, QUERIES))}")
    check_ranges({"dim": "1 or more"}, dim)
    shares, sizes = check_ranges({"alpha": "finite", "samples": "1 or more"}, alpha, samples)
    if not np.isfinite(sizes).all():
        raise ValueError("samples is inf: the staircase has no end, give a number")
    if total - kernel[0] <= 1e-12 * total:
        raise ValueError("the activation is constant: its features tell nothing apart")
    result = np.empty(shares.shape)
    for share in np.unique(shares):
        here = shares == share
        background = share * dim
        if not 2 <= background <= dim - 2:
            raise ValueError(
                f"alpha is {share:g} at dim {dim}: allowed is what leaves either block 2 or more "
                "coordinates"
            )
        y, weight_y, harmonics, count_y = _sphere(background)
        x, weight_x, core_harmonics, count_x = _sphere(dim - background)
        values = _series(kernel, (1 - share) * x[:, None] + share * y)
        weights = (core_harmonics * weight_x) @ values @ (harmonics * weight_y).T
        weights[weights < _ROUNDED * total] = 0  # what is nothing stays nothing, times any count
        counts = count_x[:, None] * count_y
        if query == "resample":
            of_query = weight_x @ values
            whole = float(weight_x @ _series(kernel, (1 - share) * x + share))
        else:
            terms = blanked(share)
            of_query, whole = _series(terms, y), float(terms.sum())
        asked = (harmonics * weight_y) @ of_query * np.sqrt(count_y)
        weights = weights * np.sqrt(counts)
        others = sizes[here] - 1
        near = counts <= _FAR * max(others.max(), 1)
        kappa = _novelty(weights[near], counts[near], total, others)
        first = near[0]
        learned = _learned(weights[0, first] / counts[0, first], others, kappa)
        result[here] = (whole - learned @ asked[first]) / kappa
    return float(result) if result.ndim == 0 else result


def _series(terms: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.polynomial.polynomial.polyval(at, terms)


def _learned(per_harmonic: np.ndarray, others: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    """Shares 1 - rho that the other samples teach, `(samples, degrees)`."""
    signal = others[:, None] * per_harmonic
    return signal / (signal + kappa[:, None])


def _novelty(
    weights: np.ndarray, counts: np.ndarray, total: float, others: np.ndarray
) -> np.ndarray:
    """kappa, the root of kappa = total - sum of weights (1 - rho).

    It is N times the felt ridge of eigenvalues weights / counts; what no harmonic carries is the
    penalty.
    """
    rest = total - weights.sum()
    rest = rest if rest > 1e-12 * total else 0.0
    if not rest and others.max() > counts[weights > 0].sum() - 0.5:
        raise ValueError(
            "a polynomial activation with no more harmonics than samples leaves nothing to tell "
            "samples apart (the kernel is singular): use fewer samples or higher degrees"
        )
    return smoother.novelty(weights / counts, rest, others, counts)


def _sphere(dim: float) -> tuple[np.ndarray, ...]:
    """What integrates and expands functions of the cosine u of two points on a sphere.

    Nodes and weights of its law, `(80,)`; the orthonormal Gegenbauer polynomials there,
    `(25, 80)`, whose value at u = 1 is the root of the number of harmonics; these numbers `(25,)`.
    """
    order = np.arange(1, _NODES)
    with np.errstate(invalid="ignore"):
        squares = order * (order + dim - 3) / ((2 * order + dim - 2) * (2 * order + dim - 4))
    squares[0] = 1 / dim  # the same, where the fraction is 0/0 at dim 2
    steps = np.sqrt(squares)
    nodes, vectors = eigh_tridiagonal(np.zeros(_NODES), steps)
    at = np.append(nodes, 1.0)
    values = [np.ones_like(at), at / steps[0]]
    for k in range(1, _HARMONICS):
        values.append((at * values[-1] - steps[k - 1] * values[-2]) / steps[k])
    table = np.array(values)
    return nodes, vectors[0] ** 2, table[:, :-1], table[:, -1] ** 2
