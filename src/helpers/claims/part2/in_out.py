"""What many networks say of one image, in and out of their training sets: two questions apart.

Rows are those of the experiment `membership_in_out`: in the row of image k, `with_j` is the answer
of the network that had image j (shown as the variant shows it) in the row where all networks
differ, `without_j` that of the network that had the plain image j there.

The attack is the likelihood ratio of Carlini et al. 2022 in its offline form: how far is the
answer of the network under attack from those of networks that were not trained on the image, in
standard deviations of theirs?
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import stats

STACKS = 3  # as in the experiment: networks that saw the same batches in the same order
RESAMPLES = 10_000
DRAW = ("dataset", "start", "trial")
NAMES = {"ratio": "likelihood ratio", "loss": "confidence"}


class Question(NamedTuple):
    """Scores of one draw `(units, …)`: of members, and of others; NaN: neither.

    The units are what is resampled for an interval: images, or networks.
    """

    members: np.ndarray
    others: np.ndarray


def draws(rows: pd.DataFrame, variant: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each draw: `with`, `without` and who judges whom, all `(images, images)`.

    The last is true at `[j, l]` where network l may stand for what networks say that the attacker
    has trained himself, when j is under attack: another network, and where the attacker does not
    know the seeds, one that saw other batches.

    Raises:
        LookupError: no row of this variant.
        ValueError: a draw that lacks images.
    """
    chosen = rows[rows["variant"] == variant]
    if not len(chosen):
        raise LookupError(f"images in the variant {variant!r}")
    for (_, start, trial), draw in chosen.groupby(list(DRAW)):
        images = int(draw["images"].iloc[0])
        draw = draw.sort_values("image")
        if draw["image"].tolist() != list(range(images)):
            raise ValueError(f"draw {trial} ({variant}) has {len(draw)} of {images} images")
        both = (draw[[f"{n}_{k}" for k in range(images)]].to_numpy() for n in ("with", "without"))
        stack = np.arange(images) * STACKS // images if start == "own" else np.arange(images)
        yield (*both, stack[:, None] != stack[None, :])


def ratio(asked: np.ndarray, known: np.ndarray, judges: np.ndarray) -> np.ndarray:
    """`(images, networks)`: answers in standard deviations from what untrained-on networks say.

    Args:
        asked: answers of the networks under attack.
        known: answers of the attacker's own; of image k without that of network k.
        judges: as in :func:`draws`.

    Raises:
        ValueError: fewer than three of the attacker's own networks for some image.

    >>> known = np.tile([0.0, 1.0, 2.0, 3.0, 4.0], (5, 1))
    >>> other = ~np.eye(5, dtype=bool)
    >>> float(ratio(np.full((5, 5), 4.0), known, other)[4, 3])  # by networks 0, 1 and 2
    3.0
    """
    images = np.arange(len(asked))
    found = np.empty(asked.shape)
    for k in images:
        own = judges & (images != k)[None, :]
        if own.sum(1).min() < 3:
            raise ValueError(f"{own.sum(1).min()} networks of the attacker's own: 3 are needed")
        for j in images:
            sample = known[k, own[j]]
            found[k, j] = (asked[k, j] - sample.mean()) / max(sample.std(ddof=1), 1e-9)
    return found


def this_image(rows: pd.DataFrame, variant: str, attack: str = "ratio") -> list[Question]:
    """Was this image in the training set? Networks trained on it against those trained on others.

    Both kinds of network had the same pattern in the same place of their training set. `attack` is
    one of `NAMES`: "loss" is the answer itself, which is in the order of the loss.
    """
    found = []
    for with_, _, judges in draws(rows, variant):
        scores = ratio(with_, with_, judges) if attack == "ratio" else with_
        found.append(_members(scores))
    return found


def this_pattern(rows: pd.DataFrame, variant: str, attack: str = "ratio") -> list[Question]:
    """Was this pattern in the training set? Asked with an image that no network was trained on.

    Networks trained on the pattern on another image against networks trained without it, in pairs;
    the pairs are the units.
    """
    found = []
    for with_, without, judges in draws(rows, variant):
        sides = [with_, without]
        if attack == "ratio":
            sides = [ratio(side, without, judges) for side in sides]
        apart = np.eye(len(with_), dtype=bool)
        found.append(Question(*(np.where(apart, np.nan, side).T for side in sides)))
    return found


def permuted(rows: pd.DataFrame, variant: str, attack: str = "ratio") -> list[Question]:
    """`this_image` with a network that was trained on another image in the place of the member."""
    return [_members(question.others, 1) for question in this_image(rows, variant, attack)]


def _members(scores: np.ndarray, shift: int = 0) -> Question:
    """Network k, or the `shift`-th after it, is the member for image k; NaN stay out."""
    images = np.arange(len(scores))
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen[images, (images + shift) % len(images)] = True
    return Question(np.where(chosen, scores, np.nan), np.where(chosen, np.nan, scores))


def above(question: Question) -> np.ndarray:
    """`(units, units)`: how often members' scores of one unit exceed others' of another.

    Ties count half; the mean is the area under the ROC curve.
    """
    members, others = ([row[~np.isnan(row)] for row in side] for side in question)
    return np.array(
        [[np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)) for b in others] for a in members]
    )


def resampled(questions: list[Question], seed: int = 0) -> tuple[float, np.ndarray]:
    """AUC, the mean over draws, and the same for `RESAMPLES` resamples of the units of each draw.

    The same seed resamples the same units: differences of two such results are paired. A resample
    compares a unit with itself more often than the data do, which is taken out by its mean.
    """
    generator = np.random.default_rng(seed)
    point, again = [], []
    for question in questions:
        wins = above(question)
        point.append(wins.mean())
        units = len(wins)
        weights = generator.multinomial(units, [1 / units] * units, RESAMPLES) / units
        drawn = ((weights @ wins) * weights).sum(1)
        again.append((drawn - drawn.mean() + wins.mean()).clip(0, 1))
    return float(np.mean(point)), np.mean(again, axis=0)


def interval(point: float, again: np.ndarray, level: float = 0.95) -> stats.Interval:
    """The percentile interval of a number and its resamples."""
    low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    return stats.Interval(point, float(low), float(high))


def auc(questions: list[Question], level: float = 0.95) -> stats.Interval:
    """AUC with its bootstrap interval over the units."""
    return interval(*resampled(questions), level)


def named(questions: list[Question], level: float = 0.01) -> stats.Interval:
    """Share of members above a threshold that at most this share of the others exceeds.

    The exact interval is over images, the threshold taken as known. Needs one member an image.
    """
    members, others = (
        np.concatenate([side[~np.isnan(side)] for side in sides])
        for sides in zip(*questions, strict=True)
    )
    allowed = int(np.floor(level * len(others) + 1e-9))
    threshold = np.sort(others)[::-1][allowed]
    return stats.share_ci(int((members > threshold).sum()), len(members))


def accuracy_change(rows: pd.DataFrame, variant: str) -> stats.Interval:
    """Accuracy on images with the pattern, once trained on it, less that of the plain networks."""
    chosen = rows[rows["variant"] == variant]
    return stats.mean_ci(chosen["accuracy"] - chosen["accuracy_before"])


def four_cells(rows: pd.DataFrame, variant: str) -> dict[tuple[str, str], float]:
    """Median answers to an image with the pattern: (image trained on?, pattern trained on?)."""
    found: dict[tuple[str, str], list[float]] = {}
    for with_, without, _ in draws(rows, variant):
        own = np.eye(len(with_), dtype=bool)
        for pattern, table in (("pattern", with_), ("no pattern", without)):
            found.setdefault(("image", pattern), []).extend(table[own])
            found.setdefault(("other image", pattern), []).extend(table[~own])
    return {cell: float(np.median(answers)) for cell, answers in found.items()}
