"""Accuracies, AUC and their averages against scikit-learn's definitions, and known cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score

from helpers import data, probes

outputs = st.lists(st.floats(-5, 5), min_size=2, max_size=30)


@given(outputs, st.randoms())
def test_auc_is_the_share_of_ordered_pairs(values, random):
    signs = [1, -1] + [random.choice([1, -1]) for _ in values[2:]]
    f, g = torch.tensor(values), torch.tensor(signs)
    pairs = [(a > b) + (a == b) / 2 for a in f[g == 1].tolist() for b in f[g == -1].tolist()]
    assert probes.auc(f, g) == pytest.approx(sum(pairs) / len(pairs))


def test_auc_of_one_label_is_undefined():
    assert math.isnan(probes.auc(torch.ones(3), torch.ones(3)))


@given(outputs, st.floats(-10, 10))
def test_a_shift_moves_neither_auc_nor_covariance(values, shift):
    f = torch.tensor(values, dtype=torch.float64).round(decimals=3)
    g = torch.tensor([1.0, -1.0] * 15)[: len(values)]
    assert probes.auc(f + round(shift), g) == pytest.approx(probes.auc(f, g))
    assert probes.covariance(f + shift, g) == pytest.approx(probes.covariance(f, g), abs=1e-9)


def test_prediction_without_alignment_is_plain_query_accuracy():
    draw = torch.Generator().manual_seed(0)
    f, fq, g = (torch.randn(50, generator=draw) for _ in range(3))
    g = torch.sign(g)
    assert probes.predicted_accuracy(f, fq, g, 0.0) == probes.sign_accuracy(fq, g)
    # an interpolator that is always wrong by much memorises every label it is aligned with
    assert probes.predicted_accuracy(-100 * g, fq, g, 0.5) == 1


def test_accuracy_and_auc_of_several_outputs_agree_with_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(200, 4, generator=draw)
    labels = torch.randint(0, 4, (200,), generator=draw)
    answers = outputs.argmax(1)
    assert probes.accuracy(outputs, labels) == accuracy_score(labels, answers)
    expected = [roc_auc_score(labels == c, outputs[:, c]) for c in range(4)]
    assert probes.mean_auc(outputs, labels) == pytest.approx(np.mean(expected))


def test_one_output_is_read_by_its_sign():
    outputs, labels = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([1.0, 1.0, -1.0])
    assert probes.accuracy(outputs, labels) == pytest.approx(1 / 3)
    assert probes.mean_auc(outputs, labels) == probes.auc(outputs[:, 0], labels)


def test_a_shift_of_an_output_changes_the_answer_and_not_the_auc():
    outputs = torch.eye(3)[[0, 1, 2, 0]] + torch.tensor([5.0, 0.0, 0.0])
    labels = torch.tensor([0, 1, 2, 0])
    assert probes.accuracy(outputs, labels) == 0.5
    assert probes.mean_auc(outputs, labels) == 1.0
    assert math.isnan(probes.mean_auc(outputs[:1], labels[:1]))


@given(st.integers(1, 40), st.integers(0, 10_000))
def test_averages_by_group_are_those_of_all_samples(n, seed):
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n + 4, 2, generator=draw)
    labels = torch.randint(0, 2, (n + 4,), generator=draw)
    groups = torch.cat([torch.arange(4), torch.randint(0, 4, (n,), generator=draw)])
    by_group = probes.accuracy_by_group(outputs, labels, groups)
    counts = groups.bincount(minlength=4).tolist()
    plain = probes.weighted_average(by_group, counts)
    assert plain == pytest.approx(probes.accuracy(outputs, labels))
    assert probes.weighted_average(by_group, [1] * 4) == pytest.approx(by_group.mean())
    signs = 2.0 * labels - 1
    single = probes.accuracy_by_group(outputs[:, 1] - outputs[:, 0], signs, groups)
    assert np.allclose(by_group, single)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1, 2, 2], "group 3 has no sample"),
        ([0, 1, 2, 4], "has 4: allowed is 0 to 3"),
        ([-1, 1, 2, 3], "has -1"),
        ([0, 1, 2], r"groups have shape \(3,\) and labels \(4,\)"),
        ([[0], [1], [2], [3]], r"groups have shape \(4, 1\)"),
        ([0.0, 1.0, 2.0, 2.5], "groups has 2.5"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        probes.accuracy_by_group(
            torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), torch.tensor(groups)
        )


SIGNED, COUNTED = torch.tensor([1, -1, -1, 1]), torch.tensor([1, 0, 0, 1])
LEFT = torch.tensor([3.0, -2.0, -3.0, 2.0])
ALONE, PAIRS = LEFT[:, None], torch.stack([-LEFT, LEFT], 1)
EITHER = {
    "accuracy": probes.accuracy,
    "mean_auc": probes.mean_auc,
    "accuracy_by_group": lambda f, y: probes.accuracy_by_group(f, y, torch.arange(4)),
}
SINGLE = {
    "sign_accuracy": probes.sign_accuracy,
    "auc": probes.auc,
    "predicted_accuracy": lambda f, y: probes.predicted_accuracy(f, LEFT, y, 0.0),
    "predicted_accuracy, query": lambda f, y: probes.predicted_accuracy(LEFT, f, y, 0.0),
}


@pytest.mark.parametrize("name", [*EITHER, *SINGLE])
def test_all_metrics_take_the_same_outputs_and_labels(name):
    metric = (EITHER | SINGLE)[name]
    right = [(LEFT, SIGNED), (ALONE, SIGNED), (LEFT.double(), SIGNED.to(torch.int8))]
    wrong = [(LEFT, COUNTED), (ALONE, COUNTED), (PAIRS, SIGNED), (PAIRS, COUNTED[:, None]),
             (LEFT, SIGNED[:, None]), (ALONE, SIGNED[:1]), (LEFT[:0], SIGNED[:0]),
             (LEFT * math.nan, SIGNED), (PAIRS * math.inf, COUNTED)]  # fmt: skip
    (right if name in EITHER else wrong).append((PAIRS, COUNTED))
    assert {float(np.min(metric(f, y))) for f, y in right} == {1.0}
    for f, y in wrong:
        with pytest.raises(ValueError, match="outputs|labels"):
            metric(f, y)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (LEFT[:, None], LEFT),
        (LEFT, LEFT[:1]),
        (LEFT[:0], LEFT[:0]),
        (LEFT * math.nan, LEFT),
        (LEFT, LEFT * math.inf),
    ],
)
def test_covariance_is_between_as_many_finite_values(a, b):
    with pytest.raises(ValueError, match="same number of finite values"):
        probes.covariance(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probes.predicted_accuracy(LEFT, LEFT, SIGNED, math.nan), "gamma is nan"),
        (lambda: probes.weighted_average([1.0, 0.5], [9]), "counts is .9.0. for 2 groups"),
        (lambda: probes.weighted_average([1.0, 0.5], [0, 0]), "not all 0"),
        (lambda: probes.weighted_average([1.0, 0.5], [2, -1]), "none below 0"),
        (lambda: probes.weighted_average([1.0, math.nan], [2, 1]), "by_group has shape"),
        (lambda: probes.memorisation_gap([1.0], [1.0, 0.5], [1]), "1 groups and test 2"),
        (lambda: probes.memorisation_gap([1, 1], [[1, 1]], [1]), r"test has shape \(1, 2\)"),
        (lambda: probes.selectivity([0.1, math.nan], [1]), "lost has shape"),
        (lambda: probes.selectivity([0.1, 0.2], [-1]), "minority has -1: allowed is 0 to 1"),
        (lambda: probes.selectivity([0.1, 0.2], [2]), "minority has 2"),
        (lambda: probes.first_epoch_at([0.1, math.nan, 0.95]), "accuracies has shape"),
        (lambda: probes.first_epoch_at([[0.1], [0.95]]), r"shape \(2, 1\)"),
        (lambda: probes.first_epoch_at([0.95], math.nan), "threshold is nan"),
    ],
)
def test_averages_and_epochs_of_no_numbers_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_selectivity_needs_both_kinds_of_groups():
    assert probes.selectivity([0.1, 0.5], [1]) == pytest.approx(0.4)
    for minority in ([], [0, 1]):
        with pytest.raises(ValueError, match="of 2 groups"):
            probes.selectivity([0.1, 0.5], minority)
    gap = probes.memorisation_gap([1, 0.99, 0.89, 0.99], [1, 0.81, 0.64, 0.93], [1, 2])
    assert gap == pytest.approx((0.18 + 0.25) / 2 - 0.06 / 2)


def test_accuracy_by_alignment():
    sample = data.Grouped(
        torch.zeros(4, 1, 1, 1),
        torch.tensor([1.0, -1.0, 1.0, -1.0]),
        torch.tensor([1.0, -1.0, -1.0, 1.0]),
    )
    assert probes.accuracy_by_alignment(sample.attribute, sample) == (1.0, 0.0)
    assert probes.accuracy_by_alignment(sample.label, sample) == (1.0, 1.0)
    assert probes.accuracy_by_alignment(0 * sample.label, sample) == (0.0, 0.0)
    with pytest.raises(ValueError, match=r"shape \(3,\) and labels \(4,\)"):
        probes.accuracy_by_alignment(torch.ones(3), sample)


def test_the_first_epoch_at_a_threshold():
    assert probes.first_epoch_at(np.array([0.1, 0.9, 0.2])) == 1
    assert probes.first_epoch_at(np.array([0.1, 0.4, 0.9]), 0.3) == 1
    assert math.isnan(probes.first_epoch_at(np.array([0.1, 0.2])))
