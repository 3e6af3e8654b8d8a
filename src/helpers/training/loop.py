"""Training of one network.

Ours; what a paper's code does otherwise is said where a recipe is made.
"""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.training import margin_losses, precision
from helpers.training.checkpoint import Checkpoint, identity_of
from helpers.training.randomness import Randomness, augmented, randomness
from helpers.training.recipe import (
    History,
    Recipe,
    check_data,
    diverged,
    learned,
    make_optimiser,
    set_rate,
)


def train(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
    after_epoch: Callable[[int], None] | None = None,
) -> History:
    """Train `model` in place, and leave it in eval mode.

    Args:
        model: a module on the device of `inputs`; parameters without `requires_grad` stay.
        inputs: `(n, …)` floats, all on the device.
        labels: `(n,)`, int64 classes for cross-entropy, floats for the other losses.
        recipe: the hyper-parameters.
        seed: of all that is drawn: the order of the samples, noise, augmentation, dropout.
        checkpoint: file in which the state is kept every `checkpoint_seconds` (0: every epoch), and
            from which a run that was interrupted goes on to the same result; removed at the end.
        progress: show a progress bar over epochs.
        after_epoch: called with the number of epochs done, after each of them (not with a
            checkpoint, since a run that goes on would leave some out).

    Raises:
        ValueError: data that no network can be trained on, a network without a parameter that may
            move, `after_epoch` with a checkpoint, or a checkpoint that is damaged or of another run
            (another recipe or seed, other data, first weights or code).
        Diverged: the loss became infinite or NaN.

    >>> from helpers import models
    >>> x = torch.eye(4)
    >>> net = models.fully_connected(4, (16,), 2, seed=0)
    >>> recipe = Recipe(epochs=500, batch=4, learning_rate=1e-2, stop_loss=1e-2)
    >>> history = train(net, x, torch.tensor([0, 1, 0, 1]), recipe, seed=0)
    >>> net(x).argmax(1).tolist(), history.epochs < 500, history.loss < 1e-2
    ([0, 1, 0, 1], True, True)
    """
    check_data(model, inputs, labels, recipe)
    if after_epoch and checkpoint:
        raise ValueError("after_epoch and checkpoint are both given: a resumed run skips epochs")
    if inputs.ndim == 4:
        # convolutions are a quarter faster on CPUs, and no slower elsewhere
        model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    recipe = replace(recipe, precision=precision.resolve(recipe.precision, inputs.device))
    parameters = list(learned(model).values())
    optimiser = make_optimiser(recipe, [{"params": parameters}])
    kept = Checkpoint(
        checkpoint,
        lambda: identity_of(__name__, [model], [recipe], inputs, labels, seed=seed),
        checkpoint_seconds,
    )
    epoch, loss = 0, math.inf
    with randomness(seed, inputs.device) as draw:
        if state := kept.load():
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
            draw.restore(state["random"])
            epoch, loss = state["epoch"], state["loss"]

        def state_now() -> dict[str, Any]:
            return {
                "epoch": epoch,
                "loss": loss,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "random": draw.state(),
            }

        with progress_bar(recipe.epochs, epoch, progress) as bar:
            while epoch < recipe.epochs and not loss < recipe.stop_loss:
                set_rate(optimiser, recipe, epoch)
                loss = _one_epoch(model, parameters, inputs, labels, recipe, optimiser, draw)
                epoch += 1
                if not math.isfinite(loss):
                    raise diverged(loss, epoch, recipe)
                kept.save(state_now)
                if after_epoch:
                    after_epoch(epoch)
                bar.update()
    kept.remove()
    model.eval()
    return History(epoch, loss)


def _one_epoch(
    model: nn.Module,
    parameters: list[nn.Parameter],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    draw: Randomness,
) -> float:
    """One pass over the samples in a new order; returns the mean loss on the way."""
    model.train()
    total = inputs.new_zeros((), dtype=torch.float64)
    for chosen in draw.order(len(inputs)).to(inputs.device).split(recipe.batch):
        shown, wanted = inputs[chosen], labels[chosen]
        shown = augmented(shown, recipe.augment, draw.inputs)
        if recipe.noise:
            shown = shown + recipe.noise * draw.normal(shown)
        with precision.autocast(recipe.precision, inputs.device):
            outputs = model(shown)
        loss = _loss(recipe, outputs.to(inputs.dtype), wanted)
        optimiser.zero_grad()
        loss.backward()
        if math.isfinite(recipe.clip_value):
            nn.utils.clip_grad_value_(parameters, recipe.clip_value)
        if math.isfinite(recipe.clip_norm):
            nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimiser.step()
        total += loss.detach() * len(chosen)
    return float(total) / len(inputs)


def _loss(recipe: Recipe, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    if recipe.loss == "cross_entropy":
        return nn.functional.cross_entropy(outputs, wanted)
    outputs = outputs.view_as(wanted)
    if recipe.loss == "mse":
        return nn.functional.mse_loss(outputs, wanted)
    return margin_losses.named(recipe.loss, recipe.loss_strength).value(wanted * outputs).mean()


def progress_bar(total: int, done: int, progress: bool) -> Any:
    """A bar over epochs; BOOK_PROGRESS=0 hides it."""
    from tqdm import tqdm

    wanted = progress and os.environ.get("BOOK_PROGRESS") != "0"
    return tqdm(desc="epochs", total=total, initial=done, disable=not wanted)
