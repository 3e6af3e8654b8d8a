"""How long the pipelines take, next to the obvious ways and to the machine's own arithmetic.

Each way runs in a process of its own, so that its peak memory can be read, and all ways of a trial
run one after the other: their ratios mean something even where the machine's speed drifts.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from helpers import alignment, data, hermite, kernels, metrics
from helpers.sweep import Cell, Experiment, register

_CHUNK = 1_024


def _task(samples: int, dim: int, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Training set, spurious queries and test set of the synthetic task, and two label vectors."""
    draw = torch.Generator().manual_seed(seed)
    train, test, other = (data.gaussian_two_block(samples, dim, 0.5, seed=draw) for _ in range(3))
    direction = torch.randn(train.x.shape[1], generator=draw)
    labels = [data.linear_labels(block.x, direction) for block in (train, test)]
    return [train.z, torch.cat([other.x, train.y], 1), test.z], labels


def streamed(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """This book's way: features in chunks, three Gram blocks, one float64 solve."""
    inputs, (g, g_test) = _task(samples, dim, seed)
    K, K_spurious, K_test = kernels.random_feature_blocks(
        *inputs, activation="phi4", width=width, seed=seed, chunk=_CHUNK
    )
    model = alignment.interpolate(K)
    return [
        metrics.sign_accuracy(model.predict(block, g), labels.double())
        for block, labels in ((K_spurious, g), (K_test, g_test))
    ]


def unlimited(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """The kernel of infinite width: no weights, no features."""
    (Z, *queries), (g, g_test) = _task(samples, dim, seed)
    Z = Z.double()
    model = alignment.interpolate(kernels.infinite_width(Z, activation="phi4"))
    return [
        metrics.sign_accuracy(
            model.predict(kernels.infinite_width(q.double(), Z, activation="phi4"), g),
            labels.double(),
        )
        for q, labels in zip(queries, (g, g_test), strict=True)
    ]


def materialised(samples: int, dim: int, width: int, seed: int) -> list[float]:
    """Vectorised numpy in single precision: all features in memory, pseudo-inverse."""
    inputs, labels = _task(samples, dim, seed)
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
    """The released way, plainly: a Python function on every number, which takes the square root of
    24 anew each time, double precision, a pseudo-inverse, and loops that count hits."""
    inputs, labels = _task(samples, dim, seed)
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
    inputs, _ = _task(samples, dim, seed)
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


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Seconds of so many calls together, and what the last of them returned."""
    started = time.perf_counter()
    for _ in range(repeats):
        found = work()
    return time.perf_counter() - started, found


def peak() -> float:
    """Largest memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _measured(way: Callable[..., list[float]], arguments: dict[str, int]) -> tuple[float, ...]:
    way(**{**arguments, "samples": 8, "width": 64})  # libraries loaded, threads started
    seconds, accuracies = timed(partial(way, **arguments))
    return seconds, peak(), *accuracies


def rf_performance(samples: int, dim: int, width: int, elementwise: bool, trial: int) -> dict:
    """Seconds, peak memory (GiB, whole process) and both accuracies of every way, in one run."""
    arguments = {"samples": samples, "dim": dim, "width": width, "seed": trial}
    found: dict[str, float] = {"operations": operations(samples, dim, width)}
    for name, way in WAYS.items():
        if name == "elementwise" and not elementwise:
            row: tuple[float, ...] = (math.nan,) * 4
        else:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(_measured, (way, arguments))
        columns = ("seconds", "memory", "spurious", "test")
        found |= {f"{name}_{column}": value for column, value in zip(columns, row, strict=True)}
    return found


def rf_performance_cells(profile: str) -> list[Cell]:
    shapes, trials = {
        "smoke": ([(50, 100, 2_048, True)], 1),
        "laptop": ([(200, 1_000, 100_000, True), (1_000, 1_000, 100_000, False)], 3),
        "paper": ([(200, 1_000, 100_000, True), (1_000, 1_000, 100_000, False)], 5),
    }[profile]
    return [
        dict(samples=n, dim=d, width=k, elementwise=slow, trial=trial)
        for (n, d, k, slow), trial in itertools.product(shapes, range(trials))
    ]


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


def ntk_performance(samples: int, materialised: int, dim: int, width: int, trial: int) -> dict:
    """Seconds of the NTK Gram block by its identity at `samples`, and of the way through the
    features and their pseudo-inverse at the smaller `materialised`; and how far they agree."""
    found: dict[str, float] = {}
    Z = torch.randn(samples, dim, generator=torch.Generator().manual_seed(trial)).double()
    for name, inputs in (("float32", Z.float()), ("float64", Z)):
        found[f"hadamard_{name}"] = _seconds(partial(hadamard, inputs, width, trial), 10)
        found[f"product_{name}"] = _seconds(partial(torch.mm, inputs, inputs.T), 10)
    few = Z[:materialised]
    found["kronecker"], (features, _) = timed(partial(kronecker, few, width, trial))
    explicit = torch.from_numpy(features @ features.T) / (dim * width)
    error = (explicit - hadamard(few, width, trial)).abs().max() / explicit.abs().max()
    return found | {"difference": float(error)}


def ntk_performance_cells(profile: str) -> list[Cell]:
    samples, materialised, dim, trials = {
        "smoke": (100, 40, 48, 1),
        "laptop": (1_000, 400, 2_304, 3),
        "paper": (1_000, 400, 2_304, 5),
    }[profile]
    return [
        dict(samples=samples, materialised=materialised, dim=dim, width=100, trial=trial)
        for trial in range(trials)
    ]


for name, measure, cells in (
    ("rf_performance", rf_performance, rf_performance_cells),
    ("ntk_performance", ntk_performance, ntk_performance_cells),
):
    register(
        Experiment(
            name,
            measure,
            cells,
            tolerance=0.0,
            cheap=lambda cell: False,
            audited=False,  # seconds are of their machine: nothing to compare
        )
    )
