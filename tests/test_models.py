"""Networks of Part I: sizes known from elsewhere, seeds, and what does not fit."""

import pytest
import torch

from helpers import models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_those_of_the_architectures():
    """torchvision's documented counts for 1,000 classes, and a count by hand."""
    assert parameters(models.resnet(18, 1000, seed=0)) == 11_689_512
    assert parameters(models.resnet(50, 1000, seed=0)) == 25_557_032
    conv = (9 + 1) * 16 + (16 * 9 + 1) * 32
    assert parameters(models.small_cnn(1, 48, 10, seed=0)) == conv + (4608 + 1) * 256 + 257 * 10


@pytest.mark.parametrize(
    ("net", "channels"),
    [
        (models.small_cnn(3, 48, 10, seed=0), 3),
        (models.resnet(18, 10, seed=0), 3),
        (models.resnet(18, 10, channels=1, seed=0), 1),
        (models.resnet(18, 10, channels=1, stem="small", seed=0), 1),
    ],
)
def test_images_go_in_and_one_output_a_class_comes_out(net, channels):
    assert net.eval()(torch.rand(2, channels, 48, 48)).shape == (2, 10)


def test_small_stem_keeps_the_resolution():
    net = models.resnet(18, 10, stem="small", seed=0)
    features = net.layer1(net.maxpool(net.bn1(net.conv1(torch.rand(1, 3, 32, 32)))))
    assert features.shape == (1, 64, 32, 32)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, other = (models.fully_connected(5, (4,), 2, seed=s) for s in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_no_hidden_layer_is_a_linear_model():
    net = models.fully_connected(6, (), 1, seed=0)
    x = torch.rand(3, 2, 3)
    assert torch.allclose(net(x), x.flatten(1) @ net[1].weight.T + net[1].bias)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.fully_connected(0, (3,), 1, seed=0), "at least 1"),
        (lambda: models.fully_connected(4, (0,), 1, seed=0), "at least 1"),
        (lambda: models.small_cnn(1, 30, 10, seed=0), "size is 30"),
        (lambda: models.small_cnn(1, 0, 10, seed=0), "size is 0"),
        (lambda: models.resnet(101, 10, seed=0), "depth is 101"),
        (lambda: models.resnet(18, 10, stem="tiny", seed=0), "stem is 'tiny'"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
