"""The law image by image: on digits and on cores of other laws, and where it ends."""

import numpy as np
import pytest
import torch

from helpers import kernels, theory
from helpers.experiments.framed.staircase import remembered
from helpers.kernels import alignment


def sphere(n, dim, draw, spectrum=1.0):
    x = torch.randn(n, dim, generator=draw, dtype=torch.float64) * spectrum
    return x * (dim**0.5 / x.norm(dim=1, keepdim=True))


def measured(x, dy, activation, query, draw, frames=2, cores=40, new=None):
    """Mean F of each sample over draws of the background and, for `resample`, of a core."""
    found = 0
    for _ in range(frames):
        y = sphere(len(x), dy, draw)
        Z = torch.cat([x, y], 1)
        fitted = alignment.interpolate(kernels.infinite_width(Z, activation=activation))
        many = [torch.zeros_like(x)] if query == "zero" else [
            new(draw).expand(len(x), -1) for _ in range(cores)
        ]  # fmt: skip
        for core in many:
            block = kernels.infinite_width(torch.cat([core, y], 1), Z, activation=activation)
            found = found + fitted.alignment(block) / (frames * len(many))
    return found.numpy()


@pytest.mark.parametrize(("pair", "activation", "border"), [
    ("4 vs 9", "relu", 10), ("3 vs 5", "phi4", 6), ("1 vs 7", "tanh", 3),
])  # fmt: skip
def test_the_pictures_say_whose_frame_is_remembered(pair, activation, border):
    found = remembered(pair, activation, border, 200, 3)
    assert np.corrcoef(found.predicted, found.measured)[0, 1] > 0.93
    assert float(found.predicted.mean()) == pytest.approx(float(found.measured.mean()), rel=0.01)
    assert np.polyfit(found.predicted, found.measured, 1)[0] == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("query", "least"), [("zero", 0.9), ("resample", 0.8)])
def test_cores_of_a_steep_spectrum(query, least):
    draw = torch.Generator().manual_seed(0)
    spectrum = 1 / torch.arange(1, 101, dtype=torch.float64)
    x = sphere(150, 100, draw, spectrum)
    law = theory.alignment_by_image(x.numpy(), activation="relu", spurious_dim=200, query=query)
    F = measured(x, 200, "relu", query, draw, new=lambda draw: sphere(1, 100, draw, spectrum))
    assert law.mean() == pytest.approx(F.mean(), rel=0.02)
    assert np.corrcoef(law, F)[0, 1] > least


@pytest.mark.parametrize("query", theory.QUERIES)
@pytest.mark.parametrize("activation", ["relu", "phi2", torch.sin])
def test_its_mean_is_the_law_for_all_cores(activation, query):
    x = sphere(120, 80, torch.Generator().manual_seed(1))
    law = theory.alignment_by_image(x.numpy(), activation=activation, spurious_dim=120, query=query)
    whole = theory.gamma_rf_cores(activation, (x @ x.T / 80).numpy(), 0.6, 120, query)
    assert law.mean() == pytest.approx(whole, rel=0.01)


def test_it_follows_its_images_and_ignores_directions():
    draw = torch.Generator().manual_seed(2)
    x = sphere(50, 30, draw).numpy()
    order = np.random.default_rng(0).permutation(50)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))
    given = dict(activation="relu", spurious_dim=60)
    law = theory.alignment_by_image(x, **given)
    assert theory.alignment_by_image(x[order], **given) == pytest.approx(law[order], rel=1e-6)
    assert theory.alignment_by_image(x @ turn, **given) == pytest.approx(law, rel=1e-6)


def test_it_ends_where_frames_are_explained_to_second_order():
    """Past dy^2/2 samples the staircase is right, and this law, of first order in v, is not."""
    x = sphere(700, 20, torch.Generator().manual_seed(3))
    law = theory.alignment_by_image(x.numpy(), activation="relu", spurious_dim=20).mean()
    stairs = theory.gamma_staircase("relu", 0.5, 700, 40, "zero")
    assert law > 1.1 * stairs


@pytest.mark.parametrize(
    ("cores", "spurious_dim", "message"),
    [
        (np.ones(4), 5, "cores have shape"),
        (np.ones((0, 4)), 5, "cores have shape"),
        (2 * np.ones((3, 4)), 5, "normalised cores"),
        (np.full((3, 4), np.nan), 5, "finite"),
        (np.ones((1, 4)), 5, "N > 1"),
        (np.ones((3, 4)), 0, "spurious_dim is 0"),
    ],
)
def test_bad_arguments_are_named(cores, spurious_dim, message):
    with pytest.raises(ValueError, match=message):
        theory.alignment_by_image(cores, activation="relu", spurious_dim=spurious_dim)
