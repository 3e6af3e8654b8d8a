"""The census of filters, against loops that zero one after the other."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers import data, probes, sweep
from helpers.experiments.minority import census as experiment
from helpers.experiments.minority import networks, patient
from helpers.probes import Unit, lesions
from helpers.sweep import Call

NETWORK = dict(setting="digits", epochs=3, trial=7, device="cpu", data_dir=None)
PLANTED = dict(NETWORK, setting="digits with identifiers")
RARE = (1, 2)
# some of each kind of layer, not in the order of the network
UNITS = [Unit("5.conv1", 3), Unit("1", 9), Unit("1", 2), Unit("6.conv2", 40), Unit("4.conv1", 5),
         Unit("6.downsample.0", 17), Unit("5.conv2", 30), Unit("6.conv1", 1)]  # fmt: skip


@pytest.fixture(scope="module")
def who():
    return patient.patient(**NETWORK)


def rows_of(network, units):
    return experiment.filter_census(
        [Call(network, layer=unit.layer, unit=unit.index) for unit in units]
    )


@pytest.fixture(scope="module")
def census(who):
    """Rows by unit, as the sweep gets them."""
    return dict(zip(UNITS, rows_of(NETWORK, UNITS), strict=True))


@pytest.mark.parametrize("unit", UNITS)
def test_census_is_the_loop_over_lesions(who, census, by_hand, unit):
    model, row = who.made.model, census[unit]
    for split in ("train", "test"):
        part = who.parts[split]
        before = by_hand.right(model, part)
        with lesions.perturbed(model, [unit], "zero"):
            after = by_hand.right(model, part)
        lost = by_hand.by_group(before, part) - by_hand.by_group(after, part)
        assert [row[f"lost_{split}_{g}"] for g in range(4)] == pytest.approx(lost, abs=1e-12)
        for g in range(4):
            own = part.group == g
            wrong, mended = int((before & ~after & own).sum()), int((after & ~before & own).sum())
            if split == "test":
                expected = wrong / int((before & own).sum()) if bool((before & own).any()) else None
                if expected is None:
                    assert math.isnan(row[f"right_{g}"])
                else:
                    assert row[f"right_{g}"] == pytest.approx(expected)
            elif wrong + mended:
                p = stats.binomtest(wrong, wrong + mended).pvalue
                assert row[f"p_{g}"] == pytest.approx(p)
            else:
                assert row[f"p_{g}"] == 1


def margins(model, part):
    with torch.no_grad():
        logits = model(part.images).double()
    return logits[:, 1] - logits[:, 0]


@pytest.mark.parametrize("unit", UNITS)
def test_census_refits_the_bias_on_validation_images(who, census, by_hand, unit):
    model, train, val = who.made.model, who.parts["train"], who.parts["val"]
    old, before = margins(model, train), by_hand.by_group(by_hand.right(model, train), train)
    with lesions.perturbed(model, [unit], "zero"):
        new, on_val = margins(model, train), margins(model, val)
    row = census[unit]
    assert row["shift"] == pytest.approx(float((new - old).mean()), abs=1e-4)
    # no offset, of a fine grid, does better on the validation images than the one that was taken
    offset = lesions.refit_bias(on_val, val.label, val.group)
    taken = by_hand.by_group((on_val + offset > 0) == val.label.bool(), val).mean()
    for other in torch.linspace(-10, 10, 101):
        tried = by_hand.by_group((on_val + other > 0) == val.label.bool(), val).mean()
        assert tried <= taken + 1e-12
    kept = by_hand.by_group((new + offset > 0) == train.label.bool(), train)
    assert [row[f"refit_train_{g}"] for g in range(4)] == pytest.approx(before - kept, abs=1e-12)


def test_the_lesions_of_these_tests_do_something(census):
    lost = np.array([[row[f"lost_train_{g}"] for g in range(4)] for row in census.values()])
    assert (np.abs(lost) > 0.02).any(0).sum() >= 2


def test_scores_of_the_census(who, census, by_hand):
    model, group = who.made.model, who.train.group
    found = {g: by_hand.gradients(who, group == g) for g in RARE}
    together = by_hand.gradients(who, torch.isin(group, torch.tensor(RARE)))
    norms = probes.batchnorms(model, who.train.images[:1])
    for unit, row in census.items():
        conv = model.get_submodule(unit.layer)
        weight = conv.weight.detach().double()[unit.index]
        for g in RARE:
            score = found[g][unit.layer][unit.index].norm()
            assert row[f"score_gradient_{g}"] == pytest.approx(float(score), rel=1e-3)
        slope = (together[unit.layer][unit.index] * weight).sum().abs()
        assert row["score_taylor"] == pytest.approx(float(slope), rel=1e-2, abs=1e-6)
        assert row["score_magnitude"] == pytest.approx(float(weight.norm()), rel=1e-6)
        fused = fuse_conv_bn_eval(conv, model.get_submodule(norms[unit.layer])).weight.detach()
        assert row["score_folded"] == pytest.approx(float(fused[unit.index].norm()), rel=1e-4)


def test_rows_come_in_the_order_of_the_calls(census):
    some = [UNITS[2], UNITS[6], UNITS[0]]
    for unit, row in zip(some, rows_of(NETWORK, some), strict=True):
        for name, value in census[unit].items():
            assert row[name] == value or (value != value and row[name] != row[name])


def test_without_identifiers_there_is_no_planted_memory(census):
    for row in census.values():
        assert all(math.isnan(row[name]) for name in experiment.PLANTED_COLUMNS)


def test_planted_memory_is_the_loop_over_lesions(by_hand, monkeypatch):
    monkeypatch.setattr(networks, "PLANTED", 40)
    made = networks.trained(**PLANTED)
    rows = rows_of(PLANTED, UNITS)
    model, train = made.model, made.splits["train"]
    kinds = {"kept": train.rows(made.mark == 1), "flipped": train.rows(made.mark == 2)}
    marked = train.rows(made.mark > 0).images
    assert [len(part) for part in kinds.values()] == [40, 40]
    fresh = data.with_identifiers(marked, torch.Generator().manual_seed(1))
    norms = probes.batchnorms(model, marked[:1])
    for unit, row in zip(UNITS, rows, strict=True):
        for name, part in kinds.items():
            before = by_hand.right(model, part).double().mean()
            with lesions.perturbed(model, [unit], "zero"):
                lost = before - by_hand.right(model, part).double().mean()
            assert row[f"lost_{name}"] == pytest.approx(float(lost), abs=1e-12)
        with torch.no_grad():
            at = model.get_submodule(norms[unit.layer])
            outputs = []
            with at.register_forward_hook(lambda m, i, out: outputs.append(out[:, unit.index])):  # noqa: B023
                model(marked), model(fresh)
        own, other = (values.double().mean((1, 2)) for values in outputs)
        reads = ((own - other) ** 2).mean().sqrt() / own.std()
        assert row["reads"] == pytest.approx(float(reads), rel=1e-4)
    assert len({row["lost_flipped"] for row in rows}) > 1


def test_the_published_census_asks_for_every_filter_once():
    cells = sweep.get("census").cells("laptop")
    for setting, number in (("birds", 5), ("planted", 3)):
        own = [(c["trial"], c["layer"], c["unit"]) for c in cells if c["setting"] == setting]
        assert len(own) == len(set(own)) == 336 * number
