"""Leading modes against LAPACK."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import kernels

SOLVERS = ["lanczos", "subspace"]


def matrix(n: int, seed: int, values: torch.Tensor | None = None) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues (1/i^2 if none are given)."""
    draw = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
    values = 1 / torch.arange(1, n + 1).double().square() if values is None else values.double()
    K = (Q * values) @ Q.T
    return (K + K.T) / 2


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25)
@given(st.integers(2, 90), st.integers(1, 12), st.integers(0, 4))
def test_leading_modes_are_those_of_lapack(solver, n, modes, seed):
    modes, K = min(modes, n), matrix(n, seed)
    found = kernels.top_modes(K, modes, solver=solver, tolerance=1e-10)
    values = scipy.linalg.eigh(K.numpy(), eigvals_only=True)[::-1][:modes]
    np.testing.assert_allclose(found.values, values, rtol=1e-8, atol=1e-12)
    gram = found.vectors.T @ found.vectors
    torch.testing.assert_close(gram, torch.eye(modes, dtype=torch.float64), rtol=0, atol=1e-8)
    residual = (K @ found.vectors - found.vectors * found.values).norm(dim=0)
    assert float(residual.max()) < 1e-8 * float(found.values[0])
    assert found.reads >= 1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_and_matrices_agree(solver, dtype):
    K = matrix(120, 0).to(dtype)
    whole = kernels.top_modes(K, 5, solver=solver)
    given_ = kernels.top_modes(lambda block: K.to(block) @ block, 5, size=120, solver=solver)
    torch.testing.assert_close(whole.values.double(), given_.values.double(), rtol=1e-5, atol=1e-6)
    assert whole.vectors.dtype == dtype


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_solver_is_the_one_that_was_asked_for(solver, monkeypatch):
    """They find the same modes: which of them did is to be seen from the other alone."""
    (other,) = set(SOLVERS) - {solver}

    def refused(*told, **options):
        raise AssertionError("the other solver")

    monkeypatch.setattr(f"helpers.kernels.modes._{other}", refused)
    K = matrix(30, 0)
    kernels.top_modes(K, 3, solver=solver)
    with pytest.raises(AssertionError, match="the other solver"):
        kernels.top_modes(K, 3, solver=other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_symmetric_products_read_the_right_half(solver):
    """A matrix that is not contiguous, and one in float32, take different ways to the same."""
    K = matrix(64, 2)
    views = [K, K.float(), K.T.clone().T, torch.stack([K, K])[1], K.repeat(2, 2)[:64, :64]]
    expected = torch.linalg.eigvalsh(K).flip(0)[:4]
    for view in views:
        found = kernels.top_modes(view, 4, solver=solver).values.double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_repeated_eigenvalues_give_their_subspace(solver):
    """A single start vector sees one direction of an eigenspace; the solvers must find all."""
    values = torch.tensor([5.0, 3.0, 3.0, 3.0, 1.0, *[0.1] * 45])
    K = matrix(50, 1, values)
    found = kernels.top_modes(K, 5, solver=solver, tolerance=1e-9)
    torch.testing.assert_close(found.values, values[:5].double(), rtol=1e-7, atol=1e-7)
    exact = torch.linalg.eigh(K).eigenvectors.flip(1)[:, 1:4]
    angles = torch.linalg.svdvals(exact.T @ found.vectors[:, 1:4])
    assert float(angles.min()) > 1 - 1e-7


@pytest.mark.parametrize("solver", SOLVERS)
def test_matrices_of_low_rank(solver):
    values = torch.tensor([2.0, 1.0, *[0.0] * 28])
    found = kernels.top_modes(matrix(30, 0, values), 6, solver=solver)
    torch.testing.assert_close(found.values, values[:6].double(), rtol=0, atol=1e-7)


def diagonal(*values: float) -> torch.Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


DEGENERATE = {
    "zero": torch.zeros(20, 20).double(),
    "one entry": diagonal(1, *[0] * 19),
    "one tiny rest": diagonal(1, *[1e-12] * 19),
    "identity": torch.eye(20).double(),
    "a projection": diagonal(*[1] * 10, *[0] * 10),
    "all equal": torch.ones(20, 20).double(),
    "rank 1": matrix(20, 0, torch.tensor([3.0, *[0] * 19])),
    "negative of rank 1": matrix(20, 0, torch.tensor([-3.0, *[0] * 19])),
    "both signs": matrix(20, 1, torch.linspace(1, -3, 20)),
    "negative": matrix(20, 2, torch.linspace(-3, -0.5, 20)),
    "small": 1e-30 * matrix(20, 3),
    "large": 1e30 * matrix(20, 3),
    "one number": torch.full((1, 1), 2.0).double(),
    "one zero": torch.zeros(1, 1).double(),
    "two zeros": torch.zeros(2, 2).double(),
    "three zeros": torch.zeros(3, 3).double(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["matrix", "product"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_matrices_have_modes(name, solver, form, dtype):
    K = DEGENERATE[name].to(dtype)
    n, scale = len(K), float(K.abs().max()) or 1.0
    for modes in {1, min(2, n), max(1, n - 2), max(1, n - 1), n}:
        given_ = K if form == "matrix" else (lambda block: K.to(block) @ block)
        found = kernels.top_modes(given_, modes, size=n, solver=solver)
        exact = torch.linalg.eigvalsh(K.double()).flip(0)[:modes]
        values, vectors = found.values.double(), found.vectors.double()
        near = dict(rtol=0, atol=1e-4)
        torch.testing.assert_close(values / scale, exact / scale, **near)
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(modes).double(), **near)
        off = (K.double() @ vectors - vectors * values) / scale
        torch.testing.assert_close(off, torch.zeros_like(off), **near)


@pytest.mark.parametrize("solver", SOLVERS)
def test_squares_need_not_be_numbers(solver):
    for scale in (1e-200, 1e200):
        found = kernels.top_modes(scale * matrix(60, 0), 3, solver=solver)
        exact = 1 / torch.arange(1, 4).double().square()
        torch.testing.assert_close(found.values / scale, exact, rtol=1e-6, atol=1e-6)


def test_long_runs_start_anew_and_still_converge():
    """A slow spectrum: more blocks are needed than are kept."""
    values = torch.linspace(1, 0.7, 600)
    found = kernels.top_modes(matrix(600, 0, values), 3, solver="subspace", tolerance=1e-5)
    assert found.reads > 10, "the spectrum was not slow"
    torch.testing.assert_close(found.values, values[:3].double(), rtol=1e-6, atol=1e-6)


def test_no_convergence_is_said():
    K = matrix(400, 0, torch.linspace(1, 0.999, 400))
    with pytest.raises(RuntimeError, match="residual .* above the tolerance 1.0e-15"):
        kernels.top_modes(K, 2, solver="subspace", tolerance=1e-15)


@pytest.mark.parametrize(
    ("K", "options", "message"),
    [
        (torch.eye(3), {"modes": 4}, "modes is 4: a matrix of size 3 has 1 to 3"),
        (torch.eye(3), {"modes": 0}, "modes is 0"),
        (torch.eye(3), {"modes": 1, "solver": "qr"}, "solver is 'qr'"),
        (torch.ones(2, 3), {"modes": 1}, r"shape \(2, 3\)"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), {"modes": 1}, "not symmetric.* differ by 2"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), {"modes": 1}, "not finite"),
        (torch.eye(2).int(), {"modes": 1}, "dtype torch.int32"),
        (torch.eye(3), {"modes": 1, "tolerance": float("nan")}, "tolerance is nan"),
        (lambda block: block, {"modes": 1}, "size is None"),
        (lambda block: block, {"modes": 1, "size": 0}, "modes is 1: a matrix of size 0"),
        (lambda block: block[:2], {"modes": 1, "size": 5}, r"shape \(5, 2\) has shape \(2, 2\)"),
        (lambda block: block / 0, {"modes": 1, "size": 5}, "not finite"),
        (
            lambda block: torch.ones(9, 9).double().triu() @ block,
            {"modes": 1, "size": 9},
            "not symmetric",
        ),
    ],
)
def test_bad_matrices(K, options, message):
    with pytest.raises(ValueError, match=message):
        kernels.top_modes(K, **options)


@pytest.mark.parametrize("solver", ["lanczos", "subspace"])
def test_products_may_be_in_single_precision(solver):
    K = torch.diag(torch.arange(20.0))
    found = kernels.top_modes(lambda block: K @ block.float(), 2, size=20, solver=solver)
    assert found.values.tolist() == pytest.approx([19, 18], rel=1e-5)
