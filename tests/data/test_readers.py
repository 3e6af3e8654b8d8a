"""Files in every layout and with every kind of damage, and the cache of decoded images."""

import gzip
import hashlib
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.data import DatasetCorrupted, load, readers


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_batches(root):
    """Two images in each of the six batches; returns those of the training batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 3, 32, 32), np.uint8)
    labels = rng.integers(0, 10, 12)
    for i, name in enumerate(data.SPECS["cifar10"].md5):
        part = slice(2 * i, 2 * i + 2)
        batch = {"data": images[part].reshape(2, -1), "labels": labels[part].tolist()}
        write(root / "cifar-10-batches-py" / name, pickle.dumps(batch, protocol=2))
    return images[:10], labels[:10]


def write_images(root, name="cifar10", suffix=".png", folders=None, size=(32, 32, 3), each=3):
    """``each`` images a class; returns them by (class index, pixels)."""
    rng, written = np.random.default_rng(0), []
    for index, folder in enumerate(folders or data.SPECS[name].classes):
        for i in range(each):
            pixels = rng.integers(0, 256, size, np.uint8)
            path = root / name / "train" / folder / f"{i:04d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            written.append((index, pixels.tobytes()))
    return sorted(written)


def pairs(dataset):
    """The same form as ``write_images`` returns."""
    pixels = dataset.images.permute(0, 2, 3, 1).contiguous().numpy()
    return sorted((int(i), p.tobytes()) for i, p in zip(dataset.labels, pixels, strict=True))


# --- layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("train", "start"), [(True, "train"), (False, "t10k")])
def test_idx_files(machine, suffix, train, start, write_idx):
    images, labels = write_idx(machine / "MNIST/raw", start, suffix=suffix)
    found = load("mnist", train=train, data_dir=machine)
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert found.images.shape == (12, 1, 28, 28) and len(found) == 12
    assert np.array_equal(found.images[:, 0], images) and np.array_equal(found.labels, labels)
    assert (found.name, found.train, found.classes) == ("mnist", train, tuple("0123456789"))


def test_plain_idx_files_win_over_compressed_ones(machine, write_idx):
    write_idx(machine / "MNIST/raw", seed=1, suffix=".gz")
    images, _ = write_idx(machine / "MNIST/raw", seed=2)
    assert np.array_equal(load("mnist", data_dir=machine).images[:, 0], images)


def test_source_tells_copies_from_originals(machine, monkeypatch, write_idx):
    write_idx(machine / "MNIST/raw", suffix=".gz")
    assert load("mnist", data_dir=machine).source == (
        "MNIST, IDX files (pixels differ from the original release, "
        "labels differ from the original release, 12 of 60,000 images)"
    )
    md5 = {
        file.stem: hashlib.md5(gzip.decompress(file.read_bytes())).hexdigest()
        for file in (machine / "MNIST/raw").iterdir()
    }
    original = replace(data.SPECS["mnist"], md5=md5, counts=(10, 12))
    monkeypatch.setitem(data.SPECS, "mnist", original)
    assert load("mnist", data_dir=machine).source == "MNIST, IDX files"


def test_batches_in_their_order(machine):
    images, labels = write_batches(machine)
    found = load("cifar10", data_dir=machine)
    assert np.array_equal(found.images, images) and np.array_equal(found.labels, labels)
    assert found.source == (
        "CIFAR-10, Python batches (batches differ from the original release, 10 of 50,000 images)"
    )
    assert len(load("cifar10", data_dir=machine, train=False)) == 2


def test_png_folder_is_exact_complete_and_mixed(machine):
    written = write_images(machine, each=20)
    found = load("cifar10", data_dir=machine)
    assert pairs(found) == written
    assert found.source == "CIFAR-10, image folder (200 of 50,000 images)"
    assert len(found.labels[:40].unique()) == 10  # class by class it would be 2
    assert torch.equal(found.images, load("cifar10", data_dir=machine).images)


def test_jpeg_folder_says_so(machine):
    write_images(machine, suffix=".jpg")
    assert load("cifar10", data_dir=machine).source == (
        "CIFAR-10, image folder (JPEG-recoded, 30 of 50,000 images)"
    )


@pytest.mark.parametrize("folders", [
    None, tuple("0123456789"), [c.replace("/", "_").lower() for c in data.FASHION],
])  # fmt: skip
def test_class_folders_by_name_or_number(machine, folders):
    folders = folders or [c.replace("/", "-") for c in data.FASHION]
    written = write_images(machine, "fashion_mnist", folders=folders, size=(28, 28))
    assert pairs(load("fashion_mnist", data_dir=machine)) == written


def test_stray_files_in_an_image_folder_are_no_images(machine):
    written = write_images(machine)
    write(machine / "cifar10/train/cat/._0000.png", b"made by a file manager")
    write(machine / "cifar10/train/README.txt", b"text")
    (machine / "cifar10/train/cat/folder.png").mkdir()
    copy = (machine / "cifar10/train/cat/0001.png").read_bytes()
    for tool in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN"):
        write(machine / "cifar10/train" / tool / "0000.png", copy)
    for stray in (".DS_Store", "Thumbs.db", "list.csv"):
        write(machine / "cifar10/train" / stray, b"")
    assert pairs(load("cifar10", data_dir=machine)) == written


def test_deep_digits_are_refused(machine):
    write_images(machine, "fashion_mnist", folders=tuple("0123456789"), size=(28, 28))
    deep = Image.fromarray(np.full((28, 28), 257, np.uint16))
    deep.save(machine / "fashion_mnist/train/4/0001.png")
    with pytest.raises(DatasetCorrupted, match="4/0001.png has 16 bits"):
        load("fashion_mnist", data_dir=machine)


def test_a_dangling_link_is_an_image_that_is_not_there(machine):
    write_images(machine)
    (machine / "cifar10/train/cat/9.png").symlink_to(machine / "nowhere.png")
    with pytest.raises(FileNotFoundError, match="cat/9.png"):
        load("cifar10", data_dir=machine)


# --- damage -----------------------------------------------------------------------------------

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(("name", "spoil", "reason"), [
    (IMAGES, lambda c: b"\1" + c[1:], "is no IDX file.*magic number 00000803"),
    (IMAGES, lambda c: b"", "is no IDX file: 0 bytes"),
    (IMAGES, lambda c: c[:10], "is no IDX file: 10 bytes"),
    (IMAGES, lambda c: c[:-1], "has the wrong size: 9407 bytes .* 12 x 28 x 28"),
    (IMAGES, lambda c: c + b"0", "has the wrong size"),
    (IMAGES, lambda c: c[:4] + b"\xff" * 12 + c[16:], "has the wrong size"),
    (LABELS, lambda c: idx(np.zeros(11)), "gives 11 labels for 12 images"),
    (LABELS, lambda c: idx(np.full(12, 10)), r"has the labels \[10\]"),
    (LABELS, lambda c: idx(np.zeros((12, 1))), "is no IDX file.*magic number 00000801"),
])  # fmt: skip
def test_damaged_idx(machine, name, spoil, reason, write_idx):
    write_idx(machine / "MNIST/raw")
    file = machine / "MNIST/raw" / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DatasetCorrupted, match=f"{name} {reason}") as caught:
        load("mnist", data_dir=machine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [
    lambda c: c[:-9], lambda c: b"no gzip", lambda c: c[:40] + bytes(40) + c[80:],
])  # fmt: skip
def test_damaged_gzip(machine, spoil, write_idx):
    write_idx(machine / "MNIST/raw", suffix=".gz")
    file = machine / "MNIST/raw" / f"{IMAGES}.gz"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DatasetCorrupted, match=f"{IMAGES}.gz cannot be decompressed"):
        load("mnist", data_dir=machine)


def test_wrong_image_size_and_empty_file_and_lone_file(machine):
    folder = machine / "MNIST/raw"
    write(folder / IMAGES, idx(np.zeros((2, 27, 28))))
    with pytest.raises(DatasetCorrupted, match=f"holds only one of {IMAGES}"):
        load("mnist", data_dir=machine)
    write(folder / LABELS, idx(np.zeros(2)))
    with pytest.raises(DatasetCorrupted, match=r"of shape \(1, 27, 28\)"):
        load("mnist", data_dir=machine)
    write(folder / IMAGES, idx(np.zeros((0, 28, 28))))
    write(folder / LABELS, idx(np.zeros(0)))
    with pytest.raises(DatasetCorrupted, match="has the labels"):
        load("mnist", data_dir=machine)


class Intruder:
    """A pickle of it would make a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("content", [
    b"", b"nonsense", pickle.dumps([1, 2]), pickle.dumps({"data": np.zeros((2, 3072))}),
    pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}),
    pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}),
])  # fmt: skip
def test_damaged_batch(machine, content):
    write_batches(machine)
    write(machine / "cifar-10-batches-py/data_batch_3", content)
    with pytest.raises(DatasetCorrupted, match="data_batch_3 is no CIFAR-10 batch"):
        load("cifar10", data_dir=machine)


def test_batches_run_no_code(machine, tmp_path):
    write_batches(machine)
    file = machine / "cifar-10-batches-py/data_batch_3"
    file.write_bytes(pickle.dumps(Intruder(tmp_path / "made")))
    with pytest.raises(DatasetCorrupted, match="data_batch_3.*has no place in a file of arrays"):
        load("cifar10", data_dir=machine)
    assert not (tmp_path / "made").exists()
    file.write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1, 2]}))
    with pytest.raises(DatasetCorrupted, match="data_batch_3 gives 3 labels for 2 images"):
        load("cifar10", data_dir=machine)
    file.unlink()
    with pytest.raises(DatasetCorrupted, match="lacks data_batch_3"):
        load("cifar10", data_dir=machine)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_image(machine, suffix, share):
    write_images(machine, suffix=suffix)
    file = machine / f"cifar10/train/dog/0001{suffix}"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetCorrupted, match=f"dog/0001{suffix} cannot be decoded"):
        load("cifar10", data_dir=machine)


def test_image_of_wrong_size(machine):
    write_images(machine)
    Image.new("RGB", (32, 31)).save(machine / "cifar10/train/dog/0001.png")
    with pytest.raises(DatasetCorrupted, match=r"dog/0001.png is an image of \(31, 32\) pixels"):
        load("cifar10", data_dir=machine)


def test_folders_which_are_not_the_classes(machine):
    write_images(machine, folders=[*data.OBJECTS[:9], "lorry"])
    with pytest.raises(DatasetCorrupted, match="must hold .* truck and no other.*frog, horse, lor"):
        load("cifar10", data_dir=machine)
    (machine / "fashion_mnist/train").mkdir(parents=True)
    with pytest.raises(DatasetCorrupted, match="it has images in none"):
        load("fashion_mnist", data_dir=machine)


# --- the cache of decoded images --------------------------------------------------------------


def cached_files(tmp_path):
    return list((tmp_path / "cache/spurious-book").iterdir())


def count_decoding(monkeypatch):
    calls, decode = [], readers._decode
    monkeypatch.setattr(readers, "_decode", lambda *args: calls.append(args) or decode(*args))
    return calls


def test_images_are_decoded_once(machine, tmp_path, monkeypatch):
    calls = count_decoding(monkeypatch)
    written = write_images(machine)
    load("cifar10", data_dir=machine)
    assert len(calls) == 30 and len(cached_files(tmp_path)) == 1
    again = load("cifar10", data_dir=machine)
    assert len(calls) == 30 and pairs(again) == written
    again.images.zero_()  # a caller's edit stays with the caller
    assert pairs(load("cifar10", data_dir=machine)) == written


def test_images_that_older_rules_decoded_are_decoded_again(machine, monkeypatch):
    calls = count_decoding(monkeypatch)
    write_images(machine)
    for rules in (readers._RULES - 1, readers._RULES):
        monkeypatch.setattr(readers, "_RULES", rules)
        load("cifar10", data_dir=machine)
    assert len(calls) == 60


def test_changed_images_are_decoded_again(machine, monkeypatch):
    calls = count_decoding(monkeypatch)
    write_images(machine)
    load("cifar10", data_dir=machine)
    file = machine / "cifar10/train/dog/0001.png"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    load("cifar10", data_dir=machine)
    assert len(calls) == 60
    file.rename(machine / "cifar10/train/cat/0009.png")
    assert load("cifar10", data_dir=machine).labels.bincount().tolist()[3:6] == [4, 3, 2]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense", None])
def test_damaged_cache_is_replaced(machine, tmp_path, content):
    written = write_images(machine)
    load("cifar10", data_dir=machine)
    (file,) = cached_files(tmp_path)
    good = file.read_bytes()
    file.write_bytes(good[:-1] if content is None else content)
    assert pairs(load("cifar10", data_dir=machine)) == written
    assert cached_files(tmp_path) == [file] and file.read_bytes() == good


def test_no_cache_where_it_cannot_be_written(machine, tmp_path, monkeypatch):
    calls = count_decoding(monkeypatch)
    written = write_images(machine)
    write(tmp_path / "cache", b"a file where the folder should be")  # stops root as well
    for _ in range(2):
        assert pairs(load("cifar10", data_dir=machine)) == written
    assert len(calls) == 60
