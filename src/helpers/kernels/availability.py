"""Availability: how much of a kernel lies along an attribute, and what its first modes say of it.

Source: availability as the alignment of the initial kernel with an attribute is how accounts of
Lim, Kim & Moon 2025 describe theirs, whose text was not read; these definitions are ours.
"""

from typing import NamedTuple

import torch

from helpers.errors import check_whole
from helpers.kernels.inputs import check_finite, check_symmetric
from helpers.kernels.modes import dense_modes


def centred_kernel(K: torch.Tensor, K_query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The kernel of features from which their mean over the training inputs is taken.

    A network whose activations are all positive has one constant feature larger than all others; a
    classifier with an intercept does not use it.

    Args:
        K: `(n, n)` between training inputs.
        K_query: `(m, n)` between queries and training inputs.

    Returns:
        Both blocks of :math:`\langle \phi(x) - \bar\phi, \phi(x') - \bar\phi \rangle`.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    Source: Schölkopf, Smola & Müller 1998, appendix A.

    >>> constant = torch.ones(2, 2)
    >>> centred_kernel(constant, constant)[0].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    check_symmetric(K)
    if K_query.ndim != 2 or K_query.shape[1] != len(K):
        raise ValueError(f"K_query has shape {tuple(K_query.shape)}: expected (m, {len(K)})")
    check_finite(K_query, "K_query holds")
    columns = K.mean(0)
    own = K - columns - columns[:, None] + columns.mean()
    query = K_query - columns - K_query.mean(1, keepdim=True) + columns.mean()
    return own, query


def availability(K: torch.Tensor, attribute: torch.Tensor) -> float:
    r"""Share of a kernel's trace along an attribute, :math:`g^\top K g / (\|g\|^2 \mathrm{tr} K)`.

    It adds up :math:`\lambda_i A_i(g)` over all modes: 1 where the kernel has that one feature, and
    1/n on average over directions g.

    Args:
        K: `(n, n)` kernel matrix.
        attribute: `(n,)` values, not all zero.

    Raises:
        ValueError: shapes that do not fit, an attribute that is zero or not finite, a kernel
            without a trace.

    >>> round(availability(torch.diag(torch.tensor([3.0, 1.0])), torch.tensor([1.0, 0.0])), 6)
    0.75
    """
    check_symmetric(K)
    check_finite(attribute, "the attribute holds")
    g, trace = attribute.to(K), float(K.trace())
    if g.shape != (len(K),) or not bool(g.any()) or not trace > 0:
        raise ValueError(
            f"attribute of shape {tuple(g.shape)} with norm {float(g.norm()):g} and a kernel of "
            f"size {len(K)} with trace {trace:g}: expected one value a row, a norm and a trace "
            "above 0"
        )
    return float(g @ K @ g / g.square().sum()) / trace


def halfway(scores: torch.Tensor, target: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Scores of queries, above 0 on the side of target +1.

    The border lies halfway between the two classes' mean training scores, so that neither a
    constant nor a rare class moves it.

    Args:
        scores: `(n,)` on training samples.
        target: `(n,)` values -1 and +1, both present.
        queries: `(m,)`.

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, another target than -1 and
            +1, a class without a sample.

    >>> halfway(torch.tensor([1.0, 3.0]), torch.tensor([1, -1]), torch.tensor([1.5])).tolist()
    [0.5]
    """
    if scores.ndim != 1 or target.shape != scores.shape:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)} and the target {tuple(target.shape)}: "
            "expected both (n,)"
        )
    check_finite(scores, "scores hold")
    check_finite(queries, "queries hold")
    if not bool((target.abs() == 1).all()):
        raise ValueError(f"the target has {torch.unique(target)[:5].tolist()}: allowed is -1 and 1")
    if not bool((target > 0).any() and (target < 0).any()):
        raise ValueError("target has one class: a border needs both -1 and +1")
    up, down = scores[target > 0].mean(), scores[target < 0].mean()
    return (up - down).sign() * (queries - (up + down) / 2)


class Leading(NamedTuple):
    """The first modes of a kernel on its training inputs, and continued to queries.

    Attributes:
        vectors: `(n, k)` orthonormal eigenvectors.
        queries: `(m, k)` the same functions at the queries (Nyström).
        values: `(k,)` eigenvalues.
    """

    vectors: torch.Tensor
    queries: torch.Tensor
    values: torch.Tensor

    def read(self, target: torch.Tensor, *, mode: int | None = None) -> torch.Tensor:
        """What the queries' answers to a target are, `(m,)`, positive for +1.

        The least-squares fit of the target in all the modes, or one mode alone; see `halfway`.
        """
        if mode is not None and mode not in range(len(self.values)):
            raise ValueError(f"mode is {mode}: there are {len(self.values)}")
        if target.shape != (len(self.vectors),):
            raise ValueError(
                f"target has shape {tuple(target.shape)}: expected ({len(self.vectors)},)"
            )
        t = target.to(self.vectors)
        chosen = slice(None) if mode is None else slice(mode, mode + 1)
        weights = self.vectors[:, chosen].T @ t
        return halfway(self.vectors[:, chosen] @ weights, t, self.queries[:, chosen] @ weights)


def leading(K: torch.Tensor, K_query: torch.Tensor, modes: int) -> Leading:
    """The first modes of a kernel.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, modes below 1, or fewer
            modes above rounding than asked for.

    Source: Williams & Seeger 2001 for the values at queries.
    """
    check_symmetric(K)
    check_whole(modes=modes)
    if K_query.ndim != 2 or K_query.shape[1] != len(K):
        raise ValueError(f"K_query has shape {tuple(K_query.shape)}: expected (m, {len(K)})")
    check_finite(K_query, "K_query holds")
    values, vectors, _ = dense_modes(K, modes)
    if len(values) < modes or not float(values[-1]) > 1e-9 * float(values[0]):
        raise ValueError(f"modes is {modes}: this kernel has fewer above rounding")
    return Leading(vectors, (K_query.to(vectors) @ vectors) / values, values)
