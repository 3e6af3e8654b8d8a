"""Networks trained side by side become what each becomes alone."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import models, training
from helpers.training import Recipe, lockstep, train, train_many

NETWORKS = 4


def task(n=60, shape=(1, 3, 4), seed=0, dead=3):
    """Images whose last pixels are zero everywhere, and three classes."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *shape, generator=draw, dtype=torch.float64)
    if dead:
        x.flatten(1)[:, -dead:] = 0
    return x, torch.randint(3, (n,), generator=draw)


def mlps(count=NETWORKS, inputs=12, outputs=3):
    return [
        models.fully_connected(inputs, (8, 7), outputs, seed=seed).double() for seed in range(count)
    ]


class Net(nn.Module):
    """A small CNN with dropout; with batch normalisation if asked for."""

    def __init__(self, norm=False):
        super().__init__()
        middle = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), middle, nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Dropout(0.5), nn.Linear(6, 3))

    def forward(self, x):
        return self.head(self.conv(x))


def convolutional(count=NETWORKS, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [Net(norm).double() for _ in range(count)]


def own_samples(x, seed=1):
    """None for the first network; the others replace rows, and light pixels that are dead in x."""
    draw = torch.Generator().manual_seed(seed)
    owned = [None]
    for count in (1, 5, 20):
        rows = torch.randperm(len(x), generator=draw)[:count]
        owned.append((rows, torch.rand(count, *x.shape[1:], generator=draw, dtype=x.dtype)))
    return owned


def alone(nets, x, y, recipes, seed, owned):
    """Each network by `train`, on a training set of its own."""
    histories = []
    for net, recipe, own in zip(nets, recipes, owned, strict=True):
        inputs = x.clone()
        if own is not None:
            inputs[own[0]] = own[1]
        histories.append(train(net, inputs, y, recipe, seed=seed))
    return histories


def assert_same(nets, others, tolerance=1e-10):
    for net, other in zip(nets, others, strict=True):
        for a, b in zip(net.parameters(), other.parameters(), strict=True):
            assert float((a - b).detach().abs().max()) < tolerance


BASE = Recipe(epochs=4, batch=16, learning_rate=1e-2)
OPTIONS = {
    "adam": [{}] * NETWORKS,
    "rates": [{"learning_rate": rate} for rate in (1e-2, 1e-3, 1e-2, 3e-2)],
    "weight decay": [{"weight_decay": decay} for decay in (0.0, 1e-2, 1e-3, 0.0)],
    "schedule": [{"decay": 0.1, "milestones": (1, 3)}] * NETWORKS,
    "every": [{"decay": 0.5, "decay_every": 2}] * NETWORKS,
    "noise": [{"noise": level} for level in (0.0, 0.1, 0.5, 1.0)],
    "clip by value": [{"clip_value": limit} for limit in (math.inf, 1e-3, 1e-2, 1e-4)],
    "clip by norm": [{"clip_norm": limit} for limit in (math.inf, 1e-1, 1e-2, 1.0)],
    "sgd": [{"optimiser": "sgd"}] * NETWORKS,
    "momentum": [{"optimiser": "sgd", "momentum": m, "weight_decay": m / 50} for m in
                 (0.9, 0.0, 0.9, 0.5)],
    "ending": [{"stop_loss": limit, "epochs": 12} for limit in (0.0, 1.09, 1.05, 0.0)],
    "everything": [
        {"learning_rate": 1e-2 * (k + 1), "weight_decay": 1e-3 * (k % 2), "noise": 0.1 * k,
         "clip_value": 10.0 ** -k, "clip_norm": 0.5 * (k + 1), "decay": 0.3, "milestones": (2,)}
        for k in range(NETWORKS)
    ],
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_lock_step_is_one_by_one(option, kind):
    x, y = task()
    recipes = [replace(BASE, **changes) for changes in OPTIONS[option]]
    owned = own_samples(x)
    nets = mlps() if kind == "mlp" else convolutional()
    others = copy.deepcopy(nets)
    histories = train_many(nets, x, y, recipes, seed=7, replaced=owned, lockstep=True)
    expected = alone(others, x, y, recipes, 7, owned)
    assert_same(nets, others)
    for mine, theirs in zip(histories, expected, strict=True):
        assert mine.epochs == theirs.epochs and mine.loss == pytest.approx(theirs.loss, abs=1e-10)
    assert not any(net.training for net in nets)


def test_option_ending_ends_networks_at_different_times():
    x, y = task()
    recipes = [replace(BASE, **changes) for changes in OPTIONS["ending"]]
    histories = train_many(mlps(), x, y, recipes, seed=7)
    assert len({history.epochs for history in histories}) > 1


def test_mean_squared_error():
    x, y = task()
    recipe = replace(BASE, loss="mse")
    nets = mlps(outputs=1)
    others = copy.deepcopy(nets)
    owned = own_samples(x)
    train_many(nets, x, y.double(), recipe, seed=7, replaced=owned)
    alone(others, x, y.double(), [recipe] * NETWORKS, 7, owned)
    assert_same(nets, others)


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 70),
    dead=st.integers(0, 11),
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=3),
    seed=st.integers(0, 99),
)
def test_any_batch_any_replacement(batch, dead, counts, seed):
    x, y = task(dead=dead, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    owned = [
        (torch.randperm(60, generator=draw)[:count],
         torch.rand(count, *x.shape[1:], generator=draw, dtype=x.dtype))
        for count in counts
    ]  # fmt: skip
    recipe = replace(BASE, batch=batch, epochs=2)
    nets = mlps(len(counts))
    others = copy.deepcopy(nets)
    train_many(nets, x, y, recipe, seed=seed, replaced=owned)
    alone(others, x, y, [recipe] * len(counts), seed, owned)
    assert_same(nets, others)


def test_batch_normalisation_and_augmentation_run_one_by_one():
    x, y = task(shape=(1, 4, 3))
    owned = own_samples(x)
    recipe = replace(BASE, augment=True)
    nets = convolutional(norm=True)
    others = copy.deepcopy(nets)
    train_many(nets, x, y, recipe, seed=7, replaced=owned)
    alone(others, x, y, [recipe] * NETWORKS, 7, owned)
    assert_same(nets, others, tolerance=1e-300)
    with pytest.raises(ValueError, match="batch normalisation keeps running averages"):
        train_many(nets, x, y, BASE, seed=7, lockstep=True)
    with pytest.raises(ValueError, match="images are augmented"):
        train_many(convolutional(), x, y, recipe, seed=7, lockstep=True)


def test_the_generic_path_agrees_with_the_one_for_linear_layers(monkeypatch):
    x, y = task()
    owned = own_samples(x)
    nets, others = mlps(), mlps()
    train_many(nets, x, y, BASE, seed=7, replaced=owned)
    monkeypatch.setattr(lockstep, "is_mlp", lambda model: False)
    train_many(others, x, y, BASE, seed=7, replaced=owned, lockstep=True)
    assert_same(nets, others)


# -- a network that diverges ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "cnn", "one by one"])
def test_a_network_that_diverges_stops_alone(kind):
    x, y = task()
    recipes = [replace(BASE, learning_rate=rate, optimiser="sgd") for rate in (0.1, 1e300, 0.01)]
    nets = mlps(3) if kind == "mlp" else convolutional(3, norm=kind == "one by one")
    others = copy.deepcopy(nets)
    with pytest.warns(RuntimeWarning, match="network 1 ends here: the training loss is"):
        histories = train_many(nets, x, y, recipes, seed=7)
    assert histories[1].epochs < BASE.epochs and not math.isfinite(histories[1].loss)
    for k in (0, 2):
        assert train(others[k], x, y, recipes[k], seed=7).loss == pytest.approx(histories[k].loss)
        assert histories[k].epochs == BASE.epochs
        assert_same([nets[k]], [others[k]])


# -- interrupted ----------------------------------------------------------------------------------


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("kind", ["mlp", "cnn", "one by one"])
def test_a_killed_training_goes_on_to_the_same_networks(tmp_path, monkeypatch, after, kind):
    x, y = task()
    owned = own_samples(x)
    recipes = [replace(BASE, **changes) for changes in OPTIONS["everything"]]
    recipes = [
        replace(r, epochs=6, stop_loss=s) for r, s in zip(recipes, (0, 9, 0, 0), strict=True)
    ]
    settings = dict(seed=7, replaced=owned, checkpoint=tmp_path / "run.pt", checkpoint_seconds=0)

    def fresh():
        return mlps() if kind == "mlp" else convolutional(norm=kind == "one by one")

    way = dict(lockstep=None if kind != "cnn" else True)
    whole, killed = fresh(), fresh()
    expected = train_many(whole, x, y, recipes, seed=7, replaced=owned, **way)
    original, left = training.Checkpoint.save, after

    def save(self, state):
        nonlocal left
        original(self, state)
        left -= 1
        if not left:
            raise Interrupted

    monkeypatch.setattr(training.Checkpoint, "save", save)
    with pytest.raises(Interrupted):
        train_many(killed, x, y, recipes, **settings, **way)
    monkeypatch.undo()
    assert list(tmp_path.iterdir())
    resumed = fresh()
    assert train_many(resumed, x, y, recipes, **settings, **way) == expected
    assert not list(tmp_path.iterdir())
    assert_same(resumed, whole, tolerance=1e-300)


def test_a_diverged_network_leaves_no_checkpoint(tmp_path):
    x, y = task()
    recipes = [replace(BASE, learning_rate=rate, optimiser="sgd") for rate in (1e300, 0.1)]
    kept = dict(checkpoint=tmp_path / "run.pt", checkpoint_seconds=0)
    with pytest.warns(RuntimeWarning, match="network 0 ends here"):
        train_many(convolutional(2, norm=True), x, y, recipes, seed=7, **kept)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_buffers_are_shared(kind):
    """A network that normalises its inputs has buffers, which are no parameters."""
    x, y = task()

    def build(mean):
        body = convolutional(2) if kind == "cnn" else mlps(2)
        return [nn.Sequential(models.Normalise([mean], [0.5]).double(), net) for net in body]

    nets, others = build(0.3), build(0.3)
    owned = own_samples(x)[:2]
    train_many(nets, x, y, BASE, seed=7, replaced=owned, lockstep=True)
    alone(others, x, y, [BASE] * 2, 7, owned)
    assert_same(nets, others)
    with pytest.raises(ValueError, match="0.mean differs between networks"):
        train_many([build(0.3)[0], build(0.4)[1]], x, y, BASE, seed=7, lockstep=True)


# -- what is frozen, shared or not used -----------------------------------------------------------


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("changes", [{"weight_decay": 0.1}, {"clip_norm": 1e-2}])
def test_frozen_layers_stay_and_count_in_no_norm(monkeypatch, linear, changes, half_frozen):
    x, y = task(shape=(6,), dead=0)
    y = y % 2
    recipe = replace(BASE, **changes)
    pairs = [half_frozen(seed) for seed in (0, 1)]
    nets = [net for net, _ in pairs]
    before = [net[1].weight.clone() for net in nets]
    monkeypatch.setattr(lockstep, "is_mlp", lambda model: linear)
    train_many(nets, x, y, recipe, seed=7, lockstep=True)
    for (net, head), first in zip(pairs, before, strict=True):
        assert torch.equal(net[1].weight, first)
        train(head, net[:3](x), y, recipe, seed=7)
        assert_same([net[3]], [head[1]])


def differently_frozen():
    nets = mlps(2)
    nets[1][1].weight.requires_grad_(False)
    return nets


def differently_built():
    nets = mlps(2)
    nets[1][2] = nn.Tanh()
    return nets


@pytest.mark.parametrize(
    ("build", "message"),
    [(differently_frozen, "other parameters are frozen"), (differently_built, "not built alike")],
)
def test_networks_that_differ_in_more_than_numbers_run_one_by_one(build, message):
    x, y = task()
    nets, others = build(), build()
    train_many(nets, x, y, BASE, seed=7)
    alone(others, x, y, [BASE] * 2, 7, [None] * 2)
    assert_same(nets, others, tolerance=1e-300)
    with pytest.raises(ValueError, match=message):
        train_many(build(), x, y, BASE, seed=7, lockstep=True)


class Extra(nn.Module):
    """A network with a layer that nothing goes through."""

    def __init__(self, net):
        super().__init__()
        self.net, self.idle = net, nn.Linear(2, 2).double()

    def forward(self, x):
        return self.net(x)


def tied(net):
    """Two layers with one weight."""
    layers = [*net[:4], nn.ReLU(), nn.Linear(8, 8).double(), *net[4:]]
    layers[5].weight = layers[3].weight
    return nn.Sequential(*layers)


@pytest.mark.parametrize("change", [Extra, tied])
@pytest.mark.parametrize("recipe", [BASE, replace(BASE, clip_norm=0.1, weight_decay=0.1)])
def test_idle_layers_stay_and_shared_ones_are_one(change, recipe):
    x, y = task()
    net = change(models.fully_connected(12, (8, 8), 3, seed=0).double())
    nets = [copy.deepcopy(net).train(), copy.deepcopy(net).eval()]
    others = copy.deepcopy(nets)
    train_many(nets, x, y, recipe, seed=7, lockstep=True)
    alone(others, x, y, [recipe] * 2, 7, [None] * 2)
    assert_same(nets, others)


def test_buffers_that_differ_are_an_obstacle():
    nets = [Net().double(), Net().double()]
    for k, net in enumerate(nets):
        net.register_buffer("shift", torch.tensor(float(k)))
    assert "shift" in lockstep.obstacle(nets, Recipe(epochs=1, batch=8))
