"""The experiments of the chapter on one scalar: its law in three worlds, and where it ends.

Draws are numbered from 0 and are others than those of the pilot, in which marks and ridges were
chosen.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd

from helpers.experiments.together import one_scalar
from helpers.experiments.together.one_scalar import QUANTITIES, World
from helpers.sweep import Call, Cell, experiment
from helpers.theory import cure

SEED = 26
WORLDS = {  # marks, sizes (of the laptop profile), ridges
    "simulated": (cure.Marks(0.04, 1.0, 0.02, 0.6, 0.02), (150, 300), (0.003, 0.03)),
    "digits": (cure.Marks(0.04, 2.0, 0.05, 0.6, 0.2), (150, 300), (0.01, 0.1)),
    "photographs": (cure.Marks(0.04, 1.0, 0.02, 0.6, 0.05), (200, 400), (0.03, 0.1)),
}
PICTURES = {  # what the pretrained network is shown: data set, pictures, pixels
    "smoke": ("mnist5k", 200, 48),
    "laptop": ("cifar10", 2_000, 64),
    "paper": ("cifar10", 6_000, 64),
}
SMALL = 48  # pixels of pictures whose features scatter in length
SCALARS = ("felt", "raw", "flat")


@lru_cache(maxsize=3)
def world_of(name: str, dataset: str, pool: int, pixels: int, device: str,
             data_dir: str | None) -> World:  # fmt: skip
    """A world by its name; the data set says what the network is shown, and no more than that.

    Raises:
        ValueError: another name.
    """
    makers: dict[str, Callable[[], World]] = {
        "simulated": one_scalar.simulated,
        "digits": one_scalar.digits,
        "photographs": lambda: one_scalar.photographs(
            dataset, pool, pixels, device=device, data_dir=data_dir
        ),
    }
    if name not in makers:
        raise ValueError(f"world is {name!r}: allowed are {', '.join(map(repr, makers))}")
    return makers[name]()


def _world(call: Call, pool: int, pixels: int) -> World:
    return world_of(call.world, call.dataset, pool, pixels, call.device, call.data_dir)


# -- the law ---------------------------------------------------------------------------------------


def one_scalar_cells(profile: str) -> list[Cell]:
    """Worlds, sizes, two ridges; draws are the trials."""
    trials = {"smoke": 2, "laptop": 60, "paper": 200}[profile]
    dataset, pool, pixels = PICTURES[profile]
    return [
        {"world": world, "dataset": dataset if world == "photographs" else "none",
         "pool": pool if world == "photographs" else 0, "pixels": pixels, "samples": n,
         "ridge": ridge, "trial": trial}
        for world, (_, sizes, ridges) in WORLDS.items()
        for n in {"smoke": (60,), "laptop": sizes, "paper": (*sizes, 600)}[profile]
        for ridge in ridges for trial in range(trials)
    ]  # fmt: skip


@experiment(
    "one_scalar",
    cells=one_scalar_cells,
    tolerance=1e-3,  # features of the network differ a little between devices
    cheap=lambda cell: cell["world"] == "simulated",
    group=lambda cell: (cell["world"], cell["dataset"], cell["pool"], cell["pixels"]),
)
def one_scalar_law(calls: list[Call]) -> list[dict[str, float | str]]:
    """Five quantities of each draw, and what three scalars predict.

    Returns:
        for each of `QUANTITIES`, q: `q` as measured, `felt q`, `raw q` and `flat q`.
    """
    first = calls[0]
    world, (marks, _, _) = _world(first, first.pool, first.pixels), WORLDS[first.world]
    by_law, found = one_scalar.predicted(world, marks), []
    for call in calls:
        random = np.random.default_rng([SEED, call.trial, call.samples])
        drawn = world.draw(call.samples, random, True)
        seen = one_scalar.measured(world, drawn, call.ridge, marks, random)
        row: dict[str, float | str] = dict(zip(QUANTITIES, map(float, seen), strict=True))
        for scalar, law in by_law(call.ridge, call.samples).items():
            row |= {f"{scalar} {q}": float(x) for q, x in zip(QUANTITIES, law, strict=True)}
        found.append(row | {"data_source": world.source})
    return found


def long(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the experiment for the rule: one for each quantity."""
    keys = ["world", "samples", "ridge", "trial"]
    return pd.concat(
        [
            rows[keys].assign(
                quantity=q, measured=rows[q], **{name: rows[f"{name} {q}"] for name in SCALARS}
            )
            for q in QUANTITIES
        ],
        ignore_index=True,
    )


# -- its limits ------------------------------------------------------------------------------------

LIMITS = {  # world, samples, ridge (one over the time of training)
    "lengths that differ": ("simulated", 300, 0.003),
    "lengths of features": ("photographs", 150, 0.03),
    "images that come twice": ("photographs", 150, 0.003),
    "early stopping": ("digits", 600, 3.0),
}


def scalar_limits_cells(profile: str) -> list[Cell]:
    """Named reasons; draws are the trials."""
    dataset, pool, _ = PICTURES[profile]
    trials = {"smoke": 2, "laptop": 30, "paper": 100}[profile]
    return [
        {"limit": limit, "world": world, "dataset": dataset if world == "photographs" else "none",
         "pool": pool if world == "photographs" else 0,
         "pixels": SMALL if limit == "lengths of features" else PICTURES[profile][2],
         "samples": n // 3 if profile == "smoke" else n, "ridge": ridge, "trial": trial}
        for limit, (world, n, ridge) in LIMITS.items() for trial in range(trials)
    ]  # fmt: skip


@experiment(
    "scalar_limits",
    cells=scalar_limits_cells,
    tolerance=1e-3,
    cheap=lambda cell: cell["limit"] == "lengths that differ",
    group=lambda cell: tuple(value for name, value in cell.items() if name != "trial"),
)
def scalar_limits(calls: list[Call]) -> list[dict[str, float | str]]:
    """Relative error of the law with a named reason, without it, and of a law that knows of it.

    Returns:
        `broken`, `matched`, `repaired`; NaN where there is no such law.
    """
    first, trials = calls[0], [call.trial for call in calls]
    # features of half as many pictures suffice for their lengths
    pool = first.pool // 2 if first.limit == "lengths of features" else first.pool
    world, n, ridge = _world(first, pool, first.pixels), first.samples, first.ridge
    rows = {
        "lengths that differ": lambda: one_scalar.lengths_rows(world, n, ridge, 0.4, trials, SEED),
        "lengths of features": lambda: one_scalar.real_lengths_rows(
            world, n, ridge, trials, SEED, pool
        ),
        "images that come twice": lambda: one_scalar.twins_rows(world, n, ridge, trials, SEED),
        "early stopping": lambda: one_scalar.stopping_rows(world, n, 1 / ridge, trials, SEED),
    }[first.limit]()
    arms = rows.pivot(index="trial", columns="arm", values="error").reindex(
        columns=["broken", "matched", "repaired"], fill_value=math.nan
    )
    return [arms.loc[trial].to_dict() | {"data_source": world.source} for trial in trials]


def arms(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the experiment for the rule: one for each arm that there is."""
    keys = ["limit", "trial"]
    found = rows.melt(keys, ["broken", "matched", "repaired"], "arm", "error")
    return found.dropna(subset="error").reset_index(drop=True)
