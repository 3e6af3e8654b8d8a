"""Labels and outputs: what belongs together, and what is refused by its value."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import data

TWO, SIGNS = torch.tensor([0, 1, 1]), torch.tensor([-1, 1, 1])
ONE = torch.tensor([-2.0, 3.0, -1.0])
SEVERAL = torch.stack([-ONE, ONE], 1)


@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 999))
def test_several_outputs_are_read_by_the_largest(n, classes, seed):
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, classes, generator=draw)
    labels = torch.randint(0, classes, (n,), generator=draw)
    best = [max(range(classes), key=row.__getitem__) for row in outputs.tolist()]
    expected = [b == y for b, y in zip(best, labels.tolist(), strict=True)]
    for dtype in (torch.int64, torch.uint8, torch.float64):
        assert data.right_answers(outputs, labels.to(dtype)).tolist() == expected
    # of two outputs the difference is one
    difference = outputs[:, 1] - outputs[:, 0]
    if classes == 2:
        for one in (difference, difference[:, None]):
            assert data.right_answers(one, 2 * labels - 1).tolist() == expected


def test_two_classes_may_be_told_by_booleans():
    assert data.right_answers(SEVERAL, TWO.bool()).tolist() == [True, True, False]


def test_an_output_of_zero_is_wrong_and_a_tie_goes_to_the_first():
    assert data.right_answers(torch.zeros(2), torch.tensor([-1, 1])).tolist() == [False, False]
    assert data.right_answers(torch.zeros(2, 2), torch.tensor([0, 1])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (ONE, TWO, "labels has 0: allowed is -1 and 1"),
        (ONE[:, None], TWO, "labels has 0"),
        (ONE, TWO.bool(), "labels has False"),
        (ONE, SIGNS * 1.5, "labels has -1.5"),
        (SEVERAL, SIGNS, "labels has -1: allowed is 0 and 1"),
        (SEVERAL, TWO + 1, "labels has 2"),
        (SEVERAL.repeat(1, 2), 5 * TWO, "labels has 5: allowed is 0 to 3"),
        (SEVERAL, TWO * 0.5, "labels has 0.5"),
        (SEVERAL, TWO * math.nan, "labels has nan"),
        (SEVERAL, TWO[:, None], r"shape \(3, 2\) and labels \(3, 1\)"),
        (SEVERAL, TWO[:1], r"labels \(1,\)"),
        (ONE, SIGNS[:1], r"labels \(1,\)"),
        (ONE, SIGNS[0], r"labels \(\)"),
        (ONE[0], SIGNS, r"outputs have shape \(\)"),
        (ONE[:, None], SIGNS[:, None], r"labels \(3, 1\)"),
        (SEVERAL[None], TWO, r"outputs have shape \(1, 3, 2\)"),
        (ONE[:0], SIGNS[:0], "n at least 1"),
        (SEVERAL[:0], TWO[:0], "n at least 1"),
        (SEVERAL[:, :0], TWO, r"shape \(3, 0\)"),
        (ONE > 0, SIGNS, "outputs of dtype torch.bool"),
        *((part * bad, y, "finite")
          for part, y in ((ONE, SIGNS), (SEVERAL, TWO)) for bad in (math.nan, math.inf)),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(outputs, labels, message):
    with pytest.raises(ValueError, match=message):
        data.right_answers(outputs, labels)


def test_one_value_that_is_not_finite_is_enough():
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite"):
            data.margins(torch.cat([ONE[:2], torch.tensor([bad])]), SIGNS)


def test_margins_are_for_one_output():
    assert data.margins(ONE[:, None], SIGNS).tolist() == [2.0, 3.0, -1.0]
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        data.margins(SEVERAL, TWO)
    with pytest.raises(ValueError, match=r"shape \(3, 1\)"):
        data.check_answers(ONE[:, None], 0 * TWO, single=False)


def test_values_are_refused_by_name():
    data.check_values("groups", torch.tensor([0.0, 3.0]), range(4))
    data.check_values("groups", torch.zeros(0), range(4))
    with pytest.raises(ValueError, match="^groups has -2: allowed is 0 to 3$"):
        data.check_values("groups", torch.tensor([9, -2]), range(4))
    with pytest.raises(ValueError, match="^groups has 0: allowed is nothing$"):
        data.check_values("groups", torch.tensor([0]), range(0))


def test_integer_outputs_do_not_overflow():
    outputs = torch.tensor([-128, 100], dtype=torch.int8)
    assert data.right_answers(outputs, torch.tensor([-1, 1], dtype=torch.int8)).all()
