"""The limit of random features as the width grows: Mehler's series and closed forms."""

import math

import torch

from helpers.kernels.hermite import Activation, basis_at_nodes, quadrature, values_of
from helpers.kernels.inputs import check_inputs, cosines, directions

_SERIES_DEGREE = 60


def infinite_width(
    Z: torch.Tensor, Z2: torch.Tensor | None = None, *, activation: str | Activation
) -> torch.Tensor:
    r"""The limit :math:`E_v[\phi(v^\top z)\phi(v^\top z')]`, :math:`v \sim N(0, I/d)`.

    By Mehler's formula the expectation is :math:`\sum_l c_l(s)\, c_l(s')\, r^l` with
    :math:`c_l(s) = E[\phi(st)h_l(t)]`, :math:`s = |z|/\sqrt d` and r the cosine of the angle. ReLU
    and step use the arc-cosine closed forms; other activations the series up to degree 60, whose
    remainder at r = 1 and r = -1 is known exactly and is added there. At z = 0 every feature is
    :math:`\phi(0)`, which is 1/2 for `"step"`.

    Args:
        Z: `(n, d)` inputs, float32 or float64; the result has their dtype.
        Z2: `(m, d)` inputs, or None for `Z` itself.
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: as in :func:`random_feature_blocks`, norms whose squares over- or underflow, or
            an activation whose series has not converged at these norms (more than 1e-3 of its
            weight beyond degree 60).

    Source: Mehler 1866 (O'Donnell 2014, Section 11.2); Cho & Saul 2009.

    >>> z = torch.eye(2, dtype=torch.float64) * 2**0.5          # unit variance, orthogonal
    >>> infinite_width(z, activation="relu").round(decimals=4).tolist()     # 1/2 and 1/(2 pi)
    [[0.5, 0.1592], [0.1592, 0.5]]
    """
    Z2 = Z if Z2 is None else Z2
    check_inputs(Z, Z2)
    scale, scale2 = (z.norm(dim=1) / math.sqrt(z.shape[1]) for z in (Z, Z2))
    cosine = cosines(directions(Z), directions(Z2)).clamp_(-1, 1)
    if activation == "relu":
        angle = torch.acos(cosine)
        shape = torch.sin(angle) + (math.pi - angle) * cosine
        return shape * scale[:, None] * scale2 / (2 * math.pi)
    if activation == "step":
        return 0.5 - torch.acos(cosine) / (2 * math.pi)
    return _mehler(cosine, scale, scale2, activation)


def _mehler(
    cosine: torch.Tensor, scale: torch.Tensor, scale2: torch.Tensor, activation: str | Activation
) -> torch.Tensor:
    left, moment, rest = _scaled_coefficients(scale, activation)
    right, _, rest2 = _scaled_coefficients(scale2, activation)
    gram = torch.zeros_like(cosine)
    for order in range(_SERIES_DEGREE, -1, -1):
        gram.mul_(cosine).addr_(left[order].to(cosine), right[order].to(cosine))
    worst = float((rest[0] / moment.clamp(min=1e-300)).max())
    if worst > 1e-3:
        raise ValueError(
            f"activation {activation!r} keeps {worst:.1%} of its weight beyond Hermite degree "
            f"{_SERIES_DEGREE} at input norms up to {float(scale.max()):.3g} sqrt(d): rescale the "
            "inputs to norms near sqrt(d), or use a finite width"
        )
    for end, own, other in zip((1, -1), rest, rest2, strict=True):
        beyond = torch.sqrt((own[:, None] * other).clamp(min=0)) * own.sign()[:, None]
        gram = gram + torch.where(cosine == end, beyond.to(cosine), torch.zeros_like(gram))
    return gram


def _scaled_coefficients(
    scale: torch.Tensor, activation: str | Activation
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """What the series needs of t -> activation(scale t), of n scales.

    Coefficients `(degree + 1, n)`, second moments `(n,)`, and what the series lacks of those and of
    the products at t and -t.
    """
    nodes, weights = quadrature()
    scales, position = torch.unique(scale.double().cpu(), return_inverse=True)
    values = values_of(activation, scales[:, None] * nodes)
    table = ((basis_at_nodes(_SERIES_DEGREE) * weights) @ values.T)[:, position]
    moment = (values.square() @ weights)[position]
    opposite = ((values * values.flip(1)) @ weights)[position]
    even, odd = (table[first::2].square().sum(0) for first in (0, 1))
    return table, moment, ((moment - table.square().sum(0)).clamp(min=0), opposite - even + odd)
