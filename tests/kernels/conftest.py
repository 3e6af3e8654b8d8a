"""What the tests of kernels share: a network and a kernel of clustered points."""

import pytest
import torch

from helpers import kernels


class _Network(torch.nn.Module):
    """ReLU network without biases in NTK parametrisation: standard normal weights."""

    def __init__(self, dim: int, width: int, depth: int, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        sizes = [dim, *[width] * depth]
        self.layers = torch.nn.ParameterList(
            torch.randn(b, a, generator=draw, dtype=torch.float64)
            for a, b in zip(sizes, [*sizes[1:], 1], strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = iter(self.layers)  # a slice of a ParameterList would detach its members
        h = first @ x.T
        for weights in others:
            h = weights @ torch.relu(h) * (2 / h.shape[0]) ** 0.5
        return h[0]


def _digits_like(n: int, seed: int, queries: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """A ReLU kernel of clustered points, and its block with queries."""
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(n + queries, 6, generator=draw, dtype=torch.float64)
    X[:, 0] += 3 * torch.sign(X[:, 1])
    return kernels.relu_ntk(X[:n]), kernels.relu_ntk(X[n:], X[:n])


@pytest.fixture(scope="session")
def network():
    return _Network


@pytest.fixture(scope="session")
def digits_like():
    return _digits_like
