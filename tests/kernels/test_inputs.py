"""Checks and symmetric blocks that all kernels share."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import kernels
from helpers.kernels.inputs import check_symmetric, cosines, directions, inner_products


@given(st.integers(1, 300), st.integers(1, 4))
def test_inner_products_are_the_product(n, d):
    Z = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    product = inner_products(Z)
    assert torch.allclose(product, Z @ Z.T, atol=1e-12)
    assert torch.equal(product, product.T)


def test_a_strict_check_sees_what_a_quick_one_may_miss():
    K = torch.eye(1_000)
    K[1, 3] = 1e-3  # in none of the 200 rows that are looked at
    check_symmetric(K)
    with pytest.raises(ValueError, match="not symmetric: entries differ by 0.001"):
        check_symmetric(K, strict=True)
    K[1, 3] = 1e-6  # no more than rounding
    check_symmetric(K, strict=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.integers(1, 30), st.integers(1, 3_000), st.floats(0.01, 100), st.integers(0, 10**6))
def test_cosines_are_exact_at_both_ends(dtype, n, d, factor, seed):
    Z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    Z[0] = 0
    unit, multiple = directions(Z), directions(factor * Z)
    found = cosines(unit, torch.cat([unit, multiple, -unit]))
    ones = (torch.arange(n) > 0).to(dtype)
    assert torch.equal(found[:, :n].diagonal(), ones)
    assert torch.equal(found[:, n : 2 * n].diagonal(), ones)
    assert torch.equal(found[:, 2 * n :].diagonal(), -ones)
    torch.testing.assert_close(found[:, :n], unit @ unit.T)


ALL = {
    "features": lambda Z, *Q: kernels.random_feature_blocks(
        Z, *Q, activation="relu", width=5, seed=0
    ),
    "limit": lambda Z, *Q: kernels.infinite_width(Z, *Q, activation="relu"),
    "two layers": lambda Z, *Q: kernels.ntk_two_layer(Z, *Q, derivative="step", width=5),
    "two layers, limit": lambda Z, *Q: kernels.ntk_two_layer(
        Z, *Q, derivative="step", width=math.inf
    ),
    "relu": kernels.relu_ntk,
    "network": lambda Z, *Q: kernels.empirical_ntk(torch.nn.Linear(2, 1), Z, *Q),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([torch.ones(0, 2)], "inputs have shapes"),
        ([torch.ones(2, 0)], "inputs have shapes"),
        ([torch.tensor(1.0)], "inputs have shapes"),
        ([torch.ones(2, 2), torch.ones(0, 2)], "inputs have shapes"),
        ([torch.ones(2, 2), torch.ones(2, 3)], "inputs have shapes"),
        ([torch.ones(2, 2).int()], "torch.int32"),
        ([torch.ones(2, 2).bool()], "torch.bool"),
        ([torch.ones(2, 2).half()], "torch.float16"),
        ([torch.ones(2, 2), torch.ones(2, 2).double()], "torch.float64"),
        ([torch.ones(2, 2), torch.ones(2, 2, device="meta")], "on one device"),
        ([torch.full((2, 2), math.nan)], "not finite"),
        ([torch.ones(2, 2), torch.full((2, 2), math.inf)], "not finite"),
    ],
)
def test_every_kernel_refuses_what_it_cannot_take(name, inputs, message):
    with pytest.raises(ValueError, match=message):
        ALL[name](*inputs)


@pytest.mark.parametrize("name", ["two layers", "features"])
def test_kernels_that_overflow_are_refused(name):
    with pytest.raises(ValueError, match="the kernel holds values that are not finite"):
        ALL[name](torch.full((2, 2), 1e30))


@pytest.mark.parametrize("inputs", [torch.ones(1, 2), torch.tensor([[1.0], [-2.0]])])
@pytest.mark.parametrize("name", [name for name in ALL if name != "network"])
def test_one_sample_and_one_dimension_are_enough(name, inputs):
    K = ALL[name](inputs)
    K = K[0] if isinstance(K, list) else K
    assert K.shape == (len(inputs), len(inputs)) and bool((K.diagonal() >= 0).all())
