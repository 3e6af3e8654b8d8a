"""Core and frame as two blocks, and their scalings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import BlockScaling, TwoBlock, load

quick = settings(max_examples=25, deadline=None, derandomize=True)


@quick
@given(st.data())
def test_blocks_are_core_and_frame(framings, examples):
    images, width, seed = examples.draw(framings)
    framed = data.noise_border(images, width, seed)
    blocks = x, y = data.two_blocks(framed, width)
    assert x.dtype == y.dtype == torch.float32 and y.min() >= 0 and y.max() <= 255
    assert torch.equal(x, images.flatten(1).float())
    assert x.shape[1] + y.shape[1] == framed[0].numel()
    assert torch.equal(blocks.z.sum(1), framed.flatten(1).float().sum(1))
    assert blocks.alpha == y.shape[1] / framed[0].numel()
    mask = data.core_mask(framed.shape, width)
    assert torch.equal(y, framed[:, ~mask].float())


def test_alpha_of_the_papers_images():
    for size, channels, width, alpha, total in ((28, 1, 10, 0.660, 2304), (32, 3, 8, 0.556, 6912)):
        images = torch.zeros(1, channels, size, size, dtype=torch.uint8)
        blocks = data.two_blocks(data.noise_border(images, width, 0), width)
        assert round(blocks.alpha, 3) == alpha and blocks.z.shape[1] == total


@pytest.fixture(scope="module")
def framed():
    """Digits in a frame: 60 for training and 40 others."""
    digits = load("mnist5k", train=False).images[:100]
    framed = data.noise_border(digits, 10, 0)
    return framed[:60], framed[60:]


@pytest.mark.parametrize("kind", BlockScaling.KINDS)
def test_scaling_uses_training_statistics_only(framed, kind):
    train, test = (data.two_blocks(images, 10) for images in framed)
    scaling = BlockScaling.fit(*train, kind)
    together = scaling.apply(*test)
    alone = scaling.apply(test.x[3:4], test.y[3:4])
    assert torch.allclose(together.z[3:4], alone.z, rtol=1e-6, atol=1e-6)
    frozen = scaling.apply(*train).z
    scaling.apply(test.x + 50, test.y)
    assert torch.equal(frozen, scaling.apply(*train).z)


def test_scalings(framed):
    train, test = (data.two_blocks(images, 10) for images in framed)
    assert torch.equal(BlockScaling.fit(*train, "raw").apply(*test).z, test.z)
    assert torch.equal(BlockScaling.fit(*train, "unit").apply(*test).z, test.z / 255)
    rms = BlockScaling.fit(*train, "rms").apply(*train).z
    assert rms.double().square().mean() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(rms * (train.z.max() / rms.max()), train.z, rtol=1e-5)  # one factor
    scaling = BlockScaling.fit(*train, "blocks")
    for blocks in (train, test):
        for block in scaling.apply(*blocks):
            norms = block.norm(dim=1) / block.shape[1] ** 0.5
            assert torch.allclose(norms, torch.ones(len(block)), atol=1e-5)
    for scaled, block, mean in zip(scaling.apply(*test), test, train, strict=True):
        direction = torch.nn.functional.normalize(block - mean.mean(0))
        assert torch.allclose(scaled, direction * block.shape[1] ** 0.5, atol=1e-4)


@pytest.mark.parametrize("kind", BlockScaling.KINDS)
def test_removed_core_is_zero_in_every_scaling(framed, kind):
    scaling = BlockScaling.fit(*data.two_blocks(framed[0], 10), kind)
    full = scaling.apply(*data.two_blocks(framed[1], 10))
    zero = scaling.apply(*data.two_blocks(data.blank_core(framed[1], 10), 10))
    assert not zero.x.any() and torch.equal(zero.y, full.y)


def test_scaling_refuses():
    blocks = torch.ones(2, 3), torch.tensor([[1.0], [2.0]])
    with pytest.raises(ValueError, match="kind='zscore' must be one of raw, unit, rms, blocks"):
        BlockScaling.fit(*blocks, "zscore")
    with pytest.raises(ValueError, match="row 0 of a block equals the training mean"):
        BlockScaling.fit(*blocks, "blocks").apply(*blocks)


def test_two_block_unpacks():
    x, y = TwoBlock(torch.ones(2, 3), torch.zeros(2, 1))
    assert TwoBlock(x, y).alpha == 0.25 and TwoBlock(x, y).z.shape == (2, 4)
