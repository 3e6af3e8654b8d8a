"""Experiments on two-layer ReLU networks: their parts against autograd and explicit training."""

import math

import pytest
import torch

from helpers import biased, data, kernels, losses, spectra, sweep
from helpers import experiments_relu as relu
from helpers import experiments_spectra_performance as performance
from helpers.biased import Biased

NAMES = ("relu_digits", "relu_mixture", "relu_margins", "relu_networks")
DIGITS = dict(
    dataset="mnist5k", rho=0.9, samples=120, test=100, trial=0, device="cpu", data_dir=None
)


@pytest.fixture(scope="module")
def task() -> relu.Task:
    return relu.digit_task(kind="patched", **DIGITS)


# -- networks -------------------------------------------------------------------------------------


class Twin(torch.nn.Module):
    """The same network for autograd."""

    def __init__(self, net: relu.ReluNet) -> None:
        super().__init__()
        self.W, self.a = (torch.nn.Parameter(p.double().clone()) for p in (net.W, net.a))
        self.scale = net.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.relu(x @ self.W.T) @ self.a


def doubled(net: relu.ReluNet) -> relu.ReluNet:
    net.W, net.a = net.W.double(), net.a.double()
    return net


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_kernel_of_a_network_is_that_of_autograd(gain):
    net = doubled(relu.ReluNet(5, 32, gain, seed=1))
    net.a += 0.3  # no pair of units cancels any more
    X, Y = points(9), points(4, 1)
    twin = Twin(net)
    torch.testing.assert_close(net.kernel(X), kernels.empirical_ntk(twin, X), rtol=1e-9, atol=1e-9)
    block = kernels.empirical_ntk(twin, Y, X)
    torch.testing.assert_close(net.kernel(Y, X), block, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", [losses.squared, losses.logistic, losses.sd(), losses.marg_log()])
def test_steps_are_those_of_autograd(loss):
    net = doubled(relu.ReluNet(5, 16, 0.5, seed=2))
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
        net = relu.ReluNet(5, width, 1.0, seed=0)
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
        relu.ReluNet(5, width, gain, seed=0)


# -- what is measured -----------------------------------------------------------------------------


def test_core_shares_by_hand():
    y = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    b = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, 1.0])
    train = Biased(torch.zeros(6, 1), y, b)
    modes = torch.linalg.qr(torch.stack([b, y, torch.tensor([0, 0, 1, 0, 0, -1.0])], 1)).Q
    core = relu.core_shares(modes, train)
    assert float(core.share[0]) == 0, "the bias mode points the wrong way on conflicting samples"
    conflicting = torch.where(b == y, 0, y)
    exact = spectra.alignment(modes, conflicting)
    torch.testing.assert_close(core.share[1:], exact[1:])
    inside = modes[b != y]
    cosine = (inside.T @ y[b != y]).square() / inside.square().sum(0) / 2
    torch.testing.assert_close(core.cosine[1:], cosine[1:])
    with pytest.raises(ValueError, match="no sample is conflicting"):
        relu.core_shares(modes, train._replace(attribute=y))


def test_half_is_between_the_steps():
    assert relu._half(torch.tensor([0.0, 0.25, 0.75])) == pytest.approx(1.5)
    assert relu._half(torch.tensor([0.0, 1.0])) == pytest.approx(0.5)
    assert relu._half(torch.tensor([0.0, 0.4])) == math.inf


def test_what_is_learnt_is_measured_against_the_best_margin_of_the_loss():
    """Courses of losses with another best margin than 1 still end at 1."""
    cell = dict(kind="patched", gain=1.0, width=512, steps=400) | DIGITS | {"samples": 40}
    for loss in ("squared", "sd", "marg_log"):
        row = relu.relu_networks(loss=loss, **cell)
        assert row["shortcut_1000"] == pytest.approx(1, abs=0.05), loss
        assert 0 < row["shortcut_half"] < 5 and row["fitted"] == 1


def test_full_training_and_time_course_are_those_of_gradient_descent(task):
    """Small steps for a long time, on the kernel itself."""
    shortcut = relu.find_shortcut(task.K, task.train)
    rate = float(shortcut.features.values[shortcut.index])
    course = relu.time_course(task, rate, (1, 10))
    step = 1e-3 / float(task.K.double().norm())
    y, K = task.train.label.double(), task.K.double()
    a, times = torch.zeros_like(y), []
    for count in range(round(10 / rate / step) + 1):
        if count in (round(1 / rate / step), round(10 / rate / step)):
            times.append(task.K_test.double() @ a)
        a = a + step * (y - K @ a)
    for found, expected in zip(course, times, strict=True):
        assert float((found - expected).norm() / expected.norm()) < 2e-3
    limit = relu.time_course(task, rate, (1e7,))[0].double()
    full = relu.full_training(task)
    assert float((limit - full).norm() / full.norm()) < 1e-2
    ridge = task.K_test.double() @ torch.linalg.solve(K + 3 * torch.eye(len(K)), y)
    torch.testing.assert_close(relu.full_training(task, ridge=3.0), ridge, rtol=1e-6, atol=1e-6)


def test_energy_counts_the_rest_as_one_term():
    features = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    shares = relu.test_energy(features, torch.tensor([4.0, 2.0]))  # the rest is 1 and -1
    torch.testing.assert_close(shares, torch.tensor([0.9, 0.0]))


def test_the_shortcut_of_patched_digits_is_the_patch(task):
    shortcut = relu.find_shortcut(task.K, task.train)
    assert shortcut.index == 1 and float(shortcut.bias[1]) > 0.8
    (X,) = biased.centred(task.train)
    image = (shortcut.features.vectors[:, 1] @ X).view(28, 28).abs()
    corners = float(image[:4, :4].mean() + image[:4, -4:].mean()) / 2
    assert corners > 10 * float(image[4:].mean())


def test_patch_axes_and_law():
    sample = data.patched_mnist(data.load("mnist5k"), 0.9, 3_000, 0)
    m_s, m_c, sigma_c = relu.patch_axes(sample)
    assert m_s == pytest.approx(math.sqrt(8))
    # against the images without a patch: the same digits, colour channels added up, have no corner
    assert 0.8 < m_c < 1.2 and 1.0 < sigma_c < 1.7
    found = relu.linear_top(sample, 0.9)
    (X,) = biased.centred(sample)
    exact = float(torch.linalg.eigvalsh(X.double().T @ X.double() / len(X))[-1])
    assert found["linear_mu"] == pytest.approx(exact, rel=1e-8)
    assert found["linear_law"] == pytest.approx(exact, rel=0.03)


def test_half_resolution_leaves_colored_digits_alone():
    digits = data.load("mnist5k", train=False)
    patched = relu.half_resolution(data.patched_mnist(digits, 0.5, 8, 0))
    assert patched.images.shape == (8, 1, 14, 14)
    assert bool((patched.images[patched.attribute > 0, 0, :2, :2] == 1).all())
    colored = data.colored_mnist(digits, 0.5, 8, 0)
    assert relu.half_resolution(colored) is colored


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'striped': allowed are 'patched', 'colored'"):
        relu.relu_digits("striped", reference=50, **DIGITS)


# -- the experiments ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_grids_have_no_cell_twice_and_fit_the_data(name, profile):
    cells = sweep.get(name).cells(profile)
    assert len({tuple(cell.items()) for cell in cells}) == len(cells)
    for cell in cells:
        if cell.get("dataset") == "mnist5k":
            assert cell["samples"] <= 4_000 and cell["test"] <= 1_000


def test_a_trial_of_each_is_a_function_of_its_cell():
    for name in NAMES:
        experiment = sweep.get(name)
        cell = experiment.cells("smoke")[0] | {"samples": 80, "test": 60}
        cell |= {key: 20 for key in ("steps", "reference") if key in cell}
        context = {"device": "cpu"} | ({} if name == "relu_mixture" else {"data_dir": None})
        first, again = (experiment.trial(**cell, **context) for _ in range(2))
        assert first.keys() == again.keys()
        for key, value in first.items():
            assert value == again[key] or (math.isnan(value) and math.isnan(again[key])), key


def test_performance_measures_and_its_floors():
    row = performance.spectra_performance(300, 50, 4, 0)
    assert max(row["subspace_apart"], row["lobpcg_apart"]) < 1e-4
    assert row["lanczos_residual"] < 1e-5 and row["memory"] >= 0
    assert row["kernel_floor"] == pytest.approx(
        max(300**2 * (2 * 50 + 60) / 2 / row["rate"], 4 * 300**2 / row["bandwidth"])
    )
    assert all(row[f"{name}_seconds"] > 0 for name in ("kernel", "lanczos", "subspace", "lobpcg"))
