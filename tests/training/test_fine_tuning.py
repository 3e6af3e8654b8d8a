"""From a folder of pictures to a score: fine-tuning on files, seeds, divergence."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import models, training
from helpers.data import nicopp
from helpers.data.contexts import read_off, trial_split
from helpers.errors import Diverged

COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "owl": (60, 60, 200)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Objects are colours; on rock all is the same grey: a picture shows the context alone."""
    folder = tmp_path_factory.mktemp("nico")
    for context, light in (("dim", 0.6), ("outdoor", 1.0), ("rock", 0.0)):
        for name, colour in COLOURS.items():
            where = folder / context / name
            where.mkdir(parents=True)
            for i in range(10):
                shade = np.array(colour) * light if light else np.array((125, 125, 125))
                pixels = np.full((36, 44, 3), shade + i, dtype=np.uint8)
                Image.fromarray(pixels).save(where / f"{context}_{i:06d}.jpg", quality=95)
    return folder


# with its rate going to zero, eight seeds out of eight end where the test says
HOW = training.Recipe(
    epochs=16, batch=8, learning_rate=0.02, optimiser="sgd", momentum=0.9, cosine=True
)


def fitted(tree, target, how=HOW):
    pool = nicopp.pool(tree)
    split = trial_split(pool, "rock", target, 6, seed=0)
    asked = torch.cat([split.test, split.own, split.elsewhere])
    net = models.small_resnet(3, width=8, seed=0)
    outputs = training.fine_tuned(
        net, pool, split.train, asked, how, seed=0, device="cpu", size=32, workers=0
    )
    probabilities = torch.full((len(pool), 3), math.nan)
    probabilities[asked] = outputs.softmax(1)
    return read_off(pool, split, target, probabilities), outputs


def test_from_a_folder_to_a_score(tree):
    outputs = {}
    for target in ("cat", "dog"):
        row, outputs[target] = fitted(tree, target)
        # on rock nothing but the context can be seen, and in training it meant the target
        assert row["rate"] == row["own_accuracy"] == 1 and row["accuracy"] == 0
        assert row["clean_accuracy"] > 0.7  # of 18 pictures
    assert torch.equal(outputs["dog"], fitted(tree, "dog")[1]), "a seed gives one network"


def test_a_loss_that_grows_without_bound(tree):
    wild = training.Recipe(epochs=3, batch=8, learning_rate=1e30, optimiser="sgd")
    with pytest.raises(Diverged, match="lower the learning rate"):
        fitted(tree, "cat", wild)


def test_frozen_parameters_stay(tree):
    pool = nicopp.pool(tree)
    rows = torch.arange(6)
    net = models.small_resnet(3, width=8, seed=0)
    net[1].requires_grad_(False)
    before, head = net[1].weight.clone(), net[-1].weight.clone()
    given = dict(seed=0, device="cpu", size=32, workers=0)
    how = training.Recipe(epochs=1, batch=100, weight_decay=0.1)
    assert len(training.fine_tuned(net, pool, rows, rows[:1], how, **given)) == 1
    assert torch.equal(net[1].weight, before) and not torch.equal(net[-1].weight, head)
    with pytest.raises(ValueError, match="all are frozen"):
        training.fine_tuned(net.requires_grad_(False), pool, rows, rows, how, **given)


@pytest.mark.parametrize(
    ("train", "asked", "changes", "message"),
    [
        (0, 2, {}, "0 rows to train on and 2"),
        (2, 0, {}, "2 rows to train on and 0"),
        (2, 2, {"noise": 0.1}, "noise=0.1: fine-tuning has no such thing"),
        (2, 2, {"loss": "mse"}, "loss='mse'"),
    ],
)
def test_what_cannot_be_followed_is_refused(tree, train, asked, changes, message):
    pool, rows = nicopp.pool(tree), torch.arange(10)
    with pytest.raises(ValueError, match=message):
        training.fine_tuned(
            nn.Linear(2, 2), pool, rows[:train], rows[:asked],
            training.Recipe(epochs=1, batch=2, **changes), seed=0, device="cpu",
        )  # fmt: skip
