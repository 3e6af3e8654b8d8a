"""The layouts of Waterbirds and CelebA on disk, and damage in them."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.data import DatasetCorrupted


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
    made = data.waterbirds(birds, size=24)
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
        data.waterbirds(birds)
    table.assign(y=7).to_csv(birds / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="metadata.csv, line 2: y of 000.* is '7': allowed are 0"):
        data.waterbirds(birds)
    table.to_csv(birds / "metadata.csv", index=False)
    (birds / table["img_filename"][5]).write_bytes(b"no image")
    with pytest.raises(ValueError, match="picture_5.jpg cannot be decoded"):
        data.waterbirds(birds)
    with pytest.raises(FileNotFoundError, match="metadata.csv is not there"):
        data.waterbirds(birds / "elsewhere")
    with pytest.raises(ValueError, match="metadata.csv is a file: expected the folder"):
        data.waterbirds(birds / "metadata.csv")


def test_a_tilde_is_the_home_folder(birds, monkeypatch):
    monkeypatch.setenv("HOME", str(birds.parent))
    assert data.waterbirds(f"~/{birds.name}", size=8)["val"].counts() == (1, 1, 1, 1)


TABLE = """img_id,img_filename,y,split,place,note
0,a b.jpg,1,0,0,
1,"c,é.jpg",0,2,1,x
"""


@pytest.fixture
def two(tmp_path):
    """A function that reads Waterbirds from a table of these two images."""
    for name in ("a b.jpg", "c,é.jpg"):
        picture(tmp_path / name, 90)

    def read(table):
        content = table if isinstance(table, bytes) else table.encode()
        (tmp_path / "metadata.csv").write_bytes(content)
        return data.waterbirds(tmp_path, size=8)

    return read


@pytest.mark.parametrize("same", [
    lambda t: t,
    lambda t: "\ufeff" + t,
    lambda t: t.replace("\n", "\r\n"),
    lambda t: t.replace("\n", "\r"),
    lambda t: f"\n{t}\n  \n,,,,,\n",
    lambda t: t.replace("\n", ",\n"),
    lambda t: t.replace("a b.jpg,1,0,0", " a b.jpg , 1 , 0 , 0 ").replace('"c', ' "c'),
    lambda t: t.replace(",", ";").replace("c;é", "c,é"),
    lambda t: t.replace(",", "\t").replace("c\té", "c,é"),
    lambda t: t.replace(",1,0,0,", ",1.0,0.0,0.0,").replace(",0,2,", ",False,2,"),
    lambda t: t.replace("img_id", ""),
    lambda t: t.replace("img_id,", "").replace("0,\n", "0,y\n"),  # as R writes the numbers of rows
    lambda t: pd.read_csv(io.StringIO(t)).to_csv(),
])  # fmt: skip
def test_tables_that_say_the_same(two, same):
    made = two(same(TABLE))
    assert [part.group.tolist() for part in made.values()] == [[2], [], [1]]


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda t: t.replace(",1,0,0,", ",,0,0,"), "line 2: y of a b.jpg is '': allowed are 0, 1"),
    (lambda t: t.replace(",1,0,0,", ",yes,0,0,"), "line 2: y of a b.jpg is 'yes'"),
    (lambda t: t.replace(",1,0,0,", ",nan,0,0,"), "line 2: y of a b.jpg is 'nan'"),
    (lambda t: t.replace(",1,0,0,", ",-1,0,0,"), "line 2: y of a b.jpg is '-1'"),
    (lambda t: t.replace(",1,0,0,", ",.5,0,0,"), "line 2: y of a b.jpg is '.5'"),
    (lambda t: t.replace(",2,1", ",,1"), "line 3: split of c,é.jpg is '': allowed are 0, 1, 2"),
    (lambda t: t.replace(",2,1", ",test,1"), "line 3: split of c,é.jpg is 'test'"),
    (lambda t: t.replace(",2,1", ",2,9"), "line 3: place of c,é.jpg is '9'"),
    (lambda t: t.replace("a b.jpg", " "), "line 2: img_filename is blank"),
    (lambda t: t + t.splitlines()[1], "line 4: a b.jpg is listed twice"),
    (lambda t: t + "2,a b.jpg,0,1,1,", "line 4: a b.jpg is listed twice"),
    (lambda t: t + "2,d.jpg,0", "line 4: 3 cells for 6 columns"),
    (lambda t: t + "2,d.jpg,0,0,0,,0", "line 4: 7 cells for 6 columns"),
    (lambda t: t + "<<<<<<< HEAD\n", "line 4: 1 cells for 6 columns"),
    (lambda t: t + "2,d.jpg,0,1,1,", "d.jpg is not there"),
    (lambda t: t + "2,d\0.jpg,0,1,1,", "is not there"),
    (lambda t: t.replace("img_filename", "name"), "no column img_filename, or two"),
    (lambda t: t.replace("note", "y"), "no column y, or two"),
    (lambda t: t.splitlines()[0], "metadata.csv lists no image"),
    (lambda t: "", "metadata.csv lists no image"),
    (lambda t: t.replace('.jpg"', ".jpg"), "metadata.csv, line 3: unexpected end of data"),
    (lambda t: t.encode("latin-1"), "metadata.csv is no text in UTF-8"),
    (lambda t: t.encode("utf-16"), "metadata.csv is no text in UTF-8"),
])  # fmt: skip
def test_damaged_tables_are_refused_with_their_place(two, damage, reason):
    with pytest.raises(ValueError, match=reason):
        two(damage(TABLE))


def test_images_outside_the_folder_are_refused(two, tmp_path):
    outside = tmp_path.parent / f"{tmp_path.name}-other.jpg"
    picture(outside, 90)
    (tmp_path / "link.jpg").symlink_to(outside)
    for name in (f"../{outside.name}", str(outside), "link.jpg"):
        with pytest.raises(ValueError, match=f"{name} is not in .*the table of Waterbirds"):
            two(TABLE.replace("a b.jpg", name))


def test_images_are_decoded_as_in_all_data_sets(two, tmp_path):
    Image.fromarray(np.full((40, 60), 257, np.uint16)).save(tmp_path / "a b.jpg", "PNG")
    with pytest.raises(DatasetCorrupted, match="a b.jpg has 16 bits"):
        two(TABLE)


ATTRIBUTES = pd.DataFrame(
    {"Bald": [-1, -1, -1, -1], "Blond_Hair": [-1, 1, -1, 1], "Male": [-1, -1, 1, 1]},
    index=[f"{i:06d}.jpg" for i in range(1, 5)],
)


@pytest.fixture
def celebs(tmp_path):
    for row, name in enumerate(ATTRIBUTES.index):
        picture(tmp_path / "img_align_celeba" / name, 40 * row + 20, (218, 178))
    return tmp_path


def write_lists(folder, attributes=ATTRIBUTES, kind="csv", label="image_id"):
    partition = pd.DataFrame({"partition": [0, 0, 1, 2]}, index=ATTRIBUTES.index)
    if kind == "csv":
        attributes.to_csv(folder / "list_attr_celeba.csv", index_label=label)
        partition.to_csv(folder / "list_eval_partition.csv", index_label=label)
    else:
        body = attributes.to_string(header=False)
        (folder / "list_attr_celeba.txt").write_text(f"4\n{' '.join(attributes)} \n{body}\n")
        partition.to_csv(folder / "list_eval_partition.txt", sep=" ", header=False)


@pytest.mark.parametrize("kind", ["txt", "csv"])
@pytest.mark.parametrize("attributes", [ATTRIBUTES, (ATTRIBUTES + 1) // 2, ATTRIBUTES > 0])
def test_celeba_is_read_in_both_formats(celebs, kind, attributes):
    write_lists(celebs, attributes, kind)
    made = data.celeba(celebs, size=16)
    assert [part.counts() for part in made.values()] == [
        (1, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)
    ]  # fmt: skip
    assert torch.allclose(
        made["train"].images.float().mean((1, 2, 3)), torch.tensor([20.0, 60]), atol=2
    )


@pytest.mark.parametrize("label", [None, "file"])
def test_names_of_celebas_first_column_differ(celebs, label):
    write_lists(celebs, label=label)
    assert len(data.celeba(celebs, size=8)["train"]) == 2
    images = celebs / "img_align_celeba"
    images.rename(celebs.parent / f"{celebs.name}-images")  # a link that the reader made
    images.symlink_to(celebs.parent / f"{celebs.name}-images")
    assert len(data.celeba(celebs, size=8)["train"]) == 2


@pytest.mark.parametrize("kind", ["txt", "csv"])
@pytest.mark.parametrize(("value", "reason"), [
    (7, "Blond_Hair of 000002.jpg is '7': allowed are -1, 0, 1"),
    ("yes", "Blond_Hair of 000002.jpg is 'yes'"),
    ("?", "Blond_Hair of 000002.jpg is '?'"),
    (0, "Blond_Hair is -1 in some lines and 0 in others"),
])  # fmt: skip
def test_strange_attributes_are_refused(celebs, kind, value, reason):
    strange = ATTRIBUTES.astype(object)
    strange.loc["000002.jpg", "Blond_Hair"] = value
    write_lists(celebs, strange, kind)
    with pytest.raises(ValueError, match=reason.replace("?", "[?]")):
        data.celeba(celebs)


def test_celebas_lists_must_agree(celebs):
    write_lists(celebs)
    for name, line in (("list_attr_celeba", "9.jpg,1,1,1\n"), ("list_eval_partition", "9.jpg,1\n")):
        file = celebs / f"{name}.csv"
        content = file.read_text()
        file.write_text(content + line)
        with pytest.raises(ValueError, match=r"^1 images of .* or the reverse: 9.jpg$"):
            data.celeba(celebs)
        file.write_text(content + content.splitlines()[-1])
        with pytest.raises(ValueError, match=f"{name}.csv, line 6: 000004.jpg is listed twice"):
            data.celeba(celebs)
        file.write_text(content)
    write_lists(celebs, ATTRIBUTES.astype(object).replace(1, ""))
    with pytest.raises(ValueError, match="line 3: Blond_Hair of 000002.jpg is ''"):
        data.celeba(celebs)


def test_celeba_needs_its_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither list_attr_celeba.csv nor"):
        data.celeba(tmp_path)
    ATTRIBUTES.drop(columns="Male").to_csv(
        tmp_path / "list_attr_celeba.csv", index_label="image_id"
    )
    with pytest.raises(ValueError, match="no column Male"):
        data.celeba(tmp_path)
