"""What the experiments of Part II have in common: data, networks, training, and what is asked."""

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import data, models, probes, training
from helpers.sweep import Call, Cell

HIDDEN = {"small mlp": (256,), "mlp": (256,) * 3, "large mlp": (512,) * 3}
NETWORKS = (*HIDDEN, "cnn", "resnet20", "small_resnet")
EPOCHS, MILESTONES = 70, (40, 50, 60)  # of the paper; shorter schedules keep the proportions
SMALL = dict(dataset="mnist5k", samples=2_000, epochs=6)  # what smoke trains on
THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)
IMPORTANCE_CORNER = (slice(0, 5), slice(0, 5))  # the pixels of pattern S3

# -- data -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
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


test_set = functools.lru_cache(maxsize=2)(functools.partial(data.load, train=False))


def sets(call: Call) -> tuple[data.Dataset, data.Dataset]:
    """Training and test images of a call."""
    train = training_set(call.dataset, call.samples, call.trial, call.data_dir)
    return train, test_set(call.dataset, data_dir=call.data_dir)


def spurious_set(call: Call, train: data.Dataset) -> tuple[Tensor, data.SpuriousSet]:
    """The pattern of a call, `(c, h, w)`, and the images of its target class that carry it.

    The trial is the seed of both, which start from one state as in the released code.
    """
    pattern = data.pattern(call.pattern, train.images.shape[1:], call.trial)
    return pattern, data.with_spurious(train, pattern, call.spurious, call.target, call.trial)


def inputs_of(train: data.Dataset, device: str) -> tuple[Tensor, Tensor]:
    """Images as floats in [0, 1] and labels, on the device."""
    return train.images.to(device).float() / 255, train.labels.to(device)


def carrying(inputs: Tensor, replaced: training.Replaced) -> Tensor:
    """A copy of the inputs with other images in the rows of `replaced`."""
    rows, images = replaced
    inputs = inputs.clone()
    inputs[rows.to(inputs.device)] = images.to(inputs)
    return inputs


# -- networks and their training ------------------------------------------------------------------


def network(name: str, seed: int) -> nn.Module:
    """An untrained network of the paper (the small ResNet is ours), for ten classes.

    Raises:
        ValueError: a name not in NETWORKS.
    """
    if name in HIDDEN:
        return models.fully_connected(28 * 28, HIDDEN[name], 10, seed=seed)
    if name == "cnn":
        return models.trades_cnn(10, seed=seed)
    if name == "resnet20":
        return models.cifar_resnet(20, 10, seed=seed)
    if name == "small_resnet":
        return models.small_resnet(10, seed=seed)
    raise ValueError(f"network is {name!r}: allowed are {', '.join(map(repr, NETWORKS))}")


def recipe(epochs: int, *, optimiser: str = "adam", **other: Any) -> training.Recipe:
    """The paper's way of training, its schedule shortened to this number of epochs.

    `other` settings, such as weight decay, are those of :class:`helpers.training.Recipe`.

    Source: Yang, Chou & Chaudhuri 2022 and their released code: rate 0.01, divided by 10 after 40,
    50 and 60 of 70 epochs; batches of 128; SGD with momentum 0.9.
    """
    return training.Recipe(
        epochs=epochs, batch=128, learning_rate=0.01, decay=0.1,
        milestones=tuple(round(epochs * after / EPOCHS) for after in MILESTONES),
        optimiser=optimiser, momentum=0.9 if optimiser == "sgd" else 0.0, **other,
    )  # fmt: skip


def setting(call: Cell) -> tuple[Hashable, ...]:
    """What tells one network from another; clean networks know no pattern and no target."""
    unknown = {"device", "data_dir", "precision"} | (
        set() if call["spurious"] else {"pattern", "target"}
    )
    return tuple(sorted((name, value) for name, value in call.items() if name not in unknown))


class Trained(NamedTuple):
    """The network of a call, its training, and the images with a pattern that it was shown."""

    net: nn.Module
    history: training.History
    pattern: Tensor
    spurious: data.SpuriousSet


def trained(
    calls: Sequence[Call],
    train: data.Dataset,
    recipe_of: Callable[[Call], training.Recipe],
    trainer: Callable[..., list[training.History]] | None = None,
) -> list[Trained]:
    """The network of each call, trained side by side; calls of one `setting` share a network.

    Args:
        calls: of one architecture and one trial.
        train: the training set that the networks share, but for a few images with a pattern.
        recipe_of: how the network of a call is trained.
        trainer: in the place of :func:`helpers.training.train_many`.
    """
    first = calls[0]
    marked = [spurious_set(call, train) for call in calls]
    chosen = {
        setting(c): (recipe_of(c), replaced) for c, (_, replaced) in zip(calls, marked, strict=True)
    }
    nets = [network(first.network, first.trial).to(first.device) for _ in chosen]
    recipes, replaced = zip(*chosen.values(), strict=True)
    histories = (trainer or training.train_many)(
        nets, *inputs_of(train, first.device), recipes, seed=first.trial, replaced=replaced,
        checkpoint=training.checkpoint_file((*chosen, train.source, first.device)),
    )  # fmt: skip
    found = dict(zip(chosen, zip(nets, histories, strict=True), strict=True))
    return [Trained(*found[setting(c)], *own) for c, own in zip(calls, marked, strict=True)]


# -- what networks are asked ----------------------------------------------------------------------


def outputs(net: nn.Module, images: Tensor) -> Tensor:
    """`(n, 10)` on the CPU: what a network says to uint8 images or to floats in [0, 1]."""
    inputs = images.to(next(net.parameters()).device)
    inputs = inputs if inputs.is_floating_point() else inputs.float() / 255
    return training.predict(net, inputs).cpu()


def probabilities(net: nn.Module, images: Tensor) -> Tensor:
    """`(n, 10)` on the CPU: the softmax of the `outputs`."""
    return outputs(net, images).softmax(1)


def asked(
    calls: Sequence[Call],
    recipe_of: Callable[[Call], training.Recipe],
    trainer: Callable[..., list[training.History]] | None = None,
) -> list[dict[str, float | str]]:
    """One row a call: `scores` of its network on test images; arguments are those of `trained`.

    Also the mean importance of the corner that S3 covers and of all other pixels, and the mean loss
    of the spurious images. A network that diverged has NaN for all of them.
    """
    train, test = sets(calls[0])
    clean = functools.cache(lambda net: probabilities(net, test.images))
    rows = []
    for call, (net, history, pattern, spurious) in zip(
        calls, trained(calls, train, recipe_of, trainer), strict=True
    ):
        if math.isfinite(history.loss):
            shown = probabilities(net, data.add_pattern(test.images, pattern))
            row = scores(clean(net), shown, test.labels, call.target)
            row |= importance_by_place(net, call.network)
            row["spurious_loss"] = math.nan
            if call.spurious:
                wanted = torch.full((call.spurious,), call.target)
                own = outputs(net, spurious.images)
                row["spurious_loss"] = float(functional.cross_entropy(own, wanted))
        else:  # a result, and not a reason to lose the others
            row = _nothing()
        rows.append(row | {"data_source": train.source})
    return rows


def _nothing() -> dict[str, float]:
    even = torch.full((2, 10), 0.1)
    columns = [*scores(even, even, torch.tensor([0, 1]), 0), "corner", "elsewhere", "spurious_loss"]
    return dict.fromkeys(columns, math.nan)


def scores(clean: Tensor, spurious: Tensor, labels: Tensor, target: int) -> dict[str, float]:
    """All that Part II reads off the probabilities without and with the pattern, both `(m, 10)`.

    `score`: the spurious score over all images, also at other thresholds (`score_0.5`); `others`
    stands for the images of other classes; `taken` is their share that is given the target class;
    `rise` is the mean change of the target's probability, which no threshold cuts.

    Source: Yang, Chou & Chaudhuri 2022 (the spurious score); the other numbers are ours.
    """
    other = labels != target
    both = clean, spurious, target
    row = {f"score_{eps:g}": probes.spurious_score(*both, eps) for eps in THRESHOLDS}
    row["score"] = row.pop("score_0.1")
    row["score_others"] = probes.spurious_score(clean[other], spurious[other], target)
    for kind in probes.NORMALISATIONS:
        row[kind] = probes.normalised_score(*both, kind=kind)
    row["rise"] = float((spurious[:, target] - clean[:, target]).double().mean())
    row["taken"] = float((spurious[other].argmax(1) == target).double().mean())
    row["clean_accuracy"] = probes.accuracy(clean, labels)
    row["spurious_accuracy"] = probes.accuracy(spurious[other], labels[other])
    return row


def importance(net: nn.Module) -> Tensor:
    """`(28, 28)`: the largest weight on each pixel in the first layer of an MLP on grey images.

    Source: Yang, Chou & Chaudhuri 2022, Figure 3 (the signed maximum, as in the released code).
    """
    return net[1].weight.detach().amax(0).view(28, 28).cpu()


def importance_by_place(net: nn.Module, name: str) -> dict[str, float]:
    """Mean importance of the corner that S3 covers, and of all other pixels; NaN without a map."""
    if name not in HIDDEN:
        return {"corner": math.nan, "elsewhere": math.nan}
    pixels = importance(net).double()
    outside = torch.ones(pixels.shape, dtype=torch.bool)
    outside[IMPORTANCE_CORNER] = False
    return {
        "corner": float(pixels[IMPORTANCE_CORNER].mean()),
        "elsewhere": float(pixels[outside].mean()),
    }
