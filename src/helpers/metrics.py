"""What is measured on outputs, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score


def sign_accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of outputs on the side of their label, -1 or +1; an output of zero counts as wrong.

    >>> sign_accuracy(torch.tensor([0.3, -2.0, 0.0, 1.0]), torch.tensor([1, -1, 1, -1]))
    0.5
    """
    return float((outputs * labels > 0).double().mean())


def auc(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the ROC curve of the outputs: no threshold, so no shift of the mean can hide it.

    NaN where only one label occurs, since nothing can be ranked.

    >>> auc(torch.tensor([-3.0, -1.0]), torch.tensor([-1, 1]))
    1.0
    """
    if len(torch.unique(labels)) < 2:
        return float("nan")
    return float(roc_auc_score(labels.cpu().numpy() > 0, outputs.cpu().numpy()))


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers of a network with one output (labels -1, +1) or one a class.

    Args:
        outputs: `(n,)` or `(n, 1)`, read as in :func:`sign_accuracy`; or `(n, classes)`, whose
            largest entry is the answer.
        labels: `(n,)`.

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return sign_accuracy(outputs.reshape(-1), labels)
    return float((outputs.argmax(1) == labels).double().mean())


def mean_auc(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """:func:`auc` of a network with one output; with one a class, the mean of one against rest.

    Outputs and labels are as in :func:`accuracy`. Classes that do not occur are left out; NaN when
    nothing can be ranked.

    >>> mean_auc(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.5]]), torch.tensor([0, 0, 1]))
    1.0
    """
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return auc(outputs.reshape(-1), labels)
    areas = [auc(column, labels == c) for c, column in enumerate(outputs.T)]
    seen = [area for area in areas if not np.isnan(area)]
    return float(np.mean(seen)) if seen else float("nan")


def covariance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Empirical covariance over samples, divided by n.

    >>> covariance(torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    1.0
    """
    a, b = a.double(), b.double()
    return float((a * b).mean() - a.mean() * b.mean())


def predicted_accuracy(
    outputs: torch.Tensor, query_outputs: torch.Tensor, labels: torch.Tensor, gamma: float
) -> float:
    r"""Spurious accuracy predicted from test data alone.

    By Lemma 4.1 the output on a spurious sample is that of the model which never saw the sample,
    plus :math:`\gamma` times the sample's residual. On unseen test data this reads
    :math:`P(g f(z^s) + \gamma (1 - g f(z)) > 0)`.

    Args:
        outputs: `(m,)` outputs on test samples.
        query_outputs: `(m,)` outputs on the same test samples with their core replaced.
        labels: `(m,)`, -1 or +1.
        gamma: alignment, from theory or measured.

    Source: derived from Bombari & Mondelli 2024, Lemma 4.1.

    >>> one = torch.ones(2)
    >>> predicted_accuracy(0 * one, torch.tensor([-0.1, -0.5]), one, gamma=0.3)
    0.5
    """
    return float((labels * query_outputs + gamma * (1 - labels * outputs) > 0).double().mean())


def spurious_score(
    clean_probs: torch.Tensor, spurious_probs: torch.Tensor, target: int, eps: float = 0.1
) -> float:
    r"""Share of images whose probability for the target class rises by more than eps.

    .. math:: \mathrm{SS}_\epsilon = \frac{1}{|D|}\,\bigl|\{x\in D:
              f_c(\Phi(x, v)) - f_c(x) > \epsilon\}\bigr|

    Args:
        clean_probs: `(m, classes)` probabilities on the images of D.
        spurious_probs: `(m, classes)` probabilities on the same images with the pattern v.
        target: the class c whose training examples carried the pattern.
        eps: threshold, in [0, 1); the paper takes one over the number of classes.

    Raises:
        ValueError: shapes that differ, a class that does not exist, eps outside its range, entries
            that are no probabilities.

    Source: Yang, Chou & Chaudhuri 2022, equation 1. Their figures take all test images for D; for
    the images of other classes, pass those rows only.

    >>> clean = torch.tensor([[0.2, 0.8], [0.9, 0.1]])
    >>> spurious_score(clean, torch.tensor([[0.7, 0.3], [0.95, 0.05]]), target=0)
    0.5
    """
    if clean_probs.shape != spurious_probs.shape or clean_probs.ndim != 2 or not len(clean_probs):
        raise ValueError(
            f"probabilities have shapes {tuple(clean_probs.shape)} and "
            f"{tuple(spurious_probs.shape)}: expected the same non-empty (m, classes)"
        )
    if not 0 <= target < clean_probs.shape[1]:
        raise ValueError(f"target is {target}: allowed are 0 to {clean_probs.shape[1] - 1}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps is {eps}: allowed is [0, 1)")
    for probs in (clean_probs, spurious_probs):
        if not bool(((probs >= 0) & (probs <= 1)).all()):
            raise ValueError("probabilities must be numbers from 0 to 1 (apply softmax first)")
    rise = spurious_probs[:, target].double() - clean_probs[:, target].double()
    return float((rise > eps).double().mean())


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def mean_ci(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval over independent trials.

    Args:
        values: one number a trial, at least two, none of them NaN.
        level: confidence level inside (0, 1).

    Raises:
        ValueError: fewer than two values, NaN among them, or a level outside (0, 1).

    >>> [round(x, 3) for x in mean_ci([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    sample = np.asarray(values, dtype=float)
    if sample.size < 2 or np.isnan(sample).any():
        raise ValueError(f"an interval needs at least two numbers and no NaN, got {values!r}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: allowed is the open interval (0, 1)")
    half = stats.t.ppf((1 + level) / 2, sample.size - 1) * stats.sem(sample)
    return Interval(float(sample.mean()), float(sample.mean() - half), float(sample.mean() + half))
