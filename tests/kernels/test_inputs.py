"""Checks and symmetric blocks that all kernels share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.kernels.inputs import check_symmetric, inner_products


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
