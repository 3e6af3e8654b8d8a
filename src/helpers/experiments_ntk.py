"""The experiments of Part I on NTK features, and on the width of both kinds of features.

As in `helpers.experiments`, training sets within a trial are nested and share the weights, except
where `pool = samples`.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch

from helpers import data, theory
from helpers.experiments import (
    ALIGNMENT_ACTIVATIONS,
    BORDERS,
    TOLERANCE,
    alignment_cells,
    alignment_grams,
    alignments,
    framed_pair,
    framed_pixels,
    gaussian_grams,
    image_grams,
    memorisation,
)
from helpers.sweep import Cell, Experiment, register

# -- the alignment by itself ----------------------------------------------------------------------

DERIVATIVES = ["h0+h1", "h0+h3", "h0+h7", "step"]


def ntk_alignment(
    derivative: str,
    alpha: float,
    dim: int,
    samples: int,
    pool: int,
    width: float,
    normalise: bool,
    trial: int,
    device: str,
) -> dict[str, float]:
    """Mean and spread of F(z_i^s, z_i) with NTK features, for both kinds of query."""
    grams = alignment_grams("ntk", derivative, alpha, dim, pool, width, normalise, trial, device)
    return alignments(grams, samples)


def ntk_alignment_cells(profile: str) -> list[Cell]:
    grids = {
        "smoke": [
            ([60], 200, False, [0.5], [(240, [60, 240], 5)]),
            ([100, 400], math.inf, True, [0.5], [(20, [20], 5)]),
            ([50], math.inf, True, [0.25, 0.5], [(200, [2, 5, 15, 50, 200], 2)]),
        ],
        "laptop": [
            ([400], 400, False, [0.5], [(4_000, [400, 1_600, 4_000], 10)]),
            ([400], 400, False, [0.25], [(1_600, [400, 1_600], 10)]),
            ([100, 400, 1_600, 6_400], math.inf, True, [0.5], [(20, [20], 20)]),
            ([200], math.inf, True, [0.25, 0.5], [(2_000, [2, 6, 20, 60, 200, 600, 2_000], 10)]),
        ],
        "paper": [
            ([400], 400, False, [0.25, 0.5], [(4_000, [400, 1_600, 4_000], 10)]),
            ([100, 400, 1_600, 6_400], math.inf, True, [0.5], [(20, [20], 50)]),
            ([200], math.inf, True, [0.25, 0.5],
             [(3_200, [2, 6, 20, 60, 200, 600, 2_000, 3_200], 10)]),
        ],
    }[profile]  # fmt: skip
    return alignment_cells("derivative", DERIVATIVES, grids)


# -- how wide is wide enough, and every share of the background ------------------------------------


def alignment_at(
    features: str,
    activation: str,
    alpha: float,
    dim: int,
    samples: int,
    width: float,
    trial: int,
    device: str,
) -> dict[str, float]:
    """The alignment at one width and share; block-normalised data, as the law assumes."""
    grams = alignment_grams(features, activation, alpha, dim, samples, width, True, trial, device)
    return alignments(grams, samples)


def width_alignment_cells(profile: str) -> list[Cell]:
    dim, trials, rf_widths, ntk_widths = {
        "smoke": (60, 4, [120, 2_000], [25, 400]),
        "laptop": (400, 10, [500, 1_000, 2_000, 8_000, 32_000], [25, 100, 400, 1_600, 6_400]),
        "paper": (400, 20, [500, 1_000, 2_000, 8_000, 32_000, 100_000],
                  [25, 100, 400, 1_600, 6_400, 25_600]),
    }[profile]  # fmt: skip
    kinds = [("rf", name, rf_widths) for name in ("phi2", "phi4", "relu")]
    kinds += [("ntk", name, ntk_widths) for name in DERIVATIVES]
    return [
        dict(features=features, activation=activation, alpha=0.5, dim=dim, samples=dim,
             width=width, trial=trial)
        for features, activation, widths in kinds
        for width, trial in itertools.product([*widths, math.inf], range(trials))
    ]  # fmt: skip


def share_alignment_cells(profile: str) -> list[Cell]:
    dim, trials = {"smoke": (60, 3), "laptop": (400, 10), "paper": (400, 20)}[profile]
    kinds = [("rf", name) for name in ALIGNMENT_ACTIVATIONS] + [("ntk", n) for n in DERIVATIVES]
    return [
        dict(features=features, activation=activation, alpha=alpha, dim=dim, samples=dim,
             width=math.inf, trial=trial)
        for (features, activation), alpha, trial in itertools.product(
            kinds, [0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9], range(trials)
        )
    ]  # fmt: skip


# -- NTK features on Gaussian data ----------------------------------------------------------------


def ntk_gaussian(
    derivative: str,
    alpha: float,
    dim: int,
    samples: int,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
) -> dict[str, float]:
    """NTK features on Gaussian blocks with labels sign(u'x); the core is resampled."""
    grams, labels, test_labels = gaussian_grams(
        "ntk", derivative, alpha, dim, pool, test, width, trial, device
    )
    gamma = theory.gamma_ntk(derivative, alpha, samples / dim)
    return memorisation(grams, labels, test_labels, samples, gamma)


def ntk_gaussian_cells(profile: str) -> list[Cell]:
    dim, width, test, trials, sizes = {
        "smoke": (100, 100, 200, 5, [10, 30, 100]),
        "laptop": (1_000, 100, 1_000, 10, [10, 20, 50, 100, 200, 500, 1_000, 2_000]),
        "paper": (1_000, 100, 1_000, 10, [10, 20, 50, 100, 200, 500, 1_000, 2_000]),
    }[profile]
    return [
        dict(derivative=derivative, alpha=alpha, dim=dim, samples=samples,
             pool=samples if profile == "paper" else sizes[-1],
             test=test, width=k, trial=trial)
        for k, alpha, derivative, trial, samples in itertools.product(
            [width, math.inf], [0.25, 0.5], ["h0+h1", "h0+h3", "h0+h7"], range(trials), sizes
        )
    ]  # fmt: skip


# -- NTK features on images (the paper's Figure 3) -------------------------------------------------


def ntk_images(
    dataset: str,
    derivative: str,
    scaling: str,
    samples: int,
    pool: int,
    test: int,
    width: float,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """NTK features on framed images of two classes; the core is blanked."""
    grams, labels, test_labels, alpha, source = image_grams(
        "ntk", dataset, derivative, scaling, pool, test, width, trial, device, data_dir
    )
    gamma = theory.gamma_ntk(derivative, alpha, samples / framed_pixels(dataset), query="zero")
    return memorisation(grams, labels, test_labels, samples, gamma) | {"data_source": source}


def ntk_images_cells(profile: str) -> list[Cell]:
    width, test, trials, sizes = {
        "smoke": (100, 200, 3, {"mnist5k": [10, 50, 200]}),
        "laptop": (100, 1_000, 10, {
            "mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000],
            "cifar10": [10, 20, 50, 100, 200, 500, 1_000],
        }),
        "paper": (100, 1_000, 10, {
            "mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
            "cifar10": [10, 20, 50, 100, 200, 500, 1_000],
        }),
    }[profile]  # fmt: skip
    return [
        dict(dataset=dataset, derivative=derivative, scaling=scaling, samples=samples,
             pool=samples if profile == "paper" else sizes[dataset][-1],
             test=test, width=width, trial=trial)
        for dataset in sizes
        for scaling, trial, derivative, samples in itertools.product(
            ["raw", "rms", "blocks"], range(trials), ["h0+h1", "h0+h3", "h0+h7"], sizes[dataset]
        )
    ]  # fmt: skip


# -- the law for real cores -----------------------------------------------------------------------


@lru_cache(maxsize=1)
def _core_overlaps(
    dataset: str, pool: int, trial: int, data_dir: str | None
) -> tuple[torch.Tensor, float, int]:
    """Overlaps of the normalised cores of `rf_images`' training set of this trial."""
    draw = torch.Generator().manual_seed(trial)
    images, _, _ = framed_pair(dataset, True, data_dir)
    chosen = torch.randperm(len(images), generator=draw)[:pool]
    blocks = data.two_blocks(images[chosen], BORDERS[dataset])
    x = data.BlockScaling.fit(*blocks, "blocks").apply(*blocks).x.double()
    return x @ x.T / x.shape[1], blocks.alpha, blocks.y.shape[1]


def core_law(
    dataset: str,
    activation: str,
    samples: int,
    pool: int,
    trial: int,
    data_dir: str | None,
) -> dict[str, float]:
    """The covariance-aware law and the alignment that it predicts, on block-normalised images."""
    overlaps, alpha, background = _core_overlaps(dataset, pool, trial, data_dir)
    grams, *_, source = image_grams(
        "rf", dataset, activation, "blocks", pool, 1, math.inf, trial, "cpu", data_dir
    )
    n = slice(samples)
    K, K_query = grams.train[n, n], grams.queries[n, n]
    measured = alignments([K, K_query, K_query], samples)
    return {
        "measured_mean": measured["zero_mean"],
        "measured_sd": measured["zero_sd"],
        "law_cores": theory.gamma_rf_cores(activation, overlaps[n, n], alpha, background, "zero"),
        "law_isotropic": theory.gamma_rf(
            activation, alpha, samples / framed_pixels(dataset), "zero", samples=samples
        ),
        "data_source": source,
    }


def core_law_cells(profile: str) -> list[Cell]:
    sizes, trials = {
        "smoke": ({"mnist5k": [20, 100, 400]}, 3),
        "laptop": ({"mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000],
                    "cifar10": [10, 20, 50, 100, 200, 500, 1_000]}, 10),
        "paper": ({"mnist": [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
                   "cifar10": [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000]}, 10),
    }[profile]  # fmt: skip
    return [
        dict(dataset=dataset, activation=activation, samples=samples, pool=sizes[dataset][-1],
             trial=trial)
        for dataset in sizes
        for activation, trial, samples in itertools.product(
            ["relu", "phi2", "phi4", "tanh"], range(trials), sizes[dataset]
        )
    ]  # fmt: skip


for name, trial, cells, tolerance, cheap in (
    ("ntk_alignment", ntk_alignment, ntk_alignment_cells, 0.01, lambda c: c["pool"] <= 240),
    ("width_alignment", alignment_at, width_alignment_cells, 0.01,
     lambda c: c["width"] <= 2_000 or math.isinf(c["width"])),
    ("share_alignment", alignment_at, share_alignment_cells, 0.01, lambda c: True),
    ("ntk_gaussian", ntk_gaussian, ntk_gaussian_cells, TOLERANCE, lambda c: True),
    ("ntk_images", ntk_images, ntk_images_cells, TOLERANCE, lambda c: c["dataset"] == "mnist5k"),
    ("core_law", core_law, core_law_cells, 0.01, lambda c: c["dataset"] == "mnist5k"),
):  # fmt: skip
    register(Experiment(name, trial, cells, tolerance=tolerance, cheap=cheap))
