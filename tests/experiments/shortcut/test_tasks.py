"""What is measured on a kernel: by hand, and on digits whose shortcut is known."""

from dataclasses import replace

import pytest
import torch

from helpers import data, kernels
from helpers.data import Grouped
from helpers.experiments.shortcut import tasks
from helpers.sweep import Call

DIGITS = dict(
    dataset="mnist5k", rho=0.9, samples=120, test=100, trial=0, device="cpu", data_dir=None
)


@pytest.fixture(scope="module")
def task() -> tasks.Task:
    return tasks.digit_task(Call(DIGITS, kind="patched"))


def test_core_shares_by_hand():
    y = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    b = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, 1.0])
    train = Grouped(torch.zeros(6, 1), y, b)
    modes = torch.linalg.qr(torch.stack([b, y, torch.tensor([0, 0, 1, 0, 0, -1.0])], 1)).Q
    core = tasks.core_shares(modes, train)
    assert float(core.share[0]) == 0, "the bias mode points the wrong way on conflicting samples"
    conflicting = torch.where(b == y, 0, y)
    exact = kernels.mode_alignment(modes, conflicting)
    torch.testing.assert_close(core.share[1:], exact[1:])
    inside = modes[b != y]
    cosine = (inside.T @ y[b != y]).square() / inside.square().sum(0) / 2
    torch.testing.assert_close(core.cosine[1:], cosine[1:])
    with pytest.raises(ValueError, match="no sample is conflicting"):
        tasks.core_shares(modes, replace(train, attribute=y))


def test_the_shortcut_of_patched_digits_is_the_patch(task):
    shortcut = tasks.find_shortcut(task.K, task.train)
    assert shortcut.index == 1 and float(shortcut.bias[1]) > 0.8
    (X,) = data.centred(task.train)
    image = (shortcut.features.vectors[:, 1] @ X).view(28, 28).abs()
    corners = float(image[:4, :4].mean() + image[:4, -4:].mean()) / 2
    assert corners > 10 * float(image[4:].mean())


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'striped': allowed are 'patched', 'colored'"):
        tasks.digit_task(Call(DIGITS, kind="striped"))


def test_a_summary_by_hand():
    label = torch.tensor([1.0, -1.0, 1.0, -1.0])
    train = Grouped(torch.zeros(4, 1), label, label)
    found = tasks.summary(torch.tensor([2.0, -2.0, 2.0, 2.0]), train, torch.full((4,), 0.5))
    assert found["fitted"] == 0.75 and found["share"] == pytest.approx(4 / 16)
    assert found["cv"] == pytest.approx(3**0.5)  # margins 2, 2, 2, -2: mean 1, spread sqrt(3)


def test_columns_of_accuracies_have_the_suffix():
    label = torch.ones(3)
    test = Grouped(torch.zeros(3, 1), label, torch.tensor([1.0, 1.0, -1.0]))
    found = tasks.by_alignment(torch.tensor([1.0, -1.0, 1.0]), test, "_full")
    assert found == {"aligned_full": 0.5, "conflicting_full": 1.0}


def test_a_regression_that_cannot_give_the_labels_is_refused():
    """Twenty times two copies of an input with different labels; a ridge gives both their mean."""
    for seed in range(20):
        X = torch.randn(30, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        X[7] = X[3]
        labels = torch.ones(30)
        labels[7] = -1
        K = kernels.relu_ntk(X)
        task = tasks.Task(Grouped(X, labels, labels), Grouped(X, labels, labels), K, K.clone(), "")
        with pytest.raises(ValueError, match="the kernel is singular"):
            tasks.full_training(task)
        both = tasks.full_training(task, ridge=1.0)[[3, 7]]
        torch.testing.assert_close(both[0], both[1])
        assert torch.equal(task.K, task.K_test), "the ridge stays out of the kernel that was given"
