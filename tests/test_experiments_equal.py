"""Patterns of one norm: their norm and places, and networks that are those of the plain trainer."""

import pytest
import torch

from helpers import data, experiments_equal, experiments_rare, training


def test_patterns_have_one_norm_and_the_pixels_of_their_name():
    others = data.load("mnist5k", train=False)
    for name, v in experiments_equal.spread_out(3).items():
        assert int((v > 0).sum()) == int(name.split(", ")[1])
        added = (others.images / 255 + v).clamp(max=1) - others.images / 255
        assert float(added.flatten(1).norm(dim=1).mean()) == pytest.approx(3.5, rel=1e-3)
        assert len(v[v > 0].unique()) == 1
    one, other = (experiments_equal.spread_out(s)["anywhere, 25"] for s in (0, 1))
    assert not torch.equal(one > 0, other > 0)


def test_a_network_is_what_the_plain_trainer_makes_of_the_spurious_set():
    common = dict(samples=300, epochs=2, optimiser="adam", trial=5, device="cpu", data_dir=None)
    calls = [dict(pixels="anywhere, 784", n=20, **common), dict(pixels="corner, 25", n=5, **common)]
    row = experiments_equal.equal_many(calls)[0]
    digits = data.load("mnist5k")
    own = digits.rows(torch.randperm(len(digits), generator=torch.Generator().manual_seed(5))[:300])
    v = experiments_equal.spread_out(5)["anywhere, 784"]
    rows, shown = data.with_spurious(own, v, 20, 0, 5)
    inputs = own.images.float() / 255
    inputs[rows] = shown
    net = experiments_rare.network("mlp", 5)
    training.train(net, inputs, own.labels, experiments_rare.recipe(2), seed=5)
    assert row["score"] == pytest.approx(experiments_equal.target_score(net, v, "cpu"), abs=0.01)
    alone = experiments_equal.equal_norms(**calls[0])
    assert alone["score"] == pytest.approx(row["score"], abs=0.01)
