"""Networks of one architecture side by side: stacked weights, and the gradients of all at once.

Since the networks share their batches, the first layer of all of them is one large matrix product;
samples in which a network differs from the others enter as a correction of its first layer, a few
rows at a time. Activations are kept as (network, unit, sample), an order in which no product of the
forward or of the backward pass needs a copy.

Ours.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from helpers.training.precision import autocast
from helpers.training.randomness import Randomness
from helpers.training.recipe import Recipe, Replaced, learned

_NONE = torch.zeros(0, dtype=torch.int64)


class Patch(NamedTuple):
    """Samples of a batch in which some networks differ from the others.

    networks `(p,)`; places `(p, m)` in the batch; changes `(p, m, …)`, to be added to the shared
    samples there. Networks with fewer than m such samples have changes of zero at place 0.
    """

    networks: torch.Tensor
    places: torch.Tensor
    changes: torch.Tensor


class Batch(NamedTuple):
    """Rows `(b,)` of the training set, and what some networks have in their place."""

    rows: torch.Tensor
    patch: Patch | None


class Rows:
    """The training samples that networks have to themselves, found batch by batch."""

    def __init__(self, replaced: Sequence[Replaced | None], inputs: torch.Tensor) -> None:
        own = [(k, *pair) for k, pair in enumerate(replaced) if pair is not None and len(pair[0])]
        self._networks = torch.cat([torch.full((len(rows),), k) for k, rows, _ in own] or [_NONE])
        self._rows = torch.cat([rows.cpu() for _, rows, _ in own] or [_NONE])
        # a last row of zeros fills what is missing to a rectangle
        changes = [samples.to(inputs) - inputs[rows.to(inputs.device)] for _, rows, samples in own]
        self.changes = torch.cat([*changes, inputs.new_zeros(1, *inputs.shape[1:])])

    def batches(self, order: torch.Tensor, size: int, device: torch.device) -> Iterator[Batch]:
        """The batches of an epoch with their patches; `order` is on the CPU."""
        position = torch.empty_like(order)
        position[order] = torch.arange(len(order))
        at = position[self._rows]
        by_batch = torch.argsort(at // size * len(order) + self._networks, stable=True)
        counts = torch.bincount(at // size, minlength=-(-len(order) // size))
        chosen = by_batch.split(counts.tolist())
        for rows, mine in zip(order.to(device).split(size), chosen, strict=True):
            patch = self._patch(mine, at[mine] % size, device) if len(mine) else None
            yield Batch(rows, patch)

    def _patch(self, mine: torch.Tensor, places: torch.Tensor, device: torch.device) -> Patch:
        networks, counts = torch.unique_consecutive(self._networks[mine], return_counts=True)
        filled = torch.arange(int(counts.max())) < counts[:, None]
        entries = torch.full(filled.shape, len(self.changes) - 1)
        entries[filled] = mine
        where = torch.zeros(filled.shape, dtype=torch.int64)
        where[filled] = places
        return Patch(networks.to(device), where.to(device), self.changes[entries.to(device)])


def is_mlp(model: nn.Module) -> bool:
    """Flatten, then linear layers with ReLU between them: what has an implementation of its own."""
    if type(model) is not nn.Sequential or len(model) < 2 or len(model) % 2:
        return False
    linear, relu = list(model)[1::2], list(model)[2::2]
    return (
        isinstance(model[0], nn.Flatten)
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(isinstance(layer, nn.ReLU) for layer in relu)
        and len(list(model.parameters())) == 2 * len(linear)  # no two layers share any
    )


class Stack:
    """K networks side by side: parameters `(K, …)` by name, and their losses on a batch.

    Those in `learned` are not frozen.
    """

    parameters: dict[str, torch.Tensor]
    learned: list[torch.Tensor]

    def __init__(
        self,
        models: list[nn.Module],
        recipes: list[Recipe],
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rows: Rows,
    ) -> None:
        self.inputs, self.labels, self._rows = inputs, labels, rows
        self._loss = recipes[0].loss
        self._precision = recipes[0].precision
        noise = inputs.new_tensor([recipe.noise for recipe in recipes])
        self._noise = noise if bool(noise.any()) else None
        stacked, _ = stack_module_state([model.train() for model in models])
        self.parameters = {name: p.detach().clone() for name, p in stacked.items()}
        self._prepare(models, any(recipe.weight_decay for recipe in recipes))
        self.learned = [self.parameters[name] for name in learned(models[0])]

    def _prepare(self, models: list[nn.Module], decays: bool) -> None:
        """What the kind of networks needs besides; `decays` if any has weight decay."""
        raise NotImplementedError

    def batches(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        """The batches of an epoch in this order, a permutation of the samples on the CPU."""
        return self._rows.batches(order, size, self.inputs.device)

    def gradients(self, batch: Batch, draw: Randomness) -> torch.Tensor:
        """`(K,)` mean losses, each on the network's own version of the batch.

        Their gradients become the `grad` of the parameters.
        """
        raise NotImplementedError

    def as_in_module(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        """A network's parameter as its module has it."""
        return parameter

    def _own_inputs(self, batch: Batch, draw: Randomness) -> torch.Tensor:
        """`(K, b, …)`: what each network sees, with its own samples and its level of noise."""
        shared = self.inputs[batch.rows]
        count = len(next(iter(self.parameters.values())))
        own = shared.expand(count, *shared.shape).clone()
        if batch.patch is not None:
            networks, places, changes = batch.patch
            own.index_put_((networks[:, None], places), changes, accumulate=True)
        if self._noise is not None:
            own += self._noise.view(-1, *[1] * shared.ndim) * draw.normal(shared)
        return own

    def _mean_losses(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """`(K,)` from outputs `(K, outputs, b)` and the labels `(b,)`."""
        wanted = wanted.expand(len(outputs), -1)
        if self._loss == "mse":
            return functional.mse_loss(outputs.squeeze(1), wanted, reduction="none").mean(1)
        return functional.cross_entropy(outputs, wanted, reduction="none").mean(1)


class StackedMLPs(Stack):
    """Linear layers with ReLU between them, forward and backward pass written out.

    Gradients live in arrays that are allocated once: at this size a step would otherwise spend a
    third of its time on fresh pages of memory.

    Pixels that are zero in all training samples never move their weights: they are put last, and
    the product of the shared samples leaves them out. (Weight decay moves them, noise lights them.)

    In half precision the products take copies of the weights, made anew in every step.
    """

    def _prepare(self, models: list[nn.Module], decays: bool) -> None:
        self.inputs, rows = self.inputs.flatten(1), self._rows
        rows.changes = rows.changes.flatten(1)
        lit = (self.inputs != 0).any(0)
        if self._noise is not None or decays:
            lit[:] = True
        self._order = torch.argsort(~lit, stable=True)
        self._back = torch.argsort(self._order)
        self._lit = int(lit.sum())
        self.inputs = self.inputs[:, self._order[: self._lit]]
        rows.changes = rows.changes[:, self._order]
        names = [name for name in self.parameters if name.endswith("weight")]
        self._first = names[0]
        self.parameters[self._first] = self.parameters[self._first][:, :, self._order].contiguous()
        self._layers = [
            (self.parameters[name], self.parameters[name.replace("weight", "bias")])
            for name in names
        ]
        for p in self.parameters.values():
            p.grad = torch.zeros_like(p)
        self._used = [_Factors(layer, self._precision) for layer in self._layers]

    def as_in_module(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        """The same, but with the pixels of the first layer where they were."""
        return parameter[:, self._back] if name == self._first else parameter

    def gradients(self, batch: Batch, draw: Randomness) -> torch.Tensor:
        """As in :class:`Stack`, into the arrays that are there."""
        for factors in self._used:
            factors.refresh()
        kind = self._used[0].dtype
        if self._noise is None:
            shown = self.inputs[batch.rows].to(kind)
            outputs = self._shared_layer(shown, batch.patch)
        else:
            shown = self._own_inputs(batch, draw).transpose(1, 2).to(kind)
            outputs = self._used[0](shown)
        hidden = []
        for layer in range(1, len(self._layers)):
            hidden.append(outputs.relu_())
            outputs = self._used[layer](outputs)
        outputs = outputs.to(self.inputs.dtype).requires_grad_()
        losses = self._mean_losses(outputs, self.labels[batch.rows])
        (grad,) = torch.autograd.grad(losses.sum(), outputs)
        grad = grad.to(kind)
        for layer in reversed(range(1, len(self._layers))):
            below = hidden[layer - 1]
            self._used[layer].set_gradients(grad, below.transpose(1, 2))
            # behind a ReLU, the sign of an output is the slope
            grad = torch.bmm(self._used[layer].weight.transpose(1, 2), grad).mul_(below.sign_())
        if self._noise is None:
            self._set_shared_gradients(grad, shown, batch.patch)
        else:
            self._used[0].set_gradients(grad, shown.transpose(1, 2))
        return losses.detach()

    def _shared_layer(self, shared: torch.Tensor, patch: Patch | None) -> torch.Tensor:
        """The first layer on inputs `(b, lit)` that all networks share, but for a patch."""
        weight, bias = self._used[0].weight, self._used[0].bias
        count, units, width = weight.shape
        flat = weight.view(count * units, width)[:, : self._lit]
        out = torch.addmm(bias.view(-1, 1), flat, shared.T).view(count, units, len(shared))
        if patch is not None:
            networks, places, changes = patch
            changes = changes.to(weight.dtype)
            shift = torch.bmm(changes, weight[networks].transpose(1, 2))  # (p, m, units)
            out.transpose(1, 2).index_put_((networks[:, None], places), shift, accumulate=True)
        return out

    def _set_shared_gradients(
        self, grad: torch.Tensor, shared: torch.Tensor, patch: Patch | None
    ) -> None:
        weight, bias = self._layers[0]
        count, units, width = weight.shape
        flat = weight.grad.view(count * units, width)
        lit = flat[:, : self._lit]
        if shared.dtype == weight.dtype:
            torch.mm(grad.view(count * units, -1), shared, out=lit)
        else:
            lit.copy_(torch.mm(grad.view(count * units, -1), shared))
        flat[:, self._lit :] = 0
        torch.sum(grad, 2, dtype=bias.dtype, out=bias.grad)
        if patch is not None:
            networks, places, changes = patch
            own = grad.transpose(1, 2)[networks[:, None], places].to(changes)  # (p, m, units)
            weight.grad.index_add_(0, networks, torch.bmm(own.transpose(1, 2), changes))


class _Factors:
    """A layer's weights `(K, out, in)` and biases `(K, out)` as its products take them."""

    def __init__(self, layer: tuple[torch.Tensor, torch.Tensor], precision: str) -> None:
        self._own = layer
        half = precision == "bfloat16"
        self.weight, self.bias = (p.to(torch.bfloat16) if half else p for p in layer)
        self._product = torch.empty_like(self.weight) if half else None  # no fresh pages a step
        self.dtype = self.weight.dtype

    def refresh(self) -> None:
        """Copy the weights anew, where these are copies."""
        if self._product is not None:
            for copied, p in zip((self.weight, self.bias), self._own, strict=True):
                copied.copy_(p)

    def __call__(self, below: torch.Tensor) -> torch.Tensor:
        """`(K, out, b)` from inputs `(K, in, b)`."""
        return torch.baddbmm(self.bias[:, :, None], self.weight, below)

    def set_gradients(self, grad: torch.Tensor, below: torch.Tensor) -> None:
        """From the gradient `(K, out, b)` of the layer's outputs and its inputs `(K, b, in)`."""
        weight, bias = (p.grad for p in self._own)
        if self._product is None:
            torch.bmm(grad, below, out=weight)
        else:
            weight.copy_(torch.bmm(grad, below, out=self._product))
        torch.sum(grad, 2, dtype=bias.dtype, out=bias)


class Vmapped(Stack):
    """Any module without state of its own, through `torch.func`."""

    def _prepare(self, models: list[nn.Module], decays: bool) -> None:
        for name in learned(models[0]):
            self.parameters[name].requires_grad_()
        skeleton = copy.deepcopy(models[0]).train()  # its buffers serve all networks
        call: Callable[..., torch.Tensor] = lambda p, x: functional_call(skeleton, p, (x,))  # noqa: E731
        # the same masks of dropout for all, so that a network does not depend on its neighbours
        self._shared, self._separate = (
            vmap(call, (0, samples), randomness="same") for samples in (None, 0)
        )

    def gradients(self, batch: Batch, draw: Randomness) -> torch.Tensor:
        """As in :class:`Stack`, by autograd."""
        with autocast(self._precision, self.inputs.device):
            if batch.patch is None and self._noise is None:
                outputs = self._shared(self.parameters, self.inputs[batch.rows])
            else:
                outputs = self._separate(self.parameters, self._own_inputs(batch, draw))
        outputs = outputs.to(self.inputs.dtype).transpose(1, 2)
        losses = self._mean_losses(outputs, self.labels[batch.rows])
        for p in self.parameters.values():
            p.grad = None
        losses.sum().backward()
        return losses.detach()
