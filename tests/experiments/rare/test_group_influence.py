"""Influence of groups: which images, what is predicted, and what trainings are compared."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers.experiments.rare import group_influence as experiment
from helpers.experiments.rare.deletion import DAMPINGS
from helpers.experiments.rare.group_influence import (
    Group,
    choose,
    group_influence,
    margin,
    predictions,
)
from helpers.probes.influence import MeanLoss, exact
from helpers.sweep import Call

GROUPED = Call(
    dataset="mnist5k", samples=120, epochs=1, spurious=6, kind="pattern", size=3, number=0,
    restart="warm", trial=0, device="cpu", data_dir=None,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """All tests here with a network of one hidden layer, which costs less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "NETWORK", "small mlp")
        yield


def images(samples=60, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(samples, 1, 4, 4, generator=draw), torch.arange(samples) % 3


@pytest.mark.parametrize("kind", ["pattern", "random", "neighbours"])
def test_groups_and_fillers_are_different_images_of_one_class(kind):
    x, y = images()
    spurious = torch.arange(0, 21, 3)
    chosen = [choose(kind, 5, number, x, y, spurious, 0) for number in range(3)]
    assert len({tuple(group.rows.tolist()) for group in chosen}) == 3
    for rows, fillers in chosen:
        assert len({*rows.tolist(), *fillers.tolist()}) == 10
        assert len({*y[rows].tolist(), *y[fillers].tolist()}) == 1
        assert not set(fillers.tolist()) & set(spurious.tolist())
        assert torch.isin(rows, spurious).all() if kind == "pattern" else True
        assert not torch.isin(rows, spurious).any() if kind != "pattern" else True


def test_neighbours_are_the_nearest_of_their_class():
    x, y = images()
    rows, _ = choose("neighbours", 6, 0, x, y, torch.arange(0), 1)
    centre = rows[0]
    apart = np.linalg.norm((x - x[centre]).flatten(1).numpy(), axis=1)
    of_class = [k for k in np.argsort(apart) if y[k] == y[centre]]
    assert rows.tolist() == of_class[:6]


def test_too_few_others_fill_several_places_each():
    x, y = images()
    rows, fillers = choose("random", 13, 0, x, y, torch.arange(0), 0)
    left = set(torch.where(y == 0)[0].tolist()) - set(rows.tolist())
    assert len(left) == 7 and fillers[:7].sort().values.tolist() == sorted(left)
    assert torch.equal(fillers[7:], fillers[:6])


def test_groups_that_cannot_be():
    x, y = images()
    with pytest.raises(ValueError, match="kind is 'odd': allowed are 'pattern', 'random'"):
        choose("odd", 2, 0, x, y, torch.arange(0), 0)
    with pytest.raises(ValueError, match="size is 20: 20 such images, 0 others"):
        choose("random", 20, 0, x, y, torch.arange(0), 0)
    with pytest.raises(ValueError, match="size is 3: 2 such images"):
        choose("pattern", 3, 0, x, y, torch.tensor([0, 3]), 0)


def test_the_margin_ignores_labels_and_what_is_added_to_all_outputs():
    outputs = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert margin(outputs, torch.zeros(2)).tolist() == [2.0, 0.0]
    assert torch.allclose(margin(outputs + 5, torch.ones(2)), margin(outputs, torch.zeros(2)))


def test_predictions_are_those_of_one_solution_a_group():
    x, y = images()
    x, model = x.double(), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    loss = MeanLoss(model, x, y)
    measure = torch.randn(
        loss.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    groups = [choose("random", 4, k, x, y, torch.arange(0), 0) for k in range(2)]
    for group, row in zip(groups, predictions(loss, {"m": measure}, groups), strict=True):
        change = sum(
            sign * loss.gradient(x[part], y[part]) / 60
            for sign, part in zip((1, -1), group, strict=True)
        )
        for damping in DAMPINGS:
            expected = float(measure @ exact(loss, change, damping))
            assert row[f"predicted_m_{damping:g}"] == pytest.approx(expected, rel=1e-5)


def test_groups_replaced_by_themselves_change_nothing(monkeypatch):
    def itself(kind, size, number, inputs, labels, spurious, trial):
        return Group(spurious[:size], spurious[:size])

    monkeypatch.setattr(experiment, "choose", itself)
    for restart in experiment.RESTARTS:
        (row,) = group_influence([Call(GROUPED, restart=restart)])
        assert row.pop("data_source")
        assert all(abs(value) < 1e-5 for value in row.values())


def test_calls_of_a_group_share_the_predictions_but_not_the_trainings():
    calls = [Call(GROUPED, restart=r, number=k) for r in ("warm", "scratch") for k in (0, 1)]
    found = group_influence(calls)
    for name in ("predicted_loss_0.1", "predicted_margin_1"):
        assert found[0][name] == found[2][name] != found[1][name]
    assert len({row["actual_margin"] for row in found}) == 4
    assert all(row["actual_margin"] != row["again_margin"] for row in found)
