"""Availability of an attribute, centring, and what a kernel's first modes say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import KernelCenterer

from helpers import kernels

SEEDS = st.integers(0, 10_000)


def sample(seed, n=30, m=7, d=4):
    draw = torch.Generator().manual_seed(seed)
    X, Z = (torch.randn(k, d, generator=draw, dtype=torch.float64) + 3 for k in (n, m))
    return X, Z, draw


@given(SEEDS)
def test_centring_is_that_of_the_features_and_of_scikit_learn(seed):
    X, Z, _ = sample(seed)
    own, query = kernels.centred_kernel(X @ X.T, Z @ X.T)
    mean = X.mean(0)
    torch.testing.assert_close(own, (X - mean) @ (X - mean).T)
    torch.testing.assert_close(query, (Z - mean) @ (X - mean).T)
    other = KernelCenterer().fit((X @ X.T).numpy())
    np.testing.assert_allclose(query.numpy(), other.transform((Z @ X.T).numpy()), atol=1e-9)


@given(SEEDS)
def test_availability_adds_up_the_modes_and_is_one_over_n_on_average(seed):
    X, _, draw = sample(seed)
    K, n = X @ X.T, len(X)
    g = torch.randn(n, generator=draw, dtype=torch.float64)
    modes = kernels.dense_modes(K, n)
    by_modes = (modes.values * kernels.mode_alignment(modes.vectors, g)).sum() / K.trace()
    assert kernels.availability(K, g) == pytest.approx(float(by_modes))
    assert kernels.availability(3 * K, -2 * g) == pytest.approx(kernels.availability(K, g))
    basis = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
    shares = [kernels.availability(K, e) for e in basis.T]
    assert sum(shares) == pytest.approx(1)


@given(SEEDS)
def test_leading_modes_of_a_centred_linear_kernel_are_principal_components(seed):
    X, Z, _ = sample(seed)
    own, query = kernels.centred_kernel(X @ X.T, Z @ X.T)
    found = kernels.leading(own, query, 2)
    pca = PCA(2).fit(X.numpy())
    scores = pca.transform(Z.numpy()) / np.sqrt(found.values.numpy())
    np.testing.assert_allclose(abs(found.queries.numpy()), abs(scores), atol=1e-8)


def test_queries_that_are_training_inputs_get_the_modes_themselves():
    X, _, _ = sample(0)
    found = kernels.leading(X @ X.T, X @ X.T, 3)
    torch.testing.assert_close(found.queries, found.vectors)


@given(st.floats(-5, 5), st.integers(1, 50))
def test_neither_a_constant_nor_a_rare_class_moves_the_border(shift, copies):
    scores = torch.tensor([0.0] + [4.0] * copies) + shift
    target = torch.tensor([1] + [-1] * copies)
    queries = torch.tensor([1.9, 2.1]) + shift
    assert (kernels.halfway(scores, target, queries) > 0).tolist() == [True, False]
    assert (kernels.halfway(-scores, target, -queries) > 0).tolist() == [True, False]
    assert (kernels.halfway(scores, -target, queries) > 0).tolist() == [False, True]


def test_one_mode_alone_is_read_alone():
    """The second mode says nothing of a target that the first one is."""
    X = torch.randn(40, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = kernels.leading(X @ X.T, X @ X.T, 3)
    target = found.vectors[:, 0].sign()
    weight = found.vectors[:, 1] @ target
    alone = kernels.halfway(found.vectors[:, 1] * weight, target, found.queries[:, 1] * weight)
    torch.testing.assert_close(found.read(target, mode=1), alone)
    assert not torch.allclose(found.read(target), alone)


def test_a_border_needs_two_classes():
    with pytest.raises(ValueError, match="one class"):
        kernels.halfway(torch.zeros(2), torch.ones(2), torch.zeros(1))


def test_an_axis_that_is_there_is_read_and_one_that_is_not_is_not():
    draw = torch.Generator().manual_seed(0)
    b = torch.tensor([1.0, -1.0]).repeat(100)
    X = torch.randn(200, 20, generator=draw, dtype=torch.float64)
    X[:, 0] = 3 * b + 0.1 * X[:, 0]
    train, test = X[:100], X[100:]
    found = kernels.leading(train @ train.T, test @ train.T, 2)
    assert bool(((found.read(b[:100]) * b[100:]) > 0).all())
    assert bool(((found.read(b[:100], mode=0) * b[100:]) > 0).all())
    other = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(50)
    right = float(((found.read(other[:100]) * other[100:]) > 0).double().mean())
    assert 0.3 < right < 0.7


def test_what_cannot_be_answered_is_refused():
    K = torch.eye(3)
    for bad in (torch.zeros(3), torch.ones(4)):
        with pytest.raises(ValueError, match="attribute of shape"):
            kernels.availability(K, bad)
    with pytest.raises(ValueError, match="trace"):
        kernels.availability(torch.zeros(3, 3), torch.ones(3))
    with pytest.raises(ValueError, match="expected \\(m, 3\\)"):
        kernels.centred_kernel(K, torch.ones(2, 4))
    with pytest.raises(ValueError, match="fewer above rounding"):
        kernels.leading(torch.ones(3, 3), K, 2)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ([1.0, 2.0, 3.0], [1, 0, 0], r"has \[0, 1\]: allowed is -1 and 1"),
        ([1.0, 2.0, 3.0], [1, -1, 0], "has .-1, 0, 1."),
        ([1.0, 2.0, float("nan")], [1, -1, 1], "scores hold values that are not finite"),
        ([1.0, 2.0], [1, -1, 1], "expected both"),
        ([[1.0], [2.0]], [[1], [-1]], "expected both"),
    ],
)
def test_a_border_is_between_finite_scores_of_two_signs(scores, target, message):
    with pytest.raises(ValueError, match=message):
        kernels.halfway(torch.tensor(scores), torch.tensor(target), torch.zeros(1))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="queries hold"):
        kernels.halfway(torch.tensor([1.0, 2.0]), torch.tensor([1, -1]), torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="the attribute holds"):
        kernels.availability(torch.eye(2), torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(
    ("query", "modes"),
    [(torch.eye(5), 0), (torch.eye(5), -1), (torch.eye(4), 2), (torch.full((2, 5), torch.nan), 2)],
)
def test_leading_modes_of_what_does_not_fit_are_refused(query, modes):
    with pytest.raises(ValueError, match="modes|K_query"):
        kernels.leading(torch.eye(5), query, modes)


def test_a_mode_or_target_that_is_not_there_is_refused():
    found = kernels.leading(torch.eye(5), torch.eye(5), 2)
    with pytest.raises(ValueError, match="mode is 9"):
        found.read(torch.tensor([1.0, -1, 1, -1, 1]), mode=9)
    with pytest.raises(ValueError, match="target"):
        found.read(torch.ones(4))
