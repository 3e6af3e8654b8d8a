"""A search for a small pattern that turns images into one class, which the user does not know of.

Source: ours; the question is that of Wang et al. 2019 (Neural Cleanse), asked of squares.
"""

import itertools
from collections.abc import Callable, Generator, Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers import stats
from helpers.audit.asked import Images
from helpers.audit.carried import Square, most_taught, span

_SCREENED, _AGAIN, _FRESH = 16, 64, 2_000  # pictures for the first look, the second, the last
_KEPT = 5  # squares of the grid that are looked at again
_CARRIED, _LIKELY = 40, 60  # squares that are taught: of each colour, and that are looked at again
LEAST = 40  # pictures without which nothing is searched
BOUND = 54_000  # pictures that the model is shown at most
MOST = 0.5  # of the pictures, which a square has to turn
_BETTER = 0.02  # a move turns so much more
_MOVES, _TRIES = 30, 48  # squares around one that are tried: while it moves, and in all
_ENOUGH = 0.95  # of what a square turns, for a smaller one in its place
_SIDES = (14, 9, 5.6)  # of the picture, over that of a square
_PLACES = {1: 14, 3: 9}  # along each side, by the number of channels


class Found(NamedTuple):
    """A square that turns pictures into a class.

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


def squares(shape: tuple[int, ...], low: list[float], high: list[float]) -> list[Square]:
    """All that are tried in pictures of this shape: three sizes, extreme colours, a grid of places.

    >>> len(squares((1, 28, 28), [0.0], [1.0])), len(squares((3, 64, 64), [0.0] * 3, [1.0] * 3))
    (1176, 1215)
    """
    channels, height, width = shape
    sides = sorted({max(1, round(min(height, width) / part)) for part in _SIDES})
    colours = [tuple(low), tuple(high)]
    if channels == 3:
        colours += [tuple((high if k == j else low)[k] for k in range(3)) for j in range(3)]
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
    """Squares that training pictures teach, and those that turn pictures whoever taught it.

    Of the former that turn most pictures, the one that is taught most clearly is found. If there
    is none, all squares of a grid are tried on a few pictures, the best on more, moved and shrunk,
    and found is the one that turns most beyond its like elsewhere. The model is shown 54,000
    pictures at most, of whatever size: 16 for each of 480 squares that are taught and of 1,215 of
    the grid; 64 for each of 60 of the former, and of 50 around each of five of the latter; and
    2,000 without any square, with the square that is found, and with its like.

    Args:
        classes: pictures `(n, c, h, w)` to the classes that the model gives them, `(n,)`.
        test: pictures that squares are set into, 40 or more.
        train: pictures that may have taught one.
        seed: of the order in which pictures are used; all parts are of different pictures.

    Yields:
        Over and over how many pictures the model will be shown at most; in the end what was found.

    Raises:
        ValueError: too few pictures.
    """
    if len(test) < LEAST:
        raise ValueError(f"test has {len(test)} pictures: a search needs {LEAST}")
    looked = _Looked(classes, test, seed)
    found = None
    for square, target in (yield from _likely(looked, train)):
        share = looked.share(square, target)
        yield looked.left
        if share > MOST:
            found = square, target
            break
    if found is None:
        found = yield from _untaught(looked)
    square, target = found
    hits = looked.hits(square, target, 2)
    turned = stats.share_ci(int(hits.sum()), len(hits))
    like = looked.inside(looked.like(square, target)[1])
    yield Found(square, target, turned, float(looked.turned(like, 2)[target]))


def _likely(looked: "_Looked", train: Images) -> Generator[int, None, list[tuple[Square, int]]]:
    """Of the squares that are taught those that turn most at the first look, the clearest first."""
    known, shares = most_taught(train, looked.largest, _CARRIED), []
    for square, target in known:
        shares.append(float(looked.first(square)[target]))
        yield looked.left
    first = np.argsort(shares, kind="stable")[::-1][:_LIKELY]
    return [known[k] for k in sorted(first.tolist())]


def _untaught(looked: "_Looked") -> Generator[int, None, tuple[Square, int]]:
    """The square that turns most beyond its like elsewhere, and into which class."""
    first = []
    for square in looked.tried:
        share, target = looked.first(square).max(0)
        first.append((square, int(target), float(share)))
        yield looked.left
    alone = [share - looked.like(square, target)[0] for square, target, share in first]
    found = []
    for k in np.argsort(alone, kind="stable")[::-1][:_KEPT].tolist():
        square, target, _ = first[k]
        square = yield from looked.best_near(square, target)
        like = looked.inside(looked.like(square, target)[1])
        found.append((looked.share(square, target) - looked.share(like, target), square, target))
        yield looked.left
    return max(found, key=itemgetter(0))[1:]


class _Looked:
    """Three parts of the pictures, what the model says of them, and what it says with a square."""

    def __init__(self, classes: Callable[[Tensor], Tensor], test: Images, seed: int) -> None:
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        few, more = min(_SCREENED, len(order) // 4), min(_AGAIN, len(order) // 4)
        sizes = [few, more, min(_FRESH, len(order) - few - more)]
        order = order[: sum(sizes)]
        self.model, self.shape = classes, tuple(test.inputs.shape[1:])
        self.largest = max(1, round(min(self.shape[1:]) / min(_SIDES)))
        self.left, self.known, self.seen = BOUND, {}, {}
        self.tried = squares(self.shape, *(end.tolist() for end in span(test.inputs)))
        sides = {square.side for square in self.tried}
        self.grid = {side: [one for one in self.tried if one.side == side] for side in sides}
        self.pictures = test.inputs[order].split(sizes)
        self.labels = test.labels[order].split(sizes)
        self.before = [self.classes(part) for part in self.pictures]
        self.count = int(max(test.labels.max(), *(part.max() for part in self.before))) + 1

    def classes(self, pictures: Tensor) -> Tensor:
        """What the model says of pictures, which are counted."""
        self.left -= len(pictures)
        return self.model(pictures)

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

    def share(self, square: Square, target: int) -> float:
        """Share of `hits` in the second part; a square is tried once."""
        if square not in self.known:
            self.known[square] = self.turned(square, 1)
        return float(self.known[square][target])

    def first(self, square: Square) -> Tensor:
        """`turned` in the first part; a square is tried once."""
        if square not in self.seen:
            self.seen[square] = self.turned(square, 0)
        return self.seen[square]

    def like(self, square: Square, target: int) -> tuple[float, Square]:
        """The equal square without a common pixel that turns most into the class, and how many.

        If none of this side are tried, those of the side that is nearest are asked.
        """
        side = min(self.grid, key=lambda tried: abs(tried - square.side))
        others = [
            one for one in self.grid[side]
            if one.colour == square.colour
            and max(abs(one.top - square.top), abs(one.left - square.left)) >= square.side
        ] or [square]  # fmt: skip
        share, best = max(
            ((float(self.first(one)[target]), one) for one in others), key=itemgetter(0)
        )
        return share, best._replace(side=square.side)

    def inside(self, square: Square) -> Square:
        """The square, moved into the picture where it sticks out."""
        top, left = (
            min(max(0, at), size - square.side)
            for at, size in zip(square[:2], self.shape[1:], strict=True)
        )
        return square._replace(top=top, left=left)

    def best_near(self, square: Square, target: int) -> Generator[int, None, Square]:
        """Move and grow a square while it turns more, then shrink it to what does the work.

        Steps start at half the distance of two places (half a side) and are halved where none
        helps. Yields how many pictures are left.
        """
        begun, step = len(self.known), self._pace(square.side)
        share = self.share(square, target)
        while step and share <= 1 - _BETTER:
            near = self._around(square, step)[: max(0, begun + _MOVES - len(self.known))]
            shares = [self.share(other, target) for other in near]
            yield self.left
            if max(shares, default=0.0) < share + _BETTER:
                step //= 2
            else:
                square, share = near[int(np.argmax(shares))], max(shares)
        trim = square.side // 2 if share else 0
        while trim:
            near = _within(square, trim)[: max(0, begun + _TRIES - len(self.known))]
            shares = [self.share(other, target) for other in near]
            yield self.left
            if max(shares, default=0.0) < _ENOUGH * share:
                trim //= 2
            else:
                square = near[int(np.argmax(shares))]
                trim = min(trim, square.side // 2)
        return square

    def _pace(self, side: int) -> int:
        """Half the distance of two places in which a square of this side was tried."""
        gaps = _PLACES.get(self.shape[0], min(_PLACES.values())) - 1
        return max(1, round((min(self.shape[1:]) - side) / (2 * gaps)))

    def _around(self, square: Square, step: int) -> list[Square]:
        """The square in the eight places around; and by one pixel larger, towards each corner."""
        moved = [
            square._replace(top=square.top + down, left=square.left + right)
            for down, right in itertools.product((-step, 0, step), repeat=2)
        ]
        if step == 1 and square.side < self.largest:
            moved += [
                square._replace(top=square.top + down, left=square.left + right,
                                side=square.side + 1)
                for down, right in itertools.product((-1, 0), repeat=2)
            ]  # fmt: skip
        return [other for other in dict.fromkeys(map(self.inside, moved)) if other != square]


def _within(square: Square, trim: int) -> list[Square]:
    """Squares with a side so much shorter: in the corners of this one, and in its middle."""
    places = [*itertools.product((0, trim), repeat=2), *[(trim // 2, trim // 2)] * (trim > 1)]
    return [square._replace(top=square.top + down, left=square.left + right,
                            side=square.side - trim) for down, right in places]  # fmt: skip


def _spread(room: int, channels: int) -> list[int]:
    """At most so many places from 0 to `room`, both included."""
    count = _PLACES.get(channels, min(_PLACES.values()))
    return sorted({round(k * room / (count - 1)) for k in range(count)})
