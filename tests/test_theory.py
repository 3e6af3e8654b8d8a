"""Laws of Part I against tabulated constants, limits, and measured alignments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


# -- NTK features ---------------------------------------------------------------------------------

derivatives = st.sampled_from(["h0+h1", "h0+h3", "h0+h7", "step"])


@pytest.mark.parametrize(
    ("name", "alpha", "many", "few", "equal", "five"),
    [
        ("h0+h1", 0.25, 0.0625, 0.1562, 0.1341, 0.0928),
        ("h0+h1", 0.5, 0.2500, 0.3750, 0.3455, 0.2904),
        ("h0+h3", 0.25, 0.0039, 0.1270, 0.0979, 0.0436),
        ("h0+h3", 0.5, 0.0625, 0.2812, 0.2296, 0.1331),
        ("h0+h7", 0.25, 1.5e-5, 0.1250, 0.0955, 0.0404),
        ("h0+h7", 0.5, 0.0039, 0.2520, 0.1934, 0.0840),
        ("step", 0.25, 0.0402, 0.1451, 0.1203, 0.0741),
        ("step", 0.5, 0.1667, 0.3333, 0.2940, 0.2205),
    ],
)
def test_ntk_constants(name, alpha, many, few, equal, five):
    for ratio, expected in ((math.inf, many), (0, few), (1, equal), (5, five)):
        assert theory.gamma_ntk(name, alpha, ratio) == pytest.approx(expected, abs=6e-5)


@given(alphas, st.integers(1, 30))
def test_ntk_theorem_is_a_power_for_one_degree(alpha, degree):
    law = theory.gamma_ntk(f"h0+h{degree}", alpha, math.inf)
    assert law == pytest.approx(alpha ** (degree + 1), rel=1e-9)


@given(derivatives, alphas, st.floats(0, 1e6), st.floats(0, 1e6))
def test_ntk_law_falls_with_the_ratio(name, alpha, a, b):
    low, high = sorted((a, b))
    at_low, at_high = (theory.gamma_ntk(name, alpha, r) for r in (low, high))
    assert 0 < theory.gamma_ntk(name, alpha, math.inf) <= at_high + 1e-12
    assert at_high <= at_low + 1e-12 <= 1


def test_named_step_and_its_series_agree():
    for query in theory.QUERIES:
        named = theory.gamma_ntk("step", 0.5, 2, query)
        series = theory.gamma_ntk(lambda t: (t > 0).to(t.dtype), 0.5, 2, query)
        assert named == pytest.approx(series, abs=1e-6)


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("name", ["h0+h1", "h0+h3", "h0+h7", "step"])
@pytest.mark.parametrize("samples", [60, 400])
def test_ntk_law_is_the_mean_of_measured_alignments(name, query, samples):
    d, alpha, means = 200, 0.5, []
    for seed in range(400 // samples + 2):
        x, y = data.gaussian_two_block(samples, d, alpha, seed=seed, normalise=True)
        core, _ = data.gaussian_two_block(samples, d, alpha, seed=1000 + seed, normalise=True)
        core = core if query == "resample" else torch.zeros_like(x)
        Z, Zs = (torch.cat(parts, 1).double() for parts in ((x, y), (core, y)))
        K = kernels.ntk_two_layer(Z, derivative=name, width=math.inf)
        K_query = kernels.ntk_two_layer(Zs, Z, derivative=name, width=math.inf)
        means.append(float(alignment.leave_one_out(K, K_query).mean()))
    law = theory.gamma_ntk(name, alpha, samples / d, query)
    assert sum(means) / len(means) == pytest.approx(law, rel=0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("h0+h1", 1.0, 1), "alpha is 1.0"),
        (("h0+h1", 0.5, float("nan")), "ratio is nan"),
        (("h0+h1", 0.5, 1, "blur"), "query is 'blur'"),
        (("h0", 0.5, 2), "kernel is singular"),
        (("nope", 0.5, 1), "unknown activation"),
    ],
)
def test_ntk_law_names_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.gamma_ntk(*arguments)


# -- cores of any law -----------------------------------------------------------------------------


def sphere(n, dim, seed, spectrum=None):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=draw, dtype=torch.float64)
    x = x if spectrum is None else x * spectrum
    return x * (dim**0.5 / x.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("name", ["phi2", "phi4", "relu", "tanh"])
def test_law_for_cores_covers_isotropic_ones(name, query):
    x = sphere(600, 300, 0)
    law = theory.gamma_rf_cores(name, (x @ x.T / 300).numpy(), 0.5, 300, query)
    known = theory.gamma_rf(name, 0.5, 1.0, query, samples=600)
    assert law == pytest.approx(known, rel=0.02)


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("name", ["phi2", "phi4", "relu", "tanh"])
@pytest.mark.parametrize("samples", [50, 500])
def test_law_for_cores_predicts_alignment_where_isotropy_fails(name, query, samples):
    """Cores with a steep spectrum, backgrounds that the law never sees."""
    dx, dy = 150, 250
    alpha, spectrum = dy / (dx + dy), 1 / torch.arange(1, dx + 1, dtype=torch.float64)
    means = []
    for seed in range(3):
        x, other = (sphere(samples, dx, 10 * seed + i, spectrum) for i in (0, 1))
        y = sphere(samples, dy, 10 * seed + 2)
        core = other if query == "resample" else torch.zeros_like(x)
        Z, Zs = torch.cat([x, y], 1), torch.cat([core, y], 1)
        K, K_query = (kernels.infinite_width(A, Z, activation=name) for A in (Z, Zs))
        means.append(float(alignment.leave_one_out((K + K.T) / 2, K_query).mean()))
    law = theory.gamma_rf_cores(name, (x @ x.T / dx).numpy(), alpha, dy, query)
    isotropic = theory.gamma_rf(name, alpha, samples / (dx + dy), query, samples=samples)
    measured = sum(means) / len(means)
    assert law == pytest.approx(measured, rel=0.03)
    assert samples == 50 or abs(isotropic - measured) > 2 * abs(law - measured)


@pytest.mark.parametrize(
    ("overlaps", "background", "message"),
    [
        (torch.ones(2, 3), 5, r"shape \(2, 3\)"),
        (torch.ones(1, 1), 5, r"shape \(1, 1\)"),
        (torch.zeros(2, 2), 5, "ones on the diagonal"),
        (torch.full((2, 2), float("nan")), 5, "finite"),
        (torch.eye(2), 0, "background is 0"),
    ],
)
def test_law_for_cores_names_bad_arguments(overlaps, background, message):
    with pytest.raises(ValueError, match=message):
        theory.gamma_rf_cores("relu", overlaps.numpy(), 0.5, background)


# -- Part II: the linear model --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        # (var_inv, var_sp, S, lam, gamma) at P = 1; verified independently of this code
        ((0.5, 0.1, 5, 0, 0.05), (0.9210, 0.8458, 0.1896)),
        ((0.5, 0.1, 5, 0, 0.25), (0.9191, 0.7673, 0.3503)),
        ((0.5, 0.1, 5, 0, 0.5), (0.9089, 0.6888, 0.5025)),
        ((0.8, 0.4, 5, 0, 0.05), (0.8678, 0.8176, 0.1068)),
        ((0.8, 0.4, 5, 0, 0.5), (0.8492, 0.6128, 0.4773)),
        ((0.5, 0.1, 5, 1, 0.05), (0.9212, 0.8852, 0.0614)),
        ((0.5, 0.1, 5, 1, 0.5), (0.9017, 0.6008, 0.3922)),
        ((0.5, 0.1, 5, 10, 0.5), (0.8967, 0.5449, 0.1037)),
        ((1, 0.05, 25, 0, 0.01), (0.8412, 0.6118, 0.3591)),
        ((1, 0.05, 25, 0, 0.05), (0.8410, 0.5213, 0.4796)),
        ((1, 0.05, 25, 0, 0.3), (0.8356, 0.4242, 0.6342)),
    ],
)
def test_rare_linear_anchors(setting, expected):
    var_inv, var_sp, S, lam, gamma = setting
    assert theory.rare_linear(1, S, var_inv, var_sp, gamma, lam) == pytest.approx(
        expected, abs=6e-5
    )


positive = st.floats(0.05, 5)


@given(positive, positive, positive, positive, st.floats(0, 1), st.floats(0, 5), st.integers(1, 5))
def test_rare_linear_solves_the_normal_equations(P, S, var_inv, var_sp, gamma, lam, dim):
    """The population moments in full dimension, solved without any of the closed form."""
    draw = np.random.default_rng(dim)
    m, v = draw.standard_normal((2, dim))
    m, v = m * np.sqrt(P) / np.linalg.norm(m), v * np.sqrt(S) / np.linalg.norm(v)
    # components: probability, mean of (x_inv, x_sp), label
    parts = [(0.5, np.r_[-m, 0 * v], -1), ((1 - gamma) / 2, np.r_[m, 0 * v], 1),
             (gamma / 2, np.r_[m, v], 1)]  # fmt: skip
    noise = np.diag(np.r_[np.full(dim, var_inv), np.full(dim, var_sp), 0.0])
    second, first = noise + lam * np.diag(np.r_[np.ones(2 * dim), 0.0]), 0
    for weight, mean, label in parts:
        extended = np.r_[mean, 1.0]
        second = second + weight * np.outer(extended, extended)
        first = first + weight * label * extended
    w = np.linalg.solve(second, first)
    sd = np.sqrt(w @ noise @ w)

    def accuracy(mean, label):
        return stats.norm.cdf(label * (w @ np.r_[mean, 1.0]) / sd)

    clean = (accuracy(np.r_[-m, 0 * v], -1) + accuracy(np.r_[m, 0 * v], 1)) / 2
    spurious = accuracy(np.r_[-m, v], -1)
    found = theory.rare_linear(P, S, var_inv, var_sp, gamma, lam)
    assert found == pytest.approx((clean, spurious, w[dim:-1] @ v), abs=1e-10)


def test_rare_linear_broadcasts_and_has_its_known_limits():
    gamma = np.linspace(0, 0.5, 7)
    found = theory.rare_linear(1, 5, 0.5, 0.1, gamma, np.array([[0.0], [10.0]]))
    assert found.clean.shape == found.spurious.shape == (2, 7)
    # without the feature both accuracies are that of the two Gaussians, whatever the ridge
    assert found.clean[:, 0] == pytest.approx(stats.norm.cdf(2**0.5))
    assert found.spurious[:, 0] == pytest.approx(stats.norm.cdf(2**0.5))
    # all ridges meet where gamma (1 - gamma) S / 2 = var_inv - var_sp
    meeting = theory.rare_linear(1, 5, 0.5, 0.1, 0.2, np.array([0.0, 1.0, 100.0]))
    assert np.ptp(meeting.clean) < 1e-12 and np.ptp(meeting.spurious) < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 1, 1, 0.1, 0), "P is 0: allowed is above 0"),
        ((1, -1, 1, 1, 0.1, 0), "S is -1: allowed is 0 or more"),
        ((1, 1, 0, 1, 0.1, 0), "var_inv is 0"),
        ((1, 1, 1, 1, 1.1, 0), r"gamma is 1.1: allowed is \[0, 1\]"),
        ((1, 1, 1, 1, float("nan"), 0), "gamma is nan"),
        ((1, 1, 1, 1, 0.1, -1), "lam is -1"),
        ((1, 1, 1, 0, 0.0, 0), "not determined"),
        ((1, 1, 1, 0, 1.0, 0), "sees the feature alone"),
    ],
)
def test_rare_linear_names_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.rare_linear(*arguments)
