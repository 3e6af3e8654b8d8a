"""Fine-tuning in rows: the remedy called directly, and the same augmentation in both trainings."""

from dataclasses import replace

import pytest
import torch

from helpers import remedies, training
from helpers.claims.part3 import tuning
from helpers.experiments.minority import fine_tuning, networks
from helpers.remedies import Contrast
from helpers.sweep import Call


@pytest.fixture(scope="module")
def calls(where):
    def made(method, tuning=1, **more):
        return [
            Call(where | more, method=method, tuning=tuning, epoch=e) for e in range(tuning + 1)
        ]

    return made


def told(by_hand, net, splits):
    """Accuracies by group, counted."""
    return {
        f"{split}_{g}": value
        for split, part in splits.items()
        for g, value in enumerate(by_hand.by_group(by_hand.right(net, part), part).tolist())
    }


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("released", {}),
        ("gradient mask", {"mask": "gradient"}),
        ("gradient mask, quarter rate", {"mask": "gradient", "learning_rate": 5e-5}),
        ("cross-entropy", dict(contrast_weight=0.0, label_weight=1.0, head="logits")),
    ],
)
def test_rows_are_those_of_the_remedy(who, calls, by_hand, method, changes):
    made = who.made
    first, second = fine_tuning.fine_tuned(calls(method))
    recipe = Contrast(epochs=1, augment=False, gradient_unit="filter", **changes)
    with training.one_thread():
        tuned = remedies.finetune(
            made.model, made.splits["train"], recipe, seed=0,
            evaluate=lambda net, epoch: told(by_hand, net, made.splits),
        )  # fmt: skip
    for row, expected in (
        (first, told(by_hand, made.model, made.splits)), (second, tuned.rows[0])
    ):  # fmt: skip
        named = {name: row[name] for name in expected if name[-1] in "0123"}
        assert named == pytest.approx({name: expected[name] for name in named}, abs=1e-6)
        assert len(named) >= 12
    assert first != second and first["data_source"] == who.train.source


def test_the_refit_and_the_share_of_one_class(who, calls, by_hand):
    row = fine_tuning.fine_tuned(calls("released"))[0]
    val, test = (who.made.splits[name] for name in ("val", "test"))
    margin = {
        name: (lambda x: (x[:, 1] - x[:, 0]).double())(by_hand.logits(who.made.model, part))
        for name, part in (("val", val), ("test", test))
    }
    assert row["one_test"] == pytest.approx(float((margin["test"] > 0).double().mean()))
    at = margin["val"].sort().values
    tried = [0.0, *(-(at[1:] + at[:-1]) / 2).tolist(), 1 - float(at[0]), -float(at[-1]) - 1]

    def accuracy(offset, name, part):
        return by_hand.by_group(((margin[name] + offset) > 0).long() == part.label, part)

    # as an epoch is chosen: by the worst group
    best = min(tried, key=lambda x: (-round(accuracy(x, "val", val).min(), 9), abs(x)))
    assert [row[f"refit_{g}"] for g in range(4)] == pytest.approx(
        accuracy(best, "test", test).tolist()
    )


def test_early_stopping_is_the_first_training_epoch_by_epoch(who, where, by_hand):
    calls = [Call(where, method="early stopping", tuning=4, epoch=e) for e in (0, 2, 4)]
    last = {name: value.clone() for name, value in who.made.model.state_dict().items()}
    for call, row in zip(calls, fine_tuning.fine_tuned(calls), strict=True):
        expected = told(by_hand, who.made.at(call.epoch), who.made.splits)
        who.made.at(4)
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    now = who.made.model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in last.items())


def test_the_last_layer_alone_is_refitted_at_once(who, calls, by_hand):
    first, second = fine_tuning.fine_tuned(calls("last layer"))
    net = remedies.last_layer_retraining(who.made.model, who.made.splits["val"], seed=0)
    expected = told(by_hand, net, who.made.splits)
    assert {name: second[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert told(by_hand, who.made.model, who.made.splits)["test_0"] == first["test_0"]


class Caught(Exception):  # noqa: N818
    """Holds the recipe of a fine-tuning that was not run."""


@pytest.mark.parametrize("how", training.AUGMENTATIONS)
def test_both_trainings_have_the_same_augmentation(where, monkeypatch, how):
    chosen = replace(networks.SETTINGS["few digits"], augment=how)
    monkeypatch.setitem(networks.SETTINGS, "few digits, crops", chosen)

    def watch(model, train, recipe, **further):
        raise Caught(recipe)

    monkeypatch.setattr(remedies, "finetune", watch)
    named = where | dict(setting="few digits, crops", epochs=1)
    with pytest.raises(Caught) as caught:
        fine_tuning.fine_tuned([Call(named, method="released", tuning=2, epoch=0)])
    (recipe,) = caught.value.args
    assert recipe.augment == networks.recipe("few digits, crops", 1).augment == how
    assert recipe.epochs == 2 and recipe.gradient_unit == "filter"
    assert replace(recipe, epochs=1, augment=True) == Contrast(epochs=1, gradient_unit="filter")


def test_photographs_may_be_mirrored_and_shoes_not():
    assert networks.SETTINGS["sky, crops"].augment == training.MIRRORED
    assert networks.SETTINGS["birds, crops"].augment == training.RESIZED
    assert not any(networks.SETTINGS[name].augment for name in ("sky", "birds", "digits"))


def test_large_groups_are_looked_at_in_part(who, monkeypatch):
    monkeypatch.setattr(fine_tuning, "LOOKED_AT", 20)
    parts = fine_tuning.looked_at(who.made)
    assert parts["train"].counts() == (20, 20, 16, 20)
    assert parts["test"].counts() == (20,) * 4


def test_unknown_methods_are_refused(calls):
    with pytest.raises(ValueError, match="method is 'prayer': allowed are 'released', .*stopping'"):
        fine_tuning.fine_tuned(calls("prayer"))


def test_each_method_that_trains_is_tried_at_both_rates():
    assert [name + tuning.QUARTER for name in fine_tuning.METHODS] == list(fine_tuning.SLOWER)
    for profile in ("smoke", "laptop", "paper"):
        cells = fine_tuning.tuning_cells(profile)
        runs = {(cell["setting"], cell["trial"], cell["method"]) for cell in cells}
        tried = {run for run in runs if run[2] in fine_tuning.METHODS}
        assert {(s, t, m + tuning.QUARTER) for s, t, m in tried} <= runs


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_run_has_all_its_epochs(profile):
    runs = {}
    for cell in fine_tuning.tuning_cells(profile):
        key = tuple(cell[k] for k in ("setting", "epochs", "method", "tuning", "trial"))
        runs.setdefault(key, []).append(cell["epoch"])
    for (setting, epochs, method, length, _), seen in runs.items():
        assert seen == list(range(length + 1)) and setting in networks.SETTINGS
        assert length == {"early stopping": epochs, "last layer": 1}.get(method, length)
