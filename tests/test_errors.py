"""Errors come out of worker processes as they were."""

import pickle

from helpers.errors import Diverged


def test_a_divergence_survives_being_handed_on():
    error = pickle.loads(pickle.dumps(Diverged(float("inf"), 3, 10, 0.5)))
    assert error.epoch == 3 and isinstance(error, FloatingPointError)
    assert str(error) == (
        "the training loss is inf in epoch 3 of 10: lower the learning rate (0.5) or rescale the "
        "inputs"
    )
