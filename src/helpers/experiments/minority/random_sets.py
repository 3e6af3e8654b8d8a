"""Random lesions one by one, for comparisons at equal damage.

How much more rare groups lose than frequent ones is a concave function of the damage, so that what
several random sets do on average lies below what one of them does at the same damage. A set that a
ranking names is one set: it has to be compared with single ones. These are drawn among the other
units: a set that has one of the named ones by chance, and does its damage by it, is no comparison.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from helpers.experiments.minority.networks import by_group, network_of, on_digits, on_network
from helpers.experiments.minority.paired import lost
from helpers.experiments.minority.patient import BY_GROUP, Patient, patient_of
from helpers.probes import Unit, lesions, tracing
from helpers.sweep import Call, Cell, experiment

WEIGHTS = "random weights"
AMOUNTS = (1, 2, 3, 5, 8, 12, 20, 30)  # units
HIDDEN = (10, 15, 20, 30, 50, 75, 100, 150)  # of transformers, where few do nothing
SPARED, SPARED_HIDDEN = 3, 30  # units of a ranking that are compared, and not drawn
# of single weights, from hardly any damage to nearly all: small networks bear more
SHARES = (1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7e-3, 1e-2, 2e-2)
SMALL_SHARES = (1e-2, 2e-2, 3e-2, 4e-2, 6e-2, 8e-2, 1e-1, 1.5e-1)


def random_cells(profile: str) -> list[Cell]:
    """Draws of units for each ranking, and of single weights; photographs first."""
    rare, one = (*BY_GROUP[1:3], "magnitude"), (BY_GROUP[1], "magnitude")
    small, large, vit = (AMOUNTS, SMALL_SHARES), (AMOUNTS, SHARES), (HIDDEN, ())
    # (setting, epochs, trials, rankings, amounts and shares, draws of units and of weights)
    plans = {
        "smoke": [("digits", 12, 2, rare, small, (2, 1))],
        "laptop": [("sky", 12, 10, rare, large, (6, 4)), ("sky faces", 12, 10, one, large, (6, 4)),
                   ("birds", 20, 5, rare, small, (6, 4)),
                   ("birds, transformer", 20, 5, rare[:2], vit, (6, 0))],
        "paper": [("sky", 12, 20, rare, large, (20, 20)),
                  ("sky faces", 12, 20, one, large, (20, 20)),
                  ("birds", 20, 20, rare, small, (20, 20)),
                  ("birds, fine transformer", 40, 20, rare[:2], vit, (20, 0))],
    }[profile]  # fmt: skip
    cells = []
    for setting, epochs, trials, places, (amounts, shares), (units, weights) in plans:
        spared = SPARED_HIDDEN if amounts == HIDDEN else SPARED
        kinds = _kinds(places, amounts, spared, units) + _kinds((WEIGHTS,), shares, 0, weights)
        cells += on_network(setting, epochs, trials, kinds)
    return cells


def _kinds(places: Sequence[str], amounts: Sequence[float], spared: int, draws: int) -> list[Cell]:
    return [
        dict(place=place, amount=float(amount), spared=spared, draw=draw)
        for place, amount, draw in itertools.product(places, amounts, range(draws))
    ]


def seed_of(trial: int, amount: float, draw: int) -> int:
    """The seed of a draw: no two draws of a network share it, nor do two networks."""
    key = trial, round(1e6 * amount), draw
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def others(who: Patient, ranking: str, amount: int, spared: int, seed: int) -> list[Unit]:
    """A random set with as many units of each layer as the first `amount` of a ranking.

    Its first `spared` units are not drawn, nor, where a group's gradient ranks, those of any rare
    group; a layer that has too few others gives all of these.
    """
    alike = [f"gradient {g}" for g in who.rare] if ranking in BY_GROUP else []
    named = {unit for name in {ranking, *alike} if spared for unit in who.ranked(name).top(spared)}
    among = [unit for unit in who.units if unit not in named]
    left, like = Counter(unit.layer for unit in among), []
    for unit in who.ranked(ranking).top(amount):
        if left[unit.layer]:
            left[unit.layer] -= 1
            like.append(unit)
    return tracing.layer_matched(like, among, seed=seed)


@experiment(
    "random_lesions",
    cells=random_cells,
    tolerance=1.0,  # that of another network of the same law
    cheap=on_digits,
    group=network_of,
)
def random_lesions(calls: list[Call]) -> Iterator[dict[str, float | str]]:
    """One random set of units, or of single weights, zeroed.

    `place` is a ranking, `amount` and `spared` as in :func:`others`; or it is :data:`WEIGHTS`, and
    `amount` a share of the weights of all convolutions, none of which is spared.

    Yields:
        `lost_<g>`: accuracy lost on training images.
    """
    who = patient_of(calls[0])
    model = who.made.model
    for call in calls:
        seed = seed_of(call.trial, call.amount, call.draw)
        if call.place == WEIGHTS:
            where = lesions.weights_beyond(model, call.amount, "random", seed=seed)
        else:
            where = others(who, call.place, int(call.amount), call.spared, seed)
        with lesions.perturbed(model, where, "zero") as damaged:
            after = who.answer(damaged, who.parts["train"].images)
        yield by_group("lost", lost(who, after)) | {"data_source": who.train.source}
