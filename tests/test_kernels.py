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
