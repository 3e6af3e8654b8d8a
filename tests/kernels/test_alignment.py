"""The closed forms against the definitions: explicit retraining and explicit projectors."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import kernels
from helpers.kernels import alignment, hermite


def features(n, p, seed, name="relu", d=12):
    generator = torch.Generator().manual_seed(seed)
    Z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    V = torch.randn(p, d, generator=generator, dtype=torch.float64) / d**0.5
    return hermite.resolve(name)(Z @ V.T), generator


def retrained(phi, g, theta0):
    return theta0 + torch.linalg.pinv(phi) @ (g - phi @ theta0)


def projected(phi, i):
    others = torch.cat([phi[:i], phi[i + 1 :]])
    return phi[i] - torch.linalg.pinv(others) @ (others @ phi[i])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 8),
    st.sampled_from(["phi2", "relu", "tanh"]),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_lemma_and_closed_forms_follow_the_definitions(n, name, seed, start_at_zero):
    phi, generator = features(2 * n, 40, seed, name)
    phi, queries = phi[:n], phi[n:]
    g = torch.randn(n, generator=generator, dtype=torch.float64)
    theta0 = torch.randn(40, generator=generator, dtype=torch.float64) * (not start_at_zero)
    fitted = alignment.interpolate(phi @ phi.T)
    F = fitted.alignment(queries @ phi.T)
    S = fitted.stability(g - phi @ theta0)
    full = retrained(phi, g, theta0)
    for i in range(n):
        keep = [j for j in range(n) if j != i]
        without = retrained(phi[keep], g[keep], theta0)
        P = projected(phi, i)
        tolerance = dict(rel=1e-8, abs=1e-9)
        assert float(F[i]) == pytest.approx(float(queries[i] @ P / P.square().sum()), **tolerance)
        assert float(S[i]) == pytest.approx(float(phi[i] @ (full - without)), **tolerance)
        assert float(queries[i] @ (full - without)) == pytest.approx(
            float(F[i] * S[i]), **tolerance
        )
        assert float(fitted.novelty[i] * (phi[i] @ phi[i])) == pytest.approx(
            float(P @ P), **tolerance
        )


def test_prediction_interpolates_and_is_linear_in_alignment():
    phi, generator = features(10, 50, 0)
    g = torch.randn(10, generator=generator, dtype=torch.float64)
    fitted = alignment.interpolate(phi @ phi.T)
    assert torch.allclose(fitted.predict(phi @ phi.T, g), g)
    assert torch.allclose(
        alignment.interpolate(phi @ phi.T).alignment(phi @ phi.T), torch.ones(10).double()
    )


def test_scale_of_the_kernel_does_not_matter():
    phi, _ = features(20, 50, 1)
    K, Q = phi[:10] @ phi[:10].T, phi[10:] @ phi[:10].T
    assert torch.allclose(
        alignment.interpolate(K).alignment(Q), alignment.interpolate(K / 7).alignment(Q / 7)
    )


def test_duplicate_rows_are_named():
    phi, _ = features(9, 50, 2)
    phi[7] = phi[3]
    with pytest.raises(ValueError, match="numerically singular.*sample [37].*sample [37].*Remove"):
        alignment.interpolate(phi @ phi.T)


def test_duplicates_are_found_in_single_precision_too():
    Z = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    Z[150] = Z[20]
    (K,) = kernels.random_feature_blocks(Z, activation="relu", width=2000, seed=0)
    with pytest.raises(ValueError, match="sample (20|150) .*sample (20|150),"):
        alignment.interpolate(K)


def test_fewer_features_than_samples_is_singular():
    with pytest.raises(ValueError, match="20 training samples but only 10 features"):
        kernels.check_width(20, 10)
    Z = torch.randn(20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (K,) = kernels.random_feature_blocks(Z, activation="relu", width=10, seed=0)
    with pytest.raises(ValueError, match="numerically singular"):
        alignment.interpolate(K)


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (torch.zeros(2, 3), "square"),
        (torch.tensor([[1.0, 0.0], [0.5, 1.0]]), "not symmetric"),
        (torch.tensor([[1.0, float("nan")], [float("nan"), 1.0]]), "not finite"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "singular"),
        (torch.zeros(2, 2), "singular"),
    ],
)
def test_bad_kernels_are_named(K, message):
    with pytest.raises(ValueError, match=message):
        alignment.interpolate(K)


# -- samples whose features depend on each other ---------------------------------------------------


def by_random_features(X, activation):
    return kernels.random_feature_blocks(X, activation=activation, width=300, seed=0)[0]


def by_a_network(X):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Linear(X.shape[1], 20), torch.nn.ReLU(), torch.nn.Linear(20, 1)
        return kernels.empirical_ntk(torch.nn.Sequential(*layers).to(X.dtype), X)


KERNELS = {"network": by_a_network, "linear": partial(kernels.relu_ntk, depth=0)}
KERNELS |= {f"relu {depth}": partial(kernels.relu_ntk, depth=depth) for depth in (1, 2, 4)}
for name in ("relu", "step", "tanh", "phi2", "h0+h3"):
    KERNELS |= {
        f"features {name}": partial(by_random_features, activation=name),
        f"limit {name}": partial(kernels.infinite_width, activation=name),
        f"two layers {name}": partial(kernels.ntk_two_layer, derivative=name, width=40),
        f"two layers, limit {name}": partial(
            kernels.ntk_two_layer, derivative=name, width=math.inf
        ),
    }
HOMOGENEOUS = {"relu 1", "relu 2", "relu 4", "limit relu", "limit step", "features relu"}
ODD = {"limit tanh", "features tanh"}


def cloud(n, d, seed, dtype):
    X = torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (12**0.5 * (X - 0.5)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=12)
@given(st.integers(2, 40), st.integers(2, 30), st.integers(0, 10**6))
def test_a_duplicate_is_singular_in_every_kernel(name, dtype, n, d, seed):
    X = cloud(n, d, seed, dtype)
    X[0] = X[-1]
    with pytest.raises(ValueError, match="numerically singular"):
        alignment.interpolate(KERNELS[name](X))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*sorted(HOMOGENEOUS), *sorted(ODD)])
@settings(max_examples=12)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.1, 10), st.integers(0, 10**6))
def test_a_multiple_or_the_opposite_may_be_singular_too(name, dtype, n, d, factor, seed):
    X = cloud(n, d, seed, dtype)
    X[0] = -X[-1] if name in ODD else factor * X[-1]
    with pytest.raises(ValueError, match="numerically singular"):
        alignment.interpolate(KERNELS[name](X))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_of_two_opposite_pairs_have_the_same_sum(dtype):
    """step(x) + step(-x) is 1: four samples in three dimensions, no two of them alike."""
    for seed in range(20):
        X = cloud(2, 9, seed, dtype)
        K = kernels.infinite_width(torch.cat([X, -X]), activation="step")
        with pytest.raises(ValueError, match="numerically singular"):
            alignment.interpolate(K)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "linear"])
@settings(max_examples=8)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_samples_that_differ_are_never_singular(name, dtype, n, seed):
    """Nor are they far from it: a sample aligns with itself."""
    K = KERNELS[name](cloud(n, 30, seed, dtype))
    found = alignment.interpolate(K)
    assert torch.allclose(found.alignment(K), torch.ones(n).double(), atol=1e-8)
    rounding = 100 * torch.finfo(dtype).eps
    moved = (found.inverse.square() @ K.diagonal().double()) / found.inverse.diagonal()
    assert float(moved.max()) * rounding < 0.05


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("n", [50, 300])
def test_a_dependence_of_many_samples_is_found(n, scale):
    """One dimension is lacking and all samples share it: each is mostly outside of the others."""
    for seed in range(10):
        phi, _ = features(n, n - 1, seed, "linear", d=n - 1)
        with pytest.raises(ValueError, match="numerically singular"):
            alignment.interpolate(phi @ phi.T * scale)
    phi, _ = features(n, 2 * n, 0, "linear", d=2 * n)
    whole = alignment.interpolate(phi @ phi.T)
    torch.testing.assert_close(alignment.interpolate(phi @ phi.T * scale).novelty, whole.novelty)


def test_a_dependence_is_found_in_a_large_kernel_too():
    """Each of many samples has a small part in what is lacking, and rounding grows with them."""
    for seed in (0, 1):
        Z = torch.randn(2_000, 50, generator=torch.Generator().manual_seed(seed)).double()
        (K,) = kernels.random_feature_blocks(Z, activation="relu", width=1_999, seed=seed)
        with pytest.raises(ValueError, match="numerically singular"):
            alignment.interpolate(K)


@pytest.mark.parametrize("bad", [torch.ones(2, 1), torch.tensor([1.0, math.nan]), torch.ones(3)])
def test_labels_are_finite_and_one_a_sample(bad):
    fitted = alignment.interpolate(torch.eye(2))
    for ask in (fitted.stability, partial(fitted.predict, torch.eye(2))):
        with pytest.raises(ValueError, match=r"labels have shape|labels hold values"):
            ask(bad)
    assert fitted.stability(torch.zeros(2, dtype=torch.int64)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("K_query", "message"),
    [(torch.ones(2), r"expected \(m, 2\)"), (torch.ones(1, 3), r"expected \(m, 2\)")]
    + [(torch.full((2, 2), math.nan), "not finite")],
)
def test_bad_queries_are_named(K_query, message):
    fitted = alignment.interpolate(torch.eye(2))
    with pytest.raises(ValueError, match=message):
        fitted.predict(K_query, torch.ones(2))
    with pytest.raises(ValueError, match=r"not finite|expected \(2, 2\)"):
        fitted.alignment(K_query)


def test_queries_must_match_the_samples():
    with pytest.raises(ValueError, match=r"shape \(1, 2\): expected \(2, 2\)"):
        alignment.interpolate(torch.eye(2)).alignment(torch.zeros(1, 2))
