"""Networks that differ in one image: who holds which, and what is asked of them."""

import numpy as np
import pytest
import torch

from helpers import data, sweep
from helpers.claims.part2 import in_out as judged
from helpers.experiments.rare import in_out
from helpers.experiments.rare.membership import TARGET
from helpers.project import PROFILES
from helpers.sweep import Call

CELL = Call(
    dataset="mnist5k", part=300, network="small mlp", epochs=2, images=6, start="own", trial=0,
    variant="R3", image=0, device="cpu", data_dir=None, precision="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    asked = [(variant, k) for variant in ("plain", "R3", "label") for k in range(6)]
    found = in_out.in_out([Call(CELL, variant=variant, image=k) for variant, k in asked])
    return dict(zip(asked, found, strict=True))


def test_the_held_images_are_of_the_class_and_in_no_shared_set():
    drawn = in_out.material(CELL)
    assert len(drawn.held) == 6 and int(drawn.train.labels[drawn.row]) == TARGET
    for images in (drawn.train.images, drawn.rest.images):
        same = (images[:, None] == drawn.held[None]).flatten(2).all(2)
        assert not same.any()
    again = in_out.material(Call(CELL, variant="S1", image=3))
    assert torch.equal(again.held, drawn.held), "the same images in every variant"


def test_a_part_that_leaves_too_little_is_refused():
    with pytest.raises(ValueError, match="too few are left"):
        in_out.material(Call(CELL, part=4_999))


def test_what_a_variant_shows():
    image = in_out.material(CELL).held[:1]
    plain, wrong, noisy = (in_out.shown(name, image, 0) for name in ("plain", "label", "R3"))
    assert torch.equal(plain, wrong) and torch.equal(plain, image.float() / 255)
    expected = (plain + data.pattern("R3", (1, 28, 28), 0)).clamp(0, 1)
    assert torch.allclose(noisy, expected)
    assert [in_out.called(name) for name in ("plain", "R3", "label")] == [0, 0, 1]


def test_rows_hold_the_answers_of_all_networks(rows):
    plain, noisy = rows["plain", 2], rows["R3", 2]
    for j in range(6):
        assert plain[f"with_{j}"] == plain[f"without_{j}"], "one and the same network"
    answers = [noisy[f"{side}_{j}"] for side in ("with", "without") for j in range(6)]
    assert np.isfinite(answers).all() and len(set(answers)) > 6
    assert plain["accuracy"] == plain["accuracy_before"]
    assert all(0 <= noisy[name] <= 1 for name in ("clean_accuracy", "accuracy", "accuracy_before"))


def test_a_wrong_label_is_stored_and_asked_for():
    """The positive control, with networks that train long enough to store a few images."""
    cells = [Call(CELL, variant="label", image=k, epochs=30, network="mlp") for k in range(6)]
    table = np.array([[row[f"with_{j}"] for j in range(6)] for row in in_out.in_out(cells)])
    own = np.eye(6, dtype=bool)
    assert table[own].mean() > table[~own].mean() + 3


def test_known_seeds_make_equal_networks():
    """What differs is then the one image alone: an image in the row that all have."""
    drawn = in_out.material(CELL)
    same = drawn._replace(held=drawn.held[:1].expand(6, -1, -1, -1))
    for start, equal in (("known", True), ("own", False)):
        nets = list(in_out._trained(Call(CELL, start=start), "plain", same))
        first, last = nets[0][1].weight, nets[-1][1].weight
        assert torch.allclose(first, last, atol=1e-6) is equal, start


def test_stacks_are_those_that_the_rules_know():
    assert in_out.STACKS == judged.STACKS
    for images in (6, 24, 96):
        stack = [in_out.stack_of(k, images) for k in range(images)]
        assert stack == (np.arange(images) * judged.STACKS // images).tolist()
        assert sorted(set(stack)) == [0, 1, 2]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_group_is_a_whole_draw(profile):
    experiment = sweep.get("membership_in_out")
    groups = {}
    for cell in experiment.cells(profile):
        groups.setdefault(experiment.group(cell), []).append(cell)
    for together in groups.values():
        variants = {cell["variant"] for cell in together}
        assert {"plain", "R3", "label"} <= variants <= set(in_out.VARIANTS)
        assert len(together) == len(variants) * together[0]["images"]
