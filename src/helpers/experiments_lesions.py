"""Experiments of Part III that take trained networks apart: lesions, their null, and the census.

All work on the networks of :mod:`helpers.experiments_minority`, with the rare groups complete and
the frequent ones cut to a size that keeps a lesion cheap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from helpers import census, groups, lesions, metrics, models, tracing
from helpers.experiments_minority import (
    NAMED,
    Trained,
    by_group,
    majority,
    margin,
    minority,
    trained,
)
from helpers.groups import Grouped
from helpers.sweep import Cell, Experiment, register
from helpers.tracing import Unit

LARGEST = 650  # images of one group that are looked at
HARDEST = 200  # images of a group from which its gradient is taken
DRAWS = 200  # random sets of the null
AMOUNTS = (1, 2, 3, 5, 10, 20, 50, 100)  # units
FRACTIONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 4e-1)  # of single weights
MATCHED = "layer-matched like "
BY_GROUP = tuple(f"gradient {g}" for g in range(4))


class Patient(NamedTuple):
    """A trained network, what it is examined on, and what it answers without lesion.

    Attributes:
        made: the network and its past.
        parts: images by split, at most `LARGEST` of each group.
        before: logits `(n, 2)` on each part.
        units: all channels, or hidden units of a transformer.
        rare, common: minority and majority groups.
        rankings: those made so far, by name.
    """

    made: Trained
    parts: dict[str, Grouped]
    before: dict[str, torch.Tensor]
    units: list[Unit]
    rare: tuple[int, ...]
    common: tuple[int, ...]
    rankings: dict[str, tracing.Ranking]

    @property
    def train(self) -> Grouped:
        """The whole training set."""
        return self.made.splits["train"]

    @property
    def convolutional(self) -> bool:
        """Whether its units are filters."""
        return _convolutional(self.made.model)


@lru_cache(maxsize=1)
def patient(setting: str, epochs: int, trial: int, device: str, data_dir: str | None) -> Patient:
    """The network of a setting, ready for lesions."""
    made = trained(setting, epochs, trial, device, data_dir)
    parts = {
        name: part.draw([min(n, LARGEST) for n in part.counts()], seed=0)
        for name, part in made.splits.items()
    }
    before = {name: tracing.evaluate(made.model, part.images) for name, part in parts.items()}
    units = (tracing.channels if _convolutional(made.model) else tracing.hidden_units)(made.model)
    return Patient(made, parts, before, units, minority(setting), majority(setting), {})


def _convolutional(model: torch.nn.Module) -> bool:
    # a transformer has one convolution, which cuts the patches, and no batch normalisation
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def _patient_of(call: dict[str, Any]) -> Patient:
    return patient(*(call[key] for key in NAMED))


# -- who is chosen ---------------------------------------------------------------------------------


def hardest_of(who: Patient, chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the training samples of these groups that are fitted worst."""
    train = who.train
    rows = torch.isin(train.group, torch.tensor(chosen, device=train.group.device))
    images, labels = train.images[rows], train.label[rows]
    worst = tracing.hardest(who.made.model, images, labels, n=HARDEST)
    return images[worst], labels[worst]


def ranked(who: Patient, ranking: str) -> tracing.Ranking:
    """The ranking of this name.

    "gradient 0" to "gradient 3": from one group's loss; "gradient": from all samples; "taylor",
    "activation", "greedy": for the rare against the frequent groups; "magnitude", "smallest",
    "folded": from the weights alone.
    """
    if ranking not in who.rankings:
        who.rankings[ranking] = _rank(who, ranking)
    return who.rankings[ranking]


def _rank(who: Patient, ranking: str) -> tracing.Ranking:
    model, units = who.made.model, who.units
    name, _, group = ranking.partition(" ")
    if name == "gradient":
        chosen = [int(group)] if group else range(4)
        return tracing.gradient(model, units, *hardest_of(who, chosen))
    if name == "taylor":
        return tracing.gradient_times_weight(model, units, *hardest_of(who, who.rare))
    if name == "activation":
        sets = (hardest_of(who, chosen)[0] for chosen in (who.rare, who.common))
        return tracing.activation_difference(model, units, *sets)
    if name == "greedy":
        sets = (hardest_of(who, chosen) for chosen in (who.rare, who.common))
        return lesions.greedy(model, units, *sets, k=20)
    if name in ("magnitude", "smallest"):
        # the release leaves the 1 x 1 convolutions of shortcuts out here
        own = [unit for unit in units if "downsample" not in unit.layer]
        found = tracing.magnitude(model, own)
        if name == "magnitude":
            return found
        return tracing.Ranking(found.units[::-1], found.scores.flip(0))
    if name == "folded":
        return tracing.batchnorm_folded(model, units, who.train.images[:1])
    raise ValueError(f"ranking is {ranking!r}: there is none of this name")


def sets(
    ranking: str, amount: int, draws: int, units: Sequence[Unit],
    ranked: Callable[[str], tracing.Ranking],
) -> Iterator[Sequence[Unit]]:  # fmt: skip
    """The first `amount` units of a ranking, or `draws` random sets of as many.

    Args:
        ranking: a name that `ranked` knows, "random", or one behind :data:`MATCHED`, for sets with
            as many units of each layer as the first of that ranking.
        units: those to draw from.
        ranked: makes the ranking of a name.
    """
    if ranking == "random":
        yield from (tracing.random(units, seed=s).top(amount) for s in range(draws))
    elif ranking.startswith(MATCHED):
        chosen = ranked(ranking.removeprefix(MATCHED)).top(amount)
        yield from (tracing.layer_matched(chosen, units, seed=s) for s in range(draws))
    else:
        yield ranked(ranking).top(amount)


def _weights(who: Patient, side: str, share: float, draws: int) -> Iterator[lesions.Masks]:
    kind = "convolutions" if who.convolutional else "linear"
    for seed in range(draws) if side == "random" else [None]:
        yield lesions.weights_beyond(who.made.model, share, side, parameters=kind, seed=seed)


def targets(
    who: Patient, ranking: str, amount: float, draws: int
) -> Iterator[Sequence[Unit] | lesions.Masks]:
    """The units, or masks of single weights ("largest weights" and so on), of a lesion."""
    side, _, what = ranking.partition(" ")
    if what == "weights":
        return _weights(who, side, amount, draws)
    return sets(ranking, int(amount), draws, who.units, partial(ranked, who))


# -- lesions ---------------------------------------------------------------------------------------


def _how(who: Patient, how: str, size: float, seed: int) -> dict[str, Any]:
    """The settings of a perturbation; the size is a scale, or epochs to rewind."""
    if how == "rewind":
        return {"earlier": who.made.states[-1 - int(size)]}
    if how.startswith("batchnorm"):
        return {"images": who.parts["train"].images}
    needed = lesions.PERTURBATIONS[how]
    given = {"scale": size, "seed": seed}
    return {name: given[name] for name in needed}


def effects(who: Patient, after: dict[str, torch.Tensor]) -> dict[str, float]:
    """What a lesion with these logits did to each group.

    Returns:
        `lost_<split>_<group>`: accuracy lost, on the same images before and after;
        `right_<group>`: share of the test images answered rightly before which are wrong now;
        `p_<group>`: McNemar's test on training images; `shift`: mean change of the margin (class 1
        minus class 0) on training images; `offset_<group>`: accuracy lost on training images by
        such an offset alone; `refit_<split>_<group>`: accuracy lost when the output bias is fitted
        anew on the validation images after the lesion.
    """
    row: dict[str, float] = {}
    bias = lesions.refit_bias(margin(after["val"]), who.parts["val"].label, who.parts["val"].group)
    for split in ("train", "test"):
        part, old, new = who.parts[split], who.before[split], after[split]
        accuracy = partial(metrics.accuracy_by_group, labels=part.label, groups=part.group)
        start = accuracy(old)
        fitted = new + new.new_tensor([0.0, bias])
        for name, outputs in ((f"lost_{split}", new), (f"refit_{split}", fitted)):
            row |= by_group(name, start - accuracy(outputs))
        was, now = (logits.argmax(1) == part.label for logits in (old, new))
        for g in range(4):
            own = part.group == g
            if split == "train":
                row[f"p_{g}"] = metrics.mcnemar(was[own], now[own])
            else:
                row[f"right_{g}"] = float((~now[own & was]).double().mean())
        if split == "train":
            row["shift"] = float((margin(new) - margin(old)).double().mean())
            row |= by_group("offset", start - accuracy(lesions.shift_matched(old, new)))
    return row


def overlaps(who: Patient, ranking: str, amount: float) -> dict[str, float]:
    """`overlap_<group>`: Jaccard index of the ranking's top set and that of each group's gradient.

    NaN for sets at random and single weights, which have no ranking of units.
    """
    if ranking.endswith(" weights") or ranking == "random" or ranking.startswith(MATCHED):
        return {f"overlap_{g}": math.nan for g in range(4)}
    own = set(ranked(who, ranking).top(int(amount)))
    found = {}
    for g in range(4):
        other = set(ranked(who, f"gradient {g}").top(int(amount)))
        found[f"overlap_{g}"] = len(own & other) / len(own | other)
    return found


def lesions_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """All lesions of one network; those that draw at random are averaged over their draws."""
    who = _patient_of(calls[0])
    rows = []
    for call in calls:
        how, found = call["how"], []
        for target in targets(who, call["ranking"], call["amount"], call["draws"]):
            random = "seed" in lesions.PERTURBATIONS[how]
            for seed in range(call["draws"] if random else 1):
                settings = _how(who, how, call["size"], seed)
                with lesions.perturbed(who.made.model, target, how, **settings) as model:
                    after = {
                        name: tracing.evaluate(model, part.images)
                        for name, part in who.parts.items()
                    }
                found.append(effects(who, after))
        mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        mean |= overlaps(who, call["ranking"], call["amount"])
        rows.append(mean | {"data_source": who.train.source})
    return rows


def lesions_trial(
    setting: str, epochs: int, ranking: str, amount: float, how: str, size: float, draws: int,
    trial: int, device: str, data_dir: str | None,
) -> dict[str, float | str]:  # fmt: skip
    """One lesion: `amount` units of a ranking (or share of single weights), perturbed together.

    `how` is one of :data:`helpers.lesions.PERTURBATIONS`, with its `size` (a scale, or epochs to
    rewind, else 0); `draws` random sets or perturbations are averaged.
    """
    return lesions_many([locals()])[0]


# rankings by what is known of a group, by the weights alone, and at random
KNOWING = (*BY_GROUP, "gradient", "taylor", "activation", "greedy")
BLIND = ("magnitude", "smallest", "folded")
CHANCE = ("random", *(MATCHED + BY_GROUP[g] for g in (1, 2)))
SIZED = {"random_init": (0.005, 0.01, 0.02, 0.1), "random_noise": (0.005, 0.01, 0.02, 0.1),
         "relative_noise": (0.5, 1.0, 2.0), "rewind": (5, 10)}  # fmt: skip
PLAIN = ("sign_flip", "permute", "batchnorm_zero", "batchnorm_mean")


def _zeroed(rankings: Sequence[str], amounts: Sequence[float], draws: int = 1) -> list[Cell]:
    return [
        dict(ranking=ranking, amount=float(amount), how="zero", size=0.0, draws=draws)
        for ranking in rankings
        for amount in amounts
        if not (ranking == "greedy" and amount > 20)
    ]


def _changed(rankings: Sequence[str], amounts: Sequence[int], draws: int) -> list[Cell]:
    hows = [(how, size) for how, sizes in SIZED.items() for size in sizes]
    return [
        dict(ranking=ranking, amount=float(k), how=how, size=float(size), draws=draws)
        for ranking, k in itertools.product(rankings, amounts)
        for how, size in [*hows, *((how, 0.0) for how in PLAIN)]
    ]


def lesions_cells(profile: str) -> list[Cell]:
    """Doses of all rankings, kinds of perturbation, and single weights, by network."""
    sides = ("largest weights", "smallest weights")
    if profile == "smoke":
        units = [1, 3, 10]
        kinds = _zeroed([*BY_GROUP, "magnitude"], units)
        kinds += _zeroed(CHANCE, units, 2)
        kinds += [
            dict(ranking="gradient 2", amount=3.0, how=how, size=size, draws=1)
            for how, size in (
                *itertools.product(("random_init", "random_noise"), (0.02, 0.1)),
                ("rewind", 2.0),
            )
        ]
        kinds += _zeroed(sides[:1], [1e-3, 1e-2])
        return [dict(setting="digits", epochs=12, trial=t, **kind) for t in range(2)
                for kind in kinds]  # fmt: skip
    draws, seeds = (5, 5) if profile == "laptop" else (20, 20)
    weights = _zeroed(sides, FRACTIONS) + _zeroed(["random weights"], FRACTIONS, draws)
    whole = _zeroed([*KNOWING, *BLIND], AMOUNTS) + weights
    deep = whole + _zeroed(CHANCE, AMOUNTS, draws) + _changed(BY_GROUP[1:3], (1, 3), 5)
    few = _zeroed([*BY_GROUP, "magnitude"], AMOUNTS) + weights + _changed(BY_GROUP[3:], (1, 3), 5)
    plans = [
        ("birds", deep, range(seeds)),
        ("birds", whole, range(seeds, 2 * seeds)),
        ("faces", few, range(seeds)),
    ]
    vit = _zeroed([*BY_GROUP, "magnitude"], AMOUNTS) + _zeroed(sides, FRACTIONS)
    name = "birds, transformer" if profile == "laptop" else "birds, fine transformer"
    plans.append((name, vit, range(seeds)))
    epochs = {"birds, fine transformer": 40}
    return [
        dict(setting=setting, epochs=epochs.get(setting, 20), trial=trial, **kind)
        for setting, kinds, trials in plans
        for trial in trials
        for kind in kinds
    ]


_NETWORK = ("setting", "epochs", "trial")
_COMMON = dict(
    # the networks differ on another device, and so does what their units do
    tolerance={"default": 1.0, "shift": 20.0},
    cheap=lambda cell: cell["setting"] == "digits",
    group=lambda cell: tuple(cell[key] for key in _NETWORK),
)
register(Experiment("lesions", lesions_trial, lesions_cells, many=lesions_many, **_COMMON))


# -- the null of random sets -----------------------------------------------------------------------


def null_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Mean accuracy that the rare training images lose: by the ranking, and by random sets."""
    who = _patient_of(calls[0])
    train = who.parts["train"]
    rows = train.rows(torch.isin(train.group, torch.tensor(who.rare, device=train.group.device)))

    def lost(units: Sequence[Unit]) -> float:
        with lesions.perturbed(who.made.model, units, "zero") as model:
            outputs = tracing.evaluate(model, rows.images)
        right = (outputs.argmax(1) == rows.label).double()
        return float(np.mean([start[g] - right[rows.group == g].mean().item() for g in who.rare]))

    before = tracing.evaluate(who.made.model, rows.images).argmax(1) == rows.label
    start = {g: before[rows.group == g].double().mean().item() for g in who.rare}
    results = []
    for call in calls:
        ranking, k = call["ranking"], call["amount"]
        like = MATCHED + ranking if call["matched"] else "random"
        row: dict[str, float | str] = {"lost": lost(ranked(who, ranking).top(k))}
        for draw, units in enumerate(sets(like, k, call["draws"], who.units, partial(ranked, who))):
            row[f"draw_{draw}"] = lost(units)
        results.append(row | {"data_source": who.train.source})
    return results


def null_trial(
    setting: str, epochs: int, ranking: str, amount: int, matched: int, draws: int, trial: int,
    device: str, data_dir: str | None,
) -> dict[str, float | str]:  # fmt: skip
    """The top units of a ranking against `draws` random sets, of the same layers if `matched`."""
    return null_many([locals()])[0]


def null_cells(profile: str) -> list[Cell]:
    """Rankings by the two rare groups, 1, 3 and 10 units."""
    networks, draws = {
        "smoke": ([("digits", 12, 2)], 20),
        "laptop": ([("birds", 20, 10)], DRAWS),
        "paper": ([("birds", 20, 20), ("faces", 20, 20)], DRAWS),
    }[profile]
    return [
        dict(setting=setting, epochs=epochs, ranking=ranking, amount=k, matched=matched,
             draws=draws, trial=trial)
        for setting, epochs, trials in networks
        for trial, ranking, k, matched in itertools.product(
            range(trials), BY_GROUP[1:3], (1, 3, 10), (0, 1)
        )
    ]  # fmt: skip


register(Experiment("lesion_null", null_trial, null_cells, many=null_many, **_COMMON))


# -- the census ------------------------------------------------------------------------------------


def census_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """Every filter of one network alone: what it costs each group, and how the rankings see it."""
    who = _patient_of(calls[0])
    wanted = {Unit(call["layer"], call["unit"]) for call in calls}
    units = [unit for unit in who.units if unit in wanted]
    after = {
        name: census.census(who.made.model, part.images, units) for name, part in who.parts.items()
    }
    scores = {
        name: dict(zip(found.units, found.scores.tolist(), strict=True))
        for name in ("gradient 1", "gradient 2", "taylor", "folded")
        for found in [ranked(who, name)]
    }
    norms = tracing.magnitude(who.made.model, who.units)
    scores["magnitude"] = dict(zip(norms.units, norms.scores.tolist(), strict=True))
    memory = _planted(who, units) if int(who.made.mark.max()) else {}
    rows = []
    for call in calls:
        unit = Unit(call["layer"], call["unit"])
        row: dict[str, float | str] = dict(
            effects(who, {name: logits[units.index(unit)] for name, logits in after.items()})
        )
        row |= {f"score_{name.replace(' ', '_')}": by[unit] for name, by in scores.items()}
        row |= memory.get(unit, dict.fromkeys(PLANTED_COLUMNS, math.nan))
        rows.append(row | {"data_source": who.train.source})
    return rows


PLANTED_COLUMNS = ("lost_kept", "lost_flipped", "reads", "score_flipped")


def _planted(who: Patient, units: Sequence[Unit]) -> dict[Unit, dict[str, float]]:
    """What each unit has to do with planted memory.

    `lost_kept`, `lost_flipped`: accuracy lost on images with an identifier, with true and flipped
    label; `reads`: root mean square change of the unit's mean activation when identifiers are
    replaced by fresh ones, over its standard deviation between images; `score_flipped`: norm of the
    gradient of the loss of the flipped images.
    """
    model, train, mark = who.made.model, who.train, who.made.mark
    marked = train.rows((mark > 0).to(train.label.device))
    kinds = mark[mark > 0].to(train.label.device)
    fresh = groups.with_identifiers(marked.images.cpu(), torch.Generator().manual_seed(1)).to(
        marked.images
    )
    layers = list(dict.fromkeys(unit.layer for unit in units))
    old, new = (tracing.activations(model, layers, images) for images in (marked.images, fresh))
    logits = census.census(model, marked.images, units)
    start = tracing.evaluate(model, marked.images).argmax(1) == marked.label
    own = kinds == 2
    ranked = tracing.gradient(model, units, marked.images[own], marked.label[own])
    scores = dict(zip(ranked.units, ranked.scores.tolist(), strict=True))
    found = {}
    for unit, after in zip(units, logits, strict=True):
        lost = start.double() - (after.argmax(1).to(start.device) == marked.label).double()
        a, b = (x[unit.layer][:, unit.index] for x in (old, new))
        spread = float(a.std())
        found[unit] = {
            "lost_kept": float(lost[kinds == 1].mean()),
            "lost_flipped": float(lost[own].mean()),
            "reads": float((a - b).square().mean().sqrt()) / spread if spread else 0.0,
            "score_flipped": scores[unit],
        }
    return found


def census_trial(
    setting: str, epochs: int, layer: str, unit: int, trial: int, device: str, data_dir: str | None
) -> dict[str, float | str]:
    """One filter of one network, zeroed alone."""
    return census_many([locals()])[0]


def census_cells(profile: str) -> list[Cell]:
    """Every filter of each network."""
    networks = {
        "smoke": [("digits", 12, 1)],
        "laptop": [("birds", 20, 5), ("planted", 20, 3)],
        "paper": [("birds", 20, 20), ("faces", 20, 20), ("planted", 20, 20)],
    }[profile]
    units = tracing.channels(models.small_resnet(2, seed=0))
    if profile == "smoke":  # every fourth
        units = [unit for unit in units if unit.index % 4 == 0]
    return [
        dict(setting=setting, epochs=epochs, layer=unit.layer, unit=unit.index, trial=trial)
        for setting, epochs, trials in networks
        for trial in range(trials)
        for unit in units
    ]


register(Experiment("census", census_trial, census_cells, many=census_many, **_COMMON))
