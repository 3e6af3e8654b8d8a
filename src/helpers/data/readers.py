"""Files of images in the formats in which the data sets are published.

Source: the formats as their authors publish them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from helpers.data.files import damaged, decoded, pictures
from helpers.project import expanded

ORDER_SEED = 0  # of the fixed shuffles: image folders and mnist5k come sorted by class
_RULES = 2  # of decoding; counted up with every change, so that nothing older is read from a cache


class Found(NamedTuple):
    """What was read from files."""

    images: np.ndarray  # uint8 (n, c, h, w)
    labels: np.ndarray  # int64 (n,)
    kind: str
    notes: list[str]


@dataclass(frozen=True)
class Spec:
    """A published data set: how it is called, where its files lie and what is in them."""

    title: str
    loader: str  # the class in torchvision.datasets
    folder: str  # where that class keeps its files
    read: Callable[[Path, Spec, bool], Found | None]
    shape: tuple[int, int, int]
    counts: tuple[int, int]  # test, train
    classes: tuple[str, ...]
    md5: dict[str, str]  # of the original files, uncompressed


def _check(where: Path, images: np.ndarray, labels: np.ndarray, spec: Spec) -> None:
    if len(images) != len(labels) or images.shape[1:] != spec.shape:
        raise damaged(
            where,
            f"gives {len(labels)} labels for {len(images)} images of shape "
            f"{images.shape[1:]}; {spec.title} has one each of {spec.shape}",
        )
    if not set(np.unique(labels)) <= set(range(len(spec.classes))) or not len(labels):
        raise damaged(
            where,
            f"has the labels {np.unique(labels)}; {spec.title} has 0 to {len(spec.classes) - 1}",
        )


def _same(content: bytes | bytearray, md5: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def read_idx(folder: Path, spec: Spec, train: bool) -> Found | None:
    """A pair of IDX files, plain or compressed. Format: http://yann.lecun.com/exdb/mnist."""
    start = "train" if train else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    files = [next(filter(Path.is_file, (folder / n, folder / f"{n}.gz")), None) for n in names]
    if not any(files):
        return None
    if not all(files):
        raise damaged(folder, f"holds only one of {names[0]} and {names[1]}")
    contents = [_unzipped(file) for file in files]
    images, labels = map(_parse_idx, files, contents, (3, 1))
    _check(files[1], images[:, None], labels, spec)
    notes = [
        f"{what} differ from the original release"
        for what, name, content in zip(("pixels", "labels"), names, contents, strict=True)
        if not _same(content, spec.md5[name])
    ]
    return Found(images[:, None], labels.astype(np.int64), "IDX files", notes)


def _unzipped(file: Path) -> bytearray:
    raw = file.read_bytes()
    try:
        return bytearray(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged(file, f"cannot be decompressed ({error})") from error


def _parse_idx(file: Path, content: bytearray, ndim: int) -> np.ndarray:
    start, magic = 4 + 4 * ndim, bytes([0, 0, 8, ndim])  # two zeros, "unsigned byte", dimensions
    if len(content) < start or content[:4] != magic:
        raise damaged(
            file,
            f"is no IDX file: {len(content)} bytes which start with "
            f"'{content[:4].hex()}', not with the magic number {magic.hex()}",
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", ndim, 4)]
    if len(content) - start != np.prod(shape, dtype=object):
        raise damaged(
            file,
            f"has the wrong size: {len(content) - start} bytes of data where its "
            f"header announces {' x '.join(map(str, shape))}",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers, and refuses whatever else a pickle could call."""

    NUMPY = ("_reconstruct", "_frombuffer", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> object:
        numpy = module.split(".")[0] == "numpy" and name in self.NUMPY
        if not numpy and (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of arrays")
        return super().find_class(module, name)


def read_batches(folder: Path, spec: Spec, train: bool) -> Found | None:
    """The Python batches of https://www.cs.toronto.edu/~kriz/cifar.html."""
    files = [folder / name for name in spec.md5 if name.startswith("data" if train else "test")]
    if absent := [file.name for file in files if not file.is_file()]:
        if len(absent) == len(files):
            return None
        raise damaged(folder, f"lacks {', '.join(absent)}")
    batches, original = [], True
    for file in files:
        content = file.read_bytes()
        original &= _same(content, spec.md5[file.name])
        try:
            batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
            images = batch["data"].reshape(-1, *spec.shape).astype(np.uint8, casting="no")
            labels = np.array(batch["labels"]).astype(np.int64, casting="safe")
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise damaged(file, f"is no CIFAR-10 batch ({error!r})") from error
        _check(file, images, labels, spec)
        batches.append((images, labels))
    notes = [] if original else ["batches differ from the original release"]
    return Found(*map(np.concatenate, zip(*batches, strict=True)), "Python batches", notes)


def read_images(folder: Path, spec: Spec, train: bool) -> Found | None:
    """A folder of images by class, shuffled with a fixed seed, decoded once and then cached."""
    split = folder / ("train" if train else "test")
    if not split.is_dir():
        return None
    files = [file.relative_to(split).as_posix() for file in pictures(split)]
    index = {_plain(name): i for i, name in enumerate(spec.classes)}
    index |= {str(i): i for i in range(len(spec.classes))}
    labels = np.array([index.get(_plain(file.split("/")[0]), -1) for file in files], np.int64)
    if set(labels) != set(range(len(spec.classes))):
        raise damaged(
            split,
            "must hold .jpg or .png images in one folder for each of "
            f"{', '.join(spec.classes)} and no other; it has images in "
            f"{', '.join(sorted({f.split('/')[0] for f in files})) or 'none'}",
        )
    generator = torch.Generator().manual_seed(ORDER_SEED)
    order = torch.randperm(len(files), generator=generator).numpy()
    images = _decoded(split, [files[i] for i in order], spec.shape)
    lossy = not all(file.lower().endswith(".png") for file in files)
    return Found(images, labels[order], "image folder", ["JPEG-recoded"] if lossy else [])


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _decoded(split: Path, files: list[str], shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (n, c, h, w), from the user's cache as long as no file changes."""
    stats = [os.stat(split / file) for file in files]
    state = [(file, s.st_size, s.st_mtime_ns) for file, s in zip(files, stats, strict=True)]
    made_of = _RULES, str(split.resolve()), shape, state
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "spurious-book"
    path = cache / f"{key}.npy"
    try:
        images = np.load(path, mmap_mode="c")
        if images.shape == (len(files), *shape) and images.dtype == np.uint8:
            return images
    except (OSError, EOFError, ValueError):
        pass  # not there, or damaged: decode the images and write it anew
    images = np.empty((len(files), *shape), np.uint8)
    for i, file in enumerate(files):  # threads make this slower: the images are tiny
        images[i] = _decode(split / file, shape)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            np.save(Path(part, path.name), images)
            os.replace(Path(part, path.name), path)
    except OSError:
        pass  # read-only home or full disk: decoded again next time
    return images


def _decode(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    channels, *size = shape
    pixels = np.asarray(decoded(file, "L" if channels == 1 else "RGB"))
    if list(pixels.shape[:2]) != size:
        raise damaged(file, f"is an image of {pixels.shape[:2]} pixels, not {tuple(size)}")
    return pixels.reshape(*size, channels).transpose(2, 0, 1)
