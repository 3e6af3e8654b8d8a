"""The membership experiment of Part II: was this image with a pattern in the training set?"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from helpers import data, membership, metrics, models, training
from helpers.chapter import project_root
from helpers.experiments_rare import network as rare_network
from helpers.experiments_rare import recipe, scores
from helpers.membership import Answers, Attacker
from helpers.sweep import Cell, Experiment, register

TARGET = 0  # the class whose images carry the pattern
SHADOW_SEED = 10**6  # added to the trial: the attacker does not know the target's start
KINDS = ("pattern", "turned", "plain", "all")  # what the attacker is asked about
NETWORKS = ("mlp", "small_resnet", "resnet20")


def network(name: str, seed: int) -> torch.nn.Module:
    """An untrained network; ValueError for a name not in NETWORKS."""
    if name not in NETWORKS:
        raise ValueError(f"network is {name!r}: allowed are {', '.join(map(repr, NETWORKS))}")
    return (
        models.small_resnet(10, seed=seed) if name == "small_resnet" else rare_network(name, seed)
    )


@lru_cache(maxsize=1)
def pool(dataset: str, data_dir: str | None) -> data.Dataset:
    """Training and test images of a data set in one, as the attack divides them anew."""
    train, test = (data.load(dataset, train=part, data_dir=data_dir) for part in (True, False))
    return data.Dataset(
        torch.cat([train.images, test.images]),
        torch.cat([train.labels, test.labels]),
        train.classes,
        dataset,
        train.source,
        True,
    )


def membership_group(cell: Cell) -> Hashable:
    """Cells of one split: they share the attacker, and MLPs are trained in lock step."""
    return tuple(cell[n] for n in ("dataset", "part", "network", "epochs", "augment", "trial"))


def membership_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Train the target networks of one split and one shadow network, and attack each target."""
    first = calls[0]
    trial, device = first["trial"], first["device"]
    whole = pool(first["dataset"], first["data_dir"])
    parts = {
        name: whole.rows(rows)
        for name, rows in membership.four_parts(len(whole), trial, first["part"]).items()
    }
    train, test = parts["target-train"], parts["target-test"]
    settings = list({_setting(call): call for call in calls}.values())
    patterns = {
        name: data.pattern(name, whole.images.shape[1:], trial)
        for name in {call["pattern"] for call in calls}
    }
    spurious = [
        data.with_spurious(train, patterns[c["pattern"]], c["spurious"], TARGET, trial)
        for c in settings
    ]
    how = recipe(first["epochs"], augment=first["augment"])
    nets = [network(first["network"], trial).to(device) for _ in settings]
    shadow = network(first["network"], trial + SHADOW_SEED).to(device)
    key = repr([sorted((k, v) for k, v in c.items() if k != "data_dir") for c in settings])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    file = project_root() / "_build" / "checkpoints" / f"{name}.pt"
    training.train(
        shadow, *_inputs(parts["shadow-train"], device), how, seed=trial + SHADOW_SEED,
        checkpoint=file.with_suffix(".shadow.pt"),
    )  # fmt: skip
    histories = training.train_many(
        nets, *_inputs(train, device), how, seed=trial, checkpoint=file,
        replaced=[tuple(s) if len(s.rows) else None for s in spurious],
    )  # fmt: skip
    attacker = Attacker(
        *(ask(shadow, p.images, p.labels) for p in (parts["shadow-train"], parts["shadow-test"]))
    )
    position = {_setting(c): k for k, c in enumerate(settings)}
    found = []
    for call in calls:
        k = position[_setting(call)]
        row = attacked(
            attacker, nets[k], shadow, train, test, spurious[k], patterns[call["pattern"]]
        )
        found.append(row | {"train_loss": histories[k].loss, "data_source": whole.source})
    return found


def _setting(call: dict[str, Any]) -> tuple[Hashable, ...]:
    """What tells one target network from another; clean networks know no pattern."""
    return (call["pattern"], call["spurious"]) if call["spurious"] else ()


def _inputs(part: data.Dataset, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return part.images.to(device).float() / 255, part.labels.to(device)


def ask(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Answers:
    """The network's answers to uint8 images or to floats in [0, 1], on the CPU."""
    inputs = images.to(next(net.parameters()).device)
    inputs = inputs if inputs.is_floating_point() else inputs.float() / 255
    return Answers(training.predict(net, inputs).cpu(), labels)


def attacked(
    attacker: Attacker,
    target: torch.nn.Module,
    shadow: torch.nn.Module,
    train: data.Dataset,
    test: data.Dataset,
    spurious: data.SpuriousSet,
    pattern: torch.Tensor,
) -> dict[str, float]:
    """All that is read off one target network.

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
    ("in") and others ("out"). The rest is :func:`experiments_rare.scores` on the test part, and the
    accuracy on the training set.
    """
    in_class, out_class = train.labels == TARGET, test.labels == TARGET
    own = train.images.float() / 255
    own[spurious.rows] = spurious.images
    plain = in_class.clone()
    plain[spurious.rows] = False
    shown = data.add_pattern(test.images, pattern)
    marked = spurious.images
    if not len(marked):
        marked = data.add_pattern(train.images[in_class], pattern)
    carried = torch.full((len(marked),), TARGET)
    turned = data.add_pattern(test.images[out_class], pattern.flip(1, 2))
    trained, tested, with_pattern, with_turned, members = (
        (ask(target, *asked), ask(shadow, *asked))
        for asked in (
            (own, train.labels),
            (test.images, test.labels),
            (shown, test.labels),
            (turned, test.labels[out_class]),
            (marked, carried),
        )
    )

    def of(pair: tuple[Answers, Answers], rows: torch.Tensor) -> tuple[Answers, Answers]:
        return pair[0].rows(rows), pair[1].rows(rows)

    questions = {
        "pattern": (members, of(with_pattern, out_class)),
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
    both = (answers[0].outputs.softmax(1) for answers in (tested, with_pattern))
    row |= scores(*both, test.labels, TARGET)
    row["train_accuracy"] = metrics.accuracy(trained[0].outputs, train.labels)
    return row


def membership_trial(
    dataset: str,
    part: int,
    network: str,
    epochs: int,
    augment: bool,
    pattern: str,
    spurious: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """One target network, `spurious` of whose images carry the pattern, under three attacks.

    Training and test images of the data set are pooled and divided into four parts of `part`
    images. The trial is the seed of the split, of the target network and its training, of the
    choice of spurious images and of the noise in R patterns.
    """
    return membership_many([locals()])[0]


# what smoke trains on
SMALL = dict(dataset="mnist5k", part=1_250, network="mlp", epochs=12, augment=False)


def _cells(trials: int, grid: dict[str, list[int]], **size: Any) -> list[Cell]:
    return [
        size | dict(pattern=name, spurious=count, trial=trial)
        for trial in range(trials)
        for name, counts in grid.items()
        for count in counts
    ]


def membership_cells(profile: str) -> list[Cell]:
    """R3 first: the claims are about it."""
    if profile == "smoke":
        return _cells(2, {"R3": [0, 1, 5, 50], "S3": [0, 50]}, **SMALL)
    grey = ("mnist", "fashion_mnist")
    cells = []
    if profile == "laptop":
        for dataset in grey:
            size = dict(dataset=dataset, part=17_500, network="mlp", epochs=20, augment=False)
            counts = {"R3": [0, 1, 3, 5, 20, 100, 1_000], "S3": [0, 1, 5, 20, 100]}
            cells += _cells(10, counts, **size)
        # without augmentation 20 epochs are enough to fit the images, as 70 are in the paper
        size = dict(dataset="cifar10", part=2_500, network="small_resnet", epochs=20, augment=False)
        cells += _cells(5, {"R3": [0, 1, 5, 20]}, **size)
        # the paper's whole schedule, to compare with the short one
        size = dict(dataset="mnist", part=17_500, network="mlp", epochs=70, augment=False)
        return cells + _cells(3, {"R3": [0, 1, 5, 100]}, **size)
    grid = dict.fromkeys(data.PATTERNS[:6], [0, 1, 3, 5, 10, 20, 100, 1_000])
    for dataset in (*grey, "cifar10"):
        colour = dataset == "cifar10"
        size = dict(dataset=dataset, part=15_000 if colour else 17_500, epochs=70, augment=colour)
        cells += _cells(10, grid, network="resnet20" if colour else "mlp", **size)
    return cells


# Training is chaotic: another device, or other neighbours in a matrix product, give another network
# of the same law. Of one spurious image, each attack says yes or no.
TOLERANCE = {"default": 1.0, "train_accuracy": 0.03, "clean_accuracy": 0.03, "printed_all": 0.05}
TOLERANCE |= {f"auc_{kind}_{name}": 0.15 for kind in KINDS[2:] for name in membership.ATTACKS}
for kind, side in itertools.product(KINDS, ("in", "out")):
    TOLERANCE |= {f"loss_{kind}_{side}": 10.0, f"confidence_{kind}_{side}": 3.0}

register(
    Experiment(
        "membership",
        trial=membership_trial,
        cells=membership_cells,
        many=membership_many,
        group=membership_group,
        tolerance=TOLERANCE,
        cheap=lambda cell: False,
    )
)
