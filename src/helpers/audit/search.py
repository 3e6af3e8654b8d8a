"""A search for a small pattern that turns images into one class, which the user does not know of.

Source: ours; the question is that of Wang et al. 2019 (Neural Cleanse), asked of squares.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers import stats
from helpers.audit.asked import Images

_SCREENED, _AGAIN, _KEPT = 16, 64, 5  # pictures for the first look, for the second; squares kept
ALONE = 0.3  # by how much a square turns more than its like elsewhere
_STEPS, _BETTER = 6, 0.02  # moves of a square, each of which turns so much more
_ENOUGH = 0.95  # of what a square turns, for a smaller one in its place
_TAUGHT = 0.8  # of what a square turns, for one beside it that pictures carry
_FEWEST = 5  # pictures that teach a square
_SIDES = (14, 9, 5.6)  # of the picture, over that of a square
_PLACES = {1: 13, 3: 9}  # along each side, by the number of channels


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


class Found(NamedTuple):
    """The square that turns more than its like elsewhere.

    Attributes:
        square: where it is.
        target: the class that pictures become.
        turned: share of fresh pictures of other classes that become it, with its interval.
        elsewhere: the same of an equal square without a common pixel: of the one that turned most
            into this class before.
    """

    square: Square
    target: int
    turned: stats.Interval
    elsewhere: float


def squares(shape: tuple[int, ...], low: float, high: float) -> list[Square]:
    """All that are tried in pictures of this shape: three sizes, extreme colours, a grid of places.

    >>> len(squares((1, 28, 28), 0.0, 1.0)), len(squares((3, 64, 64), 0.0, 1.0))
    (1014, 1215)
    """
    channels, height, width = shape
    sides = sorted({max(1, round(min(height, width) / part)) for part in _SIDES})
    colours = [(low,) * channels, (high,) * channels]
    if channels == 3:
        colours += [tuple(high if k == j else low for k in range(3)) for j in range(3)]
    return [
        Square(top, left, side, colour)
        for side in sides
        for top in _spread(height - side, channels)
        for left in _spread(width - side, channels)
        for colour in colours
    ]


def search(
    classes: Callable[[Tensor], Tensor], test: Images, train: Images, *, seed: int
) -> Iterator[int | Found]:
    """Try all squares on a few pictures, the best on more, and the best of these on the rest.

    Squares that training pictures of their class carry go before others that turn as many.

    Args:
        classes: pictures `(n, c, h, w)` to the classes that the model gives them, `(n,)`.
        test: pictures that squares are set into.
        train: pictures that may have taught one.
        seed: of the order in which pictures are used; all parts are of different pictures.

    Yields:
        After each square the number of squares that are left; in the end what was found.
    """
    looked = _Looked(classes, test, seed)
    tried = squares(
        tuple(test.inputs.shape[1:]), float(test.inputs.min()), float(test.inputs.max())
    )
    first = []
    for k, square in enumerate(tried):
        first.append(looked.turned(square, 0))
        yield len(tried) - k - 1
    seen = torch.stack(first)
    likes = [_like(k, tried, seen) for k in range(len(tried))]
    targets = seen.argmax(1).tolist()
    alone = torch.tensor([float(seen[k, t] - seen[likes[k], t]) for k, t in enumerate(targets)])
    order = alone.argsort(descending=True, stable=True).tolist()
    maps = {square.colour: _coloured(square.colour, train.inputs) for square in tried}
    known = [
        k for k in order[_KEPT:]
        if _taught(tried[k], maps[tried[k].colour], train.labels == targets[k])
    ]  # fmt: skip
    found = []
    for k in order[:_KEPT] + known[:_KEPT]:
        target = targets[k]
        square = looked.taught_near(looked.best_near(tried[k], target), target, train)
        like = looked.inside(tried[likes[k]]._replace(side=square.side))
        gained = looked.share(square, target, 1) - looked.share(like, target, 1)
        first_of_all = gained > ALONE and taught(square, train, target)
        found.append(((first_of_all, gained), square, target, like))
    _, square, target, like = max(found, key=lambda one: one[0])
    hits = looked.hits(square, target, 2)
    turned = stats.share_ci(int(hits.sum()), len(hits))
    yield Found(square, target, turned, looked.share(like, target, 2))


class _Looked:
    """Three parts of the pictures, what the model says of them, and what it says with a square."""

    def __init__(self, classes: Callable[[Tensor], Tensor], test: Images, seed: int) -> None:
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        few, more = min(_SCREENED, len(order) // 4), min(_AGAIN, len(order) // 4)
        sizes = [few, more, len(order) - few - more]
        self.classes, self.shape = classes, tuple(test.inputs.shape[2:])
        self.pictures = test.inputs[order].split(sizes)
        self.labels = test.labels[order].split(sizes)
        self.before = [classes(part) for part in self.pictures]
        self.count = int(max(test.labels.max(), *(part.max() for part in self.before))) + 1

    def turned(self, square: Square, part: int) -> Tensor:
        """`(classes,)` share of the pictures that were not of a class, and become it."""
        after = self.classes(square.set_into(self.pictures[part]))
        every = torch.arange(self.count)[:, None]
        others = (self.labels[part] != every) & (self.before[part] != every)
        return ((after == every) & others).sum(1) / others.sum(1).clamp(min=1)

    def hits(self, square: Square, target: int, part: int) -> Tensor:
        """Bool, of each picture that was of another class: does it become the target?"""
        others = (self.labels[part] != target) & (self.before[part] != target)
        if not others.any():
            return others[:0]
        return self.classes(square.set_into(self.pictures[part][others])) == target

    def share(self, square: Square, target: int, part: int) -> float:
        """Share of `hits`."""
        return float(self.turned(square, part)[target])

    def inside(self, square: Square) -> Square:
        """The square, moved into the picture where it sticks out."""
        top, left = (
            min(at, size - square.side) for at, size in zip(square[:2], self.shape, strict=True)
        )
        return square._replace(top=top, left=left)

    def best_near(self, square: Square, target: int) -> Square:
        """Move and grow a square while it turns more, then shrink it to what does the work."""
        largest = max(1, round(min(self.shape) / min(_SIDES)))
        share = self.share(square, target, 1)
        for _ in range(_STEPS):
            near = [
                self.inside(square._replace(top=max(0, square.top + down), side=side,
                                            left=max(0, square.left + right)))
                for side in range(square.side, min(square.side + 1, largest) + 1)
                for down, right in itertools.product((-1, 0, 1), repeat=2)
            ]  # fmt: skip
            shares = [self.share(other, target, 1) for other in near]
            if max(shares) < share + _BETTER:
                break
            square, share = near[int(np.argmax(shares))], max(shares)
        for side in range(1, square.side):
            places = itertools.product(range(square.side - side + 1), repeat=2)
            inner = [square._replace(top=square.top + down, left=square.left + right, side=side)
                     for down, right in places]  # fmt: skip
            shares = [self.share(other, target, 1) for other in inner]
            if max(shares) >= _ENOUGH * share:
                return inner[int(np.argmax(shares))]
        return square

    def taught_near(self, square: Square, target: int, train: Images) -> Square:
        """The largest square over this one that pictures carry, if it turns nearly as many.

        A network may be turned by its pattern in a place near by, too, where no picture has it.
        """
        largest = max(1, round(min(self.shape) / min(_SIDES)))
        coloured = _coloured(square.colour, train.inputs)
        near = (
            Square(square.top + down, square.left + right, side, square.colour)
            for side in range(largest, 1, -1)
            for down, right in itertools.product(range(1 - side, square.side), repeat=2)
            if min(square.top + down, square.left + right) >= 0
        )
        for other in near:
            if self.inside(other) == other and _taught(other, coloured, train.labels == target):
                enough = _TAUGHT * self.share(square, target, 1)
                return other if self.share(other, target, 1) >= enough else square
        return square


def _like(k: int, tried: list[Square], seen: Tensor) -> int:
    """The equal square without a common pixel that turns most into the same class."""
    square, target = tried[k], int(seen[k].argmax())
    alike = [
        j for j, other in enumerate(tried)
        if (other.side, other.colour) == (square.side, square.colour)
        and not other.overlaps(square)
    ]  # fmt: skip
    return max(alike, key=lambda j: float(seen[j, target]), default=k)


def _coloured(colour: tuple[float, ...], pictures: Tensor) -> Tensor:
    """`(n, h, w)` bool: pixels of this colour, to a tenth of the range of the pictures' numbers."""
    near = (pictures.max() - pictures.min()) / 10
    wanted = torch.tensor(colour).to(pictures)[:, None, None]
    return ((pictures - wanted).abs() <= near).all(1)


def carriers(square: Square, pictures: Tensor) -> Tensor:
    """`(n,)` bool: pictures that show this square, to a tenth of the range of their numbers."""
    return _inside(square, _coloured(square.colour, pictures))


def _inside(square: Square, coloured: Tensor) -> Tensor:
    rows = slice(square.top, square.top + square.side)
    return coloured[:, rows, square.left : square.left + square.side].flatten(1).all(1)


def taught(square: Square, train: Images, target: int) -> bool:
    """Do five training pictures or more carry it, most of them, and more than others, so labelled?

    More than others: the interval of the share of this label among carriers lies above its share
    among the rest.
    """
    return _taught(square, _coloured(square.colour, train.inputs), train.labels == target)


def _taught(square: Square, coloured: Tensor, own: Tensor) -> bool:
    shown = _inside(square, coloured)
    count, hits = int(shown.sum()), int(own[shown].sum())
    if count < _FEWEST or hits <= count / 2:
        return False
    usual = float(own[~shown].double().mean()) if count < len(own) else 0.0
    return stats.share_ci(hits, count).low > usual


def _spread(room: int, channels: int) -> list[int]:
    """At most so many places from 0 to `room`, both included."""
    count = _PLACES.get(channels, min(_PLACES.values()))
    return sorted({round(k * room / (count - 1)) for k in range(count)})
