"""The networks of Part III: how they are kept, what an epoch says, and unknown settings."""

import math

import numpy as np
import pytest
import torch

from helpers import experiments_minority as minority
from helpers import metrics, training

SHORT = ("digits", 2, 0, "cpu", None)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """No network is known yet."""
    monkeypatch.setattr(minority, "project_root", lambda: tmp_path)
    minority.trained.cache_clear()
    yield tmp_path
    minority.trained.cache_clear()


def test_a_network_is_trained_once_and_its_epochs_are_kept(root, monkeypatch):
    made = minority.trained(*SHORT)
    splits, _ = minority.images("digits", 0, None)
    plain = minority.untrained("digits", 0)
    assert torch.equal(made.at(0)[-1].weight, plain[-1].weight)
    training.train(
        plain, splits["train"].images, splits["train"].label, minority.recipe("digits", 2), seed=0
    )
    after = training.predict(made.at(2), splits["test"].images)
    assert torch.allclose(after, training.predict(plain, splits["test"].images), atol=1e-4)
    assert len(made.states) == 3 and not made.mark.any()

    minority.trained.cache_clear()
    monkeypatch.setattr(training, "train", None)  # a second training would fail
    again = minority.trained(*SHORT)
    assert torch.equal(training.predict(again.model, splits["test"].images), after)


def test_a_row_is_what_the_network_of_that_epoch_answers(root):
    common = dict(setting="digits", epochs=2, trial=0, device="cpu", data_dir=None)
    rows = minority.minority_many([dict(epoch=e, **common) for e in (0, 2)])
    made = minority.trained(*SHORT)
    for row, epoch in zip(rows, (0, 2), strict=True):
        net, part = made.at(epoch), made.splits["test"]
        outputs = training.predict(net, part.images)
        for g in range(4):
            own = part.group == g
            assert row[f"test_{g}"] == metrics.accuracy(outputs[own], part.label[own])
            sign = 1 if g >= 2 else -1
            median = float((sign * (outputs[own, 1] - outputs[own, 0])).median())
            assert row[f"test_margin_{g}"] == pytest.approx(median)
    assert minority.minority_trial(epoch=2, **common)["train_0"] == rows[1]["train_0"]


def test_cells_hold_every_epoch_of_known_settings():
    for profile in ("smoke", "laptop", "paper"):
        cells = minority.minority_cells(profile)
        networks = {(c["setting"], c["epochs"], c["trial"]) for c in cells}
        assert len(cells) == sum(epochs + 1 for _, epochs, _ in networks)
        assert {c["setting"] for c in cells} <= set(minority.SETTINGS)
        if profile != "smoke":  # the claims ask for five networks
            assert all(sum(n[0] == s for n in networks) >= 5 for s, _, _ in networks)


def test_minorities_are_the_rare_groups():
    assert minority.minority("faces") == (3,) and minority.majority("faces") == (0, 1, 2)
    for name, setting in minority.SETTINGS.items():
        counts = setting.sizes["train"]
        rare, common = minority.minority(name), minority.majority(name)
        assert max(counts[g] for g in rare) < min(counts[g] for g in common)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="setting is 'fish'"):
        minority.images("fish", 0, None)


def test_planted_memory_is_marked():
    chosen = minority.SETTINGS["planted"]
    assert chosen.planted and minority.PLANTED * 2 < chosen.sizes["train"][0]


def test_the_first_epoch_at_a_threshold():
    assert minority.first_epoch_at(np.array([0.1, 0.9, 0.2])) == 1
    assert math.isnan(minority.first_epoch_at(np.array([0.1, 0.2])))
