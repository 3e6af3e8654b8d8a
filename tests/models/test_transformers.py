"""The small vision transformer: its size, its first outputs, what does not fit."""

import pytest
import torch

from helpers import models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_the_small_transformer_has_the_parameters_that_torchvision_counts():
    vit = models.small_vit(2, seed=0)
    block = 4 * 64**2 + 4 * 64 + 2 * 256 * 64 + 256 + 64 + 4 * 64  # attention, perceptron, norms
    patches = 3 * 16 * 64 + 64 + 64 + 65 * 64  # patches, class token, positions
    assert parameters(vit) == 4 * block + patches + 2 * 64 + 2 * 64 + 2
    assert bool(vit(torch.rand(2, 3, 32, 32)).any())  # its head does not start at zero


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.small_vit(2, width=30, seed=0), "width is 30"),
        (lambda: models.small_vit(2, patch=5, seed=0), "patch is 5"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
