"""Networks on which units are listed, ranked and changed."""

import pytest
import torch
from torch import nn

from helpers import models


def _lively(net, seed=1):
    """Batch normalisation as after training: its statistics, scales and shifts all differ."""
    draw = torch.Generator().manual_seed(seed)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            n = norm.num_features
            norm.weight.data = 0.5 + torch.rand(n, generator=draw)
            norm.bias.data = 0.3 * torch.randn(n, generator=draw)
            norm.running_mean = 0.3 * torch.randn(n, generator=draw)
            norm.running_var = 0.5 + torch.rand(n, generator=draw)
    return net.eval()


@pytest.fixture
def lively():
    return _lively


@pytest.fixture
def net():
    return _lively(models.small_resnet(2, width=8, seed=0))


@pytest.fixture(scope="module")
def vit():
    return models.small_vit(2, width=16, seed=0).eval()


@pytest.fixture
def cnn():
    """Convolutions with biases and no batch normalisation, in float64, on 8 x 8 pixels."""
    return models.small_cnn(3, 8, 2, seed=0).double().eval()
