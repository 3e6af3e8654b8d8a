"""What tests of remedies share: noise in four groups, two networks that see it."""

import pytest
import torch
import torchvision
from torch import nn

from helpers import models
from helpers.data import Grouped


def _images(counts=(20, 6, 4, 12), size=8, seed=0):
    """Noise; the first channel tells the class, the second the attribute."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.arange(4).repeat_interleave(torch.tensor(counts))
    group = group[torch.randperm(len(group), generator=draw)]
    pixels = 0.3 * torch.randn(len(group), 3, size, size, generator=draw)
    pixels[:, 0] += 0.3 * (group // 2)[:, None, None]
    pixels[:, 1] += 0.8 * (group % 2)[:, None, None]
    return Grouped(pixels, group // 2, group % 2, "noise")


def _network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip


def _transformer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = torchvision.models.VisionTransformer(
            image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16,
            num_classes=2,
        )  # fmt: skip
        nn.init.normal_(vit.heads.head.weight)
    return nn.Sequential(models.Normalise([0.5] * 3, [0.25] * 3), vit)


def _silent(model, epoch):
    return {}


@pytest.fixture
def images():
    return _images


@pytest.fixture
def network():
    return _network


@pytest.fixture
def transformer():
    return _transformer


@pytest.fixture(params=[_network, _transformer], ids=["network", "transformer"])
def make(request):
    """Each of the two networks in turn."""
    return request.param


@pytest.fixture
def silent():
    """An evaluation that says nothing."""
    return _silent
