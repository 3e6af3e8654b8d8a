"""The loop that the remedies share, and what reaches the last layer."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers import remedies
from helpers.errors import Diverged
from helpers.remedies import Contrast
from helpers.remedies.fitting import balanced_shares, class_weights, drawn_order


def test_evaluation_sees_the_model_in_eval_mode_after_each_epoch(images, network):
    def watch(model, epoch):
        assert not model.training
        return {"seen": epoch, "slope": float(model[8].weight.detach().norm())}

    recipe = Contrast(epochs=3, batch=21, share=0.1)
    got = remedies.finetune(network(), images(), recipe, seed=0, evaluate=watch)
    assert [row["seen"] for row in got.rows] == [1, 2, 3]
    assert len({row["slope"] for row in got.rows}) == 3
    assert got.rows[-1]["slope"] == pytest.approx(float(got.model[8].weight.detach().norm()))


def test_groups_are_balanced_by_sampling():
    group = torch.arange(4).repeat_interleave(torch.tensor([3498, 184, 56, 1057]))
    shares = balanced_shares(group)
    drawn = drawn_order(len(group), shares, torch.Generator().manual_seed(0))
    counts = group[drawn].bincount(minlength=4)
    # four equal chances: a standard deviation of 30
    assert int(counts.sum()) == 4795 and bool(((counts - 4795 / 4).abs() < 120).all())


def test_a_single_left_over_sample_is_left_out(images, network, silent):
    sample = images((20, 7, 4, 12))
    recipe = Contrast(epochs=1, batch=21, share=0.1)
    net = remedies.finetune(network(), sample, recipe, seed=0, evaluate=silent).model
    assert int(net[1].num_batches_tracked) == 4


def test_divergence_is_reported(images, network, silent):
    net = network()
    nn.init.constant_(net[8].weight, math.inf)
    with pytest.raises(Diverged, match="the training loss is nan in epoch 1 of 21"):
        remedies.finetune(net, images(), Contrast(share=0.1), seed=0, evaluate=silent)


def test_bad_data_and_networks_are_refused(images, network, silent):
    sample, recipe = images(), Contrast(share=0.1)
    cases = [
        (network(), replace(sample, images=sample.images.to(torch.uint8)), recipe, "torch.uint8"),
        (network(), replace(sample, label=sample.label.float()), recipe, "labels torch.float32"),
        (network(), replace(sample, label=2 * sample.label - 1, attribute=2 * sample.attribute - 1),
         recipe, "label has -1: allowed is 0 and 1"),
        (nn.Sequential(network(), nn.Softmax(1)), sample, recipe, "ends with Softmax"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), sample, recipe, "has 3 outputs"),
        (network(), sample.rows(sample.label == 0), replace(recipe, class_weights=True),
         r"classes have \[26, 0\]"),
        (network(), sample.rows(sample.group != 1), replace(recipe, sampling="group-balanced"),
         r"groups have \[20, 0, 4, 12\]"),
    ]  # fmt: skip
    for net, data, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            remedies.finetune(net, data, settings, seed=0, evaluate=silent)


def test_penultimate_features_explain_the_outputs(make, images, network):
    net, sample = make().eval(), images()
    last = net[-1] if make is network else net[1].heads.head
    assert remedies.last_linear(net) is last
    features = remedies.penultimate(net, sample.images)
    assert features.shape == (42, last.in_features) and not features.requires_grad
    with torch.no_grad():
        assert torch.allclose(last(features), net(sample.images), atol=1e-5)
    assert not last._forward_pre_hooks


@pytest.mark.parametrize("name", ["finetune", "group_dro"])
@pytest.mark.parametrize("mask", ["both", "random filters"])
def test_frozen_parameters_stay_in_every_copy(name, mask, images, network, silent):
    net = network()
    net[0].requires_grad_(False)
    assert remedies.prunable(net) == ["3.weight"]
    recipe = Contrast(epochs=2, batch=10_000, share=0.2, mask=mask, weight_decay=0.1)
    got = getattr(remedies, name)(net, images(), recipe, seed=0, evaluate=silent).model
    assert torch.equal(got[0].weight, net[0].weight)
    assert not torch.equal(got[3].weight, net[3].weight)
    with pytest.raises(ValueError, match="all are frozen"):
        getattr(remedies, name)(
            net.requires_grad_(False), images(), recipe, seed=0, evaluate=silent
        )


def test_weights_are_of_groups_and_classes_that_exist():
    assert class_weights(torch.tensor([0, 1, 1, 1])).tolist() == pytest.approx([2, 2 / 3])
    with pytest.raises(ValueError, match="classes has 2: allowed is 0 and 1"):
        class_weights(torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="groups has 4: allowed is 0 to 3"):
        balanced_shares(torch.arange(5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float32])
def test_shares_of_groups_of_any_type(dtype):
    group = torch.tensor([0, 1, 2, 3, 3]).to(dtype)
    assert balanced_shares(group).tolist() == [1, 1, 1, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"expected \(n,\)"):
        class_weights(torch.tensor([[0], [1]]))
