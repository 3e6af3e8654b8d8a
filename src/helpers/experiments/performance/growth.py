"""How the time of each hot path grows, next to how its arithmetic does.

A row is one path at one size. The exponent that arithmetic predicts is that of its operations
between the same sizes: what does not grow with the size, and sums of several terms, are in it.
"""

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from helpers import data, kernels, models, stats, training
from helpers.experiments.performance import features, spectra
from helpers.experiments.performance import training as networks
from helpers.experiments.performance.clock import TIMED, timed
from helpers.sweep import Call, Cell, experiment, pick

_REPEATS = 3
_WIDTH, _SAMPLES, _DIM = 10_240, 400, 1_000  # of random features, where they do not grow
_TANGENT = 100  # width of the network of the tangent kernel, as in the paper
_BATCHES = 30  # steps that networks are trained together
_EMPIRICAL = 100  # images of the empirical kernel, and width of its network, where they do not grow
_MODES = 20


class Path(NamedTuple):
    """What grows, over which sizes; what is done at a size; and its floating-point operations.

    `work` makes the inputs, which are not timed, and returns what is.
    """

    grows: str
    sizes: dict[str, tuple[int, ...]]
    work: Callable[[int, int], Callable[[], Any]]
    operations: Callable[[int], float]


def _random_features(samples: int, width: int, seed: int) -> Callable[[], Any]:
    inputs, _ = features.task(samples, _DIM, seed)
    return partial(
        kernels.random_feature_blocks, *inputs, activation="phi4", width=width, seed=seed
    )


def _tangent(samples: int, dim: int, seed: int) -> Callable[[], Any]:
    Z = torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed))
    return partial(features.hadamard, Z, _TANGENT, seed)


def _tangent_operations(samples: int, dim: int) -> float:
    """One half of two Gram blocks, and the inputs times the weights."""
    return samples**2 * (dim + _TANGENT) + 2.0 * samples * dim * _TANGENT


def _kernel(samples: int, seed: int) -> Callable[[], Any]:
    return partial(kernels.relu_ntk, spectra.inputs(samples, networks.PIXELS, seed))


def _leading(samples: int, seed: int) -> Callable[[], Any]:
    K = kernels.relu_ntk(spectra.inputs(samples, networks.PIXELS, seed))
    return partial(kernels.top_modes, K, _MODES, seed=seed)


def _together(count: int, seed: int) -> Callable[[], Any]:
    digits = data.load("mnist5k")
    rows = _BATCHES * networks.BATCH
    inputs, labels = digits.images[:rows].float() / 255, digits.labels[:rows]

    def work() -> None:
        training.train_many(networks.fresh(count), inputs, labels, networks.recipe(1), seed=seed)

    return work


def _empirical(samples: int, width: int, seed: int) -> Callable[[], Any]:
    net = models.fully_connected(networks.PIXELS, (width, width), 1, seed=seed)
    X = torch.randn(samples, networks.PIXELS, generator=torch.Generator().manual_seed(seed))
    return partial(kernels.empirical_ntk, net, X)


def _empirical_operations(samples: int, width: int) -> float:
    """A gradient a sample is three products with the weights; then the products of gradients."""
    parameters = networks.PIXELS * width + width**2 + width
    return 6.0 * samples * parameters + 2.0 * samples**2 * parameters


PATHS = {
    "random features": Path(
        "samples", {"smoke": (40, 80), "full": (100, 200, 400, 800, 1_600)},
        lambda size, seed: _random_features(size, _WIDTH, seed),
        lambda size: features.operations(size, _DIM, _WIDTH),
    ),
    "random features, wider": Path(
        "features", {"smoke": (1_024, 2_048), "full": (4_096, 8_192, 16_384, 32_768)},
        lambda size, seed: _random_features(_SAMPLES, size, seed),
        lambda size: features.operations(_SAMPLES, _DIM, size),
    ),
    "tangent kernel": Path(
        "samples", {"smoke": (100, 200), "full": (500, 1_000, 2_000, 4_000)},
        lambda size, seed: _tangent(size, _DIM, seed),
        lambda size: _tangent_operations(size, _DIM),
    ),
    "tangent kernel, longer inputs": Path(
        "dimension", {"smoke": (100, 200), "full": (500, 1_000, 2_000, 4_000)},
        lambda size, seed: _tangent(_DIM, size, seed),
        lambda size: _tangent_operations(_DIM, size),
    ),
    "infinite-width kernel": Path(
        "images", {"smoke": (200, 400), "full": (1_000, 2_000, 4_000, 8_000)}, _kernel,
        lambda size: size**2 * (2 * networks.PIXELS + spectra.ELEMENTWISE) / 2,
    ),
    "its leading modes": Path(  # as many passes at each size
        "images", {"smoke": (200, 400), "full": (1_000, 2_000, 4_000, 8_000)}, _leading,
        lambda size: 2.0 * size**2,
    ),
    "networks together": Path(
        "networks", {"smoke": (1, 2), "full": (4, 8, 16, 32)}, _together,
        lambda size: size * _BATCHES * networks.operations(),
    ),
    "empirical kernel": Path(
        "images", {"smoke": (20, 40), "full": (50, 100, 200, 400)},
        lambda size, seed: _empirical(size, _EMPIRICAL, seed),
        lambda size: _empirical_operations(size, _EMPIRICAL),
    ),
    "empirical kernel, wider": Path(
        "width", {"smoke": (20, 40), "full": (64, 128, 256, 512)},
        lambda size, seed: _empirical(_EMPIRICAL, size, seed),
        lambda size: _empirical_operations(_EMPIRICAL, size),
    ),
}  # fmt: skip


def _cells(profile: str) -> list[Cell]:
    """Round by round, so that each has all sizes of a path one after the other."""
    sizes = "smoke" if profile == "smoke" else "full"
    return [
        dict(path=name, size=size, trial=trial)
        for trial in range(pick(profile, 1, 5, 10))
        for name, path in PATHS.items()
        for size in path.sizes[sizes]
    ]


@experiment("growth_performance", cells=_cells, **TIMED)
def growth_performance(call: Call) -> dict[str, float]:
    """Seconds `taken` by a path at a size (median of three, after one more); its operations."""
    path = PATHS[call.path]
    work = path.work(call.size, call.trial)
    work()
    seconds = statistics.median(timed(work)[0] for _ in range(_REPEATS))
    return {"taken": seconds, "operations": path.operations(call.size)}


def exponents(rows: pd.DataFrame) -> pd.DataFrame:
    """Slopes of log seconds over log size, and of log operations between the same sizes.

    Args:
        rows: of `growth_performance`.

    Returns:
        A row a path: `grows`, `first`, `last` (sizes), `measured`, `low`, `high` (mean of slopes of
        the rounds, least squares, with its interval; NaN without two rounds), `predicted`.
    """

    def slope(part: pd.DataFrame, column: str) -> float:
        return float(np.polyfit(np.log(part["size"]), np.log(part[column]), 1)[0])

    table = {}
    for name, part in rows.groupby("path", sort=False):
        rounds = [own for _, own in part.groupby("trial") if own["size"].nunique() > 1]
        slopes = [slope(own, "taken") for own in rounds]
        if not slopes:
            raise ValueError(f"path {name!r} has one size in each round: a slope needs two")
        found = stats.mean_ci(slopes) if len(slopes) > 1 else (slopes[0], math.nan, math.nan)
        table[name] = dict(
            zip(("measured", "low", "high"), found, strict=True), grows=PATHS[name].grows,
            first=part["size"].min(), last=part["size"].max(),
            predicted=slope(rounds[0], "operations"),
        )  # fmt: skip
    columns = ["grows", "first", "last", "measured", "low", "high", "predicted"]
    return pd.DataFrame.from_dict(table, orient="index")[columns]
