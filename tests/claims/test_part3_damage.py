"""The comparison at equal damage: what a mean of draws would say, and what single ones do."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.claims.part3 import damage, groups
from tests.claims.equal_damage import losses, none, peaked, random_sets

NETWORKS, STUDIES = 10, 40


def ranked(law, more=0.0, damages=(0.2, 0.4), scatter=0.1, seed=0, sets=6):
    """Sets of a ranking on the same curve as random ones, or above it, with more damage."""
    draw = np.random.default_rng(seed)
    made = pd.DataFrame({"trial": np.repeat(range(NETWORKS), sets), "setting": "sky",
                         "place": "gradient 1", "amount": 1})  # fmt: skip
    at = draw.uniform(*damages, len(made))
    lost = losses(at, law(at) + more + draw.normal(0, scatter, len(made)))
    return made.assign(**{f"ranked_lost_{g}": lost[:, g] for g in range(4)})


def study(seed, **how):
    """Ranked sets, and random ones of growing size, of which each does what chance wills."""
    rows, draw = ranked(peaked, seed=seed, **how), np.random.default_rng(1000 + seed)
    size = np.repeat(np.linspace(0.02, 0.4, 10), 6)
    at = (size + draw.normal(0, 0.12, len(size))).clip(0, 0.5)
    random = random_sets(("sky",), law=peaked, places=("gradient 1",), scatter=0.1, seed=seed,
                         damage=at)  # fmt: skip
    return rows, random.assign(amount=np.tile(size, NETWORKS))


def bar(rows, random):
    return damage.by_network(damage.beyond(rows, "ranked_lost", "sky", random), rows)


def test_stronger_lesions_of_the_same_kind_are_not_beyond_random_ones():
    """What rare groups lose more is concave in the damage: the null that a line favours."""
    found = [bar(*study(seed)) for seed in range(STUDIES)]
    assert sum(one.holds for one in found) <= 4
    assert sum(one.excluded for one in found) <= 4
    assert abs(np.mean([one.found.mean for one in found])) < 0.006


def test_a_mean_of_draws_would_have_favoured_the_claim():
    """What several lesions of a size do on average lies below what one does of that damage."""
    _, random = study(0)
    means = random.groupby(["trial", "amount"])[[f"lost_{g}" for g in range(4)]].mean()
    below = peaked(means.mean(axis=1)) - groups.selectivity(means, "lost", "sky")
    assert below.mean() > 0.03
    single = peaked(random["damage"]) - groups.selectivity(random, "lost", "sky")
    assert abs(single.mean()) < 0.01


def test_what_is_selective_at_equal_damage_is_found():
    found = [bar(*study(seed, more=0.1)) for seed in range(STUDIES)]
    assert sum(one.holds for one in found) >= STUDIES - 2
    assert np.mean([one.found.mean for one in found]) == pytest.approx(0.1, abs=0.01)


def test_draws_are_of_the_same_network_place_and_setting():
    rows = ranked(none, more=0.1, scatter=0)
    own = random_sets(("sky",), law=none, places=("gradient 1",), trials=NETWORKS)
    assert damage.beyond(rows, "ranked_lost", "sky", own).tolist() == pytest.approx(
        [0.1] * len(rows)
    )
    for other in (
        own.assign(trial=own["trial"] + 100), own.assign(place="gradient 2"),
    ):  # fmt: skip
        assert damage.beyond(rows, "ranked_lost", "sky", other).isna().all()
    with pytest.raises(LookupError, match="networks of 'sky'"):
        damage.beyond(rows, "ranked_lost", "sky", own.assign(setting="birds"))
    # one network without draws is left out, and the others count
    some = own[own["trial"] != 3]
    more = damage.beyond(rows, "ranked_lost", "sky", some)
    assert damage.alone(more) == f"6 of {len(rows)} without equals"
    assert damage.by_network(more, rows).found.mean == pytest.approx(0.1)


def test_a_lesion_without_equals_is_not_compared():
    gaps = np.array([0.1, 0.2, 0.3, 0.4, 9.0])
    near = np.array([0.2, 0.21, 0.22, 0.23, 0.4])
    assert damage.at_damage(0.21, near, gaps) == pytest.approx(0.25)
    assert damage.at_damage(0.20, near, gaps) == pytest.approx(0.25)  # 3 points and no more
    assert math.isnan(damage.at_damage(0.19, near, gaps))
    assert math.isnan(damage.at_damage(0.21, near[:3], gaps[:3]))
    assert math.isnan(damage.at_damage(0.21, near[:0], gaps[:0]))


def test_the_smallest_dose_that_is_felt():
    lost = {f"lost_{g}": [0.9, 0.04, 0.05 * (g == 3), 0.0] for g in range(4)}
    cells = {"trial": [0, 0, 0, 1], "place": "x", "amount": [3.0, 1.0, 2.0, 1.0]}
    rows = pd.DataFrame(cells | lost)
    found = damage.first_felt(rows, "lost")
    assert found[["trial", "amount"]].values.tolist() == [[0, 2.0]]
