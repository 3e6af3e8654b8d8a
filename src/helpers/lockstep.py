"""Many networks of one architecture trained in lock step: the inside of `training.train_many`.

The weights of K networks are stacked, and every operation of a training step runs once for all of
them. Since the networks share their batches, the first layer of all of them is one large matrix
product; samples in which a network differs from the others enter as a correction of its first
layer, a few rows at a time. Activations are kept as (network, unit, sample), an order in which no
product of the forward or of the backward pass needs a copy.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from helpers import training
from helpers.training import History, Recipe, Replaced

# what networks in lock step have in common; all the rest of a recipe may differ
SHARED = ("epochs", "batch", "loss", "optimiser", "decay", "decay_every", "milestones", "augment")


# -- what is accepted -----------------------------------------------------------------------------


def check(
    models: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    replaced: Sequence[Replaced | None],
    inputs: torch.Tensor,
) -> None:
    """ValueError when these networks cannot be trained side by side."""
    if not models or len(models) != len(recipes) or len(models) != len(replaced):
        raise ValueError(
            f"{len(models)} networks, {len(recipes)} recipes, {len(replaced)} replaced: expected "
            "at least one network, and one of each for every network (or one recipe for all)"
        )
    expected = {name: tuple(p.shape) for name, p in models[0].state_dict().items()}
    for k, (recipe, model) in enumerate(zip(recipes, models, strict=True)):
        shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
        for name in [*expected, *shapes]:
            if shapes.get(name) != expected.get(name):
                raise ValueError(
                    f"network {k} has {name} of shape {shapes.get(name)}, network 0 of shape "
                    f"{expected.get(name)}: all must be of one architecture"
                )
        for name in SHARED:
            if getattr(recipe, name) != getattr(recipes[0], name):
                raise ValueError(
                    f"{name} is {getattr(recipe, name)!r} for network {k} and "
                    f"{getattr(recipes[0], name)!r} for network 0: it is shared by all networks"
                )
    for k, own in enumerate(replaced):
        if own is not None:
            _check_replaced(k, own, inputs)


def _check_replaced(network: int, own: Replaced, inputs: torch.Tensor) -> None:
    rows, samples = own
    if rows.dtype != torch.int64 or samples.shape != (len(rows), *inputs.shape[1:]):
        raise ValueError(
            f"replaced rows of network {network} have dtype {rows.dtype} and shape "
            f"{tuple(rows.shape)}, their samples {tuple(samples.shape)}: expected int64 (m,) and "
            f"(m, {', '.join(map(str, inputs.shape[1:]))})"
        )
    inside = len(rows) == 0 or (0 <= int(rows.min()) and int(rows.max()) < len(inputs))
    if not inside or len(rows.unique()) != len(rows):
        raise ValueError(
            f"replaced rows of network {network} must be different rows of the training set, each "
            f"in 0..{len(inputs) - 1}; got {rows.tolist()[:10]}{' …' if len(rows) > 10 else ''}"
        )
    if not torch.isfinite(samples).all():
        raise ValueError(f"replaced samples of network {network} must be finite (no NaN)")


def possible(model: nn.Module, recipe: Recipe) -> str:
    """Why networks like this one cannot run in lock step; an empty string when they can."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "batch normalisation keeps running averages"
    if recipe.loss in training.MARGIN_LOSSES:
        return f"the loss is {recipe.loss!r}"
    return "images are augmented" if recipe.augment else ""


def is_mlp(model: nn.Module) -> bool:
    """Flatten, then linear layers with ReLU between them: what has an implementation of its own."""
    if not isinstance(model, nn.Sequential) or len(model) < 2 or len(model) % 2:
        return False
    linear, relu = list(model)[1::2], list(model)[2::2]
    return (
        isinstance(model[0], nn.Flatten)
        and all(isinstance(layer, nn.Linear) and layer.bias is not None for layer in linear)
        and all(isinstance(layer, nn.ReLU) for layer in relu)
    )


# -- training -------------------------------------------------------------------------------------


def train(
    models: list[nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipes: list[Recipe],
    replaced: list[Replaced | None],
    seed: int,
    kept: training.Checkpoint,
    progress: bool,
) -> list[History]:
    """`training.train_many` for networks that can run in lock step; arguments were checked."""
    # networks with equal rates and decays lie side by side: one group of the optimiser for each
    order = sorted(range(len(models)), key=lambda k: _group_of(recipes[k]))
    models, recipes, replaced = ([each[k] for k in order] for each in (models, recipes, replaced))
    stack = _MLPs if is_mlp(models[0]) else _Vmapped
    run = _Run(stack(models, recipes, inputs, labels, Rows(replaced, inputs)), recipes, order)
    with training.randomness(seed, inputs.device) as draw:
        if state := kept.load():
            run.restore(state)
            draw.restore(state["random"])
        with training.progress_bar(recipes[0].epochs, run.epoch, progress) as bar:
            while run.epoch < recipes[0].epochs and run.going:
                run.one_epoch(draw)
                kept.save(lambda: run.state() | {"random": draw.state()})
                bar.update()
    run.write_back(models)
    kept.remove()
    return [run.histories[order.index(k)] for k in range(len(order))]


def digest(own: Replaced | None) -> str:
    """Tells replaced samples from others; empty for none."""
    if own is None:
        return ""
    rows, samples = (part.cpu().numpy().tobytes() for part in own)
    return hashlib.sha256(rows + samples).hexdigest()


def _group_of(recipe: Recipe) -> tuple[float, ...]:
    return recipe.learning_rate, recipe.weight_decay, recipe.momentum


class _Run:
    """The state of a training: stacked weights, their optimiser, what each network has done."""

    def __init__(self, stack: _Stack, recipes: list[Recipe], names: list[int]) -> None:
        self.stack, self.recipes, self.names = stack, recipes, names
        self.epoch = 0
        self.histories = [History(0, math.inf)] * len(recipes)
        self.ended: dict[int, dict[str, torch.Tensor]] = {}  # weights of networks that have ended
        self._views, groups = [], []
        bounds = [k for k in range(len(recipes)) if not k or _differs(recipes, k)]
        for first, end in zip(bounds, [*bounds[1:], len(recipes)], strict=True):
            views = [(p, p.detach()[first:end]) for p in stack.parameters.values()]
            self._views += [(p, view, first, end) for p, view in views]
            recipe = recipes[first]
            group = {"params": [view for _, view in views], "recipe": recipe}
            group |= {"weight_decay": recipe.weight_decay}
            groups.append(group | ({"momentum": recipe.momentum} if recipe.momentum else {}))
        self.optimiser = training.make_optimiser(
            replace(recipes[0], weight_decay=0.0, momentum=0.0), groups
        )
        self._clip = _Clip(recipes, next(iter(stack.parameters.values())))

    @property
    def going(self) -> bool:
        return len(self.ended) < len(self.recipes)

    def one_epoch(self, draw: training.Randomness) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = group["recipe"].rate(self.epoch)
        samples = len(self.stack.labels)
        order = draw.order(samples)
        total = self.stack.labels.new_zeros(len(self.recipes), dtype=torch.float64)
        for batch in self.stack.batches(order, self.recipes[0].batch):
            losses = self.stack.gradients(batch, draw)
            self._step()
            total += losses * len(batch.rows)
        self.epoch += 1
        self._book((total / samples).tolist())

    def _step(self) -> None:
        self._clip([p.grad for p in self.stack.parameters.values()])
        for p, view, first, end in self._views:
            view.grad = p.grad[first:end]
        self.optimiser.step()

    def _book(self, losses: list[float]) -> None:
        """Note the losses of an epoch; a network that is done keeps the weights it has now."""
        for k, (loss, recipe) in enumerate(zip(losses, self.recipes, strict=True)):
            if k in self.ended:
                continue
            self.histories[k] = History(self.epoch, loss)
            if not math.isfinite(loss):
                error = training.Diverged(loss, self.epoch, recipe)
                training.warn_diverged(self.names[k], str(error))
            if loss < recipe.stop_loss or not math.isfinite(loss):
                self.ended[k] = {
                    name: p.detach()[k].clone() for name, p in self.stack.parameters.items()
                }

    def write_back(self, models: list[nn.Module]) -> None:
        with torch.no_grad():
            for k, model in enumerate(models):
                weights = self.ended.get(k) or {
                    name: p[k] for name, p in self.stack.parameters.items()
                }
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.stack.as_in_module(name, weights[name]))
                model.eval()

    def state(self) -> dict[str, Any]:
        optimiser = self.optimiser.state_dict()
        for group in optimiser["param_groups"]:
            del group["recipe"]  # a class of ours, which a checkpoint must not name
        return {
            "epoch": self.epoch,
            "weights": {name: p.detach() for name, p in self.stack.parameters.items()},
            "optimiser": optimiser,
            "histories": [(h.epochs, h.loss) for h in self.histories],
            "ended": self.ended,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.histories = [History(*history) for history in state["histories"]]
        device = self.stack.labels.device
        self.ended = {
            k: {name: p.to(device) for name, p in weights.items()}
            for k, weights in state["ended"].items()
        }
        with torch.no_grad():
            for name, p in self.stack.parameters.items():
                p.copy_(state["weights"][name])
        optimiser = copy.deepcopy(state["optimiser"])
        for group, own in zip(optimiser["param_groups"], self.optimiser.param_groups, strict=True):
            group["recipe"] = own["recipe"]
        self.optimiser.load_state_dict(optimiser)


def _differs(recipes: list[Recipe], k: int) -> bool:
    return _group_of(recipes[k]) != _group_of(recipes[k - 1])


class _Clip:
    """Clips the gradients of each network, as `torch.nn.utils` does for one."""

    def __init__(self, recipes: list[Recipe], like: torch.Tensor) -> None:
        self._value = like.new_tensor([recipe.clip_value for recipe in recipes])
        self._norm = like.new_tensor([recipe.clip_norm for recipe in recipes])
        self._by_value = any(math.isfinite(recipe.clip_value) for recipe in recipes)
        self._by_norm = any(math.isfinite(recipe.clip_norm) for recipe in recipes)

    def __call__(self, gradients: list[torch.Tensor]) -> None:
        if self._by_value:
            for g in gradients:
                limit = self._value.view(-1, *[1] * (g.ndim - 1))
                g.clamp_(-limit, limit)
        if self._by_norm:
            norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
            # the small number is that of torch.nn.utils.clip_grad_norm_
            scale = (self._norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
            for g in gradients:
                g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))


# -- batches --------------------------------------------------------------------------------------


class Patch(NamedTuple):
    """Samples of a batch in which some networks differ from the others.

    networks `(p,)`; places `(p, m)` in the batch; changes `(p, m, …)`, to be added to the shared
    samples there. Networks with fewer than m such samples have changes of zero at place 0.
    """

    networks: torch.Tensor
    places: torch.Tensor
    changes: torch.Tensor


class Batch(NamedTuple):
    rows: torch.Tensor  # (b,) of the training set
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


_NONE = torch.zeros(0, dtype=torch.int64)


# -- stacked networks -----------------------------------------------------------------------------


class _Stack:
    """K networks side by side: parameters `(K, …)` by name, and their losses on a batch."""

    parameters: dict[str, torch.Tensor]

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
        noise = inputs.new_tensor([recipe.noise for recipe in recipes])
        self._noise = noise if bool(noise.any()) else None
        stacked, _ = stack_module_state(models)
        self.parameters = {name: p.detach().clone() for name, p in stacked.items()}

    def batches(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        return self._rows.batches(order, size, self.inputs.device)

    def gradients(self, batch: Batch, draw: training.Randomness) -> torch.Tensor:
        """`(K,)` mean losses, each on the network's own version of the batch.

        Their gradients become the `grad` of the parameters.
        """
        raise NotImplementedError

    def as_in_module(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        """A network's parameter as its module has it."""
        return parameter

    def _own_inputs(self, batch: Batch, draw: training.Randomness) -> torch.Tensor:
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


class _MLPs(_Stack):
    """Linear layers with ReLU between them, forward and backward pass written out.

    Gradients live in arrays that are allocated once: at this size a step would otherwise spend a
    third of its time on fresh pages of memory.

    Pixels that are zero in all training samples never move their weights: they are put last, and
    the product of the shared samples leaves them out. (Weight decay moves them, noise lights them.)
    """

    def __init__(
        self,
        models: list[nn.Module],
        recipes: list[Recipe],
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rows: Rows,
    ) -> None:
        super().__init__(models, recipes, inputs.flatten(1), labels, rows)
        rows.changes = rows.changes.flatten(1)
        lit = (self.inputs != 0).any(0)
        if self._noise is not None or any(recipe.weight_decay for recipe in recipes):
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

    def as_in_module(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        return parameter[:, self._back] if name == self._first else parameter

    def gradients(self, batch: Batch, draw: training.Randomness) -> torch.Tensor:
        if self._noise is None:
            shown = self.inputs[batch.rows]
            outputs = self._shared_layer(shown, batch.patch)
        else:
            shown = self._own_inputs(batch, draw).transpose(1, 2)
            outputs = self._layer(0, shown)
        hidden = []
        for layer in range(1, len(self._layers)):
            hidden.append(outputs.relu_())
            outputs = self._layer(layer, outputs)
        outputs = outputs.requires_grad_()
        losses = self._mean_losses(outputs, self.labels[batch.rows])
        (grad,) = torch.autograd.grad(losses.sum(), outputs)
        for layer in reversed(range(1, len(self._layers))):
            below = hidden[layer - 1]
            weight = self._layers[layer][0]
            self._set_gradients(layer, grad, below.transpose(1, 2))
            # behind a ReLU, the sign of an output is the slope
            grad = torch.bmm(weight.transpose(1, 2), grad).mul_(below.sign_())
        if self._noise is None:
            self._set_shared_gradients(grad, shown, batch.patch)
        else:
            self._set_gradients(0, grad, shown.transpose(1, 2))
        return losses.detach()

    def _layer(self, layer: int, below: torch.Tensor) -> torch.Tensor:
        """`(K, out, b)` from inputs `(K, in, b)`."""
        weight, bias = self._layers[layer]
        return torch.baddbmm(bias[:, :, None], weight, below)

    def _set_gradients(self, layer: int, grad: torch.Tensor, below: torch.Tensor) -> None:
        """From the gradient `(K, out, b)` of a layer's outputs and its inputs `(K, b, in)`."""
        weight, bias = self._layers[layer]
        torch.bmm(grad, below, out=weight.grad)
        torch.sum(grad, 2, out=bias.grad)

    def _shared_layer(self, shared: torch.Tensor, patch: Patch | None) -> torch.Tensor:
        """The first layer on inputs `(b, lit)` that all networks share, but for a patch."""
        weight, bias = self._layers[0]
        count, units, width = weight.shape
        flat = weight.view(count * units, width)[:, : self._lit]
        out = torch.addmm(bias.view(-1, 1), flat, shared.T).view(count, units, len(shared))
        if patch is not None:
            networks, places, changes = patch
            shift = torch.bmm(changes, weight[networks].transpose(1, 2))  # (p, m, units)
            out.transpose(1, 2).index_put_((networks[:, None], places), shift, accumulate=True)
        return out

    def _set_shared_gradients(
        self, grad: torch.Tensor, shared: torch.Tensor, patch: Patch | None
    ) -> None:
        weight, bias = self._layers[0]
        count, units, width = weight.shape
        flat = weight.grad.view(count * units, width)
        torch.mm(grad.view(count * units, -1), shared, out=flat[:, : self._lit])
        flat[:, self._lit :] = 0
        torch.sum(grad, 2, out=bias.grad)
        if patch is not None:
            networks, places, changes = patch
            own = grad.transpose(1, 2)[networks[:, None], places]  # (p, m, units)
            weight.grad.index_add_(0, networks, torch.bmm(own.transpose(1, 2), changes))


class _Vmapped(_Stack):
    """Any module without state of its own, through `torch.func`."""

    def __init__(
        self,
        models: list[nn.Module],
        recipes: list[Recipe],
        inputs: torch.Tensor,
        labels: torch.Tensor,
        rows: Rows,
    ) -> None:
        super().__init__(models, recipes, inputs, labels, rows)
        fixed = dict(models[0].named_buffers())
        for model in models:
            for name, buffer in model.named_buffers():
                if not torch.equal(buffer, fixed[name]):
                    raise ValueError(f"{name} differs between networks: buffers are shared")
        for p in self.parameters.values():
            p.requires_grad_()
        skeleton = copy.deepcopy(models[0]).train()  # its buffers serve all networks
        call: Callable[..., torch.Tensor] = lambda p, x: functional_call(skeleton, p, (x,))  # noqa: E731
        # the same masks of dropout for all, so that a network does not depend on its neighbours
        self._shared, self._separate = (
            vmap(call, (0, samples), randomness="same") for samples in (None, 0)
        )

    def gradients(self, batch: Batch, draw: training.Randomness) -> torch.Tensor:
        if batch.patch is None and self._noise is None:
            outputs = self._shared(self.parameters, self.inputs[batch.rows])
        else:
            outputs = self._separate(self.parameters, self._own_inputs(batch, draw))
        losses = self._mean_losses(outputs.transpose(1, 2), self.labels[batch.rows])
        for p in self.parameters.values():
            p.grad = None
        losses.sum().backward()
        return losses.detach()
