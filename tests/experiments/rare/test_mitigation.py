"""Prevention of rare patterns: which recipe a method means, and which networks are trained."""

import math

import pandas as pd
import pytest
import torch

from helpers import sweep, training
from helpers.claims.part2 import prevention
from helpers.experiments.rare import setup
from helpers.experiments.rare.mitigation import (
    CHOOSING,
    CHOSEN,
    JUDGED,
    LEVELS,
    USEFUL,
    mitigation_cells,
    rare_mitigation,
    recipe_of,
)
from helpers.experiments.rare.patterns import rare
from helpers.project import project_root
from helpers.sweep import Call

SMALL = Call(
    dataset="mnist5k", samples=256, epochs=3, method="none", level=0.0, pattern="S3", spurious=8,
    target=0, trial=0, device="cpu", data_dir=None, precision="float32",
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
    for call in mitigation_cells("paper"):
        assert recipe_of(Call(call, precision="float32")).epochs <= call["epochs"]
    assert set(LEVELS) == {c["method"] for c in mitigation_cells("laptop")}


def test_levels_are_chosen_on_other_trials_than_they_are_judged_on():
    cells = mitigation_cells("laptop")
    first, later = (cells[: len(cells) // 3], cells[-len(cells) // 3 :])
    assert {c["trial"] for c in first} <= set(CHOOSING) and {c["trial"] for c in later} <= {*JUDGED}
    for (dataset, pattern), levels in CHOSEN.items():
        for method, level in levels.items():
            mine = [c for c in cells if (c["dataset"], c["pattern"], c["method"])
                    == (dataset, pattern, method)]  # fmt: skip
            assert {c["level"] for c in mine if c["trial"] in CHOOSING} == set(USEFUL[method])
            judged = [c for c in mine if c["trial"] in JUDGED]
            assert {c["level"] for c in judged} == {level}
            assert {c["spurious"] for c in judged} == {0, 1, 3, 10, 100}
            assert {c["trial"] for c in judged} == set(JUDGED)


def test_the_chosen_levels_are_what_the_stored_trials_recommend():
    rows = pd.read_csv(project_root() / "book" / "results" / "rare_mitigation.csv")
    rows = rows[rows["trial"].isin(CHOOSING) & (rows["samples"] == 60_000)]
    if len(rows) < sum(c["trial"] in CHOOSING for c in mitigation_cells("laptop")):
        pytest.skip("the trials that choose are not all stored")
    assert prevention.chosen(rows) == CHOSEN
