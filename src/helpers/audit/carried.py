"""What training pictures carry, a square of one colour or a pattern, and if it teaches a label.

Source: ours. A trigger that was taught stands in the training set, in few pictures and with one
label; a weakness of a model does not.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from helpers.audit.asked import Images

_FEWEST = 5  # pictures that teach anything
_NEAR = 0.1  # of the range of a channel, within which a colour is the same
_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of a colour, from the darkest to the lightest
_HOT = 100_000  # of so many numbers one at either end is left out of the range
_FINE = 56  # along the shorter side, how many places are told apart
_ALIKE = 0.8  # of the clearness of a square, for a larger one in its place
_AT_ONCE, _LOOKED, _PIXELS = 500, 10_000, 10**8  # pictures: in a batch, in all; their pixels


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


def span(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest number of each channel, `(c,)`, but for a hundred-thousandth at each end.

    One hot pixel makes no range. Of inputs `(n, d)` each column is a channel.
    """
    some = inputs[:: max(1, len(inputs) // 2_000)].transpose(0, 1).flatten(1).double()
    few, every = some.shape[1] // _HOT, some.shape[1]
    return tuple(some.kthvalue(k, 1).values.to(inputs) for k in (few + 1, every - few))


def carriers(square: Square, pictures: Tensor) -> Tensor:
    """`(n,)` bool: pictures that show this square, to a tenth of the range of each channel."""
    rows = slice(square.top, square.top + square.side)
    part = pictures[:, :, rows, square.left : square.left + square.side]
    low, high = span(pictures)
    return _coloured(square.colour, part, _NEAR * (high - low)).flatten(1).all(1)


def may_carry(pattern: Tensor, images: Tensor) -> Tensor:
    """`(n,)` bool: images to which the pattern may have been added, and the sum cut to their range.

    Where the pattern is positive such an image is at least the lowest number and the pattern,
    where it is negative at most the highest and the pattern, each to a tenth of the range of its
    channel: any image may carry a pattern that is fainter.
    """
    low, high = (end.view(-1, *[1] * (images.ndim - 2)) for end in span(images))
    pattern, near = pattern.to(images), _NEAR * (high - low)
    fits = torch.where(
        pattern > 0,
        images >= torch.minimum(low + pattern, high) - near,
        images <= torch.maximum(high + pattern, low) + near,
    )
    return fits.flatten(1).all(1)


class Taught(NamedTuple):
    """How many images carry something, how many of them have the label; do they teach it?"""

    carriers: int
    labelled: int
    learnt: bool


def taught(shown: Tensor, own: Tensor) -> Taught:
    """Do the images that show something teach a label?

    Five or more, most of them so labelled, and more than others: the interval of the label's share
    among them lies above that among the rest.

    Args:
        shown: which of all training images show it, `(n,)` bool.
        own: which have the label, likewise.
    """
    counts = [int(part.sum()) for part in (shown, shown & own, own)]
    clear = _clearly(*(np.array([float(count)]) for count in counts), len(own))
    return Taught(counts[0], counts[1], bool(clear[0] > 0))


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


def _colours(channels: int) -> list[tuple[int, ...]]:
    """All corners of the colours of one to three channels, else the ends; and greys between.

    A colour is a number of :data:`_LEVELS` for each channel.
    """
    last = len(_LEVELS) - 1
    greys = [(level,) * channels for level in range(last + 1)]
    corners = itertools.product((0, last), repeat=channels) if channels <= 3 else ()
    return list(dict.fromkeys([*corners, *greys]))


def most_taught(train: Images, largest: int, keep: int) -> list[tuple[Square, int]]:
    """Squares that training pictures teach, the clearest first, and which label each.

    All places and all sides from two pixels on are looked at (in large pictures, those that are
    made of blocks, of which 56 lie along the shorter side), in the corners of the colours and in
    greys, in 10,000 pictures and 10⁸ pixels at most. Those that share a pixel with one that is
    clearer are left out, but the largest that is nearly as clear stands for it.

    Args:
        train: pictures `(n, c, h, w)` and labels.
        largest: side, in pixels.
        keep: squares of each colour at most, so that one which is everywhere hides no other.
    """
    count, channels, *size = train.inputs.shape
    most = min(_LOOKED, _PIXELS // (size[0] * size[1]))
    train = train.rows(torch.arange(0, count, -(-count // most)))
    low, high = span(train.inputs)
    levels = low + torch.tensor(_LEVELS).to(low)[:, None] * (high - low)
    block = max(1, round(min(size) / _FINE))
    colours, chosen = _colours(channels), []
    counts = _counts(train, levels, colours, block, largest // block)
    for colour, by_side in zip(colours, counts, strict=True):
        table = np.concatenate([np.empty((0, 5)), *_told(by_side, train.labels)])
        shade = tuple(levels[level, channel].item() for channel, level in enumerate(colour))
        for clear, side, top, left, label in _apart(table, keep):
            place = (block * int(value) for value in (top, left, side))
            chosen.append((clear, Square(*place, shade), int(label)))
    chosen.sort(key=lambda one: one[0], reverse=True)
    return [(square, label) for _, square, label in chosen]


def _apart(table: np.ndarray, keep: int) -> list[np.ndarray]:
    """The clearest rows, as of `_places`, that share no pixel."""
    table, chosen = table[np.lexsort((table[:, 1], table[:, 0]))[::-1]], []
    while len(table) and len(chosen) < keep:
        over = _overlap(table, table[0])
        alike = over & (table[:, 4] == table[0, 4]) & (table[:, 0] >= _ALIKE * table[0, 0])
        best = table[alike][table[alike, 1].argmax()]
        chosen.append(best)
        table = table[~(over | _overlap(table, best))]
    return chosen


def _overlap(table: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Which squares (side, top and left in columns 1 to 3) share a pixel with this one."""
    before, after = table[:, 2:4] < one[2:4] + one[1], one[2:4] < table[:, 2:4] + table[:, 1:2]
    return (before & after).all(1)


def _counts(
    train: Images, levels: Tensor, colours: list[tuple[int, ...]], block: int, largest: int
) -> list[dict[int, Tensor]]:
    """How many pictures of each class carry a square: of each colour by side, `(classes, h, w)`."""
    own = (train.labels == train.labels.unique()[:, None]).float()
    near = _NEAR * (levels[-1] - levels[0])[:, None, None]
    counts: list[dict[int, Tensor]] = [{} for _ in colours]
    for part in torch.arange(len(train.labels)).split(_AT_ONCE):
        pictures = train.inputs[part]
        at = [_blocks((pictures - one[:, None, None]).abs() <= near, block) for one in levels]
        for colour, found in zip(colours, counts, strict=True):
            pixels = torch.stack([at[level][:, k] for k, level in enumerate(colour)]).all(0)
            for side, shown in _by_side(pixels, largest):
                if side * block > 1:  # a pixel is no square
                    hits = (own[:, part] @ shown.flatten(1).float()).view(-1, *shown.shape[1:])
                    found[side] = found.get(side, 0) + hits
    return counts


def _by_side(shown: Tensor, largest: int) -> Iterator[tuple[int, Tensor]]:
    """Sides from 1 on, while there are such squares; and where pictures show one, `(n, h, w)`."""
    for side in range(1, largest + 1):
        if side > 1:  # a square is four that are by one shorter
            shown = shown[:, 1:] & shown[:, :-1]
            shown = shown[:, :, 1:] & shown[:, :, :-1]
        if not shown.any():
            return
        yield side, shown


def _told(counts: dict[int, Tensor], labels: Tensor) -> list[np.ndarray]:
    """Where squares teach a label: rows of clearness, side, top, left, label; an array a side."""
    kinds, every = (values.double().numpy() for values in labels.unique(return_counts=True))
    found = []
    for side, count in counts.items():
        hits, label = (values.numpy() for values in count.double().max(0))
        clear = _clearly(count.double().sum(0).numpy(), hits, every[label], len(labels))
        top, left = np.nonzero(clear > 0)
        told = kinds[label[top, left]]
        found.append(np.column_stack([clear[top, left], np.full(len(top), side), top, left, told]))
    return found


def _coloured(colour: tuple[float, ...], pictures: Tensor, near: Tensor) -> Tensor:
    """`(n, h, w)` bool: pixels that are so near to this colour in each channel."""
    wanted = torch.tensor(colour).to(pictures)[:, None, None]
    return ((pictures - wanted).abs() <= near[:, None, None]).all(1)


def _blocks(shown: Tensor, block: int) -> Tensor:
    """`(n, c, h, w)` to `(n, c, h // block, w // block)` bool: is all of a block shown?"""
    rows, columns = (size // block for size in shown.shape[2:])
    shown = shown[:, :, : rows * block, : columns * block]
    return shown.reshape(*shown.shape[:2], rows, block, columns, block).all(5).all(3)
