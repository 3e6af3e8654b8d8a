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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
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

    `"lanczos"` is ARPACK's implicitly restarted Lanczos method: one vector at a time, so every
    product reads the whole matrix for 2 operations an entry. `"subspace"` is randomised subspace
    iteration: a block of vectors at once, fewer reads, more operations.

    Args:
        K: symmetric `(n, n)` matrix, or a function from `(n, b)` to the product `(n, b)`.
        modes: how many eigenpairs.
        size: n, where `K` is a function.
        solver: see above.
        tolerance: the residual :math:`\|Kv - \lambda v\|` allowed, relative to the largest value.
        seed: seed of the start.

    Raises:
        ValueError: more modes than the matrix has, a matrix that is not symmetric, values that are
            not finite, an unknown solver.
        RuntimeError: no convergence.

    Source: Halko, Martinsson & Tropp 2011 (subspace iteration); Lehoucq, Sorensen & Yang 1998.

    >>> top_modes(torch.diag(torch.tensor([1.0, 5.0, 3.0, 0.5, 0.1])), 2).values.round().tolist()
    [5.0, 3.0]
    """
    if isinstance(K, torch.Tensor):
        _check_symmetric(K)
        matrix, n, like = K, len(K), K

        def product(block: torch.Tensor) -> torch.Tensor:
            return matrix @ block
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


def _subspace(
    product: Product,
    n: int,
    modes: int,
    like: torch.Tensor,
    tolerance: float,
    generator: torch.Generator,
    most: int = 60,
) -> Modes:
    """Chebyshev-free subspace iteration with Rayleigh-Ritz; the block is wider than asked for."""
    width = min(n, 2 * modes + 10)
    start = torch.randn(n, width, dtype=torch.float64, generator=generator).to(like)
    basis = torch.linalg.qr(start).Q
    for reads in range(1, most + 1):
        image = product(basis)
        small = basis.T @ image
        values, turn = torch.linalg.eigh((small + small.T).double() / 2)
        values, turn = values.flip(0)[:modes], turn.flip(1).to(image)
        vectors, images = basis @ turn[:, :modes], image @ turn[:, :modes]
        residual = (images - vectors * values.to(images)).norm(dim=0).max()
        if residual <= tolerance * values[0].abs():
            return Modes(values.to(like), vectors, reads)
        basis = torch.linalg.qr(image).Q
    raise RuntimeError(
        f"subspace iteration: residual {float(residual / values[0].abs()):.1e} after {most} passes,"
        f" above the tolerance {tolerance:.1e}; modes {modes} may be too close to their neighbours"
    )


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
        """Steps until half of each feature is learnt, `(k,)`; arguments as in `learned`."""
        self.learned(step, 1)
        return math.log(2) / -torch.log1p(-step * self.values)


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
        lowest, allowed = float(values[-1]), -_rounding(K) * float(values[0].abs())
        if lowest < allowed:
            raise ValueError(
                f"the smallest eigenvalue is {lowest:.3g} against a largest of "
                f"{float(values[0]):.3g}: a kernel has none below 0, apart from rounding"
            )
    else:
        values, vectors, _ = top_modes(K, modes, solver=solver)
        if float(values[-1]) < -_rounding(K) * float(values[0].abs()):
            raise ValueError(
                f"eigenvalue {modes} is {float(values[-1]):.3g}: a kernel has none < 0"
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
        outputs: `(n, k)` eigenvectors or features; an eigenvector's own sign means nothing.
        attribute: `(n,)` values -1 and +1.
    """
    right = (torch.sign(outputs) == torch.sign(attribute.to(outputs))[:, None]).double().mean(0)
    return torch.maximum(right, 1 - right)


def energy_shares(features: torch.Tensor) -> torch.Tensor:
    r"""Share of each feature in the energy of the output, `(k,)`.

    :math:`E_i = \overline{f^{(i)}(x)^2} / \sum_j \overline{f^{(j)}(x)^2}`. On the training
    set this is the share of the labels in each mode and tells nothing new; the influence of a
    feature is its share on a *balanced* test set.

    Args:
        features: `(m, k)`, from :meth:`Eigenfeatures.on`.
    """
    energy = features.square().mean(0)
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

    Source: Williams & Seeger 2001.
    """
    values, vectors, _ = top_modes(K_landmarks, modes)
    m = len(K_landmarks)
    return values / m, math.sqrt(m) * (K_query @ vectors) / values


def rayleigh(K: torch.Tensor | Product, vectors: torch.Tensor) -> torch.Tensor:
    r"""Rayleigh quotients :math:`v^\top K v / v^\top v` of the columns, `(k,)`.

    A lower bound of the largest eigenvalue, whatever the columns; for an approximate eigenvector
    the error is quadratic in the vector's.
    """
    image = K @ vectors if isinstance(K, torch.Tensor) else K(vectors)
    return (vectors * image).sum(0) / vectors.square().sum(0)


def _rounding(K: torch.Tensor) -> float:
    """Relative size of eigenvalues that rounding alone can make negative."""
    return len(K) * torch.finfo(K.dtype).eps


def _check_symmetric(K: torch.Tensor) -> None:
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"the kernel has shape {tuple(K.shape)}: expected (n, n)")
    if K.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the kernel has dtype {K.dtype}: expected float32 or float64")
    if not torch.isfinite(K.sum()):
        raise ValueError("the kernel holds values that are not finite (NaN or infinity)")
    rows = slice(None, None, max(1, len(K) // 200))  # all of a small matrix, 200 rows of a large
    apart = (K[rows] - K[:, rows].T).abs().max()
    if apart > 1e-4 * K[rows].abs().max():
        raise ValueError(f"the kernel is not symmetric: entries differ by {float(apart):.3g}")
