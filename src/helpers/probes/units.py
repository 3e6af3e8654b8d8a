"""Units of a network: which there are, what normalises them, and how active they are.

A unit is one slice of a layer's weight along its outputs: a filter of a convolution, or a row of a
linear layer (a hidden unit of a perceptron, or of a transformer's MLP block). Source: filters as
units, You et al. 2025 and Maini et al. 2023; rows of linear layers are our addition.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import nn

from helpers import training


class Unit(NamedTuple):
    """One output of a layer: the path of the module, and which of its outputs."""

    layer: str
    index: int


def channels(model: nn.Module) -> list[Unit]:
    """All filters of all convolutions, in the order of the network.

    Raises:
        ValueError: no convolution.

    >>> from helpers import models
    >>> len(channels(models.small_resnet(2, seed=0)))
    336
    """
    layers = [path for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    if not layers:
        raise ValueError("the model has no convolution: see hidden_units for linear layers")
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
    return [Unit(path, index) for path in layers for index in range(len(weight_of(model, path)))]


def weight_of(model: nn.Module, layer: str) -> nn.Parameter:
    """The weight of a layer, one unit a row.

    Raises:
        ValueError: a path at which there is no convolution or linear layer.
    """
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        raise ValueError(f"layer is {layer!r}: the model has no such convolution or linear layer")
    return module.weight


def by_layer(model: nn.Module, units: Sequence[Unit]) -> dict[str, list[int]]:
    """Indices of the units of each layer, both in the order of the network.

    Raises:
        ValueError: a unit twice, or one that the model does not have.
    """
    if len(set(units)) < len(units):
        raise ValueError("units holds a unit twice")
    wanted: dict[str, list[int]] = {}
    for layer, index in units:
        wanted.setdefault(layer, []).append(index)
    for layer, indices in wanted.items():
        count = len(weight_of(model, layer))
        if strange := [index for index in indices if not 0 <= index < count]:
            raise ValueError(f"index is {strange[0]}: layer {layer!r} has {count} units")
    return {p: sorted(wanted[p]) for p, _ in model.named_modules() if p in wanted}


def check_images(images: torch.Tensor, labels: torch.Tensor | None = None) -> None:
    """Refuse an empty set, and labels other than one for each image.

    Raises:
        ValueError: either.
    """
    if not len(images):
        raise ValueError("there are no images: the group or set is empty")
    if labels is not None and labels.shape != images.shape[:1]:
        raise ValueError(f"there are {len(images)} images, and labels {tuple(labels.shape)}")


def evaluate(model: nn.Module, images: torch.Tensor, *, batch: int = 500) -> torch.Tensor:
    """Logits `(n, outputs)` in eval mode; every module's mode is put back.

    Raises:
        ValueError: no images.
    """
    check_images(images)
    return training.predict(model, images, batch=batch)


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
    """The batch normalisation that follows each layer of these units, by the layer's path.

    Raises:
        ValueError: a layer that none follows, unknown units, no images.
    """
    found = batchnorms(model, images)
    layers = by_layer(model, units)
    if missing := [layer for layer in layers if layer not in found]:
        raise ValueError(f"layer {missing[0]!r} is not followed by batch normalisation")
    return {layer: model.get_submodule(found[layer]) for layer in layers}


def activations(
    model: nn.Module, layers: Sequence[str], images: torch.Tensor
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
        evaluate(model, images)
    return {layer: torch.cat(values) for layer, values in parts.items()}
