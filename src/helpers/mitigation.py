r"""Against memorised minorities: a network contrasted with a pruned copy of itself, and baselines.

You et al. 2025 go on training a network whose worst group is bad. A mask drops a few weights, the
masked copy shares all others, and the loss asks that both say the same of a sample and different
things of different samples (NT-Xent), plus a small share of cross-entropy. What is contrasted are
the two softmax outputs: `free_outputs` shows what that asks for before any network comes in.
Images are as in :mod:`helpers.groups`, on the device of the network; networks have two logits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from helpers import tracing, training
from helpers.groups import Grouped

CHOICES = {
    "head": ("softmax", "logits"),
    "mask": ("magnitude", "gradient", "both", "random", "random filters", "none"),
    "gradient_unit": ("filter", "weight"),
    "features": ("outputs", "penultimate"),
    "statistics": ("shared", "separate"),
    "sampling": ("plain", "group-balanced"),
}
PROJECTION = 128  # width of what the projection head gives
Mask = dict[str, torch.Tensor]  # by the names of weights: True where one is kept
Evaluate = Callable[[nn.Module, int], dict[str, Any]]
Loss = Callable[[torch.Tensor, training.Randomness], torch.Tensor]  # rows of the training set


def nt_xent(u: torch.Tensor, v: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    r"""The normalised temperature-scaled cross-entropy of two views of a batch.

    With the rows :math:`z_1, \dots, z_{2B}` of u and v scaled to norm 1 and i' the twin of i,

    .. math:: \frac{1}{2B} \sum_i -\log \frac{e^{z_i \cdot z_{i'} / \tau}}
              {\sum_{j \ne i} e^{z_i \cdot z_j / \tau}}

    Args:
        u: `(B, d)`, at least two rows.
        v: `(B, d)`, row i is the twin of u's row i. Stopping gradients is left to the caller.
        temperature: :math:`\tau`.

    Raises:
        ValueError: shapes that differ or are no matrices, fewer than two rows, a temperature that
            is not positive.

    Source: Chen et al. 2020 (SimCLR), equation 1.

    >>> nt_xent(torch.eye(2), torch.eye(2))
    tensor(0.2395)
    """
    if u.ndim != 2 or u.shape != v.shape or len(u) < 2:
        raise ValueError(
            f"u has shape {tuple(u.shape)} and v {tuple(v.shape)}: expected the same (B, d) with "
            "at least 2 rows"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    z = functional.normalize(torch.cat([u, v]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, -math.inf)
    twin = torch.arange(len(z), device=z.device).roll(len(u))
    return functional.cross_entropy(similarity, twin)


# -- masks -----------------------------------------------------------------------------------------


def prunable(model: nn.Module) -> list[str]:
    """Names of the weights that masks may drop.

    All weights of convolutions; in a network with attention instead the matrices inside its blocks
    (queries, keys and values; projection; both layers of the perceptron), hence neither the patch
    embedding nor norms nor the head.

    Raises:
        ValueError: a network with neither.

    >>> prunable(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()))
    ['0.weight']
    """
    modules = dict(model.named_modules())
    blocks = tuple(
        name.rpartition(".")[0] + "."
        for name, module in modules.items()
        if isinstance(module, nn.MultiheadAttention)
    )
    weights = [(name, p) for name, p in model.named_parameters() if name.endswith("weight")]
    if blocks:
        return [name for name, p in weights if p.ndim == 2 and name.startswith(blocks)]
    names = [name for name, p in weights if p.ndim == 4]
    if not names:
        raise ValueError("the network has neither convolutions nor attention: nothing to prune")
    return names


def magnitude_mask(model: nn.Module, share: float) -> Mask:
    """Drop this share of the prunable weights: the smallest in absolute value, over all layers.

    Returns:
        For each prunable weight a tensor of its shape, True where it is kept. Exactly
        `round(share * n)` of n entries are False, also with ties.

    Raises:
        ValueError: a share that drops no weight, or all.
    """
    return _drop_lowest(model, {n: p.detach().abs() for n, p in _weights(model)}, share)


def gradient_mask(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    share: float,
    *,
    unit: str = "filter",
    head: str = "logits",
) -> Mask:
    """Drop what the mean cross-entropy of these samples has the largest gradients for.

    The network is in eval mode meanwhile; its own gradients are left alone.

    Args:
        model: two logits.
        images: `(n, …)`, the samples that go wrong (:func:`poorest`).
        labels: `(n,)`.
        share: of the filters, or of the weights.
        unit: `"filter"` takes whole filters by the norm of their gradient (rows of a matrix);
            `"weight"` takes single weights, as the release does for transformers.
        head: as in :class:`Contrast`.

    Returns:
        As :func:`magnitude_mask`. To have both masks, intersect them (`mask="both"` in
        :class:`Contrast`); the release keeps the second one only, an oversight.

    Raises:
        ValueError: an unknown unit or head, a share that drops nothing, or all.
    """
    _check_choices(gradient_unit=unit, head=head)
    weights = dict(_weights(model))
    with training.eval_mode(model):
        loss = label_loss(model(images), labels, head)
        gradients = torch.autograd.grad(loss, list(weights.values()))
    size = _row_norms if unit == "filter" else torch.abs
    return _drop_lowest(
        model, {name: -size(g) for name, g in zip(weights, gradients, strict=True)}, share
    )


def random_mask(model: nn.Module, share: float, seed: int, *, unit: str = "weight") -> Mask:
    """Drop as many weights as :func:`magnitude_mask`, at random, or filters (`unit="filter"`).

    Raises:
        ValueError: as :func:`gradient_mask`.
    """
    _check_choices(gradient_unit=unit)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.rand(p.shape[:1] if unit == "filter" else p.shape, generator=generator)
        for name, p in _weights(model)
    }
    return _drop_lowest(model, scores, share)


def poorest(
    model: nn.Module, train: Grouped, n: int = 200, *, as_released: bool = False
) -> Grouped:
    """The n samples with the largest cross-entropy, worst first (all of them if there are fewer).

    The released code sorts the wrong way and takes the n that are fitted best: `as_released`.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: at least 1 sample is needed")
    order = tracing.hardest(model, train.images, train.label, n=len(train))
    return train.rows((order.flip(0) if as_released else order)[:n])


def pruned_outputs(
    model: nn.Module,
    mask: Mask,
    images: torch.Tensor,
    statistics: dict[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """What the network says without the weights that the mask drops; gradients reach the others.

    Args:
        model: in train mode, its batch normalisation takes the batch's mean and variance, and its
            running statistics move with them.
        mask: as :func:`magnitude_mask` returns it; `{}` keeps everything.
        images: `(n, …)`.
        statistics: running statistics of the pruned network's own, by the names of the buffers
            (:func:`own_statistics`); these move instead, in place.
    """
    weights = dict(model.named_parameters())
    masked = {name: weights[name] * kept for name, kept in mask.items()}
    return torch.func.functional_call(model, masked | (statistics or {}), (images,))


def own_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all buffers of the network, for :func:`pruned_outputs`."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, model.get_parameter(name)) for name in prunable(model))


def _row_norms(weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(1).norm(dim=1)


def _drop_lowest(model: nn.Module, scores: dict[str, torch.Tensor], share: float) -> Mask:
    """Scores have the shape of their weight, or one entry a row, which is then dropped whole."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    count = round(share * len(flat)) if math.isfinite(share) else 0
    if not 0 < count < len(flat):
        raise ValueError(
            f"share is {share}: of {len(flat):,} that may be dropped, at least 1 must be and at "
            "least 1 must stay"
        )
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[flat.topk(count, largest=False).indices] = False
    mask = {}
    for (name, weight), part in zip(
        _weights(model), kept.split([score.numel() for score in scores.values()]), strict=True
    ):
        whole = part.view(scores[name].shape + (1,) * (weight.ndim - scores[name].ndim))
        mask[name] = whole.expand(weight.shape).to(weight.device)
    return mask


# -- training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrast:
    """How to fine-tune; the defaults are those of the released code.

    Attributes:
        epochs: passes over the training set; each starts with a new mask from the weights of then.
        batch: samples a step, at least 2 (a last batch of a single sample is left out).
        learning_rate: of Adam at the start; times `factor` when the sum of an epoch's losses has
            not fallen for more than `patience` epochs.
        temperature: of :func:`nt_xent`.
        contrast_weight: factor on the contrast; 0 is the continuation without any (no second
            branch, no mask).
        label_weight: factor on the cross-entropy, lambda.
        head: `"softmax"` takes the cross-entropy of the softmax outputs as if they were logits
            (a softmax twice, as released), `"logits"` the usual one.
        mask: what the pruned branch lacks: `"magnitude"`, `"gradient"` (on the 200
            :func:`poorest` samples), `"both"` (what either drops), `"random"` (single weights),
            `"random filters"`, or `"none"`.
        share: of the weights or filters that a mask drops.
        gradient_unit: `"filter"` or `"weight"`, see :func:`gradient_mask`.
        poorest_as_released: see :func:`poorest`.
        features: what is contrasted: the softmax `"outputs"` on one view of each image (as
            released), or `"penultimate"` features behind a projection head of two layers, on two
            views drawn independently (as SimCLR and SDCLR do; the head is trained along).
        statistics: running statistics of batch normalisation: `"shared"`, where both branches
            move them (as released, where a third pass without gradients moves them once more), or
            `"separate"` for the pruned branch (as SDCLR, which also separates scale and shift).
        augment: random crops and flips (:func:`helpers.training.crop_and_flip`).
        class_weights: weigh classes in the cross-entropy by the inverse of their frequency.
        sampling: `"plain"`, or `"group-balanced"`: each sample is drawn, with replacement, with a
            probability inverse to the size of its group.
        weight_decay: of Adam.

    Raises:
        ValueError: numbers out of range, unknown names.

    Source: You et al. 2025, released code; SDCLR is Jiang et al. 2021.
    """

    epochs: int = 21
    batch: int = 100
    learning_rate: float = 2e-4
    patience: int = 1
    factor: float = 0.5
    temperature: float = 0.5
    contrast_weight: float = 1.0
    label_weight: float = 0.2
    head: str = "softmax"
    mask: str = "magnitude"
    share: float = 0.01
    gradient_unit: str = "filter"
    poorest_as_released: bool = False
    features: str = "outputs"
    statistics: str = "shared"
    augment: bool = True
    class_weights: bool = False
    sampling: str = "plain"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 2), ("patience", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("factor", "share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: allowed is between 0 and 1")
        for name in ("contrast_weight", "label_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.contrast_weight == self.label_weight == 0:
            raise ValueError("contrast_weight and label_weight are both 0: nothing is minimised")
        _check_choices(**{name: getattr(self, name) for name in CHOICES})


class Tuned(NamedTuple):
    """The trained copy, and one row an epoch: epoch (from 1), summed loss, what `evaluate` gave."""

    model: nn.Module
    rows: list[dict[str, Any]]


def finetune(
    model: nn.Module, train: Grouped, recipe: Contrast, *, seed: int, evaluate: Evaluate
) -> Tuned:
    r"""Go on training a copy of the network, in contrast to a pruned copy that shares its weights.

    With softmax outputs u of the network and v of its pruned copy, and sg no gradient, a step's
    loss is

    .. math:: w_c [\mathrm{NTX}(\mathrm{sg}\, u, v) + \mathrm{NTX}(u, \mathrm{sg}\, v)]
              + \lambda\, \mathrm{CE}(u, y)

    Args:
        model: two logits; it stays as it is.
        train: float images on its device.
        recipe: see :class:`Contrast`.
        seed: of the order, views, random masks, the projection head and dropout.
        evaluate: called as `evaluate(copy, epoch)` after each epoch, in eval mode. Groups take no
            part in the loss: choosing an epoch by groups is the caller's doing.

    Raises:
        ValueError: images that are no floats, labels other than 0 and 1, an empty class or group
            that is to be balanced, a network that does not end in a linear layer with two outputs.
        training.Diverged: the loss of an epoch is not finite.
    """
    net = _copy(model, train)
    weight = _class_weights(train.label).to(train.images.dtype) if recipe.class_weights else None
    parameters, project = list(net.parameters()), nn.Identity()
    if recipe.features == "penultimate":
        project = _projection(last_linear(net).in_features, seed).to(train.images.device)
        parameters += project.parameters()
    statistics = own_statistics(net) if recipe.statistics == "separate" else None

    def contrasted(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1) if recipe.features == "outputs" else project(features)

    def objective(epoch: int) -> Loss:
        mask = _mask(net, train, recipe, seed, epoch) if recipe.contrast_weight else {}

        def loss(rows: torch.Tensor, draw: training.Randomness) -> torch.Tensor:
            shown = twin = _view(train.images[rows], recipe, draw)
            if not recipe.contrast_weight:
                return recipe.label_weight * label_loss(
                    net(shown), train.label[rows], recipe.head, weight
                )
            if recipe.features == "penultimate":
                twin = _view(train.images[rows], recipe, draw)
            with _tapped(net) as seen:
                # first, so that the whole network is the last to move shared statistics
                pruned = pruned_outputs(net, mask, twin, statistics)
                logits = net(shown)
            v, u = (contrasted(*pair) for pair in zip((pruned, logits), seen, strict=True))
            contrast = nt_xent(u.detach(), v, recipe.temperature)
            contrast = contrast + nt_xent(u, v.detach(), recipe.temperature)
            told = label_loss(logits, train.label[rows], recipe.head, weight)
            return recipe.contrast_weight * contrast + recipe.label_weight * told

        return loss

    return _fit(net, train, recipe, seed, evaluate, objective, parameters)


def group_dro(
    model: nn.Module,
    train: Grouped,
    recipe: Contrast,
    *,
    step_size: float = 0.01,
    seed: int,
    evaluate: Evaluate,
) -> Tuned:
    r"""Group distributionally robust training of a copy: groups with large losses count more.

    In each step the weights of the groups become :math:`q_g \propto q_g e^{\eta L_g}` with the mean
    losses :math:`L_g` in the batch (0 for a group that is not in it), and :math:`\sum_g q_g L_g` is
    minimised. Batches are drawn group-balanced.

    Args:
        model, train, seed, evaluate: as in :func:`finetune`.
        recipe: epochs, batch, rates, decay, head and augmentation; all about contrast, labels'
            weights and sampling plays no part.
        step_size: :math:`\eta`.

    Returns:
        As :func:`finetune`; rows have `weight_0` to `weight_3`, the groups' weights, too.

    Raises:
        ValueError, training.Diverged: as in :func:`finetune`; an empty group; a negative step size.

    Source: Sagawa et al. 2020, algorithm 1, without adjustment for the size of groups.
    """
    if not 0 <= step_size < math.inf:
        raise ValueError(f"step_size is {step_size}: it must be 0 or more")
    net, group = _copy(model, train), train.group
    weights = train.images.new_full((4,), 0.25)

    def loss(rows: torch.Tensor, draw: training.Randomness) -> torch.Tensor:
        logits = net(_view(train.images[rows], recipe, draw))
        each = label_loss(logits, train.label[rows], recipe.head, reduction="none")
        member = functional.one_hot(group[rows], 4).to(each.dtype)
        means = each @ member / member.sum(0).clamp(min=1)
        weights.copy_(functional.softmax(weights.log() + step_size * means.detach(), 0))
        return weights @ means

    def watched(net: nn.Module, epoch: int) -> dict[str, Any]:
        return {f"weight_{g}": float(q) for g, q in enumerate(weights)} | evaluate(net, epoch)

    balanced = replace(recipe, sampling="group-balanced")
    return _fit(net, train, balanced, seed, watched, lambda epoch: loss, list(net.parameters()))


def label_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    head: str,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Cross-entropy of logits `(n, 2)`, or of their softmax taken for logits (`head="softmax"`).

    The latter stays between log(1 + 1/e) = 0.313 and log(1 + e) = 1.313 for each sample.
    """
    _check_choices(head=head)
    shown = logits.softmax(1) if head == "softmax" else logits
    return functional.cross_entropy(shown, labels, weight=weight, reduction=reduction)


def _fit(
    net: nn.Module,
    train: Grouped,
    recipe: Contrast,
    seed: int,
    evaluate: Evaluate,
    objective: Callable[[int], Loss],
    parameters: Iterable[nn.Parameter],
) -> Tuned:
    """`objective(epoch)` is called before an epoch and gives the loss of its batches."""
    optimiser = torch.optim.Adam(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=recipe.factor, patience=recipe.patience
    )
    device, rows = train.images.device, []
    order = torch.Generator().manual_seed(seed)
    shares = _balanced(train.group.cpu()) if recipe.sampling == "group-balanced" else None
    with training.randomness(seed, device) as draw:
        for epoch in range(1, recipe.epochs + 1):
            loss_of = objective(epoch)
            net.train()
            total = torch.zeros((), dtype=torch.float64, device=device)
            for chosen in _order(len(train), shares, order).to(device).split(recipe.batch):
                if len(chosen) == 1:
                    continue  # nothing to contrast, and no variance to normalise by
                loss = loss_of(chosen, draw)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach()
            summed = float(total)
            if not math.isfinite(summed):
                raise training.Diverged(summed, epoch, recipe)
            schedule.step(summed)
            net.eval()
            rows.append({"epoch": epoch, "loss": summed} | evaluate(net, epoch))
    return Tuned(net, rows)


def _mask(net: nn.Module, train: Grouped, recipe: Contrast, seed: int, epoch: int) -> Mask:
    masks = []
    if recipe.mask in ("magnitude", "both"):
        masks.append(magnitude_mask(net, recipe.share))
    if recipe.mask in ("gradient", "both"):
        worst = poorest(net, train, as_released=recipe.poorest_as_released)
        masks.append(gradient_mask(
            net, worst.images, worst.label, recipe.share, unit=recipe.gradient_unit,
            head=recipe.head,
        ))  # fmt: skip
    if recipe.mask.startswith("random"):
        unit = "filter" if recipe.mask == "random filters" else "weight"
        masks.append(random_mask(net, recipe.share, _seeds((seed, epoch), 1)[0], unit=unit))
    names = prunable(net) if masks else []
    return {name: torch.stack([mask[name] for mask in masks]).all(0) for name in names}


def _order(samples: int, shares: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    if shares is None:
        return torch.randperm(samples, generator=generator)
    return torch.multinomial(shares, samples, replacement=True, generator=generator)


def _balanced(group: torch.Tensor) -> torch.Tensor:
    """`(n,)`: each sample's weight in a draw where every group is as likely as any other."""
    counts = group.bincount(minlength=4)
    if not bool(counts.all()):
        raise ValueError(f"the groups have {counts.tolist()} samples: none may be empty")
    return 1 / counts[group].double()


def _class_weights(label: torch.Tensor) -> torch.Tensor:
    counts = label.bincount(minlength=2)
    if not bool(counts.all()):
        raise ValueError(f"the classes have {counts.tolist()} samples: none may be empty")
    return len(label) / (2 * counts.double())


def _view(images: torch.Tensor, recipe: Contrast, draw: training.Randomness) -> torch.Tensor:
    return training.crop_and_flip(images, draw.inputs) if recipe.augment else images


def _projection(features: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, PROJECTION)
        )


def _copy(model: nn.Module, train: Grouped) -> nn.Module:
    images, label = train.images, train.label
    if len(train) < 2 or not images.is_floating_point() or not bool(((label | 1) == 1).all()):
        raise ValueError(
            f"{len(train)} images are {images.dtype} and labels {label.unique().tolist()}: "
            "expected at least 2 images, floats, and labels 0 and 1"
        )
    if (outputs := last_linear(model).out_features) != 2:
        raise ValueError(f"the network has {outputs} outputs: 2 are needed")
    net = copy.deepcopy(model)
    # convolutions are a quarter faster so on CPUs
    return net.to(memory_format=torch.channels_last) if images.ndim == 4 else net


def _check_choices(**settings: str) -> None:
    for name, value in settings.items():
        if value not in CHOICES[name]:
            raise ValueError(
                f"{name} is {value!r}: allowed are {', '.join(map(repr, CHOICES[name]))}"
            )


def _seeds(entropy: int | Sequence[int], count: int) -> list[int]:
    return np.random.SeedSequence(entropy).generate_state(count).tolist()


# -- the last layer --------------------------------------------------------------------------------


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear layer that the network ends with.

    Raises:
        ValueError: it ends with something else.
    """
    last = [module for module in model.modules() if not any(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"the network ends with {type(last).__name__}: a Linear is needed")
    return last


def penultimate(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """`(n, d)`: what reaches the last linear layer, in eval mode and without gradients.

    Raises:
        ValueError: as :func:`last_linear`.
    """
    with _tapped(model) as seen:
        training.predict(model, images)
    return torch.cat(seen)


@contextmanager
def _tapped(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Inside, what reaches the last linear layer is appended to the list at each call."""
    seen: list[torch.Tensor] = []
    hook = last_linear(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()


def last_layer_retraining(
    model: nn.Module,
    validation: Grouped,
    *,
    seed: int,
    draws: int = 10,
    strength: float | Sequence[float] = 1.0,
) -> nn.Module:
    """A copy of the network with a last layer refitted on as many samples of every group.

    Deep feature reweighting: logistic regressions on the standardised penultimate features of
    `draws` samples of the validation set, each with as many of every group as the smallest group
    has, and the mean of their coefficients. Features are standardised by the validation set
    and the penalty is quadratic; the reference has the training set, and absolute values on
    Waterbirds.

    Args:
        model: two logits.
        validation: data that the network has not fitted, on its device.
        seed: of the draws.
        draws: how many.
        strength: C of :class:`sklearn.linear_model.LogisticRegression`, the inverse of the penalty;
            of several, the one that serves the worst group best when fitted on one half of the
            validation set and measured on the other.

    Raises:
        ValueError: an empty group, no draw, a strength that is not positive, or a network that does
            not end in a linear layer with two outputs.

    Source: Kirichenko et al. 2023.
    """
    strengths = [strength] if isinstance(strength, (int, float)) else list(strength)
    if draws < 1 or not strengths or not all(0 < c < math.inf for c in strengths):
        raise ValueError(f"draws is {draws}, strength is {strength}: both must be above 0")
    net = _copy(model, validation)
    features = penultimate(net, validation.images).cpu().double()
    scaler = StandardScaler().fit(features.numpy())
    sample = Grouped(
        torch.from_numpy(scaler.transform(features.numpy())),
        validation.label.cpu(), validation.attribute.cpu(), validation.source,
    )  # fmt: skip
    _balanced(sample.group)  # refuses empty groups
    split, *seeds = _seeds(seed, 1 + draws)
    best = strengths[0] if len(strengths) == 1 else _strength(sample, strengths, split)
    fits = [_balanced_fit(sample, best, each) for each in seeds]
    slope = np.mean([fit.coef_[0] for fit in fits], axis=0) / scaler.scale_
    offset = np.mean([fit.intercept_[0] for fit in fits]) - slope @ scaler.mean_
    last = last_linear(net)
    signs = torch.tensor([-0.5, 0.5], dtype=torch.float64)  # their difference is the log-odds
    with torch.no_grad():
        last.weight.copy_(signs[:, None] * torch.from_numpy(slope))
        if last.bias is None:
            last.bias = nn.Parameter(last.weight.new_zeros(2))
        last.bias.copy_(signs * offset)
    return net.eval()


def _balanced_fit(sample: Grouped, strength: float, seed: int) -> LogisticRegression:
    drawn = sample.draw((min(sample.counts()),) * 4, seed=seed)
    return LogisticRegression(C=strength, max_iter=2_000).fit(
        drawn.images.numpy(), drawn.label.numpy()
    )


def _strength(sample: Grouped, strengths: Sequence[float], seed: int) -> float:
    """The first of the strengths with the best worst-group accuracy on the half not fitted."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.zeros(len(sample), dtype=torch.bool)
    for group in range(4):
        members = (sample.group == group).nonzero().flatten()
        half[members[torch.randperm(len(members), generator=generator)[: len(members) // 2]]] = True
    fitted, measured = sample.rows(half), sample.rows(~half)
    _balanced(fitted.group)  # a group of one sample cannot be halved

    def worst(strength: float) -> float:
        said = _balanced_fit(fitted, strength, seed).predict(measured.images.numpy())
        right = torch.from_numpy(said == measured.label.numpy()).double()
        return min(float(right[measured.group == group].mean()) for group in range(4))

    return max(strengths, key=worst)


# -- what the loss asks for ------------------------------------------------------------------------


class FreeOutputs(NamedTuple):
    """Where free outputs end: NT-Xent, share of answers 1, accuracy by class, mean confidence."""

    contrast: float
    share: float
    accuracy: tuple[float, float]
    confidence: float


def free_outputs(
    labels: torch.Tensor,
    temperature: float = 0.5,
    contrast_weight: float = 1.0,
    label_weight: float = 0.2,
    head: str = "softmax",
    *,
    seed: int,
    steps: int = 1_000,
    spread: float = 1.0,
    lean: float = 0.0,
) -> FreeOutputs:
    r"""Minimise the loss of :func:`finetune` over the logits of a batch, with no network behind.

    Both branches give the same outputs u, as with a mask that changes little. What Adam (rate 0.1)
    follows is the gradient of :math:`w_c \mathrm{NTX}(u, u) + \lambda \mathrm{CE}(u, y)`, the one
    that the released loss has at v = u. (Its value is 2 NTX there; the stopped gradients halve the
    slope.) There are many local minima, so that where it ends depends on where it starts.

    Args:
        labels: `(n,)` 0 or 1, both present.
        temperature, contrast_weight, label_weight, head: as in :class:`Contrast`; without labels
            `label_weight` is 0.
        seed: of the first logits.
        steps: of Adam.
        spread: standard deviation of the first logits.
        lean: how much the label's logit is above the other's at first, in the mean: 0 is a start
            that knows nothing of the labels, 6 resembles a network that has fitted them.

    Raises:
        ValueError: a class that is missing, a spread or number of steps that is not positive, and
            as in :class:`Contrast`.

    Source: own analysis of the loss of You et al. 2025.

    >>> labels = (torch.arange(100) >= 77).long()
    >>> free_outputs(labels, label_weight=1.0, seed=0).accuracy  # of 77 and of 23 labels
    (0.8, 1.0)
    """
    Contrast(
        temperature=temperature, contrast_weight=contrast_weight, label_weight=label_weight,
        head=head,
    )  # fmt: skip
    if steps < 1 or not spread > 0:
        raise ValueError(f"steps is {steps}, spread is {spread}: both must be above 0")
    _class_weights(labels)  # refuses a missing class
    generator = torch.Generator().manual_seed(seed)
    labels = labels.cpu()
    logits = spread * torch.randn(len(labels), 2, generator=generator)
    logits = (logits + lean * functional.one_hot(labels, 2)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(steps):
        u = logits.softmax(1)
        loss = contrast_weight * nt_xent(u, u, temperature)
        loss = loss + label_weight * label_loss(logits, labels, head)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    u = logits.detach().softmax(1)
    said = u.argmax(1)
    return FreeOutputs(
        float(nt_xent(u, u, temperature)),
        float(said.double().mean()),
        tuple(float((said == labels)[labels == y].double().mean()) for y in (0, 1)),
        float(u.max(1).values.mean()),
    )
