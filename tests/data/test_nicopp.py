"""NICO++ from disk: folders, files that are no pictures, pictures cut to size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data import DatasetCorrupted, nicopp
from helpers.errors import DatasetNotFound

COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "hot air balloon": (60, 60, 200)}


def write_pictures(folder: Path, each: int = 10) -> Path:
    """Objects are colours; dim light darkens, on rock it is black, nothing happens outdoors."""
    for context, light in (("dim", 0.6), ("outdoor", 1.0), ("rock", 0.0)):
        for name, colour in COLOURS.items():
            where = folder / context / name
            where.mkdir(parents=True)
            for i in range(each):
                pixels = np.full((36, 44, 3), np.array(colour) * light + i, dtype=np.uint8)
                Image.fromarray(pixels).save(where / f"{context}_{i:06d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("nico") / "track_1" / "public_dg_0416" / "train")


def test_labels_and_contexts_are_the_names_of_folders(tree):
    pool = nicopp.pool(tree.parents[2])
    assert pool.objects == ("cat", "dog", "hot air balloon")
    assert pool.contexts == ("dim", "outdoor", "rock") and len(pool) == 90
    assert torch.equal(pool.counts(), torch.full((3, 3), 10))
    for file, o, k in zip(pool.inputs, pool.label, pool.context, strict=True):
        assert f"/{pool.contexts[k]}/{pool.objects[o]}/" in file.as_posix()


def test_the_folder_may_be_given_at_any_level(tree, tmp_path, monkeypatch):
    expected = nicopp.pool(tree).inputs
    for level in (0, 1, 2):
        assert nicopp.pool(tree.parents[level]).inputs == expected
    (tmp_path / "NICO++").symlink_to(tree.parents[2])
    assert len(nicopp.pool(tmp_path)) == 90
    monkeypatch.setenv("SPURIOUS_DATA", str(tmp_path))
    assert len(nicopp.pool(None)) == 90


def test_other_files_are_no_pictures(tmp_path):
    write_pictures(tmp_path, each=1)
    for name in ("._dim_000000.jpg", "labels.json", "Thumbs.db"):
        (tmp_path / "dim" / "cat" / name).write_bytes(b"")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        (tmp_path / "dim" / name / "folder.jpg").mkdir(parents=True)
        (tmp_path / "dim" / name / "dim_000000.jpg").write_bytes(b"")
    (tmp_path / "dim" / ".DS_Store").write_bytes(b"")
    pool = nicopp.pool(tmp_path)
    assert len(pool) == 9 and pool.objects == tuple(COLOURS)


def test_no_nicopp(tmp_path):
    with pytest.raises(DatasetNotFound, match="nicochallenge.com.*as data_dir"):
        nicopp.pool(tmp_path)
    (tmp_path / "rock").mkdir()
    with pytest.raises(ValueError, match="has no pictures: expected <context>/<object>/"):
        nicopp.pool(tmp_path)
    (tmp_path / "NICO.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="NICO.zip is a file: expected the folder"):
        nicopp.pool(tmp_path / "NICO.zip")


def test_a_tilde_is_the_home_folder(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree.parents[2]))
    assert len(nicopp.pool("~/track_1")) == 90


def test_pictures_are_cut_to_size(tree):
    pool = nicopp.pool(tree)
    for train in (True, False):
        pictures = nicopp.Pictures(pool, torch.arange(90), 28, train)
        assert len(pictures) == 90
        shown, label = pictures[0]
        colour = torch.tensor(COLOURS["cat"]) * 0.6 / 255
        assert label == 0 and shown.shape == (3, 28, 28)
        torch.testing.assert_close(shown, colour[:, None, None].expand_as(shown), atol=0.02, rtol=0)


def test_a_file_that_is_no_picture(tmp_path):
    write_pictures(tmp_path, each=1)
    pool = nicopp.pool(tmp_path)
    pool.inputs[0].write_bytes(b"not a picture")
    pictures = nicopp.Pictures(pool, torch.arange(9), 28, False)
    with pytest.raises(DatasetCorrupted, match="dim_000000.jpg cannot be decoded as an image"):
        pictures[0]
    Image.fromarray(np.full((36, 44), 257, np.uint16)).save(pool.inputs[0], "PNG")
    with pytest.raises(DatasetCorrupted, match="dim_000000.jpg has 16 bits"):
        pictures[0]
