"""The bias for the worst group, against a search over a fine grid."""

import pytest
import torch

from helpers import remedies
from helpers.probes import lesions


def worst(margins, labels, groups, offset):
    right = ((margins + offset > 0) == labels.bool()).double()
    return min(float(right[groups == g].mean()) for g in range(4))


@pytest.mark.parametrize("seed", range(5))
def test_no_other_offset_is_better(seed):
    draw = torch.Generator().manual_seed(seed)
    groups = torch.randint(4, (80,), generator=draw)
    labels = groups // 2
    margins = 3 * torch.randn(80, generator=draw) + labels - 2.0 * (groups == 2)
    found = worst(margins, labels, groups, remedies.worst_group_bias(margins, labels, groups))
    grid = [worst(margins, labels, groups, c / 100) for c in range(-2000, 2001)]
    assert found >= max(grid)
    assert found >= worst(margins, labels, groups, lesions.refit_bias(margins, labels, groups))


def test_a_shift_of_the_output_is_taken_back():
    draw = torch.Generator().manual_seed(0)
    groups = torch.randint(4, (80,), generator=draw)
    labels, margins = groups // 2, torch.randn(80, generator=draw, dtype=torch.float64)
    answers = [
        margins + c + remedies.worst_group_bias(margins + c, labels, groups) > 0 for c in (0, 0.7)
    ]
    shares = [[float((said == labels.bool())[groups == g].double().mean()) for g in range(4)]
              for said in answers]  # fmt: skip
    assert min(shares[0]) == min(shares[1])


def test_nothing_is_changed_that_is_right():
    labels = torch.tensor([0, 0, 1, 1])
    assert remedies.worst_group_bias(torch.tensor([-2.0, -1.0, 1.0, 2.0]), labels, labels) == 0


@pytest.mark.parametrize(
    ("margins", "labels", "message"),
    [
        ([0.0], [0, 1], "shapes"), ([], [], "shapes"), ([float("nan"), 1.0], [0, 1], "NaN"),
        ([0.0, 1.0], [0, 2], "labels"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(margins, labels, message):
    labels = torch.tensor(labels)
    with pytest.raises(ValueError, match=message):
        remedies.worst_group_bias(torch.tensor(margins), labels, labels)
