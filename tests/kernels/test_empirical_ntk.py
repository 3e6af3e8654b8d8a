"""Kernels of any module against explicit Jacobians, and products with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import kernels


def points(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=10)
@given(st.integers(1, 5_000), st.integers(0, 3))
def test_empirical_ntk_does_not_depend_on_its_blocks(memory, seed):
    X = points(6, 3, seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    network = network.double()
    jacobian = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(network(x)[0], network.parameters())]
            )
            for x in X
        ]
    )
    for other, right in ((None, jacobian), (X[:2], jacobian[:2])):
        got = kernels.empirical_ntk(network, X, other, memory=memory)
        assert torch.allclose(got, jacobian @ right.T, atol=1e-12)


def test_empirical_ntk_of_a_network_with_batch_normalisation_and_frozen_parts():
    conv = torch.nn.Conv2d(1, 2, 3)
    network = torch.nn.Sequential(
        conv, torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 1)
    )
    conv.requires_grad_(False)
    X = points(3, 16, 0, torch.float32).view(3, 1, 4, 4)
    with pytest.raises(ValueError, match="train mode and layer '1'.*model.eval"):
        kernels.empirical_ntk(network, X)
    kernel = kernels.empirical_ntk(network.eval(), X)
    assert torch.linalg.eigvalsh(kernel).min() > 0
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "X", "message"),
    [
        (torch.nn.Linear(2, 3), torch.ones(2, 2), r"returns shape \(1, 3\) for one sample"),
        (torch.nn.ReLU(), torch.ones(2, 2), "no trainable parameters"),
        (torch.nn.Linear(2, 1), torch.full((2, 2), float("nan")), "not finite"),
        (torch.nn.Linear(2, 1), torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        (torch.nn.Linear(2, 1), torch.ones(0, 2), "at least one"),
        (torch.nn.Linear(2, 1), torch.ones(2, 2).double(), "parameters torch.float32 on cpu"),
    ],
)
def test_empirical_ntk_names_bad_inputs(network, X, message):
    with pytest.raises(ValueError, match=message):
        kernels.empirical_ntk(network, X)


@pytest.mark.parametrize("batch", [1, 4, 256])
def test_products_are_those_of_the_kernel(network, batch):
    X, net = points(11, 6, 0), network(6, 30, 2, seed=0)
    K = kernels.empirical_ntk(net, X)
    product = kernels.ntk_product(net, X, batch=batch)
    block = points(11, 3, 1)
    torch.testing.assert_close(product(block), K @ block, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(product(block[:, 0]), K @ block[:, 0], rtol=1e-9, atol=1e-9)


def test_products_with_convolutions_normalisation_and_frozen_parts():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 1),
    ).double()
    net[0].bias.requires_grad_(False)
    X = points(6, 16, 0).view(6, 1, 4, 4)
    with pytest.raises(ValueError, match="train mode and layer '1'.*model.eval"):
        kernels.ntk_product(net, X)
    net.eval()
    product = kernels.ntk_product(net, X)
    identity = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(
        product(identity), kernels.empirical_ntk(net, X), rtol=1e-9, atol=1e-9
    )
    assert all(p.grad is None for p in net.parameters())


def test_dropout_is_refused_in_train_mode_only():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    X = points(3, 4, 0, torch.float32)
    for make in (kernels.empirical_ntk, kernels.ntk_product):
        with pytest.raises(ValueError, match="layer '1' drops units at random.*model.eval"):
            make(net, X)
    net.eval()
    K = kernels.empirical_ntk(net, X)
    torch.testing.assert_close(kernels.ntk_product(net, X)(torch.eye(3)), K)


@pytest.mark.parametrize("vector", [torch.ones(2), torch.ones(3, 1, 1), torch.ones(4, 2)])
def test_products_name_vectors_of_another_shape(vector):
    product = kernels.ntk_product(torch.nn.Linear(2, 1), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"vector has shape .*expected \(3,\) or \(3, b\)"):
        product(vector)


@pytest.mark.parametrize(
    ("network", "X", "message"),
    [
        (torch.nn.Linear(2, 3), torch.ones(2, 2), r"returns shape \(1, 3\) for one sample"),
        (torch.nn.ReLU(), torch.ones(2, 2), "no trainable parameters"),
        (torch.nn.Linear(2, 1), torch.full((2, 2), float("nan")), "not finite"),
    ],
)
def test_products_name_bad_models_and_inputs(network, X, message):
    with pytest.raises(ValueError, match=message):
        kernels.ntk_product(network, X)
