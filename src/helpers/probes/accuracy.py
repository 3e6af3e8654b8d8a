"""Accuracies, by sign, by class and by group; covariance and AUC of outputs with labels.

Source: signs, covariance and spurious accuracy as in Bombari & Mondelli 2024; groups and the
worst of them as in Sagawa et al. 2020.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from helpers.data import Grouped, check_answers, check_values, margins, right_answers


def sign_accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of outputs on the side of their label, -1 or +1; an output of zero counts as wrong.

    Raises:
        ValueError: several outputs a sample, and as :func:`accuracy`.

    >>> sign_accuracy(torch.tensor([0.3, -2.0, 0.0, 1.0]), torch.tensor([1, -1, 1, -1]))
    0.5
    """
    return float((margins(outputs, labels) > 0).double().mean())


def auc(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the ROC curve: no threshold, so no shift of the outputs can hide what they rank.

    NaN where only one label occurs, since nothing can be ranked. Source: scikit-learn's.

    Raises:
        ValueError: as :func:`sign_accuracy`.

    >>> auc(torch.tensor([-3.0, -1.0]), torch.tensor([-1, 1]))
    1.0
    """
    check_answers(outputs, labels, single=True)
    return _area(outputs.reshape(-1), labels > 0)


def _area(scores: torch.Tensor, positive: torch.Tensor) -> float:
    if len(torch.unique(positive)) < 2:
        return float("nan")
    return float(roc_auc_score(positive.cpu().numpy(), scores.cpu().numpy()))


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers of a network with one output (labels -1, +1) or one a class.

    Args:
        outputs: `(n,)` or `(n, 1)`, read as in :func:`sign_accuracy`; or `(n, classes)`, whose
            largest entry is the answer.
        labels: `(n,)`, -1 and +1, or 0 to classes - 1.

    Raises:
        ValueError: as :func:`helpers.data.right_answers`: shapes or labels that do not fit, no
            sample, NaN or infinity.

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    return float(right_answers(outputs, labels).double().mean())


def mean_auc(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """:func:`auc` of a network with one output; with one a class, the mean of one against rest.

    Outputs and labels are as in :func:`accuracy`. Classes that do not occur are left out; NaN when
    nothing can be ranked.

    Raises:
        ValueError: as :func:`accuracy`.

    >>> mean_auc(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.5]]), torch.tensor([0, 0, 1]))
    1.0
    """
    if outputs.shape[1:].numel() == 1:
        return auc(outputs, labels)
    check_answers(outputs, labels, single=False)
    areas = [_area(column, labels == c) for c, column in enumerate(outputs.T)]
    seen = [area for area in areas if not np.isnan(area)]
    return float(np.mean(seen)) if seen else float("nan")


def covariance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Empirical covariance over samples, divided by n (the measure of Bombari & Mondelli 2024).

    Raises:
        ValueError: not two finite `(n,)` of one length.

    >>> covariance(torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0]))
    1.0
    """
    a, b = a.double(), b.double()
    if a.ndim != 1 or a.shape != b.shape or not len(a) or not bool((a + b).isfinite().all()):
        raise ValueError(
            f"a and b have shapes {tuple(a.shape)} and {tuple(b.shape)}: expected the same number "
            "of finite values, at least one"
        )
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

    Raises:
        ValueError: as :func:`sign_accuracy`, or a gamma that is not finite.

    Source: derived from Bombari & Mondelli 2024, Lemma 4.1.

    >>> one = torch.ones(2)
    >>> predicted_accuracy(0 * one, torch.tensor([-0.1, -0.5]), one, gamma=0.3)
    0.5
    """
    if not math.isfinite(gamma):
        raise ValueError(f"gamma is {gamma}: it must be finite")
    own, asked = margins(outputs, labels), margins(query_outputs, labels)
    return float((asked + gamma * (1 - own) > 0).double().mean())


def accuracy_by_group(
    outputs: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor, count: int = 4
) -> np.ndarray:
    """Share of right answers in each group, `(count,)`.

    Args:
        outputs: as in :func:`accuracy`.
        labels: `(n,)`, as there.
        groups: `(n,)` group of each sample, in 0..count-1.
        count: number of groups.

    Raises:
        ValueError: as :func:`accuracy`; another number of groups, one that is not in 0..count-1, or
            one without a sample.

    >>> outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> accuracy_by_group(outputs, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]), 2).tolist()
    [1.0, 0.5]
    """
    right = right_answers(outputs, labels)
    if groups.shape != labels.shape:
        raise ValueError(
            f"groups have shape {tuple(groups.shape)} and labels {tuple(labels.shape)}: expected "
            "one group for each label"
        )
    check_values("groups", groups, range(count))
    groups = groups.long()
    sizes = groups.bincount(minlength=count)
    if empty := (sizes == 0).nonzero().flatten().tolist():
        raise ValueError(f"group {empty[0]} has no sample: its accuracy does not exist")
    hits = groups[right].bincount(minlength=count)
    return (hits.double() / sizes.double()).cpu().numpy()


def accuracy_by_alignment(outputs: torch.Tensor, sample: Grouped) -> tuple[float, float]:
    """Share of right answers among aligned and among conflicting images.

    Args:
        outputs: as in :func:`accuracy`.
        sample: with labels of the outputs' kind.

    Raises:
        ValueError: as :func:`accuracy`, or no image of one kind.

    >>> sample = Grouped(torch.zeros(3), torch.ones(3), torch.tensor([1.0, 1.0, -1.0]))
    >>> accuracy_by_alignment(torch.tensor([1.0, -1.0, 1.0]), sample)
    (0.5, 1.0)
    """
    conflicting = (~sample.aligned).long()
    by_group = accuracy_by_group(outputs.cpu(), sample.label, conflicting, 2)
    return float(by_group[0]), float(by_group[1])


def weighted_average(by_group: Sequence[float], counts: Sequence[int]) -> float:
    """Average accuracy over groups of these sizes.

    With the counts of the *test* set it is the accuracy over all its images; with those of the
    *training* set, what Sagawa et al. 2020 report for Waterbirds. Papers call both "average
    accuracy".

    Raises:
        ValueError: lengths that differ, values that are not finite, counts below 0 or all 0.

    >>> weighted_average([1.0, 0.5], [9, 1])
    0.95
    """
    accuracies, weights = _numbers("by_group", by_group), _numbers("counts", counts)
    if len(weights) != len(accuracies) or weights.min() < 0 or not weights.any():
        raise ValueError(
            f"counts is {weights.tolist()} for {len(accuracies)} groups: expected one count for "
            "each, none below 0 and not all 0"
        )
    return float(np.average(accuracies, weights=weights))


def _numbers(name: str, values: Sequence[float]) -> np.ndarray:
    """Checked: finite numbers `(n,)`, at least one."""
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not np.isfinite(found).all() or not found.size:
        raise ValueError(
            f"{name} has shape {found.shape} and values {found.ravel()[:8].tolist()}: expected a "
            "row of finite numbers"
        )
    return found


def memorisation_gap(
    train: Sequence[float], test: Sequence[float], minority: Sequence[int]
) -> float:
    """:func:`selectivity` of what is lost between training and test accuracies by group.

    Raises:
        ValueError: as :func:`selectivity`, or lengths that differ.

    Source: operational form of "spurious memorisation", You et al. 2025.

    >>> memorisation_gap([1.0, 1.0], [1.0, 0.6], [1])
    0.4
    """
    train, test = _numbers("train", train), _numbers("test", test)
    if len(train) != len(test):
        raise ValueError(f"train has {len(train)} groups and test {len(test)}: expected the same")
    return selectivity(train - test, minority)


def selectivity(lost: Sequence[float], minority: Sequence[int]) -> float:
    """Accuracy lost, mean over minority groups minus mean over the others.

    Raises:
        ValueError: no minority, no majority, a group that does not exist, or values that are not
            finite.

    Source: ours.

    >>> selectivity([0.0, 0.3, 0.1, 0.0], [1, 2])
    0.2
    """
    lost = _numbers("lost", lost)
    if strange := [group for group in minority if group not in range(len(lost))]:
        raise ValueError(f"minority has {strange[0]}: allowed is 0 to {len(lost) - 1}")
    rare = np.zeros(len(lost), dtype=bool)
    rare[list(minority)] = True
    if not rare.any() or rare.all():
        raise ValueError(
            f"minority is {list(minority)} of {len(lost)} groups: some are needed, and not all"
        )
    return float(lost[rare].mean() - lost[~rare].mean())


def first_epoch_at(accuracies: Sequence[float], threshold: float = 0.9) -> float:
    """First epoch in which an accuracy `(epochs + 1,)` reaches the threshold; NaN if it never does.

    Raises:
        ValueError: accuracies that are no row of finite numbers, or a threshold that is NaN.

    Source: ours.

    >>> first_epoch_at([0.5, 0.8, 0.95, 0.85])
    2.0
    """
    if math.isnan(threshold):
        raise ValueError("threshold is nan: it must be a number")
    reached = np.flatnonzero(_numbers("accuracies", accuracies) >= threshold)
    return float(reached[0]) if len(reached) else float("nan")
