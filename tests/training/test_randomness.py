"""What a training draws."""

import pytest
import torch

from helpers import training


def test_tiny_numbers_are_zero_during_training_and_not_afterwards():
    def tiny():
        return float(torch.tensor(1e-39) * 0.5)

    assert tiny()
    with training.randomness(0, torch.device("cpu")):
        assert not tiny()
        with training.randomness(0, torch.device("cpu")):
            pass
        assert not tiny()
    assert tiny()


def test_crops_are_windows_of_the_framed_image_and_half_are_mirrored():
    image = torch.arange(1.0, 37).reshape(1, 6, 6)
    framed = torch.nn.functional.pad(image, (4,) * 4)
    windows = {
        tuple(framed[:, i : i + 6, j : j + 6].flatten().tolist()): (i, j)
        for i in range(9)
        for j in range(9)
    }
    draw = torch.Generator().manual_seed(0)
    crops = training.crop_and_flip(image.expand(4_000, 1, 6, 6), draw)
    plain = [windows.get(tuple(crop.flatten().tolist())) for crop in crops]
    mirrored = [windows.get(tuple(crop.flip(2).flatten().tolist())) for crop in crops]
    assert all((a is None) != (b is None) for a, b in zip(plain, mirrored, strict=True))
    assert sum(a is not None for a in plain) == pytest.approx(2_000, abs=150)
    assert {a or b for a, b in zip(plain, mirrored, strict=True)} == set(windows.values())
