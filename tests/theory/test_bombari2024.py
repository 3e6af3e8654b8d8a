"""Laws of Part I against tabulated constants, limits, and measured alignments."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import data, kernels, theory
from helpers.kernels import alignment
from helpers.theory.bombari2024 import _unlearned_share

alphas = st.floats(0.02, 0.98)
names = st.sampled_from(["phi2", "phi4", "relu", "tanh"])


def mean_alignment(kernel, samples, d, query):
    """Mean alignment, over draws of two Gaussian blocks of half the dimensions each."""
    means = []
    for seed in range(400 // samples + 2):
        x, y = data.gaussian_two_block(samples, d, 0.5, seed=seed, normalise=True)
        core, _ = data.gaussian_two_block(samples, d, 0.5, seed=1000 + seed, normalise=True)
        core = core if query == "resample" else torch.zeros_like(x)
        Z, Zs = (torch.cat(parts, 1).double() for parts in ((x, y), (core, y)))
        means.append(float(alignment.interpolate(kernel(Z)).alignment(kernel(Zs, Z)).mean()))
    return sum(means) / len(means)


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
    rho = _unlearned_share(1.0, 0.3, ratio)
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
    kernel = functools.partial(kernels.infinite_width, activation=name)
    law = theory.gamma_rf(name, 0.5, samples / 400, query=query, samples=samples)
    assert mean_alignment(kernel, samples, 400, query) == pytest.approx(law, rel=0.03)


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
        (("phi2", 0.5, 1, "zero", float("nan")), "samples is nan"),
        (("h80", 0.5, 1), "degrees are allowed up to 60"),
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


@pytest.mark.parametrize("constant", ["h0", lambda t: 0 * t, lambda t: 3 + 0 * t])
def test_laws_say_where_activations_are_constant(constant):
    for law in (
        lambda: theory.gamma_rf_bound(constant, 0.5),
        lambda: theory.alignment_sd(constant, 0.5, 10),
        lambda: theory.gamma_rf_cores(constant, torch.eye(3).numpy(), 0.5, 10),
    ):
        with pytest.raises(ValueError, match="is constant: its features tell nothing apart"):
            law()


def test_the_spread_needs_a_dimension():
    for dim in (0, float("nan")):
        with pytest.raises(ValueError, match=f"dim is {dim}"):
            theory.alignment_sd("phi2", 0.5, dim)


def test_no_end_of_samples_is_the_law_without_them():
    for name in ("relu", "phi2"):  # with a mean, and without one
        law = theory.gamma_rf(name, 0.5, 0.5, samples=math.inf)
        assert law == theory.gamma_rf(name, 0.5, 0.5)


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
    kernel = functools.partial(kernels.ntk_two_layer, derivative=name, width=math.inf)
    law = theory.gamma_ntk(name, 0.5, samples / 200, query)
    assert mean_alignment(kernel, samples, 200, query) == pytest.approx(law, rel=0.04)


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
        means.append(float(alignment.interpolate((K + K.T) / 2).alignment(K_query).mean()))
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
        (torch.eye(2), float("nan"), "background is nan"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), 5, "symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 5, r"within \[-1, 1\]"),
    ],
)
def test_law_for_cores_names_bad_arguments(overlaps, background, message):
    with pytest.raises(ValueError, match=message):
        theory.gamma_rf_cores("relu", overlaps.numpy(), 0.5, background)
