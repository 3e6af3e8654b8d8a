"""ReLU networks of finite width against autograd, and what is said of their training."""

import math

import pytest
import torch

from helpers import data, kernels
from helpers.experiments.shortcut import relu_networks
from helpers.sweep import Call
from helpers.training import margin_losses

DIGITS = dict(
    dataset="mnist5k", rho=0.9, samples=120, test=100, trial=0, device="cpu", data_dir=None
)


class Twin(torch.nn.Module):
    """The same network for autograd."""

    def __init__(self, net: relu_networks.ReluNet) -> None:
        super().__init__()
        self.W, self.a = (torch.nn.Parameter(p.double().clone()) for p in (net.W, net.a))
        self.scale = net.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.relu(x @ self.W.T) @ self.a


def doubled(net: relu_networks.ReluNet) -> relu_networks.ReluNet:
    net.W, net.a = net.W.double(), net.a.double()
    return net


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_kernel_of_a_network_is_that_of_autograd(gain):
    net = doubled(relu_networks.ReluNet(5, 32, gain, seed=1))
    net.a += 0.3  # no pair of units cancels any more
    X, Y = points(9), points(4, 1)
    twin = Twin(net)
    torch.testing.assert_close(net.kernel(X), kernels.empirical_ntk(twin, X), rtol=1e-9, atol=1e-9)
    block = kernels.empirical_ntk(twin, Y, X)
    torch.testing.assert_close(net.kernel(Y, X), block, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "loss",
    [margin_losses.squared, margin_losses.logistic, margin_losses.sd(), margin_losses.marg_log()],
)
def test_steps_are_those_of_autograd(loss):
    net = doubled(relu_networks.ReluNet(5, 16, 0.5, seed=2))
    X = points(12)
    y = torch.sign(X[:, 0])
    twin = Twin(net)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05)
    for _ in range(5):
        optimiser.zero_grad()
        loss.value(y * twin(X)).sum().backward()
        optimiser.step()
        net.step(X, y, loss, 0.05)
    torch.testing.assert_close(net.W, twin.W.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.a, twin.a.detach(), rtol=1e-9, atol=1e-9)


def test_a_network_starts_at_zero_and_near_its_limit():
    X = points(20).float()
    errors = []
    for width in (64, 4_096):
        net = relu_networks.ReluNet(5, width, 1.0, seed=0)
        assert float(net(X).abs().max()) < 1e-3
        limit = kernels.relu_ntk(X)
        errors.append(float((net.kernel(X) - limit).norm() / limit.norm()))
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize(
    ("width", "gain", "message"),
    [(3, 1.0, "width is 3"), (0, 1.0, "width is 0"), (4, 0.0, "gain is 0")],
)
def test_bad_networks(width, gain, message):
    with pytest.raises(ValueError, match=message):
        relu_networks.ReluNet(5, width, gain, seed=0)


def test_half_is_between_the_steps():
    assert relu_networks._half(torch.tensor([0.0, 0.25, 0.75])) == pytest.approx(1.5)
    assert relu_networks._half(torch.tensor([0.0, 1.0])) == pytest.approx(0.5)
    assert relu_networks._half(torch.tensor([0.0, 0.4])) == math.inf


def test_what_is_learnt_is_measured_against_the_best_margin_of_the_loss():
    """Courses of losses with another best margin than 1 still end at 1."""
    cell = dict(kind="patched", gain=1.0, width=512, steps=400) | DIGITS | {"samples": 40}
    for loss in ("squared", "sd", "marg_log"):
        row = relu_networks.relu_networks(Call(cell, loss=loss))
        assert row["shortcut_1000"] == pytest.approx(1, abs=0.05), loss
        assert 0 < row["shortcut_half"] < 5 and row["fitted"] == 1


def test_half_resolution_leaves_colored_digits_alone():
    digits = data.load("mnist5k", train=False)
    patched = relu_networks.half_resolution(data.patched_mnist(digits, 0.5, 8, 0))
    assert patched.images.shape == (8, 1, 14, 14)
    assert bool((patched.images[patched.attribute > 0, 0, :2, :2] == 1).all())
    colored = data.colored_mnist(digits, 0.5, 8, 0)
    assert relu_networks.half_resolution(colored) is colored


def test_a_trial_is_a_function_of_its_cell():
    cell = Call(DIGITS, kind="patched", gain=1.0, width=64, steps=20, loss="sd", samples=80)
    first, again = (relu_networks.relu_networks(cell) for _ in range(2))
    assert first == again
    assert first["aligned_30"] == first["aligned_3000"] == first["aligned"], "after the last step"
    rich = relu_networks.relu_networks(Call(cell, gain=0.1))
    assert rich["kernel_moved"] > 3 * first["kernel_moved"]
