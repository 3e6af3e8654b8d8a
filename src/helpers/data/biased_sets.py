r"""Image sets of two classes in which an attribute goes with the label for most images.

Each image has a label y and a bias attribute b, both -1 or +1, with :math:`P(b = y) = \rho`. An
image is *aligned* where b = y and *conflicting* where not. At :math:`\rho = 1/2` the attribute says
nothing about the label: that is the balanced test set.

=============== ===================================== ==========================================
set             label                                 attribute
=============== ===================================== ==========================================
`patched_mnist` digit 0-4 (-1) or 5-9 (+1)            a white patch, top right (-1), top left (+1)
`colored_mnist` digit 0-4 (-1) or 5-9 (+1)            colour: second channel (-1), first (+1)
`cats_and_dogs` cat (-1) or dog (+1), CIFAR-10        darker (-1) or brighter (+1)
=============== ===================================== ==========================================

Source: Lim, Kim & Moon 2025 name the data sets; how the paper makes them is not known to us, so
these constructions are our own.

**How images are chosen.** Both classes have the same number of images (one apart where `samples` is
odd) and exactly `round(rho * samples)` images are aligned. For one dataset and seed the images of a
smaller set are among those of a larger one; sets of one size have the same images in the same order
at every rho, and images that conflict at a larger rho also do so at a smaller one. So curves over
rho compare like with like. Training and test sets are disjoint when they come from the two splits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from helpers.data.attributed import Grouped
from helpers.data.images import Dataset

PATCH = 4  # pixels on a side
CAT, DOG = 3, 5  # classes of CIFAR-10


def patched_mnist(dataset: Dataset, rho: float, samples: int, seed: int) -> Grouped:
    """Digits with a white 4 x 4 patch in the top left (b = +1) or top right corner (b = -1).

    Args:
        dataset: digits, from `data.load("mnist")` or `"mnist5k"`; images `(n, 1, h, w)`.
        rho: share of aligned images, in [0, 1].
        samples: images in the set.
        seed: of the choice of images; see the module for what is nested in what.

    Raises:
        ValueError: rho outside [0, 1], more samples than there are or fewer than 2, a dataset that
            lacks digits of one half.

    >>> from helpers.data import load
    >>> digits = patched_mnist(load("mnist5k"), rho=0.9, samples=200, seed=0)
    >>> tuple(digits.images.shape), int(digits.aligned.sum()), float(digits.label.sum())
    ((200, 1, 28, 28), 180, 0.0)
    >>> corners = digits.images[:, 0, :4, :4].mean((1, 2)) == 1
    >>> bool((corners == (digits.attribute > 0)).all())
    True
    """
    sample = _digits(dataset, rho, samples, seed)
    sample.images[sample.attribute > 0, :, :PATCH, :PATCH] = 1
    sample.images[sample.attribute < 0, :, :PATCH, -PATCH:] = 1
    return sample


def colored_mnist(dataset: Dataset, rho: float, samples: int, seed: int) -> Grouped:
    """Digits at half resolution in the first (b = +1) or second (b = -1) of two colour channels.

    Arguments and errors as in :func:`patched_mnist`; images are `(n, 2, h/2, w/2)`, each pixel the
    mean of 2 x 2.

    >>> from helpers.data import load
    >>> digits = colored_mnist(load("mnist5k"), rho=0.75, samples=100, seed=0)
    >>> tuple(digits.images.shape)
    (100, 2, 14, 14)
    >>> empty = (digits.images.sum((2, 3)) == 0).int()       # the other channel, in each image
    >>> bool((empty.argmax(1) == (digits.attribute > 0).int()).all())
    True
    """
    grey = _digits(dataset, rho, samples, seed)
    half = torch.nn.functional.avg_pool2d(grey.images, 2)
    images = torch.cat([half, torch.zeros_like(half)], 1)
    images[grey.attribute < 0] = images[grey.attribute < 0].flip(1)
    return replace(grey, images=images)


def cats_and_dogs(
    dataset: Dataset, rho: float, samples: int, seed: int, shift: float = 0.25
) -> Grouped:
    """Cats (-1) and dogs (+1) of CIFAR-10, darkened or brightened: x to clip(x + b shift, 0, 1).

    Args:
        dataset: CIFAR-10, or any set with cats as class 3 and dogs as class 5.
        rho, samples, seed: as in :func:`patched_mnist`.
        shift: change of brightness, above 0 and at most 1.

    Raises:
        ValueError: as in :func:`patched_mnist`; a shift outside its range.
    """
    if not 0 < shift <= 1:
        raise ValueError(f"shift is {shift}: a change of brightness above 0 and at most 1 is asked")
    sides = dataset.labels == CAT, dataset.labels == DOG
    plain = _choose(dataset, sides, rho, samples, seed, "dogs")
    images = (plain.images + shift * plain.attribute[:, None, None, None]).clamp(0, 1)
    return replace(plain, images=images)


def train_and_test(
    make: Callable[[Dataset, float, int, int], Grouped],
    splits: Sequence[Dataset],
    rho: float,
    sizes: tuple[int, int],
    seed: int,
) -> tuple[Grouped, Grouped]:
    """A training set with the aligned share rho, and a balanced test set.

    Args:
        make: :func:`patched_mnist`, :func:`colored_mnist` or :func:`cats_and_dogs`.
        splits: the training and the test split of a dataset.
        rho, seed: as in `make`; the test set has a share of 1/2.
        sizes: images of the two sets.

    Raises:
        ValueError: as in `make`.

    >>> from helpers.data import load
    >>> splits = [load("mnist5k", train=train) for train in (True, False)]
    >>> both = train_and_test(patched_mnist, splits, 0.9, (100, 40), seed=0)
    >>> [int(part.aligned.sum()) for part in both]
    [90, 20]
    """
    train, test = (
        make(split, share, size, seed)
        for split, share, size in zip(splits, (rho, 0.5), sizes, strict=True)
    )
    return train, test


def centred(train: Grouped, *others: Grouped) -> list[torch.Tensor]:
    """The images as rows `(n, c h w)`, minus the mean of the training images.

    >>> one = torch.ones(2)
    >>> train = Grouped(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), one, one)
    >>> centred(train)[0].tolist()
    [[-0.5], [0.5]]
    """
    mean = train.flat.mean(0)
    return [part.flat - mean for part in (train, *others)]


def _digits(dataset: Dataset, rho: float, samples: int, seed: int) -> Grouped:
    """Grey digits; the caller paints the attribute."""
    if dataset.images.ndim != 4 or dataset.images.shape[1] != 1:
        raise ValueError(
            f"images have shape {tuple(dataset.images.shape)}: expected grey digits (n, 1, h, w)"
        )
    sides = dataset.labels < 5, dataset.labels >= 5
    return _choose(dataset, sides, rho, samples, seed, "digits 5-9")


def _choose(
    dataset: Dataset, sides: Sequence[torch.Tensor], rho: float, samples: int, seed: int, name: str
) -> Grouped:
    """Images of the sides -1 and +1 (the latter has the name), in a random order."""
    if not 0 <= rho <= 1:
        raise ValueError(f"rho is {rho}: the share of aligned images is between 0 and 1")
    if samples < 2:
        raise ValueError(f"samples is {samples}: at least one image of each class is needed")
    generator = torch.Generator().manual_seed(seed)
    aligned = round(rho * samples)
    parts = [
        (sides[0], -1.0, samples - samples // 2, aligned - aligned // 2),
        (sides[1], 1.0, samples // 2, aligned // 2),
    ]
    found = []
    for members, sign, wanted, agree in parts:
        pool = members.nonzero().flatten()
        if len(pool) < wanted:
            side = name if sign > 0 else f"the other class than {name}"
            raise ValueError(
                f"samples is {samples}, so {wanted} images of {side} are needed: "
                f"the dataset has {len(pool)}"
            )
        # drawn for the whole pool, so that a larger set only adds images
        order = pool[torch.randperm(len(pool), generator=generator)][:wanted]
        attribute = torch.full((wanted,), sign)
        attribute[: wanted - agree] = -sign
        found.append((order, torch.full((wanted,), sign), attribute))
    mix = torch.randperm(samples, generator=generator)
    chosen, label, attribute = (torch.cat(part)[mix] for part in zip(*found, strict=True))
    return Grouped(dataset.images[chosen].float() / 255, label, attribute, dataset.source)
