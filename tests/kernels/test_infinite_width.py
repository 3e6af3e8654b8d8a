"""The limit of infinite width against Monte Carlo and closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import kernels

NAMES = ["phi2", "phi4", "relu", "tanh", "step"]


def points(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("name", NAMES + ["h0+h3"])
def test_infinite_width_is_the_limit_of_finite_width(name):
    """Monte Carlo with its own standard error; norms differ on purpose."""
    Z = points(6, 8, 1) * torch.linspace(0.5, 1.5, 6, dtype=torch.float64)[:, None]
    draws = torch.stack(
        [
            kernels.random_feature_blocks(Z, activation=name, width=4096, seed=s)[0]
            for s in range(32)
        ]
    )
    error = draws.mean(0) - kernels.infinite_width(Z, activation=name)
    assert (error.abs() < 5 * draws.std(0) / math.sqrt(32) + 1e-9).all()


def test_series_agrees_with_the_arc_cosine_form():
    """A callable takes the series, the name takes the closed form."""
    Z, Y = points(5, 30, 0), points(4, 30, 1)
    for other in (None, Y):
        series = kernels.infinite_width(Z, other, activation=lambda t: torch.relu(t))
        closed = kernels.infinite_width(Z, other, activation="relu")
        assert torch.allclose(series, closed, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("activation", "at_zero"),
    [("relu", 0.0), ("step", 0.5), ("tanh", 0.0), ("phi2", -(0.5**0.5)), ("linear", 0.0),
     ("phi4", (3 / 8) ** 0.5), ("h0+h3", 1.0), (torch.cos, 1.0)],
)  # fmt: skip
def test_blank_inputs_have_the_features_of_zero(activation, at_zero, dtype):
    """Two blank inputs among others, against the features themselves."""
    Z = points(5, 4, 0, dtype) / 2
    Z[1] = Z[3] = 0
    limit = kernels.infinite_width(Z, activation=activation)
    twice = kernels.infinite_width(Z, Z.clone(), activation=activation)
    torch.testing.assert_close(limit, twice, rtol=0, atol=100 * torch.finfo(dtype).eps)
    blank = limit[[1, 1, 3, 3], [1, 3, 1, 3]].double()
    torch.testing.assert_close(blank, torch.full((4,), at_zero**2).double(), rtol=0, atol=1e-6)
    (finite,) = kernels.random_feature_blocks(Z, activation=activation, width=100_000, seed=0)
    torch.testing.assert_close(limit, finite, rtol=0, atol=0.05)
    slopes = kernels.ntk_two_layer(Z, derivative=activation, width=math.inf)
    assert not slopes[[1, 3]].any() and not slopes[:, [1, 3]].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["relu", "step", "tanh", "phi4", lambda t: torch.tanh(t)])
@given(st.integers(1, 12), st.integers(1, 2_000), st.integers(0, 10**6))
def test_a_copy_and_an_opposite_are_seen_exactly(activation, dtype, n, d, seed):
    """The series has to add what lies beyond its degree there, and angles lose no digits."""
    Z = points(n, d, seed, dtype)
    K = kernels.infinite_width(Z, activation=activation)
    tight = dict(rtol=0, atol=20 * torch.finfo(dtype).eps * float(K.diagonal().max()))
    again = kernels.infinite_width(Z, Z.clone(), activation=activation).diagonal()
    torch.testing.assert_close(again, K.diagonal(), **tight)
    opposite = kernels.infinite_width(Z, -Z, activation=activation).diagonal()
    if activation in ("relu", "step"):  # never both above 0
        torch.testing.assert_close(opposite, torch.zeros_like(opposite), **tight)
    elif activation != "phi4":
        torch.testing.assert_close(opposite, -K.diagonal(), **tight)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_whose_squares_are_no_numbers_are_refused(size):
    Z = points(3, 4, 0, torch.float32)
    Z[1] *= size
    with pytest.raises(ValueError, match="inputs have lengths from .*rescale the inputs"):
        kernels.infinite_width(Z, activation="step")
    with pytest.raises(ValueError, match="inputs have lengths from .*rescale the inputs"):
        kernels.relu_ntk(Z)


def test_infinite_width_says_when_its_series_has_not_converged():
    with pytest.raises(ValueError, match="beyond Hermite degree 60"):
        kernels.infinite_width(points(3, 4, 0) * 1000, activation="tanh")


def test_float32_agrees_with_float64():
    Z = points(50, 20, 0, torch.float32)
    single = kernels.infinite_width(Z, activation="phi4")
    double = kernels.infinite_width(Z.double(), activation="phi4")
    assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-5)
