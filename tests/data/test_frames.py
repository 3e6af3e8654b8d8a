"""Noise frames around images, and queries that change the core only."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data

quick = settings(max_examples=25, deadline=None, derandomize=True)


@quick
@given(st.data())
def test_frame_surrounds_untouched_images(framings, examples):
    images, width, seed = examples.draw(framings)
    before = images.clone()
    framed = data.noise_border(images, width, seed)
    n, c, h, w = images.shape
    assert framed.dtype == torch.uint8 and framed.shape == (n, c, h + 2 * width, w + 2 * width)
    assert torch.equal(framed[..., width:-width, width:-width], images)
    assert torch.equal(images, before)
    assert torch.equal(framed, data.noise_border(images, width, seed))
    assert torch.equal(framed[:1], data.noise_border(images[:1], width, seed))


@quick
@given(st.data())
def test_queries_change_the_core_only(framings, examples):
    images, width, seed = examples.draw(framings)
    framed = data.noise_border(images, width, seed)
    before, mask = framed.clone(), data.core_mask(framed.shape, width)
    zero = data.blank_core(framed, width)
    resample = data.resample_core(framed, width, images.flip(0))
    assert torch.equal(framed, before)
    for query in (zero, resample):
        assert torch.equal(query[:, ~mask], framed[:, ~mask])
    assert not zero[:, mask].any()
    assert torch.equal(resample[..., width:-width, width:-width], images.flip(0))
    assert mask.sum() == images[0].numel()


def test_frame_pixels_are_uniform_and_independent():
    images = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    framed = data.noise_border(images, 10, seed=1)
    assert not torch.equal(framed, data.noise_border(images, 10, seed=2))
    noise = framed[:, ~data.core_mask(framed.shape, 10)].double()  # 200 x 1520
    counts = noise.long().flatten().bincount(minlength=256)
    expected = noise.numel() / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5
    assert abs(noise.mean() - 127.5) < 5 * 73.9 / noise.numel() ** 0.5
    between = torch.corrcoef(noise)[~torch.eye(200, dtype=torch.bool)]
    assert between.abs().max() < 6 / 1520**0.5


def test_frames_are_the_ones_of_all_results(fingerprint):
    images = torch.arange(2 * 3 * 6 * 6).to(torch.uint8).reshape(2, 3, 6, 6)
    assert fingerprint(data.noise_border(images, 3, seed=5)) == "d3d7128c3ca69a31"


@pytest.mark.parametrize(("images", "width", "message"), [
    (torch.zeros(2, 1, 5, 5), 1, "dtype torch.float32"),
    (torch.zeros(1, 5, 5, dtype=torch.uint8), 1, r"shape \(1, 5, 5\)"),
    (torch.zeros(2, 1, 5, 5, dtype=torch.uint8), 0, "width=0 pixels must be at least 1"),
    (torch.zeros(2, 1, 5, 5, dtype=torch.uint8), -1, "width=-1 pixels"),
    (torch.zeros(2, 1, 0, 5, dtype=torch.uint8), 1, "leave a core"),
])  # fmt: skip
def test_frame_refuses(images, width, message):
    with pytest.raises(ValueError, match=message):
        data.noise_border(images, width, 0)


def test_queries_refuse():
    framed = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    for width in (0, 4):
        for function in (data.blank_core, data.two_blocks):
            with pytest.raises(ValueError, match=f"width={width} pixels"):
                function(framed, width)
        with pytest.raises(ValueError, match=f"width={width} pixels"):
            data.core_mask((1, 8, 8), width)
    for donors in (framed[:1, :, 2:-2, 2:-2], framed):
        with pytest.raises(ValueError, match=r"shape of the cores, \(2, 1, 4, 4\)"):
            data.resample_core(framed, 2, donors)
    with pytest.raises(ValueError, match="donors of dtype torch.float32"):
        data.resample_core(framed, 2, framed[..., 2:-2, 2:-2].float())
    with pytest.raises(ValueError, match="framed of dtype torch.float32"):
        data.two_blocks(framed.float(), 2)
