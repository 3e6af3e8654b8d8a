"""Memory on framed images predicted by the law for real cores, on trials that share no image.

Everywhere else in Part I the trials draw from one pool of images whose frames are drawn once. Here
each trial has its own images and its own frames, so that an interval over trials is one over
independent draws.
"""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from helpers import data, theory
from helpers.experiments.framed.grams import (
    BORDERS,
    PAIRS,
    TOLERANCE,
    Grams,
    check_enough,
    framed_pixels,
    kernel_blocks,
    memorisation,
)
from helpers.sweep import Call, Cell, experiment


def _own_images(
    dataset: str, train: bool, size: int, trial: int, data_dir: str | None
) -> tuple[data.TwoBlock, torch.Tensor, str]:
    """The trial's own images of a fixed order, in frames of its own; their labels; the source."""
    found = data.load(dataset, train=train, data_dir=data_dir)
    images, labels = data.binary_pair(found, *PAIRS[dataset])
    check_enough(dataset, len(images), "samples of its two classes", size * (trial + 1))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    chosen = order[size * trial : size * (trial + 1)]
    framed = data.noise_border(images[chosen], BORDERS[dataset], seed=1_000 + 2 * trial + train)
    return data.two_blocks(framed, BORDERS[dataset]), labels[chosen], found.source


class _Trial(NamedTuple):
    """Kernel blocks of one trial, its labels, and what the laws may know of it."""

    grams: Grams
    labels: torch.Tensor
    test_labels: torch.Tensor
    overlaps: np.ndarray
    alpha: float
    background: int
    source: str


@lru_cache(maxsize=1)
def _trial(
    dataset: str, activation: str, pool: int, test: int, trial: int, device: str,
    data_dir: str | None,
) -> _Trial:  # fmt: skip
    blocks, labels, source = _own_images(dataset, True, pool, trial, data_dir)
    others, test_labels, _ = _own_images(dataset, False, test, trial, data_dir)
    scale = data.BlockScaling.fit(*blocks, "blocks")
    inputs = []
    for x, y in (blocks, others):
        inputs += [scale.apply(x, y).z, scale.apply(torch.zeros_like(x), y).z]
    grams = Grams(*kernel_blocks("rf", inputs, activation, math.inf, trial, device))
    x = scale.apply(*blocks).x.double()
    overlaps = (x @ x.T / x.shape[1]).numpy()
    return _Trial(
        grams, labels.to(device), test_labels.to(device), overlaps, blocks.alpha,
        blocks.y.shape[1], source,
    )  # fmt: skip


def image_prediction_cells(profile: str) -> list[Cell]:
    """ReLU and tanh at infinite width on block-normalised images."""
    names, sizes, pool, test, trials = {
        "smoke": (["mnist5k"], [20, 100, 200], 200, 60, 3),
        "laptop": (["mnist", "cifar10"], [10, 50, 200, 500, 1_000], 1_000, 200, 10),
        "paper": (["mnist", "cifar10"], [10, 20, 50, 100, 200, 500, 1_000], 1_000, 200, 10),
    }[profile]
    return [
        dict(dataset=dataset, activation=activation, samples=samples, pool=pool, test=test,
             trial=trial)
        for dataset, activation, trial, samples in itertools.product(
            names, ["relu", "tanh"], range(trials), sizes
        )
    ]  # fmt: skip


@experiment(
    "image_prediction",
    cells=image_prediction_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: cell["dataset"] == "mnist5k",
)
def image_prediction(call: Call) -> dict[str, float | str]:
    """Both factors and the memory of one interpolator, and what two laws and test data predict.

    `law_cores` knows the overlaps of the training pictures, `law_isotropic` their number only;
    neither knows a frame of the training set or a label.
    """
    made = _trial(
        call.dataset, call.activation, call.pool, call.test, call.trial, call.device, call.data_dir
    )
    n, ratio = slice(call.samples), call.samples / framed_pixels(call.dataset)
    shape = made.alpha, made.background
    laws = {
        "cores": theory.gamma_rf_cores(call.activation, made.overlaps[n, n], *shape, "zero"),
        "isotropic": theory.gamma_rf(
            call.activation, made.alpha, ratio, "zero", samples=call.samples
        ),
    }
    row = {}
    for name, gamma in laws.items():
        found = memorisation(made.grams, made.labels, made.test_labels, call.samples, gamma)
        row |= found | {f"law_{name}": gamma, f"predicted_by_{name}": found["predicted_by_law"]}
    del row["predicted_by_law"]  # it has one name for each law
    return row | {"data_source": made.source}
