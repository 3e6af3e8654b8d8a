"""The ReLU kernel on digits: its course against explicit training, its law against eigenvalues."""

import math

import pytest
import torch

from helpers import data
from helpers.experiments.shortcut import relu_digits, tasks
from helpers.sweep import Call

DIGITS = dict(
    dataset="mnist5k", rho=0.9, samples=120, test=100, trial=0, device="cpu", data_dir=None
)


@pytest.fixture(scope="module")
def task() -> tasks.Task:
    return tasks.digit_task(Call(DIGITS, kind="patched"))


def test_full_training_and_time_course_are_those_of_gradient_descent(task):
    """Small steps for a long time, on the kernel itself."""
    shortcut = tasks.find_shortcut(task.K, task.train)
    rate = float(shortcut.features.values[shortcut.index])
    course = relu_digits.time_course(task, rate, (1, 10))
    step = 1e-3 / float(task.K.double().norm())
    y, K = task.train.label.double(), task.K.double()
    a, times = torch.zeros_like(y), []
    for count in range(round(10 / rate / step) + 1):
        if count in (round(1 / rate / step), round(10 / rate / step)):
            times.append(task.K_test.double() @ a)
        a = a + step * (y - K @ a)
    for found, expected in zip(course, times, strict=True):
        assert float((found - expected).norm() / expected.norm()) < 2e-3
    limit = relu_digits.time_course(task, rate, (1e7,))[0].double()
    full = tasks.full_training(task)
    assert float((limit - full).norm() / full.norm()) < 1e-2
    ridge = task.K_test.double() @ torch.linalg.solve(K + 3 * torch.eye(len(K)), y)
    torch.testing.assert_close(tasks.full_training(task, ridge=3.0), ridge, rtol=1e-6, atol=1e-6)


def test_energy_counts_the_rest_as_one_term():
    features = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    shares = relu_digits.energy_at(features, torch.tensor([4.0, 2.0]))  # the rest is 1 and -1
    torch.testing.assert_close(shares, torch.tensor([0.9, 0.0]))


def test_patch_axes_and_law():
    sample = data.patched_mnist(data.load("mnist5k"), 0.9, 3_000, 0)
    m_s, m_c, sigma_c = relu_digits.patch_axes(sample)
    assert m_s == pytest.approx(math.sqrt(8))
    # against the images without a patch: the same digits, colour channels added up, have no corner
    assert 0.8 < m_c < 1.2 and 1.0 < sigma_c < 1.7
    found = relu_digits.linear_top(sample, 0.9)
    (X,) = data.centred(sample)
    exact = float(torch.linalg.eigvalsh(X.double().T @ X.double() / len(X))[-1])
    assert found["linear_mu"] == pytest.approx(exact, rel=1e-8)
    assert found["linear_law"] == pytest.approx(exact, rel=0.03)


def test_a_trial_is_a_function_of_its_cell():
    """The terms of a full basis add up to the output of full training."""
    cell = Call(DIGITS, kind="patched", samples=50, reference=20)
    first, again = (relu_digits.relu_digits(cell) for _ in range(2))
    assert first == again
    assert first["aligned_leading"] == pytest.approx(first["aligned_full"], abs=0.03)
    assert first["bias"] == first[f"bias_{first['index']}"] > 0.5
    plain = relu_digits.relu_digits(Call(cell, reference=50))
    assert plain["aligned_as"] == plain["aligned_full"], "as many images as the reference: no ridge"
    coloured = relu_digits.relu_digits(Call(cell, kind="colored"))
    assert math.isnan(coloured["linear_mu"]) and coloured.keys() == first.keys()
