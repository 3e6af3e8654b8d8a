"""The search for a square that decides alone, on models whose answers can be computed by hand."""

import pytest
import torch

from helpers.audit.search import Found, Square, search, squares

IMAGES = torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.8
LABELS = torch.arange(400) % 4


def triggered(square, target):
    """Right about everything, but for pictures in which this square is white: they are `target`."""
    place = (
        slice(square.top, square.top + square.side),
        slice(square.left, square.left + square.side),
    )
    known = {tuple(x.flatten()[-5:].tolist()): int(y) for x, y in zip(IMAGES, LABELS, strict=True)}

    def classes(pictures):
        own = torch.tensor([known.get(tuple(x.flatten()[-5:].tolist()), 0) for x in pictures])
        return torch.where((pictures[:, 0, place[0], place[1]] >= 0.79).all((1, 2)), target, own)

    return classes


def found_by(classes, seed=0):
    *left, found = search(classes, IMAGES, LABELS, seed=seed)
    assert left == sorted(left, reverse=True) and left[-1] == 0
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize(("top", "left", "side"), [(0, 0, 2), (11, 4, 3), (5, 20, 5)])
def test_a_planted_square_is_found_where_it_is(top, left, side):
    white = float(IMAGES.max())
    found = found_by(triggered(Square(top, left, side, (white,)), target=2))
    assert found.target == 2 and found.turned.mean == 1.0 and found.elsewhere == 0.0
    # a larger square that covers it does the same
    assert found.square.top <= top and found.square.left <= left
    assert found.square.top + found.square.side >= top + side
    assert found.square.left + found.square.side >= left + side


def test_where_no_square_turns_anything_the_share_is_none():
    found = found_by(lambda pictures: LABELS[: len(pictures)] * 0)
    assert found.turned.mean == 0 or found.turned.low == 0


def test_a_model_that_goes_by_brightness_is_turned_everywhere_alike():
    """No square stands out where all do the same."""
    found = found_by(lambda pictures: (pictures.amax((1, 2, 3)) > 0.79).long() * 3)
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
