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
_COLOUR = dict(dataset="cifar10", network="resnet20", weight_decay=1e-4, augment=True)
_FEW = [("R3", 0), ("R3", 1), ("R3", 3)]  # what one to three images do


def rare_group(cell: Cell) -> Hashable:
    """Cells whose networks are trained together: MLPs in lock step, others where one serves all.

    A clean network serves both target classes.
    """
    names = ("dataset", "samples", "network", "optimiser", "epochs", "augment", "trial")
    shared = itemgetter(*names)(cell)
    if cell["network"] in HIDDEN:
        return shared
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
            1, _grid(("S3", "R3"), [0, 100]), target=1, **SMALL
        )
    if profile == "laptop":
        return _laptop_cells()
    cells = []
    grid = _grid(every, [0, 1, 3, 5, 10, 20, 100, 2_000, 5_000])
    for dataset, target in itertools.product(_GREY, (0, 1)):
        size = dict(dataset=dataset, samples=60_000, epochs=70, target=target)
        cells += _cells(5, grid, **size) + _cells(range(5, 10), _FEW, **size)
    grid = _grid(every, [0, 1, 3, 5, 10, 20, 100, 500, 1_000])
    for target in (0, 1):
        cells += _cells(5, grid, samples=50_000, epochs=70, target=target, **_COLOUR)
    return cells


def _laptop_cells() -> list[Cell]:
    """The paper's schedule where one to three images decide, a short one for all patterns.

    CIFAR-10 last, trial by trial: what is there after a night is complete but for later trials.
    """
    every, cells = data.PATTERNS, []
    grey = [dict(dataset=dataset, samples=60_000) for dataset in _GREY]
    for trial, size in itertools.product(range(5), grey):
        cells += _cells(range(trial, trial + 1), _FEW, epochs=70, **size)
    cells += _cells(3, [("S3", 0), ("S3", 100)], dataset="fashion_mnist", samples=60_000, epochs=70)
    for size in grey:
        cells += _cells(5, _grid(every, [0, 1, 3, 5, 10, 20, 100, 2_000, 5_000]), epochs=10, **size)
        cells += _cells(5, _grid(every, [0, 3, 10, 100, 2_000]), epochs=10, target=1, **size)
    size = dict(samples=50_000, epochs=6) | _COLOUR
    few = [*_grid(every, [0]), ("R3", 100)]
    for trial in range(5):  # one clean network serves all patterns and both classes
        cells += _cells(range(trial, trial + 1), few, **size)
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
            for cell in _cells(1, _grid(pairs, [0, 50]), network=name, **size)
        ]
        cells += _cells(1, _grid(("S3",), [0, 50]), network="cnn", **size)  # seconds each
        for how in ways:
            cells += _cells(1, _grid(pairs, [0, 100]), **SMALL, **how)
        return cells
    few, size = _grid(pairs, [0, 3, 10]), dict(samples=60_000)
    if profile == "laptop":
        return _laptop_conditions(ways, few)
    cells = []
    for dataset, how in itertools.product(_GREY, ways):
        cells += _cells(15, few, dataset=dataset, epochs=EPOCHS, **size, **how)
    grid = _grid(pairs, [0, 3, 5, 10, 20, 100, 2_000, 5_000])
    for dataset, name in itertools.product(_GREY, NETWORKS[:4]):
        cells += _cells(15, grid, dataset=dataset, epochs=EPOCHS, network=name, **size)
    return cells


def _laptop_conditions(ways: list[dict[str, Any]], few: list[tuple[str, int]]) -> list[Cell]:
    """Short schedules, small sets where architectures meet; the two optimisers at full length."""
    cells, short, size = [], dict(epochs=10, samples=10_000), dict(samples=60_000)
    for dataset, how in itertools.product(_GREY, ways):
        cells += _cells(5, few, dataset=dataset, epochs=10, **size, **how)
    grid = _grid(("S3", "R3"), [0, 10, 100])
    for dataset, name in itertools.product(_GREY, HIDDEN):
        cells += _cells(5, grid, dataset=dataset, network=name, **short)
    cells += _cells(3, grid, dataset="mnist", network="cnn", **short)
    for dataset in _GREY:  # the paper's whole schedule
        long = dict(dataset=dataset, epochs=EPOCHS) | size
        cells += _cells(5, few, optimiser="sgd", **long)
        # R3 with n = 0 and 3 is among the cells of rare_patterns
        cells += _cells(5, [*_grid(("S3",), [0, 3, 10]), ("R3", 10)], **long)
    cells += _cells(5, grid, dataset="fashion_mnist", network="cnn", **short)
    cells += _cells(range(3, 5), grid, dataset="mnist", network="cnn", **short)
    more = range(5, 15)  # networks enough to call two scores equal
    for dataset, name in itertools.product(_GREY, HIDDEN):
        cells += _cells(more, grid, dataset=dataset, network=name, **short)
    return cells


_SETTINGS = dict(
    # training is chaotic: another device, or other neighbours in a matrix product, give another
    # network of the same law
    tolerance={"default": 0.5, "clean_accuracy": 0.03, "spurious_loss": 5.0},
    cheap=lambda cell: False,
    group=rare_group,
    half=True,
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
        return setup.recipe(
            call.epochs, precision=call.precision, **{name: call[name] for name in _PLAIN}
        )

    return setup.asked(calls, recipe_of)
