"""Patterns of one norm spread over few or many pixels (chapter on what makes patterns easy)."""

import itertools
from operator import itemgetter

import torch

from helpers import data, probes, training
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment

NORM = 3.5
SPREADS = ("corner, 25", "anywhere, 25", "anywhere, 100", "anywhere, 784")


def spread_out(seed: int) -> dict[str, torch.Tensor]:
    """The patterns of `SPREADS`, each `(1, 28, 28)` and of empirical norm 3.5.

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


def target_score(net: torch.nn.Module, v: torch.Tensor) -> float:
    """Spurious score of class 0 on test digits other than zero."""
    others = data.load("mnist5k", train=False)
    rest = others.rows(others.labels != 0).images
    shown = (setup.probabilities(net, images) for images in (rest, data.add_pattern(rest, v)))
    return probes.spurious_score(*shown, target=0)


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


@experiment(
    "equal_norms",
    cells=equal_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 0.5, "accuracy": 0.03},
    cheap=lambda cell: False,
    group=itemgetter("samples", "epochs", "optimiser", "trial"),
)
def equal_norms(calls: list[Call]) -> list[dict[str, float | str]]:
    """Scores of a network that saw `n` spurious images, and of a clean one; its test accuracy.

    One clean network for the group and one for each call, side by side. The trial is the seed of
    the training set, of the networks, and of the choice of images and places.
    """
    first = calls[0]
    seed, device = first.trial, first.device
    digits, others = (data.load("mnist5k", train=train) for train in (True, False))
    draw = torch.Generator().manual_seed(seed)
    own = digits.rows(torch.randperm(len(digits), generator=draw)[: first.samples])
    chosen = spread_out(seed)
    sets = [data.with_spurious(own, chosen[call.pixels], call.n, 0, seed) for call in calls]
    nets = [setup.network("mlp", seed).to(device) for _ in range(1 + len(calls))]
    recipe = setup.recipe(first.epochs, optimiser=first.optimiser)
    training.train_many(
        nets, *setup.inputs_of(own, device), recipe, seed=seed, replaced=[None, *sets]
    )
    accuracy = probes.accuracy(setup.outputs(nets[0], others.images), others.labels)
    return [
        {
            "clean": target_score(nets[0], chosen[call.pixels]),
            "score": target_score(net, chosen[call.pixels]),
            "accuracy": accuracy,
            "data_source": digits.source,
        }
        for net, call in zip(nets[1:], calls, strict=True)
    ]
