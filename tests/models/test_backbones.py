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
