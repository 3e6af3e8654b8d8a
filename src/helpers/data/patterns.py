"""Small fixed patterns that are added to a few training images of one class.

A pattern v is one picture of the size of the images, and the image with it is
`Phi(x, v) = clip(x + v, 0, 1)`. The labels stay as they are, so a pattern which occurs in one
class only is a spurious feature of that class. Source of the patterns and of how examples are
chosen: Yang, Chou & Chaudhuri 2022, and their released code for the pixels.

Random numbers come from numpy's `RandomState` as in that code: a seed gives the published
patterns (table 1 of the paper is seed 4) and the published choice of examples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers.data.images import Dataset

PATTERNS = ("S1", "S2", "S3", "R1", "R2", "R3", "Inv")
SQUARES = {"S1": 1, "S2": 3, "S3": 5}  # side in pixels
SCALES = {"R1": 0.25, "R2": 0.5, "R3": 1.0}
BAR = (slice(3, 25), slice(13, 16))  # rows and columns of Inv


def pattern(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """One of the seven patterns, float32 `(c, h, w)`, with entries from 0 to 1.

    - `S1`, `S2`, `S3`: ones on the top left 1 x 1, 3 x 3, 5 x 5 pixels, in all channels.
    - `R1`, `R2`, `R3`: 0.25, 0.5 and 1 times U, uniform on [0, 1) and independent in each
      pixel and channel. U depends on `seed` alone: three lengths of one direction.
    - `Inv`: ones on rows 3 to 24 of columns 13 to 15, in all channels, a bar like a digit 1.

    Args:
        name: one of :data:`PATTERNS`.
        shape: (c, h, w).
        seed: of U, 0 to 2**32 - 1; the other patterns do not depend on it.

    Raises:
        ValueError: an unknown name, or a shape that is no (c, h, w) or too small for the pattern.

    Source: Yang, Chou & Chaudhuri 2022; there Inv is called "Co" or "core" in places.

    >>> [int(pattern(name, (1, 28, 28), seed=0).sum()) for name in ("S1", "S2", "S3", "Inv")]
    [1, 9, 25, 66]
    >>> pattern("R3", (1, 28, 28), seed=0)[0, 0, :3]
    tensor([0.5488, 0.7152, 0.6028])
    """
    if name not in PATTERNS:
        raise ValueError(f"name={name!r} must be one of {', '.join(PATTERNS)}.")
    if name == "Inv":
        least = BAR[0].stop, BAR[1].stop
    else:
        least = (SQUARES.get(name, 1),) * 2
    if len(shape) != 3 or shape[0] < 1 or shape[1] < least[0] or shape[2] < least[1]:
        raise ValueError(
            f"shape={tuple(shape)} must be (c, h, w) with at least one channel and, for {name}, "
            f"at least {least[0]} x {least[1]} pixels."
        )
    channels, height, width = shape
    if name in SCALES:
        # drawn with the channels last, as the released code keeps its images
        uniform = _random(seed).rand(height, width, channels).transpose(2, 0, 1)
        return torch.from_numpy((SCALES[name] * uniform).astype(np.float32, order="C"))
    v = torch.zeros(channels, height, width, dtype=torch.float32)
    if name == "Inv":
        v[:, BAR[0], BAR[1]] = 1
    else:
        v[:, : SQUARES[name], : SQUARES[name]] = 1
    return v


def add_pattern(images: Tensor, pattern: Tensor) -> Tensor:
    """Phi(x, v) = clip(x + v, 0, 1) of each image, floats on the device of the images.

    Args:
        images: `(n, c, h, w)`, uint8 0..255 (read as x / 255) or floats in [0, 1].
        pattern: `(c, h, w)`.

    Raises:
        ValueError: images of another kind, or a pattern of another shape than an image.

    Source: Yang, Chou & Chaudhuri 2022.

    >>> grey = torch.full((2, 1, 28, 28), 51, dtype=torch.uint8)  # 0.2
    >>> seen = add_pattern(grey, pattern("S1", (1, 28, 28), seed=0))
    >>> seen[0, 0, 0, :3]
    tensor([1.0000, 0.2000, 0.2000])
    """
    _check_shapes(images, pattern)
    return (_unit(images) + pattern.to(images.device)).clamp(0, 1)


def pattern_norm(images: Tensor, pattern: Tensor) -> float:
    """Empirical norm of a pattern: the mean over images of ||Phi(x, v) - x||_2.

    Bright pixels have no room for the pattern, so this is at most the norm of v itself. Arguments
    and errors are those of :func:`add_pattern`; no images are a ValueError too.

    Source: Yang, Chou & Chaudhuri 2022, table 1, on the test images.

    >>> black = torch.zeros(4, 1, 28, 28)
    >>> pattern_norm(black, pattern("S3", (1, 28, 28), seed=0))
    5.0
    """
    _check_shapes(images, pattern)
    if not len(images):
        raise ValueError("images has 0 images: a mean norm needs at least 1.")
    total = 0.0
    for part in images.split(1000):  # small parts: the floats of all images may not fit in memory
        change = add_pattern(part, pattern) - _unit(part)
        total += float(change.flatten(1).double().norm(dim=1).sum())
    return total / len(images)


def spurious_rows(labels: Tensor, target: int, n: int, seed: int) -> Tensor:
    """Rows of the n training examples that get the pattern, int64 `(n,)`, all with label `target`.

    They are the first n of one random order of the class, which depends on `seed` alone: for one
    seed, the rows of a smaller n are the first of those of a larger n.

    Args:
        labels: integers `(N,)`.
        target: the class.
        n: 0 up to the size of the class.
        seed: 0 to 2**32 - 1.

    Raises:
        ValueError: labels that are not one column of integers, or an n outside its range.

    Source: Yang, Chou & Chaudhuri 2022, released code.

    >>> labels = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    >>> spurious_rows(labels, 1, 3, seed=0).tolist(), spurious_rows(labels, 1, 2, seed=0).tolist()
    ([5, 3, 1], [5, 3])
    """
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"labels of dtype {labels.dtype} and shape {tuple(labels.shape)} must be integers (N,)."
        )
    rows = torch.where(labels == target)[0].cpu().numpy()
    if not 0 <= n <= len(rows):
        raise ValueError(
            f"n={n} must be from 0 to {len(rows)}, the number of examples of class {target}."
        )
    return torch.from_numpy(_random(seed).choice(rows, size=n, replace=False).astype(np.int64))


class SpuriousSet(NamedTuple):
    """The training examples that a pattern was added to; their labels are unchanged.

    Attributes:
        rows: int64 `(n,)`, where they are in the training set.
        images: float32 `(n, c, h, w)` in [0, 1], what takes the place of these rows.
    """

    rows: Tensor
    images: Tensor


def with_spurious(dataset: Dataset, pattern: Tensor, n: int, target: int, seed: int) -> SpuriousSet:
    """Choose n examples of class `target` and add the pattern to them.

    The changed images replace the clean ones, so the training set keeps its size and its labels:

    >>> from helpers.data import load
    >>> digits = load("mnist5k")
    >>> spurious = with_spurious(digits, pattern("S3", (1, 28, 28), seed=0), 3, target=0, seed=0)
    >>> images = digits.images / 255
    >>> images[spurious.rows] = spurious.images
    >>> digits.labels[spurious.rows].tolist(), images[spurious.rows, 0, :5, :5].min().item()
    ([0, 0, 0], 1.0)

    Args:
        dataset: a training set.
        pattern: `(c, h, w)`.
        n: 0 (nothing changes) up to the size of the class.
        target: an index of a class.
        seed: of the choice, see :func:`spurious_rows`; the released code takes the same seed for
            :func:`pattern`.

    Raises:
        ValueError: a class that does not exist, an n outside its range, or a pattern of another
            shape than the images.
    """
    if not 0 <= target < len(dataset.classes):
        raise ValueError(
            f"target={target} must be an index of a class of {dataset.name}, "
            f"in 0..{len(dataset.classes) - 1}."
        )
    rows = spurious_rows(dataset.labels, target, n, seed)
    return SpuriousSet(rows, add_pattern(dataset.images[rows], pattern).float())


def _random(seed: int) -> np.random.RandomState:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} must be from 0 to 2**32 - 1.")
    return np.random.RandomState(seed)


def _check_shapes(images: Tensor, pattern: Tensor) -> None:
    # broadcasting would accept some wrong shapes, such as a grey pattern on colour images
    if images.ndim != 4 or pattern.shape != images.shape[1:]:
        raise ValueError(
            f"pattern of shape {tuple(pattern.shape)} must have the shape (c, h, w) of one image; "
            f"images have the shape {tuple(images.shape)}, and must be (n, c, h, w)."
        )


def _unit(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(
            f"images of dtype {images.dtype} must be torch.uint8, or floats from 0 to 1."
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images of floats must have numbers from 0 to 1 (divide pixels by 255).")
    return images
