"""One smoother: against refits, projectors, derivatives and simulations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from helpers import data, kernels, theory
from helpers.kernels import alignment, eigenfeatures
from helpers.theory import smoother

seeds = st.integers(0, 10**6)
ridges = st.sampled_from([0.0, 1e-3, 0.5, 20.0])
sizes = st.integers(3, 10)
EXACT = dict(rtol=1e-10, atol=1e-10)


def drawn(n, seed, width=60, queries=4):
    """Features of training set and queries, and labels."""
    generator = torch.Generator().manual_seed(seed)
    Z = torch.randn(n + queries, 7, generator=generator, dtype=torch.float64)
    V = torch.randn(width, 7, generator=generator, dtype=torch.float64)
    phi = torch.relu(Z @ V.T) / width**0.5
    return phi[:n], phi[n:], torch.randn(n, generator=generator, dtype=torch.float64)


def refitted(phi, g, ridge):
    """Weights of the features, by scikit-learn with a ridge, by pseudo-inverse without."""
    if ridge:
        return torch.from_numpy(Ridge(alpha=ridge, fit_intercept=False).fit(phi, g).coef_)
    return torch.linalg.pinv(phi) @ g


# -- exact: any kernel, any n ----------------------------------------------------------------------


@given(sizes, seeds, ridges)
def test_weights_are_the_derivatives_by_the_labels(n, seed, ridge):
    phi, queries, g = drawn(n, seed)
    g.requires_grad_()
    # the primal solution, whose gradient knows no kernel
    longer = torch.cat([phi, ridge**0.5 * torch.eye(n).double()], 1)
    theta = (torch.linalg.pinv(longer) @ g)[: phi.shape[1]]
    fitted = smoother.smooth(phi @ phi.T, ridge)
    weights = fitted.weights(queries @ phi.T)
    for query, row in zip(queries, weights, strict=True):
        (slope,) = torch.autograd.grad(query @ theta, g, retain_graph=True)
        torch.testing.assert_close(row, slope, **EXACT)
    torch.testing.assert_close(
        fitted.predict(queries @ phi.T, g.detach()), queries @ theta.detach(), **EXACT
    )


@given(sizes, seeds, ridges)
def test_weights_are_the_feature_alignment_by_its_projector(n, seed, ridge):
    """With a ridge, of features that are longer by a private coordinate a sample."""
    phi, queries, _ = drawn(n, seed)
    longer = torch.cat([phi, ridge**0.5 * torch.eye(n).double()], 1)
    asked = torch.cat([queries, torch.zeros(len(queries), n).double()], 1)
    weights = smoother.smooth(phi @ phi.T, ridge).weights(queries @ phi.T)
    for i in range(n):
        others = longer[[j for j in range(n) if j != i]]
        new = longer[i] - torch.linalg.pinv(others) @ (others @ longer[i])
        torch.testing.assert_close(weights[:, i], asked @ new / (new @ new), **EXACT)


@given(st.integers(2, 9), seeds, ridges, st.data())
def test_leaving_a_group_out_is_refitting_without_it(n, seed, ridge, given_data):
    phi, queries, g = drawn(n, seed)
    group = given_data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    kept = torch.ones(n, dtype=torch.bool)
    kept[list(group)] = False
    fitted = smoother.smooth(phi @ phi.T, ridge)
    whole, without = refitted(phi, g, ridge), refitted(phi[kept], g[kept], ridge)
    found = fitted.removal(queries @ phi.T, g, ~kept)
    torch.testing.assert_close(found, queries @ (whole - without), **EXACT)
    held_out = fitted.held_out(g, ~kept)
    torch.testing.assert_close(held_out, g[~kept] - phi[~kept] @ without, **EXACT)
    rows = torch.tensor(sorted(group))
    torch.testing.assert_close(fitted.removal(queries @ phi.T, g, rows), found, **EXACT)


def test_without_all_samples_nothing_is_left():
    phi, queries, g = drawn(5, 0)
    fitted = smoother.smooth(phi @ phi.T, 0.3)
    everyone = torch.ones(5, dtype=torch.bool)
    torch.testing.assert_close(
        fitted.removal(queries @ phi.T, g, everyone), fitted.predict(queries @ phi.T, g), **EXACT
    )


@given(sizes, seeds, ridges)
def test_it_agrees_with_the_interpolator_and_the_features_of_the_book(n, seed, ridge):
    phi, queries, g = drawn(n, seed, queries=n)
    g = g.sign()
    K, K_query = phi @ phi.T, queries @ phi.T
    fitted = smoother.smooth(K, ridge)
    torch.testing.assert_close(
        fitted.by_mode(K_query, g).sum(1), fitted.predict(K_query, g), **EXACT
    )
    same = alignment.interpolate(K + ridge * torch.eye(n).double())
    torch.testing.assert_close(fitted.alignment(K_query), same.alignment(K_query), **EXACT)
    for i in range(n):
        one = torch.tensor([i])
        assert float(fitted.held_out(g, one)) == pytest.approx(
            float(same.stability(g)[i]), rel=1e-9
        )
        assert float(fitted.novelty[i]) == pytest.approx(1 / float(same.inverse[i, i]))
    if not ridge:
        modes = eigenfeatures(K, g).on(K_query)
        torch.testing.assert_close(fitted.by_mode(K_query, g), modes, rtol=1e-7, atol=1e-8)


@given(sizes, seeds, st.sampled_from([1e-3, 0.5, 20.0]))
def test_hat_matrix_residuals_and_traces(n, seed, ridge):
    phi, _, g = drawn(n, seed)
    K = phi @ phi.T
    fitted = smoother.smooth(K, ridge)
    H = K @ torch.linalg.inv(K + ridge * torch.eye(n).double())
    model = KernelRidge(alpha=ridge, kernel="precomputed").fit(K, g)
    torch.testing.assert_close(fitted.hat, H, **EXACT)
    torch.testing.assert_close(fitted.residual(g), g - torch.from_numpy(model.predict(K)), **EXACT)
    assert fitted.degrees_of_freedom == pytest.approx(float(H.trace()), rel=1e-10)
    assert fitted.residual_share == pytest.approx(1 - float(H.trace()) / n, rel=1e-8)
    assert fitted.residual_share * fitted.felt_ridge == pytest.approx(ridge / n, rel=1e-10)
    one = torch.tensor([0])
    loo = fitted.residual(g)[0] / (1 - H[0, 0])
    torch.testing.assert_close(fitted.held_out(g, one)[0], loo, rtol=1e-8, atol=1e-9)


@given(sizes, seeds, ridges, st.floats(1e-3, 1e3))
def test_a_direction_answers_as_the_model_that_has_it(n, seed, ridge, strength):
    phi, _, g = drawn(n, seed)
    u = torch.from_numpy(np.random.default_rng(seed).standard_normal(n))
    fitted = smoother.smooth(phi @ phi.T, ridge)
    found = fitted.direction(u, g)
    longer = torch.cat([phi, strength**0.5 * u[:, None]], 1)
    response = strength**0.5 * refitted(longer, g, ridge)[-1]
    torch.testing.assert_close(found.response(strength), response, rtol=1e-8, atol=1e-8)
    own = torch.zeros(n).double()
    own[1] = 1.0
    alone = fitted.direction(own, g)
    assert float(alone.slope) == pytest.approx(
        float(fitted.held_out(g, torch.tensor([1]))), rel=1e-9
    )
    assert float(alone.threshold) == pytest.approx(float(fitted.novelty[1]), rel=1e-9)
    torch.testing.assert_close(found.response(float(found.threshold)), found.slope / 2, **EXACT)


def test_a_kernel_of_duplicates_needs_a_ridge():
    phi, _, g = drawn(6, 0)
    phi[5] = phi[2]
    with pytest.raises(ValueError, match="numerically singular"):
        smoother.smooth(phi @ phi.T)
    # both copies together are one group of two
    fitted = smoother.smooth(phi @ phi.T, 0.1)
    without = refitted(phi[[0, 1, 3, 4]], g[[0, 1, 3, 4]], 0.1)
    expected = phi @ (refitted(phi, g, 0.1) - without)
    found = fitted.removal(phi @ phi.T, g, torch.tensor([2, 5]))
    torch.testing.assert_close(found, expected, **EXACT)


def test_single_precision_is_worked_on_in_double():
    phi, queries, g = drawn(8, 1)
    fitted = smoother.smooth((phi @ phi.T).float(), 0.1)
    found = fitted.predict((queries @ phi.T).float(), g.float())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, queries @ refitted(phi, g, 0.1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.weights(torch.ones(2)), r"expected \(m, 3\)"),
        (lambda s: s.weights(torch.full((1, 3), math.nan)), "not finite"),
        (lambda s: s.alignment(torch.ones(1, 3)), r"expected \(3, 3\)"),
        (
            lambda s: s.predict(torch.ones(1, 3), torch.ones(2)),
            r"labels have shape \(2,\): expected \(3,\)",
        ),
        (lambda s: s.residual(torch.tensor([1.0, math.inf, 0])), "labels hold"),
        (lambda s: s.held_out(torch.ones(3), torch.tensor([3])), "no list of different rows"),
        (lambda s: s.held_out(torch.ones(3), torch.tensor([1, 1])), "no list of different rows"),
        (lambda s: s.held_out(torch.ones(3), torch.tensor([], dtype=torch.long)), "different rows"),
        (lambda s: s.held_out(torch.ones(3), torch.zeros(3, dtype=torch.bool)), "different rows"),
        (lambda s: s.held_out(torch.ones(3), torch.tensor([0.5])), "different rows"),
        (lambda s: s.direction(torch.zeros(3), torch.ones(3)), "u is 0"),
        (lambda s: smoother.smooth(torch.eye(3), -1.0), "ridge is -1"),
        (lambda s: smoother.smooth(torch.eye(3), math.inf), "ridge is inf"),
        (lambda s: smoother.smooth(torch.ones(2, 3)), "square"),
        (lambda s: smoother.smooth(-torch.eye(3), 2.0), "smallest eigenvalue is -1"),
        (lambda s: smoother.smooth(torch.zeros(3, 3)), "singular"),
    ],
)
def test_bad_input_is_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(smoother.smooth(torch.eye(3, dtype=torch.float64), 1.0))


# -- the felt ridge --------------------------------------------------------------------------------

spectra = st.lists(st.tuples(st.floats(1e-6, 1e3), st.integers(1, 10**6)), min_size=1, max_size=6)


@given(spectra, st.floats(1e-9, 1e3), st.floats(0.5, 1e6))
def test_the_felt_ridge_solves_its_equation(spectrum, ridge, samples):
    values, counts = np.array(spectrum, float).T
    found = smoother.effective_ridge(values, ridge, samples, counts)

    def right(felt):
        return ridge + felt / samples * (counts * values / (values + felt)).sum()

    assert found == pytest.approx(right(found), rel=1e-9) and found >= ridge
    # brentq knows no derivative and starts from both ends
    top = ridge + (counts * values).sum() / samples
    other = optimize.brentq(lambda x: x - right(x), ridge / 2, 2 * top, xtol=1e-300, rtol=1e-13)
    assert found == pytest.approx(other, rel=1e-9)


@given(spectra, st.floats(0.01, 0.99))
def test_without_a_ridge_it_is_above_0_exactly_below_the_rank(spectrum, share):
    values, counts = np.array(spectrum, float).T
    rank = counts.sum()
    samples = share * rank
    found = smoother.effective_ridge(values, 0.0, samples, counts)
    assert found > 0
    assert (counts * values / (values + found)).sum() == pytest.approx(samples, rel=1e-7)
    more = smoother.effective_ridge(values, 0.0, [rank, 1.5 * rank], counts)
    assert more.tolist() == [0, 0]


@given(spectra, st.floats(0, 10), st.floats(1, 1e4))
def test_equal_eigenvalues_may_be_counted_or_listed(spectrum, ridge, samples):
    values, counts = np.array(spectrum, float).T
    counts = counts % 5 + 1
    listed = np.repeat(values, counts.astype(int))
    apart = smoother.effective_ridge(listed, ridge, samples)
    assert apart == pytest.approx(
        smoother.effective_ridge(values, ridge, samples, counts), rel=1e-10, abs=1e-12
    )


def test_the_closed_form_is_the_general_solver():
    ridge, samples = np.meshgrid([0.0, 1e-8, 0.3, 50], [0.1, 40, 99, 100, 101, 1e7])
    one = smoother.effective_ridge(2.0, ridge, samples, counts=100)
    two = smoother.effective_ridge([2.0, 2.0], ridge, samples, counts=[30, 70])
    assert one.shape == ridge.shape
    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
    assert one[2, 0] > 0 and one[3, 0] == one[4, 0] == 0


@given(spectra, st.floats(0, 10), st.floats(0, 10), st.floats(1, 1e4), st.floats(1, 1e4))
def test_it_grows_with_the_ridge_and_falls_with_the_samples(spectrum, a, b, few, many):
    values, counts = np.array(spectrum, float).T
    (low, high), (few, many) = sorted((a, b)), sorted((few, many))
    table = smoother.effective_ridge(values, [[low], [high]], [few, many], counts)
    slack = 1 + 1e-9
    assert (table[0] <= slack * table[1] + 1e-12).all()
    assert (table[:, 1] <= slack * table[:, 0] + 1e-12).all()


def test_without_samples_a_kernel_is_all_novelty():
    assert smoother.novelty([1.0, 0.5], 0.2, 0.0, [2, 4]) == pytest.approx(4.2)
    assert smoother.novelty(0.0, 0.2, 10.0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 1), r"eigenvalues have shape \(0,\)"),
        (([[1.0]], 1, 1), r"eigenvalues have shape \(1, 1\)"),
        (([1, 2], 1, 1, [1]), r"counts \(1,\)"),
        (([1, -2], 1, 1), "eigenvalues is -2"),
        (([1, 2], 1, 1, [1, math.nan]), "counts is nan"),
        (([1, 2], -1, 1), "ridge is -1"),
        (([1, 2], 1, 0), "samples is 0"),
        (([1, 2], 1, math.inf), "samples is inf"),
    ],
)
def test_bad_spectra_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        smoother.effective_ridge(*arguments)


# -- one equation in three papers ------------------------------------------------------------------


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 10))
def test_the_laws_of_three_papers_are_functions_of_it(ridge, ratio, noise):
    """Part I's rho and Part IV's kappa, as their chapters print them."""
    felt = smoother.effective_ridge(noise, ridge, 1.0, counts=ratio)  # d/n = ratio
    kappa = theory.effective_ridge(noise, ratio, 1, ridge)
    rho = smoother.unlearned_share(noise, felt)
    assert rho == pytest.approx(1 - noise / kappa, rel=1e-7, abs=1e-10)
    c = ridge / noise / ratio
    assert rho == pytest.approx(1 / (1 + (1 / ratio) / (c + rho)), rel=1e-9)
    assert smoother.signal_to_noise(2.0, noise, felt) == pytest.approx(2 / kappa, rel=1e-10)
    snr = 2 / kappa
    assert smoother.response(2.0, noise, felt) == pytest.approx(snr / (1 + snr), rel=1e-10)
    tau = smoother.residual_share(ridge, felt)
    assert tau == pytest.approx(1 - smoother.degrees_of_freedom(noise, felt, ratio), abs=1e-9)
    assert tau * noise + ridge == pytest.approx(tau * kappa, rel=1e-10)


def test_the_laws_are_those_of_simulations():
    """Light and heavy eigenvalues, on both sides of d = n."""
    for n, counts, ridge in ((400, [300, 300], 0.3), (500, [50, 200], 0.05)):
        values = np.repeat([1.0, 0.2], counts)
        felt = smoother.effective_ridge([1.0, 0.2], ridge, n, counts)
        shared, found = np.r_[np.ones(counts[0]), np.zeros(counts[1])], []
        for seed in range(4):
            X = np.random.default_rng(seed).standard_normal((n, sum(counts))) * values**0.5
            query = np.random.default_rng(seed + 99).standard_normal(X.shape) * values**0.5
            query = torch.from_numpy(
                np.where(shared, X, query)
            )  # only the light part is drawn anew
            X = torch.from_numpy(X)
            fitted = smoother.smooth(X @ X.T, n * ridge)
            found.append([fitted.residual_share, float(fitted.alignment(query @ X.T).mean()),
                          fitted.degrees_of_freedom / n, fitted.felt_ridge,
                          float(1 / (1 / fitted.novelty).mean()) / n])  # fmt: skip
        tau, aligned, freedom, measured, novelty = np.mean(found, 0)
        assert tau == pytest.approx(smoother.residual_share(ridge, felt), rel=0.02)
        law = smoother.alignment([1.0, 0.2], felt, n, [1.0, 0.0], counts)
        assert aligned == pytest.approx(law, rel=0.02)
        law = smoother.degrees_of_freedom([1.0, 0.2], felt, counts) / n
        assert freedom == pytest.approx(law, rel=0.02)
        assert measured == pytest.approx(felt, rel=0.02)
        assert novelty == pytest.approx(felt, rel=0.02)


def test_the_staircase_is_the_same_equation():
    """Alignment of random features in high dimension: eigenvalues mu_l^2 / D_l, D_l times each."""
    d, n, alpha = 2_000, 3_000, 0.5
    mu2 = kernels.hermite.coefficients("phi2", 2) ** 2
    counts = np.array([1, d, d * (d + 1) / 2 - 1])
    felt = smoother.effective_ridge(mu2 / counts, 0.0, n, counts)
    law = smoother.alignment(mu2 / counts, felt, n, alpha ** np.arange(3), counts)
    assert law == pytest.approx(theory.gamma_rf("phi2", alpha, n / d, samples=n), rel=2e-3)
    assert law == pytest.approx(theory.gamma_staircase("phi2", alpha, n, d), rel=2e-3)


def test_the_prediction_difference_is_that_of_fitted_models():
    """Few samples: the population's formula at the felt ridge."""
    n, dim, P, S, gamma, ridge = 400, 800, 1.0, 16.0, 0.1, 0.05
    felt = smoother.effective_ridge(1.0, ridge, n, counts=dim)
    law = smoother.prediction_difference(P, S, 1.0, 1.0, gamma, felt)
    found = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        x = random.standard_normal((n, dim))
        x[:, 0] += y * P**0.5
        rare = np.flatnonzero(y > 0)[: round(gamma * n / 2)]
        x[rare, 1] += S**0.5
        model = Ridge(alpha=n * ridge, solver="cholesky").fit(x, y)
        found.append(model.coef_[1] * S**0.5)
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - law) < 3 * error
    population = theory.rare_linear(P, S, 1, 1, gamma, ridge).prediction_difference
    assert abs(np.mean(found) - population) > 3 * error


def test_the_coefficient_is_that_of_fitted_models():
    n, lift, ridge = 500, 4.0, 0.3
    felt = smoother.effective_ridge(1.0, ridge, n, counts=700)
    found = []
    for seed in range(4):
        sample = data.two_axis_sample(n, 1.0, 2, 1e-9, 1, 1, extra=698, seed=seed)
        x, y = sample.x, sample.label
        w = np.linalg.solve(x.T @ x / n + ridge * np.eye(700), x.T @ y / n)
        found.append(2 * w[0])
    assert np.mean(found) == pytest.approx(smoother.response(lift, 1.0, felt), rel=0.03)
