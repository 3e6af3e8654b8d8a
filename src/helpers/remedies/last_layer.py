"""The last layer fitted anew on balanced data.

Source: Kirichenko et al. 2023.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from helpers.data import Grouped
from helpers.errors import check_whole
from helpers.remedies.fitting import (
    balanced_shares,
    derived_seeds,
    last_linear,
    model_copy,
    penultimate,
)


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
            not end in a linear layer with two outputs, or where that is frozen.

    Source: Kirichenko et al. 2023.
    """
    strengths = [strength] if isinstance(strength, (int, float)) else list(strength)
    check_whole(draws=draws)
    if not strengths or not all(0 < c < math.inf for c in strengths):
        raise ValueError(f"strength is {strength}: it must be above 0, and finite")
    net = model_copy(model, validation)
    if not all(p.requires_grad for p in last_linear(net).parameters()):
        raise ValueError("the last layer is frozen: it cannot be fitted anew")
    features = penultimate(net, validation.images).cpu().double()
    scaler = StandardScaler().fit(features.numpy())
    sample = Grouped(
        torch.from_numpy(scaler.transform(features.numpy())),
        validation.label.cpu(), validation.attribute.cpu(), validation.source,
    )  # fmt: skip
    balanced_shares(sample.group)  # refuses empty groups
    split, *seeds = derived_seeds(seed, 1 + draws)
    best = strengths[0] if len(strengths) == 1 else best_strength(sample, strengths, split)
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
    fit = LogisticRegression(C=strength, max_iter=2_000)
    return fit.fit(drawn.images.numpy(), drawn.label.numpy())


def best_strength(sample: Grouped, strengths: Sequence[float], seed: int) -> float:
    """The first of the strengths with the best worst-group accuracy on the half not fitted."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.zeros(len(sample), dtype=torch.bool)
    for group in range(4):
        members = (sample.group == group).nonzero().flatten()
        half[members[torch.randperm(len(members), generator=generator)[: len(members) // 2]]] = True
    fitted, measured = sample.rows(half), sample.rows(~half)
    balanced_shares(fitted.group)  # a group of one sample cannot be halved

    def worst(strength: float) -> float:
        said = _balanced_fit(fitted, strength, seed).predict(measured.images.numpy())
        right = torch.from_numpy(said == measured.label.numpy()).double()
        return min(float(right[measured.group == group].mean()) for group in range(4))

    return max(strengths, key=worst)
