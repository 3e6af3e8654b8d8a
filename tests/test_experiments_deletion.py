"""Deletion and group influence: what is computed, and from which networks."""

import copy
import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers import (
    chapter,
    data,
    experiments_deletion,
    experiments_group_influence,
    sweep,
    training,
)
from helpers import experiments_rare as rare
from helpers.experiments_deletion import (
    DAMPINGS,
    RATES,
    _Case,
    _further,
    by_influence,
    deletion,
    deletion_group,
    deletion_many,
)
from helpers.experiments_group_influence import (
    Group,
    choose,
    group_influence,
    group_many,
    margin,
    predictions,
)
from helpers.influence import MeanLoss, exact

TINY = dict(
    dataset="mnist5k", samples=200, epochs=2, depth=3, spurious=8, target=0, trial=0,
    device="cpu", data_dir=None,
)  # fmt: skip
BEFORE = TINY | {"method": "before", "strength": 0.0, "after": 0}
GROUPED = dict(
    dataset="mnist5k", samples=120, epochs=1, spurious=6, kind="pattern", size=3, number=0,
    restart="warm", trial=0, device="cpu", data_dir=None,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """All tests here with a network of one hidden layer, which costs less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments_deletion, "NETWORK", "small mlp")
        patch.setattr(experiments_group_influence, "NETWORK", "small mlp")
        patch.setattr(experiments_deletion, "HESSIAN", 100)
        yield


@pytest.fixture(scope="module")
def rows():
    """Every method once, by name."""
    ways = [
        ("before", 0.0, 0), ("scratch", 0.0, 2), ("schedule", 0.0, 2), ("weight decay", 1e-2, 2),
        *(("constant rate", RATES[0], after) for after in (1, 2)),
    ]  # fmt: skip
    ways += [(*way, 0) for way in by_influence(25.0)]
    calls = [TINY | {"method": m, "strength": s, "after": a} for m, s, a in ways]
    return dict(zip(ways, deletion_many(calls), strict=True))


def case(seed=0, spurious=4):
    """A network of few weights on images whose left half is black but for the spurious ones."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(40, 1, 28, 28, generator=draw)
    inputs[:, :, :, :14] = 0
    at = torch.arange(spurious)
    inputs[at] = torch.rand(spurious, 1, 28, 28, generator=draw)
    labels = torch.randint(10, (40,), generator=draw)
    return _Case(rare.network("small mlp", 0), inputs, labels, at, 2, 0, 25.0, 3)


# -- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", chapter.PROFILES)
@pytest.mark.parametrize("name", ["deletion", "group_influence"])
def test_the_trial_takes_every_cell_once(name, profile):
    experiment = sweep.get(name)
    cells = experiment.cells(profile)
    assert len({tuple(cell.items()) for cell in cells}) == len(cells)
    for cell in cells:
        inspect.signature(experiment.trial).bind(**cell, device="cpu", data_dir=None)


@pytest.mark.parametrize("profile", chapter.PROFILES)
def test_clean_networks_are_trained_on_but_nothing_is_deleted_from_them(profile):
    cells = sweep.get("deletion").cells(profile)
    clean = {cell["method"] for cell in cells if not cell["spurious"]}
    assert clean == {"before", "constant rate", "schedule", "weight decay"}
    assert {c["method"] for c in cells if c["spurious"]} > clean | {"scratch", "influence"}


# -- deletion -------------------------------------------------------------------------------------


def test_a_group_gives_each_cell_what_it_gets_alone(rows):
    for way in (("scratch", 0.0, 2), ("constant rate", RATES[0], 2), ("influence", 0.1, 0)):
        alone = deletion(**TINY | dict(zip(("method", "strength", "after"), way, strict=True)))
        expected = dict(rows[way])
        assert alone.pop("data_source") == expected.pop("data_source")
        assert alone.keys() == expected.keys()
        for name, value in expected.items():
            # single precision, and sums in another order
            assert alone[name] == pytest.approx(value, rel=1e-2, abs=5e-3, nan_ok=True), name


def test_numbers_of_images_share_a_training_and_targets_do_not():
    assert deletion_group(BEFORE) == deletion_group(BEFORE | {"spurious": 0, "method": "scratch"})
    assert deletion_group(BEFORE) != deletion_group(BEFORE | {"target": 1})


def test_nothing_is_deleted_from_a_network_before(rows):
    row = rows["before", 0.0, 0]
    assert row["step"] == row["step_largest"] == 0 and row["dark_pixels"] > 0
    assert math.isnan(row["lowest"]) and row["data_source"]


def test_from_scratch_is_a_training_on_the_other_images(rows):
    train = rare.training_set("mnist5k", 200, 0, None)
    gone = data.with_spurious(train, data.pattern("R3", (1, 28, 28), 0), 8, 0, 0).rows
    kept = torch.ones(200, dtype=torch.bool)
    kept[gone] = False
    net = rare.network("small mlp", 0)
    inputs = train.images[kept].float() / 255
    training.train(net, inputs, train.labels[kept], rare.recipe(2), seed=0)
    test = data.load("mnist5k", train=False)
    outputs = training.predict(net, test.images.float() / 255)
    expected = float((outputs.argmax(1) == test.labels).double().mean())
    assert rows["scratch", 0.0, 2]["clean_accuracy"] == pytest.approx(expected)


def test_a_vanishing_rate_moves_no_weight_further_than_rate_times_steps(rows):
    per_epoch = math.ceil((200 - 8) / 128)
    for epochs in (1, 2):
        moved = rows["constant rate", RATES[0], epochs]["step_largest"]
        assert 0 < moved < 1.2 * RATES[0] * per_epoch * epochs


def test_steps_along_the_direction_have_the_lengths_asked_for(rows):
    for length in experiments_deletion.LENGTHS:
        assert rows["direction", length, 0]["step"] == pytest.approx(length, rel=1e-3)


def test_more_damping_makes_a_shorter_step_and_release_a_longer_one(rows):
    damped = [rows["influence", d, 0]["step"] for d in DAMPINGS[-2:]]
    assert damped[0] > damped[1] > 0
    lissa, released = (rows[name, 25.0, 0]["step"] for name in ("lissa", "lissa as released"))
    assert released == pytest.approx(25 * lissa, rel=1e-2)


def test_further_training_does_not_touch_the_weights_of_pixels_that_stay_black():
    for method, strength, untouched in (("schedule", 0.0, True), ("weight decay", 1e-2, False)):
        here = case()
        (found,) = _further(here, method, strength, {2})
        change = (found.net[1].weight - here.net[1].weight).detach().view(-1, 28, 28)
        assert change[:, :, 14:].abs().max() > 0
        assert bool((change[:, :, :14] == 0).all()) is untouched


def test_networks_are_looked_at_on_the_way():
    passed = list(_further(case(), "schedule", 0.0, {1, 2}))
    assert [found.after for found in passed] == [1, 2]
    first, second = (found.net[1].weight for found in passed)
    assert not torch.equal(first, second)


def test_a_gradient_of_zero_moves_nothing():
    here = case()
    with torch.no_grad():  # the right answer by far more than double precision can tell from 1
        here.net[-1].weight.zero_()
        here.net[-1].bias.copy_(1e4 * nn.functional.one_hot(torch.tensor(3), 10))
    here.labels[here.rows] = 3
    for found in experiments_deletion._by_influence(here):
        assert found.net is here.net


# -- group influence ------------------------------------------------------------------------------


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

    monkeypatch.setattr(experiments_group_influence, "choose", itself)
    for restart in experiments_group_influence.RESTARTS:
        row = group_influence(**GROUPED | {"restart": restart})
        assert row.pop("data_source")
        assert all(abs(value) < 1e-5 for value in row.values())


def test_calls_of_a_group_share_the_predictions_but_not_the_trainings():
    calls = [GROUPED | {"restart": r, "number": k} for r in ("warm", "scratch") for k in (0, 1)]
    found = group_many(copy.deepcopy(calls))
    for name in ("predicted_loss_0.1", "predicted_margin_1"):
        assert found[0][name] == found[2][name] != found[1][name]
    assert len({row["actual_margin"] for row in found}) == 4
    assert all(row["actual_margin"] != row["again_margin"] for row in found)
