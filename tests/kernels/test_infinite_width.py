"""The limit of infinite width against Monte Carlo and closed forms."""

import math

import pytest
import torch

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


def test_infinite_width_handles_a_blank_input():
    Z = torch.zeros(1, 4, dtype=torch.float64)
    assert float(kernels.infinite_width(Z, activation="relu")) == 0
    assert float(kernels.infinite_width(Z, activation="phi2")) == pytest.approx(0.5)


def test_infinite_width_says_when_its_series_has_not_converged():
    with pytest.raises(ValueError, match="beyond Hermite degree 60"):
        kernels.infinite_width(points(3, 4, 0) * 1000, activation="tanh")


def test_float32_agrees_with_float64():
    Z = points(50, 20, 0, torch.float32)
    single = kernels.infinite_width(Z, activation="phi4")
    double = kernels.infinite_width(Z.double(), activation="phi4")
    assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-5)
