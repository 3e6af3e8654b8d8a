"""Waterbirds and CelebA from the folders in which their authors publish them.

Source: Sagawa et al. 2020; Liu et al. 2015.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.data.attributed import Grouped

SPLITS = ("train", "val", "test")


def waterbirds(folder: str | Path, *, size: int = 224) -> dict[str, Grouped]:
    """Waterbirds as its authors publish it: a folder with `metadata.csv` and the images.

    The table has the columns `img_filename`, `y`, `split` (0, 1, 2) and `place`. Images are
    scaled so that their shorter side is 8/7 of `size` and cut to the middle, as is the custom.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: missing columns, values other than the allowed, an image that cannot be read.

    Source: Sagawa et al. 2020 (`waterbird_complete95_forest2water2`), also WILDS.
    """
    table = _table(Path(folder) / "metadata.csv", ("img_filename", "y", "split", "place"))
    return _from_table(Path(folder), table, "place", "Waterbirds", size)


def celeba(folder: str | Path, *, size: int = 64) -> dict[str, Grouped]:
    """CelebA for the attributes blond (class) and male (attribute).

    The folder holds `img_align_celeba/` and the lists of attributes and of the partition, either
    `list_attr_celeba.txt` and `list_eval_partition.txt` (torchvision) or the same as `.csv`.

    Raises:
        FileNotFoundError, ValueError: as in :func:`waterbirds`.

    Source: Liu et al. 2015; groups as in Sagawa et al. 2020.
    """
    folder = Path(folder)
    attributes = _celeba_list(folder, "list_attr_celeba", ("Blond_Hair", "Male"))
    partition = _celeba_list(folder, "list_eval_partition", ("partition",))
    table = attributes.join(partition, how="inner")
    if len(table) != len(attributes):
        raise ValueError(
            f"{len(attributes) - len(table)} images of {folder} have attributes but no partition"
        )
    table = pd.DataFrame({
        "img_filename": "img_align_celeba/" + table.index.astype(str),
        "y": (table["Blond_Hair"] > 0).astype(int),
        "male": (table["Male"] > 0).astype(int),
        "split": table["partition"],
    })  # fmt: skip
    return _from_table(folder, table, "male", "CelebA", size)


def _table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: expected a table of {', '.join(columns)}")
    return _checked(pd.read_csv(file), file, columns)


def _checked(table: pd.DataFrame, file: Path, columns: Sequence[str]) -> pd.DataFrame:
    if missing := [name for name in columns if name not in table]:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}: it has {', '.join(table.columns)}"
        )
    return table


def _celeba_list(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """One of CelebA's lists, in either format, by file name of the image."""
    if (file := folder / f"{name}.csv").is_file():
        table = _table(file, columns)
        return table.set_index(table.columns[0])[list(columns)]
    file = folder / f"{name}.txt"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds neither {name}.csv nor {name}.txt")
    if name == "list_eval_partition":
        table = pd.read_csv(file, sep=r"\s+", header=None, index_col=0, names=["", *columns])
    else:  # the first line is the number of images, the second the names
        table = pd.read_csv(file, sep=r"\s+", skiprows=1, index_col=0)
    return _checked(table, file, columns)[list(columns)]


def _from_table(
    folder: Path, table: pd.DataFrame, attribute: str, name: str, size: int
) -> dict[str, Grouped]:
    for column, allowed in (("y", {0, 1}), (attribute, {0, 1}), ("split", {0, 1, 2})):
        if strange := set(table[column].unique()) - allowed:
            raise ValueError(
                f"column {column} of {name} holds {sorted(strange)[:5]}: allowed are "
                f"{sorted(allowed)}"
            )
    made = {}
    for number, split in enumerate(SPLITS):
        part = table[table["split"] == number]
        images = torch.empty(len(part), 3, size, size, dtype=torch.uint8)
        for row, file in enumerate(part["img_filename"]):
            images[row] = _image(folder / file, size)
        made[split] = Grouped(
            images,
            torch.tensor(part["y"].to_numpy(), dtype=torch.int64),
            torch.tensor(part[attribute].to_numpy(), dtype=torch.int64),
            f"{name}, {size} x {size} pixels",
        )
    return made


def _image(file: Path, size: int) -> torch.Tensor:
    """The middle of an image, `(3, size, size)` uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    scale = size * 8 / 7 / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size])
    left, top = ((side - size) // 2 for side in image.size)
    pixels = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1)
