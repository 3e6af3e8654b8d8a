"""Spurious scores by hand and by their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import probes


def test_spurious_score_counts_strict_rises_of_the_target():
    clean = torch.tensor([[0.50, 0.50], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    after = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9], [0.9, 0.1]], dtype=torch.float64)
    assert probes.spurious_score(clean, after, target=0) == 0.5
    assert probes.spurious_score(clean, after, target=0, eps=0.25) == 0.25
    assert probes.spurious_score(clean, after, target=1) == 0.25
    assert probes.spurious_score(clean, clean, target=1, eps=0.0) == 0


@pytest.mark.parametrize(
    ("clean", "after", "target", "eps", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 2), 0, 0.1, r"shapes \(2, 3\) and \(2, 2\)"),
        (torch.ones(0, 3), torch.ones(0, 3), 0, 0.1, "non-empty"),
        (torch.ones(2, 3), torch.ones(2, 3), 3, 0.1, "target is 3: allowed are 0 to 2"),
        (torch.ones(2, 3), torch.ones(2, 3), -1, 0.1, "target is -1"),
        (torch.ones(3), torch.ones(3), 0, 0.1, r"expected the same non-empty \(m, classes\)"),
        (torch.ones(2, 3), torch.ones(2, 3), 0, 1.0, "eps is 1.0"),
        (torch.ones(2, 3), torch.ones(2, 3), 0, -0.1, "eps is -0.1"),
        (torch.ones(2, 3), -torch.ones(2, 3), 0, 0.1, "numbers from 0 to 1"),
        (torch.ones(2, 3), 2 * torch.ones(2, 3), 0, 0.1, "apply softmax"),
        (torch.full((2, 3), math.nan), torch.ones(2, 3), 0, 0.1, "numbers from 0 to 1"),
    ],
)
def test_scores_name_bad_input(clean, after, target, eps, message):
    with pytest.raises(ValueError, match=message):
        probes.spurious_score(clean, after, target, eps)
    with pytest.raises(ValueError, match=message):
        probes.normalised_score(clean, after, target, eps, kind="relative")


def pair(*columns):
    """Probabilities of two classes from those of class 0, float64 as the thresholds are."""
    first = torch.tensor(columns, dtype=torch.float64)
    return torch.stack([first, 1 - first], 1)


def test_normalised_scores_by_hand():
    clean, after = pair(0.875, 0.5, 0.25, 0.5), pair(0.9375, 0.625, 0.5, 0.25)
    # rises .0625, .125, .25, -.25; by headroom 1/2, 1/4, 1/3, < 0; relative 1/14, 1/4, 1, < 0
    for eps, headroom, relative in ((0.1, 0.75, 0.5), (0.25, 0.5, 0.25), (0.4, 0.25, 0.25)):
        assert probes.normalised_score(clean, after, 0, eps, kind="headroom") == headroom
        assert probes.normalised_score(clean, after, 0, eps, kind="relative") == relative


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
    assert probes.normalised_score(clean, after, 0, kind="headroom") == headroom
    assert probes.normalised_score(clean, after, 0, kind="relative") == relative


shares = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


@given(shares, st.floats(0, 0.9))
def test_normalised_scores_are_no_smaller_than_the_score(values, eps):
    clean, after = (pair(*column) for column in zip(*values, strict=True))
    score = probes.spurious_score(clean, after, 0, eps)
    for kind in probes.NORMALISATIONS:
        assert score <= probes.normalised_score(clean, after, 0, eps, kind=kind) <= 1
        assert probes.normalised_score(clean, clean, 0, eps, kind=kind) == 0


@given(shares)
def test_every_rise_counts_at_threshold_zero(values):
    values = [(round(a, 3), round(b, 3)) for a, b in values]
    clean, after = (pair(*column) for column in zip(*values, strict=True))
    rises = np.mean([b > a for a, b in values])
    assert probes.spurious_score(clean, after, 0, 0.0) == rises
    assert probes.normalised_score(clean, after, 0, 0.0, kind="headroom") == rises
    assert probes.normalised_score(clean, after, 0, 0.0, kind="relative") == rises


def test_normalised_score_names_an_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'N3': allowed are 'headroom', 'relative'"):
        probes.normalised_score(pair(0.5), pair(0.5), 0, kind="N3")


@pytest.mark.parametrize("target", [-1, 2, 0.5])
def test_the_target_is_a_class(target):
    with pytest.raises(ValueError, match=f"target is {target}: allowed are 0 to 1"):
        probes.spurious_score(pair(0.5), pair(0.5), target)


def test_the_target_may_be_a_boolean():
    clean, after = pair(0.5, 0.4), pair(0.9, 0.1)
    assert probes.spurious_score(clean, after, False) == probes.spurious_score(clean, after, 0)
