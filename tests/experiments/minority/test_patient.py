"""A network on the table: what is looked at, and rankings against one backward pass by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.experiments.minority import paired, patient
from helpers.probes import tracing


def hardest_by_hand(who, chosen, n):
    train = who.made.splits["train"]
    rows = [i for i, g in enumerate(train.group.tolist()) if g in chosen]
    with torch.no_grad():
        logits = who.made.model(train.images[rows]).double()
    true = logits.softmax(1)[range(len(rows)), train.label[rows]]
    return [rows[i] for i in true.argsort()[:n].tolist()]


def test_rare_groups_are_looked_at_whole_and_frequent_ones_in_part(who, by_hand):
    assert who.parts["train"].counts() == (50, 24, 16, 40)
    assert who.parts["test"].counts() == (20,) * 4
    assert who.rare == (1, 2) and who.common == (0, 3) and len(who.units) == 336
    assert len(who.train) == 60 + 24 + 16 + 40
    for name, part in who.parts.items():
        assert torch.allclose(who.before[name], by_hand.logits(who.made.model, part), atol=1e-5)


@pytest.mark.parametrize("group", [0, 2])
def test_gradient_rankings_come_from_the_hardest_images(who, by_hand, monkeypatch, group):
    monkeypatch.setattr(patient, "HARDEST", 10)
    found = who._replace(rankings={}).ranked(f"gradient {group}")
    by_layer = by_hand.gradients(who, hardest_by_hand(who, [group], 10))
    expected = {unit: float(by_layer[unit.layer][unit.index].norm()) for unit in who.units}
    assert found.scores.tolist() == pytest.approx(
        sorted(expected.values(), reverse=True), rel=1e-3, abs=1e-6
    )
    assert found.units[0] == max(expected, key=expected.get)


def test_the_first_order_ranking_is_of_the_rare_groups(who):
    rare = who.hardest(who.rare)
    assert set(rare[1].tolist()) == {0, 1} and len(rare[0]) == 40
    expected = tracing.gradient_times_weight(who.made.model, who.units, *rare)
    assert who.ranked("taylor").units == expected.units


def test_rankings_by_weights_alone(who):
    norms = {
        unit: float(who.made.model.get_submodule(unit.layer).weight[unit.index].detach().norm())
        for unit in who.units
        if "downsample" not in unit.layer
    }
    largest = who.ranked("magnitude")
    assert largest.units[0] == max(norms, key=norms.get) and len(largest.units) == len(norms)
    with pytest.raises(ValueError, match="ranking is 'size'"):
        who.ranked("size")


def test_a_ranking_is_made_once(who, monkeypatch):
    first = who.ranked("gradient 1")
    monkeypatch.setattr(tracing, "gradient", None)
    assert who.ranked("gradient 1") is first


def test_overlaps_are_jaccard_indices(who):
    found = who.overlaps("gradient 1", 5.0)
    own = set(who.ranked("gradient 1").top(5))
    for g in range(4):
        other = set(who.ranked(f"gradient {g}").top(5))
        assert found[f"overlap_{g}"] == len(own & other) / len(own | other)
    assert found["overlap_1"] == 1


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_ranking_of_the_grid_is_known(who, profile):
    for ranking in {cell["ranking"] for cell in paired.paired_cells(profile)}:
        assert len(who.ranked(ranking).top(1)) == 1


def share(flags):
    return sum(flags) / len(flags)


def members(values, part, g):
    return [value for value, group in zip(values, part.group.tolist(), strict=True) if group == g]


def test_effects_are_what_counting_gives(who, by_hand):
    net = by_hand.zeroed(who.made.model, who.ranked("gradient 2").top(10))
    row, margin = who.effects(who.answers(net)), {}
    for split, part in who.parts.items():
        old, new = (by_hand.logits(model, part) for model in (who.made.model, net))
        was, now = ((logits.argmax(1) == part.label).tolist() for logits in (old, new))
        margin[split] = [float(b - a) for a, b in new.double().tolist()]
        if split == "val":
            continue
        for g in range(4):
            a, b = members(was, part, g), members(now, part, g)
            assert row[f"lost_{split}_{g}"] == pytest.approx(share(a) - share(b))
            flips = [
                sum(x and not y for x, y in zip(p, q, strict=True)) for p, q in ((a, b), (b, a))
            ]
            if split == "train":
                p = stats.binomtest(flips[0], sum(flips)).pvalue if sum(flips) else 1.0
                assert row[f"p_{g}"] == pytest.approx(p)
            else:
                assert row[f"right_{g}"] == pytest.approx(flips[0] / sum(a))
        if split == "train":
            change = new.double() - old.double()
            shift = float((change[:, 1] - change[:, 0]).mean())
            assert row["shift"] == pytest.approx(shift, rel=1e-4, abs=1e-5)
            moved = ((old[:, 1] - old[:, 0] + shift > 0).long() == part.label).tolist()
            for g in range(4):
                lost = share(members(was, part, g)) - share(members(moved, part, g))
                assert row[f"offset_{g}"] == pytest.approx(lost)
    assert any(row[f"lost_train_{g}"] != 0 for g in range(4)), "nothing happened"
    check_refit(who, row, margin, by_hand)


def check_refit(who, row, margin, by_hand):
    """The offset of the best mean accuracy by group, by trying all of them."""

    def accuracies(split, offset):
        part = who.parts[split]
        right = [
            (m + offset > 0) == bool(y) for m, y in zip(margin[split], part.label, strict=True)
        ]
        return np.array([share(members(right, part, g)) for g in range(4)])

    at = sorted(margin["val"])
    offsets = [0.0, *(-(a + b) / 2 for a, b in itertools.pairwise(at)), 1 - at[0], -at[-1] - 1]
    offsets.sort(key=lambda offset: (-round(accuracies("val", offset).mean(), 9), abs(offset)))
    for split in ("train", "test"):
        part = who.parts[split]
        start = by_hand.by_group(by_hand.right(who.made.model, part), part)
        expected = start - accuracies(split, offsets[0])
        assert [row[f"refit_{split}_{g}"] for g in range(4)] == pytest.approx(expected.tolist())
