"""The refitted last layer against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from helpers import remedies
from helpers.data import Grouped
from helpers.remedies.last_layer import best_strength


@pytest.mark.parametrize("draws", [1, 4])
def test_the_last_layer_is_the_mean_of_direct_fits(draws, images, network):
    net, sample = network().eval(), images((10, 10, 10, 10))  # balanced: all draws are all samples
    got = remedies.last_layer_retraining(net, sample, seed=0, draws=draws, strength=0.7)
    with torch.no_grad():
        x = net[:-1](sample.images).double().numpy()
        outputs = got(sample.images)
    x = StandardScaler().fit_transform(x)
    fit = LogisticRegression(C=0.7, tol=1e-10, max_iter=10_000).fit(x, sample.label.numpy())
    assert np.allclose(outputs.softmax(1)[:, 1], fit.predict_proba(x)[:, 1], atol=2e-3)
    assert not torch.equal(got[8].weight, net[8].weight) and torch.equal(
        got[0].weight, net[0].weight
    )


def test_draws_have_as_many_of_every_group(monkeypatch, images, network):
    seen, real = [], Grouped.draw

    def watch(self, counts, seed):
        seen.append(real(self, counts, seed))
        return seen[-1]

    monkeypatch.setattr(Grouped, "draw", watch)
    one, again, other = (
        remedies.last_layer_retraining(network(), images(), seed=seed, draws=3)
        for seed in (0, 0, 1)
    )
    assert [part.counts() for part in seen] == [(4, 4, 4, 4)] * 9
    assert not torch.equal(seen[0].images, seen[1].images)
    assert torch.equal(one[8].weight, again[8].weight)
    assert not torch.equal(one[8].weight, other[8].weight)


def test_the_strength_is_chosen_on_the_other_half(images):
    # the label is one coordinate, amid noise that a weak penalty fits
    sample = images((100, 100, 100, 100))
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 180, generator=draw, dtype=torch.float64)
    x[:, 0] += 4 * sample.label
    features = replace(sample, images=x)
    for strengths in ((1e4, 1e-2), (1e-2, 1e4)):
        assert best_strength(features, strengths, seed=0) == 1e-2
    assert best_strength(features, (1e4, 1e-9), seed=0) == 1e4  # penalised to one class


@pytest.mark.parametrize(
    "settings", [{"draws": 0}, {"draws": 1.5}, {"strength": 0.0}, {"strength": []}]
)
def test_bad_fits_are_refused(settings, images, network):
    with pytest.raises(ValueError, match="is .*: it must be"):
        remedies.last_layer_retraining(network(), images(), seed=0, **settings)


def test_a_frozen_last_layer_is_not_fitted(images, network):
    net = network()
    net[8].bias.requires_grad_(False)
    with pytest.raises(ValueError, match="the last layer is frozen"):
        remedies.last_layer_retraining(net, images(), seed=0)
