"""What the tests of data share: an empty machine, IDX files, hashes of images, framings."""

import gzip
import hashlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from helpers import data


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


@pytest.fixture
def write_idx():
    """Writes twelve images to a folder; returns them with their labels."""

    def write(folder, start="train", seed=0, suffix=""):
        rng, pack = np.random.default_rng(seed), gzip.compress if suffix else bytes
        images, labels = rng.integers(0, 256, (12, 28, 28), np.uint8), rng.integers(0, 10, 12)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            content = pack(header + array.astype(np.uint8).tobytes())
            (folder / f"{start}-{name}-ubyte{suffix}").write_bytes(content)
        return images, labels

    return write


@pytest.fixture
def fingerprint():
    """A hash of images: of integers as they are, of floats in 33 levels from 0 to 1.

    So few, that the last digits, which differ from processor to processor, do not show; a constant
    of a rendering that changes by a hundredth moves more than one pixel in four to another level.
    """

    def sha(images):
        if images.is_floating_point():
            assert 0 <= float(images.min()) and float(images.max()) <= 1
            images = (32 * images).round().to(torch.uint8)
        content = f"{tuple(images.shape)}".encode() + images.contiguous().numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    return sha


@st.composite
def _framings(draw):
    n, c, h, w = (draw(st.integers(1, top)) for top in (5, 3, 6, 6))
    seed = draw(st.integers(0, 2**32))
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=rng)
    return images, draw(st.integers(1, 4)), seed


@pytest.fixture(scope="session")
def framings():
    """A strategy: images to frame, the width of the frame, and a seed."""
    return _framings()
