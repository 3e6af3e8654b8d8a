"""The flip share as the audit foretells it from a biased set, against trained linear models."""

import functools
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from helpers import audit, data, models
from helpers.sweep import Call, Cell, experiment, grid, pick
from helpers.theory.flip_share import flip_share

ALIGNED = (0.75, 0.95)  # shares of aligned samples in the sets that are audited
RARER = "mixture, rarer class"
# worlds, and whether the attribute is meant to be heavy
WORLDS = {
    "digits, bright patch": True, "digits, faint patch": False,
    "mixture, heavy": True, "mixture, light": False,
    "mixture, unequal classes": True, RARER: True,
    "SkyBirds, pixels": True, "SkyBirds, features": True,
}  # fmt: skip
_BRIGHT = {"digits, bright patch": 0.5, "digits, faint patch": 0.05}
_MEANS = {"mixture, heavy": (0.45, 1.0), "mixture, light": (0.9, 0.3),  # core, attribute
          "mixture, unequal classes": (0.75, 1.3), RARER: (0.75, 1.3)}  # fmt: skip
_PRIOR = {"mixture, unequal classes": 0.25, RARER: 0.25}  # share of class +1, elsewhere a half
_PATCH, _DIMS, _POOL = 4, 300, 8_000
_TRAINED = 3  # linear models at each share

Pool = tuple[Tensor, np.ndarray, np.ndarray]  # inputs, labels, attribute


def flip_cells(profile: str) -> list[Cell]:
    """All worlds; small sizes have those that need no files. Seeds below 200 were of pilots."""
    fixed = {"ridge": [0.1], "trial": range(200, 200 + pick(profile, 1, 20, 100))}
    if profile == "smoke":
        fixed["trial"] = [199]
        few = ["mixture, heavy", "mixture, light", RARER]
        return [
            *grid(world=["digits, bright patch"], aligned=ALIGNED[:1], samples=[400], **fixed),
            *grid(world=few, aligned=ALIGNED, samples=[200], **fixed),
        ]
    return [
        cell for world in WORLDS
        for cell in grid(world=[world], aligned=ALIGNED, samples=[_samples(world)], **fixed)
    ]  # fmt: skip


def _samples(world: str) -> int:
    """Fewer than there are dimensions, or a few times as many: the felt ridge is far from k."""
    return 400 if world.startswith("digits") else 1_000


@functools.lru_cache(maxsize=1)
def _sky(data_dir: str | None) -> dict[str, Pool]:
    pool, _ = data.sky_pool(data_dir)
    images, kinds = pool.images.float() / 255, (pool.label.numpy(), pool.attribute.numpy())
    net = models.efficientnet_lite0()

    def seen(part: Tensor) -> Tensor:
        return net(255 * functional.interpolate(part, (64, 64), mode="bilinear"))

    return {
        "SkyBirds, pixels": (functional.avg_pool2d(images, 2), *kinds),
        "SkyBirds, features": (audit.features(seen, images), *kinds),
    }


def pool_of(call: Call) -> Pool:
    """All samples of a world; where the attribute is made, it goes with neither class.

    Raises:
        DatasetNotFound: SkyBirds without CIFAR-10.
    """
    if call.world.startswith("Sky"):
        return _sky(call.data_dir)[call.world]
    rng = np.random.default_rng(call.trial)
    if call.world in _MEANS:
        core, attribute = _MEANS[call.world]
        y, s = rng.integers(0, 2, (2, _POOL))
        X = rng.standard_normal((_POOL, _DIMS)) * np.sqrt(np.linspace(0.5, 1.5, _DIMS))
        X[:, 3] += core * (2 * y - 1)
        X[:, 40] += attribute * (2 * s - 1)
        return torch.from_numpy(X), y, s
    digits = data.load("mnist5k")
    images, y = digits.images.float() / 255, (digits.labels % 2).numpy()
    s = rng.integers(0, 2, len(y))
    noise = torch.from_numpy(rng.random((int(s.sum()), 1, _PATCH, _PATCH))).float()
    images[torch.from_numpy(s == 1), :, :_PATCH, :_PATCH] = _BRIGHT[call.world] * noise
    return images, y, s


def _biased(
    group: np.ndarray, samples: int, rng: np.random.Generator, aligned: float, prior: float = 0.5
) -> np.ndarray:
    """Rows of a set of this size with classes aligned alike, a share `prior` of class +1."""
    upper = round(samples * prior)
    lower, ups = samples - upper, round(upper * aligned)
    downs = round(lower * aligned)
    counts = (downs, lower - downs, upper - ups, ups)
    return np.concatenate(
        [rng.choice(np.flatnonzero(group == g), n, replace=False) for g, n in enumerate(counts)]
    )


def _world(cell: Cell) -> Hashable:
    """Features are taken once for all trials."""
    return "sky" if cell["world"].startswith("Sky") else tuple(cell.items())


@experiment(
    "audited_flips",
    cells=flip_cells,
    tolerance={"default": 0.02, "naive": 0.05},
    cheap=lambda cell: not cell["world"].startswith("Sky"),
    group=_world,
)
def flips(calls: list[Call]) -> list[dict[str, float | str]]:
    """Audit a set of `samples`, and train linear models on sets of that size, share by share.

    The trial is the seed of the audited set and of what the models are trained on. `naive` is what
    the law says with the covariance of the sample in the place of the population's, and the ridge
    that was asked for: no felt ridge. A share above which nothing flips is stored as 1. In the
    world of the rarer class all of them are about its conflicting samples, elsewhere about both
    classes; `safe` and `flagged` are the state of the finding.
    """
    return [_row(call) for call in calls]


def _row(call: Call) -> dict[str, float | str]:
    X, y, s = pool_of(call)
    prior, label = _PRIOR.get(call.world, 0.5), int(call.world == RARER)
    rng = np.random.default_rng(call.trial)
    chosen = _biased(2 * y + s, call.samples, rng, call.aligned, prior)
    report = audit.data(X[chosen], y[chosen], s[chosen], ridge=call.ridge)
    found, felt = report["flip_share"], report["effective_ridge"].value / call.ridge
    told = found.detail
    foretold, low, high = (
        (told["rarer"], told["rarer_low"], told["rarer_high"])
        if label
        else (told["exact"], found.low, found.high)
    )
    measured = [
        audit.measured_flip_share(
            X, y, s, samples=call.samples, ridge=call.ridge, draws=1,
            seed=_TRAINED * call.trial + k, prior=prior, label=label, as_coded=True,
        ).mean
        for k in range(_TRAINED)
    ]  # fmt: skip
    overlaps = np.array(
        [
            [1 / report["core_noise"].value, told["overlap"]],
            [told["overlap"], 1 / report["attribute_noise"].value],
        ]
    )
    naive = flip_share(felt * overlaps, prior, label=label)
    return {
        "foretold": min(foretold, 1.0), "low": min(low, 1.0), "high": min(high, 1.0),
        "naive": min(naive, 1.0), "measured": float(np.minimum(measured, 1.0).mean()),
        "safe": float(found.state == "clear"), "flagged": float(found.state == "flagged"),
        "data_source": call.world,
    }  # fmt: skip
