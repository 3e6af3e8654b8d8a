"""Metrics against scipy, scikit-learn's definition by pairs, and known cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from helpers import metrics

outputs = st.lists(st.floats(-5, 5), min_size=2, max_size=30)


@given(outputs, st.randoms())
def test_auc_is_the_share_of_ordered_pairs(values, random):
    signs = [1, -1] + [random.choice([1, -1]) for _ in values[2:]]
    f, g = torch.tensor(values), torch.tensor(signs)
    pairs = [(a > b) + (a == b) / 2 for a in f[g == 1].tolist() for b in f[g == -1].tolist()]
    assert metrics.auc(f, g) == pytest.approx(sum(pairs) / len(pairs))


def test_auc_of_one_label_is_undefined():
    assert math.isnan(metrics.auc(torch.ones(3), torch.ones(3)))


@given(outputs, st.floats(-10, 10))
def test_a_shift_moves_neither_auc_nor_covariance(values, shift):
    f = torch.tensor(values, dtype=torch.float64).round(decimals=3)
    g = torch.tensor([1.0, -1.0] * 15)[: len(values)]
    assert metrics.auc(f + round(shift), g) == pytest.approx(metrics.auc(f, g))
    assert metrics.covariance(f + shift, g) == pytest.approx(metrics.covariance(f, g), abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.floats(0.5, 0.999))
def test_interval_is_scipys(values, level):
    mean, low, high = metrics.mean_ci(values, level)
    error = max(stats.sem(values), 1e-300)
    expected = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected), abs=1e-9)


def test_interval_covers_at_its_level():
    draws = np.random.default_rng(0).normal(size=(2_000, 6))
    hits = [low <= 0 <= high for _, low, high in map(metrics.mean_ci, draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_interval_needs_two_numbers(values):
    with pytest.raises(ValueError, match="at least two numbers"):
        metrics.mean_ci(values)


def test_interval_checks_its_level():
    with pytest.raises(ValueError, match="level is 95"):
        metrics.mean_ci([1.0, 2.0], level=95)


def test_prediction_without_alignment_is_plain_query_accuracy():
    draw = torch.Generator().manual_seed(0)
    f, fq, g = (torch.randn(50, generator=draw) for _ in range(3))
    g = torch.sign(g)
    assert metrics.predicted_accuracy(f, fq, g, 0.0) == metrics.sign_accuracy(fq, g)
    # an interpolator that is always wrong by much memorises every label it is aligned with
    assert metrics.predicted_accuracy(-100 * g, fq, g, 0.5) == 1


def test_accuracy_and_auc_of_several_outputs_agree_with_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(200, 4, generator=draw)
    labels = torch.randint(0, 4, (200,), generator=draw)
    answers = outputs.argmax(1)
    assert metrics.accuracy(outputs, labels) == accuracy_score(labels, answers)
    expected = [roc_auc_score(labels == c, outputs[:, c]) for c in range(4)]
    assert metrics.mean_auc(outputs, labels) == pytest.approx(np.mean(expected))


def test_one_output_is_read_by_its_sign():
    outputs, labels = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([1.0, 1.0, -1.0])
    assert metrics.accuracy(outputs, labels) == pytest.approx(1 / 3)
    assert metrics.mean_auc(outputs, labels) == metrics.auc(outputs[:, 0], labels)


def test_a_shift_of_an_output_changes_the_answer_and_not_the_auc():
    outputs = torch.eye(3)[[0, 1, 2, 0]] + torch.tensor([5.0, 0.0, 0.0])
    labels = torch.tensor([0, 1, 2, 0])
    assert metrics.accuracy(outputs, labels) == 0.5
    assert metrics.mean_auc(outputs, labels) == 1.0
    assert math.isnan(metrics.mean_auc(outputs[:1], labels[:1]))


def test_spurious_score_counts_strict_rises_of_the_target():
    clean = torch.tensor([[0.50, 0.50], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    after = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9], [0.9, 0.1]], dtype=torch.float64)
    assert metrics.spurious_score(clean, after, target=0) == 0.5
    assert metrics.spurious_score(clean, after, target=0, eps=0.25) == 0.25
    assert metrics.spurious_score(clean, after, target=1) == 0.25
    assert metrics.spurious_score(clean, clean, target=1, eps=0.0) == 0


@pytest.mark.parametrize(
    ("clean", "after", "target", "eps", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 2), 0, 0.1, r"shapes \(2, 3\) and \(2, 2\)"),
        (torch.ones(0, 3), torch.ones(0, 3), 0, 0.1, "non-empty"),
        (torch.ones(2, 3), torch.ones(2, 3), 3, 0.1, "target is 3: allowed are 0 to 2"),
        (torch.ones(2, 3), torch.ones(2, 3), 0, 1.0, "eps is 1.0"),
        (torch.ones(2, 3), 2 * torch.ones(2, 3), 0, 0.1, "apply softmax"),
        (torch.full((2, 3), math.nan), torch.ones(2, 3), 0, 0.1, "numbers from 0 to 1"),
    ],
)
def test_scores_name_bad_input(clean, after, target, eps, message):
    with pytest.raises(ValueError, match=message):
        metrics.spurious_score(clean, after, target, eps)
    with pytest.raises(ValueError, match=message):
        metrics.normalised_score(clean, after, target, eps, kind="relative")


def pair(*columns):
    """Probabilities of two classes from those of class 0, float64 as the thresholds are."""
    first = torch.tensor(columns, dtype=torch.float64)
    return torch.stack([first, 1 - first], 1)


def test_normalised_scores_by_hand():
    clean, after = pair(0.875, 0.5, 0.25, 0.5), pair(0.9375, 0.625, 0.5, 0.25)
    # rises .0625, .125, .25, -.25; by headroom 1/2, 1/4, 1/3, < 0; relative 1/14, 1/4, 1, < 0
    for eps, headroom, relative in ((0.1, 0.75, 0.5), (0.25, 0.5, 0.25), (0.4, 0.25, 0.25)):
        assert metrics.normalised_score(clean, after, 0, eps, kind="headroom") == headroom
        assert metrics.normalised_score(clean, after, 0, eps, kind="relative") == relative


@pytest.mark.parametrize(
    ("before", "after", "headroom", "relative"),
    [
        (1.0, 1.0, 0, 0),  # no headroom: 0/0
        (1.0, 0.5, 0, 0),  # no headroom and a fall
        (0.0, 0.0, 0, 0),  # nothing from nothing: 0/0
        (0.0, 0.001, 0, 1),  # infinitely more than nothing
        (0.0, 1.0, 1, 1),
    ],
)
def test_normalised_scores_at_probability_zero_and_one(before, after, headroom, relative):
    clean, after = pair(before), pair(after)
    assert metrics.normalised_score(clean, after, 0, kind="headroom") == headroom
    assert metrics.normalised_score(clean, after, 0, kind="relative") == relative


shares = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


@given(shares, st.floats(0, 0.9))
def test_normalised_scores_are_no_smaller_than_the_score(values, eps):
    clean, after = (pair(*column) for column in zip(*values, strict=True))
    score = metrics.spurious_score(clean, after, 0, eps)
    for kind in metrics.NORMALISATIONS:
        assert score <= metrics.normalised_score(clean, after, 0, eps, kind=kind) <= 1
        assert metrics.normalised_score(clean, clean, 0, eps, kind=kind) == 0


@given(shares)
def test_every_rise_counts_at_threshold_zero(values):
    values = [(round(a, 3), round(b, 3)) for a, b in values]
    clean, after = (pair(*column) for column in zip(*values, strict=True))
    rises = np.mean([b > a for a, b in values])
    assert metrics.spurious_score(clean, after, 0, 0.0) == rises
    assert metrics.normalised_score(clean, after, 0, 0.0, kind="headroom") == rises
    assert metrics.normalised_score(clean, after, 0, 0.0, kind="relative") == rises


def test_normalised_score_names_an_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'N3': allowed are 'headroom', 'relative'"):
        metrics.normalised_score(pair(0.5), pair(0.5), 0, kind="N3")


grid = st.integers(-1000, 1000).map(lambda i: i / 100)
trials = st.lists(grid, min_size=2, max_size=12)


def varies(values):
    return len(set(values)) > 1


@given(trials.filter(varies), trials.filter(varies))
def test_welch_is_scipys(a, b):
    expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert metrics.welch_greater(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(trials, trials)
def test_welch_of_swapped_groups_adds_up_to_one(a, b):
    both = metrics.welch_greater(a, b) + metrics.welch_greater(b, a)
    # two groups of one and the same value: neither is above the other
    assert both == pytest.approx(1 if varies(a) or varies(b) or a[0] != b[0] else 2)


def test_welch_by_hand():
    # means 2 and 0, variances 1 and 1, three values each: t = 2 / sqrt(2/3) with 4 degrees
    expected = stats.t.sf(2 / (2 / 3) ** 0.5, 4)
    assert metrics.welch_greater([1, 2, 3], [-1, 0, 1]) == pytest.approx(expected)
    assert metrics.welch_greater(torch.tensor([1.0, 2.0, 3.0]), np.array([-1, 0, 1])) == (
        pytest.approx(expected)
    )


def test_welch_with_one_constant_group_is_a_test_of_the_other():
    """A clean network's score is often exactly 0 in all trials; .1 has no exact mean."""
    a = [0.3, 0.4, 0.2, 0.5]
    for constant in (0.0, 0.1):
        expected = stats.ttest_1samp(a, constant, alternative="greater").pvalue
        assert metrics.welch_greater(a, [constant] * 3) == pytest.approx(expected)


@pytest.mark.parametrize(("a", "b", "p"), [(0.1, 0.0, 0), (0.0, 0.1, 1), (0.1, 0.1, 1)])
def test_welch_without_any_variance(a, b, p):
    assert metrics.welch_greater([a] * 3, [b] * 6) == p


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_welch_needs_two_finite_numbers_in_each_group(bad):
    with pytest.raises(ValueError, match="^a is .* at least two numbers, all of them finite"):
        metrics.welch_greater(bad, [1.0, 2.0])
    with pytest.raises(ValueError, match="^b is "):
        metrics.welch_greater([1.0, 2.0], bad)


# -- accuracy by group -----------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 10_000))
def test_averages_by_group_are_those_of_all_samples(n, seed):
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n + 4, 2, generator=draw)
    labels = torch.randint(0, 2, (n + 4,), generator=draw)
    groups = torch.cat([torch.arange(4), torch.randint(0, 4, (n,), generator=draw)])
    by_group = metrics.accuracy_by_group(outputs, labels, groups)
    counts = groups.bincount(minlength=4).tolist()
    assert metrics.plain_average(by_group, counts) == pytest.approx(
        metrics.accuracy(outputs, labels)
    )
    assert metrics.training_weighted_average(by_group, [1] * 4) == pytest.approx(by_group.mean())
    signs = 2.0 * labels - 1
    single = metrics.accuracy_by_group(outputs[:, 1] - outputs[:, 0], signs, groups)
    assert np.allclose(by_group, single)


@pytest.mark.parametrize(
    ("groups", "message"),
    [([0, 1, 2, 2], "group 3 has no sample"), ([0, 1, 2, 4], "has 4"), ([0, 1, 2], "4, 4 and 3")],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        metrics.accuracy_by_group(
            torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), torch.tensor(groups)
        )


def test_the_papers_effect_on_one_group_is_two_images():
    """Waterbirds: 3.57 and 4.90 points of 56 and 184 images are 2 and 9 images."""
    for size, lost, p in ((56, 2, 0.5), (184, 9, 2 / 2**9)):
        after = torch.ones(size)
        after[:lost] = 0
        assert metrics.mcnemar(torch.ones(size), after) == pytest.approx(p)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_a_sign_test_of_the_changed_answers(pairs):
    before, after = (torch.tensor(side) for side in zip(*pairs, strict=True))
    lost = sum(b and not a for b, a in pairs)
    changed = sum(b != a for b, a in pairs)
    tail = sum(math.comb(changed, k) for k in range(min(lost, changed - lost) + 1)) / 2**changed
    assert metrics.mcnemar(before, after) == pytest.approx(min(1.0, 2 * tail))


def test_selectivity_needs_both_kinds_of_groups():
    assert metrics.selectivity([0.1, 0.5], [1]) == pytest.approx(0.4)
    for minority in ([], [0, 1]):
        with pytest.raises(ValueError, match="of 2 groups"):
            metrics.selectivity([0.1, 0.5], minority)
    gap = metrics.memorisation_gap([1, 0.99, 0.89, 0.99], [1, 0.81, 0.64, 0.93], [1, 2])
    assert gap == pytest.approx((0.18 + 0.25) / 2 - 0.06 / 2)


def test_bootstrap_is_that_of_scipy():
    values = [0.3, 0.1, 0.5, 0.2, 0.9]
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000,
        random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    ours = metrics.bootstrap_ci(values)
    assert ours[1:] == pytest.approx([theirs.low, theirs.high], abs=0.01)
    with pytest.raises(ValueError, match="two numbers"):
        metrics.bootstrap_ci([1.0])


def test_a_permutation_p_is_never_zero():
    assert metrics.permutation_p(2.0, [0.0] * 199) == pytest.approx(1 / 200)
    with pytest.raises(ValueError, match="no draws"):
        metrics.permutation_p(2.0, [])
