"""Networks that saw ImageNet: their weights, their scaling of pixels."""

import os
import pickle

import pytest
import torch

from helpers import models


def test_resnet50_has_the_given_weights_and_a_new_last_layer(monkeypatch):
    from torchvision.models import _api, resnet50

    given_weights = resnet50(weights=None).state_dict()
    monkeypatch.setattr(_api, "load_state_dict_from_url", lambda *_, **__: given_weights)
    made = models.resnet50(60)
    found = made[1].state_dict()
    assert found.pop("fc.weight").shape == (60, 2048) and len(found.pop("fc.bias")) == 60
    assert all(torch.equal(value, given_weights[name]) for name, value in found.items())
    assert sum(p.numel() for p in made.parameters()) == 25_557_032 - 940 * 2_049


class Intruder:
    """A pickle of it would make a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_planted_file_of_weights_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints/resnet50-0676ba61.pth"
    file.parent.mkdir(parents=True)
    torch.save(Intruder(tmp_path / "made"), file)
    planted = file.read_bytes()
    torch.save({"fc.bias": torch.zeros(3)}, file)
    wrong = file.read_bytes()
    torch.save([torch.zeros(3)], file)
    for content in (planted, pickle.dumps(Intruder(tmp_path / "made"), 2), b"", wrong,
                    file.read_bytes()):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"resnet50-0676ba61.pth does not hold the weights"):
            models.resnet50(60)
    assert not (tmp_path / "made").exists()


def test_features_are_those_under_the_packages_own_answers(capsys):
    net = models.efficientnet_lite0()
    assert capsys.readouterr().out == ""
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        features = net(pixels)
        # (x - 127) / 128 is the input that the published weights of this family were made for
        answers = net.net((pixels - 127) / 128)
        torch.testing.assert_close(net.net._fc(features), answers)
    assert features.shape == (2, 1280) and not net.training


def test_the_network_to_be_tuned_says_what_its_features_say():
    net = models.tunable_lite0(2, seed=0).eval()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = models.efficientnet_lite0()(255 * images)
        expected = features @ net[-1].weight.T + net[-1].bias
        assert torch.allclose(net(images), expected, atol=1e-4)
        small = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        large = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear")
        assert torch.allclose(net(small), net(large), atol=1e-4)


def test_all_of_it_can_be_tuned_and_nothing_is_drawn():
    net = models.tunable_lite0(2, seed=3, size=32).train()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, again = net(images), net(images)
    assert torch.equal(one, again), "no branch is left out at random"
    one.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.out_channels for m in convolutions) == 21_008
    assert not any(next(m.children(), None) for m in convolutions)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {0.1}


def test_the_seed_is_of_the_last_layer_alone():
    state = torch.get_rng_state()
    a, b, c = (models.tunable_lite0(2, seed=s, size=32).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    other = [name for name in a if not torch.equal(a[name], c[name])]
    assert other == ["2.weight", "2.bias"]
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("size", [0, 31, 48, -32])
def test_sizes_with_other_frames_are_refused(size):
    with pytest.raises(ValueError, match="a positive multiple of 32"):
        models.tunable_lite0(2, seed=0, size=size)
