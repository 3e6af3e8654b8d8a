"""The networks: sizes known from elsewhere, seeds, initial weights, and what does not fit."""

import pytest
import torch

from helpers import models


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_those_of_the_architectures():
    """torchvision's documented counts for 1,000 classes, and a count by hand."""
    assert parameters(models.resnet(18, 1000, seed=0)) == 11_689_512
    assert parameters(models.resnet(50, 1000, seed=0)) == 25_557_032
    conv = (9 + 1) * 16 + (16 * 9 + 1) * 32
    assert parameters(models.small_cnn(1, 48, 10, seed=0)) == conv + (4608 + 1) * 256 + 257 * 10


@pytest.mark.parametrize(
    ("net", "channels"),
    [
        (models.small_cnn(3, 48, 10, seed=0), 3),
        (models.resnet(18, 10, seed=0), 3),
        (models.resnet(18, 10, channels=1, seed=0), 1),
        (models.resnet(18, 10, channels=1, stem="small", seed=0), 1),
    ],
)
def test_images_go_in_and_one_output_a_class_comes_out(net, channels):
    assert net.eval()(torch.rand(2, channels, 48, 48)).shape == (2, 10)


def test_small_stem_keeps_the_resolution():
    net = models.resnet(18, 10, stem="small", seed=0)
    features = net.layer1(net.maxpool(net.bn1(net.conv1(torch.rand(1, 3, 32, 32)))))
    assert features.shape == (1, 64, 32, 32)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, other = (models.fully_connected(5, (4,), 2, seed=s) for s in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_no_hidden_layer_is_a_linear_model():
    net = models.fully_connected(6, (), 1, seed=0)
    x = torch.rand(3, 2, 3)
    assert torch.allclose(net(x), x.flatten(1) @ net[1].weight.T + net[1].bias)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.fully_connected(0, (3,), 1, seed=0), "at least 1"),
        (lambda: models.fully_connected(4, (0,), 1, seed=0), "at least 1"),
        (lambda: models.small_cnn(1, 30, 10, seed=0), "size is 30"),
        (lambda: models.small_cnn(1, 0, 10, seed=0), "size is 0"),
        (lambda: models.resnet(101, 10, seed=0), "depth is 101"),
        (lambda: models.resnet(18, 10, stem="tiny", seed=0), "stem is 'tiny'"),
        (lambda: models.cifar_resnet(18, 10, seed=0), r"depth is 18: allowed is 6 k \+ 2"),
        (lambda: models.cifar_resnet(2, 10, seed=0), "depth is 2"),
        (lambda: models.cifar_resnet(20, 0, seed=0), "at least 1"),
        (lambda: models.cifar_resnet(20, 10, width=0, seed=0), "at least 1"),
        (lambda: models.trades_cnn(0, seed=0), "at least 1"),
        (lambda: models.vgg16(0, seed=0), "at least 1"),
        (lambda: models.small_resnet(2, width=12, seed=0), "width is 12"),
        (lambda: models.small_vit(2, width=30, seed=0), "width is 30"),
        (lambda: models.small_vit(2, patch=5, seed=0), "patch is 5"),
        (lambda: models.Normalise([], []), "one number a channel"),
        (lambda: models.Normalise([0.5], [1.0, 1.0]), r"mean is \(0.5,\) and std is \(1.0, 1.0\)"),
        (lambda: models.Normalise([0.5], [0.0]), "each std above 0"),
        (lambda: models.cifar_resnet(8, 10, seed=0)(torch.rand(2, 1, 32, 32)), r"\(n, 3, h, w\)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# --- the architectures of Yang, Chou & Chaudhuri 2022 -----------------------------------------

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
TABLE_2 = [  # parameters, as printed in the paper
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
    assert parameters(net) == count


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


def test_seed_of_vgg16(monkeypatch):
    """Our part of it, around a small stand-in: the real one takes seconds and half a gigabyte."""

    def stand_in(*, weights, num_classes):
        assert weights is None
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, num_classes))

    monkeypatch.setattr("torchvision.models.vgg16", stand_in)
    first, second, other = (models.vgg16(5, seed=s) for s in (7, 7, 8))
    x = torch.rand(2, 3, 32, 32)
    assert first(x).shape == (2, 5)
    assert torch.equal(first(x), second(x)) and not torch.equal(first(x), other(x))


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


def test_option_a_shortcut_drops_pixels_and_adds_channels_of_zeros():
    net = models.cifar_resnet(8, 10, width=4, seed=0).eval()
    block = net[5]  # first of the second stage
    torch.nn.init.zeros_(block.bn2.weight)  # only the shortcut is left
    x = torch.rand(2, 4, 8, 8)
    out = block(x)
    assert out.shape == (2, 8, 4, 4)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any() and not out[:, 6:].any()


def test_stages_of_a_cifar_resnet():
    net = models.cifar_resnet(14, 10, width=3, seed=0).eval()  # two blocks a stage, odd width
    shapes, x = [], torch.rand(1, 3, 32, 32)
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[4:10] == [(3, 32, 32)] * 2 + [(6, 16, 16)] * 2 + [(12, 8, 8)] * 2


def test_initial_weights_are_kaiming_normal():
    nets = models.cifar_resnet(20, 10, seed=0), models.trades_cnn(10, seed=0)
    kinds = (torch.nn.Conv2d, torch.nn.Linear), (torch.nn.Conv2d,)
    for net, kind in zip(nets, kinds, strict=True):
        for layer in net.modules():
            if isinstance(layer, kind):
                w = layer.weight.detach()
                std = (2 / w[0].numel()) ** 0.5
                assert float(w.std()) == pytest.approx(std, rel=5 / w.numel() ** 0.5)
                assert float(w.abs().max()) > 1.8 * std  # uniform weights end at 1.73


def test_trades_cnn_starts_undecided():
    net = models.trades_cnn(10, seed=0)
    assert not net(torch.rand(3, 1, 28, 28)).any()
    assert all(not layer.bias.any() for layer in net if isinstance(layer, torch.nn.Conv2d))
    assert [layer.p for layer in net if isinstance(layer, torch.nn.Dropout)] == [0.5]


def test_small_networks_of_the_minority_chapters():
    """Filters, and the order and shapes of the stages; transformers as torchvision counts them."""
    net = models.small_resnet(2, seed=0)
    assert [p.shape[0] for p in net.parameters() if p.ndim == 4] == [16] * 3 + [32] * 3 + [64] * 3
    x, shapes = torch.rand(2, 3, 32, 32), []
    for layer in net.eval():
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[3:7] == [(16, 16, 16)] * 2 + [(32, 8, 8), (64, 4, 4)] and shapes[-1] == (2,)
    vit = models.small_vit(2, seed=0)
    block = 4 * 64**2 + 4 * 64 + 2 * 256 * 64 + 256 + 64 + 4 * 64  # attention, perceptron, norms
    patches = 3 * 16 * 64 + 64 + 64 + 65 * 64  # patches, class token, positions
    assert parameters(vit) == 4 * block + patches + 2 * 64 + 2 * 64 + 2
    assert bool(vit(torch.rand(2, 3, 32, 32)).any())  # its head does not start at zero
