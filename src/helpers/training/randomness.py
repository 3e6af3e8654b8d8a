"""The random numbers of a training: order of the samples, noise, augmentation.

Ours.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# names of augmentations; True, the oldest, is that of a frame
RESIZED, MIRRORED = "resized", "resized and mirrored"
AUGMENTATIONS = (False, True, RESIZED, MIRRORED)
AREA, SIDES = (0.7, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the picture, width over height


def crop_and_flip(images: torch.Tensor, generator: torch.Generator, pad: int = 4) -> torch.Tensor:
    """Random crops `(n, c, h, w)` out of images in a frame of `pad` zeros, half of them mirrored.

    >>> crop_and_flip(torch.ones(3, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([3, 1, 8, 8])
    """
    n, _, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * pad + 1, (2, n), generator=generator, device=device)
    mirrored = torch.rand(n, generator=generator, device=device) < 0.5
    framed = nn.functional.pad(images, (pad,) * 4)
    windows = framed.unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(n, device=device), :, top, left]
    return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)


def resized_crops(
    images: torch.Tensor, generator: torch.Generator, *, mirror: bool = False
) -> torch.Tensor:
    """Random parts of images `(n, c, h, w)`, enlarged to the size of the images: no frame.

    A part has 70 to 100 % of the area, and sides in a ratio between 3/4 and 4/3, uniformly in the
    logarithm; it never reaches beyond the image (a side that would is cut). Bilinear.

    Args:
        images: floats.
        generator: of the device of the images.
        mirror: every second one is mirrored.

    Source: Szegedy et al. 2015, with the numbers of You et al. 2025's released code.

    >>> resized_crops(torch.ones(3, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([3, 1, 8, 8])
    """
    n, device = len(images), images.device
    area, ratio, across, down, side = torch.rand(5, n, generator=generator, device=device)
    area = AREA[0] + (AREA[1] - AREA[0]) * area
    low, high = (math.log(end) for end in SIDES)
    ratio = torch.exp(low + (high - low) * ratio)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    place = torch.zeros(n, 2, 3, device=device)
    place[:, 0, 0], place[:, 1, 1] = width, height
    if mirror:
        place[:, 0, 0] = torch.where(side < 0.5, -width, width)
    # of a window that ends at -1 and 1, the middle of a part that stays inside
    place[:, 0, 2], place[:, 1, 2] = (2 * across - 1) * (1 - width), (2 * down - 1) * (1 - height)
    grid = nn.functional.affine_grid(place, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="border", align_corners=False
    )


def augmented(images: torch.Tensor, how: bool | str, generator: torch.Generator) -> torch.Tensor:
    """Images changed at random: one of `AUGMENTATIONS` (False: as they are).

    >>> augmented(torch.ones(1, 1, 8, 8), "resized", torch.Generator()).mean().item()
    1.0
    """
    if how is True:
        return crop_and_flip(images, generator)
    return resized_crops(images, generator, mirror=how == MIRRORED) if how else images


def check_augmentation(how: bool | str) -> None:
    """ValueError for a name that is none of `AUGMENTATIONS`."""
    if not any(how is one or (isinstance(how, str) and how == one) for one in AUGMENTATIONS):
        raise ValueError(f"augment is {how!r}: allowed are {', '.join(map(repr, AUGMENTATIONS))}")


class Randomness:
    """All that a training draws: the order of samples, noise and crops, masks of dropout."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._order = torch.Generator().manual_seed(seed)
        self.inputs = torch.Generator(device).manual_seed(seed)

    def order(self, samples: int) -> torch.Tensor:
        """A permutation of the samples, on the CPU so that every device has the same."""
        return torch.randperm(samples, generator=self._order)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(like.shape, generator=self.inputs, device=like.device, dtype=like.dtype)

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps: of our generators, and of torch's global one."""
        state = {"order": self._order.get_state(), "inputs": self.inputs.get_state()}
        state["cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a state."""
        self._order.set_state(state["order"])
        self.inputs.set_state(state["inputs"])
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)


@contextmanager
def randomness(seed: int, device: torch.device) -> Iterator[Randomness]:
    """Seeds torch's global state too (dropout draws from it), and puts it back afterwards.

    Inside, numbers too small for a normal float count as zero in this thread (and in threads that
    it starts). Networks that fit their training set have gradients full of them, and processors
    take several times as long over each.
    """
    devices = [device] if device.type == "cuda" else []
    flushed_before = not float(torch.tensor(1e-39) * 0.5)
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)
        try:
            yield Randomness(seed, device)
        finally:
            torch.set_flush_denormal(flushed_before)
