"""The first layer's tangent kernel against autograd, its features and Monte Carlo."""

import math

import pytest
import torch

from helpers import kernels
from helpers.kernels import hermite

DERIVATIVES = ["h0+h1", "h0+h3", "h0+h7", "step"]


def points(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TwoLayer(torch.nn.Module):
    """sum_i phi(w_i z) with phi' = derivative: autograd sees phi' and nothing else of phi."""

    def __init__(self, W, derivative):
        super().__init__()
        self.W, self.slope = torch.nn.Parameter(W), hermite.resolve(derivative)

    def forward(self, z):
        t = z @ self.W.T
        return (t * self.slope(t.detach())).sum(1)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_ntk_is_that_of_the_network_by_automatic_differentiation(name):
    Z, Y, width = points(7, 6, 0), points(4, 6, 1), 300
    network = TwoLayer(kernels.random_weights(width, 6, seed=5), name)
    for other in (None, Y):
        closed = kernels.ntk_two_layer(Z, other, derivative=name, width=width, seed=5)
        traced = kernels.empirical_ntk(network, Z, other) / (6 * width)
        assert torch.allclose(closed, traced, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_ntk_is_that_of_the_materialised_features(name):
    Z, width = points(9, 5, 2), 1_500
    slopes = hermite.resolve(name)(Z @ kernels.random_weights(width, 5, seed=1).T)
    features = torch.einsum("nd,nk->ndk", Z, slopes).flatten(1)
    closed = kernels.ntk_two_layer(Z, derivative=name, width=width, seed=1)
    assert torch.allclose(closed, features @ features.T / features.shape[1], rtol=1e-12)
    assert torch.equal(closed, closed.T)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_infinite_ntk_is_the_limit_of_finite_width(name):
    Z = points(5, 8, 3) / 2
    draws = torch.stack(
        [kernels.ntk_two_layer(Z, derivative=name, width=4096, seed=s) for s in range(32)]
    )
    error = draws.mean(0) - kernels.ntk_two_layer(Z, derivative=name, width=math.inf)
    assert (error.abs() < 6 * draws.std(0) / math.sqrt(32) + 1e-9).all()


@pytest.mark.parametrize("width", [0, math.inf, 10])
@pytest.mark.parametrize(
    ("Z", "Z2"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4)),
        (torch.zeros(2, 3, dtype=torch.complex64), None),
        (torch.full((2, 3), float("inf")), None),
    ],
)
def test_ntk_names_bad_inputs(Z, Z2, width):
    with pytest.raises(ValueError, match="the same d|dtypes|not finite"):
        kernels.ntk_two_layer(Z, Z2, derivative="step", width=width)


def test_ntk_and_weights_need_a_width():
    with pytest.raises(ValueError, match="width is 0"):
        kernels.ntk_two_layer(torch.ones(2, 3), derivative="step", width=0)
    for width in (2.5, -math.inf, math.nan):
        with pytest.raises(ValueError, match=f"width is {width}"):
            kernels.ntk_two_layer(torch.ones(2, 3), derivative="step", width=width)
    with pytest.raises(ValueError, match="at least 1"):
        kernels.random_weights(3, 0, seed=0)
