"""Networks that saw ImageNet: their weights, their scaling of pixels."""

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
