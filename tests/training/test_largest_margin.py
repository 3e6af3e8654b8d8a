"""The largest margin: against scikit-learn, the conditions of optimality, and gradient descent."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from helpers import data, training
from helpers.training import largest_margin, margin_losses

TASK = dict(rho=0.9, m_s=10.0, m_c=1.0, sigma_s=0.0)


def task(samples=200, extra=38, core=0.0, seed=0):
    made = data.two_axis_sample(samples, **TASK, sigma_c=core, extra=extra, seed=seed)
    return made.x, made.label


@pytest.mark.parametrize("core", [0.0, 0.3])
def test_it_is_the_hard_margin_of_scikit_learn(core):
    x, y = task(core=core, extra=98)
    machine = LinearSVC(
        C=1e4, loss="hinge", fit_intercept=False, dual=True, tol=1e-9, max_iter=10**6
    )
    [expected] = machine.fit(x, y).coef_
    found = training.hard_margin(x, y)
    assert found.weights == pytest.approx(expected, abs=1e-4)
    assert abs(found.gap) < 1e-8


@pytest.mark.parametrize("norm", ["euclidean", "largest"])
def test_all_margins_are_at_least_one_and_the_norm_is_as_small_as_any(norm):
    x, y = task(samples=60, extra=18, core=0.3)
    w = training.hard_margin(x, y, norm).weights
    size = np.linalg.norm if norm == "euclidean" else lambda v: np.abs(v).max()
    assert (x @ w * y).min() == pytest.approx(1)
    draw = np.random.default_rng(0)
    for other in w + 0.05 * draw.normal(size=(500, len(w))):
        smallest = (x @ other * y).min()
        assert smallest <= 0 or size(other / smallest) >= size(w) * (1 - 1e-9)


def test_gradient_descent_on_the_logistic_loss_comes_nearer_to_it():
    x, y = task(samples=40, extra=8)
    end = training.hard_margin(x, y).weights
    cosines = []
    for steps in (10, 1_000, 50_000):
        w = margin_losses.fit_linear(
            x, y, margin_losses.logistic, method="descent", iterations=steps
        ).weights
        cosines.append(w @ end / np.linalg.norm(w) / np.linalg.norm(end))
    assert cosines == sorted(cosines) and cosines[-1] > 0.98


@pytest.mark.parametrize("norm", ["euclidean", "largest"])
def test_data_that_no_linear_function_separates(norm):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 4)), draw.choice([-1.0, 1.0], 60)
    assert training.hard_margin(x, y, norm) is None
    assert training.hard_margin(np.zeros((2, 3)) + 1e-3, np.array([1.0, -1.0]), norm) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x=np.zeros(3)), "expected"),
        (dict(x=np.full((2, 2), np.nan)), "finite"),
        (dict(y=np.array([1.0, 2.0])), "labels"),
        (dict(norm="other"), "norm is 'other'"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        training.hard_margin(**dict(x=np.eye(2), y=np.array([1.0, -1.0])) | change)


def test_a_gap_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(largest_margin, "GAP", -1.0)
    with pytest.raises(FloatingPointError, match="known to"):
        training.hard_margin(*task())
