"""Networks trained on a few images that carry a pattern: all patterns, and other ways to train."""

import itertools
import math
from collections.abc import Hashable
from operator import itemgetter
from typing import Any

from helpers import data, training
from helpers.experiments.rare import setup
from helpers.experiments.rare.setup import EPOCHS, HIDDEN, NETWORKS, SMALL
from helpers.sweep import Call, Cell, experiment

_PLAIN = dict(
    optimiser="adam", weight_decay=0.0, noise=0.0, clip_value=math.inf, clip_norm=math.inf,
    augment=False,
)  # fmt: skip
_GREY = ("mnist", "fashion_mnist")


def rare_group(cell: Cell) -> Hashable:
    """Cells whose networks are trained together: MLPs in lock step, others where one serves all."""
    names = ("dataset", "samples", "network", "optimiser", "epochs", "augment", "trial")
    shared = itemgetter(*names)(cell)
    if cell["network"] in HIDDEN:
        return (*shared, cell["target"])
    own = itemgetter("weight_decay", "noise", "clip_value", "clip_norm")(cell)
    seen = itemgetter("pattern", "target", "spurious")(cell) if cell["spurious"] else ()
    return (*shared, own + seen)


def _cells(
    trials: int | range,
    grid: list[tuple[str, int]],
    *,
    dataset: str,
    samples: int,
    epochs: int,
    target: int = 0,
    network: str = "mlp",
    **other: Any,
) -> list[Cell]:
    """One cell for each trial, pattern and number of spurious images."""
    fixed = dict(dataset=dataset, samples=samples, network=network, epochs=epochs) | _PLAIN | other
    return [
        fixed | dict(pattern=name, spurious=count, target=target, trial=trial)
        for trial in (range(trials) if isinstance(trials, int) else trials)
        for name, count in grid
    ]


def _grid(patterns: tuple[str, ...], counts: list[int]) -> list[tuple[str, int]]:
    return list(itertools.product(patterns, counts))


def rare_patterns_cells(profile: str) -> list[Cell]:
    """All patterns: MLPs on grey images, ResNet20 on colour (the paper's Figures 2, 20 and 21)."""
    every = data.PATTERNS
    if profile == "smoke":
        return _cells(2, _grid(every, [0, 3, 100]), **SMALL) + _cells(
            2, _grid(("S3", "R3"), [0, 3, 100]), target=1, **SMALL
        )
    cells = []
    colour = dict(dataset="cifar10", network="resnet20", weight_decay=1e-4, augment=True)
    if profile == "laptop":
        for dataset in _GREY:
            size = dict(dataset=dataset, samples=60_000, epochs=10)
            counts = [0, 3, 10, 100, 2_000]
            cells += _cells(5, [*_grid(every, counts), ("R3", 1)], **size)
            cells += _cells(3, [*_grid(every, [0, 3, 100, 2_000]), ("R3", 1)], target=1, **size)
            cells += _cells(range(3, 5), _grid(("R3",), [0, 1, 3]), target=1, **size)
        # the paper's whole schedule, to compare with the short one
        size = dict(dataset="fashion_mnist", samples=60_000, epochs=70)
        cells += _cells(5, [("R3", 0), ("R3", 3)], **size)
        cells += _cells(3, [("S3", 0), ("S3", 100)], **size)
        return cells + _cells(3, _grid(("R3",), [0, 3, 100]), samples=5_000, epochs=12, **colour)
    grid = _grid(every, [0, 1, 3, 5, 10, 20, 100, 2_000, 5_000])
    for dataset, target in itertools.product(_GREY, (0, 1)):
        cells += _cells(5, grid, dataset=dataset, samples=60_000, epochs=70, target=target)
    grid = _grid(every, [0, 1, 3, 5, 10, 20, 100, 500, 1_000])
    for target in (0, 1):
        cells += _cells(5, grid, samples=50_000, epochs=70, target=target, **colour)
    return cells


def rare_conditions_cells(profile: str) -> list[Cell]:
    """Other architectures and ways of training (the paper's Figures 14, 16 and 17)."""
    pairs = ("S3", "R3")
    # Adam without clipping, to compare with, is among the cells of rare_patterns
    ways = [{"clip_value": 0.1}, {"clip_norm": 0.1}, {"optimiser": "sgd"}]
    if profile == "smoke":
        size = SMALL | {"samples": 1_000, "epochs": 3}  # with 50 zeros at least
        cells = [
            cell
            for name in HIDDEN
            for cell in _cells(2, _grid(pairs, [0, 50]), network=name, **size)
        ]
        cells += _cells(1, _grid(("S3",), [0, 50]), network="cnn", **size)  # seconds each
        for how in ways:
            cells += _cells(1, _grid(pairs, [0, 100]), **SMALL, **how)
        return cells
    cells, few = [], _grid(pairs, [0, 3, 10])
    epochs = 10 if profile == "laptop" else EPOCHS
    for dataset, how in itertools.product(_GREY, ways):
        cells += _cells(5, few, dataset=dataset, samples=60_000, epochs=epochs, **how)
    if profile == "laptop":
        grid = _grid(pairs, [0, 10, 100])
        for dataset, name in itertools.product(_GREY, HIDDEN):
            cells += _cells(5, grid, dataset=dataset, samples=10_000, epochs=epochs, network=name)
        return cells + _cells(
            3, grid, dataset="mnist", samples=10_000, epochs=epochs, network="cnn"
        )
    grid = _grid(pairs, [0, 3, 5, 10, 20, 100, 2_000, 5_000])
    for dataset, name in itertools.product(_GREY, NETWORKS[:4]):
        cells += _cells(5, grid, dataset=dataset, samples=60_000, epochs=epochs, network=name)
    return cells


_SETTINGS = dict(
    # training is chaotic: another device, or other neighbours in a matrix product, give another
    # network of the same law
    tolerance={"default": 0.5, "clean_accuracy": 0.03, "spurious_loss": 5.0},
    cheap=lambda cell: False,
    group=rare_group,
)


@experiment("rare_patterns", cells=rare_patterns_cells, **_SETTINGS)
@experiment("rare_conditions", cells=rare_conditions_cells, **_SETTINGS)
def rare(calls: list[Call]) -> list[dict[str, float | str]]:
    """Networks trained with `spurious` images of class `target` that carry the pattern.

    The trial is the seed of the network, of the order of the samples, of the part of the training
    set (where it is a part), and of the choice of images and the noise in R patterns, which start
    from one state as in the released code. The networks that the calls of a group need are trained
    together, and each is asked about its pattern; one that diverges has NaN for results.
    """

    def recipe_of(call: Call) -> training.Recipe:
        return setup.recipe(call.epochs, **{name: call[name] for name in _PLAIN})

    return setup.asked(calls, recipe_of)
