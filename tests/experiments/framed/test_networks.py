"""Trained networks of Part I: what they remember, and which network belongs to which panel."""

import pytest
import torch

from helpers.experiments.framed.networks import network, networks
from helpers.sweep import Call

NETWORK = Call(
    dataset="mnist5k", architecture="fc", scaling="unit", samples=60, test=100, epochs=60,
    stop_loss=1e-2, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


def test_a_network_remembers_its_frames_and_no_others():
    found = networks(NETWORK)
    assert found["train_accuracy"] == 1 and found["spurious_auc"] > 0.95
    assert abs(found["unseen_auc"] - 0.5) < 0.1
    assert found["epochs_run"] < 60 and found["loss"] < 1e-2
    assert networks(NETWORK) == found


def test_a_network_without_an_early_end_runs_its_schedule():
    found = networks(Call(NETWORK, stop_loss=0.0, epochs=3))
    assert found["epochs_run"] == 3


@pytest.mark.parametrize(
    ("architecture", "dataset"),
    [("fc", "gaussian"), ("cnn", "mnist"), ("resnet18", "cifar10"), ("resnet50", "cifar10")],
)
def test_every_panel_has_its_network(architecture, dataset):
    net = network(architecture, dataset, seed=0).eval()
    shape = {"gaussian": (1_000,), "mnist": (1, 48, 48), "cifar10": (3, 48, 48)}[dataset]
    assert net(torch.rand(2, *shape)).shape == (2, 1 if dataset == "gaussian" else 10)
    blocks = sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    assert blocks == {"fc": 0, "cnn": 2, "resnet18": 20, "resnet50": 53}[architecture]


def test_more_images_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="mnist5k has 4000 images in this split, 5000"):
        networks(Call(NETWORK, samples=5_000))
