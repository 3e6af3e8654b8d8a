"""The census: every unit of a network zeroed alone; only what comes after it is computed again."""

import copy
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers.probes.units import Unit, by_layer, channels, check_images, evaluate


def census(
    model: nn.Module,
    images: torch.Tensor,
    units: Sequence[Unit] | None = None,
    *,
    batch: int = 250,
) -> torch.Tensor:
    """Logits of the model with each unit zeroed alone: float32 `(units, n, outputs)` on the CPU.

    The same as :func:`evaluate` inside :func:`perturbed` for each unit, to rounding. A zeroed unit
    emits a constant, so its layer is not computed again, nor is anything that does not depend on
    it: the network becomes a graph of operations with batch normalisation multiplied into the
    convolutions, and each lesion starts from the values that a batch of images has there.

    Args:
        model: a network that `torch.fx` can trace.
        images: `(n, …)` on the device of the model.
        units: None stands for all :func:`channels`.
        batch: images at a time; all values of the network on them are in memory.

    Raises:
        ValueError: no images, unknown units, a layer that is not used exactly once, a network whose
            graph computes something else than the network.

    Source: ours; single lesions of the same kind are those of You et al. 2025.

    >>> net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> census(net, torch.ones(3, 1, 1, 1)).shape
    torch.Size([8, 3, 2])
    """
    check_images(images)
    units = channels(model) if units is None else list(units)
    layers, row = by_layer(model, units), {unit: i for i, unit in enumerate(units)}
    net = _folded(model)
    starts = {layer: _call_of(net, layer) for layer in layers}
    later = {layer: _dependents(net, start) for layer, start in starts.items()}
    runner, result = fx.Interpreter(net, garbage_collect_values=False), []
    with torch.no_grad():
        for part in images.split(batch):
            clean = runner.run(part)
            if not result:
                _check_trace(clean, evaluate(model, part))
            values = dict(runner.env)
            logits = torch.empty(len(units), *clean.shape, dtype=torch.float32)
            for layer, indices in layers.items():
                start, module = starts[layer], net.get_submodule(layer)
                dim = -1 if isinstance(module, nn.Linear) else 1
                known = {node: v for node, v in values.items() if node not in later[layer]}
                for index in indices:
                    known[start] = values[start].clone()
                    constant = 0 if module.bias is None else module.bias[index]
                    known[start].select(dim, index).fill_(constant)
                    logits[row[Unit(layer, index)]] = runner.run(part, initial_env=dict(known))
            result.append(logits)
    return torch.cat(result, 1)


class _Tracer(fx.Tracer):
    """Modules without children are one operation, also those that look at their input's shape."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless = next(m.children(), None) is None
        return childless or super().is_leaf_module(m, module_qualified_name)


def _folded(model: nn.Module) -> fx.GraphModule:
    """A copy in eval mode as a graph, nothing in place, batch normalisation within convolutions."""
    own = copy.deepcopy(model).eval().requires_grad_(False)
    net = fx.GraphModule(own, _Tracer().trace(own))
    for module in net.modules():  # values that are kept must not be written over
        if getattr(module, "inplace", False):
            module.inplace = False
    targets = [node.target for node in net.graph.nodes]
    for node in list(net.graph.nodes):
        if node.op == "call_function" and node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method":
            node.target = node.target.removesuffix("_")
        elif _foldable(net, node) and all(
            targets.count(n.target) == 1 for n in (node, node.args[0])
        ):
            before = node.args[0]
            conv, norm = (net.get_submodule(n.target) for n in (before, node))
            dtype = conv.weight.dtype
            folded = fuse_conv_bn_eval(conv.double(), norm.double()).to(dtype)
            net.set_submodule(before.target, folded)
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)
    net.recompile()
    return net


def _foldable(net: fx.GraphModule, node: fx.Node) -> bool:
    """Is this a batch normalisation, and the only one to read a convolution's output?"""

    def calls(node: object, kind: type[nn.Module]) -> bool:
        known = isinstance(node, fx.Node) and node.op == "call_module"
        return known and isinstance(net.get_submodule(node.target), kind)

    return (
        calls(node, nn.BatchNorm2d)
        and calls(node.args[0], nn.Conv2d)
        and len(node.args[0].users) == 1
        and net.get_submodule(node.target).track_running_stats
    )


def _check_trace(traced: torch.Tensor, direct: torch.Tensor) -> None:
    """A graph is wrong where a network decides by its data, or relies on writing in place."""
    apart = float((traced - direct).abs().max())
    if not apart <= 1e-4 * (1 + float(direct.abs().max())):  # nor where there is NaN
        raise ValueError(f"logits of the traced network are {apart:.2g} off: it cannot be traced")


def _call_of(net: fx.GraphModule, layer: str) -> fx.Node:
    calls = [n for n in net.graph.nodes if n.op == "call_module" and n.target == layer]
    if len(calls) != 1:
        raise ValueError(f"layer {layer!r} is used {len(calls)} times: a census needs once")
    return calls[0]


def _dependents(net: fx.GraphModule, start: fx.Node) -> set[fx.Node]:
    """The operations that see the output of this one, itself, and the end of the graph."""
    found = {start}
    for node in net.graph.nodes:
        if node.op == "output" or found & set(node.all_input_nodes):
            found.add(node)
    return found
