"""Image sets with a bias attribute: counts, what is painted where, what is nested in what."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import Dataset

SETS = (data.patched_mnist, data.colored_mnist)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("mnist5k")


@pytest.fixture(scope="module")
def objects() -> Dataset:
    """Noise with CIFAR-10's shape: 30 images of each class."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.arange(300) % 10
    return Dataset(images, labels, data.OBJECTS, "cifar10", "noise", True)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.integers(2, 400), st.integers(0, 3))
def test_counts_are_exact(rho: float, samples: int, seed: int) -> None:
    sample = data.colored_mnist(data.load("mnist5k"), rho, samples, seed)
    assert len(sample.label) == len(sample.attribute) == len(sample.images) == samples
    assert int(sample.aligned.sum()) == round(rho * samples)
    positive = sample.label > 0
    assert abs(int(positive.sum()) - int((~positive).sum())) <= 1
    aligned = [int((sample.aligned & side).sum()) for side in (positive, ~positive)]
    assert abs(aligned[0] - aligned[1]) <= 1


@pytest.mark.parametrize("make", SETS)
def test_balanced_set_has_equal_groups_and_no_correlation(make, digits: Dataset) -> None:
    sample = make(digits, 0.5, 400, seed=3)
    for y in (-1, 1):
        for b in (-1, 1):
            assert int(((sample.label == y) & (sample.attribute == b)).sum()) == 100
    assert float(sample.label @ sample.attribute) == 0


def originals(sample: data.Grouped, dataset: Dataset) -> torch.Tensor:
    """Index of each image in the dataset, found by the lower half that no patch touches."""
    known = {bytes(image[0, 8:].numpy().tobytes()): i for i, image in enumerate(dataset.images)}
    lower = (sample.images[:, 0, 8:] * 255).round().to(torch.uint8)
    return torch.tensor([known[image.numpy().tobytes()] for image in lower])


def test_patch_and_label_are_as_described(digits: Dataset) -> None:
    sample = data.patched_mnist(digits, 0.8, 300, seed=1)
    index = originals(sample, digits)
    assert len(set(index.tolist())) == 300, "an image is used twice"
    assert torch.equal(sample.label, torch.where(digits.labels[index] >= 5, 1.0, -1.0))
    expected = digits.images[index].float() / 255
    for i, b in enumerate(sample.attribute.tolist()):
        corner = slice(0, 4) if b > 0 else slice(-4, None)
        expected[i, 0, :4, corner] = 1
    torch.testing.assert_close(sample.images, expected, rtol=0, atol=0)


def test_colour_is_the_channel_and_halving_averages(digits: Dataset) -> None:
    sample = data.colored_mnist(digits, 0.7, 100, seed=2)
    channel = torch.where(sample.attribute > 0, 0, 1)
    rows = torch.arange(100)
    assert bool((sample.images[rows, 1 - channel] == 0).all())
    shown = sample.images[rows, channel]
    # the mean grey of an image survives averaging: compare with the patched set's same images
    twin = data.patched_mnist(digits, 0.7, 100, seed=2)
    index = originals(twin, digits)
    small = digits.images[index, 0].float() / 255
    average = (
        small[:, ::2, ::2] + small[:, 1::2, ::2] + small[:, ::2, 1::2] + small[:, 1::2, 1::2]
    ) / 4
    torch.testing.assert_close(shown, average)
    assert torch.equal(twin.label, sample.label) and torch.equal(twin.attribute, sample.attribute)


def test_sets_are_nested(digits: Dataset) -> None:
    small, large = (data.patched_mnist(digits, 0.9, n, seed=5) for n in (100, 400))
    inner, outer = originals(small, digits).tolist(), originals(large, digits).tolist()
    assert set(inner) < set(outer)
    loose, tight = (data.patched_mnist(digits, rho, 400, seed=5) for rho in (0.6, 0.95))
    assert originals(loose, digits).tolist() == originals(tight, digits).tolist() == outer
    assert bool((~loose.aligned)[~tight.aligned].all()), "conflicting at .95 but aligned at .6"


def test_seeds_repeat_and_differ(digits: Dataset) -> None:
    one, again, other = (data.colored_mnist(digits, 0.9, 60, seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, again.images) and torch.equal(one.attribute, again.attribute)
    assert not torch.equal(one.images, other.images)


def test_cats_and_dogs(objects: Dataset) -> None:
    sample = data.cats_and_dogs(objects, 0.75, 40, seed=0, shift=0.2)
    known = {tuple(image[:, 0, :].flatten().tolist()): i for i, image in enumerate(objects.images)}
    assert sample.images.shape == (40, 3, 32, 32)
    assert float(sample.images.min()) >= 0 and float(sample.images.max()) <= 1
    bright = sample.images.mean((1, 2, 3)) > 0.5
    assert torch.equal(bright, sample.attribute > 0)
    assert int(sample.aligned.sum()) == 30
    assert known, "fixture holds images"
    # undo the shift where nothing was clipped
    plain = sample.images - 0.2 * sample.attribute[:, None, None, None]
    inside = (sample.images > 0) & (sample.images < 1)
    cats = objects.images[objects.labels == 3].float() / 255
    for image, keep, y in zip(plain, inside, sample.label, strict=True):
        distance = ((cats - image) * keep).abs().amax((1, 2, 3)).min()
        assert bool(distance < 1e-5) == (float(y) < 0)


def test_centred_uses_the_training_mean_only(digits: Dataset) -> None:
    train = data.patched_mnist(digits, 0.9, 50, seed=0)
    test = data.patched_mnist(digits, 0.5, 50, seed=1)
    X, X_test = data.centred(train, test)
    assert float(X.mean(0).abs().max()) < 1e-6 and float(X_test.mean(0).abs().max()) > 1e-3
    torch.testing.assert_close(X_test - X_test[:1], test.flat - test.flat[:1])


@pytest.mark.parametrize(
    ("make", "expected"),
    [(data.patched_mnist, "29a1879b29db4764"), (data.colored_mnist, "85f76f983362ccf6")],
)
def test_digits_are_the_ones_of_all_results(fingerprint, make, expected, digits: Dataset) -> None:
    sample = make(digits, 0.75, 8, seed=3)
    assert fingerprint(sample.images) == expected
    assert sample.label.tolist() == [1, -1, -1, 1, 1, 1, -1, -1] and sample.attribute.tolist() == [
        -1,
        -1,
        -1,
        1,
        1,
        1,
        1,
        -1,
    ]


def test_cats_and_dogs_are_the_ones_of_all_results(fingerprint, objects: Dataset) -> None:
    assert fingerprint(data.cats_and_dogs(objects, 0.75, 4, seed=0).images) == "3617953d91997ab1"


def test_ends_of_the_ranges_are_allowed(digits: Dataset, objects: Dataset) -> None:
    for rho in (0, 1):
        assert float(data.patched_mnist(digits, rho, 2, 0).aligned.double().mean()) == rho
    whole = data.patched_mnist(digits, 0.5, 4000, 0)
    assert len(whole) == 4000 and whole.counts() == (1000,) * 4
    moved = data.cats_and_dogs(objects, 0.5, 10, 0, shift=1).images.mean((1, 2, 3))
    assert set(moved.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("make", SETS)
def test_bad_input(make, digits: Dataset) -> None:
    for rho in (-0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match="rho is .*between 0 and 1"):
            make(digits, rho, 10, 0)
    with pytest.raises(ValueError, match="samples is 1"):
        make(digits, 0.9, 1, 0)
    with pytest.raises(
        ValueError, match=r"samples is 4002, so 2001 images .* the dataset has 2000"
    ):
        make(digits, 0.9, 4002, 0)
    with pytest.raises(ValueError, match="digits 5-9 are needed: the dataset has 0"):
        make(digits.only([0, 1]), 0.9, 10, 0)
    with pytest.raises(ValueError, match="expected grey digits"):
        make(replace(digits, images=digits.images.repeat(1, 3, 1, 1)), 0.9, 10, 0)


def test_bad_cats_and_dogs(objects: Dataset) -> None:
    for shift in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="shift is"):
            data.cats_and_dogs(objects, 0.9, 10, 0, shift=shift)
    with pytest.raises(ValueError, match="images of dogs are needed: the dataset has 0"):
        data.cats_and_dogs(objects.only([3]), 0.9, 10, 0)
