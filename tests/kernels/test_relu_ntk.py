"""The ReLU tangent kernel in closed form, and products with empirical kernels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import kernels

# Cosine, then K(x, x') of unit vectors at depth 1, 2, 3. Made without the closed form: quadrature
# of the layer recursion (scipy's `quad`, tolerance 1e-13). With a, b standard normal and correlated
# by u, E[relu(a) relu(b)] is the integral over a > 0 of a pdf(a) (m cdf(m/s) + s pdf(m/s)), m = ua,
# s = sqrt(1-u^2); E[step(a) step(b)] that of pdf(a) cdf(ua/s); u' = 2 E[relu relu],
# t' = 2 t E[step step] + u'.
FROZEN = [
    (-0.9, -0.119671265, 0.2628945859, 0.6555984093),
    (-0.3, 0.061840289, 0.4495497051, 0.8396571431),
    (0.0, 0.3183098862, 0.6857086363, 1.0603881068),
    (0.5, 0.9423311144, 1.3514795611, 1.7378446792),
    (0.99, 1.9356973762, 2.8403960846, 3.7071071967),
]


def points(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- the closed form ------------------------------------------------------------------------------


@pytest.mark.parametrize(("cosine", "one", "two", "three"), FROZEN)
def test_recursion_against_quadrature(cosine, one, two, three):
    x = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
    for depth, expected in ((0, cosine), (1, one), (2, two), (3, three)):
        K = kernels.relu_ntk(x, depth=depth)
        assert float(K[0, 1]) == pytest.approx(expected, abs=1e-9)
        assert K.diagonal().tolist() == pytest.approx([depth + 1] * 2), "h(1) = 2, one layer"


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 6), st.integers(0, 5))
def test_one_layer_is_the_sum_of_the_arc_cosine_kernels(n, m, d, seed):
    """Both layers' part: E[relu relu] and <x, x'> E[step step], by `infinite_width`."""
    X, Y = points(n, d, seed), points(m, d, seed + 100)
    parts = [kernels.infinite_width(X, Y, activation=name) for name in ("relu", "step")]
    expected = 2 * d * parts[0] + 2 * (X @ Y.T) * parts[1]
    torch.testing.assert_close(kernels.relu_ntk(X, Y), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2])
def test_finite_networks_approach_it_with_the_root_of_the_width(network, depth):
    X = points(12, 5, 0)
    limit = kernels.relu_ntk(X, depth=depth)
    errors = {}
    for width in (64, 256, 1024) if depth == 1 else (32, 128):
        off = [
            kernels.empirical_ntk(network(5, width, depth, seed), X) - limit for seed in range(12)
        ]
        errors[width] = math.sqrt(sum(float((e / limit.norm()).square().sum()) for e in off) / 12)
        mean = torch.stack(off).mean(0).norm() / limit.norm()
        assert mean < 4 * errors[width] / math.sqrt(12) + 2 * depth / width, "biased"
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.25)
    assert max(error * math.sqrt(width) for width, error in errors.items()) < 5 * depth


def test_explicit_formula_of_a_finite_network(network):
    """Gradients by hand, layer by layer, without autograd."""
    X, net = points(9, 6, 3), network(6, 40, 1, seed=1)
    W, a = (p.detach() for p in net.layers)
    H = X @ W.T
    by_output = torch.relu(H) @ torch.relu(H).T
    by_input = ((H > 0) * a.square()) @ (H > 0).double().T * (X @ X.T)
    expected = 2 / 40 * (by_output + by_input)
    torch.testing.assert_close(kernels.empirical_ntk(net, X), expected, rtol=1e-6, atol=1e-6)


def test_expansion_for_nearly_orthogonal_inputs():
    r"""K = R^2/pi 11' + XX' + 3 (XX')^2/(2 pi R^2) + ... and 0.204 R^2 more on the diagonal."""
    X = points(40, 4_000, 0)
    R2 = float(X.square().sum(1).mean())
    X = X * (R2**0.5 / X.norm(dim=1, keepdim=True))
    G = X @ X.T
    expected = R2 / math.pi + G + 3 * G.square() / (2 * math.pi * R2)
    expected.diagonal().add_(R2 * (1 - 5 / (2 * math.pi)))
    error = (kernels.relu_ntk(X) - expected).abs().max() / R2
    assert error < 1e-4  # u is at most 0.06 here and the next term is u^4/(8 pi)
    assert 1 - 5 / (2 * math.pi) == pytest.approx(0.204, abs=1e-3)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 3))
def test_tiles_change_nothing(n, rows, depth):
    X = points(n, 4, n)
    whole = kernels.relu_ntk(X, depth=depth, rows=1000)
    tiled = kernels.relu_ntk(X, depth=depth, rows=rows)
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-12)
    assert torch.equal(tiled, tiled.T)
    torch.testing.assert_close(
        kernels.relu_ntk(X, X, depth=depth, rows=rows), whole, atol=1e-6, rtol=0
    )


@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 3))
def test_it_is_a_kernel_and_scales_with_the_norms(n, d, depth):
    X = points(n, d, n)
    K = kernels.relu_ntk(X, depth=depth)
    assert float(torch.linalg.eigvalsh(K)[0]) > -1e-9 * float(K.diagonal().max())
    scale = torch.linspace(0.5, 3, n, dtype=torch.float64)
    scaled = kernels.relu_ntk(X * scale[:, None], depth=depth)
    torch.testing.assert_close(scaled, K * scale[:, None] * scale, rtol=1e-9, atol=1e-9)


def test_inputs_that_are_zero_parallel_or_opposite():
    X = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]], dtype=torch.float64)
    K = kernels.relu_ntk(X)
    assert K[0].abs().max() == 0
    assert float(K[1, 2]) == pytest.approx(8.0, abs=1e-6)  # 2 |x| |x'|
    assert float(K[1, 3]) == pytest.approx(0.0, abs=1e-6)


def test_many_inputs_on_one_line():
    """Pairs of which only the side counts: more of them than are looked at together."""
    x = torch.linspace(-2, 2, 601, dtype=torch.float64)[:, None] * torch.ones(1, 20)
    expected = (2 * (x @ x.T)).clamp(min=0)
    torch.testing.assert_close(kernels.relu_ntk(x, rows=250), expected, rtol=1e-12, atol=1e-12)


def test_single_precision():
    X = points(200, 50, 0)
    double, single = kernels.relu_ntk(X), kernels.relu_ntk(X.float())
    assert single.dtype == torch.float32 and torch.equal(single, single.T)
    assert float((single - double).norm() / double.norm()) < 1e-6
    again = kernels.relu_ntk(X.float(), X.float()).diagonal() / double.diagonal()
    assert float((again - 1).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("X", "X2", "options", "message"),
    [
        (torch.ones(2, 3), None, {"depth": -1}, "depth is -1"),
        (torch.ones(2, 3), None, {"rows": 0}, "rows is 0"),
        (torch.ones(2, 3), torch.ones(2, 4), {}, "the same d"),
        (torch.ones(2, 3), torch.ones(2, 3).double(), {}, "dtypes"),
        (torch.ones(0, 3), None, {}, "shapes"),
        (torch.full((2, 3), float("inf")), None, {}, "not finite"),
    ],
)
def test_bad_inputs(X, X2, options, message):
    with pytest.raises(ValueError, match=message):
        kernels.relu_ntk(X, X2, **options)
