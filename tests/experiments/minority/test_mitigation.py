"""The experiment of the chapter on mitigation, against its parts called by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import remedies, sweep, training
from helpers.experiments.minority import networks
from helpers.experiments.minority.mitigation import (
    FILTERS,
    MAIN,
    METHODS,
    OTHERS,
    RELEASED,
    SHARES,
    accuracies,
    finetuned,
    mitigation_cells,
)
from helpers.sweep import Call

SPLITS = ("train", "val", "test")
EPOCHS = 2  # of the networks in these tests
CALL = Call(
    setting="digits", epochs=EPOCHS, method="released", tuning=2, epoch=2, trial=3, device="cpu",
    data_dir=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return networks.trained("digits", EPOCHS, 3, "cpu", None)


def run_of(method, tuning=2, **changed):
    """All epochs of a run."""
    call = Call(CALL, method=method, tuning=tuning, **changed)
    last = {"last layer": 1, "early stopping": EPOCHS}.get(method, tuning)
    return finetuned([Call(call, epoch=epoch) for epoch in range(last + 1)])


def numbers(rows):
    return [{key: value for key, value in row.items() if key != "data_source"} for row in rows]


def by_hand(net, part):
    """Accuracies by group, counted one image at a time."""
    right, there = np.zeros(4), np.zeros(4)
    net.eval()
    with torch.no_grad():
        said = torch.cat([net(images).argmax(1) for images in part.images.split(64)])
    for answer, y, g in zip(said.tolist(), part.label.tolist(), part.group.tolist(), strict=True):
        there[g] += 1
        right[g] += answer == y
    return right / there


# -- what a row holds ------------------------------------------------------------------------------


def test_accuracies_are_those_counted_by_hand(made):
    row = accuracies(made, made.model)
    assert set(row) == {f"{name}_{g}" for name in (*SPLITS, "margin") for g in range(4)}
    for split in SPLITS:
        expected = by_hand(made.model, made.splits[split])
        assert [row[f"{split}_{g}"] for g in range(4)] == pytest.approx(expected.tolist())


def test_margins_are_medians_on_the_training_set_and_agree_with_its_accuracies(made):
    train, row = made.splits["train"], accuracies(made, made.model)
    logits = training.predict(made.model, train.images)
    for g in range(4):
        mine = logits[train.group == g]
        right, wrong = (mine[:, g // 2], mine[:, 1 - g // 2])
        # torch's median of an even number is the lower one of the two in the middle
        ordered = sorted((right - wrong).tolist())
        assert row[f"margin_{g}"] == pytest.approx(ordered[(len(ordered) - 1) // 2], abs=1e-5)
        if row[f"margin_{g}"] > 0:
            assert row[f"train_{g}"] >= 0.5


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["released", "cross-entropy", "group DRO"])
def test_a_run_is_the_fine_tuning_called_directly(made, method):
    rows = numbers(run_of(method))
    seen = []

    def evaluate(net, epoch):
        seen.append(accuracies(made, net))
        return {}

    given = dict(seed=3, evaluate=evaluate)
    train = made.splits["train"]
    if method == "group DRO":
        plain = replace(METHODS["cross-entropy"], epochs=2)
        remedies.group_dro(made.model, train, plain, **given)
    else:
        remedies.finetune(made.model, train, replace(METHODS[method], epochs=2), **given)
    assert rows == [accuracies(made, made.model), *seen]
    assert rows[0] != rows[1]


def test_the_network_before_is_left_alone_and_is_every_runs_first_row(made):
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    first = [numbers(run_of(method, 1))[0] for method in ("no mask", "last layer")]
    assert first[0] == first[1] == accuracies(made, made.model)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_last_layer_is_fitted_on_the_validation_set(made):
    rows = numbers(run_of("last layer"))
    assert len(rows) == 2
    net = remedies.last_layer_retraining(made.model, made.splits["val"], seed=3)
    assert rows[1] == accuracies(made, net)
    other = remedies.last_layer_retraining(made.model, made.splits["train"], seed=3)
    assert rows[1] != accuracies(made, other)


def test_early_stopping_has_the_epochs_of_the_first_training(made):
    rows = numbers(run_of("early stopping", tuning=EPOCHS))
    assert len(rows) == EPOCHS + 1
    net = networks.untrained("digits", 3)
    for row, state in zip(rows, made.states, strict=True):
        net.load_state_dict(state)
        for split in SPLITS:
            expected = by_hand(net, made.splits[split]).tolist()
            assert [row[f"{split}_{g}"] for g in range(4)] == pytest.approx(expected)
    assert rows[-1] == numbers(run_of("last layer"))[0]  # the network is back where it was


def test_a_longer_run_begins_like_a_shorter_one():
    """Hence runs of different lengths may be compared over the epochs they share."""
    assert numbers(run_of("cross-entropy", tuning=3))[:2] == numbers(
        run_of("cross-entropy", tuning=1)
    )


def test_one_cell_is_one_row_of_its_run():
    call = Call(CALL, method="cross-entropy", tuning=1, epoch=1)
    assert finetuned([call]) == run_of("cross-entropy", tuning=1)[1:]


def test_trials_differ_and_repeat():
    def last(trial):
        return numbers(run_of("last layer", trial=trial))[-1]

    first = last(3)
    assert last(4) != first and last(3) == first


def test_an_unknown_method_is_refused():
    with pytest.raises(
        ValueError, match="method is 'prune': allowed are 'released', .*'last layer'"
    ):
        finetuned([Call(CALL, method="prune")])


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="setting is 'ducks': allowed are 'sky', "):
        finetuned([Call(CALL, setting="ducks")])


# -- methods and grid ------------------------------------------------------------------------------


def test_the_released_settings_are_those_of_the_release():
    assert METHODS["released"] is RELEASED
    kept = (RELEASED.temperature, RELEASED.label_weight, RELEASED.learning_rate, RELEASED.batch)
    assert kept == (0.5, 0.2, 2e-4, 100)
    assert (RELEASED.mask, RELEASED.share, RELEASED.head) == ("magnitude", 0.01, "softmax")


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("no mask", {"mask"}), ("random mask", {"mask"}), ("random filters", {"mask"}),
        ("gradient mask", {"mask"}), ("both masks", {"mask"}),
        ("gradient mask, weights", {"mask", "gradient_unit"}),
        ("cross-entropy", {"contrast_weight", "label_weight", "head"}),
        *((f"magnitude {share:g}", {"share"}) for share in SHARES),
        *((f"gradient {share:g}", {"mask", "share"}) for share in FILTERS),
    ],
)  # fmt: skip
def test_a_control_differs_from_the_released_settings_in_what_its_name_says(method, changed):
    recipe = METHODS[method]
    fields = recipe.__dataclass_fields__
    assert {name for name in fields if getattr(recipe, name) != getattr(RELEASED, name)} == changed


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_cell_of_the_grid_belongs_to_a_whole_run_of_a_known_method(profile):
    cells = mitigation_cells(profile)
    runs = {}
    for cell in cells:
        key = tuple(cell[name] for name in ("setting", "epochs", "method", "tuning", "trial"))
        runs.setdefault(key, []).append(cell["epoch"])
    for (_, epochs, method, tuning, _), seen in runs.items():
        assert method in (*METHODS, *OTHERS)
        assert seen == list(range(tuning + 1))
        assert tuning == {"last layer": 1, "early stopping": epochs}.get(method, tuning)


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_the_grid_has_what_the_claims_compare_on_the_same_networks(profile):
    trials, lengths = {}, {}
    for cell in mitigation_cells(profile):
        if cell["setting"] == "birds":
            trials.setdefault(cell["method"], set()).add(cell["trial"])
            lengths[cell["method"]] = cell["tuning"]
    same = ("released", "gradient mask", "no mask", "random mask", "cross-entropy",
            "class-balanced", "early stopping")  # fmt: skip
    assert set(trials) >= {*same, *MAIN}
    assert all(trials[method] == trials["released"] for method in same)
    assert len(trials["released"]) >= 5
    budget = {lengths[method] for method in same if method != "early stopping"}
    assert len(budget) == 1


def test_a_group_is_a_run():
    known = sweep.get("mitigation")
    assert known.cheap(CALL) and not known.cheap(CALL | {"setting": "birds"})
    assert known.group(CALL) == known.group(CALL | {"epoch": 0})
    assert known.group(CALL) != known.group(CALL | {"method": "no mask"})
