"""The container of all sets in which an attribute goes with the label, but not always.

A sample has a label y and a spurious attribute a; where they agree it is *aligned*, else
*conflicting*. The four groups of Waterbirds (Sagawa et al. 2020) are landbirds on land and on water
(0, 1) and waterbirds on land and on water (2, 3); those of CelebA (Liu et al. 2015) are dark-haired
women and men (0, 1) and blond women and men (2, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from helpers.data.labels import SIGNS, check_values


@dataclass(frozen=True)
class Grouped:
    """Images with label and attribute: one split.

    Attributes:
        images: `(n, c, h, w)`, float32 in [0, 1] or uint8 in 0..255; or other inputs `(n, …)`.
        label: `(n,)` class, 0 or 1 (int64), or -1 or +1 (float32) for networks with one output.
        attribute: `(n,)` spurious attribute in the same two numbers.
        source: what the images are.

    Raises:
        ValueError: lengths that differ, labels or attributes with other values than these.
    """

    images: torch.Tensor
    label: torch.Tensor
    attribute: torch.Tensor
    source: str = ""

    def __post_init__(self) -> None:
        parts = {"label": self.label, "attribute": self.attribute}
        shapes = [tuple(part.shape) for part in parts.values()]
        if shapes != [tuple(self.images.shape[:1])] * 2:
            raise ValueError(
                f"label and attribute have shapes {shapes[0]} and {shapes[1]}: expected one "
                f"number for each of {self.images.shape[:1].numel()} images"
            )
        signed = any(bool((part < 0).any()) for part in parts.values())
        for name, part in parts.items():
            check_values(name, part, SIGNS if signed else (0, 1))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def flat(self) -> torch.Tensor:
        """`(n, c h w)` one image a row."""
        return self.images.flatten(1)

    @property
    def aligned(self) -> torch.Tensor:
        """`(n,)` bool: True where attribute and label agree."""
        return self.attribute == self.label

    @property
    def group(self) -> torch.Tensor:
        """`(n,)` int64, 2y + a for y and a in 0, 1."""
        return 2 * (self.label > 0) + (self.attribute > 0)

    def counts(self) -> tuple[int, int, int, int]:
        """Samples in groups 0 to 3."""
        return tuple(self.group.bincount(minlength=4).tolist())

    def rows(self, chosen: torch.Tensor) -> Grouped:
        """These samples: positions in the order wanted, or a mask of all samples."""
        parts = (part[chosen] for part in (self.images, self.label, self.attribute))
        return Grouped(*parts, self.source)

    def draw(self, counts: Sequence[int], seed: int) -> Grouped:
        """So many samples of each group, chosen at random and mixed.

        Raises:
            ValueError: a group that has fewer.
        """
        if len(counts) != 4 or any(n < 0 for n in counts):
            raise ValueError(f"counts is {tuple(counts)}: expected four numbers of samples")
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for group, (wanted, there) in enumerate(zip(counts, self.counts(), strict=True)):
            if wanted > there:
                raise ValueError(f"group {group} has {there} samples: {wanted} were asked for")
            rows = (self.group == group).nonzero().flatten()
            chosen.append(rows[torch.randperm(there, generator=generator)[:wanted]])
        rows = torch.cat(chosen)
        return self.rows(rows[torch.randperm(len(rows), generator=generator)])
