r"""Which units of a network do the work for a group: rank them.

A unit is one slice :math:`W_c` of a layer's weight along its outputs: a filter of a convolution,
or a row of a linear layer (a hidden unit of a perceptron, or of a transformer's MLP block). What
happens when units are changed is in :mod:`helpers.lesions`, when each is removed alone in
:mod:`helpers.census`. Source: You et al. 2025 and their released code; Maini et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from helpers import training


class Unit(NamedTuple):
    """One output of a layer: the path of the module, and which of its outputs."""

    layer: str
    index: int


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


def channels(model: nn.Module, *, exclude: Sequence[str] = ()) -> list[Unit]:
    """All filters of all convolutions, in the order of the network.

    Args:
        model: a network with convolutions.
        exclude: layers to leave out: whole path (`"layer1.0.conv1"`) or one name in it. The release
            ranks by magnitude without `("downsample",)`.

    Raises:
        ValueError: no convolution, or a name in `exclude` that no convolution has.

    >>> from helpers import models
    >>> net = models.small_resnet(2, seed=0)
    >>> len(channels(net)), len(channels(net, exclude=("downsample",)))
    (336, 240)
    """
    layers = [path for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    if not layers:
        raise ValueError("the model has no convolution: see hidden_units for linear layers")
    for name in exclude:
        kept = [path for path in layers if name != path and name not in path.split(".")]
        if len(kept) == len(layers):
            raise ValueError(f"exclude has {name!r}: left are {', '.join(layers)}")
        layers = kept
    return _outputs(model, layers)


def hidden_units(model: nn.Module) -> list[Unit]:
    """Rows of linear layers: hidden units.

    Of a torchvision transformer the first linear layer of each MLP block; of other networks all
    linear layers but the last.

    Raises:
        ValueError: no such layer.

    >>> len(hidden_units(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2))))
    7
    """
    from torchvision.ops import MLP  # slow to import, and needed here only

    found = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    blocks = [path for path, block in model.named_modules() if isinstance(block, MLP)]
    if blocks:
        layers = [next(p for p in found if p.startswith(f"{block}.")) for block in blocks]
    else:
        layers = found[:-1]
    if not layers:
        raise ValueError(f"the model has {len(found)} linear layers: none of them is hidden")
    return _outputs(model, layers)


def _outputs(model: nn.Module, layers: Sequence[str]) -> list[Unit]:
    return [Unit(path, index) for path in layers for index in range(len(_weight(model, path)))]


def _weight(model: nn.Module, layer: str) -> torch.Tensor:
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        raise ValueError(f"layer is {layer!r}: the model has no such convolution or linear layer")
    return module.weight


def by_layer(model: nn.Module, units: Sequence[Unit]) -> dict[str, list[int]]:
    """Indices of the units of each layer, both in the order of the network."""
    if len(set(units)) < len(units):
        raise ValueError("units holds a unit twice")
    wanted: dict[str, list[int]] = {}
    for layer, index in units:
        wanted.setdefault(layer, []).append(index)
    for layer, indices in wanted.items():
        count = len(_weight(model, layer))
        if strange := [index for index in indices if not 0 <= index < count]:
            raise ValueError(f"index is {strange[0]}: layer {layer!r} has {count} units")
    return {p: sorted(wanted[p]) for p, _ in model.named_modules() if p in wanted}


# -- evaluation ------------------------------------------------------------------------------------


def check_images(images: torch.Tensor, labels: torch.Tensor | None = None) -> None:
    if not len(images):
        raise ValueError("there are no images: the group or set is empty")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(labels)} labels")


def evaluate(model: nn.Module, images: torch.Tensor, *, batch: int = 500) -> torch.Tensor:
    """Logits `(n, outputs)` in eval mode; every module's mode is put back.

    Raises:
        ValueError: no images.
    """
    check_images(images)
    return training.predict(model, images, batch=batch)


def hardest(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, n: int = 200
) -> torch.Tensor:
    """Rows of the n samples with the lowest probability of their class, lowest first.

    All samples where there are fewer. The batch from which the gradient ranking of a group is made,
    when `images` are those of the group.

    Raises:
        ValueError: no images, other numbers of labels, n below 1.

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
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return losses.sort(descending=True, stable=True).indices[:n]


# -- rankings --------------------------------------------------------------------------------------


def ranked(
    model: nn.Module, units: Sequence[Unit], score: Callable[[str], torch.Tensor]
) -> Ranking:
    """Rank by a function that scores all outputs of a layer at once."""
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
    double_softmax: bool,
    batch: int = 250,
) -> dict[str, torch.Tensor]:
    """dL/dW of the mean cross-entropy for each layer, in float64."""
    check_images(images, labels)
    weights = {f"{p}.weight": _weight(model, p).detach().requires_grad_() for p in layers}
    total = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights.values()]
    with training.eval_mode(model), torch.enable_grad():
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            outputs = functional_call(model, weights, (x,))
            outputs = outputs.softmax(1) if double_softmax else outputs
            loss = functional.cross_entropy(outputs, y, reduction="sum") / len(images)
            for sum_, part in zip(
                total, torch.autograd.grad(loss, list(weights.values())), strict=True
            ):
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
        ValueError: no units or images, unknown units, other numbers of labels.

    Source: You et al. 2025, released code.
    """
    found = gradients(model, list(by_layer(model, units)), images, labels, double_softmax)
    return ranked(model, units, lambda layer: found[layer].flatten(1).norm(dim=1))


def gradient_times_weight(
    model: nn.Module,
    units: Sequence[Unit],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    double_softmax: bool = False,
) -> Ranking:
    r"""Rank by :math:`|\sum \partial L / \partial W_c \cdot W_c|`, arguments as in `gradient`.

    To first order, by how much zeroing the unit changes the loss. Unlike the norm of the gradient
    it does not depend on the scale of weights that batch normalisation takes out again.

    Source: the score of Maini et al. 2023, there signed and iterated (see :func:`greedy`).
    """
    found = gradients(model, list(by_layer(model, units)), images, labels, double_softmax)
    return ranked(model, units, lambda p: first_order(model, p, found[p]).abs())


def first_order(model: nn.Module, layer: str, gradient: torch.Tensor) -> torch.Tensor:
    """Change of the loss by zeroing each unit, to first order."""
    return -(gradient * _weight(model, layer).detach()).flatten(1).sum(1)


def magnitude(model: nn.Module, units: Sequence[Unit]) -> Ranking:
    r"""Rank by :math:`\lVert W_c \rVert_2`.

    Batch normalisation takes the scale of a filter out again, so that between filters it says
    little: see :func:`batchnorm_folded`.

    Raises:
        ValueError: no units, or unknown ones.
    """
    return ranked(model, units, lambda layer: _norms(model, layer))


def _norms(model: nn.Module, layer: str) -> torch.Tensor:
    return _weight(model, layer).detach().double().flatten(1).norm(dim=1)


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
    """
    norms = batchnorms_behind(model, units, images)

    def score(layer: str) -> torch.Tensor:
        norm = norms[layer]
        scale = 1 if norm.weight is None else norm.weight.abs().double()
        return _norms(model, layer) * scale / (norm.running_var.double() + norm.eps).sqrt()

    return ranked(model, units, score)


def batchnorms(model: nn.Module, images: torch.Tensor) -> dict[str, str]:
    """Paths of convolutions to those of the batch normalisation that reads their output.

    Found in a forward pass of one image, not by names.

    Raises:
        ValueError: no images.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
    >>> batchnorms(net, torch.zeros(1, 3, 4, 4))
    {'0': '1'}
    """
    made: dict[str, torch.Tensor] = {}  # keeps the outputs, or a later one could be taken for them
    found = {}

    def remember(path: str) -> Callable[..., None]:
        return lambda module, inputs, output: made.update({path: output})

    def compare(path: str) -> Callable[..., None]:
        return lambda module, inputs: found.update({p: path for p in made if made[p] is inputs[0]})

    with ExitStack() as hooks:
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                hooks.enter_context(module.register_forward_hook(remember(path)))
            elif isinstance(module, nn.BatchNorm2d):
                hooks.enter_context(module.register_forward_pre_hook(compare(path)))
        evaluate(model, images[:1])
    return found


def batchnorms_behind(
    model: nn.Module, units: Sequence[Unit], images: torch.Tensor
) -> dict[str, nn.BatchNorm2d]:
    """The batch normalisation that follows each layer of these units."""
    found = batchnorms(model, images)
    if missing := [layer for layer in by_layer(model, units) if layer not in found]:
        raise ValueError(f"layer {missing[0]!r} is not followed by batch normalisation")
    return {layer: model.get_submodule(found[layer]) for layer in by_layer(model, units)}


def activations(
    model: nn.Module, layers: Sequence[str], images: torch.Tensor, *, batch: int = 500
) -> dict[str, torch.Tensor]:
    """Mean activation of each unit on each image, `(n, units)` float64 for each layer.

    The mean is over positions or tokens; behind batch normalisation where it follows the layer,
    else of the layer itself, and before the non-linearity.

    Raises:
        ValueError: no images.
    """
    follows, parts = batchnorms(model, images), {layer: [] for layer in layers}

    def store(layer: str) -> Callable[..., None]:
        last = isinstance(model.get_submodule(layer), nn.Linear)  # units are the last dimension

        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            values = output.double()
            if last:
                parts[layer].append(values.reshape(len(values), -1, values.shape[-1]).mean(1))
            else:
                parts[layer].append(values.flatten(2).mean(2))

        return hook

    with ExitStack() as hooks:
        for layer in layers:
            module = model.get_submodule(follows.get(layer, layer))
            hooks.enter_context(module.register_forward_hook(store(layer)))
        evaluate(model, images, batch=batch)
    return {layer: torch.cat(values) for layer, values in parts.items()}


def activation_difference(
    model: nn.Module, units: Sequence[Unit], one: torch.Tensor, other: torch.Tensor
) -> Ranking:
    """Rank by how far a unit's mean :func:`activations` on two sets of images lie apart.

    The absolute difference, in units of the standard deviation over images within the sets (pooled,
    Cohen's d). A unit that is constant on both has 0.

    Raises:
        ValueError: fewer than two images in a set, no units.
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
    draws = torch.rand(
        len(units), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    scores, order = draws.sort(descending=True, stable=True)
    return Ranking(tuple(units[i] for i in order.tolist()), scores)


def layer_matched(chosen: Sequence[Unit], among: Sequence[Unit], *, seed: int) -> list[Unit]:
    """A random set with as many units of each layer as `chosen`.

    Units of `chosen` may be drawn: if only the layer matters, the chosen set is one more such draw,
    which is what a permutation test needs.

    Raises:
        ValueError: `among` has fewer units of a layer than `chosen`.
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


def size_matched(
    model: nn.Module,
    chosen: Sequence[Unit],
    among: Sequence[Unit],
    *,
    seed: int,
    nearest: int = 10,
) -> list[Unit]:
    """For each chosen unit another one, random among the `nearest` whose norms are closest to its.

    None of `chosen` and none twice; from any layer.

    Raises:
        ValueError: `nearest` below 1, or too few other units.
    """
    pool = [unit for unit in among if unit not in set(chosen)]
    if nearest < 1:
        raise ValueError(f"nearest is {nearest}: at least one candidate is needed")
    if len(pool) < len(chosen):
        raise ValueError(f"among has {len(pool)} other units: {len(chosen)} are needed")
    norms = {p: _norms(model, p).tolist() for p in {unit.layer for unit in (*chosen, *pool)}}
    generator, drawn = torch.Generator().manual_seed(seed), []
    for layer, index in chosen:
        apart = [(abs(norms[u.layer][u.index] - norms[layer][index]), u) for u in pool]
        close = sorted(apart)[:nearest]
        pick = int(torch.randint(len(close), (), generator=generator))
        drawn.append(close[pick][1])
        pool.remove(drawn[-1])
    return drawn
