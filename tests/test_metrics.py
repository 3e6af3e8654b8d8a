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
def test_spurious_score_names_bad_input(clean, after, target, eps, message):
    with pytest.raises(ValueError, match=message):
        metrics.spurious_score(clean, after, target, eps)
