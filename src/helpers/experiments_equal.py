"""Patterns of one norm spread over few or many pixels (chapter on what makes patterns easy)."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from helpers import data, experiments_rare, metrics, training
from helpers.sweep import Cell, Experiment, register

NORM = 3.5
SPREADS = ("corner, 25", "anywhere, 25", "anywhere, 100", "anywhere, 784")


def spread_out(seed: int) -> dict[str, torch.Tensor]:
    """The patterns of :data:`SPREADS`, each `(1, 28, 28)` and of empirical norm 3.5.

    The corner is S3's, the other places are drawn by the seed; the norm is that on test digits of
    `mnist5k`, after clipping.
    """
    places = torch.randperm(784, generator=torch.Generator().manual_seed(seed))
    chosen = {SPREADS[0]: data.pattern("S3", (1, 28, 28), seed=0)}
    for name in SPREADS[1:]:
        v = torch.zeros(784)
        v[places[: int(name.split(", ")[1])]] = 1
        chosen[name] = v.view(1, 28, 28)
    return {name: tuned(v) for name, v in chosen.items()}


def tuned(v: torch.Tensor) -> torch.Tensor:
    """The pattern, scaled until its empirical norm on the test digits is 3.5."""
    others = data.load("mnist5k", train=False)
    for _ in range(8):  # clipping makes the norm less than proportional
        v = v * (NORM / data.pattern_norm(others.images, v))
    return v


def target_score(net: torch.nn.Module, v: torch.Tensor, device: str) -> float:
    """Spurious score of class 0 on test digits other than zero."""
    others = data.load("mnist5k", train=False)
    rest = others.rows(others.labels != 0)
    shown = (rest.images / 255, data.add_pattern(rest.images, v))
    probs = [training.predict(net, x.to(device)).softmax(1).cpu() for x in shown]
    return metrics.spurious_score(*probs, target=0)


def equal_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """One clean network and one for each pattern and number of spurious images, side by side."""
    first = calls[0]
    seed, device = first["trial"], first["device"]
    digits, others = (data.load("mnist5k", train=train) for train in (True, False))
    draw = torch.Generator().manual_seed(seed)
    own = digits.rows(torch.randperm(len(digits), generator=draw)[: first["samples"]])
    chosen = spread_out(seed)
    sets = [data.with_spurious(own, chosen[call["pixels"]], call["n"], 0, seed) for call in calls]
    nets = [experiments_rare.network("mlp", seed).to(device) for _ in range(1 + len(calls))]
    training.train_many(
        nets, own.images.to(device).float() / 255, own.labels.to(device),
        experiments_rare.recipe(first["epochs"], optimiser=first["optimiser"]), seed=seed,
        replaced=[None, *map(tuple, sets)],
    )  # fmt: skip
    right = training.predict(nets[0], others.images.to(device) / 255).cpu()
    return [
        {
            "clean": target_score(nets[0], chosen[call["pixels"]], device),
            "score": target_score(net, chosen[call["pixels"]], device),
            "accuracy": metrics.accuracy(right, others.labels),
            "data_source": digits.source,
        }
        for net, call in zip(nets[1:], calls, strict=True)
    ]


def equal_norms(
    pixels: str, n: int, samples: int, epochs: int, optimiser: str, trial: int, device: str,
    data_dir: str | None,
) -> dict[str, float | str]:  # fmt: skip
    """Scores of a network that saw n spurious images, and of a clean one; its test accuracy."""
    return equal_many([locals()])[0]


def equal_cells(profile: str) -> list[Cell]:
    """Adam for all numbers of spurious images, SGD (longer) for the largest."""
    samples, counts, adam, sgd = {
        "smoke": (1_000, (10, 50), (8, 2), (10, 1)),
        "laptop": (4_000, (3, 10, 100), (10, 5), (60, 5)),
        "paper": (4_000, (3, 10, 100), (10, 20), (60, 20)),
    }[profile]
    plans = [("adam", counts, *adam), ("sgd", counts[-1:], *sgd)]
    return [
        dict(pixels=pixels, n=n, samples=samples, epochs=epochs, optimiser=optimiser, trial=trial)
        for optimiser, numbers, epochs, trials in plans
        for trial, pixels, n in itertools.product(range(trials), SPREADS, numbers)
    ]


register(
    Experiment(
        "equal_norms",
        equal_norms,
        equal_cells,
        # training is chaotic: another device gives another network of the same law
        tolerance={"default": 0.5, "accuracy": 0.03},
        cheap=lambda cell: False,
        many=equal_many,
        group=lambda cell: (*(cell[k] for k in ("samples", "epochs", "optimiser", "trial")),),
    )
)
