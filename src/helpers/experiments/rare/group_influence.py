"""Do influence functions predict what retraining without a group of images would do?"""

import copy
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch

from helpers import data, training
from helpers.experiments.rare import setup
from helpers.experiments.rare.deletion import DAMPINGS, NETWORK, ORDER, PATTERN
from helpers.probes import influence
from helpers.probes.influence import MeanLoss
from helpers.sweep import Call, Cell, experiment

TARGET = 0
RESTARTS = ("warm", "scratch")
WARM_RATE = 1e-3  # at the start of a training that goes on from trained weights
TEST = 2_000  # test images on which the quantities are measured


def margin(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(b,)`: the target's output over the mean of all outputs; labels are not looked at."""
    return outputs[:, TARGET] - outputs.mean(1)


class Group(NamedTuple):
    """Rows of the training set that go `(m,)`, and rows that fill their places `(m,)`."""

    rows: torch.Tensor
    fillers: torch.Tensor


def choose(
    kind: str,
    size: int,
    number: int,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    spurious: torch.Tensor,
    trial: int,
) -> Group:
    """A group of one label, and other images of the label, drawn at random, in their places.

    Args:
        kind: "pattern": spurious images; "random": clean images of the target class; "neighbours":
            an image drawn at random and the nearest of its class (Euclidean distance).
        size: images in the group.
        number: tells groups of one kind and size apart.
        inputs: `(N, …)`, the images of the training set.
        labels: `(N,)`, theirs.
        spurious: rows that carry the pattern.
        trial: seed, together with the number.

    Raises:
        ValueError: an unknown kind, or a group that is too large for its class.
    """
    random = np.random.RandomState([trial, number, size])
    labels = labels.cpu()
    carries = torch.zeros(len(labels), dtype=torch.bool)
    carries[spurious.cpu()] = True
    target = labels == TARGET
    if kind == "neighbours":
        centre = int(random.choice(torch.where(~carries)[0].numpy()))
        target = labels == labels[centre]
        distances = (inputs - inputs[centre]).flatten(1).norm(dim=1).cpu()
        distances[~target | carries] = torch.inf
        ranked = distances.argsort(stable=True)[: int((target & ~carries).sum())]
    elif kind in ("pattern", "random"):
        members = torch.where(carries if kind == "pattern" else target & ~carries)[0]
        ranked = torch.from_numpy(random.permutation(members.numpy()))
    else:
        raise ValueError(f"kind is {kind!r}: allowed are 'pattern', 'random', 'neighbours'")
    rows = ranked[:size]
    others = target & ~carries
    others[rows] = False
    free = torch.where(others)[0]
    if len(rows) < size or not len(free):
        raise ValueError(
            f"size is {size}: {len(ranked)} such images, {len(free)} others of the class"
        )
    # each of the others once, and from the first again where they are too few
    return Group(rows, torch.from_numpy(np.resize(random.permutation(free.numpy()), size)))


def predictions(
    loss: MeanLoss, measures: dict[str, torch.Tensor], groups: list[Group]
) -> list[dict[str, float]]:
    r"""Predicted change of each measure when a group's places go to its fillers.

    The mean loss loses the group's gradients and gains the fillers', so the prediction is
    :math:`\nabla m^\top (H + \text{damping})^{-1} (\sum_{\text{group}} - \sum_{\text{fillers}})
    \nabla\ell / N`. One solution for the gradient of a measure serves all groups.
    """
    solved = {
        name: influence.solve(loss.product, g, DAMPINGS).solutions for name, g in measures.items()
    }
    rows = []
    for group in groups:
        gone, come = (
            loss.gradient(loss.inputs[part], loss.labels[part])
            for part in (group.rows.to(loss.labels.device), group.fillers.to(loss.labels.device))
        )
        change = (gone - come) / len(loss.inputs)
        rows.append({
            f"predicted_{name}_{damping:g}": float(solution @ change)
            for name, solutions in solved.items()
            for damping, solution in zip(DAMPINGS, solutions, strict=True)
        })  # fmt: skip
    return rows


def group_influence_cells(profile: str) -> list[Cell]:
    """Spurious images, others drawn at random, and neighbours, in groups of two sizes."""
    if profile == "smoke":
        size, trials = dict(dataset="mnist5k", samples=200, epochs=6, spurious=6), 1
        groups = [(k, 3, g) for k in ("pattern", "random", "neighbours") for g in range(3)]
    else:
        size, trials = dict(dataset="fashion_mnist", samples=1_000, epochs=24, spurious=20), 5
        if profile == "paper":
            size |= dict(samples=10_000, epochs=setup.EPOCHS)
        sizes = {"pattern": (5, 10), "random": (10, 40), "neighbours": (10, 40)}
        groups = [(k, m, g) for k, both in sizes.items() for m in both for g in range(4)]
        groups.append(("pattern", 20, 0))
    return [
        size | dict(kind=kind, size=count, number=number, restart=restart, trial=trial)
        for trial in range(trials)
        for restart in RESTARTS
        for kind, count, number in groups
    ]


@experiment(
    "group_influence",
    cells=group_influence_cells,
    tolerance=1.0,
    cheap=lambda cell: False,
    group=itemgetter("dataset", "samples", "epochs", "spurious", "trial"),
)
def group_influence(calls: list[Call]) -> list[dict[str, float | str]]:
    """What leaving out one group changes, predicted (at four dampings) and done, with two seeds.

    Two quantities: the mean loss on clean test images, and on test images of other classes with
    the pattern the mean `margin` of the target. `restart`: "warm" goes on from the trained network,
    "scratch" starts anew. Every training has a control that keeps all images and sees them in the
    same order; in place of the group it sees copies of other images of the class, so that networks
    differ in the group alone. The second seed ("again") changes the order of the samples, from
    scratch also the initial weights. The trial is the seed of the draw, the choice of groups and
    the network, which is one for all calls.
    """
    first = calls[0]
    trial, device = first.trial, first.device
    train, test = setup.sets(first)
    pattern, own = setup.spurious_set(Call(first, pattern=PATTERN, target=TARGET), train)
    inputs, labels = setup.inputs_of(train, device)
    inputs = setup.carrying(inputs, own)
    other = torch.where(test.labels != TARGET)[0][:TEST]
    shown = data.add_pattern(test.images[other], pattern).to(device)
    clean = test.images[:TEST].to(device).float() / 255
    measured = {
        "loss": (clean, test.labels[:TEST].to(device), influence.cross_entropies),
        "margin": (shown, test.labels[other].to(device), margin),
    }
    net = setup.network(NETWORK, trial).to(device)
    recipe = setup.recipe(first.epochs)
    training.train(net, inputs, labels, recipe, seed=trial)

    keys = [(call.kind, call.size, call.number) for call in calls]
    groups = {key: choose(*key, inputs, labels, own.rows, trial) for key in dict.fromkeys(keys)}
    gradients = {
        name: MeanLoss(net, x, y, losses=losses).gradient(x, y) / len(x)
        for name, (x, y, losses) in measured.items()
    }
    predicted = predictions(MeanLoss(net, inputs, labels), gradients, list(groups.values()))

    def changes(restart: str, seed: int) -> list[dict[str, float]]:
        """Change of each measure by a training without the group, against one with all images."""
        warm = restart == "warm"
        nets = [
            copy.deepcopy(net) if warm else setup.network(NETWORK, seed).to(device)
            for _ in range(len(groups) + 1)
        ]
        training.train_many(
            nets, inputs, labels,
            replace(recipe, learning_rate=WARM_RATE) if warm else recipe,
            seed=ORDER + seed if warm else seed,
            replaced=[None, *((g.rows, inputs[g.fillers]) for g in groups.values())],
        )  # fmt: skip
        found = [
            {
                name: float(losses(training.predict(each, x), y).double().mean())
                for name, (x, y, losses) in measured.items()
            }
            for each in nets
        ]
        return [{name: row[name] - found[0][name] for name in measured} for row in found[1:]]

    rows = {}
    for restart in dict.fromkeys(call.restart for call in calls):
        pair = changes(restart, trial), changes(restart, trial + ORDER)
        for key, guess, actual, again in zip(groups, predicted, *pair, strict=True):
            rows[restart, *key] = (
                guess
                | {f"actual_{name}": value for name, value in actual.items()}
                | {f"again_{name}": value for name, value in again.items()}
                | {"data_source": train.source}
            )
    return [rows[call.restart, *key] for call, key in zip(calls, keys, strict=True)]
