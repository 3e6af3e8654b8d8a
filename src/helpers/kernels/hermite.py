r"""Activations and their Hermite coefficients.

Every law of Part I is written in the coefficients

.. math:: \mu_l = \mathbb{E}[\phi(t)\, h_l(t)], \qquad t \sim N(0, 1),

in the probabilists' Hermite basis :math:`h_l = He_l / \sqrt{l!}`, which is orthonormal under
the standard Gaussian (O'Donnell 2014, *Analysis of Boolean Functions*, §11.2; the convention
of Bombari & Mondelli 2024).
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from helpers.errors import check_whole

Activation = Callable[[torch.Tensor], torch.Tensor]

_MIXTURE = re.compile(r"h\d+(\+h\d+)*")

# |t| beyond which the Gaussian weight is below 1e-86: nothing of any integrand survives there.
_REACH = 20.0
_PANELS = 80
_NODES_PER_PANEL = 20

_HIGHEST = 60  # of a named polynomial: beyond, its powers of t cancel each other's digits


def basis(degree: int, t: torch.Tensor) -> torch.Tensor:
    r"""Normalised Hermite polynomials :math:`h_0, …, h_{degree}` at `t`.

    Args:
        degree: largest degree, at least 0.
        t: tensor of any shape.

    Returns:
        Tensor of shape `(degree + 1, *t.shape)`.

    Raises:
        ValueError: a negative degree.

    Source: the recurrence :math:`\sqrt{l+1}\, h_{l+1} = t\, h_l - \sqrt{l}\, h_{l-1}`.

    >>> float(basis(2, torch.tensor([2.0]))[2] * math.sqrt(2))      # t^2 - 1
    3.0
    """
    check_whole(0, degree=degree)
    values = [torch.ones_like(t), t]
    for order in range(1, degree):
        values.append((t * values[-1] - math.sqrt(order) * values[-2]) / math.sqrt(order + 1))
    return torch.stack(values[: degree + 1])


def _step(t: torch.Tensor) -> torch.Tensor:
    """The derivative of ReLU, with the value 1/2 at the jump."""
    return torch.heaviside(t, torch.full((), 0.5, dtype=t.dtype, device=t.device))


@lru_cache
def _mixture(*degrees: int) -> Activation:
    """The sum of normalised Hermite polynomials as one Horner scheme: few passes over memory."""
    power = np.zeros(max(degrees) + 1)
    for degree in degrees:
        series = np.zeros(degree + 1)
        series[degree] = 1 / math.sqrt(math.factorial(degree))
        power[: degree + 1] += np.polynomial.hermite_e.herme2poly(series)

    def polynomial(t: torch.Tensor) -> torch.Tensor:
        if len(power) == 1:
            return torch.full_like(t, power[0])
        value = t * power[-1]
        for coefficient in power[-2:0:-1]:
            value = value.add_(coefficient).mul_(t) if coefficient else value.mul_(t)
        return value.add_(power[0])

    return polynomial


_NAMED: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "step": _step,
    "linear": lambda t: t.clone(),
    "phi2": _mixture(1, 2),
    "phi4": _mixture(1, 4),
}


def resolve(activation: str | Activation) -> Activation:
    """The function behind a name; a callable is returned as it is.

    Names are `relu`, `tanh`, `step` (derivative of ReLU), `linear`, `phi2` = h1+h2,
    `phi4` = h1+h4, and any sum of normalised Hermite polynomials written like `h0+h3`, of degrees
    up to 60.

    Raises:
        ValueError: the name is none of these.

    >>> resolve("phi2") is resolve("h1+h2")
    True
    >>> resolve("swish")
    Traceback (most recent call last):
    ValueError: unknown activation 'swish': expected one of linear, phi2, phi4, relu, step, tanh, \
a sum like 'h1+h4', or a callable on torch tensors
    """
    if callable(activation):
        return activation
    if activation in _NAMED:
        return _NAMED[activation]
    if isinstance(activation, str) and _MIXTURE.fullmatch(activation):
        degrees = [int(term[1:]) for term in activation.split("+")]
        if max(degrees) > _HIGHEST:
            raise ValueError(f"activation is {activation!r}: degrees are allowed up to {_HIGHEST}")
        return _mixture(*degrees)
    raise ValueError(
        f"unknown activation {activation!r}: expected one of {', '.join(sorted(_NAMED))}, "
        "a sum like 'h1+h4', or a callable on torch tensors"
    )


@lru_cache(maxsize=1)
def quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    r"""Nodes and weights of :math:`\int f(t)\, e^{-t^2/2} / \sqrt{2\pi}\, dt`.

    Gauss–Legendre on panels of width 1/2 with the Gaussian in the weights. The classical
    Gauss–Hermite rule is exact for polynomials, but a kink at zero (ReLU) leaves it an error of
    order 1/n; here kinks and jumps at multiples of 1/2 fall on panel ends and cost nothing.

    Returns:
        nodes and weights, float64, both of shape `(1600,)`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES_PER_PANEL)
    edges = np.linspace(-_REACH, _REACH, _PANELS + 1)
    half = (edges[1] - edges[0]) / 2
    t = ((edges[:-1] + half)[:, None] + half * nodes).ravel()
    w = np.tile(half * weights, _PANELS) * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(t), torch.from_numpy(w)


@lru_cache(maxsize=4)
def basis_at_nodes(degree: int) -> torch.Tensor:
    """:func:`basis` at the nodes of :func:`quadrature`: `(degree + 1, 1600)`, not to be changed."""
    return basis(degree, quadrature()[0])


def coefficients(activation: str | Activation, degree: int) -> np.ndarray:
    r"""Hermite coefficients :math:`\mu_0, …, \mu_{degree}` of an activation.

    Args:
        activation: a name known to :func:`resolve`, or a callable on float64 torch tensors.
        degree: largest degree, between 0 and 100 (beyond, the quadrature would need more nodes).

    Returns:
        float64 array of shape `(degree + 1,)`.

    Raises:
        ValueError: unknown activation, degree out of range, or values that are not finite reals.

    Source: Bombari & Mondelli 2024, Section 3 (definition); see :func:`quadrature`.

    >>> coefficients("relu", 2).round(5).tolist()
    [0.39894, 0.5, 0.28209]
    """
    if not 0 <= degree <= 100:
        raise ValueError(f"degree is {degree}: allowed are 0 to 100")
    nodes, weights = quadrature()
    return (basis_at_nodes(degree) @ (weights * values_of(activation, nodes))).numpy()


def second_moment(activation: str | Activation) -> float:
    r"""The total weight :math:`\mathbb{E}[\phi(t)^2] = \sum_l \mu_l^2`.

    >>> round(second_moment("relu"), 12)
    0.5
    """
    nodes, weights = quadrature()
    return float(weights @ values_of(activation, nodes) ** 2)


def values_of(activation: str | Activation, nodes: torch.Tensor) -> torch.Tensor:
    """An activation at points that it does not change; ValueError where it is not finite."""
    values = applied(activation, nodes.clone())
    if not torch.isfinite(values).all():
        raise ValueError(
            f"activation {activation!r} must give finite reals: there is NaN or infinity"
        )
    return values


def applied(activation: str | Activation, t: torch.Tensor) -> torch.Tensor:
    """An activation of a tensor, which may be changed, in its dtype.

    Raises:
        ValueError: unknown activation, or values that are not reals of the same shape.
    """
    values = resolve(activation)(t)
    if values.shape != t.shape or values.is_complex():
        raise ValueError(
            f"activation {activation!r} must map a real tensor to finite reals of the same shape, "
            f"got shape {tuple(values.shape)} and dtype {values.dtype}"
        )
    return values.to(t.dtype)
