"""Losses of the margin against autograd, scipy, numpy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import soft_margin_loss

from helpers.training import margin_losses

ALL = (
    margin_losses.logistic,
    margin_losses.squared,
    margin_losses.sd(0.1),
    margin_losses.sd(1.0),
    margin_losses.marg_log(0.5),
    margin_losses.sigma_damp(2.0),
    margin_losses.sigma_damp(1.0),
)


def draw(n=60, d=4, seed=0):
    random = np.random.default_rng(seed)
    y = np.where(random.random(n) < 0.5, 1.0, -1.0)
    return y[:, None] * np.array([0.8, 0.3, 0, 0])[:d] + random.standard_normal((n, d)), y


@pytest.mark.parametrize("loss", ALL, ids=str)
@given(st.floats(-15, 15))
def test_slope_and_curvature_are_the_derivatives(loss, at):
    u = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    [first] = torch.autograd.grad(loss.value(u), u, create_graph=True)
    [second] = torch.autograd.grad(first, u)
    first, second, u = first.detach(), second.detach(), u.detach()
    assert float(loss.slope(u)) == pytest.approx(float(first), abs=1e-10)
    assert float(loss.curvature(u)) == pytest.approx(float(second), abs=1e-9)
    assert float(second) <= loss.steepest + 1e-4


def test_values_are_those_of_the_formulas():
    u = torch.linspace(-5, 5, 101, dtype=torch.float64)
    v = u.numpy()
    plain = np.log1p(np.exp(-v))
    for loss, expected in (
        (margin_losses.logistic, plain),
        (margin_losses.squared, (1 - v) ** 2 / 2),
        (margin_losses.sd(0.3), plain + 0.3 * v**2),
        (margin_losses.marg_log(0.2), plain + 0.2 * np.log(1 + v**2)),
        (margin_losses.sigma_damp(1.5), np.log1p(np.exp(-v * (1 - expit(v / 1.5))))),
    ):
        np.testing.assert_allclose(loss.value(u).numpy(), expected, atol=1e-13)


def test_the_logistic_loss_is_that_of_torch():
    f, y = torch.randn(50, dtype=torch.float64), torch.randn(50).sign().double()
    ours = float(margin_losses.logistic.value(f * y).mean())
    assert ours == pytest.approx(float(soft_margin_loss(f, y)))


def test_labels_are_signs_of_the_right_shape():
    margin_losses.check_labels(-torch.ones(50), (50,))
    with pytest.raises(ValueError, match="allowed -1, \\+1"):
        margin_losses.check_labels(torch.ones(50) * 2, (50,))
    with pytest.raises(ValueError, match="shape"):
        margin_losses.check_labels(torch.ones(49), (50,))


@pytest.mark.parametrize("loss", ALL[1:], ids=str)
def test_the_common_margin_is_a_minimum(loss):
    u = torch.linspace(0, 12, 120_001, dtype=torch.float64)
    values = loss.value(u)
    margin = margin_losses.common_margin(loss)
    assert float(u[values.argmin()]) == pytest.approx(margin, abs=2e-4)
    assert float(loss.curvature(torch.tensor(margin, dtype=torch.float64))) > 0


def test_the_common_margin_of_sd_solves_its_equation():
    margin = margin_losses.common_margin(margin_losses.sd(0.1))
    assert expit(-margin) == pytest.approx(0.2 * margin, abs=1e-12)
    with pytest.raises(ValueError, match="no common margin"):
        margin_losses.common_margin(margin_losses.logistic)


def test_margin_cv_is_that_of_numpy():
    u = np.random.default_rng(0).normal(2, 0.5, 100)
    assert margin_losses.margin_cv(torch.from_numpy(u)) == pytest.approx(u.std() / u.mean())
    for bad in (torch.tensor([1.0]), torch.tensor([1.0, -2.0])):
        with pytest.raises(ValueError, match="mean"):
            margin_losses.margin_cv(bad)


def test_linear_fits_agree_with_least_squares_and_scikit_learn():
    x, y = draw()
    w = margin_losses.fit_linear(x, y, margin_losses.squared)
    np.testing.assert_allclose(w.weights, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-7)
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    mine = margin_losses.fit_linear(x, y, margin_losses.logistic)
    np.testing.assert_allclose(mine.weights, theirs.fit(x, y).coef_[0], atol=1e-5)
    assert mine.converged and w.converged


def test_adam_ends_where_lbfgs_does():
    x, y = draw()
    for loss in (margin_losses.sd(0.1), margin_losses.marg_log(0.5)):
        found = [margin_losses.fit_linear(x, y, loss, method=m, iterations=2_000).weights
                 for m in ("lbfgs", "adam")]  # fmt: skip
        np.testing.assert_allclose(*found, atol=1e-4)


def test_adam_is_that_of_torch():
    x, y = draw()
    signed = torch.from_numpy(x * y[:, None])
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([w], lr=0.01)
    for _ in range(50):
        optimiser.zero_grad()
        margin_losses.logistic.value(signed @ w).mean().backward()
        optimiser.step()
    mine = margin_losses.fit_linear(x, y, margin_losses.logistic, method="adam", iterations=50)
    np.testing.assert_allclose(mine.weights, w.detach().numpy(), rtol=1e-9)


def test_large_penalties_give_the_least_squares_direction():
    """Spec 2.6: for lam to infinity, w goes to (1/2) / (1/4 + 2 lam) M^-1 beta."""
    x, y = draw(400)
    lam = 1e4
    w = margin_losses.fit_linear(x, y, margin_losses.sd(lam), iterations=2000).weights
    expected = 0.5 / (0.25 + 2 * lam) * np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(w, expected, rtol=1e-3)


def kernel(n=20, d=30, seed=0):
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))
    return x @ x.T, torch.randn(n, generator=torch.Generator().manual_seed(seed)).sign()


def test_kernel_descent_with_squared_loss_has_a_closed_form():
    K, y = kernel()
    step = 0.5 / float(torch.linalg.eigvalsh(K)[-1])
    found = margin_losses.fit_kernel(
        K, y, margin_losses.squared, steps=40, step=step, keep=[0, 7, 40]
    )
    for t, outputs in zip(found.steps.tolist(), found.outputs, strict=True):
        power = torch.linalg.matrix_power(torch.eye(20, dtype=K.dtype) - step * K, t)
        torch.testing.assert_close(outputs, y.double() - power @ y.double())
    torch.testing.assert_close(found.coefficients @ K, found.outputs)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_kernel_descent_is_descent_on_parameters(loss):
    random = torch.Generator().manual_seed(1)
    x = torch.randn(15, 6, dtype=torch.float64, generator=random)
    y = torch.randn(15, generator=random).sign().double()
    w = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=0.01)
    for _ in range(25):
        optimiser.zero_grad()
        loss.value(y * (x @ w)).sum().backward()
        optimiser.step()
    found = margin_losses.fit_kernel(x @ x.T, y, loss, steps=25, step=0.01)
    torch.testing.assert_close(found.outputs[-1], (x @ w).detach())


@pytest.mark.parametrize("loss", ALL[1:6], ids=str)
def test_interpolation_gives_all_samples_the_common_margin(loss):
    K, y = kernel()
    found = margin_losses.fit_kernel(K, y, loss, steps=20_000)
    margins = found.outputs[-1] * y
    assert float((margins - margin_losses.common_margin(loss)).abs().max()) < 1e-3


def test_descent_goes_on_where_it_stopped():
    K, y = kernel()
    loss = margin_losses.sd(0.1)
    whole = margin_losses.fit_kernel(K, y, loss, steps=9, step=1e-3, keep=[4, 9])
    rest = margin_losses.fit_kernel(K, y, loss, steps=5, step=1e-3, start=whole.coefficients[0])
    torch.testing.assert_close(rest.outputs[-1], whole.outputs[-1])
    with pytest.raises(ValueError, match="start has shape"):
        margin_losses.fit_kernel(K, y, loss, steps=1, start=torch.zeros(3))


def test_the_largest_eigenvalue():
    K, _ = kernel(40)
    assert margin_losses.top_eigenvalue(K) == pytest.approx(np.linalg.eigvalsh(K)[-1], rel=0.02)


ONE = np.ones((1, 1)), np.ones(1)


@pytest.mark.parametrize(
    ("make", "words"),
    (
        (lambda: margin_losses.named("hinge"), "unknown loss 'hinge'"),
        (lambda: margin_losses.sd(0), "above 0"),
        (lambda: margin_losses.named("logistic", 0.5), "has none"),
        (lambda: margin_losses.sigma_damp(math.inf), "finite"),
    ),
)
def test_losses_that_do_not_exist_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("x", "y", "how", "words"),
    (
        (np.ones((3, 2)), np.array([0, 1, 1]), {}, "labels"),
        (np.ones(3), np.ones(3), {}, "expected \\(n, d\\)"),
        (*ONE, {"method": "x"}, "method is 'x'"),
        (*ONE, {"iterations": 0}, "at least 1"),
    ),
)
def test_bad_input_of_linear_fits_is_named(x, y, how, words):
    with pytest.raises(ValueError, match=words):
        margin_losses.fit_linear(x, y, margin_losses.sd(), **how)


@pytest.mark.parametrize(
    ("K", "y", "how", "words"),
    (
        (torch.ones(2, 3), torch.ones(2), {"steps": 1}, "shape"),
        (torch.eye(2), torch.zeros(2), {"steps": 1}, "allowed"),
        (torch.eye(2), torch.ones(2), {"steps": 0}, "steps"),
        (torch.eye(2), torch.ones(2), {"steps": 1, "step": -1}, "step is -1"),
    ),
)
def test_bad_input_of_kernel_fits_is_named(K, y, how, words):
    with pytest.raises(ValueError, match=words):
        margin_losses.fit_kernel(K, y, margin_losses.sd(), **how)


def test_divergence_is_an_error():
    diverging = {"steps": 2000, "step": 9.0}
    with pytest.raises(FloatingPointError, match="lower step"):
        margin_losses.fit_kernel(torch.eye(2), torch.ones(2), margin_losses.squared, **diverging)


def test_a_kernel_of_zeros_has_no_step_of_its_own():
    assert margin_losses.top_eigenvalue(torch.zeros(3, 3)) == 0
    with pytest.raises(ValueError, match="K is zero"):
        margin_losses.fit_kernel(torch.zeros(3, 3), torch.ones(3), margin_losses.logistic, steps=2)
