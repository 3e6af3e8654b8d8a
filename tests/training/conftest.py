"""What tests of training share: a task, networks, and a kill."""

import copy

import pytest
import torch
from torch import nn

from helpers import models


def _task(n=50, d=6, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=dtype)
    return x, (x[:, 0] > 0).long()


def _network(dtype=torch.float64, outputs=2):
    return models.fully_connected(6, (16,), outputs, seed=3).to(dtype)


def _half_frozen(seed=3):
    """A network whose first layer is frozen, with gradients of before, and its head alone."""
    net = models.fully_connected(6, (16,), 2, seed=seed).double()
    head = nn.Sequential(nn.Flatten(), copy.deepcopy(net[3]))
    for p in net[1].requires_grad_(False).parameters():
        p.grad = torch.full_like(p, 1e3)
    return net, head


class Interrupted(Exception):
    """Stands for a kill."""


def _interrupt_after(net, calls):
    def hook(net, _):
        nonlocal calls
        calls -= net.training
        if calls < 0:
            raise Interrupted

    return net.register_forward_pre_hook(hook)


@pytest.fixture
def task():
    return _task


@pytest.fixture
def network():
    return _network


@pytest.fixture
def half_frozen():
    return _half_frozen


@pytest.fixture
def interrupted():
    """Raises `Interrupted` in training: `(network, forward passes before it)` to a hook."""
    return Interrupted, _interrupt_after
