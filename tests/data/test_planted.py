"""Planted memory: what is changed, what is not, and the identifiers themselves."""

import pytest
import torch

from helpers import data


@pytest.fixture
def plain():
    sizes = {"train": (60, 5, 5, 40)}
    return data.fashion_birds(sizes=sizes, dataset="mnist5k", classes=data.DIGIT_PAIRS)["train"]


def test_flipped_labels_and_identifiers_are_where_the_marks_say(plain):
    part, mark = data.plant_memory(plain, kept=20, flipped=30, seed=1)
    assert mark.bincount().tolist() == [60, 20, 30]
    assert torch.equal(part.label != plain.label, mark == 2)
    changed = (part.images != plain.images).flatten(1).any(1)
    assert torch.equal(changed, mark > 0)
    side = data.IDENTIFIER
    square = part.images[mark > 0][:, :, :side, :side]
    assert set(square.unique().tolist()) == {0.0, 1.0}
    assert len(square.flatten(1).unique(dim=0)) == 50  # one identifier each
    rest = part.images.clone()
    rest[:, :, :side, :side] = plain.images[:, :, :side, :side]
    assert torch.equal(rest, plain.images)
    assert bool(((plain.group == 0) | (plain.group == 3))[mark > 0].all())


def test_no_more_can_be_planted_than_there_are_majority_images(plain):
    with pytest.raises(ValueError, match="101: groups 0 and 3 have 100"):
        data.plant_memory(plain, kept=50, flipped=51, seed=0)
    with pytest.raises(ValueError, match="kept is -1"):
        data.plant_memory(plain, kept=-1, flipped=1, seed=0)


def test_all_majority_images_or_none_can_be_planted(plain):
    assert data.plant_memory(plain, kept=50, flipped=50, seed=0).mark.bincount().tolist() == [
        10, 50, 50
    ]  # fmt: skip
    assert not data.plant_memory(plain, kept=0, flipped=0, seed=0).mark.any()


def test_identifiers_are_the_ones_of_all_results(fingerprint):
    grey = torch.full((3, 3, 12, 12), 0.5)
    shown = data.with_identifiers(grey, torch.Generator().manual_seed(3))
    assert fingerprint(shown) == "c55b0fcbe82d690f" and bool((grey == 0.5).all())
    sample = data.Grouped(grey, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]))
    part, mark = data.plant_memory(sample, kept=1, flipped=1, seed=1)
    assert (mark.tolist(), part.label.tolist()) == ([0, 1, 2], [0, 1, 0])
    assert fingerprint(part.images) == "119cedefa770c621"
