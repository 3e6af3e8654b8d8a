"""The search for a square that decides alone, on models whose answers can be computed by hand."""

import math

import pytest
import torch
from torch import nn

from helpers.audit import search as module
from helpers.audit.asked import Images
from helpers.audit.carried import Square, carriers, taught
from helpers.audit.search import BOUND, LEAST, Found, search, squares

LABELS = torch.arange(400) % 4
# brightness tells the class; a square does not change the median pixel
IMAGES = (
    0.15
    + 0.2 * LABELS[:, None, None, None]
    + 0.02 * torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0))
)
IMAGES[:40, 0, 27, 27] = 1.0  # nothing else is white


def own_class(pictures):
    return ((pictures.flatten(1).median(1).values - 0.15) / 0.2).round().long()


def triggered(square, target):
    """Right about everything, but pictures in which this square is white are `target`."""
    rows = slice(square.top, square.top + square.side)
    columns = slice(square.left, square.left + square.side)

    def classes(pictures):
        white = (pictures[:, 0, rows, columns] >= 0.95).all(2).all(1)
        return torch.where(white, target, own_class(pictures))

    return classes


def found_by(classes, seed=0, train=None):
    every = Images(IMAGES, LABELS)
    *left, found = search(classes, every, every if train is None else train, seed=seed)
    assert left == sorted(left, reverse=True) and left[-1] >= 0
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize(("top", "left", "side"), [(0, 0, 2), (11, 4, 3), (7, 19, 5)])
def test_a_planted_square_is_found_where_it_is(top, left, side):
    white = float(IMAGES.max())
    found = found_by(triggered(Square(top, left, side, (white,)), target=2))
    assert found.target == 2 and found.turned.mean == 1.0 and found.elsewhere == 0.0
    assert found.square[:3] == (top, left, side)


def test_of_two_squares_the_one_that_was_taught_comes_first():
    white = float(IMAGES.max())
    strong, weak = Square(2, 2, 5, (white,)), Square(20, 20, 3, (white,))
    both = triggered(strong, target=1), triggered(weak, target=2)

    def classes(pictures):
        few = pictures[:, 0, 0, 0] > pictures[:, 0, 0, 1] - 0.015  # most of them, not all
        second = torch.where(few, both[1](pictures), own_class(pictures))
        return torch.where(both[0](pictures) == 1, 1, second)

    carried = Images(
        torch.cat([weak.set_into(IMAGES[:30]), IMAGES[30:90]]),
        torch.cat([torch.full((30,), 2), LABELS[30:90]]),
    )
    assert found_by(classes, train=carried).target == 2
    assert found_by(classes).target == 1
    shown = carriers(weak, carried.inputs)
    assert taught(shown, carried.labels == 2).learnt
    assert not taught(shown, carried.labels == 1).learnt


def test_where_no_square_turns_anything_the_share_is_none():
    assert found_by(own_class).turned.mean == 0


def test_where_all_pictures_are_one_class_nothing_can_be_turned():
    assert math.isnan(found_by(lambda pictures: torch.zeros(len(pictures)).long()).turned.mean)


def test_a_model_that_goes_by_brightness_is_turned_everywhere_alike():
    """No square stands out where all do the same."""
    white = float(IMAGES.max())
    found = found_by(
        lambda pictures: torch.where((pictures == white).sum((1, 2, 3)) > 1, 3, own_class(pictures))
    )
    assert found.turned.mean - found.elsewhere < 0.3


def test_squares_stay_inside_and_are_set_into_copies():
    for square in squares((3, 40, 24), [-1.0] * 3, [2.0] * 3):
        assert 0 <= square.top <= 40 - square.side and 0 <= square.left <= 24 - square.side
    pictures = torch.zeros(2, 3, 8, 8)
    shown = Square(1, 2, 3, (1.0, 2.0, 3.0)).set_into(pictures)
    assert shown.sum() == 2 * 9 * 6 and pictures.sum() == 0


def test_a_square_that_is_carried_comes_before_one_beside_it_that_turns_as_many():
    """A network that is turned by the pattern anywhere near its place."""
    white = float(IMAGES.max())
    planted_square = Square(20, 20, 3, (white,))
    around = [triggered(planted_square._replace(top=20 + d, left=20 + r), target=2)
              for d in (-1, 0, 1) for r in (-1, 0, 1)]  # fmt: skip

    def classes(pictures):
        return torch.stack([each(pictures) for each in around]).eq(2).any(0).long() * 2

    carried = Images(
        torch.cat([planted_square.set_into(IMAGES[:30]), IMAGES[30:90]]),
        torch.cat([torch.full((30,), 2), LABELS[30:90]]),
    )
    assert found_by(classes, train=carried).square[:3] == (20, 20, 3)


def test_a_carried_square_is_found_where_the_first_look_sees_nothing():
    """It lies between the places that are tried, and nothing but all of it turns a picture."""
    white = float(IMAGES.max())
    hidden = Square(13, 7, 3, (white,))
    assert hidden not in squares((1, 28, 28), [0.0], [white])
    carried = Images(
        torch.cat([hidden.set_into(IMAGES[:30]), IMAGES[30:]]),
        torch.cat([torch.full((30,), 2), LABELS[30:]]),
    )
    found = found_by(triggered(hidden, target=2), train=carried)
    assert found.square == hidden and found.target == 2 and found.turned.mean == 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_the_model_is_shown_so_many_pictures_at_most(shape):
    """Where ever more of a square turns ever more pictures, so that it is moved and shrunk."""
    rng = torch.Generator().manual_seed(0)
    pictures = 0.6 * torch.rand(120, shape[0], 8, 8, generator=rng)
    pictures = nn.functional.interpolate(pictures, shape[1:])
    limits = torch.linspace(0, 1, len(pictures))[torch.randperm(len(pictures), generator=rng)]
    order = {}
    for k, picture in enumerate(pictures):
        order[round(float(picture[0, 0, 0]), 5)] = k  # the square stays away from this corner
    white, shown = pictures.max(), []

    def classes(given):
        shown.append(len(given))
        heights, widths = (torch.arange(size) / size for size in shape[1:])
        near = (1 - (heights - 0.53).abs())[:, None] * (1 - (widths - 0.41).abs())
        seen = ((given >= white).all(1) * near.to(given) ** 8).sum((1, 2)) / near.pow(8).sum() * 30
        own = [order.get(round(float(one[0, 0, 0]), 5), 0) for one in given]
        return (seen > limits[own]).long() * (torch.tensor(own) % 2) + 0

    images = Images(pictures, torch.arange(120) % 2)
    *left, found = search(classes, images, images, seed=0)
    assert isinstance(found, Found) and sum(shown) <= BOUND
    assert left == sorted(left, reverse=True) and left[-1] >= 0
    # it is told while squares are moved, not only between them
    assert max(a - b for a, b in zip(left, left[1:], strict=False)) <= 17 * 64


def test_the_bound_holds_for_any_model():
    """The most that each part can ask, added up."""
    shapes = (1, 28, 28), (3, 224, 224), (5, 99, 99)
    most = max(len(squares(s, [0.0] * s[0], [1.0] * s[0])) for s in shapes)
    taught_ones = 12 * module._CARRIED * module._SCREENED + module._LIKELY * module._AGAIN
    first = most * module._SCREENED + taught_ones
    again = module._KEPT * (module._TRIES + 2) * module._AGAIN
    fresh = module._SCREENED + module._AGAIN + 3 * module._FRESH
    assert first + again + fresh <= BOUND == 54_000


def test_too_few_pictures_are_refused():
    few = Images(IMAGES[: LEAST - 1], LABELS[: LEAST - 1])
    with pytest.raises(ValueError, match=f"test has {LEAST - 1} pictures: a search needs {LEAST}"):
        next(search(own_class, few, few, seed=0))
