"""Leading eigenvalues and eigenvectors of a kernel, from its products with vectors.

Source: Lanczos 1950 and block subspace iteration (Golub & Van Loan 2013, chapters 8 and 10).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.linalg import blas
from scipy.sparse.linalg import LinearOperator, eigsh

from helpers.kernels.inputs import check_finite, check_symmetric

Product = Callable[[torch.Tensor], torch.Tensor]
Start = Callable[..., torch.Tensor]  # random numbers of a shape
_MOST = 60  # products of the block method


class Modes(NamedTuple):
    """Leading eigenpairs of a symmetric matrix.

    Attributes:
        values: `(k,)` eigenvalues, the largest first.
        vectors: `(n, k)` orthonormal eigenvectors, one a column.
        reads: how often the matrix was read from memory to find them.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    reads: int


def top_modes(
    K: torch.Tensor | Product,
    modes: int,
    *,
    size: int | None = None,
    solver: Literal["lanczos", "subspace"] = "lanczos",
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Modes:
    r"""The leading eigenpairs, without the cubic cost of a full decomposition.

    `"lanczos"` is ARPACK's implicitly restarted Lanczos method: one vector at a time, so a product
    does 2 operations for each entry it reads and waits for memory. Of a symmetric matrix on the CPU
    it reads one half only. `"subspace"` is a randomised block Krylov method: a block of vectors at
    a time and every earlier block kept, so that few reads are needed, but more operations. Which of
    the two is faster depends on the machine: the chapter on performance measures both.

    Args:
        K: symmetric `(n, n)` matrix, or a function from `(n, b)` to the product `(n, b)`.
        modes: how many eigenpairs.
        size: n, where `K` is a function.
        solver: see above.
        tolerance: the residual :math:`\|Kv - \lambda v\|` allowed, relative to the largest value,
            whatever its sign (`"subspace"`), or to each eigenvalue as the recurrence estimates it
            (`"lanczos"`). The eigenvalue is then within its square over the gap to the other
            eigenvalues, and the angle of the eigenvector within tolerance over relative gap: modes
            that are closer than that mix with each other. In float32 the products round at about
            1e-7.
        seed: seed of the start.

    Raises:
        ValueError: more modes than the matrix has, a matrix that is not symmetric, values that are
            not finite, products of another shape, an unknown solver, a negative tolerance.
        RuntimeError: no convergence.

    Source: Lehoucq, Sorensen & Yang 1998 (ARPACK); Musco & Musco 2015 (block Krylov).

    >>> top_modes(torch.diag(torch.tensor([1.0, 5.0, 3.0, 0.5, 0.1])), 2).values.round().tolist()
    [5.0, 3.0]
    """
    given = isinstance(K, torch.Tensor)
    if given:
        check_symmetric(K)
    elif size is None:
        raise ValueError("size is None: a matrix given by its products needs its size")
    n = len(K) if given else size
    if not 1 <= modes <= n:
        raise ValueError(f"modes is {modes}: a matrix of size {n} has 1 to {n}")
    if solver not in ("lanczos", "subspace"):
        raise ValueError(f"solver is {solver!r}: allowed are 'lanczos' and 'subspace'")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}: allowed is 0 or more")
    if given:
        product = symmetric_product(K) if solver == "lanczos" else K.__matmul__
        like, some = K, bool(K.diagonal().any() or K.any())
    else:
        like = torch.empty(0, dtype=torch.float64)
        product, some = _checked_product(K, n, seed)
    if not some:  # ARPACK has no start then
        return Modes(like.new_zeros(modes), torch.eye(n, modes).to(like), 1)
    start = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    solve = _lanczos if solver == "lanczos" else _subspace
    return solve(product, n, modes, like, tolerance, start)


def _checked_product(given: Product, n: int, seed: int) -> tuple[Product, bool]:
    """A product that is seen to be finite and of its shape, and whether the matrix is not zero."""

    def product(block: torch.Tensor) -> torch.Tensor:
        image = given(block).to(block)  # products may be in single precision
        if image.shape != block.shape:
            shapes = f"{tuple(block.shape)} has shape {tuple(image.shape)}"
            raise ValueError(f"the product of the kernel with a block of shape {shapes}")
        check_finite(image, "a product of the kernel holds")
        return image

    pair = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    images = product(pair).to(pair)
    images = images / images.abs().max().clamp_min(torch.finfo(images.dtype).tiny)
    (_, one), (other, _) = (pair.T @ images).tolist()
    if abs(one - other) > 1e-4 * float(pair.norm() * images.norm()):
        raise ValueError("the kernel is not symmetric: u K v is not v K u for two random vectors")
    return product, bool(images.any())


def _lanczos(
    product: Product, n: int, modes: int, like: torch.Tensor, tolerance: float, start: Start
) -> Modes:
    if modes >= n - 1:  # ARPACK needs room; such a matrix is small
        return dense_modes(product(torch.eye(n, dtype=like.dtype, device=like.device)), modes)
    reads = 0

    def matvec(vector: np.ndarray) -> np.ndarray:
        nonlocal reads
        reads += 1
        block = torch.from_numpy(vector.reshape(n, -1)).to(like)
        return product(block).double().cpu().numpy()

    operator = LinearOperator((n, n), matvec=matvec, matmat=matvec, dtype=np.float64)
    values, vectors = eigsh(operator, modes, which="LA", v0=start(n).numpy(), tol=tolerance)
    order = np.argsort(-values)
    found = torch.from_numpy(vectors[:, order].copy()).to(like)
    return Modes(torch.from_numpy(values[order].copy()).to(like), found, reads)


def symmetric_product(matrix: torch.Tensor) -> Product:
    """Products with a matrix of which, on the CPU, only one half is read."""
    if matrix.device.type != "cpu" or not matrix.is_contiguous():
        return matrix.__matmul__
    symv = blas.ssymv if matrix.dtype == torch.float32 else blas.dsymv
    columns = matrix.numpy().T  # BLAS counts by columns: the transpose is free, and the same matrix

    def product(block: torch.Tensor) -> torch.Tensor:
        vectors = [torch.from_numpy(symv(1.0, columns, column.numpy())) for column in block.T]
        return torch.stack(vectors, 1)

    return product


def _subspace(
    product: Product, n: int, modes: int, like: torch.Tensor, tolerance: float, start: Start
) -> Modes:
    """Rayleigh-Ritz in all that a block and its images span; when that is large, a new start."""
    width = min(n, modes + max(5, modes // 4))
    block = start(n, width).to(like)
    basis, images = like.new_empty(n, 0), like.new_empty(n, 0)
    worst = math.inf
    for reads in range(1, _MOST + 1):
        block = _orthonormal(block, basis)
        image = product(block)
        basis, images = torch.cat([basis, block], 1), torch.cat([images, image], 1)
        small = (basis.T @ images).double()
        values, turn = torch.linalg.eigh((small + small.T) / 2)
        scale = float(values.abs().max()) or 1.0
        kept = min(width, basis.shape[1])
        values, turn = values.flip(0)[:kept], turn.flip(1)[:, :kept].to(images)
        vectors, turned = basis @ turn, images @ turn
        residual = (turned - vectors * values.to(images))[:, :modes] / scale
        worst = float(residual.norm(dim=0).max())
        if worst <= tolerance or basis.shape[1] == n:
            return Modes(values[:modes].to(like), vectors[:, :modes], reads)
        block = image
        if basis.shape[1] + width > min(n, 10 * width):  # room for ten blocks, then the best again
            basis, images, block = vectors, turned, turned - vectors * values.to(images)
        block = block[:, : n - basis.shape[1]]
    raise RuntimeError(
        f"block Krylov method: residual {worst:.1e} after {_MOST} passes, above the tolerance "
        f"{tolerance:.1e}; raise it, or ask for other than {modes} modes: the last one may be "
        "too close to its neighbours"
    )


def _orthonormal(block: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of what the block adds; twice, or more often while digits are lost."""
    for passes in range(10):
        block, R = torch.linalg.qr(block - basis @ (basis.T @ block))
        if passes and R.diagonal().abs().min() > 0.5:
            break
    return block


def dense_modes(K: torch.Tensor, modes: int) -> Modes:
    """The leading eigenpairs by a full decomposition (LAPACK), for small matrices."""
    values, vectors = torch.linalg.eigh(K)
    return Modes(values.flip(0)[:modes], vectors.flip(1)[:, :modes], 1)
