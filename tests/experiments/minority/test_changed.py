"""Units changed by noise and rewinding, and single weights: against changes made by hand."""

import copy

import numpy as np
import pytest
import torch

from helpers.experiments.minority import changed, paired
from helpers.probes import lesions, tracing
from helpers.sweep import Call


@pytest.fixture(scope="module")
def row(where):
    def made(place="gradient 1", amount=50.0, how="zero", size=0.0, draws=2, **more):
        call = Call(where | more, place=place, amount=amount, how=how, size=size, draws=draws)
        return next(iter(changed.changed_weights([call])))

    return made


def groups(row, name):
    return [row[f"{name}_{g}"] for g in range(4)]


def loss(who, net, by_hand, split="train"):
    part = who.parts[split]
    was, now = (by_hand.by_group(by_hand.right(m, part), part) for m in (who.made.model, net))
    return was - now


def seeds(draws, trial=0):
    return np.random.SeedSequence(trial).generate_state(draws).tolist()


def matched(who, chosen, draws):
    return [tracing.layer_matched(chosen, who.units, seed=seed) for seed in seeds(draws)]


def rewound(who, units, epochs):
    net, early = copy.deepcopy(who.made.model), who.made.states[-1 - epochs]
    for layer, index in units:
        net.get_submodule(layer).weight.data[index] = early[f"{layer}.weight"][index]
    return net


def test_rewound_units_have_their_weights_of_then(who, row, by_hand):
    found, chosen = row(how="rewind", size=3.0), who.ranked("gradient 1").top(50)
    own = loss(who, rewound(who, chosen, 3), by_hand)
    like = [loss(who, rewound(who, units, 3), by_hand) for units in matched(who, chosen, 2)]
    assert groups(found, "lost") == pytest.approx(own.tolist())
    assert groups(found, "like") == pytest.approx(np.mean(like, axis=0).tolist())
    assert any(own) and np.isnan(groups(found, "mixed")).all()
    # one epoch back is another change
    assert groups(row(how="rewind", size=4.0), "like") != groups(found, "like")


@pytest.mark.parametrize("how", ["random_init", "random_noise"])
def test_noise_is_drawn_anew_and_the_same_size_for_random_units(who, row, by_hand, how):
    found, chosen = row(how=how, size=0.1, draws=3), who.ranked("gradient 1").top(50)
    both = {"lost": [chosen] * 3, "like": matched(who, chosen, 3)}
    spread = []
    for name, several in both.items():
        effects = []
        for units, seed in zip(several, seeds(3), strict=True):
            with lesions.perturbed(who.made.model, units, how, scale=0.1, seed=seed) as model:
                net = copy.deepcopy(model)
            effects.append(loss(who, net, by_hand))
        assert groups(found, name) == pytest.approx(np.mean(effects, axis=0).tolist())
        spread.append(np.ptp(effects, axis=0))
    assert np.any(spread), "the draws did not differ"


def without(who, fraction, largest):
    """The network without so many weights of its convolutions, from one end."""
    net = copy.deepcopy(who.made.model)
    weights = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    sizes = torch.cat([w.detach().abs().flatten() for w in weights]).sort(descending=largest).values
    limit = sizes[round(fraction * len(sizes)) - 1]
    for weight in weights:
        size = weight.data.abs()
        weight.data[size >= limit if largest else size <= limit] = 0
    return net


@pytest.mark.parametrize(("side", "fraction"), [("largest", 0.03), ("smallest", 0.7)])
def test_single_weights_from_either_end(who, row, by_hand, side, fraction):
    found = row(f"{side} weights", fraction, draws=1)
    expected = loss(who, without(who, fraction, side == "largest"), by_hand)
    assert groups(found, "lost") == pytest.approx(expected.tolist()) and any(expected)
    assert np.isnan(groups(found, "like")).all()


def test_random_weights_are_as_many_and_drawn_anew(who, row, by_hand):
    found, effects = row("random weights", 0.1, draws=2), []
    for seed in seeds(2):
        masks = lesions.weights_beyond(who.made.model, 0.1, "random", seed=seed)
        net = copy.deepcopy(who.made.model)
        for name, mask in masks.items():
            net.get_parameter(name).data[mask] = 0
        total = sum(mask.numel() for mask in masks.values())
        assert sum(int(mask.sum()) for mask in masks.values()) == round(0.1 * total)
        effects.append(loss(who, net, by_hand))
    assert groups(found, "lost") == pytest.approx(np.mean(effects, axis=0).tolist())
    assert np.ptp(effects, axis=0).any()


def test_a_change_of_nothing_mixes_two_splits(who, row, by_hand):
    found = row(amount=3.0, how="random_noise", size=changed.NOTHING, draws=1)
    right = {
        name: by_hand.by_group(by_hand.right(who.made.model, who.parts[name]), who.parts[name])
        for name in ("train", "test")
    }
    gap = right["train"] - right["test"]
    assert groups(found, "gap") == pytest.approx(gap.tolist()) and any(gap)
    assert groups(found, "mixed") == pytest.approx(gap.tolist(), abs=0.051)  # an image of twenty
    assert groups(found, "lost") == pytest.approx([0] * 4, abs=0.051)


def test_two_splits_are_those_of_the_changed_network(who, where, by_hand, monkeypatch):
    monkeypatch.setattr(changed, "NOTHING", 2.0)
    call = Call(where, place="gradient 1", amount=50.0, how="random_noise", size=2.0, draws=1)
    found, chosen = next(iter(changed.changed_weights([call]))), who.ranked("gradient 1").top(50)
    with lesions.perturbed(who.made.model, chosen, "random_noise", scale=2.0,
                           seed=seeds(1)[0]) as model:  # fmt: skip
        net = copy.deepcopy(model)
    train, test = who.parts["train"], who.parts["test"]
    before = by_hand.by_group(by_hand.right(who.made.model, train), train)
    after = by_hand.by_group(by_hand.right(net, test), test)
    assert groups(found, "mixed") == pytest.approx((before - after).tolist())
    assert groups(found, "mixed") != groups(found, "gap")


def test_the_network_is_left_as_it_was_and_rows_do_not_depend_on_each_other(who, where):
    before = {name: value.clone() for name, value in who.made.model.state_dict().items()}
    calls = [
        Call(where, place=place, amount=amount, how=how, size=size, draws=2)
        for place, amount, how, size in (
            ("gradient 2", 3.0, "random_init", 0.1), ("gradient 2", 3.0, "rewind", 2.0),
            ("random weights", 0.1, "zero", 0.0), ("largest weights", 0.01, "zero", 0.0),
        )
    ]  # fmt: skip
    for together, call in zip(changed.changed_weights(calls), calls, strict=True):
        alone = next(iter(changed.changed_weights([call])))
        assert together == pytest.approx(alone, nan_ok=True)
    after = who.made.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_cells_are_what_the_networks_have(profile):
    cells = changed.changed_cells(profile)
    assert all(cell["size"] <= cell["epochs"] for cell in cells if cell["how"] == "rewind")
    keys = [tuple(cell.values()) for cell in cells]
    assert len(set(keys)) == len(keys)
    assert sum(cell["size"] == changed.NOTHING for cell in cells) == len(
        {(cell["setting"], cell["trial"]) for cell in cells}
    )
    lesioned = {(cell["setting"], cell["epochs"]) for cell in paired.paired_cells(profile)}
    assert {(cell["setting"], cell["epochs"]) for cell in cells} <= lesioned  # trained once
