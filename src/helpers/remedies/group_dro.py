"""Group DRO: training for the worst group."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from helpers import training
from helpers.data import Grouped
from helpers.remedies.fitting import Evaluate, Tuned, augmented, fit_epochs, label_loss, model_copy
from helpers.remedies.recipe import Contrast


def group_dro(
    model: nn.Module,
    train: Grouped,
    recipe: Contrast,
    *,
    step_size: float = 0.01,
    seed: int,
    evaluate: Evaluate,
) -> Tuned:
    r"""Group distributionally robust training of a copy: groups with large losses count more.

    In each step the weights of the groups become :math:`q_g \propto q_g e^{\eta L_g}` with the mean
    losses :math:`L_g` in the batch (0 for a group that is not in it), and :math:`\sum_g q_g L_g` is
    minimised. Batches are drawn group-balanced.

    Args:
        model, train, seed, evaluate: as in :func:`finetune`.
        recipe: epochs, batch, rates, decay, head and augmentation; all about contrast, labels'
            weights and sampling plays no part.
        step_size: :math:`\eta`.

    Returns:
        As :func:`finetune`; rows have `weight_0` to `weight_3`, the groups' weights, too.

    Raises:
        ValueError, errors.Diverged: as in :func:`finetune`; an empty group; a negative step size.

    Source: Sagawa et al. 2020, algorithm 1, without adjustment for the size of groups.
    """
    if not 0 <= step_size < math.inf:
        raise ValueError(f"step_size is {step_size}: it must be 0 or more")
    net, group = model_copy(model, train), train.group
    weights = train.images.new_full((4,), 0.25)

    def loss(rows: torch.Tensor, draw: training.Randomness) -> torch.Tensor:
        logits = net(augmented(train.images[rows], recipe, draw))
        each = label_loss(logits, train.label[rows], recipe.head, reduction="none")
        member = functional.one_hot(group[rows], 4).to(each.dtype)
        means = each @ member / member.sum(0).clamp(min=1)
        weights.copy_(functional.softmax(weights.log() + step_size * means.detach(), 0))
        return weights @ means

    def watched(net: nn.Module, epoch: int) -> dict[str, Any]:
        return {f"weight_{g}": float(q) for g, q in enumerate(weights)} | evaluate(net, epoch)

    balanced = replace(recipe, sampling="group-balanced")
    parameters = training.learned(net).values()
    return fit_epochs(net, train, balanced, seed, watched, lambda epoch: loss, parameters)
