"""Fashion-MNIST garments on rendered land and water: a stand-in for Waterbirds.

Ours, in groups as large as those of Sagawa et al. 2020.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from helpers.data.attributed import Grouped
from helpers.data.images import load
from helpers.data.labels import check_values

# samples of groups 0 to 3 in training, validation and test set
WATERBIRDS = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133),
              "test": (2255, 2255, 642, 642)}  # fmt: skip
CELEBA = {"train": (71629, 66874, 22880, 1387), "val": (8535, 8276, 2874, 182),
          "test": (9767, 7535, 2480, 180)}  # fmt: skip
GARMENT_PAIRS = ((5, 7), (8, 9))  # sandals, sneakers; bags, ankle boots
DIGIT_PAIRS = ((3, 5), (8, 9))
# one twentieth of CelebA's training groups; validation and test set balanced instead
CELEBA_LIKE = {"train": (3581, 3344, 1144, 69), "val": (150,) * 4, "test": (600,) * 4}


def fashion_birds(
    *,
    seed: int = 0,
    sizes: Mapping[str, Sequence[int]] = WATERBIRDS,
    dataset: str = "fashion_mnist",
    classes: tuple[tuple[int, ...], tuple[int, ...]] = GARMENT_PAIRS,
    contrast: float = 1.0,
    data_dir: str | Path | None = None,
) -> dict[str, Grouped]:
    """Fashion-MNIST garments, pasted on land or water: a stand-in for Waterbirds.

    The class is the kind of garment, the attribute the background. Each garment is used once, at a
    random place of a 32 x 32 canvas. Land is a sum of plane waves in a brownish green, water a
    pattern of horizontal waves in blue; both with their own random colour and noise in each image.

    Args:
        seed: of the choice of garments, their places and the backgrounds.
        sizes: samples of groups 0 to 3 in each split.
        dataset: grey images of 28 x 28 pixels, one of :func:`helpers.data.load`; `"mnist5k"` needs
            no files.
        classes: its classes that make up class 0, and class 1; :data:`DIGIT_PAIRS` for digits.
        contrast: 0 takes the difference between land and water away, 1 is the full difference.
        data_dir: as in :func:`helpers.data.load`.

    Returns:
        `{"train": …, "val": …, "test": …}` of the keys of `sizes`; float32 images.

    Raises:
        ValueError: more samples than there are garments, a class in both places, a contrast
            outside [0, 1].
        DatasetNotFound: the images are not on this machine.
    """
    if set(classes[0]) & set(classes[1]) or not all(classes):
        raise ValueError(f"classes is {classes}: two sets that share nothing are needed")
    if not 0 <= contrast <= 1:
        raise ValueError(f"contrast is {contrast}: allowed is 0 to 1")
    both = [load(dataset, train=train, data_dir=data_dir) for train in (True, False)]
    generator = torch.Generator().manual_seed(seed)
    pools = []
    for label in (0, 1):
        images = torch.cat([part.only(classes[label]).images for part in both])
        pools.append(images[torch.randperm(len(images), generator=generator)])
        needed = sum(sum(size[2 * label : 2 * label + 2]) for size in sizes.values())
        if needed > len(images):
            raise ValueError(
                f"sizes ask for {needed:,} images of class {label}: there are {len(images):,}"
            )
    made = {}
    kind = "garments" if dataset == "fashion_mnist" else "images"
    source = f"{kind} of {both[0].source.split(',')[0]} on rendered land and water"
    for split, counts in sizes.items():
        group = torch.arange(4).repeat_interleave(torch.tensor(counts))
        group = group[torch.randperm(len(group), generator=generator)]
        label, attribute = group // 2, group % 2
        garments = torch.empty(len(group), 1, 28, 28)
        for y in (0, 1):
            rows = (label == y).nonzero().flatten()
            own, pools[y] = pools[y].tensor_split([len(rows)])
            garments[rows] = own.float() / 255
        ground = backgrounds(attribute, contrast=contrast, generator=generator)
        made[split] = Grouped(_paste(garments, ground, generator), label, attribute, source)
    return made


def backgrounds(
    water: torch.Tensor, *, contrast: float = 1.0, size: int = 32, generator: torch.Generator
) -> torch.Tensor:
    """Rendered land (0) or water (1), `(n,)` to `(n, 3, size, size)` float32 in [0, 1].

    Raises:
        ValueError: other numbers than 0 and 1.
    """
    check_values("water", water, (0, 1))
    n, water = len(water), water.bool()

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    rows, columns = torch.meshgrid(*[torch.arange(size) / size] * 2, indexing="ij")
    turns = 2 * math.pi
    # land: three plane waves of frequency 1 to 4 in any direction
    frequency, direction, phase = (uniform(*ends, 3) for ends in ((1, 4), (0, turns), (0, turns)))
    along = [f[..., None, None] for f in (frequency * direction.cos(), frequency * direction.sin())]
    waves = torch.sin(turns * (along[0] * columns + along[1] * rows) + phase[..., None, None])
    land = waves.sum(1) / 6 + 0.5
    # water: horizontal waves that bend
    ripples, bends = uniform(3, 7, 1, 1), uniform(0.5, 2, 1, 1)
    bent = 0.3 * torch.sin(turns * bends * columns + uniform(0, turns, 1, 1))
    sea = 0.5 + 0.5 * torch.sin(turns * (ripples * rows + bent) + uniform(0, turns, 1, 1))

    colours = torch.tensor([[0.45, 0.45, 0.20], [0.25, 0.40, 0.55]])
    colours = colours.mean(0) + contrast * (colours - colours.mean(0))
    tint = colours[water.long()] + 0.10 * torch.randn(n, 3, generator=generator)
    both = (1 - contrast) * (land + sea) / 2
    texture = both + contrast * torch.where(water[:, None, None], sea, land)
    noise = 0.05 * torch.randn(n, 3, size, size, generator=generator)
    return (tint[..., None, None] * (0.6 + 0.6 * texture[:, None]) + noise).clamp_(0, 1)


def _paste(
    garments: torch.Tensor, ground: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Garments `(n, 1, h, w)` on backgrounds, each at its own random place."""
    n, room = len(garments), ground.shape[-1] - garments.shape[-1]
    framed = garments.new_zeros(n, 1, *ground.shape[-2:])
    place = torch.randint(0, room + 1, (n, 2), generator=generator)
    height, width = garments.shape[-2:]
    for top in range(room + 1):
        for left in range(room + 1):
            here = (place == torch.tensor([top, left])).all(1)
            framed[here, :, top : top + height, left : left + width] = garments[here]
    matte = (6 * framed).clamp(max=1)
    return matte * framed + (1 - matte) * ground
