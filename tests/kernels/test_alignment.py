"""The closed forms against the definitions: explicit retraining and explicit projectors."""

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


def test_queries_must_match_the_samples():
    with pytest.raises(ValueError, match=r"shape \(1, 2\): expected \(2, 2\)"):
        alignment.interpolate(torch.eye(2)).alignment(torch.zeros(1, 2))
