"""Where free outputs end under the contrast."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from helpers import remedies

LABELS = (torch.arange(100) >= 77).long()  # the classes of Waterbirds in a batch


def test_the_contrast_alone_splits_a_batch_in_halves():
    got = remedies.free_outputs(LABELS, label_weight=0, seed=0, steps=500)
    assert got.contrast == pytest.approx(4.7233, abs=3e-3) and got.confidence > 0.99
    assert got.share == pytest.approx(0.5, abs=0.05)
    assert got.contrast < 4.8672  # what the true classes would give


@pytest.mark.parametrize(
    ("label_weight", "head", "expected"),
    [(0.2, "logits", (0.70, 1.0)), (1.0, "softmax", (0.82, 1.0)), (1.0, "logits", (1.0, 1.0))],
)
def test_labels_count_as_the_weights_say(label_weight, head, expected):
    got = remedies.free_outputs(LABELS, label_weight=label_weight, head=head, seed=1, steps=500)
    assert got.accuracy == pytest.approx(expected, abs=0.03)


def test_the_released_weights_leave_labels_near_chance():
    found = [remedies.free_outputs(LABELS, seed=seed, steps=400).accuracy for seed in range(3)]
    assert np.mean(found, axis=0) == pytest.approx([0.52, 0.52], abs=0.12)


def test_chance_is_a_local_minimum_and_not_the_best():
    """Of outputs without doubt, those that move 22 samples of class 0 over have the least loss."""

    def released(moved, right=True):
        said = LABELS.clone()
        said[:moved] = 1
        u = functional.one_hot(said, 2).float()
        return float(remedies.nt_xent(u, u) + 0.2 * functional.cross_entropy(u, LABELS))

    best = min(range(60), key=released)
    assert best == 22 and released(best) < released(0) - 0.09
    at_chance = remedies.free_outputs(LABELS, seed=0, steps=500)
    wrong = 1 - np.dot(at_chance.accuracy, (0.77, 0.23))
    told = 0.2 * (math.log(1 + math.exp(-1)) + wrong)
    assert at_chance.contrast + told > released(best) + 0.02


def test_outputs_that_have_fitted_the_labels_stay():
    got = remedies.free_outputs(LABELS, seed=0, lean=8.0, steps=400)
    assert got.accuracy == pytest.approx((1.0, 1.0), abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"spread": 0.0}, "spread is 0"),
        ({"spread": math.inf}, "spread is inf"),
        ({"lean": math.nan}, "lean is nan"),
        ({"head": "x"}, "head is"),
    ],
)
def test_bad_free_outputs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        remedies.free_outputs(LABELS, seed=0, **settings)
    with pytest.raises(ValueError, match="classes has 2: allowed is 0 and 1"):
        remedies.free_outputs(torch.tensor([0, 1, 2]), seed=0)
    with pytest.raises(ValueError, match="classes has -1"):
        remedies.free_outputs(torch.tensor([-1, 1]), seed=0)
    with pytest.raises(ValueError, match=r"classes have \[0, 5\]"):
        remedies.free_outputs(torch.ones(5, dtype=torch.long), seed=0)
