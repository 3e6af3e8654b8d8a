"""The random numbers of a training: order of the samples, noise, augmentation.

Ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
