"""The search for a square that decides alone, on models whose answers can be computed by hand."""

import math

import pytest
import torch

from helpers.audit.asked import Images
from helpers.audit.search import Found, Square, carriers, search, squares, taught

LABELS = torch.arange(400) % 4
# brightness tells the class; a square does not change the median pixel
IMAGES = (
    0.15
    + 0.2 * LABELS[:, None, None, None]
    + 0.02 * torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0))
)


def own_class(pictures):
    return ((pictures.flatten(1).median(1).values - 0.15) / 0.2).round().long()


def triggered(square, target):
    """Right about everything, but pictures in which this square is white are `target`."""
    rows = slice(square.top, square.top + square.side)
    columns = slice(square.left, square.left + square.side)

    def classes(pictures):
        white = (pictures[:, 0, rows, columns] >= 0.765).all(2).all(1)
        return torch.where(white, target, own_class(pictures))

    return classes


def found_by(classes, seed=0, train=None):
    every = Images(IMAGES, LABELS)
    *left, found = search(classes, every, every if train is None else train, seed=seed)
    assert left == sorted(left, reverse=True) and left[-1] == 0
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize(("top", "left", "side"), [(0, 0, 2), (11, 4, 3), (6, 19, 5)])
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
        few = pictures[:, 0, 0, 0] > pictures[:, 0, 0, 1] - 0.008  # most of them, not all
        second = torch.where(few, both[1](pictures), own_class(pictures))
        return torch.where(both[0](pictures) == 1, 1, second)

    carried = Images(weak.set_into(IMAGES[:30]), torch.full((30,), 2))
    assert found_by(classes, train=carried).target == 2
    assert found_by(classes).target == 1
    assert taught(weak, carried, 2) and not taught(weak, carried, 1)


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
    for square in squares((3, 40, 24), -1.0, 2.0):
        assert 0 <= square.top <= 40 - square.side and 0 <= square.left <= 24 - square.side
    pictures = torch.zeros(2, 3, 8, 8)
    shown = Square(1, 2, 3, (1.0, 2.0, 3.0)).set_into(pictures)
    assert shown.sum() == 2 * 9 * 6 and pictures.sum() == 0


def test_overlap_is_symmetric_and_by_pixels():
    a, b, c = (Square(0, left, 3, (1.0,)) for left in (0, 2, 3))
    assert a.overlaps(b) and b.overlaps(a) and not a.overlaps(c) and not c.overlaps(a)


def test_carriers_are_the_pictures_that_show_it():
    white = float(IMAGES.max())
    square = Square(3, 4, 2, (white,))
    pictures = IMAGES[LABELS < 3][:10].clone()
    pictures[[2, 5]] = square.set_into(pictures[[2, 5]])
    pictures[7, :, 3, 4] = white  # one pixel of it
    assert carriers(square, pictures).nonzero().flatten().tolist() == [2, 5]


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


@pytest.mark.parametrize(("labels", "enough"), [
    ([2] * 5, True), ([2] * 4, False), ([2] * 3 + [1] * 3, False), ([2] * 9 + [1], True),
])  # fmt: skip
def test_a_square_is_taught_by_five_pictures_most_of_which_have_the_label(labels, enough):
    square = Square(3, 4, 2, (float(IMAGES.max()),))
    rest = (LABELS != 2).nonzero().flatten()[:100]
    inputs = torch.cat([square.set_into(IMAGES[: len(labels)]), IMAGES[rest] * 0.5])
    train = Images(inputs, torch.cat([torch.tensor(labels), LABELS[rest]]))
    assert taught(square, train, 2) is enough


def test_a_label_that_is_common_anyway_does_not_teach():
    square = Square(3, 4, 2, (float(IMAGES.max()),))
    inputs = torch.cat([square.set_into(IMAGES[:10]), IMAGES[10:110] * 0.5])
    labels = torch.tensor([2] * 7 + [1] * 3 + [2] * 60 + [1] * 40)
    assert not taught(square, Images(inputs, labels), 2)
