"""What is measured on outputs, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

NORMALISATIONS = ("headroom", "relative")


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
    before, after = _target_probs(clean_probs, spurious_probs, target, eps)
    return float((after - before > eps).double().mean())


def normalised_score(
    clean_probs: torch.Tensor,
    spurious_probs: torch.Tensor,
    target: int,
    eps: float = 0.1,
    *,
    kind: str,
) -> float:
    r"""Share of images whose probability for the target class rises by much for its start value.

    Like :func:`spurious_score`, with the rise divided by the most it could be or by its start:

    .. math:: \frac{f_c(\Phi(x, v)) - f_c(x)}{1 - f_c(x)} > \epsilon
              \quad\text{or}\quad \frac{f_c(\Phi(x, v)) - f_c(x)}{f_c(x)} > \epsilon

    Where nothing was to be gained (headroom 0) or 0 stayed 0 the ratio is 0/0, and the image is not
    counted; a rise from exactly 0 is infinite as a relative gain and is counted. Neither score is
    smaller than :func:`spurious_score`.

    Args:
        clean_probs: `(m, classes)` probabilities on the images of D.
        spurious_probs: `(m, classes)` probabilities on the same images with the pattern v.
        target: the class c whose training examples carried the pattern.
        eps: threshold, in [0, 1).
        kind: `"headroom"` divides by :math:`1 - f_c(x)`, `"relative"` by :math:`f_c(x)`.

    Raises:
        ValueError: an unknown kind, and as :func:`spurious_score`.

    Source: two readings of the normalised score of Yang, Chou & Chaudhuri 2022 (equation 5).

    >>> clean, after = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.95, 0.05]])
    >>> normalised_score(clean, after, 0, kind="headroom")
    1.0
    >>> normalised_score(clean, after, 0, kind="relative")
    0.0
    """
    if kind not in NORMALISATIONS:
        raise ValueError(f"kind is {kind!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
    before, after = _target_probs(clean_probs, spurious_probs, target, eps)
    # 0/0 is NaN, which is not above eps
    ratio = (after - before) / (1 - before if kind == "headroom" else before)
    return float((ratio > eps).double().mean())


def _target_probs(
    clean_probs: torch.Tensor, spurious_probs: torch.Tensor, target: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Checked probabilities of the target class without and with the pattern, float64 `(m,)`."""
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
    return clean_probs[:, target].double(), spurious_probs[:, target].double()


def welch_greater(a: Sequence[float], b: Sequence[float]) -> float:
    """One-sided p-value of Welch's test: small when the mean of `a` is above the mean of `b`.

    The two groups may differ in variance. With no variance in either group the statistic is not
    defined: the p-value is then 0 if a's value is the larger one and 1 if it is not (also when the
    two are equal, since then nothing speaks for a difference).

    Args:
        a: one number a trial, at least two, all finite.
        b: the same for the group to compare with; it may have another length.

    Raises:
        ValueError: a group of fewer than two numbers, or with NaN or infinity in it.

    >>> round(welch_greater([0.4, 0.5, 0.6], [0.1, 0.2, 0.3]), 4)
    0.0107
    >>> welch_greater([0.9, 0.9], [0.0, 0.0]), welch_greater([0.0, 0.0], [0.0, 0.0])
    (0.0, 1.0)
    """
    moments = []
    for name, values in (("a", a), ("b", b)):
        sample = np.asarray(values, dtype=float).reshape(-1)
        if sample.size < 2 or not np.isfinite(sample).all():
            raise ValueError(
                f"{name} is {values!r}: the test needs at least two numbers, all of them finite"
            )
        # exact for equal values, where sums would round (and scipy would warn)
        same = bool((sample == sample[0]).all())
        mean, spread = (sample[0], 0.0) if same else (sample.mean(), sample.std(ddof=1))
        moments += [float(mean), float(spread), sample.size]
    if moments[1] ** 2 == moments[4] ** 2 == 0:  # the squares: a tiny spread may vanish in them
        return 0.0 if moments[0] > moments[3] else 1.0
    return float(
        stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater").pvalue
    )


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


def bootstrap_ci(
    values: Sequence[float], level: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean and percentile bootstrap interval over independent trials.

    With five trials it is too narrow (it covers the truth in about five of six cases instead of 19
    of 20), hence :func:`mean_ci` where the data allow it.

    Args:
        values: one number a trial, at least two, none of them NaN.
        level: confidence level inside (0, 1).
        resamples: how often the trials are drawn anew.
        seed: of the draws.

    Raises:
        ValueError: as in :func:`mean_ci`.

    >>> bootstrap_ci([2.0, 2.0, 2.0])
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    mean = mean_ci(values, level).mean  # refuses what is no sample
    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).choice(sample, (resamples, sample.size)).mean(1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def interval_from(
    values: Sequence[float],
    of: Callable[[Sequence[float]], Interval] = bootstrap_ci,
    *,
    least: int = 2,
) -> Interval:
    """Mean and interval of the trials; without ends (NaN) where they are fewer than `least`.

    >>> interval_from([2.0])
    Interval(mean=2.0, low=nan, high=nan)
    """
    sample = np.asarray(values, dtype=float)
    if sample.size < least:
        return Interval(float(sample.mean()), float("nan"), float("nan"))
    return of(sample)


# -- accuracy by group -----------------------------------------------------------------------------


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
        ValueError: lengths that differ, a group out of range, or one without a sample.

    >>> outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> accuracy_by_group(outputs, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]), 2).tolist()
    [1.0, 0.5]
    """
    if not len(outputs) == len(labels) == len(groups):
        raise ValueError(
            f"outputs, labels and groups have {len(outputs)}, {len(labels)} and {len(groups)} "
            "rows: one number is needed"
        )
    if len(groups) and not 0 <= int(groups.min()) <= int(groups.max()) < count:
        raise ValueError(f"groups has {int(groups.max())}: allowed is 0 to {count - 1}")
    sizes = groups.bincount(minlength=count)
    if empty := (sizes == 0).nonzero().flatten().tolist():
        raise ValueError(f"group {empty[0]} has no sample: its accuracy does not exist")
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        right = outputs.reshape(-1) * labels > 0
    else:
        right = outputs.argmax(1) == labels
    hits = groups[right].bincount(minlength=count)
    return (hits.double() / sizes.double()).cpu().numpy()


def plain_average(by_group: Sequence[float], counts: Sequence[int]) -> float:
    """Average accuracy over all images of a set, whose groups have these `counts`.

    On a test set whose groups have other proportions than the training set it differs from
    :func:`training_weighted_average`; papers report both as "average accuracy".

    >>> plain_average([1.0, 0.5], [1, 1])
    0.75
    """
    return float(np.average(by_group, weights=counts))


def training_weighted_average(by_group: Sequence[float], train_counts: Sequence[int]) -> float:
    """Test accuracies by group, weighted by the shares of the groups in the *training* set.

    Source: the convention of Sagawa et al. 2020 for Waterbirds.

    >>> training_weighted_average([1.0, 0.5], [9, 1])
    0.95
    """
    return float(np.average(by_group, weights=train_counts))


def memorisation_gap(
    train: Sequence[float], test: Sequence[float], minority: Sequence[int]
) -> float:
    """Training minus test accuracy, mean over minority groups minus mean over the others.

    Args:
        train, test: accuracies by group.
        minority: the rare groups; at least one, and not all.

    Raises:
        ValueError: no minority or no majority.

    Source: operational form of "spurious memorisation", You et al. 2025.

    >>> memorisation_gap([1.0, 1.0], [1.0, 0.6], [1])
    0.4
    """
    return selectivity(np.asarray(train) - np.asarray(test), minority)


def selectivity(lost: Sequence[float], minority: Sequence[int]) -> float:
    """Accuracy lost, mean over minority groups minus mean over the others.

    Raises:
        ValueError: no minority or no majority.

    >>> selectivity([0.0, 0.3, 0.1, 0.0], [1, 2])
    0.2
    """
    lost = np.asarray(lost, dtype=float)
    rare = np.zeros(len(lost), dtype=bool)
    rare[list(minority)] = True
    if not rare.any() or rare.all():
        raise ValueError(
            f"minority is {list(minority)} of {len(lost)} groups: some are needed, and not all"
        )
    return float(lost[rare].mean() - lost[~rare].mean())


def mcnemar(before: torch.Tensor, after: torch.Tensor) -> float:
    """Exact two-sided p of McNemar's test: is a change of answers in one direction chance?

    Of the answers that changed, half should have become wrong if the change were none.

    Args:
        before, after: `(n,)` whether each answer was right.

    Raises:
        ValueError: lengths that differ.

    >>> before, after = torch.ones(184), torch.cat([torch.zeros(9), torch.ones(175)])
    >>> round(mcnemar(before, after), 4), mcnemar(before[:56], after[7:63])
    (0.0039, 0.5)
    """
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} answers, after has {len(after)}: one is needed")
    before, after = before.bool(), after.bool()
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def permutation_p(observed: float, null: Sequence[float]) -> float:
    """One-sided p of `observed` among draws from the null: (1 + draws at least as large) / (1 + N).

    Raises:
        ValueError: no draws, or NaN among them.

    >>> permutation_p(1.0, [0.0, 0.5, 1.0])
    0.5
    """
    draws = np.asarray(null, dtype=float)
    if not draws.size or np.isnan(draws).any():
        raise ValueError("null holds no draws, or NaN")
    return float((1 + (draws >= observed).sum()) / (1 + draws.size))


# -- membership inference --------------------------------------------------------------------------


class MembershipInference(NamedTuple):
    """How well scores tell members of a training set from others.

    auc: area under the ROC curve, ties counted half. tpr, fpr: shares of members and of others that
    are called members at the threshold given. tpr_1, tpr_01: the largest share of members that is
    found by a threshold which calls at most 1 % (0.1 %) of the others members.
    """

    auc: float
    tpr: float
    fpr: float
    tpr_1: float
    tpr_01: float

    @property
    def balanced_accuracy(self) -> float:
        """Accuracy if half of all images were members, at the threshold given."""
        return (1 + self.tpr - self.fpr) / 2


def membership_inference(
    member_scores: Sequence[float], nonmember_scores: Sequence[float], threshold: float
) -> MembershipInference:
    """What an attack achieves that calls an image a member if its score reaches the threshold.

    The threshold must not come from these scores: a real attacker has to fix it without knowing who
    is a member. With fewer than 1,000 others, 0.1 % of them is none, and `tpr_01` is the share of
    members above them all (`tpr_1` with fewer than 100). Nothing is interpolated.

    Args:
        member_scores: `(m,)`, larger for images that look more like members; no NaN.
        nonmember_scores: `(k,)`, of images that were not in the training set.
        threshold: images that score this or more are called members.

    Raises:
        ValueError: no members, no others, NaN.

    Source: TPR at a low FPR as in Carlini et al. 2022, "Membership inference attacks from first
    principles".

    >>> found = membership_inference([3.0, 1.0], [0.0, 1.0, 2.0, 0.0], threshold=2.0)
    >>> found.auc, found.tpr, found.fpr, found.tpr_1, found.balanced_accuracy
    (0.8125, 0.5, 0.25, 0.5, 0.625)
    """
    samples = []
    for name, values in (("member_scores", member_scores), ("nonmember_scores", nonmember_scores)):
        sample = np.asarray(values, dtype=float).reshape(-1)
        if not sample.size:
            raise ValueError(f"{name} is empty: at least one score is needed")
        if np.isnan(sample).any():
            raise ValueError(f"{name} has {int(np.isnan(sample).sum())} NaN: scores are numbers")
        samples.append(sample)
    if np.isnan(threshold):
        raise ValueError("threshold is nan: it must be a number")
    members, others = samples
    wins = stats.mannwhitneyu(members, others, method="asymptotic").statistic
    falling = np.sort(others)[::-1]

    def found_at(level: float) -> float:
        allowed = int(np.floor(level * others.size + 1e-9))  # 0.29 * 100 is less than 29
        return float((members > falling[allowed]).mean()) if allowed < others.size else 1.0

    return MembershipInference(
        auc=float(wins) / (members.size * others.size),
        tpr=float((members >= threshold).mean()),
        fpr=float((others >= threshold).mean()),
        tpr_1=found_at(0.01),
        tpr_01=found_at(0.001),
    )
