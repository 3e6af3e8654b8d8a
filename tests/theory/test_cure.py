"""What the felt ridge leaves: against refits, closed forms of the parts, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from sklearn.linear_model import Ridge

from helpers import theory
from helpers.theory import cure, smoother

seeds = st.integers(0, 10**6)
positive = st.floats(0.05, 5)


def moments(seed, d=5):
    random = np.random.default_rng(seed)
    root, label = random.standard_normal((d, d)), random.standard_normal(d)
    return root @ root.T + np.outer(label, label), label


@given(seeds, positive)
def test_weights_solve_the_normal_equations(seed, felt):
    M, label = moments(seed)
    found = cure.population(M, label).weights(np.array([felt, 2 * felt]))
    for w, k in zip(found, (felt, 2 * felt), strict=True):
        np.testing.assert_allclose(w, np.linalg.solve(M + k * np.eye(5), label), rtol=1e-8)


@given(seeds, positive)
def test_answers_and_alignment_are_traces_of_the_same_inverse(seed, felt):
    M, label = moments(seed)
    C, inverse = moments(seed + 1)[0], np.linalg.inv(M + felt * np.eye(5))
    made = cure.population(M, label)
    assert made.alignment(C, felt, 7) == pytest.approx(np.trace(C @ inverse) / 7)
    a, b = np.eye(5)[:2]
    assert made.reliance(a, b, felt) == pytest.approx((inverse @ label)[0] / (inverse @ label)[1])
    if abs(label[1]) > 1e-3:  # else the limit comes later still
        assert made.reliance(a, b, 1e10) == pytest.approx(made.lift_ratio(a, b), rel=1e-4)


@given(positive, positive, positive, positive, st.floats(0.55, 0.99))
def test_of_two_axes_it_is_the_reliance_of_part_iv(m_s, m_c, sigma, ridge, rho):
    r = 2 * rho - 1
    M = np.array([[m_s**2 + sigma**2, r * m_s * m_c], [r * m_s * m_c, m_c**2 + 0.25]])
    made = cure.population(M, np.array([r * m_s, m_c]))
    found = made.reliance(np.array([m_s, 0]), np.array([0, m_c]), ridge)
    part4 = theory.two_axis(rho, m_s, m_c, sigma, 0.5, ridge=ridge).reliance
    assert found == pytest.approx(part4, rel=1e-6)
    lift, left = r * m_s**2 / m_c**2, sigma**2 + m_s**2 * (1 - r**2)
    assert cure.two_directions(lift, left, 0.25, ridge) == pytest.approx(part4, rel=1e-6)


@given(positive, positive, positive, positive, st.floats(0.01, 0.5), positive)
def test_of_a_rare_mark_it_is_the_prediction_difference_of_part_ii(P, S, v_i, v_s, share, felt):
    marks = cure.Marks(share, S, v_s, 0.0, 0.0)
    M, label = marks.added(np.array([[P + v_i]]), np.array([np.sqrt(P)]))
    made = cure.population(M, label)
    delta = made.answer(np.array([0, np.sqrt(S), 0]), felt)
    part2 = theory.rare_linear(P, S, v_i, v_s, 2 * share, felt).prediction_difference
    assert delta == pytest.approx(part2, rel=1e-6)


def test_marks_have_the_moments_that_they_say():
    random, marks = np.random.default_rng(0), cure.Marks(0.1, 2.0, 0.3, 0.5, 0.7)
    n = 200_000
    g = np.resize([1.0, -1.0], n)
    x = np.stack([0.8 * g, 0 * g], 1) + random.standard_normal((n, 2))
    X = np.c_[x, marks.draw(g, random)]
    M, label = marks.added(np.diag([1.64, 1.0]), np.array([0.8, 0]))
    np.testing.assert_allclose(X.T @ X / n, M, atol=0.02)
    np.testing.assert_allclose(g @ X / n, label, atol=0.01)
    drawn = cure.Marks(0.1, 2.0, 0.0, 0.5, 1.0).draw(g[:200], random)
    assert (drawn[:, 0] > 1).sum() == 20 and (g[:200][drawn[:, 0] > 1] == 1).all()
    assert (drawn[:, 1] * g[:200] < 0).sum() == 50


@given(positive, positive, positive)
def test_the_turning_point_is_where_r_is_one(lift, spurious, core):
    where = cure.turning_point(lift, spurious, core)
    ends = [cure.two_directions(lift, spurious, core, k) for k in (0, 1e12)]
    if math.isnan(where):
        assert (ends[0] - 1) * (ends[1] - 1) >= -1e-6
    else:
        assert cure.two_directions(lift, spurious, core, where) == pytest.approx(1)
        assert (ends[0] > 1) == (lift < 1) or math.isclose(ends[0], 1, rel_tol=1e-6)


@pytest.mark.parametrize("name", ["lift", "spurious", "core", "felt"])
def test_what_is_no_strength_is_named(name):
    strengths = {"lift": 0.5, "spurious": 0.1, "core": 1.0, "felt": 1.0, name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1"):
        cure.two_directions(**strengths)
    del strengths["felt"]
    if name != "felt":
        with pytest.raises(ValueError, match=f"{name} is -1"):
            cure.turning_point(**strengths)


@pytest.mark.parametrize("name", ["strength", "noise", "weight"])
def test_marks_name_what_is_no_size(name):
    sizes = {"strength": 1.0, "noise": 0.1, "weight": 1.0, name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1"):
        cure.Marks(share=0.1, agree=0.5, **sizes)
    assert cure.Marks(share=0.5, agree=-1, strength=1.0, noise=0.1, weight=1.0).agree == -1


@given(seeds, st.floats(0.01, 2), st.sampled_from([(4, 9), (9, 4), (5, 5)]))
def test_ridge_weights_are_those_of_a_library_in_both_forms(seed, ridge, shape):
    random = np.random.default_rng(seed)
    x, g = random.standard_normal(shape), random.standard_normal(shape[0])
    fitted = Ridge(alpha=shape[0] * ridge, fit_intercept=False, solver="svd").fit(x, g)
    np.testing.assert_allclose(cure.ridge_weights(x, g, ridge), fitted.coef_, rtol=1e-6, atol=1e-9)


@given(st.floats(0.01, 1), st.integers(20, 200))
def test_equal_lengths_are_the_felt_ridge(ridge, samples):
    values = np.arange(1, 101) ** -1.0
    found = cure.felt_by_lengths(values, ridge, samples, np.ones(3))
    assert found == pytest.approx(smoother.effective_ridge(values, ridge, samples), rel=1e-6)


def test_lengths_that_differ_against_a_simulation():
    random, values, n, k = np.random.default_rng(1), np.arange(1, 401) ** -1.0, 200, 0.01
    lengths = np.array([0.4, 1.84**0.5])
    shares, felt = [], []
    for _ in range(12):
        x = random.standard_normal((n, 400)) * values**0.5 * np.resize(lengths, n)[:, None]
        shares.append(k * n * np.trace(np.linalg.inv(x @ x.T + k * n * np.eye(n))) / n)
        inverse = np.linalg.inv(x.T @ x / n + k * np.eye(400))
        felt.append(np.trace(values[:, None] * inverse))
    expected = cure.residual_by_lengths(values, k, n, lengths)
    assert np.mean(shares) == pytest.approx(expected, rel=0.02)
    kp = cure.felt_by_lengths(values, k, n, lengths)
    assert np.mean(felt) == pytest.approx(kp / k * (values / (values + kp)).sum(), rel=0.02)
    plain = k / smoother.effective_ridge(values, k, n)
    assert abs(np.mean(shares) / plain - 1) > 0.1  # the law of equal lengths does not say so


@pytest.mark.parametrize("d", (3, 9))
def test_stopped_training_is_gradient_flow(d):
    random = np.random.default_rng(2)
    X, g = random.standard_normal((6, d)), random.standard_normal(6)
    flow = integrate.solve_ivp(
        lambda _, w: X.T @ (g - X @ w) / 6, (0, 1.7), np.zeros(d), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(cure.stopped(X, g, 1.7), flow.y[:, -1], atol=1e-8)
    both = cure.stopped(X, g, np.array([0.3, 1.7]))
    np.testing.assert_allclose(both[1], cure.stopped(X, g, 1.7), rtol=1e-12)
    late = Ridge(alpha=1e-9, fit_intercept=False, solver="svd").fit(X, g).coef_
    np.testing.assert_allclose(cure.stopped(X, g, 1e7), late, atol=1e-6)


@pytest.mark.parametrize(
    ("moment", "label", "words"),
    [
        (np.ones((2, 3)), np.ones(2), r"moment has shape \(2, 3\): expected \(d, d\)"),
        (np.eye(2), np.ones(3), r"label moment has shape \(3,\): expected \(2,\)"),
        (np.diag([1.0, np.nan]), np.ones(2), "moments must be finite"),
        (np.diag([1.0, -1.0]), np.ones(2), "no negative eigenvalue"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones(2), "symmetric"),
    ],
)
def test_moments_that_are_none_are_refused(moment, label, words):
    with pytest.raises(ValueError, match=words):
        cure.population(moment, label)


def test_arguments_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="share is 0.6 and agree 0.5: allowed"):
        cure.Marks(0.6, 1, 1, 0.5, 1)
    with pytest.raises(ValueError, match="felt is 0: allowed is above 0, finite"):
        cure.population(np.eye(2), np.ones(2)).weights(0.0)
    with pytest.raises(ValueError, match="time is -1"):
        cure.stopped(np.eye(2), np.ones(2), -1)
    with pytest.raises(ValueError, match="ridge is 0: allowed is above 0"):
        cure.felt_by_lengths(np.ones(3), 0, 5, np.ones(2))
