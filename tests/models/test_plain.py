"""Fully connected and convolutional networks: sizes, outputs, a seed, first weights."""

import pytest
import torch

from helpers import models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_the_small_cnn_has_the_size_counted_by_hand():
    conv = (9 + 1) * 16 + (16 * 9 + 1) * 32
    assert parameters(models.small_cnn(1, 48, 10, seed=0)) == conv + (4608 + 1) * 256 + 257 * 10


def test_images_go_in_and_one_output_a_class_comes_out():
    net = models.small_cnn(3, 48, 10, seed=0)
    assert net.eval()(torch.rand(2, 3, 48, 48)).shape == (2, 10)


def test_no_hidden_layer_is_a_linear_model():
    net = models.fully_connected(6, (), 1, seed=0)
    x = torch.rand(3, 2, 3)
    assert torch.allclose(net(x), x.flatten(1) @ net[1].weight.T + net[1].bias)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.fully_connected(0, (3,), 1, seed=0), "at least 1"),
        (lambda: models.fully_connected(4, (2.0,), 1, seed=0), "is 2.0"),
        (lambda: models.fully_connected(4, (3,), True, seed=0), "is True"),
        (lambda: models.small_cnn(1, 8.0, 2, seed=0), "size is 8.0"),
        (lambda: models.fully_connected(4, (0,), 1, seed=0), "at least 1"),
        (lambda: models.small_cnn(1, 30, 10, seed=0), "size is 30"),
        (lambda: models.small_cnn(1, 0, 10, seed=0), "size is 0"),
        (lambda: models.trades_cnn(0, seed=0), "at least 1"),
        (lambda: models.vgg16(0, seed=0), "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_seed_of_vgg16(monkeypatch):
    """Our part of it, around a small stand-in: the real one takes seconds and half a gigabyte."""

    def stand_in(*, weights, num_classes):
        assert weights is None
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, num_classes))

    monkeypatch.setattr("torchvision.models.vgg16", stand_in)
    first, second, other = (models.vgg16(5, seed=s) for s in (7, 7, 8))
    x = torch.rand(2, 3, 32, 32)
    assert first(x).shape == (2, 5)
    assert torch.equal(first(x), second(x)) and not torch.equal(first(x), other(x))


def test_trades_cnn_starts_undecided():
    net = models.trades_cnn(10, seed=0)
    assert not net(torch.rand(3, 1, 28, 28)).any()
    assert all(not layer.bias.any() for layer in net if isinstance(layer, torch.nn.Conv2d))
    assert [layer.p for layer in net if isinstance(layer, torch.nn.Dropout)] == [0.5]
