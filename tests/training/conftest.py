"""What tests of training share: a task, a network, and a kill."""

import pytest
import torch

from helpers import models


def _task(n=50, d=6, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=dtype)
    return x, (x[:, 0] > 0).long()


def _network(dtype=torch.float64, outputs=2):
    return models.fully_connected(6, (16,), outputs, seed=3).to(dtype)


class Interrupted(Exception):
    """Stands for a kill."""


def _interrupt_after(net, calls):
    def hook(*_):
        nonlocal calls
        calls -= 1
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
def interrupted():
    """Raises `Interrupted` at a forward pass: `(network, passes before it)` to a hook."""
    return Interrupted, _interrupt_after
