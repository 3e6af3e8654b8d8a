"""What the cross-examinations have in common: even and odd digits, patterns, one hidden layer.

Patterns are added without clipping, so that a pattern has one norm, whatever the image.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import data, models

SOURCE = "even and odd digits, mnist5k"
SHAPES = ("corner", "centre", "blob", "noise", "inner noise", "outer noise")
SIDE = 28


class Draw(NamedTuple):
    """Digits as `(n, 784)` float64 in [0, 1] and labels `(n,)`: -1 even, +1 odd; others to ask."""

    train: Tensor
    labels: Tensor
    fresh: Tensor
    fresh_labels: Tensor


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    found = data.load("mnist5k")
    return found.images, 2.0 * (found.labels % 2).double() - 1


def images(samples: int, trial: int) -> tuple[Tensor, Tensor]:
    """This many digits, uint8 `(n, 1, 28, 28)`, in a random order of the trial, and labels.

    Raises:
        ValueError: more than there are.
    """
    found, labels = _digits()
    if not 0 < samples <= len(found):
        raise ValueError(
            f"samples is {samples}: allowed is 1 to {len(found)}, the digits there are"
        )
    rows = torch.randperm(len(found), generator=torch.Generator().manual_seed(trial))[:samples]
    return found[rows], labels[rows]


def draw(samples: int, fresh: int, trial: int) -> Draw:
    """Training images and as many others as asked for, drawn anew in every trial."""
    found, labels = images(samples + fresh, trial)
    flat = found.flatten(1).double() / 255
    return Draw(flat[:samples], labels[:samples], flat[samples:], labels[samples:])


def pattern(shape: str, norm: float, trial: int) -> Tensor:
    """`(784,)`: a pattern of this norm; noise is drawn anew in every trial.

    Raises:
        ValueError: a shape that is not in `SHAPES`.

    >>> v = pattern("corner", 2.0, trial=0)
    >>> float(v.norm()), int((v > 0).sum())
    (2.0, 25)
    """
    v = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    noise = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(trial)).double()
    at = torch.arange(SIDE).double() - (SIDE - 1) / 2
    inside = (at.abs()[:, None] < 6) & (at.abs() < 6)
    if shape == "corner":
        v[:5, :5] = 1
    elif shape == "centre":
        v[11:16, 11:16] = 1
    elif shape == "blob":
        v = torch.exp(-(at[:, None] ** 2 + at**2) / 50)
    elif shape in ("noise", "inner noise", "outer noise"):
        where = {"noise": torch.ones_like(inside), "inner noise": inside, "outer noise": ~inside}
        v[where[shape]] = noise[where[shape]]
    else:
        raise ValueError(f"shape is {shape!r}: allowed are {', '.join(map(repr, SHAPES))}")
    return norm * v.flatten() / v.norm()


def carriers(labels: Tensor, count: int, trial: int) -> Tensor:
    """Rows of the odd images that carry a pattern: the first `count` of an order of the trial."""
    return data.spurious_rows(labels.long(), 1, count, trial)


def network(inputs: int, width: int, seed: int) -> nn.Module:
    """One hidden layer and one output, float32."""
    return models.fully_connected(inputs, (width,), 1, seed=seed)


def tangent_kernel(net: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    r"""Tangent kernel of :func:`network`, `(n, m)` float64, from inputs `(n, d)` and `(m, d)`.

    .. math:: (x\cdot x' + 1)\,\sum_u a_u^2\,\phi'(h_u)\phi'(h'_u) + \phi(h)\cdot\phi(h') + 1

    Source: the product rule; the same as :func:`helpers.kernels.empirical_ntk`, which makes the
    gradients.
    """
    first, last = (layer for layer in net if isinstance(layer, nn.Linear))
    W, b, a = (p.detach().double() for p in (first.weight, first.bias, last.weight[0]))
    before = [x.double() @ W.T + b for x in (left, right)]
    slopes = [(h > 0).double() for h in before]
    units = [h.relu() for h in before]
    inner = left.double() @ right.double().T + 1
    return inner * ((slopes[0] * a**2) @ slopes[1].T) + units[0] @ units[1].T + 1
