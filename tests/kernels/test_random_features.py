"""Random-feature blocks against an explicit feature matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import kernels
from helpers.kernels import hermite

NAMES = ["phi2", "phi4", "relu", "tanh", "step"]


def points(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=20)
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 700), st.sampled_from([1, 256, 300, 4096])
)
def test_streaming_does_not_change_the_features(n, m, width, chunk):
    Z, A, B = points(n, 5, 0), points(m, 5, 1), points(2, 5, 2)
    given_ = dict(activation="relu", width=width, seed=3)
    (whole,) = kernels.random_feature_blocks(torch.cat([Z, A, B]), chunk=width, **given_)
    K, KA, KB = kernels.random_feature_blocks(Z, A, B, chunk=chunk, **given_)
    stacked = torch.cat([K, KA, KB])
    assert torch.allclose(stacked, whole[:, :n], atol=1e-12)
    assert torch.equal(K, K.T)
    KA_alone = kernels.random_feature_blocks(Z, A, chunk=chunk, **given_)[1]
    assert torch.allclose(KA_alone, KA, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gram_is_that_of_an_explicit_feature_matrix(name):
    """Linear features reveal V itself; any other activation must act on the same V."""
    d, width, seed = 4, 300, 7
    eye, Z = torch.eye(d, dtype=torch.float64), points(6, d, 0)
    grabbed = []

    def spy(t):
        grabbed.append(t.clone())
        return t

    kernels.random_feature_blocks(eye, activation=spy, width=width, seed=seed)
    V = torch.cat(grabbed, dim=1).T
    features = hermite.resolve(name)(Z @ V.T)
    expected = features @ features.T / width
    (got,) = kernels.random_feature_blocks(Z, activation=name, width=width, seed=seed)
    assert torch.allclose(got, expected, atol=1e-12)
    assert float(V.var()) == pytest.approx(1 / d, rel=0.1)


@pytest.mark.parametrize(
    ("Z", "Z2", "message"),
    [
        (torch.zeros(3), None, "shapes"),
        (torch.zeros(0, 3), None, "shapes"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "the same d"),
        (torch.zeros(2, 3, dtype=torch.int64), None, "dtypes"),
        (torch.zeros(2, 3), torch.zeros(2, 3).double(), "dtypes"),
        (torch.full((2, 3), float("nan")), None, "not finite"),
        (torch.zeros(2, 3, dtype=torch.complex64), None, "dtypes"),
    ],
)
def test_bad_inputs_are_named(Z, Z2, message):
    inputs = (Z,) if Z2 is None else (Z, Z2)
    with pytest.raises(ValueError, match=message):
        kernels.random_feature_blocks(*inputs, activation="relu", width=10, seed=0)
    with pytest.raises(ValueError, match=message):
        kernels.infinite_width(*inputs, activation="relu")


@pytest.mark.parametrize(("width", "chunk"), [(0, 1), (5, 0), (2.5, 1), (float("nan"), 1)])
def test_width_and_chunk_must_be_positive(width, chunk):
    with pytest.raises(ValueError, match="at least 1"):
        kernels.random_feature_blocks(
            torch.ones(2, 3), activation="relu", width=width, seed=0, chunk=chunk
        )


@pytest.mark.parametrize("call", [
    lambda **given: kernels.random_feature_blocks(torch.ones(3, 2), width=5, seed=0, **given),
    lambda activation: kernels.ntk_two_layer(torch.ones(3, 2), derivative=activation, width=5),
])  # fmt: skip
def test_a_callable_must_give_a_finite_feature_for_each_input(call):
    with pytest.raises(ValueError, match="the kernel holds values that are not finite"):
        call(activation=torch.log)
    with pytest.raises(ValueError, match=r"finite reals of the same shape, got shape \(\)"):
        call(activation=lambda t: t.sum())
    call(activation=lambda t: t > 0)  # a boolean counts as 0 or 1


@pytest.mark.parametrize("options", [{"width": 2.5}, {"dtype": torch.int64}])
def test_weights_are_counted_and_real(options):
    with pytest.raises(ValueError, match=r"width is 2.5|dtype is torch.int64"):
        kernels.random_weights(**{"width": 2, "dim": 2, "seed": 0} | options)


def test_a_width_that_is_no_number_is_too_small():
    with pytest.raises(ValueError, match="2 training samples but only nan features"):
        kernels.check_width(2, float("nan"))
