"""Units changed otherwise than by zeroing them, and single weights wherever they are.

As in :mod:`.paired`, what is done to the units of a ranking is done to random units of the same
layers too; the largest single weights stand beside random ones.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from helpers import probes
from helpers.experiments.minority.networks import by_group, mean_of, network_of, on_digits
from helpers.experiments.minority.paired import drawn, lost
from helpers.experiments.minority.patient import BY_GROUP, Patient, patient_of
from helpers.probes import lesions
from helpers.sweep import Call, Cell, experiment

RELEASED = (0.005, 0.01, 0.02)  # sizes of noise in the release
LARGER, NOTHING = 0.1, 0.001  # ours: one that is felt, and one that cannot be
NOISES = ("random_init", "random_noise")
SIDES = ("largest weights", "random weights", "smallest weights")
FRACTIONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # of single weights
TINY = (1e-6, 3e-6, 1e-5, 3e-5)  # … of the largest, in networks of millions
UNITS = 3  # of a ranking


def _kinds(
    rewound: tuple[int, ...], draws: int, places: tuple[str, ...], tiny: Sequence[float] = ()
) -> list[Cell]:
    sizes = itertools.product(places, NOISES, (*RELEASED, LARGER))
    found = [(place, UNITS, how, size, draws) for place, how, size in sizes]
    found += [(place, UNITS, "rewind", by, draws) for place in places for by in rewound]
    found += [(places[-1], UNITS, "random_noise", NOTHING, 1)]
    found += [(SIDES[0], p, "zero", 0, 1) for p in (*tiny, *FRACTIONS)]
    found += [(SIDES[1], p, "zero", 0, draws) for p in FRACTIONS]
    found += [(SIDES[2], p, "zero", 0, 1) for p in FRACTIONS[4::2]]
    names = ("place", "amount", "how", "size", "draws")
    return [
        dict(zip(names, (place, float(amount), how, float(size), n), strict=True))
        for place, amount, how, size, n in found
    ]


def changed_cells(profile: str) -> list[Cell]:
    """Sizes of noise, epochs of rewinding and shares of weights by network; photographs first."""
    plans = {
        "smoke": [("digits", 12, 2, (2,), 1, BY_GROUP[1:3])],
        "laptop": [("sky", 12, 10, (5, 10), 2, BY_GROUP[1:3]),
                   ("sky faces", 12, 10, (5, 10), 2, BY_GROUP[1:2]),
                   ("birds", 20, 5, (5, 10), 2, BY_GROUP[1:3])],
        "paper": [("sky", 12, 20, (5, 10), 10, BY_GROUP[1:3]),
                  ("sky faces", 12, 20, (5, 10), 10, BY_GROUP[1:2]),
                  ("birds", 20, 20, (5, 10), 10, BY_GROUP[1:3])],
    }[profile]  # fmt: skip
    return [
        dict(setting=setting, epochs=epochs, **kind, trial=trial)
        for setting, epochs, trials, rewound, draws, places in plans
        for trial in range(trials)
        for kind in _kinds(rewound, draws, places, TINY if setting.startswith("sky") else ())
    ]


def _settings(who: Patient, call: Call, seed: int) -> dict[str, Any]:
    """Of a perturbation, see :data:`helpers.probes.lesions.PERTURBATIONS`."""
    if call.how == "rewind":
        return {"earlier": who.made.states[-1 - int(call.size)]}
    return {} if call.how == "zero" else {"scale": call.size, "seed": seed}


def _weights(who: Patient, call: Call, seeds: list[int]) -> Iterator[tuple[lesions.Masks, int]]:
    side = call.place.partition(" ")[0]
    for seed in seeds:
        drawn_by = seed if side == "random" else None
        yield lesions.weights_beyond(who.made.model, call.amount, side, seed=drawn_by), seed


def _after(who: Patient, where: Any, call: Call, seed: int) -> list[float]:
    images = who.parts["train"].images
    with lesions.perturbed(who.made.model, where, call.how, **_settings(who, call, seed)) as model:
        return lost(who, who.answer(model, images))


def _mixed(who: Patient, where: Any, call: Call, seed: int) -> dict[str, float]:
    """Training accuracy before minus test accuracy after, and minus test accuracy before."""
    train, test = who.parts["train"], who.parts["test"]
    with lesions.perturbed(who.made.model, where, call.how, **_settings(who, call, seed)) as model:
        after = who.answer(model, test.images)
    start = probes.accuracy_by_group(who.before["train"], train.label, train.group)
    then, now = (
        probes.accuracy_by_group(x, test.label, test.group) for x in (who.before["test"], after)
    )
    return by_group("mixed", start - now) | by_group("gap", start - then)


@experiment(
    "changed_weights",
    cells=changed_cells,
    tolerance=1.0,  # that of another network of the same law
    cheap=on_digits,
    group=network_of,
)
def changed_weights(calls: list[Call]) -> Iterator[dict[str, float | str]]:
    """Some units or single weights of a network changed; means over `draws` where chance is in it.

    `place` is a ranking of units, of which `amount` are changed, or one of :data:`SIDES`, where
    `amount` is a share of the weights of all convolutions. `how` is one of
    :data:`helpers.probes.lesions.PERTURBATIONS`, with its `size` (a scale, or epochs to rewind).

    Yields:
        `lost_<g>`: accuracy lost on training images; `like_<g>`: by the same change of random units
        of the same layers (NaN for single weights); for the change of size :data:`NOTHING` also
        `mixed_<g>`, training accuracy before minus *test* accuracy after, and `gap_<g>`, minus test
        accuracy before (else NaN).
    """
    who = patient_of(calls[0])
    for call in calls:
        seeds = np.random.SeedSequence(call.trial).generate_state(call.draws).tolist()
        empty = dict.fromkeys(
            [f"{name}_{g}" for name in ("mixed", "gap") for g in range(4)], math.nan
        )
        if call.place in SIDES:
            own = [_after(who, mask, call, seed) for mask, seed in _weights(who, call, seeds)]
            like = [[math.nan] * 4]
        else:
            chosen = who.ranked(call.place).top(int(call.amount))
            chance = call.how in NOISES
            own = [_after(who, chosen, call, seed) for seed in (seeds if chance else seeds[:1])]
            sets = drawn(who, chosen, call.draws, call.trial)
            like = [_after(who, units, call, s) for units, s in zip(sets, seeds, strict=True)]
            if call.size == NOTHING:
                empty = _mixed(who, chosen, call, seeds[0])
        rows = (
            [by_group(name, x) for x in found] for name, found in (("lost", own), ("like", like))
        )
        row = {key: value for part in rows for key, value in mean_of(part).items()}
        yield row | empty | {"data_source": who.train.source}
