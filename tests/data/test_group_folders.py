"""The layouts of Waterbirds and CelebA on disk, and damage in them."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import data


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
    with pytest.raises(ValueError, match="column y of Waterbirds holds"):
        data.waterbirds(birds)
    table.to_csv(birds / "metadata.csv", index=False)
    (birds / table["img_filename"][5]).write_bytes(b"no image")
    with pytest.raises(ValueError, match="picture_5.jpg cannot be read"):
        data.waterbirds(birds)
    with pytest.raises(FileNotFoundError, match="metadata.csv is not there"):
        data.waterbirds(birds / "elsewhere")


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
    made = data.celeba(tmp_path, size=16)
    assert [part.counts() for part in made.values()] == [
        (1, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)
    ]  # fmt: skip
    assert torch.allclose(
        made["train"].images.float().mean((1, 2, 3)), torch.tensor([20.0, 60]), atol=2
    )


def test_celeba_needs_its_lists(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither list_attr_celeba.csv nor"):
        data.celeba(tmp_path)
    ATTRIBUTES.drop(columns="Male").to_csv(
        tmp_path / "list_attr_celeba.csv", index_label="image_id"
    )
    with pytest.raises(ValueError, match="no column Male"):
        data.celeba(tmp_path)
