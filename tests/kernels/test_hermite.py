"""Hermite coefficients against closed forms, numpy's own polynomials and Parseval."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.kernels import hermite


def test_relu_and_step_have_their_closed_forms():
    root = math.sqrt(2 * math.pi)
    relu = [1 / root, 0.5, 1 / (root * math.sqrt(2)), 0, -1 / (root * math.sqrt(24))]
    step = [0.5, 1 / root, 0, -1 / (root * math.sqrt(6)), 0]
    assert hermite.coefficients("relu", 4) == pytest.approx(relu, abs=1e-13)
    assert hermite.coefficients("step", 4) == pytest.approx(step, abs=1e-13)


def test_agrees_with_gauss_hermite_where_that_rule_is_accurate():
    nodes, weights = np.polynomial.hermite_e.hermegauss(180)
    for degree, mu in enumerate(hermite.coefficients("tanh", 12)):
        series = np.eye(degree + 1)[degree]
        basis = np.polynomial.hermite_e.hermeval(nodes, series) / math.sqrt(math.factorial(degree))
        oracle = (weights * np.tanh(nodes) * basis).sum() / math.sqrt(2 * math.pi)
        assert mu == pytest.approx(oracle, abs=1e-10)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9))
def test_recovers_the_coefficients_of_any_polynomial(mu):
    def series(t):
        return torch.tensor(mu, dtype=torch.float64) @ hermite.basis(len(mu) - 1, t)

    assert hermite.coefficients(series, len(mu) - 1) == pytest.approx(mu, abs=1e-11)
    assert hermite.second_moment(series) == pytest.approx(sum(m * m for m in mu), abs=1e-10)


@given(st.integers(0, 10), st.integers(0, 10))
def test_mixtures_by_name_have_unit_coefficients(i, j):
    mu = hermite.coefficients(f"h{i}+h{j}", 10)
    assert mu == pytest.approx(np.eye(11)[i] + np.eye(11)[j], abs=1e-11)


def test_basis_is_orthonormal():
    nodes, weights = hermite.quadrature()
    values = hermite.basis(60, nodes)
    assert torch.allclose((values * weights) @ values.T, torch.eye(61).double(), atol=1e-9)


@pytest.mark.parametrize("name", ["phi2", "phi4", "h0+h7", "relu", "step", "tanh", "linear"])
def test_activations_leave_their_input_alone(name):
    t = torch.linspace(-2, 2, 7)
    before = t.clone()
    hermite.resolve(name)(t)
    assert torch.equal(t, before)


@pytest.mark.parametrize("name", ["swish", "h", "h1+", "", "H1"])
def test_unknown_activation_is_named_with_what_is_allowed(name):
    with pytest.raises(ValueError, match=f"unknown activation '{name}'.*relu".replace("+", r"\+")):
        hermite.coefficients(name, 3)


@pytest.mark.parametrize(
    "bad", [lambda t: t / 0, lambda t: t.sum(), lambda t: torch.sqrt(t), lambda t: t * 1j]
)
def test_a_callable_must_give_finite_reals(bad):
    with pytest.raises(ValueError, match="finite reals"):
        hermite.coefficients(bad, 3)


@pytest.mark.parametrize("degree", [-1, 101])
def test_degree_out_of_range(degree):
    with pytest.raises(ValueError, match=f"degree is {degree}"):
        hermite.coefficients("relu", degree)


def test_polynomials_have_a_degree_in_range():
    with pytest.raises(ValueError, match="degree is -1"):
        hermite.basis(-1, torch.ones(1))
    assert hermite.coefficients("h60", 60)[60] == pytest.approx(1, abs=1e-4)
    for name in ("h61", "h1+h200"):  # the second is no number of floating point any more
        with pytest.raises(ValueError, match="degrees are allowed up to 60"):
            hermite.resolve(name)
