"""The census against the naive loop, on all kinds of networks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from helpers import models, probes
from helpers.probes import Unit, census, lesions


def draw_images(n, size=32, seed=0, dtype=torch.float32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def naive(net, images, units):
    logits = []
    for unit in units:
        with lesions.perturbed(net, [unit], "zero"):
            logits.append(probes.evaluate(net, images))
    return torch.stack(logits)


def a_few(units, every):
    return units[::-every]  # all layers, in no order of the network's


def test_census_is_the_naive_loop(net):
    images, units = draw_images(7), a_few(probes.channels(net), 5)
    expected = naive(net, images, units)
    assert float((expected - probes.evaluate(net, images)).abs().max()) > 0.01
    found = census.census(net, images, units, batch=4)
    assert found.shape == (34, 7, 2) and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(
        census.census(net, images, units[::-1]).flip(0), census.census(net, images, units)
    )


def test_census_of_all_filters_in_channels_last(net):
    net.to(memory_format=torch.channels_last)
    images = draw_images(2).contiguous(memory_format=torch.channels_last)
    expected = naive(net, images, probes.channels(net))
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
    assert torch.allclose(found, naive(net, images, probes.channels(net)), atol=1e-6)


def test_census_of_torchvisions_resnet(lively):
    net = lively(models.resnet(18, 2, stem="small", width=8, seed=0))
    images, units = draw_images(3, 16), a_few(probes.channels(net), 29)
    found = census.census(net, images, units)
    assert torch.allclose(found, naive(net, images, units), atol=1e-5)


def test_census_of_hidden_units_and_of_filters_with_biases(vit, cnn):
    for model, images, units in (
        (vit, draw_images(5), a_few(probes.hidden_units(vit), 17)),
        (cnn, draw_images(5, 8, dtype=torch.float64), probes.channels(cnn)),
        (cnn, draw_images(5, 8, dtype=torch.float64), a_few(probes.hidden_units(cnn), 40)),
    ):
        found = census.census(model, images, units)
        assert torch.allclose(found.double(), naive(model, images, units).double(), atol=1e-5)
        assert float(found.std(0).max()) > 1e-4  # the lesions differ


def test_census_of_filters_without_bias_and_without_normalisation():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(32, 4, bias=False), nn.Linear(4, 2)
    )
    images = draw_images(5, 4)
    for units in (probes.channels(net), probes.hidden_units(net)):
        found = census.census(net, images, units)
        assert torch.allclose(found, naive(net, images, units), atol=1e-6)


def test_dead_filters_have_no_effect(net):
    images = draw_images(4)
    for layer in ("1", "5.conv1", "6.downsample.0"):
        net.get_submodule(layer).weight.data[3] = 0
        found = census.census(net, images, [Unit(layer, 3)])
        assert torch.allclose(found[0], probes.evaluate(net, images), atol=1e-6)
        assert torch.equal(naive(net, images, [Unit(layer, 3)])[0], probes.evaluate(net, images))


class Around(nn.Module):
    """What a convolution says goes through the normalisation and past it."""

    def __init__(self, **options):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)
        self.norm = nn.BatchNorm2d(8, **options)

    def forward(self, x):
        x = self.conv(x)
        return self.head((self.norm(x).relu() + x.relu()).mean((2, 3)))


def test_census_of_normalisations_that_cannot_be_folded(lively):
    torch.manual_seed(0)
    images = draw_images(5, 4)
    own = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 2),
    ).eval()  # fmt: skip
    for net in (lively(Around()), own):
        found = census.census(net, images)
        assert torch.allclose(found, naive(net, images, probes.channels(net)), atol=1e-5)


class Twice(nn.Module):
    """One convolution used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.conv(self.conv(x)).mean((2, 3)))


class Overwriting(Twice):
    """Relies on a result that is written in place and not returned."""

    factor = 3.0

    def forward(self, x):
        x = self.conv(x)
        x.mul_(self.factor)
        return self.head(x.mean((2, 3)))


def test_networks_that_a_census_would_get_wrong_are_refused():
    with pytest.raises(ValueError, match="'conv' is used 2 times"):
        census.census(Twice(), draw_images(2, 4))
    with pytest.raises(ValueError, match="cannot be traced"):
        census.census(Overwriting(), draw_images(2, 4))
    torch.manual_seed(0)
    net, images = Overwriting(), draw_images(2, 4)
    net.factor = 1.01  # a thousandth of the logits is too much, rounding is not
    with pytest.raises(ValueError, match="0.00.* off: it cannot be traced"):
        census.census(net, images)
    net.factor = 1 + 1e-6
    census.census(net, images)


def test_the_census_leaves_the_network_alone(net):
    net.train()
    net[2].eval()
    before, twin = state(net), copy.deepcopy(net)
    census.census(net, draw_images(2), probes.channels(net)[:3])
    assert same(before, net.state_dict())
    assert net.training and net[4].bn1.training and not net[2].training
    assert torch.equal(net(draw_images(2)), twin(draw_images(2)))


def test_a_census_of_a_network_that_diverged_is_refused(net):
    net[1].weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="logits of the traced network are nan off"):
        census.census(net, draw_images(2))
