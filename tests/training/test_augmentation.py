"""Random parts of images: where they lie, what they are made of, and the names of augmentations."""

from importlib import import_module

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from helpers import training
from helpers.remedies import Contrast
from helpers.training import Recipe

module = import_module("helpers.training.randomness")  # the door hands on the function of this name
SIDE, MANY = 32, 3_000


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def ramps(n, size=(SIDE, SIDE)):
    """Pictures that show where each of their points lies: across, and down."""
    down, across = torch.meshgrid(*(torch.arange(float(s)) for s in size), indexing="ij")
    return torch.stack([across, down]).expand(n, 2, *size)


def windows(crops):
    """Left, top, width and height of the part that each crop of `ramps` shows, in pixels.

    The middle of point j lies at left + (j + 1/2) width / side; the outermost are cut off.
    """
    found = []
    for axis in (0, 1):
        line = crops[:, axis].mean(1 if axis == 0 else 2)  # the same along the other axis
        size = line.shape[1]
        slope = (line[:, size - 6] - line[:, 5]) / (size - 11)
        found.append((line[:, 5] + 0.5 - 5.5 * slope, slope * size))
    (left, width), (top, height) = found
    return torch.stack([left, top, width, height], 1).double().numpy()


@pytest.fixture(scope="module")
def parts():
    return windows(training.resized_crops(ramps(MANY), draw()))


def test_parts_stay_inside(parts):
    left, top, width, height = parts.T
    assert min(left.min(), top.min()) > -1e-3
    assert max((left + width).max(), (top + height).max()) < SIDE + 1e-3
    assert left.max() > 4 and (left + width).min() < SIDE - 4  # and reach either side


def test_areas_ratios_and_places_have_their_laws(parts):
    left, top, width, height = parts.T
    rng = np.random.default_rng(0)
    area = rng.uniform(0.7, 1, 200_000)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 200_000))
    sides = np.minimum(np.sqrt([area * ratio, area / ratio]), 1)
    for found, expected in (
        (width * height / SIDE**2, sides.prod(0)), (width / height, sides[0] / sides[1]),
        (width / SIDE, sides[0]), (height / SIDE, sides[1]),
    ):  # fmt: skip
        # sides that are cut have the same length: compared are the distributions, not the points
        assert stats.ks_2samp(found.round(4), expected.round(4)).statistic < 0.03
    assert 0.7 < (width * height).min() / SIDE**2 + 1e-4 and (width * height).max() <= SIDE**2 + 0.1
    free = np.maximum(width, height) < SIDE - 0.5
    places = [
        start[free] / (SIDE - length[free]) for start, length in ((left, width), (top, height))
    ]
    assert all(stats.kstest(place, "uniform").pvalue > 0.01 for place in places)
    assert abs(np.corrcoef(places)[0, 1]) < 0.06


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_crops_are_bilinear_and_end_at_the_border(size):
    noise = torch.rand(50, 1, *size, generator=draw(1))
    both = training.resized_crops(torch.cat([ramps(50, size), noise], 1), draw(2))
    for crop, picture, (left, top, width, height) in zip(
        both, noise, windows(both[:, :2]), strict=True
    ):
        across = left + (np.arange(size[1]) + 0.5) * width / size[1] - 0.5
        down = top + (np.arange(size[0]) + 0.5) * height / size[0] - 0.5
        at = np.meshgrid(down, across, indexing="ij")
        expected = ndimage.map_coordinates(picture[0].double().numpy(), at, order=1, mode="nearest")
        assert crop[2].numpy() == pytest.approx(expected, abs=1e-4)


def test_every_second_one_is_mirrored_and_shows_the_same_part():
    pictures = ramps(MANY)
    plain = training.resized_crops(pictures, draw())
    mixed = training.resized_crops(pictures, draw(), mirror=True)
    turned = (mixed[:, 0, :, 0] > mixed[:, 0, :, -1]).all(1)
    assert int(turned.sum()) == pytest.approx(MANY / 2, abs=90)
    assert torch.allclose(mixed[turned].flip(3), plain[turned], atol=1e-4)
    assert torch.equal(mixed[~turned], plain[~turned])


def test_the_whole_picture_is_the_picture(monkeypatch):
    monkeypatch.setattr(module, "AREA", (1.0, 1.0))
    monkeypatch.setattr(module, "SIDES", (1.0, 1.0))
    images = torch.rand(5, 3, 9, 14, generator=draw())
    assert torch.allclose(training.resized_crops(images, draw()), images, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_names_stand_for_these_functions(dtype):
    images = torch.rand(6, 3, 8, 8, generator=draw(), dtype=dtype)
    assert training.augmented(images, False, draw()) is images
    for how, expected in (
        (True, training.crop_and_flip(images, draw())),
        (training.RESIZED, training.resized_crops(images, draw())),
        (training.MIRRORED, training.resized_crops(images, draw(), mirror=True)),
    ):
        found = training.augmented(images, how, draw())
        assert torch.equal(found, expected) and found.dtype == dtype
        assert not torch.equal(found, images)
    assert training.AUGMENTATIONS == (False, True, "resized", "resized and mirrored")


@pytest.mark.parametrize("how", ["crops", "True", "", 1, 0, None])
@pytest.mark.parametrize("asks", [training.check_augmentation, lambda how: Contrast(augment=how),
                                  lambda how: Recipe(epochs=1, batch=1, augment=how)])  # fmt: skip
def test_other_names_are_refused(asks, how):
    with pytest.raises(ValueError, match=f"augment is {how!r}: allowed are False, True, 'resized'"):
        asks(how)


@pytest.mark.parametrize("how", training.AUGMENTATIONS)
def test_a_step_sees_the_images_so_changed(how):
    images = torch.rand(6, 1, 8, 8, generator=draw())
    labels, recipe = torch.arange(6) % 2, Recipe(epochs=1, batch=6, augment=how)
    seen = []

    class Watching(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(x.detach().reshape(6, 1, 8, 8))
            return super().forward(x)

    net = torch.nn.Sequential(torch.nn.Flatten(), Watching(64, 2))
    training.train(net, images, labels, recipe, seed=3)
    with training.randomness(3, torch.device("cpu")) as drawn:
        expected = training.augmented(images[drawn.order(6)], how, drawn.inputs)
    assert torch.equal(seen[0], expected)
