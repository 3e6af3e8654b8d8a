"""Perturbations of units and of single weights, and the controls, against brute force."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import models, probes
from helpers.probes import Unit, lesions

CHANGES = {
    "zero": {},
    "random_init": {"scale": 0.1, "seed": 0},
    "random_noise": {"scale": 0.1, "seed": 0},
    "relative_noise": {"scale": 1.0, "seed": 0},
    "sign_flip": {},
    "permute": {"seed": 0},
}


def draw_images(n, size=32, seed=0, dtype=torch.float32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slices(net, name):
    return net.get_parameter(name).detach()


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def needs(how):
    if how == "rewind":
        return {"earlier": models.small_resnet(2, width=8, seed=9).state_dict()}
    return {"images": draw_images(5)} if how.startswith("batchnorm") else CHANGES[how]


# -- perturbations ---------------------------------------------------------------------------------


PICKED = [Unit("5.conv1", 7), Unit("1", 2), Unit("5.conv1", 0), Unit("6.downsample.0", 31)]


@pytest.mark.parametrize("how", lesions.PERTURBATIONS)
def test_the_model_is_put_back_to_the_bit(net, how):
    before = state(net)
    with lesions.perturbed(net, PICKED, how, **needs(how)) as same_net:
        assert same_net is net and not same(before, net.state_dict())
        net.train()
        net(draw_images(4))  # changes the statistics
        net[1].weight.data += 1
        with lesions.perturbed(net, PICKED[:1], "zero"):
            assert not slices(net, "5.conv1.weight")[7].any()
        net.eval()
    assert same(before, net.state_dict())
    with pytest.raises(RuntimeError, match="inside"):
        with lesions.perturbed(net, PICKED, how, **needs(how)):
            raise RuntimeError("inside")
    assert same(before, net.state_dict())


def test_inner_contexts_end_in_the_outer_one(net):
    before = state(net)
    with lesions.perturbed(net, PICKED, "sign_flip"):
        outer = state(net)
        with lesions.perturbed(net, PICKED, "sign_flip"):
            assert same(before, net.state_dict())
        assert same(outer, net.state_dict())
    assert same(before, net.state_dict())


WEIGHT_CHANGES = [how for how in lesions.PERTURBATIONS if not how.startswith("batchnorm")]


@pytest.mark.parametrize("how", WEIGHT_CHANGES)
def test_exactly_the_slices_asked_for_change(net, how):
    before = state(net)
    with lesions.perturbed(net, PICKED, how, **needs(how)):
        changed = set()
        for name, value in net.state_dict().items():
            for index in range(len(value) if value.ndim == 4 else 0):
                if not torch.equal(value[index], before[name][index]):
                    changed.add(Unit(name.removesuffix(".weight"), index))
            assert value.ndim == 4 or torch.equal(value, before[name])
    assert changed == set(PICKED)


def changed(net, how, **more):
    """One filter's weights before and after."""
    before = slices(net, "6.conv2.weight")[3].clone()
    with lesions.perturbed(net, [Unit("6.conv2", 3)], how, **more):
        return before, slices(net, "6.conv2.weight")[3].clone()


def test_what_each_change_does(net):
    assert not changed(net, "zero")[1].any()
    before, after = changed(net, "sign_flip")
    assert torch.equal(after, -before)
    before, after = changed(net, "permute", seed=0)
    assert not torch.equal(before, after)
    assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    earlier = models.small_resnet(2, width=8, seed=9).state_dict()
    assert torch.equal(changed(net, "rewind", earlier=earlier)[1], earlier["6.conv2.weight"][3])


def test_noise_has_the_standard_deviation_asked_for(net):
    # 288 weights: the standard error of a standard deviation is 4 percent
    before, init = changed(net, "random_init", scale=0.5, seed=0)
    assert float(init.std()) == pytest.approx(0.5, rel=0.15) and abs(float(init.mean())) < 0.12
    before, noisy = changed(net, "random_noise", scale=0.5, seed=0)
    assert torch.allclose(noisy - before, init, atol=1e-6)
    before, noisy = changed(net, "relative_noise", scale=2.0, seed=0)
    expected = init / 0.5 * 2 * float(np.std(before.numpy()))
    assert torch.allclose(noisy - before, expected, atol=1e-6)
    before, same_weights = changed(net, "random_noise", scale=0.0, seed=0)
    assert torch.equal(same_weights, before)


@pytest.mark.parametrize("how", [how for how in CHANGES if "seed" in CHANGES[how]])
def test_draws_depend_on_seed_and_set_only(net, how):
    def drawn(units, seed):
        random_state = torch.get_rng_state()
        with lesions.perturbed(net, units, how, **CHANGES[how] | {"seed": seed}):
            assert torch.equal(random_state, torch.get_rng_state())
            return state(net)

    assert same(drawn(PICKED, 0), drawn(PICKED[::-1], 0))
    assert not same(drawn(PICKED, 0), drawn(PICKED, 1))


def test_channels_behind_batch_normalisation_become_constant(net):
    images, seen = draw_images(6), []
    net[5].bn1.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    net(images)
    before = seen.pop()
    for how, constant in (("batchnorm_zero", 0.0), ("batchnorm_mean", float(before[:, 7].mean()))):
        with lesions.perturbed(net, [Unit("5.conv1", 7)], how, images=images):
            seen.clear()
            net(images)
        assert torch.allclose(seen[0][:, 7], torch.tensor(constant), atol=1e-6)
        others = [i for i in range(16) if i != 7]
        assert torch.equal(seen[0][:, others], before[:, others])


@pytest.mark.parametrize(
    ("how", "more", "message"),
    [
        ("nothing", {}, "how is 'nothing'"),
        ("random_init", {"seed": 0}, "scale is None: 'random_init' needs scale and seed"),
        ("random_noise", {"scale": 1.0}, "seed is None"),
        ("zero", {"scale": 1.0}, "scale is given: 'zero' has no"),
        ("random_noise", {"scale": -1.0, "seed": 0}, "scale is -1.0"),
        ("rewind", {}, "earlier is None"),
        ("rewind", {"earlier": {}}, "earlier has no 1.weight of shape"),
        ("batchnorm_mean", {}, "images is None"),
    ],
)
def test_bad_changes_are_refused(net, how, more, message):
    before = state(net)
    with pytest.raises(ValueError, match=message), lesions.perturbed(net, PICKED, how, **more):
        pass
    assert same(before, net.state_dict())


def test_channels_without_scale_and_shift_cannot_be_made_constant():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False))
    with pytest.raises(ValueError, match="behind '0' has no scale and shift"):
        with lesions.perturbed(net, [Unit("0", 0)], "batchnorm_zero", images=draw_images(1)):
            pass


# -- single weights --------------------------------------------------------------------------------


def flat(net, masks):
    weights = [net.get_parameter(name).detach()[mask] for name, mask in masks.items()]
    return torch.cat([w.flatten() for w in weights])


@given(fraction=st.floats(0, 1), side=st.sampled_from(lesions.SIDES))
def test_masks_hold_exactly_the_share_asked_for(fraction, side):
    net = models.small_cnn(3, 8, 2, seed=0)
    total = 16 * 3 * 9 + 32 * 16 * 9
    masks = lesions.weights_beyond(net, fraction, side, seed=0 if side == "random" else None)
    assert set(masks) == {"0.weight", "3.weight"}
    assert sum(int(m.sum()) for m in masks.values()) == round(fraction * total)
    inside = flat(net, masks).abs()
    outside = flat(net, {name: ~mask for name, mask in masks.items()}).abs()
    if len(inside) and len(outside) and side == "largest":
        assert float(inside.min()) >= float(outside.max())
    if len(inside) and len(outside) and side == "smallest":
        assert float(inside.max()) <= float(outside.min())


def test_ties_are_masked_in_the_order_of_the_network(net):
    for layer in {u.layer for u in probes.channels(net)}:
        nn.init.constant_(net.get_submodule(layer).weight, 0.5)
    masks = lesions.weights_beyond(net, 0.01)  # 0.01 of 19,288 weights, the stem has 216
    assert int(masks["1.weight"].flatten()[:193].sum()) == 193
    assert sum(int(m.sum()) for m in masks.values()) == 193


def test_which_parameters_are_masked(net, vit):
    assert (
        lesions.weights_beyond(net, 1.0, parameters="all").keys()
        == dict(net.named_parameters()).keys()
    )
    kinds = Counter(
        name.split("encoder_layer_")[1][2:]
        for name in lesions.weights_beyond(vit, 0.5, parameters="linear")
    )
    assert kinds == {
        "self_attention.in_proj_weight": 4, "self_attention.out_proj.weight": 4,
        "mlp.0.weight": 4, "mlp.3.weight": 4,
    }  # fmt: skip


def test_random_masks_depend_on_the_seed_and_are_spread_evenly(net):
    one, again, other = (lesions.weights_beyond(net, 0.2, "random", seed=s) for s in (0, 0, 1))
    assert same(one, again) and not same(one, other)
    for name, mask in one.items():  # five standard deviations of the binomial of p = 0.2
        assert abs(int(mask.sum()) - 0.2 * mask.numel()) < 5 * (0.16 * mask.numel()) ** 0.5, name


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("zero", {}),
        ("random_init", {"scale": 0.02, "seed": 0}),
        ("random_noise", {"scale": 0.02, "seed": 0}),
        ("rewind", {"earlier": models.small_resnet(2, width=8, seed=9).state_dict()}),
    ],
)
def test_masks_are_changed_where_they_are_true_and_put_back(net, how, more):
    before, masks = state(net), lesions.weights_beyond(net, 0.05)
    with lesions.perturbed(net, masks, how, **more):
        for name, value in net.state_dict().items():
            apart = value != before[name]
            assert torch.equal(apart, masks.get(name, torch.zeros_like(apart)))
        values = flat(net, masks)
        if how == "zero":
            assert not values.any()
        if how == "random_init":
            assert float(values.std()) == pytest.approx(0.02, rel=0.1)  # of 964: 2.3 % uncertain
    assert same(before, net.state_dict())


def test_bad_masks_are_refused(net):
    for arguments, message in (
        ({"fraction": 1.1}, "fraction is 1.1"),
        ({"fraction": -0.1}, "fraction is -0.1"),
        ({"fraction": 0.1, "side": "middle"}, "side is 'middle'"),
        ({"fraction": 0.1, "parameters": "norms"}, "parameters is 'norms'"),
        ({"fraction": 0.1, "side": "random"}, "seed is None"),
        ({"fraction": 0.1, "seed": 0}, "seed is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lesions.weights_beyond(net, **arguments)
    for fraction, many in ((0, 0), (1, 19_288)):
        masks = lesions.weights_beyond(net, fraction)
        assert sum(int(mask.sum()) for mask in masks.values()) == many
    with pytest.raises(ValueError, match="has none of these"):
        lesions.weights_beyond(models.fully_connected(3, (8,), 2, seed=0), 0.1)
    whole = torch.ones(8, 3, 3, 3, dtype=torch.bool)
    for masks in ({"1.weights": whole}, {"1.weight": whole[:4]}, {"1.weight": whole.float()}):
        with pytest.raises(ValueError, match="the mask of 1.weight"):
            with lesions.perturbed(net, masks, "zero"):
                pass
    with pytest.raises(ValueError, match="whole units"):
        with lesions.perturbed(net, {"1.weight": whole}, "batchnorm_zero", images=draw_images(1)):
            pass


# -- controls --------------------------------------------------------------------------------------


def test_the_matched_shift_has_the_lesions_mean_margin_and_is_constant():
    draw = torch.Generator().manual_seed(0)
    before, after = (torch.randn(50, 2, generator=draw) * 3 for _ in range(2))
    shifted = lesions.shift_matched(before, after)
    margin = [float((x[:, 1] - x[:, 0]).mean()) for x in (before, after, shifted)]
    assert margin[2] == pytest.approx(margin[1], abs=1e-5) and abs(margin[0] - margin[1]) > 0.1
    assert torch.equal(shifted[:, 0], before[:, 0])
    moved = (shifted - before)[:, 1] - (shifted - before)[:, 0]
    assert float(moved.std()) < 1e-6
    for bad in (after[:9], after[:, :1], after[:0]):
        with pytest.raises(ValueError, match="expected"):
            lesions.shift_matched(before if len(bad) else bad, bad)


def balanced(margins, labels, groups, offset):
    right = torch.stack([torch.zeros(len(margins)).double(), margins.double() + offset], 1)
    return probes.accuracy_by_group(right, labels, groups).mean()


@given(
    samples=st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 3)), min_size=0, max_size=25)
)
def test_refit_bias_is_the_best_of_all_offsets(samples):
    samples = [*samples, (-1, 0), (2, 1), (-2, 2), (1, 3)]  # no group is empty
    margins = torch.tensor([m / 4 for m, _ in samples])
    groups = torch.tensor([g for _, g in samples])
    offset = lesions.refit_bias(margins, groups // 2, groups)
    # margins are multiples of 1/4: these offsets lie between all of them, and beyond
    grid = [k / 4 + 0.125 for k in range(-25, 25)] + [0.0]
    scores = {o: balanced(margins, groups // 2, groups, o) for o in grid}
    best = max(scores.values())
    assert balanced(margins, groups // 2, groups, offset) == pytest.approx(best)
    if scores[0.0] == pytest.approx(best, abs=1e-12):
        assert offset == 0.0  # nothing is shifted that need not be


def test_refit_bias_beyond_all_margins_is_one_beyond():
    # class 0 has the larger margins: the best is to call all samples one class
    margins = torch.tensor([2.0, 3.0, -2.0, -5.0])
    assert lesions.refit_bias(margins, torch.tensor([0, 0, 1, 1]), torch.arange(4)) == -4.0
    assert lesions.refit_bias(-margins, torch.tensor([1, 1, 0, 0]), torch.tensor([2, 3, 0, 1])) == 4


def test_refit_bias_refuses_what_has_no_balanced_accuracy():
    margins, groups = torch.zeros(4), torch.arange(4)
    for arguments, message in (
        ((margins[:3], groups[:3] // 2, groups[:3]), "group 3 is empty"),
        ((margins[:3], groups // 2, groups), "shapes"),
        ((margins / 0, groups // 2, groups), "NaN"),
        ((margins, groups, groups), "labels has 2"),
        ((margins, groups // 2, groups + 1), "groups has 4"),
        ((margins[:0], groups[:0], groups[:0]), "group 0 is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            lesions.refit_bias(*arguments)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float32])
def test_groups_of_any_type_are_groups(dtype):
    margins = torch.tensor([-4.0, -3.0, -2.0, 1.0])
    labels, groups = torch.tensor([0, 0, 1, 1]).to(dtype), torch.arange(4).to(dtype)
    assert lesions.refit_bias(margins, labels, groups) == 2.5


def test_a_shift_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        lesions.shift_matched(torch.zeros(3, 2), torch.full((3, 2), torch.nan))
