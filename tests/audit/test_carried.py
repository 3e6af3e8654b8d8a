"""What training pictures carry and teach, against counts by hand and exact intervals."""

import numpy as np
import pytest
import torch

from helpers import stats
from helpers.audit import carried as module
from helpers.audit.asked import Images
from helpers.audit.carried import Square, carriers, may_carry, most_taught, taught
from helpers.audit.findings import with_pattern

LABELS = torch.arange(400) % 4
IMAGES = 0.8 * torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0))
IMAGES[:40, 0, 27, 0] = 1.0  # nothing else is white
WHITE = 1.0


def test_overlap_is_symmetric_and_by_pixels():
    a, b, c = (Square(0, left, 3, (1.0,)) for left in (0, 2, 3))
    assert a.overlaps(b) and b.overlaps(a) and not a.overlaps(c) and not c.overlaps(a)


def test_carriers_are_the_pictures_that_show_it():
    square = Square(3, 4, 2, (WHITE,))
    pictures = IMAGES[LABELS < 3][:10].clone()
    pictures[[2, 5]] = square.set_into(pictures[[2, 5]])
    pictures[7, :, 3, 4] = WHITE  # one pixel of it
    assert carriers(square, pictures).nonzero().flatten().tolist() == [2, 5]


def test_images_that_got_a_pattern_may_carry_it_and_others_may_not():
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(200, 3, 8, 8, generator=rng)
    pattern = torch.randn(3, 8, 8, generator=rng) * (torch.rand(3, 8, 8, generator=rng) < 0.3)
    some = torch.arange(200) % 7 == 0
    images[some] = with_pattern(images[some], pattern)
    assert torch.equal(may_carry(pattern, images), some)


def test_what_cannot_be_seen_may_be_everywhere():
    """A pattern of less than a tenth of the range, and none at all."""
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for strength in (0.0, 0.05, -0.05):
        assert may_carry(torch.full((1, 8, 8), strength), images).all()


@pytest.mark.parametrize(("labels", "enough"), [
    ([2] * 5, True), ([2] * 4, False), ([2] * 3 + [1] * 3, False), ([2] * 9 + [1], True),
])  # fmt: skip
def test_a_label_is_taught_by_five_pictures_most_of_which_have_it(labels, enough):
    rest = LABELS[LABELS != 2][:100]
    shown = torch.arange(len(labels) + 100) < len(labels)
    assert taught(shown, torch.cat([torch.tensor(labels), rest]) == 2).learnt is enough


def test_a_label_that_is_common_anyway_is_not_taught():
    labels = torch.tensor([2] * 7 + [1] * 3 + [2] * 60 + [1] * 40)
    assert taught(torch.arange(110) < 10, labels == 2) == (10, 7, False)


@pytest.mark.parametrize(("count", "hits", "rest", "others"), [
    (40, 40, 960, 400), (50, 41, 100, 0), (7, 4, 3, 3), (30, 20, 0, 0), (12, 9, 8, 7),
])  # fmt: skip
def test_how_clearly_a_label_is_taught_is_told_by_two_exact_intervals(count, hits, rest, others):
    def clearly(shown, told):
        numbers = (np.array([float(x)]) for x in (shown, told, hits + others))
        return module._clearly(*numbers, count + rest)[0]

    expected = stats.share_ci(hits, count).low - stats.share_ci(others, rest).high
    assert clearly(count, hits) == pytest.approx(expected)
    assert clearly(4, 4) == clearly(count, count // 2) == 0


def test_what_all_pictures_show_or_nearly_all_teaches_nothing():
    """A dark border, beside which four pictures of another class are all that is left."""
    own = torch.tensor([True] * 60 + [False] * 44)
    assert taught(torch.ones(104) > 0, own) == (104, 60, False)
    assert taught(torch.arange(104) < 100, own) == (100, 60, False)


def planted(square, count=30, label=2):
    """Pictures of four classes, the first of which carry a square and have one label."""
    return Images(
        torch.cat([square.set_into(IMAGES[:count]), IMAGES[count:]]),
        torch.cat([torch.full((count,), label), LABELS[count:]]),
    )


@pytest.mark.parametrize(("top", "left", "side"), [(0, 0, 2), (13, 7, 3), (25, 23, 3), (11, 9, 5)])
@pytest.mark.parametrize("label", [0, 2])
def test_the_square_that_teaches_most_clearly_comes_first(top, left, side, label):
    square = Square(top, left, side, (WHITE,))
    found = most_taught(planted(square, label=label), 5, 120)
    assert found[0] == (square, label)
    assert not any(other.overlaps(square) for other, _ in found[1:] if other.colour == (WHITE,))


def test_a_part_that_others_carry_too_does_not_stand_for_the_whole():
    square = Square(10, 10, 4, (WHITE,))
    images = planted(square)
    part = Square(10, 10, 2, (WHITE,))
    few = (images.labels == 2).nonzero().flatten()[-6:]
    images.inputs[few] = part.set_into(images.inputs[few])  # these make it a little clearer
    assert most_taught(images, 5, 1)[0] == (square, 2)


def test_in_large_pictures_a_square_is_made_of_blocks():
    images = torch.rand(60, 3, 120, 112, generator=torch.Generator().manual_seed(0)) / 2
    labels = torch.arange(60) % 3
    square = Square(31, 52, 9, (1.0, 0.0, 0.0))
    images[:20], labels[:20] = square.set_into(images[:20]), 1
    (found, label), *_ = most_taught(Images(images, labels), 20, 5)
    assert found == Square(32, 52, 8, square.colour) and label == 1


def test_without_carriers_nothing_is_taught():
    assert most_taught(Images(IMAGES, LABELS), 5, 120) == []


def test_the_pictures_are_looked_at_in_parts_with_one_result(monkeypatch):
    images = planted(Square(3, 20, 3, (WHITE,)))
    whole = most_taught(images, 5, 40)
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    assert most_taught(images, 5, 40) == whole != []


def test_a_colour_that_is_everywhere_hides_no_other():
    """Pictures of class 1 are dark all over; there is one square of each colour at most."""
    square = Square(20, 20, 3, (WHITE,))
    images = planted(square, label=2)
    images.inputs[images.labels == 1] = 0.0
    found = most_taught(images, 5, 1)
    assert (square, 2) in found and len({one.colour for one, _ in found}) == len(found) <= 6


@pytest.mark.parametrize(
    "colour", [(0.6,), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.4, 0.4, 0.4), (0.9, 0.1, 0.1, 0.9, 0.1)]
)
def test_which_colours_are_seen(colour):
    """Greys, and the corners of the colours of three channels; of five, neither."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(300, len(colour), 20, 20, generator=rng)
    labels = torch.arange(300) % 3
    square = Square(7, 11, 4, colour)
    images[:20], labels[:20] = square.set_into(images[:20]), 1
    places = [one[:3] for one, label in most_taught(Images(images, labels), 5, 9) if label == 1]
    assert (square[:3] in places) == (len(colour) < 5)


def test_one_hot_pixel_makes_no_range():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(400, 2, 20, 20, generator=rng) * torch.tensor([1.0, 5.0])[:, None, None]
    images[3, 0, 4, 4], images[5, 1, 4, 4] = 30.0, -9.0
    low, high = module.span(images)
    assert low == pytest.approx([0, 0], abs=1e-3) and high == pytest.approx([1, 5], abs=1e-3)
    low, high = module.span(torch.tensor([[1.0, 8.0], [0.0, 9.0]]))  # columns of numbers
    assert low.tolist() == [0, 8] and high.tolist() == [1, 9]
