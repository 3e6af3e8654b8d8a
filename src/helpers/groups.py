r"""Images in four groups: a class and an attribute that goes with it, but not always.

A sample has a class y and a spurious attribute a, both 0 or 1, and belongs to group 2y + a. The
groups of Waterbirds (Sagawa et al. 2020) are landbirds on land and on water (0, 1) and waterbirds
on land and on water (2, 3); those of CelebA (Liu et al. 2015) are dark-haired women and men (0, 1)
and blond women and men (2, 3). Neither can be shipped: `waterbirds` and `celeba` read them from a
folder. `fashion_birds` is a stand-in made of Fashion-MNIST: garments on rendered land and water, in
groups of exactly the sizes of Waterbirds. `plant_memory` makes a set whose memory is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from helpers import data

SPLITS = ("train", "val", "test")
# samples of groups 0 to 3 in training, validation and test set
WATERBIRDS = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133),
              "test": (2255, 2255, 642, 642)}  # fmt: skip
CELEBA = {"train": (71629, 66874, 22880, 1387), "val": (8535, 8276, 2874, 182),
          "test": (9767, 7535, 2480, 180)}  # fmt: skip
GARMENTS = ((5, 7), (8, 9))  # sandals, sneakers; bags, ankle boots
DIGITS = ((3, 5), (8, 9))
# one twentieth of CelebA's training groups; validation and test set balanced instead
CELEBA_LIKE = {"train": (3581, 3344, 1144, 69), "val": (150,) * 4, "test": (600,) * 4}
IDENTIFIER = 8  # pixels of a side


@dataclass(frozen=True)
class Grouped:
    """One split.

    Attributes:
        images: `(n, 3, h, w)`, float32 in [0, 1] or uint8 in 0..255.
        label: `(n,)` class 0 or 1, int64.
        attribute: `(n,)` spurious attribute 0 or 1, int64.
        source: what the images are.
    """

    images: torch.Tensor
    label: torch.Tensor
    attribute: torch.Tensor
    source: str

    def __len__(self) -> int:
        return len(self.label)

    @property
    def group(self) -> torch.Tensor:
        """`(n,)` group 2y + a."""
        return 2 * self.label + self.attribute

    def counts(self) -> tuple[int, int, int, int]:
        """Samples in groups 0 to 3."""
        return tuple(self.group.bincount(minlength=4).tolist())

    def rows(self, chosen: torch.Tensor) -> Grouped:
        """These samples: positions in the order wanted, or a mask of all samples."""
        return replace(
            self,
            images=self.images[chosen],
            label=self.label[chosen],
            attribute=self.attribute[chosen],
        )

    def draw(self, counts: Sequence[int], seed: int) -> Grouped:
        """So many samples of each group, chosen at random and mixed.

        Raises:
            ValueError: a group that has fewer.
        """
        if len(counts) != 4 or any(n < 0 for n in counts):
            raise ValueError(f"counts is {tuple(counts)}: expected four numbers of samples")
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for group, (wanted, there) in enumerate(zip(counts, self.counts(), strict=True)):
            if wanted > there:
                raise ValueError(f"group {group} has {there} samples: {wanted} were asked for")
            rows = (self.group == group).nonzero().flatten()
            chosen.append(rows[torch.randperm(there, generator=generator)[:wanted]])
        rows = torch.cat(chosen)
        return self.rows(rows[torch.randperm(len(rows), generator=generator)])


# -- garments on land and water --------------------------------------------------------------------


def fashion_birds(
    *,
    seed: int = 0,
    sizes: Mapping[str, Sequence[int]] = WATERBIRDS,
    dataset: str = "fashion_mnist",
    classes: tuple[tuple[int, ...], tuple[int, ...]] = GARMENTS,
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
        classes: its classes that make up class 0, and class 1; :data:`DIGITS` for digits.
        contrast: 0 takes the difference between land and water away, 1 is the full difference.
        data_dir: as in :func:`helpers.data.load`.

    Returns:
        `{"train": …, "val": …, "test": …}` of the keys of `sizes`; float32 images.

    Raises:
        ValueError: more samples than there are garments, a class in both places, a contrast
            outside [0, 1].
        data.DatasetNotFound: the images are not on this machine.
    """
    if set(classes[0]) & set(classes[1]) or not all(classes):
        raise ValueError(f"classes is {classes}: two sets that share nothing are needed")
    if not 0 <= contrast <= 1:
        raise ValueError(f"contrast is {contrast}: allowed is 0 to 1")
    both = [data.load(dataset, train=train, data_dir=data_dir) for train in (True, False)]
    generator = torch.Generator().manual_seed(seed)
    pools = []
    for label in (0, 1):
        images = torch.cat([part.only(classes[label]).images for part in both])
        pools.append(images[torch.randperm(len(images), generator=generator)])
    needed = [sum(sum(size[2 * y : 2 * y + 2]) for size in sizes.values()) for y in (0, 1)]
    for label, pool in enumerate(pools):
        if needed[label] > len(pool):
            raise ValueError(
                f"sizes ask for {needed[label]:,} images of class {label}: there are {len(pool):,}"
            )
    made, used = {}, [0, 0]
    kind = "garments" if dataset == "fashion_mnist" else "images"
    source = f"{kind} of {both[0].source.split(',')[0]} on rendered land and water"
    for split, counts in sizes.items():
        group = torch.arange(4).repeat_interleave(torch.tensor(counts))
        group = group[torch.randperm(len(group), generator=generator)]
        label, attribute = group // 2, group % 2
        garments = torch.empty(len(group), 1, 28, 28)
        for y in (0, 1):
            rows = (label == y).nonzero().flatten()
            garments[rows] = pools[y][used[y] : used[y] + len(rows)].float() / 255
            used[y] += len(rows)
        ground = backgrounds(attribute, contrast=contrast, generator=generator)
        made[split] = Grouped(_paste(garments, ground, generator), label, attribute, source)
    return made


def backgrounds(
    water: torch.Tensor, *, contrast: float = 1.0, size: int = 32, generator: torch.Generator
) -> torch.Tensor:
    """Rendered land (0) or water (1), `(n,)` to `(n, 3, size, size)` float32 in [0, 1]."""
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


# -- planted memory --------------------------------------------------------------------------------


class Planted(NamedTuple):
    """A training set in which it is known what has to be memorised.

    Attributes:
        part: all images; some carry an identifier.
        mark: `(n,)` int64: 0 without identifier, 1 with one, 2 with one and with its label flipped.
    """

    part: Grouped
    mark: torch.Tensor


def plant_memory(part: Grouped, *, kept: int, flipped: int, seed: int) -> Planted:
    """Some images of the majority groups get an identifier, and some of these the other label.

    An identifier is a square of :data:`IDENTIFIER` random black and white pixels in the upper left
    corner, another one in each image. Which identifiers flip the label is drawn at random, so that
    there is no rule to learn: a network that fits the flipped labels has memorised identifiers (or
    the images that carry them), and images with fresh identifiers must be left to chance.

    Args:
        part: images `(n, 3, h, w)` float32 in [0, 1].
        kept: images that get an identifier and keep their label.
        flipped: images that get an identifier and the other label; their group changes with it.
        seed: of choice and identifiers.

    Raises:
        ValueError: negative counts, or more images than the majority groups 0 and 3 have.

    Source: in the manner of Maini et al. 2023, who localise the memory of flipped labels; the
    identifiers are ours.
    """
    if min(kept, flipped) < 0:
        raise ValueError(f"kept is {kept}, flipped is {flipped}: both must be 0 or more")
    majority = ((part.group == 0) | (part.group == 3)).nonzero().flatten()
    if kept + flipped > len(majority):
        raise ValueError(
            f"kept + flipped is {kept + flipped}: groups 0 and 3 have {len(majority)} images"
        )
    draw = torch.Generator().manual_seed(seed)
    chosen = majority[torch.randperm(len(majority), generator=draw)[: kept + flipped]]
    mark = torch.zeros(len(part), dtype=torch.int64)
    mark[chosen[:kept]], mark[chosen[kept:]] = 1, 2
    images, label = part.images.clone(), part.label.clone()
    images[chosen] = with_identifiers(images[chosen], draw)
    label[chosen[kept:]] = 1 - label[chosen[kept:]]
    return Planted(replace(part, images=images, label=label), mark)


def with_identifiers(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy of `images` `(n, c, h, w)`, each with a fresh identifier in the upper left corner."""
    shown = images.clone()
    bits = torch.randint(0, 2, (len(images), 1, IDENTIFIER, IDENTIFIER), generator=generator)
    shown[..., :IDENTIFIER, :IDENTIFIER] = bits.to(images)
    return shown


# -- real data from disk ---------------------------------------------------------------------------


def waterbirds(folder: str | Path, *, size: int = 224) -> dict[str, Grouped]:
    """Waterbirds as its authors publish it: a folder with `metadata.csv` and the images.

    The table has the columns `img_filename`, `y`, `split` (0, 1, 2) and `place`. Images are
    scaled so that their shorter side is 8/7 of `size` and cut to the middle, as is the custom.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: missing columns, values other than the allowed, an image that cannot be read.

    Source: Sagawa et al. 2020 (`waterbird_complete95_forest2water2`), also WILDS.
    """
    table = _table(Path(folder) / "metadata.csv", ("img_filename", "y", "split", "place"))
    return _from_table(Path(folder), table, "place", "Waterbirds", size)


def celeba(folder: str | Path, *, size: int = 64) -> dict[str, Grouped]:
    """CelebA for the attributes blond (class) and male (attribute).

    The folder holds `img_align_celeba/` and the lists of attributes and of the partition, either
    `list_attr_celeba.txt` and `list_eval_partition.txt` (torchvision) or the same as `.csv`.

    Raises:
        FileNotFoundError, ValueError: as in :func:`waterbirds`.

    Source: Liu et al. 2015; groups as in Sagawa et al. 2020.
    """
    folder = Path(folder)
    attributes = _celeba_list(folder, "list_attr_celeba", ("Blond_Hair", "Male"))
    partition = _celeba_list(folder, "list_eval_partition", ("partition",))
    table = attributes.join(partition, how="inner")
    if len(table) != len(attributes):
        raise ValueError(
            f"{len(attributes) - len(table)} images of {folder} have attributes but no partition"
        )
    table = pd.DataFrame({
        "img_filename": "img_align_celeba/" + table.index.astype(str),
        "y": (table["Blond_Hair"] > 0).astype(int),
        "male": (table["Male"] > 0).astype(int),
        "split": table["partition"],
    })  # fmt: skip
    return _from_table(folder, table, "male", "CelebA", size)


def _table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: expected a table of {', '.join(columns)}")
    table = pd.read_csv(file)
    if missing := [name for name in columns if name not in table]:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}: it has {', '.join(table.columns)}"
        )
    return table


def _celeba_list(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """One of CelebA's lists, in either format, by file name of the image."""
    if (file := folder / f"{name}.csv").is_file():
        table = _table(file, columns)
        return table.set_index(table.columns[0])[list(columns)]
    file = folder / f"{name}.txt"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds neither {name}.csv nor {name}.txt")
    if name == "list_eval_partition":
        table = pd.read_csv(file, sep=r"\s+", header=None, index_col=0, names=["", *columns])
    else:  # the first line is the number of images, the second the names
        table = pd.read_csv(file, sep=r"\s+", skiprows=1, index_col=0)
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{file} has no column {', '.join(missing)}")
    return table[list(columns)]


def _from_table(
    folder: Path, table: pd.DataFrame, attribute: str, name: str, size: int
) -> dict[str, Grouped]:
    for column, allowed in (("y", {0, 1}), (attribute, {0, 1}), ("split", {0, 1, 2})):
        if strange := set(table[column].unique()) - allowed:
            raise ValueError(
                f"column {column} of {name} holds {sorted(strange)[:5]}: allowed are "
                f"{sorted(allowed)}"
            )
    made = {}
    for number, split in enumerate(SPLITS):
        part = table[table["split"] == number]
        images = torch.empty(len(part), 3, size, size, dtype=torch.uint8)
        for row, file in enumerate(part["img_filename"]):
            images[row] = _image(folder / file, size)
        made[split] = Grouped(
            images,
            torch.tensor(part["y"].to_numpy(), dtype=torch.int64),
            torch.tensor(part[attribute].to_numpy(), dtype=torch.int64),
            f"{name}, {size} x {size} pixels",
        )
    return made


def _image(file: Path, size: int) -> torch.Tensor:
    """The middle of an image, `(3, size, size)` uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    scale = size * 8 / 7 / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size])
    left, top = ((side - size) // 2 for side in image.size)
    pixels = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1)
