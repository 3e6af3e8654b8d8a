"""Interval of the area under the curve: value by scikit-learn, coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers import stats

scores = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


@given(scores, scores)
def test_the_area_is_that_of_scikit_learn_ties_included(up, down):
    found = stats.auc_ci(up, down)
    expected = roc_auc_score([1] * len(up) + [0] * len(down), [*up, *down])
    assert found.mean == pytest.approx(expected)
    assert 0 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.parametrize(("shift", "up", "down"), [(0.0, 20, 20), (1.0, 15, 60), (2.0, 40, 40)])
def test_the_interval_covers_the_truth_in_19_of_20_cases(shift, up, down):
    rng, truth, hits = np.random.default_rng(0), norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(1_000):
        found = stats.auc_ci(shift + rng.standard_normal(up), rng.standard_normal(down))
        hits += found.low <= truth <= found.high
    assert 920 <= hits <= 980


def test_perfect_order_leaves_room():
    found = stats.auc_ci([2.0, 3.0, 4.0], [0.0, 1.0, 1.5, 0.5])
    assert found == (1.0, pytest.approx(0.025 ** (1 / 3)), 1.0)


def test_one_sample_of_a_kind_tells_nothing():
    assert stats.auc_ci([2.0], [0.0, 1.0]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(("up", "down"), [([], [1.0]), ([1.0], []), ([np.nan, 1.0], [1.0])])
def test_no_sample_and_nan_are_refused(up, down):
    with pytest.raises(ValueError, match="at least one of each"):
        stats.auc_ci(up, down)


@pytest.mark.parametrize(("up", "down", "ends"), [(4, 9, (2, 2)), (3, 3, (1, 2))])
def test_ties_alone_leave_room(up, down, ends):
    """As many pairs as the fewer samples make, half of them right."""
    found, fewer = stats.auc_ci([1.0] * up, [1.0] * down), min(up, down)
    assert found.mean == 0.5
    assert found.low == stats.share_ci(ends[0], fewer).low < 0.2
    assert found.high == stats.share_ci(ends[1], fewer).high > 0.8
