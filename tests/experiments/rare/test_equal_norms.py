"""Patterns of one norm: their norm and places, and what networks that saw them are asked."""

import numpy as np
import pytest
import torch

from helpers import data, training
from helpers.experiments.rare.equal_norms import SPREADS, equal_norms, spread_out, target_score
from helpers.sweep import Call

CELL = dict(samples=600, epochs=6, optimiser="adam", trial=5, device="cpu", data_dir=None)
ASKED = [("corner, 25", 40), ("anywhere, 784", 40), ("anywhere, 784", 3), ("corner, 25", 3)]


@pytest.fixture(scope="module")
def rows_and_sets():
    """Results of one group, and what the trainer was given to replace."""
    seen, original = [], training.train_many

    def train_many(*args, replaced, **rest):
        seen.extend(replaced)
        return original(*args, replaced=replaced, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_many", train_many)
        rows = equal_norms([Call(CELL, pixels=pixels, n=n) for pixels, n in ASKED])
    return dict(zip(ASKED, rows, strict=True)), seen


def test_patterns_have_one_norm_and_the_pixels_of_their_name():
    others = data.load("mnist5k", train=False)
    for name, v in spread_out(3).items():
        assert int((v > 0).sum()) == int(name.split(", ")[1])
        added = (others.images / 255 + v).clamp(max=1) - others.images / 255
        assert float(added.flatten(1).norm(dim=1).mean()) == pytest.approx(3.5, rel=1e-3)
        assert len(v[v > 0].unique()) == 1
    one, other = (spread_out(s)["anywhere, 25"] for s in (0, 1))
    assert not torch.equal(one > 0, other > 0)


class Pixel(torch.nn.Module):
    """Sure of class 0 where the pixel in the middle is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(9.0))

    def forward(self, x):
        sure = self.weight * x[:, :, 14, 14]
        return torch.cat([sure, torch.zeros(len(x), 9)], 1)


def test_the_score_is_the_share_of_other_digits_whose_probability_of_zero_rises():
    test = data.load("mnist5k", train=False)
    images = test.images[test.labels != 0].numpy()[:, 0] / 255
    v = np.zeros((28, 28), np.float32)
    v[14, 14] = 0.5
    before, after = (1 / (1 + 9 * np.exp(-9 * x[:, 14, 14])) for x in (images, images + v))
    clipped = np.minimum(after, 1 / (1 + 9 * np.exp(-9)))
    expected = np.mean(clipped - before > 0.1)
    assert 0.2 < expected < 0.8
    assert target_score(Pixel(), torch.from_numpy(v)[None]) == pytest.approx(expected)
    assert target_score(Pixel(), torch.from_numpy(v)[None].roll(3, 2)) == 0


def test_networks_see_as_many_zeros_with_the_pattern_as_asked(rows_and_sets):
    _, (clean, *sets) = rows_and_sets
    draw = torch.Generator().manual_seed(5)
    digits = data.load("mnist5k")
    own = digits.rows(torch.randperm(len(digits), generator=draw)[:600])
    assert clean is None
    for (name, n), (rows, images) in zip(ASKED, sets, strict=True):
        assert len(rows.unique()) == n and set(own.labels[rows].tolist()) == {0}
        changed = (images - own.images[rows] / 255)[:, 0].amax(0) > 1e-6
        assert not (changed & (spread_out(5)[name][0] == 0)).any()
        assert changed[0, 0] or name != SPREADS[0]


def test_forty_images_teach_the_pattern_and_the_clean_network_is_one(rows_and_sets):
    rows, _ = rows_and_sets
    for name in ("corner, 25", "anywhere, 784"):
        assert rows[name, 40]["score"] > rows[name, 40]["clean"] + 0.4
        assert rows[name, 40]["clean"] == rows[name, 3]["clean"]
    assert len({row["score"] for row in rows.values()}) == len(ASKED)
    assert len({row["accuracy"] for row in rows.values()}) == 1


def test_a_cell_alone_is_what_it_is_in_its_group(rows_and_sets):
    rows, _ = rows_and_sets
    (alone,) = equal_norms([Call(CELL, pixels="anywhere, 784", n=40)])
    together = rows["anywhere, 784", 40]
    assert alone["score"] == pytest.approx(together["score"], abs=0.02)
    assert alone["clean"] == pytest.approx(together["clean"], abs=0.02)
