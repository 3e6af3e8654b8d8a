"""Inputs of two blocks, core and background, and their scaling.

Every sample is a pair `z = [x, y]`: the label depends on the core block x (dx numbers) only, the
spurious block y (dy numbers) is independent of both, and `alpha = dy / (dx + dy)`. For images x is
the picture and y a frame of uniform noise around it; for synthetic data both are Gaussian
(:mod:`helpers.data.gaussian`).

Source: Bombari & Mondelli 2024 (ICML, PMLR 235:4267-4299).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.data.frames import check_images, core_mask


class TwoBlock(NamedTuple):
    """Samples z = [x, y]: core block x `(n, dx)` and spurious block y `(n, dy)`."""

    x: Tensor
    y: Tensor

    @property
    def z(self) -> Tensor:
        """`(n, dx + dy)`, the core block first."""
        return torch.cat([self.x, self.y], dim=1)

    @property
    def alpha(self) -> float:
        """Share of spurious coordinates, dy / (dx + dy)."""
        return self.y.shape[1] / (self.x.shape[1] + self.y.shape[1])


def two_blocks(framed: Tensor, width: int) -> TwoBlock:
    """Core and frame pixels of framed images as float32 rows, raw 0..255, in row-major order.

    >>> blocks = two_blocks(torch.zeros(3, 1, 48, 48, dtype=torch.uint8), 10)
    >>> blocks.x.shape[1], blocks.y.shape[1], round(blocks.alpha, 3)
    (784, 1520, 0.66)
    """
    check_images("framed", framed)
    core = core_mask(framed.shape, width).flatten().to(framed.device)
    flat = framed.flatten(1)
    return TwoBlock(flat[:, core].float(), flat[:, ~core].float())


def to_sphere(block: Tensor) -> Tensor:
    """Rows scaled to norm sqrt(columns); a row of zeros is a ValueError."""
    norms = block.norm(dim=1, keepdim=True)
    if not (norms > 0).all():
        raise ValueError(
            f"row {int((norms <= 0).nonzero()[0, 0])} of a block equals the training "
            "mean in every coordinate: it has length 0 and cannot be normalised."
        )
    return block * (block.shape[1] ** 0.5 / norms)


@dataclass(frozen=True)
class BlockScaling:
    """A scaling of both blocks whose statistics come from the training set only.

    - `raw`: unchanged. `unit`: divided by 255.
    - `rms`: divided by the root mean square of all training numbers, core and frame together.
    - `blocks`: each coordinate minus its training mean, then each sample's blocks scaled to
      `||x|| = sqrt(dx)` and `||y|| = sqrt(dy)`, as the theorems assume. A core of zeros is taken as
      removed (the `zero` query) and stays exactly 0.

    >>> train = TwoBlock(torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [3.0]]))
    >>> BlockScaling.fit(*train, "blocks").apply(*train).z.tolist()
    [[1.0, -1.0], [0.0, 1.0]]
    """

    kind: str
    centre: TwoBlock | None  # training means, (1, dx) and (1, dy), of kind `blocks` only
    divisor: float

    KINDS = ("raw", "unit", "rms", "blocks")

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, kind: str) -> BlockScaling:
        """Take the statistics from training blocks x `(n, dx)` and y `(n, dy)`."""
        if kind not in cls.KINDS:
            raise ValueError(f"kind={kind!r} must be one of {', '.join(cls.KINDS)}.")
        if kind == "blocks":
            return cls(kind, TwoBlock(x.mean(0, keepdim=True), y.mean(0, keepdim=True)), 1.0)
        if kind == "rms":
            squares = sum(float(block.square().sum(dtype=torch.float64)) for block in (x, y))
            return cls(kind, None, (squares / (x.numel() + y.numel())) ** 0.5)
        return cls(kind, None, 255.0 if kind == "unit" else 1.0)

    def apply(self, x: Tensor, y: Tensor) -> TwoBlock:
        """Scale training samples or queries of the same two widths."""
        if self.centre is None:
            return TwoBlock(x / self.divisor, y / self.divisor)
        scaled, present = torch.zeros_like(x), x.any(dim=1)
        scaled[present] = to_sphere(x[present] - self.centre.x)
        return TwoBlock(scaled, to_sphere(y - self.centre.y))
