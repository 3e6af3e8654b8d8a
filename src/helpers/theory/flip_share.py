r"""How imbalanced a training set may be before a linear model goes by the attribute.

Classes and attribute are signs y and s; a sample is :math:`x = y\,m + s\,m_s` plus noise of
covariance C. A share :math:`\pi` is of class +1, and in a share :math:`\varrho` of either class
s = y. With :math:`\mu = 2\pi - 1`, :math:`v = 1 - \mu^2` and :math:`r = 2\varrho - 1`,

.. math:: \operatorname{Var} y = v, \quad \operatorname{Cov}(y, s) = rv, \quad
          \operatorname{Var} s = 1 - r^2\mu^2.

Ridge regression with an intercept on n samples answers, on average, as the population does at the
felt ridge :math:`k'` (:func:`.smoother.effective_ridge`). With :math:`M = [m, m_s]`,
:math:`G = M^\top(C + k')^{-1}M` and R the covariance matrix of (y, s),

.. math:: \begin{pmatrix}u\\ u_s\end{pmatrix} = M^\top w = G\,(I + RG)^{-1}
          \begin{pmatrix}v\\ rv\end{pmatrix}, \qquad
          \beta = \mu\,(1 - u - r u_s),

and a sample is answered by :math:`\beta + y u + s u_s`. A conflicting one (s = -y) is right where
:math:`y` times that, :math:`u - u_s + y\beta`, is above 0. Written out, this has the sign of

.. math:: \Bigl(a - c + \frac{y\mu}{v}\Bigr)(1 + b - b r^2) + (c - b)(r - c + c r^2), \qquad
          G = \begin{pmatrix}a & c\\ c & b\end{pmatrix}.

The mean of both classes lacks the term with :math:`\mu`: it turns at :math:`u = u_s`, at a share
that does not hang on the sizes of the classes. The rarer class turns sooner
(:math:`y\mu = -|\mu|`). Without c, and with :math:`n_c = 1/a` and :math:`n_s = 1/b`, the mean is 0
at :math:`r\,n_c = n_s + 1 - r^2`, the flip rule of Part IV.

Source: ours; the flip rule of Lim, Kim & Moon 2025 with a noise of any shape, directions that need
not be at right angles and classes of any size.
"""

import numpy as np

from helpers.theory.ranges import Numbers

LAW_ERROR = 0.03  # how far trained models may be from the flip share on average (claim S17)


def conflicting_output(
    overlaps: np.ndarray, share: float, prior: float = 0.5, *, label: int = 0
) -> Numbers:
    """What a conflicting sample is answered on average, above 0 where it is right.

    Args:
        overlaps: G, `(…, 2, 2)`: class first, attribute second; symmetric, positive semidefinite.
        share: of aligned samples in the training set, alike in both classes, in [0, 1].
        prior: share of class +1 in the training set, in (0, 1).
        label: whose samples, +1 or -1; 0 is the mean of both.

    Raises:
        ValueError: overlaps, a share, a prior or a label outside their range.

    >>> G = np.diag([1.0, 4.0])
    >>> round(conflicting_output(G, 0.5), 3), round(conflicting_output(G, 1.0), 3)
    (0.5, -0.5)
    >>> round(conflicting_output(G, 0.5, 0.9, label=1), 3)
    0.853
    """
    a, b, c = _checked(overlaps)
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: allowed is 0 to 1")
    r, mean = 2 * share - 1, 2 * prior - 1
    v, turned = 1 - mean**2, _turned(prior, label)
    determinant = 1 + v * (a + 2 * r * c + (1 - r**2) * (a * b - c**2)) + (1 - r**2 * mean**2) * b
    found = (a - c + turned) * (1 + b - b * r**2) + (c - b) * (r - c + c * r**2)
    found = v * found / determinant
    return float(found) if np.ndim(found) == 0 else found


def flip_share(overlaps: np.ndarray, prior: float = 0.5, *, label: int = 0) -> Numbers:
    """Smallest aligned share, from 1/2 on, at which conflicting samples are answered wrongly.

    Args:
        overlaps, prior, label: as in :func:`conflicting_output`. Where `label` is 0 the share is
            the same for any prior.

    Returns:
        `(…)` the share, infinite where the model is right about them up to a share of 1.

    Raises:
        ValueError: as in :func:`conflicting_output`.

    >>> round(flip_share(np.diag([1.0, 4.0])), 4), flip_share(np.diag([4.0, 1.0]))
    (0.8624, inf)
    >>> round(flip_share(np.diag([1.0, 4.0]), 0.3, label=1), 4)
    0.7578
    """
    a, b, c = _checked(overlaps)
    own = a - c + _turned(prior, label)
    square, linear = c * (c - b) - b * own, c - b
    start = own * (1 + b) - c * (c - b)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(linear**2 - 4 * square * start)
        half = -(linear + np.copysign(root, linear)) / 2  # no difference of like numbers
        both = np.stack([half / square, start / half])
    first = np.where((both > 0) & (both <= 1), both, np.inf).min(0)
    found = (1 + np.where(start <= 0, 0.0, first)) / 2
    return float(found) if np.ndim(found) == 0 else found


def _turned(prior: float, label: int) -> float:
    """What the sizes of the classes add for one of them."""
    if not 0 < prior < 1:
        raise ValueError(f"prior is {prior}: allowed is the open interval (0, 1)")
    if label not in (-1, 0, 1):
        raise ValueError(f"label is {label!r}: allowed are -1, 1, and 0 for both")
    mean = 2 * prior - 1
    return label * mean / (1 - mean**2)


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
