"""Images that lose pixels, and one network that is asked about all of them."""

import math

import pytest
import torch

from helpers.experiments.rare.pixel_removal import pixel_removal, remove_pixels
from helpers.sweep import Call


def test_removed_pixels_are_gone_from_all_channels():
    images = torch.rand(200, 3, 28, 28) + 0.5
    shown = remove_pixels(images, 0.3, seed=0)
    gone = shown == 0
    assert torch.equal(gone.any(1), gone.all(1)), "a pixel goes in all channels at once"
    assert torch.equal(shown[~gone], images[~gone])
    # five standard deviations of the mean over independent pixels
    assert abs(float(gone.double().mean()) - 0.3) < 5 * math.sqrt(0.21 / (200 * 784))
    assert not torch.equal(gone[0], gone[1]), "each image loses pixels of its own"


def test_none_and_all_pixels_removed():
    images = torch.rand(5, 1, 28, 28) + 0.5
    assert torch.equal(remove_pixels(images, 0, seed=0), images)
    assert not remove_pixels(images, 1, seed=0).any()


def test_more_removed_pixels_include_the_fewer_ones():
    images = torch.ones(5, 1, 28, 28)
    few, many = (remove_pixels(images, share, seed=3) for share in (0.2, 0.6))
    assert bool((many <= few).all()) and not torch.equal(few, many)
    assert not torch.equal(remove_pixels(images, 0.2, seed=4), few)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan])
def test_a_share_of_pixels_outside_its_range(share):
    with pytest.raises(ValueError, match="allowed is 0 to 1"):
        remove_pixels(torch.ones(1, 1, 2, 2), share, seed=0)


def test_pixel_removal_asks_one_network_at_every_level(built):
    cell = dict(dataset="mnist5k", samples=600, network="small mlp", epochs=2, trial=0,
                device="cpu", data_dir=None)  # fmt: skip
    calls = [Call(cell, removed=share) for share in (0.0, 0.5, 1.0)]
    rows = pixel_removal(calls)
    assert built == ["small mlp"]
    probabilities = [row["true_probability"] for row in rows]
    assert probabilities[0] > 0.5 and probabilities[0] > probabilities[1] > probabilities[2]
    (alone,) = pixel_removal(calls[1:2])
    assert alone["true_probability"] == pytest.approx(probabilities[1], abs=1e-3)
