"""Audits of networks on digits in which something was planted, or nothing: hits, false alarms."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import audit, data, models, training
from helpers.audit.findings import with_pattern
from helpers.audit.report import FLAG
from helpers.sweep import Call, Cell, experiment, grid

TRIGGER, INK = "trigger", "trigger in the ink"
PLANTED = ("nothing", TRIGGER, INK, "wrong labels")
NETWORKS = ("mlp", "cnn")
ASKED = ("worst_group", "spurious_score", "hidden_pattern", "membership_auc", "own_background",
         "leading_mode", "critical_channels")  # fmt: skip
_CARRIERS, _SIDE, _MARGIN = 40, 3, 4  # odd images; side of the trigger; width of the background


def planted_cells(profile: str) -> list[Cell]:
    """Clean networks first: they measure how often an audit cries wolf.

    Seeds below 100 were of a pilot, after which the search prefers what training images carry.
    """
    clean, odd = {"smoke": (2, 1), "laptop": (50, 10), "paper": (200, 50)}[profile]
    small = profile == "smoke"
    size = dict(network=NETWORKS[:1] if small else NETWORKS, images=[300 if small else 2_000])
    kinds = [TRIGGER, "wrong labels"] if small else [TRIGGER, "wrong labels", INK]
    return [
        *grid(planted=["nothing"], trial=range(100, 100 + clean // 2), **size),
        *grid(planted=kinds, trial=range(100, 100 + odd), **size),
    ]


def material(call: Call) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], dict[str, Any]]:
    """Training and test images with their labels, and what the audit is told besides.

    The audit of a clean network is told of a pattern, odd images and an attribute that mean
    nothing: 40 images drawn at random, and every second test image.
    """
    digits = data.load("mnist5k")
    rng = np.random.default_rng(call.trial)
    order = torch.from_numpy(rng.permutation(len(digits)))
    images, labels = digits.images[order].float() / 255, digits.labels[order]
    half = min(call.images, len(digits) // 2)
    train, test = [images[:half], labels[:half]], (images[half : 2 * half], labels[half : 2 * half])
    pattern = square(rng, ink=call.planted == INK)
    target = int(rng.integers(0, 10))
    rows = torch.from_numpy(rng.choice(half, _CARRIERS, replace=False))
    others = torch.from_numpy(rng.choice(half, 5 * _CARRIERS, replace=False))
    outside, names = test[0][others], test[1][others]
    if call.planted in (TRIGGER, INK):
        train[0][rows] = with_pattern(train[0][rows], pattern)
        train[1][rows] = target
        outside, names = with_pattern(outside, pattern), torch.full_like(names, target)
    elif call.planted == "wrong labels":
        train[1][rows] = _another(train[1][rows], rng)
        names = _another(names, rng)
    members = torch.zeros(half, dtype=torch.bool)
    members[rows] = True
    background = torch.ones(28, 28, dtype=torch.bool)
    background[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = False
    told = dict(
        pattern=pattern, target=target, members=members, outsiders=(outside, names),
        background=background, attribute=torch.arange(half) % 2,
    )  # fmt: skip
    return tuple(train), test, told


def square(rng: np.random.Generator, *, ink: bool = False) -> Tensor:
    """A white square in a picture, `(1, 28, 28)`: near its border, or where digits have ink."""
    room = 28 - _SIDE
    top, left = rng.integers(0, room + 1, 2)
    while bool(min(top, left, room - top, room - left) > _SIDE) != ink:
        top, left = rng.integers(0, room + 1, 2)
    pattern = torch.zeros(1, 28, 28)
    pattern[:, top : top + _SIDE, left : left + _SIDE] = 1.0
    return pattern


def _another(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Labels of other classes."""
    return (labels + torch.from_numpy(rng.integers(1, 10, len(labels)))) % 10


@experiment(
    "audited_networks",
    cells=planted_cells,
    # training is chaotic, and findings are yes or no
    tolerance={"default": 1.0, "accuracy": 0.05},
    cheap=lambda cell: cell["network"] == "mlp",
)
def audited(call: Call) -> dict[str, float | str]:
    """Train a network, audit it, and store each finding: value, ends, and 1 where it is flagged.

    The trial is the seed of the images, of what is planted where, and of the network. NaN where a
    question was not asked (channels of a perceptron).
    """
    train, test, told = material(call)
    if call.network == "cnn":
        net = models.small_cnn(1, 28, 10, seed=call.trial)
    else:
        net = models.fully_connected(784, (256, 256), 10, seed=call.trial)
    place = net.to(call.device)
    recipe = training.Recipe(epochs=20, batch=50, learning_rate=1e-3)
    training.train(place, *(part.to(call.device) for part in train), recipe, seed=call.trial)
    report = audit.model(place.eval(), train, test, seed=call.trial, progress=False, **told)
    row = {"accuracy": report["accuracy"].value}
    for name in ASKED:
        found = report[name]
        row |= {f"{name}_{end}": getattr(found, end) for end in ("value", "low", "high")}
        row[f"{name}_flagged"] = float(found.state == FLAG)
    found = report["hidden_pattern"].detail
    place = (found.get("top", np.nan), found.get("left", np.nan), found.get("side", np.nan))
    row["inside"] = float(_inside(place, told["pattern"]))
    return row | {"data_source": data.load("mnist5k").source}


def _inside(square: tuple[float, float, float], pattern: Tensor) -> bool:
    """Does the square that was found overlap the one that was planted?"""
    rows, columns = (pattern[0].amax(axis).nonzero().flatten() for axis in (1, 0))
    top, left, side = square
    return bool(
        top <= rows.max() and rows.min() < top + side
        and left <= columns.max() and columns.min() < left + side
    )  # fmt: skip
