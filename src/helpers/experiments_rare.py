"""The experiments of Part II: networks trained on a few images that carry a pattern."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from helpers import data, metrics, models, training
from helpers.chapter import project_root
from helpers.sweep import Cell, Experiment, register

HIDDEN = {"small mlp": (256,), "mlp": (256,) * 3, "large mlp": (512,) * 3}
NETWORKS = (*HIDDEN, "cnn", "resnet20")
EPOCHS, MILESTONES = 70, (40, 50, 60)  # of the paper; shorter schedules keep the proportions
THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)
REMOVED = tuple(i / 20 for i in range(21))  # shares of pixels
IMPORTANCE_CORNER = (slice(0, 5), slice(0, 5))  # the pixels of pattern S3


def network(name: str, seed: int) -> torch.nn.Module:
    """An untrained network of the paper; ValueError for a name not in NETWORKS."""
    if name in HIDDEN:
        return models.fully_connected(28 * 28, HIDDEN[name], 10, seed=seed)
    if name == "cnn":
        return models.trades_cnn(10, seed=seed)
    if name == "resnet20":
        return models.cifar_resnet(20, 10, seed=seed)
    raise ValueError(f"network is {name!r}: allowed are {', '.join(map(repr, NETWORKS))}")


def recipe(
    epochs: int,
    *,
    optimiser: str = "adam",
    weight_decay: float = 0.0,
    noise: float = 0.0,
    clip_value: float = math.inf,
    clip_norm: float = math.inf,
    augment: bool = False,
) -> training.Recipe:
    """The paper's way of training, its schedule shortened to this number of epochs.

    Source: Yang, Chou & Chaudhuri 2022 and their released code: rate 0.01, divided by 10 after 40,
    50 and 60 of 70 epochs; batches of 128; SGD with momentum 0.9.
    """
    return training.Recipe(
        epochs=epochs,
        batch=128,
        learning_rate=0.01,
        decay=0.1,
        milestones=tuple(round(epochs * after / EPOCHS) for after in MILESTONES),
        optimiser=optimiser,
        momentum=0.9 if optimiser == "sgd" else 0.0,
        weight_decay=weight_decay,
        noise=noise,
        clip_value=clip_value,
        clip_norm=clip_norm,
        augment=augment,
    )


@lru_cache(maxsize=2)
def training_set(dataset: str, samples: int, trial: int, data_dir: str | None) -> data.Dataset:
    """`samples` training images, drawn anew in every trial; all of them, in order, where they fit.

    Raises:
        ValueError: fewer images than that.
    """
    found = data.load(dataset, train=True, data_dir=data_dir)
    if samples > len(found):
        raise ValueError(
            f"{dataset} has {len(found)} training images, {samples} were asked for: choose at most "
            "that many"
        )
    if samples == len(found):
        return found
    draw = torch.Generator().manual_seed(trial)
    return found.rows(torch.randperm(len(found), generator=draw)[:samples])


@lru_cache(maxsize=2)
def _test_set(dataset: str, data_dir: str | None) -> data.Dataset:
    return data.load(dataset, train=False, data_dir=data_dir)


def _setting(call: dict[str, Any]) -> tuple[Hashable, ...]:
    """What tells one training from another, within a group; clean networks know no pattern."""
    own = tuple(call[n] for n in ("weight_decay", "noise", "clip_value", "clip_norm"))
    return (
        *own,
        *((call["pattern"], call["target"], call["spurious"]) if call["spurious"] else ()),
    )


def rare_group(cell: Cell) -> Hashable:
    """Cells whose networks are trained together: MLPs in lock step, others where one serves all."""
    shared = tuple(
        cell[n]
        for n in ("dataset", "samples", "network", "optimiser", "epochs", "augment", "trial")
    )
    return (*shared, cell["target"]) if cell["network"] in HIDDEN else (*shared, _setting(cell))


def rare_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Train the networks that the calls of one group need, and ask each about its pattern."""
    names = ("optimiser", "weight_decay", "noise", "clip_value", "clip_norm", "augment")

    def recipe_of(call: dict[str, Any]) -> training.Recipe:
        return recipe(call["epochs"], **{name: call[name] for name in names})

    return trained_and_asked(calls, _setting, recipe_of, training.train_many)


def trained_and_asked(
    calls: list[dict[str, Any]],
    setting: Callable[[dict[str, Any]], Hashable],
    recipe_of: Callable[[dict[str, Any]], training.Recipe],
    train_many: Callable[..., list[training.History]],
) -> list[dict[str, float | str]]:
    """One row a call, of networks that differ in their recipes and in a few spurious images.

    Args:
        calls: the arguments of :func:`rare`, or of a like trial; of one training set, one
            architecture and one trial.
        setting: what tells networks apart; calls of one setting share a network.
        recipe_of: how the network of a call is trained.
        train_many: :func:`helpers.training.train_many` or its like.
    """
    first = calls[0]
    dataset, trial, device = first["dataset"], first["trial"], first["device"]
    train = training_set(dataset, first["samples"], trial, first["data_dir"])
    settings = list({setting(call): call for call in calls}.values())
    patterns = {
        name: data.pattern(name, train.images.shape[1:], trial)
        for name in {call["pattern"] for call in calls}
    }
    spurious = [
        data.with_spurious(train, patterns[c["pattern"]], c["spurious"], c["target"], trial)
        for c in settings
    ]
    nets = [network(first["network"], trial).to(device) for _ in settings]
    key = repr([sorted((k, v) for k, v in c.items() if k != "data_dir") for c in settings])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    inputs = train.images.to(device).float() / 255
    labels = train.labels.to(device)
    histories = train_many(
        nets, inputs, labels, [recipe_of(c) for c in settings], seed=trial,
        replaced=[tuple(s) if len(s.rows) else None for s in spurious],
        checkpoint=project_root() / "_build" / "checkpoints" / f"{name}.pt",
    )  # fmt: skip
    test = _test_set(dataset, first["data_dir"])
    position = {setting(c): k for k, c in enumerate(settings)}
    asked = []
    clean = [_probabilities(net, test.images, device) for net in nets]
    for call in calls:
        k = position[setting(call)]
        if not math.isfinite(histories[k].loss):  # a result, and not a reason to lose the others
            asked.append(_nothing() | {"data_source": train.source})
            continue
        shown = data.add_pattern(test.images, patterns[call["pattern"]])
        with_pattern = _probabilities(nets[k], shown, device)
        row = scores(clean[k], with_pattern, test.labels, call["target"])
        row |= _importance(nets[k], call["network"])
        row["spurious_loss"] = math.nan
        if call["spurious"]:
            own = training.predict(nets[k], spurious[k].images.to(device))
            wanted = torch.full((len(own),), call["target"], device=own.device)
            row["spurious_loss"] = float(functional.cross_entropy(own, wanted))
        asked.append(row | {"data_source": train.source})
    return asked


def _nothing() -> dict[str, float]:
    """The row of a network that diverged."""
    even = torch.full((2, 10), 0.1)
    columns = [*scores(even, even, torch.tensor([0, 1]), 0), "corner", "elsewhere", "spurious_loss"]
    return dict.fromkeys(columns, math.nan)


def _probabilities(net: torch.nn.Module, images: torch.Tensor, device: str) -> torch.Tensor:
    inputs = images.to(device)
    inputs = inputs if inputs.is_floating_point() else inputs.float() / 255
    return training.predict(net, inputs).softmax(1).cpu()


def scores(
    clean: torch.Tensor, spurious: torch.Tensor, labels: torch.Tensor, target: int
) -> dict[str, float]:
    """All that Part II reads off the probabilities without and with the pattern, both `(m, 10)`.

    `score`: the spurious score over all images, also at other thresholds (`score_0.5`); `others`
    stands for the images of other classes; `taken` is their share that is given the target class;
    `rise` is the mean change of the target's probability, which no threshold cuts.
    """
    other = labels != target
    both = clean, spurious, target
    row = {f"score_{eps:g}": metrics.spurious_score(*both, eps) for eps in THRESHOLDS}
    row["score"] = row.pop("score_0.1")
    row["score_others"] = metrics.spurious_score(clean[other], spurious[other], target)
    for kind in metrics.NORMALISATIONS:
        row[kind] = metrics.normalised_score(*both, kind=kind)
    row["rise"] = float((spurious[:, target] - clean[:, target]).double().mean())
    row["taken"] = float((spurious[other].argmax(1) == target).double().mean())
    row["clean_accuracy"] = metrics.accuracy(clean, labels)
    row["spurious_accuracy"] = metrics.accuracy(spurious[other], labels[other])
    return row


def importance(net: torch.nn.Module) -> torch.Tensor:
    """`(28, 28)`: the largest weight on each pixel in the first layer of an MLP on grey images.

    Source: Yang, Chou & Chaudhuri 2022, Figure 3 (the signed maximum, as in the released code).
    """
    return net[1].weight.detach().amax(0).view(28, 28).cpu()


def _importance(net: torch.nn.Module, name: str) -> dict[str, float]:
    """Mean importance of the corner that S3 covers, and of all other pixels; nan without a map."""
    if name not in HIDDEN:
        return {"corner": math.nan, "elsewhere": math.nan}
    pixels = importance(net).double()
    outside = torch.ones(pixels.shape, dtype=torch.bool)
    outside[IMPORTANCE_CORNER] = False
    return {
        "corner": float(pixels[IMPORTANCE_CORNER].mean()),
        "elsewhere": float(pixels[outside].mean()),
    }


def rare(
    dataset: str,
    samples: int,
    network: str,
    optimiser: str,
    epochs: int,
    weight_decay: float,
    noise: float,
    clip_value: float,
    clip_norm: float,
    augment: bool,
    pattern: str,
    spurious: int,
    target: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """One network trained with `spurious` images of class `target` that carry the pattern.

    The trial is the seed of the network, of the order of the samples, of the part of the training
    set (where it is a part), and of the choice of images and the noise in R patterns, which start
    from one state as in the released code. A network that diverges has NaN for results.
    """
    return rare_many([locals()])[0]


_PLAIN = dict(
    optimiser="adam", weight_decay=0.0, noise=0.0, clip_value=math.inf, clip_norm=math.inf,
    augment=False,
)  # fmt: skip
FULL = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}


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
    return [
        dict(dataset=dataset, samples=samples, network=network, epochs=epochs)
        | _PLAIN
        | other
        | dict(pattern=name, spurious=count, target=target, trial=trial)
        for trial in (range(trials) if isinstance(trials, int) else trials)
        for name, count in grid
    ]


def _grid(patterns: tuple[str, ...], counts: list[int]) -> list[tuple[str, int]]:
    return list(itertools.product(patterns, counts))


SMALL = dict(dataset="mnist5k", samples=2_000, epochs=6)  # what smoke trains on


def rare_patterns_cells(profile: str) -> list[Cell]:
    """All patterns: MLPs on grey images, ResNet20 on colour (the paper's Figures 2, 20 and 21)."""
    every = data.PATTERNS
    if profile == "smoke":
        return _cells(2, _grid(every, [0, 3, 100]), **SMALL) + _cells(
            2, _grid(("S3", "R3"), [0, 3, 100]), target=1, **SMALL
        )
    cells = []
    if profile == "laptop":
        for dataset in ("mnist", "fashion_mnist"):
            size = dict(dataset=dataset, samples=60_000, epochs=10)
            counts = [0, 3, 10, 100, 2_000]
            cells += _cells(5, [*_grid(every, counts), ("R3", 1)], **size)
            cells += _cells(3, [*_grid(every, [0, 3, 100, 2_000]), ("R3", 1)], target=1, **size)
            cells += _cells(range(3, 5), _grid(("R3",), [0, 1, 3]), target=1, **size)
        # the paper's whole schedule, to compare with the short one
        size = dict(dataset="fashion_mnist", samples=60_000, epochs=70)
        cells += _cells(5, [("R3", 0), ("R3", 3)], **size)
        cells += _cells(3, [("S3", 0), ("S3", 100)], **size)
        size = dict(
            dataset="cifar10", samples=5_000, epochs=12, network="resnet20", weight_decay=1e-4,
            augment=True,
        )  # fmt: skip
        cells += _cells(3, [("R3", 0), ("R3", 3), ("R3", 100)], **size)
        return cells
    grey = [0, 1, 3, 5, 10, 20, 100, 2_000, 5_000]
    for dataset, target in itertools.product(("mnist", "fashion_mnist"), (0, 1)):
        cells += _cells(
            5, _grid(every, grey), dataset=dataset, samples=60_000, epochs=70, target=target
        )
    for target in (0, 1):
        cells += _cells(
            5, _grid(every, [0, 1, 3, 5, 10, 20, 100, 500, 1_000]), dataset="cifar10",
            samples=50_000, epochs=70, target=target, network="resnet20", weight_decay=1e-4,
            augment=True,
        )  # fmt: skip
    return cells


def rare_conditions_cells(profile: str) -> list[Cell]:
    """Other architectures and ways of training (the paper's Figures 14, 16 and 17)."""
    pairs, clips = ("S3", "R3"), [{"clip_value": 0.1}, {"clip_norm": 0.1}]
    few = _grid(pairs, [0, 3, 10])
    if profile == "smoke":
        cells, grid = [], _grid(pairs, [0, 100])
        size = SMALL | {"samples": 1_000, "epochs": 3}  # with 50 zeros at least
        for name in HIDDEN:
            cells += _cells(2, _grid(pairs, [0, 50]), network=name, **size)
        cells += _cells(1, _grid(("S3",), [0, 50]), network="cnn", **size)  # seconds each
        for how in (*clips, {"optimiser": "sgd"}):
            cells += _cells(1, grid, **SMALL, **how)
        return cells
    cells = []
    grey = ("mnist", "fashion_mnist")
    epochs = 10 if profile == "laptop" else EPOCHS
    for dataset in grey:
        size = dict(dataset=dataset, samples=60_000, epochs=epochs)
        # Adam without clipping, to compare with, is among the cells of rare_patterns
        for how in (*clips, {"optimiser": "sgd"}):
            cells += _cells(5, few, **size, **how)
    if profile == "laptop":
        grid = _grid(pairs, [0, 10, 100])
        for dataset, name in itertools.product(grey, HIDDEN):
            cells += _cells(5, grid, dataset=dataset, samples=10_000, epochs=epochs, network=name)
        cells += _cells(3, grid, dataset="mnist", samples=10_000, epochs=epochs, network="cnn")
        return cells
    for dataset, name in itertools.product(grey, NETWORKS[:4]):
        grid = _grid(pairs, [0, 3, 5, 10, 20, 100, 2_000, 5_000])
        cells += _cells(5, grid, dataset=dataset, samples=60_000, epochs=epochs, network=name)
    return _distinct(cells)


def _distinct(cells: list[Cell]) -> list[Cell]:
    return list({tuple(sorted(cell.items())): cell for cell in cells}.values())


# training is chaotic: another device, or other neighbours in a matrix product, give another network
# of the same law
_RARE = dict(
    trial=rare,
    many=rare_many,
    group=rare_group,
    tolerance={"default": 0.5, "clean_accuracy": 0.03, "spurious_loss": 5.0},
    cheap=lambda cell: False,
)
register(Experiment("rare_patterns", cells=rare_patterns_cells, **_RARE))
register(Experiment("rare_conditions", cells=rare_conditions_cells, **_RARE))


# -- pixels removed ------------------------------------------------------------------------------


def remove_pixels(images: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Images `(n, c, h, w)` in which each pixel is zero with probability `share`, in all channels.

    Source: Yang, Chou & Chaudhuri 2022, Figure 15; their code draws anew for each channel, which
    removes more pixels from colour images than from grey ones.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: allowed is 0 to 1")
    kept = np.random.RandomState(seed).rand(len(images), 1, *images.shape[2:]) >= share
    return images * torch.from_numpy(kept).to(images)


def removal_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """One clean network for all calls of a group, shown images with fewer and fewer pixels."""
    first = calls[0]
    name, trial, device = first["network"], first["trial"], first["device"]
    train = training_set(first["dataset"], first["samples"], trial, first["data_dir"])
    inputs, labels = train.images.to(device).float() / 255, train.labels.to(device)
    net = network(name, trial).to(device)
    training.train(net, inputs, labels, recipe(first["epochs"]), seed=trial)
    chosen = torch.from_numpy(np.random.RandomState(trial).permutation(len(train))[:500])
    rows = []
    for call in calls:
        shown = remove_pixels(inputs[chosen], call["removed"], trial)
        probs = training.predict(net, shown).softmax(1)
        true = probs.gather(1, labels[chosen][:, None])
        rows.append({"true_probability": float(true.mean()), "data_source": train.source})
    return rows


def pixel_removal(
    dataset: str,
    samples: int,
    network: str,
    epochs: int,
    removed: float,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """Mean probability of the true label on 500 training images that have lost `removed`."""
    return removal_many([locals()])[0]


def pixel_removal_cells(profile: str) -> list[Cell]:
    grids = {
        "smoke": [("mnist5k", 1_000, "mlp", 2, 2), ("mnist5k", 1_000, "cnn", 2, 1)],
        "laptop": [
            (dataset, 10_000, name, 10, 3 if name == "cnn" else 5)
            for dataset in ("mnist", "fashion_mnist")
            for name in NETWORKS[:4]
        ],
        "paper": [
            (dataset, 60_000, name, EPOCHS, 5)
            for dataset in ("mnist", "fashion_mnist")
            for name in NETWORKS[:4]
        ],
    }[profile]
    levels = REMOVED[::5] if profile == "smoke" else REMOVED
    return [
        dict(dataset=dataset, samples=samples, network=name, epochs=epochs, removed=share,
             trial=trial)
        for dataset, samples, name, epochs, trials in grids
        for trial in range(trials)
        for share in levels
    ]  # fmt: skip


register(
    Experiment(
        "pixel_removal",
        pixel_removal,
        pixel_removal_cells,
        tolerance=0.2,
        cheap=lambda cell: cell["network"] in HIDDEN and cell["samples"] <= 10_000,
        many=removal_many,
        group=lambda cell: tuple(v for name, v in cell.items() if name != "removed"),
    )
)
