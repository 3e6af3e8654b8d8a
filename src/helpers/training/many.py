"""Training of many networks at once: in lock step where that can be, else one after the other.

Ours.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.errors import Diverged
from helpers.training import precision
from helpers.training.checkpoint import Checkpoint, digest, identity_of
from helpers.training.lockstep import obstacle, train_side_by_side
from helpers.training.loop import train
from helpers.training.recipe import History, Recipe, Replaced, check_data, warn_diverged
from helpers.training.stacked import is_mlp

# what networks have in common; all the rest of a recipe may differ
SHARED = (
    "epochs", "batch", "loss", "optimiser", "decay", "decay_every", "milestones", "cosine",
    "augment", "precision",
)  # fmt: skip


def train_many(
    models: Sequence[nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipes: Recipe | Sequence[Recipe],
    *,
    seed: int,
    replaced: Sequence[Replaced | None] | None = None,
    lockstep: bool | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
) -> list[History]:
    """Train networks of one architecture in place: to what `train` makes of each, but faster.

    All networks see the same batches (and the same noise, scaled to each one's level, and the same
    dropout masks). They may differ in initial weights, in a few training samples, and in learning
    rate, weight decay, momentum, noise, clipping and stop_loss. In lock step their weights are
    stacked and each operation runs once for all of them; ReLU networks of linear layers have an
    implementation of their own, others go through `torch.func.vmap`. Networks with batch
    normalisation or augmentation, and those that differ in what is frozen (`requires_grad`), are
    trained one after the other.

    Args:
        models: modules of one architecture on the device of `inputs`.
        inputs: `(n, …)` floats, the training samples that the networks share.
        labels: `(n,)`, as in :func:`train`; shared by all.
        recipes: one for all, or one a network.
        seed: of all that is drawn; with it, a network becomes what `train(…, seed=seed)` makes of
            it on its own training set.
        replaced: for each network None, or `(rows, samples)`: the training samples `(m, …)` which
            it has in these rows `(m,)`, instead of those of `inputs`.
        lockstep: None leaves the choice to what is faster: always for networks of linear layers,
            on GPUs only for others.
        checkpoint, checkpoint_seconds, progress: as in :func:`train`.

    Returns:
        One `History` a network. A network whose loss becomes infinite or NaN ends there, with a
        warning that names it; the others go on.

    Raises:
        ValueError: networks of different architectures, recipes that differ in what is shared, rows
            outside the training set, lock step where it cannot be, and as :func:`train`.

    >>> from helpers import models
    >>> x = torch.eye(4)
    >>> nets = [models.fully_connected(4, (16,), 2, seed=s) for s in range(3)]
    >>> recipe = Recipe(epochs=100, batch=4, learning_rate=1e-2)
    >>> swapped = (torch.tensor([0, 1]), x[[1, 0]])
    >>> _ = train_many(nets, x, torch.tensor([0, 1, 0, 1]), recipe, seed=0,
    ...                replaced=[None, None, swapped])
    >>> [net(x).argmax(1).tolist() for net in nets]
    [[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]]
    """
    models = list(models)
    recipes = [recipes] * len(models) if isinstance(recipes, Recipe) else list(recipes)
    replaced = [None] * len(models) if replaced is None else list(replaced)
    _check(models, recipes, replaced, inputs)
    check_data(models[0], inputs, labels, recipes[0])
    how = precision.resolve(recipes[0].precision, inputs.device)
    recipes = [replace(recipe, precision=how) for recipe in recipes]
    why_not = obstacle(models, recipes[0])
    if lockstep is None:
        lockstep = why_not == "" and (is_mlp(models[0]) or inputs.device.type != "cpu")
    if lockstep and why_not:
        raise ValueError(f"lockstep is True, but {why_not}: leave it out, or say False")
    kept = Checkpoint(
        checkpoint,
        lambda: identity_of(
            __name__, models, recipes, inputs, labels, seed=seed, lockstep=lockstep,
            replaced=[digest(*own or ()) for own in replaced],
        ),
        checkpoint_seconds,
    )  # fmt: skip
    trainer = train_side_by_side if lockstep else _one_by_one
    return trainer(models, inputs, labels, recipes, replaced, seed, kept, progress)


def _one_by_one(
    models: list[nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipes: list[Recipe],
    replaced: list[Replaced | None],
    seed: int,
    kept: Checkpoint,
    progress: bool,
) -> list[History]:
    """The same by :func:`train`, one network after the other."""
    histories: list[History] = []
    if state := kept.load():
        histories = [History(*history) for history in state["histories"]]
        for model, weights in zip(models, state["models"], strict=False):
            model.load_state_dict(weights)
            model.eval()

    def state_now() -> dict[str, Any]:
        return {
            "models": [model.state_dict() for model in models[: len(histories)]],
            "histories": [(h.epochs, h.loss) for h in histories],
        }

    for k in range(len(histories), len(models)):
        own, part = inputs, kept.file.with_name(f"{kept.file.name}.{k}") if kept.file else None
        if replaced[k] is not None:
            rows, samples = replaced[k]
            own = inputs.clone()
            own[rows.to(inputs.device)] = samples.to(inputs)
        try:
            history = train(
                models[k], own, labels, recipes[k], seed=seed, checkpoint=part,
                checkpoint_seconds=kept.seconds, progress=progress,
            )  # fmt: skip
        except Diverged as error:
            warn_diverged(k, error)
            history = History(error.epoch, math.nan)
            models[k].eval()
            if part:
                part.unlink(missing_ok=True)
        histories.append(history)
        kept.save(state_now)
    kept.remove()
    return histories


def _check(
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
