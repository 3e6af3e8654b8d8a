"""A data set with an attribute, as an audit is given it: checked, centred, in four groups."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers.audit.linear import GROUPS


class Sample(NamedTuple):
    """Inputs `(n, d)` in float64 and what their rows are: group 0 to 3, as in `linear.GROUPS`."""

    inputs: Tensor
    group: np.ndarray

    @property
    def shares(self) -> tuple[float, float]:
        """Share of samples whose attribute is the label, in class -1 and in class +1."""
        counts = np.bincount(self.group, minlength=4)
        return float(counts[0] / counts[:2].sum()), float(counts[3] / counts[2:].sum())

    @property
    def aligned_share(self) -> float:
        """The mean of both `shares`, whatever the sizes of the classes."""
        return float(np.mean(self.shares))

    @property
    def prior(self) -> float:
        """Share of class +1."""
        return float((self.group > 1).mean())

    @property
    def rarer(self) -> int:
        """The class, as a sign, that has fewer samples; 0 where both have as many."""
        return int(np.sign(0.5 - self.prior))

    def oriented(self) -> tuple["Sample", bool]:
        """The same with the attribute's sign such that half or more are aligned; was it turned?"""
        turned = self.aligned_share < 0.5
        return (self._replace(group=self.group ^ 1) if turned else self), turned


def sample_of(inputs: object, labels: object, attribute: object) -> Sample:
    """Check and centre what :func:`.data` is given; signs as it is coded."""
    X = _numbers(inputs)
    if X.ndim < 2 or not len(X) or X.is_complex():
        raise ValueError(f"inputs have shape {tuple(X.shape)}: expected (n, …) numbers, n > 0")
    X = X.flatten(1).double()
    if not torch.isfinite(X).all():
        bad = int((~torch.isfinite(X)).any(1).sum())
        raise ValueError(f"inputs hold values that are not finite, in {bad:,} of {len(X):,} rows")
    signs = [two_valued(*pair, len(X)) for pair in (("labels", labels), ("attribute", attribute))]
    y, s = signs
    if (y == s).all() or (y == -s).all():
        raise ValueError(
            "the attribute is the label: no sample conflicts, so that nothing can tell them apart"
        )
    group = (2 * (y > 0) + (s > 0)).astype(int)
    counts = np.bincount(group, minlength=4)
    if (counts < 2).any():
        which = ", ".join(
            f"label {GROUPS[g][0]:+d} with attribute {GROUPS[g][1]:+d} has {counts[g]}"
            for g in np.flatnonzero(counts < 2)
        )
        raise ValueError(f"a group has fewer than 2 samples ({which}; the larger value is +1)")
    return Sample(X - X.mean(0), group)


def _numbers(inputs: object) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs.detach()
    try:
        found = np.asarray(inputs)
        # columns of several types make an array of objects
        found = found.astype(float) if found.dtype.kind in "biufO" else found
    except (TypeError, ValueError) as error:
        raise ValueError(f"inputs are no table of numbers: {error}") from None
    if found.dtype.kind != "f":
        raise ValueError(f"inputs are of type {found.dtype}: expected (n, …) numbers")
    return torch.from_numpy(found)


def two_valued(name: str, values: object, count: int) -> np.ndarray:
    """`(n,)` signs of what takes two values, +1 for the larger, or the later in the alphabet.

    Args:
        name: of the values, for the message.
        values: `(n,)` numbers, truth values or strings: a tensor, an array, a series (whose index
            does not matter), a list.
        count: n.

    Raises:
        ValueError: another length, missing values, or more or fewer than two.

    >>> two_valued("labels", ["cat", "dog", "cat"], 3).tolist()
    [-1, 1, -1]
    """
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if found.shape != (count,):
        raise ValueError(f"{name} has shape {found.shape}: expected one for each of {count} rows")
    missing = int(pd.isna(found).sum())
    if missing:
        raise ValueError(f"{name} is missing (or no number) in {missing:,} of {count:,} rows")
    try:
        kinds, place = np.unique(found, return_inverse=True)
    except TypeError:
        raise ValueError(f"{name} mixes values that cannot be put in order") from None
    if len(kinds) != 2 or (kinds.dtype.kind == "f" and not np.isfinite(kinds).all()):
        shown = ", ".join(str(kind) for kind in kinds[:5])
        raise ValueError(
            f"{name} takes {len(kinds)} values ({shown}{', …' * (len(kinds) > 5)}): expected two; "
            "choose the rows of two of them"
        )
    return np.where(place == 1, 1, -1)
