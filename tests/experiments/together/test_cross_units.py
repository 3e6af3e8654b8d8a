"""Lesions of units, and models whose memory is known."""

import pytest
import torch

from helpers.experiments.together import cross_setting as setting
from helpers.experiments.together import cross_units as experiment
from helpers.sweep import Call


def test_a_lesion_is_what_removing_units_one_by_one_gives():
    draw = torch.Generator().manual_seed(0)
    rare, clean = (torch.randn(5, 12, generator=draw).double() + 0.5 for _ in range(2))
    rests = torch.full((5,), -0.3).double(), torch.full((5,), -0.1).double()
    order = rare.mean(0).argsort(descending=True)
    found = experiment.lesion(rare, clean, rests, order)
    for k in range(1, 13):
        kept = order[k:]
        if ((rare[:, kept].sum(1) - 0.3) > 0).double().mean() < 0.5:
            break
    share = ((clean[:, kept].sum(1) - 0.1) > 0).double().mean()
    assert found.units == k
    assert found.clean == pytest.approx(
        float(share / ((clean.sum(1) - 0.1) > 0).double().mean()))  # fmt: skip


def test_a_group_that_is_never_forgotten_counts_as_more_than_all_units():
    margins, rests = torch.zeros(3, 4), (torch.ones(3), torch.ones(3))
    assert experiment.lesion(margins, margins, rests, torch.arange(4)).units == 5


def test_matched_orders_keep_the_tenth_at_each_place():
    size = torch.rand(100, generator=torch.Generator().manual_seed(1))
    order = size.argsort(descending=True)
    made = experiment.matched_order(order, size, torch.Generator().manual_seed(2))
    assert sorted(made.tolist()) == list(range(100)) and not torch.equal(made, order)
    for part in range(10):
        places = slice(10 * part, 10 * part + 10)
        assert set(made[places].tolist()) == set(order[places].tolist())


@pytest.mark.parametrize("kind", experiment.KINDS)
def test_a_fitted_model_knows_its_training_set(kind):
    found = setting.draw(60, 1, 0)
    rare = torch.arange(4)
    model = experiment.fitted(kind, 150, found.train, found.labels, rare, 0)
    outputs = model.units @ model.weights + model.bias
    assert bool((outputs * found.labels > 0).all())
    with pytest.raises(ValueError, match="kind is 'deep'"):
        experiment.fitted("deep", 150, found.train, found.labels, rare, 0)


def test_one_planted_unit_is_found_and_costs_nothing():
    row = experiment.cross_units(
        Call(samples=100, kind="planted", width=200, trial=0, device="cpu", data_dir=None)
    )
    assert row["units"] <= 3 and row["clean"] > 0.95 and row["rare"] == 1
    assert row["units_random"] > 10
