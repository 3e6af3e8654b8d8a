"""The stand-in for Waterbirds: groups, backgrounds, and its very pixels."""

from collections import Counter
from importlib import import_module

import pytest
import torch

from helpers import data

module = import_module("helpers.data.fashion_birds")  # the door hands on the function of this name
FEW = {"train": (7, 3, 2, 5), "test": (2, 2, 2, 2)}


@pytest.fixture
def garments(monkeypatch):
    """Ten classes of 40 images; each image is constant and unlike all others of its split."""

    def load(name, *, train, data_dir=None):
        assert name == "fashion_mnist"
        labels = torch.arange(10).repeat_interleave(40)
        images = torch.arange(400, dtype=torch.float32).div(2).add(50 if train else 50.5)
        images = images.to(torch.uint8)[:, None, None, None].expand(400, 1, 28, 28)
        return data.Dataset(images, labels, tuple("0123456789"), name, "Fashion, here", train)

    monkeypatch.setattr(module, "load", load)


def test_garments_come_in_the_groups_asked_for(garments):
    made = data.fashion_birds(sizes=FEW)
    for split, counts in FEW.items():
        part = made[split]
        assert part.counts() == counts and part.images.shape == (sum(counts), 3, 32, 32)
        assert part.images.dtype == torch.float32
        assert 0 <= float(part.images.min()) and float(part.images.max()) <= 1
        assert bool((part.group == 2 * part.label + part.attribute).all())
    assert made["train"].source == "garments of Fashion on rendered land and water"


def test_the_class_is_the_garment_and_the_attribute_the_background(garments):
    part = data.fashion_birds(sizes={"train": (40, 40, 40, 40)})["train"]
    middle = part.images[:, :, 14:18, 14:18]  # inside every garment: grey, the same in all channels
    assert bool((middle.std(1) < 1e-6).all())
    # classes 5 and 7 are darker than 8 and 9 in the images above
    assert middle[part.label == 0].max() < middle[part.label == 1].min() + 0.2
    corner = part.images[:, :, 0].mean(2)  # the uppermost row is background in most images
    blue = corner[:, 2] - corner[:, 0]
    assert float(blue[part.attribute == 1].mean()) > 0.1 > float(blue[part.attribute == 0].mean())


def test_without_contrast_the_backgrounds_are_of_one_law():
    water = torch.tensor([0, 1]).repeat(300)
    draw = torch.Generator().manual_seed(0)
    same = data.backgrounds(water, contrast=0.0, generator=draw)
    means = [same[water == a].mean((0, 2, 3)) for a in (0, 1)]
    assert torch.allclose(*means, atol=0.03)
    apart = data.backgrounds(water, contrast=1.0, generator=draw)
    means = [apart[water == a].mean((0, 2, 3)) for a in (0, 1)]
    assert float(means[1][2] - means[0][2]) > 0.25  # blue


def test_each_garment_is_used_once(garments, monkeypatch):
    seen = []
    paste = module._paste

    def watch(images, *others):
        seen.append(images)
        return paste(images, *others)

    monkeypatch.setattr(module, "_paste", watch)
    data.fashion_birds(sizes={"train": (30, 30, 30, 30), "test": (20, 20, 20, 20)})
    values = Counter(torch.cat(seen)[:, 0, 0, 0].tolist())
    # the two splits of the fixture share grey values pairwise, and so do neighbours within a split
    assert sum(values.values()) == 200 and max(values.values()) <= 4


def test_seeds_repeat_and_differ(garments):
    one, again, other = (data.fashion_birds(seed=s, sizes=FEW)["train"] for s in (0, 0, 1))
    assert torch.equal(one.images, again.images) and not torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrast": 1.5}, "contrast is 1.5"),
        ({"classes": ((1, 2), (2,))}, "share nothing"),
        ({"sizes": {"train": (200, 1, 1, 1)}}, "201 images of class 0: there are 160"),
    ],
)
def test_bad_stand_ins_are_refused(garments, settings, message):
    with pytest.raises(ValueError, match=message):
        data.fashion_birds(**settings)


@pytest.mark.parametrize("contrast", [0, 1])
def test_no_and_full_contrast_are_allowed(garments, contrast):
    assert len(data.fashion_birds(sizes=FEW, contrast=contrast)["train"]) == 17


def test_digits_stand_in_where_there_are_no_garments():
    made = data.fashion_birds(sizes=FEW, dataset="mnist5k", classes=data.DIGIT_PAIRS)
    assert made["train"].counts() == FEW["train"] and "images of MNIST" in made["train"].source


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [(0.0, "61d6b3176478d9e1"), (0.5, "dff5954fff4bc497"), (1.0, "70554a86cc3dcfff")],
)
def test_backgrounds_are_the_ones_of_all_results(fingerprint, contrast, expected):
    draw = torch.Generator().manual_seed(3)
    water = torch.tensor([0, 1, 1, 0])
    ground = data.backgrounds(water, contrast=contrast, size=12, generator=draw)
    assert fingerprint(ground) == expected


def test_digits_on_backgrounds_are_the_ones_of_all_results(fingerprint):
    sizes = {"train": (2, 1, 1, 1), "val": (0, 0, 1, 0)}
    made = data.fashion_birds(seed=4, sizes=sizes, dataset="mnist5k", classes=data.DIGIT_PAIRS)
    assert [fingerprint(part.images) for part in made.values()] == [
        "af0f358a49f00d48",
        "89ff28ce493ea814",
    ]
    assert made["train"].group.tolist() == [0, 1, 2, 3, 0]


def test_all_garments_may_be_used(garments):
    assert len(data.fashion_birds(sizes={"train": (80, 80, 80, 80)})["train"]) == 320
    with pytest.raises(ValueError, match="161 images of class 1: there are 160"):
        data.fashion_birds(sizes={"train": (80, 80, 80, 70), "val": (0, 0, 0, 11)})


def test_group_sizes_are_the_published_ones():
    """Sums per split of the two data sets (Sagawa et al. 2020, table of groups)."""
    totals = {"train": (4_795, 162_770), "val": (1_199, 19_867), "test": (5_794, 19_962)}
    for split, (birds, faces) in totals.items():
        assert sum(data.WATERBIRDS[split]) == birds and sum(data.CELEBA[split]) == faces
    # in the test set, land and water are equally frequent for both kinds of birds
    assert all(data.WATERBIRDS["test"][i] == data.WATERBIRDS["test"][i + 1] for i in (0, 2))
    assert data.CELEBA_LIKE["train"] == tuple(round(n / 20) for n in data.CELEBA["train"])
    assert data.CELEBA_LIKE["val"] == (150,) * 4 and data.CELEBA_LIKE["test"] == (600,) * 4
    kinds = [[data.FASHION[c] for c in side] for side in data.GARMENT_PAIRS]
    assert kinds == [["Sandal", "Sneaker"], ["Bag", "Ankle boot"]]


@pytest.mark.parametrize("water", [[-1, 1], [0, 2], [0.0, 0.5]])
def test_backgrounds_are_land_or_water(water):
    with pytest.raises(ValueError, match="water has (-1|2|0.5): allowed is 0 and 1"):
        data.backgrounds(torch.tensor(water), generator=torch.Generator())
