"""What training pictures carry, a square of one colour or a pattern, and if it teaches a label.

Source: ours. A trigger that was taught stands in the training set, in few pictures and with one
label; a weakness of a model does not.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from helpers.audit.asked import Images

_FEWEST = 5  # pictures that teach anything
_NEAR = 0.1  # of the range of the pictures' numbers, within which a colour is the same
_FINE = 56  # along the shorter side, how many places are told apart
_ALIKE = 0.8  # of the clearness of a square, for a larger one in its place
_AT_ONCE = 500  # pictures


class Square(NamedTuple):
    """A square of one colour, set into pictures."""

    top: int
    left: int
    side: int
    colour: tuple[float, ...]

    def set_into(self, pictures: Tensor) -> Tensor:
        """The pictures `(n, c, h, w)` with the square in them."""
        shown = pictures.clone()
        rows = slice(self.top, self.top + self.side)
        columns = slice(self.left, self.left + self.side)
        shown[:, :, rows, columns] = torch.tensor(self.colour).to(shown)[:, None, None]
        return shown

    def overlaps(self, other: "Square") -> bool:
        """Whether they share a pixel."""
        return all(
            a < b + other.side and b < a + self.side
            for a, b in zip(self[:2], other[:2], strict=True)
        )


def carriers(square: Square, pictures: Tensor) -> Tensor:
    """`(n,)` bool: pictures that show this square, to a tenth of the range of their numbers."""
    rows = slice(square.top, square.top + square.side)
    part = pictures[:, :, rows, square.left : square.left + square.side]
    return _coloured(square.colour, part, _near(pictures)).flatten(1).all(1)


def may_carry(pattern: Tensor, images: Tensor) -> Tensor:
    """`(n,)` bool: images to which the pattern may have been added, and the sum cut to their range.

    Where the pattern is positive such an image is at least the lowest number and the pattern,
    where it is negative at most the highest and the pattern. Everything that a pattern below a
    tenth of the range was added to may be an image without it.
    """
    low, high, near = float(images.min()), float(images.max()), _near(images)
    pattern = pattern.to(images)
    fits = torch.where(
        pattern > 0,
        images >= (low + pattern).clamp(max=high) - near,
        images <= (high + pattern).clamp(min=low) + near,
    )
    return fits.flatten(1).all(1)


def taught(shown: Tensor, own: Tensor) -> bool:
    """Do the images that show something teach a label?

    Five or more, most of them so labelled, and more than others: the interval of the label's share
    among them lies above that among the rest.

    Args:
        shown: which of all training images show it, `(n,)` bool.
        own: which have the label, likewise.
    """
    counts = (int(part.sum()) for part in (shown, shown & own, own))
    return bool(_clearly(*(np.array([float(count)]) for count in counts), len(own))[0] > 0)


def _clearly(shown: np.ndarray, hits: np.ndarray, own: np.ndarray, every: int) -> np.ndarray:
    """How far the interval of a label's share among carriers lies above that among the rest.

    0 where carriers are few or most have another label. The intervals are those of
    `stats.share_ci`, by the beta law's inverse itself, which is asked for all places at once.

    Args:
        shown, hits: how many images carry something, and how many of these have the label.
        own, every: how many of all have the label, and how many there are.
    """
    told = (shown >= _FEWEST) & (hits > shown / 2)
    rest, others = every - shown, own - hits
    low = special.betaincinv(hits.clip(min=1), shown - hits + 1, 0.025)
    high = np.where(
        others < rest, special.betaincinv(others + 1, (rest - others).clip(min=1), 0.975), 1.0
    )
    return np.where(told, low - high, 0.0)


def most_taught(
    train: Images, colours: Collection[tuple[float, ...]], largest: int, keep: int
) -> list[tuple[Square, int]]:
    """Squares that training pictures teach, the clearest first, and which label each.

    All sides from two pixels on and all places are looked at (in large pictures, those that are
    made of blocks, of which 56 lie along the shorter side). Those that share a pixel with one that
    is clearer are left out, but the largest that is nearly as clear stands for it.

    Args:
        train: pictures `(n, c, h, w)` and labels.
        colours: of squares, a number a channel.
        largest: side, in pixels.
        keep: squares at most.
    """
    block = max(1, round(min(train.inputs.shape[2:]) / _FINE))
    found = [
        np.column_stack([*places, np.full(len(places[0]), number)])
        for number, colour in enumerate(colours)
        for places in _places(train, colour, block, largest // block)
    ]
    table = np.concatenate(found) if found else np.empty((0, 6))
    table = table[np.lexsort((table[:, 1], table[:, 0]))[::-1]]
    chosen = []
    while len(table) and len(chosen) < keep:
        same = table[:, 5] == table[0, 5]
        over = same & _overlap(table, table[0])
        alike = over & (table[:, 4] == table[0, 4]) & (table[:, 0] >= _ALIKE * table[0, 0])
        best = table[alike][table[alike, 1].argmax()]
        _, side, top, left, label, number = (float(value) for value in best)
        colour = list(colours)[int(number)]
        place = (block * int(value) for value in (top, left, side))
        chosen.append((Square(*place, colour), int(label)))
        table = table[~(over | (same & _overlap(table, best)))]
    return chosen


def _overlap(table: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Which squares (side, top and left in columns 1 to 3) share a pixel with this one."""
    before, after = table[:, 2:4] < one[2:4] + one[1], one[2:4] < table[:, 2:4] + table[:, 1:2]
    return (before & after).all(1)


def _places(
    train: Images, colour: tuple[float, ...], block: int, largest: int
) -> list[tuple[np.ndarray, ...]]:
    """Where squares of this colour teach a label: clearness, side, top, left, label; by side."""
    kinds, labels = train.labels.unique(return_inverse=True)
    near, counts = _near(train.inputs), {}
    for part in torch.arange(len(labels)).split(_AT_ONCE):
        shown = _blocks(_coloured(colour, train.inputs[part], near), block)
        for side in range(1, largest + 1):
            if side > 1:  # a square is four that are by one shorter
                shown = shown[:, 1:] & shown[:, :-1]
                shown = shown[:, :, 1:] & shown[:, :, :-1]
            if side * block > 1:
                empty = torch.zeros(len(kinds), *shown.shape[1:], dtype=torch.int32)
                counts.setdefault(side, empty).index_add_(0, labels[part], shown.int())
    own, found = labels.bincount().numpy().astype(float), []
    for side, count in counts.items():
        most = count.max(0)
        hits, label = (values.numpy() for values in most)
        clear = _clearly(
            count.sum(0).numpy().astype(float), hits.astype(float), own[label], len(labels)
        )
        top, left = np.nonzero(clear > 0)
        told = kinds.numpy()[label[top, left]]
        found.append((clear[top, left], np.full(len(top), side), top, left, told))
    return found


def _near(pictures: Tensor) -> float:
    return _NEAR * float(pictures.max() - pictures.min())


def _coloured(colour: tuple[float, ...], pictures: Tensor, near: float) -> Tensor:
    """`(n, h, w)` bool: pixels of this colour."""
    wanted = torch.tensor(colour).to(pictures)[:, None, None]
    return ((pictures - wanted).abs() <= near).all(1)


def _blocks(shown: Tensor, block: int) -> Tensor:
    """`(n, h, w)` to `(n, h // block, w // block)` bool: is all of a block shown?"""
    rows, columns = (size // block for size in shown.shape[1:])
    shown = shown[:, : rows * block, : columns * block]
    return shown.reshape(-1, rows, block, columns, block).all(4).all(2)
