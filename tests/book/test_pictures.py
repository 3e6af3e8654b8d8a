"""Pictures that need a data set: made, kept, and shown from the store where they cannot be made."""

import numpy as np
import pytest
import torch

from helpers.book import pictures
from helpers.errors import DatasetNotFound, StoreError
from helpers.project import Run

LAPTOP = Run("laptop", "cpu", 0, None)
FIRST = {"a": torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), "b": torch.ones(1, 1, 2, 2)}


def absent():
    raise DatasetNotFound("nowhere")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A store of its own, and a project whose published pictures are another folder."""
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path / "own"))
    monkeypatch.setattr(pictures, "project_root", lambda: tmp_path / "project")
    return tmp_path


def shown(make, run=LAPTOP):
    """What is returned, and the outputs that a reader sees."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "display", lambda data, **more: said.append((data, more)))
        found = pictures.made_or_stored("some", run, make)
    return found, said


def same(found, expected):
    return list(found) == list(expected) and all(
        torch.equal(found[k], expected[k]) for k in expected
    )


AS_BYTES = {"a": FIRST["a"], "b": torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)}


def test_pictures_outlive_their_data_set_and_a_reader_is_told():
    made, said = shown(lambda: FIRST)
    assert same(made, AS_BYTES) and not said
    stored, said = shown(absent)
    assert same(stored, AS_BYTES) and stored["a"].dtype == torch.uint8
    [(data, more)] = said
    assert "stored" in data["text/plain"] and more["metadata"] == {pictures.STORED: "some"}


def test_new_pictures_take_the_place_of_the_stored_ones():
    shown(lambda: FIRST)
    shown(lambda: {"a": FIRST["a"] + 1})
    assert same(shown(absent)[0], {"a": FIRST["a"] + 1})


def test_equal_pictures_leave_the_file_as_it_is(folders):
    shown(lambda: FIRST)
    file = folders / "own" / "pictures" / "some.npz"
    before = file.stat().st_mtime_ns
    shown(lambda: FIRST)
    assert file.stat().st_mtime_ns == before and [*file.parent.iterdir()] == [file]


def test_an_empty_store_falls_back_on_what_is_published(folders, monkeypatch):
    monkeypatch.setenv("BOOK_RESULTS", str(folders / "project" / "book" / "results"))
    shown(lambda: FIRST)
    monkeypatch.setenv("BOOK_RESULTS", str(folders / "empty"))
    assert same(shown(absent)[0], AS_BYTES)


def test_smoke_neither_reads_nor_writes(folders):
    assert same(shown(lambda: FIRST, Run("smoke", "cpu", 0, None))[0], AS_BYTES)
    assert not (folders / "own").exists()
    shown(lambda: FIRST)
    with pytest.raises(DatasetNotFound):
        shown(absent, Run("smoke", "cpu", 0, None))


def test_without_data_and_without_a_store_the_reason_is_given():
    with pytest.raises(DatasetNotFound, match="nowhere"):
        shown(absent)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_damaged_file_is_named(folders, content):
    file = folders / "own" / "pictures" / "some.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"some\.npz"):
        shown(absent)


def test_nothing_in_a_file_is_run(folders):
    file = folders / "own" / "pictures" / "some.npz"
    file.parent.mkdir(parents=True)
    np.savez(file, a=np.array([print], dtype=object))
    with pytest.raises(StoreError, match=r"some\.npz"):
        shown(absent)


@pytest.mark.parametrize(
    "images", [torch.full((1, 1, 2, 2), 1.5), torch.full((1, 1, 2, 2), np.nan),
               torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2, dtype=torch.int64)],
)  # fmt: skip
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match="'odd'"):
        shown(lambda: {"odd": images})


def test_a_file_with_any_damage_is_named(folders):
    shown(lambda: FIRST)
    file = folders / "own" / "pictures" / "some.npz"
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        try:
            shown(absent)
        except StoreError as error:
            assert "some.npz" in str(error)


@pytest.mark.parametrize("run", [Run("paper", "cpu", 0, None), Run("laptop", "cpu", 7, None)])
def test_what_is_published_is_kept_from_other_settings(run):
    shown(lambda: FIRST)
    other = {"a": FIRST["a"] + 1}
    assert same(shown(lambda: other, run)[0], other)
    assert same(shown(absent)[0], AS_BYTES)


def test_stored_arrays_that_are_no_images_are_refused(folders):
    file = folders / "own" / "pictures" / "some.npz"
    file.parent.mkdir(parents=True)
    np.savez(file, a=np.ones((2, 2), np.uint8))
    with pytest.raises(StoreError, match=r"some\.npz"):
        shown(absent)
