"""Filters of a kernel against its full decomposition, and the Lanczos process."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import funm_multiply_krylov

from helpers import kernels


def signs(n: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0).double()


@settings(max_examples=15)
@given(st.integers(3, 80), st.integers(0, 5))
def test_krylov_filters_are_those_of_the_full_decomposition(digits_like, n, seed):
    K, _ = digits_like(n, seed)
    y = signs(n, seed)
    values, vectors = np.linalg.eigh(K.numpy())
    step = 1 / values[-1]
    filters = [lambda v: 1 / (v + 0.5), lambda v: _descent(v, step, 30)]
    found = kernels.krylov_filters(K, y, filters, dimension=n)
    for a, g in zip(found, filters, strict=True):
        exact = vectors * g(torch.from_numpy(values)).numpy() @ vectors.T @ y.numpy()
        np.testing.assert_allclose(a, exact, rtol=1e-6, atol=1e-8 * np.abs(exact).max())


def _descent(values: torch.Tensor, step: float, time: int) -> torch.Tensor:
    return torch.where(values > 0, (1 - (1 - step * values) ** time) / values, step * time)


def test_a_short_krylov_space_is_enough_for_smooth_filters_and_says_when_not(digits_like):
    K, _ = digits_like(400, 0)
    y = signs(400, 0)
    top = float(torch.linalg.eigvalsh(K)[-1])
    smooth = [lambda v: _descent(v, 1 / top, 100)]
    found = kernels.krylov_filters(K, y, smooth, dimension=60)
    a = torch.zeros_like(y)
    for _ in range(100):
        a = a + (y - K @ a) / top
    assert float((found[0] - a).norm() / a.norm()) < 1e-4
    with pytest.raises(ValueError, match="dimension is 10: coefficients still change"):
        kernels.krylov_filters(K, y, [lambda v: 1 / (v + 1e-6 * top)], dimension=10)
    with pytest.raises(ValueError, match=r"expected \(400,\), not all zero"):
        kernels.krylov_filters(K, 0 * y, smooth)


@settings(max_examples=15)
@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 5))
def test_lanczos_makes_a_matrix_tridiagonal(digits_like, n, steps, seed):
    K, _ = digits_like(n, seed)
    start = signs(n, seed) / n**0.5
    basis, T, beyond = kernels.lanczos(K.__matmul__, start, steps)
    assert len(basis) == len(T) <= min(n, steps)
    assert torch.equal(T, T.triu(-1).tril(1))
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(T)).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(basis @ K @ basis.T, T, rtol=0, atol=1e-10 * float(K.norm()))
    following = (K @ basis[-1] - basis.T @ T[:, -1]).norm()
    assert beyond == pytest.approx(float(following), abs=1e-10 * float(K.norm()))


def test_lanczos_vectors_end_where_their_space_ends():
    """SciPy's `funm_multiply_krylov` has no answer here."""
    K = torch.diag(torch.tensor([2.0, 1.0, 0.5])).double()
    start = torch.tensor([1.0, 0.0, 0.0]).double()
    basis, T, beyond = kernels.lanczos(K.__matmul__, start, 3)
    assert (basis.tolist(), T.tolist(), beyond) == ([[1, 0, 0]], [[2]], 0)
    found = kernels.krylov_filters(K, 3 * start, [lambda v: 1 / (v + 1)])
    torch.testing.assert_close(found, start[None])


def test_filters_are_those_of_scipy(digits_like):
    """Where SciPy's method works; one of its runs serves one filter."""
    K, _ = digits_like(200, 1)
    y = signs(200, 1)
    top = float(torch.linalg.eigvalsh(K)[-1])

    def ridge(X):
        return np.linalg.inv(X + 1e-3 * top * np.eye(len(X)))

    theirs = funm_multiply_krylov(
        ridge, K.numpy(), y.numpy(), assume_a="her", restart_every_m=80, max_restarts=1
    )
    ours = kernels.krylov_filters(K, y, [lambda v: 1 / (v + 1e-3 * top)], dimension=80)[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * np.abs(theirs).max())


def inverse(v):
    return 1 / v


@pytest.mark.parametrize(
    ("K", "y", "filters", "message"),
    [
        (torch.eye(2), torch.tensor([1.0, np.nan]), [inverse], "y holds values"),
        (torch.eye(2), torch.ones(2), [], "no filters"),
        (torch.zeros(2, 2), torch.ones(2), [inverse], "filters give coefficients"),
        (torch.diag(torch.tensor([1.0, -0.1])), torch.ones(2), [inverse], "eigenvalue is -0.1"),
        (-torch.eye(2), torch.ones(2), [inverse], "eigenvalue is -1"),
    ],
)
def test_filters_name_bad_input(K, y, filters, message):
    with pytest.raises(ValueError, match=message):
        kernels.krylov_filters(K, y, filters)


def test_a_filter_of_zeros_hides_no_other(digits_like):
    K, _ = digits_like(400, 0)
    sharp = [lambda v: 0 * v, lambda v: 1 / (v + 1e-6 * float(K.diagonal().max()))]
    with pytest.raises(ValueError, match="dimension is 10: coefficients still change"):
        kernels.krylov_filters(K, signs(400, 0), sharp, dimension=10)


def test_filters_of_zero_and_of_one_number():
    found = kernels.krylov_filters(torch.zeros(3, 3), torch.ones(3), [lambda v: 2 + v])
    assert found.tolist() == [[2.0] * 3]
    assert kernels.krylov_filters(torch.full((1, 1), 4.0), torch.ones(1), [inverse]).item() == 0.25


@pytest.mark.parametrize(
    ("start", "steps"),
    [(torch.ones(3), 1), (torch.zeros(3), 1), (torch.eye(3), 1), (torch.eye(3)[0], 0)]
    + [(torch.full((3,), np.nan), 1)],
)
def test_lanczos_wants_a_direction_and_steps(start, steps):
    with pytest.raises(ValueError, match=r"expected at least 1, \(n,\) and length 1"):
        kernels.lanczos(torch.eye(3).__matmul__, start, steps)


def test_lanczos_says_where_a_product_is_no_number():
    with pytest.raises(ValueError, match="not finite"):
        kernels.lanczos(lambda v: v / 0, torch.eye(3)[0], 2)
