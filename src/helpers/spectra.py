r"""Eigenfeatures of a kernel: which modes a network learns, in which order, and what they predict.

On n training inputs the kernel has eigenpairs :math:`K v_i = \lambda_i v_i`,
:math:`\lambda_1 \ge \lambda_2 \ge \dots`. Lim, Kim & Moon (2025) call eigenfunction i *feature* i
and split the trained output of a network in the lazy regime into

.. math::
   f(x) = \sum_i f^{(i)}(x), \qquad
   f^{(i)}(x) = K(x, X)\, \lambda_i^{-1} \langle v_i, y\rangle\, v_i .

Gradient descent on the squared loss with step :math:`\eta` multiplies each term by
:math:`1 - (1 - \eta\lambda_i)^t`. Everywhere in this module `values` are eigenvalues of `K(X, X)`;
those of the population operator are `values / n`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.linalg import blas
from scipy.sparse.linalg import LinearOperator, eigsh

Product = Callable[[torch.Tensor], torch.Tensor]


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
        tolerance: the residual :math:`\|Kv - \lambda v\|` allowed, relative to the largest value
            (`"subspace"`) or to each eigenvalue as the recurrence estimates it (`"lanczos"`). The
            eigenvalue is then within its square over the gap to the other eigenvalues, and the
            angle of the eigenvector within tolerance over relative gap: modes that are closer
            than that mix with each other. In float32 the products round at about 1e-7.
        seed: seed of the start.

    Raises:
        ValueError: more modes than the matrix has, a matrix that is not symmetric, values that are
            not finite, an unknown solver.
        RuntimeError: no convergence.

    Source: Lehoucq, Sorensen & Yang 1998 (ARPACK); Musco & Musco 2015 (block Krylov).

    >>> top_modes(torch.diag(torch.tensor([1.0, 5.0, 3.0, 0.5, 0.1])), 2).values.round().tolist()
    [5.0, 3.0]
    """
    if isinstance(K, torch.Tensor):
        _check_symmetric(K)
        n, like, matrix = len(K), K, K
        product = _symmetric(matrix) if solver == "lanczos" else matrix.__matmul__
    else:
        if size is None:
            raise ValueError("size is None: a matrix given by its products needs its size")
        product, n, like = K, size, torch.empty(0, dtype=torch.float64)
    if not 1 <= modes <= n:
        raise ValueError(f"modes is {modes}: a matrix of size {n} has 1 to {n}")
    generator = torch.Generator().manual_seed(seed)
    if solver == "lanczos":
        return _lanczos(product, n, modes, like, tolerance, generator)
    if solver == "subspace":
        return _subspace(product, n, modes, like, tolerance, generator)
    raise ValueError(f"solver is {solver!r}: allowed are 'lanczos' and 'subspace'")


def _lanczos(
    product: Product,
    n: int,
    modes: int,
    like: torch.Tensor,
    tolerance: float,
    generator: torch.Generator,
) -> Modes:
    if modes >= n - 1:  # ARPACK needs room; such a matrix is small
        return _dense(product(torch.eye(n, dtype=like.dtype, device=like.device)), modes)
    reads = 0

    def matvec(vector: np.ndarray) -> np.ndarray:
        nonlocal reads
        reads += 1
        block = torch.from_numpy(vector.reshape(n, -1)).to(like)
        return product(block).double().cpu().numpy()

    start = torch.randn(n, dtype=torch.float64, generator=generator).numpy()
    operator = LinearOperator((n, n), matvec=matvec, matmat=matvec, dtype=np.float64)
    values, vectors = eigsh(operator, modes, which="LA", v0=start, tol=tolerance)
    order = np.argsort(-values)
    found = torch.from_numpy(vectors[:, order].copy()).to(like)
    return Modes(torch.from_numpy(values[order].copy()).to(like), found, reads)


def _symmetric(matrix: torch.Tensor) -> Product:
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
    product: Product,
    n: int,
    modes: int,
    like: torch.Tensor,
    tolerance: float,
    generator: torch.Generator,
    most: int = 60,
) -> Modes:
    """Rayleigh-Ritz in all that a block and its images span; when that is large, a new start."""
    width = min(n, modes + max(5, modes // 4))
    block = torch.randn(n, width, dtype=torch.float64, generator=generator).to(like)
    basis, images = like.new_empty(n, 0), like.new_empty(n, 0)
    worst = math.inf
    for reads in range(1, most + 1):
        block = _orthonormal(block, basis)
        image = product(block)
        basis, images = torch.cat([basis, block], 1), torch.cat([images, image], 1)
        small = (basis.T @ images).double()
        values, turn = torch.linalg.eigh((small + small.T) / 2)
        kept = min(width, basis.shape[1])
        values, turn = values.flip(0)[:kept], turn.flip(1)[:, :kept].to(images)
        vectors, turned = basis @ turn, images @ turn
        residual = (turned - vectors * values.to(images)).norm(dim=0)[:modes].max()
        worst = float(residual / values[0].abs().clamp_min(torch.finfo(like.dtype).tiny))
        if worst <= tolerance or basis.shape[1] == n:
            return Modes(values[:modes].to(like), vectors[:, :modes], reads)
        block = image
        if basis.shape[1] + width > min(n, 10 * width):  # room for ten blocks, then the best again
            basis, images, block = vectors, turned, turned - vectors * values.to(images)
        block = block[:, : n - basis.shape[1]]
    raise RuntimeError(
        f"block Krylov method: residual {worst:.1e} after {most} passes, above the tolerance "
        f"{tolerance:.1e}; raise it, or ask for other than {modes} modes: the last one may be "
        "too close to its neighbours"
    )


def _orthonormal(block: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of what the block adds; twice, since once loses digits."""
    for _ in range(2):
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
    return block


def _dense(K: torch.Tensor, modes: int) -> Modes:
    values, vectors = torch.linalg.eigh(K)
    return Modes(values.flip(0)[:modes], vectors.flip(1)[:, :modes], 1)


# -- features ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Eigenfeatures:
    """The features of a kernel on a labelled training set.

    Attributes:
        values: `(k,)` eigenvalues of K(X, X), the largest first, all above the cut-off.
        vectors: `(n, k)` eigenvectors.
        weights: `(k,)` inner products of eigenvectors and labels.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)

    def on(self, K_query: torch.Tensor, *, filters: torch.Tensor | None = None) -> torch.Tensor:
        r"""The terms :math:`f^{(i)}(x)` at the queries, `(m, k)`; their sum over i is the output.

        Args:
            K_query: `(m, n)` kernel between the queries and the training inputs.
            filters: `(k,)` factors, such as those of :meth:`learned` or :meth:`ridge`.

        Raises:
            ValueError: a block of another width.
        """
        if K_query.ndim != 2 or K_query.shape[1] != len(self.vectors):
            raise ValueError(
                f"K_query has shape {tuple(K_query.shape)}: expected (m, {len(self.vectors)})"
            )
        factors = self.weights / self.values
        if filters is not None:
            factors = factors * filters
        return (K_query.to(self.vectors) @ self.vectors) * factors

    def learned(self, step: float, time: float | torch.Tensor) -> torch.Tensor:
        r"""Share of each feature that is learnt, :math:`1 - (1 - \eta\lambda_i)^t`, `(k,)`.

        Args:
            step: step size of gradient descent on half the sum of squared errors.
            time: number of steps.

        Raises:
            ValueError: a step at which gradient descent diverges.
        """
        if not 0 < step * float(self.values[0]) < 2:
            raise ValueError(
                f"step is {step:g}: gradient descent converges between 0 and "
                f"{2 / float(self.values[0]):.3g}, twice the inverse of the largest eigenvalue"
            )
        return 1 - (1 - step * self.values) ** time

    def ridge(self, strength: float) -> torch.Tensor:
        r"""Share of each feature that a ridge leaves, :math:`\lambda_i / (\lambda_i + k)`."""
        if not strength >= 0:
            raise ValueError(f"strength is {strength}: a ridge is at least 0")
        return self.values / (self.values + strength)

    def half_life(self, step: float) -> torch.Tensor:
        r"""Steps until half of each feature is learnt, `(k,)`; argument and error as in `learned`.

        :math:`\log 2/(-\log|1 - \eta\lambda_i|)`. A feature with :math:`\eta\lambda_i > 1`
        overshoots; its time is that at which the error has halved.
        """
        self.learned(step, 1)
        rate = step * self.values
        return math.log(2) / -torch.where(rate < 1, torch.log1p(-rate), (rate - 1).log())


def eigenfeatures(
    K: torch.Tensor,
    y: torch.Tensor,
    *,
    modes: int | None = None,
    cutoff: float = 1e-10,
    solver: Literal["lanczos", "subspace"] = "lanczos",
) -> Eigenfeatures:
    r"""The features of a kernel for labels of two classes.

    Args:
        K: `(n, n)` kernel matrix, symmetric and positive semidefinite.
        y: `(n,)` labels -1 and +1.
        modes: the leading features only, by :func:`top_modes`; None for all of them.
        cutoff: features with an eigenvalue below this share of the largest are left out. Their
            inverse multiplies rounding errors: in single precision nothing below 1e-6 means
            anything.
        solver: of :func:`top_modes`.

    Raises:
        ValueError: labels other than -1 and +1, a matrix that is not symmetric or has a negative
            eigenvalue beyond rounding, more modes than samples.

    Source: Lim, Kim & Moon 2025, definition of the features.

    >>> K = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> found = eigenfeatures(K, torch.tensor([1.0, -1.0]))
    >>> found.on(K).abs().tolist()                    # on the training set they sum to the labels
    [[1.0, 0.0], [0.0, 1.0]]
    """
    _check_symmetric(K)
    if y.shape != (len(K),) or not bool(((y == 1) | (y == -1)).all()):
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and values {torch.unique(y)[:5].tolist()}: "
            f"expected {len(K)} labels -1 and +1"
        )
    if modes is None:
        values, vectors, _ = _dense(K, len(K))
    else:
        values, vectors, _ = top_modes(K, modes, solver=solver)
    lowest, largest = float(values[-1]), float(values[0])
    if lowest < -len(K) * torch.finfo(K.dtype).eps * abs(largest):  # beyond what rounding does
        last = "the smallest eigenvalue" if modes is None else f"eigenvalue {modes}"
        raise ValueError(
            f"{last} is {lowest:.3g} against a largest of {largest:.3g}: a kernel has none below "
            "0, apart from rounding"
        )
    kept = values > cutoff * values[0]
    values, vectors = values[kept], vectors[:, kept]
    return Eigenfeatures(values, vectors, vectors.T @ y.to(vectors))


def alignment(vectors: torch.Tensor, attribute: torch.Tensor) -> torch.Tensor:
    r"""Share of an attribute in each mode, :math:`A_i(a) = \langle v_i, a\rangle^2/\|a\|^2`.

    The shares of a whole basis sum to 1. Within eigenvalues that repeat only the sum over their
    modes has a meaning: see :func:`eigenspaces`.

    Args:
        vectors: `(n, k)` orthonormal columns.
        attribute: `(n,)` values, such as labels or the bias attribute.

    Returns:
        `(k,)` shares.

    Raises:
        ValueError: shapes that do not fit, an attribute that is zero.

    >>> alignment(torch.eye(2), torch.tensor([1.0, -1.0])).tolist()
    [0.5, 0.5]
    """
    if vectors.ndim != 2 or attribute.shape != (len(vectors),):
        raise ValueError(
            f"vectors have shape {tuple(vectors.shape)} and the attribute "
            f"{tuple(attribute.shape)}: expected (n, k) and (n,)"
        )
    attribute = attribute.to(vectors)
    if not bool(attribute.any()):
        raise ValueError("the attribute is zero everywhere: nothing can be aligned with it")
    return (vectors.T @ attribute).square() / attribute.square().sum()


def predictability(outputs: torch.Tensor, attribute: torch.Tensor) -> torch.Tensor:
    """Accuracy with which the sign of each mode tells an attribute, or its opposite, `(k,)`.

    Args:
        outputs: `(n, k)` eigenvectors or features; an eigenvector's own sign means nothing. An
            output of 0 is wrong either way.
        attribute: `(n,)` values -1 and +1.

    >>> predictability(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor([-1.0, 1.0])).tolist()
    [1.0, 0.5]
    """
    signed = outputs * attribute.to(outputs)[:, None]
    return torch.maximum((signed > 0).double().mean(0), (signed < 0).double().mean(0))


def energy_shares(features: torch.Tensor) -> torch.Tensor:
    r"""Share of each feature in the energy of the output, `(k,)`.

    :math:`E_i = \overline{f^{(i)}(x)^2} / \sum_j \overline{f^{(j)}(x)^2}`. On the training
    set this is the share of the labels in each mode and tells nothing new; the influence of a
    feature is its share on a *balanced* test set.

    Args:
        features: `(m, k)`, from :meth:`Eigenfeatures.on`.

    Raises:
        ValueError: features that are zero everywhere.

    >>> energy_shares(torch.tensor([[3.0, 1.0], [3.0, -1.0]])).tolist()
    [0.8999999761581421, 0.10000000149011612]
    """
    energy = features.square().mean(0)
    if not bool(energy.any()):
        raise ValueError("the features are zero everywhere: there is no energy to share")
    return energy / energy.sum()


def eigenspaces(values: torch.Tensor, gap: float = 1e-6) -> list[slice]:
    """Runs of eigenvalues that cannot be told apart, so that only their span has a meaning.

    Args:
        values: `(k,)` eigenvalues, the largest first.
        gap: neighbours closer than this, relative to the largest, belong together.

    >>> eigenspaces(torch.tensor([3.0, 1.0, 1.0, 0.5]))
    [slice(0, 1, None), slice(1, 3, None), slice(3, 4, None)]
    """
    steps = (values[:-1] - values[1:] > gap * values[0].abs()).nonzero().flatten() + 1
    edges = [0, *steps.tolist(), len(values)]
    return [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]


def shortcut_span(shares: torch.Tensor, share: float = 0.9) -> int:
    """How many leading modes hold this share of an attribute: 1 plus the index where it is passed.

    Raises:
        ValueError: the modes given hold less than that together.
    """
    total = shares.cumsum(0)
    if float(total[-1]) < share:
        raise ValueError(
            f"{len(shares)} modes hold {float(total[-1]):.3f} of the attribute: fewer than {share}"
        )
    return int((total < share).sum()) + 1


def first_sign_changing(vectors: torch.Tensor, share: float = 0.05) -> int:
    """Index of the first mode that has both signs.

    Where every entry of a kernel is positive, its first mode has one sign (Perron): an average of
    the data, in which labels have no part. Modes below the share count as such.

    Args:
        vectors: `(n, k)` eigenvectors.
        share: of samples, that must have the rarer sign.

    Raises:
        ValueError: no such mode.

    >>> first_sign_changing(torch.tensor([[0.6, 0.8], [0.8, -0.6]]))
    1
    """
    positive = (vectors > 0).double().mean(0)
    changing = (torch.minimum(positive, 1 - positive) >= share).nonzero().flatten()
    if not len(changing):
        raise ValueError(f"none of {vectors.shape[1]} modes has both signs on {share:.0%}")
    return int(changing[0])


# -- the whole output without the whole spectrum -----------------------------------------------


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
    :math:`g(K) y \approx \|y\|\, Q\, g(T)\, e_1`, with no eigenvector of K.

    Args:
        K: `(n, n)` symmetric kernel.
        y: `(n,)` labels or any other numbers.
        filters: functions of a float64 tensor of eigenvalues.
        dimension: Lanczos vectors, at most n; all are kept orthogonal, at a cost of n times its
            square. A filter as sharp as m steps of gradient descent needs a few times root m.

    Returns:
        `(filters, n)` float64 coefficients.

    Raises:
        ValueError: a matrix that is not symmetric, y of another length or zero, or coefficients
            that still change by more than 0.1 % over the last tenth of the dimension.

    Source: Druskin & Knizhnerman 1989; Hochbruck & Lubich 1997.

    >>> K = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> krylov_filters(K, torch.tensor([1.0, -1.0]), [lambda v: 1 / (v + 1)]).round(decimals=4)
    tensor([[ 0.3333, -0.5000]], dtype=torch.float64)
    """
    _check_symmetric(K)
    if y.shape != (len(K),) or not bool(y.any()):
        raise ValueError(f"y has shape {tuple(y.shape)}: expected ({len(K)},), not all zero")
    size = min(dimension, len(K))
    basis, diagonal, beside = _tridiagonal(K, y.double().cpu(), size)
    found = []
    for count in (max(1, round(0.9 * len(diagonal))), len(diagonal)):
        T = torch.diag(diagonal[:count])
        T += torch.diag(beside[: count - 1], 1) + torch.diag(beside[: count - 1], -1)
        values, turn = torch.linalg.eigh(T)
        filtered = torch.stack([g(values.clamp_min(0)) for g in filters])
        found.append(y.double().norm().cpu() * (filtered * turn[0]) @ turn.T @ basis[:count])
    apart = ((found[-1] - found[0]).norm(dim=1) / found[-1].norm(dim=1)).max()
    if len(diagonal) < len(K) and float(apart) > 1e-3:
        raise ValueError(
            f"dimension is {dimension}: coefficients still change by {float(apart):.1e} over its "
            "last tenth; allow more, or take smoother filters"
        )
    return found[-1]


def _tridiagonal(
    K: torch.Tensor, y: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lanczos vectors as rows `(s, n)`, the diagonal and what stands beside it; s up to `size`."""
    product = _symmetric(K)
    basis = torch.zeros(size, len(y), dtype=torch.float64)
    diagonal, beside = torch.zeros(size, dtype=torch.float64), []
    basis[0] = y / y.norm()
    for j in range(size):
        image = product(basis[j][:, None].to(K))[:, 0].double().cpu()
        diagonal[j] = basis[j] @ image
        for _ in range(2):
            image -= basis[: j + 1].T @ (basis[: j + 1] @ image)
        length = image.norm()
        if j + 1 == size or length <= 1e-10 * diagonal[: j + 1].abs().max():
            return basis[: j + 1], diagonal[: j + 1], torch.stack([*beside, length])[:-1]
        basis[j + 1] = image / length
        beside.append(length)
    raise AssertionError("unreachable")


# -- approximations ----------------------------------------------------------------------------


def nystrom(
    K_landmarks: torch.Tensor, K_query: torch.Tensor, modes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Eigenvalues of the kernel operator and eigenfunctions from m landmarks.

    :math:`\mu_i \approx \lambda_i(K_{mm})/m` and :math:`\varphi_i(x) \approx \sqrt m\,
    K(x, m)\,u_i/\lambda_i`. Separated modes come out well, those in the bulk too large: hold the
    result against :func:`rayleigh`.

    Args:
        K_landmarks: `(m, m)` kernel of the landmarks, a random part of the sample.
        K_query: `(n, m)` kernel between inputs and landmarks.
        modes: how many.

    Returns:
        `(k,)` eigenvalues of the operator, and `(n, k)` values of the eigenfunctions.

    Raises:
        ValueError: blocks that do not fit, more modes than landmarks.

    Source: Williams & Seeger 2001.

    >>> K = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    >>> values, functions = nystrom(K, K, 1)       # all inputs are landmarks: nothing is lost
    >>> values.tolist(), functions.square().mean(0).tolist()
    ([2.0], [1.0])
    """
    m = len(K_landmarks)
    if K_query.ndim != 2 or K_query.shape[1] != m:
        raise ValueError(f"K_query has shape {tuple(K_query.shape)}: expected (n, {m})")
    values, vectors, _ = top_modes(K_landmarks, modes)
    return values / m, math.sqrt(m) * (K_query @ vectors) / values


def rayleigh(K: torch.Tensor | Product, vectors: torch.Tensor) -> torch.Tensor:
    r"""Rayleigh quotients :math:`v^\top K v / v^\top v` of the columns, `(k,)`.

    A lower bound of the largest eigenvalue, whatever the columns; for an approximate eigenvector
    the error is quadratic in the vector's.
    """
    image = K @ vectors if isinstance(K, torch.Tensor) else K(vectors)
    return (vectors * image).sum(0) / vectors.square().sum(0)


def _check_symmetric(K: torch.Tensor) -> None:
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"the kernel has shape {tuple(K.shape)}: expected (n, n)")
    if K.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the kernel has dtype {K.dtype}: expected float32 or float64")
    if not (torch.isfinite(K.sum()) or torch.isfinite(K).all()):
        raise ValueError("the kernel holds values that are not finite (NaN or infinity)")
    rows = slice(None, None, max(1, len(K) // 200))  # all of a small matrix, 200 rows of a large
    apart = (K[rows] - K[:, rows].T).abs().max()
    if apart > 1e-4 * K[rows].abs().max():
        raise ValueError(f"the kernel is not symmetric: entries differ by {float(apart):.3g}")
