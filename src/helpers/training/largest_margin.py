"""The largest margin of a linear function: where the logistic loss leads on separable data.

Source: Soudry et al. 2018 for gradient descent; Zhang, Zou & Cao 2024 for Adam.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linprog, nnls

GAP = 1e-4


class HardMargin(NamedTuple):
    """Weights `(d,)` whose smallest margin is 1, and how far they may be from the best.

    Attributes:
        weights: scaled so that no sample has a margin below 1.
        gap: one minus the dual over the primal value, 0 at the optimum.
    """

    weights: np.ndarray
    gap: float


def hard_margin(
    x: np.ndarray, y: np.ndarray, norm: Literal["euclidean", "largest"] = "euclidean"
) -> HardMargin | None:
    r"""The linear function of smallest norm with :math:`y_i\langle w, x_i\rangle\ge1` for all i.

    With the Euclidean norm this is the direction in which gradient descent on the logistic loss
    moves in the end, whatever the step size. With the norm :math:`\max_i|w_i|` it is the limit of
    steepest descent by signs, and of Adam with a falling step size.

    The Euclidean problem is solved exactly, as the point of the convex hull of the rows
    :math:`y_ix_i` that is nearest to 0 (non-negative least squares); duality bounds the error.

    Args:
        x: `(n, d)` inputs.
        y: `(n,)` labels -1 and +1.
        norm: of w.

    Returns:
        The function, or None where no linear function separates the data.

    Raises:
        ValueError: shapes that do not fit, other labels, values that are not finite, another norm.
        FloatingPointError: a gap above 1e-4.

    Source: Soudry et al. 2018; Zhang, Zou & Cao 2024 (Adam); the reduction to least squares is
    Wolfe's and Lawson & Hanson's.

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> hard_margin(x, np.array([1.0, -1.0])).weights.round(6).tolist()
    [1.0, -0.5]
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1]:
        raise ValueError(f"inputs of shape {x.shape}, labels of {y.shape}: expected (n, d), (n,)")
    if not np.isfinite(x).all() or not (np.abs(y) == 1).all():
        raise ValueError("inputs must be finite, labels -1 and +1")
    if norm not in ("euclidean", "largest"):
        raise ValueError(f"norm is {norm!r}: allowed are 'euclidean' and 'largest'")
    signed = x * y[:, None]
    found = _nearest_to_zero(signed) if norm == "euclidean" else _smallest_maximum(signed)
    if found is not None and not found.gap < GAP:
        raise FloatingPointError(f"the largest margin is known to {found.gap:.1e} only")
    return found


def _nearest_to_zero(signed: np.ndarray) -> HardMargin | None:
    rows = signed / np.linalg.norm(signed, axis=1).max()
    wanted = np.zeros(rows.shape[1] + 1)
    wanted[-1] = 1.0
    # the share of each sample: none but those at the margin have one
    shares, _ = nnls(np.vstack([rows.T, np.ones(len(rows))]), wanted, maxiter=50 * len(rows))
    w = signed.T @ shares
    smallest = float((signed @ w).min())
    if smallest <= 1e-9 * float(w @ w) or not w.any():
        return None
    dual = shares.sum() ** 2 / (w @ w)
    w = w / smallest
    return HardMargin(w, float(1 - dual / (w @ w)))


def _smallest_maximum(signed: np.ndarray) -> HardMargin | None:
    n, d = signed.shape
    # w = plus - minus, both at least 0 and at most s: minimise s
    margins = np.hstack([-signed, signed, np.zeros((n, 1))])
    bounds = np.hstack([np.eye(2 * d), -np.ones((2 * d, 1))])
    cost = np.r_[np.zeros(2 * d), 1.0]
    limits = np.r_[-np.ones(n), np.zeros(2 * d)]
    found = linprog(cost, np.vstack([margins, bounds]), limits, bounds=(0, None), method="highs")
    if found.status == 2:
        return None
    w = found.x[:d] - found.x[d : 2 * d]
    dual = -float(found.ineqlin.marginals[:n].sum())
    w = w / (signed @ w).min()
    return HardMargin(w, 1 - dual / float(np.abs(w).max()))
