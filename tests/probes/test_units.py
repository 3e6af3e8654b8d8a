"""Lists of units, and their activations, against the networks' own modules."""

from collections import Counter

import pytest
import torch
from torch import nn

from helpers import models, probes
from helpers.probes import Unit, census, tracing


def draw_images(n, size=32, seed=0, dtype=torch.float32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_labels(n, seed=0):
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed))


def test_channels_come_in_the_order_of_the_network(net):
    units = probes.channels(net)
    assert Counter(u.layer for u in units) == {
        "1": 8, "4.conv1": 8, "4.conv2": 8, "5.conv1": 16, "5.conv2": 16, "5.downsample.0": 16,
        "6.conv1": 32, "6.conv2": 32, "6.downsample.0": 32,
    }  # fmt: skip
    assert units[:9] == [*[Unit("1", i) for i in range(8)], Unit("4.conv1", 0)]
    assert [u for u in units if u.layer == "5.conv1"] == [Unit("5.conv1", i) for i in range(16)]


def test_hidden_units_of_transformers_and_perceptrons(vit):
    blocks = Counter(u.layer for u in probes.hidden_units(vit))
    assert blocks == {f"1.encoder.layers.encoder_layer_{i}.mlp.0": 64 for i in range(4)}
    plain = models.fully_connected(4, (8, 6), 2, seed=0)
    assert Counter(u.layer for u in probes.hidden_units(plain)) == {"1": 8, "3": 6}


def test_networks_without_units_are_refused(net):
    with pytest.raises(ValueError, match="no convolution"):
        probes.channels(models.fully_connected(4, (8,), 2, seed=0))
    with pytest.raises(ValueError, match="1 linear layers"):
        probes.hidden_units(nn.Sequential(nn.Linear(3, 2)))
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


def test_empty_groups_are_refused(net):
    nothing, labels, units = draw_images(4)[:0], torch.zeros(0).long(), probes.channels(net)
    few = (draw_images(2), draw_labels(2))
    for call in (
        lambda: tracing.hardest(net, nothing, labels),
        lambda: tracing.gradient(net, units, nothing, labels),
        lambda: tracing.gradient_times_weight(net, units, nothing, labels),
        lambda: tracing.greedy(net, units, (nothing, labels), few, 1),
        lambda: tracing.greedy(net, units, few, (nothing, labels), 1),
        lambda: probes.evaluate(net, nothing),
        lambda: census.census(net, nothing),
        lambda: tracing.batchnorm_folded(net, units, nothing),
    ):
        with pytest.raises(ValueError, match="empty"):
            call()
    with pytest.raises(ValueError, match=r"2 images, and labels \(3,\)"):
        tracing.gradient(net, units, few[0], draw_labels(3))
    with pytest.raises(ValueError, match="n is 0"):
        tracing.hardest(net, *few, n=0)


def test_the_batch_normalisation_of_each_convolution_is_found(net):
    assert probes.batchnorms(net, draw_images(1)) == {
        "1": "2", "4.conv1": "4.bn1", "4.conv2": "4.bn2", "5.conv1": "5.bn1", "5.conv2": "5.bn2",
        "5.downsample.0": "5.downsample.1", "6.conv1": "6.bn1", "6.conv2": "6.bn2",
        "6.downsample.0": "6.downsample.1",
    }  # fmt: skip


def test_evaluate_is_a_forward_pass_in_eval_mode(net):
    images = draw_images(5)
    expected = net(images)
    net.train()
    assert torch.allclose(probes.evaluate(net, images, batch=2), expected, atol=1e-6)
    assert net.training


def test_units_are_grouped_by_layer_in_the_order_of_the_network(net):
    some = [Unit("6.conv1", 3), Unit("1", 7), Unit("6.conv1", 0), Unit("1", 0)]
    found = probes.by_layer(net, some)
    assert list(found.items()) == [("1", [0, 7]), ("6.conv1", [0, 3])]
    assert probes.by_layer(net, []) == {}


def test_activations_are_means_over_positions_behind_the_normalisation(net, cnn):
    images = draw_images(6)
    behind = net[:3](images).detach().double()  # the stem: convolution and batch normalisation
    found = probes.activations(net, ["1", "6.conv2"], images)
    assert {layer: tuple(x.shape) for layer, x in found.items()} == {
        "1": (6, 8),
        "6.conv2": (6, 32),
    }
    assert torch.allclose(found["1"], behind.mean((2, 3)), atol=1e-6)
    images = images[..., :8, :8].double()
    plain = cnn[0](images).detach()  # no normalisation, and before the non-linearity
    assert float(plain.min()) < 0
    assert torch.allclose(probes.activations(cnn, ["0"], images)["0"], plain.mean((2, 3)))
