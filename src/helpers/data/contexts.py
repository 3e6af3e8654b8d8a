"""Pictures in natural contexts: rendered ones, and the protocol of rare contexts.

A picture shows an object in a context: a bicycle in autumn, a cat in dim light. The six contexts
are those of NICO++ (Zhang et al. 2023), which cannot be shipped: :mod:`.nicopp` reads it
from a folder. `render` puts any picture into a likeness of one of them, with light, colour and
texture; this is a surrogate. `trial_split` is the protocol of Yang, Chou & Chaudhuri 2022 for both:
a training set in which one context is shown by a few pictures of one object alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from helpers.data.images import load
from helpers.data.labels import check_answers, check_values

CONTEXTS = ("autumn", "dim", "grass", "outdoor", "rock", "water")
TRAINING_SHARE = 0.7
_CHUNK = 250  # pictures rendered at a time


# -- rendered contexts -----------------------------------------------------------------------------


def render(images: Tensor, context: str, seed: int) -> Tensor:
    """Colour pictures put into a context: `(n, 3, h, w)` in [0, 1] to the same, float32.

    The whole picture changes, each in its own way: autumn (warm light, leaves in the air), dim
    (little light, noise), grass (green light, blades before the lower part), outdoor (haze from
    above, nearly as it was), rock (grey, a coarse texture with cracks) and water (blue, waves that
    bend the picture, glints).

    Raises:
        ValueError: an unknown context, or other images than these.

    >>> shown = render(torch.full((2, 3, 32, 32), 0.5), "water", seed=0)
    >>> bool((shown.mean((0, 2, 3)).diff() > 0).all())  # bluer than green, greener than red
    True
    """
    if context not in CONTEXTS:
        raise ValueError(f"context is {context!r}: allowed are {', '.join(map(repr, CONTEXTS))}")
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images of dtype {images.dtype} and shape {tuple(images.shape)}: expected floats of "
            "shape (n, 3, h, w)"
        )
    draw = torch.Generator().manual_seed(seed)
    images = images.float()
    return _RENDERERS[context](images, _Canvas(images, draw)).clamp_(0, 1)


class _Canvas:
    """What all renderers need: coordinates from 0 to 1, and numbers of each picture's own."""

    def __init__(self, images: Tensor, draw: torch.Generator) -> None:
        self.n, _, self.height, self.width = images.shape
        self._draw = draw
        self.down = (torch.arange(self.height) + 0.5)[:, None] / self.height
        self.along = (torch.arange(self.width) + 0.5)[None] / self.width

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """`(n, *shape)`, by default `(n, 1, 1)`."""
        shape = shape or (1, 1)
        return low + (high - low) * torch.rand(self.n, *shape, generator=self._draw)

    def grain(self) -> Tensor:
        return torch.randn(self.n, 3, self.height, self.width, generator=self._draw)

    def texture(self, rows: int, columns: int, octaves: int = 4) -> Tensor:
        """`(n, 1, h, w)`, of variance 1 in each picture: smooth noise in several octaves."""
        total = torch.zeros(self.n, 1, self.height, self.width)
        for octave in range(octaves):
            grid = min(rows * 2**octave, self.height), min(columns * 2**octave, self.width)
            values = torch.randn(self.n, 1, *grid, generator=self._draw)
            total += 0.6**octave * functional.interpolate(
                values, size=total.shape[2:], mode="bicubic", align_corners=False
            )
        return total / total.std((1, 2, 3), keepdim=True)


def _colour(*rgb: float) -> Tensor:
    return torch.tensor(rgb)[None, :, None, None]


def _autumn(images: Tensor, canvas: _Canvas) -> Tensor:
    warmth = canvas.uniform(0.5, 0.9, 1, 1, 1)
    shown = torch.lerp(images, images * _colour(1.0, 0.8, 0.5) + _colour(0.1, 0.03, 0.0), warmth)
    red, green = (0.55, 0.95), (0.15, 0.65)
    for _ in range(14):
        turn = canvas.uniform(0, math.pi)
        down = canvas.down - canvas.uniform(0, 1)
        along = canvas.along - canvas.uniform(0, 1)
        # a lens: as long as its axis, pointed at both ends, with a darker rib
        axis = along * turn.cos() + down * turn.sin()
        across = (down * turn.cos() - along * turn.sin()).abs()
        long = canvas.uniform(0.05, 0.1)
        inside = 0.45 * long * (1 - (axis / long).square()) - across
        matte = (inside * 60).clamp(0, 1)[:, None] * 0.9
        rib = 1 - 0.35 * torch.exp(-((across / 0.008) ** 2))[:, None]
        r = canvas.uniform(*red, 1, 1, 1)
        tint = torch.cat([r, canvas.uniform(*green, 1, 1, 1) * r, 0.1 * r], dim=1)
        shown = torch.lerp(shown, tint * rib, matte)
    return shown


def _dim(images: Tensor, canvas: _Canvas) -> Tensor:
    light = canvas.uniform(0.27, 0.45, 1, 1, 1)
    edge = (canvas.down - 0.5) ** 2 + (canvas.along - 0.5) ** 2
    shown = images**1.2 * light * (1.1 - edge) * _colour(0.85, 0.9, 1.15)
    return shown + 0.025 * canvas.grain() + 0.02


def _grass(images: Tensor, canvas: _Canvas) -> Tensor:
    light = canvas.uniform(0.5, 0.9, 1, 1, 1)
    shown = torch.lerp(images, images * _colour(0.8, 0.95, 0.62) + _colour(0.0, 0.04, 0.0), light)
    ground = canvas.uniform(0.7, 0.88, 1, 1, 1)
    lawn = _colour(0.2, 0.42, 0.1) * (1 + 0.25 * canvas.texture(4, 12))
    shown = torch.lerp(shown, lawn, (8 * (canvas.down - ground)).clamp(0, 0.85))
    for _ in range(30):
        tall = canvas.uniform(0.12, 0.42)
        height = 1 - canvas.down  # above the lower edge
        foot, bend = canvas.uniform(0, 1), canvas.uniform(-0.4, 0.4)
        middle = foot + bend * height**1.5
        half = 0.016 * (1 - height / tall)
        matte = ((half - (canvas.along - middle).abs()) * 120 + 0.5).clamp(0, 1)
        matte = torch.where(half > 0, matte, 0.0)[:, None]
        green = canvas.uniform(0.35, 0.8, 1, 1, 1)
        tint = torch.cat([canvas.uniform(0.4, 0.75, 1, 1, 1) * green, green, 0.2 * green], dim=1)
        shown = torch.lerp(shown, tint * (0.6 + 0.8 * height), matte)
    return shown


def _outdoor(images: Tensor, canvas: _Canvas) -> Tensor:
    haze = canvas.uniform(0.1, 0.35, 1, 1, 1) * (1 - canvas.down)
    bright = images * canvas.uniform(0.9, 1.15, 1, 1, 1)
    return torch.lerp(bright, _colour(0.75, 0.87, 1.0).expand_as(images), haze)


def _rock(images: Tensor, canvas: _Canvas) -> Tensor:
    grey = images.mean(1, keepdim=True).expand_as(images)
    dull = torch.lerp(images, grey, canvas.uniform(0.5, 0.8, 1, 1, 1)) * 0.9
    relief = canvas.texture(5, 5)
    crack = torch.exp(-((canvas.texture(2, 2, 3) / 0.07) ** 2))
    stone = _colour(0.55, 0.52, 0.48) * (1 + 0.22 * relief)
    shown = torch.lerp(dull * (1 + 0.14 * relief), stone, canvas.uniform(0.2, 0.38, 1, 1, 1))
    return shown * (1 - 0.5 * crack)


def _water(images: Tensor, canvas: _Canvas) -> Tensor:
    turns = 2 * math.pi
    phase, waves = canvas.uniform(0, turns), canvas.uniform(3, 6)
    swell = torch.sin(turns * (waves * canvas.down + 0.6 * canvas.along) + phase)
    shift = canvas.uniform(0.012, 0.028) * swell
    grid = torch.stack([canvas.along + shift, (canvas.down + 0.4 * shift).expand_as(shift)], dim=-1)
    bent = functional.grid_sample(
        images, 2 * grid - 1, padding_mode="reflection", align_corners=False
    )
    depth = canvas.uniform(0.25, 0.45, 1, 1, 1) * (0.6 + 0.6 * canvas.down)
    shown = torch.lerp(bent * _colour(0.75, 0.95, 1.05), _colour(0.05, 0.3, 0.5).expand_as(bent),
                       depth)  # fmt: skip
    ripples = canvas.texture(8, 2, 3) + 0.5 * swell[:, None]
    return shown + 0.3 * (ripples - 1.1).clamp(0, 1) * _colour(0.8, 0.95, 1.0)


_RENDERERS: dict[str, Callable[[Tensor, _Canvas], Tensor]] = {
    "autumn": _autumn, "dim": _dim, "grass": _grass, "outdoor": _outdoor, "rock": _rock,
    "water": _water,
}  # fmt: skip


# -- the protocol ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Pictures of objects in contexts, not split yet.

    Attributes:
        inputs: the n pictures: a tensor `(n, …)` of pixels or features, or a list of n files.
        label: `(n,)` int64, indices into `objects`.
        context: `(n,)` int64, indices into `contexts`.
        objects, contexts: names.
        source: what the pictures are.

    Raises:
        ValueError: lengths that differ, an index of no name.
    """

    inputs: Tensor | list[Path]
    label: Tensor
    context: Tensor
    objects: tuple[str, ...]
    contexts: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        for name, index, names in (
            ("label", self.label, self.objects),
            ("context", self.context, self.contexts),
        ):
            if index.shape != (len(self.inputs),):
                raise ValueError(
                    f"{name} has shape {tuple(index.shape)}: {len(self.inputs)} pictures"
                )
            check_values(name, index, range(len(names)))

    def __len__(self) -> int:
        return len(self.label)

    def counts(self) -> Tensor:
        """`(contexts, objects)`: how many pictures there are of each."""
        shape = len(self.contexts), len(self.objects)
        cell = self.context.long() * shape[1] + self.label.long()
        return cell.bincount(minlength=shape[0] * shape[1]).view(shape)


class TrialSplit(NamedTuple):
    """Rows of a pool, one trial of the protocol.

    Attributes:
        train: all training pictures of other contexts, then the `added` ones.
        added: the n pictures of the target in the context.
        test: test pictures of the context that show other objects; the score is taken on them.
        own: test pictures of the context that show the target.
        elsewhere: test pictures of the other contexts.
    """

    train: Tensor
    added: Tensor
    test: Tensor
    own: Tensor
    elsewhere: Tensor


def halves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A random 70 % of n rows to train on and the other 30 % to test on, in random order.

    >>> [len(part) for part in halves(10, seed=0)]
    [7, 3]
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[: round(TRAINING_SHARE * n)], order[round(TRAINING_SHARE * n) :]


def trial_split(pool: Pool, context: str, target: str, n: int, seed: int) -> TrialSplit:
    """Training rows in which a context appears on n pictures of one object, the target, alone.

    The pool is split at random; every training picture of the context is dropped; n of those that
    show the target are added back. With the same seed, fewer pictures are a part of more.

    Args:
        pool: where the pictures come from.
        context: one of `pool.contexts`.
        target: one of `pool.objects`.
        n: pictures added back.
        seed: of the split and of the choice.

    Raises:
        ValueError: an unknown context or object, too few pictures, or no test picture of the
            context with another object.

    Source: Yang, Chou & Chaudhuri 2022, section on natural correlations (their figure 4).

    >>> label, context = torch.arange(40) % 2, torch.arange(40) // 20
    >>> pool = Pool(torch.zeros(40, 1), label, context, ("cat", "dog"), ("dim", "grass"), "")
    >>> split = trial_split(pool, "grass", "dog", 3, seed=0)
    >>> pool.context[split.train].sum().item(), pool.label[split.added].tolist()
    (3, [1, 1, 1])
    """
    k, o = _index(pool.contexts, context, "context"), _index(pool.objects, target, "object")
    train, test = halves(len(pool), seed)
    there = pool.context[train] == k
    candidates = train[there & (pool.label[train] == o)]
    if not 0 <= n <= len(candidates):
        raise ValueError(
            f"n is {n}: there are {len(candidates)} training pictures of {target!r} in {context!r}"
        )
    inside, other = pool.context[test] == k, pool.label[test] != o
    if not bool((inside & other).any()):
        raise ValueError(f"context {context!r} has no test picture of anything but {target!r}")
    return TrialSplit(
        train=torch.cat([train[~there], candidates[:n]]),
        added=candidates[:n],
        test=test[inside & other],
        own=test[inside & ~other],
        elsewhere=test[~inside],
    )


def _index(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        raise ValueError(f"{what} is {name!r}: the pictures have {', '.join(map(repr, names))}")
    return names.index(name)


def read_off(pool: Pool, split: TrialSplit, target: str, probabilities: Tensor) -> dict[str, float]:
    """What one network says about the test pictures of a trial.

    Args:
        pool, split, target: the trial.
        probabilities: `(len(pool), objects)`; only rows of test pictures are looked at.

    Returns:
        `rate`: share of the context's test pictures of other objects that are taken for the target
        (the score of the paper); `probability`: their mean probability of the target; `accuracy` on
        the same pictures; `own_accuracy` on pictures of the target in the context;
        `clean_accuracy` in all other contexts, and `elsewhere_rate`, the same share as the rate
        there; `test_images`: how many the rate is a share of.
        NaN for an average over no picture.

    Raises:
        ValueError: an unknown object, probabilities of another shape, or such that are not finite
            where they are looked at.
    """
    if probabilities.shape != (len(pool), len(pool.objects)):
        raise ValueError(
            f"probabilities have shape {tuple(probabilities.shape)}: expected "
            f"{(len(pool), len(pool.objects))}, pictures and objects"
        )
    asked = torch.cat([split.test, split.own, split.elsewhere])
    check_answers(probabilities[asked], pool.label[asked], single=False)
    o = _index(pool.objects, target, "object")
    taken = probabilities.argmax(1)
    right = (taken == pool.label).double()
    others = split.elsewhere[pool.label[split.elsewhere] != o]
    return {
        "rate": float((taken[split.test] == o).double().mean()),
        "probability": float(probabilities[split.test, o].double().mean()),
        "accuracy": float(right[split.test].mean()),
        "own_accuracy": float(right[split.own].mean()),
        "clean_accuracy": float(right[split.elsewhere].mean()),
        "elsewhere_rate": float((taken[others] == o).double().mean()),
        "test_images": len(split.test),
    }


# -- the surrogate ---------------------------------------------------------------------------------


def rendered(dataset: str, samples: int, size: int, seed: int, data_dir: str | Path | None) -> Pool:
    """Objects of an image data set, each picture in one of the six contexts, drawn at random.

    Args:
        dataset: of :func:`helpers.data.load`, training split. Grey images become dark on white.
        samples: pictures of each object in each context.
        size: pixels of a side, to which pictures are enlarged before they are rendered.
        seed: of the choice of pictures, of their contexts and of what is rendered.
        data_dir: as in :func:`helpers.data.load`.

    Returns:
        A pool with uint8 inputs `(60 samples, 3, size, size)` (for ten objects), mixed.

    Raises:
        ValueError: fewer pictures than that.
        DatasetNotFound: the images are not on this machine.
    """
    found = load(dataset, data_dir=data_dir)
    least = int(found.labels.bincount(minlength=len(found.classes)).min())
    if not 1 <= samples <= least // len(CONTEXTS):
        raise ValueError(
            f"samples is {samples}: {dataset} has pictures for 1 to {least // len(CONTEXTS)} of "
            "each object in each context"
        )
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(found), generator=draw)
    label = found.labels[order]
    # the first pictures of each object, which take the contexts in turn
    place = torch.stack([(label == o).cumsum(0) - 1 for o in range(len(found.classes))])
    place = place.gather(0, label[None])[0]
    kept = place < samples * len(CONTEXTS)
    label, context = label[kept], place[kept] % len(CONTEXTS)
    inputs = torch.empty(len(label), 3, size, size, dtype=torch.uint8)
    for k, name in enumerate(CONTEXTS):
        rows = (context == k).nonzero().flatten()
        for part in rows.split(_CHUNK):  # as floats, all together would take gigabytes
            own = int(torch.randint(2**31, (), generator=draw))
            shown = render(enlarged(found.images[order[kept][part]], size), name, seed=own)
            inputs[part] = (255 * shown).round().to(torch.uint8)
    source = f"{found.source}, in rendered contexts (a surrogate for NICO++)"
    return Pool(inputs, label, context, found.classes, CONTEXTS, source)


def enlarged(images: Tensor, size: int) -> Tensor:
    """uint8 `(n, c, h, w)` as colour pictures `(n, 3, size, size)`, floats in [0, 1]."""
    pictures = images.float() / 255
    if images.shape[1] == 1:
        pictures = (1 - pictures).expand(-1, 3, -1, -1)
    return functional.interpolate(
        pictures, size=(size, size), mode="bicubic", align_corners=False
    ).clamp(0, 1)
