r"""Which units of a network do the work for a group: rank them.

What happens when units are changed is in :mod:`helpers.probes.lesions`, when each is removed alone
in :mod:`helpers.probes.census`; what a unit is, in :mod:`helpers.probes.units`. Source: You et al.
2025 and their released code; Maini et al. 2023.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from helpers import training
from helpers.data import check_answers
from helpers.probes.lesions import perturbed
from helpers.probes.units import (
    Unit,
    activations,
    batchnorms_behind,
    by_layer,
    check_images,
    evaluate,
    weight_of,
)


class Ranking(NamedTuple):
    """Units, best first, and their scores `(n,)` in float64. Ties are in the order of the network.

    >>> Ranking((Unit("0", 3), Unit("0", 1)), torch.tensor([2.0, 1.0])).top(1)
    [Unit(layer='0', index=3)]
    """

    units: tuple[Unit, ...]
    scores: torch.Tensor

    def top(self, k: int) -> list[Unit]:
        """The best k units.

        Raises:
            ValueError: fewer than 1, or more than there are.
        """
        if not 1 <= k <= len(self.units):
            raise ValueError(f"k is {k}: the ranking has {len(self.units)} units")
        return list(self.units[:k])


def hardest(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, n: int = 200
) -> torch.Tensor:
    """Rows of the n samples with the lowest probability of their class, lowest first.

    All samples where there are fewer. The batch from which the gradient ranking of a group is made,
    when `images` are those of the group.

    Raises:
        ValueError: no images, labels that do not fit, outputs that are not finite, n below 1.

    Source: You et al. 2025, released code.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    >>> hardest(nn.Identity(), logits, torch.tensor([0, 0, 0]), n=2).tolist()
    [2, 1]
    """
    check_images(images, labels)
    if n < 1:
        raise ValueError(f"n is {n}: at least one sample is needed")
    # in float64: in float32 the probabilities of samples that are fitted well are all 1
    logits = evaluate(model, images).double()
    check_answers(logits, labels, single=False)
    losses = functional.cross_entropy(logits, labels.long(), reduction="none")
    return losses.sort(descending=True, stable=True).indices[:n]


def ranked(
    model: nn.Module, units: Sequence[Unit], score: Callable[[str], torch.Tensor]
) -> Ranking:
    """Rank by a function that scores all outputs of a layer, given by its path, at once.

    Raises:
        ValueError: no units, or unknown ones.

    >>> net = nn.Sequential(nn.Linear(1, 2))
    >>> ranked(net, [Unit("0", 0), Unit("0", 1)], lambda layer: torch.tensor([1.0, 3.0])).units
    (Unit(layer='0', index=1), Unit(layer='0', index=0))
    """
    layers = by_layer(model, units)
    if not layers:
        raise ValueError("units is empty: there is nothing to rank")
    # ties go by the order of the network, whatever the order of `units`
    ordered = [Unit(layer, index) for layer, indices in layers.items() for index in indices]
    parts = [score(layer).detach().double().cpu()[indices] for layer, indices in layers.items()]
    scores, order = torch.cat(parts).sort(descending=True, stable=True)
    return Ranking(tuple(ordered[i] for i in order.tolist()), scores)


def gradients(
    model: nn.Module,
    layers: Sequence[str],
    images: torch.Tensor,
    labels: torch.Tensor,
    double_softmax: bool = False,
    batch: int = 250,
) -> dict[str, torch.Tensor]:
    """dL/dW of the mean cross-entropy for each layer, in float64, in the shape of the weight.

    Raises:
        ValueError: no images, labels that do not fit, outputs that are not finite, unknown layers.
    """
    check_images(images, labels)
    weights = {f"{p}.weight": weight_of(model, p).detach().requires_grad_() for p in layers}
    total = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights.values()]
    with training.eval_mode(model), torch.enable_grad():
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            outputs = functional_call(model, weights, (x,))
            check_answers(outputs, y, single=False)
            outputs = outputs.softmax(1) if double_softmax else outputs
            loss = functional.cross_entropy(outputs, y.long(), reduction="sum") / len(images)
            parts = torch.autograd.grad(loss, list(weights.values()))
            for sum_, part in zip(total, parts, strict=True):
                sum_ += part
    return dict(zip(layers, total, strict=True))


def gradient(
    model: nn.Module,
    units: Sequence[Unit],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    double_softmax: bool = False,
) -> Ranking:
    r"""Rank by :math:`\lVert \partial L / \partial W_c \rVert_2`, L the mean cross-entropy.

    Not divided by anything: layers with few or small weights may come first for that reason only.
    In eval mode, in one pass: no unit is removed before the next is scored.

    Args:
        model: outputs logits.
        units: which to rank.
        images, labels: the batch, such as the :func:`hardest` samples of a group.
        double_softmax: cross-entropy of softmax(logits) as if they were logits, as the release has
            it.

    Raises:
        ValueError: no units or images, unknown units, and as :func:`gradients`.

    Source: You et al. 2025, released code.
    """
    found = gradients(model, list(by_layer(model, units)), images, labels, double_softmax)
    return ranked(model, units, lambda layer: found[layer].flatten(1).norm(dim=1))


def gradient_times_weight(
    model: nn.Module, units: Sequence[Unit], images: torch.Tensor, labels: torch.Tensor
) -> Ranking:
    r"""Rank by :math:`|\sum \partial L / \partial W_c \cdot W_c|`, arguments as in `gradient`.

    To first order, by how much zeroing the unit changes the loss. Unlike the norm of the gradient
    it does not depend on the scale of weights that batch normalisation takes out again.

    Source: the score of Maini et al. 2023, there signed and iterated (see :func:`greedy`).
    """
    found = gradients(model, list(by_layer(model, units)), images, labels)
    return ranked(model, units, lambda p: first_order(model, p, found[p]).abs())


def first_order(model: nn.Module, layer: str, gradient: torch.Tensor) -> torch.Tensor:
    """Change of the loss by zeroing each unit of a layer, to first order, `(units,)`.

    >>> net = nn.Sequential(nn.Linear(1, 2))
    >>> net[0].weight.data = torch.tensor([[2.0], [3.0]])
    >>> first_order(net, "0", torch.tensor([[1.0], [-1.0]])).tolist()
    [-2.0, 3.0]
    """
    return -(gradient * weight_of(model, layer).detach()).flatten(1).sum(1)


def magnitude(model: nn.Module, units: Sequence[Unit]) -> Ranking:
    r"""Rank by :math:`\lVert W_c \rVert_2`.

    Batch normalisation takes the scale of a filter out again, so that between filters it says
    little: see :func:`batchnorm_folded`.

    Raises:
        ValueError: no units, or unknown ones.

    Source: You et al. 2025, released code.
    """
    return ranked(model, units, lambda layer: _norms(model, layer))


def _norms(model: nn.Module, layer: str) -> torch.Tensor:
    return weight_of(model, layer).detach().double().flatten(1).norm(dim=1)


def batchnorm_folded(model: nn.Module, units: Sequence[Unit], images: torch.Tensor) -> Ranking:
    r"""Rank by :math:`|\gamma_c| \lVert W_c \rVert_2 / \sqrt{v_c + \epsilon}`.

    The norm of the filter with its batch normalisation multiplied in: the same for all filters
    :math:`a W_c` with mean and variance scaled alike, which are one and the same function.

    Args:
        model: its convolutions are followed by batch normalisation.
        units: filters.
        images: at least one; only to see which normalisation follows which convolution.

    Raises:
        ValueError: a filter without batch normalisation, no units or images.

    Source: ours, a control of :func:`magnitude`.
    """
    norms = batchnorms_behind(model, units, images)

    def score(layer: str) -> torch.Tensor:
        norm = norms[layer]
        scale = 1 if norm.weight is None else norm.weight.abs().double()
        return _norms(model, layer) * scale / (norm.running_var.double() + norm.eps).sqrt()

    return ranked(model, units, score)


def activation_difference(
    model: nn.Module, units: Sequence[Unit], one: torch.Tensor, other: torch.Tensor
) -> Ranking:
    """Rank by how far a unit's mean :func:`activations` on two sets of images lie apart.

    The absolute difference, in units of the standard deviation over images within the sets (pooled,
    Cohen's d). A unit that is constant on both has 0.

    Raises:
        ValueError: fewer than two images in a set, no units.

    Source: ours; the standardised difference is that of Cohen 1988.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"the sets have {len(one)} and {len(other)} images: two each are needed")
    layers = list(by_layer(model, units))
    a, b = (activations(model, layers, images) for images in (one, other))

    def score(layer: str) -> torch.Tensor:
        apart = (a[layer].mean(0) - b[layer].mean(0)).abs()
        within = sum((len(x) - 1) * x.var(0) for x in (a[layer], b[layer]))
        spread = (within / (len(one) + len(other) - 2)).sqrt()
        return torch.where(apart == 0, 0, apart / spread)

    return ranked(model, units, score)


def random(units: Sequence[Unit], *, seed: int) -> Ranking:
    """Units in random order; the scores are the uniform draws that order them.

    Raises:
        ValueError: no units.
    """
    if not units:
        raise ValueError("units is empty: there is nothing to rank")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(len(units), dtype=torch.float64, generator=generator)
    scores, order = draws.sort(descending=True, stable=True)
    return Ranking(tuple(units[i] for i in order.tolist()), scores)


def layer_matched(chosen: Sequence[Unit], among: Sequence[Unit], *, seed: int) -> list[Unit]:
    """A random set with as many units of each layer as `chosen`.

    Units of `chosen` may be drawn: if only the layer matters, the chosen set is one more such draw,
    which is what a permutation test needs.

    Raises:
        ValueError: `among` has fewer units of a layer than `chosen`.

    Source: ours.
    """
    generator, drawn = torch.Generator().manual_seed(seed), []
    for layer in dict.fromkeys(unit.layer for unit in chosen):
        pool = [unit for unit in among if unit.layer == layer]
        wanted = sum(unit.layer == layer for unit in chosen)
        if wanted > len(pool):
            raise ValueError(f"among has {len(pool)} units of layer {layer!r}: {wanted} are needed")
        order = torch.randperm(len(pool), generator=generator)[:wanted]
        drawn += [pool[i] for i in order.tolist()]
    return drawn


def greedy(
    model: nn.Module,
    units: Sequence[Unit],
    minority: tuple[torch.Tensor, torch.Tensor],
    majority: tuple[torch.Tensor, torch.Tensor],
    k: int,
) -> Ranking:
    r"""Choose k units one after the other, to raise the minority's loss and spare the majority's.

    Each step takes the unit with the largest first-order rise of the minority's mean cross-entropy
    minus that of the majority's, :math:`\sum (\partial L_{maj} - \partial L_{min}) / \partial W_c
    \cdot W_c`, and zeroes it before the next step. The model is left as it was.

    Args:
        model: outputs logits.
        units: to choose from.
        minority, majority: images and labels of each.
        k: how many.

    Returns:
        The units in the order of choice, each with its score at that time (they need not fall).

    Raises:
        ValueError: k below 1 or above the number of units, an empty set.

    Source: Maini et al. 2023 for one example against the population; the gradients here are
    without the noise over which theirs are averaged.
    """
    if not 1 <= k <= len(units):
        raise ValueError(f"k is {k}: there are {len(units)} units")
    left, chosen, scores = list(units), [], []
    layers = list(by_layer(model, units))
    with ExitStack() as zeroed:
        for _ in range(k):
            rare, common = (gradients(model, layers, *set_) for set_ in (minority, majority))
            rise = {p: first_order(model, p, rare[p] - common[p]) for p in layers}
            best = ranked(model, left, rise.__getitem__)
            chosen.append(best.units[0])
            scores.append(best.scores[0])
            left.remove(best.units[0])
            zeroed.enter_context(perturbed(model, chosen[-1:], "zero"))
    return Ranking(tuple(chosen), torch.stack(scores))
