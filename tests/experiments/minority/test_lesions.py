"""Lesions of trained networks, against weights changed by hand and counting image by image."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.experiments.minority import lesions as experiment
from helpers.probes import lesions, tracing
from helpers.sweep import Call


@pytest.fixture(scope="module")
def lesion(where):
    def row(ranking, amount, how="zero", size=0.0, draws=1):
        call = Call(where, ranking=ranking, amount=amount, how=how, size=size, draws=draws)
        return next(experiment.lesion_effects([call]))

    return row


def share(flags):
    return sum(flags) / len(flags)


def members(values, part, g):
    return [value for value, group in zip(values, part.group.tolist(), strict=True) if group == g]


def test_effects_are_what_counting_gives(who, lesion, by_hand):
    row = lesion("gradient 2", 10)
    net = by_hand.zeroed(who.made.model, who.ranked("gradient 2").top(10))
    margin = {}
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


@pytest.mark.parametrize("ranking", ["random", "layer-matched like gradient 1"])
def test_random_sets_are_averaged_over_their_draws(who, lesion, by_hand, ranking):
    row, part, losses = lesion(ranking, 20, draws=3), who.parts["test"], []
    chosen = who.ranked("gradient 1").top(20)
    for seed in range(3):
        if ranking == "random":
            units = tracing.random(who.units, seed=seed).top(20)
        else:
            units = tracing.layer_matched(chosen, who.units, seed=seed)
            assert sorted(u.layer for u in units) == sorted(u.layer for u in chosen)
        nets = (who.made.model, by_hand.zeroed(who.made.model, units))
        was, now = (by_hand.by_group(by_hand.right(net, part), part) for net in nets)
        losses.append(was - now)
    assert [row[f"lost_test_{g}"] for g in range(4)] == pytest.approx(np.mean(losses, 0).tolist())
    assert np.ptp(losses, 0).any(), "the draws did not differ"
    assert all(np.isnan(row[f"overlap_{g}"]) for g in range(4))


def test_rows_have_the_overlaps_of_their_ranking(who, lesion):
    row, expected = lesion("gradient 1", 5), who.overlaps("gradient 1", 5)
    assert {name: row[name] for name in expected} == expected


def test_single_weights_above_a_threshold(who, lesion, by_hand):
    row, net = lesion("largest weights", 0.01), copy.deepcopy(who.made.model)
    weights = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    sizes = torch.cat([w.detach().abs().flatten() for w in weights])
    limit = sizes.sort(descending=True).values[round(0.01 * len(sizes)) - 1]
    for weight in weights:
        weight.data[weight.data.abs() >= limit] = 0
    part = who.parts["train"]
    was, now = (by_hand.by_group(by_hand.right(m, part), part) for m in (who.made.model, net))
    assert [row[f"lost_train_{g}"] for g in range(4)] == pytest.approx((was - now).tolist())
    assert any(was - now)


def test_rewinding_counts_epochs_from_the_end(who, lesion, by_hand):
    row, net = lesion("gradient 1", 50, "rewind", 3), copy.deepcopy(who.made.model)
    early = who.made.states[1]
    for layer, index in who.ranked("gradient 1").top(50):
        net.get_submodule(layer).weight.data[index] = early[f"{layer}.weight"][index]
    part = who.parts["train"]
    old, new = (by_hand.logits(model, part).double() for model in (who.made.model, net))
    shift = (new - old)[:, 1] - (new - old)[:, 0]
    assert row["shift"] == pytest.approx(float(shift.mean()), rel=1e-4, abs=1e-5)
    assert abs(row["shift"]) > 1e-3


def test_all_changes_go_through_and_leave_the_network_as_it_was(who, lesion):
    before = copy.deepcopy(who.made.model.state_dict())
    rows = [
        lesion("gradient 2", 3, how, size, draws=2)
        for how, sizes in {**experiment.SIZED, **dict.fromkeys(experiment.PLAIN, (0.0,))}.items()
        for size in [2 if how == "rewind" else sizes[-1]]
    ]
    assert {*experiment.SIZED, *experiment.PLAIN, "zero"} == set(lesions.PERTURBATIONS)
    assert all(np.isfinite(list(row.values())[:-1]).all() for row in rows)
    assert len({row["shift"] for row in rows}) == len(rows)
    assert all(
        torch.equal(value, before[name]) for name, value in who.made.model.state_dict().items()
    )


def test_together_and_alone_agree(where):
    calls = [
        Call(where, ranking=ranking, amount=2.0, how=how, size=0.1, draws=2)
        for ranking, how in (("gradient 1", "random_init"), ("magnitude", "zero"))
    ]
    for together, call in zip(experiment.lesion_effects(calls), calls, strict=True):
        assert together == pytest.approx(next(experiment.lesion_effects([call])))


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_no_cell_rewinds_too_far_or_asks_too_much_of_greedy(profile):
    cells = experiment.lesions_cells(profile)
    assert all(cell["size"] <= cell["epochs"] for cell in cells if cell["how"] == "rewind")
    assert all(cell["amount"] <= 20 for cell in cells if cell["ranking"] == "greedy")
    assert {cell["how"] for cell in cells} <= set(lesions.PERTURBATIONS)


# -- the null --------------------------------------------------------------------------------------


def rare_loss(who, units, by_hand):
    """Mean over the rare groups of the training accuracy lost."""
    train, net = who.train, by_hand.zeroed(who.made.model, units)
    before, after = (
        by_hand.by_group(by_hand.right(model, train), train) for model in (who.made.model, net)
    )
    return (before - after)[list(who.rare)].mean()


def best(who, group, k, by_hand):
    """The k filters with the largest gradient: rare groups have fewer than 200 images, so all."""
    found = by_hand.gradients(who, who.train.group == group)
    return sorted(who.units, key=lambda u: -found[u.layer][u.index].norm().item())[:k]


def null_call(where, **more):
    return Call(where, **{"ranking": "gradient 2", "amount": 3, "matched": 1, "draws": 4} | more)


def test_null_is_the_loop_over_lesions(who, where, by_hand):
    calls = [
        null_call(where, ranking=f"gradient {g}", amount=k, matched=m)
        for g, k, m in ((1, 10, 0), (2, 10, 1), (2, 3, 1))
    ]
    for call, row in zip(calls, experiment.lesion_null(calls), strict=True):
        chosen = best(who, int(call.ranking[-1]), call.amount, by_hand)
        assert row["lost"] == pytest.approx(rare_loss(who, chosen, by_hand), abs=1e-12)
        for seed in range(4):
            units = (
                tracing.layer_matched(chosen, who.units, seed=seed)
                if call.matched
                else tracing.random(who.units, seed=seed).top(call.amount)
            )
            expected = rare_loss(who, units, by_hand)
            assert row[f"draw_{seed}"] == pytest.approx(expected, abs=1e-12)
    assert len({row[f"draw_{seed}"] for seed in range(4)}) > 1  # or the test could not fail


def test_matched_sets_of_all_filters_are_the_lesion_itself(who, where):
    (row,) = experiment.lesion_null([null_call(where, amount=len(who.units), draws=2)])
    assert row["lost"] == row["draw_0"] == row["draw_1"]
    assert row["lost"] != 0


def test_the_null_leaves_the_network_as_it_was(who, where):
    before = {name: value.clone() for name, value in who.made.model.state_dict().items()}
    experiment.lesion_null([null_call(where)])
    after = who.made.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
