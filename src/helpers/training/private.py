"""Differentially private training: clip the gradient of each example, add noise to their sum.

Clipping the gradient of a batch bounds how far one step goes; clipping that of every example before
they are summed bounds how much *one example* can do to the step, and with noise of that size on top
the trained network can be shown to depend little on any one example. Source: Abadi et al. 2016,
"Deep learning with differential privacy", algorithm 1.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from helpers.errors import check_whole
from helpers.training.randomness import randomness
from helpers.training.recipe import (
    History,
    Recipe,
    check_basic,
    check_data,
    diverged,
    learned,
    make_optimiser,
    set_rate,
)
from helpers.training.stacked import is_mlp

_ORDERS = (*range(2, 65), 128, 256, 512)  # integers: their divergence is a finite sum


class Clipped(NamedTuple):
    """Sum over examples of their clipped gradients, and what the examples were like before.

    `gradients` has one tensor for each parameter that is not frozen, in the order of the model;
    `norms`, over the same parameters, and `losses` are `(b,)`, of the examples one by one.
    """

    gradients: list[torch.Tensor]
    norms: torch.Tensor
    losses: torch.Tensor


def clipped_gradients(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, clip: float
) -> Clipped:
    r"""Sum over examples of :math:`\min(1, C / \lVert g_i \rVert) \, g_i`, of the cross-entropy.

    Perceptrons (:func:`.stacked.is_mlp`) need no gradient of one example alone: in a linear
    layer it is an outer product, whose norm is the product of the norms of its two factors. Other
    networks go through `torch.func`.

    Args:
        model: outputs logits, and treats the examples of a batch one by one.
        inputs: `(b, …)`.
        labels: `(b,)` int64.
        clip: the norm C.

    Raises:
        ValueError: clip not above 0, labels that are no classes, no parameter that may move, or
            batch normalisation, which mixes the examples.

    Source: Abadi et al. 2016, algorithm 1; Goodfellow 2015, arXiv 1510.01799, for the norms.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=True))
    >>> found = clipped_gradients(net, torch.ones(3, 2), torch.tensor([0, 1, 0]), clip=0.1)
    >>> found.norms.shape, [tuple(g.shape) for g in found.gradients]
    (torch.Size([3]), [(2, 2), (2,)])
    """
    if not clip > 0:
        raise ValueError(f"clip is {clip}: it must be above 0")
    if labels.shape != inputs.shape[:1] or labels.dtype != torch.int64 or bool((labels < 0).any()):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and {labels.dtype} for {len(inputs)} inputs: "
            "expected one class each, int64, from 0 on"
        )
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise ValueError(
            "model has batch normalisation: its examples have no gradients of their own"
        )
    parameters = {name: p.detach() for name, p in learned(model).items()}
    if not len(inputs):
        none = inputs.new_zeros(0)
        return Clipped([torch.zeros_like(p) for p in parameters.values()], none, none)
    if is_mlp(model) and len(parameters) == len(list(model.parameters())):
        return _by_layer(model, inputs, labels, clip)
    return _by_example(model, parameters, inputs, labels, clip)


def _weights(norms: torch.Tensor, clip: float) -> torch.Tensor:
    return (clip / norms).clamp(max=1)  # of a gradient that is 0: infinite, so 1


def _by_example(
    model: nn.Module,
    parameters: dict[str, torch.Tensor],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    clip: float,
) -> Clipped:
    def loss(own: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(model, own, (x[None],)), y[None])

    each = vmap(grad_and_value(loss), (None, 0, 0), randomness="different")
    gradients, losses = each(parameters, inputs, labels)
    norms = sum(g.flatten(1).square().sum(1) for g in gradients.values()).sqrt()
    weights = _weights(norms, clip)
    return Clipped([torch.tensordot(weights, g, 1) for g in gradients.values()], norms, losses)


def _by_layer(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, clip: float) -> Clipped:
    shown, outputs = model[0](inputs), []
    below = []
    for layer in list(model)[1::2]:
        below.append(shown.detach())
        outputs.append(layer(shown))
        shown = outputs[-1].relu()
    losses = functional.cross_entropy(outputs[-1], labels, reduction="none")
    slopes = torch.autograd.grad(losses.sum(), outputs)
    squares = (
        slope.square().sum(1) * (1 + x.square().sum(1))  # 1: the bias
        for slope, x in zip(slopes, below, strict=True)
    )
    norms = sum(squares).sqrt()
    gradients = []
    for slope, x in zip(slopes, below, strict=True):
        weighted = slope * _weights(norms, clip)[:, None]
        gradients += [weighted.T @ x, weighted.sum(0)]
    return Clipped(gradients, norms, losses.detach())


def _check_sampling(noise_multiplier: float, samples: int, batch: int) -> None:
    """ValueError for what is no noise, or for batches that cannot be drawn."""
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"noise_multiplier is {noise_multiplier}: it must be 0 or more, finite")
    if batch > samples:
        raise ValueError(f"batch is {batch}: there are {samples} examples, it can be no more")


def train(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    *,
    clip: float,
    noise_multiplier: float,
    seed: int,
) -> History:
    """Train `model` in place with DP-SGD (or its like with Adam), and leave it in eval mode.

    In each of the `n / batch` steps of an epoch, every example takes part with probability
    `batch / n`, independently of the others: what the guarantee of :func:`epsilon` rests on. The
    step follows the sum of the clipped gradients plus Gaussian noise of standard deviation
    `noise_multiplier * clip` in each entry, divided by `batch`.

    Args:
        model: on the device of `inputs`, without batch normalisation; parameters without
            `requires_grad` stay, and count in no norm.
        inputs: `(n, …)` floats.
        labels: `(n,)` int64.
        recipe: epochs, batch (here the expected one), optimiser and rates, weight decay.
        clip: largest norm of one example's gradient.
        noise_multiplier: 0 for clipping alone, which guarantees nothing.
        seed: of batches and noise.

    Raises:
        ValueError: data that no network can be trained on, a recipe that asks for what is not done
            here, a noise multiplier below 0 or not finite, a batch larger than the training set,
            noise without end (an infinite clip), and as :func:`clipped_gradients`.
        Diverged: the loss became infinite or NaN.

    Source: Abadi et al. 2016, algorithm 1.
    """
    check_basic(recipe, "private training")
    check_data(model, inputs, labels, recipe)
    _check_sampling(noise_multiplier, len(inputs), recipe.batch)
    if noise_multiplier and not noise_multiplier * clip <= torch.finfo(inputs.dtype).max / 100:
        raise ValueError(
            f"noise_multiplier is {noise_multiplier}, clip is {clip}: noise of that size is no "
            "number"
        )
    parameters = list(learned(model).values())
    optimiser = make_optimiser(recipe, [{"params": parameters}])
    share, loss = recipe.batch / len(inputs), math.inf
    chance = torch.Generator().manual_seed(seed)
    with randomness(seed, inputs.device) as draw:
        for epoch in range(recipe.epochs):
            model.train()
            set_rate(optimiser, recipe, epoch)
            total, seen = 0.0, 0
            for _ in range(round(1 / share)):
                taken = torch.rand(len(inputs), generator=chance) < share
                chosen = taken.nonzero().flatten().to(inputs.device)
                found = clipped_gradients(model, inputs[chosen], labels[chosen], clip)
                for p, g in zip(parameters, found.gradients, strict=True):
                    if noise_multiplier:
                        g = g + noise_multiplier * clip * draw.normal(g)
                    p.grad = g / recipe.batch
                optimiser.step()
                total, seen = total + found.losses.sum(), seen + len(chosen)
            loss = float(total) / max(seen, 1)
            if not math.isfinite(loss):
                raise diverged(loss, epoch + 1, recipe)
    model.eval()
    return History(recipe.epochs, loss)


def epsilon(
    noise_multiplier: float, *, samples: int, batch: int, epochs: int, delta: float
) -> float:
    r"""The :math:`\varepsilon` of :math:`(\varepsilon, \delta)`-privacy that :func:`train` has.

    Of two training sets that differ by having one example or not, with the order of events that
    :func:`train` has: whatever an attacker looks at, its probability under one is at most
    :math:`e^\varepsilon` times that under the other plus :math:`\delta`. For a group of k examples,
    :math:`\varepsilon` is about k times as large. Infinite without noise.

    Args:
        noise_multiplier: as in :func:`train`.
        samples, batch, epochs: of the training.
        delta: inside (0, 1), usually below one over the number of samples.

    Raises:
        ValueError: delta outside (0, 1), a noise multiplier below 0 or not finite, numbers that are
            not whole and at least 1, or a batch larger than the training set.

    Source: Renyi-differential-privacy accountant of the package dp-accounting; Mironov et al. 2019.

    >>> round(epsilon(1.1, samples=60_000, batch=256, epochs=15, delta=1e-5), 1)
    1.3
    """
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}: allowed is the open interval (0, 1)")
    check_whole(samples=samples, batch=batch, epochs=epochs)
    _check_sampling(noise_multiplier, samples, batch)
    if noise_multiplier == 0:
        return math.inf
    share = batch / samples
    step = dp_accounting.PoissonSampledDpEvent(
        share, dp_accounting.GaussianDpEvent(noise_multiplier)
    )
    accountant = RdpAccountant(_ORDERS).compose(step, epochs * round(1 / share))
    return float(accountant.get_epsilon(delta))
