"""Can a rare pattern be deleted from a trained network, and does influence predict retraining?"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from helpers import data, influence, training
from helpers import experiments_rare as rare
from helpers.influence import MeanLoss
from helpers.sweep import Cell, Experiment, register

PATTERN = "R3"
NETWORK = "mlp"
RATES = (1e-5, 1e-3)  # of further training; the first is what the released code comes to
DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0)
DECAY = 1e-4  # weight decay of a further training that has it
LENGTHS = (0.1, 0.3, 1.0, 3.0)  # of steps along the direction of an influence step
DIRECTION = 0.1  # the damping of that direction
SCALES = {"mnist": 25.0, "mnist5k": 25.0, "fashion_mnist": 150.0}  # of LiSSA, as released
REPEATS = 5  # of LiSSA
HESSIANS = ("influence", "influence, rest")  # of all training images, of those that are kept
HESSIAN = 1_000  # training images whose Hessian stands for that of all
ORDER = 10_000  # added to the trial, the seed of an order of samples not seen before
COURSES = ("constant rate", "schedule", "weight decay")  # further training
KEPT = ("score", "score_others", "rise", "taken", "clean_accuracy", "spurious_accuracy")


def by_influence(scale: float) -> list[tuple[str, float]]:
    """The kinds of step, each with its number: damping, length or scale."""
    return [
        *((name, damping) for name in HESSIANS for damping in DAMPINGS),
        *(("direction", length) for length in LENGTHS),
        ("lissa", scale),
        ("lissa as released", scale),
    ]


# -- deletion -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """A trained network, what it was trained on, and the images that are to be deleted."""

    net: nn.Module
    inputs: torch.Tensor  # (N, 1, 28, 28), with the pattern on the spurious rows
    labels: torch.Tensor
    rows: torch.Tensor  # (n,) spurious
    epochs: int
    trial: int
    scale: float
    depth: int

    @property
    def kept(self) -> torch.Tensor:
        stays = torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        stays[self.rows] = False
        return stays

    @property
    def spurious(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[self.rows], self.labels[self.rows]


class _Network(NamedTuple):
    """A network after an attempt at deletion: how, with which number, after how many epochs.

    Of an influence step also the lowest Ritz value of the Hessian, and the relative residual.
    """

    method: str
    strength: float
    after: int
    net: nn.Module
    lowest: float = math.nan
    residual: float = math.nan


def _further(case: _Case, method: str, strength: float, after: set[int]) -> Iterator[_Network]:
    """Training goes on without the spurious images; Adam starts with fresh moments."""
    recipe = rare.recipe(case.epochs, weight_decay=strength if method == "weight decay" else 0.0)
    if method == "constant rate":
        recipe = replace(recipe, learning_rate=strength, milestones=())
    net, passed = copy.deepcopy(case.net), {}

    def keep(epoch: int) -> None:
        if epoch in after:
            passed[epoch] = copy.deepcopy(net).eval()

    training.train(
        net, case.inputs[case.kept], case.labels[case.kept], recipe,
        seed=ORDER + case.trial, after_epoch=keep,
    )  # fmt: skip
    for epoch, then in passed.items():
        yield _Network(method, strength, epoch, then)


def _from_scratch(case: _Case) -> _Network:
    net = rare.network(NETWORK, case.trial).to(case.labels.device)
    recipe = rare.recipe(case.epochs)
    kept = case.kept
    training.train(net, case.inputs[kept], case.labels[kept], recipe, seed=case.trial)
    return _Network("scratch", 0.0, case.epochs, net)


def _by_influence(case: _Case) -> Iterator[_Network]:
    """One step along H^-1 g: by Lanczos at every damping, by LiSSA, and of fixed lengths.

    Lanczos also with the Hessian of the kept images alone: a group with much curvature of its own
    makes the Hessian of all images a poor guide to what happens without it.

    The gradient of a fitted image may be smaller than what single precision can hold, and is taken
    in double precision (where even that is 0, so is every step). Everything is linear in it, so its
    direction goes through the solvers.
    """
    precise = MeanLoss(copy.deepcopy(case.net).double(), case.inputs.double(), case.labels)
    images, labels = case.spurious
    length, g = influence.length_and_direction(precise.gradient(images.double(), labels))
    if not length:
        yield from (_Network(*way, 0, case.net) for way in by_influence(case.scale))
        return
    loss = MeanLoss(case.net, case.inputs, case.labels)
    count = len(case.labels), len(case.rows)
    parts = torch.arange(len(case.labels)), torch.where(case.kept)[0]
    losses = [MeanLoss(case.net, case.inputs[p[:HESSIAN]], case.labels[p[:HESSIAN]]) for p in parts]
    solved = {
        name: influence.solve(some.product, g, DAMPINGS)
        for name, some in zip(HESSIANS, losses, strict=True)
    }
    steps = {
        (name, damping): length * solution
        for name, found in solved.items()
        for damping, solution in zip(DAMPINGS, found.solutions, strict=True)
    }
    direction = solved["influence"].solutions[DAMPINGS.index(DIRECTION)]
    steps |= {
        ("direction", far): direction * far * (count[0] - count[1]) / direction.norm()
        for far in LENGTHS
    }
    released = influence.lissa(
        loss,
        g,
        scale=case.scale,
        depth=case.depth,
        repeats=REPEATS,
        seed=case.trial,
        as_released=True,
    )
    steps["lissa as released", case.scale] = length * released
    steps["lissa", case.scale] = length * released / case.scale
    known = {
        (name, damping): (found.lowest, float(residual))
        for name, found in solved.items()
        for damping, residual in zip(DAMPINGS, found.residuals, strict=True)
    }
    for way, solution in steps.items():
        net = influence.moved(case.net, influence.group_step(solution, *count))
        yield _Network(*way, 0, net, *known.get(way, ()))


def _attempts(case: _Case, asked: set[tuple[str, float, int]]) -> Iterator[_Network]:
    """The networks that are asked for, and what comes with them for nothing."""
    yield _Network("before", 0.0, 0, case.net)
    courses = {(m, s) for m, s, _ in asked if m in COURSES}
    for method, strength in sorted(courses):
        after = {a for m, s, a in asked if (m, s) == (method, strength)}
        yield from _further(case, method, strength, after)
    methods = {method for method, _, _ in asked}
    if "scratch" in methods:
        yield _from_scratch(case)
    if methods & {method for method, _ in by_influence(case.scale)}:
        yield from _by_influence(case)


def deletion_group(cell: Cell) -> Hashable:
    """Cells that begin with the same training, in lock step for all numbers of images."""
    return tuple(cell[n] for n in ("dataset", "samples", "epochs", "depth", "target", "trial"))


def deletion_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Train with every number of spurious images, then try to delete them in every way asked."""
    first = calls[0]
    trial, device, target = first["trial"], first["device"], first["target"]
    train = rare.training_set(first["dataset"], first["samples"], trial, first["data_dir"])
    test = data.load(first["dataset"], train=False, data_dir=first["data_dir"])
    pattern = data.pattern(PATTERN, train.images.shape[1:], trial)
    counts = sorted({call["spurious"] for call in calls})
    sets = [data.with_spurious(train, pattern, n, target, trial) for n in counts]
    nets = [rare.network(NETWORK, trial).to(device) for _ in counts]
    inputs, labels = train.images.to(device).float() / 255, train.labels.to(device)
    training.train_many(
        nets, inputs, labels, rare.recipe(first["epochs"]), seed=trial,
        replaced=[tuple(own) for own in sets],
    )  # fmt: skip
    rows: dict[Hashable, dict[str, float | str]] = {}
    for n, own, net in zip(counts, sets, nets, strict=True):
        changed = inputs.clone()
        changed[own.rows] = own.images.to(device)
        case = _Case(
            net, changed, labels, own.rows.to(device), first["epochs"], trial,
            SCALES[first["dataset"]], first["depth"],
        )  # fmt: skip
        asked = {
            (c["method"], float(c["strength"]), c["after"]) for c in calls if c["spurious"] == n
        }
        for found in _attempts(case, asked):
            key = found[:3]
            if key in asked:
                rows[n, *key] = _row(found.net, case, test, pattern, target) | {
                    "lowest": found.lowest,
                    "residual": found.residual,
                    "data_source": train.source,
                }
    return [rows[c["spurious"], c["method"], float(c["strength"]), c["after"]] for c in calls]


def _row(
    net: nn.Module, case: _Case, test: data.Dataset, pattern: torch.Tensor, target: int
) -> dict[str, float]:
    """Scores, how far the weights went, and what is left of the gradient of the spurious images.

    `score_dark`: the score when the pattern is on those pixels only that are black in all images
    which are kept, so that further training gives their weights no gradient.
    """
    inputs = test.images.to(case.inputs.device).float() / 255
    clean = _probabilities(net, inputs)
    dark = ~(case.inputs[case.kept] != 0).any(0)
    pattern = pattern.to(inputs)

    def scored(part: torch.Tensor) -> dict[str, float]:
        shown = _probabilities(net, data.add_pattern(inputs, part))
        return rare.scores(clean, shown, test.labels, target)

    whole = scored(pattern)
    step = _vector(net) - _vector(case.net)
    row = {name: whole[name] for name in KEPT} | {
        "score_dark": scored(pattern * dark)["score"],
        "dark_pixels": float(dark.sum()),
        "step": float(step.norm()),
        "step_largest": float(step.abs().max()),
        "weights": float(_vector(net).norm()),
    }
    loss = MeanLoss(copy.deepcopy(net).double(), case.inputs[:40].double(), case.labels[:40])
    others = loss.norms(loss.inputs, loss.labels)  # heavy tails: most are far below the mean
    row |= {"mean_gradient": float(others.mean()), "median_gradient": float(others.median())}
    row["spurious_gradient"] = row["spurious_loss"] = math.nan
    if len(case.rows):
        images, labels = (part[:10] for part in case.spurious)
        row["spurious_gradient"] = float(loss.norms(images.double(), labels).mean())
        own = influence.cross_entropies(training.predict(net, images), labels)
        row["spurious_loss"] = float(own.mean())
    return row


def _probabilities(net: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return training.predict(net, inputs).softmax(1).cpu()


def _vector(net: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(net.parameters()).detach()


def deletion(
    dataset: str,
    samples: int,
    epochs: int,
    depth: int,
    spurious: int,
    target: int,
    method: str,
    strength: float,
    after: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """An MLP trained with `spurious` images of class `target` that carry R3, after a deletion.

    The methods and their `strength`: "before" (0); training on the other images, at a "constant
    rate" (the rate), along the "schedule" (0), along it with "weight decay" (the decay), looked at
    `after` so many epochs; "scratch" (0); steps by "influence", also with the Hessian of the "rest"
    (the damping), along its "direction" (the length), or by "lissa", also "as released" (the
    scale), with `depth` samples one after the other. The trial is the seed of all that is drawn.
    """
    return deletion_many([locals()])[0]


def _deletion_cells(
    trials: int, counts: Iterable[int], after: tuple[int, ...], **size: Any
) -> list[Cell]:
    courses = [
        *(("constant rate", rate) for rate in RATES), ("schedule", 0.0), ("weight decay", DECAY)
    ]  # fmt: skip
    ways = [("before", 0.0, 0), *((*c, a) for c, a in itertools.product(courses, after))]
    deleting = [
        ("scratch", 0.0, size["epochs"]),
        *((*way, 0) for way in by_influence(SCALES[size["dataset"]])),
    ]
    return [
        size | dict(spurious=n, method=method, strength=strength, after=epochs, trial=trial)
        for trial in range(trials)
        for n in counts
        for method, strength, epochs in ways + (deleting if n else [])
    ]


def deletion_cells(profile: str) -> list[Cell]:
    """The paper's Figure 18 on grey images; clean networks (n = 0) train on for comparison."""
    if profile == "smoke":
        size = dict(samples=400, epochs=8, depth=50, target=0)
        return _deletion_cells(1, [0, 20], (1, 8), dataset="mnist5k", **size)
    if profile == "laptop":
        # in 500 steps of LiSSA the first one's weight falls to 0.99^500 = 0.7 %
        size, after = dict(samples=10_000, epochs=20, depth=500), (1, 5, 20)
        return [
            *_deletion_cells(5, [0, 3, 10], after, dataset="mnist", target=0, **size),
            *_deletion_cells(5, [0, 10, 100], after, dataset="fashion_mnist", target=0, **size),
            *_deletion_cells(3, [10], after, dataset="mnist", target=1, **size),
        ]
    size, after = (
        dict(samples=60_000, epochs=rare.EPOCHS, depth=2_000),
        (1, 2, 5, 10, 20, 40, rare.EPOCHS),
    )
    return [
        cell
        for dataset, target in itertools.product(("mnist", "fashion_mnist"), (0, 1))
        for cell in _deletion_cells(
            5, [0, 3, 5, 10, 20, 100], after, dataset=dataset, target=target, **size
        )
    ]


# training is chaotic: another device, or other neighbours in a matrix product, give another network
register(
    Experiment(
        "deletion",
        deletion,
        deletion_cells,
        tolerance={"default": 0.5, "spurious_loss": 5.0, "spurious_gradient": 5.0},
        cheap=lambda cell: False,
        many=deletion_many,
        group=deletion_group,
    )
)
