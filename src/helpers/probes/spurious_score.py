"""The spurious score of Yang, Chou & Chaudhuri 2022, and scores that other thresholds leave."""

import torch

NORMALISATIONS = ("headroom", "relative")


def spurious_score(
    clean_probs: torch.Tensor, spurious_probs: torch.Tensor, target: int, eps: float = 0.1
) -> float:
    r"""Share of images whose probability for the target class rises by more than eps.

    .. math:: \mathrm{SS}_\epsilon = \frac{1}{|D|}\,\bigl|\{x\in D:
              f_c(\Phi(x, v)) - f_c(x) > \epsilon\}\bigr|

    Args:
        clean_probs: `(m, classes)` probabilities on the images of D.
        spurious_probs: `(m, classes)` probabilities on the same images with the pattern v.
        target: the class c whose training examples carried the pattern.
        eps: threshold, in [0, 1); the paper takes one over the number of classes.

    Raises:
        ValueError: shapes that differ, a class that does not exist, eps outside its range, entries
            that are no probabilities.

    Source: Yang, Chou & Chaudhuri 2022, equation 1. Their figures take all test images for D; for
    the images of other classes, pass those rows only.

    >>> clean = torch.tensor([[0.2, 0.8], [0.9, 0.1]])
    >>> spurious_score(clean, torch.tensor([[0.7, 0.3], [0.95, 0.05]]), target=0)
    0.5
    """
    before, after = _target_probs(clean_probs, spurious_probs, target, eps)
    return float((after - before > eps).double().mean())


def normalised_score(
    clean_probs: torch.Tensor,
    spurious_probs: torch.Tensor,
    target: int,
    eps: float = 0.1,
    *,
    kind: str,
) -> float:
    r"""Share of images whose probability for the target class rises by much for its start value.

    Like :func:`spurious_score`, with the rise divided by the most it could be or by its start:

    .. math:: \frac{f_c(\Phi(x, v)) - f_c(x)}{1 - f_c(x)} > \epsilon
              \quad\text{or}\quad \frac{f_c(\Phi(x, v)) - f_c(x)}{f_c(x)} > \epsilon

    Where nothing was to be gained (headroom 0) or 0 stayed 0 the ratio is 0/0, and the image is not
    counted; a rise from exactly 0 is infinite as a relative gain and is counted. Neither score is
    smaller than :func:`spurious_score`.

    Args:
        clean_probs, spurious_probs, target, eps: as there.
        kind: `"headroom"` divides by :math:`1 - f_c(x)`, `"relative"` by :math:`f_c(x)`.

    Raises:
        ValueError: an unknown kind, and as :func:`spurious_score`.

    Source: two readings of the normalised score of Yang, Chou & Chaudhuri 2022 (equation 5).

    >>> clean, after = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.95, 0.05]])
    >>> normalised_score(clean, after, 0, kind="headroom")
    1.0
    >>> normalised_score(clean, after, 0, kind="relative")
    0.0
    """
    if kind not in NORMALISATIONS:
        raise ValueError(f"kind is {kind!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
    before, after = _target_probs(clean_probs, spurious_probs, target, eps)
    # 0/0 is NaN, which is not above eps
    ratio = (after - before) / (1 - before if kind == "headroom" else before)
    return float((ratio > eps).double().mean())


def _target_probs(
    clean_probs: torch.Tensor, spurious_probs: torch.Tensor, target: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Checked probabilities of the target class without and with the pattern, float64 `(m,)`."""
    if clean_probs.shape != spurious_probs.shape or clean_probs.ndim != 2 or not len(clean_probs):
        raise ValueError(
            f"probabilities have shapes {tuple(clean_probs.shape)} and "
            f"{tuple(spurious_probs.shape)}: expected the same non-empty (m, classes)"
        )
    if target not in range(clean_probs.shape[1]):
        raise ValueError(f"target is {target}: allowed are 0 to {clean_probs.shape[1] - 1}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps is {eps}: allowed is [0, 1)")
    for probs in (clean_probs, spurious_probs):
        if not bool(((probs >= 0) & (probs <= 1)).all()):
            raise ValueError("probabilities must be numbers from 0 to 1 (apply softmax first)")
    return tuple(probs[:, int(target)].double() for probs in (clean_probs, spurious_probs))
