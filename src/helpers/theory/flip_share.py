r"""How imbalanced a training set may be before a linear model goes by the attribute.

Classes and attribute are signs y and s; a sample is :math:`x = y\,m + s\,m_s` plus noise of
covariance C, and in a share :math:`\varrho` of them s = y. Ridge regression on n samples answers,
on average, as the population does at the felt ridge :math:`k'`
(:func:`.smoother.effective_ridge`). With :math:`r = 2\varrho - 1`, :math:`M = [m, m_s]`,
:math:`G = M^\top(C + k')^{-1}M` and R with 1 on its diagonal and r beside it,

.. math:: M^\top w = G\,(I + RG)^{-1}\begin{pmatrix}1\\ r\end{pmatrix}.

A conflicting sample (s = -y) is answered by y times the first entry minus the second, which has the
sign of

.. math:: (a - c)(1 + b - b r^2) + (c - b)(r - c + c r^2), \qquad
          G = \begin{pmatrix}a & c\\ c & b\end{pmatrix}.

Without c, and with :math:`n_c = 1/a` and :math:`n_s = 1/b`, it is 0 at :math:`r\,n_c = n_s + 1 -
r^2`, the flip rule of Part IV.

Source: ours; the flip rule of Lim, Kim & Moon 2025 with a noise of any shape and directions that
need not be at right angles.
"""

import numpy as np

from helpers.theory.ranges import Numbers


def conflicting_output(overlaps: np.ndarray, share: float) -> Numbers:
    """What a conflicting sample is answered on average, above 0 where it is right.

    Args:
        overlaps: G, `(…, 2, 2)`: class first, attribute second; symmetric, positive semidefinite.
        share: of aligned samples in the training set, in [0, 1].

    Raises:
        ValueError: overlaps or a share outside their range.

    >>> G = np.diag([1.0, 4.0])
    >>> round(conflicting_output(G, 0.5), 3), round(conflicting_output(G, 1.0), 3)
    (0.5, -0.5)
    """
    a, b, c = _checked(overlaps)
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: allowed is 0 to 1")
    r = 2 * share - 1
    determinant = (1 + a + r * c) * (1 + b + r * c) - (c + r * b) * (r * a + c)
    found = ((a - c) * (1 + b - b * r**2) + (c - b) * (r - c + c * r**2)) / determinant
    return float(found) if np.ndim(found) == 0 else found


def flip_share(overlaps: np.ndarray) -> Numbers:
    """Smallest aligned share, from 1/2 on, at which conflicting samples are answered wrongly.

    Returns:
        `(…)` the share, infinite where the model is right about them up to a share of 1.

    Raises:
        ValueError: overlaps as in :func:`conflicting_output`.

    >>> round(flip_share(np.diag([1.0, 4.0])), 4), flip_share(np.diag([4.0, 1.0]))
    (0.8624, inf)
    """
    a, b, c = _checked(overlaps)
    square, linear = c * (c - b) - b * (a - c), c - b
    start = (a - c) * (1 + b) - c * (c - b)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(linear**2 - 4 * square * start)
        half = -(linear + np.copysign(root, linear)) / 2  # no difference of like numbers
        both = np.stack([half / square, start / half])
    first = np.where((both > 0) & (both <= 1), both, np.inf).min(0)
    found = (1 + np.where(start <= 0, 0.0, first)) / 2
    return float(found) if np.ndim(found) == 0 else found


def _checked(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries a, b and c of G."""
    G = np.asarray(overlaps, dtype=float)
    if G.shape[-2:] != (2, 2) or not np.isfinite(G).all():
        raise ValueError(f"overlaps have shape {G.shape}: expected (…, 2, 2) finite numbers")
    a, b, c = G[..., 0, 0], G[..., 1, 1], G[..., 0, 1]
    fits = (a >= 0) & (b >= 0) & np.isclose(c, G[..., 1, 0]) & (c**2 <= a * b * (1 + 1e-9) + 1e-12)
    if not fits.all():
        raise ValueError(
            f"overlaps hold {G[~fits][0].tolist()}: expected matrices that are symmetric and "
            "positive semidefinite"
        )
    return a, b, c
