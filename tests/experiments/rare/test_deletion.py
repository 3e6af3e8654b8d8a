"""Deletion: what is computed, and from which networks."""

import math

import pytest
import torch
from torch import nn

from helpers import data, sweep, training
from helpers.experiments.rare import deletion as experiment
from helpers.experiments.rare import setup
from helpers.experiments.rare.deletion import (
    DAMPINGS,
    RATES,
    Case,
    by_influence,
    deletion,
    further,
)
from helpers.project import PROFILES
from helpers.sweep import Call

TINY = Call(
    dataset="mnist5k", samples=200, epochs=2, depth=3, spurious=8, target=0, trial=0,
    device="cpu", data_dir=None,
)  # fmt: skip
BEFORE = Call(TINY, method="before", strength=0.0, after=0)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """All tests here with a network of one hidden layer, which costs less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "NETWORK", "small mlp")
        patch.setattr(experiment, "HESSIAN", 100)
        yield


@pytest.fixture(scope="module")
def rows():
    """Every method once, by name."""
    ways = [
        ("before", 0.0, 0), ("scratch", 0.0, 2), ("schedule", 0.0, 2), ("weight decay", 1e-2, 2),
        *(("constant rate", RATES[0], after) for after in (1, 2)),
    ]  # fmt: skip
    ways += [(*way, 0) for way in by_influence(25.0)]
    calls = [Call(TINY, method=m, strength=s, after=a) for m, s, a in ways]
    return dict(zip(ways, deletion(calls), strict=True))


def case(seed=0, spurious=4):
    """A network of few weights on images whose left half is black but for the spurious ones."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(40, 1, 28, 28, generator=draw)
    inputs[:, :, :, :14] = 0
    at = torch.arange(spurious)
    inputs[at] = torch.rand(spurious, 1, 28, 28, generator=draw)
    labels = torch.randint(10, (40,), generator=draw)
    return Case(setup.network("small mlp", 0), inputs, labels, at, TINY)


# -- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_clean_networks_are_trained_on_but_nothing_is_deleted_from_them(profile):
    cells = sweep.get("deletion").cells(profile)
    clean = {cell["method"] for cell in cells if not cell["spurious"]}
    assert clean == {"before", "constant rate", "schedule", "weight decay"}
    assert {c["method"] for c in cells if c["spurious"]} > clean | {"scratch", "influence"}


# -- deletion -------------------------------------------------------------------------------------


def test_a_group_gives_each_cell_what_it_gets_alone(rows):
    for way in (("scratch", 0.0, 2), ("constant rate", RATES[0], 2), ("influence", 0.1, 0)):
        (alone,) = deletion(
            [Call(TINY, **dict(zip(("method", "strength", "after"), way, strict=True)))]
        )
        expected = dict(rows[way])
        assert alone.pop("data_source") == expected.pop("data_source")
        assert alone.keys() == expected.keys()
        for name, value in expected.items():
            # single precision, and sums in another order
            assert alone[name] == pytest.approx(value, rel=1e-2, abs=5e-3, nan_ok=True), name


def test_numbers_of_images_share_a_training_and_targets_do_not():
    group = sweep.get("deletion").group
    assert group(BEFORE) == group(BEFORE | {"spurious": 0, "method": "scratch"})
    assert group(BEFORE) != group(BEFORE | {"target": 1})


def test_nothing_is_deleted_from_a_network_before(rows):
    row = rows["before", 0.0, 0]
    assert row["step"] == row["step_largest"] == 0 and row["dark_pixels"] > 0
    assert math.isnan(row["lowest"]) and row["data_source"]


def test_from_scratch_is_a_training_on_the_other_images(rows):
    train = setup.training_set("mnist5k", 200, 0, None)
    gone = data.with_spurious(train, data.pattern("R3", (1, 28, 28), 0), 8, 0, 0).rows
    kept = torch.ones(200, dtype=torch.bool)
    kept[gone] = False
    net = setup.network("small mlp", 0)
    inputs = train.images[kept].float() / 255
    training.train(net, inputs, train.labels[kept], setup.recipe(2), seed=0)
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
    for length in experiment.LENGTHS:
        assert rows["direction", length, 0]["step"] == pytest.approx(length, rel=1e-3)


def test_more_damping_makes_a_shorter_step_and_release_a_longer_one(rows):
    damped = [rows["influence", d, 0]["step"] for d in DAMPINGS[-2:]]
    assert damped[0] > damped[1] > 0
    lissa, released = (rows[name, 25.0, 0]["step"] for name in ("lissa", "lissa as released"))
    assert released == pytest.approx(25 * lissa, rel=1e-2)


def test_further_training_does_not_touch_the_weights_of_pixels_that_stay_black():
    for method, strength, untouched in (("schedule", 0.0, True), ("weight decay", 1e-2, False)):
        here = case()
        (found,) = further(here, method, strength, {2})
        change = (found.net[1].weight - here.net[1].weight).detach().view(-1, 28, 28)
        assert change[:, :, 14:].abs().max() > 0
        assert bool((change[:, :, :14] == 0).all()) is untouched


def test_networks_are_looked_at_on_the_way():
    passed = list(further(case(), "schedule", 0.0, {1, 2}))
    assert [found.after for found in passed] == [1, 2]
    first, second = (found.net[1].weight for found in passed)
    assert not torch.equal(first, second)


def test_a_gradient_of_zero_moves_nothing():
    here = case()
    with torch.no_grad():  # the right answer by far more than double precision can tell from 1
        here.net[-1].weight.zero_()
        here.net[-1].bias.copy_(1e4 * nn.functional.one_hot(torch.tensor(3), 10))
    here.labels[here.rows] = 3
    for found in experiment.influence_steps(here):
        assert found.net is here.net


def test_images_that_contradict_the_pattern_delete_it():
    found = experiment.counterexamples(0, "cpu")
    assert list(found) == ["before", "without", "with"]
    assert found["before"] > 0.5 and found["without"] > 0.5
    assert found["with"] < 0.5 * found["without"]
