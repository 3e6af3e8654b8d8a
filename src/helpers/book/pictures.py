"""Pictures that a chapter makes from a data set: made here, or as they were when it was published.

A figure of images must not become an empty box, or another figure, because a data set is not on
the machine. So pictures are kept beside the stored results, and shown where they cannot be made.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from IPython.display import display
from torch import Tensor

from helpers.errors import DatasetNotFound, StoreError
from helpers.project import PUBLISHED, Run, project_root

STORED = "stored_pictures"  # metadata of an output: what is shown from the store


def made_or_stored(
    name: str, run: Run, make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The pictures that `make` returns, or the published ones where its data set is not here.

    The latter is said in an output, which the page on the edition's state collects. With a store
    (not at `smoke`), new pictures are kept in it if they are made as the published ones are: at
    the published profile, from seed 0.

    Args:
        name: of the file in the store.
        run: the chapter's settings.
        make: returns images `(n, c, h, w)` under some titles: uint8, or floats in [0, 1].

    Returns:
        The same titles and images, uint8.

    Raises:
        ValueError: `make` returned something else.
        DatasetNotFound: the data set is not here, and nothing is stored.
        StoreError: the stored pictures cannot be read or written.
    """
    if run.store is None:
        return _bytes(make())
    own = run.store / "pictures" / f"{name}.npz"
    published = project_root() / "book" / "results" / "pictures" / f"{name}.npz"
    kept = next((_read(file) for file in (own, published) if file.is_file()), None)
    try:
        found = _bytes(make())
    except DatasetNotFound:
        if kept is None:
            raise
        _tell(name)
        return kept
    published_so = (run.profile, run.seed) == (PUBLISHED, 0)
    if published_so and (kept is None or not _equal(found, kept)):
        _write(found, own)
    return found


def _bytes(pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images as bytes; ValueError for what is no images."""
    made = {}
    for title, images in pictures.items():
        if images.is_floating_point():
            if not bool(((images >= 0) & (images <= 1)).all()):
                raise ValueError(f"{title!r}: images of floats must have numbers from 0 to 1")
            images = (255 * images).round().to(torch.uint8)
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(
                f"{title!r} has dtype {images.dtype} and shape {tuple(images.shape)}: expected "
                "(n, c, h, w), uint8 or floats"
            )
        made[title] = images
    return made


def _equal(found: dict[str, Tensor], kept: dict[str, Tensor]) -> bool:
    same = list(found) == list(kept)
    return same and all(torch.equal(found[title], kept[title]) for title in found)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        # opened here: numpy leaves a damaged file open
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            return _bytes({title: torch.from_numpy(kept[title]) for title in kept.files})
    except Exception as error:  # damage makes zipfile, zlib and numpy raise all kinds
        raise StoreError(
            f"the stored pictures {file} cannot be read ({error}). Restore the file from git, or "
            "delete it and run the chapter where its data set is."
        ) from error


def _write(found: dict[str, Tensor], file: Path) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}.part")  # others may write it too
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            np.savez_compressed(stream, **{title: x.numpy() for title, x in found.items()})
        os.replace(part, file)
    except OSError as error:
        raise StoreError(f"cannot write the pictures {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _tell(name: str) -> None:
    """Say in the chapter, and for the page on its state, that these pictures are stored ones."""
    text = (
        "The images are not on this machine: these pictures are the stored ones, as they were "
        "published."
    )
    display({"text/plain": text}, raw=True, metadata={STORED: name})
