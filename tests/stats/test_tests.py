"""Tests of hypotheses against SciPy, brute force and cases by hand."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import stats

grid = st.integers(-1000, 1000).map(lambda i: i / 100)


trials = st.lists(grid, min_size=2, max_size=12)


def varies(values):
    return len(set(values)) > 1


@given(trials.filter(varies), trials.filter(varies))
def test_welch_is_scipys(a, b):
    expected = scipy.stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert stats.welch_greater(a, b) == pytest.approx(expected, rel=0, abs=1e-12)


@given(trials, trials)
def test_welch_of_swapped_groups_adds_up_to_one(a, b):
    both = stats.welch_greater(a, b) + stats.welch_greater(b, a)
    # two groups of one and the same value: neither is above the other
    assert both == pytest.approx(1 if varies(a) or varies(b) or a[0] != b[0] else 2)


def test_welch_by_hand():
    # means 2 and 0, variances 1 and 1, three values each: t = 2 / sqrt(2/3) with 4 degrees
    expected = scipy.stats.t.sf(2 / (2 / 3) ** 0.5, 4)
    assert stats.welch_greater([1, 2, 3], [-1, 0, 1]) == pytest.approx(expected)
    assert stats.welch_greater(torch.tensor([1.0, 2.0, 3.0]), np.array([-1, 0, 1])) == (
        pytest.approx(expected)
    )


def test_welch_with_one_constant_group_is_a_test_of_the_other():
    """A clean network's score is often exactly 0 in all trials; .1 has no exact mean."""
    a = [0.3, 0.4, 0.2, 0.5]
    for constant in (0.0, 0.1):
        expected = scipy.stats.ttest_1samp(a, constant, alternative="greater").pvalue
        assert stats.welch_greater(a, [constant] * 3) == pytest.approx(expected)


@pytest.mark.parametrize(("a", "b", "p"), [(0.1, 0.0, 0), (0.0, 0.1, 1), (0.1, 0.1, 1)])
def test_welch_without_any_variance(a, b, p):
    assert stats.welch_greater([a] * 3, [b] * 6) == p


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_welch_needs_two_finite_numbers_in_each_group(bad):
    with pytest.raises(ValueError, match="^a is .* at least two numbers, all of them finite"):
        stats.welch_greater(bad, [1.0, 2.0])
    with pytest.raises(ValueError, match="^b is "):
        stats.welch_greater([1.0, 2.0], bad)


def test_the_papers_effect_on_one_group_is_two_images():
    """Waterbirds: 3.57 and 4.90 points of 56 and 184 images are 2 and 9 images."""
    for size, lost, p in ((56, 2, 0.5), (184, 9, 2 / 2**9)):
        after = torch.ones(size)
        after[:lost] = 0
        assert stats.mcnemar(torch.ones(size), after) == pytest.approx(p)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_a_sign_test_of_the_changed_answers(pairs):
    before, after = (torch.tensor(side) for side in zip(*pairs, strict=True))
    lost = sum(b and not a for b, a in pairs)
    changed = sum(b != a for b, a in pairs)
    tail = sum(math.comb(changed, k) for k in range(min(lost, changed - lost) + 1)) / 2**changed
    assert stats.mcnemar(before, after) == pytest.approx(min(1.0, 2 * tail))


def test_a_permutation_p_is_never_zero():
    assert stats.permutation_p(2.0, [0.0] * 199) == pytest.approx(1 / 200)
    assert stats.permutation_p(2.0, [0.0] * 6 + [2.0, 3.0, 4.0]) == pytest.approx(4 / 10)
    with pytest.raises(ValueError, match="no draws"):
        stats.permutation_p(2.0, [])
    with pytest.raises(ValueError, match="observed is NaN"):
        stats.permutation_p(math.nan, [0.0, 1.0])


def test_of_no_answers_none_is_lost():
    assert stats.mcnemar_lost(0, 0) == stats.mcnemar_lost(3, 0) == 1


@given(st.integers(0, 60), st.integers(1, 60))
def test_mcnemar_of_lost_answers_alone(lost, n):
    after = torch.arange(n) >= lost
    assert stats.mcnemar_lost(lost, n) == stats.mcnemar(torch.ones(n), after)


def test_mcnemar_needs_pairs():
    with pytest.raises(ValueError, match="before has 2 answers, after has 3"):
        stats.mcnemar(torch.ones(2), torch.ones(3))
    for bad in (torch.ones(2, 1), torch.tensor([1.0, math.nan]), torch.tensor([1, 2])):
        for pair in ((bad, torch.ones(2)), (torch.ones(2), bad)):
            with pytest.raises(ValueError, match="one answer each|values other than 0 and 1"):
                stats.mcnemar(*pair)
    for lost, n in ((-1, 3), (0, -1)):
        with pytest.raises(ValueError, match=f"lost is {lost}, n is {n}"):
            stats.mcnemar_lost(lost, n)
