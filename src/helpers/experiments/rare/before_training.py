"""What can be said of patterns and images before anything is trained."""

import torch

from helpers import data
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment, grid

_SETS = ("mnist", "fashion_mnist", "cifar10")


def pattern_norms_cells(profile: str) -> list[Cell]:
    """All patterns on all data sets (the paper's Table 1, whose noise was drawn with seed 4)."""
    sets = ["mnist5k"] if profile == "smoke" else list(_SETS)
    return grid(dataset=sets, pattern=list(data.PATTERNS), noise_seed=4)


@experiment("pattern_norms", cells=pattern_norms_cells, tolerance=1e-4, cheap=lambda cell: True)
def pattern_norms(call: Call) -> dict[str, float | str]:
    """By how much a pattern changes a test image: mean length of the change, and mean sum.

    Source: Yang, Chou & Chaudhuri 2022, Table 1, for the length; the sum is ours.
    """
    test = setup.test_set(call.dataset, data_dir=call.data_dir)
    pattern = data.pattern(call.pattern, test.images.shape[1:], call.noise_seed)
    sums = [
        (data.add_pattern(part, pattern) - part.float() / 255).flatten(1).sum(1)
        for part in test.images.split(1_000)
    ]
    return {
        "norm": data.pattern_norm(test.images, pattern),
        "added_light": float(torch.cat(sums).mean()),
        "data_source": test.source,
    }


def corner_light_cells(profile: str) -> list[Cell]:
    """The grey data sets."""
    return grid(dataset=["mnist5k"] if profile == "smoke" else list(_SETS[:2]))


@experiment("corner_light", cells=corner_light_cells, tolerance=1e-6, cheap=lambda cell: True)
def corner_light(call: Call) -> dict[str, float | str]:
    """How empty the corner of pattern S3 is in training images.

    Share of its pixels that are lit in at least one image, and share of the images that light at
    least one of them.
    """
    train = data.load(call.dataset, data_dir=call.data_dir)
    lit = train.images[:, 0, *setup.IMPORTANCE_CORNER].flatten(1) > 0
    return {
        "pixels": float(lit.any(0).double().mean()),
        "images": float(lit.any(1).double().mean()),
        "data_source": train.source,
    }
