"""Eigenfeatures against kernel regression and explicit gradient descent."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import kernels
from helpers.kernels import alignment


def signs(n: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0).double()


@settings(max_examples=20)
@given(st.integers(5, 60), st.integers(0, 10))
def test_all_features_sum_to_kernel_regression(digits_like, n, seed):
    """Claim L1, at 1e-8, against a solver that knows no eigenvectors."""
    K, K_query = digits_like(n, seed)
    y = signs(n, seed)
    features = kernels.eigenfeatures(K, y, cutoff=0)
    regression = K_query @ torch.linalg.solve(K, y)
    assert float((features.on(K_query).sum(1) - regression).abs().max()) < 1e-8
    other = alignment.interpolate(K).predict(K_query, y)
    assert float((features.on(K_query).sum(1) - other).abs().max()) < 1e-7
    # on the training set each term is <v, y> v
    torch.testing.assert_close(features.on(K), features.vectors * features.weights)
    shares = kernels.mode_alignment(features.vectors, y)
    assert float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernels.energy_shares(features.on(K)), shares)


def test_leading_features_only(digits_like):
    K, K_query = digits_like(80, 5)
    y = signs(80, 0)
    whole = kernels.eigenfeatures(K, y)
    few = kernels.eigenfeatures(K, y, modes=5)
    assert len(few) == 5
    # a feature does not depend on the sign of its eigenvector
    torch.testing.assert_close(few.on(K_query), whole.on(K_query)[:, :5], rtol=1e-4, atol=1e-5)


def test_small_eigenvalues_are_cut_off():
    draw = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(20, 20, generator=draw, dtype=torch.float64)).Q
    K = (Q * torch.tensor([1.0, 0.5, *[1e-14] * 18]).double()) @ Q.T
    assert len(kernels.eigenfeatures((K + K.T) / 2, signs(20, 0))) == 2


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
        (torch.eye(3), torch.full((3,), math.nan), {}, "expected 3 labels"),
        (torch.eye(3), torch.ones(3), {"cutoff": math.nan}, "cutoff is nan"),
        (torch.eye(3), torch.ones(3), {"cutoff": 1.0}, "cutoff is 1.0"),
        (torch.zeros(3, 3), torch.ones(3), {}, "the kernel is zero"),
        (torch.zeros(3, 3), torch.ones(3), {"modes": 1}, "the kernel is zero"),
        (-torch.eye(3), torch.ones(3), {"modes": 1}, "eigenvalue 1 is -1"),
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
        kernels.eigenfeatures(K, y, **options)


def test_rounding_below_zero_is_no_error():
    """A float32 Gram matrix of rank 3 has eigenvalues of about -1e-7."""
    X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    K = X @ X.T
    assert torch.linalg.eigvalsh(K)[0] < 0
    assert len(kernels.eigenfeatures(K, signs(200, 0).float(), cutoff=1e-5)) == 3


def test_bad_arguments_of_features():
    features = kernels.eigenfeatures(torch.eye(3).double(), torch.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2, 4\): expected \(m, 3\)"):
        features.on(torch.ones(2, 4))


@given(st.integers(2, 40), st.integers(0, 10))
def test_alignment_sums_to_one_over_a_basis_and_ignores_signs(n, seed):
    draw = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64)).Q
    attribute = torch.randn(n, generator=draw, dtype=torch.float64)
    shares = kernels.mode_alignment(Q, attribute)
    assert float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernels.mode_alignment(-Q, 3 * attribute), shares)
    assert kernels.shortcut_span(shares, 0.999) == int((shares.cumsum(0) < 0.999).sum()) + 1


def test_a_turned_pair_shares_an_attribute_as_a_subspace():
    Q = torch.eye(4, dtype=torch.float64)
    c = math.sqrt(0.5)
    turned = Q.clone()
    turned[:2, :2] = torch.tensor([[c, -c], [c, c]])
    shares = kernels.mode_alignment(turned, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(shares[:2], torch.tensor([0.5, 0.5]).double())
    assert kernels.shortcut_span(shares) == 2
    with pytest.raises(ValueError, match="1 modes hold 0.500"):
        kernels.shortcut_span(shares[:1])


def test_predictability_counts_zeros_as_wrong():
    outputs = torch.tensor([[1.0, 0.0, -2.0], [-1.0, 0.0, 0.0]])
    found = kernels.predictability(outputs, torch.tensor([1.0, -1.0]))
    assert found.tolist() == [1.0, 0.0, 0.5]


def test_first_sign_changing_passes_over_the_mean_mode(digits_like):
    K, _ = digits_like(60, 0)
    assert float((K > 0).double().mean()) < 1, "some cosines are below -0.4"
    X = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)).double()
    positive = kernels.relu_ntk(X)
    modes = kernels.top_modes(positive, 4)
    assert bool((positive > 0).all()) and len(set(torch.sign(modes.vectors[:, 0]).tolist())) == 1
    assert kernels.first_sign_changing(modes.vectors) == 1
    with pytest.raises(ValueError, match="none of 1 modes"):
        kernels.first_sign_changing(modes.vectors[:, :1])


def test_shares_name_bad_input():
    with pytest.raises(ValueError, match=r"\(3, 2\) and the attribute \(2,\)"):
        kernels.mode_alignment(torch.ones(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match="zero everywhere"):
        kernels.mode_alignment(torch.eye(2), torch.zeros(2))
    with pytest.raises(ValueError, match="zero everywhere"):
        kernels.energy_shares(torch.zeros(3, 2))


def test_a_single_class_has_features():
    found = kernels.eigenfeatures(torch.ones(3, 3), torch.ones(3, dtype=torch.int64), cutoff=1e-5)
    torch.testing.assert_close(found.on(torch.ones(2, 3)), torch.ones(2, 1))


NAN = torch.full((3, 2), math.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.eigenfeatures(torch.eye(2), torch.ones(2)).on(NAN), "K_query holds"),
        (lambda: kernels.mode_alignment(NAN, torch.ones(3)), "vectors hold"),
        (lambda: kernels.mode_alignment(torch.eye(3), NAN[:, 0]), "attribute holds"),
        (lambda: kernels.predictability(NAN, torch.ones(3)), "outputs hold"),
        (lambda: kernels.predictability(torch.eye(3), torch.ones(3, 1)), r"attribute \(3, 1\)"),
        (lambda: kernels.predictability(torch.ones(0, 2), torch.ones(0)), r"shape \(0, 2\)"),
        (lambda: kernels.predictability(torch.eye(3), torch.arange(3)), r"values \[0, 1, 2\]"),
        (lambda: kernels.energy_shares(NAN), "features hold"),
        (lambda: kernels.energy_shares(torch.ones(0, 2)), "zero everywhere"),
        (lambda: kernels.shortcut_span(NAN[0]), "shares hold"),
        (lambda: kernels.shortcut_span(torch.ones(0)), "0 modes hold 0.000"),
        (lambda: kernels.first_sign_changing(torch.ones(3, 2), 0.0), "share is 0.0"),
        (lambda: kernels.first_sign_changing(torch.tensor([[1.0], [0.0]])), "none of 1 modes"),
    ],
)
def test_measures_name_what_they_cannot_take(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_scale_of_an_attribute_does_not_matter():
    tiny = torch.tensor([1e-30, 0.0])
    assert kernels.mode_alignment(torch.eye(2), tiny).tolist() == [1, 0]
