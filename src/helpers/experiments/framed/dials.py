"""What turns memory on framed digits: the width of the border; ridge and label noise at one N.

A trial draws its own subset of the digits *and* its own frames: no frame is seen by two trials.
"""

import itertools
from functools import lru_cache
from typing import NamedTuple

import torch

from helpers import data, probes, theory
from helpers.experiments.framed.grams import (
    PAIRS,
    TOLERANCE,
    Grams,
    alignments,
    check_enough,
    kernel_blocks,
)
from helpers.kernels import alignment
from helpers.sweep import Call, Cell, experiment

_BORDER, _TEST = 10, 800


class Digits(NamedTuple):
    """Kernel blocks of freshly framed digits, and what is known of them."""

    grams: Grams
    labels: torch.Tensor
    test_labels: torch.Tensor
    alpha: float
    source: str


@lru_cache(maxsize=1)
def framed_digits(
    dataset: str, border: int, scaling: str, pool: int, test: int, trial: int, data_dir: str | None
) -> Digits:
    """ReLU kernel of infinite width on digits whose subset and frames belong to this trial.

    Raises:
        ValueError: more digits than the two classes of a split have.
    """
    draw = torch.Generator().manual_seed(trial)
    blocks, labels = [], []
    for train, size in ((True, pool), (False, test)):
        found = data.load(dataset, train=train, data_dir=data_dir)
        images, signs = data.binary_pair(found, *PAIRS[dataset])
        check_enough(dataset, len(images), "samples of its two classes", size)
        chosen = torch.randperm(len(images), generator=draw)[:size]
        # seeds far from those of the frames that `framed_pair` draws
        framed = data.noise_border(images[chosen], border, seed=1_000 + 2 * trial + train)
        blocks.append(data.two_blocks(framed, border))
        labels.append(signs[chosen])
    scale = data.BlockScaling.fit(*blocks[0], scaling)
    inputs = []
    for x, y in blocks:
        inputs += [scale.apply(x, y).z, scale.apply(torch.zeros_like(x), y).z]
    grams = Grams(*kernel_blocks("rf", inputs, "relu", float("inf"), trial, "cpu"))
    return Digits(grams, *labels, blocks[0].alpha, found.source)


# -- the width of the border -----------------------------------------------------------------------


def border_alignment_cells(profile: str) -> list[Cell]:
    """Borders from 1 pixel (an eighth of the input) to 14 (three quarters)."""
    wide = [1, 2, 3, 5, 7, 10, 14]
    dataset, borders, sizes, trials = {
        "smoke": ("mnist5k", [1, 3, 10], [50, 400], 3),
        "laptop": ("mnist", wide, [50, 200, 1_000], 5),
        "paper": ("mnist", wide, [50, 200, 1_000, 5_000], 10),
    }[profile]
    return [
        dict(dataset=dataset, border=border, scaling=scaling, samples=samples, pool=sizes[-1],
             trial=trial)
        for border, scaling, trial, samples in itertools.product(
            borders, ["raw", "blocks"], range(trials), sizes
        )
    ]  # fmt: skip


@experiment(
    "border_alignment",
    cells=border_alignment_cells,
    tolerance={"default": 0.02, "spurious_auc": 0.05},
    cheap=lambda cell: cell["pool"] <= 1_000,
    on_device=False,
)
def border_alignment(call: Call) -> dict[str, float | str]:
    """Alignment and memory of framed digits at one width of the border; cores are blanked."""
    found = framed_digits(
        call.dataset, call.border, call.scaling, call.pool, _BORDER, call.trial, call.data_dir
    )
    n, g = slice(call.samples), found.labels[: call.samples].double()
    K, K_query = found.grams.train[n, n], found.grams.queries[n, n]
    outputs = alignment.interpolate(K).predict(K_query, g)
    measured = alignments([K, K_query, K_query], call.samples)
    pixels = (28 + 2 * call.border) ** 2
    return {
        "alpha": found.alpha,
        "alignment_mean": measured["zero_mean"],
        "alignment_sd": measured["zero_sd"],
        "spurious_auc": probes.auc(outputs, g),
        "spurious_covariance": probes.covariance(outputs, g),
        "law_isotropic": theory.gamma_rf(
            "relu", found.alpha, call.samples / pixels, "zero", samples=call.samples
        ),
        "data_source": found.source,
    }


# -- memory at one N -------------------------------------------------------------------------------


def memory_dials_cells(profile: str) -> list[Cell]:
    """Ridge without label noise, then label noise without ridge."""
    dataset, samples, test, trials = {
        "smoke": ("mnist5k", 200, 200, 3),
        "laptop": ("mnist", 500, _TEST, 10),
        "paper": ("mnist", 500, _TEST, 20),
    }[profile]
    ridges, noises = {"smoke": ([0.1, 10.0], [0.2])}.get(
        profile, ([0.01, 0.1, 1.0, 10.0], [0.05, 0.1, 0.2, 0.4])
    )
    settings = [(0.0, 0.0), *((r, 0.0) for r in ridges), *((0.0, p) for p in noises)]
    return [
        dict(dataset=dataset, samples=samples, test=test, ridge=ridge, noise=noise, trial=trial)
        for trial, (ridge, noise) in itertools.product(range(trials), settings)
    ]


@experiment(
    "memory_dials",
    cells=memory_dials_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: True,
    on_device=False,
)
def memory_dials(call: Call) -> dict[str, float | str]:
    """Covariance, AUC and task at one N: kernel ridge on labels of which a share is flipped.

    The ridge is added to a kernel whose diagonal is 1/2; `auc_unseen` is that of frames of the test
    set, `output_sd` the standard deviation of the outputs on training frames.
    """
    found = framed_digits(
        call.dataset, _BORDER, "blocks", call.samples, call.test, call.trial, call.data_dir
    )
    flips = torch.rand(call.samples, generator=torch.Generator().manual_seed(call.trial))
    g = torch.where(flips < call.noise, -found.labels, found.labels).double()
    held_out = found.test_labels.double()
    train, queries, test, test_queries = found.grams
    ridged = train + call.ridge * torch.eye(len(train), dtype=train.dtype)
    fitted = alignment.interpolate(ridged)
    spurious, answers = fitted.predict(queries, g), fitted.predict(test, g)
    return {
        "spurious_covariance": probes.covariance(spurious, g),
        "spurious_auc": probes.auc(spurious, g),
        "spurious_accuracy": probes.sign_accuracy(spurious, g),
        "auc_unseen": probes.auc(fitted.predict(test_queries, g), held_out),
        "output_sd": float(spurious.std()),
        "alignment_mean": float(fitted.alignment(queries).mean()),
        "test_accuracy": probes.sign_accuracy(answers, held_out),
        "data_source": found.source,
    }
