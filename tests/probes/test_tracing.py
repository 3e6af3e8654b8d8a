"""Rankings of units against autograd, brute force and torch's own folding."""

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

from helpers import models, probes
from helpers.probes import Unit, tracing


def draw_images(n, size=32, seed=0, dtype=torch.float32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_labels(n, seed=0):
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed))


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def by_unit(ranking):
    return dict(zip(ranking.units, ranking.scores.tolist(), strict=True))


def loss_of(net, images, labels, double_softmax=False):
    def loss(parameters):
        logits = functional_call(net, parameters, (images,))
        return functional.cross_entropy(logits.softmax(1) if double_softmax else logits, labels)

    return loss


def test_no_more_units_than_there_are(net):
    ranking = tracing.magnitude(net, probes.channels(net))
    assert len(ranking.top(168)) == 168
    for k in (0, 169):
        with pytest.raises(ValueError, match=f"k is {k}: the ranking has 168"):
            ranking.top(k)


def test_hardest_are_those_with_the_least_probability(net):
    images, labels = draw_images(40), draw_labels(40)
    logits = net(images).detach().double()
    probability = logits.softmax(1)[torch.arange(40), labels].numpy()
    expected = np.argsort(probability, kind="stable")
    assert tracing.hardest(net, images, labels, n=7).tolist() == expected[:7].tolist()
    assert tracing.hardest(net, images, labels).tolist() == expected.tolist()  # fewer than 200


def test_the_hardest_are_200_and_may_be_one():
    logits = torch.stack([torch.arange(250.0), torch.zeros(250)], 1)
    found = tracing.hardest(nn.Identity(), logits, torch.zeros(250).long())
    assert found.tolist() == list(range(200))
    assert tracing.hardest(nn.Identity(), logits, torch.zeros(250).long(), n=1).tolist() == [0]


def test_confident_samples_are_told_apart():
    logits = torch.tensor([[25.0, 0.0], [24.0, 0.0], [26.0, 0.0]])
    assert tracing.hardest(nn.Identity(), logits, torch.zeros(3).long(), n=3).tolist() == [1, 0, 2]


@pytest.mark.parametrize("double_softmax", [False, True])
def test_gradient_is_the_norm_of_each_filters_gradient(cnn, double_softmax):
    images, labels = draw_images(300, 8, dtype=torch.float64), draw_labels(300)  # two batches
    units = probes.channels(cnn)
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
    plain = tracing.gradient(cnn, units, images, labels)  # the loss of the text, unless asked
    assert torch.equal(plain.scores, ranking.scores) != double_softmax


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_batch_does_not_matter(seed):
    cnn = models.small_cnn(3, 8, 2, seed=0).double()
    images, labels = draw_images(20, 8, dtype=torch.float64), draw_labels(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    units = probes.channels(cnn)
    for rank in (tracing.gradient, tracing.gradient_times_weight):
        one, other = (
            rank(cnn, units, images, labels),
            rank(cnn, units, images[order], labels[order]),
        )
        assert one.units == other.units and torch.allclose(one.scores, other.scores)


def test_gradient_times_weight_is_the_slope_of_the_loss_towards_zero(cnn):
    images, labels = draw_images(30, 8, dtype=torch.float64), draw_labels(30)
    found = by_unit(tracing.gradient_times_weight(cnn, probes.channels(cnn), images, labels))
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
    tracing.gradient(net, probes.channels(net), draw_images(4), draw_labels(4))
    tracing.activation_difference(net, [Unit("1", 0)], draw_images(4), draw_images(3, seed=1))
    assert same(before, net.state_dict())
    assert net.training and net[4].bn1.training and not net[2].training


def test_magnitude_and_its_ties(net):
    units = probes.channels(net)
    found = by_unit(tracing.magnitude(net, units))
    for unit in units:
        expected = np.linalg.norm(net.get_parameter(f"{unit.layer}.weight").detach()[unit.index])
        assert found[unit] == pytest.approx(float(expected), rel=1e-5)
    for layer in {u.layer for u in units}:
        nn.init.constant_(net.get_submodule(layer).weight, 0.0)
    assert list(tracing.magnitude(net, units[::-1]).units) == units


def test_folded_norm_is_the_norm_of_the_fused_filter(net):
    units = probes.channels(net)
    found = by_unit(tracing.batchnorm_folded(net, units, draw_images(1)))
    for layer, norm in probes.batchnorms(net, draw_images(1)).items():
        fused = fuse_conv_bn_eval(net.get_submodule(layer), net.get_submodule(norm))
        for index, weight in enumerate(fused.weight.detach()):
            assert found[Unit(layer, index)] == pytest.approx(float(weight.norm()), rel=1e-5)


def test_folded_norm_of_a_normalisation_without_scale():
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=0.1, affine=False)).eval()
    net[1].running_var = 0.5 + torch.rand(8, generator=draw)
    found = by_unit(tracing.batchnorm_folded(net, probes.channels(net), draw_images(1, 8)))
    for index, weight in enumerate(fuse_conv_bn_eval(*net).weight.detach()):
        assert found[Unit("0", index)] == pytest.approx(float(weight.norm()), rel=1e-5)


def test_folded_norm_does_not_see_the_scale_of_a_filter(net):
    units, images = probes.channels(net), draw_images(3)
    before = [by_unit(tracing.batchnorm_folded(net, units, images)), probes.evaluate(net, images)]
    size = by_unit(tracing.magnitude(net, units))
    conv, norm, unit = net[5].conv1, net[5].bn1, Unit("5.conv1", 3)
    with torch.no_grad():
        conv.weight[3] *= 10
        norm.running_mean[3] *= 10
        norm.running_var[3] = 100 * (norm.running_var[3] + norm.eps) - norm.eps
    after = by_unit(tracing.batchnorm_folded(net, units, images))
    assert torch.allclose(probes.evaluate(net, images), before[1], atol=1e-5)  # one function
    assert after == pytest.approx(before[0], rel=1e-5)
    assert by_unit(tracing.magnitude(net, units))[unit] == pytest.approx(10 * size[unit], rel=1e-5)


def test_folding_needs_batch_normalisation(cnn):
    with pytest.raises(ValueError, match="'0' is not followed"):
        tracing.batchnorm_folded(cnn, probes.channels(cnn), draw_images(1, 8, dtype=torch.float64))


def cohens_d(a, b):
    within = (len(a) - 1) * np.var(a, axis=0, ddof=1) + (len(b) - 1) * np.var(b, axis=0, ddof=1)
    return np.abs(a.mean(0) - b.mean(0)) / np.sqrt(within / (len(a) + len(b) - 2))


def test_activation_difference_of_filters(net):
    one, other = draw_images(9), draw_images(7, seed=1) * 0.7
    net[1].weight.data[5] = 0.0  # a dead filter
    stem = net[:3]  # up to and with batch normalisation
    means = [stem(x).detach().double().mean((2, 3)).numpy() for x in (one, other)]
    expected = cohens_d(*(np.delete(x, 5, axis=1) for x in means))
    found = by_unit(tracing.activation_difference(net, probes.channels(net), one, other))
    assert found.pop(Unit("1", 5)) == 0.0
    assert [found[Unit("1", i)] for i in (0, 1, 2, 3, 4, 6, 7)] == pytest.approx(
        expected.tolist(), rel=1e-4
    )
    for sets in ((one, other[:1]), (one[:1], other)):
        with pytest.raises(ValueError, match="two each"):
            tracing.activation_difference(net, probes.channels(net), *sets)
    few = by_unit(tracing.activation_difference(net, [Unit("1", 2)], one[:2], other[:2]))
    expected = cohens_d(*(x[:2, 2] for x in means))
    assert few[Unit("1", 2)] == pytest.approx(float(expected), rel=1e-3)


def test_activation_difference_of_hidden_units_is_over_tokens():
    draw = torch.Generator().manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    one, other = (torch.randn(n, 5, 4, generator=draw) + n for n in (6, 8))
    means = [plain[0](x).detach().double().mean(1).numpy() for x in (one, other)]
    found = by_unit(tracing.activation_difference(plain, probes.hidden_units(plain), one, other))
    values = [found[Unit("0", i)] for i in range(8)]
    assert values == pytest.approx(cohens_d(*means).tolist(), rel=1e-4)


def test_random_rankings_repeat_and_differ(net):
    units = probes.channels(net)
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
    assert sorted(tracing.layer_matched(AMONG[::-1], AMONG, seed=0)) == AMONG  # all there are
    with pytest.raises(ValueError, match="among has 0 units of layer 'd': 1"):
        tracing.layer_matched([Unit("d", 0)], AMONG, seed=0)


def test_greedy_takes_the_best_of_each_step(cnn):
    rare = (draw_images(10, 8, dtype=torch.float64), draw_labels(10))
    common = (draw_images(20, 8, seed=1, dtype=torch.float64), draw_labels(20, seed=1))
    units, before = probes.channels(cnn), state(cnn)
    found = tracing.greedy(cnn, units, rare, common, 3)
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
    every = tracing.greedy(cnn, units[:2], rare, common, 2)
    assert set(every.units) == set(units[:2]) and every.scores.shape == (2,)
    for k in (0, 49):
        with pytest.raises(ValueError, match=f"k is {k}: there are 48"):
            tracing.greedy(cnn, units, rare, common, k)


def test_a_frozen_network_is_ranked_as_any_other():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    images, labels = torch.rand(8, 1, 6, 6), torch.arange(8) % 2
    expected = tracing.gradient(net, probes.channels(net), images, labels)
    found = tracing.gradient(net.requires_grad_(False), probes.channels(net), images, labels)
    assert found.units == expected.units and torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], "labels has 2: allowed is 0 and 1"),
        ([0, -100], "labels has -100"),  # which torch would leave out
        ([[0.5, 0.5], [1.0, 0.0]], r"labels \(2, 2\)"),  # which torch takes for probabilities
        ([[0], [1]], r"labels \(2, 1\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(net, labels, message):
    units, given = probes.channels(net), (draw_images(2), torch.tensor(labels))
    for call in (tracing.hardest, lambda *_: tracing.gradient(net, units, *given)):
        with pytest.raises(ValueError, match=message):
            call(net, *given)


def test_a_network_that_diverged_has_no_hardest_samples(net):
    net[1].weight.data.fill_(float("nan"))
    for call in (tracing.hardest, lambda *given: tracing.gradients(given[0], ["1"], *given[1:])):
        with pytest.raises(ValueError, match="finite"):
            call(net, draw_images(2), draw_labels(2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_labels_of_any_type_are_labels(dtype):
    net, x, y = (
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)),
        torch.rand(4, 2),
        torch.arange(4) % 2,
    )
    assert torch.equal(tracing.hardest(net, x, y.to(dtype)), tracing.hardest(net, x, y))
    found = tracing.gradients(net, ["0"], x, y.to(dtype))
    assert torch.equal(found["0"], tracing.gradients(net, ["0"], x, y)["0"])
