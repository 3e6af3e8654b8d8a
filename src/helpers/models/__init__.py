"""Networks, all with initial weights from a seed of their own, and networks that saw ImageNet.

Fully connected and convolutional ones of the papers, residual ones at full size and for small
images, a small vision transformer. Where pixels are normalised, it is the first layer that does it.
"""

# fmt: off
from helpers.models.backbones import efficientnet_lite0, resnet50, tunable_lite0
from helpers.models.parts import CIFAR_MEAN, CIFAR_STD, Normalise
from helpers.models.plain import fully_connected, small_cnn, trades_cnn, vgg16
from helpers.models.resnets import RESNETS, STEMS, cifar_resnet, resnet, small_resnet
from helpers.models.transformers import small_vit
