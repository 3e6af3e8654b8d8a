"""Gram blocks of random features, streamed in chunks of neurons.

Source: Rahimi & Recht 2007; the scaling of the weights is that of Bombari & Mondelli 2024.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from helpers.errors import check_whole
from helpers.kernels.hermite import Activation, applied
from helpers.kernels.inputs import check_finite, check_inputs, mirrored, symmetric_tile

# Neurons that share one random stream: weights do not depend on how many are held at a time.
STREAM = 256


def random_feature_blocks(
    Z: torch.Tensor,
    *queries: torch.Tensor,
    activation: str | Activation,
    width: int,
    seed: int,
    chunk: int = 1024,
) -> list[torch.Tensor]:
    r"""Gram blocks :math:`\phi(Z_iV^\top)\phi(ZV^\top)^\top / k` from one pass over the features.

    Args:
        Z: `(n, d)` training inputs, float32 or float64, on any device; results have their dtype.
        queries: any number of `(m_i, d)` inputs at which a model will be evaluated.
        activation: a name of :func:`hermite.resolve`, or a callable on torch tensors.
        width: number of neurons k.
        seed: seed of V. Same seed, same device, same dtype: same features, whatever `chunk`.
        chunk: neurons held in memory at a time, rounded up to a multiple of 256.

    Returns:
        `[K, K_1, K_2, …]`: the symmetric `(n, n)` block and one `(m_i, n)` block for each query.

    Raises:
        ValueError: shapes, dtypes or values that no kernel can be made of, a width or a chunk that
            is no whole number from 1 on, or an activation whose values are not finite.

    Source: Rahimi & Recht 2007; Bombari & Mondelli 2024, Section 5.

    >>> z = torch.eye(2, dtype=torch.float64)
    >>> (K,) = random_feature_blocks(z, activation="linear", width=200_000, seed=0)
    >>> K.round(decimals=2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    check_inputs(Z, *queries)
    n, rows = len(Z), torch.cat([Z, *queries])
    gram = Z.new_zeros(len(rows), n)
    # The training block is symmetric: below its diagonal tiles nothing need be computed.
    tile = symmetric_tile(n)
    for features in _features(rows, activation, width, seed, chunk):
        for start in range(0, n, tile):
            stop = min(start + tile, n)
            gram[:stop, start:stop].addmm_(features[:stop], features[start:stop].T)
        if len(rows) > n:
            gram[n:].addmm_(features[n:], features[:n].T)
    gram.div_(width)
    check_finite(gram, "the kernel holds")
    train = mirrored(gram[:n])
    return [train, *gram[n:].split([len(q) for q in queries])]


def _features(
    rows: torch.Tensor, activation: str | Activation, width: int, seed: int, chunk: int
) -> Iterator[torch.Tensor]:
    """Feature matrices `(len(rows), c)`, chunk by chunk, until `width` neurons are used up."""
    rows, features = rows / math.sqrt(rows.shape[1]), None
    for weights in weight_chunks(rows, width, seed, chunk):
        features = rows.new_empty(len(rows), len(weights)) if features is None else features
        yield applied(activation, torch.mm(rows, weights.T, out=features[:, : len(weights)]))


def weight_chunks(
    like: torch.Tensor, width: int, seed: int, chunk: int = 1024
) -> Iterator[torch.Tensor]:
    """N(0, 1) weights `(c, d)` of `width` neurons on inputs `like` `(n, d)`, in one buffer.

    Raises:
        ValueError: a width or a chunk that is no whole number from 1 on.
    """
    check_whole(width=width, chunk=chunk)
    chunk = min(-(-chunk // STREAM) * STREAM, width)
    buffer = like.new_empty(chunk, like.shape[1])
    for start in range(0, width, chunk):
        weights = buffer[: min(chunk, width - start)]
        draw_weights(weights, start, seed)
        yield weights


def draw_weights(weights: torch.Tensor, first: int, seed: int) -> None:
    """Fill rows with the N(0, 1) weights of neurons `first`, …; `first` is a multiple of 256."""

    def stream(start: int) -> None:
        block = weights[start : start + STREAM]
        block.normal_(generator=_generator(seed, first + start, weights.device))

    # One stream draws on one core only: two at a time keep a small machine busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(stream, range(0, len(weights), STREAM)))


def random_weights(
    width: int,
    dim: int,
    *,
    seed: int,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """The weights V or W that the kernels of this module use: `(width, dim)`, N(0, 1/dim).

    For building the network itself, or its features, next to its kernel.

    Raises:
        ValueError: a width or a dim that is no whole number from 1 on, a dtype that is not real.

    >>> W = random_weights(1_000, 4, seed=0)
    >>> tuple(W.shape), round(float(W.var()), 2)
    ((1000, 4), 0.25)
    """
    check_whole(width=width, dim=dim)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}: normal numbers need a floating one")
    weights = torch.empty(width, dim, dtype=dtype, device=device)
    draw_weights(weights, 0, seed)
    return weights.div_(math.sqrt(dim))


def _generator(seed: int, block: int, device: torch.device) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device=device).manual_seed(state)


def check_width(samples: int, width: float) -> None:
    """A feature Gram matrix of N samples has rank at most k: interpolation needs N <= k.

    Raises:
        ValueError: `samples` exceeds `width`.

    >>> check_width(20, 10)
    Traceback (most recent call last):
    ValueError: 20 training samples but only 10 features: the kernel is singular; \
interpolation needs at least as many features as samples
    """
    if not samples <= width:
        raise ValueError(
            f"{samples} training samples but only {width} features: the kernel is singular; "
            "interpolation needs at least as many features as samples"
        )
