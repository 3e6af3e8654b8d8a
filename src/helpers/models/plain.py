"""Networks without shortcuts: fully connected, small CNNs, VGG-16."""

from collections.abc import Sequence

from torch import nn

from helpers.errors import check_whole
from helpers.models.parts import CIFAR_MEAN, CIFAR_STD, Normalise, seeded


def fully_connected(inputs: int, hidden: Sequence[int], outputs: int, *, seed: int) -> nn.Module:
    """A ReLU network on flattened inputs, `(n, …)` to `(n, outputs)`.

    Args:
        inputs: numbers in one flattened input.
        hidden: widths of the hidden layers, first to last; may be empty (a linear model).
        outputs: number of outputs.
        seed: of the initial weights (PyTorch's default law for linear layers).

    Raises:
        ValueError: a size that is no whole number from 1 on.

    Source: Bombari & Mondelli 2024 use hidden widths 500 and 200 (released code).

    >>> net = fully_connected(784, (500, 200), 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    494710
    """
    sizes = [inputs, *hidden, outputs]
    check_whole(**{f"size {k} of the layers": size for k, size in enumerate(sizes)})
    with seeded(seed):
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(sizes[:-2], sizes[1:-1], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


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

    >>> import torch
    >>> net = small_cnn(1, 48, 10, seed=0)
    >>> tuple(net(torch.zeros(2, 1, 48, 48)).shape)
    (2, 10)
    """
    check_whole(channels=channels, size=size, outputs=outputs)
    if size % 4:
        raise ValueError(
            f"size is {size}: expected a multiple of 4 pixels, since it is halved twice"
        )
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 256), nn.ReLU(),
            nn.Linear(256, outputs),
        )  # fmt: skip


def trades_cnn(outputs: int, *, seed: int) -> nn.Module:
    """Four 3 x 3 convolutions and three linear layers on grey images, `(n, 1, 28, 28)`.

    32, 32, 64 and 64 channels without padding, ReLU after each and 2 x 2 max-pooling after each
    two; then 200 and 200 units, with dropout of one half after the first. The last layer starts at
    zero: an untrained network gives every class the same probability.

    Args:
        outputs: number of outputs.
        seed: of the initial weights (Kaiming-normal for convolutions, whose biases are 0; PyTorch's
            default law for the first two linear layers).

    Raises:
        ValueError: a size that is no whole number from 1 on.

    Source: the small CNN of Zhang et al. 2019 (TRADES), as Yang, Chou & Chaudhuri 2022 use it.

    >>> net = trades_cnn(10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    312202
    """
    check_whole(outputs=outputs)
    with seeded(seed):
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 4 * 4, 200), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, outputs),
        )  # fmt: skip
        for layer in net:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
        return net


def vgg16(outputs: int, *, seed: int) -> nn.Module:
    """VGG-16 of torchvision without batch normalisation, untrained, with pixels in [0, 1] as input.

    Images are `(n, 3, h, w)` of at least 32 x 32 pixels; their normalisation is the first layer.

    Args:
        outputs: number of outputs.
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: a size that is no whole number from 1 on.

    Source: Simonyan & Zisserman 2015, as Yang, Chou & Chaudhuri 2022 use it.

    >>> import torch
    >>> with torch.device("meta"):  # counts only: the weights are half a gigabyte
    ...     net = vgg16(10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    134301514
    """
    check_whole(outputs=outputs)
    import torchvision  # slow to import, and needed here only

    with seeded(seed):
        net = torchvision.models.vgg16(weights=None, num_classes=outputs)
        return nn.Sequential(Normalise(CIFAR_MEAN, CIFAR_STD), net)
