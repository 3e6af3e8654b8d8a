"""A network on the table: what is looked at, and rankings against one backward pass by hand."""

import numpy as np
import pytest
import torch

from helpers.experiments.minority import lesions, patient
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


@pytest.mark.parametrize(("name", "chosen"), [("gradient 2", [2]), ("gradient", [0, 1, 2, 3])])
def test_gradient_rankings_come_from_the_hardest_images(who, by_hand, monkeypatch, name, chosen):
    monkeypatch.setattr(patient, "HARDEST", 10)
    found = who._replace(rankings={}).ranked(name)
    by_layer = by_hand.gradients(who, hardest_by_hand(who, chosen, 10))
    expected = {unit: float(by_layer[unit.layer][unit.index].norm()) for unit in who.units}
    assert found.scores.tolist() == pytest.approx(
        sorted(expected.values(), reverse=True), rel=1e-3, abs=1e-6
    )
    assert found.units[0] == max(expected, key=expected.get)


def test_rankings_against_frequent_groups_name_the_rare_ones(who):
    rare, common = (who.hardest(groups) for groups in (who.rare, who.common))
    assert set(rare[1].tolist()) == {0, 1} and len(rare[0]) == 40
    model, units = who.made.model, who.units
    for name, expected in (
        ("taylor", tracing.gradient_times_weight(model, units, *rare)),
        ("activation", tracing.activation_difference(model, units, rare[0], common[0])),
    ):
        assert who.ranked(name).units == expected.units
    assert len(who.ranked("greedy").units) == 20


def test_rankings_by_weights_alone(who):
    norms = {
        unit: float(who.made.model.get_submodule(unit.layer).weight[unit.index].detach().norm())
        for unit in who.units
        if "downsample" not in unit.layer
    }
    largest, smallest = (who.ranked(name) for name in ("magnitude", "smallest"))
    assert largest.units[0] == max(norms, key=norms.get) and len(largest.units) == len(norms)
    assert smallest.units == largest.units[::-1]
    assert smallest.scores.tolist() == pytest.approx(sorted(norms.values()), rel=1e-5)
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
    for ranking in ("random", "layer-matched like gradient 1", "random weights"):
        assert np.isnan(list(who.overlaps(ranking, 5.0).values())).all()


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_ranking_of_the_grid_has_targets(who, profile):
    for ranking in {cell["ranking"] for cell in lesions.lesions_cells(profile)}:
        amount = 0.01 if ranking.endswith(" weights") else 1
        assert next(who.targets(ranking, amount, 1))
