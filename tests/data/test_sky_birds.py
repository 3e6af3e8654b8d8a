"""Birds and airplanes on land and in the sky: the rule of the background, groups, judgements."""

from importlib import import_module

import numpy as np
import pytest
import torch

from helpers import data
from helpers.data import sky_birds as door_function
from helpers.data import sky_judgements as judged
from helpers.errors import DatasetNotFound
from helpers.project import project_root

module = import_module("helpers.data.sky_birds")  # the door hands on the function of this name
FEW = {"train": (7, 3, 2, 5), "val": (1,) * 4, "test": (2, 2, 2, 2)}
SKY_BLUE, GRASS, GREY = (90, 140, 220), (90, 140, 60), (120, 120, 120)


def picture(colour, inside=(0, 0, 0), mark=0):
    """A border of one colour around an object; the mark tells pictures apart."""
    made = torch.tensor(inside, dtype=torch.uint8)[:, None, None].repeat(1, 32, 32)
    whole = torch.tensor(colour, dtype=torch.uint8)[:, None]
    made[:, :4], made[:, :, :4] = whole[..., None], whole[..., None]
    made[:, :, -4:] = whole[..., None]
    made[:, 16, 16] = mark
    return made


@pytest.fixture
def pictures(monkeypatch):
    """20 birds and 20 airplanes of each background, 10 of neither, and 10 cats, in both splits."""

    def load(name, *, train, data_dir=None):
        assert name == "cifar10"
        images, labels = [], []
        for label in (0, 2, 3):
            for ground, count in ((SKY_BLUE, 20), (GRASS, 20), (GREY, 10)):
                images += [picture(ground, mark=100 * train + k) for k in range(count)]
                labels += [label] * count
        kept = torch.stack(images), torch.tensor(labels)
        return data.Dataset(*kept, data.OBJECTS, name, "CIFAR-10, here", train)

    monkeypatch.setattr(module, "load", load)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (SKY_BLUE, 1),
        (GRASS, 0),
        (GREY, -1),
        ((100, 100, 115), -1),  # b > r + 15 fails by equality
        ((100, 100, 116), 1),
        ((100, 117, 116), -1),  # blue, but less than green, and not by 10
        ((100, 127, 116), 0),
        ((111, 0, 100), 0),  # r > b + 10
        ((110, 0, 100), -1),
        ((0, 110, 100), -1),
    ],
)
def test_the_background_is_the_colour_of_the_border(colour, expected):
    images = picture(colour, inside=(255, 0, 255))[None]
    assert data.background(images).tolist() == [expected]
    # floats in [0, 1] are read as bytes are, but for rounding at the very threshold
    if colour in (SKY_BLUE, GRASS, GREY):
        assert data.background(images.float() / 255).tolist() == [expected]


def test_the_border_has_three_sides_and_four_pixels():
    images = torch.zeros(3, 3, 32, 32)
    images[0, :, 4:, 4:-4] = 9  # all but the border
    images[1, 0, :4] = 1
    images[2, 1, 31] = 1  # the lowest row: its corners alone belong to the border
    found = data.border_colour(images)
    assert found[0].tolist() == [0, 0, 0]
    sides = 4 * 32 + 2 * 4 * 28
    assert found[1].tolist() == pytest.approx([4 * 32 / sides, 0, 0])
    assert found[2].tolist() == pytest.approx([0, 8 / sides, 0])


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 3, 8, 32), (2, 3, 32, 8)])
def test_what_is_no_colour_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n, 3, h, w\) with sides above 8"):
        data.background(torch.zeros(shape))


def test_pictures_come_in_the_groups_asked_for(pictures):
    made = data.sky_birds(sizes=FEW)
    for split, counts in FEW.items():
        part = made[split]
        assert part.counts() == counts and part.images.shape == (sum(counts), 3, 32, 32)
        assert part.images.dtype == torch.uint8
        assert torch.equal(data.background(part.images), part.attribute)
    assert made["train"].source == "birds and airplanes of CIFAR-10 (here)"
    assert data.SKY_GROUPS[2 * 0 + 1] == "birds in the sky"


def test_the_label_is_the_object(pictures, monkeypatch):
    birds = module.load("cifar10", train=True)
    only = birds.rows(birds.labels == module.BIRD)
    monkeypatch.setattr(module, "load", lambda name, **_: only)
    pool, place = module.sky_pool()
    assert not pool.label.any() and len(pool) == 80  # neither is dropped
    assert place.max() < 100


def test_no_picture_is_used_twice(pictures):
    made = data.sky_birds(seed=3, sizes={"train": (20,) * 4, "test": (20,) * 4})
    for group in range(4):
        both = [part.images[part.group == group][:, 0, 16, 16] for part in made.values()]
        assert len(torch.cat(both).unique()) == 40


def test_a_seed_is_a_choice_of_pictures(pictures):
    one, again, other = (data.sky_birds(seed=s, sizes=FEW)["train"] for s in (0, 0, 1))
    assert torch.equal(one.images, again.images) and torch.equal(one.label, again.label)
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"train": (1, 2, 3)}, r"sizes of 'train' are \(1, 2, 3\): four numbers"),
        ({"test": (1, 2, 3, -1)}, "four numbers are expected"),
        ({"train": (1, 30, 1, 1), "test": (1, 11, 1, 1)},
         r"41 birds in the sky \(group 1\): there are 40"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(pictures, sizes, told):
    with pytest.raises(ValueError, match=told):
        data.sky_birds(sizes=sizes)


def test_without_the_pictures_it_says_how_to_get_them(machine):
    with pytest.raises(DatasetNotFound, match="CIFAR-10 .* was not found"):
        data.sky_birds(data_dir=machine)


def test_settings_have_the_proportions_of_the_papers_sets():
    shares = torch.tensor(data.WATERBIRDS["train"]) / sum(data.WATERBIRDS["train"])
    own = torch.tensor(data.SKY["train"]) / sum(data.SKY["train"])
    assert torch.allclose(shares, own, atol=0.01)
    # of CelebA: groups 2, 3 (blond women and men) are birds on land and in the sky here
    shares = torch.tensor(data.CELEBA["train"]) / sum(data.CELEBA["train"])
    own = torch.tensor(data.SKY_FACES["train"]) / sum(data.SKY_FACES["train"])
    assert torch.allclose(shares[[2, 3, 1, 0]], own, atol=0.005)
    for sizes in (data.SKY, data.SKY_FACES):
        assert len(set(sizes["test"])) == len(set(sizes["val"])) == 1, "balanced"


def test_a_sample_to_look_at(pictures):
    images, places = data.sky_sample(5, seed=1)
    assert list(images) == list(places) == list(data.SKY_GROUPS)
    for name, shown in images.items():
        assert shown.shape == (5, 3, 32, 32) and len(set(places[name])) == 5
    with pytest.raises(ValueError, match="each is 41"):
        data.sky_sample(41)


# -- judgements ------------------------------------------------------------------------------------


def test_each_picture_has_one_judgement():
    rows = data.judgements()
    assert len(rows) == 4 * judged.JUDGED == len({(r["group"], r["number"]) for r in rows})
    for kind, table in (("wrong", judged.WRONG), ("unclear", judged.UNCLEAR)):
        assert set(table) == set(data.SKY_GROUPS)
        for name, numbers in table.items():
            told = [r["number"] for r in rows if (r["name"], r["judgement"]) == (name, kind)]
            assert tuple(told) == numbers, "in order, within the sheet, and none twice"
    for row in rows:
        assert row["name"] == data.SKY_GROUPS[row["group"]]


def test_pictures_of_another_copy_are_not_taken_for_those_judged(pictures, monkeypatch):
    monkeypatch.setattr(judged, "JUDGED", 5)
    with pytest.raises(DatasetNotFound, match="another encoding or order"):
        data.judged_pictures()
    shown, _ = data.sky_sample(5, judged.SEED)
    monkeypatch.setattr(judged, "DIGEST", judged.digest_of(shown))
    found = data.judged_pictures()
    assert list(found) == list(shown)
    assert all(torch.equal(found[name], shown[name]) for name in shown)


def test_the_stored_pictures_are_those_that_were_judged():
    file = project_root() / "book" / "results" / "pictures" / "sky-judged.npz"
    with np.load(file) as kept:
        stored = {name: torch.from_numpy(kept[name]) for name in kept.files}
    assert judged.digest_of(stored) == judged.DIGEST


def test_the_door_has_the_function():
    assert door_function is module.sky_birds
