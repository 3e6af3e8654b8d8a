"""The membership experiment of Part II: was this image with a pattern in the training set?"""

import itertools
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from helpers import data, probes, training
from helpers.experiments.rare import setup
from helpers.probes import membership
from helpers.probes.membership import Answers, Attacker
from helpers.sweep import Call, Cell, experiment

TARGET = 0  # the class whose images carry the pattern
SHADOW_SEED = 10**6  # added to the trial: the attacker does not know the target's start
KINDS = ("pattern", "turned", "plain", "all")  # what the attacker is asked about


@lru_cache(maxsize=2)  # splits of two data sets come in turns
def pool(dataset: str, data_dir: str | None) -> data.Dataset:
    """Training and test images of a data set in one, as the attack divides them anew."""
    train, test = (data.load(dataset, train=part, data_dir=data_dir) for part in (True, False))
    images = torch.cat([train.images, test.images])
    labels = torch.cat([train.labels, test.labels])
    return data.Dataset(images, labels, train.classes, dataset, train.source, True)


def ask(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Answers:
    """The network's answers to uint8 images or to floats in [0, 1], on the CPU."""
    return Answers(setup.outputs(net, images), labels)


def asked_once(
    train: data.Dataset, test: data.Dataset
) -> Callable[[torch.nn.Module], tuple[Answers, Answers]]:
    """A function: a network's answers to training and test images, none with a pattern.

    Every network is asked once, the shadow too, however many targets it is compared with.
    """
    return cache(lambda net: tuple(ask(net, p.images, p.labels) for p in (train, test)))


def with_rows(answers: Answers, rows: torch.Tensor, outputs: torch.Tensor) -> Answers:
    """The answers, but for those in `rows`, which are `outputs`."""
    return answers._replace(outputs=answers.outputs.index_copy(0, rows, outputs))


def attacked(
    attacker: Attacker,
    target: torch.nn.Module,
    shadow: torch.nn.Module,
    train: data.Dataset,
    test: data.Dataset,
    spurious: data.SpuriousSet,
    pattern: torch.Tensor,
    plainly: Callable[[torch.nn.Module], tuple[Answers, Answers]],
) -> dict[str, float]:
    """All that is read off one target network; `plainly` is :func:`asked_once` of both parts.

    `printed_all` is the number of :func:`membership.printed_accuracy`. Then, for each attack and
    kind of question, `auc`, `tpr` and `fpr` at the attacker's threshold, and `tpr_1` and `tpr_01`
    at a false positive rate of 1 % and 0.1 %:

    - ``pattern``: the n training images with the pattern against all test images of the class,
      which get the pattern. At n = 0 there are no such members; instead, all training images of the
      class are shown with a pattern that nothing was trained on.
    - ``turned``: the same members against test images of the class with the pattern turned by 180
      degrees: as strange, but not what the network was trained on.
    - ``plain``: images of the class without the pattern, training (without the n) against test.
    - ``all``: all images, each as it was trained on or as it is in the test part.

    `loss_…` are mean losses, `confidence_…` medians of :func:`membership.confidence`, of members
    ("in") and others ("out"). The rest is :func:`.setup.scores` on the test part, and the
    accuracy on the training set.
    """
    in_class, out_class = train.labels == TARGET, test.labels == TARGET
    plain = in_class.clone()
    plain[spurious.rows] = False
    shown = data.add_pattern(test.images, pattern)
    marked = spurious.images
    if not len(marked):
        marked = data.add_pattern(train.images[in_class], pattern)
    carried = torch.full((len(marked),), TARGET)
    turned = data.add_pattern(test.images[out_class], pattern.flip(1, 2))
    everywhere = ask(target, shown, test.labels)
    with_pattern, with_turned, members = (
        (ask(target, *asked), ask(shadow, *asked))
        for asked in (
            (shown[out_class], test.labels[out_class]),
            (turned, test.labels[out_class]),
            (marked, carried),
        )
    )
    trained, tested = zip(plainly(target), plainly(shadow), strict=True)
    if len(spurious.rows):
        trained = tuple(
            with_rows(known, spurious.rows, own.outputs)
            for known, own in zip(trained, members, strict=True)
        )

    def of(pair: tuple[Answers, Answers], rows: torch.Tensor) -> tuple[Answers, Answers]:
        return pair[0].rows(rows), pair[1].rows(rows)

    questions = {
        "pattern": (members, with_pattern),
        "turned": (members, with_turned),
        "plain": (of(trained, plain), of(tested, out_class)),
        "all": (trained, tested),
    }
    row = {"printed_all": membership.printed_accuracy(attacker.classifier, trained[0], tested[0])}
    for kind, (inside, outside) in questions.items():
        for name, result in attacker.attack(inside, outside).items():
            row |= {f"{key}_{kind}_{name}": value for key, value in result._asdict().items()}
        for side, (answers, _) in (("in", inside), ("out", outside)):
            loss = functional.cross_entropy(answers.outputs.double(), answers.labels)
            row[f"loss_{kind}_{side}"] = float(loss)
            sure = float(np.median(membership.confidence(answers)))
            row[f"confidence_{kind}_{side}"] = sure
    both = (answers.outputs.softmax(1) for answers in (tested[0], everywhere))
    row |= setup.scores(*both, test.labels, TARGET)
    row["train_accuracy"] = probes.accuracy(trained[0].outputs, train.labels)
    return row


# what smoke trains on
SMALL = dict(dataset="mnist5k", part=1_250, network="mlp", epochs=12, augment=False)


GREY = ("mnist", "fashion_mnist")
JUDGED = ("R3", "S1", "S2", "S3")  # the patterns whose leak is judged
# profile -> trials below the number -> how many images carry the pattern
COUNTS = {"laptop": {29: [0, 1], 20: [3, 10]}, "paper": {100: [0, 1], 20: [3, 10]}}
# further ones for the courses along n: the paper's R3, and the square that leaks most
FURTHER = {"R3": [5, 20, 100, 1_000], "S3": [5, 20, 100]}


def _cells(trial: int, grid: dict[str, list[int]], **size: Any) -> list[Cell]:
    return [
        size | dict(pattern=name, spurious=count, trial=trial)
        for name, counts in grid.items()
        for count in counts
    ]


def _counts(
    trial: int, patterns: Iterable[str], further: dict[str, list[int]], judged: dict[int, list[int]]
) -> dict[str, list[int]]:
    """How many images carry which pattern in this trial: all of them in the first ten."""
    common = [count for below, counts in judged.items() if trial < below for count in counts]
    return {p: common + (further.get(p, []) if trial < 10 else []) for p in patterns}


def membership_cells(profile: str) -> list[Cell]:
    """Trial by trial, so that what a run has when it is stopped is balanced."""
    if profile == "smoke":
        grid = {"R3": [0, 1, 5, 50], "S3": [0, 1, 50]}
        return [cell for trial in range(2) for cell in _cells(trial, grid, **SMALL)]
    judged = COUNTS[profile]
    if profile == "laptop":
        size = dict(part=17_500, network="mlp", epochs=20, augment=False)
        cells = []
        for trial, dataset in itertools.product(range(max(judged)), GREY):
            grid = _counts(trial, JUDGED, FURTHER, judged)
            cells += _cells(trial, grid, dataset=dataset, **size)
        # the paper's whole schedule, to compare with the short one
        size |= dict(dataset="mnist", epochs=70)
        return cells + [c for t in range(3) for c in _cells(t, {"R3": [0, 1, 5, 100]}, **size)]
    six = data.PATTERNS[:6]
    cells = []
    for trial, dataset in itertools.product(range(max(judged)), (*GREY, "cifar10")):
        colour = dataset == "cifar10"
        size = dict(dataset=dataset, part=15_000 if colour else 17_500, epochs=70, augment=colour)
        size |= dict(network="resnet20" if colour else "mlp")
        grid = _counts(trial, six, dict.fromkeys(six, FURTHER["R3"]), judged)
        cells += _cells(trial, grid, **size)
    return cells


# Training is chaotic: another device, or other neighbours in a matrix product, give another network
# of the same law. Of one spurious image, each attack says yes or no.
TOLERANCE = {"default": 1.0, "train_accuracy": 0.03, "clean_accuracy": 0.03, "printed_all": 0.05}
TOLERANCE |= {f"auc_{kind}_{name}": 0.15 for kind in KINDS[2:] for name in membership.ATTACKS}
for kind, side in itertools.product(KINDS, ("in", "out")):
    TOLERANCE |= {f"loss_{kind}_{side}": 10.0, f"confidence_{kind}_{side}": 3.0}


@experiment(
    "membership",
    cells=membership_cells,
    tolerance=TOLERANCE,
    cheap=lambda cell: False,
    group=itemgetter("dataset", "part", "network", "epochs", "augment", "trial"),
    half=True,
)
def membership_attacks(calls: list[Call]) -> list[dict[str, float | str]]:
    """Target networks, `spurious` of whose images carry the pattern, under three attacks.

    Training and test images of the data set are pooled and divided into four parts of `part`
    images. The trial is the seed of the split, of the target network and its training, of the
    choice of spurious images and of the noise in R patterns. The calls of a group share the split
    and one shadow network.
    """
    first = calls[0]
    whole = pool(first.dataset, first.data_dir)
    split = membership.four_parts(len(whole), first.trial, first.part)
    parts = {name: whole.rows(rows) for name, rows in split.items()}
    train, test = parts["target-train"], parts["target-test"]
    recipe = setup.recipe(first.epochs, augment=first.augment, precision=first.precision)
    seed = first.trial + SHADOW_SEED
    shadow = setup.network(first.network, seed).to(first.device)
    known = parts["shadow-train"], parts["shadow-test"]
    training.train_many(  # alone, but by the products of networks in lock step
        [shadow], *setup.inputs_of(known[0], first.device), recipe, seed=seed,
        checkpoint=training.checkpoint_file(("shadow", first.device, *setup.setting(first))),
    )  # fmt: skip
    attacker = Attacker(*(ask(shadow, part.images, part.labels) for part in known))
    calls = [Call(call, target=TARGET) for call in calls]
    plainly, rows = asked_once(train, test), []
    for net, history, pattern, spurious in setup.trained(calls, train, lambda _: recipe):
        row = attacked(attacker, net, shadow, train, test, spurious, pattern, plainly)
        row = {
            name: round(value, 6) for name, value in (row | {"train_loss": history.loss}).items()
        }
        rows.append(row | {"data_source": whole.source})
    return rows
