"""Tangent kernel of a large network, layer by layer: no gradient of a whole sample is ever kept.

A layer's part of the kernel follows from its inputs and from the derivatives of the output by its
outputs. One forward and one backward pass over batches of samples give both for all layers, where
gradients of one sample at a time, stacked until memory is full, are computed again for every other
block of samples.

Ours; the products of layer inputs and derivatives are those of Goodfellow 2015.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

_BATCH = 64  # samples a pass


class _Seen(NamedTuple):
    """Of one layer: its inputs, and the derivatives of the output by its outputs."""

    inputs: torch.Tensor
    derivatives: torch.Tensor


def layered_ntk(model: nn.Module, X: torch.Tensor, memory: float) -> torch.Tensor | None:
    """The `(n, n)` kernel of a module in eval mode with one output a sample.

    Args:
        model: its parameters that are not frozen must lie in convolutions (one group, padded by
            zeros), linear layers on vectors and batch normalisations, each used once.
        X: `(n, …)` inputs of its dtype, on its device.
        memory: bytes for the gradients of one layer, and twice as many for what all layers see.

    Returns:
        The kernel, or None for a module of other parts, or where that much memory is too little.
    """
    parts = _parts(model)
    if parts is None:
        return None
    seen = _pass(model, parts, X, memory)
    if seen is None:
        return None
    kernel = X.new_zeros(len(X), len(X))
    for layer, columns in parts.items():
        # rows of all samples stand side by side, for as many parameters as fit into memory
        for gradients in columns(layer, seen.pop(layer), memory):
            kernel.addmm_(gradients, gradients.T)
    return kernel


_Columns = Callable[[nn.Module, _Seen, float], Iterator[torch.Tensor]]


def _parts(model: nn.Module) -> dict[nn.Module, _Columns] | None:
    """The layers with parameters that are not frozen, and what gives their gradients."""
    found: dict[nn.Module, _Columns] = {}
    owners: set[int] = set()
    for layer in model.modules():
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        if owners & {id(p) for p in own} or len(own) != len(layer._parameters) - sum(
            p is None for p in layer._parameters.values()
        ):
            return None  # tied to another layer, or frozen in part
        owners |= {id(p) for p in own}
        kind = type(layer)
        if kind is nn.Conv2d and _plain(layer):
            found[layer] = _convolution
        elif kind is nn.Linear:
            found[layer] = _linear
        elif kind is nn.BatchNorm2d and layer.running_mean is not None:
            found[layer] = _normalisation
        else:
            return None
    return found


def _plain(layer: nn.Conv2d) -> bool:
    return layer.groups == 1 and layer.padding_mode == "zeros" and type(layer.padding) is tuple


def _pass(
    model: nn.Module, parts: dict[nn.Module, _Columns], X: torch.Tensor, memory: float
) -> dict[nn.Module, _Seen] | None:
    """What every layer sees, over all samples; None where a layer is used otherwise than once."""
    kept: dict[nn.Module, list[_Seen]] = {layer: [] for layer in parts}
    for batch in X.split(_BATCH):
        inputs: dict[nn.Module, list[tuple[torch.Tensor, int]]] = {layer: [] for layer in parts}
        derivatives: dict[nn.Module, torch.Tensor] = {}

        def look(layer: nn.Module, given: tuple, out: torch.Tensor, inputs=inputs,
                 derivatives=derivatives) -> None:  # fmt: skip
            inputs[layer].append((given[0].detach(), given[0]._version))
            if out.requires_grad:  # before anything that follows changes it in place
                out.register_hook(partial(derivatives.__setitem__, layer))

        hooks = [layer.register_forward_hook(look) for layer in parts]
        try:
            begun = batch.detach().clone().requires_grad_()
            with torch.enable_grad():
                torch.autograd.grad(model(begun).sum(), begun, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        for layer, given in inputs.items():
            if len(given) != 1 or layer not in derivatives:
                return None  # used twice, or beside the way from inputs to output
            (taken, version), g = given[0], derivatives[layer]
            if taken._version != version or (type(layer) is nn.Linear and g.ndim != 2):
                return None  # its input was changed after it, or holds several vectors a sample
            kept[layer].append(_Seen(taken, g))
        size = sum(t.numel() for each in kept.values() for t in each[-1]) * X.element_size()
        if not _enough(size * len(X) / len(batch), memory):
            return None
    return {
        layer: _Seen(*(torch.cat(each) for each in zip(*seen, strict=True)))
        for layer, seen in kept.items()
    }


def _enough(size: float, memory: float) -> bool:
    """Whether what is kept of all layers fits."""
    return size <= 2 * memory


def _convolution(layer: nn.Conv2d, seen: _Seen, memory: float) -> Iterator[torch.Tensor]:
    """`(n, channels * patch)` for some output channels after the others, then `(n, biases)`."""
    count, channels = seen.derivatives.shape[:2]
    patch = layer.weight[0].numel()
    some = max(1, int(memory / (count * patch * seen.inputs.element_size())))
    g = seen.derivatives.flatten(2)
    for first in range(0, channels, some):
        chosen = g[:, first : first + some]
        found = g.new_empty(count, chosen.shape[1], patch)
        for rows in torch.arange(count).split(_BATCH):
            at = slice(int(rows[0]), int(rows[-1]) + 1)
            patches = functional.unfold(
                seen.inputs[at], layer.kernel_size, layer.dilation, layer.padding, layer.stride
            )
            torch.bmm(chosen[at], patches.transpose(1, 2), out=found[at])
        yield found.flatten(1)
    if layer.bias is not None:
        yield g.sum(2)


def _linear(layer: nn.Linear, seen: _Seen, memory: float) -> Iterator[torch.Tensor]:
    """`(n, outputs * inputs)`, some outputs after the others, then `(n, outputs)`."""
    count, width = seen.inputs.shape
    some = max(1, int(memory / (count * width * seen.inputs.element_size())))
    for chosen in seen.derivatives.split(some, 1):
        yield (chosen[:, :, None] * seen.inputs[:, None]).flatten(1)
    if layer.bias is not None:
        yield seen.derivatives


def _normalisation(layer: nn.BatchNorm2d, seen: _Seen, memory: float) -> Iterator[torch.Tensor]:
    """`(n, channels)` of the factors, and of the summands."""
    mean, variance = (s[:, None, None] for s in (layer.running_mean, layer.running_var))
    normalised = (seen.inputs - mean) * torch.rsqrt(variance + layer.eps)
    yield (seen.derivatives * normalised).sum((2, 3))
    yield seen.derivatives.sum((2, 3))
