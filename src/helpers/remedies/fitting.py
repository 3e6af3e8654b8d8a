"""What the remedies share: fitting epochs, class weights, copies, the last layer and its inputs.

Source: the training of You et al. 2025 as released, where a choice is no standard.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from helpers import training
from helpers.data import Grouped, check_values
from helpers.errors import Diverged
from helpers.remedies.recipe import Contrast, check_choices

Evaluate = Callable[[nn.Module, int], dict[str, Any]]
Loss = Callable[[torch.Tensor, training.Randomness], torch.Tensor]  # rows of the training set


class Tuned(NamedTuple):
    """The trained copy, and one row an epoch: epoch (from 1), summed loss, what `evaluate` gave."""

    model: nn.Module
    rows: list[dict[str, Any]]


def label_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    head: str,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Cross-entropy of logits `(n, 2)`, or of their softmax taken for logits (`head="softmax"`).

    The latter stays between log(1 + 1/e) = 0.313 and log(1 + e) = 1.313 for each sample.
    """
    check_choices(head=head)
    shown = logits.softmax(1) if head == "softmax" else logits
    return functional.cross_entropy(shown, labels, weight=weight, reduction=reduction)


def fit_epochs(
    net: nn.Module,
    train: Grouped,
    recipe: Contrast,
    seed: int,
    evaluate: Evaluate,
    objective: Callable[[int], Loss],
    parameters: Iterable[nn.Parameter],
) -> Tuned:
    """Train a network in place; `objective(epoch)`, called before an epoch, gives its loss."""
    optimiser = torch.optim.Adam(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=recipe.factor, patience=recipe.patience
    )
    device, rows = train.images.device, []
    order = torch.Generator().manual_seed(seed)
    shares = balanced_shares(train.group.cpu()) if recipe.sampling == "group-balanced" else None
    with training.randomness(seed, device) as draw:
        for epoch in range(1, recipe.epochs + 1):
            loss_of = objective(epoch)
            net.train()
            total = torch.zeros((), dtype=torch.float64, device=device)
            for chosen in drawn_order(len(train), shares, order).to(device).split(recipe.batch):
                if len(chosen) == 1:
                    continue  # nothing to contrast, and no variance to normalise by
                loss = loss_of(chosen, draw)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach()
            summed = float(total)
            if not math.isfinite(summed):
                raise Diverged(summed, epoch, recipe.epochs, recipe.learning_rate)
            schedule.step(summed)
            net.eval()
            rows.append({"epoch": epoch, "loss": summed} | evaluate(net, epoch))
    return Tuned(net, rows)


def drawn_order(
    samples: int, shares: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """`(samples,)`: an epoch's samples, each once, or with replacement if they have `shares`."""
    if shares is None:
        return torch.randperm(samples, generator=generator)
    return torch.multinomial(shares, samples, replacement=True, generator=generator)


def balanced_shares(group: torch.Tensor) -> torch.Tensor:
    """`(n,)`: each sample's weight in a draw where every group is as likely as any other."""
    return 1 / _counts("groups", group, 4)[group.long()].double()


def class_weights(label: torch.Tensor) -> torch.Tensor:
    """`(2,)`: factors inverse to the frequency of a class; 1 for both where classes are even."""
    return len(label) / (2 * _counts("classes", label, 2).double())


def _counts(what: str, member: torch.Tensor, number: int) -> torch.Tensor:
    if member.ndim != 1:
        raise ValueError(f"the {what} have shape {tuple(member.shape)}: expected (n,)")
    check_values(what, member, range(number))
    counts = member.long().bincount(minlength=number)
    if not bool(counts.all()):
        raise ValueError(f"the {what} have {counts.tolist()} samples: none may be empty")
    return counts


def augmented(images: torch.Tensor, recipe: Contrast, draw: training.Randomness) -> torch.Tensor:
    """Crops and flips of images, if the recipe has them."""
    return training.augmented(images, recipe.augment, draw.inputs)


def model_copy(model: nn.Module, train: Grouped) -> nn.Module:
    """A copy of a network, to be trained on these samples; ValueError when it cannot be."""
    images, label = train.images, train.label
    if len(train) < 2 or not images.is_floating_point() or label.dtype != torch.int64:
        raise ValueError(
            f"{len(train)} images are {images.dtype} and labels {label.dtype}: expected at least 2 "
            "images, floats, and int64 labels"
        )
    check_values("label", label, (0, 1))
    if (outputs := last_linear(model).out_features) != 2:
        raise ValueError(f"the network has {outputs} outputs: 2 are needed")
    net = copy.deepcopy(model)
    # convolutions are a quarter faster so on CPUs
    return net.to(memory_format=torch.channels_last) if images.ndim == 4 else net


def derived_seeds(entropy: int | Sequence[int], count: int) -> list[int]:
    """Seeds that have nothing to do with one another."""
    return np.random.SeedSequence(entropy).generate_state(count).tolist()


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear layer that the network ends with.

    Raises:
        ValueError: it ends with something else.
    """
    last = [module for module in model.modules() if not any(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"the network ends with {type(last).__name__}: a Linear is needed")
    return last


def penultimate(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """`(n, d)`: what reaches the last linear layer, in eval mode and without gradients.

    Raises:
        ValueError: as :func:`last_linear`.
    """
    with tapped(model) as seen:
        training.predict(model, images)
    return torch.cat(seen)


@contextmanager
def tapped(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Inside, what reaches the last linear layer is appended to the list at each call."""
    seen: list[torch.Tensor] = []
    hook = last_linear(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()
