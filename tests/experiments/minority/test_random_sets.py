"""Random lesions one by one: against lesions made by hand."""

import copy

import pytest
import torch

from helpers.experiments.minority import paired, random_sets
from helpers.probes import tracing
from helpers.sweep import Call


@pytest.fixture(scope="module")
def row(where):
    def made(place="gradient 1", amount=10.0, draw=0, **more):
        call = Call(where | more, place=place, amount=amount, draw=draw)
        return next(iter(random_sets.random_lesions([call])))

    return made


def lost(row):
    return [row[f"lost_{g}"] for g in range(4)]


def counted(who, net, by_hand):
    part = who.parts["train"]
    was, now = (by_hand.by_group(by_hand.right(m, part), part) for m in (who.made.model, net))
    return (was - now).tolist()


def test_a_set_has_as_many_units_of_each_layer(who, row, by_hand):
    chosen, net = who.ranked("gradient 1").top(30), copy.deepcopy(who.made.model)
    units = tracing.layer_matched(chosen, who.units, seed=random_sets.seed_of(0, 30.0, 1))
    for layer, index in units:  # what comes out of the normalisation behind it is no longer used
        net.get_submodule(layer).weight.data[index] = 0
        behind = dict(net.named_modules())[layer.replace("conv", "bn")]
        behind.weight.data[index] = behind.bias.data[index] = 0
    assert lost(row(amount=30.0, draw=1)) == pytest.approx(counted(who, net, by_hand))
    assert row()["data_source"] == who.train.source


def test_single_weights_are_drawn_from_all_convolutions(who, row, by_hand):
    net = copy.deepcopy(who.made.model)
    found = row(place=random_sets.WEIGHTS, amount=0.3)
    assert any(lost(found)) and lost(row(place=random_sets.WEIGHTS, amount=1e-9)) == [0] * 4
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.zero_()
    everything = row(place=random_sets.WEIGHTS, amount=1.0)
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
