"""Layer by layer, the tangent kernel is the one of gradients sample by sample."""

import importlib

import pytest
import torch
from torch import nn

from helpers import models
from helpers.kernels import empirical_ntk
from helpers.kernels.layered import layered_ntk

MEMORY = 2**28
# the module, which has the name of its function
ENTRY = importlib.import_module("helpers.kernels.empirical_ntk")


@pytest.fixture(autouse=True)
def double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def images(count=5, channels=3, side=12):
    return torch.randn(count, channels, side, side)


def settled(net, inputs):
    """In eval mode, with statistics and factors that are not those of the start."""
    net = net.double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net.eval()


def by_sample(net, inputs):
    """Gradients by autograd, one sample after the other."""
    rows = []
    for x in inputs:
        learned = [p for p in net.parameters() if p.requires_grad]
        found = torch.autograd.grad(net(x[None]).sum(), learned)
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows) @ torch.stack(rows).T


def odd():
    """Strides, dilation, padding and biases of all kinds; changes in place."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, bias=False), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 7), nn.ReLU(inplace=True), nn.Linear(7, 1, bias=False),
    )  # fmt: skip


NETWORKS = {
    "odd": odd,
    "ResNet-18, changes in place": lambda: models.resnet(18, 1, stem="small", width=8, seed=0),
    "ResNet-20": lambda: models.cifar_resnet(20, 1, width=4, seed=0),
    "linear layers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 9), nn.Tanh(),
                                           nn.Linear(9, 1)),
}  # fmt: skip


@pytest.mark.parametrize("memory", [MEMORY, 70_000])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_kernel_is_that_of_gradients_by_sample(name, memory, monkeypatch):
    monkeypatch.setattr("helpers.kernels.layered._BATCH", 2)
    monkeypatch.setattr("helpers.kernels.layered._enough", lambda size, memory: True)
    inputs = images()
    net = settled(NETWORKS[name](), inputs)
    found = layered_ntk(net, inputs, memory)
    expected = by_sample(net, inputs)
    assert float((found - expected).abs().max()) < 1e-11 * float(expected.abs().max())
    assert all(not module._forward_hooks for module in net.modules())


def test_frozen_layers_do_not_count():
    inputs = images()
    net = settled(odd(), inputs)
    for module in (net[0], net[1]):
        module.requires_grad_(False)
    expected = by_sample(net, inputs)
    torch.testing.assert_close(layered_ntk(net, inputs, MEMORY), expected)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        return self.last(self.layer(self.layer(x)))


class Beside(nn.Module):
    """Its input changes after a layer has seen it."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        x = x * 1.0
        out = self.layer(x.detach())
        x.detach().add_(1)
        return self.last(out + x)


def tied():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1))
    net[1].weight = net[0].weight
    return net


def partly_frozen():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 1))
    net[0].bias.requires_grad_(False)
    return net


@pytest.mark.parametrize(
    "make",
    [
        Twice, Beside, tied, partly_frozen,
        lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 1)),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 3), nn.Flatten(),
                              nn.Linear(6, 1)),
        lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 6, 1, groups=2),
                              nn.Flatten(), nn.Linear(6, 1)),
        lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 6, 1, padding="same"),
                              nn.Flatten(), nn.Linear(6, 1)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_left_to_the_other_way(make, monkeypatch):
    net, inputs = make().eval(), torch.randn(4, 6)
    assert layered_ntk(net, inputs, MEMORY) is None
    monkeypatch.setattr(ENTRY, "_LARGE", 0)
    if make not in (Beside,):  # which no per-sample gradient of torch.func takes
        torch.testing.assert_close(empirical_ntk(net, inputs), by_sample(net, inputs))


def test_too_little_memory_is_left_to_the_other_way():
    inputs = images()
    assert layered_ntk(settled(odd(), inputs), inputs, 1_000) is None


def test_large_networks_go_this_way(monkeypatch):
    inputs = images()
    net = settled(odd(), inputs)
    monkeypatch.setattr(ENTRY, "_LARGE", 0)
    asked = []
    monkeypatch.setattr(
        ENTRY, "layered_ntk", lambda *given: asked.append(given) or layered_ntk(*given)
    )
    torch.testing.assert_close(empirical_ntk(net, inputs), by_sample(net, inputs))
    assert len(asked) == 1
    first, other = inputs[:2], inputs[2:]
    torch.testing.assert_close(empirical_ntk(net, first, other), by_sample(net, inputs)[:2, 2:])
    assert len(asked) == 1  # two sets of inputs: sample by sample
