"""Networks on photographs: without CIFAR-10, and one of a few pictures in a folder."""

from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.errors import DatasetNotFound
from helpers.experiments.minority import epochs, networks, paired, patient
from helpers.sweep import Call

FEW = {"train": (10, 4, 3, 8), "val": (2,) * 4, "test": (4,) * 4}
BLUE, GREEN = (90, 140, 220), (90, 140, 60)


@pytest.fixture
def no_cifar(tmp_path, monkeypatch):
    def no_network(root, download):
        raise URLError("no network in tests")

    monkeypatch.delenv("SPURIOUS_DATA", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    return tmp_path / "data"


@pytest.mark.parametrize("setting", ["sky", "sky faces", "sky, crops"])
def test_without_the_photographs_it_says_what_is_missing(no_cifar, setting):
    with pytest.raises(DatasetNotFound, match="cifar10"):
        networks.images(setting, 0, None)


@pytest.fixture
def folder(no_cifar):
    """Pictures of every kind: noise in a frame of one colour."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in data.OBJECTS:
            place = no_cifar / "cifar10" / split / name
            place.mkdir(parents=True)
            for k in range(40 if name in ("airplane", "bird") else 1):
                picture = np.full((32, 32, 3), (BLUE, GREEN)[k % 2], np.uint8)
                picture[8:24, 8:24] = rng.integers(0, 256, (16, 16, 3))
                Image.fromarray(picture).save(place / f"{k:04d}.png")
    return no_cifar


def test_a_network_that_saw_imagenet_is_trained_and_looked_at(folder, monkeypatch):
    few = replace(networks.SETTINGS["sky"], sizes=FEW, batch=25)  # one step
    monkeypatch.setitem(networks.SETTINGS, "few birds", few)
    monkeypatch.setattr(patient, "FEWER", {k: (3, 3) for k in FEW})
    where = dict(setting="few birds", epochs=1, trial=0, device="cpu", data_dir=str(folder))
    who = patient.patient(**where)
    train = who.made.splits["train"]
    assert train.counts() == FEW["train"] and train.images.dtype == torch.float32
    assert 0 <= float(train.images.min()) and 0.8 < float(train.images.max()) <= 1
    assert who.made.batch == 32 and len(who.made.states) == 2 and len(who.units) == 21_008
    assert who.parts["train"].counts() == (3,) * 4 and who.parts["test"].counts() == (3,) * 4
    last = "2.weight"  # one step of Adam goes as far as its rate in every weight
    step = (who.made.states[1][last] - who.made.states[0][last]).abs()
    assert float(step.max()) == pytest.approx(1e-4, rel=0.01)

    row = next(iter(paired.paired_lesions(
        [Call(where, ranking="gradient 1", amount=1, draws=1)])))  # fmt: skip
    assert row["ranked_lost_0"] in {k / 3 for k in range(-3, 4)} | {0.0}
    assert row["data_source"] == train.source and "cifar10" not in row["data_source"]
    first, second = epochs.by_epoch([Call(where, epoch=e) for e in (0, 1)])
    assert first["train_loss"] != second["train_loss"]


def test_crops_do_not_change_what_is_judged_by(folder, monkeypatch):
    plain, crops = (replace(networks.SETTINGS[k], sizes=FEW) for k in ("sky", "sky, crops"))
    assert replace(crops, augment=False) == plain
    monkeypatch.setitem(networks.SETTINGS, "sky", plain)
    monkeypatch.setitem(networks.SETTINGS, "sky, crops", crops)
    one, other = (networks.images(k, 0, str(folder))[0] for k in ("sky", "sky, crops"))
    assert all(torch.equal(one[k].images, other[k].images) for k in FEW)


def test_photographs_are_trained_at_a_tenth_of_the_rate():
    sky, birds = (networks.recipe(name, 12) for name in ("sky", "birds"))
    assert sky.learning_rate == birds.learning_rate / 10 and not sky.cosine and birds.cosine
    assert (sky.batch, birds.batch) == (64, 128)
