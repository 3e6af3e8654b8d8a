"""The alignment by itself: concentration, regimes, width, every share, and the law for cores."""

import itertools
import math
from functools import lru_cache

import torch

from helpers import data, theory
from helpers.experiments.framed.grams import (
    BORDERS,
    alignment_grams,
    alignments,
    framed_pair,
    framed_pixels,
    image_grams,
)
from helpers.sweep import Call, Cell, experiment

ACTIVATIONS = ["phi2", "phi4", "relu", "tanh"]
DERIVATIVES = ["h0+h1", "h0+h3", "h0+h7", "step"]


def _cells(key: str, names: list[str], grids: list[tuple]) -> list[Cell]:
    """Every name at every point of the grids; `key` is the parameter that takes the name.

    A grid is `(dims, width, normalise, alphas, [(pool, sizes, trials)])`.
    """
    return [
        dict({key: name}, alpha=alpha, dim=dim, samples=samples, pool=pool,
             width=width, normalise=normalise, trial=trial)
        for dims, width, normalise, alphas, pools in grids
        for pool, sizes, trials in pools
        for dim, alpha, name, trial, samples in itertools.product(
            dims, alphas, names, range(trials), sizes
        )
    ]  # fmt: skip


def _concentration(dims: list[int], trials: int) -> tuple:
    """Twenty normalised samples in growing dimension."""
    return (dims, math.inf, True, [0.5], [(20, [20], trials)])


def _regimes(dim: int, pool: int, sizes: list[int], trials: int) -> tuple:
    """From few samples to many in a small dimension."""
    return ([dim], math.inf, True, [0.25, 0.5], [(pool, sizes, trials)])


def rf_alignment_cells(profile: str) -> list[Cell]:
    """The law at finite width, the concentration, and the regimes of N / d."""
    sizes, wide = [2, 6, 20, 60, 200, 600, 2_000], [0.25, 0.5]
    grids = {
        "smoke": [
            ([200], 4_000, False, wide, [(200, [30, 200], 4)]),
            _concentration([100, 400, 1_600], 5),
            _regimes(50, 200, [2, 5, 15, 50, 200], 2),
        ],
        "laptop": [
            ([1_000], 30_000, False, wide, [(1_000, [30, 300, 1_000], 10)]),
            _concentration([100, 400, 1_600, 6_400], 20),
            _regimes(200, 2_000, sizes, 10),
            ([1_000], 30_000, False, wide, [(3_000, [3_000], 3)]),
        ],
        "paper": [
            ([1_000], 100_000, False, wide,
             [(30, [30], 30), (300, [300], 10), (1_000, [1_000], 10), (3_000, [3_000], 10)]),
            _concentration([100, 400, 1_600, 6_400], 50),
            _regimes(200, 3_200, [*sizes, 3_200], 10),
        ],
    }[profile]  # fmt: skip
    return _cells("activation", ACTIVATIONS, grids)


def ntk_alignment_cells(profile: str) -> list[Cell]:
    """The same for NTK features of 400 neurons."""
    sizes, large = [2, 6, 20, 60, 200, 600, 2_000], (4_000, [400, 1_600, 4_000], 10)
    grids = {
        "smoke": [
            ([60], 200, False, [0.5], [(240, [60, 240], 5)]),
            _concentration([100, 400], 5),
            _regimes(50, 200, [2, 5, 15, 50, 200], 2),
        ],
        "laptop": [
            ([400], 400, False, [0.5], [large]),
            ([400], 400, False, [0.25], [(1_600, [400, 1_600], 10)]),
            _concentration([100, 400, 1_600, 6_400], 20),
            _regimes(200, 2_000, sizes, 10),
        ],
        "paper": [
            ([400], 400, False, [0.25, 0.5], [large]),
            _concentration([100, 400, 1_600, 6_400], 50),
            _regimes(200, 3_200, [*sizes, 3_200], 10),
        ],
    }[profile]
    return _cells("derivative", DERIVATIVES, grids)


def _by_kind(kinds: list[tuple], dim: int) -> list[Cell]:
    """Cells of kinds `(features, activation, alpha, width, trial)`, as many samples as dims."""
    return [
        dict(features=features, activation=activation, alpha=alpha, dim=dim, samples=dim,
             width=width, trial=trial)
        for features, activation, alpha, width, trial in kinds
    ]  # fmt: skip


def width_alignment_cells(profile: str) -> list[Cell]:
    """How wide is wide enough, for both kinds of features."""
    dim, trials, rf_widths, ntk_widths = {
        "smoke": (60, 4, [120, 2_000], [25, 400]),
        "laptop": (400, 10, [500, 1_000, 2_000, 8_000, 32_000], [25, 100, 400, 1_600, 6_400]),
        "paper": (400, 20, [500, 1_000, 2_000, 8_000, 32_000, 100_000],
                  [25, 100, 400, 1_600, 6_400, 25_600]),
    }[profile]  # fmt: skip
    kinds = [("rf", name, rf_widths) for name in ACTIVATIONS[:3]]
    kinds += [("ntk", name, ntk_widths) for name in DERIVATIVES]
    return _by_kind(
        [
            (features, name, 0.5, width, trial)
            for features, name, widths in kinds
            for width, trial in itertools.product([*widths, math.inf], range(trials))
        ],
        dim,
    )


def share_alignment_cells(profile: str) -> list[Cell]:
    """Every share of the background, at infinite width."""
    dim, trials = {"smoke": (60, 3), "laptop": (400, 10), "paper": (400, 20)}[profile]
    kinds = [("rf", name) for name in ACTIVATIONS] + [("ntk", name) for name in DERIVATIVES]
    shares = [0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9]
    return _by_kind(
        [
            (*kind, alpha, math.inf, trial)
            for kind, alpha, trial in itertools.product(kinds, shares, range(trials))
        ],
        dim,
    )


def spread_alignment_cells(profile: str) -> list[Cell]:
    """Two samples a dimension in growing dimension, at infinite width.

    `h1`, `h3` and `h7` are derivatives without a constant part: nothing of their kernel is linear.
    """
    dims, trials = {
        "smoke": ([50, 100, 200], 3),
        "laptop": ([100, 200, 400, 800], 5),
        "paper": ([100, 200, 400, 800, 1_600], 10),
    }[profile]
    kinds = [("rf", name, alpha) for name in ACTIVATIONS for alpha in (0.25, 0.5)]
    kinds += [("ntk", name, 0.5) for name in ("h0+h3", "h1", "h3", "h7")]
    return [
        dict(features=features, activation=name, alpha=alpha, dim=dim, samples=2 * dim,
             width=math.inf, trial=trial)
        for (features, name, alpha), dim, trial in itertools.product(kinds, dims, range(trials))
    ]  # fmt: skip


def _at(features: str, activation: str, pool: int, normalise: bool, call: Call) -> dict[str, float]:
    grams = alignment_grams(
        features, activation, call.alpha, call.dim, pool, call.width, normalise, call.trial,
        call.device,
    )  # fmt: skip
    return alignments(grams, call.samples)


@experiment(
    "rf_alignment",
    cells=rf_alignment_cells,
    tolerance=0.01,
    cheap=lambda cell: math.isinf(cell["width"]) and cell["pool"] <= 200,
)
def rf_alignment(call: Call) -> dict[str, float]:
    """Mean and spread of F(z_i^s, z_i) over the training samples, for both kinds of query."""
    return _at("rf", call.activation, call.pool, call.normalise, call)


@experiment(
    "ntk_alignment",
    cells=ntk_alignment_cells,
    tolerance=0.01,
    cheap=lambda cell: cell["pool"] <= 240,
)
def ntk_alignment(call: Call) -> dict[str, float]:
    """The same with NTK features."""
    return _at("ntk", call.derivative, call.pool, call.normalise, call)


@experiment(
    "spread_alignment",
    cells=spread_alignment_cells,
    tolerance=0.01,
    cheap=lambda cell: cell["dim"] <= 400,
)
@experiment("share_alignment", cells=share_alignment_cells, tolerance=0.01, cheap=lambda cell: True)
@experiment(
    "width_alignment",
    cells=width_alignment_cells,
    tolerance=0.01,
    cheap=lambda cell: cell["width"] <= 2_000 or math.isinf(cell["width"]),
)
def alignment_at(call: Call) -> dict[str, float]:
    """The alignment at one width and share; block-normalised data, as the law assumes."""
    return _at(call.features, call.activation, call.samples, True, call)


# -- the law for real cores ------------------------------------------------------------------------


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


def core_law_cells(profile: str) -> list[Cell]:
    """Four activations on block-normalised images."""
    sizes = [10, 20, 50, 100, 200, 500, 1_000]
    grid, trials = {
        "smoke": ({"mnist5k": [20, 100, 400]}, 3),
        "laptop": ({"mnist": [*sizes, 2_000], "cifar10": sizes}, 10),
        "paper": (dict.fromkeys(("mnist", "cifar10"), [*sizes, 2_000, 5_000]), 10),
    }[profile]
    return [
        dict(dataset=dataset, activation=activation, samples=samples, pool=grid[dataset][-1],
             trial=trial)
        for dataset in grid
        for activation, trial, samples in itertools.product(
            ["relu", "phi2", "phi4", "tanh"], range(trials), grid[dataset]
        )
    ]  # fmt: skip


@experiment(
    "core_law",
    cells=core_law_cells,
    tolerance=0.01,
    cheap=lambda cell: cell["dataset"] == "mnist5k",
    on_device=False,
)
def core_law(call: Call) -> dict[str, float | str]:
    """The covariance-aware law and the alignment that it predicts, on block-normalised images."""
    overlaps, alpha, background = _core_overlaps(call.dataset, call.pool, call.trial, call.data_dir)
    grams, *_, source = image_grams(
        "rf", call.dataset, call.activation, "blocks", call.pool, 1, math.inf, call.trial, "cpu",
        call.data_dir,
    )  # fmt: skip
    n, ratio = slice(call.samples), call.samples / framed_pixels(call.dataset)
    K, K_query = grams.train[n, n], grams.queries[n, n]
    measured = alignments([K, K_query, K_query], call.samples)
    return {
        "measured_mean": measured["zero_mean"],
        "measured_sd": measured["zero_sd"],
        "law_cores": theory.gamma_rf_cores(
            call.activation, overlaps[n, n], alpha, background, "zero"
        ),
        "law_isotropic": theory.gamma_rf(
            call.activation, alpha, ratio, "zero", samples=call.samples
        ),
        "data_source": source,
    }
