"""NICO++ for readers who have it: from a folder of pictures to a fine-tuned ResNet-50.

Nothing of it can be shipped with the book; this edition has seen no picture of it. The pipeline is
tested on a folder of the same layout that the tests make themselves.

Source: Zhang et al. 2023 (NICO++).
"""

import os
from pathlib import Path

import torch
from torch import Tensor

from helpers.data.contexts import CONTEXTS, Pool
from helpers.data.files import data_folder, decoded, pictures
from helpers.errors import DatasetNotFound

# where the pictures are below the folder of the data set, as far as it was unpacked
PLACES = tuple(map(Path, ("track_1/public_dg_0416/train", "public_dg_0416/train", "train", ".")))


def pool(data_dir: str | Path | None) -> Pool:
    """NICO++ as its authors publish it: `<context>/<object>/*.jpg`, decoded only when looked at.

    The public training part of track 1 (88,866 pictures of 60 objects) unpacks to
    `track_1/public_dg_0416/train/<context>/<object>/`; of this path any beginning may be missing.
    `data_dir` (or else `$SPURIOUS_DATA`) is the folder that holds it, or holds it as `NICO++`.

    Raises:
        DatasetNotFound: no such folder.
        ValueError: a folder without pictures; a data folder that is a file.

    Source: Zhang et al. 2023 (https://nicochallenge.com).
    """
    root = data_folder(data_dir or os.environ.get("SPURIOUS_DATA") or ".")
    tried = [base / inner for base in (root / "NICO++", root) for inner in PLACES]
    folder = next((f for f in tried if any((f / name).is_dir() for name in CONTEXTS)), None)
    if folder is None:
        raise DatasetNotFound(
            f"NICO++ was not found: none of {', '.join(map(str, tried))} has a folder of a context "
            f"({', '.join(CONTEXTS)}). Get track 1 from https://nicochallenge.com and give the "
            "folder that it was unpacked in as data_dir."
        )
    contexts = tuple(name for name in CONTEXTS if (folder / name).is_dir())
    files = [file for name in contexts for file in pictures(folder / name)]
    if not files:
        raise ValueError(f"{folder} has no pictures: expected <context>/<object>/*.jpg in it")
    objects = tuple(sorted({file.parent.name for file in files}))
    where, what = ({name: i for i, name in enumerate(names)} for names in (contexts, objects))
    return Pool(
        files,
        torch.tensor([what[file.parent.name] for file in files]),
        torch.tensor([where[file.parent.parent.name] for file in files]),
        objects,
        contexts,
        f"NICO++, {len(files):,} pictures of {len(objects)} objects",
    )


class Pictures(torch.utils.data.Dataset):
    """Files as pictures `(3, size, size)` in [0, 1] with their labels, decoded when asked for.

    For training, a random part of a fifth or more of the picture, mirrored half of the time; else
    the middle, as is the custom for ImageNet. A file that cannot be decoded raises
    DatasetCorrupted.
    """

    def __init__(self, pool: Pool, rows: Tensor, size: int, train: bool) -> None:
        from torchvision.transforms import v2

        self._files, self._label, self._rows = pool.inputs, pool.label, rows.tolist()
        cut = [v2.RandomResizedCrop(size, scale=(0.2, 1)), v2.RandomHorizontalFlip()]
        middle = [v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size)]
        self._transform = v2.Compose(
            [*(cut if train else middle), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        row = self._rows[position]
        return self._transform(decoded(self._files[row])), int(self._label[row])
