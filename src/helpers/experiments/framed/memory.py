"""How much an interpolator remembers of frames and backgrounds (the paper's Figures 2 and 3)."""

import itertools
import math

from helpers import theory
from helpers.experiments.framed.grams import (
    TOLERANCE,
    framed_pixels,
    gaussian_grams,
    image_grams,
    memorisation,
)
from helpers.sweep import Call, Cell, experiment

SIZES = [10, 20, 50, 100, 200, 500, 1_000]
_SMOKE_SIZES, _SMOKE_IMAGES = [10, 30, 100], {"mnist5k": [10, 50, 200]}


def _gaussian(features: str, activation: str, gamma: float, call: Call) -> dict[str, float]:
    """Features on Gaussian blocks with labels sign(u'x); the core is resampled."""
    grams, labels, test_labels = gaussian_grams(
        features, activation, call.alpha, call.dim, call.pool, call.test, call.width, call.trial,
        call.device,
    )  # fmt: skip
    return memorisation(grams, labels, test_labels, call.samples, gamma)


def _images(features: str, activation: str, call: Call) -> dict[str, float | str]:
    """Features on framed images of two classes; the core is blanked."""
    grams, labels, test_labels, alpha, source = image_grams(
        features, call.dataset, activation, call.scaling, call.pool, call.test, call.width,
        call.trial, call.device, call.data_dir,
    )  # fmt: skip
    ratio = call.samples / framed_pixels(call.dataset)
    if features == "ntk":
        gamma = theory.gamma_ntk(activation, alpha, ratio, query="zero")
    else:
        gamma = theory.gamma_rf(activation, alpha, ratio, query="zero", samples=call.samples)
    row = memorisation(grams, labels, test_labels, call.samples, gamma)
    return row | {"data_source": source}


def _gaussian_cells(
    profile: str, key: str, names: list[str], smoke_width: int, width: int, sizes: list[int]
) -> list[Cell]:
    """Every name at every size, share and both widths; `key` is the parameter for the name."""
    dim, width, test, sizes = {"smoke": (100, smoke_width, 200, _SMOKE_SIZES)}.get(
        profile, (1_000, width, 1_000, sizes)
    )
    return [
        {key: name, "alpha": alpha, "dim": dim, "samples": samples,
         "pool": samples if profile == "paper" else sizes[-1],
         "test": test, "width": k, "trial": trial}
        for k, alpha, name, trial, samples in itertools.product(
            [width, math.inf], [0.25, 0.5], names, range(5 if profile == "smoke" else 10), sizes
        )
    ]  # fmt: skip


def rf_gaussian_cells(profile: str) -> list[Cell]:
    """Both activations at a width of 100,000 and at infinite width."""
    return _gaussian_cells(profile, "activation", ["phi2", "phi4"], 2_000, 100_000, SIZES)


def ntk_gaussian_cells(profile: str) -> list[Cell]:
    """Three derivatives at a width of 100 and at infinite width."""
    names = ["h0+h1", "h0+h3", "h0+h7"]
    return _gaussian_cells(profile, "derivative", names, 100, 100, [*SIZES, 2_000])


def rf_images_cells(profile: str) -> list[Cell]:
    """ReLU at both widths; at infinite width with two scalings of the pixels."""
    full = {"mnist": [*SIZES, 2_000, 5_000], "cifar10": SIZES}
    width, test, trials, sizes = {"smoke": (2_000, 200, 3, _SMOKE_IMAGES)}.get(
        profile, (100_000, 1_000, 10, full)
    )
    kinds = [(width, "raw"), (math.inf, "raw"), (math.inf, "blocks")]
    return [
        dict(dataset=dataset, activation="relu", scaling=scaling, samples=samples,
             pool=samples if profile == "paper" else sizes[dataset][-1],
             test=test, width=k, trial=trial)
        for dataset in sizes
        for (k, scaling), trial, samples in itertools.product(kinds, range(trials), sizes[dataset])
    ]  # fmt: skip


def ntk_images_cells(profile: str) -> list[Cell]:
    """Three derivatives with three scalings of the pixels, width 100."""
    full = {"mnist": [*SIZES, 2_000], "cifar10": SIZES}
    test, trials, sizes = {
        "smoke": (200, 3, _SMOKE_IMAGES),
        "laptop": (1_000, 10, full),
        "paper": (1_000, 10, full | {"mnist": [*SIZES, 2_000, 5_000]}),
    }[profile]
    return [
        dict(dataset=dataset, derivative=derivative, scaling=scaling, samples=samples,
             pool=samples if profile == "paper" else sizes[dataset][-1],
             test=test, width=100, trial=trial)
        for dataset in sizes
        for scaling, trial, derivative, samples in itertools.product(
            ["raw", "rms", "blocks"], range(trials), ["h0+h1", "h0+h3", "h0+h7"], sizes[dataset]
        )
    ]  # fmt: skip


@experiment(
    "rf_gaussian",
    cells=rf_gaussian_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: math.isinf(cell["width"]),
)
def rf_gaussian(call: Call) -> dict[str, float]:
    """Random features on Gaussian blocks (the paper's Figure 2, first two panels)."""
    ratio = call.samples / call.dim
    gamma = theory.gamma_rf(call.activation, call.alpha, ratio, samples=call.samples)
    return _gaussian("rf", call.activation, gamma, call)


@experiment(
    "rf_images",
    cells=rf_images_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: math.isinf(cell["width"]) and cell["dataset"] == "mnist5k",
)
def rf_images(call: Call) -> dict[str, float | str]:
    """Random features on framed images (Figure 2, last two panels)."""
    return _images("rf", call.activation, call)


@experiment("ntk_gaussian", cells=ntk_gaussian_cells, tolerance=TOLERANCE, cheap=lambda cell: True)
def ntk_gaussian(call: Call) -> dict[str, float]:
    """NTK features on Gaussian blocks."""
    gamma = theory.gamma_ntk(call.derivative, call.alpha, call.samples / call.dim)
    return _gaussian("ntk", call.derivative, gamma, call)


@experiment(
    "ntk_images",
    cells=ntk_images_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: cell["dataset"] == "mnist5k",
)
def ntk_images(call: Call) -> dict[str, float | str]:
    """NTK features on framed images (the paper's Figure 3)."""
    return _images("ntk", call.derivative, call)
