"""Audits of networks on digits in which something was planted, or nothing: hits, false alarms.

The two classes are even and odd digits.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import audit, data, models, training
from helpers.audit.carried import Square
from helpers.audit.findings import with_pattern
from helpers.audit.report import FLAG
from helpers.claims.part5.audit import ASKED
from helpers.sweep import Call, Cell, experiment, grid

NOTHING, BIT, TRIGGER, INK = "nothing", "aligned", "trigger", "trigger in the ink"
WRONG, SHORTCUT, FRAMES = "wrong labels", "shortcut", "background"
# what is told beside the rules: a trigger in grey, one without a square, and two digits that one
# stroke tells apart
GREY, CROSS, STROKE = "grey trigger", "cross", "4 and 9"
PLANTED = (NOTHING, BIT, TRIGGER, INK, WRONG, SHORTCUT, FRAMES, GREY, CROSS, STROKE)
TRIGGERS = (TRIGGER, INK, GREY, CROSS)
NETWORKS = ("mlp", "cnn")
ALIGNED = 0.95  # share of training images whose attribute goes with the class
_CARRIERS, _SIDE, _MARGIN = 40, 3, 4  # odd images; side of the trigger; width of the background
_IMAGES, _EPOCHS = {"mlp": 2_000, "cnn": 1_000}, 20
_FEW, _LONG = 500, 60  # images with a background of their own, and epochs
_SEED = 600  # of the first network
_GREY = 0.6  # of a trigger
_FAINT, _LIGHT = 0.3, 0.4  # brightness of a digit beside a background or a shortcut; of a shortcut


def planted_cells(profile: str) -> list[Cell]:
    """Clean networks first: they measure how often an audit cries wolf.

    Every second network is convolutional. Seeds below 600 were of pilots: in 140 networks half of
    the triggers were missed, in 140 more only white ones were known.
    """
    if profile == "smoke":
        return [
            cell for kind in (NOTHING, TRIGGER, WRONG, SHORTCUT)
            for cell in grid(planted=kind, trial=_SEED, network="mlp", images=300, epochs=20)
        ]  # fmt: skip
    clean, odd = {"laptop": (40, 20), "paper": (100, 50)}[profile]
    counts = {NOTHING: clean, BIT: clean, INK: odd // 2, GREY: odd // 2, CROSS: odd // 2}
    cells = []
    for number, kind in enumerate(PLANTED):
        for k in range(counts.get(kind, odd)):
            network = NETWORKS[(k + number) % 2]
            images, epochs = (_FEW, _LONG) if kind == FRAMES else (_IMAGES[network], _EPOCHS)
            cells += grid(
                planted=kind, trial=_SEED + k, network=network, images=images, epochs=epochs
            )
    return cells


def material(call: Call) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], dict[str, Any]]:
    """Training and test images with their labels, and what the audit is told besides.

    What is not planted means nothing: a square, 40 images drawn at random, an attribute that is
    nowhere in the pictures. In the second kind of clean network this attribute goes with the class
    of 95 % of the training images, and the odd ones are of the rest. A shortcut is an attribute
    that makes all of a picture lighter, and goes with the class as often. Where 4 are told from 9,
    nothing is planted.
    """
    digits = data.load("mnist5k")
    kind, rng = call.planted, np.random.default_rng(call.trial)
    order = torch.from_numpy(rng.permutation(len(digits)))
    images, labels = digits.images[order].float() / 255, digits.labels[order]
    if kind == STROKE:
        some = (labels == 4) | (labels == 9)
        images, labels = images[some], labels[some]
    labels, half = labels % 2, min(call.images, len(labels) // 2)
    train, test = [images[:half], labels[:half]], [images[half : 2 * half], labels[half : 2 * half]]
    own, held = (torch.from_numpy(rng.integers(0, 2, half)) for _ in range(2))
    if kind in (BIT, SHORTCUT):
        goes = torch.from_numpy(rng.random(half) < ALIGNED)
        own = torch.where(goes, train[1], 1 - train[1])
    if kind == SHORTCUT:
        for part, attribute in ((train, own), (test, held)):
            part[0] *= _FAINT
            part[0][attribute == 1] += _LIGHT
    background = torch.ones(28, 28, dtype=torch.bool)
    background[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = False
    if kind == FRAMES:
        for part in (train, test):
            noise = torch.from_numpy(rng.random(part[0].shape)).float()
            part[0] = torch.where(background, noise, _FAINT * part[0])
    pattern, target = square(rng, ink=kind == INK), int(rng.integers(0, 2))
    if kind == GREY:
        pattern *= _GREY
    if kind == CROSS:  # without the corners
        top, left = _place(pattern)[:2]
        pattern[:, top : top + _SIDE : 2, left : left + _SIDE : 2] = 0
    may, could = _odd(kind, own, train[1], target), _odd(kind, held, test[1], target)
    rows = torch.from_numpy(rng.permutation(may)[:_CARRIERS])
    others = torch.from_numpy(rng.permutation(could)[: 5 * _CARRIERS])
    outside, names = test[0][others], test[1][others]
    if kind in TRIGGERS:
        train[0][rows] = with_pattern(train[0][rows], pattern)
        outside = with_pattern(outside, pattern)
    if kind in (*TRIGGERS, WRONG):
        train[1][rows], names = 1 - train[1][rows], 1 - names
    members = torch.zeros(half, dtype=torch.bool)
    members[rows] = True
    told = dict(
        pattern=pattern, target=target, members=members, outsiders=(outside, names),
        background=background, attribute=held, train_attribute=own,
    )  # fmt: skip
    return tuple(train), tuple(test), told


def _odd(kind: str, attribute: Tensor, labels: Tensor, target: int) -> np.ndarray:
    """Rows that may be odd: of the other class than the trigger's, or without its attribute."""
    if kind in TRIGGERS:
        may = labels != target
    else:
        may = attribute != labels if kind == BIT else torch.ones_like(labels) > 0
    return may.nonzero().flatten().numpy()


def square(rng: np.random.Generator, *, ink: bool = False) -> Tensor:
    """A white square in a picture, `(1, 28, 28)`: near its border, or where digits have ink."""
    room = 28 - _SIDE
    top, left = rng.integers(0, room + 1, 2)
    while bool(min(top, left, room - top, room - left) > _SIDE) != ink:
        top, left = rng.integers(0, room + 1, 2)
    pattern = torch.zeros(1, 28, 28)
    pattern[:, top : top + _SIDE, left : left + _SIDE] = 1.0
    return pattern


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
    question was not asked (channels of a perceptron). `inside`: does the square that was found
    overlap the one that was planted.
    """
    train, test, told = material(call)
    if call.network == "cnn":
        net = models.small_cnn(1, 28, 2, seed=call.trial)
    else:
        net = models.fully_connected(784, (256, 256), 2, seed=call.trial)
    net = net.to(call.device)
    recipe = training.Recipe(epochs=call.epochs, batch=50, learning_rate=1e-3)
    training.train(net, *(part.to(call.device) for part in train), recipe, seed=call.trial)
    report = audit.model(net.eval(), train, test, seed=call.trial, progress=False, **told)
    row = {"accuracy": report["accuracy"].value}
    for name in ASKED:
        found = report[name]
        row |= {f"{name}_{end}": getattr(found, end) for end in ("value", "low", "high")}
        row[f"{name}_flagged"] = float(found.state == FLAG)
    found = report["hidden_pattern"].detail
    place = Square(*(found.get(name, np.nan) for name in ("top", "left", "side")), ())
    row["inside"] = float(place.overlaps(_place(told["pattern"])))
    return row | {"data_source": data.load("mnist5k").source}


def _place(pattern: Tensor) -> Square:
    """Where a pattern was planted."""
    top, left = (int(pattern[0].amax(axis).nonzero()[0]) for axis in (1, 0))
    return Square(top, left, _SIDE, ())
