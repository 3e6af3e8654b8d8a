"""Lesions of trained networks, against weights changed by hand and counting image by image."""

import copy
import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from helpers import experiments_lesions as experiment
from helpers import experiments_minority as networks
from helpers import lesions, tracing

WHERE = dict(setting="digits", epochs=4, trial=0, device="cpu", data_dir=None)
SIZES = {"train": (60, 24, 16, 40), "val": (15,) * 4, "test": (20,) * 4}


@pytest.fixture(scope="module")
def who(tmp_path_factory):
    """A small network of few images, with at most 50 of each group to be looked at."""
    few = replace(networks.SETTINGS["digits"], sizes=SIZES)
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.SETTINGS, "digits", few)
        patch.setattr(networks, "project_root", lambda: folder)
        patch.setattr(experiment, "LARGEST", 50)
        networks.trained.cache_clear()
        experiment.patient.cache_clear()
        yield experiment.patient(**WHERE)
        networks.trained.cache_clear()
        experiment.patient.cache_clear()


def lesion(ranking, amount, how="zero", size=0.0, draws=1):
    return experiment.lesions_trial(
        ranking=ranking, amount=amount, how=how, size=size, draws=draws, **WHERE
    )


def by_hand(who, units):
    """A copy of the network whose filters are zeroed one by one."""
    net = copy.deepcopy(who.made.model)
    for unit in units:
        net.get_submodule(unit.layer).weight.data[unit.index] = 0
    return net


@torch.no_grad()
def answers(net, part):
    logits = net.eval()(part.images)
    return logits, (logits.argmax(1) == part.label).tolist()


def share(flags):
    return sum(flags) / len(flags)


def members(values, part, g):
    return [value for value, group in zip(values, part.group.tolist(), strict=True) if group == g]


def hardest_by_hand(who, chosen, n):
    train = who.made.splits["train"]
    rows = [i for i, g in enumerate(train.group.tolist()) if g in chosen]
    with torch.no_grad():
        logits = who.made.model(train.images[rows]).double()
    true = logits.softmax(1)[range(len(rows)), train.label[rows]]
    return [rows[i] for i in true.argsort()[:n].tolist()]


def gradient_norms(who, rows):
    """Norm of each filter's gradient, from one backward pass through the network itself."""
    net, train = copy.deepcopy(who.made.model).eval(), who.made.splits["train"]
    functional.cross_entropy(net(train.images[rows]), train.label[rows]).backward()
    return {
        unit: float(net.get_submodule(unit.layer).weight.grad[unit.index].norm())
        for unit in who.units
    }


def test_rare_groups_are_looked_at_whole_and_frequent_ones_in_part(who):
    assert who.parts["train"].counts() == (50, 24, 16, 40)
    assert who.parts["test"].counts() == (20,) * 4
    assert who.rare == (1, 2) and who.common == (0, 3) and len(who.units) == 336
    assert len(who.train) == sum(SIZES["train"]) and who.convolutional
    for name, part in who.parts.items():
        assert torch.allclose(who.before[name], answers(who.made.model, part)[0], atol=1e-5)


@pytest.mark.parametrize(("name", "chosen"), [("gradient 2", [2]), ("gradient", [0, 1, 2, 3])])
def test_gradient_rankings_come_from_the_hardest_images(who, monkeypatch, name, chosen):
    monkeypatch.setattr(experiment, "HARDEST", 10)
    found = experiment._rank(who, name)
    expected = gradient_norms(who, hardest_by_hand(who, chosen, 10))
    assert found.scores.tolist() == pytest.approx(
        sorted(expected.values(), reverse=True), rel=1e-3, abs=1e-6
    )
    assert found.units[0] == max(expected, key=expected.get)


def test_rankings_against_frequent_groups_name_the_rare_ones(who):
    rare, common = (experiment.hardest_of(who, groups) for groups in (who.rare, who.common))
    assert set(rare[1].tolist()) == {0, 1} and len(rare[0]) == 40
    model, units = who.made.model, who.units
    for name, expected in (
        ("taylor", tracing.gradient_times_weight(model, units, *rare)),
        ("activation", tracing.activation_difference(model, units, rare[0], common[0])),
    ):
        assert experiment.ranked(who, name).units == expected.units
    assert len(experiment.ranked(who, "greedy").units) == 20


def test_rankings_by_weights_alone(who):
    norms = {
        unit: float(who.made.model.get_submodule(unit.layer).weight[unit.index].detach().norm())
        for unit in who.units
        if "downsample" not in unit.layer
    }
    largest, smallest = (experiment.ranked(who, name) for name in ("magnitude", "smallest"))
    assert largest.units[0] == max(norms, key=norms.get) and len(largest.units) == len(norms)
    assert smallest.units == largest.units[::-1]
    assert smallest.scores.tolist() == pytest.approx(sorted(norms.values()), rel=1e-5)
    with pytest.raises(ValueError, match="ranking is 'size'"):
        experiment.ranked(who, "size")


def test_effects_are_what_counting_gives(who):
    row = lesion("gradient 2", 10)
    net = by_hand(who, experiment.ranked(who, "gradient 2").top(10))
    margin = {}
    for split, part in who.parts.items():
        old, was = answers(who.made.model, part)
        new, now = answers(net, part)
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
    check_refit(who, row, margin)


def check_refit(who, row, margin):
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
        start = np.array(
            [share(members(answers(who.made.model, part)[1], part, g)) for g in range(4)]
        )
        expected = start - accuracies(split, offsets[0])
        assert [row[f"refit_{split}_{g}"] for g in range(4)] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("ranking", ["random", "layer-matched like gradient 1"])
def test_random_sets_are_averaged_over_their_draws(who, ranking):
    row, losses = lesion(ranking, 20, draws=3), []
    chosen = experiment.ranked(who, "gradient 1").top(20)
    for seed in range(3):
        if ranking == "random":
            units = tracing.random(who.units, seed=seed).top(20)
        else:
            units = tracing.layer_matched(chosen, who.units, seed=seed)
            assert sorted(u.layer for u in units) == sorted(u.layer for u in chosen)
        part = who.parts["test"]
        was, now = (answers(net, part)[1] for net in (who.made.model, by_hand(who, units)))
        losses.append(
            [share(members(was, part, g)) - share(members(now, part, g)) for g in range(4)]
        )
    assert [row[f"lost_test_{g}"] for g in range(4)] == pytest.approx(np.mean(losses, 0).tolist())
    assert np.ptp(losses, 0).any(), "the draws did not differ"
    assert all(np.isnan(row[f"overlap_{g}"]) for g in range(4))


def test_overlaps_are_jaccard_indices(who):
    row = lesion("gradient 1", 5)
    own = set(experiment.ranked(who, "gradient 1").top(5))
    for g in range(4):
        other = set(experiment.ranked(who, f"gradient {g}").top(5))
        assert row[f"overlap_{g}"] == len(own & other) / len(own | other)
    assert row["overlap_1"] == 1


def test_single_weights_above_a_threshold(who):
    row, net = lesion("largest weights", 0.01), copy.deepcopy(who.made.model)
    weights = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    sizes = torch.cat([w.detach().abs().flatten() for w in weights])
    limit = sizes.sort(descending=True).values[round(0.01 * len(sizes)) - 1]
    for weight in weights:
        weight.data[weight.data.abs() >= limit] = 0
    part = who.parts["train"]
    was, now = (answers(model, part)[1] for model in (who.made.model, net))
    expected = [share(members(was, part, g)) - share(members(now, part, g)) for g in range(4)]
    assert [row[f"lost_train_{g}"] for g in range(4)] == pytest.approx(expected)
    assert any(expected)


def test_rewinding_counts_epochs_from_the_end(who):
    row, net = lesion("gradient 1", 50, "rewind", 3), copy.deepcopy(who.made.model)
    early = who.made.states[1]
    for layer, index in experiment.ranked(who, "gradient 1").top(50):
        net.get_submodule(layer).weight.data[index] = early[f"{layer}.weight"][index]
    old, new = (answers(model, who.parts["train"])[0].double() for model in (who.made.model, net))
    shift = (new - old)[:, 1] - (new - old)[:, 0]
    assert row["shift"] == pytest.approx(float(shift.mean()), rel=1e-4, abs=1e-5)
    assert abs(row["shift"]) > 1e-3


def test_all_changes_go_through_and_leave_the_network_as_it_was(who):
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


def test_together_and_alone_agree(who):
    calls = [
        dict(ranking=ranking, amount=2.0, how=how, size=0.1, draws=2, **WHERE)
        for ranking, how in (("gradient 1", "random_init"), ("magnitude", "zero"))
    ]
    for together, call in zip(experiment.lesions_many(calls), calls, strict=True):
        assert together == pytest.approx(experiment.lesions_trial(**call))


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_cell_is_one_that_the_trial_can_do(who, profile):
    cells = experiment.lesions_cells(profile)
    taken = set(inspect.signature(experiment.lesions_trial).parameters) - {"device", "data_dir"}
    assert all(set(cell) == taken for cell in cells)
    assert len({tuple(sorted(cell.items())) for cell in cells}) == len(cells)
    assert {cell["setting"] for cell in cells} <= set(networks.SETTINGS)
    for cell in cells:
        if cell["how"] == "rewind":
            assert cell["size"] <= cell["epochs"]
        if cell["ranking"] == "greedy":
            assert cell["amount"] <= 20
    for ranking in {cell["ranking"] for cell in cells}:
        amount = 0.01 if ranking.endswith(" weights") else 1
        assert next(experiment.targets(who, ranking, amount, 1))
