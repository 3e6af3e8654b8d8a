"""Eigenfeatures of a kernel: how they align with labels, and which of them is a shortcut.

Source: eigenfunctions of a tangent kernel as features, Jacot et al. 2018; which of them is the
shortcut is asked by Lim, Kim & Moon 2025. The measures are ours where a function says no other.
"""

from dataclasses import dataclass

import torch

from helpers.kernels.inputs import check_finite, check_no_negative, check_symmetric
from helpers.kernels.modes import dense_modes, top_modes


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

    def on(self, K_query: torch.Tensor) -> torch.Tensor:
        r"""The terms :math:`f^{(i)}(x)` at the queries, `(m, k)`; their sum over i is the output.

        Args:
            K_query: `(m, n)` kernel between the queries and the training inputs.

        Raises:
            ValueError: a block of another width, or values that are not finite.

        Source: Lim, Kim & Moon 2025, definition of the features.
        """
        if K_query.ndim != 2 or K_query.shape[1] != len(self.vectors):
            raise ValueError(
                f"K_query has shape {tuple(K_query.shape)}: expected (m, {len(self.vectors)})"
            )
        check_finite(K_query, "K_query holds")
        return (K_query.to(self.vectors) @ self.vectors) * (self.weights / self.values)


def eigenfeatures(
    K: torch.Tensor, y: torch.Tensor, *, modes: int | None = None, cutoff: float = 1e-10
) -> Eigenfeatures:
    r"""The features of a kernel for labels of two classes.

    Args:
        K: `(n, n)` kernel matrix, symmetric and positive semidefinite.
        y: `(n,)` labels -1 and +1.
        modes: the leading features only, by :func:`top_modes`; None for all of them.
        cutoff: features with an eigenvalue below this share of the largest are left out. Their
            inverse multiplies rounding errors: in single precision nothing below 1e-6 means
            anything.

    Raises:
        ValueError: labels other than -1 and +1, a matrix that is zero, not symmetric or has a
            negative eigenvalue beyond rounding, more modes than samples, a cutoff outside [0, 1).

    Source: Lim, Kim & Moon 2025, definition of the features.

    >>> K = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> found = eigenfeatures(K, torch.tensor([1.0, -1.0]))
    >>> found.on(K).abs().tolist()                    # on the training set they sum to the labels
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_symmetric(K)
    if y.shape != (len(K),) or not bool(((y == 1) | (y == -1)).all()):
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and values {torch.unique(y)[:5].tolist()}: "
            f"expected {len(K)} labels -1 and +1"
        )
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff is {cutoff}: allowed is [0, 1)")
    values, vectors, _ = dense_modes(K, len(K)) if modes is None else top_modes(K, modes)
    last = "the smallest eigenvalue" if modes is None else f"eigenvalue {modes}"
    check_no_negative(values.flip(0), K, last)
    if not values[0] > 0:
        raise ValueError("the kernel is zero: it has no features")
    kept = values > cutoff * values[0]
    values, vectors = values[kept], vectors[:, kept]
    return Eigenfeatures(values, vectors, vectors.T @ y.to(vectors))


def mode_alignment(vectors: torch.Tensor, attribute: torch.Tensor) -> torch.Tensor:
    r"""Share of an attribute in each mode, :math:`A_i(a) = \langle v_i, a\rangle^2/\|a\|^2`.

    The shares of a whole basis sum to 1. Within eigenvalues that repeat only the sum over their
    modes has a meaning.

    Args:
        vectors: `(n, k)` orthonormal columns.
        attribute: `(n,)` values, such as labels or the bias attribute.

    Returns:
        `(k,)` shares.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, an attribute that is zero.

    Source: ours, in the place of the predictability of Lim, Kim & Moon 2025, not known to us.

    >>> mode_alignment(torch.eye(2), torch.tensor([1.0, -1.0])).tolist()
    [0.5, 0.5]
    """
    if vectors.ndim != 2 or attribute.shape != (len(vectors),):
        raise ValueError(
            f"vectors have shape {tuple(vectors.shape)} and the attribute "
            f"{tuple(attribute.shape)}: expected (n, k) and (n,)"
        )
    check_finite(vectors, "vectors hold")
    check_finite(attribute, "the attribute holds")
    attribute = attribute.to(vectors)
    if not bool(attribute.any()):
        raise ValueError("the attribute is zero everywhere: nothing can be aligned with it")
    attribute = attribute / attribute.abs().max()  # or squares of small numbers would be 0
    return (vectors.T @ attribute).square() / attribute.square().sum()


def predictability(outputs: torch.Tensor, attribute: torch.Tensor) -> torch.Tensor:
    """Accuracy with which the sign of each mode tells an attribute, or its opposite, `(k,)`.

    Args:
        outputs: `(n, k)` eigenvectors or features; an eigenvector's own sign means nothing. An
            output of 0 is wrong either way.
        attribute: `(n,)` values -1 and +1.

    Raises:
        ValueError: shapes that do not fit, outputs that are not finite, other attributes.

    Source: ours.

    >>> predictability(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor([-1.0, 1.0])).tolist()
    [1.0, 0.5]
    """
    if outputs.ndim != 2 or not len(outputs) or attribute.shape != (len(outputs),):
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)} and the attribute "
            f"{tuple(attribute.shape)}: expected (n, k) and (n,)"
        )
    if not bool((attribute.abs() == 1).all()):
        found = torch.unique(attribute)[:5].tolist()
        raise ValueError(f"the attribute has values {found}: allowed are -1 and +1")
    check_finite(outputs, "outputs hold")
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
        ValueError: features that are not finite, or zero everywhere.

    Source: ours.

    >>> energy_shares(torch.tensor([[3.0, 1.0], [3.0, -1.0]])).tolist()
    [0.8999999761581421, 0.10000000149011612]
    """
    check_finite(features, "the features hold")
    energy = features.square().mean(0)
    if not len(features) or not bool(energy.any()):
        raise ValueError("the features are zero everywhere: there is no energy to share")
    return energy / energy.sum()


def shortcut_span(shares: torch.Tensor, share: float = 0.9) -> int:
    """How many leading modes hold this share of an attribute: 1 plus the index where it is passed.

    Raises:
        ValueError: the modes given hold less than that together, or shares that are not finite.

    Source: ours.
    """
    check_finite(shares, "shares hold")
    total = shares.cumsum(0)
    most = float(total[-1]) if len(total) else 0.0
    if most < share:
        raise ValueError(
            f"{len(shares)} modes hold {most:.3f} of the attribute: fewer than {share}"
        )
    return int((total < share).sum()) + 1


def first_sign_changing(vectors: torch.Tensor, share: float = 0.05) -> int:
    """Index of the first mode that has both signs.

    Where every entry of a kernel is positive, its first mode has one sign (Perron): an average of
    the data, in which labels have no part. Modes below the share count as such.

    Args:
        vectors: `(n, k)` eigenvectors.
        share: of samples, that must have the rarer sign; 0 is no sign.

    Raises:
        ValueError: no such mode, or a share outside (0, 1/2].

    Source: ours.

    >>> first_sign_changing(torch.tensor([[0.6, 0.8], [0.8, -0.6]]))
    1
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share is {share}: allowed is (0, 1/2]")
    rarer = torch.minimum((vectors > 0).double().mean(0), (vectors < 0).double().mean(0))
    changing = (rarer >= share).nonzero().flatten()
    if not len(changing):
        raise ValueError(f"none of {vectors.shape[1]} modes has both signs on {share:.0%}")
    return int(changing[0])
