"""The arithmetic of the census, counted by hand, and its two ways."""

import pytest
import torch

from helpers import models, probes
from helpers.experiments.performance import census as experiment
from helpers.sweep import Call


def test_multiplications_are_counted_by_hand():
    image = torch.rand(1, 3, 32, 32)
    found = experiment.multiplications(models.small_resnet(2, seed=0), image)
    assert found["1"] == 16 * 16 * 16 * 27  # pixels, filters, weights of one
    assert found["5.conv1"] == 8 * 8 * 32 * 16 * 9
    assert found["6.downsample.0"] == 4 * 4 * 64 * 32
    assert found["9"] == 2 * 64


def test_what_remains_after_a_filter_is_counted_by_hand():
    """A chain: after the first layer both others remain, after the second the last one."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 1), torch.nn.Flatten(),
        torch.nn.Linear(8 * 16, 2),
    )  # fmt: skip
    first, second, last = 16 * 8 * 3, 16 * 8 * 8, 2 * 8 * 16
    expected = ((second + last) + last) / 2 / (first + second + last)
    assert experiment.remaining(net, torch.rand(1, 3, 4, 4)) == pytest.approx(expected)


def test_both_ways_agree_and_each_is_timed_under_its_name(monkeypatch):
    clock = {"census": 1.0, "naive": 2.0, "evaluate": 3.0}
    monkeypatch.setattr(experiment, "timed", lambda work: (clock[work.func.__name__], work()))
    row = experiment.census_performance(Call(samples=20, units=6, trial=1))
    assert row["apart"] < 1e-5
    assert [row[f"{way}_seconds"] for way in ("census", "naive", "pass")] == [1, 2, 3]
    assert row["filters"] == -(-336 // (336 // 6)), "every 56th of the network's 336 filters"
    model = models.small_resnet(2, seed=1).eval()
    assert row["remaining"] == pytest.approx(experiment.remaining(model, torch.rand(1, 3, 32, 32)))


def test_the_naive_way_leaves_the_network_alone():
    net = models.small_resnet(2, seed=0).eval()
    images = torch.rand(3, 3, 32, 32)
    before = probes.evaluate(net, images)
    logits = experiment.naive(net, images, probes.channels(net)[:2])
    assert logits.shape == (2, 3, 2) and not torch.equal(logits[0], before)
    assert torch.equal(probes.evaluate(net, images), before)
