"""Random lesions one by one: against lesions made by hand."""

import copy
import functools
from collections import Counter

import pytest
import torch

from helpers.experiments.minority import paired, random_sets
from helpers.sweep import Call


@pytest.fixture(scope="module")
def row(where):
    def made(place="gradient 1", amount=8.0, spared=3, draw=0):
        call = Call(where, place=place, amount=amount, spared=spared, draw=draw)
        return next(iter(random_sets.random_lesions([call])))

    return made


def lost(row):
    return [row[f"lost_{g}"] for g in range(4)]


def counted(who, net, by_hand):
    part = who.parts["train"]
    was, now = (by_hand.by_group(by_hand.right(m, part), part) for m in (who.made.model, net))
    return (was - now).tolist()


def drawn(who, amount, spared, draw=0):
    seed = random_sets.seed_of(0, float(amount), draw)
    return random_sets.others(who, "gradient 1", amount, spared, seed)


def named(who, spared):
    """By the ranking of either rare group."""
    rankings = [who.ranked(f"gradient {g}") for g in (1, 2)] if spared else []
    return {unit for ranking in rankings for unit in ranking.top(spared)}


def test_a_row_is_what_zeroing_these_filters_costs(who, row, by_hand):
    units = drawn(who, 30, 3, draw=1)
    net = by_hand.zeroed(who.made.model, units)
    assert lost(row(amount=30.0, draw=1)) == pytest.approx(counted(who, net, by_hand))
    assert row()["data_source"] == who.train.source


def test_sets_are_drawn_among_the_other_units_of_the_same_layers(who):
    ranked = who.ranked("gradient 1")
    few, layers = ranked.top(8), Counter(unit.layer for unit in ranked.top(8))
    for spared in (0, 3, 8):
        sets = [drawn(who, 8, spared, draw) for draw in range(40)]
        assert all(Counter(unit.layer for unit in one) == layers for one in sets)
        met = {unit for one in sets for unit in one}
        assert not met & named(who, spared) and len(met) > 40
        assert bool(met & set(few)) or spared == 8
    # all that a layer has left
    small = min(Counter(unit.layer for unit in who.units).values())
    everything = drawn(who, len(who.units), small)
    assert set(everything) == set(who.units) - named(who, small)
    # of another kind of ranking its own alone
    sizes = random_sets.others(who, "magnitude", 30, 3, seed=0)
    assert not set(sizes) & set(who.ranked("magnitude").top(3))


def test_single_weights_are_drawn_from_all_convolutions(who, row, by_hand):
    net = copy.deepcopy(who.made.model)
    single = functools.partial(row, place=random_sets.WEIGHTS, spared=0)
    assert any(lost(single(amount=0.3))) and lost(single(amount=1e-9)) == [0] * 4
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.zero_()
    everything = single(amount=1.0)
    assert lost(everything) == pytest.approx(counted(who, net, by_hand))


def test_no_two_draws_are_the_same(row):
    cells = random_sets.random_cells("laptop")
    seeds = {
        (c["setting"], c["place"], random_sets.seed_of(c["trial"], c["amount"], c["draw"]))
        for c in cells
    }
    assert len(seeds) == len(cells)
    found = [tuple(lost(row(amount=30.0, draw=draw))) for draw in range(4)]
    assert len(set(found)) > 1 and tuple(lost(row(amount=30.0, draw=2))) == found[2]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_cells_are_of_networks_and_rankings_that_have_lesions(profile):
    of = {(c["setting"], c["epochs"], c["ranking"], c["trial"])
          for c in paired.paired_cells(profile)}  # fmt: skip
    for cell in random_sets.random_cells(profile):
        if cell["place"] != random_sets.WEIGHTS:
            assert (cell["setting"], cell["epochs"], cell["place"], cell["trial"]) in of
