"""Birds and airplanes of CIFAR-10 on land and in the sky: natural photographs for Waterbirds.

The class is the object, the attribute the background: the mean colour of the border of a picture,
by a rule that was fixed before any network was trained. Group 0 are birds on land, 1 birds in the
sky, 2 airplanes on land, 3 airplanes in the sky; so the rare groups of :data:`SKY` are, as those of
Waterbirds, groups 1 and 2.

Ours, in groups of the proportions of Sagawa et al. 2020 (Waterbirds) and Liu et al. 2015 (CelebA).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from helpers.data.attributed import Grouped
from helpers.data.images import OBJECTS, Dataset, load

BIRD, AIRPLANE = OBJECTS.index("bird"), OBJECTS.index("airplane")
SKY_GROUPS = ("birds on land", "birds in the sky", "airplanes on land", "airplanes in the sky")
LAND, BLUE, NEITHER = 0, 1, -1
BORDER = 4  # pixels of the border, on three sides
# samples of groups 0 to 3; the training set has the proportions of Waterbirds …
SKY = {"train": (2200, 116, 35, 660), "val": (150,) * 4, "test": (400,) * 4}
# … or of CelebA, as many as there are airplanes on land for (birds in the sky stand for blond men)
SKY_FACES = {"train": (202, 12, 590, 632), "val": (57,) * 4, "test": (400,) * 4}


def border_colour(images: Tensor) -> Tensor:
    """Mean colour `(n, 3)` of the upper, left and right border, float32 in the images' unit.

    The lower border is left out, since an object that stands on something stands there.

    Raises:
        ValueError: no colour images, or smaller ones than the border needs.

    >>> border_colour(torch.full((1, 3, 32, 32), 7, dtype=torch.uint8))
    tensor([[7., 7., 7.]])
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) <= 2 * BORDER:
        raise ValueError(
            f"images have shape {tuple(images.shape)}: expected (n, 3, h, w) with sides above "
            f"{2 * BORDER} pixels"
        )
    inside = torch.ones(images.shape[2:], dtype=torch.bool)
    inside[BORDER:, BORDER:-BORDER] = False
    return images.flatten(2)[..., inside.flatten().to(images.device)].float().mean(2)


def background(images: Tensor) -> Tensor:
    """What is behind the object, `(n,)` int64: :data:`BLUE`, :data:`LAND` or :data:`NEITHER`.

    With the mean colour r, g, b of the border in 0..255: blue where b > r + 15 and b >= g; land
    where r > b + 10 or g > b + 10; else (grey skies, snow, white) neither.

    Args:
        images: `(n, 3, h, w)` uint8, or floats in [0, 1].

    Raises:
        ValueError: as :func:`border_colour`.

    >>> sky, grass = (torch.tensor(c, dtype=torch.uint8) for c in ([90, 140, 220], [90, 140, 60]))
    >>> background(torch.stack([sky, grass, sky * 0])[:, :, None, None].expand(3, 3, 32, 32))
    tensor([ 1,  0, -1])
    """
    scale = 255 if images.is_floating_point() else 1
    r, g, b = (scale * border_colour(images)).T
    found = torch.full((len(images),), NEITHER, device=images.device)
    found[(r > b + 10) | (g > b + 10)] = LAND
    found[(b > r + 15) & (b >= g)] = BLUE
    return found


def sky_pool(data_dir: str | Path | None = None) -> tuple[Grouped, Tensor]:
    """All birds and airplanes of CIFAR-10 whose background is told, uint8, in the order of the set.

    Returns:
        The pictures, and `(n,)` their places in CIFAR-10: up to 49,999 in the training set, and
        50,000 more than in the test set there. (Folders of images have an order of their own.)

    Raises:
        DatasetNotFound: CIFAR-10 is not on this machine.
    """
    both = [load("cifar10", train=train, data_dir=data_dir) for train in (True, False)]
    return _pool(both)


def _pool(both: Sequence[Dataset]) -> tuple[Grouped, Tensor]:
    labels = torch.cat([part.labels for part in both])
    place = ((labels == BIRD) | (labels == AIRPLANE)).nonzero().flatten()
    images = torch.cat([part.images for part in both])[place]
    ground = background(images)
    told = ground != NEITHER
    source = f"birds and airplanes of {both[0].source.replace(', ', ' (', 1)})"
    label = (labels[place[told]] == AIRPLANE).long()
    return Grouped(images[told], label, ground[told], source), place[told]


def sky_birds(
    *,
    seed: int = 0,
    sizes: Mapping[str, Sequence[int]] = SKY,
    data_dir: str | Path | None = None,
) -> dict[str, Grouped]:
    """Birds against airplanes, on land and in the sky: a stand-in for Waterbirds.

    Training and test pictures of CIFAR-10 are put together and divided anew by the seed, since the
    test set alone has too few birds in the sky. Each picture is used at most once.

    Args:
        seed: of the choice of pictures, and their order.
        sizes: samples of groups 0 to 3 in each split: :data:`SKY`, :data:`SKY_FACES` or others.
        data_dir: as in :func:`helpers.data.load`.

    Returns:
        `{"train": …, "val": …, "test": …}` of the keys of `sizes`; uint8 images `(n, 3, 32, 32)`.

    Raises:
        ValueError: sizes that are not four numbers each, or more pictures than there are.
        DatasetNotFound: CIFAR-10 is not on this machine.
    """
    for split, counts in sizes.items():
        if len(counts) != 4 or any(n < 0 for n in counts):
            raise ValueError(f"sizes of {split!r} are {tuple(counts)}: four numbers are expected")
    pool, _ = sky_pool(data_dir)
    generator = torch.Generator().manual_seed(seed)
    left = []
    for group, there in enumerate(pool.counts()):
        if (wanted := sum(counts[group] for counts in sizes.values())) > there:
            raise ValueError(
                f"sizes ask for {wanted:,} {SKY_GROUPS[group]} (group {group}): there are {there:,}"
            )
        rows = (pool.group == group).nonzero().flatten()
        left.append(rows[torch.randperm(there, generator=generator)])
    made = {}
    for split, counts in sizes.items():
        parts = [left[group].tensor_split([n]) for group, n in enumerate(counts)]
        rows = torch.cat([own for own, _ in parts])
        left = [rest for _, rest in parts]
        made[split] = pool.rows(rows[torch.randperm(len(rows), generator=generator)])
    return made


def sky_sample(
    each: int, seed: int = 0, data_dir: str | Path | None = None
) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """So many random pictures of each group, to be looked at.

    Returns:
        Images `(each, 3, 32, 32)` uint8 by the names of the groups, and their places in CIFAR-10.

    Raises:
        ValueError: fewer pictures in a group.
        DatasetNotFound: CIFAR-10 is not on this machine.
    """
    pool, place = sky_pool(data_dir)
    if not 1 <= each <= min(pool.counts()):
        raise ValueError(f"each is {each}: groups have {pool.counts()} pictures")
    generator = torch.Generator().manual_seed(seed)
    images, places = {}, {}
    for group, name in enumerate(SKY_GROUPS):
        rows = (pool.group == group).nonzero().flatten()
        chosen = rows[torch.randperm(len(rows), generator=generator)[:each]]
        images[name], places[name] = pool.images[chosen], place[chosen].tolist()
    return images, places
