"""Tests of one number against another.

Source: Welch 1947; McNemar 1947.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:  # tables are read, and claims judged, without it
    import torch


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

    Source: Welch 1947, by SciPy.

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


def mcnemar(before: torch.Tensor, after: torch.Tensor) -> float:
    """Exact two-sided p of McNemar's test: is a change of answers in one direction chance?

    Of the answers that changed, half should have become wrong if the change were none.

    Args:
        before, after: `(n,)` whether each answer was right: booleans, or 0 and 1.

    Raises:
        ValueError: lengths that differ, other values.

    Source: McNemar 1947; the exact form by SciPy's binomial test.

    >>> import torch
    >>> before, after = torch.ones(184), torch.cat([torch.zeros(9), torch.ones(175)])
    >>> round(mcnemar(before, after), 4), mcnemar(before[:56], after[7:63])
    (0.0039, 0.5)
    """
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} answers, after has {len(after)}: one is needed")
    for name, answers in (("before", before), ("after", after)):
        if answers.ndim != 1:
            raise ValueError(f"{name} has shape {tuple(answers.shape)}: one answer each is needed")
        if not bool(((answers == 0) | (answers == 1)).all()):
            raise ValueError(f"{name} has values other than 0 and 1 (false and true)")
    before, after = before.bool(), after.bool()
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return _changed(lost, won)


def _changed(lost: int, won: int) -> float:
    return float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def mcnemar_lost(lost: int, n: int) -> float:
    """McNemar's exact p when `lost` of `n` right answers become wrong and none become right.

    Raises:
        ValueError: a negative number of either.

    >>> mcnemar_lost(2, 56)
    0.5
    """
    if not (lost >= 0 and n >= 0):
        raise ValueError(f"lost is {lost}, n is {n}: allowed is 0 or more")
    return _changed(min(lost, n), 0)


def permutation_p(observed: float, null: Sequence[float]) -> float:
    """One-sided p of `observed` among draws from the null: (1 + draws at least as large) / (1 + N).

    Raises:
        ValueError: no draws, or NaN among them or observed.

    Source: Phipson & Smyth 2010.

    >>> permutation_p(1.0, [0.0, 0.5, 1.0])
    0.5
    """
    draws = np.asarray(null, dtype=float)
    if not draws.size or np.isnan(draws).any() or np.isnan(observed):
        raise ValueError(f"null holds no draws, or NaN, or observed is NaN (it is {observed})")
    return float((1 + (draws >= observed).sum()) / (1 + draws.size))
