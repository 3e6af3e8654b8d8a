"""Every filter of a network of Part III zeroed alone."""

import math
from collections.abc import Sequence

import torch

from helpers import data, models, probes
from helpers.experiments.minority.networks import network_of, on_digits, on_network
from helpers.experiments.minority.patient import TOLERANCE, Patient, patient_of
from helpers.probes import Unit, census, tracing
from helpers.sweep import Call, Cell, experiment

PLANTED_COLUMNS = ("lost_kept", "lost_flipped", "reads", "score_flipped")


def _by_unit(ranking: tracing.Ranking) -> dict[Unit, float]:
    return dict(zip(ranking.units, ranking.scores.tolist(), strict=True))


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
    fresh = data.with_identifiers(marked.images.cpu(), torch.Generator().manual_seed(1)).to(
        marked.images
    )
    layers = list(dict.fromkeys(unit.layer for unit in units))
    old, new = (probes.activations(model, layers, images) for images in (marked.images, fresh))
    logits = census.census(model, marked.images, units)
    start = data.right_answers(probes.evaluate(model, marked.images), marked.label)
    own = kinds == 2
    scores = _by_unit(tracing.gradient(model, units, marked.images[own], marked.label[own]))
    found = {}
    for unit, after in zip(units, logits, strict=True):
        lost = start.double() - data.right_answers(after.to(start.device), marked.label).double()
        a, b = (x[unit.layer][:, unit.index] for x in (old, new))
        spread = float(a.std())
        found[unit] = {
            "lost_kept": float(lost[kinds == 1].mean()),
            "lost_flipped": float(lost[own].mean()),
            "reads": float((a - b).square().mean().sqrt()) / spread if spread else 0.0,
            "score_flipped": scores[unit],
        }
    return found


def census_cells(profile: str) -> list[Cell]:
    """Every filter of each network, every fourth in smoke runs."""
    networks, step = {
        "smoke": ([("digits", 12, 1)], 4),
        "laptop": ([("birds", 20, 5), ("planted", 20, 3)], 1),
        "paper": ([("birds", 20, 20), ("faces", 20, 20), ("planted", 20, 20)], 1),
    }[profile]
    units = probes.channels(models.small_resnet(2, seed=0))
    kinds = [dict(layer=unit.layer, unit=unit.index) for unit in units if unit.index % step == 0]
    return [cell for network in networks for cell in on_network(*network, kinds)]


@experiment("census", cells=census_cells, tolerance=TOLERANCE, cheap=on_digits, group=network_of)
def filter_census(calls: list[Call]) -> list[dict[str, float | str]]:
    """One filter of one network, zeroed alone: what it costs each group, how rankings see it.

    Returns:
        What `Patient.effects` says, `score_<ranking>`: its score in some rankings, and
        the columns of `PLANTED_COLUMNS`, NaN for networks without planted memory.
    """
    who = patient_of(calls[0])
    wanted = {Unit(call.layer, call.unit) for call in calls}
    units = [unit for unit in who.units if unit in wanted]
    after = {
        name: census.census(who.made.model, part.images, units).to(part.label.device)
        for name, part in who.parts.items()
    }
    names = ("gradient 1", "gradient 2", "taylor", "folded")
    scores = {name: _by_unit(who.ranked(name)) for name in names}
    scores["magnitude"] = _by_unit(tracing.magnitude(who.made.model, who.units))
    memory = _planted(who, units) if int(who.made.mark.max()) else {}
    rows = []
    for call in calls:
        unit = Unit(call.layer, call.unit)
        own = {name: logits[units.index(unit)] for name, logits in after.items()}
        row: dict[str, float | str] = dict(who.effects(own))
        row |= {f"score_{name.replace(' ', '_')}": by[unit] for name, by in scores.items()}
        row |= memory.get(unit, dict.fromkeys(PLANTED_COLUMNS, math.nan))
        rows.append(row | {"data_source": who.train.source})
    return rows
