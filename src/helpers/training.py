"""Trainers: one network (`train`), or many of one architecture side by side (`train_many`).

What the papers' scripts spend their time on besides arithmetic (loaders, workers, copies to the
device, a synchronisation a step) is not there: the inputs live on the device, an epoch is one
permutation and a few slices, and the loss is read once an epoch. Both are resumable, end at
interpolation if asked to, and take every number that a network draws from one seed.
"""

from __future__ import annotations

import copy
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers import losses

MARGIN_LOSSES = ("logistic", "sd", "marg_log")
LOSSES = ("cross_entropy", "mse", *MARGIN_LOSSES)
OPTIMISERS = ("adam", "sgd")
Replaced = tuple[torch.Tensor, torch.Tensor]  # rows of the training set, their new inputs


class Diverged(FloatingPointError):
    """The training loss is no finite number any more; the message says since when."""

    def __init__(self, loss: float, epoch: int, recipe: Recipe) -> None:
        self.epoch = epoch
        super().__init__(
            f"the training loss is {loss} in epoch {epoch} of {recipe.epochs}: lower the learning "
            f"rate ({recipe.learning_rate:g}) or rescale the inputs"
        )


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: largest number of passes over the data.
        batch: samples a step.
        loss: `"cross_entropy"` with class indices, `"mse"` with one real label a sample, or with
            labels -1 and +1 `"logistic"`, `"sd"` or `"marg_log"` of :mod:`helpers.losses`, the
            latter two with their `loss_strength`.
        optimiser: `"adam"`, or `"sgd"` with `momentum`.
        learning_rate: at the start.
        weight_decay: coefficient of the coupled decay (`torch.optim.Adam`, `torch.optim.SGD`).
        momentum: of SGD.
        decay: factor on the learning rate, after every `decay_every` epochs (0: never) or after
            each of the `milestones`.
        noise: standard deviation of Gaussian noise that is added to the inputs, drawn anew in every
            step; nothing is clipped.
        clip_value, clip_norm: largest absolute entry, and largest norm over all parameters, of the
            gradient of a step.
        cosine: the learning rate falls to 0 along half a cosine, epoch by epoch (no `decay`).
        augment: crop images at random out of a frame of 4 zeros, and mirror every second one.
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
    optimiser: str = "adam"
    momentum: float = 0.0
    milestones: tuple[int, ...] = ()
    noise: float = 0.0
    clip_value: float = math.inf
    clip_norm: float = math.inf
    augment: bool = False
    cosine: bool = False
    loss_strength: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(
                f"epochs is {self.epochs}, batch is {self.batch}: both must be at least 1"
            )
        for name, value, allowed in (
            ("loss", self.loss, LOSSES),
            ("optimiser", self.optimiser, OPTIMISERS),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name} is {value!r}: allowed are {', '.join(map(repr, allowed))}"
                )
        for name in ("learning_rate", "decay", "clip_value", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("weight_decay", "stop_loss", "momentum", "noise", "decay_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(f"momentum is {self.momentum}: only 'sgd' has it")
        if self.loss in MARGIN_LOSSES:
            losses.named(self.loss, self.loss_strength)  # refuses a strength that does not fit
        elif self.loss_strength:
            raise ValueError(
                f"loss_strength is {self.loss_strength}: the loss {self.loss!r} has none, give 0"
            )
        if self.decay_every and self.milestones:
            raise ValueError(
                f"decay_every is {self.decay_every} and milestones is {self.milestones}: give one"
            )
        if self.cosine and (self.decay_every or self.milestones):
            raise ValueError("cosine is True: it goes with neither decay_every nor milestones")

    def rate(self, epoch: int) -> float:
        """The learning rate in this epoch (the first is 0).

        >>> recipe = Recipe(epochs=9, batch=1, learning_rate=1.0, decay=0.5, milestones=(2, 4))
        >>> [recipe.rate(epoch) for epoch in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
        """
        if self.cosine:
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        drops = sum(epoch >= milestone for milestone in self.milestones)
        if self.decay_every:
            drops = epoch // self.decay_every
        return self.learning_rate * self.decay**drops


@dataclass(frozen=True)
class History:
    """What a training did: epochs run, and the mean loss during the last of them.

    The loss of a network that diverged inside `train_many` is infinite or NaN.
    """

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
    after_epoch: Callable[[int], None] | None = None,
) -> History:
    """Train `model` in place, and leave it in eval mode.

    Args:
        model: a module on the device of `inputs`.
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
        ValueError: data that no network can be trained on, `after_epoch` with a checkpoint, or a
            checkpoint of another run.
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
    if after_epoch and checkpoint:
        raise ValueError("after_epoch and checkpoint are both given: a resumed run skips epochs")
    if inputs.ndim == 4:
        # convolutions are a quarter faster on CPUs, and no slower elsewhere
        model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimiser = make_optimiser(recipe, [{"params": list(model.parameters())}])
    identity = asdict(recipe) | {"seed": seed, "samples": len(inputs)}
    kept = Checkpoint(checkpoint, identity, checkpoint_seconds)
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
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate(epoch)
                loss = _one_epoch(model, inputs, labels, recipe, optimiser, draw)
                epoch += 1
                if not math.isfinite(loss):
                    raise Diverged(loss, epoch, recipe)
                kept.save(state_now)
                if after_epoch:
                    after_epoch(epoch)
                bar.update()
    kept.remove()
    model.eval()
    return History(epoch, loss)


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
    normalisation or augmentation are trained one after the other.

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
            outside the training set, data that no network can be trained on, a checkpoint of
            another run, or lock step where it cannot be.

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
    from helpers import lockstep as together

    models = list(models)
    recipes = [recipes] * len(models) if isinstance(recipes, Recipe) else list(recipes)
    replaced = [None] * len(models) if replaced is None else list(replaced)
    together.check(models, recipes, replaced, inputs)
    _check_data(inputs, labels, recipes[0])
    possible = together.possible(models[0], recipes[0])
    if lockstep is None:
        lockstep = possible == "" and (together.is_mlp(models[0]) or inputs.device.type != "cpu")
    if lockstep and possible:
        raise ValueError(f"lockstep is True, but {possible}: leave it out, or say False")
    identity = {
        "networks": [asdict(recipe) for recipe in recipes],
        "seed": seed,
        "samples": len(inputs),
        "replaced": [together.digest(own) for own in replaced],
        "lockstep": lockstep,
    }
    kept = Checkpoint(checkpoint, identity, checkpoint_seconds)
    trainer = together.train if lockstep else _one_by_one
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
        own, part = inputs, kept.file.with_suffix(f".{k}.pt") if kept.file else None
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
            warn_diverged(k, str(error))
            history = History(error.epoch, math.nan)
            models[k].eval()
            if part:
                part.unlink(missing_ok=True)
        histories.append(history)
        kept.save(state_now)
    kept.remove()
    return histories


def predict(model: nn.Module, inputs: torch.Tensor, *, batch: int = 1_000) -> torch.Tensor:
    """Outputs `(n, …)` of the model in eval mode, without gradients; its modes are put back.

    >>> predict(torch.nn.Identity(), torch.ones(3, 2), batch=2).shape
    torch.Size([3, 2])
    """
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(part) for part in inputs.split(batch)])


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def crop_and_flip(images: torch.Tensor, generator: torch.Generator, pad: int = 4) -> torch.Tensor:
    """Random crops `(n, c, h, w)` out of images in a frame of `pad` zeros, half of them mirrored.

    >>> crop_and_flip(torch.ones(3, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([3, 1, 8, 8])
    """
    n, _, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * pad + 1, (2, n), generator=generator, device=device)
    mirrored = torch.rand(n, generator=generator, device=device) < 0.5
    framed = nn.functional.pad(images, (pad,) * 4)
    windows = framed.unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(n, device=device), :, top, left]
    return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)


def _one_epoch(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    draw: Randomness,
) -> float:
    """One pass over the samples in a new order; returns the mean loss on the way."""
    model.train()
    parameters = list(model.parameters())
    total = inputs.new_zeros((), dtype=torch.float64)
    for chosen in draw.order(len(inputs)).to(inputs.device).split(recipe.batch):
        shown, wanted = inputs[chosen], labels[chosen]
        if recipe.augment:
            shown = crop_and_flip(shown, draw.inputs)
        if recipe.noise:
            shown = shown + recipe.noise * draw.normal(shown)
        loss = _loss(recipe, model(shown), wanted)
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
    return losses.named(recipe.loss, recipe.loss_strength).value(wanted * outputs).mean()


def make_optimiser(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The recipe's optimiser; groups of parameters may have settings of their own."""
    common = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, **common)
    return torch.optim.Adam(groups, **common)


class Randomness:
    """All that a training draws: the order of samples, noise and crops, masks of dropout."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._order = torch.Generator().manual_seed(seed)
        self.inputs = torch.Generator(device).manual_seed(seed)

    def order(self, samples: int) -> torch.Tensor:
        """A permutation of the samples, on the CPU so that every device has the same."""
        return torch.randperm(samples, generator=self._order)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(like.shape, generator=self.inputs, device=like.device, dtype=like.dtype)

    def state(self) -> dict[str, torch.Tensor]:
        state = {
            "order": self._order.get_state(),
            "inputs": self.inputs.get_state(),
            "cpu": torch.get_rng_state(),
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._order.set_state(state["order"])
        self.inputs.set_state(state["inputs"])
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)


@contextmanager
def randomness(seed: int, device: torch.device) -> Iterator[Randomness]:
    """Seeds torch's global state too (dropout draws from it), and puts it back afterwards.

    Inside, numbers too small for a normal float count as zero in this thread (and in threads that
    it starts). Networks that fit their training set have gradients full of them, and processors
    take several times as long over each.
    """
    devices = [device] if device.type == "cuda" else []
    flushed_before = not float(torch.tensor(1e-39) * 0.5)
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)
        try:
            yield Randomness(seed, device)
        finally:
            torch.set_flush_denormal(flushed_before)


def warn_diverged(network: int, why: str) -> None:
    """Say which of many networks has ended, and go on."""
    warnings.warn(f"network {network} ends here: {why}", RuntimeWarning, stacklevel=3)


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
    if recipe.loss != "cross_entropy":
        if labels.dtype != inputs.dtype or not torch.isfinite(labels).all():
            raise ValueError(f"labels of dtype {labels.dtype} must be finite and {inputs.dtype}")
        if recipe.loss in MARGIN_LOSSES:
            losses.check_labels(labels, (len(inputs),))
    elif labels.dtype != torch.int64 or labels.min() < 0:
        raise ValueError(f"labels of dtype {labels.dtype} must be int64 class indices from 0 on")


# -- checkpoints ----------------------------------------------------------------------------------


def save_whole(content: Any, file: Path) -> None:
    """`torch.save` at once or not at all, whoever else writes the same file; makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    torch.save(content, part)
    os.replace(part, file)


class Checkpoint:
    """A file with the state of a training, from which an interrupted one goes on.

    Args:
        file: where (None: nothing is kept).
        identity: what tells this training from others.
        seconds: how long a state may be out of date.
    """

    def __init__(self, file: Path | str | None, identity: dict[str, Any], seconds: float) -> None:
        self.file = Path(file) if file else None
        self.seconds, self._identity, self._saved = seconds, identity, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state in the file, if there is one.

        Raises:
            ValueError: it belongs to another training.
        """
        if self.file is None or not self.file.exists():
            return None
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        if state["identity"] != self._identity:
            raise ValueError(
                f"the checkpoint {self.file} belongs to another training ({state['identity']}, "
                f"asked for {self._identity}): delete it, or name another file"
            )
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if it is time, at once or not at all."""
        if self.file is None or time.monotonic() - self._saved < self.seconds:
            return
        save_whole({"identity": self._identity} | state(), self.file)
        self._saved = time.monotonic()

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def progress_bar(total: int, done: int, progress: bool) -> Any:
    """A bar over epochs; BOOK_PROGRESS=0 hides it."""
    from tqdm import tqdm

    wanted = progress and os.environ.get("BOOK_PROGRESS") != "0"
    return tqdm(desc="epochs", total=total, initial=done, disable=not wanted)
