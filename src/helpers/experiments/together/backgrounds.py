"""What a network that saw ImageNet says of photographs, and of the same without their middle.

Features are kept in `_build/features`: the network takes minutes, what comes after it seconds.
"""

import torch
from torch import Tensor

from helpers import data, models, training
from helpers.dependencies import code_of

MIDDLE = slice(8, 24)  # what is grey where only the background is asked, in both directions
GREY = 128
SIDES = {  # labels of the two classes
    "cifar10": ((3, 5), (1, 9)),  # cats and dogs, cars and trucks
    "mnist5k": ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
}


def seen(
    dataset: str, pool: int, size: int, *, device: str = "cpu", data_dir: str | None = None
) -> tuple[Tensor, Tensor, str]:
    """Features of whole pictures and of their backgrounds, `(pool, 1280)` each, and the source.

    The first half of the rows is the first class.

    Args:
        dataset: one of `SIDES`.
        pool: pictures, half of them of either class.
        size: pixels to which they are enlarged.

    Raises:
        ValueError: another data set, or more pictures than a class has.
    """
    if dataset not in SIDES:
        raise ValueError(f"dataset is {dataset!r}: allowed are {', '.join(map(repr, SIDES))}")
    found = data.load(dataset, data_dir=data_dir)
    members = [torch.isin(found.labels, torch.tensor(side)).nonzero()[:, 0]
               for side in SIDES[dataset]]  # fmt: skip
    if not 1 <= pool // 2 <= min(map(len, members)):
        raise ValueError(f"pool is {pool}: a class has {min(map(len, members))} pictures")
    images = found.images[torch.cat([rows[: pool // 2] for rows in members])]
    identity = (found.source, pool, size, code_of(__name__, "helpers.models.backbones"))
    file = training.checkpoint_file(identity, "features")
    if not file.is_file():
        background = images.clone()
        background[:, :, MIDDLE, MIDDLE] = GREY
        made = [_features(part, size, device) for part in (images, background)]
        training.save_whole(dict(zip(("whole", "background"), made, strict=True)), file)
    kept = training.load_whole(file, dict)
    return kept["whole"], kept["background"], found.source


def _features(images: Tensor, size: int, device: str) -> Tensor:
    net, found = models.efficientnet_lite0().to(device), []
    for part in images.split(128):
        pixels = part.to(device).float().expand(-1, 3, -1, -1)
        larger = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear")
        found.append(training.predict(net, larger).cpu())
    return torch.cat(found)
