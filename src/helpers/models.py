"""The networks that the chapters train: fully connected, small CNNs, ResNets, VGG-16.

Initial weights come from a seed of their own and leave torch's global random state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

RESNETS = (18, 34, 50)
STEMS = ("imagenet", "small")
# of the channels of CIFAR-10, pixels in [0, 1], as Yang, Chou & Chaudhuri 2022 take them
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


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
    depth: int,
    outputs: int,
    *,
    channels: int = 3,
    stem: str = "imagenet",
    width: int = 64,
    seed: int,
) -> nn.Module:
    """torchvision's ResNet of this depth, untrained, for small images.

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
    _check_sizes([outputs, channels, width])
    if width != 64 and depth == 50:
        raise ValueError(f"width is {width}: a ResNet of depth 50 has 64")
    if width % 8:  # torch 2.14 crashes in the backward pass of 4 channels that lie last
        raise ValueError(f"width is {width}: a multiple of 8 is needed")
    import torchvision  # slow to import, and needed here only

    def build() -> nn.Module:
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=outputs)
        if width != 64:
            return _narrow(net, outputs, channels, stem, width)
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


def _narrow(net: nn.Module, outputs: int, channels: int, stem: str, width: int) -> nn.Module:
    """The same network with other numbers of channels; torchvision fixes them."""
    from torchvision.models.resnet import BasicBlock

    kernel, stride, padding = (3, 1, 1) if stem == "small" else (7, 2, 3)
    net.inplanes = width
    net.conv1 = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    if stem == "small":
        net.maxpool = nn.Identity()
    for stage in range(4):
        name = f"layer{stage + 1}"
        count, stride = len(getattr(net, name)), 1 if stage == 0 else 2
        setattr(net, name, net._make_layer(BasicBlock, width * 2**stage, count, stride))
    net.fc = nn.Linear(8 * width, outputs)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


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
        # grey images would be broadcast to the channels of mean without a word
        if x.ndim < 3 or x.shape[-3] != len(self.mean):
            raise ValueError(
                f"images have shape {tuple(x.shape)}: expected (n, {len(self.mean)}, h, w)"
            )
        return (x - self.mean) / self.std


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, and a shortcut without parameters (option A of He et al.)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, after - before
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        short = x
        if self.stride > 1 or self.extra:
            low = self.extra // 2  # new channels are zeros, half of them below and half above
            short = x[:, :, :: self.stride, :: self.stride]
            short = functional.pad(short, (0, 0, 0, 0, low, self.extra - low))
        return functional.relu(out + short)


def cifar_resnet(depth: int, outputs: int, *, width: int = 16, seed: int) -> nn.Module:
    """The ResNet for 32 x 32 colour pixels: stages of `width`, 2 `width` and 4 `width` channels.

    Images are `(n, 3, h, w)` with pixels in [0, 1]; their normalisation is the first layer.

    Args:
        depth: 6 k + 2 with k blocks of two convolutions a stage: 8, 14, 20, 32, ..., 110.
        outputs: number of outputs.
        width: channels of the first stage; 16 in the paper, less for a miniature.
        seed: of the initial weights (Kaiming-normal for convolutions and the linear layer).

    Raises:
        ValueError: a depth that is not 6 k + 2, or a size below 1.

    Source: He et al. 2016, section 4.2, with option A shortcuts; normalisation and initial weights
    as in the released code of Yang, Chou & Chaudhuri 2022.

    >>> net = cifar_resnet(20, 10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    269722
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}: allowed is 6 k + 2, which is 8, 14, 20, 26, 32, ...")
    _check_sizes([outputs, width])

    def build() -> nn.Module:
        layers: list[nn.Module] = [
            Normalise(CIFAR_MEAN, CIFAR_STD),
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        before = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                stride = 2 if stage and not block else 1
                layers.append(_ResidualBlock(before, width * 2**stage, stride))
                before = width * 2**stage
        net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)
        )
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
        return net

    return _seeded(build, seed)


class _StridedBlock(nn.Module):
    """Two 3 x 3 convolutions, and a 1 x 1 convolution as shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.downsample(x))


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
        ValueError: a size below 1, or a width that is no multiple of 8.

    >>> net = small_resnet(2, seed=0)
    >>> sum(p.shape[0] for p in net.parameters() if p.ndim == 4)
    336
    >>> sum(p.numel() for p in net.parameters() if p.ndim == 4)
    76720
    """
    _check_sizes([outputs, width])
    if width % 8:  # torch 2.14 crashes in the backward pass of 4 channels that lie last
        raise ValueError(f"width is {width}: a multiple of 8 is needed")

    def build() -> nn.Module:
        net = nn.Sequential(
            Normalise([0.45] * 3, [0.25] * 3),
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(),
            _StridedBlock(width, width, 1),
            _StridedBlock(width, 2 * width, 2),
            _StridedBlock(2 * width, 4 * width, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, outputs),
        )  # fmt: skip
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return net

    return _seeded(build, seed)


def small_vit(outputs: int, *, width: int = 64, patch: int = 4, seed: int) -> nn.Module:
    """torchvision's vision transformer at a size for 32 x 32 colour pixels, untrained.

    Four blocks of four heads, with 4 `width` hidden units in each block's perceptron. Images are as
    in :func:`small_resnet`.

    Args:
        outputs: number of outputs.
        width: of the tokens, a multiple of 4 (DeiT-Tiny has 192, three heads and twelve blocks).
        patch: pixels of a side of a patch: 4 gives 64 tokens (and one for the class), 8 gives 16,
            at a quarter of the cost.
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: a size below 1, a width that the heads cannot share, or a patch that does not
            divide 32.

    Source: Dosovitskiy et al. 2021; Touvron et al. 2021 for small widths.

    >>> net = small_vit(2, seed=0)
    >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
    (2, 2)
    """
    _check_sizes([outputs, width, patch])
    if width % 4:
        raise ValueError(f"width is {width}: a multiple of 4 is needed, for four heads")
    if 32 % patch:
        raise ValueError(f"patch is {patch}: a divisor of 32 pixels is needed")
    import torchvision  # slow to import, and needed here only

    def build() -> nn.Module:
        vit = torchvision.models.VisionTransformer(
            image_size=32, patch_size=patch, num_layers=4, num_heads=4, hidden_dim=width,
            mlp_dim=4 * width, num_classes=outputs,
        )  # fmt: skip
        # torchvision starts its head at zero, which leaves the first gradients of the body zero
        nn.init.normal_(vit.heads.head.weight, std=0.02)
        return nn.Sequential(Normalise([0.45] * 3, [0.25] * 3), vit)

    return _seeded(build, seed)


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
        ValueError: a size below 1.

    Source: the small CNN of Zhang et al. 2019 (TRADES), as Yang, Chou & Chaudhuri 2022 use it.

    >>> net = trades_cnn(10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    312202
    """
    _check_sizes([outputs])

    def build() -> nn.Module:
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

    return _seeded(build, seed)


def vgg16(outputs: int, *, seed: int) -> nn.Module:
    """torchvision's VGG-16 without batch normalisation, untrained, with pixels in [0, 1] as input.

    Images are `(n, 3, h, w)` of at least 32 x 32 pixels; their normalisation is the first layer.

    Args:
        outputs: number of outputs.
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: a size below 1.

    Source: Simonyan & Zisserman 2015, as Yang, Chou & Chaudhuri 2022 use it.

    >>> with torch.device("meta"):  # counts only: the weights are half a gigabyte
    ...     net = vgg16(10, seed=0)
    >>> sum(p.numel() for p in net.parameters())
    134301514
    """
    _check_sizes([outputs])
    import torchvision  # slow to import, and needed here only

    def build() -> nn.Module:
        net = torchvision.models.vgg16(weights=None, num_classes=outputs)
        return nn.Sequential(Normalise(CIFAR_MEAN, CIFAR_STD), net)

    return _seeded(build, seed)


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _check_sizes(sizes: Sequence[int]) -> None:
    if min(sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}: each must be at least 1")
