"""How long the pipelines take, next to the obvious ways and to the machine's own arithmetic.

Each way runs in a process of its own, so that its peak memory can be read, and all ways of a trial
run one after the other: their ratios mean something even where the machine's speed drifts.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from helpers import data, kernels, probes
from helpers.experiments.performance.clock import TIMED, apart, peak, timed
from helpers.kernels import alignment, hermite
from helpers.sweep import Call, Cell, experiment, grid, pick

_CHUNK = 1_024


def task(samples: int, dim: int, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Training set, spurious queries and test set of the synthetic task, and two label vectors."""
    draw = torch.Generator().manual_seed(seed)
    train, test, other = (data.gaussian_two_block(samples, dim, 0.5, seed=draw) for _ in range(3))
    direction = torch.randn(train.x.shape[1], generator=draw)
    labels = [data.linear_labels(block.x, direction) for block in (train, test)]
    return [train.z, torch.cat([other.x, train.y], 1), test.z], labels


def streamed(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """This book's way: features in chunks, three Gram blocks, one float64 solve."""
    inputs, (g, g_test) = task(samples, dim, seed)
    K, K_spurious, K_test = kernels.random_feature_blocks(
        *inputs, activation="phi4", width=width, seed=seed, chunk=_CHUNK
    )
    model = alignment.interpolate(K)
    return [
        probes.sign_accuracy(model.predict(block, g), labels.double())
        for block, labels in ((K_spurious, g), (K_test, g_test))
    ]


def unlimited(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """The kernel of infinite width: no weights, no features."""
    (Z, *queries), (g, g_test) = task(samples, dim, seed)
    Z = Z.double()
    model = alignment.interpolate(kernels.infinite_width(Z, activation="phi4"))
    return [
        probes.sign_accuracy(
            model.predict(kernels.infinite_width(q.double(), Z, activation="phi4"), g),
            labels.double(),
        )
        for q, labels in zip(queries, (g, g_test), strict=True)
    ]


def materialised(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """Vectorised numpy in single precision: all features in memory, pseudo-inverse."""
    inputs, labels = task(samples, dim, seed)
    g, g_test = (label.numpy() for label in labels)
    V = np.random.default_rng(seed).standard_normal((width, dim), dtype=np.float32) / math.sqrt(dim)
    features = []
    for z in inputs:
        t = z.numpy() @ V.T
        features.append(t + (t**4 - 6 * t**2 + 3) / math.sqrt(24))
    theta = np.linalg.pinv(features[0]) @ g
    return [
        float((labels * (block @ theta) > 0).mean())
        for block, labels in zip(features[1:], (g, g_test), strict=True)
    ]


def elementwise(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """The released way, plainly: a Python function on every number, and loops that count hits.

    The function takes the square root of 24 anew each time; double precision, a pseudo-inverse.
    """
    inputs, labels = task(samples, dim, seed)
    g, g_test = (label.numpy() for label in labels)
    V = np.random.default_rng(seed).standard_normal((width, dim)) / math.sqrt(dim)

    def phi4(t: float) -> float:
        return t + (t**4 - 6 * t**2 + 3) / np.sqrt(24)

    features = [np.vectorize(phi4)(z.numpy() @ V.T) for z in inputs]
    theta = np.linalg.pinv(features[0]) @ g
    found = []
    for block, truth in zip(features[1:], (g, g_test), strict=True):
        hits = 0
        for i in range(samples):
            if block[i] @ theta * truth[i] > 0:
                hits += 1
        found.append(hits / samples)
    return found


def products(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """Nothing but the matrix products of `streamed`: same shapes, same precision, same chunks."""
    inputs, _ = task(samples, dim, seed)
    rows = torch.cat(inputs)
    weights, features = torch.randn(_CHUNK, dim), torch.empty(len(rows), _CHUNK)
    gram = torch.zeros(len(rows), samples)
    tile = kernels.symmetric_tile(samples)
    for _ in range(round(width / _CHUNK)):
        torch.mm(rows, weights.T, out=features)
        for start in range(0, samples, tile):
            stop = min(start + tile, samples)
            gram[:stop, start:stop].addmm_(features[:stop], features[start:stop].T)
        gram[samples:].addmm_(features[samples:], features[:samples].T)
    return [0.0, 0.0]


def operations(samples: int, dim: int, width: int) -> float:
    """Floating-point operations of `products`."""
    tile = kernels.symmetric_tile(samples)
    starts = range(0, samples, tile)
    triangle = sum(min(s + tile, samples) * (min(s + tile, samples) - s) for s in starts)
    return 2.0 * width * (3 * samples * dim + 2 * samples**2 + triangle)


WAYS = {
    "products": products,
    "streamed": streamed,
    "infinite": unlimited,
    "materialised": materialised,
    "elementwise": elementwise,
}


def _measured(way: Callable[..., list[float]], arguments: dict[str, int]) -> tuple[float, ...]:
    way(**{**arguments, "samples": 8, "width": 64})  # libraries loaded, threads started
    seconds, accuracies = timed(partial(way, **arguments))
    return seconds, peak(), *accuracies


def _rf_cells(profile: str) -> list[Cell]:
    full = [(200, 1_000, 100_000, True), (1_000, 1_000, 100_000, False)]
    shapes, trials = pick(profile, ([(50, 100, 2_048, True)], 1), (full, 3), (full, 5))
    return [
        dict(samples=n, dim=d, width=k, elementwise=slow, trial=trial)
        for (n, d, k, slow), trial in itertools.product(shapes, range(trials))
    ]


@experiment("rf_performance", cells=_rf_cells, **TIMED)
def rf_performance(call: Call) -> dict[str, float]:
    """Seconds, peak memory (GiB, whole process) and both accuracies of every way, in one run."""
    shape = {"samples": call.samples, "dim": call.dim, "width": call.width}
    found: dict[str, float] = {"operations": operations(**shape)}
    for name, way in WAYS.items():
        row: tuple[float, ...] = (math.nan,) * 4
        if name != "elementwise" or call.elementwise:
            row = apart(_measured, way, shape | {"seed": call.trial})
        columns = ("seconds", "memory", "spurious", "test")
        found |= {f"{name}_{column}": value for column, value in zip(columns, row, strict=True)}
    return found


# -- the NTK of a two-layer network ---------------------------------------------------------------


def hadamard(Z: torch.Tensor, width: int, seed: int) -> torch.Tensor:
    """This book's way: the product of two small Gram blocks."""
    return kernels.ntk_two_layer(Z, derivative="h0+h3", width=width, seed=seed)


def kronecker(Z: torch.Tensor, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The released way: all features of all samples in memory, and their pseudo-inverse."""
    samples, dim = Z.shape
    W = kernels.random_weights(width, dim, seed=seed)
    slopes = hermite.resolve("h0+h3")(Z @ W.T)
    features = np.einsum("nd,nk->ndk", Z.numpy(), slopes.numpy()).reshape(samples, dim * width)
    return features, np.linalg.pinv(features)


def _seconds(way: Callable[[], object], repeats: int) -> float:
    """Mean time of one call, after one that starts threads and maps memory."""
    way()
    return timed(way, repeats)[0] / repeats


def _ntk_cells(profile: str) -> list[Cell]:
    samples, few, dim = (100, 40, 48) if profile == "smoke" else (1_000, 400, 2_304)
    return grid(samples=samples, materialised=few, dim=dim, width=100,
                trial=range(pick(profile, 1, 3, 5)))  # fmt: skip


@experiment("ntk_performance", cells=_ntk_cells, **TIMED)
def ntk_performance(call: Call) -> dict[str, float]:
    """Seconds of the NTK Gram block by its identity, and through features; how far they agree.

    The features and their pseudo-inverse are for the first `materialised` samples only.
    """
    dim, width, trial = call.dim, call.width, call.trial
    found: dict[str, float] = {}
    Z = torch.randn(call.samples, dim, generator=torch.Generator().manual_seed(trial)).double()
    for name, inputs in (("float32", Z.float()), ("float64", Z)):
        found[f"hadamard_{name}"] = _seconds(partial(hadamard, inputs, width, trial), 10)
        found[f"product_{name}"] = _seconds(partial(torch.mm, inputs, inputs.T), 10)
    few = Z[: call.materialised]
    found["kronecker"], (features, _) = timed(partial(kronecker, few, width, trial))
    explicit = torch.from_numpy(features @ features.T) / (dim * width)
    error = (explicit - hadamard(few, width, trial)).abs().max() / explicit.abs().max()
    return found | {"difference": float(error)}
