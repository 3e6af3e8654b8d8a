"""The linear model with rare examples: tabulated constants and the normal equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers import theory


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
RARE = (positive, positive, positive, positive, st.floats(0, 1), st.floats(0, 5))


@given(*RARE)
def test_the_reaction_to_any_law_is_that_of_the_linear_model(P, S, var_inv, var_sp, gamma, lam):
    a = var_inv + lam
    found = theory.rare_reaction(a / (a + P), S, var_sp + lam, gamma / 2)
    linear = theory.rare_linear(P, S, var_inv, var_sp, gamma, lam)
    assert found == pytest.approx(linear.prediction_difference, rel=1e-9)


@given(*RARE)
def test_ridge_lowers_where_the_difference_falls_with_the_ridge(P, S, var_inv, var_sp, gamma, lam):
    slope = (
        theory.rare_linear(P, S, var_inv, var_sp, gamma, lam + step).prediction_difference
        for step in (1e-4, 0)
    )
    falls = theory.ridge_lowers(P, S, var_inv, var_sp, gamma, lam)
    more, less = slope
    if abs(falls) > 0.02 and gamma > 0.01:
        assert (falls > 0) == (more < less)


@given(*RARE)
def test_the_plotted_expressions_have_another_denominator_and_other_widths(
    P, S, var_inv, var_sp, gamma, lam
):
    """S stands where P belongs; they are those of the linear model where both are 1."""
    found = theory.as_plotted(P, S, var_inv, var_sp, gamma, lam)
    moved = theory.rare_linear(S, S, var_inv, var_sp, gamma, lam)
    assert found.prediction_difference == pytest.approx(moved.prediction_difference, rel=1e-9)
    one = theory.as_plotted(1, 1, var_inv, var_sp, gamma, lam)
    assert one == pytest.approx(theory.rare_linear(1, 1, var_inv, var_sp, gamma, lam), rel=1e-9)


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
