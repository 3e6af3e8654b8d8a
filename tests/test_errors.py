"""Errors come out of worker processes as they were; numbers that count are whole."""

import math
import pickle
import re

import numpy as np
import pytest

from helpers.errors import Diverged, check_whole


def test_a_divergence_survives_being_handed_on():
    error = pickle.loads(pickle.dumps(Diverged(float("inf"), 3, 10, 0.5)))
    assert error.epoch == 3 and isinstance(error, FloatingPointError)
    assert str(error) == (
        "the training loss is inf in epoch 3 of 10: lower the learning rate (0.5) or rescale the "
        "inputs"
    )


@pytest.mark.parametrize("number", [1, 2, np.int64(7)])
def test_whole_numbers_pass(number):
    check_whole(number=number)


@pytest.mark.parametrize("number", [0, -3, 1.0, True, math.nan, math.inf, None, "2"])
def test_what_is_no_whole_number_is_named(number):
    with pytest.raises(ValueError, match=re.escape(f"number is {number!r}: it must be at least 1")):
        check_whole(number=number)
