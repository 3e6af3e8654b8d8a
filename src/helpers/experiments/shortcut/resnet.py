"""What the chapter on ResNet-18 computes with: three sets of small colour images, the network."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch.nn import functional

from helpers import data, models
from helpers.experiments.shortcut.tasks import digit_splits

SETS = ("colored digits", "cats and dogs", "garments")
LOSSES = {"logistic": 0.0, "sd": 0.1}  # with the coefficient of the penalty on outputs


@lru_cache(maxsize=2)
def sets(
    name: str, samples: int, test: int, rho: float, trial: int, data_dir: str | None
) -> tuple[data.Grouped, data.Grouped, str]:
    """Training set with aligned share rho and balanced test set, as 32 x 32 colour images.

    Colored digits (red or green, on black) and cats and dogs (darker or brighter) as in
    :mod:`helpers.data.biased_sets`, at smoke size from `mnist5k`; garments on land and water as in
    :func:`helpers.data.fashion_birds`, with the classes of Waterbirds in their proportions, and at
    `rho` 0.95 its four groups.

    Raises:
        ValueError: an unknown name.
        DatasetNotFound: the images are not on this machine.
    """
    if name == "garments":
        return _garments(samples, test, rho, trial, data_dir)
    if name == "cats and dogs":
        make, source = data.cats_and_dogs, "cifar10"
    elif name in ("colored digits", "few colored digits"):
        make, source = data.colored_mnist, "mnist" if name == "colored digits" else "mnist5k"
    else:
        raise ValueError(f"set is {name!r}: allowed are {', '.join(map(repr, SETS))}")
    parts = digit_splits(source, data_dir)
    made = data.train_and_test(make, parts, rho, (samples, test), trial)
    if make is data.colored_mnist:
        made = [replace(part, images=_in_colour(part.images)) for part in made]
    return *made, parts[0].source


def _in_colour(images: torch.Tensor) -> torch.Tensor:
    """`(n, 2, 14, 14)` to red and green on a black canvas, `(n, 3, 32, 32)`."""
    large = functional.interpolate(images, scale_factor=2)
    return functional.pad(large, (2, 2, 2, 2, 0, 1))


def garment_shares(rho: float) -> list[float]:
    """Shares of the four groups: those of Waterbirds at 0.95, else the same two classes.

    >>> [round(share, 3) for share in garment_shares(0.95)]
    [0.73, 0.038, 0.012, 0.22]
    >>> [round(share, 3) for share in garment_shares(0.5)]
    [0.384, 0.384, 0.116, 0.116]
    """
    shares = [n / sum(data.WATERBIRDS["train"]) for n in data.WATERBIRDS["train"]]
    if rho == 0.95:
        return shares
    land, water = sum(shares[:2]), sum(shares[2:])
    return [rho * land, (1 - rho) * land, (1 - rho) * water, rho * water]


def _garments(
    samples: int, test: int, rho: float, trial: int, data_dir: str | None
) -> tuple[data.Grouped, data.Grouped, str]:
    sizes = {
        "train": [round(samples * share) for share in garment_shares(rho)],
        "test": [test // 4] * 4,
    }
    made = data.fashion_birds(seed=trial, sizes=sizes, data_dir=data_dir)
    parts = [
        data.Grouped(part.images, 2.0 * part.label - 1, 2.0 * part.attribute - 1)
        for part in (made["train"], made["test"])
    ]
    return *parts, made["train"].source


def network(width: int, seed: int) -> torch.nn.Module:
    """ResNet-18 with one output for images of 32 x 32, its ReLUs ready for `torch.func`."""
    net = models.resnet(18, 1, stem="small", width=width, seed=seed)
    for module in net.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return net


def subset(sample: data.Grouped, size: int) -> data.Grouped:
    """The first images of each of the four groups, in the proportions of the whole."""
    rows = []
    for group in range(4):
        members = (sample.group == group).nonzero().flatten()
        rows.append(members[: max(1, round(size * len(members) / len(sample)))])
    return sample.rows(torch.cat(rows))
