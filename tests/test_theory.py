"""Laws of Part I against tabulated constants, limits, and measured alignments."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import alignment, data, kernels, theory

alphas = st.floats(0.02, 0.98)
names = st.sampled_from(["phi2", "phi4", "relu", "tanh"])


@pytest.mark.parametrize(
    ("name", "alpha", "bound", "few", "equal", "many"),
    [
        ("phi2", 0.25, 0.0312, 0.1562, 0.1341, 0.0625),
        ("phi2", 0.5, 0.1250, 0.3750, 0.3455, 0.2500),
        ("phi4", 0.25, 0.0020, 0.1270, 0.0979, 0.0039),
        ("phi4", 0.5, 0.0312, 0.2812, 0.2296, 0.0625),
        ("relu", 0.25, 0.0147, 0.1980, 0.1627, 0.0550),
        ("relu", 0.5, 0.0597, 0.4264, 0.3764, 0.2239),
        ("tanh", 0.25, 0.0009, 0.2335, 0.1934, 0.0127),
        ("tanh", 0.5, 0.0073, 0.4726, 0.4058, 0.1052),
    ],
)
def test_constants(name, alpha, bound, few, equal, many):
    assert theory.gamma_rf_bound(name, alpha) == pytest.approx(bound, abs=6e-5)
    for ratio, expected in ((0, few), (1, equal), (math.inf, many)):
        assert theory.gamma_rf(name, alpha, ratio) == pytest.approx(expected, abs=6e-5)


@given(names, alphas, st.floats(0, 1e6), st.floats(0, 1e6))
def test_law_falls_with_the_ratio_and_stays_above_the_bound(name, alpha, a, b):
    low, high = sorted((a, b))
    at_low, at_high = (theory.gamma_rf(name, alpha, r) for r in (low, high))
    assert 0 < theory.gamma_rf_bound(name, alpha) < at_high <= at_low + 1e-12 <= 1


@given(names, alphas, st.floats(1e-6, 1e9))
def test_unlearned_share_solves_its_equation(name, alpha, ratio):
    rho = theory._unlearned_share(1.0, 0.3, ratio)
    assert rho == pytest.approx(1 / (1 + ratio / (0.3 + rho)), rel=1e-9)


@given(alphas, st.floats(0, 100), st.sampled_from(["phi2", "phi4"]))
def test_hermite_pairs_do_not_see_how_the_core_is_replaced(alpha, ratio, name):
    """c_l of h1 + h_l is alpha^(l/2) plus lower terms that the basis does not contain."""
    zero = theory.gamma_rf(name, alpha, ratio, query="zero")
    assert zero == pytest.approx(theory.gamma_rf(name, alpha, ratio), rel=1e-9)


def test_relu_zero_query_has_its_closed_form():
    """ReLU is positively homogeneous: c_l = sqrt(alpha) mu_l, so each power gains one half."""
    assert theory.gamma_rf("relu", 0.25, 0, query="zero") == pytest.approx(0.213, abs=1e-3)
    assert theory.gamma_rf("relu", 0.25, math.inf, query="zero") == pytest.approx(0.112, abs=1e-3)


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("name", ["phi2", "phi4", "relu", "tanh"])
@pytest.mark.parametrize("samples", [30, 400])
def test_law_is_the_mean_of_measured_alignments(name, query, samples):
    d, alpha, means = 400, 0.5, []
    for seed in range(400 // samples + 2):
        x, y = data.gaussian_two_block(samples, d, alpha, seed=seed, normalise=True)
        core, _ = data.gaussian_two_block(samples, d, alpha, seed=1000 + seed, normalise=True)
        core = core if query == "resample" else torch.zeros_like(x)
        Z, Zs = (torch.cat(parts, 1).double() for parts in ((x, y), (core, y)))
        K, K_query = (kernels.infinite_width(A, Z, activation=name) for A in (Z, Zs))
        means.append(float(alignment.leave_one_out((K + K.T) / 2, K_query).mean()))
    law = theory.gamma_rf(name, alpha, samples / d, query=query, samples=samples)
    assert sum(means) / len(means) == pytest.approx(law, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phi2", 0.0, 1), "alpha is 0.0"),
        (("phi2", 1.0, 1), "alpha is 1.0"),
        (("phi2", float("nan"), 1), "alpha is nan"),
        (("phi2", 0.5, -1), "ratio is -1"),
        (("phi2", 0.5, float("nan")), "ratio is nan"),
        (("phi2", 0.5, 1, "blur"), "query is 'blur'.*'resample', 'zero'"),
        (("phi2", 0.5, 1, "zero", 0), "samples is 0"),
        (("nope", 0.5, 1), "unknown activation"),
        (("linear", 0.5, 2), "kernel is singular"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.gamma_rf(*arguments)


@pytest.mark.parametrize("alpha", [-0.1, 0.0, 1.0, 1.5])
def test_bound_and_spread_check_alpha(alpha):
    with pytest.raises(ValueError, match="open interval"):
        theory.gamma_rf_bound("phi2", alpha)
    with pytest.raises(ValueError, match="open interval"):
        theory.alignment_sd("phi2", alpha, 10)
