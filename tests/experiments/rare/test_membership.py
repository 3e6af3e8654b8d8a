"""The experiment behind the chapter on membership inference: what it trains, and whom it asks."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from helpers import data, sweep
from helpers.experiments.rare.membership import (
    TARGET,
    asked_once,
    attacked,
    membership_attacks,
    pool,
)
from helpers.probes import membership
from helpers.probes.membership import Answers, Attacker
from helpers.project import PROFILES
from helpers.sweep import Call

CELL = dict(
    dataset="mnist5k", part=400, network="mlp", epochs=2, augment=False, pattern="R3", spurious=0,
    trial=0, device="cpu", data_dir=None, precision="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """One group: a clean network asked about two patterns, and networks with spurious images."""
    asked = [("R3", 0), ("S3", 0), ("R3", 1), ("R3", 20), ("S3", 20)]
    found = membership_attacks([Call(CELL, pattern=name, spurious=n) for name, n in asked])
    return dict(zip(asked, found, strict=True))


def test_the_pool_has_all_images_of_both_parts():
    digits = [data.load("mnist5k", train=part) for part in (True, False)]
    whole = pool("mnist5k", None)
    assert len(whole) == 5_000
    assert torch.equal(whole.images[4_000:], digits[1].images)
    assert torch.equal(whole.labels[:4_000], digits[0].labels)


def test_a_cell_alone_and_in_its_group(rows):
    (alone,) = membership_attacks([Call(CELL, spurious=20)])
    together = rows["R3", 20]
    assert alone.keys() == together.keys()
    for name in ("clean_accuracy", "train_accuracy", "auc_plain_confidence", "printed_all"):
        assert alone[name] == pytest.approx(together[name], abs=0.02), name


def test_a_clean_network_is_one_network(rows):
    first, second = rows["R3", 0], rows["S3", 0]
    for name in ("auc_plain_shadow", "auc_all_calibrated", "printed_all", "train_loss"):
        assert first[name] == second[name]
    assert first["spurious_accuracy"] != second["spurious_accuracy"]


def test_one_member_is_found_or_not(rows):
    row = rows["R3", 1]
    for name in membership.ATTACKS:
        assert row[f"tpr_pattern_{name}"] in (0, 1) and row[f"tpr_1_pattern_{name}"] in (0, 1)
        assert row[f"tpr_pattern_{name}"] == row[f"tpr_turned_{name}"]


def test_all_columns_are_numbers(rows):
    for row in rows.values():
        for name, value in row.items():
            assert name == "data_source" or np.isfinite(value), name


class Brightness(torch.nn.Module):
    """Outputs that can be computed by hand: 10 times the mean of one row of pixels for a class."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 10 * x[:, 0, :10].mean(2)


def test_who_is_a_member_and_who_is_not():
    """With a model of fixed outputs, all questions by numpy from the images themselves."""
    digits = data.load("mnist5k")
    train, test = digits.rows(torch.arange(300)), digits.rows(torch.arange(300, 600))
    v = data.pattern("R3", (1, 28, 28), seed=3)
    marked = data.with_spurious(train, v, 5, TARGET, seed=3)
    net = Brightness()
    known = [Answers(torch.eye(10).roll(k, 0), torch.arange(10)) for k in range(2)]
    plainly = asked_once(train, test)
    found = attacked(Attacker(*known), net, net, train, test, marked, v, plainly)

    def sure(images):
        outputs = 10 * np.clip(images, 0, 1)[:, 0, :10].mean(2)
        return outputs[:, TARGET] - np.log(np.exp(np.delete(outputs, TARGET, 1)).sum(1))

    inside, outside = (part.images.numpy() / 255 for part in (train, test))
    zeros_in = [i for i in np.flatnonzero(train.labels == TARGET) if i not in marked.rows.tolist()]
    zeros_out = np.flatnonzero(test.labels == TARGET)
    pattern = v.numpy()
    questions = {
        "pattern": (inside[marked.rows] + pattern, outside[zeros_out] + pattern),
        "turned": (inside[marked.rows] + pattern, outside[zeros_out] + pattern[:, ::-1, ::-1]),
        "plain": (inside[zeros_in], outside[zeros_out]),
    }
    for kind, asked in questions.items():
        members, others = map(sure, asked)
        expected = roc_auc_score([1] * len(members) + [0] * len(others), [*members, *others])
        assert found[f"auc_{kind}_confidence"] == pytest.approx(expected, abs=1e-3), kind
        assert found[f"confidence_{kind}_in"] == pytest.approx(np.median(members), abs=1e-4)
        assert found[f"confidence_{kind}_out"] == pytest.approx(np.median(others), abs=1e-4)
    shown = inside.copy()
    shown[marked.rows] += pattern
    right = np.clip(shown, 0, 1)[:, 0, :10].mean(2).argmax(1) == train.labels.numpy()
    assert found["train_accuracy"] == pytest.approx(right.mean())


def test_without_members_the_class_is_shown_a_pattern_it_was_not_trained_on(rows):
    """At n = 0, members and others are alike, and both strange to the network."""
    row = rows["R3", 0]
    whole = pool("mnist5k", None)
    part = membership.four_parts(5_000, 0, 400)["target-train"]
    members = int((whole.labels[part] == TARGET).sum())
    four = 4 * np.sqrt((members + 40) / (12 * members * 30))
    assert row["auc_pattern_confidence"] == pytest.approx(0.5, abs=four)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_group_has_a_clean_network_to_compare_with(profile):
    experiment = sweep.get("membership")
    groups = {}
    for cell in experiment.cells(profile):
        groups.setdefault(experiment.group(cell), []).append(cell)
    for together in groups.values():
        assert ("R3", 0) in {(c["pattern"], c["spurious"]) for c in together}
        assert {c["network"] for c in together} < {"mlp", "resnet20"}


@pytest.mark.parametrize("profile, single", [("laptop", 29), ("paper", 100)])
def test_the_rule_of_the_claims_is_covered(profile, single):
    cells = sweep.get("membership").cells(profile)
    epochs = 20 if profile == "laptop" else 70
    for name, pattern in itertools.product(("mnist", "fashion_mnist"), ("R3", "S1", "S2", "S3")):
        own = [
            c for c in cells if (c["dataset"], c["pattern"], c["epochs"]) == (name, pattern, epochs)
        ]
        for counts, trials in (((0, 1), single), ((3, 10), 20)):
            for n in counts:
                assert {c["trial"] for c in own if c["spurious"] == n} == set(range(trials))


def test_a_run_that_is_stopped_has_balanced_splits():
    """Trials come in order, so that all cases have the same splits but for the last."""
    cells = [c for c in sweep.get("membership").cells("laptop") if c["epochs"] == 20]
    trials = [c["trial"] for c in cells]
    assert trials == sorted(trials)


def test_smoke_has_enough_images_of_the_class():
    for trial in range(0, 8_000, 1_000):
        for cell in sweep.get("membership").cells("smoke"):
            whole = pool(cell["dataset"], None)
            rows = membership.four_parts(len(whole), trial + cell["trial"], cell["part"])
            zeros = int((whole.labels[rows["target-train"]] == TARGET).sum())
            assert zeros > cell["spurious"]
