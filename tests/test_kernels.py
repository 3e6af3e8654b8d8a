"""Random-feature kernels against an explicit feature matrix, Monte Carlo and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import hermite, kernels

NAMES = ["phi2", "phi4", "relu", "tanh", "step"]


def points(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=20)
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 700), st.sampled_from([1, 256, 300, 4096])
)
def test_streaming_does_not_change_the_features(n, m, width, chunk):
    Z, A, B = points(n, 5, 0), points(m, 5, 1), points(2, 5, 2)
    given_ = dict(activation="relu", width=width, seed=3)
    whole = kernels.random_features(torch.cat([Z, A, B]), chunk=width, **given_)
    K, KA, KB = kernels.random_feature_blocks(Z, A, B, chunk=chunk, **given_)
    stacked = torch.cat([K, KA, KB])
    assert torch.allclose(stacked, whole[:, :n], atol=1e-12)
    assert torch.equal(K, K.T)
    assert torch.allclose(kernels.random_features(A, Z, chunk=chunk, **given_), KA, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gram_is_that_of_an_explicit_feature_matrix(name):
    """Linear features reveal V itself; any other activation must act on the same V."""
    d, width, seed = 4, 300, 7
    eye, Z = torch.eye(d, dtype=torch.float64), points(6, d, 0)
    grabbed = []

    def spy(t):
        grabbed.append(t.clone())
        return t

    kernels.random_features(eye, activation=spy, width=width, seed=seed)
    V = torch.cat(grabbed, dim=1).T
    features = hermite.resolve(name)(Z @ V.T)
    expected = features @ features.T / width
    got = kernels.random_features(Z, activation=name, width=width, seed=seed)
    assert torch.allclose(got, expected, atol=1e-12)
    assert float(V.var()) == pytest.approx(1 / d, rel=0.1)


@pytest.mark.parametrize("name", NAMES + ["h0+h3"])
def test_infinite_width_is_the_limit_of_finite_width(name):
    """Monte Carlo with its own standard error; norms differ on purpose."""
    Z = points(6, 8, 1) * torch.linspace(0.5, 1.5, 6, dtype=torch.float64)[:, None]
    draws = torch.stack(
        [kernels.random_features(Z, activation=name, width=4096, seed=s) for s in range(32)]
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


@pytest.mark.parametrize(
    ("Z", "Z2", "message"),
    [
        (torch.zeros(3), None, "shapes"),
        (torch.zeros(0, 3), None, "shapes"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "the same d"),
        (torch.zeros(2, 3, dtype=torch.int64), None, "dtypes"),
        (torch.zeros(2, 3), torch.zeros(2, 3).double(), "dtypes"),
        (torch.full((2, 3), float("nan")), None, "not finite"),
        (torch.zeros(2, 3, dtype=torch.complex64), None, "dtypes"),
    ],
)
def test_bad_inputs_are_named(Z, Z2, message):
    with pytest.raises(ValueError, match=message):
        kernels.random_features(Z, Z2, activation="relu", width=10, seed=0)
    with pytest.raises(ValueError, match=message):
        kernels.infinite_width(Z, Z2, activation="relu")


@pytest.mark.parametrize(("width", "chunk"), [(0, 1), (5, 0)])
def test_width_and_chunk_must_be_positive(width, chunk):
    with pytest.raises(ValueError, match="at least 1"):
        kernels.random_features(
            torch.ones(2, 3), activation="relu", width=width, seed=0, chunk=chunk
        )


# -- neural tangents ------------------------------------------------------------------------------

DERIVATIVES = ["h0+h1", "h0+h3", "h0+h7", "step"]


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


@given(st.integers(1, 300), st.integers(1, 4))
def test_symmetric_product_is_the_product(n, d):
    Z = points(n, d, n)
    assert torch.allclose(kernels._symmetric_product(Z), Z @ Z.T, atol=1e-12)


@settings(max_examples=10)
@given(st.integers(1, 5_000), st.integers(0, 3))
def test_empirical_ntk_does_not_depend_on_its_blocks(memory, seed):
    X = points(6, 3, seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    network = network.double()
    jacobian = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(network(x)[0], network.parameters())]
            )
            for x in X
        ]
    )
    for other, right in ((None, jacobian), (X[:2], jacobian[:2])):
        got = kernels.empirical_ntk(network, X, other, memory=memory)
        assert torch.allclose(got, jacobian @ right.T, atol=1e-12)


def test_empirical_ntk_of_a_network_with_batch_normalisation_and_frozen_parts():
    conv = torch.nn.Conv2d(1, 2, 3)
    network = torch.nn.Sequential(
        conv, torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 1)
    )
    conv.requires_grad_(False)
    X = points(3, 16, 0, torch.float32).view(3, 1, 4, 4)
    with pytest.raises(ValueError, match="train mode and layer '1'.*model.eval"):
        kernels.empirical_ntk(network, X)
    kernel = kernels.empirical_ntk(network.eval(), X)
    assert torch.linalg.eigvalsh(kernel).min() > 0
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "X", "message"),
    [
        (torch.nn.Linear(2, 3), torch.ones(2, 2), r"returns shape \(1, 3\) for one sample"),
        (torch.nn.ReLU(), torch.ones(2, 2), "no trainable parameters"),
        (torch.nn.Linear(2, 1), torch.full((2, 2), float("nan")), "not finite"),
        (torch.nn.Linear(2, 1), torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        (torch.nn.Linear(2, 1), torch.ones(0, 2), "at least one"),
    ],
)
def test_empirical_ntk_names_bad_inputs(network, X, message):
    with pytest.raises(ValueError, match=message):
        kernels.empirical_ntk(network, X)


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
    with pytest.raises(ValueError, match="at least 1"):
        kernels.random_weights(3, 0, seed=0)
