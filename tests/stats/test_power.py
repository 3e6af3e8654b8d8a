"""How often a study finds what is there: against closed forms, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import stats
from helpers.stats.power import (
    detectable,
    fewest_lost,
    holm,
    images_needed,
    mcnemar_power,
    measured_spread,
    networks_like_these,
    networks_needed,
    resampled_power,
    t_power,
    unpaired_power,
)

SHARES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).filter(lambda s: sum(s) > 1e-3)
LEVELS = st.sampled_from([0.2, 0.05, 0.01, 0.05 / 7])


def paired_p(lost, won):
    """McNemar's p of so many changes, from the book's test on answers."""
    before = torch.tensor([1] * lost + [0] * won + [1], dtype=torch.bool)
    after = torch.tensor([0] * lost + [1] * won + [1], dtype=torch.bool)
    return stats.mcnemar(before, after)


# -- McNemar's test --------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), SHARES, LEVELS)
def test_power_is_the_sum_over_all_outcomes(n, shares, level):
    lost, won = shares
    expected = 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        if a + b <= n and paired_p(a, b) <= level:
            law = scipy.stats.multinomial(n, [lost, won, 1 - lost - won])
            expected += law.pmf([a, b, n - a - b])
    assert mcnemar_power(n, lost, won, level) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(1e-4, 1), LEVELS)
def test_when_nothing_is_won_enough_must_be_lost(n, lost, level):
    expected = scipy.stats.binom.sf(math.ceil(math.log2(2 / level)) - 1, n, lost)
    assert mcnemar_power(n, lost, 0.0, level) == pytest.approx(expected, abs=1e-9)


def test_power_agrees_with_simulated_studies():
    n, lost, won, studies = 184, 0.08, 0.02, 20_000
    drawn = np.random.default_rng(0).multinomial(n, [lost, won, 1 - lost - won], studies)
    p = {pair: paired_p(*pair) for pair in {(int(a), int(b)) for a, b, _ in drawn}}
    share = np.mean([p[int(a), int(b)] <= 0.05 for a, b, _ in drawn])
    found = mcnemar_power(n, lost, won)
    assert abs(share - found) < 4 * math.sqrt(found * (1 - found) / studies)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 0.5), LEVELS)
def test_without_an_effect_the_level_is_kept(n, share, level):
    assert mcnemar_power(n, share, share, level) <= level


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), SHARES, LEVELS)
def test_the_test_has_no_direction(n, shares, level):
    assert mcnemar_power(n, *shares, level) == pytest.approx(mcnemar_power(n, *shares[::-1], level))


def test_the_published_numbers():
    assert paired_p(2, 0) == 0.5 and paired_p(9, 0) == pytest.approx(2 / 2**9)
    assert mcnemar_power(56, 2 / 56, 0.0) == pytest.approx(scipy.stats.binom.sf(5, 56, 2 / 56))
    assert mcnemar_power(5, 1.0, 0.0) == 0 and mcnemar_power(6, 1.0, 0.0) == 1


@pytest.mark.parametrize("level", [0.3, 0.05, 0.05 / 17, 1e-6])
def test_the_fewest_lost_are_the_first_to_be_found(level):
    d = fewest_lost(level)
    assert scipy.stats.binomtest(d, d).pvalue <= level < scipy.stats.binomtest(d - 1, d - 1).pvalue


# -- two accuracies on different images --------------------------------------------------------


def test_unpaired_power_is_the_sum_over_both_numbers():
    n, before, after = 25, 0.9, 0.6
    expected = 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        table = np.array([[a, n - a], [b, n - b]])
        if a != b and scipy.stats.chi2_contingency(table, correction=False).pvalue <= 0.05:
            expected += scipy.stats.binom.pmf(a, n, before) * scipy.stats.binom.pmf(b, n, after)
    assert unpaired_power(n, before, after) == pytest.approx(expected, abs=1e-7)


def test_where_all_answers_were_right_pairing_gains_little_else_much():
    assert unpaired_power(184, 1.0, 0.95) - mcnemar_power(184, 0.05, 0.0) > -0.05
    assert unpaired_power(642, 0.64, 0.60) < mcnemar_power(642, 0.06, 0.02) - 0.4
    assert unpaired_power(50, 1.0, 1.0) == 0


# -- networks --------------------------------------------------------------------------------


def test_power_over_networks_agrees_with_simulated_studies():
    drawn = np.random.default_rng(1).normal(0.05, 0.08, (40_000, 7))
    share = (scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05).mean()
    found = t_power(7, 0.05, 0.08)
    assert abs(share - found) < 4 * math.sqrt(found * (1 - found) / len(drawn))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 50), st.floats(1e-3, 10), LEVELS)
def test_power_over_networks_starts_at_the_level_and_knows_no_sign(networks, effect, level):
    assert t_power(networks, 0.0, 1.0, level) == pytest.approx(level, rel=1e-6)
    assert t_power(networks, effect, 1.0, level) == t_power(networks, -effect, 1.0, level)


def test_with_many_networks_the_power_is_that_of_the_normal_law():
    expected = scipy.stats.norm.sf(scipy.stats.norm.isf(0.025) - 3) + scipy.stats.norm.cdf(
        -scipy.stats.norm.isf(0.025) - 3
    )
    assert t_power(40_000, 3 / 200, 1.0) == pytest.approx(expected, abs=1e-4)
    assert t_power(5, 1.0, 1e-9) == 1.0


def test_the_spread_of_a_measured_loss_is_that_of_simulated_networks():
    rng, n = np.random.default_rng(2), 56
    lost = np.clip(rng.normal(0.3, 0.1, 20_000), 0, 1)
    losses = rng.binomial(n, lost) / n
    assert losses.std() == pytest.approx(measured_spread(0.1, 0.3, 0.0, n), rel=0.03)
    lost, won = rng.multinomial(n, [0.3, 0.2, 0.5], 20_000).T[:2]
    assert ((lost - won) / n).std() == pytest.approx(measured_spread(0.0, 0.3, 0.2, n), rel=0.03)
    assert measured_spread(2.0, 0.0, 0.0, 1) == 2


# -- how many, how small -----------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.floats(0.02, 0.4), st.floats(0, 0.1), LEVELS, st.sampled_from([0.5, 0.8, 0.95]))
def test_enough_images_are_enough_and_one_less_is_not(effect, won, level, aim):
    n = images_needed(effect, won, level, aim)
    assert images_needed(effect) == images_needed(effect, 0.0, 0.05, 0.8)
    assert mcnemar_power(n, effect + won, won, level) >= aim
    assert n == 1 or mcnemar_power(n - 1, effect + won, won, level) < aim


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 3), LEVELS)
def test_the_number_of_networks_is_the_first_that_is_enough(effect, level):
    m = networks_needed(effect, 1.0, level)
    powers = [t_power(k, effect, 1.0, level) for k in range(2, m + 1)]
    assert powers[-1] >= 0.8 and all(power < 0.8 for power in powers[:-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(40, 500), st.floats(0, 0.05))
def test_what_is_detectable_has_the_power_asked_for(n, won):
    effect = detectable(n, won)
    assert mcnemar_power(n, effect + won, won) == pytest.approx(0.8, abs=1e-5)


def test_what_cannot_be_detected():
    assert math.isnan(detectable(5)) and math.isnan(detectable(100, won=0.5))
    assert detectable(6, power=0.99) == pytest.approx(0.99 ** (1 / 6))


# -- several comparisons -----------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.5))
def test_holm_rejects_step_by_step(p_values, level):
    rejected, left = set(), len(p_values)
    for place in np.argsort(p_values, kind="stable"):
        if p_values[place] * left > level:
            break
        rejected.add(int(place))
        left -= 1
    assert set(np.flatnonzero(holm(p_values) <= level).tolist()) == rejected


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar_power(0, 0.1, 0.0), "n is 0: at least one image"),
        (lambda: mcnemar_power(math.nan, 0.1, 0.0), "n is nan: at least one image"),
        (lambda: mcnemar_power(5, 0.7, 0.4), "lost is 0.7, won is 0.4: shares"),
        (lambda: mcnemar_power(5, 0.1, 0.0, 1.0), r"level is 1.0: allowed is the open interval"),
        (lambda: unpaired_power(5, 1.1, 0.0), "before is 1.1, after is 0.0"),
        (lambda: t_power(1, 0.1, 1.0), "networks is 1: a t-test needs at least 2"),
        (lambda: t_power(2, 0.1, 0.0), "spread is 0.0: it must be above 0"),
        (lambda: t_power(math.nan, 0.1, 1.0), "networks is nan"),
        (lambda: t_power(5, math.nan, 1.0), "effect is nan"),
        (lambda: t_power(5, math.inf, 1.0), "effect is inf"),
        (lambda: measured_spread(0.1, 0.1, 0.0, 0), "n is 0"),
        (lambda: measured_spread(math.nan, 0.1, 0.0, 9), "between is nan"),
        (lambda: measured_spread(0.1, -1.0, 0.0, 9), "lost is -1.0, won is 0.0: shares"),
        (lambda: images_needed(0.0), "effect is 0.0: it must be above 0"),
        (
            lambda: networks_needed(0.1, 1.0, power=0.01),
            "power is 0.01: allowed is the level, 0.05",
        ),
        (lambda: networks_needed(1e-6, 1.0), "more than 10000000 would be needed"),
        (lambda: fewest_lost(0.0), "level is 0.0"),
        (lambda: holm([0.1, 1.2]), "one column of numbers from 0 to 1"),
        (lambda: holm([]), "one column of numbers from 0 to 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- networks like measured ones -------------------------------------------------------------------

SKEWED = (0.65, 0.39, 0.14, 0.05, 0.02, 0.01, 0.01, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("networks", [3, 7, 25])
def test_power_by_resampling_is_that_of_simulated_studies(networks):
    drawn = np.random.default_rng(3).choice(SKEWED, (20_000, networks))
    drawn = drawn[np.ptp(drawn, axis=1) > 0]  # the others are all alike: no t to be had
    tested = scipy.stats.ttest_1samp(drawn, 0, axis=1)
    share = ((tested.pvalue <= 0.05) & (tested.statistic > 0)).sum() / 20_000
    found = resampled_power(SKEWED, networks)
    # 0.01 is there twice: of two networks, not of one network twice
    alike = (sum(x > 0 for x in SKEWED) + 2**networks) / len(SKEWED) ** networks
    assert abs(share - found) < 6 * math.sqrt(found * (1 - found) / 20_000) + alike


def test_a_study_of_one_network_drawn_twice_finds_nothing():
    assert resampled_power([0.1, 5.0], 2) == 0  # and one of both has a p of 0.49


def test_power_by_resampling_of_a_normal_law_is_that_of_the_t_test():
    law = scipy.stats.norm(0.05, 0.08).ppf(np.linspace(0.5, 999.5, 1_000) / 1_000)
    assert resampled_power(law, 7) == pytest.approx(t_power(7, 0.05, 0.08), abs=0.02)


def test_few_networks_find_a_skewed_effect_less_often_than_a_normal_law_says():
    mean, spread = np.mean(SKEWED), np.std(SKEWED)
    assert resampled_power(SKEWED, 10) < t_power(10, mean, spread) - 0.05
    assert resampled_power(SKEWED, 15, seed=1) == pytest.approx(
        resampled_power(SKEWED, 15), abs=0.02
    )


def test_how_many_networks_does_not_depend_on_the_unit_and_the_number_is_the_smallest():
    found = networks_like_these(SKEWED)
    assert found == networks_like_these([x / 100 for x in SKEWED])
    assert resampled_power(SKEWED, found - 1) < 0.8 <= resampled_power(SKEWED, found)
    assert networks_like_these([-x for x in SKEWED]) == math.inf
    assert networks_like_these([1.0, 1.001, 1.002], power=0.6) == 2  # fewer have no spread
    assert networks_like_these(SKEWED, most=5) == math.inf


@pytest.mark.parametrize(
    "effects, networks", [([0.1], 5), ([0.1, math.nan], 5), ([[0.1, 0.2]], 5), ([0.1, 0.2], 1)]
)
def test_power_by_resampling_says_what_it_needs(effects, networks):
    with pytest.raises(ValueError, match="at least 2"):
        resampled_power(effects, networks)
