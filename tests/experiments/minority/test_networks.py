"""The networks of Part III: how they are kept, their groups, and unknown settings."""

import pytest
import torch

from helpers import data, sweep, training
from helpers.experiments.minority import networks
from helpers.sweep import Call

SHORT = ("digits", 2, 0, "cpu", None)


def test_a_network_is_trained_once_and_its_epochs_are_kept(monkeypatch):
    made = networks.trained(*SHORT)
    splits, _ = networks.images("digits", 0, None)
    plain = networks.untrained("digits", 0)
    assert torch.equal(made.at(0)[-1].weight, plain[-1].weight)
    training.train(
        plain, splits["train"].images, splits["train"].label, networks.recipe("digits", 2), seed=0
    )
    after = training.predict(made.at(2), splits["test"].images)
    assert torch.allclose(after, training.predict(plain, splits["test"].images), atol=1e-4)
    assert len(made.states) == 3 and not made.mark.any()

    networks.trained.cache_clear()
    monkeypatch.setattr(training, "train", None)  # a second training would fail
    call = Call(setting="digits", epochs=2, trial=0, device="cpu", data_dir=None, method="none")
    again = networks.trained_of(call)
    assert torch.equal(training.predict(again.model, splits["test"].images), after)


def test_minorities_are_the_rare_groups():
    assert networks.minority("faces") == (3,) and networks.majority("faces") == (0, 1, 2)
    for name, setting in networks.SETTINGS.items():
        counts = setting.sizes["train"]
        rare, common = networks.minority(name), networks.majority(name)
        assert max(counts[g] for g in rare) < min(counts[g] for g in common)


def test_minority_groups_are_those_with_the_other_background():
    assert networks.BIRDS == (1, 2)
    assert all(g // 2 != g % 2 for g in networks.BIRDS)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="setting is 'fish': allowed are 'sky', "):
        networks.images("fish", 0, None)


def test_planted_memory_is_marked():
    chosen = networks.SETTINGS["planted"]
    assert chosen.planted and networks.PLANTED * 2 < chosen.sizes["train"][0]


def test_margins_are_in_favour_of_the_true_class():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 5.0], [4.0, 2.0], [0.0, 1.0]])
    part = data.Grouped(
        torch.zeros(5, 1), torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 1])
    )
    assert networks.margin(outputs).tolist() == [-1, 3, 4, -2, 1]
    assert networks.median_margins(outputs, part) == [1, -3, 4, -2]


def test_settings_of_all_grids_are_known():
    for name in ("minority", "paired_lesions", "changed_weights", "random_lesions", "census",
                 "fine_tuning"):  # fmt: skip
        for profile in ("smoke", "laptop", "paper"):
            cells = sweep.get(name).cells(profile)
            assert {cell["setting"] for cell in cells} <= set(networks.SETTINGS)
            assert any(map(networks.on_digits, cells)) == (profile == "smoke")
