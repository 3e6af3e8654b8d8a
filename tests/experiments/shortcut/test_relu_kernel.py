"""The ReLU kernel on the mixture, and under losses that share one kernel."""

import pytest

from helpers import sweep
from helpers.experiments.shortcut import relu_kernel, tasks
from helpers.sweep import Call

MIXTURE = dict(samples=80, dim=20, rho=0.9, test=60, trial=0, device="cpu")
DIGITS = dict(kind="patched", dataset="mnist5k", rho=0.9, samples=80, test=60, steps=20, trial=0,
              device="cpu", data_dir=None)  # fmt: skip


def test_the_mixture_has_its_share_of_aligned_samples_and_a_test_set_of_its_own():
    task = relu_kernel.mixture_task(Call(MIXTURE, samples=4_000, test=50))
    assert float(task.train.aligned.double().mean()) == pytest.approx(0.9, abs=0.02)
    assert task.K.shape == (4_000, 4_000) and task.K_test.shape == (50, 4_000)
    moments = task.train.images.double().std(0)
    assert moments[2:].mean() == pytest.approx(0.7, abs=0.02)


def test_the_first_feature_that_changes_sign_on_the_mixture_is_the_shortcut():
    found = relu_kernel.relu_mixture(Call(MIXTURE, samples=400, test=400))
    assert found["first"] == found["index"] == 2 and found["bias"] > found["label"]
    assert found["aligned"] > 0.9 and found["conflicting"] < 0.3
    assert found["mu_1"] > found["mu_2"] > found["mu_3"] > found["mu_4"] > 0
    assert found == relu_kernel.relu_mixture(Call(MIXTURE, samples=400, test=400))


def test_losses_of_a_group_give_what_each_gives_alone():
    calls = [Call(DIGITS, loss=name, strength=k) for name, k in (("squared", 0.0), ("sd", 0.1))]
    rows = relu_kernel.relu_margins(calls)
    assert rows == [relu_kernel.relu_margins([call])[0] for call in calls]
    assert rows[0]["cv"] != rows[1]["cv"]
    squared = relu_kernel.relu_margins([Call(calls[0], steps=3_000)])[0]
    task = tasks.digit_task(calls[0])
    limit = tasks.by_alignment(tasks.full_training(task), task.test)
    assert squared["aligned"] == pytest.approx(limit["aligned"], abs=0.07)
    assert squared["fitted"] > 0.95


def test_cells_of_one_kernel_are_one_group():
    experiment = sweep.get("relu_margins")
    cells = experiment.cells("smoke")
    groups = {experiment.group(cell) for cell in cells}
    assert len(groups) == len({(cell["kind"], cell["trial"]) for cell in cells}) == 4
