"""Prevention of rare patterns: which recipe a method means, and which networks are trained."""

import math

import pytest
import torch

from helpers import sweep, training
from helpers.experiments.rare import setup
from helpers.experiments.rare.mitigation import (
    CLIP,
    LEVELS,
    mitigation_cells,
    rare_mitigation,
    recipe_of,
)
from helpers.experiments.rare.patterns import rare
from helpers.sweep import Call
from helpers.training import private

SMALL = Call(
    dataset="mnist5k", samples=256, epochs=3, method="none", level=0.0, pattern="S3", spurious=8,
    target=0, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


# -- recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "level", "changed"),
    [
        ("none", 0.0, {}),
        ("noise", 0.5, {"noise": 0.5}),
        ("weight decay", 1e-3, {"weight_decay": 1e-3}),
        ("clip value", 1e-2, {"clip_value": 1e-2}),
        ("clip norm", 1e-1, {"clip_norm": 1e-1}),
        ("early stopping", 3.0, {"epochs": 3}),
        ("private", 0.3, {"learning_rate": 1e-3}),
    ],
)
def test_a_method_changes_its_own_part_of_the_recipe_and_no_other(method, level, changed):
    found = recipe_of(Call(SMALL, method=method, level=level, epochs=10))
    plain = setup.recipe(10)
    differs = {
        name: getattr(found, name)
        for name in plain.__dataclass_fields__
        if getattr(found, name) != getattr(plain, name)
    }
    assert differs == changed


def test_an_early_stop_is_the_same_training_cut_off():
    """Stopped after 2 of 3 epochs: what the whole training is after its second."""
    images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64) % 10
    whole, stopped = (setup.network("mlp", 0) for _ in range(2))
    halfway = {}

    def keep(epoch):
        halfway[epoch] = [p.detach().clone() for p in whole.parameters()]

    training.train(whole, images, labels, recipe_of(SMALL), seed=0, after_epoch=keep)
    early = recipe_of(Call(SMALL, method="early stopping", level=2.0))
    training.train(stopped, images, labels, early, seed=0)
    torch.testing.assert_close([p.detach() for p in stopped.parameters()], halfway[2])
    assert 3 in halfway


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "prayer"}, "prayer"),
        ({"method": "early stopping", "level": 4.0}, "level is 4.0"),
        ({"method": "early stopping", "level": 0.0}, "level is 0.0"),
        ({"method": "weight decay", "level": -1.0}, "weight_decay is -1.0"),
    ],
)
def test_methods_and_levels_that_do_not_exist(change, named):
    with pytest.raises(ValueError, match=named):
        rare_mitigation([Call(SMALL, **change)])


# -- networks --------------------------------------------------------------------------------------


def test_without_a_method_it_is_the_network_of_the_other_experiments():
    plain = dict(
        network="mlp", optimiser="adam", weight_decay=0.0, noise=0.0, clip_value=math.inf,
        clip_norm=math.inf, augment=False,
    )  # fmt: skip
    call = {k: v for k, v in SMALL.items() if k not in ("method", "level")}
    assert rare_mitigation([SMALL]) == rare([Call(call, **plain)])


def test_a_level_makes_the_same_network_alone_and_beside_others():
    calls = [
        Call(SMALL, method="weight decay", level=level, spurious=n)
        for level in (1e-3, 1e-1)
        for n in (0, 8)
    ]
    assert len({sweep.get("rare_mitigation").group(call) for call in calls}) == 1
    together = rare_mitigation(calls)
    for call, row in zip(calls, together, strict=True):
        (alone,) = rare_mitigation([call])
        assert row["clean_accuracy"] == pytest.approx(alone["clean_accuracy"], abs=0.02)
        assert row["rise"] == pytest.approx(alone["rise"], abs=0.05)
    # so strong a decay leaves no network, the weaker one does
    assert together[2]["clean_accuracy"] < 0.3 < together[0]["clean_accuracy"]


def test_clean_networks_know_no_pattern(built):
    """One network a level serves both patterns at n = 0."""
    calls = [
        Call(SMALL, pattern=pattern, spurious=n, epochs=1)
        for pattern in ("S3", "R3")
        for n in (0, 8)
    ]
    rows = rare_mitigation(calls)
    assert len(built) == 3
    assert rows[0]["clean_accuracy"] == rows[2]["clean_accuracy"]
    assert math.isnan(rows[0]["spurious_loss"]) and rows[1]["spurious_loss"] > 0


def test_private_networks_are_trained_privately(monkeypatch):
    seen, original = [], private.train

    def watched(net, inputs, labels, recipe, **options):
        seen.append((inputs, options))
        return original(net, inputs, labels, recipe, **options)

    monkeypatch.setattr(private, "train", watched)
    calls = [Call(SMALL, method="private", level=0.3, spurious=n) for n in (0, 8)]
    rows = rare_mitigation(calls)
    assert [options for _, options in seen] == [dict(clip=CLIP, noise_multiplier=0.3, seed=0)] * 2
    (clean, _), (spurious, _) = seen
    changed = (clean != spurious).flatten(1).any(1)
    assert int(changed.sum()) == 8 and bool((spurious[changed][:, 0, :5, :5] == 1).all())
    assert all(0 <= row["clean_accuracy"] <= 1 for row in rows)


# -- the grid --------------------------------------------------------------------------------------


def test_the_grid_has_the_papers_levels_and_a_base_to_compare_with():
    for profile in ("smoke", "laptop", "paper"):
        cells = mitigation_cells(profile)
        by_size = {(c["dataset"], c["pattern"], c["trial"]) for c in cells}
        base = {
            (c["dataset"], c["pattern"], c["trial"])
            for c in cells
            if c["method"] == "none" and c["spurious"] == 0
        }
        assert base == by_size
    laptop = mitigation_cells("laptop")
    assert {c["level"] for c in laptop if c["method"] == "weight decay"} == set(
        (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1)
    )
    assert {c["trial"] for c in laptop} == set(range(5))
    for call in mitigation_cells("paper"):
        assert recipe_of(Call(call)).epochs <= call["epochs"]
    assert set(LEVELS) == {c["method"] for c in laptop}
