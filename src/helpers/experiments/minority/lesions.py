"""Lesions of the networks of Part III, and the null of random sets."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from helpers import data, probes
from helpers.experiments.minority.networks import mean_of, network_of, on_digits, on_network
from helpers.experiments.minority.patient import BY_GROUP, MATCHED, TOLERANCE, Patient, patient_of
from helpers.probes import Unit, lesions
from helpers.sweep import Call, Cell, experiment, grid

DRAWS = 200  # random sets of the null
AMOUNTS = (1, 2, 3, 5, 10, 20, 50, 100)  # units
FRACTIONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 4e-1)  # of single weights
# rankings by what is known of a group, by the weights alone, and at random; single weights
KNOWING = (*BY_GROUP, "gradient", "taylor", "activation", "greedy")
BLIND = ("magnitude", "smallest", "folded")
CHANCE = ("random", *(MATCHED + BY_GROUP[g] for g in (1, 2)))
SIDES = ("largest weights", "smallest weights")
SIZED = {"random_init": (0.005, 0.01, 0.02, 0.1), "random_noise": (0.005, 0.01, 0.02, 0.1),
         "relative_noise": (0.5, 1.0, 2.0), "rewind": (5, 10)}  # fmt: skip
PLAIN = ("sign_flip", "permute", "batchnorm_zero", "batchnorm_mean")
_ZERO = [("zero", 0.0)]
_CHANGES = [(how, size) for how, sizes in SIZED.items() for size in sizes]
_CHANGES += [(how, 0.0) for how in PLAIN]
_SMOKE = [("random_init", 0.02), ("random_init", 0.1), ("random_noise", 0.02),
          ("random_noise", 0.1), ("rewind", 2.0)]  # fmt: skip


def _kinds(
    rankings: Sequence[str],
    amounts: Sequence[float],
    draws: int = 1,
    how: Sequence[tuple[str, float]] = _ZERO,
) -> list[Cell]:
    return [
        dict(ranking=ranking, amount=float(amount), how=name, size=float(size), draws=draws)
        for ranking, amount, (name, size) in itertools.product(rankings, amounts, how)
        if not (ranking == "greedy" and amount > 20)
    ]


def lesions_cells(profile: str) -> list[Cell]:
    """Doses of all rankings, kinds of perturbation, and single weights, by network."""
    by_size = [*BY_GROUP, "magnitude"]
    n = 5 if profile == "laptop" else 20  # random draws, and networks
    weights = _kinds(SIDES, FRACTIONS) + _kinds(["random weights"], FRACTIONS, n)
    whole = _kinds([*KNOWING, *BLIND], AMOUNTS) + weights
    changed = partial(_kinds, amounts=(1, 3), draws=5, how=_CHANGES)
    deep = whole + _kinds(CHANCE, AMOUNTS, n) + changed(BY_GROUP[1:3])
    few = _kinds(by_size, AMOUNTS) + weights + changed(BY_GROUP[3:])
    vit = _kinds(by_size, AMOUNTS) + _kinds(SIDES, FRACTIONS)
    plans = [("birds", 20, range(n), deep), ("birds", 20, range(n, 2 * n), whole),
             ("faces", 20, range(n), few)]  # fmt: skip
    if profile == "smoke":
        units = [1, 3, 10]
        kinds = _kinds(by_size, units) + _kinds(CHANCE, units, 2)
        kinds += _kinds(["gradient 2"], [3], how=_SMOKE) + _kinds(SIDES[:1], [1e-3, 1e-2])
        plans = [("digits", 12, range(2), kinds)]
    elif profile == "laptop":
        plans.append(("birds, transformer", 20, range(n), vit))
    else:
        plans.append(("birds, fine transformer", 40, range(n), vit))
    return [
        dict(setting=setting, epochs=epochs, trial=trial, **kind)
        for setting, epochs, trials, kinds in plans
        for trial, kind in itertools.product(trials, kinds)
    ]


def _how(who: Patient, how: str, size: float, seed: int) -> dict[str, Any]:
    """The settings of a perturbation; the size is a scale, or epochs to rewind."""
    if how == "rewind":
        return {"earlier": who.made.states[-1 - int(size)]}
    if how.startswith("batchnorm"):
        return {"images": who.parts["train"].images}
    given = {"scale": size, "seed": seed}
    return {name: given[name] for name in lesions.PERTURBATIONS[how]}


@experiment("lesions", cells=lesions_cells, tolerance=TOLERANCE, cheap=on_digits, group=network_of)
def lesion_effects(calls: list[Call]) -> Iterator[dict[str, float | str]]:
    """One lesion: `amount` units of a ranking (or share of single weights), perturbed together.

    `how` is one of :data:`helpers.probes.lesions.PERTURBATIONS`, with its `size` (a scale, or
    epochs to rewind, else 0); `draws` random sets or perturbations are averaged.

    Yields:
        What `Patient.effects` and `Patient.overlaps` say, a lesion at a time.
    """
    who = patient_of(calls[0])
    for call in calls:
        random, found = "seed" in lesions.PERTURBATIONS[call.how], []
        for target in who.targets(call.ranking, call.amount, call.draws):
            for seed in range(call.draws if random else 1):
                settings = _how(who, call.how, call.size, seed)
                with lesions.perturbed(who.made.model, target, call.how, **settings) as model:
                    after = who.answers(model)
                found.append(who.effects(after))
        row = mean_of(found) | who.overlaps(call.ranking, call.amount)
        yield row | {"data_source": who.train.source}


# -- the null of random sets -----------------------------------------------------------------------


def null_cells(profile: str) -> list[Cell]:
    """Rankings by the two rare groups, 1, 3 and 10 units."""
    networks, draws = {
        "smoke": ([("digits", 12, 2)], 20),
        "laptop": ([("birds", 20, 10)], DRAWS),
        "paper": ([("birds", 20, 20), ("faces", 20, 20)], DRAWS),
    }[profile]
    kinds = grid(ranking=BY_GROUP[1:3], amount=(1, 3, 10), matched=(0, 1), draws=draws)
    return [cell for network in networks for cell in on_network(*network, kinds)]


@experiment("lesion_null", cells=null_cells, tolerance=TOLERANCE["default"], cheap=on_digits,
            group=network_of)  # fmt: skip
def lesion_null(calls: list[Call]) -> list[dict[str, float | str]]:
    """The top units of a ranking against `draws` random sets, of the same layers if `matched`.

    Returns:
        `lost`: mean accuracy that the rare training groups lose by the ranking, `draw_<i>`: by
        random sets.
    """
    who = patient_of(calls[0])
    train, results = who.parts["train"], []
    rows = train.rows(torch.isin(train.group, torch.tensor(who.rare, device=train.group.device)))

    def right(model: torch.nn.Module) -> list[float]:
        found = data.right_answers(probes.evaluate(model, rows.images), rows.label).double()
        return [found[rows.group == g].mean().item() for g in who.rare]

    def lost(units: Sequence[Unit]) -> float:
        with lesions.perturbed(who.made.model, units, "zero") as model:
            return float(np.mean([a - b for a, b in zip(start, right(model), strict=True)]))

    start = right(who.made.model)
    for call in calls:
        like = MATCHED + call.ranking if call.matched else "random"
        drawn = who.targets(like, call.amount, call.draws)
        row: dict[str, float | str] = {"lost": lost(who.ranked(call.ranking).top(call.amount))}
        row |= {f"draw_{i}": lost(units) for i, units in enumerate(drawn)}
        results.append(row | {"data_source": who.train.source})
    return results
