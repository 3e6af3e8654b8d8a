"""Intervals against those of SciPy, and how often they cover."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from helpers import stats


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.floats(0.5, 0.999))
def test_interval_is_scipys(values, level):
    mean, low, high = stats.mean_ci(values, level)
    error = max(scipy.stats.sem(values), 1e-300)
    expected = scipy.stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected), rel=1e-12, abs=1e-12)


def test_interval_covers_at_its_level():
    draws = np.random.default_rng(0).normal(size=(2_000, 6))
    hits = [low <= 0 <= high for _, low, high in map(stats.mean_ci, draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [[1.0, 2.0], [3.0, 4.0]]])
def test_interval_needs_two_numbers(values):
    with pytest.raises(ValueError, match="at least two numbers"):
        stats.mean_ci(values)


def test_interval_checks_its_level():
    with pytest.raises(ValueError, match="level is 95"):
        stats.mean_ci([1.0, 2.0], level=95)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.integers(0, 5))
def test_bootstrap_is_that_of_scipy(values, seed):
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=2_000, rng=np.random.default_rng(seed)
    ).confidence_interval
    ours = stats.bootstrap_ci(values, resamples=2_000, seed=seed)
    assert ours == pytest.approx((np.mean(values), *theirs), rel=1e-12, abs=1e-12)


def test_bootstrap_needs_two_numbers():
    with pytest.raises(ValueError, match="two numbers"):
        stats.bootstrap_ci([1.0])
    with pytest.raises(ValueError, match="resamples is 0"):
        stats.bootstrap_ci([1.0, 2.0], resamples=0)


def test_equal_values_leave_no_doubt():
    assert stats.mean_ci([0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1, 0.1))


def test_too_few_trials_have_a_mean_and_no_ends():
    mean, low, high = stats.interval_from([1.0, 3.0], least=3)
    assert mean == 2.0 and math.isnan(low) and math.isnan(high)
    assert stats.interval_from([1.0, 3.0], stats.mean_ci) == stats.mean_ci([1.0, 3.0])
    assert all(map(math.isnan, stats.interval_from([])))  # and no warning
    assert not stats.above_zero([])
