"""Masks that prune weights: by magnitude, by gradient, at random.

Source: the pruned branch of SDCLR (Jiang et al. 2021) as You et al. 2025 release it.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from helpers import training
from helpers.data import Grouped, check_answers
from helpers.probes import tracing
from helpers.remedies.fitting import derived_seeds, label_loss
from helpers.remedies.recipe import Contrast, check_choices

Mask = dict[str, torch.Tensor]  # by the names of weights: True where one is kept


def prunable(model: nn.Module) -> list[str]:
    """Names of the weights that masks may drop.

    All weights of convolutions; in a network with attention instead the matrices inside its blocks
    (queries, keys and values; projection; both layers of the perceptron), hence neither the patch
    embedding nor norms nor the head. Frozen ones (without `requires_grad`) stay in every copy.

    Raises:
        ValueError: a network with neither, or where all are frozen.

    >>> prunable(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()))
    ['0.weight']
    """
    modules = dict(model.named_modules())
    blocks = tuple(
        name.rpartition(".")[0] + "."
        for name, module in modules.items()
        if isinstance(module, nn.MultiheadAttention)
    )
    weights = [(name, p) for name, p in training.learned(model).items() if name.endswith("weight")]
    if blocks:
        names = [name for name, p in weights if p.ndim == 2 and name.startswith(blocks)]
    else:
        names = [name for name, p in weights if p.ndim == 4]
    if not names:
        raise ValueError(
            "the network has neither convolutions nor attention that are not frozen: nothing to "
            "prune"
        )
    return names


def magnitude_mask(model: nn.Module, share: float) -> Mask:
    """Drop this share of the prunable weights: the smallest in absolute value, over all layers.

    Returns:
        For each prunable weight a tensor of its shape, True where it is kept. Exactly
        `round(share * n)` of n entries are False, also with ties.

    Raises:
        ValueError: a share that drops no weight, or all.
    """
    return _drop_lowest(model, {n: p.detach().abs() for n, p in _weights(model)}, share)


def gradient_mask(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    share: float,
    *,
    unit: str = "filter",
    head: str = "logits",
) -> Mask:
    """Drop what the mean cross-entropy of these samples has the largest gradients for.

    The network is in eval mode meanwhile; its own gradients are left alone.

    Args:
        model: two logits.
        images: `(n, …)`, the samples that go wrong (:func:`poorest`).
        labels: `(n,)`.
        share: of the filters, or of the weights.
        unit: `"filter"` takes whole filters by the norm of their gradient (rows of a matrix);
            `"weight"` takes single weights, as the release does for transformers.
        head: as in :class:`Contrast`.

    Returns:
        As :func:`magnitude_mask`.

    Raises:
        ValueError: an unknown unit or head, a share that drops nothing, or all, labels that do not
            fit, outputs that are not finite.
    """
    check_choices(gradient_unit=unit, head=head)
    weights = dict(_weights(model))
    with training.eval_mode(model):
        outputs = model(images)
        check_answers(outputs, labels, single=False)
        loss = label_loss(outputs, labels.long(), head)
        gradients = torch.autograd.grad(loss, list(weights.values()))
    if unit == "filter":
        gradients = [g.flatten(1).norm(dim=1) for g in gradients]
    scores = {name: -g.abs() for name, g in zip(weights, gradients, strict=True)}
    return _drop_lowest(model, scores, share)


def random_mask(model: nn.Module, share: float, seed: int, *, unit: str = "weight") -> Mask:
    """Drop as many weights as :func:`magnitude_mask`, at random, or filters (`unit="filter"`).

    Raises:
        ValueError: as :func:`gradient_mask`.
    """
    check_choices(gradient_unit=unit)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.rand(p.shape[:1] if unit == "filter" else p.shape, generator=generator)
        for name, p in _weights(model)
    }
    return _drop_lowest(model, scores, share)


def chosen_mask(model: nn.Module, train: Grouped, recipe: Contrast, seed: int, epoch: int) -> Mask:
    """The mask that a recipe asks for in an epoch; `{}` for none.

    Two masks are intersected; the release keeps the second one only, an oversight.
    """
    masks = []
    if recipe.mask in ("magnitude", "both"):
        masks.append(magnitude_mask(model, recipe.share))
    if recipe.mask in ("gradient", "both"):
        worst = poorest(model, train, as_released=recipe.poorest_as_released)
        how = {"unit": recipe.gradient_unit, "head": recipe.head}
        masks.append(gradient_mask(model, worst.images, worst.label, recipe.share, **how))
    if recipe.mask.startswith("random"):
        unit = "filter" if recipe.mask == "random filters" else "weight"
        masks.append(random_mask(model, recipe.share, *derived_seeds((seed, epoch), 1), unit=unit))
    names = prunable(model) if masks else []
    return {name: torch.stack([mask[name] for mask in masks]).all(0) for name in names}


def poorest(
    model: nn.Module, train: Grouped, n: int = 200, *, as_released: bool = False
) -> Grouped:
    """The n samples with the largest cross-entropy, worst first (all of them if there are fewer).

    The released code sorts the wrong way and takes the n that are fitted best: `as_released`.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: at least 1 sample is needed")
    order = tracing.hardest(model, train.images, train.label, n=len(train))
    return train.rows((order.flip(0) if as_released else order)[:n])


def pruned_outputs(
    model: nn.Module,
    mask: Mask,
    images: torch.Tensor,
    statistics: dict[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """What the network says without the weights that the mask drops; gradients reach the others.

    Args:
        model: in train mode, its batch normalisation takes the batch's mean and variance, and its
            running statistics move with them.
        mask: as :func:`magnitude_mask` returns it; `{}` keeps everything.
        images: `(n, …)`.
        statistics: running statistics of the pruned network's own, by the names of the buffers
            (:func:`own_statistics`); these move instead, in place.
    """
    weights = dict(model.named_parameters())
    masked = {name: weights[name] * kept for name, kept in mask.items()}
    return torch.func.functional_call(model, masked | (statistics or {}), (images,))


def own_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all buffers of the network, for :func:`pruned_outputs`."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, model.get_parameter(name)) for name in prunable(model))


def _drop_lowest(model: nn.Module, scores: dict[str, torch.Tensor], share: float) -> Mask:
    """Scores have the shape of their weight, or one entry a row, which is then dropped whole."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    count = round(share * len(flat)) if math.isfinite(share) else 0
    if not 0 < count < len(flat):
        raise ValueError(
            f"share is {share}: of {len(flat):,} that may be dropped, at least 1 must be and at "
            "least 1 must stay"
        )
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[flat.topk(count, largest=False).indices] = False
    mask, parts = {}, kept.split([score.numel() for score in scores.values()])
    for (name, weight), part in zip(_weights(model), parts, strict=True):
        whole = part.view(scores[name].shape + (1,) * (weight.ndim - scores[name].ndim))
        mask[name] = whole.expand(weight.shape).to(weight.device)
    return mask
