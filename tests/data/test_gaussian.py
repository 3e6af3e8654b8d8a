"""Samples of Gaussian models: moments, seeds, counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data

quick = settings(max_examples=25, deadline=None, derandomize=True)


@quick
@given(
    st.integers(1, 20),
    st.integers(2, 60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_gaussian_blocks(n, d, alpha, seed, normalise):
    dy = round(alpha * d)
    if not 0 < dy < d:
        with pytest.raises(ValueError, match=f"d={d}, alpha={alpha}"):
            data.gaussian_two_block(n, d, alpha, seed=seed)
        return
    single = data.gaussian_two_block(n, d, alpha, seed=seed, normalise=normalise)
    double = data.gaussian_two_block(
        n, d, alpha, seed=seed, normalise=normalise, dtype=torch.float64
    )
    assert single.x.shape == (n, d - dy) and single.y.shape == (n, dy)
    assert single.alpha == dy / d and single.x.dtype == torch.float32
    assert torch.equal(single.z, double.z.float())
    if normalise:
        for block in double:
            size = torch.full((n,), float(block.shape[1]), dtype=torch.float64)
            assert torch.allclose(block.square().sum(1), size, rtol=1e-12)


def test_gaussian_moments_and_independence():
    z = data.gaussian_two_block(4000, 50, 0.4, seed=3, dtype=torch.float64).z
    assert abs(z.mean()) < 5 / z.numel() ** 0.5
    assert abs(z.square().mean() - 1) < 5 * (2 / z.numel()) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / z.numel()) ** 0.5
    covariance = z.T @ z / len(z) - torch.eye(50, dtype=torch.float64)
    assert covariance.abs().max() < 6 * (2 / len(z)) ** 0.5


def test_generator_goes_on_and_seed_starts_anew():
    generator = torch.Generator().manual_seed(5)
    first = data.gaussian_two_block(4, 8, 0.5, seed=generator).z
    second = data.gaussian_two_block(4, 8, 0.5, seed=generator).z
    assert torch.equal(first, data.gaussian_two_block(4, 8, 0.5, seed=5).z)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.0, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_alpha_must_leave_two_blocks(alpha):
    with pytest.raises(ValueError, match=r"alpha in \(0, 1\)"):
        data.gaussian_two_block(3, 100, alpha, seed=0)
    with pytest.raises(ValueError, match="n=0"):
        data.gaussian_two_block(0, 100, 0.5, seed=0)


def test_linear_labels_have_no_zero():
    x = torch.tensor([[1.0, -1.0], [2.0, -1.0], [1.0, -2.0]], dtype=torch.float64)
    labels = data.linear_labels(x, torch.ones(2, dtype=torch.float64))
    assert labels.tolist() == [1, 1, -1] and labels.dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "u"),
    [
        (torch.ones(2, 3), torch.ones(3, 1)),
        (torch.ones(2, 3), torch.ones(2)),
        (torch.ones(2, 3), torch.ones(3).double()),
        (torch.full((2, 3), float("nan")), torch.ones(3)),
        (torch.ones(2, 3), torch.full((3,), float("inf")) * torch.tensor([1, -1, 1])),
    ],
)
def test_linear_labels_need_numbers_that_fit(x, u):
    with pytest.raises(ValueError, match="x and u"):
        data.linear_labels(x, u)


def test_normal_numbers_are_no_integers():
    with pytest.raises(ValueError, match="dtype is torch.int64"):
        data.gaussian_two_block(3, 100, 0.5, seed=0, dtype=torch.int64)


# --- mixtures and axes ------------------------------------------------------------------------


def test_counts_of_a_two_axis_sample_are_exact():
    for n, rho in ((4, 0.5), (1_000, 0.9), (1_001, 1.0)):
        sample = data.two_axis_sample(n, rho, 2, 1, 0.5, 0.5, extra=2)
        assert sample.x.shape == (n, 4) and int((sample.label > 0).sum()) == (n + 1) // 2
        assert int(sample.aligned.sum()) == pytest.approx(rho * n, abs=1)
        assert np.array_equal(sample.core, sample.label)  # kappa is 1


def test_a_two_axis_sample_is_the_one_of_all_results():
    sample = data.two_axis_sample(6, 0.9, 2, 1, 0.5, 0.5, 0.9, extra=1, seed=2)
    expected = [
        [1.837, 1.387, 0.281],
        [-2.277, -0.511, -0.311],
        [1.836, 0.604, 0.455],
        [-2.05, -0.727, -0.607],
        [2.063, 0.554, 0.841],
        [-1.906, -0.835, 0.411],
    ]
    np.testing.assert_allclose(sample.x, expected, atol=6e-4)
    assert sample.bias.tolist() == [1, -1, 1, -1, 1, -1]
    assert sample.core.tolist() == [1, -1, 1, -1, 1, -1]


@pytest.mark.parametrize("change", [{"samples": 3}, {"extra": -1}, {"noise": -0.1}])
def test_two_axis_samples_that_do_not_exist(change):
    good = dict(samples=4, rho=0.9, m_s=1, m_c=1, sigma_s=1, sigma_c=1, extra=0, noise=0)
    assert data.two_axis_sample(**good).x.shape == (4, 2)
    with pytest.raises(ValueError, match="expected at least 4, 0 and 0"):
        data.two_axis_sample(**good | change)
