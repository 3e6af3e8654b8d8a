"""A small vision transformer."""

from torch import nn

from helpers.errors import check_whole
from helpers.models.parts import Normalise, seeded


def small_vit(outputs: int, *, width: int = 64, patch: int = 4, seed: int) -> nn.Module:
    """The vision transformer of torchvision at a size for 32 x 32 colour pixels, untrained.

    Four blocks of four heads, with 4 `width` hidden units in each block's perceptron. Images are as
    in :func:`helpers.models.small_resnet`.

    Args:
        outputs: number of outputs.
        width: of the tokens, a multiple of 4 (DeiT-Tiny has 192, three heads and twelve blocks).
        patch: pixels of a side of a patch: 4 gives 64 tokens (and one for the class), 8 gives 16,
            at a quarter of the cost.
        seed: of the initial weights (torchvision's laws).

    Raises:
        ValueError: a size that is no whole number from 1 on, a width that the heads cannot share,
            or a patch that does not divide 32.

    Source: Dosovitskiy et al. 2021; Touvron et al. 2021 for small widths.

    >>> import torch
    >>> net = small_vit(2, seed=0)
    >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
    (2, 2)
    """
    check_whole(outputs=outputs, width=width, patch=patch)
    if width % 4:
        raise ValueError(f"width is {width}: a multiple of 4 is needed, for four heads")
    if 32 % patch:
        raise ValueError(f"patch is {patch}: a divisor of 32 pixels is needed")
    import torchvision  # slow to import, and needed here only

    with seeded(seed):
        vit = torchvision.models.VisionTransformer(
            image_size=32, patch_size=patch, num_layers=4, num_heads=4, hidden_dim=width,
            mlp_dim=4 * width, num_classes=outputs,
        )  # fmt: skip
        # torchvision starts its head at zero, which leaves the first gradients of the body zero
        nn.init.normal_(vit.heads.head.weight, std=0.02)
        return nn.Sequential(Normalise([0.45] * 3, [0.25] * 3), vit)
