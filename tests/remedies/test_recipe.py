"""The recipe of fine-tuning."""

import math

import pytest

from helpers.remedies import Contrast


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"batch": 1}, "batch is 1: it must be at least 2"),
        ({"epochs": True}, "epochs is True"),
        ({"batch": 20.5}, "batch is 20.5"),
        ({"patience": math.nan}, "patience is nan"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"share": 1.0}, "share is 1.0: allowed is between 0 and 1"),
        ({"factor": 1.5}, "factor is 1.5"),
        ({"label_weight": -1}, "label_weight is -1"),
        ({"contrast_weight": 0, "label_weight": 0}, "nothing is minimised"),
        ({"mask": "largest"}, "mask is 'largest': allowed are 'magnitude', 'gradient'"),
        ({"head": "sigmoid"}, "head is 'sigmoid'"),
        ({"sampling": "twice"}, "sampling is 'twice'"),
    ],
)
def test_bad_recipes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Contrast(**settings)
