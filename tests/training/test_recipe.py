"""Recipes and data that make no sense, and the rates of those that do."""

import math

import pytest
import torch

from helpers import training
from helpers.training import Recipe

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


@pytest.mark.parametrize(
    ("inputs", "labels", "loss", "message"),
    [
        (X, Y[:2], "cross_entropy", "one label for each"),
        (X[:0], Y[:0], "cross_entropy", "at least one sample"),
        (X * math.nan, Y, "cross_entropy", "finite floats"),
        (X.to(torch.complex128), Y, "cross_entropy", "complex128 must be finite floats"),
        (X, Y.double(), "cross_entropy", "int64 class indices"),
        (X, Y - 1, "cross_entropy", "labels has -1: allowed is 0 and 1"),
        (X, Y - 100, "cross_entropy", "labels has -100"),  # which the loss would leave out
        (X, Y + 1, "cross_entropy", "labels has 2: allowed is 0 and 1"),
        (X, Y[:, None], "cross_entropy", "one label for each"),
        (X, Y.double(), "mse", r"outputs of shape \(2,\) a sample: the loss 'mse' takes one"),
        (X, Y, "mse", "must be finite and torch.float64"),
        (X, Y * math.inf, "mse", "must be finite"),
        (X, Y.double(), "logistic", r"allowed -1, \+1"),
    ],
)
def test_data_that_cannot_be_learned_are_named(inputs, labels, loss, message, network):
    with pytest.raises(ValueError, match=message):
        training.train(network(), inputs, labels, Recipe(epochs=1, batch=1, loss=loss), seed=0)


def test_no_way_of_training_takes_outputs_that_do_not_fit(network):
    one, nets, recipe = network(outputs=1), [network(), network()], Recipe(epochs=1, batch=1)
    with pytest.raises(ValueError, match=r"shape \(2,\) a sample"):  # not spread over networks
        training.train_many(nets, X, Y.double(), Recipe(epochs=1, batch=1, loss="mse"), seed=0)
    with pytest.raises(ValueError, match=r"shape \(1,\) a sample: .* takes \(classes,\)"):
        training.train(one, X, 0 * Y, recipe, seed=0)  # the loss would be 0 from the start
    with pytest.raises(ValueError, match="labels has 2"):
        training.train(nets[0], X, Y + 1, recipe, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": math.nan}, "epochs is nan"),
        ({"epochs": True}, "epochs is True"),
        ({"batch": 2.0}, "batch is 2.0"),
        ({"batch": math.inf}, "batch is inf"),
        ({"decay_every": 1.5}, "decay_every is 1.5"),
        ({"decay_every": math.nan}, "decay_every is nan"),
        ({"milestones": (2, 0)}, r"milestones\[1\] is 0"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"stop_loss": math.nan}, "stop_loss is nan"),
        ({"loss": "hinge"}, "loss is 'hinge': allowed are 'cross_entropy', 'mse'"),
        ({"loss": "sd"}, "strength of sd is 0.0"),
        ({"loss_strength": 0.1}, "the loss 'cross_entropy' has none"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"stop_loss": -0.1}, "stop_loss is -0.1"),
        ({"optimiser": "lion"}, "optimiser is 'lion'"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"clip_value": 0.0}, "clip_value is 0.0"),
        ({"clip_norm": math.nan}, "clip_norm is nan"),
        ({"momentum": 0.9}, "momentum is 0.9: only 'sgd' has it"),
        ({"decay": 0.5, "decay_every": 2, "milestones": (1,)}, "decay_every is 2 and milestones"),
        ({"decay": 0.0}, "decay is 0.0"),
        ({"cosine": True, "milestones": (1,)}, "cosine is True"),
    ],
)
def test_recipes_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"epochs": 1, "batch": 1} | changes)


def test_rates_fall_as_the_recipe_says():
    every = Recipe(epochs=6, batch=1, learning_rate=1.0, decay=0.5, decay_every=2)
    assert [every.rate(epoch) for epoch in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    cosine = Recipe(epochs=4, batch=1, learning_rate=1.0, cosine=True)
    expected = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [cosine.rate(epoch) for epoch in range(4)] == pytest.approx(expected)
