"""A search for a small pattern that turns images into one class, which the user does not know of.

Source: ours; the question is that of Wang et al. 2019 (Neural Cleanse), asked of squares.
"""

import itertools
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from helpers import stats
from helpers.audit.asked import Images

_SCREENED, _AGAIN, _FRESH = 16, 64, 2_000  # pictures for the first look, the second, the last
_KEPT, _CARRIED = 5, 120  # squares that are looked at again; that pictures carry, at first
LEAST = 40  # pictures without which nothing is searched
BOUND = 60_000  # pictures that the model is shown at most
ALONE = 0.3  # by how much a square turns more than its like elsewhere
_BETTER = 0.02  # a move turns so much more
_MOVES, _TRIES = 30, 48  # squares around one that are tried: while it moves, and in all
_ENOUGH = 0.95  # of what a square turns, for a smaller one in its place
_TAUGHT = 0.8  # of what a square turns, for one beside it that pictures carry
_FEWEST = 5  # pictures that teach a square
_SIDES = (14, 9, 5.6)  # of the picture, over that of a square
_PLACES = {1: 14, 3: 9}  # along each side, by the number of channels


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
    (1176, 1215)
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

    Those that training pictures of one class carry are tried besides, and go before others that
    turn as many. The model is shown 60,000 pictures at most, of whatever size: 16 for each of 1,215
    squares and of 120 that are carried, 64 for each of 50 around each of the ten that are kept, and
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
    tried = squares(
        tuple(test.inputs.shape[1:]), float(test.inputs.min()), float(test.inputs.max())
    )
    first = []
    for square in tried:
        first.append(looked.turned(square, 0))
        yield looked.left
    seen = torch.stack(first)
    targets = seen.argmax(1).tolist()
    alone = [float(seen[k, t] - seen[_like(k, t, tried, seen), t]) for k, t in enumerate(targets)]
    order = np.argsort(alone, kind="stable")[::-1][:_KEPT].tolist()
    maps = {colour: _coloured(colour, train.inputs) for colour in {one.colour for one in tried}}
    chosen, known = [(k, tried[k], targets[k]) for k in order], []
    for k, target in _most_taught(tried, maps, train.labels):
        own = train.labels == target
        square = _carried(tried[k], maps[tried[k].colour], own, looked.largest) or tried[k]
        known.append((float(looked.turned(square, 0)[target]), k, square, target))
        yield looked.left
    known.sort(key=lambda one: one[0], reverse=True)
    found = []
    for k, square, target in chosen + [one[1:] for one in known[:_KEPT]]:
        coloured, own = maps[square.colour], train.labels == target
        square = yield from looked.best_near(square, target)
        square = looked.taught_near(square, target, coloured, own)
        like = tried[_like(k, target, tried, seen)]
        like = looked.inside(like._replace(side=square.side))
        gained = looked.share(square, target) - looked.share(like, target)
        first_of_all = gained > ALONE and _taught(square, coloured, own)
        found.append(((first_of_all, gained), square, target, like))
        yield looked.left
    _, square, target, like = max(found, key=lambda one: one[0])
    hits = looked.hits(square, target, 2)
    turned = stats.share_ci(int(hits.sum()), len(hits))
    yield Found(square, target, turned, float(looked.turned(like, 2)[target]))


class _Looked:
    """Three parts of the pictures, what the model says of them, and what it says with a square."""

    def __init__(self, classes: Callable[[Tensor], Tensor], test: Images, seed: int) -> None:
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        few, more = min(_SCREENED, len(order) // 4), min(_AGAIN, len(order) // 4)
        sizes = [few, more, min(_FRESH, len(order) - few - more)]
        order = order[: sum(sizes)]
        self.model, self.shape = classes, tuple(test.inputs.shape[1:])
        self.largest = max(1, round(min(self.shape[1:]) / min(_SIDES)))
        self.left, self.known = BOUND, {}
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

    def taught_near(self, square: Square, target: int, coloured: Tensor, own: Tensor) -> Square:
        """The largest square over this one that pictures carry, if it turns nearly as many.

        A network may be turned by its pattern in a place near by, too, where no picture has it.
        """
        other = _carried(square, coloured, own, self.largest)
        enough = _TAUGHT * self.share(square, target)
        return other if other is not None and self.share(other, target) >= enough else square

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


def _like(k: int, target: int, tried: list[Square], seen: Tensor) -> int:
    """The equal square without a common pixel that turns most into the same class."""
    kinds = [(other.side, other.colour) for other in tried]
    places = np.array([other[:2] for other in tried])
    apart = (np.abs(places - places[k]) >= tried[k].side).any(1)
    alike = np.flatnonzero(apart & np.array([kind == kinds[k] for kind in kinds]))
    return int(alike[seen[alike, target].argmax()]) if len(alike) else k


def _most_taught(
    tried: list[Square], maps: dict[tuple[float, ...], Tensor], labels: Tensor
) -> list[tuple[int, int]]:
    """Squares that are taught most clearly, apart from each other, by number; and their classes."""
    clear, counts = [], {}
    for side, colour in {(one.side, one.colour) for one in tried}:
        shown = _windows(maps[colour], side)
        counts[side, colour] = torch.stack([shown[labels == c].sum(0) for c in labels.unique()])
    for k, square in enumerate(tried):
        own = counts[square.side, square.colour][:, square.top, square.left]
        target = int(labels.unique()[own.argmax()])
        clear.append((_clearly(int(own.sum()), int(own.max()), labels == target), k, target))
    apart: list[tuple[int, int]] = []
    for clearly, k, target in sorted(clear, key=lambda one: one[0], reverse=True):
        near = (tried[j] for j, _ in apart if tried[j].colour == tried[k].colour)
        if clearly > 0 and len(apart) < _CARRIED and not any(tried[k].overlaps(x) for x in near):
            apart.append((k, target))
    return apart


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

    More than others: the interval of the share of this label among carriers lies above that among
    the rest.
    """
    return _taught(square, _coloured(square.colour, train.inputs), train.labels == target)


def _taught(square: Square, coloured: Tensor, own: Tensor) -> bool:
    shown = _inside(square, coloured)
    return _clearly(int(shown.sum()), int(own[shown].sum()), own) > 0


def _clearly(count: int, hits: int, own: Tensor) -> float:
    """How far the interval of a label's share among carriers lies above that among the rest.

    0 where carriers are few or most have another label.

    count, hits: pictures that carry something, and how many of them have the label. own: which of
    all pictures have it. The intervals are those of `stats.share_ci`, by the beta law's inverse
    itself, which is asked here some thousand times.
    """
    if count < _FEWEST or hits <= count / 2:
        return 0.0
    rest, others = len(own) - count, int(own.sum()) - hits
    low = special.betaincinv(hits, count - hits + 1, 0.025)
    high = special.betaincinv(others + 1, rest - others, 0.975) if others < rest else 1.0
    return float(low - high)


def _carried(square: Square, coloured: Tensor, own: Tensor, largest: int) -> Square | None:
    """The largest square that shares a pixel with this one and is taught by pictures.

    Not all sides and places of large ones are tried: sides are a fifth apart, places an eighth of a
    side, so that one fits into any pattern of a fifth more.
    """
    core = (slice(square.top, square.top + square.side),
            slice(square.left, square.left + square.side))  # fmt: skip
    some = coloured[:, *core].flatten(1).any(1)  # the others carry none of these squares
    coloured, mine = coloured[some], own[some]
    for side in _shorter(largest):
        pace = max(1, side // 8)
        tops, lefts = (
            range(max(0, at + 1 - side), min(at + square.side, size - side + 1), pace)
            for at, size in zip(square[:2], coloured.shape[1:], strict=True)
        )
        part = coloured[:, tops[0] : tops[-1] + side, lefts[0] : lefts[-1] + side]
        shown = _windows(part, side, pace)
        count, hits = shown.sum(0), shown[mine].sum(0)
        for down, right in ((count >= _FEWEST) & (2 * hits > count)).nonzero().tolist():
            if _clearly(int(count[down, right]), int(hits[down, right]), own) > 0:
                return Square(tops[down], lefts[right], side, square.colour)
    return None


def _windows(coloured: Tensor, side: int, pace: int = 1) -> Tensor:
    """`(n, places, places)`: is every pixel of the square with its corner there coloured?"""
    return coloured.unfold(1, side, pace).all(-1).unfold(2, side, pace).all(-1)


def _shorter(largest: int) -> list[int]:
    """Sides from this one down to 2, each a fifth shorter or by a pixel."""
    sides = [largest]
    while sides[-1] > 2:
        sides.append(max(2, min(sides[-1] - 1, round(0.8 * sides[-1]))))
    return [side for side in sides if side > 1]


def _spread(room: int, channels: int) -> list[int]:
    """At most so many places from 0 to `room`, both included."""
    count = _PLACES.get(channels, min(_PLACES.values()))
    return sorted({round(k * room / (count - 1)) for k in range(count)})
