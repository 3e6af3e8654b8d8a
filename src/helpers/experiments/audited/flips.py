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

ALIGNED = 0.75  # share of aligned samples in the set that is audited
# worlds, and whether the attribute is meant to be heavy
WORLDS = {
    "digits, bright patch": True, "digits, faint patch": False,
    "mixture, heavy": True, "mixture, light": False,
    "SkyBirds, pixels": True, "SkyBirds, features": True,
}  # fmt: skip
_BRIGHT = {"digits, bright patch": 0.5, "digits, faint patch": 0.05}
_MEANS = {"mixture, heavy": (0.45, 1.0), "mixture, light": (0.9, 0.3)}  # core, attribute
_PATCH, _DIMS, _POOL = 4, 120, 8_000
_TRAINED = 3  # linear models at each share

Pool = tuple[Tensor, np.ndarray, np.ndarray]  # inputs, labels, attribute


def flip_cells(profile: str) -> list[Cell]:
    """All worlds; small sizes have those that need no files. Seeds below 100 were of a pilot."""
    worlds = [w for w in WORLDS if profile != "smoke" or not w.startswith("Sky")]
    count, trials = pick(profile, (400, 2), (1_000, 24), (1_000, 100))
    return grid(world=worlds, samples=[count], ridge=[0.1], trial=range(100, 100 + trials))


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


def _biased(group: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a set of this size with classes of one size, aligned alike."""
    aligned = round(samples / 2 * ALIGNED)
    counts = (aligned, samples // 2 - aligned, samples // 2 - aligned, aligned)
    return np.concatenate(
        [rng.choice(np.flatnonzero(group == g), n, replace=False) for g, n in enumerate(counts)]
    )


def _world(cell: Cell) -> Hashable:
    """Features are taken once for all trials."""
    return "sky" if cell["world"].startswith("Sky") else tuple(cell.items())


@experiment(
    "audited_flips",
    cells=flip_cells,
    tolerance={"default": 0.02, "raw": 0.05},
    cheap=lambda cell: not cell["world"].startswith("Sky"),
    group=_world,
)
def flips(calls: list[Call]) -> list[dict[str, float | str]]:
    """Audit a set of `samples`, and train linear models on sets of that size, share by share.

    The trial is the seed of the audited set and of what the models are trained on. `raw` is what
    would be foretold if samples cost nothing: the same at the ridge that was asked for. A share
    above which nothing flips is stored as 1.
    """
    rows = []
    for call in calls:
        X, y, s = pool_of(call)
        chosen = _biased(2 * y + s, call.samples, np.random.default_rng(call.trial))
        report = audit.data(X[chosen], y[chosen], s[chosen], ridge=call.ridge)
        found, felt = report["flip_share"], report["effective_ridge"].value / call.ridge
        measured = [
            audit.measured_flip_share(
                X, y, s, samples=call.samples, ridge=call.ridge, draws=1,
                seed=_TRAINED * call.trial + k,
            ).mean
            for k in range(_TRAINED)
        ]  # fmt: skip
        overlaps = np.array(
            [
                [1 / report["core_noise"].value, found.detail["overlap"]],
                [found.detail["overlap"], 1 / report["attribute_noise"].value],
            ]
        )
        rows.append({
            "foretold": min(found.value, 1.0), "low": min(found.low, 1.0),
            "high": min(found.high, 1.0), "raw": min(float(flip_share(felt * overlaps)), 1.0),
            "measured": float(np.minimum(measured, 1.0).mean()),
            "safe": float(found.state == "clear"), "data_source": call.world,
        })  # fmt: skip
    return rows
