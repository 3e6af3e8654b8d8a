"""A search for a small pattern that turns images into one class, which the user does not know of.

Source: ours; the question is that of Wang et al. 2019 (Neural Cleanse), asked of squares.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import stats

_SCREENED, _AGAIN, _KEPT = 16, 64, 8  # pictures for the first look, for the second; squares kept
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
        return abs(self.top - other.top) < self.side and abs(self.left - other.left) < self.side


class Found(NamedTuple):
    """The square that turns more than its like elsewhere.

    Attributes:
        square: where it is.
        target: the class that pictures become.
        turned: share of fresh pictures of other classes that become it, with its interval.
        elsewhere: the same, of any class, of an equal square without a common pixel: of the one
            that turned most before.
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
    classes: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, *, seed: int
) -> Iterator[int | Found]:
    """Try all squares on a few pictures, the best on more, and the best of these on the rest.

    Args:
        classes: pictures `(n, c, h, w)` to the classes that the model gives them, `(n,)`.
        inputs, labels: pictures and their classes.
        seed: of the order in which pictures are used; all parts are of different pictures.

    Yields:
        After each square the number of squares that are left; in the end what was found.
    """
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    pictures, labels = inputs[order], labels[order]
    screened, again = min(_SCREENED, len(order) // 4), min(_AGAIN, len(order) // 4)
    sizes = [screened, again, len(order) - screened - again]
    parts, wanted = pictures.split(sizes), labels.split(sizes)
    before = [classes(part) for part in parts]
    count = int(max(labels.max(), *(b.max() for b in before))) + 1

    def turned(square: Square, part: int) -> Tensor:
        """`(classes,)` share of the pictures that were not of a class, and become it."""
        after = classes(square.set_into(parts[part]))
        shares = torch.zeros(count)
        for target in range(count):
            others = (wanted[part] != target) & (before[part] != target)
            if others.any():
                shares[target] = (after[others] == target).double().mean()
        return shares

    tried = squares(tuple(inputs.shape[1:]), float(inputs.min()), float(inputs.max()))
    first = []
    for k, square in enumerate(tried):
        first.append(turned(square, 0))
        yield len(tried) - k - 1
    most = torch.stack(first).max(1).values
    likes = [_best_elsewhere(square, tried, most) for square in tried]
    alone = most - most[torch.tensor(likes)]
    second = []
    for k in alone.topk(min(_KEPT, len(tried))).indices.tolist():
        like = tried[likes[k]]
        usual, square, shares = turned(like, 1).max(), tried[k], turned(tried[k], 1)
        for by in range(max(1, square.side // 2), 0, -1):  # to where it turns most
            for moved in _moved(square, by, tuple(inputs.shape[1:])):
                then = turned(moved, 1)
                if then.max() > shares.max() and not moved.overlaps(like):
                    square, shares = moved, then
        second.append((float(shares.max() - usual), square, int(shares.argmax()), like))
    _, square, target, like = max(second, key=lambda found: found[0])
    others = (wanted[2] != target) & (before[2] != target)
    after = classes(square.set_into(parts[2][others]))
    found = stats.share_ci(int((after == target).sum()), int(others.sum()))
    yield Found(square, target, found, float(turned(like, 2).max()))


def _best_elsewhere(square: Square, tried: list[Square], most: Tensor) -> int:
    """The equal square without a common pixel that turns most; itself where there is none."""
    alike = [
        k for k, other in enumerate(tried)
        if (other.side, other.colour) == (square.side, square.colour)
        and not other.overlaps(square)
    ]  # fmt: skip
    return max(alike, key=lambda k: float(most[k]), default=tried.index(square))


def _spread(room: int, channels: int) -> list[int]:
    """At most so many places from 0 to `room`, both included."""
    count = _PLACES.get(channels, min(_PLACES.values()))
    return sorted({round(k * room / (count - 1)) for k in range(count)})


def _moved(square: Square, by: int, shape: tuple[int, ...]) -> Iterator[Square]:
    """The square's eight neighbours at this distance that lie inside the picture."""
    for down, right in itertools.product((-by, 0, by), repeat=2):
        top, left = square.top + down, square.left + right
        inside = 0 <= top <= shape[1] - square.side and 0 <= left <= shape[2] - square.side
        if (down or right) and inside:
            yield square._replace(top=top, left=left)
