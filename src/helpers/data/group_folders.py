"""Waterbirds and CelebA from the folders in which their authors publish them.

Source: Sagawa et al. 2020; Liu et al. 2015.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from helpers.data.attributed import Grouped
from helpers.data.files import data_folder, decoded

SPLITS = ("train", "val", "test")
_Table = dict[str, tuple[float, ...]]  # by image, the numbers in the columns asked for
_CLASS, _SIGN, _SPLIT = (0, 1), (-1, 0, 1), (0, 1, 2)  # what a column may hold


def waterbirds(folder: str | Path, *, size: int = 224) -> dict[str, Grouped]:
    """Waterbirds as its authors publish it: a folder with `metadata.csv` and the images.

    The table has the columns `img_filename`, `y`, `split` (0, 1, 2) and `place`, and may have more;
    commas, semicolons or tabs separate them. Images are scaled so that their shorter side is 8/7 of
    `size` and cut to the middle, as is the custom.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: a folder that is a file; a table that is not in UTF-8 or lists no image; missing
            or doubled columns, cells too few or too many, values other than the allowed; an image
            that is listed twice, is not there, lies outside the folder or cannot be decoded.

    Source: Sagawa et al. 2020 (`waterbird_complete95_forest2water2`), also WILDS.
    """
    folder = data_folder(folder)
    allowed = {"y": _CLASS, "place": _CLASS, "split": _SPLIT}
    table = _table(folder / "metadata.csv", "img_filename", allowed)
    return _from_table(folder, table, "Waterbirds", size)


def celeba(folder: str | Path, *, size: int = 64) -> dict[str, Grouped]:
    """CelebA for the attributes blond (class) and male (attribute).

    The folder holds `img_align_celeba/` and the lists of attributes and of the partition, either
    `list_attr_celeba.txt` and `list_eval_partition.txt` (torchvision) or the same as `.csv`.
    Attributes are -1 and 1, or 0 and 1.

    Raises:
        FileNotFoundError, ValueError: as in :func:`waterbirds`; lists of different images.

    Source: Liu et al. 2015; groups as in Sagawa et al. 2020.
    """
    folder = data_folder(folder)
    attributes = _celeba_list(folder, "list_attr_celeba", {"Blond_Hair": _SIGN, "Male": _SIGN})
    partition = _celeba_list(folder, "list_eval_partition", {"partition": _SPLIT})
    if alone := sorted(attributes.keys() ^ partition.keys()):
        raise ValueError(
            f"{len(alone)} images of {folder} have attributes but no partition or the reverse: "
            f"{', '.join(alone[:3])}{', …' * (len(alone) > 3)}"
        )
    table = {image: row + partition[image] for image, row in attributes.items()}
    return _from_table(folder / "img_align_celeba", table, "CelebA", size)


def _celeba_list(folder: Path, name: str, allowed: Mapping[str, Sequence[int]]) -> _Table:
    """One of CelebA's lists, in either format, by file name of the image."""
    file = folder / f"{name}.csv"
    if not file.is_file():
        file = folder / f"{name}.txt"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds neither {name}.csv nor {name}.txt")
    table = _table(file, "image_id", allowed)
    for column, found in zip(allowed, zip(*table.values(), strict=True), strict=True):
        if {-1, 0} <= set(found):
            raise ValueError(f"{file}: {column} is -1 in some lines and 0 in others")
    return table


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank: their numbers from 1, and their cells."""
    try:
        text = file.read_text("utf-8-sig")  # with a byte order mark or without
        if file.suffix == ".txt":
            rows = enumerate(map(str.split, text.split("\n")), 1)
        else:
            head = text.lstrip().partition("\n")[0]
            mark = max(",;\t", key=head.count)
            reader = csv.reader(
                io.StringIO(text), delimiter=mark, skipinitialspace=True, strict=True
            )
            rows = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
        yield from ((line, cells) for line, cells in rows if any(cells))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from error
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error


def _table(file: Path, key: str, allowed: Mapping[str, Sequence[int]]) -> _Table:
    """A table by its column `key`, of which the asked columns hold nothing but allowed numbers."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not there: expected a table of {', '.join([key, *allowed])}"
        )
    rows, header = _rows(file), [key, *allowed]
    if file.name != "list_eval_partition.txt":  # it has no header
        if file.suffix == ".txt":
            next(rows, None)  # the number of images
        header = next(rows, (0, []))[1]
    if (first := next(rows, None)) is None:
        raise ValueError(f"{file} lists no image")
    if len(first[1]) == len(header) + 1 and first[1][-1]:  # the first column has no name at all
        header.insert(0, "")
    if key == "image_id" and key not in header:  # copies of CelebA differ in this name
        header[0] = key
    if wrong := [name for name in (key, *allowed) if header.count(name) != 1]:
        raise ValueError(
            f"{file} has no column {', '.join(wrong)}, or two: it has {', '.join(header)}"
        )
    table = {}
    for line, cells in chain([first], rows):
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise ValueError(f"{file}, line {line}: {len(cells)} cells for {len(header)} columns")
        row = dict(zip(header, cells, strict=False))  # cells beyond the header are blank
        if not (image := row[key]):
            raise ValueError(f"{file}, line {line}: {key} is blank")
        if image in table:
            raise ValueError(f"{file}, line {line}: {image} is listed twice")
        table[image] = tuple(_number(row[name]) for name in allowed)
        for (name, values), number in zip(allowed.items(), table[image], strict=True):
            if number not in values:
                raise ValueError(
                    f"{file}, line {line}: {name} of {image} is {row[name]!r}: allowed are "
                    f"{', '.join(map(str, values))}"
                )
    return table


def _number(cell: str) -> float:
    """What a cell says, NaN if that is no number."""
    try:
        return float({"true": 1, "false": 0}.get(cell.lower(), cell))
    except ValueError:
        return math.nan


def _from_table(folder: Path, table: _Table, name: str, size: int) -> dict[str, Grouped]:
    """Images by split, from a table of class, attribute and split."""
    root, files = folder.resolve(), {image: folder / image for image in table}
    for image, file in files.items():
        if not file.is_file():
            raise ValueError(f"{file} is not there: the table of {name} lists {image!r}")
        if not file.resolve().is_relative_to(root):
            raise ValueError(f"{file} is not in {root}: the table of {name} lists {image!r}")
    made = {}
    for number, split in enumerate(SPLITS):
        part = [(files[image], *row[:2]) for image, row in table.items() if row[2] == number]
        images = torch.empty(len(part), 3, size, size, dtype=torch.uint8)
        for row, (file, *_) in enumerate(part):
            images[row] = _image(file, size)
        label, attribute = (
            torch.tensor([row[column] > 0 for row in part], dtype=torch.int64) for column in (1, 2)
        )
        made[split] = Grouped(images, label, attribute, f"{name}, {size} x {size} pixels")
    return made


def _image(file: Path, size: int) -> torch.Tensor:
    """The middle of an image, `(3, size, size)` uint8."""
    image = decoded(file)
    scale = size * 8 / 7 / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size])
    left, top = ((side - size) // 2 for side in image.size)
    pixels = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1)
