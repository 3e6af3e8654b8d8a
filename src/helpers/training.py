"""A plain trainer: data on the device, one schedule, an end at interpolation, resumable.

What the papers' scripts spend their time on besides arithmetic (loaders, workers, copies to the
device, a synchronisation a step) is not there: the inputs live on the device, an epoch is one
permutation and a few slices, and the loss is read once an epoch.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

LOSSES = ("cross_entropy", "mse")


class Diverged(FloatingPointError):
    """The training loss is no finite number any more; the message says since when."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: largest number of passes over the data.
        batch: samples a step.
        loss: `"cross_entropy"` with class indices, or `"mse"` with one real label a sample.
        learning_rate, weight_decay: of Adam; the decay is the coupled one of `torch.optim.Adam`.
        decay, decay_every: factor on the learning rate after every so many epochs (0: never).
        stop_loss: end after an epoch whose mean loss is below it ("interpolation"); 0: never.
    """

    epochs: int
    batch: int
    loss: str = "cross_entropy"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay: float = 1.0
    decay_every: int = 0
    stop_loss: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(
                f"epochs is {self.epochs}, batch is {self.batch}: both must be at least 1"
            )
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}: allowed are {', '.join(map(repr, LOSSES))}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0 or not self.stop_loss >= 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} (above 0), weight_decay is "
                f"{self.weight_decay} and stop_loss is {self.stop_loss} (both 0 or more)"
            )


@dataclass(frozen=True)
class History:
    """What a training did: epochs run, and the mean loss during the last of them."""

    epochs: int
    loss: float


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
) -> History:
    """Train `model` in place with Adam, and leave it in eval mode.

    Args:
        model: a module on the device of `inputs`.
        inputs: `(n, …)` floats, all on the device.
        labels: `(n,)`, int64 classes for cross-entropy, floats for mse.
        recipe: the hyper-parameters.
        seed: of the order of the samples.
        checkpoint: file in which the state is kept every `checkpoint_seconds` (0: every epoch), and
            from which a run that was interrupted goes on to the same result; removed at the end.
        progress: show a progress bar over epochs.

    Raises:
        ValueError: data that no network can be trained on, or a checkpoint of another run.
        Diverged: the loss became infinite or NaN.

    >>> from helpers import models
    >>> x = torch.eye(4)
    >>> net = models.fully_connected(4, (16,), 2, seed=0)
    >>> recipe = Recipe(epochs=500, batch=4, learning_rate=1e-2, stop_loss=1e-2)
    >>> history = train(net, x, torch.tensor([0, 1, 0, 1]), recipe, seed=0)
    >>> net(x).argmax(1).tolist(), history.epochs < 500, history.loss < 1e-2
    ([0, 1, 0, 1], True, True)
    """
    _check_data(inputs, labels, recipe)
    file = Path(checkpoint) if checkpoint else None
    if inputs.ndim == 4:
        # convolutions are a quarter faster on CPUs, and no slower elsewhere
        model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    shuffle = torch.Generator().manual_seed(seed)
    identity = asdict(recipe) | {"seed": seed, "samples": len(inputs)}
    epoch, loss = _resume(file, identity, model, optimiser, shuffle)
    saved = time.monotonic()
    with _bar(recipe.epochs, epoch, progress) as bar:
        while epoch < recipe.epochs and not loss < recipe.stop_loss:
            _set_rate(optimiser, recipe, epoch)
            loss = _one_epoch(model, inputs, labels, recipe, optimiser, shuffle)
            epoch += 1
            if not math.isfinite(loss):
                raise Diverged(
                    f"the training loss is {loss} in epoch {epoch} of {recipe.epochs}: lower the "
                    f"learning rate ({recipe.learning_rate:g}) or rescale the inputs"
                )
            if file and time.monotonic() - saved >= checkpoint_seconds:
                _save(file, identity, epoch, loss, model, optimiser, shuffle)
                saved = time.monotonic()
            bar.update()
    if file:
        file.unlink(missing_ok=True)
    model.eval()
    return History(epoch, loss)


def predict(model: nn.Module, inputs: torch.Tensor, *, batch: int = 1_000) -> torch.Tensor:
    """Outputs `(n, …)` of the model in eval mode, without gradients; its mode is put back.

    >>> predict(torch.nn.Identity(), torch.ones(3, 2), batch=2).shape
    torch.Size([3, 2])
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return torch.cat([model(part) for part in inputs.split(batch)])
    finally:
        model.train(was_training)


def _one_epoch(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    shuffle: torch.Generator,
) -> float:
    """One pass over the samples in a new order; returns the mean loss on the way."""
    model.train()
    total = inputs.new_zeros((), dtype=torch.float64)
    order = torch.randperm(len(inputs), generator=shuffle).to(inputs.device)
    for chosen in order.split(recipe.batch):
        outputs, wanted = model(inputs[chosen]), labels[chosen]
        if recipe.loss == "mse":
            loss = nn.functional.mse_loss(outputs.view_as(wanted), wanted)
        else:
            loss = nn.functional.cross_entropy(outputs, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(chosen)
    return float(total) / len(inputs)


def _set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, epoch: int) -> None:
    steps = epoch // recipe.decay_every if recipe.decay_every else 0
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * recipe.decay**steps


def _check_data(inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> None:
    if len(inputs) == 0 or labels.shape != (len(inputs),):
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)} and labels {tuple(labels.shape)}: expected "
            "at least one sample and one label for each"
        )
    if not inputs.is_floating_point() or not torch.isfinite(inputs).all():
        raise ValueError(
            f"inputs of dtype {inputs.dtype} must be finite floats (no NaN, no complex)"
        )
    if recipe.loss == "mse":
        if labels.dtype != inputs.dtype or not torch.isfinite(labels).all():
            raise ValueError(f"labels of dtype {labels.dtype} must be finite and {inputs.dtype}")
    elif labels.dtype != torch.int64 or labels.min() < 0:
        raise ValueError(f"labels of dtype {labels.dtype} must be int64 class indices from 0 on")


# -- checkpoints ----------------------------------------------------------------------------------


def _save(
    file: Path,
    identity: dict[str, Any],
    epoch: int,
    loss: float,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    shuffle: torch.Generator,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    state = {
        "identity": identity,
        "epoch": epoch,
        "loss": loss,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "shuffle": shuffle.get_state(),
    }
    torch.save(state, part)
    os.replace(part, file)


def _resume(
    file: Path | None,
    identity: dict[str, Any],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    shuffle: torch.Generator,
) -> tuple[int, float]:
    """(epochs done, last loss): from the checkpoint when there is one, else from nothing."""
    if file is None or not file.exists():
        return 0, math.inf
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        raise ValueError(
            f"the checkpoint {file} belongs to another training ({state['identity']}, asked for "
            f"{identity}): delete it, or name another file"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
    shuffle.set_state(state["shuffle"])
    return state["epoch"], state["loss"]


def _bar(total: int, done: int, progress: bool) -> Any:
    from tqdm import tqdm

    wanted = progress and os.environ.get("BOOK_PROGRESS") != "0"
    return tqdm(desc="epochs", total=total, initial=done, disable=not wanted)
