"""What `random_lesions` stores, made up: single draws along a curve of damage and selectivity."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

PLACES = ("gradient 0", "gradient 1", "gradient 2", "gradient 3", "magnitude", "random weights")
DAMAGE = np.linspace(0, 0.5, 51)
Law = Callable[[np.ndarray], np.ndarray]


def weak(damage):
    """Rare groups lose a little more, whatever the damage."""
    return np.interp(damage, [0, 0.014, 0.275, 0.5], [0, 0.022, 0.05, 0])


def none(damage):
    """All groups lose alike."""
    return 0 * damage


def strong(damage):
    """As selective as the rows that are taken for true."""
    return np.interp(damage, [0, 0.03, 0.5], [0, 0.13, 0.13])


def peaked(damage):
    """Up to a peak, and back to nothing where everything is lost."""
    return 0.3 * (1 - ((damage - 0.25) / 0.25) ** 2)


def losses(damage, gap, rare=(1, 2)):
    """`(n, 4)` accuracy lost by group, of this mean and rare minus frequent difference."""
    share = len(rare) / 4
    sign = np.where(np.isin(range(4), rare), 1 - share, -share)
    return damage[:, None] + gap[:, None] * sign


def random_sets(
    settings=("sky", "birds", "sky faces"), trials=10, law: Law = weak, places=PLACES,
    damage=DAMAGE, scatter=0.0, seed=0,
):  # fmt: skip
    """A row each draw."""
    draw = np.random.default_rng(seed)
    cells = itertools.product(settings, places, range(trials), damage)
    made = pd.DataFrame(cells, columns=["setting", "place", "trial", "damage"])
    made["data_source"], made["amount"], made["draw"] = "made up", 100 * made["damage"], 0
    lost = np.empty((len(made), 4))
    for name in settings:
        here = (made["setting"] == name).to_numpy()
        at = made.loc[here, "damage"].to_numpy()
        gap = law(at) + draw.normal(0, scatter, len(at))
        lost[here] = losses(at, gap, (1,) if name == "sky faces" else (1, 2))
    return made.assign(**{f"lost_{g}": lost[:, g] for g in range(4)})
