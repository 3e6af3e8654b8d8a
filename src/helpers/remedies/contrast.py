r"""Against memorised minorities: a network contrasted with a pruned copy of itself, and baselines.

You et al. 2025 go on training a network whose worst group is bad. A mask drops a few weights, the
masked copy shares all others, and the loss asks that both say the same of a sample and different
things of different samples (NT-Xent), plus a small share of cross-entropy. What is contrasted are
the two softmax outputs: `free_outputs` shows what that asks for before any network comes in.
Images are as in :mod:`helpers.data`, on the device of the network; networks have two logits.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from helpers import training
from helpers.data import Grouped
from helpers.remedies.fitting import (
    Evaluate,
    Loss,
    Tuned,
    augmented,
    class_weights,
    fit_epochs,
    label_loss,
    last_linear,
    model_copy,
    tapped,
)
from helpers.remedies.masks import chosen_mask, own_statistics, pruned_outputs
from helpers.remedies.recipe import Contrast

PROJECTION = 128  # width of what the projection head gives


def nt_xent(u: torch.Tensor, v: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    r"""The normalised temperature-scaled cross-entropy of two views of a batch.

    With the rows :math:`z_1, \dots, z_{2B}` of u and v scaled to norm 1 and i' the twin of i,

    .. math:: \frac{1}{2B} \sum_i -\log \frac{e^{z_i \cdot z_{i'} / \tau}}
              {\sum_{j \ne i} e^{z_i \cdot z_j / \tau}}

    Args:
        u: `(B, d)`, at least two rows.
        v: `(B, d)`, row i is the twin of u's row i. Stopping gradients is left to the caller.
        temperature: :math:`\tau`.

    Raises:
        ValueError: shapes that differ or are no matrices, fewer than two rows, a temperature that
            is not positive.

    Source: Chen et al. 2020 (SimCLR), equation 1.

    >>> nt_xent(torch.eye(2), torch.eye(2))
    tensor(0.2395)
    """
    if u.ndim != 2 or u.shape != v.shape or len(u) < 2:
        raise ValueError(
            f"u has shape {tuple(u.shape)} and v {tuple(v.shape)}: expected the same (B, d) with "
            "at least 2 rows"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    z = functional.normalize(torch.cat([u, v]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, -math.inf)
    twin = torch.arange(len(z), device=z.device).roll(len(u))
    return functional.cross_entropy(similarity, twin)


def finetune(
    model: nn.Module, train: Grouped, recipe: Contrast, *, seed: int, evaluate: Evaluate
) -> Tuned:
    r"""Go on training a copy of the network, in contrast to a pruned copy that shares its weights.

    With softmax outputs u of the network and v of its pruned copy, and sg no gradient, a step's
    loss is

    .. math:: w_c [\mathrm{NTX}(\mathrm{sg}\, u, v) + \mathrm{NTX}(u, \mathrm{sg}\, v)]
              + \lambda\, \mathrm{CE}(u, y)

    Args:
        model: two logits; it stays as it is, as do the copy's parameters without `requires_grad`.
        train: float images on its device.
        recipe: see :class:`Contrast`.
        seed: of the order, views, random masks, the projection head and dropout.
        evaluate: called as `evaluate(copy, epoch)` after each epoch, in eval mode. Groups take no
            part in the loss: choosing an epoch by groups is the caller's doing.

    Raises:
        ValueError: images that are no floats, labels other than 0 and 1, an empty class or group
            that is to be balanced, a network that does not end in a linear layer with two outputs
            or is all frozen.
        errors.Diverged: the loss of an epoch is not finite.
    """
    net = model_copy(model, train)
    weight = class_weights(train.label).to(train.images.dtype) if recipe.class_weights else None
    parameters, project = list(training.learned(net).values()), nn.Identity()
    if recipe.features == "penultimate":
        project = _projection(last_linear(net).in_features, seed).to(train.images.device)
        parameters += project.parameters()
    statistics = own_statistics(net) if recipe.statistics == "separate" else None

    def contrasted(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1) if recipe.features == "outputs" else project(features)

    def objective(epoch: int) -> Loss:
        mask = chosen_mask(net, train, recipe, seed, epoch) if recipe.contrast_weight else {}

        def loss(rows: torch.Tensor, draw: training.Randomness) -> torch.Tensor:
            shown = twin = augmented(train.images[rows], recipe, draw)
            if not recipe.contrast_weight:
                told = label_loss(net(shown), train.label[rows], recipe.head, weight)
                return recipe.label_weight * told
            if recipe.features == "penultimate":
                twin = augmented(train.images[rows], recipe, draw)
            with tapped(net) as seen:
                # first, so that the whole network is the last to move shared statistics
                pruned = pruned_outputs(net, mask, twin, statistics)
                logits = net(shown)
            v, u = (contrasted(*pair) for pair in zip((pruned, logits), seen, strict=True))
            contrast = nt_xent(u.detach(), v, recipe.temperature)
            contrast = contrast + nt_xent(u, v.detach(), recipe.temperature)
            told = label_loss(logits, train.label[rows], recipe.head, weight)
            return recipe.contrast_weight * contrast + recipe.label_weight * told

        return loss

    return fit_epochs(net, train, recipe, seed, evaluate, objective, parameters)


def _projection(features: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, PROJECTION)
        )
