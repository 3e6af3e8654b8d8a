"""Closed forms on mixtures against Monte Carlo, numpy and integration."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from helpers import data, theory
from helpers.theory import flip_rule, linear_accuracies, two_axis

amplitude = st.floats(0.2, 3)
setting = dict(
    rho=st.floats(0.5, 0.995),
    m_s=amplitude,
    m_c=amplitude,
    sigma_s=st.floats(0.05, 2),
    sigma_c=st.floats(0.05, 2),
    kappa=st.floats(0.6, 1),
)


def moments(rho, m_s, m_c, sigma_s, sigma_c, kappa):
    r, q = 2 * rho - 1, 2 * kappa - 1
    cross = r * q * m_s * m_c
    M = np.array([[m_s**2 + sigma_s**2, cross], [cross, m_c**2 + sigma_c**2]])
    return M, np.array([r * m_s, q * m_c]), np.array([m_s, r * q * m_c])


@given(st.fixed_dictionaries(setting), st.floats(0, 3))
def test_two_axes_against_numpy(given_setting, ridge):
    M, on_label, on_bias = moments(**given_setting)
    found = two_axis(**given_setting, ridge=ridge)
    values, vectors = np.linalg.eigh(M)
    np.testing.assert_allclose(found.eigenvalues, values[::-1], rtol=1e-9)
    u = vectors[:, ::-1]
    assume(values[1] - values[0] > 1e-6)
    along = np.array([math.cos(found.angle), math.sin(found.angle)])
    assert abs(along @ u[:, 0]) == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(found.label_alignments, (u.T @ on_label) ** 2 / values[::-1],
                               atol=1e-9)  # fmt: skip
    np.testing.assert_allclose(found.bias_alignments, (u.T @ on_bias) ** 2 / values[::-1],
                               atol=1e-9)  # fmt: skip
    w = np.linalg.solve(M + ridge * np.eye(2), on_label)
    np.testing.assert_allclose(found.weights, w, atol=1e-9)
    ratio = w[0] * given_setting["m_s"] / (w[1] * given_setting["m_c"])
    assert found.reliance == pytest.approx(ratio, rel=1e-7, abs=1e-9)


@given(st.fixed_dictionaries(setting), st.floats(0.01, 30))
def test_training_is_the_solution_of_its_differential_equation(given_setting, time):
    M, on_label, _ = moments(**given_setting)
    found = integrate.solve_ivp(
        lambda t, w: on_label - M @ w, (0, time), [0, 0], rtol=1e-9, atol=1e-11, method="LSODA"
    )
    mine = two_axis(**given_setting, time=time)
    np.testing.assert_allclose(mine.weights, found.y[:, -1], atol=1e-6)
    w, sizes = mine.weights, (given_setting["m_s"], given_setting["m_c"])
    assert mine.reliance * w[1] * sizes[1] == pytest.approx(w[0] * sizes[0], rel=1e-9, abs=1e-12)


@settings(max_examples=20)
@given(st.fixed_dictionaries(setting))
def test_moments_and_accuracies_are_those_of_samples(given_setting):
    n = 200_000
    sample = data.two_axis_sample(n, **given_setting, seed=3)
    M, on_label, on_bias = moments(**given_setting)
    scale = 6 * (np.linalg.norm(M) + 1) / math.sqrt(n)
    np.testing.assert_allclose(sample.x.T @ sample.x / n, M, atol=3 * scale)
    np.testing.assert_allclose(sample.x.T @ sample.label / n, on_label, atol=scale)
    np.testing.assert_allclose(sample.x.T @ sample.bias / n, on_bias, atol=scale)
    found = two_axis(**given_setting)
    right = sample.x @ found.weights * sample.label > 0
    for mask, accuracy in ((sample.aligned, found.aligned), (~sample.aligned, found.conflicting)):
        assert stats.binomtest(int(right[mask].sum()), int(mask.sum()), accuracy).pvalue > 1e-5


def test_the_flip_rule_is_right_in_2000_settings():
    random = np.random.default_rng(0)
    rho = random.uniform(0.5, 0.999, 2_000)
    m_s, m_c, sigma_s, sigma_c = np.exp(random.uniform(-1.5, 1.5, (4, 2_000)))
    rule = flip_rule(rho, (sigma_s / m_s) ** 2, (sigma_c / m_c) ** 2)
    assert 0.2 < rule.mean() < 0.8
    for one in range(2_000):
        M, on_label, _ = moments(rho[one], m_s[one], m_c[one], sigma_s[one], sigma_c[one], 1)
        w = np.linalg.solve(M, on_label)
        # the mean margin of a conflicting sample
        assert (w @ (-m_s[one], m_c[one]) < 0) == rule[one]
    found = two_axis(rho, m_s, m_c, sigma_s, sigma_c)
    assert (found.flips == rule).all()


def test_the_worked_numbers_of_the_symmetric_case():
    rho, m = 0.9, 1.3
    for sigma in (0.0, 0.4, 3.0):
        found = two_axis(rho, m, m, sigma, sigma)
        heavy, light = sigma**2 + 2 * rho * m**2, sigma**2 + 2 * (1 - rho) * m**2
        np.testing.assert_allclose(found.eigenvalues, [heavy, light])
        np.testing.assert_allclose(
            found.label_alignments, [2 * (rho * m) ** 2 / heavy, 2 * ((1 - rho) * m) ** 2 / light]
        )
        first, second = found.coefficients
        assert first / second == pytest.approx(rho / (1 - rho) * light / heavy)
        assert found.angle == pytest.approx(math.pi / 4)


def test_the_sum_of_eigenvalues_does_not_depend_on_rho_and_the_gap_grows():
    found = two_axis(np.linspace(0.5, 1, 51), 2, 1, 0.7, 0.4)
    assert np.ptp(found.eigenvalues.sum(0)) < 1e-12
    assert (np.diff(found.eigenvalues[0] - found.eigenvalues[1]) > 0).all()


def test_no_core_noise_no_reliance():
    for rho in (0.6, 0.99):
        assert two_axis(rho, 5, 0.3, 0.2, 0).reliance == 0
    assert linear_accuracies(0.0, 1.0, 5, 0.3, 0.2, 0) == (1.0, 1.0)


@st.composite
def round_mixtures(draw):
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    count, dim = draw(st.integers(1, 5)), draw(st.integers(2, 8))
    weights = random.dirichlet(np.ones(count))
    assume(weights.min() > 1e-3)
    return weights, random.standard_normal((count, dim)), random.uniform(0.1, 2, count)


@given(round_mixtures())
def test_eigenvalues_are_the_noise_plus_those_of_the_gram_matrix(mixture):
    weights, means, variances = mixture
    found = theory.mixture_spectrum(*mixture)
    noise = weights @ variances
    root = np.sqrt(weights)[:, None] * means
    lifts = np.linalg.eigvalsh(root @ root.T)[::-1][: means.shape[1]]
    expected = np.full(means.shape[1], noise)
    expected[: len(lifts)] += lifts.clip(min=0)
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    product = found.moment @ found.vectors
    np.testing.assert_allclose(product, found.vectors * found.values, atol=1e-9)
    covariances = variances[:, None, None] * np.eye(means.shape[1])
    general = theory.mixture_spectrum(weights, means, covariances)
    np.testing.assert_allclose(general.values, found.values, atol=1e-9)


def test_samples_of_a_mixture_have_its_moment():
    random = np.random.default_rng(0)
    weights, means = np.array([0.7, 0.2, 0.1]), random.standard_normal((3, 4))
    root = random.standard_normal((3, 4, 4))
    for variances in (np.array([0.5, 1, 2]), root @ root.transpose(0, 2, 1)):
        x, cluster = data.gaussian_mixture(weights, means, variances, 200_000, seed=1)
        moment = theory.mixture_spectrum(weights, means, variances).moment
        np.testing.assert_allclose(x.T @ x / len(x), moment, atol=0.12)
        np.testing.assert_allclose(np.bincount(cluster) / len(x), weights, atol=0.01)
        for k in range(3):
            centred = x[cluster == k] - means[k]
            expected = variances[k] * np.eye(4) if variances.ndim == 1 else variances[k]
            np.testing.assert_allclose(np.cov(centred.T), expected, atol=0.25)


@given(st.floats(0.1, 5), st.floats(0.05, 20), st.floats(0, 10))
def test_the_effective_ridge_solves_its_equation(noise, ratio, ridge):
    samples = 1_000
    found = theory.effective_ridge(noise, ratio * samples, samples, ridge)
    hidden = found - noise
    assert hidden >= ridge - 1e-12
    right = ridge + ratio * hidden * noise / found
    assert hidden == pytest.approx(right, rel=1e-7, abs=1e-9)


def test_the_effective_ridge_is_that_of_fitted_models():
    """Coefficient along an axis, ridge regression, d/n = 0.5 and 2."""
    n, lift, ridge = 600, 9.0, 0.7
    for dim in (300, 1_200):
        found = []
        for seed in range(4):
            sample = data.two_axis_sample(n, 1.0, 3, 1e-9, 1, 1, extra=dim - 2, seed=seed)
            x, y = sample.x, sample.label
            w = np.linalg.solve(x.T @ x / n + ridge * np.eye(dim), x.T @ y / n)
            found.append(w[0])
        law = 3 / (lift + theory.effective_ridge(1.0, dim, n, ridge))
        assert np.mean(found) == pytest.approx(law, rel=0.03)


def test_spikes_are_those_of_samples():
    n, ratio = 800, 0.5
    dim = int(n * ratio)
    random = np.random.default_rng(0)
    for lift in (0.3, 1.5, 4.0):
        law = theory.visible_spike(lift, 1.0, ratio)
        tops, overlaps = [], []
        for _ in range(4):
            x = random.standard_normal((n, dim))
            x[:, 0] *= math.sqrt(1 + lift)
            values, vectors = np.linalg.eigh(x.T @ x / n)
            tops.append(values[-1])
            overlaps.append(vectors[0, -1] ** 2)
        assert np.mean(tops) == pytest.approx(law.eigenvalue, rel=0.04)
        assert np.mean(overlaps) == pytest.approx(law.overlap, abs=0.06)
        assert law.visible == (lift > 1)


@pytest.mark.parametrize(
    ("change", "words"),
    (
        ({"rho": 1.2}, "rho is 1.2"),
        ({"m_s": 0}, "m_s is 0"),
        ({"sigma_c": -1}, "sigma_c is -1"),
        ({"kappa": 0.5}, "kappa is 0.5"),
        ({"ridge": math.inf}, "ridge is inf"),
        ({"time": 0}, "time is 0"),
        ({"rho": 1, "sigma_s": 0, "sigma_c": 0}, "singular"),
        ({"rho": np.array([0.9, np.nan])}, "rho is nan"),
    ),
)
def test_two_axis_names_bad_input(change, words):
    good = dict(rho=0.9, m_s=1, m_c=1, sigma_s=1, sigma_c=1)
    with pytest.raises(ValueError, match=words):
        two_axis(**good | change)


@pytest.mark.parametrize(
    ("call", "words"),
    (
        (lambda: theory.mixture_spectrum([1], [1], [1]), "expected \\(K,\\) and"),
        (lambda: theory.mixture_spectrum([0.5, 0.6], np.eye(2), [1, 1]), "with sum 1"),
        (lambda: theory.mixture_spectrum([1], [[1, 1]], [-1]), "0 or more"),
        (lambda: theory.mixture_spectrum([1], [[1, 1]], [1, 2]), "variances have shape"),
        (lambda: theory.mixture_spectrum([1], [[1, 1]], [[[1, 2], [0, 1]]]), "symmetric"),
        (lambda: theory.mixture_spectrum([1], [[1, 1]], [-1e-12 * np.eye(2)]), "eigenvalue"),
        (lambda: theory.mixture_spectrum([1], [[1, np.inf]], [1]), "finite"),
        (lambda: linear_accuracies(math.nan, 1, 1, 1, 1, 1), "w_s is nan: allowed is finite"),
        (lambda: linear_accuracies(1, 1, 1, 1, 1, -1), "sigma_c is -1"),
        (lambda: linear_accuracies(1, 1, 1, 1, 1, 1, math.nan), "kappa is nan"),
        (lambda: flip_rule(math.nan, 1, 1), "rho is nan"),
        (lambda: flip_rule(0.9, 1, -1), "n_c is -1"),
        (lambda: data.gaussian_mixture([1], [[1, 1]], [1], 0), "at least 1"),
        (lambda: data.two_axis_sample(2, 0.9, 1, 1, 1, 1), "samples is 2"),
        (lambda: theory.effective_ridge(0, 1, 1), "noise is 0"),
        (lambda: theory.effective_ridge(1, 1, 1, -1), "ridge is -1"),
        (lambda: theory.visible_spike(1, 1, 0), "ratio is 0"),
    ),
)
def test_the_others_name_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_rounding_of_large_covariances_is_no_error():
    covariance = 1e9 * np.array([[2.0, 1.0], [1.0, 2.0]])
    covariance[0, 1] += 1e-6
    theory.check_mixture([1], [[1, 1]], [covariance])
