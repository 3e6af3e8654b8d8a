"""The experiment of the chapter on ResNet-18: top modes of its kernel before and after training."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from helpers import biased, data, groups, kernels, losses, models, spectra, training
from helpers.chapter import project_root
from helpers.sweep import Cell, Experiment, register

SETS = ("colored digits", "cats and dogs", "garments")
STAGES = ("start", "early", "end")  # before training, after one epoch, after the last
LEADING, FIRST = 50, 5  # modes among which the shortcut is looked for; those the claim is about
CUTOFF = 1e-4  # of the largest eigenvalue; smaller modes dominate the test energy


def sets(
    name: str, samples: int, test: int, rho: float, trial: int, data_dir: str | None
) -> tuple[biased.Biased, biased.Biased, str]:
    """Training set with aligned share rho and balanced test set, as 32 x 32 colour images.

    Colored digits (red or green, on black) and cats and dogs (darker or brighter) as in
    :mod:`helpers.biased`, at smoke size from `mnist5k`; garments on land and water as in
    :func:`helpers.groups.fashion_birds`, whose groups have the proportions of Waterbirds, so that
    `rho` is not free.

    Raises:
        ValueError: an unknown name; garments with another `rho` than that of Waterbirds (0.95).
        data.DatasetNotFound: the images are not on this machine.
    """
    if name == "garments":
        if rho != 0.95:
            raise ValueError(f"rho is {rho}: garments have the aligned share of Waterbirds, 0.95")
        return _garments(samples, test, trial, data_dir)
    if name == "cats and dogs":
        make, source = biased.cats_and_dogs, "cifar10"
    elif name in ("colored digits", "few colored digits"):
        make, source = biased.colored_mnist, "mnist" if name == "colored digits" else "mnist5k"
    else:
        raise ValueError(f"set is {name!r}: allowed are {', '.join(map(repr, SETS))}")
    parts = [data.load(source, train=train, data_dir=data_dir) for train in (True, False)]
    made = biased.train_and_test(make, parts, rho, (samples, test), trial)
    if make is biased.colored_mnist:
        made = [part._replace(images=_in_colour(part.images)) for part in made]
    return *made, parts[0].source


def _in_colour(images: torch.Tensor) -> torch.Tensor:
    """`(n, 2, 14, 14)` to red and green on a black canvas, `(n, 3, 32, 32)`."""
    large = functional.interpolate(images, scale_factor=2)
    return functional.pad(large, (2, 2, 2, 2, 0, 1))


def _garments(
    samples: int, test: int, trial: int, data_dir: str | None
) -> tuple[biased.Biased, biased.Biased, str]:
    shares = [n / sum(groups.WATERBIRDS["train"]) for n in groups.WATERBIRDS["train"]]
    sizes = {"train": [round(samples * share) for share in shares], "test": [test // 4] * 4}
    made = groups.fashion_birds(seed=trial, sizes=sizes, data_dir=data_dir)
    parts = [
        biased.Biased(part.images, 2.0 * part.label - 1, 2.0 * part.attribute - 1)
        for part in (made["train"], made["test"])
    ]
    return *parts, made["train"].source


def network(width: int, seed: int) -> torch.nn.Module:
    """ResNet-18 with one output for images of 32 x 32, its ReLUs ready for `torch.func`."""
    net = models.resnet(18, 1, stem="small", width=width, seed=seed)
    for module in net.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return net


def _subset(sample: biased.Biased, size: int) -> biased.Biased:
    """The first images of each of the four groups, in the proportions of the whole."""
    rows = []
    for y, b in itertools.product((-1, 1), repeat=2):
        members = ((sample.label == y) & (sample.attribute == b)).nonzero().flatten()
        rows.append(members[: max(1, round(size * len(members) / len(sample.label)))])
    return biased.Biased(*(part[torch.cat(rows)] for part in sample))


def modes(
    net: torch.nn.Module, train: biased.Biased, test: biased.Biased, outputs: torch.Tensor
) -> dict[str, float]:
    """What the leading modes of the network's kernel say about label and attribute.

    Args:
        net: in eval mode, one output.
        train: the subset that the kernel is taken on.
        test: a balanced set.
        outputs: `(m,)` what the trained network says of `test`.

    Returns:
        Of the mode of `train` best aligned with the attribute (among the leading 50): its place
        (1 is the first), operator eigenvalue relative to the first, alignments and predictability,
        and the accuracy of its output on aligned and conflicting test images; the number of the
        first five modes that meet both conditions of the claim; and, of the modes of the kernel on
        the test set, the share of the energy of `outputs` in the one best aligned with the
        attribute, and in the largest of the others.
    """
    device = next(net.parameters()).device
    count = len(train.label)
    both = torch.cat([train.images, test.images]).to(device)
    K = kernels.empirical_ntk(net, both, memory=2**32).cpu()
    found = spectra.eigenfeatures(K[:count, :count], train.label, cutoff=CUTOFF)
    leading = found.vectors[:, :LEADING]
    aligned = spectra.alignment(leading, train.attribute)
    place = int(aligned.argmax())
    told = spectra.predictability(leading, train.attribute)
    features = found.on(K[count:, :count])
    first = range(min(FIRST, len(found)))
    right = [biased.group_accuracies(features[:, i], test) for i in first]
    meeting = [told[i] > 0.8 and right[i][1] < 0.3 for i in first]
    of_shortcut = biased.group_accuracies(features[:, place], test)

    own = spectra.top_modes(K[count:, count:], min(LEADING, len(test.label)))
    energy = spectra.alignment(own.vectors, outputs)
    shortcut = int(spectra.alignment(own.vectors, test.attribute).argmax())
    rival = torch.cat([energy[:shortcut], energy[shortcut + 1 :]]).max()
    return {
        "mode": place + 1,
        "eigenvalue": float(found.values[place] / found.values[0]),
        "bias_alignment": float(aligned[place]),
        "label_alignment": float(spectra.alignment(leading, train.label)[place]),
        "tells_bias": float(told[place]),
        "mode_aligned": of_shortcut[0],
        "mode_conflicting": of_shortcut[1],
        "meeting": sum(map(bool, meeting)),
        "share": float(energy[shortcut]),
        "rival": float(rival),
    }


@lru_cache(maxsize=2)
def _sets(*arguments: Any) -> tuple[biased.Biased, biased.Biased, str]:
    return sets(*arguments)


def resnet(
    dataset: str,
    rho: float,
    loss: str,
    samples: int,
    epochs: int,
    width: int,
    kernel: int,
    test: int,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """One ResNet-18, its kernel at three stages, and its accuracies by group.

    `loss` is "logistic", "sd" (coefficient 0.1) or "marg_log" (0.5). Before training the statistics
    of batch normalisation are those of the training set under the initial weights. The trial is
    the seed of data and network. Kernels are taken on `kernel` training images and as many of the
    test set; those at the start and after one epoch for the logistic loss only.
    """
    train, held_out, source = _sets(dataset, samples, test, rho, trial, data_dir)
    inputs, labels = train.images.to(device), train.label.to(device)
    net = network(width, trial).to(device)
    strength = {"logistic": 0.0, "sd": 0.1, "marg_log": 0.5}[loss]
    recipe = training.Recipe(
        epochs=epochs, batch=32, loss=loss, loss_strength=strength, optimiser="sgd",
        learning_rate=0.01, momentum=0.9,
    )  # fmt: skip
    cell = (dataset, rho, loss, samples, epochs, width, kernel, test, trial)
    name = hashlib.sha256(repr(cell).encode()).hexdigest()[:16]
    part, balanced = _subset(train, kernel), _subset(held_out, kernel)

    nets = {"end": net}
    if loss == "logistic":
        nets = {stage: network(width, trial).to(device) for stage in STAGES[:2]} | nets
        update_bn(inputs.split(recipe.batch), nets["start"])
        nets["start"].eval()
        training.train(nets["early"], inputs, labels, replace(recipe, epochs=1), seed=trial)
    checkpoint = project_root() / "_build" / "checkpoints" / f"{name}.pt"
    history = training.train(net, inputs, labels, recipe, seed=trial, checkpoint=checkpoint)
    said, fitted = (
        training.predict(net, images.to(device)).flatten().cpu()
        for images in (held_out.images, train.images)
    )
    margins = fitted * train.label
    agrees = biased.group_accuracies(said, held_out)
    right = (said * held_out.label > 0).double()
    by_group = [
        float(right[(held_out.label == y) & (held_out.attribute == b)].mean())
        for y, b in itertools.product((-1, 1), repeat=2)
    ]
    row: dict[str, float | str] = {
        "aligned": agrees[0],
        "conflicting": agrees[1],
        "average": float(right.mean()),
        "worst": min(by_group),
        "train_accuracy": float((fitted * train.label > 0).double().mean()),
        # a network that is wrong on average has no coefficient of variation
        "margin_cv": losses.margin_cv(margins) if float(margins.mean()) > 0 else math.nan,
        "train_loss": history.loss,
        "data_source": source,
    }
    shown = training.predict(net, balanced.images.to(device)).flatten().cpu()
    found = {stage: modes(stage_net, part, balanced, shown) for stage, stage_net in nets.items()}
    absent = dict.fromkeys(found["end"], math.nan)  # all cells have the same columns
    for stage in STAGES:
        row |= {f"{key}_{stage}": value for key, value in found.get(stage, absent).items()}
    return row


def resnet_cells(profile: str) -> list[Cell]:
    """Cells by profile: width 16 and 2,000 images on a laptop, width 64 and 8,000 on a GPU."""
    if profile == "smoke":
        size = dict(samples=160, epochs=4, width=8, kernel=40, test=100)
        return [
            dict(dataset="few colored digits", rho=0.9, loss=loss, **size, trial=0)
            for loss in ("logistic", "sd")
        ]
    if profile == "laptop":
        size, trials = dict(samples=2_000, epochs=4, width=16, kernel=200, test=2_000), 5
    else:
        size, trials = dict(samples=8_000, epochs=30, width=64, kernel=1_000, test=2_000), 5
    cells = []
    for dataset in SETS:
        rho = 0.95 if dataset == "garments" else 0.9
        for loss in ("logistic", "sd", "marg_log"):
            if loss == "marg_log" and profile == "laptop":
                continue
            few = 3 if loss != "logistic" else trials
            for trial in range(few):
                cells.append(dict(dataset=dataset, rho=rho, loss=loss, **size, trial=trial))
    return cells


register(
    Experiment(
        "resnet",
        resnet,
        resnet_cells,
        # training is chaotic: another device gives another network of the same law
        tolerance={"default": 0.3, "margin_cv": 2.0} | {f"mode_{stage}": 10.0 for stage in STAGES},
        cheap=lambda cell: cell["samples"] <= 500,
    )
)


# -- before training: does it depend on how the kernel is taken? -----------------------------------


def resnet_start(
    dataset: str,
    rho: float,
    samples: int,
    width: int,
    kernel: int,
    statistics: str,
    trial: int,
    device: str,
    data_dir: str | None,
) -> dict[str, float | str]:
    """The leading modes of an untrained ResNet-18, whose kernel is taken in one of several ways.

    `statistics` are those that batch normalisation has: of the training set ("data"), or the zeros
    and ones that it starts with ("none"), under which it does nothing.
    """
    if statistics not in ("data", "none"):
        raise ValueError(f"statistics is {statistics!r}: allowed are 'data' and 'none'")
    train, held_out, source = _sets(dataset, samples, 4 * kernel, rho, trial, data_dir)
    net = network(width, trial).to(device)
    if statistics == "data":
        update_bn(train.images.to(device).split(32), net)
    net.eval()
    part, balanced = _subset(train, kernel), _subset(held_out, kernel)
    said = training.predict(net, balanced.images.to(device)).flatten().cpu()
    found = modes(net, part, balanced, said)
    kept = ("mode", "bias_alignment", "tells_bias", "mode_aligned", "mode_conflicting", "meeting")
    return {key: found[key] for key in kept} | {"data_source": source}


def resnet_start_cells(profile: str) -> list[Cell]:
    """The kernel of the chapter, and one change at a time."""
    if profile == "smoke":
        base = dict(samples=160, width=8, kernel=40, statistics="data")
        changes = [{}, {"statistics": "none"}]
        sets_, trials = ("few colored digits",), 1
    elif profile == "laptop":
        base = dict(samples=2_000, width=16, kernel=200, statistics="data")
        changes = [{}, {"statistics": "none"}, {"kernel": 600}, {"width": 32}]
        sets_, trials = ("colored digits", "garments"), 3
    else:
        base = dict(samples=8_000, width=64, kernel=1_000, statistics="data")
        changes = [{}, {"statistics": "none"}, {"kernel": 2_000}, {"width": 16}]
        sets_, trials = SETS, 5
    return [
        dict(dataset=name, rho=0.95 if name == "garments" else 0.9, trial=trial) | base | change
        for name, change, trial in itertools.product(sets_, changes, range(trials))
        if name == sets_[0] or "width" not in change  # the costly change, on one set
    ]


register(
    Experiment(
        "resnet_start",
        resnet_start,
        resnet_start_cells,
        # which of several close modes is the best one may change with the last digit
        tolerance={"default": 0.3, "mode": 10.0},
        cheap=lambda cell: cell["samples"] <= 500,
    )
)
