"""Residual networks: torchvision's, narrowed and with other stems, and small ones.

Source: He et al. 2016; the narrow ones are ours.
"""

import torch
from torch import nn
from torch.nn import functional

from helpers.errors import check_whole
from helpers.models.parts import CIFAR_MEAN, CIFAR_STD, Normalise, seeded

RESNETS = (18, 34, 50)
STEMS = ("imagenet", "small")


def resnet(
    depth: int,
    outputs: int,
    *,
    channels: int = 3,
    stem: str = "imagenet",
    width: int = 64,
    seed: int,
) -> nn.Module:
    """The ResNet of this depth of torchvision, untrained, for small images.

    Args:
        depth: 18, 34 or 50.
        outputs: number of outputs.
        channels: of the images.
        stem: `"imagenet"` keeps the 7 x 7 convolution of stride 2 and the pooling, as the released
            code of Bombari & Mondelli does on 48 x 48 pixels; `"small"` takes a 3 x 3 convolution
            of stride 1 and no pooling instead, the custom for 32 x 32 pixels (12 times the work).
        width: channels of the first stage; 64 is the published network, 16 has a sixteenth of its
            parameters. Other multiples of 8 for depths 18 and 34.
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: an unknown depth or stem, or a size that is no whole number from 1 on.

    Source: He et al. 2016.

    >>> net = resnet(18, 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    11181642
    """
    check_whole(depth=depth, outputs=outputs, channels=channels, width=width)
    if depth not in RESNETS:
        raise ValueError(f"depth is {depth}: allowed are {', '.join(map(str, RESNETS))}")
    if stem not in STEMS:
        raise ValueError(f"stem is {stem!r}: allowed are {', '.join(map(repr, STEMS))}")
    if width != 64 and depth == 50:
        raise ValueError(f"width is {width}: a ResNet of depth 50 has 64")
    if width % 8:  # torch 2.14 crashes in the backward pass of 4 channels that lie last
        raise ValueError(f"width is {width}: a multiple of 8 is needed")
    import torchvision  # slow to import, and needed here only

    with seeded(seed):
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=outputs)
        if stem == "small":
            net.maxpool = nn.Identity()
        if width != 64:
            _narrow(net, outputs, channels, stem, width)
        elif stem == "small" or channels != 3:
            net.conv1 = _stem(channels, width, stem)
            _kaiming(net.conv1)
        return net


def _stem(channels: int, width: int, stem: str) -> nn.Module:
    kernel, stride, padding = (3, 1, 1) if stem == "small" else (7, 2, 3)
    return nn.Conv2d(channels, width, kernel, stride, padding, bias=False)


def _kaiming(net: nn.Module) -> None:
    """The law of torchvision for convolutions, in all of them."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _narrow(net: nn.Module, outputs: int, channels: int, stem: str, width: int) -> None:
    """Give the network other numbers of channels; torchvision fixes them."""
    from torchvision.models.resnet import BasicBlock

    net.inplanes = width
    net.conv1, net.bn1 = _stem(channels, width, stem), nn.BatchNorm2d(width)
    for stage in range(4):
        name = f"layer{stage + 1}"
        count, stride = len(getattr(net, name)), 1 if stage == 0 else 2
        setattr(net, name, net._make_layer(BasicBlock, width * 2**stage, count, stride))
    net.fc = nn.Linear(8 * width, outputs)
    _kaiming(net)


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters (option A of He et al.)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, after - before
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.shortcut(x))

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels are left out; new channels are zeros, half of them below and half above."""
        if self.stride == 1 and not self.extra:
            return x
        low = self.extra // 2
        short = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(short, (0, 0, 0, 0, low, self.extra - low))


def cifar_resnet(depth: int, outputs: int, *, width: int = 16, seed: int) -> nn.Module:
    """The ResNet for 32 x 32 colour pixels: stages of `width`, 2 `width` and 4 `width` channels.

    Images are `(n, 3, h, w)` with pixels in [0, 1]; their normalisation is the first layer.

    Args:
        depth: 6 k + 2 with k blocks of two convolutions a stage: 8, 14, 20, 32, ..., 110.
        outputs: number of outputs.
        width: channels of the first stage; 16 in the paper, less for a miniature.
        seed: of the initial weights (Kaiming-normal for convolutions and the linear layer).

    Raises:
        ValueError: a depth that is not 6 k + 2, or a size that is no whole number from 1 on.

    Source: He et al. 2016, section 4.2, with option A shortcuts; normalisation and initial weights
    as in the released code of Yang, Chou & Chaudhuri 2022.

    >>> net = cifar_resnet(20, 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    269722
    """
    check_whole(depth=depth, outputs=outputs, width=width)
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}: allowed is 6 k + 2, which is 8, 14, 20, 26, 32, ...")
    with seeded(seed):
        layers: list[nn.Module] = [
            Normalise(CIFAR_MEAN, CIFAR_STD),
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        before = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                stride = 2 if stage and not block else 1
                layers.append(_Block(before, width * 2**stage, stride))
                before = width * 2**stage
        net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)
        )
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
        return net


class _LearntBlock(_Block):
    """The same with a 1 x 1 convolution for a shortcut where the size changes (option B)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__(before, after, stride)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(x)


def small_resnet(outputs: int, *, width: int = 16, seed: int) -> nn.Module:
    """A ResNet of eight layers for 32 x 32 colour pixels that trains in a minute on one core.

    A 3 x 3 stem of stride 2 and three residual blocks of `width`, 2 `width` and 4 `width` channels
    (strides 1, 2, 2), all with batch normalisation; global mean, linear. Images are `(n, 3, h, w)`
    with pixels in [0, 1]; (x - 0.45) / 0.25 is the first layer. At width 16 it has 336 filters.

    Args:
        outputs: number of outputs.
        width: channels of the first stage, a multiple of 8.
        seed: of the initial weights (Kaiming-normal for convolutions).

    Raises:
        ValueError: a size that is no whole number from 1 on, or a width that is no multiple of 8.

    >>> net = small_resnet(2, seed=0)
    >>> sum(p.shape[0] for p in net.parameters() if p.ndim == 4)
    336
    >>> sum(p.numel() for p in net.parameters() if p.ndim == 4)
    76720
    """
    check_whole(outputs=outputs, width=width)
    if width % 8:  # torch 2.14 crashes in the backward pass of 4 channels that lie last
        raise ValueError(f"width is {width}: a multiple of 8 is needed")
    with seeded(seed):
        net = nn.Sequential(
            Normalise([0.45] * 3, [0.25] * 3),
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            _LearntBlock(width, width, 1),
            _LearntBlock(width, 2 * width, 2),
            _LearntBlock(2 * width, 4 * width, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, outputs),
        )  # fmt: skip
        _kaiming(net)
        return net
