"""The experiment of the chapter on ResNet-18: top modes of its kernel before and after training."""

import itertools
import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from helpers import data, kernels, models, probes, training
from helpers.experiments.shortcut.tasks import LEADING, by_alignment, digit_splits
from helpers.sweep import Call, Cell, experiment
from helpers.training import margin_losses

SETS = ("colored digits", "cats and dogs", "garments")
LOSSES = {"logistic": 0.0, "sd": 0.1, "marg_log": 0.5}
STAGES = ("start", "early", "end")  # before training, after one epoch, after the last
FIRST = 5  # modes that the claim is about; the shortcut is looked for among `LEADING`
CUTOFF = 1e-4  # of the largest eigenvalue; smaller modes dominate the test energy


@lru_cache(maxsize=2)
def sets(
    name: str, samples: int, test: int, rho: float, trial: int, data_dir: str | None
) -> tuple[data.Grouped, data.Grouped, str]:
    """Training set with aligned share rho and balanced test set, as 32 x 32 colour images.

    Colored digits (red or green, on black) and cats and dogs (darker or brighter) as in
    :mod:`helpers.data.biased_sets`, at smoke size from `mnist5k`; garments on land and water as in
    :func:`helpers.data.fashion_birds`, with the classes of Waterbirds in their proportions, and at
    `rho` 0.95 its four groups.

    Raises:
        ValueError: an unknown name.
        DatasetNotFound: the images are not on this machine.
    """
    if name == "garments":
        return _garments(samples, test, rho, trial, data_dir)
    if name == "cats and dogs":
        make, source = data.cats_and_dogs, "cifar10"
    elif name in ("colored digits", "few colored digits"):
        make, source = data.colored_mnist, "mnist" if name == "colored digits" else "mnist5k"
    else:
        raise ValueError(f"set is {name!r}: allowed are {', '.join(map(repr, SETS))}")
    parts = digit_splits(source, data_dir)
    made = data.train_and_test(make, parts, rho, (samples, test), trial)
    if make is data.colored_mnist:
        made = [replace(part, images=_in_colour(part.images)) for part in made]
    return *made, parts[0].source


def _in_colour(images: torch.Tensor) -> torch.Tensor:
    """`(n, 2, 14, 14)` to red and green on a black canvas, `(n, 3, 32, 32)`."""
    large = functional.interpolate(images, scale_factor=2)
    return functional.pad(large, (2, 2, 2, 2, 0, 1))


def garment_shares(rho: float) -> list[float]:
    """Shares of the four groups: those of Waterbirds at 0.95, else the same two classes.

    >>> [round(share, 3) for share in garment_shares(0.95)]
    [0.73, 0.038, 0.012, 0.22]
    >>> [round(share, 3) for share in garment_shares(0.5)]
    [0.384, 0.384, 0.116, 0.116]
    """
    shares = [n / sum(data.WATERBIRDS["train"]) for n in data.WATERBIRDS["train"]]
    if rho == 0.95:
        return shares
    land, water = sum(shares[:2]), sum(shares[2:])
    return [rho * land, (1 - rho) * land, (1 - rho) * water, rho * water]


def _garments(
    samples: int, test: int, rho: float, trial: int, data_dir: str | None
) -> tuple[data.Grouped, data.Grouped, str]:
    sizes = {
        "train": [round(samples * share) for share in garment_shares(rho)],
        "test": [test // 4] * 4,
    }
    made = data.fashion_birds(seed=trial, sizes=sizes, data_dir=data_dir)
    parts = [
        data.Grouped(part.images, 2.0 * part.label - 1, 2.0 * part.attribute - 1)
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


def subset(sample: data.Grouped, size: int) -> data.Grouped:
    """The first images of each of the four groups, in the proportions of the whole."""
    rows = []
    for group in range(4):
        members = (sample.group == group).nonzero().flatten()
        rows.append(members[: max(1, round(size * len(members) / len(sample)))])
    return sample.rows(torch.cat(rows))


def modes(
    net: torch.nn.Module, train: data.Grouped, test: data.Grouped, outputs: torch.Tensor
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
    found = kernels.eigenfeatures(K[:count, :count], train.label, cutoff=CUTOFF)
    leading = found.vectors[:, :LEADING]
    aligned = kernels.mode_alignment(leading, train.attribute)
    place = int(aligned.argmax())
    told = kernels.predictability(leading, train.attribute)
    features = found.on(K[count:, :count])
    first = range(min(FIRST, len(found)))
    right = [probes.accuracy_by_alignment(features[:, i], test) for i in first]
    meeting = [told[i] > 0.8 and right[i][1] < 0.3 for i in first]
    of_shortcut = probes.accuracy_by_alignment(features[:, place], test)

    own = kernels.top_modes(K[count:, count:], min(LEADING, len(test.label)))
    energy = kernels.mode_alignment(own.vectors, outputs)
    shortcut = int(kernels.mode_alignment(own.vectors, test.attribute).argmax())
    rival = torch.cat([energy[:shortcut], energy[shortcut + 1 :]]).max()
    return {
        "mode": place + 1,
        "eigenvalue": float(found.values[place] / found.values[0]),
        "bias_alignment": float(aligned[place]),
        "label_alignment": float(kernels.mode_alignment(leading, train.label)[place]),
        "tells_bias": float(told[place]),
        "mode_aligned": of_shortcut[0],
        "mode_conflicting": of_shortcut[1],
        "meeting": sum(map(bool, meeting)),
        "share": float(energy[shortcut]),
        "rival": float(rival),
    }


def _resnet_cells(profile: str) -> list[Cell]:
    """Width 16 and 2,000 images on a laptop, width 64 and 8,000 on a GPU."""
    names, losses = SETS, tuple(LOSSES)
    size = dict(samples=8_000, epochs=30, width=64, kernel=1_000, test=2_000)
    if profile == "laptop":
        losses, size = losses[:2], dict(samples=2_000, epochs=4, width=16, kernel=200, test=2_000)
    elif profile == "smoke":
        names, losses = ("few colored digits",), losses[:2]
        size = dict(samples=160, epochs=4, width=8, kernel=40, test=100)
    return [
        dict(dataset=name, rho=_share(name), loss=loss, **size, trial=trial)
        for name, loss in itertools.product(names, losses)
        for trial in range(1 if profile == "smoke" else 5 if loss == "logistic" else 3)
    ]


def _share(name: str) -> float:
    return 0.95 if name == "garments" else 0.9


@experiment(
    "resnet",
    cells=_resnet_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 0.3, "margin_cv": 2.0} | {f"mode_{stage}": 10.0 for stage in STAGES},
    cheap=lambda cell: cell["samples"] <= 500,
)
def resnet(call: Call) -> dict[str, float | str]:
    """One ResNet-18, its kernel at three stages, and its accuracies by group.

    `loss` is "logistic", "sd" (coefficient 0.1) or "marg_log" (0.5). Before training the statistics
    of batch normalisation are those of the training set under the initial weights. The trial is
    the seed of data and network. Kernels are taken on `kernel` training images and as many of the
    test set; those at the start and after one epoch for the logistic loss only.
    """
    width, trial = call.width, call.trial
    train, held_out, source = sets(
        call.dataset, call.samples, call.test, call.rho, trial, call.data_dir
    )
    inputs, labels = train.images.to(call.device), train.label.to(call.device)
    net = network(width, trial).to(call.device)
    recipe = training.Recipe(
        epochs=call.epochs, batch=32, loss=call.loss, loss_strength=LOSSES[call.loss],
        optimiser="sgd", learning_rate=0.01, momentum=0.9,
    )  # fmt: skip
    part, balanced = subset(train, call.kernel), subset(held_out, call.kernel)

    nets = {"end": net}
    if call.loss == "logistic":
        nets = {stage: network(width, trial).to(call.device) for stage in STAGES[:2]} | nets
        update_bn(inputs.split(recipe.batch), nets["start"])
        nets["start"].eval()
        training.train(nets["early"], inputs, labels, replace(recipe, epochs=1), seed=trial)
    checkpoint = training.checkpoint_file(tuple(call.items()))
    history = training.train(net, inputs, labels, recipe, seed=trial, checkpoint=checkpoint)
    said, fitted = (
        training.predict(net, images.to(call.device)).flatten().cpu()
        for images in (held_out.images, train.images)
    )
    margins = data.margins(fitted, train.label)
    row: dict[str, float | str] = {
        **by_alignment(said, held_out),
        "average": probes.sign_accuracy(said, held_out.label),
        "worst": float(probes.accuracy_by_group(said, held_out.label, held_out.group).min()),
        "train_accuracy": probes.sign_accuracy(fitted, train.label),
        # a network that is wrong on average has no coefficient of variation
        "margin_cv": margin_losses.margin_cv(margins) if float(margins.mean()) > 0 else math.nan,
        "train_loss": history.loss,
        "data_source": source,
    }
    shown = training.predict(net, balanced.images.to(call.device)).flatten().cpu()
    found = {stage: modes(stage_net, part, balanced, shown) for stage, stage_net in nets.items()}
    absent = dict.fromkeys(found["end"], math.nan)  # all cells have the same columns
    for stage in STAGES:
        row |= {f"{key}_{stage}": value for key, value in found.get(stage, absent).items()}
    return row


# -- before training: does it depend on how the kernel is taken? -----------------------------------


def _start_cells(profile: str) -> list[Cell]:
    """The kernel of the chapter, and one change at a time."""
    size, changes, names, trials = {
        "smoke": (dict(samples=160, width=8, kernel=40), [], ["few colored digits"], 1),
        "laptop": (dict(samples=2_000, width=16, kernel=200), [{"kernel": 600}, {"width": 32}],
                   ["colored digits", "garments"], 3),
        "paper": (dict(samples=8_000, width=64, kernel=1_000), [{"kernel": 2_000}, {"width": 16}],
                  SETS, 5),
    }[profile]  # fmt: skip
    base = {**size, "statistics": "data"}
    return [
        dict(dataset=name, rho=_share(name), trial=trial) | base | change
        for name, change, trial in itertools.product(
            names, [{}, {"statistics": "none"}, *changes], range(trials)
        )
        if name == names[0] or "width" not in change  # the costly change, on one set
    ]


@experiment(
    "resnet_start",
    cells=_start_cells,
    # which of several close modes is the best one may change with the last digit
    tolerance={"default": 0.3, "mode": 10.0},
    cheap=lambda cell: cell["samples"] <= 500,
)
def resnet_start(call: Call) -> dict[str, float | str]:
    """The leading modes of an untrained ResNet-18, whose kernel is taken in one of several ways.

    `statistics` are those that batch normalisation has: of the training set ("data"), or the zeros
    and ones that it starts with ("none"), under which it does nothing.
    """
    if call.statistics not in ("data", "none"):
        raise ValueError(f"statistics is {call.statistics!r}: allowed are 'data' and 'none'")
    train, held_out, source = sets(
        call.dataset, call.samples, 4 * call.kernel, call.rho, call.trial, call.data_dir
    )
    net = network(call.width, call.trial).to(call.device)
    if call.statistics == "data":
        update_bn(train.images.to(call.device).split(32), net)
    net.eval()
    part, balanced = subset(train, call.kernel), subset(held_out, call.kernel)
    said = training.predict(net, balanced.images.to(call.device)).flatten().cpu()
    found = modes(net, part, balanced, said)
    kept = ("mode", "bias_alignment", "tells_bias", "mode_aligned", "mode_conflicting", "meeting")
    return {key: found[key] for key in kept} | {"data_source": source}
