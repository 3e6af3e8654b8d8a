"""The contrast of free outputs, which no network has to produce.

Ours.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from helpers.errors import check_whole
from helpers.remedies.contrast import nt_xent
from helpers.remedies.fitting import class_weights, label_loss
from helpers.remedies.recipe import Contrast


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
        ValueError: another label, a class that is missing, a spread that is not positive, steps
            that are no whole number from 1 on, and as in :class:`Contrast`.

    Source: own analysis of the loss of You et al. 2025.

    >>> labels = (torch.arange(100) >= 77).long()
    >>> free_outputs(labels, label_weight=1.0, seed=0).accuracy  # of 77 and of 23 labels
    (0.8, 1.0)
    """
    asked = {"contrast_weight": contrast_weight, "label_weight": label_weight}
    Contrast(temperature=temperature, head=head, **asked)  # refuses what makes no sense
    check_whole(steps=steps)
    if not 0 < spread < math.inf or not math.isfinite(lean):
        raise ValueError(f"spread is {spread}, lean is {lean}: finite, and a spread above 0")
    class_weights(labels)  # refuses another label, or a missing class
    generator = torch.Generator().manual_seed(seed)
    labels = labels.cpu().long()
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
