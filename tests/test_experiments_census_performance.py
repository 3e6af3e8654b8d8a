"""The arithmetic of the census, counted by hand, and its two ways."""

import pytest
import torch

from helpers import experiments_census_performance as experiment
from helpers import models, tracing


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


def test_both_ways_agree_and_take_time():
    row = experiment.census_performance(samples=20, units=6, trial=1)
    assert row["apart"] < 1e-5 and row["filters"] >= 6
    assert min(row["census_seconds"], row["naive_seconds"], row["pass_seconds"]) > 0
    assert 0 < row["remaining"] < 1


def test_the_naive_way_leaves_the_network_alone():
    net = models.small_resnet(2, seed=0).eval()
    images = torch.rand(3, 3, 32, 32)
    before = tracing.evaluate(net, images)
    logits = experiment.naive(net, images, tracing.channels(net)[:2])
    assert logits.shape == (2, 3, 2) and not torch.equal(logits[0], before)
    assert torch.equal(tracing.evaluate(net, images), before)
