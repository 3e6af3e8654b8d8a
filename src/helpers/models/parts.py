"""What networks share: pixels normalised inside, weights from a seed.

Ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

# of the channels of CIFAR-10, pixels in [0, 1], as Yang, Chou & Chaudhuri 2022 take them
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Normalise(nn.Module):
    """First layer that takes images `(n, c, h, w)` to (x - mean) / std, channel by channel.

    Inside the network, so that what is added to or clipped in images acts on pixels in [0, 1]. Mean
    and std are buffers: they move with the network and are not trained.

    Args:
        mean: one number a channel.
        std: one positive number a channel.

    Raises:
        ValueError: no channel, lengths that differ, or a std which is not positive; when called,
            images with another number of channels.

    >>> Normalise([0.5], [0.25])(torch.ones(1, 1, 1, 2)).flatten().tolist()
    [2.0, 2.0]
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not len(mean) or len(mean) != len(std) or not all(s > 0 for s in std):
            raise ValueError(
                f"mean is {tuple(mean)} and std is {tuple(std)}: expected one number a channel in "
                "both, and each std above 0"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(x - mean) / std`."""
        # grey images would be broadcast to the channels of mean without a word
        if x.ndim < 3 or x.shape[-3] != len(self.mean):
            raise ValueError(
                f"images have shape {tuple(x.shape)}: expected (n, {len(self.mean)}, h, w)"
            )
        return (x - self.mean) / self.std


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights under a seed of their own: torch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
