"""How a network is trained: the recipe, its checks, and the record of a run.

Ours.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from helpers.data import check_values
from helpers.errors import Diverged, check_whole
from helpers.training import margin_losses, precision
from helpers.training.prediction import predict
from helpers.training.randomness import check_augmentation

MARGIN_LOSSES = ("logistic", "sd", "marg_log")
LOSSES = ("cross_entropy", "mse", *MARGIN_LOSSES)
OPTIMISERS = ("adam", "sgd")
Replaced = tuple[torch.Tensor, torch.Tensor]  # rows of the training set, their new inputs


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: largest number of passes over the data.
        batch: samples a step; all of them where there are fewer.
        loss: `"cross_entropy"` with class indices, `"mse"` with one real label a sample, or with
            labels -1 and +1 `"logistic"`, `"sd"` or `"marg_log"` of :mod:`.margin_losses`, the
            latter two with their `loss_strength`.
        optimiser: `"adam"`, or `"sgd"` with `momentum`.
        learning_rate: at the start.
        weight_decay: coefficient of the coupled decay (`torch.optim.Adam`, `torch.optim.SGD`).
        momentum: of SGD.
        decay: factor on the learning rate, after every `decay_every` epochs (0: never) or after
            each of the `milestones`.
        noise: standard deviation of Gaussian noise that is added to the inputs, drawn anew in every
            step; nothing is clipped.
        clip_value, clip_norm: largest absolute entry, and largest norm over all parameters, of the
            gradient of a step.
        cosine: the learning rate falls to 0 along half a cosine, epoch by epoch (no `decay`).
        augment: True: crop images at random out of a frame of 4 zeros, and mirror every second one;
            `"resized"` or `"resized and mirrored"`: random parts, see :func:`.resized_crops`.
        stop_loss: end after an epoch whose mean loss is below it ("interpolation"); 0: never.
        precision: of matrix products, `"float32"`, `"bfloat16"`, or `"auto"`: the faster of the two
            on this machine, as :func:`.precision.resolve` measures it.

    Raises:
        ValueError: numbers out of range, unknown names, settings that do not go together.
    """

    epochs: int
    batch: int
    loss: str = "cross_entropy"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay: float = 1.0
    decay_every: int = 0
    stop_loss: float = 0.0
    optimiser: str = "adam"
    momentum: float = 0.0
    milestones: tuple[int, ...] = ()
    noise: float = 0.0
    clip_value: float = math.inf
    clip_norm: float = math.inf
    augment: bool | str = False
    cosine: bool = False
    loss_strength: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # which torch neither splits by nor loads
                object.__setattr__(self, name, value.item())
        check_whole(epochs=self.epochs, batch=self.batch)
        check_whole(0, decay_every=self.decay_every)
        check_whole(**{f"milestones[{k}]": epoch for k, epoch in enumerate(self.milestones)})
        for name, allowed in (("loss", LOSSES), ("optimiser", OPTIMISERS)):
            if (value := getattr(self, name)) not in allowed:
                options = ", ".join(map(repr, allowed))
                raise ValueError(f"{name} is {value!r}: allowed are {options}")
        precision.check(self.precision)
        check_augmentation(self.augment)
        for name in ("clip_value", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("learning_rate", "decay"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0, and finite")
        for name in ("weight_decay", "stop_loss", "momentum", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more, finite")
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(f"momentum is {self.momentum}: only 'sgd' has it")
        if self.loss in MARGIN_LOSSES:
            margin_losses.named(self.loss, self.loss_strength)  # refuses what does not fit
        elif self.loss_strength:
            raise ValueError(
                f"loss_strength is {self.loss_strength}: the loss {self.loss!r} has none, give 0"
            )
        if self.decay_every and self.milestones:
            raise ValueError(
                f"decay_every is {self.decay_every} and milestones is {self.milestones}: give one"
            )
        if self.cosine and (self.decay_every or self.milestones):
            raise ValueError("cosine is True: it goes with neither decay_every nor milestones")

    def rate(self, epoch: int) -> float:
        """The learning rate in this epoch (the first is 0).

        >>> recipe = Recipe(epochs=9, batch=1, learning_rate=1.0, decay=0.5, milestones=(2, 4))
        >>> [recipe.rate(epoch) for epoch in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
        """
        if self.cosine:
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        drops = sum(epoch >= milestone for milestone in self.milestones)
        if self.decay_every:
            drops = epoch // self.decay_every
        return self.learning_rate * self.decay**drops


@dataclass(frozen=True)
class History:
    """What a training did: epochs run, and the mean loss during the last of them.

    The loss of a network that diverged inside `train_many` is infinite or NaN.
    """

    epochs: int
    loss: float


def check_basic(recipe: Recipe, way: str) -> None:
    """ValueError for a recipe of more than rates and decay, which is all that this way follows."""
    plain = Recipe(epochs=1, batch=1)
    lacks = ("loss", "noise", "clip_value", "clip_norm", "augment", "stop_loss", "precision")
    if other := [name for name in lacks if getattr(recipe, name) != getattr(plain, name)]:
        told = ", ".join(f"{name}={getattr(recipe, name)!r}" for name in other)
        raise ValueError(f"the recipe sets {told}: {way} has no such thing")


def learned(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training may move, by name: those that are not frozen.

    Raises:
        ValueError: all are frozen (`requires_grad` is False), or there are none.

    >>> net = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    >>> list(learned(net))
    ['1.weight', '1.bias']
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no parameter with requires_grad: all are frozen, there is "
            "nothing to train"
        )
    return found


def make_optimiser(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The recipe's optimiser; groups of parameters may have settings of their own."""
    common = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, **common)
    return torch.optim.Adam(groups, **common)


def set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, epoch: int) -> None:
    """Give all parameters the learning rate of an epoch (the first is 0)."""
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(epoch)


def diverged(loss: float, epoch: int, recipe: Recipe) -> Diverged:
    """The error for a loss that is no number any more, in this epoch (the first is 1)."""
    return Diverged(loss, epoch, recipe.epochs, recipe.learning_rate)


def warn_diverged(network: int, why: Diverged) -> None:
    """Say which of many networks has ended, and go on."""
    warnings.warn(f"network {network} ends here: {why}", RuntimeWarning, stacklevel=3)


def check_data(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> None:
    """ValueError for data that no network, or not this one, can be trained on."""
    if len(inputs) == 0 or labels.shape != (len(inputs),):
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)} and labels {tuple(labels.shape)}: expected "
            "at least one sample and one label for each"
        )
    if not inputs.is_floating_point() or not torch.isfinite(inputs).all():
        raise ValueError(
            f"inputs of dtype {inputs.dtype} must be finite floats (no NaN, no complex)"
        )
    if recipe.loss != "cross_entropy":
        if labels.dtype != inputs.dtype or not torch.isfinite(labels).all():
            raise ValueError(f"labels of dtype {labels.dtype} must be finite and {inputs.dtype}")
        if recipe.loss in MARGIN_LOSSES:
            margin_losses.check_labels(labels, (len(inputs),))
    elif labels.dtype != torch.int64:
        raise ValueError(f"labels of dtype {labels.dtype} must be int64 class indices")
    shape = tuple(predict(model, inputs[:1]).shape[1:])
    classified = recipe.loss == "cross_entropy"
    if len(shape) != 1 or shape[0] < 2 if classified else math.prod(shape) != 1:
        raise ValueError(
            f"the network has outputs of shape {shape} a sample: the loss {recipe.loss!r} takes "
            f"{'(classes,), at least 2' if classified else 'one number'}"
        )
    if classified:
        check_values("labels", labels, range(shape[0]))
