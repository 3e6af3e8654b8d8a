"""The null of random sets and the census, against loops that lesion one set after the other."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers import experiments_lesions as experiment
from helpers import experiments_minority, groups, lesions, sweep, tracing
from helpers.tracing import Unit

NETWORK = dict(setting="digits", epochs=3, trial=7, device="cpu", data_dir=None)
PLANTED = dict(NETWORK, setting="digits with identifiers")
RARE = (1, 2)
# some of each kind of layer, not in the order of the network
UNITS = [Unit("5.conv1", 3), Unit("1", 9), Unit("1", 2), Unit("6.conv2", 40), Unit("4.conv1", 5),
         Unit("6.downsample.0", 17), Unit("5.conv2", 30), Unit("6.conv1", 1)]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_folder(tmp_path_factory):
    """Networks that are trained here are kept out of the project; one setting more."""
    caches = (experiment.patient, experiments_minority.trained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_ROOT", str(tmp_path_factory.mktemp("root")))
        patch.setattr(experiments_minority, "PLANTED", 40)
        digits = experiments_minority.SETTINGS["digits"]
        planted = dataclasses.replace(digits, planted=True)
        patch.setitem(experiments_minority.SETTINGS, PLANTED["setting"], planted)
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(scope="module")
def who(own_folder):
    return experiment.patient(*NETWORK.values())


@pytest.fixture(scope="module")
def census(who):
    """Rows by unit, as the sweep gets them."""
    calls = [NETWORK | {"layer": unit.layer, "unit": unit.index} for unit in UNITS]
    return dict(zip(UNITS, experiment.census_many(calls), strict=True))


def right(model, part):
    """Whether each answer is right: one forward pass."""
    with torch.no_grad():
        return model(part.images).argmax(1) == part.label


def by_group(values, part):
    return np.array([values[part.group == g].double().mean().item() for g in range(4)])


def gradients(who, chosen):
    """Gradient of the mean loss over all training images of these groups, by layer."""
    rows = torch.isin(who.train.group, torch.tensor(chosen))
    model = who.made.model
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(who.train.images[rows]), who.train.label[rows])
    loss.backward()
    layers = {unit.layer for unit in who.units}
    found = {path: model.get_submodule(path).weight.grad.double() for path in layers}
    model.zero_grad(set_to_none=True)
    return found


def best(who, group, k):
    """The k filters with the largest gradient: rare groups have fewer than 200 images, so all."""
    found = gradients(who, [group])
    return sorted(who.units, key=lambda u: -found[u.layer][u.index].norm().item())[:k]


# -- the null --------------------------------------------------------------------------------------


def rare_loss(who, units):
    """Mean over the rare groups of the training accuracy lost."""
    train = who.train
    before = by_group(right(who.made.model, train), train)
    with lesions.perturbed(who.made.model, units, "zero") as model:
        after = by_group(right(model, train), train)
    return (before - after)[list(RARE)].mean()


def null_call(**more):
    return NETWORK | {"ranking": "gradient 2", "amount": 3, "matched": 1, "draws": 4} | more


def test_null_is_the_loop_over_lesions(who):
    calls = [
        null_call(ranking=f"gradient {g}", amount=k, matched=m)
        for g, k, m in ((1, 10, 0), (2, 10, 1), (2, 3, 1))
    ]
    for call, row in zip(calls, experiment.null_many(calls), strict=True):
        k, chosen = call["amount"], best(who, int(call["ranking"][-1]), call["amount"])
        assert row["lost"] == pytest.approx(rare_loss(who, chosen), abs=1e-12)
        for seed in range(4):
            units = (
                tracing.layer_matched(chosen, who.units, seed=seed)
                if call["matched"]
                else tracing.random(who.units, seed=seed).top(k)
            )
            assert row[f"draw_{seed}"] == pytest.approx(rare_loss(who, units), abs=1e-12)
    assert len({row[f"draw_{seed}"] for seed in range(4)}) > 1  # or the test could not fail


def test_matched_sets_of_all_filters_are_the_lesion_itself(who):
    (row,) = experiment.null_many([null_call(amount=len(who.units), draws=2)])
    assert row["lost"] == row["draw_0"] == row["draw_1"]
    assert row["lost"] != 0


def test_the_null_leaves_the_network_as_it_was(who):
    before = {name: value.clone() for name, value in who.made.model.state_dict().items()}
    experiment.null_many([null_call()])
    after = who.made.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


# -- the census ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_census_is_the_loop_over_lesions(who, census, unit):
    model, row = who.made.model, census[unit]
    for split in ("train", "test"):
        part = who.parts[split]
        before = right(model, part)
        with lesions.perturbed(model, [unit], "zero"):
            after = right(model, part)
        lost = by_group(before, part) - by_group(after, part)
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
def test_census_refits_the_bias_on_validation_images(who, census, unit):
    model, train, val = who.made.model, who.parts["train"], who.parts["val"]
    old, before = margins(model, train), by_group(right(model, train), train)
    with lesions.perturbed(model, [unit], "zero"):
        new, on_val = margins(model, train), margins(model, val)
    row = census[unit]
    assert row["shift"] == pytest.approx(float((new - old).mean()), abs=1e-4)
    # no offset, of a fine grid, does better on the validation images than the one that was taken
    offset = lesions.refit_bias(on_val, val.label, val.group)
    taken = by_group((on_val + offset > 0) == val.label.bool(), val).mean()
    for other in torch.linspace(-10, 10, 101):
        tried = by_group((on_val + other > 0) == val.label.bool(), val).mean()
        assert tried <= taken + 1e-12
    kept = by_group((new + offset > 0) == train.label.bool(), train)
    assert [row[f"refit_train_{g}"] for g in range(4)] == pytest.approx(before - kept, abs=1e-12)


def test_the_lesions_of_these_tests_do_something(census):
    lost = np.array([[row[f"lost_train_{g}"] for g in range(4)] for row in census.values()])
    assert (np.abs(lost) > 0.02).any(0).sum() >= 2


def test_scores_of_the_census(who, census):
    model, found = who.made.model, {g: gradients(who, [g]) for g in RARE}
    together = gradients(who, RARE)
    norms = tracing.batchnorms(model, who.train.images[:1])
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
    calls = [NETWORK | {"layer": unit.layer, "unit": unit.index} for unit in some]
    for unit, row in zip(some, experiment.census_many(calls), strict=True):
        for name, value in census[unit].items():
            assert row[name] == value or (value != value and row[name] != row[name])


def test_without_identifiers_there_is_no_planted_memory(census):
    for row in census.values():
        assert all(math.isnan(row[name]) for name in experiment.PLANTED_COLUMNS)


def test_planted_memory_is_the_loop_over_lesions():
    made = experiment.patient(*PLANTED.values()).made
    calls = [PLANTED | {"layer": unit.layer, "unit": unit.index} for unit in UNITS]
    rows = experiment.census_many(calls)
    model, train = made.model, made.splits["train"]
    kinds = {"kept": train.rows(made.mark == 1), "flipped": train.rows(made.mark == 2)}
    marked = train.rows(made.mark > 0).images
    assert [len(part) for part in kinds.values()] == [40, 40]
    fresh = groups.with_identifiers(marked, torch.Generator().manual_seed(1))
    norms = tracing.batchnorms(model, marked[:1])
    for unit, row in zip(UNITS, rows, strict=True):
        for name, part in kinds.items():
            before = right(model, part).double().mean()
            with lesions.perturbed(model, [unit], "zero"):
                lost = before - right(model, part).double().mean()
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
    for setting, networks in (("birds", 5), ("planted", 3)):
        own = [(c["trial"], c["layer"], c["unit"]) for c in cells if c["setting"] == setting]
        assert len(own) == len(set(own)) == 336 * networks
