"""Tangent kernel of the first layer of a two-layer network, without its features."""

import math

import torch

from helpers.kernels.hermite import Activation, applied
from helpers.kernels.infinite_width import infinite_width
from helpers.kernels.inputs import check_finite, check_inputs, inner_products, mirrored
from helpers.kernels.random_features import weight_chunks


def ntk_two_layer(
    Z: torch.Tensor,
    Z2: torch.Tensor | None = None,
    *,
    derivative: str | Activation,
    width: float,
    seed: int = 0,
) -> torch.Tensor:
    r"""NTK block of the first layer of :math:`\sum_i \phi(w_i^\top z)`, divided by :math:`d k`.

    The features :math:`z \otimes \phi'(Wz)` have d k entries each and are never made, since their
    inner product is a product of two: :math:`\langle z, z'\rangle
    \langle \phi'(Wz), \phi'(Wz')\rangle`, the Hadamard product of two small Gram blocks.

    Args:
        Z: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        Z2: `(m, d)` inputs, or None for `Z` itself.
        derivative: phi', a name of :func:`hermite.resolve` (such as `"h0+h3"`, or `"step"`
            for ReLU), or a callable on torch tensors.
        width: number of hidden units k, or infinity for the limit.
        seed: seed of W, see :func:`random_weights`; without effect at infinite width.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: as in :func:`random_feature_blocks` and :func:`infinite_width`.

    Source: Bombari & Mondelli 2024, Section 6; Jacot et al. 2018.

    >>> z = torch.eye(2, dtype=torch.float64) * 2**0.5          # unit variance, orthogonal
    >>> ntk_two_layer(z, derivative="step", width=math.inf).round(decimals=4).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if width == math.inf:
        slopes = infinite_width(Z, Z2, activation=derivative)
    else:
        whole = int(width) if float(width).is_integer() else width  # others are refused
        slopes = _slopes_gram(Z, Z2, derivative, whole, seed)
    slopes.mul_(inner_products(Z) if Z2 is None else Z @ Z2.T).div_(Z.shape[1])
    check_finite(slopes, "the kernel holds")
    return slopes


def _slopes_gram(
    Z: torch.Tensor, Z2: torch.Tensor | None, derivative: str | Activation, width: float, seed: int
) -> torch.Tensor:
    """Gram block of phi'(Wz) / sqrt(k); unlike random features, few neurons on wide inputs."""
    check_inputs(Z, *([] if Z2 is None else [Z2]))
    gram = Z.new_zeros(len(Z), len(Z if Z2 is None else Z2))
    for W in weight_chunks(Z, width, seed):
        W.div_(math.sqrt(Z.shape[1]))
        left = applied(derivative, Z @ W.T)
        gram.addmm_(left, (left if Z2 is None else applied(derivative, Z2 @ W.T)).T)
    gram.div_(width)
    return mirrored(gram) if Z2 is None else gram
