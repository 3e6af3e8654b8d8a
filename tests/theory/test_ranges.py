"""What all laws share: ranges of arguments, and a root."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.theory.ranges import check_ranges, larger_root


def test_values_come_back_with_one_shape():
    found = check_ranges({"a": "[0, 1]", "b": "above 0"}, 1, [[0.5], [math.inf]])
    assert [array.tolist() for array in found] == [[[1], [1]], [[0.5], [math.inf]]]


@pytest.mark.parametrize(
    ("words", "inside", "outside"),
    [
        ("finite", (-1e300, 1e300), (-math.inf, math.inf)),
        ("1 or more", (1, math.inf), (0, 1 - 1e-9)),
        ("above 0", (1e-300, math.inf), (0, -1)),
        ("above 0, finite", (1e-300, 1e300), (0, math.inf)),
        ("0 or more, finite", (0, 1e300), (-1e-300, math.inf)),
        ("[0, 1]", (0, 1), (-1e-9, 1 + 1e-9)),
        ("(1/2, 1]", (0.5 + 1e-9, 1), (0.5, 1 + 1e-9)),
    ],
)
def test_ends_of_ranges(words, inside, outside):
    for value in inside:
        check_ranges({"a": words}, value)
    for value in (*outside, math.nan):
        with pytest.raises(ValueError, match="^a is .*: allowed is "):
            check_ranges({"a": words}, np.array([inside[0], value]))


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_the_larger_root_solves_its_equation(half, product):
    x = larger_root(half, product)
    assert x >= 0
    assert x * x == pytest.approx(2 * half * x + product, rel=1e-9, abs=1e-9 * max(1, half**2))


def test_no_digits_of_a_small_root_are_lost():
    assert larger_root(-1e8, 1.0) == pytest.approx(5e-9, rel=1e-12)
    assert larger_root(-1.0, 0.0) == 0
