r"""Kernels of random features: finite width, streamed, and the limit of infinite width.

The random-features map is :math:`\varphi_{RF}(z) = \phi(Vz)` with :math:`V \in R^{k \times d}`
and independent entries :math:`V_{ij} \sim N(0, 1/d)` (Bombari & Mondelli 2024, Section 5).
Everything here returns Gram blocks divided by the width :math:`k`, so that the limit
:math:`k \to \infty` exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from helpers.hermite import Activation, basis, quadrature, resolve

# Neurons that share one random stream: weights do not depend on how many are held at a time.
_STREAM = 256
_SERIES_DEGREE = 60


def random_features(
    Z: torch.Tensor,
    Z2: torch.Tensor | None = None,
    *,
    activation: str | Activation,
    width: int,
    seed: int,
    chunk: int = 1024,
) -> torch.Tensor:
    r"""Gram block :math:`\phi(ZV^\top)\phi(Z_2V^\top)^\top / k` of `width` random features.

    Args:
        Z: `(n, d)` inputs, float32 or float64, on any device; the result has their dtype.
        Z2: `(m, d)` inputs, or None for the symmetric block of `Z` with itself.
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.
        width: number of neurons k.
        seed: seed of V. Same seed, same device, same dtype: same features, whatever `chunk`.
        chunk: neurons held in memory at a time, rounded up to a multiple of 256.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: shapes, dtypes or values that no kernel can be made of.

    >>> z = torch.eye(2, dtype=torch.float64)
    >>> random_features(z, activation="linear", width=200_000, seed=0).round(decimals=2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if Z2 is None:
        return random_feature_blocks(Z, activation=activation, width=width, seed=seed, chunk=chunk)[
            0
        ]
    _check_inputs(Z, Z2)
    gram = Z.new_zeros(len(Z), len(Z2))
    stacked = torch.cat([Z, Z2])
    for features in _features(stacked, activation, width, seed, chunk):
        gram.addmm_(features[: len(Z)], features[len(Z) :].T)
    return gram.div_(width)


def random_feature_blocks(
    Z: torch.Tensor,
    *queries: torch.Tensor,
    activation: str | Activation,
    width: int,
    seed: int,
    chunk: int = 1024,
) -> list[torch.Tensor]:
    """All Gram blocks that a regression on `Z` needs, from one pass over the features.

    Args:
        Z: `(n, d)` training inputs.
        queries: any number of `(m_i, d)` inputs at which the model will be evaluated.
        activation, width, seed, chunk: as in :func:`random_features`.

    Returns:
        `[K, K_1, K_2, …]`: the symmetric `(n, n)` block and one `(m_i, n)` block for each query.

    Raises:
        ValueError: as in :func:`random_features`.
    """
    _check_inputs(Z, *queries)
    n, rows = len(Z), torch.cat([Z, *queries])
    gram = Z.new_zeros(len(rows), n)
    # The training block is symmetric: below its diagonal tiles nothing need be computed.
    tile = max(128, -(-n // 4))
    for features in _features(rows, activation, width, seed, chunk):
        for start in range(0, n, tile):
            stop = min(start + tile, n)
            gram[:stop, start:stop].addmm_(features[:stop], features[start:stop].T)
        if len(rows) > n:
            gram[n:].addmm_(features[n:], features[:n].T)
    gram.div_(width)
    train = gram[:n].triu()
    train += train.triu(1).T.clone()
    return [train, *gram[n:].split([len(q) for q in queries])]


def _features(
    rows: torch.Tensor, activation: str | Activation, width: int, seed: int, chunk: int
) -> Iterator[torch.Tensor]:
    """Feature matrices `(len(rows), c)`, chunk by chunk, until `width` neurons are used up."""
    if width < 1 or chunk < 1:
        raise ValueError(f"width is {width} and chunk is {chunk}: both must be at least 1")
    phi = resolve(activation)
    chunk = min(-(-chunk // _STREAM) * _STREAM, width)
    rows = rows / math.sqrt(rows.shape[1])
    weights = rows.new_empty(chunk, rows.shape[1])
    features = rows.new_empty(len(rows), chunk)

    def draw(first: int) -> None:
        block = weights[first % chunk :][: min(_STREAM, width - first)]
        block.normal_(generator=_generator(seed, first, rows.device))

    # One stream draws on one core only: two at a time keep a small machine busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, width, chunk):
            stop = min(start + chunk, width)
            list(pool.map(draw, range(start, stop, _STREAM)))
            size = stop - start
            torch.mm(rows, weights[:size].T, out=features[:, :size])
            yield phi(features[:, :size])


def _generator(seed: int, block: int, device: torch.device) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device=device).manual_seed(state)


def _check_inputs(*inputs: torch.Tensor) -> None:
    first = inputs[0]
    for Z in inputs:
        if Z.ndim != 2 or Z.shape[1] != first.shape[1] or len(Z) == 0:
            shapes = [tuple(z.shape) for z in inputs]
            raise ValueError(f"inputs have shapes {shapes}: expected non-empty (n, d), the same d")
        if Z.dtype not in (torch.float32, torch.float64) or Z.dtype != first.dtype:
            kinds = [str(z.dtype) for z in inputs]
            raise ValueError(f"inputs have dtypes {kinds}: expected all float32 or all float64")
        if not torch.isfinite(Z).all():
            raise ValueError("inputs hold values that are not finite (NaN or infinity)")


def infinite_width(
    Z: torch.Tensor, Z2: torch.Tensor | None = None, *, activation: str | Activation
) -> torch.Tensor:
    r"""The limit :math:`E_v[\phi(v^\top z)\phi(v^\top z')]`, :math:`v \sim N(0, I/d)`.

    By Mehler's formula the expectation is :math:`\sum_l c_l(s)\, c_l(s')\, r^l` with
    :math:`c_l(s) = E[\phi(st)h_l(t)]`, :math:`s = |z|/\sqrt d` and r the cosine of the
    angle. ReLU and step use the arc-cosine closed forms (Cho & Saul 2009); other activations the
    series up to degree 60, whose remainder at r = 1 is known exactly and is added there.

    Args:
        Z: `(n, d)` inputs, float32 or float64; the result has their dtype.
        Z2: `(m, d)` inputs, or None for `Z` itself.
        activation: a name of :func:`helpers.hermite.resolve`, or a callable on torch tensors.

    Returns:
        `(n, m)` tensor.

    Raises:
        ValueError: as in :func:`random_features`, or an activation whose series has not converged
            at these norms (more than 1e-3 of its weight beyond degree 60).

    >>> z = torch.eye(2, dtype=torch.float64) * 2**0.5          # unit variance, orthogonal
    >>> infinite_width(z, activation="relu").round(decimals=4).tolist()     # 1/2 and 1/(2 pi)
    [[0.5, 0.1592], [0.1592, 0.5]]
    """
    symmetric = Z2 is None
    Z2 = Z if symmetric else Z2
    _check_inputs(Z, Z2)
    scale, scale2 = (z.norm(dim=1) / math.sqrt(z.shape[1]) for z in (Z, Z2))
    cosine = _directions(Z) @ _directions(Z2).T
    if symmetric:
        cosine.fill_diagonal_(1)
    cosine.clamp_(-1, 1)
    if activation == "relu":
        angle = torch.acos(cosine)
        shape = torch.sin(angle) + (math.pi - angle) * cosine
        return shape * scale[:, None] * scale2 / (2 * math.pi)
    if activation == "step":
        return 0.5 - torch.acos(cosine) / (2 * math.pi)
    return _mehler(cosine, scale, scale2, activation)


def _directions(Z: torch.Tensor) -> torch.Tensor:
    norms = Z.norm(dim=1, keepdim=True)
    return Z / torch.where(norms > 0, norms, torch.ones_like(norms))


def _mehler(
    cosine: torch.Tensor, scale: torch.Tensor, scale2: torch.Tensor, activation: str | Activation
) -> torch.Tensor:
    left, moment = _scaled_coefficients(scale, activation)
    right, moment2 = _scaled_coefficients(scale2, activation)
    gram = torch.zeros_like(cosine)
    for order in range(_SERIES_DEGREE, -1, -1):
        gram.mul_(cosine).addr_(left[order].to(cosine), right[order].to(cosine))
    missing = (moment - left.square().sum(0)).clamp(min=0)
    worst = float((missing / moment.clamp(min=1e-300)).max())
    if worst > 1e-3:
        raise ValueError(
            f"activation {activation!r} keeps {worst:.1%} of its weight beyond Hermite degree "
            f"{_SERIES_DEGREE} at input norms up to {float(scale.max()):.3g} sqrt(d): rescale the "
            "inputs to norms near sqrt(d), or use a finite width"
        )
    same = cosine == 1
    missing2 = (moment2 - right.square().sum(0)).clamp(min=0)
    rest = torch.sqrt(missing[:, None] * missing2).to(cosine)
    return gram + torch.where(same, rest, torch.zeros_like(gram))


def _scaled_coefficients(
    scale: torch.Tensor, activation: str | Activation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients `(degree + 1, n)` and second moments `(n,)` of t -> activation(scale t)."""
    nodes, weights = quadrature()
    scales, position = torch.unique(scale.double().cpu(), return_inverse=True)
    values = resolve(activation)(scales[:, None] * nodes)
    table = (basis(_SERIES_DEGREE, nodes) * weights) @ values.T
    return table[:, position], (values.square() @ weights)[position]


def check_width(samples: int, width: float) -> None:
    """A feature Gram matrix of N samples has rank at most k: interpolation needs N <= k.

    Raises:
        ValueError: `samples` exceeds `width`.

    >>> check_width(20, 10)
    Traceback (most recent call last):
    ValueError: 20 training samples but only 10 features: the kernel is singular; \
interpolation needs at least as many features as samples
    """
    if samples > width:
        raise ValueError(
            f"{samples} training samples but only {width} features: the kernel is singular; "
            "interpolation needs at least as many features as samples"
        )
