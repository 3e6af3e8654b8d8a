"""Tangent kernel of any torch module, as a matrix and as products with vectors."""

import importlib
import math
import warnings
from collections.abc import Callable

import torch
from torch.nn.modules import batchnorm, dropout

from helpers.errors import check_whole
from helpers.kernels.inputs import check_real
from helpers.kernels.layered import layered_ntk

# parameters above which a processor's caches do better with one sample at a time
_LARGE = 2**21


def empirical_ntk(
    model: torch.nn.Module,
    X: torch.Tensor,
    X2: torch.Tensor | None = None,
    *,
    memory: float = 2**28,
) -> torch.Tensor:
    r"""NTK of any torch module: :math:`\nabla_\theta f(x) \cdot \nabla_\theta f(x')`.

    All parameters with `requires_grad` count. Gradients of one sample at a time are stacked for as
    many samples as fit into `memory` and multiplied block by block; large networks of convolutions,
    linear layers and batch normalisations go layer by layer instead (:mod:`.layered`).

    Args:
        model: a module with one output a sample; put it in eval mode if it normalises batches.
        X: `(n, …)` inputs in the dtype and on the device of the parameters.
        X2: `(m, …)` inputs, or None for `X` itself.
        memory: bytes for each of the two stacks of gradients.

    Returns:
        `(n, m)` tensor, not divided by anything.

    Raises:
        ValueError: no trainable parameters, more than one output a sample, a batch normalisation or
            dropout in train mode (there is no gradient of one sample then), inputs that are not
            finite reals in the dtype and on the device of the parameters.

    Source: Jacot et al. 2018; per-sample gradients by `torch.func`.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> empirical_ntk(layer, torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    X2_, symmetric = (X, True) if X2 is None else (X2, False)
    check_real(X, X2_)
    gradients, count = _sample_gradients(model, X)
    if symmetric and X.device.type == "cpu" and count > _LARGE:
        kernel = layered_ntk(model, X, memory)
        if kernel is not None:
            return kernel
    rows = max(1, int(memory / (count * X.element_size())))
    kernel = X.new_zeros(len(X), len(X2_))
    for i in range(0, len(X), rows):
        left = gradients(X[i : i + rows])
        for j in range(i if symmetric else 0, len(X2_), rows):
            right = left if symmetric and i == j else gradients(X2_[j : j + rows])
            block = left @ right.T
            kernel[i : i + rows, j : j + rows] = block
            if symmetric and i != j:
                kernel[j : j + rows, i : i + rows] = block.T
    return kernel


def _sample_gradients(
    model: torch.nn.Module, X: torch.Tensor
) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """A function from inputs to flat gradients `(n, p)`, and p."""
    outputs, learned = _scalar_outputs(model, X)
    one = torch.func.grad(lambda parameters, x: outputs(parameters, x[None]).squeeze())

    count = sum(p.numel() for p in learned.values())

    def gradients(inputs: torch.Tensor) -> torch.Tensor:
        if X.device.type == "cpu" and count > _LARGE:
            rows = inputs.new_empty(len(inputs), count)
            for row, x in zip(rows, inputs, strict=True):
                torch.cat([g.flatten() for g in one(learned, x).values()], out=row)
            return rows
        found = torch.func.vmap(one, in_dims=(None, 0), randomness="error")(learned, inputs)
        return torch.cat([g.flatten(1) for g in found.values()], 1)

    return gradients, count


def _scalar_outputs(
    model: torch.nn.Module, X: torch.Tensor
) -> tuple[Callable[[dict[str, torch.Tensor], torch.Tensor], torch.Tensor], dict]:
    """A function from parameters and inputs to outputs `(n,)`, and the trainable parameters."""
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not learned:
        raise ValueError("the model has no trainable parameters: it has no tangent kernel")
    first = next(iter(learned.values()))
    if (X.dtype, X.device) != (first.dtype, first.device):
        raise ValueError(
            f"inputs are {X.dtype} on {X.device}, the model's parameters {first.dtype} on "
            f"{first.device}: expected the same"
        )
    for name, module in model.named_modules():
        if module.training and isinstance(module, batchnorm._BatchNorm):
            why = "normalises over the batch, so outputs have no gradient of their own"
        elif module.training and isinstance(module, dropout._DropoutNd) and module.p:
            why = "drops units at random, so its outputs are no function of the parameters"
        else:
            continue
        raise ValueError(
            f"{type(model).__name__} is in train mode and layer {name!r} {why}: call model.eval() "
            "first"
        )
    with torch.no_grad():
        shape = tuple(model(X[:1]).shape)
    if math.prod(shape) != 1:
        raise ValueError(
            f"the model returns shape {shape} for one sample: expected a single number; wrap it so "
            "that it returns one output, for instance one class minus another"
        )
    fixed = {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if name not in learned
    }

    def outputs(parameters: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(model, {**parameters, **fixed}, inputs)
        return found.reshape(len(inputs))

    return outputs, learned


def ntk_product(
    model: torch.nn.Module, X: torch.Tensor, *, batch: int = 256
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Products with the empirical NTK of a module, without the kernel or its gradients.

    :math:`K v = J (J^\top v)` with J the Jacobian of the outputs: one backward pass for
    :math:`J^\top v`, one forward-mode pass for the rest. For :func:`top_modes`.

    Args:
        model: a module with one output a sample, in eval mode if it normalises batches.
        X: `(n, …)` inputs in the dtype and on the device of the parameters.
        batch: samples in one pass.

    Returns:
        A function from `(n,)` or `(n, b)` to the product, of the same shape. It raises ValueError
        for another shape.

    Raises:
        ValueError: as in :func:`empirical_ntk`, and a batch that is no whole number from 1 on.

    Source: Jacot et al. 2018; both passes by `torch.func`.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> product = ntk_product(layer, torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    >>> product(torch.tensor([1.0, 0.0])).tolist()
    [5.0, 2.0]
    """
    check_real(X)
    check_whole(batch=batch)
    outputs, learned = _scalar_outputs(model, X)
    with warnings.catch_warnings():  # torch's own rules for forward mode use its old compiler
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")

    def one(vector: torch.Tensor) -> torch.Tensor:
        pulled = {name: torch.zeros_like(p) for name, p in learned.items()}
        for rows, part in zip(X.split(batch), vector.split(batch), strict=True):
            _, pull = torch.func.vjp(lambda p, rows=rows: outputs(p, rows), learned)
            for name, gradient in pull(part)[0].items():
                pulled[name] += gradient
        pushed = [
            torch.func.jvp(lambda p, rows=rows: outputs(p, rows), (learned,), (pulled,))[1]
            for rows in X.split(batch)
        ]
        return torch.cat(pushed)

    def product(block: torch.Tensor) -> torch.Tensor:
        if block.ndim not in (1, 2) or len(block) != len(X):
            raise ValueError(
                f"vector has shape {tuple(block.shape)}: expected ({len(X)},) or ({len(X)}, b)"
            )
        block = block.to(X)
        if block.ndim == 1:
            return one(block)
        return torch.stack([one(column) for column in block.T], 1)

    return product
