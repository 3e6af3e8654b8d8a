"""Lesions of the units that a ranking names, beside matched random ones of the same network.

A rare group has smaller margins, so that damage of any kind reaches it first. What a ranking is
worth is therefore the difference to as many units of the same layers, drawn at random for each
network anew: every claim about few critical neurons is judged by it.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from helpers import probes, stats
from helpers.data import Grouped, right_answers
from helpers.experiments.minority.networks import by_group, margin, mean_of, network_of, on_digits
from helpers.experiments.minority.patient import BY_GROUP, Patient, patient_of
from helpers.probes import Unit, lesions, tracing
from helpers.sweep import Call, Cell, experiment

NEAREST = 10  # right test images to which a training image is matched by its margin
CALIPER = 0.25  # standard deviations by which a margin may differ from that of its matches
CLOSELY = 3  # sets of at most so many units are looked at on test images too
DAMAGED, SPARED = 0.10, 0.02  # what a selective set costs a rare group, and the frequent ones
Logits = dict[str, torch.Tensor]


def paired_cells(profile: str) -> list[Cell]:
    """Rankings and sizes by network; the photographs first."""
    rankings, few = (*BY_GROUP, "magnitude"), (*BY_GROUP[:2], "magnitude")
    rare, draws, amounts = (*BY_GROUP[1:3], "magnitude"), 4, (1, 2, 3, 5, 10, 30)
    plans = {
        "smoke": [("digits", 12, 2, rankings)],
        "laptop": [("sky", 12, 10, rankings), ("birds", 20, 5, rankings),
                   ("sky faces", 12, 10, few), ("birds, transformer", 20, 5, rare)],
        "paper": [("sky", 12, 20, rankings), ("birds", 20, 20, rankings),
                  ("sky faces", 12, 20, few), ("birds, fine transformer", 40, 20, rare)],
    }[profile]  # fmt: skip
    if profile != "laptop":
        draws, amounts = (2, (1, 2, 3, 10)) if profile == "smoke" else (20, amounts)
    return [
        dict(setting=setting, epochs=epochs, ranking=ranking, amount=amount, draws=draws,
             trial=trial)
        for setting, epochs, trials, named in plans
        for trial, ranking, amount in itertools.product(range(trials), named, amounts)
    ]  # fmt: skip


def drawn(
    who: Patient, chosen: Sequence[Unit] | int, draws: int, trial: int
) -> Iterator[list[Unit]]:
    """Random sets: as many units, or as many of each layer as the chosen ones, by the trial.

    Networks share no draw, or their repetitions would not be independent.
    """
    for seed in np.random.SeedSequence(trial).generate_state(draws).tolist():
        if isinstance(chosen, int):
            yield tracing.random(who.units, seed=seed).top(chosen)
        else:
            yield tracing.layer_matched(chosen, who.units, seed=seed)


def lost(who: Patient, after: torch.Tensor, split: str = "train") -> list[float]:
    """Accuracy that each group loses, of the images of a split."""
    part = who.parts[split]
    change = probes.accuracy_by_group(who.before[split], part.label, part.group)
    return (change - probes.accuracy_by_group(after, part.label, part.group)).tolist()


def selective(who: Patient, losses: Sequence[float]) -> bool:
    """Whether a rare group loses at least `DAMAGED` and no frequent one more than `SPARED`."""
    rare, common = ([losses[g] for g in groups] for groups in (who.rare, who.common))
    return max(rare) >= DAMAGED and max(common) <= SPARED


def _right(part: Grouped, logits: torch.Tensor, group: int) -> torch.Tensor:
    return right_answers(logits, part.label) & (part.group == group)


def _margins(part: Grouped, logits: torch.Tensor) -> torch.Tensor:
    return margin(logits).double() * (2 * part.label - 1)


class Pairs(NamedTuple):
    """Right training images of a group, and right test images whose margins are the nearest.

    Attributes:
        own: `(n,)` rows of the training part.
        matched: `(n, NEAREST)` rows of the test part.
        others: `(m,)` rows of all right test images of the group.
        all_own: `(k,)` rows of all right training images: those too far from any match are not
            among `own`.
        gap: mean margin of the former minus that of the latter.
    """

    own: torch.Tensor
    matched: torch.Tensor
    others: torch.Tensor
    all_own: torch.Tensor
    gap: float


def nearest(who: Patient, group: int) -> Pairs | None:
    """Matches of a group by what the network without lesion says.

    A training image counts where the mean margin of its `NEAREST` test images is at most `CALIPER`
    standard deviations (of the right test images' margins) from its own.

    Returns:
        None where no training image is right, or there are too few right test images.

    Source: calipers as in Rosenbaum & Rubin 1985.
    """
    train, test = who.parts["train"], who.parts["test"]
    own, others = (
        _right(part, who.before[name], group).nonzero().flatten()
        for name, part in (("train", train), ("test", test))
    )
    if not len(own) or len(others) < NEAREST:
        return None
    a, b = (
        _margins(part, who.before[name])[rows]
        for name, part, rows in (("train", train, own), ("test", test, others))
    )
    found = (a[:, None] - b).abs().topk(NEAREST, largest=False).indices
    gaps = a - b[found].mean(1)
    near = gaps.abs() <= CALIPER * b.std()
    return Pairs(own[near], others[found[near]], others, own, float(gaps[near].mean()))


def train_against_test(who: Patient, pairs: Pairs | None, after: Logits) -> tuple[float, float]:
    """What a lesion costs right training images of a group more than right test images of it.

    Returns:
        With each training image matched to the `NEAREST` test images in margin; and without, of
        all.
    """
    if pairs is None:
        return math.nan, math.nan
    train, test = (
        (~right_answers(after[name], who.parts[name].label)).double() for name in ("train", "test")
    )
    return (
        float((train[pairs.own] - test[pairs.matched].mean(1)).mean()),
        float(train[pairs.all_own].mean() - test[pairs.others].mean()),
    )


class Bench(NamedTuple):
    """What is known of a network before any lesion.

    Attributes:
        who: the network.
        pairs: of groups 0 to 3.
        refitted: accuracy by group on training images with the output's bias fitted anew.
    """

    who: Patient
    pairs: list[Pairs | None]
    refitted: np.ndarray


def bench(who: Patient) -> Bench:
    """A network, ready to be compared with what it says after lesions."""
    return Bench(who, [nearest(who, g) for g in range(4)], _refitted(who, who.before))


def _refitted(who: Patient, answers: Logits) -> np.ndarray:
    train, val = who.parts["train"], who.parts["val"]
    bias = lesions.refit_bias(margin(answers["val"]), val.label, val.group)
    logits = answers["train"] + answers["train"].new_tensor([0.0, bias])
    return probes.accuracy_by_group(logits, train.label, train.group)


def effects(on: Bench, units: Sequence[Unit], closely: bool) -> dict[str, float]:
    """What zeroing these units does to each group.

    Returns:
        `lost_<g>`: accuracy lost on training images; `p_<g>`: McNemar's test of that; `selective`
        as above, 0 or 1; and, looked at `closely`, `test_<g>`: lost on test images; `refit_<g>`:
        lost on training images where the output's bias is fitted anew on the validation images,
        before and after; `offset_<g>`: lost by the mean shift of the margin alone; `matched_<g>`,
        `raw_<g>`: see :func:`train_against_test`. Those are NaN where it is not looked at closely.
    """
    who = on.who
    train = who.parts["train"]
    with lesions.perturbed(who.made.model, units, "zero") as model:
        if closely:
            after = who.answers(model)
        else:
            after = {"train": who.answer(model, train.images)}
    losses = lost(who, after["train"])
    was, now = (right_answers(x["train"], train.label) for x in (who.before, after))
    row = by_group("lost", losses) | {"selective": float(selective(who, losses))}
    row |= by_group("p", [stats.mcnemar(*(x[train.group == g] for x in (was, now)))
                          for g in range(4)])  # fmt: skip
    if not closely:
        return row | {f"{name}_{g}": math.nan for name in CLOSE for g in range(4)}
    row |= by_group("test", lost(who, after["test"], "test"))
    row |= by_group("refit", on.refitted - _refitted(who, after))
    shifted = lesions.shift_matched(who.before["train"], after["train"])
    row |= by_group("offset", lost(who, shifted))
    compared = [train_against_test(who, pairs, after) for pairs in on.pairs]
    matched, raw = zip(*compared, strict=True)
    return row | by_group("matched", matched) | by_group("raw", raw)


def _named(
    prefix: str, rows: Sequence[dict[str, float]], columns: Sequence[str]
) -> dict[str, float]:
    """Means of these columns (of all groups, where a column is of a group)."""
    return {
        f"{prefix}_{name}": value
        for name, value in mean_of(rows).items()
        if name.rpartition("_")[0] in columns or name in columns
    }


CLOSE = ("test", "refit", "offset", "matched", "raw")  # of sets that are looked at closely


@experiment(
    "paired_lesions",
    cells=paired_cells,
    # those of another network of the same law
    tolerance={"default": 1.0} | {f"gap_{g}": 20.0 for g in range(4)},
    cheap=on_digits,
    group=network_of,
)
def paired_lesions(calls: list[Call]) -> Iterator[dict[str, float | str]]:
    """The first `amount` units of a ranking zeroed, beside `draws` random sets of two kinds.

    Yields:
        What :func:`effects` says: with `ranked_` for the ranking, with `like_` the mean over random
        sets with as many units of each layer, with `any_` over sets from anywhere in the network
        (accuracy on training images only); `overlap_<g>`: Jaccard index with the ranking by each
        group's gradient; `gap_<g>`: of :class:`Pairs`, `near_<g>`: share of the right training
        images that have a match. Sets of more than `CLOSELY` units are looked at on training
        images alone.
    """
    on, anywhere = bench(patient_of(calls[0])), {}
    who = on.who
    pairs = by_group("gap", [p.gap if p else math.nan for p in on.pairs])
    pairs |= by_group("near", [len(p.own) / len(p.all_own) if p else 0.0 for p in on.pairs])
    for call in calls:
        chosen, closely = who.ranked(call.ranking).top(call.amount), call.amount <= CLOSELY
        same = drawn(who, chosen, call.draws, call.trial)
        both = ("lost", "selective", *CLOSE)
        row = _named("ranked", [effects(on, chosen, closely)], (*both, "p"))
        row |= _named("like", [effects(on, units, closely) for units in same], both)
        key = call.amount, call.draws
        if key not in anywhere:
            sets = drawn(who, call.amount, call.draws, call.trial)
            found = [effects(on, units, False) for units in sets]
            anywhere[key] = _named("any", found, ("lost", "selective"))
        row |= anywhere[key] | pairs | who.overlaps(call.ranking, call.amount)
        yield row | {"data_source": who.train.source}
