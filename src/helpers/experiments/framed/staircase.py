"""Beyond the isotropic laws: N up to and past d^2/2, and the alignment image by image."""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch

from helpers import data, kernels, theory
from helpers.experiments.framed.grams import alignment_grams, alignments
from helpers.kernels import alignment
from helpers.sweep import Call, Cell, experiment

KINDS = [("rf", "relu"), ("rf", "tanh"), ("rf", "phi4"), ("ntk", "step"), ("ntk", "h0+h7")]


def staircase_cells(profile: str) -> list[Cell]:
    """Five activations while N crosses d and the number of harmonics of degree 2."""
    dim, trials, sizes = {
        "smoke": (24, 2, [6, 24, 72, 288, 576]),
        "laptop": (48, 5, [12, 24, 48, 96, 192, 480, 1_152, 2_304]),
        "paper": (60, 10, [15, 30, 60, 120, 240, 600, 1_800, 3_600]),
    }[profile]
    return [
        dict(features=features, activation=name, alpha=alpha, dim=dim, samples=samples,
             pool=sizes[-1], trial=trial)
        for (features, name), alpha, trial, samples in itertools.product(
            KINDS, [0.25, 0.5], range(trials), sizes
        )
    ]  # fmt: skip


@experiment(
    "staircase",
    cells=staircase_cells,
    tolerance=0.01,
    cheap=lambda cell: cell["pool"] <= 1_000,
)
def staircase(call: Call) -> dict[str, float]:
    """The alignment at infinite width on block-normalised Gaussian data, both queries."""
    grams = alignment_grams(
        call.features, call.activation, call.alpha, call.dim, call.pool, math.inf, True,
        call.trial, call.device,
    )  # fmt: skip
    return alignments(grams, call.samples)


# -- image by image --------------------------------------------------------------------------------

PAIRS = {"1 vs 7": (1, 7), "3 vs 5": (3, 5), "4 vs 9": (4, 9)}


class Remembered(NamedTuple):
    """Digits `(n, 1, 28, 28)`, and for each, `(n,)` float64, what one draw of frames shows.

    Attributes:
        predicted: the alignment by the law, which knows the digits and the number of frame pixels.
        measured: the alignment.
        residual: the leave-one-out residual times the label (labels are -1 and 1).
        memory: how much the output for the frame alone leans to the label: the output, minus its
            mean over frames that nobody saw, times the label.
    """

    digits: torch.Tensor
    predicted: torch.Tensor
    measured: torch.Tensor
    residual: torch.Tensor
    memory: torch.Tensor


@lru_cache(maxsize=1)
def remembered(pair: str, activation: str, border: int, samples: int, trial: int) -> Remembered:
    """The frames of `samples` digits of a pair of `PAIRS`, query zero, infinite width.

    Raises:
        ValueError: a pair that is none, or more samples than there are digits of it.
    """
    if pair not in PAIRS:
        raise ValueError(f"pair is {pair!r}: allowed are {', '.join(map(repr, PAIRS))}")
    images, labels = data.binary_pair(data.load("mnist5k", train=True), *PAIRS[pair])
    draw = torch.Generator().manual_seed(trial)
    if samples > len(images):
        raise ValueError(f"{pair} has {len(images)} training digits, {samples} were asked for")
    chosen = torch.randperm(len(images), generator=draw)[:samples]
    digits, g = images[chosen], labels[chosen].double()
    blocks = data.two_blocks(data.noise_border(digits, border, seed=trial), border)
    fresh = data.two_blocks(data.noise_border(digits, border, seed=10_000 + trial), border)
    scale = data.BlockScaling.fit(*blocks, "blocks")
    x, y = (block.double() for block in scale.apply(*blocks))
    unseen = scale.apply(torch.zeros_like(fresh.x), fresh.y).z.double()
    predicted = theory.alignment_by_image(
        x.numpy(), activation=activation, spurious_dim=y.shape[1], query="zero"
    )
    Z, blank = torch.cat([x, y], 1), torch.cat([torch.zeros_like(x), y], 1)
    fitted = alignment.interpolate(kernels.infinite_width(Z, activation=activation))
    block, never = (kernels.infinite_width(q, Z, activation=activation) for q in (blank, unseen))
    return Remembered(
        digits,
        torch.from_numpy(predicted),
        fitted.alignment(block),
        fitted.stability(g) * g,
        (fitted.predict(block, g) - fitted.predict(never, g).mean()) * g,
    )


def image_alignment_cells(profile: str) -> list[Cell]:
    """Three pairs of digits, two activations and two frames."""
    pairs, names, borders, samples, trials = {
        "smoke": (["3 vs 5"], ["relu"], [10], 100, 3),
        "laptop": (list(PAIRS), ["relu", "tanh"], [4, 10], 400, 5),
        "paper": (list(PAIRS), ["relu", "tanh"], [4, 10], 400, 10),
    }[profile]
    return [
        dict(pair=pair, activation=name, border=border, samples=samples, trial=trial)
        for pair, name, border, trial in itertools.product(pairs, names, borders, range(trials))
    ]


@experiment(
    "image_alignment",
    cells=image_alignment_cells,
    tolerance=0.02,
    cheap=lambda cell: True,
    on_device=False,
)
def image_alignment(call: Call) -> dict[str, float]:
    """How well the law orders and sizes the alignments of single digits, before frames are drawn.

    `slope` is that of the measured on the predicted; sd are over images. `memory_top` and
    `memory_bottom` are the mean memories of the tenths of images with the largest and the smallest
    predicted alignment; `memory_product` correlates memory with predicted alignment times residual.
    """
    found = remembered(call.pair, call.activation, call.border, call.samples, call.trial)
    both = torch.stack([found.predicted, found.measured])
    covariance = torch.cov(both)
    order, tenth = found.predicted.argsort(), len(found.predicted) // 10
    product = torch.stack([found.predicted * found.residual, found.memory])
    return {
        "correlation": float(torch.corrcoef(both)[0, 1]),
        "slope": float(covariance[0, 1] / covariance[0, 0]),
        "predicted_mean": float(found.predicted.mean()),
        "measured_mean": float(found.measured.mean()),
        "predicted_sd": float(found.predicted.std()),
        "measured_sd": float(found.measured.std()),
        "memory_top": float(found.memory[order[-tenth:]].mean()),
        "memory_bottom": float(found.memory[order[:tenth]].mean()),
        "memory_product": float(torch.corrcoef(product)[0, 1]),
    }
