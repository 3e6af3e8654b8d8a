"""The flip share: against the population's own weights, and against the rule of Part IV."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import theory
from helpers.theory.flip_share import conflicting_output, flip_share

entries = st.floats(-2, 2, allow_subnormal=False)


def overlaps_of(m, covariance):
    return m.T @ np.linalg.solve(covariance, m)


@given(arrays(float, (4, 2), elements=entries), arrays(float, (4, 4), elements=entries),
       st.floats(0, 1))  # fmt: skip
def test_the_output_is_that_of_the_best_weights(m, root, share):
    """Least squares in four dimensions, solved as it stands."""
    covariance, r = root @ root.T + 0.3 * np.eye(4), 2 * share - 1
    moment = covariance + m @ np.array([[1, r], [r, 1]]) @ m.T
    weights = np.linalg.solve(moment, m @ [1, r])
    expected = weights @ (m[:, 0] - m[:, 1])
    found = conflicting_output(overlaps_of(m, covariance), share)
    assert found == pytest.approx(expected, abs=1e-8)


def population_answers(m, covariance, share, prior):
    """Ridge regression with an intercept on all four groups at once, by their probabilities."""
    groups = np.array([(y, s) for y in (-1.0, 1.0) for s in (-1.0, 1.0)])
    sizes = np.where(groups[:, 0] > 0, prior, 1 - prior)
    sizes = sizes * np.where(groups[:, 0] == groups[:, 1], share, 1 - share)
    y, X = groups[:, 0], groups @ m.T
    Z = np.c_[X, np.ones(4)]
    moment = Z.T @ (sizes[:, None] * Z)
    moment[:-1, :-1] += covariance  # noise and ridge; none on the intercept
    weights = np.linalg.solve(moment, Z.T @ (sizes * y))
    return {int(label): float(label * (np.r_[m @ (label, -label), 1] @ weights))
            for label in (-1, 1)}  # fmt: skip


unequal = given(arrays(float, (4, 2), elements=entries), arrays(float, (4, 4), elements=entries),
                st.floats(0, 1), st.floats(0.02, 0.98))  # fmt: skip


@unequal
def test_with_classes_of_unequal_size_it_is_that_of_the_best_weights_and_intercept(
    m, root, share, prior
):
    covariance = root @ root.T + 0.3 * np.eye(4)
    expected, G = population_answers(m, covariance, share, prior), overlaps_of(m, covariance)
    for label in (-1, 1):
        found = conflicting_output(G, share, prior, label=label)
        assert found == pytest.approx(expected[label], abs=1e-7)
    mean = (expected[-1] + expected[1]) / 2
    assert conflicting_output(G, share, prior) == pytest.approx(mean, abs=1e-7)


def equal_classes(G, share):
    """The closed form for classes of one size, as it stood before."""
    (a, c), (_, b) = G
    r = 2 * share - 1
    determinant = (1 + a + r * c) * (1 + b + r * c) - (c + r * b) * (r * a + c)
    return ((a - c) * (1 + b - b * r**2) + (c - b) * (r - c + c * r**2)) / determinant


@unequal
def test_with_classes_of_one_size_it_is_what_it_was_and_the_flip_of_both_never_hangs_on_sizes(
    m, root, share, prior
):
    G = overlaps_of(m, root @ root.T + 0.3 * np.eye(4))
    for label in (-1, 0, 1):
        found = conflicting_output(G, share, 0.5, label=label)
        assert found == pytest.approx(equal_classes(G, share), abs=1e-9)
        assert flip_share(G, 0.5, label=label) == flip_share(G)
    assert flip_share(G, prior) == flip_share(G)
    rarer = 1 if prior < 0.5 else -1
    assert flip_share(G, prior, label=rarer) <= flip_share(G) <= flip_share(G, prior, label=-rarer)


@unequal
def test_the_share_of_one_class_is_the_first_place_at_which_its_output_changes_its_sign(
    m, root, share, prior
):
    G = overlaps_of(m, root @ root.T + 0.3 * np.eye(4))
    for label in (-1, 1):
        found = flip_share(G, prior, label=label)
        outputs = [conflicting_output(G, one, prior, label=label)
                   for one in np.linspace(0.5, min(found, 1.0), 20)]  # fmt: skip
        assert found == 0.5 or (np.array(outputs[:-1]) >= -1e-9).all()
        if np.isfinite(found) and found > 0.5:
            assert outputs[-1] == pytest.approx(0, abs=1e-6)


@given(st.floats(0.05, 5), st.floats(0.05, 5), st.floats(0.5, 1))
def test_at_right_angles_it_is_the_flip_rule(n_s, n_c, share):
    flips_at = flip_share(np.diag([1 / n_c, 1 / n_s]))
    if abs(flips_at - share) > 1e-9:
        assert (share > flips_at) == bool(theory.flip_rule(share, n_s, n_c))


@given(arrays(float, (4, 2), elements=entries), arrays(float, (4, 4), elements=entries))
def test_the_share_is_the_first_place_at_which_the_output_changes_its_sign(m, root):
    G = overlaps_of(m, root @ root.T + 0.3 * np.eye(4))
    found = flip_share(G)
    shares = np.linspace(0.5, min(found, 1.0), 50)
    outputs = np.array([conflicting_output(G, share) for share in shares])
    assert found == 0.5 or (outputs[:-1] >= -1e-9).all()
    if np.isfinite(found) and found > 0.5:
        assert conflicting_output(G, found) == pytest.approx(0, abs=1e-7)


def test_many_at_once_are_as_one_by_one():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((50, 3, 2))
    many = np.swapaxes(m, 1, 2) @ m
    assert flip_share(many).tolist() == [flip_share(G) for G in many]


@pytest.mark.parametrize(
    "bad", [np.eye(3), [[1, 2], [2, 1]], [[1, 0], [1, 1]], [[np.nan, 0], [0, 1]]]
)
def test_what_is_no_gram_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="overlaps"):
        flip_share(bad)


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="share is 1.5"):
        conflicting_output(np.eye(2), 1.5)


@pytest.mark.parametrize(("prior", "label", "words"), [(0.0, 1, "prior is 0.0"),
                                                       (1.5, 0, "prior is 1.5"),
                                                       (0.5, 2, "label is 2")])  # fmt: skip
def test_sizes_and_labels_that_are_none_are_refused(prior, label, words):
    with pytest.raises(ValueError, match=words):
        conflicting_output(np.eye(2), 0.7, prior, label=label)
    with pytest.raises(ValueError, match=words):
        flip_share(np.eye(2), prior, label=label)
