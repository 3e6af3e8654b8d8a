"""Labels: which values they may have, and which outputs are right about them.

All accuracies are shares of what `right_answers` says. Ours.
"""

from collections.abc import Sequence

import torch

SIGNS = (-1, 1)  # the labels of networks with one output


def check_values(name: str, values: torch.Tensor, allowed: Sequence[int]) -> None:
    """Raise ValueError where there are other values than the allowed ones, and name the lowest."""
    if strange := sorted(set(values.unique().tolist()) - set(allowed)):
        listed = [str(value) for value in allowed]
        known = " to ".join(listed[:: len(listed) - 1]) if len(listed) > 2 else " and ".join(listed)
        raise ValueError(f"{name} has {strange[0]}: allowed is {known or 'nothing'}")


def check_answers(outputs: torch.Tensor, labels: torch.Tensor, *, single: bool) -> None:
    """Raise ValueError where outputs and labels `(n,)` do not belong together, or there are none.

    Args:
        outputs: finite numbers; `(n,)` or `(n, 1)` if `single`, else `(n, classes)`.
        labels: -1 and +1 if `single`, else 0 to classes - 1; of any dtype.
        single: whether the network has one output.
    """
    columns = outputs.shape[1:].numel()
    fits = outputs.ndim in (1, 2) and outputs.numel() and labels.shape == outputs.shape[:1]
    if not fits or single != (columns == 1):
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)} and labels {tuple(labels.shape)}: expected "
            f"{'(n,) or (n, 1)' if single else '(n, classes)'} and (n,), n at least 1"
        )
    if outputs.dtype == torch.bool or not bool(outputs.isfinite().all()):
        raise ValueError(
            f"outputs of dtype {outputs.dtype} must be finite numbers: NaN and infinity, as of a "
            "network that diverged, are no answers"
        )
    check_values("labels", labels, SIGNS if single else range(columns))


def margins(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One output a sample times its label, `(n,)`: above 0 where the answer is right.

    Raises:
        ValueError: as :func:`check_answers`.
    """
    check_answers(outputs, labels, single=True)
    outputs = outputs if outputs.is_floating_point() else outputs.double()  # or -128 would overflow
    return outputs.reshape(-1) * labels


def right_answers(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Which answers are right, bool `(n,)`.

    Args:
        outputs: `(n,)` or `(n, 1)`, whose sign is the answer (0 is wrong either way); or
            `(n, classes)`, whose largest entry is (the first of equal ones).
        labels: `(n,)`, -1 and +1 for one output, else 0 to classes - 1.

    Raises:
        ValueError: shapes or labels that do not fit, no sample, outputs that are not finite.

    >>> right_answers(torch.tensor([0.5, 2.0]), torch.tensor([1, -1])).tolist()
    [True, False]
    >>> right_answers(torch.tensor([[0.5, 2.0]]), torch.tensor([1])).tolist()
    [True]
    """
    if outputs.shape[1:].numel() == 1:
        return margins(outputs, labels) > 0
    check_answers(outputs, labels, single=False)
    return outputs.argmax(1) == labels
