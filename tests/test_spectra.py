"""Eigenfeatures against dense decompositions, kernel regression and explicit gradient descent."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import alignment, kernels, spectra

SOLVERS = ["lanczos", "subspace"]


def matrix(n: int, seed: int, values: torch.Tensor | None = None) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues (1/i^2 if none are given)."""
    draw = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
    values = 1 / torch.arange(1, n + 1).double().square() if values is None else values.double()
    K = (Q * values) @ Q.T
    return (K + K.T) / 2


def signs(n: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0).double()


def digits_like(n: int, seed: int, queries: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """A ReLU kernel of clustered points, and its block with queries."""
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(n + queries, 6, generator=draw, dtype=torch.float64)
    X[:, 0] += 3 * torch.sign(X[:, 1])
    return kernels.relu_ntk(X[:n]), kernels.relu_ntk(X[n:], X[:n])


# -- leading modes --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25)
@given(st.integers(2, 90), st.integers(1, 12), st.integers(0, 4))
def test_leading_modes_are_those_of_lapack(solver, n, modes, seed):
    modes, K = min(modes, n), matrix(n, seed)
    found = spectra.top_modes(K, modes, solver=solver, tolerance=1e-10)
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
    whole = spectra.top_modes(K, 5, solver=solver)
    given_ = spectra.top_modes(lambda block: K.to(block) @ block, 5, size=120, solver=solver)
    torch.testing.assert_close(whole.values.double(), given_.values.double(), rtol=1e-5, atol=1e-6)
    assert whole.vectors.dtype == dtype


@pytest.mark.parametrize("solver", SOLVERS)
def test_symmetric_products_read_the_right_half(solver):
    """A matrix that is not contiguous, and one in float32, take different ways to the same."""
    K = matrix(64, 2)
    views = [K, K.float(), K.T.clone().T, torch.stack([K, K])[1], K.repeat(2, 2)[:64, :64]]
    expected = torch.linalg.eigvalsh(K).flip(0)[:4]
    for view in views:
        found = spectra.top_modes(view, 4, solver=solver).values.double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_repeated_eigenvalues_give_their_subspace(solver):
    """A single start vector sees one direction of an eigenspace; the solvers must find all."""
    values = torch.tensor([5.0, 3.0, 3.0, 3.0, 1.0, *[0.1] * 45])
    K = matrix(50, 1, values)
    found = spectra.top_modes(K, 5, solver=solver, tolerance=1e-9)
    torch.testing.assert_close(found.values, values[:5].double(), rtol=1e-7, atol=1e-7)
    exact = torch.linalg.eigh(K).eigenvectors.flip(1)[:, 1:4]
    angles = torch.linalg.svdvals(exact.T @ found.vectors[:, 1:4])
    assert float(angles.min()) > 1 - 1e-7
    assert spectra.eigenspaces(found.values) == [slice(0, 1), slice(1, 4), slice(4, 5)]


@pytest.mark.parametrize("solver", SOLVERS)
def test_matrices_of_low_rank(solver):
    values = torch.tensor([2.0, 1.0, *[0.0] * 28])
    found = spectra.top_modes(matrix(30, 0, values), 6, solver=solver)
    torch.testing.assert_close(found.values, values[:6].double(), rtol=0, atol=1e-7)


def test_long_runs_start_anew_and_still_converge():
    """A slow spectrum: more blocks are needed than are kept."""
    values = torch.linspace(1, 0.7, 600)
    found = spectra.top_modes(matrix(600, 0, values), 3, solver="subspace", tolerance=1e-5)
    assert found.reads > 10, "the spectrum was not slow"
    torch.testing.assert_close(found.values, values[:3].double(), rtol=1e-6, atol=1e-6)


def test_no_convergence_is_said():
    K = matrix(400, 0, torch.linspace(1, 0.999, 400))
    with pytest.raises(RuntimeError, match="residual .* above the tolerance 1.0e-15"):
        spectra.top_modes(K, 2, solver="subspace", tolerance=1e-15)


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
        (lambda block: block, {"modes": 1}, "size is None"),
    ],
)
def test_bad_matrices(K, options, message):
    with pytest.raises(ValueError, match=message):
        spectra.top_modes(K, **options)


# -- features -------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(5, 60), st.integers(0, 10))
def test_all_features_sum_to_kernel_regression(n, seed):
    """Claim L1, at 1e-8, against a solver that knows no eigenvectors."""
    K, K_query = digits_like(n, seed)
    y = signs(n, seed)
    features = spectra.eigenfeatures(K, y, cutoff=0)
    regression = K_query @ torch.linalg.solve(K, y)
    assert float((features.on(K_query).sum(1) - regression).abs().max()) < 1e-8
    other = alignment.interpolate(K).predict(K_query, y)
    assert float((features.on(K_query).sum(1) - other).abs().max()) < 1e-7
    # on the training set each term is <v, y> v
    torch.testing.assert_close(features.on(K), features.vectors * features.weights)
    shares = spectra.alignment(features.vectors, y)
    assert float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(spectra.energy_shares(features.on(K)), shares)


@pytest.mark.parametrize("strength", [0.0, 0.3, 20.0])
def test_ridge_filter_is_ridge_regression(strength):
    K, K_query = digits_like(30, 0)
    y = signs(30, 1)
    features = spectra.eigenfeatures(K, y, cutoff=0)
    expected = K_query @ torch.linalg.solve(K + strength * torch.eye(30).double(), y)
    found = features.on(K_query, filters=features.ridge(strength)).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("times_top", [0.4, 1.0, 1.7])
def test_learned_share_and_half_life_are_those_of_gradient_descent(times_top):
    K, K_query = digits_like(25, 3)
    y = signs(25, 2)
    features = spectra.eigenfeatures(K, y, cutoff=0)
    step = times_top / float(features.values[0])
    coefficients, out = torch.zeros_like(y), []
    for _ in range(40):
        out.append(K @ coefficients)
        coefficients = coefficients + step * (y - K @ coefficients)
    found = features.on(K_query, filters=features.learned(step, 40)).sum(1)
    torch.testing.assert_close(found, K_query @ coefficients, rtol=1e-9, atol=1e-9)
    # the error of each mode has halved where the half-life says
    errors = ((y - torch.stack(out)) @ features.vectors / features.weights).abs()
    half = features.half_life(step)
    assert bool((half >= 0).all())
    for error, time in zip(errors.T, half.tolist(), strict=True):
        reached = (error <= 0.5).nonzero().flatten()
        if len(reached):
            assert int(reached[0]) == max(1, math.ceil(time - 1e-9))
        else:
            assert time > 39


def test_leading_features_only():
    K, K_query = digits_like(80, 5)
    y = signs(80, 0)
    whole = spectra.eigenfeatures(K, y)
    for solver in SOLVERS:
        few = spectra.eigenfeatures(K, y, modes=5, solver=solver)
        assert len(few) == 5
        torch.testing.assert_close(
            few.on(K_query), whole.on(K_query)[:, :5], rtol=1e-4, atol=1e-5
        )  # a feature does not depend on the sign of its eigenvector


def test_small_eigenvalues_are_cut_off():
    K = matrix(20, 0, torch.tensor([1.0, 0.5, *[1e-14] * 18]))
    assert len(spectra.eigenfeatures(K, signs(20, 0))) == 2


@pytest.mark.parametrize(
    ("K", "y", "options", "message"),
    [
        (
            torch.eye(3),
            torch.tensor([0.0, 1.0, 1.0]),
            {},
            r"values \[0.0, 1.0\].*expected 3 labels",
        ),
        (torch.eye(3), torch.ones(2), {}, r"shape \(2,\)"),
        (torch.eye(3), torch.ones(3), {"modes": 4}, "modes is 4"),
        (torch.diag(torch.tensor([1.0, -0.1])), torch.ones(2), {}, "smallest eigenvalue is -0.1"),
        (
            torch.diag(torch.tensor([1.0, -0.1])),
            torch.ones(2),
            {"modes": 2},
            "eigenvalue 2 is -0.1",
        ),
    ],
)
def test_bad_features(K, y, options, message):
    with pytest.raises(ValueError, match=message):
        spectra.eigenfeatures(K, y, **options)


def test_rounding_below_zero_is_no_error():
    """A float32 Gram matrix of rank 3 has eigenvalues of about -1e-7."""
    X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    K = X @ X.T
    assert torch.linalg.eigvalsh(K)[0] < 0
    assert len(spectra.eigenfeatures(K, signs(200, 0).float(), cutoff=1e-5)) == 3


def test_bad_arguments_of_features():
    features = spectra.eigenfeatures(torch.eye(3).double(), torch.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2, 4\): expected \(m, 3\)"):
        features.on(torch.ones(2, 4))
    for step in (0.0, 2.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="converges between 0 and 2"):
            features.learned(step, 3)
        with pytest.raises(ValueError, match="converges between 0 and 2"):
            features.half_life(step)
    with pytest.raises(ValueError, match="strength is -1"):
        features.ridge(-1)


# -- shares ---------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 10))
def test_alignment_sums_to_one_over_a_basis_and_ignores_signs(n, seed):
    draw = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
    attribute = torch.randn(n, generator=draw, dtype=torch.float64)
    shares = spectra.alignment(Q, attribute)
    assert float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(spectra.alignment(-Q, 3 * attribute), shares)
    assert spectra.shortcut_span(shares, 0.999) == int((shares.cumsum(0) < 0.999).sum()) + 1


def test_a_turned_pair_shares_an_attribute_as_a_subspace():
    Q = torch.eye(4, dtype=torch.float64)
    c = math.sqrt(0.5)
    turned = Q.clone()
    turned[:2, :2] = torch.tensor([[c, -c], [c, c]])
    shares = spectra.alignment(turned, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(shares[:2], torch.tensor([0.5, 0.5]).double())
    assert spectra.shortcut_span(shares) == 2
    with pytest.raises(ValueError, match="1 modes hold 0.500"):
        spectra.shortcut_span(shares[:1])


def test_predictability_counts_zeros_as_wrong():
    outputs = torch.tensor([[1.0, 0.0, -2.0], [-1.0, 0.0, 0.0]])
    found = spectra.predictability(outputs, torch.tensor([1.0, -1.0]))
    assert found.tolist() == [1.0, 0.0, 0.5]


def test_first_sign_changing_passes_over_the_mean_mode():
    K, _ = digits_like(60, 0)
    assert float((K > 0).double().mean()) < 1, "some cosines are below -0.4"
    X = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)).double()
    positive = kernels.relu_ntk(X)
    modes = spectra.top_modes(positive, 4)
    assert bool((positive > 0).all()) and len(set(torch.sign(modes.vectors[:, 0]).tolist())) == 1
    assert spectra.first_sign_changing(modes.vectors) == 1
    with pytest.raises(ValueError, match="none of 1 modes"):
        spectra.first_sign_changing(modes.vectors[:, :1])


def test_shares_name_bad_input():
    with pytest.raises(ValueError, match=r"\(3, 2\) and the attribute \(2,\)"):
        spectra.alignment(torch.ones(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match="zero everywhere"):
        spectra.alignment(torch.eye(2), torch.zeros(2))
    with pytest.raises(ValueError, match="zero everywhere"):
        spectra.energy_shares(torch.zeros(3, 2))


# -- the whole output without the whole spectrum ---------------------------------------------------


@settings(max_examples=15)
@given(st.integers(3, 80), st.integers(0, 5))
def test_krylov_filters_are_those_of_the_full_decomposition(n, seed):
    K, _ = digits_like(n, seed)
    y = signs(n, seed)
    values, vectors = np.linalg.eigh(K.numpy())
    step = 1 / values[-1]
    filters = [lambda v: 1 / (v + 0.5), lambda v: _descent(v, step, 30)]
    found = spectra.krylov_filters(K, y, filters, dimension=n)
    for a, g in zip(found, filters, strict=True):
        exact = vectors * g(torch.from_numpy(values)).numpy() @ vectors.T @ y.numpy()
        np.testing.assert_allclose(a, exact, rtol=1e-6, atol=1e-8 * np.abs(exact).max())


def _descent(values: torch.Tensor, step: float, time: int) -> torch.Tensor:
    return torch.where(values > 0, (1 - (1 - step * values) ** time) / values, step * time)


def test_a_short_krylov_space_is_enough_for_smooth_filters_and_says_when_not():
    K, _ = digits_like(400, 0)
    y = signs(400, 0)
    top = float(torch.linalg.eigvalsh(K)[-1])
    smooth = [lambda v: _descent(v, 1 / top, 100)]
    found = spectra.krylov_filters(K, y, smooth, dimension=60)
    a = torch.zeros_like(y)
    for _ in range(100):
        a = a + (y - K @ a) / top
    assert float((found[0] - a).norm() / a.norm()) < 1e-4
    with pytest.raises(ValueError, match="dimension is 10: coefficients still change"):
        spectra.krylov_filters(K, y, [lambda v: 1 / (v + 1e-6 * top)], dimension=10)
    with pytest.raises(ValueError, match=r"expected \(400,\), not all zero"):
        spectra.krylov_filters(K, 0 * y, smooth)


# -- approximations -------------------------------------------------------------------------------


def test_nystrom_finds_separated_modes():
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(1_500, 10, generator=draw, dtype=torch.float64)
    X[:, 0] = 4 * torch.sign(X[:, 0])
    K = kernels.relu_ntk(X)
    values, functions = spectra.nystrom(K[:300, :300], K[:, :300], 2)
    exact = torch.linalg.eigvalsh(K).flip(0)[:2] / 1_500
    torch.testing.assert_close(values, exact, rtol=0.05, atol=0)
    quotient = spectra.rayleigh(K, functions) / 1_500
    torch.testing.assert_close(quotient, exact, rtol=0.02, atol=0)
    assert bool((quotient <= exact[0] * (1 + 1e-12)).all())
    # mean square 1, so that they are functions of unit norm on the population
    torch.testing.assert_close(functions.square().mean(0), torch.ones(2).double(), rtol=0.1, atol=0)


def test_nystrom_inflates_the_bulk_as_its_docstring_says():
    X = torch.randn(600, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    K = kernels.relu_ntk(X)
    values, functions = spectra.nystrom(K[:100, :100], K[:, :100], 5)
    exact = torch.linalg.eigvalsh(K).flip(0)[:5] / 600
    assert float(values[4] / exact[4]) > 1.2
    assert float(spectra.rayleigh(K, functions)[4]) / 600 < float(values[4])


def test_rayleigh_of_products_and_bad_blocks():
    K = matrix(20, 0)
    vectors = torch.eye(20, dtype=torch.float64)[:, :3] * 5
    torch.testing.assert_close(spectra.rayleigh(K, vectors), K.diagonal()[:3])
    torch.testing.assert_close(spectra.rayleigh(lambda v: K @ v, vectors), K.diagonal()[:3])
    with pytest.raises(ValueError, match=r"shape \(5, 4\): expected \(n, 3\)"):
        spectra.nystrom(torch.eye(3), torch.ones(5, 4), 1)
    with pytest.raises(ValueError, match="modes is 4"):
        spectra.nystrom(torch.eye(3), torch.ones(5, 3), 4)
