"""Networks trained in lock step: each operation of a step runs once for all of them.

Ours.
"""

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from helpers.training.checkpoint import Checkpoint
from helpers.training.loop import progress_bar
from helpers.training.randomness import Randomness, randomness
from helpers.training.recipe import (
    MARGIN_LOSSES,
    History,
    Recipe,
    Replaced,
    diverged,
    learned,
    make_optimiser,
    warn_diverged,
)
from helpers.training.stacked import Rows, Stack, StackedMLPs, Vmapped, is_mlp


def obstacle(models: list[nn.Module], recipe: Recipe) -> str:
    """Why these networks cannot run in lock step; an empty string when they can."""
    if any(str(model) != str(models[0]) for model in models):
        return "networks are not built alike"
    if any(learned(model).keys() != learned(models[0]).keys() for model in models):
        return "other parameters are frozen in one network than in another"
    for module in models[0].modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "batch normalisation keeps running averages"
    shared = dict(models[0].named_buffers())
    for model in models:
        for name, buffer in model.named_buffers():
            if not torch.equal(buffer, shared[name]):
                return f"{name} differs between networks, and buffers are shared"
    if recipe.loss in MARGIN_LOSSES:
        return f"the loss is {recipe.loss!r}"
    return "images are augmented" if recipe.augment else ""


def train_side_by_side(
    models: list[nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipes: list[Recipe],
    replaced: list[Replaced | None],
    seed: int,
    kept: Checkpoint,
    progress: bool,
) -> list[History]:
    """`train_many` for networks that can run in lock step; arguments were checked.

    >>> from helpers import models
    >>> nets = [models.fully_connected(2, (3,), 2, seed=k) for k in (0, 1)]
    >>> given = torch.randn(8, 2), torch.arange(8) % 2, [Recipe(epochs=2, batch=4)] * 2
    >>> kept = Checkpoint(None, dict, 60)
    >>> [h.epochs for h in train_side_by_side(nets, *given, [None, None], 0, kept, False)]
    [2, 2]
    """
    # networks with equal rates and decays lie side by side: one group of the optimiser for each
    order = sorted(range(len(models)), key=lambda k: _group_of(recipes[k]))
    models, recipes, replaced = ([each[k] for k in order] for each in (models, recipes, replaced))
    stack = StackedMLPs if is_mlp(models[0]) else Vmapped
    stacked = stack(models, recipes, inputs, labels, Rows(replaced, inputs))
    run = LockstepRun(stacked, recipes, order)
    with randomness(seed, inputs.device) as draw:
        if state := kept.load():
            run.restore(state)
            draw.restore(state["random"])
        with progress_bar(recipes[0].epochs, run.epoch, progress) as bar:
            while run.epoch < recipes[0].epochs and run.going:
                run.one_epoch(draw)
                kept.save(lambda: run.state() | {"random": draw.state()})
                bar.update()
    run.write_back(models)
    kept.remove()
    return [run.histories[order.index(k)] for k in range(len(order))]


def _group_of(recipe: Recipe) -> tuple[float, ...]:
    return recipe.learning_rate, recipe.weight_decay, recipe.momentum


class LockstepRun:
    """The state of a training: stacked weights, their optimiser, what each network has done."""

    def __init__(self, stack: Stack, recipes: list[Recipe], names: list[int]) -> None:
        self.stack, self.recipes, self.names = stack, recipes, names
        self.epoch = 0
        self.histories = [History(0, math.inf)] * len(recipes)
        self.ended: dict[int, dict[str, torch.Tensor]] = {}  # weights of networks that have ended
        self._views, groups = [], []
        keys = [_group_of(recipe) for recipe in recipes]
        bounds = [k for k in range(len(recipes)) if not k or keys[k] != keys[k - 1]]
        for first, end in zip(bounds, [*bounds[1:], len(recipes)], strict=True):
            views = [(p, p.detach()[first:end]) for p in stack.learned]
            self._views += [(p, view, first, end) for p, view in views]
            recipe = recipes[first]
            group = {"params": [view for _, view in views], "recipe": recipe}
            group |= {"weight_decay": recipe.weight_decay}
            groups.append(group | ({"momentum": recipe.momentum} if recipe.momentum else {}))
        self.optimiser = make_optimiser(replace(recipes[0], weight_decay=0.0, momentum=0.0), groups)
        self._clip = _Clip(recipes, stack.learned[0])

    @property
    def going(self) -> bool:
        """Whether there is a network that has not ended."""
        return len(self.ended) < len(self.recipes)

    def one_epoch(self, draw: Randomness) -> None:
        """One pass of all networks over the samples, in an order that they share."""
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
        self._clip([p.grad for p in self.stack.learned if p.grad is not None])
        for p, view, first, end in self._views:  # without a gradient: not used in the network
            view.grad = None if p.grad is None else p.grad[first:end]
        self.optimiser.step()

    def _book(self, losses: list[float]) -> None:
        """Note the losses of an epoch; a network that is done keeps the weights it has now."""
        for k, (loss, recipe) in enumerate(zip(losses, self.recipes, strict=True)):
            if k in self.ended:
                continue
            self.histories[k] = History(self.epoch, loss)
            if not math.isfinite(loss):
                warn_diverged(self.names[k], diverged(loss, self.epoch, recipe))
            if loss < recipe.stop_loss or not math.isfinite(loss):
                self.ended[k] = {
                    name: p.detach()[k].clone() for name, p in self.stack.parameters.items()
                }

    def write_back(self, models: list[nn.Module]) -> None:
        """Give the modules their weights, of the end or of where a network ended before."""
        with torch.no_grad():
            for k, model in enumerate(models):
                weights = self.ended.get(k) or {
                    name: p[k] for name, p in self.stack.parameters.items()
                }
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.stack.as_in_module(name, weights[name]))
                model.eval()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
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
        """Go back to a state."""
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
