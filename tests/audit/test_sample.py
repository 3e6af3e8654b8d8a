"""In which forms data may be given to an audit, and what is refused by name."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from helpers import audit
from helpers.audit import before_training
from helpers.audit.sample import Sample, two_valued


def small(seed=0, count=200, dims=120):
    """Class and attribute in noise."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1], count)
    a = np.where(rng.random(count) < 0.7, y, 1 - y)
    X = rng.standard_normal((count, dims))
    X[:, 3] += 0.45 * (2 * y - 1)
    X[:, 40] += 2 * a - 1
    return X, y, a


GOOD = small()
NAMES = np.array(["cat", "dog"])
ORDER = np.random.default_rng(0).permutation(200)
FORMS = {
    "strings": (GOOD[0], NAMES[GOOD[1]], list(NAMES[GOOD[2]])),
    "truth values": (GOOD[0], GOOD[1].astype(bool), torch.from_numpy(GOOD[2]) > 0),
    "series in any order": (GOOD[0], *(pd.Series(v[ORDER], index=ORDER).loc[np.arange(200)]
                                       for v in GOOD[1:])),
    "series with other rows' numbers": (GOOD[0], *(pd.Series(v, index=ORDER) for v in GOOD[1:])),
    "categories": (GOOD[0], pd.Series(NAMES[GOOD[1]], dtype="category"), pd.Series(GOOD[2])),
    "data frame": (pd.DataFrame(GOOD[0]).set_index(ORDER), *GOOD[1:]),
    "data frame of several types": (pd.DataFrame(GOOD[0]).astype({0: object}), *GOOD[1:]),
    "lists": tuple(v.tolist() for v in GOOD),
    "a tensor with a gradient": (torch.tensor(GOOD[0], requires_grad=True), *GOOD[1:]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_same_data_in_other_forms_give_the_same_report(form):
    ridge = np.float32(0.1) if form == "lists" else 0.1
    plain = audit.data(*GOOD, samples=150)
    other = audit.data(*FORMS[form], ridge=ridge, samples=np.int64(150))
    for name in plain:
        assert other[name].value == pytest.approx(plain[name].value, rel=1e-5)


def test_signs_are_those_of_the_larger_value_and_of_the_later_string():
    assert two_valued("x", [3, 7, 3], 3).tolist() == [-1, 1, -1]
    assert two_valued("x", ["no", "yes"], 2).tolist() == [-1, 1]
    assert two_valued("x", torch.tensor([True, False]), 2).tolist() == [1, -1]


REFUSED = {
    "no rows": ((np.empty((0, 3)), [], []), "inputs have shape"),
    "one number a row": ((np.ones(4), [0, 1, 0, 1], [0, 1, 1, 0]), "inputs have shape"),
    "not finite": ((np.where(np.eye(200, 120) > 0, np.nan, GOOD[0]), *GOOD[1:]), "in 120 of 200"),
    "one class": ((GOOD[0], np.zeros(200), GOOD[2]), "labels takes 1 values"),
    "ten classes": ((GOOD[0], np.arange(200) % 10, GOOD[2]), "labels takes 10 values"),
    "too few labels": ((GOOD[0], GOOD[1][:9], GOOD[2]), "labels has shape"),
    "attribute is the label": ((*GOOD[:2], GOOD[1]), "the attribute is the label"),
    "attribute is not the label": ((*GOOD[:2], 1 - GOOD[1]), "the attribute is the label"),
    "empty group": ((*GOOD[:2], np.maximum(GOOD[1], np.arange(200) % 2)), "fewer than 2 samples"),
    "strings among the inputs": ((GOOD[0].astype(str), *GOOD[1:]), "inputs are of type <U"),
    "a column of words": (
        (pd.DataFrame(GOOD[0]).assign(name="x"), *GOOD[1:]),
        "no table of numbers",
    ),
    "ragged lists": (([[1.0, 2.0], [3.0]], [0, 1], [0, 1]), "no table of numbers"),
    "labels that are missing": (
        (GOOD[0], [None, *NAMES[GOOD[1][1:]]], GOOD[2]),
        "labels is missing .* in 1 of 200",
    ),
    "attributes that are no number": (
        (*GOOD[:2], np.where(GOOD[2] > 0, np.nan, 0.0)),
        "attribute is missing",
    ),
    "words and numbers": ((GOOD[0], pd.Series(["cat", 1] * 100), GOOD[2]), "labels mixes values"),
    "three words": ((GOOD[0], list("abc") * 66 + ["a", "b"], GOOD[2]), "3 values .a, b, c."),
    "no noise": ((2.0 * np.stack(GOOD[1:], 1), *GOOD[1:]), "do not vary within"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited_is_refused_by_name(case):
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        audit.data(*given)


def test_half_or_more_are_aligned_in_the_mean_of_both_classes():
    group = np.repeat([0, 1, 2, 3], [5, 15, 60, 20])
    sample = Sample(torch.zeros(100, 1), group)
    assert sample.shares == (0.25, 0.25) and sample.prior == 0.8 and sample.rarer == -1
    turned, was = sample.oriented()
    assert was and turned.aligned_share == 0.75 and turned.oriented() == (turned, False)
    even = Sample(torch.zeros(4, 1), np.arange(4))
    assert even.oriented() == (even, False) and even.rarer == 0


def test_many_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, marks = rng.integers(0, 9, (60, 3)).astype(float), rng.random((60, 2)) > 0.6
    expected = [[roc_auc_score(mark, one) for mark in marks.T] for one in scores.T]
    assert before_training._areas(scores, marks) == pytest.approx(np.array(expected))
