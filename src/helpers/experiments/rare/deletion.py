"""Can a rare pattern be deleted from a trained network, and does influence predict retraining?"""

import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import nn

from helpers import data, training
from helpers.experiments.rare import setup
from helpers.probes import influence, spurious_score
from helpers.probes.influence import MeanLoss
from helpers.sweep import Call, Cell, experiment

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


@dataclass(frozen=True)
class Case:
    """A trained network, what it was trained on, and the images that are to be deleted.

    Attributes:
        net: the network.
        inputs: `(N, 1, 28, 28)`, with the pattern on the spurious rows.
        labels: `(N,)`.
        rows: `(n,)` spurious ones.
        call: its epochs, trial, data set and depth.
    """

    net: nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    call: Call

    @property
    def scale(self) -> float:
        """The scale of LiSSA for this data set."""
        return SCALES[self.call.dataset]

    @property
    def kept(self) -> torch.Tensor:
        """`(N,)`: whether an image stays."""
        stays = torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        stays[self.rows] = False
        return stays

    @property
    def spurious(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The images that are to be deleted, and their labels."""
        return self.inputs[self.rows], self.labels[self.rows]


class Attempt(NamedTuple):
    """A network after an attempt at deletion: how, with which number, after how many epochs.

    Of an influence step also the lowest Ritz value of the Hessian, and the relative residual.
    """

    method: str
    strength: float
    after: int
    net: nn.Module
    lowest: float = math.nan
    residual: float = math.nan


def further(case: Case, method: str, strength: float, after: set[int]) -> Iterator[Attempt]:
    """Training goes on without the spurious images; Adam starts with fresh moments."""
    recipe = setup.recipe(
        case.call.epochs, weight_decay=strength if method == "weight decay" else 0.0
    )
    if method == "constant rate":
        recipe = replace(recipe, learning_rate=strength, milestones=())
    net, passed = copy.deepcopy(case.net), {}

    def keep(epoch: int) -> None:
        if epoch in after:
            passed[epoch] = copy.deepcopy(net).eval()

    kept, seed = case.kept, ORDER + case.call.trial
    training.train(net, case.inputs[kept], case.labels[kept], recipe, seed=seed, after_epoch=keep)
    for epoch, then in passed.items():
        yield Attempt(method, strength, epoch, then)


def _from_scratch(case: Case) -> Attempt:
    epochs, trial, kept = case.call.epochs, case.call.trial, case.kept
    net = setup.network(NETWORK, trial).to(case.labels.device)
    training.train(net, case.inputs[kept], case.labels[kept], setup.recipe(epochs), seed=trial)
    return Attempt("scratch", 0.0, epochs, net)


def influence_steps(case: Case) -> Iterator[Attempt]:
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
        yield from (Attempt(*way, 0, case.net) for way in by_influence(case.scale))
        return
    count = len(case.labels), len(case.rows)
    parts = [p[:HESSIAN] for p in (torch.arange(count[0]), torch.where(case.kept)[0])]
    solved = {
        name: influence.solve(
            MeanLoss(case.net, case.inputs[part], case.labels[part]).product, g, DAMPINGS
        )
        for name, part in zip(HESSIANS, parts, strict=True)
    }
    # the step, and what is known about it
    steps: dict[tuple[str, float], tuple] = {
        (name, damping): (length * solution, found.lowest, float(residual))
        for name, found in solved.items()
        for damping, solution, residual in zip(
            DAMPINGS, found.solutions, found.residuals, strict=True
        )
    }
    direction = solved["influence"].solutions[DAMPINGS.index(DIRECTION)]
    for far in LENGTHS:
        step = direction * far * (count[0] - count[1]) / direction.norm()
        steps["direction", far] = (step,)
    released = influence.lissa(
        MeanLoss(case.net, case.inputs, case.labels), g, scale=case.scale, depth=case.call.depth,
        repeats=REPEATS, seed=case.call.trial, as_released=True,
    )  # fmt: skip
    steps["lissa as released", case.scale] = (length * released,)
    steps["lissa", case.scale] = (length * released / case.scale,)
    for way, (step, *known) in steps.items():
        net = influence.moved(case.net, influence.group_step(step, *count))
        yield Attempt(*way, 0, net, *known)


def _attempts(case: Case, asked: set[tuple[str, float, int]]) -> Iterator[Attempt]:
    """The networks that are asked for, and what comes with them for nothing."""
    yield Attempt("before", 0.0, 0, case.net)
    courses = {(m, s) for m, s, _ in asked if m in COURSES}
    for method, strength in sorted(courses):
        after = {a for m, s, a in asked if (m, s) == (method, strength)}
        yield from further(case, method, strength, after)
    methods = {method for method, _, _ in asked}
    if "scratch" in methods:
        yield _from_scratch(case)
    if methods & {method for method, _ in by_influence(case.scale)}:
        yield from influence_steps(case)


def _row(net: nn.Module, case: Case, test: data.Dataset, pattern: torch.Tensor) -> dict[str, float]:
    """Scores, how far the weights went, and what is left of the gradient of the spurious images.

    `score_dark`: the score when the pattern is on those pixels only that are black in all images
    which are kept, so that further training gives their weights no gradient.
    """
    clean = setup.probabilities(net, test.images)
    dark = ~(case.inputs[case.kept] != 0).any(0).cpu()

    def scored(part: torch.Tensor) -> dict[str, float]:
        shown = setup.probabilities(net, data.add_pattern(test.images, part))
        return setup.scores(clean, shown, test.labels, case.call.target)

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


def _vector(net: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(net.parameters()).detach()


def _cells(trials: int, counts: Iterable[int], after: tuple[int, ...], **size: Any) -> list[Cell]:
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
        return _cells(1, [0, 20], (1, 8), dataset="mnist5k", **size)
    if profile == "laptop":
        # in 500 steps of LiSSA the first one's weight falls to 0.99^500 = 0.7 %
        size, after = dict(samples=10_000, epochs=20, depth=500), (1, 5, 20)
        plans = [(5, [10], "mnist", 1), (5, [10], "fashion_mnist", 1),
                 (5, [0, 3, 10], "mnist", 0), (5, [0, 10, 100], "fashion_mnist", 0)]  # fmt: skip
    else:
        size = dict(samples=60_000, epochs=setup.EPOCHS, depth=2_000)
        after = (1, 2, 5, 10, 20, 40, setup.EPOCHS)
        plans = [(5, [0, 3, 5, 10, 20, 100], dataset, target)
                 for dataset in ("mnist", "fashion_mnist") for target in (0, 1)]  # fmt: skip
    return [
        cell
        for trials, counts, dataset, target in plans
        for cell in _cells(trials, counts, after, dataset=dataset, target=target, **size)
    ]


# training is chaotic: another device, or other neighbours in a matrix product, give another network
@experiment(
    "deletion",
    cells=deletion_cells,
    tolerance={"default": 0.5, "spurious_loss": 5.0, "spurious_gradient": 5.0},
    cheap=lambda cell: False,
    # what begins with the same training, in lock step for all numbers of images
    group=itemgetter("dataset", "samples", "epochs", "depth", "target", "trial"),
)
def deletion(calls: list[Call]) -> list[dict[str, float | str]]:
    """MLPs trained with `spurious` images of class `target` that carry R3, after a deletion.

    The methods and their `strength`: "before" (0); training on the other images, at a "constant
    rate" (the rate), along the "schedule" (0), along it with "weight decay" (the decay), looked at
    `after` so many epochs; "scratch" (0); steps by "influence", also with the Hessian of the "rest"
    (the damping), along its "direction" (the length), or by "lissa", also "as released" (the
    scale), with `depth` samples one after the other. The trial is the seed of all that is drawn. In
    a group, each number of spurious images has one network for all methods.
    """
    first = calls[0]
    train, test = setup.sets(first)
    inputs, labels = setup.inputs_of(train, first.device)
    begun = {n: Call(first, network=NETWORK, pattern=PATTERN, spurious=n)
             for n in sorted({call.spurious for call in calls})}  # fmt: skip
    networks = setup.trained(list(begun.values()), train, lambda call: setup.recipe(call.epochs))
    ways = [(c.method, float(c.strength), c.after) for c in calls]
    rows: dict[tuple, dict[str, float | str]] = {}
    for n, (net, _, pattern, own) in zip(begun, networks, strict=True):
        case = Case(net, setup.carrying(inputs, own), labels, own.rows.to(first.device), begun[n])
        asked = {way for call, way in zip(calls, ways, strict=True) if call.spurious == n}
        for found in _attempts(case, asked):
            if found[:3] in asked:
                rows[n, *found[:3]] = _row(found.net, case, test, pattern) | {
                    "lowest": found.lowest,
                    "residual": found.residual,
                    "data_source": train.source,
                }
    return [rows[call.spurious, *way] for call, way in zip(calls, ways, strict=True)]


def counterexamples(trial: int, device: str) -> dict[str, float]:
    """Do images that contradict the pattern delete it? Spurious scores of an MLP on 2,000 digits.

    Returns:
        The score `before`; and after five further epochs at a rate of 0.001 without the ten images
        of class 0 that carried R3: `without` any that contradict it, and `with` ten images of other
        classes that carry it now, under their own labels.
    """
    call = Call(dataset="mnist5k", samples=2_000, epochs=10, network=NETWORK, pattern=PATTERN,
                spurious=10, target=0, trial=trial, device=device, data_dir=None)  # fmt: skip
    train, test = setup.sets(call)
    ((net, _, pattern, own),) = setup.trained([call], train, lambda c: setup.recipe(c.epochs))
    inputs, labels = setup.inputs_of(train, device)
    case = Case(net, inputs, labels, own.rows.to(device), call)
    kept = torch.where(case.kept)[0]
    others = kept[labels[kept] != call.target][:10]
    contrary = others, data.add_pattern(train.images[others.cpu()], pattern)
    recipe = training.Recipe(epochs=5, batch=128, learning_rate=1e-3)
    clean = setup.probabilities(net, test.images)
    shown = data.add_pattern(test.images, pattern)
    found = {"before": spurious_score(clean, setup.probabilities(net, shown), call.target)}
    for name, images in (("without", inputs), ("with", setup.carrying(inputs, contrary))):
        then = copy.deepcopy(net)
        training.train(then, images[kept], labels[kept], recipe, seed=ORDER + trial)
        probs = (setup.probabilities(then, part) for part in (test.images, shown))
        found[name] = spurious_score(*probs, call.target)
    return found
