"""The experiments of Part I on random features: what one trial computes, and on which grid.

A trial is a pure function of its cell. Within a trial the training sets of growing size are nested
(the first N of `pool` samples) and share the weights, so that one pass over the features serves the
whole curve; trials are independent of each other. A cell with `pool = samples` draws its own data
and weights, as the paper does.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch

from helpers import alignment, data, kernels, metrics, theory
from helpers.sweep import Cell, Experiment, register

PAIRS = {"mnist": (1, 7), "mnist5k": (1, 7), "cifar10": (3, 8)}
BORDERS = {"mnist": 10, "mnist5k": 10, "cifar10": 8}
# The paper's pools on images: training samples come from the first 10,000, tests from 2,000.
_TRAIN_POOL, _TEST_POOL = 10_000, 2_000


class Grams(NamedTuple):
    """Kernel blocks of one trial: training set, its spurious queries, test set, test queries."""

    train: torch.Tensor
    queries: torch.Tensor
    test: torch.Tensor
    test_queries: torch.Tensor


def kernel_blocks(
    features: str,
    inputs: list[torch.Tensor],
    activation: str,
    width: float,
    seed: int,
    device: str,
) -> list[torch.Tensor]:
    """Kernel blocks of all inputs with the first, at finite or infinite width.

    `features`: "rf", or "ntk" with the derivative in the place of the activation.
    """
    inputs = [z.to(device) for z in inputs]
    if features == "ntk":
        # Products of two Gram blocks span twice the digits of each: float64 throughout.
        Z, *queries = (z.double() for z in inputs)
        kernels.check_width(len(Z), width * Z.shape[1])
        given = dict(derivative=activation, width=width, seed=seed)
        train = kernels.ntk_two_layer(Z, **given)
        return [train, *(kernels.ntk_two_layer(q, Z, **given) for q in queries)]
    if math.isinf(width):
        # Without averaging over neurons nothing hides the rounding of float32 angles.
        Z, *queries = (z.double() for z in inputs)
        limit = kernels.infinite_width(Z, activation=activation)
        return [limit, *(kernels.infinite_width(q, Z, activation=activation) for q in queries)]
    kernels.check_width(len(inputs[0]), width)
    return kernels.random_feature_blocks(
        *inputs, activation=activation, width=int(width), seed=seed
    )


def memorisation(
    grams: Grams, labels: torch.Tensor, test_labels: torch.Tensor, samples: int, gamma: float
) -> dict[str, float]:
    """Everything that the chapters ask of one interpolator on the first `samples` of the pool."""
    n = slice(samples)
    g = labels[n].double()
    fitted = alignment.interpolate(grams.train[n, n])
    spurious = fitted.predict(grams.queries[n, n], g)
    test = fitted.predict(grams.test[:, n], g)
    test_spurious = fitted.predict(grams.test_queries[:, n], g)
    F, S = fitted.alignment(grams.queries[n, n]), fitted.stability(g)
    held_out = test_labels.double()
    return {
        "test_accuracy": metrics.sign_accuracy(test, held_out),
        "spurious_accuracy": metrics.sign_accuracy(spurious, g),
        "spurious_auc": metrics.auc(spurious, g),
        "spurious_mean": float(spurious.mean()),
        "spurious_covariance": metrics.covariance(spurious, g),
        "stability_covariance": metrics.covariance(S, g),
        "alignment_mean": float(F.mean()),
        "alignment_sd": float(F.std()),
        "leave_one_out_error": float(S.square().mean()),
        "test_error": float((test - held_out).square().mean()),
        "predicted_by_law": metrics.predicted_accuracy(test, test_spurious, held_out, gamma),
        "predicted_by_alignment": metrics.predicted_accuracy(
            test, test_spurious, held_out, float(F.mean())
        ),
    }


# -- random features on Gaussian data (the paper's Figure 2, first two panels) ---------------------


@lru_cache(maxsize=1)
def gaussian_grams(
    features: str,
    activation: str,
    alpha: float,
    dim: int,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
) -> tuple[Grams, torch.Tensor, torch.Tensor]:
    """Kernel blocks of the synthetic task, with training and test labels."""
    draw = torch.Generator().manual_seed(trial)
    train, held_out = (data.gaussian_two_block(n, dim, alpha, seed=draw) for n in (pool, test))
    cores, test_cores = (data.gaussian_two_block(n, dim, alpha, seed=draw).x for n in (pool, test))
    direction = torch.randn(train.x.shape[1], generator=draw)
    inputs = [
        train.z,
        torch.cat([cores, train.y], 1),
        held_out.z,
        torch.cat([test_cores, held_out.y], 1),
    ]
    grams = Grams(*kernel_blocks(features, inputs, activation, width, trial, device))
    labels = [data.linear_labels(block.x, direction).to(device) for block in (train, held_out)]
    return grams, *labels


def rf_gaussian(
    activation: str,
    alpha: float,
    dim: int,
    samples: int,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
) -> dict[str, float]:
    """Random features on Gaussian blocks with labels sign(u'x); the core is resampled."""
    grams, labels, test_labels = gaussian_grams(
        "rf", activation, alpha, dim, pool, test, width, trial, device
    )
    gamma = theory.gamma_rf(activation, alpha, samples / dim, samples=samples)
    return memorisation(grams, labels, test_labels, samples, gamma)


def rf_gaussian_cells(profile: str) -> list[Cell]:
    dim, width, test, trials, sizes = {
        "smoke": (100, 2_000, 200, 5, [10, 30, 100]),
        "laptop": (1_000, 100_000, 1_000, 10, [10, 20, 50, 100, 200, 500, 1_000]),
        "paper": (1_000, 100_000, 1_000, 10, [10, 20, 50, 100, 200, 500, 1_000]),
    }[profile]
    return [
        dict(activation=activation, alpha=alpha, dim=dim, samples=samples,
             pool=samples if profile == "paper" else sizes[-1],
             test=test, width=k, trial=trial)
        for k, alpha, activation, trial, samples in itertools.product(
            [width, math.inf], [0.25, 0.5], ["phi2", "phi4"], range(trials), sizes
        )
    ]  # fmt: skip


# -- random features on images (Figure 2, last two panels) -----------------------------------------


@lru_cache(maxsize=2)
def framed_pair(
    dataset: str, train: bool, data_dir: str | None
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """The two classes in their frames, `(n, c, H, W)`; frames are drawn once, as in the paper."""
    found = data.load(dataset, train=train, data_dir=data_dir)
    images, labels = data.binary_pair(found, *PAIRS[dataset])
    keep = _TRAIN_POOL if train else _TEST_POOL
    images, labels = images[:keep], labels[:keep]
    return data.noise_border(images, BORDERS[dataset], seed=0 if train else 1), labels, found.source


@lru_cache(maxsize=1)
def image_grams(
    features: str,
    dataset: str,
    activation: str,
    scaling: str,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
    data_dir: str | None,
) -> tuple[Grams, torch.Tensor, torch.Tensor, float, str]:
    """Kernel blocks of framed images, their labels, the share of the frame, and the data source."""
    draw = torch.Generator().manual_seed(trial)
    blocks, labels = [], []
    for train, size in ((True, pool), (False, test)):
        images, signs, source = framed_pair(dataset, train, data_dir)
        if len(images) < size:
            raise ValueError(
                f"{dataset} has {len(images)} samples of its two classes in this split, "
                f"{size} were asked for: choose at most that many"
            )
        chosen = torch.randperm(len(images), generator=draw)[:size]
        blocks.append(data.two_blocks(images[chosen], BORDERS[dataset]))
        labels.append(signs[chosen].to(device))
    scale = data.BlockScaling.fit(*blocks[0], scaling)
    inputs = []
    for x, y in blocks:
        inputs += [scale.apply(x, y).z, scale.apply(torch.zeros_like(x), y).z]
    grams = Grams(*kernel_blocks(features, inputs, activation, width, trial, device))
    return grams, *labels, blocks[0].alpha, source


def rf_images(
    dataset: str,
    activation: str,
    scaling: str,
    samples: int,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """Random features on framed images of two classes; the core is blanked."""
    grams, labels, test_labels, alpha, source = image_grams(
        "rf", dataset, activation, scaling, pool, test, width, trial, device, data_dir
    )
    ratio = samples / framed_pixels(dataset)
    gamma = theory.gamma_rf(activation, alpha, ratio, query="zero", samples=samples)
    return memorisation(grams, labels, test_labels, samples, gamma) | {"data_source": source}


def framed_pixels(dataset: str) -> int:
    """Number of pixels of a framed image."""
    return 3 * 48 * 48 if dataset == "cifar10" else 48 * 48


def rf_images_cells(profile: str) -> list[Cell]:
    width, test, trials, sizes = {
        "smoke": (2_000, 200, 3, {"mnist5k": [10, 50, 200]}),
        "laptop": (100_000, 1_000, 10, {
            "mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
            "cifar10": [10, 20, 50, 100, 200, 500, 1_000],
        }),
        "paper": (100_000, 1_000, 10, {
            "mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
            "cifar10": [10, 20, 50, 100, 200, 500, 1_000],
        }),
    }[profile]  # fmt: skip
    kinds = [(width, "raw"), (math.inf, "raw"), (math.inf, "blocks")]
    return [
        dict(dataset=dataset, activation="relu", scaling=scaling, samples=samples,
             pool=samples if profile == "paper" else sizes[dataset][-1],
             test=test, width=k, trial=trial)
        for dataset in sizes
        for (k, scaling), trial, samples in itertools.product(kinds, range(trials), sizes[dataset])
    ]  # fmt: skip


# -- the alignment by itself: concentration, regimes ----------------------------------------------


@lru_cache(maxsize=1)
def alignment_grams(
    features: str,
    activation: str,
    alpha: float,
    dim: int,
    pool: int,
    width: float,
    normalise: bool,
    trial: int,
    device: str,
) -> list[torch.Tensor]:
    """Training block, then the blocks of both kinds of query."""
    draw = torch.Generator().manual_seed(trial)
    train, other = (
        data.gaussian_two_block(pool, dim, alpha, seed=draw, normalise=normalise) for _ in range(2)
    )
    inputs = [train.z] + [
        torch.cat([core, train.y], 1) for core in (other.x, torch.zeros_like(train.x))
    ]
    return kernel_blocks(features, inputs, activation, width, trial, device)


def rf_alignment(
    activation: str,
    alpha: float,
    dim: int,
    samples: int,
    pool: int,
    width: float,
    normalise: bool,
    trial: int,
    device: str,
) -> dict[str, float]:
    """Mean and spread of F(z_i^s, z_i) over the training samples, for both kinds of query."""
    grams = alignment_grams("rf", activation, alpha, dim, pool, width, normalise, trial, device)
    return alignments(grams, samples)


def alignments(grams: list[torch.Tensor], samples: int) -> dict[str, float]:
    """Mean and spread of the alignment among the first `samples`, for both kinds of query."""
    K, *queries = grams
    n = slice(samples)
    fitted = alignment.interpolate(K[n, n])
    found = {}
    for query, block in zip(theory.QUERIES, queries, strict=True):
        F = fitted.alignment(block[n, n])
        found |= {f"{query}_mean": float(F.mean()), f"{query}_sd": float(F.std())}
    return found


ALIGNMENT_ACTIVATIONS = ["phi2", "phi4", "relu", "tanh"]


def rf_alignment_cells(profile: str) -> list[Cell]:
    grids = {
        "smoke": [
            ([200], 4_000, False, [0.25, 0.5], [(200, [30, 200], 4)]),
            ([100, 400, 1_600], math.inf, True, [0.5], [(20, [20], 5)]),
            ([50], math.inf, True, [0.25, 0.5], [(200, [2, 5, 15, 50, 200], 2)]),
        ],
        "laptop": [
            ([1_000], 30_000, False, [0.25, 0.5], [(1_000, [30, 300, 1_000], 10)]),
            ([100, 400, 1_600, 6_400], math.inf, True, [0.5], [(20, [20], 20)]),
            ([200], math.inf, True, [0.25, 0.5], [(2_000, [2, 6, 20, 60, 200, 600, 2_000], 10)]),
            ([1_000], 30_000, False, [0.25, 0.5], [(3_000, [3_000], 3)]),
        ],
        "paper": [
            ([1_000], 100_000, False, [0.25, 0.5],
             [(30, [30], 30), (300, [300], 10), (1_000, [1_000], 10), (3_000, [3_000], 10)]),
            ([100, 400, 1_600, 6_400], math.inf, True, [0.5], [(20, [20], 50)]),
            ([200], math.inf, True, [0.25, 0.5],
             [(3_200, [2, 6, 20, 60, 200, 600, 2_000, 3_200], 10)]),
        ],
    }[profile]  # fmt: skip
    return alignment_cells("activation", ALIGNMENT_ACTIVATIONS, grids)


def alignment_cells(key: str, names: list[str], grids: list[tuple]) -> list[Cell]:
    """Every name at every point of grids `(dims, width, normalise, alphas, [(pool, sizes,
    trials)])`; `key` is the parameter that takes the name."""
    return [
        dict({key: name}, alpha=alpha, dim=dim, samples=samples, pool=pool,
             width=width, normalise=normalise, trial=trial)
        for dims, width, normalise, alphas, pools in grids
        for pool, sizes, trials in pools
        for dim, alpha, name, trial, samples in itertools.product(
            dims, alphas, names, range(trials), sizes
        )
    ]  # fmt: skip


# A recomputed kernel differs in its last digits with device and thread count; a sign near zero
# may flip, and one sample of ten weighs a tenth in an accuracy.
TOLERANCE = {
    "default": 0.02,
    "test_accuracy": 0.02,
    "spurious_accuracy": 0.11,
    "spurious_auc": 0.05,
}

register(
    Experiment(
        "rf_gaussian",
        rf_gaussian,
        rf_gaussian_cells,
        tolerance=TOLERANCE,
        cheap=lambda cell: math.isinf(cell["width"]),
    )
)
register(
    Experiment(
        "rf_images",
        rf_images,
        rf_images_cells,
        tolerance=TOLERANCE,
        cheap=lambda cell: math.isinf(cell["width"]) and cell["dataset"] == "mnist5k",
    )
)
register(
    Experiment(
        "rf_alignment",
        rf_alignment,
        rf_alignment_cells,
        tolerance=0.01,
        cheap=lambda cell: math.isinf(cell["width"]) and cell["pool"] <= 200,
    )
)
