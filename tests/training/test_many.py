"""What `train_many` accepts; that it is right is in test_lockstep.py."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers import models, training
from helpers.training import Recipe, many, train_many

BASE = Recipe(epochs=4, batch=16, learning_rate=1e-2)


def task():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(60, 1, 3, 4, generator=draw, dtype=torch.float64)
    return x, torch.randint(3, (60,), generator=draw)


def mlps(count=4, outputs=3):
    return [
        models.fully_connected(12, (8, 7), outputs, seed=seed).double() for seed in range(count)
    ]


def own_samples(x, seed):
    draw = torch.Generator().manual_seed(seed)
    own = (torch.arange(5), torch.rand(5, *x.shape[1:], generator=draw, dtype=x.dtype))
    return [None, None, None, own]


def test_a_checkpoint_of_other_samples_is_refused(tmp_path, monkeypatch):
    x, y = task()
    settings = dict(seed=7, checkpoint=tmp_path / "run.pt", checkpoint_seconds=0)
    monkeypatch.setattr(training.Checkpoint, "remove", lambda self: None)
    train_many(mlps(), x, y, BASE, replaced=own_samples(x, seed=1), **settings)
    with pytest.raises(ValueError, match="belongs to another training"):
        train_many(mlps(), x, y, BASE, replaced=own_samples(x, seed=2), **settings)


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        ([nn.Linear(12, 3)], {}, "in lock step"),
        ([nn.Linear(12, 3, bias=False)], {}, "one by one"),  # on CPUs
        ([nn.Linear(12, 3, bias=False)], {"lockstep": True}, "in lock step"),
        ([nn.Linear(12, 3)], {"lockstep": False}, "one by one"),
        ([nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)], {}, "one by one"),
    ],
)
def test_the_trainer_is_the_faster_one_that_can_do_it(monkeypatch, body, changes, expected):
    chosen = []
    for name, says in (("train_side_by_side", "in lock step"), ("_one_by_one", "one by one")):
        monkeypatch.setattr(many, name, lambda *given, says=says: chosen.append(says))
    net = nn.Sequential(nn.Flatten(), *body).double()
    train_many([net, copy.deepcopy(net)], *task(), BASE, seed=0, **changes)
    assert chosen == [expected]


def other_shape(x, y):
    return dict(models=[*mlps(3), mlps(1, outputs=4)[0]])


def rows_outside(x, y):
    return dict(replaced=[None, None, None, (torch.tensor([60]), x[:1])])


def rows_twice(x, y):
    return dict(replaced=[None, None, None, (torch.tensor([1, 1]), x[:2])])


def wrong_samples(x, y):
    return dict(replaced=[None, None, None, (torch.tensor([1]), x[:2])])


def not_finite(x, y):
    return dict(replaced=[None, None, None, (torch.tensor([1]), x[:1] * math.nan)])


def other_epochs(x, y):
    return dict(recipes=[*[BASE] * 3, replace(BASE, epochs=5)])


def other_schedule(x, y):
    return dict(recipes=[*[BASE] * 3, replace(BASE, cosine=True)])


def too_few_recipes(x, y):
    return dict(recipes=[BASE] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_shape, r"network 3 has 5.weight of shape \(4, 7\), network 0 of shape \(3, 7\)"),
        (rows_outside, r"network 3 must be different rows .* 0\.\.59; got \[60\]"),
        (rows_twice, r"network 3 must be different rows .* got \[1, 1\]"),
        (wrong_samples, "replaced rows of network 3 have dtype"),
        (not_finite, "replaced samples of network 3 must be finite"),
        (other_epochs, "epochs is 5 for network 3 and 4 for network 0"),
        (other_schedule, "cosine is True for network 3 and False for network 0"),
        (too_few_recipes, "4 networks, 3 recipes"),
    ],
)
def test_bad_input(change, message):
    x, y = task()
    arguments = dict(models=mlps(), recipes=BASE, replaced=None) | change(x, y)
    with pytest.raises(ValueError, match=message):
        train_many(inputs=x, labels=y, seed=0, **arguments)
