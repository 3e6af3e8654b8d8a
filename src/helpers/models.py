"""The networks that the chapters train: fully connected, a small CNN, ResNets.

Initial weights come from a seed of their own and leave torch's global random state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

RESNETS = (18, 34, 50)
STEMS = ("imagenet", "small")


def fully_connected(inputs: int, hidden: Sequence[int], outputs: int, *, seed: int) -> nn.Module:
    """A ReLU network on flattened inputs, `(n, …)` to `(n, outputs)`.

    Args:
        inputs: numbers in one flattened input.
        hidden: widths of the hidden layers, first to last; may be empty (a linear model).
        outputs: number of outputs.
        seed: of the initial weights (PyTorch's default law for linear layers).

    Raises:
        ValueError: a size below 1.

    Source: Bombari & Mondelli 2024 use hidden widths 500 and 200 (released code).

    >>> net = fully_connected(784, (500, 200), 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    494710
    """
    sizes = [inputs, *hidden, outputs]
    _check_sizes(sizes)

    def build() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(sizes[:-2], sizes[1:-1], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    return _seeded(build, seed)


def small_cnn(channels: int, size: int, outputs: int, *, seed: int) -> nn.Module:
    """Two 3 x 3 convolutions (16 and 32 channels, each with ReLU and 2 x 2 max-pooling), then 256.

    Args:
        channels: of the images.
        size: height and width of the images, at least 4 and divisible by 4.
        outputs: number of outputs.
        seed: of the initial weights (PyTorch's default laws).

    Raises:
        ValueError: a size that does not fit.

    Source: Bombari & Mondelli 2024, released code.

    >>> net = small_cnn(1, 48, 10, seed=0)
    >>> tuple(net(torch.zeros(2, 1, 48, 48)).shape)
    (2, 10)
    """
    _check_sizes([channels, outputs])
    if size < 4 or size % 4:
        raise ValueError(
            f"size is {size}: expected a multiple of 4 pixels, since it is halved twice"
        )

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 256), nn.ReLU(),
            nn.Linear(256, outputs),
        )  # fmt: skip

    return _seeded(build, seed)


def resnet(
    depth: int, outputs: int, *, channels: int = 3, stem: str = "imagenet", seed: int
) -> nn.Module:
    """torchvision's ResNet of this depth, untrained, for small images.

    Args:
        depth: 18, 34 or 50.
        outputs: number of outputs.
        channels: of the images.
        stem: `"imagenet"` keeps the 7 x 7 convolution of stride 2 and the pooling, as the released
            code of Bombari & Mondelli does on 48 x 48 pixels; `"small"` takes a 3 x 3 convolution
            of stride 1 and no pooling instead, the custom for 32 x 32 pixels (12 times the work).
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: an unknown depth or stem, or a size below 1.

    Source: He et al. 2016.

    >>> net = resnet(18, 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    11181642
    """
    if depth not in RESNETS:
        raise ValueError(f"depth is {depth}: allowed are {', '.join(map(str, RESNETS))}")
    if stem not in STEMS:
        raise ValueError(f"stem is {stem!r}: allowed are {', '.join(map(repr, STEMS))}")
    _check_sizes([outputs, channels])
    import torchvision  # slow to import, and needed here only

    def build() -> nn.Module:
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=outputs)
        if stem == "small":
            net.conv1, net.maxpool = (
                nn.Conv2d(channels, 64, 3, padding=1, bias=False),
                nn.Identity(),
            )
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        elif channels != 3:
            net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        return net

    return _seeded(build, seed)


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _check_sizes(sizes: Sequence[int]) -> None:
    if min(sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}: each must be at least 1")
