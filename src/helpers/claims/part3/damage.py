"""Comparison at equal damage: beside single random lesions of the same network that cost as much.

Whatever does more damage reaches the small margins of rare groups first, so that a lesion that is
only stronger looks selective. *Damage* is the mean over the four groups of the accuracy lost. How
much more rare groups lose is a concave function of it: from nothing up to a peak, and back to
nothing where everything is lost. The mean of several lesions lies below that curve, and so does a
line between two of its points. One lesion is therefore compared with single ones, whose damage is
next to its own.

Random lesions are rows of `random_lesions`: a `place` (the ranking whose layers they have, or
single weights), and `lost_<g>`.
"""

import math

import numpy as np
import pandas as pd

from helpers.claims.bars import Bar
from helpers.claims.part3.groups import of_groups, over, selectivity, setting

NEIGHBOURS, CALIPER = 4, 0.03  # random lesions, and how far their damage may be
FELT = 0.05  # accuracy of a group: the smallest dose that costs so much is looked at
RANDOM_WEIGHTS = "random weights"


def at_damage(damage: float, damages: np.ndarray, gaps: np.ndarray) -> float:
    """How much more rare groups lose by single random lesions of about this damage.

    Args:
        damage: of the lesion that is compared.
        damages: `(n,)` of random ones.
        gaps: `(n,)` how much more rare groups lose by them.

    Returns:
        The mean of the :data:`NEIGHBOURS` nearest; NaN where one of these is farther away than
        :data:`CALIPER`.

    >>> at_damage(0.1, np.array([0.09, 0.1, 0.1, 0.11, 0.3]), np.array([0.2, 0.4, 0.4, 0.2, 0.9]))
    0.3
    >>> at_damage(0.2, np.array([0.09, 0.1, 0.1, 0.11]), np.zeros(4))
    nan
    """
    away = np.abs(damages - damage)
    nearest = np.argsort(away, kind="stable")[:NEIGHBOURS]
    if len(nearest) < NEIGHBOURS or away[nearest[-1]] > CALIPER:
        return math.nan
    return float(gaps[nearest].mean())


def beyond(rows: pd.DataFrame, what: str, name: str, random: pd.DataFrame) -> pd.Series:
    """Rare minus frequent groups, minus the same by random lesions of equal damage, a number a row.

    Args:
        rows: with a `trial`, the ranking as `place`, and `<what>_<g>`: accuracy lost.
        what: as above.
        name: the setting.
        random: of `random_lesions`.

    Returns:
        NaN where no random lesions do so much, or so little, damage.

    Raises:
        LookupError: random lesions of none of these networks.
    """
    drawn = setting(random, name)
    damages = of_groups(drawn, "lost", range(4)).to_numpy()
    gaps = selectivity(drawn, "lost", name).to_numpy()
    places = drawn.groupby(["trial", "place"]).indices
    none = np.array([], dtype=int)
    like = []
    own = of_groups(rows, what, range(4))
    for damage, key in zip(own, zip(rows["trial"], rows["place"], strict=True), strict=True):
        at = places.get(key, none)
        like.append(at_damage(damage, damages[at], gaps[at]))
    return selectivity(rows, what, name) - like


def by_network(values: pd.Series, rows: pd.DataFrame) -> Bar:
    """A bar over networks, of means over lesions that have equals; those with none are left out."""
    return over(values.groupby(rows["trial"]).mean().dropna())


def alone(values: pd.Series) -> str:
    """How many lesions have no equals, in words.

    >>> alone(pd.Series([0.1, math.nan]))
    '1 of 2 without equals'
    """
    return f"{int(values.isna().sum())} of {len(values)} without equals"


def first_felt(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Of each network and place the row of the smallest `amount` that costs some group `FELT`."""
    hit = rows[rows[[f"{what}_{g}" for g in range(4)]].max(axis=1) >= FELT]
    return hit.sort_values("amount", kind="stable").drop_duplicates(["trial", "place"])
