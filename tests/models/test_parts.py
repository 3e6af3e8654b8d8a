"""What networks share: printed sizes, seeds, first weights, and the normalising first layer."""

import pytest
import torch

from helpers import models

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
TABLE_2 = [  # parameters, as printed by Yang, Chou & Chaudhuri 2022
    (lambda seed: models.fully_connected(784, (256,), 10, seed=seed), GREY, 203_530),
    (lambda seed: models.fully_connected(784, (256,) * 3, 10, seed=seed), GREY, 335_114),
    (lambda seed: models.fully_connected(784, (512,) * 3, 10, seed=seed), GREY, 932_362),
    (lambda seed: models.trades_cnn(10, seed=seed), GREY, 312_202),
    (lambda seed: models.cifar_resnet(20, 10, seed=seed), COLOUR, 269_722),
    (lambda seed: models.cifar_resnet(32, 10, seed=seed), COLOUR, 464_154),
    (lambda seed: models.cifar_resnet(110, 10, seed=seed), COLOUR, 1_727_962),
    (lambda seed: models.vgg16(10, seed=seed), COLOUR, 134_301_514),
]
NAMES = ["small MLP", "MLP", "large MLP", "CNN", "ResNet20", "ResNet32", "ResNet110", "Vgg16"]


@pytest.mark.parametrize(("build", "shape", "count"), TABLE_2, ids=NAMES)
def test_table_2_counts_and_outputs(build, shape, count):
    with torch.device("meta"):  # shapes without numbers: Vgg16 has half a gigabyte of them
        net = build(0)
        assert net(torch.rand(2, *shape)).shape == (2, 10)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(("build", "shape", "count"), TABLE_2[3:6], ids=NAMES[3:6])
def test_table_2_networks_answer_and_their_seed_sets_all_weights(build, shape, count):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, other = (build(seed).eval() for seed in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs)
    outputs = first(torch.rand(4, *shape))
    assert outputs.shape == (4, 10) and outputs.isfinite().all()


@pytest.mark.parametrize(
    ("net", "kinds"),
    [
        (models.trades_cnn(10, seed=0), torch.nn.Conv2d),  # its last layer starts at zero
        (models.cifar_resnet(20, 10, seed=0), (torch.nn.Conv2d, torch.nn.Linear)),
    ],
)
def test_initial_weights_are_kaiming_normal(net, kinds):
    for layer in net.modules():
        if isinstance(layer, kinds):
            w = layer.weight.detach()
            std = (2 / w[0].numel()) ** 0.5
            assert float(w.std()) == pytest.approx(std, rel=5 / w.numel() ** 0.5)
            assert float(w.abs().max()) > 1.8 * std  # uniform weights end at 1.73


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, other = (models.fully_connected(5, (4,), 2, seed=s) for s in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


@pytest.mark.parametrize(
    "build", [lambda: models.cifar_resnet(8, 10, seed=0), lambda: models.vgg16(10, seed=0)]
)
def test_colour_networks_normalise_first(build):
    with torch.device("meta"):
        first = next(build().children())
    assert isinstance(first, models.Normalise) and not list(first.parameters())
    assert set(first.state_dict()) == {"mean", "std"}


def test_normalise_centres_each_channel():
    x = torch.rand(50, 3, 8, 8, dtype=torch.float64)
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    layer = models.Normalise(mean.tolist(), std.tolist())
    z = layer(x)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(3, dtype=z.dtype), atol=1e-6)
    assert torch.allclose(z.std((0, 2, 3), correction=0), torch.ones(3, dtype=z.dtype), atol=1e-6)
    black = models.Normalise(models.CIFAR_MEAN, models.CIFAR_STD)(torch.zeros(1, 3, 1, 1))
    expected = [-0.4914 / 0.2023, -0.4822 / 0.1994, -0.4465 / 0.2010]
    assert black.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.Normalise([], []), "one number a channel"),
        (lambda: models.Normalise([0.5], [1.0, 1.0]), r"mean is \(0.5,\) and std is \(1.0, 1.0\)"),
        (lambda: models.Normalise([0.5], [0.0]), "each std above 0"),
        (lambda: models.cifar_resnet(8, 10, seed=0)(torch.rand(2, 1, 32, 32)), r"\(n, 3, h, w\)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
