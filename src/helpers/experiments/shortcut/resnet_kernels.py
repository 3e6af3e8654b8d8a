"""Kernels of ResNet-18 at several moments: is the shortcut among their first modes?

Every answer comes with its controls: the linear and the ReLU kernel on the same images, in which
the shortcut has to be found, and an attribute that says nothing about the label, in which it must
not. Permuted attributes show the level of chance.
"""

import math
from collections.abc import Hashable
from dataclasses import replace
from functools import cache
from operator import itemgetter

import torch
from torch.optim.swa_utils import update_bn

from helpers import data, kernels, probes, training
from helpers.experiments.shortcut.resnet import LOSSES, network, sets, subset
from helpers.experiments.shortcut.tasks import by_alignment
from helpers.sweep import Call, Cell, experiment
from helpers.training import margin_losses

FIRST = 5  # modes that the claim is about
PERMUTATIONS = 20
MEMORY = 2**32  # bytes of gradients
LONGER = {"cats and dogs": 1.5}  # at the usual epochs, training images are still wrong
CLOSED_FORM = {"linear": lambda X: X @ X.T, "relu": kernels.relu_ntk}
_NETWORK = itemgetter("kernel", "dataset", "rho", "loss", "samples", "epochs", "width", "trial")


def network_group(cell: Cell) -> Hashable:
    """Cells that ask one network; a closed-form kernel is a matter of its own."""
    return _NETWORK(cell) if cell["kernel"] == "resnet" else tuple(cell.items())


def _cells(profile: str) -> list[Cell]:
    names: tuple[str, ...] = ("colored digits", "cats and dogs", "garments")
    size = dict(samples=1_000, test=1_000, epochs=20)
    widths, sizes, trials = [(16, 10), (64, 5)], (200, 600), 10
    if profile == "smoke":
        names, size = ("few colored digits",), dict(samples=160, test=100, epochs=4)
        widths, sizes, trials = [(8, 1)], (40,), 1
    elif profile == "paper":
        size = dict(samples=8_000, test=2_000, epochs=30)
        widths, sizes = [(64, 10), (16, 5)], (1_000, 2_000)
    few, (usual, _) = sizes[0], widths[0]

    def cell(name: str, trial: int, **other: object) -> Cell:
        default = dict(kernel="resnet", rho=0.95 if name == "garments" else 0.9, loss="logistic",
                       width=usual, images=few, statistics="data", stage="start")  # fmt: skip
        return {"dataset": name, **size, "trial": trial} | default | other

    starts = [dict(statistics="data"), dict(statistics="none")]
    closed = [dict(kernel=kind, width=0, statistics="none") for kind in CLOSED_FORM]
    cells = []
    for trial in range(trials):
        for name in names:
            untrained = [*starts, *closed]
            cells += [cell(name, trial, images=n, **way) for way in untrained for n in sizes]
            cells += [cell(name, trial, rho=0.5, **way) for way in untrained]
            long = {"epochs": int(size["epochs"] * LONGER.get(name, 1))}
            ends = [dict(stage="early"), dict(stage="end", **long)]
            cells += [cell(name, trial, images=n, **way) for way in ends for n in sizes]
            cells.append(cell(name, trial, stage="end", loss="sd", **long))
    for width, some in widths[1:]:
        cells += [
            cell(name, trial, width=width, **way)
            for trial in range(some)
            for name in names
            for way in starts
        ]
    return cells


def share_of_trace(
    K: torch.Tensor, sample: data.Grouped, centred: bool, seed: int
) -> dict[str, float]:
    """Availability of bias, label, label without its part along the bias, and permuted biases."""
    y, b = (g.to(K) - centred * g.to(K).mean() for g in (sample.label, sample.attribute))
    draw = torch.Generator().manual_seed(seed)
    nulls = [
        kernels.availability(K, b[torch.randperm(len(b), generator=draw)])
        for _ in range(PERMUTATIONS)
    ]
    return {
        "a_bias": kernels.availability(K, b),
        "a_label": kernels.availability(K, y),
        "a_core": kernels.availability(K, y - b * (b @ y) / (b @ b)),
        "a_null": sum(nulls) / len(nulls),
    }


def first_modes(
    found: kernels.Leading, train: data.Grouped, test: data.Grouped, seed: int
) -> dict[str, float]:
    """What the first modes say of the attribute, together and one by one.

    Returns:
        Of the span of all: the accuracy `told` of the attribute on balanced images, those of the
        label on aligned and conflicting ones, and `null_told`, the mean for permuted attributes.
        Of the single modes: the best accuracy of the attribute, and how many `meet` both
        conditions of the claim, an accuracy above 0.8 with fewer than 0.3 conflicting images right.
    """
    told, draw = probes.sign_accuracy, torch.Generator().manual_seed(seed)
    nulls = []
    for _ in range(PERMUTATIONS):
        order, other = (torch.randperm(len(part), generator=draw) for part in (train, test))
        nulls.append(told(found.read(train.attribute[order]), test.attribute[other]))
    single = [
        (told(found.read(train.attribute, mode=i), test.attribute),
         probes.accuracy_by_alignment(found.read(train.label, mode=i), test)[1])
        for i in range(len(found.values))
    ]  # fmt: skip
    return {
        "told": told(found.read(train.attribute), test.attribute),
        **by_alignment(found.read(train.label), test),
        "null_told": sum(nulls) / len(nulls),
        "best_told": max(one for one, _ in single),
        "meet": sum(one > 0.8 and conflicting < 0.3 for one, conflicting in single),
        "first": float(found.values[0]),
    }


def of_kernel(
    K: torch.Tensor, train: data.Grouped, test: data.Grouped, seed: int
) -> dict[str, float]:
    """All measures of a kernel on training and test images, raw and centred."""
    K, count = K.double().cpu(), len(train)
    blocks = {"raw": (K[:count, :count], K[count:, :count])}
    blocks["centred"] = kernels.centred_kernel(*blocks["raw"])
    row = {}
    for way, (own, query) in blocks.items():
        modes = first_modes(kernels.leading(own, query, FIRST), train, test, seed)
        modes["first"] /= float(own.trace())
        modes |= share_of_trace(own, train, way == "centred", seed)
        row |= {f"{name}_{way}": value for name, value in modes.items()}
    return row


def of_output(
    K: torch.Tensor, outputs: torch.Tensor, shown: torch.Tensor, test: data.Grouped,
    balanced: data.Grouped,
) -> dict[str, float]:  # fmt: skip
    """Accuracies of a network, and how much of its output the shortcut explains.

    Args:
        K: `(m, m)` its own kernel on `balanced`.
        outputs: on `test`.
        shown: on `balanced`.
        test: a balanced set.
        balanced: a part of it.

    Returns:
        `explained_bias`, `explained_label`: squared correlation of output and attribute or label;
        `share`, `rival`: of the energy of the centred output, in the mode of the centred kernel
        that is best aligned with the attribute, and the largest in any other.
    """
    by_group = probes.accuracy_by_group(outputs, test.label, test.group)
    f = (outputs - outputs.mean()).double()
    explained = {
        f"explained_{name}": float((f @ g) ** 2 / (f @ f) / (g @ g)) if bool(f.any()) else 0.0
        for name, target in (("bias", test.attribute), ("label", test.label))
        for g in [target.double() - target.double().mean()]
    }
    own, _ = kernels.centred_kernel(K.double().cpu(), K.double().cpu())
    modes = kernels.dense_modes(own, len(own) // 2).vectors
    energy = kernels.mode_alignment(modes, (shown - shown.mean()).double())
    best = int(kernels.mode_alignment(modes, balanced.attribute).argmax())
    share, rival = float(energy[best]), float(torch.cat([energy[:best], energy[best + 1 :]]).max())
    return {
        **by_alignment(outputs, test, "_output"),
        "average": float(by_group.mean()),
        "worst": float(by_group.min()),
        **explained,
        "share": share,
        "rival": rival,
    }


_ABSENT = (
    "aligned_output", "conflicting_output", "average", "worst", "explained_bias",
    "explained_label", "share", "rival", "train_accuracy", "margin_cv",
)  # fmt: skip


@experiment(
    "resnet_kernels",
    cells=_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 0.3, "margin_cv": 2.0, "meet_raw": 5.0, "meet_centred": 5.0},
    cheap=lambda cell: cell["samples"] <= 500 or cell["kernel"] != "resnet",
    group=network_group,
)
def resnet_kernels(calls: list[Call]) -> list[dict[str, float | str]]:
    """Kernels of one ResNet-18, or a closed-form one, and what their first modes say.

    `kernel` is "resnet", "linear" or "relu" (on inputs without their mean). `stage` is "start",
    "early" (one epoch) or "end"; before training, `statistics` of batch normalisation are those of
    the training set ("data") or the zeros and ones that it starts with ("none"). The trial is the
    seed of data and network. The kernel is taken on `images` training images and 200 balanced test
    images, fewer where `test` is smaller.
    """
    first = calls[0]
    train, test, source = sets(
        first.dataset, first.samples, first.test, first.rho, first.trial, first.data_dir
    )
    balanced = subset(test, min(200, first.test // 2))

    @cache
    def net(stage: str, statistics: str) -> torch.nn.Module:
        return _network(first, train, stage, statistics)

    rows = []
    for call in calls:
        part = subset(train, call.images)
        if call.kernel in CLOSED_FORM:
            row = dict.fromkeys(_ABSENT, math.nan)
            row |= of_kernel(_closed_form(call.kernel, part, balanced), part, balanced, call.trial)
        else:
            row = _of_network(net(call.stage, call.statistics), call, (train, part, test, balanced))
        rows.append(row | {"data_source": source})
    return rows


def _closed_form(kind: str, part: data.Grouped, balanced: data.Grouped) -> torch.Tensor:
    rows = torch.cat([part.images, balanced.images]).flatten(1).double()
    rows = rows - rows[: len(part)].mean(0)
    return CLOSED_FORM[kind](rows)


def _network(call: Call, train: data.Grouped, stage: str, statistics: str) -> torch.nn.Module:
    net = network(call.width, call.trial).to(call.device)
    inputs, labels = train.images.to(call.device), train.label.to(call.device)
    recipe = training.Recipe(
        epochs=call.epochs, batch=32, loss=call.loss, loss_strength=LOSSES[call.loss],
        optimiser="sgd", learning_rate=0.01, momentum=0.9,
    )  # fmt: skip
    if stage != "start":
        recipe = replace(recipe, epochs=1) if stage == "early" else recipe
        training.train(net, inputs, labels, recipe, seed=call.trial)
    elif statistics == "data":
        update_bn(inputs.split(recipe.batch), net)
    return net.eval()


def _of_network(
    net: torch.nn.Module, call: Call, groups: tuple[data.Grouped, ...]
) -> dict[str, float]:
    train, part, test, balanced = groups
    said, shown, fitted = (
        training.predict(net, sample.images.to(call.device)).flatten().cpu()
        for sample in (test, balanced, train)
    )
    images = torch.cat([part.images, balanced.images]).to(call.device)
    K = kernels.empirical_ntk(net, images, memory=MEMORY)
    margins, own = data.margins(fitted, train.label), K[len(part) :, len(part) :]
    return {
        **of_output(own, said, shown, test, balanced),
        "train_accuracy": probes.sign_accuracy(fitted, train.label),
        # a network that is wrong on average has no coefficient of variation
        "margin_cv": margin_losses.margin_cv(margins) if float(margins.mean()) > 0 else math.nan,
        **of_kernel(K, part, balanced, call.trial),
    }
