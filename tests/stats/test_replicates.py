"""Statements over trials: what counts as one, what is left out, and what an interval needs."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers import stats
from helpers.stats import replicates


def test_per_trial_leaves_out_trials_with_missing_rows():
    rows = pd.DataFrame({"trial": [5, 5, 7, 7, 9], "lost": [1.0, 2.0, 3.0, 5.0, 100.0]})
    found = replicates.per_trial(rows["lost"], rows["trial"])
    assert found.to_dict() == {5: 1.5, 7: 4.0}


def test_per_trial_has_no_number_where_all_are_nan():
    rows = pd.DataFrame({"trial": [0, 0, 1, 1], "lost": [math.nan, math.nan, 3.0, math.nan]})
    assert replicates.per_trial(rows["lost"], rows["trial"]).to_dict() == {1: 3.0}


def test_paired_matches_by_key_whatever_the_order():
    first = pd.DataFrame({"trial": [2, 0, 1], "n": 3, "score": [0.9, 0.7, 0.8]})
    second = pd.DataFrame({"trial": [0, 2, 4], "n": 0, "score": [0.1, 0.2, 0.3]})
    found = replicates.paired(first, second, "score")
    assert found.round(12).to_dict() == {0: 0.6, 2: 0.7}
    both = replicates.paired(first.assign(n=0), second, "score", ["trial", "n"])
    assert both.index.tolist() == [(0, 0), (2, 0)]


def test_paired_without_common_trials_is_empty_and_of_numbers():
    rows = pd.DataFrame({"trial": [0], "score": [0.5]})
    found = replicates.paired(rows, rows.assign(trial=1), "score")
    assert found.empty and found.dtype == float


def test_paired_refuses_two_rows_of_one_trial():
    rows = pd.DataFrame({"trial": [0, 0], "score": [0.5, 0.6]})
    with pytest.raises(ValueError, match=r"trial = 0 has more than one row"):
        replicates.paired(rows, rows, "score")


def test_pooled_counts_trials_and_not_panels():
    rng = np.random.default_rng(0)
    one = pd.Series(rng.normal(size=6))
    shifted = [one, one + 10, pd.Series(dtype=float)]
    alone, both = stats.mean_ci(one), replicates.pooled(shifted)
    assert both.mean == pytest.approx(alone.mean + 5)
    # the same seeds in a second panel make the interval no narrower
    assert both.high - both.low == pytest.approx(alone.high - alone.low)


def test_pooled_does_not_move_where_a_panel_lacks_a_trial_of_its_own_mean():
    whole, short = pd.Series([0.0, 2.0, 1.0]), pd.Series([10.0, 12.0])
    assert replicates.pooled([whole, short]).mean == pytest.approx(6.0)


@pytest.mark.parametrize("count, holds", [(4, False), (5, True)])
def test_above_zero_asks_for_enough_trials(count, holds):
    assert replicates.above_zero([1.0] * count) is holds
    assert replicates.above_zero([1.0] * count, least=4)


def test_above_zero_asks_for_the_whole_interval():
    values = [1.0, 1.2, 0.8, 1.1, -2.0]
    assert np.mean(values) > 0 and not replicates.above_zero(values)
    assert not replicates.above_zero([0.0] * 5)


def test_mean_and_half_is_the_t_interval():
    values = [0.2, 0.4, 0.9]
    made = stats.mean_ci(values)
    assert replicates.mean_and_half(values) == (made.mean, made.high - made.mean)
    mean, half = replicates.mean_and_half(pd.Series([0.3]))
    assert mean == 0.3 and math.isnan(half)


def test_error_bars_leave_out_diverged_networks():
    means, halves = replicates.error_bars([[1.0, math.nan, 3.0], [4.0], [math.nan]])
    np.testing.assert_array_equal(means, [2.0, 4.0, math.nan])
    assert halves[0] == replicates.mean_and_half([1.0, 3.0])[1] and np.isnan(halves[1:]).all()


def test_no_ends_are_nan_or_what_is_asked_for():
    assert np.isnan(stats.interval_from([1.0])[1:]).all()
    assert stats.interval_from([1.0], none=math.inf) == (1.0, -math.inf, math.inf)


def test_arms_reach_from_the_mean_to_the_ends():
    made = [stats.mean_ci([1.0, 2.0, 3.0]), stats.bootstrap_ci([1.0, 1.0])]
    low, high = replicates.arms(made)
    np.testing.assert_allclose(low, [made[0].mean - made[0].low, 0], atol=1e-12)
    np.testing.assert_allclose(high, [made[0].high - made[0].mean, 0], atol=1e-12)


def test_courses_are_sorted_by_trial_and_step():
    rows = pd.DataFrame(
        [{"trial": t, "epoch": e, "a": 10 * t + e, "b": -e} for t in (1, 0) for e in (2, 0, 1)]
    )
    found = replicates.courses(rows, ["a", "b"])
    assert found.shape == (2, 3, 2)
    assert found[..., 0].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert found[1, :, 1].tolist() == [0, -1, -2]


@pytest.mark.parametrize("drop", [[0], [0, 4]])  # another number of steps; the same, but others
def test_courses_refuse_trials_with_other_steps(drop):
    rows = pd.DataFrame([{"trial": t, "epoch": e, "a": e} for t in (0, 1) for e in range(3)])
    with pytest.raises(ValueError, match="do not all have the same values of epoch"):
        replicates.courses(rows.drop(index=drop), ["a"])


def test_rank_correlation_of_a_constant_is_nan():
    assert replicates.rank_correlation([1, 2, 3], pd.Series([3.0, 2.0, 1.0])) == -1.0
    assert math.isnan(replicates.rank_correlation([1, 1], [1, 2]))
    assert math.isnan(replicates.rank_correlation([1, 2], [2, 2]))
    assert math.isnan(replicates.rank_correlation([], []))


def test_pooling_needs_a_trial():
    with pytest.raises(ValueError, match="no group has a trial"):
        replicates.pooled([pd.Series(dtype=float)])


@pytest.mark.parametrize("values", [[0.1], [], [0.1, float("nan"), 0.2], [0.1, np.inf]])
def test_the_z_score_of_what_is_not_known_is_nan(values):
    assert np.isnan(stats.z_score(values))


def test_the_z_score_of_no_effect_is_zero():
    assert stats.z_score([0.0, 0.0, 0.0]) == 0.0
    assert stats.z_score([0.1, 0.1, 0.1]) == np.inf  # though their mean is rounded
    assert stats.z_score([2.0, 2.0]) == np.inf and stats.z_score([-2.0, -2.0]) == -np.inf
