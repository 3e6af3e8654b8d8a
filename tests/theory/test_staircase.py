"""The staircase against measurement, against the law that it contains, and at its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import data, kernels, theory
from helpers.kernels import alignment
from helpers.theory.staircase import _novelty, _sphere

names = st.sampled_from(["relu", "tanh", "step"])  # never singular
dims = st.integers(10, 300)


def gelu(t):
    return torch.nn.functional.gelu(t)


def ntk(Z, Z2, derivative):
    return (Z @ Z2.T / Z.shape[1]) * kernels.infinite_width(Z, Z2, activation=derivative)


def rf(Z, Z2, activation):
    return kernels.infinite_width(Z, Z2, activation=activation)


def measured(kernel, activation, samples, dim, alpha):
    """Mean alignment of zeroed and of resampled queries, over training sets and new cores."""
    means = {"zero": [], "resample": []}
    for seed in range(max(2, 600 // samples)):
        x, y = data.gaussian_two_block(samples, dim, alpha, seed=seed, normalise=True)
        Z = torch.cat([x, y], 1).double()
        fitted = alignment.interpolate(kernel(Z, Z, activation))
        cores = [("zero", torch.zeros_like(x))]
        for draw in range(6 if samples < 100 else 2):  # many samples are an average themselves
            core, _ = data.gaussian_two_block(
                samples, dim, alpha, seed=10_000 + 100 * seed + draw, normalise=True
            )
            cores.append(("resample", core))
        for query, core in cores:
            Zs = torch.cat([core, y], 1).double()
            means[query].append(float(fitted.alignment(kernel(Zs, Z, activation)).mean()))
    return [np.mean(each) for each in means.values()]


@pytest.mark.parametrize(
    ("kernel", "law", "activation"),
    [
        (rf, theory.gamma_staircase, gelu),
        (rf, theory.gamma_staircase, torch.sin),
        (rf, theory.gamma_staircase, "h1+h4"),  # kept 10 to 15 % with weights of large d
        (ntk, theory.gamma_staircase_ntk, "h0+h2"),
        (ntk, theory.gamma_staircase_ntk, "step"),
    ],
)
@pytest.mark.parametrize(("dim", "alpha"), [(25, 0.4), (40, 0.7)])
def test_it_is_what_is_measured_on_either_side_of_each_step(kernel, law, activation, dim, alpha):
    """Below d, between d and d^2/2, and past d^2/2: where the two-level law is off by a half."""
    for samples in (dim // 2, 5 * dim, int(0.8 * dim**2)):
        zero, resample = measured(kernel, activation, samples, dim, alpha)
        assert law(activation, alpha, samples, dim, "zero") == pytest.approx(zero, rel=0.02)
        assert law(activation, alpha, samples, dim) == pytest.approx(resample, rel=0.05)


def test_the_law_of_two_levels_fails_where_this_one_holds():
    found, _ = measured(rf, "relu", 800, 32, 0.5)
    assert theory.gamma_staircase("relu", 0.5, 800, 32, "zero") == pytest.approx(found, rel=0.01)
    assert theory.gamma_rf("relu", 0.5, 25, "zero", samples=800) > 1.2 * found


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("ratio", [0.1, 1, 10])
@pytest.mark.parametrize("name", ["relu", "tanh", "phi4"])
def test_it_contains_the_law_of_two_levels_in_high_dimension(name, ratio, query):
    law = theory.gamma_rf(name, 0.3, ratio, query, samples=5_000 * ratio)
    assert theory.gamma_staircase(name, 0.3, 5_000 * ratio, 5_000, query) == pytest.approx(
        law, rel=0.01
    )


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("name", ["h0+h3", "step"])
def test_the_ntk_version_contains_its_own_law(name, query):
    law = theory.gamma_ntk(name, 0.4, 2.0, query)
    found = theory.gamma_staircase_ntk(name, 0.4, 20_000, 10_000, query)
    assert found == pytest.approx(law, rel=0.01)


@given(names, st.floats(0.3, 0.7), dims, st.floats(1, 3e4), st.floats(1, 3e4))
def test_it_falls_with_the_samples_between_0_and_1(name, alpha, dim, a, b):
    few, many = theory.gamma_staircase(name, alpha, sorted((a, b)), dim)
    assert 0 < many <= few + 1e-9 < 1


@given(names, dims, st.floats(1, 1e4))
def test_it_rises_with_the_share(name, dim, samples):
    rising = theory.gamma_staircase(name, np.array([0.25, 0.4, 0.55, 0.7]), samples, dim)
    assert (np.diff(rising) > 0).all()


def test_one_sample_is_the_cosine_of_its_features():
    x, y = data.gaussian_two_block(4_000, 40, 0.5, seed=0, normalise=True)
    core = torch.zeros_like(x)
    Z, Zs = torch.cat([x, y], 1).double()[:1], torch.cat([core, y], 1).double()[:1]
    found = rf(Zs, Z, "relu") / rf(Z, Z, "relu")
    assert theory.gamma_staircase("relu", 0.5, 1, 40, "zero") == pytest.approx(float(found), 1e-6)


def test_arrays_are_broadcast_and_numbers_stay_numbers():
    table = theory.gamma_staircase("tanh", [[0.3], [0.6]], [10, 200, 3_000], 50)
    assert table.shape == (2, 3)
    one = theory.gamma_staircase("tanh", 0.6, 200, 50)
    assert isinstance(one, float) and table[1, 1] == pytest.approx(one, rel=1e-12)


@given(st.integers(2, 2_000))
def test_harmonics_are_orthonormal_and_counted(dim):
    nodes, weights, table, counts = _sphere(dim)
    table = table[counts < 1e10]  # of the others nothing is learned
    assert np.allclose((table * weights) @ table.T, np.eye(len(table)), atol=1e-7)
    assert weights @ nodes**2 == pytest.approx(1 / dim)
    assert counts[:3] == pytest.approx([1, dim, dim * (dim + 1) / 2 - 1])


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.floats(0, 1e6), st.floats(1e-3, 1))
def test_novelty_solves_its_equation(weights, others, rest):
    weights, counts = np.array(weights), 10.0 ** np.arange(len(weights))
    kappa = _novelty(weights, counts, weights.sum() + rest, np.array([others]))[0]
    rho = 1 / (1 + others * weights / (counts * kappa))
    assert kappa == pytest.approx(rest + weights @ rho, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relu", 0.5, 0.5, 40), "samples is 0.5"),
        (("relu", 0.5, np.inf, 40), "samples is inf"),
        (("relu", 0.5, np.nan, 40), "samples is nan"),
        (("relu", np.nan, 9, 40), "alpha is nan"),
        (("relu", 0.01, 9, 40), "alpha is 0.01 at dim 40"),
        (("relu", 1.0, 9, 40), "alpha is 1 at dim 40"),
        (("relu", 0.5, 9, 0), "dim is 0"),
        (("relu", 0.5, 9, 40, "blank"), "query is 'blank'"),
        (("h0", 0.5, 9, 40), "constant"),
        (("h1+h2", 0.5, 900, 40), "no more harmonics than samples"),
        (("linear", 0.5, 41, 40), "no more harmonics than samples"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.gamma_staircase(*arguments)
