"""Functions of a kernel applied to a vector, and the Lanczos process behind them."""

import math
from collections.abc import Callable, Sequence

import torch

from helpers.kernels.inputs import check_finite, check_no_negative, check_symmetric
from helpers.kernels.modes import Product, symmetric_product


def krylov_filters(
    K: torch.Tensor,
    y: torch.Tensor,
    filters: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    *,
    dimension: int = 100,
) -> torch.Tensor:
    r"""Coefficients :math:`a = g(K)\,y` for functions g of the eigenvalues, so that f = K(x, X) a.

    A trained network needs all modes, not the leading ones, but each through a smooth function:
    :math:`g(\lambda) = (1 - (1-\eta\lambda)^t)/\lambda` after t steps of gradient descent,
    :math:`1/(\lambda + k)` with a ridge. Lanczos vectors from y serve them all:
    :math:`g(K) y \approx \|y\|\, Q\, g(T)\, e_1`, with no eigenvector of K. (SciPy 1.17's
    `funm_multiply_krylov` runs anew for each function, does not say when it has not converged, and
    breaks where the vectors end early, as from an eigenvector y.)

    Args:
        K: `(n, n)` symmetric kernel.
        y: `(n,)` labels or any other numbers.
        filters: functions of a float64 tensor of eigenvalues.
        dimension: Lanczos vectors, at most n; all are kept orthogonal, at a cost of n times its
            square. A filter as sharp as m steps of gradient descent needs a few times root m.

    Returns:
        `(filters, n)` float64 coefficients.

    Raises:
        ValueError: a matrix that is not symmetric or has a negative eigenvalue beyond rounding, y
            of another length, zero or not finite, no filters, or coefficients that are not finite
            or still change by more than 0.1 % over the last tenth of the dimension.

    Source: Druskin & Knizhnerman 1989; Hochbruck & Lubich 1997.

    >>> K = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> krylov_filters(K, torch.tensor([1.0, -1.0]), [lambda v: 1 / (v + 1)]).round(decimals=4)
    tensor([[ 0.3333, -0.5000]], dtype=torch.float64)
    """
    check_symmetric(K)
    if y.shape != (len(K),) or not bool(y.any()):
        raise ValueError(f"y has shape {tuple(y.shape)}: expected ({len(K)},), not all zero")
    check_finite(y, "y holds")
    if not filters:
        raise ValueError("there are no filters: at least one is needed")
    product, start = symmetric_product(K), y.double().cpu()

    def in_double(v: torch.Tensor) -> torch.Tensor:
        return product(v[:, None].to(K))[:, 0].double().cpu()

    basis, T, _ = lanczos(in_double, start / start.norm(), dimension, smallest=1e-10)
    found = []
    for count in (max(1, round(0.9 * len(T))), len(T)):
        values, turn = torch.linalg.eigh(T[:count, :count])
        check_no_negative(values, K, "an eigenvalue")
        filtered = torch.stack([g(values.clamp_min(0)) for g in filters])
        found.append(start.norm() * (filtered * turn[0]) @ turn.T @ basis[:count])
    check_finite(found[-1], "filters give coefficients with")
    apart = ((found[-1] - found[0]).norm(dim=1) / found[-1].norm(dim=1)).nan_to_num(0).max()
    if len(T) < len(K) and float(apart) > 1e-3:
        raise ValueError(
            f"dimension is {dimension}: coefficients still change by {float(apart):.1e} over its "
            "last tenth; allow more, or take smoother filters"
        )
    return found[-1]


def lanczos(
    product: Product, start: torch.Tensor, steps: int, *, smallest: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Lanczos process, all vectors kept and kept orthogonal.

    Args:
        product: with a symmetric matrix, from `(n,)` to `(n,)`.
        start: `(n,)` of length 1; its precision and device are those of the whole computation.
        steps: products at most, at least 1.
        smallest: where a new vector counts as nothing, relative to the largest entry of T; ten
            roundings if None.

    Returns:
        basis `(m, n)`, rows that span the products' space, m the steps or less where it ends early;
        T `(m, m)` float64, tridiagonal; the entry that would follow beside its diagonal.

    Raises:
        ValueError: a start of another length than 1, no steps, or products that are not finite.

    Source: Lanczos 1950; Parlett 1980 (twice orthogonalised is enough).
    """
    if steps < 1 or start.ndim != 1 or not abs(float(start.norm()) - 1) < 1e-3:
        raise ValueError(
            f"steps is {steps}, start has shape {tuple(start.shape)} and length "
            f"{float(start.norm()):.3g}: expected at least 1, (n,) and length 1"
        )
    smallest = 10 * torch.finfo(start.dtype).eps if smallest is None else smallest
    size = min(steps, len(start))
    basis = start.new_zeros(size, len(start))
    basis[0] = start
    T = torch.zeros(size, size, dtype=torch.float64)
    for j in range(size):
        image = product(basis[j])
        T[j, j] = basis[j] @ image
        for _ in range(2):
            image = image - basis[: j + 1].T @ (basis[: j + 1] @ image)
        beyond = float(image.norm())
        if not math.isfinite(beyond):
            raise ValueError("a product with the matrix holds values that are not finite")
        done = beyond <= smallest * float(T.abs().max())
        if done or j + 1 == size:
            return basis[: j + 1], T[: j + 1, : j + 1], 0.0 if done else beyond
        basis[j + 1] = image / beyond
        T[j, j + 1] = T[j + 1, j] = beyond
    raise AssertionError("unreachable")
