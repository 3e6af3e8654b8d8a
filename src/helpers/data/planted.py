"""Planted memory: a training set in which it is known what has to be memorised.

Ours, in the manner of Maini et al. 2023.
"""

from dataclasses import replace
from typing import NamedTuple

import torch

from helpers.data.attributed import Grouped

IDENTIFIER = 8  # pixels of a side


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
