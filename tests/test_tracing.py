"""Rankings, perturbations and the census of units, against autograd, brute force and torch."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers import census, lesions, metrics, models, tracing
from helpers.tracing import Unit

CHANGES = {
    "zero": {},
    "random_init": {"scale": 0.1, "seed": 0},
    "random_noise": {"scale": 0.1, "seed": 0},
    "relative_noise": {"scale": 1.0, "seed": 0},
    "sign_flip": {},
    "permute": {"seed": 0},
}


def lively(net, seed=1):
    """Batch normalisation as after training: its statistics, scales and shifts all differ."""
    draw = torch.Generator().manual_seed(seed)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            n = norm.num_features
            norm.weight.data = 0.5 + torch.rand(n, generator=draw)
            norm.bias.data = 0.3 * torch.randn(n, generator=draw)
            norm.running_mean = 0.3 * torch.randn(n, generator=draw)
            norm.running_var = 0.5 + torch.rand(n, generator=draw)
    return net.eval()


@pytest.fixture
def net():
    return lively(models.small_resnet(2, width=8, seed=0))


@pytest.fixture(scope="module")
def vit():
    return models.small_vit(2, width=16, seed=0).eval()


@pytest.fixture
def cnn():
    """Convolutions with biases and no batch normalisation, in float64, on 8 x 8 pixels."""
    return models.small_cnn(3, 8, 2, seed=0).double().eval()


def draw_images(n, size=32, seed=0, dtype=torch.float32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_labels(n, seed=0):
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed))


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


# -- units -----------------------------------------------------------------------------------------


def test_channels_come_in_the_order_of_the_network(net):
    units = tracing.channels(net)
    assert Counter(u.layer for u in units) == {
        "1": 8, "4.conv1": 8, "4.conv2": 8, "5.conv1": 16, "5.conv2": 16, "5.downsample.0": 16,
        "6.conv1": 32, "6.conv2": 32, "6.downsample.0": 32,
    }  # fmt: skip
    assert units[:9] == [*[Unit("1", i) for i in range(8)], Unit("4.conv1", 0)]
    assert [u for u in units if "downsample" not in u.layer] == tracing.channels(
        net, exclude=("downsample",)
    )
    assert {u.layer for u in tracing.channels(net, exclude=("1", "conv1"))} == {
        "4.conv2", "5.conv2", "5.downsample.0", "6.conv2", "6.downsample.0",
    }  # fmt: skip


def test_hidden_units_of_transformers_and_perceptrons(vit):
    blocks = Counter(u.layer for u in tracing.hidden_units(vit))
    assert blocks == {f"1.encoder.layers.encoder_layer_{i}.mlp.0": 64 for i in range(4)}
    plain = models.fully_connected(4, (8, 6), 2, seed=0)
    assert Counter(u.layer for u in tracing.hidden_units(plain)) == {"1": 8, "3": 6}


def test_networks_without_units_are_refused(net):
    with pytest.raises(ValueError, match="no convolution"):
        tracing.channels(models.fully_connected(4, (8,), 2, seed=0))
    with pytest.raises(ValueError, match="1 linear layers"):
        tracing.hidden_units(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="'shortcut'"):
        tracing.channels(net, exclude=("shortcut",))
    for unit, message in (
        (Unit("1", 8), "index is 8: layer '1' has 8"),
        (Unit("1", -1), "index is -1"),
        (Unit("2", 0), "layer is '2'"),
        (Unit("none", 0), "layer is 'none'"),
    ):
        with pytest.raises(ValueError, match=message):
            tracing.magnitude(net, [unit])
    with pytest.raises(ValueError, match="twice"):
        tracing.magnitude(net, [Unit("1", 0)] * 2)
    with pytest.raises(ValueError, match="units is empty"):
        tracing.magnitude(net, [])


def test_no_more_units_than_there_are(net):
    ranking = tracing.magnitude(net, tracing.channels(net))
    assert len(ranking.top(168)) == 168
    for k in (0, 169):
        with pytest.raises(ValueError, match=f"k is {k}: the ranking has 168"):
            ranking.top(k)


# -- the batch of a ranking ------------------------------------------------------------------------


def test_hardest_are_those_with_the_least_probability(net):
    images, labels = draw_images(40), draw_labels(40)
    logits = net(images).detach().double()
    probability = logits.softmax(1)[torch.arange(40), labels].numpy()
    expected = np.argsort(probability, kind="stable")
    assert tracing.hardest(net, images, labels, n=7).tolist() == expected[:7].tolist()
    assert tracing.hardest(net, images, labels).tolist() == expected.tolist()  # fewer than 200


def test_confident_samples_are_told_apart():
    logits = torch.tensor([[25.0, 0.0], [24.0, 0.0], [26.0, 0.0]])
    assert tracing.hardest(nn.Identity(), logits, torch.zeros(3).long(), n=3).tolist() == [1, 0, 2]


def test_empty_groups_are_refused(net):
    nothing, labels, units = draw_images(4)[:0], torch.zeros(0).long(), tracing.channels(net)
    few = (draw_images(2), draw_labels(2))
    for call in (
        lambda: tracing.hardest(net, nothing, labels),
        lambda: tracing.gradient(net, units, nothing, labels),
        lambda: tracing.gradient_times_weight(net, units, nothing, labels),
        lambda: lesions.greedy(net, units, (nothing, labels), few, 1),
        lambda: lesions.greedy(net, units, few, (nothing, labels), 1),
        lambda: tracing.evaluate(net, nothing),
        lambda: census.census(net, nothing),
        lambda: tracing.batchnorm_folded(net, units, nothing),
    ):
        with pytest.raises(ValueError, match="empty"):
            call()
    with pytest.raises(ValueError, match="2 images and 3 labels"):
        tracing.gradient(net, units, few[0], draw_labels(3))
    with pytest.raises(ValueError, match="n is 0"):
        tracing.hardest(net, *few, n=0)


# -- rankings --------------------------------------------------------------------------------------


def by_unit(ranking):
    return dict(zip(ranking.units, ranking.scores.tolist(), strict=True))


def loss_of(net, images, labels, double_softmax=False):
    def loss(parameters):
        logits = functional_call(net, parameters, (images,))
        return functional.cross_entropy(logits.softmax(1) if double_softmax else logits, labels)

    return loss


@pytest.mark.parametrize("double_softmax", [False, True])
def test_gradient_is_the_norm_of_each_filters_gradient(cnn, double_softmax):
    images, labels = draw_images(300, 8, dtype=torch.float64), draw_labels(300)  # two batches
    units = tracing.channels(cnn)
    ranking = tracing.gradient(cnn, units, images, labels, double_softmax=double_softmax)
    parameters = {name: p.detach() for name, p in cnn.named_parameters()}
    grads = torch.func.grad(loss_of(cnn, images, labels, double_softmax))(parameters)
    found = by_unit(ranking)
    assert len(found) == 48
    for unit in units:
        expected = grads[f"{unit.layer}.weight"][unit.index].square().sum().sqrt()
        assert found[unit] == pytest.approx(float(expected), rel=1e-9)
    assert bool((ranking.scores.diff() <= 0).all())
    assert all(p.grad is None for p in cnn.parameters())


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_batch_does_not_matter(seed):
    cnn = models.small_cnn(3, 8, 2, seed=0).double()
    images, labels = draw_images(20, 8, dtype=torch.float64), draw_labels(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    units = tracing.channels(cnn)
    for rank in (tracing.gradient, tracing.gradient_times_weight):
        one, other = (
            rank(cnn, units, images, labels),
            rank(cnn, units, images[order], labels[order]),
        )
        assert one.units == other.units and torch.allclose(one.scores, other.scores)


def test_gradient_times_weight_is_the_slope_of_the_loss_towards_zero(cnn):
    images, labels = draw_images(30, 8, dtype=torch.float64), draw_labels(30)
    found = by_unit(tracing.gradient_times_weight(cnn, tracing.channels(cnn), images, labels))
    parameters = {name: p.detach() for name, p in cnn.named_parameters()}
    loss, step = loss_of(cnn, images, labels), 1e-4
    for unit in (Unit("0", 3), Unit("3", 0), Unit("3", 31)):
        ends = []
        for factor in (1 + step, 1 - step):
            name = f"{unit.layer}.weight"
            weight = parameters[name].clone()
            weight[unit.index] *= factor
            ends.append(float(loss(parameters | {name: weight})))
        assert found[unit] == pytest.approx(abs(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_rankings_leave_modes_and_statistics_alone(net):
    net.train()
    net[2].eval()
    before = state(net)
    tracing.gradient(net, tracing.channels(net), draw_images(4), draw_labels(4))
    tracing.activation_difference(net, [Unit("1", 0)], draw_images(4), draw_images(3, seed=1))
    census.census(net, draw_images(2), [Unit("1", 0)])
    assert same(before, net.state_dict())
    assert net.training and net[4].bn1.training and not net[2].training


def test_magnitude_and_its_ties(net):
    units = tracing.channels(net)
    found = by_unit(tracing.magnitude(net, units))
    for unit in units:
        expected = np.linalg.norm(slices(net, f"{unit.layer}.weight")[unit.index].numpy())
        assert found[unit] == pytest.approx(float(expected), rel=1e-5)
    for layer in {u.layer for u in units}:
        nn.init.constant_(net.get_submodule(layer).weight, 0.0)
    assert list(tracing.magnitude(net, units[::-1]).units) == units


def test_the_batch_normalisation_of_each_convolution_is_found(net):
    assert tracing.batchnorms(net, draw_images(1)) == {
        "1": "2", "4.conv1": "4.bn1", "4.conv2": "4.bn2", "5.conv1": "5.bn1", "5.conv2": "5.bn2",
        "5.downsample.0": "5.downsample.1", "6.conv1": "6.bn1", "6.conv2": "6.bn2",
        "6.downsample.0": "6.downsample.1",
    }  # fmt: skip


def test_folded_norm_is_the_norm_of_the_fused_filter(net):
    units = tracing.channels(net)
    found = by_unit(tracing.batchnorm_folded(net, units, draw_images(1)))
    for layer, norm in tracing.batchnorms(net, draw_images(1)).items():
        fused = fuse_conv_bn_eval(net.get_submodule(layer), net.get_submodule(norm))
        for index, weight in enumerate(fused.weight.detach()):
            assert found[Unit(layer, index)] == pytest.approx(float(weight.norm()), rel=1e-5)


def test_folded_norm_does_not_see_the_scale_of_a_filter(net):
    units, images = tracing.channels(net), draw_images(3)
    before = [by_unit(tracing.batchnorm_folded(net, units, images)), tracing.evaluate(net, images)]
    size = by_unit(tracing.magnitude(net, units))
    conv, norm, unit = net[5].conv1, net[5].bn1, Unit("5.conv1", 3)
    with torch.no_grad():
        conv.weight[3] *= 10
        norm.running_mean[3] *= 10
        norm.running_var[3] = 100 * (norm.running_var[3] + norm.eps) - norm.eps
    after = by_unit(tracing.batchnorm_folded(net, units, images))
    assert torch.allclose(tracing.evaluate(net, images), before[1], atol=1e-5)  # one function
    assert after == pytest.approx(before[0], rel=1e-5)
    assert by_unit(tracing.magnitude(net, units))[unit] == pytest.approx(10 * size[unit], rel=1e-5)


def test_folding_needs_batch_normalisation(cnn):
    with pytest.raises(ValueError, match="'0' is not followed"):
        tracing.batchnorm_folded(cnn, tracing.channels(cnn), draw_images(1, 8, dtype=torch.float64))


def cohens_d(a, b):
    within = (len(a) - 1) * np.var(a, axis=0, ddof=1) + (len(b) - 1) * np.var(b, axis=0, ddof=1)
    return np.abs(a.mean(0) - b.mean(0)) / np.sqrt(within / (len(a) + len(b) - 2))


def test_activation_difference_of_filters(net):
    one, other = draw_images(9), draw_images(7, seed=1) * 0.7
    net[1].weight.data[5] = 0.0  # a dead filter
    stem = net[:3]  # up to and with batch normalisation
    means = [stem(x).detach().double().mean((2, 3)).numpy() for x in (one, other)]
    expected = cohens_d(*(np.delete(x, 5, axis=1) for x in means))
    found = by_unit(tracing.activation_difference(net, tracing.channels(net), one, other))
    assert found.pop(Unit("1", 5)) == 0.0
    assert [found[Unit("1", i)] for i in (0, 1, 2, 3, 4, 6, 7)] == pytest.approx(
        expected.tolist(), rel=1e-4
    )
    with pytest.raises(ValueError, match="9 and 1 images"):
        tracing.activation_difference(net, tracing.channels(net), one, other[:1])


def test_activation_difference_of_hidden_units_is_over_tokens():
    draw = torch.Generator().manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    one, other = (torch.randn(n, 5, 4, generator=draw) + n for n in (6, 8))
    means = [plain[0](x).detach().double().mean(1).numpy() for x in (one, other)]
    found = by_unit(tracing.activation_difference(plain, tracing.hidden_units(plain), one, other))
    values = [found[Unit("0", i)] for i in range(8)]
    assert values == pytest.approx(cohens_d(*means).tolist(), rel=1e-4)


def test_random_rankings_repeat_and_differ(net):
    units = tracing.channels(net)
    one, again, other = (tracing.random(units, seed=s) for s in (0, 0, 1))
    assert one.units == again.units != other.units and sorted(one.units) == sorted(units)
    assert bool((one.scores.diff() <= 0).all())
    with pytest.raises(ValueError, match="empty"):
        tracing.random([], seed=0)


LAYERS = {"a": 5, "b": 3, "c": 9}
AMONG = [Unit(layer, i) for layer, count in LAYERS.items() for i in range(count)]


@given(chosen=st.sets(st.sampled_from(AMONG)), seed=st.integers(0, 99))
def test_layer_matched_sets_have_as_many_of_each_layer(chosen, seed):
    drawn = tracing.layer_matched(sorted(chosen), AMONG, seed=seed)
    assert Counter(u.layer for u in drawn) == Counter(u.layer for u in chosen)
    assert len(set(drawn)) == len(drawn) and set(drawn) <= set(AMONG)


def test_layer_matched_draws_are_uniform():
    draws = Counter(tracing.layer_matched([Unit("a", 0)], AMONG, seed=s)[0] for s in range(1000))
    # binomial of p = 1/5: six standard deviations are 76
    assert set(draws) == {Unit("a", i) for i in range(5)}
    assert all(abs(count - 200) < 76 for count in draws.values())
    with pytest.raises(ValueError, match="among has 0 units of layer 'd': 1"):
        tracing.layer_matched([Unit("d", 0)], AMONG, seed=0)


def test_size_matched_units_are_the_nearest_others(net):
    units = tracing.channels(net)
    chosen = tracing.magnitude(net, units).top(6)[3:]
    norm = {u: float(slices(net, f"{u.layer}.weight")[u.index].norm()) for u in units}
    left, expected = [u for u in units if u not in chosen], []
    for unit in chosen:
        expected.append(min(left, key=lambda other: abs(norm[other] - norm[unit])))  # noqa: B023
        left.remove(expected[-1])
    assert tracing.size_matched(net, chosen, units, seed=0, nearest=1) == expected
    draws = [tracing.size_matched(net, chosen, units, seed=s, nearest=4) for s in range(20)]
    assert len({tuple(d) for d in draws}) > 5
    for drawn in draws:
        assert len(set(drawn)) == 3 and not set(drawn) & set(chosen)
    firsts = sorted(set(units) - set(chosen), key=lambda u: abs(norm[u] - norm[chosen[0]]))[:4]
    assert {d[0] for d in draws} <= set(firsts)
    with pytest.raises(ValueError, match="nearest is 0"):
        tracing.size_matched(net, chosen, units, seed=0, nearest=0)
    with pytest.raises(ValueError, match="among has 0 other units: 3"):
        tracing.size_matched(net, chosen, chosen, seed=0)


def test_greedy_takes_the_best_of_each_step(cnn):
    rare = (draw_images(10, 8, dtype=torch.float64), draw_labels(10))
    common = (draw_images(20, 8, seed=1, dtype=torch.float64), draw_labels(20, seed=1))
    units, before = tracing.channels(cnn), state(cnn)
    found = lesions.greedy(cnn, units, rare, common, 3)
    assert same(before, cnn.state_dict())
    parameters = {name: p.detach().clone() for name, p in cnn.named_parameters()}
    for step in range(3):
        grads = [torch.func.grad(loss_of(cnn, *part))(parameters) for part in (rare, common)]
        rise = {}
        for unit in set(units) - set(found.units[:step]):
            name = f"{unit.layer}.weight"
            weight = parameters[name][unit.index]
            rise[unit] = float(((grads[1][name] - grads[0][name])[unit.index] * weight).sum())
        best = max(rise, key=rise.get)
        assert found.units[step] == best
        assert float(found.scores[step]) == pytest.approx(rise[best], rel=1e-9)
        parameters[f"{best.layer}.weight"][best.index] = 0
    for k in (0, 49):
        with pytest.raises(ValueError, match=f"k is {k}: there are 48"):
            lesions.greedy(cnn, units, rare, common, k)


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
    before, uniform = changed(net, "random_init", scale=0.5, seed=0, uniform=True)
    assert 0 <= float(uniform.min()) < 0.02 and 0.48 < float(uniform.max()) < 0.5


def test_draws_depend_on_seed_and_set_only(net):
    def drawn(units, seed):
        random_state = torch.get_rng_state()
        with lesions.perturbed(net, units, "random_init", scale=1.0, seed=seed):
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
        ("permute", {"seed": 0, "uniform": True}, "uniform is True"),
    ],
)
def test_bad_changes_are_refused(net, how, more, message):
    before = state(net)
    with pytest.raises(ValueError, match=message), lesions.perturbed(net, PICKED, how, **more):
        pass
    assert same(before, net.state_dict())


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
    for layer in {u.layer for u in tracing.channels(net)}:
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


def test_thinning_spares_the_share_asked_for(net):
    full = lesions.weights_beyond(net, 0.5)
    thin = lesions.weights_beyond(net, 0.5, spare=0.8, seed=0)
    assert all(bool((full[name] | ~thin[name]).all()) for name in full)
    chosen, left = (sum(int(m.sum()) for m in masks.values()) for masks in (full, thin))
    # five standard deviations of the binomial of p = 0.2
    assert abs(left - 0.2 * chosen) < 5 * (0.16 * chosen) ** 0.5


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("zero", {}),
        ("random_init", {"scale": 0.02, "seed": 0, "uniform": True}),
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
            assert 0 <= float(values.min()) and 0.018 < float(values.max()) < 0.02
    assert same(before, net.state_dict())


def test_bad_masks_are_refused(net):
    for arguments, message in (
        ({"fraction": 1.1}, "fraction is 1.1"),
        ({"fraction": 0.1, "spare": -0.1, "seed": 0}, "spare is -0.1"),
        ({"fraction": 0.1, "side": "middle"}, "side is 'middle'"),
        ({"fraction": 0.1, "parameters": "norms"}, "parameters is 'norms'"),
        ({"fraction": 0.1, "side": "random"}, "seed is None"),
        ({"fraction": 0.1, "seed": 0}, "seed is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lesions.weights_beyond(net, **arguments)
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


# -- evaluation and census -------------------------------------------------------------------------


def naive(net, images, units):
    logits = []
    for unit in units:
        with lesions.perturbed(net, [unit], "zero"):
            logits.append(tracing.evaluate(net, images))
    return torch.stack(logits)


def a_few(units, every):
    return units[::-every]  # all layers, in no order of the network's


def test_evaluate_is_a_forward_pass_in_eval_mode(net):
    images = draw_images(5)
    expected = net(images)
    net.train()
    assert torch.allclose(tracing.evaluate(net, images, batch=2), expected, atol=1e-6)
    assert net.training


def test_census_is_the_naive_loop(net):
    images, units = draw_images(7), a_few(tracing.channels(net), 5)
    expected = naive(net, images, units)
    assert float((expected - tracing.evaluate(net, images)).abs().max()) > 0.01
    found = census.census(net, images, units, batch=4)
    assert found.shape == (34, 7, 2) and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)
    half = census.census(net, images, units, dtype=torch.float16)
    assert half.dtype == torch.float16 and torch.allclose(half.float(), expected, atol=2e-3)


def test_census_of_all_filters_in_channels_last(net):
    net.to(memory_format=torch.channels_last)
    images = draw_images(2).contiguous(memory_format=torch.channels_last)
    expected = naive(net, images, tracing.channels(net))
    assert torch.allclose(census.census(net, images), expected, atol=1e-5)


class InPlace(nn.Module):
    """Writes over the outputs of its convolutions with what is not the same when done twice."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.kind, self.head = nn.Conv2d(3, 8, 1), kind, nn.Linear(8, 2)
        self.act = nn.LeakyReLU(0.5, inplace=True)

    def forward(self, x):
        x = self.conv(x)
        if self.kind == "module":
            x = self.act(x)
        elif self.kind == "function":
            x = functional.leaky_relu(x, 0.5, inplace=True)
        else:
            x = x.sub_(1.0).abs_()
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("kind", ["module", "function", "method"])
def test_census_is_not_misled_by_writing_in_place(kind):
    torch.manual_seed(0)
    net, images = InPlace(kind).eval(), draw_images(3, 4) - 0.5
    found = census.census(net, images)
    assert torch.allclose(found, naive(net, images, tracing.channels(net)), atol=1e-6)


def test_census_of_torchvisions_resnet():
    net = lively(models.resnet(18, 2, stem="small", width=8, seed=0))
    images, units = draw_images(3, 16), a_few(tracing.channels(net), 29)
    found = census.census(net, images, units)
    assert torch.allclose(found, naive(net, images, units), atol=1e-5)


def test_census_of_hidden_units_and_of_filters_with_biases(vit, cnn):
    for model, images, units in (
        (vit, draw_images(5), a_few(tracing.hidden_units(vit), 17)),
        (cnn, draw_images(5, 8, dtype=torch.float64), tracing.channels(cnn)),
        (cnn, draw_images(5, 8, dtype=torch.float64), a_few(tracing.hidden_units(cnn), 40)),
    ):
        found = census.census(model, images, units)
        assert torch.allclose(found.double(), naive(model, images, units).double(), atol=1e-5)
        assert float(found.std(0).max()) > 1e-4  # the lesions differ


def test_dead_filters_have_no_effect(net):
    images = draw_images(4)
    for layer in ("1", "5.conv1", "6.downsample.0"):
        net.get_submodule(layer).weight.data[3] = 0
        found = census.census(net, images, [Unit(layer, 3)])
        assert torch.allclose(found[0], tracing.evaluate(net, images), atol=1e-6)
        assert torch.equal(naive(net, images, [Unit(layer, 3)])[0], tracing.evaluate(net, images))


class Twice(nn.Module):
    """One convolution used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.conv(self.conv(x)).mean((2, 3)))


class Overwriting(Twice):
    """Relies on a result that is written in place and not returned."""

    def forward(self, x):
        x = self.conv(x)
        x.mul_(3.0)
        return self.head(x.mean((2, 3)))


def test_networks_that_a_census_would_get_wrong_are_refused():
    with pytest.raises(ValueError, match="'conv' is used 2 times"):
        census.census(Twice(), draw_images(2, 4))
    with pytest.raises(ValueError, match="cannot be traced"):
        census.census(Overwriting(), draw_images(2, 4))


# -- controls --------------------------------------------------------------------------------------


def test_the_matched_shift_has_the_lesions_mean_margin_and_is_constant():
    draw = torch.Generator().manual_seed(0)
    before, after = (torch.randn(50, 2, generator=draw) * 3 for _ in range(2))
    shifted = lesions.shift_matched(before, after)
    margin = [float((x[:, 1] - x[:, 0]).mean()) for x in (before, after, shifted)]
    assert margin[2] == pytest.approx(margin[1], abs=1e-5) and abs(margin[0] - margin[1]) > 0.1
    moved = (shifted - before)[:, 1] - (shifted - before)[:, 0]
    assert float(moved.std()) < 1e-6
    for bad in (after[:9], after[:, :1], after[:0]):
        with pytest.raises(ValueError, match="expected"):
            lesions.shift_matched(before if len(bad) else bad, bad)


def balanced(margins, labels, groups, offset):
    right = torch.stack([torch.zeros(len(margins)).double(), margins.double() + offset], 1)
    return metrics.accuracy_by_group(right, labels, groups).mean()


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


def test_copies_are_left_alone_by_the_census(net):
    before, twin = state(net), copy.deepcopy(net)
    census.census(net, draw_images(2), tracing.channels(net)[:3])
    assert same(before, net.state_dict())
    assert torch.equal(net(draw_images(2)), twin(draw_images(2)))
