"""Images in four groups: the stand-in, and the layouts of Waterbirds and CelebA on disk."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import data, groups

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

    monkeypatch.setattr(groups.data, "load", load)


def test_garments_come_in_the_groups_asked_for(garments):
    made = groups.fashion_birds(sizes=FEW)
    for split, counts in FEW.items():
        part = made[split]
        assert part.counts() == counts and part.images.shape == (sum(counts), 3, 32, 32)
        assert part.images.dtype == torch.float32
        assert 0 <= float(part.images.min()) and float(part.images.max()) <= 1
        assert bool((part.group == 2 * part.label + part.attribute).all())
    assert made["train"].source == "garments of Fashion on rendered land and water"


def test_the_class_is_the_garment_and_the_attribute_the_background(garments):
    part = groups.fashion_birds(sizes={"train": (40, 40, 40, 40)})["train"]
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
    same = groups.backgrounds(water, contrast=0.0, generator=draw)
    means = [same[water == a].mean((0, 2, 3)) for a in (0, 1)]
    assert torch.allclose(*means, atol=0.03)
    apart = groups.backgrounds(water, contrast=1.0, generator=draw)
    means = [apart[water == a].mean((0, 2, 3)) for a in (0, 1)]
    assert float(means[1][2] - means[0][2]) > 0.25  # blue


def test_each_garment_is_used_once(garments, monkeypatch):
    seen = []
    paste = groups._paste

    def watch(images, *others):
        seen.append(images)
        return paste(images, *others)

    monkeypatch.setattr(groups, "_paste", watch)
    groups.fashion_birds(sizes={"train": (30, 30, 30, 30), "test": (20, 20, 20, 20)})
    values = Counter(torch.cat(seen)[:, 0, 0, 0].tolist())
    # the two splits of the fixture share grey values pairwise, and so do neighbours within a split
    assert sum(values.values()) == 200 and max(values.values()) <= 4


def test_seeds_repeat_and_differ(garments):
    one, again, other = (groups.fashion_birds(seed=s, sizes=FEW)["train"] for s in (0, 0, 1))
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
        groups.fashion_birds(**settings)


def test_a_draw_has_the_counts_asked_for():
    label = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    attribute = torch.tensor([0, 1, 1, 0, 0, 1, 1])
    sample = groups.Grouped(torch.arange(7.0)[:, None], label, attribute, "made up")
    drawn = sample.draw((1, 2, 1, 0), seed=0)
    assert drawn.counts() == (1, 2, 1, 0) and len(drawn.images.unique()) == 4
    with pytest.raises(ValueError, match="group 0 has 1 samples: 2"):
        sample.draw((2, 0, 0, 0), seed=0)
    with pytest.raises(ValueError, match="four numbers"):
        sample.draw((1, 1), seed=0)


def test_digits_stand_in_where_there_are_no_garments():
    made = groups.fashion_birds(sizes=FEW, dataset="mnist5k", classes=groups.DIGITS)
    assert made["train"].counts() == FEW["train"] and "images of MNIST" in made["train"].source


# -- planted memory --------------------------------------------------------------------------------


@pytest.fixture
def plain():
    sizes = {"train": (60, 5, 5, 40)}
    return groups.fashion_birds(sizes=sizes, dataset="mnist5k", classes=groups.DIGITS)["train"]


def test_flipped_labels_and_identifiers_are_where_the_marks_say(plain):
    part, mark = groups.plant_memory(plain, kept=20, flipped=30, seed=1)
    assert mark.bincount().tolist() == [60, 20, 30]
    assert torch.equal(part.label != plain.label, mark == 2)
    changed = (part.images != plain.images).flatten(1).any(1)
    assert torch.equal(changed, mark > 0)
    side = groups.IDENTIFIER
    square = part.images[mark > 0][:, :, :side, :side]
    assert set(square.unique().tolist()) == {0.0, 1.0}
    assert len(square.flatten(1).unique(dim=0)) == 50  # one identifier each
    rest = part.images.clone()
    rest[:, :, :side, :side] = plain.images[:, :, :side, :side]
    assert torch.equal(rest, plain.images)
    assert bool(((plain.group == 0) | (plain.group == 3))[mark > 0].all())


def test_no_more_can_be_planted_than_there_are_majority_images(plain):
    with pytest.raises(ValueError, match="101: groups 0 and 3 have 100"):
        groups.plant_memory(plain, kept=50, flipped=51, seed=0)
    with pytest.raises(ValueError, match="kept is -1"):
        groups.plant_memory(plain, kept=-1, flipped=1, seed=0)


# -- from disk -------------------------------------------------------------------------------------


def picture(file, colour, size=(40, 60)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(file, quality=95)


@pytest.fixture
def birds(tmp_path):
    """One image for each split and group; its grey value is 10 times its row."""
    rows = []
    for row, (split, y, place) in enumerate(
        (s, y, p) for s in range(3) for y in range(2) for p in range(2)
    ):
        name = f"{row:03d}.Bird/picture_{row}.jpg"
        picture(tmp_path / name, 10 * row)
        rows.append({"img_id": row, "img_filename": name, "y": y, "split": split, "place": place,
                     "place_filename": "/a/b.jpg"})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path


def test_waterbirds_are_read_from_their_folder(birds):
    made = groups.waterbirds(birds, size=24)
    assert list(made) == ["train", "val", "test"]
    for number, part in enumerate(made.values()):
        assert part.counts() == (1, 1, 1, 1)
        assert part.images.shape == (4, 3, 24, 24) and part.images.dtype == torch.uint8
        expected = 10.0 * (4 * number + torch.arange(4))
        assert torch.allclose(part.images.float().mean((1, 2, 3)), expected, atol=2)
        assert part.group.tolist() == [0, 1, 2, 3]
    assert made["test"].source == "Waterbirds, 24 x 24 pixels"


def test_damaged_waterbirds_are_refused(birds):
    table = pd.read_csv(birds / "metadata.csv")
    table.drop(columns="place").to_csv(birds / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="no column place"):
        groups.waterbirds(birds)
    table.assign(y=7).to_csv(birds / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="column y of Waterbirds holds"):
        groups.waterbirds(birds)
    table.to_csv(birds / "metadata.csv", index=False)
    (birds / table["img_filename"][5]).write_bytes(b"no image")
    with pytest.raises(ValueError, match="picture_5.jpg cannot be read"):
        groups.waterbirds(birds)
    with pytest.raises(FileNotFoundError, match="metadata.csv is not there"):
        groups.waterbirds(birds / "elsewhere")


ATTRIBUTES = pd.DataFrame(
    {"Bald": [-1, -1, -1, -1], "Blond_Hair": [-1, 1, -1, 1], "Male": [-1, -1, 1, 1]},
    index=[f"{i:06d}.jpg" for i in range(1, 5)],
)


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_celeba_is_read_in_both_formats(tmp_path, kind):
    for row, name in enumerate(ATTRIBUTES.index):
        picture(tmp_path / "img_align_celeba" / name, 40 * row + 20, (218, 178))
    partition = pd.DataFrame({"partition": [0, 0, 1, 2]}, index=ATTRIBUTES.index)
    if kind == "csv":
        ATTRIBUTES.to_csv(tmp_path / "list_attr_celeba.csv", index_label="image_id")
        partition.to_csv(tmp_path / "list_eval_partition.csv", index_label="image_id")
    else:
        body = ATTRIBUTES.to_string(header=False)
        (tmp_path / "list_attr_celeba.txt").write_text(
            f"4\n{' '.join(ATTRIBUTES.columns)} \n{body}\n"
        )
        partition.to_csv(tmp_path / "list_eval_partition.txt", sep=" ", header=False)
    made = groups.celeba(tmp_path, size=16)
    assert [part.counts() for part in made.values()] == [
        (1, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)
    ]  # fmt: skip
    assert torch.allclose(
        made["train"].images.float().mean((1, 2, 3)), torch.tensor([20.0, 60]), atol=2
    )


def test_celeba_needs_its_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither list_attr_celeba.csv nor"):
        groups.celeba(tmp_path)
    ATTRIBUTES.drop(columns="Male").to_csv(
        tmp_path / "list_attr_celeba.csv", index_label="image_id"
    )
    with pytest.raises(ValueError, match="no column Male"):
        groups.celeba(tmp_path)
