"""Masks, and the branch that they prune."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from helpers import models, remedies
from helpers.remedies import Contrast
from helpers.remedies.masks import chosen_mask, gradient_mask


def zeroed(model, mask):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask.items():
            other.get_parameter(name)[~kept] = 0
    return other


def dropped(mask):
    return sum(int((~kept).sum()) for kept in mask.values())


def test_filters_and_matrices_of_blocks_may_be_pruned(network, transformer):
    assert remedies.prunable(network()) == ["0.weight", "3.weight"]
    resnet = models.resnet(18, 2, stem="small", width=8, seed=0)
    assert len(remedies.prunable(resnet)) == 20  # 17 in the body, 3 in shortcuts
    names = remedies.prunable(transformer())
    assert len(names) == 8 and all(name.startswith("1.encoder.layers.") for name in names)
    assert {name.split(".", 4)[4] for name in names} == {
        "self_attention.in_proj_weight", "self_attention.out_proj.weight", "mlp.0.weight",
        "mlp.3.weight",
    }  # fmt: skip
    with pytest.raises(ValueError, match="nothing to prune"):
        remedies.prunable(nn.Linear(3, 2))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_magnitude_masks_drop_exactly_the_smallest(make, share):
    net = make()
    mask = remedies.magnitude_mask(net, share)
    weights = {name: net.get_parameter(name).detach().abs() for name in mask}
    assert list(mask) == remedies.prunable(net)
    assert dropped(mask) == round(share * sum(w.numel() for w in weights.values()))
    largest_dropped = max(float(w[~mask[n]].max()) for n, w in weights.items() if (~mask[n]).any())
    smallest_kept = min(float(w[mask[n]].min()) for n, w in weights.items() if mask[n].any())
    assert largest_dropped <= smallest_kept


def test_counts_are_exact_with_ties(network):
    net = network()
    nn.init.ones_(net[0].weight)
    nn.init.ones_(net[3].weight)
    assert dropped(remedies.magnitude_mask(net, 0.25)) == round(0.25 * (8 * 27 + 16 * 72))


@pytest.mark.parametrize("head", ["logits", "softmax"])
def test_gradient_masks_drop_the_units_with_the_largest_gradients(make, head, images):
    net, sample = make().train(), images()
    before = copy.deepcopy(net.state_dict())
    units = remedies.gradient_mask(net, sample.images, sample.label, 0.2, head=head)
    singles = remedies.gradient_mask(
        net, sample.images, sample.label, 0.2, unit="weight", head=head
    )
    assert net.training and all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    net.eval()
    outputs = net(sample.images)
    chance = outputs.softmax(1) if head == "softmax" else outputs
    (-chance.log_softmax(1)[torch.arange(len(sample)), sample.label]).mean().backward()
    gradient = {name: net.get_parameter(name).grad for name in units}
    ranked = sorted(
        (
            (float(g[row].norm()), name, row)
            for name, g in gradient.items()
            for row in range(len(g))
        ),
        reverse=True,
    )
    found = {
        (name, row) for name, kept in units.items() for row, each in enumerate(kept)
        if not bool(each.any())
    }  # fmt: skip
    assert found == {place[1:] for place in ranked[: round(0.2 * len(ranked))]}
    assert all(bool(each.all()) or not bool(each.any()) for kept in units.values() for each in kept)
    sizes = torch.cat([g.abs().flatten() for g in gradient.values()])
    limit = sizes.sort(descending=True).values[round(0.2 * len(sizes)) - 1]
    assert dropped(singles) == round(0.2 * len(sizes))
    assert all(bool((gradient[n][~kept].abs() >= limit).all()) for n, kept in singles.items())


def test_random_masks_have_the_density_of_the_others(network):
    net = network()
    one, again, other = (remedies.random_mask(net, 0.1, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert dropped(one) == dropped(remedies.magnitude_mask(net, 0.1))
    filters = remedies.random_mask(net, 0.5, 0, unit="filter")
    whole = [each for kept in filters.values() for each in kept]
    assert sum(not bool(each.any()) for each in whole) == 12
    assert sum(bool(each.all()) for each in whole) == 12


@pytest.mark.parametrize("share", [0.0, 1e-9, 1.0, math.nan])
def test_masks_drop_something_and_leave_something(share, network):
    with pytest.raises(ValueError, match="of 1,368 that may be dropped, at least 1 must be"):
        remedies.magnitude_mask(network(), share)


def test_both_masks_are_intersected_where_the_release_keeps_one(images, network):
    net, sample = network(), images()
    recipe = Contrast(mask="both", share=0.2, head="logits")
    both = chosen_mask(net, sample, recipe, 0, 1)
    first = remedies.magnitude_mask(net, 0.2)
    worst = remedies.poorest(net, sample)
    second = remedies.gradient_mask(net, worst.images, worst.label, 0.2)
    assert all(torch.equal(both[name], first[name] & second[name]) for name in both)
    assert dropped(both) > dropped(second) > 0


def test_each_epoch_has_a_random_mask_of_its_own(images, network):
    recipe = Contrast(mask="random", share=0.3)
    masks = [
        chosen_mask(network(), images(), recipe, seed, epoch)["3.weight"]
        for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert [torch.equal(masks[0], mask) for mask in masks] == [True, True, False, False]


def test_poorest_are_the_worst_fitted_unless_as_released(images, network):
    net, sample = network().eval(), images()
    with torch.no_grad():
        chance = net(sample.images).softmax(1)[torch.arange(len(sample)), sample.label]
    worst = chance.argsort()
    got = remedies.poorest(net, sample, 5)
    assert torch.equal(got.images, sample.images[worst[:5]])
    released = remedies.poorest(net, sample, 5, as_released=True)
    assert torch.equal(released.images, sample.images[worst.flip(0)[:5]])
    assert len(remedies.poorest(net, sample)) == len(sample)
    with pytest.raises(ValueError, match="n is 0"):
        remedies.poorest(net, sample, 0)


def test_the_pruned_branch_is_the_network_with_weights_zeroed(make, images):
    net, sample = make(), images()
    mask = remedies.magnitude_mask(net, 0.5)
    for mode in (True, False):
        net.train(mode)
        expected = zeroed(net, mask)(sample.images)
        got = remedies.pruned_outputs(net, mask, sample.images)
        assert torch.allclose(got, expected, atol=1e-5)
        assert not torch.allclose(got, copy.deepcopy(net)(sample.images), atol=1e-3)


def test_shared_weights_get_the_gradients_of_both_branches(images, network):
    net, sample = network().eval(), images()
    mask = remedies.magnitude_mask(net, 0.5)
    names, weights = zip(*net.named_parameters(), strict=True)
    other = zeroed(net, mask)
    alone = torch.autograd.grad(net(sample.images)[:, 0].sum(), weights)
    beside = torch.autograd.grad(other(sample.images)[:, 1].sum(), list(other.parameters()))
    both = remedies.pruned_outputs(net, mask, sample.images)[:, 1].sum()
    together = torch.autograd.grad(both + net(sample.images)[:, 0].sum(), weights)
    for name, total, one, two in zip(names, together, alone, beside, strict=True):
        expected = one + two * mask.get(name, torch.ones_like(two))
        assert torch.allclose(total, expected, atol=1e-4), name


def test_running_statistics_move_with_one_branch_or_with_both(images, network):
    net, sample = network().train(), images()
    mask = remedies.magnitude_mask(net, 0.5)
    start = net[1].running_mean.clone()
    batch = functional.conv2d(sample.images, zeroed(net, mask)[0].weight, padding=1)
    moved = 0.9 * start + 0.1 * batch.mean((0, 2, 3)).detach()

    own = remedies.own_statistics(net)
    remedies.pruned_outputs(net, mask, sample.images, own)
    assert torch.equal(net[1].running_mean, start) and int(net[1].num_batches_tracked) == 0
    assert torch.allclose(own["1.running_mean"], moved, atol=1e-6)
    assert int(own["1.num_batches_tracked"]) == 1
    remedies.pruned_outputs(net, mask, sample.images)
    assert torch.allclose(net[1].running_mean, moved, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, -100], "labels has -100"), ([[0.5, 0.5]] * 2, r"labels \(2, 2\)")],
)
def test_gradient_masks_need_labels_that_fit(network, images, labels, message):
    with pytest.raises(ValueError, match=message):
        gradient_mask(network(), images().images[:2], torch.tensor(labels), 0.1)
