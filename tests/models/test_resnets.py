"""Residual networks: sizes known from elsewhere, shortcuts, stages."""

import pytest
import torch

from helpers import models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_those_of_the_architectures():
    """torchvision's documented counts for 1,000 classes."""
    assert parameters(models.resnet(18, 1000, seed=0)) == 11_689_512
    assert parameters(models.resnet(50, 1000, seed=0)) == 25_557_032


@pytest.mark.parametrize(
    ("net", "channels"),
    [
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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.resnet(101, 10, seed=0), "depth is 101"),
        (lambda: models.resnet(18, 10, stem="tiny", seed=0), "stem is 'tiny'"),
        (lambda: models.cifar_resnet(18, 10, seed=0), r"depth is 18: allowed is 6 k \+ 2"),
        (lambda: models.cifar_resnet(2, 10, seed=0), "depth is 2"),
        (lambda: models.cifar_resnet(20, 0, seed=0), "at least 1"),
        (lambda: models.cifar_resnet(20.0, 2, seed=0), "depth is 20.0"),
        (lambda: models.resnet(18, float("nan"), seed=0), "outputs is nan"),
        (lambda: models.cifar_resnet(20, 10, width=0, seed=0), "at least 1"),
        (lambda: models.small_resnet(2, width=12, seed=0), "width is 12"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_option_a_shortcut_drops_pixels_and_adds_channels_of_zeros():
    net = models.cifar_resnet(8, 10, width=4, seed=0).eval()
    block = net[5]  # first of the second stage
    torch.nn.init.zeros_(block.bn2.weight)  # only the shortcut is left
    x = torch.rand(2, 4, 8, 8)
    out = block(x)
    assert out.shape == (2, 8, 4, 4)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any() and not out[:, 6:].any()


def test_stages_of_a_cifar_resnet():
    net = models.cifar_resnet(14, 10, width=3, seed=0).eval()  # two blocks a stage, odd width
    shapes, x = [], torch.rand(1, 3, 32, 32)
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[4:10] == [(3, 32, 32)] * 2 + [(6, 16, 16)] * 2 + [(12, 8, 8)] * 2


def test_filters_and_stages_of_the_small_resnet():
    net = models.small_resnet(2, seed=0)
    assert [p.shape[0] for p in net.parameters() if p.ndim == 4] == [16] * 3 + [32] * 3 + [64] * 3
    x, shapes = torch.rand(2, 3, 32, 32), []
    for layer in net.eval():
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[3:7] == [(16, 16, 16)] * 2 + [(32, 8, 8), (64, 4, 4)] and shapes[-1] == (2,)
