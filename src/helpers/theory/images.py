"""Whose background is remembered: the law for cores of any distribution, image by image."""

import numpy as np

from helpers.kernels.hermite import Activation
from helpers.theory.bombari2024 import core_blocks
from helpers.theory.ranges import check_ranges

_ROUNDS, _SETTLED = 500, 1e-8


def alignment_by_image(
    cores: np.ndarray,
    *,
    activation: str | Activation,
    spurious_dim: int,
    query: str = "zero",
) -> np.ndarray:
    r"""Alignment that each training image will have with its background, before that is drawn.

    With the kernel's parts A, B and s of :func:`gamma_rf_cores`, :math:`\epsilon = \alpha/d_y`, and
    one number a sample where that law has one for all,

    .. math::
       G = (A + \mathrm{diag}(s + \omega))^{-1}, \quad T = \mathrm{diag}\,G, \quad
       M = (I + \epsilon BT)^{-1}, \quad \omega_i = \alpha\,[MB]_{ii},

       F_i = w_0 [G1]_i + T_i\,(w_1 [M1]_i + w_2).

    Here B T is the product with the diagonal matrix of T. The omega are found by iteration from
    above, which falls to the fixed point step by step. For `resample`, :math:`w_0 1` and
    :math:`w_1 1` become the vectors of the mean of :math:`q((1-\alpha)u)` and
    :math:`\alpha q'((1-\alpha)u)` between a core and the others, and :math:`w_2` the sample's own.

    Args:
        cores: `(N, d_x)` training cores of norm :math:`\sqrt{d_x}`, as `data.BlockScaling` of kind
            `blocks` makes them. No backgrounds, no labels.
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
        spurious_dim: number of background coordinates, at least 1.
        query: `"zero"` (the core is blanked) or `"resample"` (the mean over other images' cores).

    Returns:
        `(N,)` predicted F(z_i^s, z_i). Its mean is close to :func:`gamma_rf_cores`.

    Raises:
        ValueError: an argument outside its range, cores that are not normalised, an activation
            that is constant, or an iteration that does not settle.

    Costs a few inverses `(N, N)`. The background must be isotropic noise of fixed norm. The kernel
    is expanded to first order in the overlap of two backgrounds: N must stay well below
    :math:`d_y^2/2`, where :func:`gamma_staircase` shows the next degree to be learned.

    Source: derived in the book's chapter on the limit.

    >>> x = np.random.default_rng(0).standard_normal((60, 40))
    >>> x[1] = x[0] + 0.3 * x[1]                       # two cores that explain each other
    >>> x *= 40**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
    >>> F = alignment_by_image(x, activation="relu", spurious_dim=160)
    >>> bool(F[:2].min() > F[2:].max())                # their backgrounds are remembered best
    True
    """
    cores = np.asarray(cores, dtype=float)
    if cores.ndim != 2 or min(cores.shape, default=0) < 1:
        raise ValueError(f"cores have shape {cores.shape}: expected (N, d_x)")
    check_ranges({"spurious_dim": "1 or more"}, spurious_dim)
    alpha = spurious_dim / (spurious_dim + cores.shape[1])
    parts = core_blocks(activation, cores @ cores.T / cores.shape[1], alpha, query)
    epsilon, identity = alpha / spurious_dim, np.eye(len(cores))
    omega = np.full(len(cores), alpha * parts.slopes.diagonal().max())
    for _ in range(_ROUNDS):
        G = np.linalg.inv(parts.cores + np.diag(parts.own + omega))
        T = G.diagonal()
        M = np.linalg.inv(identity + epsilon * parts.slopes * T)
        step = alpha * np.einsum("ij,ji->i", M, parts.slopes)
        settled = np.abs(step - omega).max() <= _SETTLED * (parts.own + omega.max())
        if settled:
            return G @ parts.field + T * (M @ parts.first + parts.rest)
        omega = step
    raise ValueError(
        f"the iteration of omega does not settle in {_ROUNDS} rounds: the kernel is close to "
        "singular (many samples for the dimensions, or an activation without high degrees)"
    )
