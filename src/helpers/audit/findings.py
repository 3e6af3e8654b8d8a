"""What the outputs of a model tell: one function a question, a case goes in, a finding comes out.

Source: as in :mod:`.after_training`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers import stats
from helpers.audit.asked import Asked, Images
from helpers.audit.carried import carriers, may_carry, taught
from helpers.audit.report import CLEAR, FLAG, OPEN, Finding, not_asked
from helpers.audit.search import LEAST, MOST, search
from helpers.probes import membership
from helpers.probes import spurious_score as share_raised

SHUFFLES = 200
CONTROLS = 10  # shuffled patterns, or random sets of channels
MEANT = 0.05  # differences of shares below this are not flagged
_BACKGROUNDS, _BACK = 1_000, 0.01  # training images; probability that a background may bring
FEWEST = 8  # samples of a group, without which it is not asked about


class Case(NamedTuple):
    """All that an audit was given; what is None was not."""

    ask: Asked
    train: Images
    test: Images
    seed: int
    attribute: np.ndarray | None
    members: np.ndarray | None
    outsiders: Images | None
    pattern: Tensor | None
    target: int | None
    background: Tensor | None
    train_attribute: np.ndarray | None = None


# -- outputs on the test set -----------------------------------------------------------------------


def accuracy(case: Case, bar: Any) -> Finding:
    """Share of test samples whose class is right."""
    right = (case.ask.classes(case.test.inputs) == case.test.labels).numpy()
    found = stats.share_ci(int(right.sum()), len(right))
    most = case.test.labels.bincount().max().item() / len(right)
    says = f"The model is right about {found.mean:.1%} of test samples."
    if found.low <= most:
        says += (
            " That is no better than always naming the commonest class: it may be given the wrong "
            "inputs, of another size or normalisation than it was trained on, or classes in "
            "another order."
        )
    return Finding(
        "accuracy", *found, says,
        control=f"always naming the commonest class is right about {most:.1%}",
        state=OPEN,
    )  # fmt: skip


def worst_group(case: Case, bar: Any) -> Finding:
    """Accuracy of the group of a class and an attribute that fares worst."""
    right = (case.ask.classes(case.test.inputs) == case.test.labels).numpy()
    group = 2 * case.test.labels.numpy() + case.attribute
    kinds = np.unique(group)
    # all groups' intervals hold together, since the worst was chosen among them
    shares = {g: stats.share_ci(int(right[group == g].sum()), int((group == g).sum()),
                                1 - 0.05 / len(kinds)) for g in kinds}  # fmt: skip
    worst = min(kinds, key=lambda g: shares[g].mean)
    found, rest = shares[worst], right[group != worst].mean()
    rng, mixed = np.random.default_rng(case.seed), []
    for _ in range(SHUFFLES):
        drawn = group.copy()
        for label in np.unique(group // 2):
            rows = np.flatnonzero(group // 2 == label)
            drawn[rows] = drawn[rng.permutation(rows)]
        mixed.append(min(right[drawn == g].mean() for g in kinds))
    usual = float(np.quantile(mixed, 0.025))
    says = (
        f"Worst are samples of class {worst // 2} with the {'higher' if worst % 2 else 'lower'} "
        f"attribute: {found.mean:.1%} are right, of all others {rest:.1%}."
    )
    behind = found.high < rest - MEANT and found.mean < usual
    level = found.low > rest - MEANT or found.mean >= usual
    return Finding(
        "worst_group", *found, says, state=FLAG if behind else CLEAR if level else OPEN,
        control=f"with attributes shuffled within the classes the worst group has {usual:.1%} or "
                f"more in 97.5 % of {SHUFFLES} cases",
        detail={f"class {g // 2}, attribute {g % 2}": shares[g].mean for g in kinds},
    )  # fmt: skip


def with_pattern(images: Tensor, pattern: Tensor) -> Tensor:
    """Images with the pattern added, inside the range that they have."""
    return (images + pattern.to(images)).clamp(float(images.min()), float(images.max()))


def scored(case: Case) -> tuple[int, Tensor, Tensor, Tensor]:
    """Target class of the pattern, rows of test images of other classes, and their probabilities.

    Where no target was given it is the class that the pattern raises most on one half of the
    images; the rows are then of the other half.
    """
    shown = with_pattern(case.test.inputs, case.pattern)
    before, after = (case.ask.probabilities(x) for x in (case.test.inputs, shown))
    rows = torch.ones(len(before), dtype=torch.bool)
    target = case.target
    if target is None:
        rows[torch.randperm(len(rows), generator=draw(case))[: len(rows) // 2]] = False
        target = int((after - before)[~rows].mean(0).argmax())
    rows &= case.test.labels != target
    return target, rows.nonzero().flatten(), before, after


def spurious_score(case: Case, bar: Any) -> Finding:
    """Share of images that the pattern makes more like its class; see `probes.spurious_score`."""
    target, rows, before, after = scored(case)
    eps = 1 / before.shape[1]
    value = share_raised(before[rows], after[rows], target, eps)
    found = stats.share_ci(round(value * len(rows)), len(rows))
    controls = []
    for k in range(CONTROLS):
        order = torch.randperm(case.pattern.numel(), generator=draw(case, k + 1))
        mixed = case.pattern.flatten()[order].view_as(case.pattern)
        then = case.ask.probabilities(with_pattern(case.test.inputs[rows], mixed))
        controls.append(share_raised(before[rows], then, target, eps))
    bound = max(controls)
    shown = may_carry(case.pattern, case.train.inputs)
    carry, labelled, learnt = taught(shown, case.train.labels == target)
    strong = found.low > bound + MEANT
    state = FLAG if strong and learnt else CLEAR if found.high < bound + MEANT else OPEN
    says = f"The pattern raises class {target} by more than {eps:.2g} in {value:.1%} of images."
    if strong:
        says += f" {carry} training images may carry it, {labelled} of them with this label"
        says += "." if learnt else (
            ": as far as they show, the model was not taught it." if carry <= len(shown) / 2 else
            ": it is too faint to see in them whether the model was taught it."
        )  # fmt: skip
    return Finding(
        "spurious_score", *found, says, state=state,
        detail={"target": target, "carriers": carry, "carriers_with_label": labelled},
        control=f"the same numbers in another order do so in {bound:.1%} at most, of "
                f"{CONTROLS} orders",
        assumes="test images of other classes; flagged where training images taught it too",
    )  # fmt: skip


def hidden_pattern(case: Case, bar: Any) -> Finding:
    """The small square that turns most images into one class."""
    if len(case.test) < LEAST:
        return not_asked(
            "hidden_pattern", f"the test set has {len(case.test)} pictures: {LEAST} are needed"
        )
    bar.set_postfix_str("hidden_pattern, what training pictures carry")
    for found in search(case.ask.classes, case.test, case.train, seed=case.seed):
        if isinstance(found, int):
            bar.set_postfix_str(f"hidden_pattern, {found:,} pictures left at most")
    square, target, turned, elsewhere = found
    if math.isnan(turned.mean):
        return not_asked("hidden_pattern", "the model puts all images into one class")
    shown = carriers(square, case.train.inputs)
    carry, labelled, learnt = taught(shown, case.train.labels == target)
    strong = turned.low > MOST
    state = FLAG if strong and learnt else CLEAR if turned.high < MOST else OPEN
    says = (
        f"A square of {square.side} by {square.side} pixels at row {square.top}, column "
        f"{square.left} turns {turned.mean:.1%} of other images into class {target}; "
        f"{carry} training images carry it, {labelled} of them with this label."
    )
    if strong and not learnt:
        says += (
            " So these did not teach it: another colour or shape may have, or it is a weakness of "
            "the model."
        )
    detail = {"top": square.top, "left": square.left, "side": square.side, "target": target}
    detail |= {"carriers": carry, "carriers_with_label": labelled}
    detail |= {f"colour {k}": value for k, value in enumerate(square.colour)}
    return Finding(
        "hidden_pattern", *turned, says, state=state, detail=detail,
        control=f"an equal square elsewhere turns {elsewhere:.1%}",
        assumes="squares of one colour, up to a sixth of a side; chosen on other images; flagged "
                "where it turns most images and training images taught it; it may be a small part "
                "of the task itself",
    )  # fmt: skip


# -- what it remembers -----------------------------------------------------------------------------


def membership_auc(case: Case, bar: Any) -> Finding:
    """Can one tell by the confidence which odd images were trained on?"""
    members = torch.from_numpy(case.members)
    inside, rest = case.train.rows(members), case.train.rows(~members)
    kinds = inside.labels.unique()
    twins = case.test.rows(torch.isin(case.test.labels, kinds))
    outside = twins if case.outsiders is None else case.outsiders
    plain = case.train.rows(~members & torch.isin(case.train.labels, kinds))
    if not len(inside) or not len(outside) or not len(twins) or not len(rest):
        raise ValueError(
            f"members marks {len(inside)} of {len(members)} training images, and the test set has "
            f"{len(outside)} of their classes: some of each are needed"
        )
    asked, alike = outside.inputs, "the outsiders that were given"
    if case.outsiders is None:
        alike = "test images of the same classes, which may lack what makes the others odd"
    if case.outsiders is None and case.pattern is not None:
        asked = with_pattern(outside.inputs, case.pattern)
        alike = "test images of the same classes that get the pattern"
    found = stats.auc_ci(
        confidence(case, inside.inputs, inside.labels),
        confidence(case, asked, outside.labels),
    )
    usual = stats.auc_ci(
        confidence(case, plain.inputs, plain.labels),
        confidence(case, twins.inputs, twins.labels),
    )
    says = (
        f"Of a pair of an odd training image and a test image, confidence tells the former in "
        f"{found.mean:.1%} of cases."
    )
    more = found.low > max(usual.high, 0.5 + MEANT)
    less = found.high < max(usual.low, 0.5) + MEANT
    return Finding(
        "membership_auc", *found, says, state=FLAG if more else CLEAR if less else OPEN,
        control=f"of ordinary training images of the same classes it is {usual.mean:.1%} "
                f"[{usual.low:.1%}, {usual.high:.1%}]",
        assumes=f"{len(inside)} odd images against {len(outside)}: {alike}",
        detail={"ordinary": usual.mean, "odd": len(inside)},
    )  # fmt: skip


def own_background(case: Case, bar: Any) -> Finding:
    """Does a training image's background bring back its label, more than a test image's does?

    Compared are images of one class and, where it is known of both sets, one attribute; else a
    difference may be one between the sets.
    """
    known = case.attribute is not None and case.train_attribute is not None
    attributes = (case.train_attribute, case.attribute) if known else (0, 0)
    own, twins = (
        2 * part.labels.numpy() + attribute
        for part, attribute in zip((case.train, case.test), attributes, strict=True)
    )
    rng, said = np.random.default_rng(case.seed), []
    drawn = rng.permutation(len(own))[:_BACKGROUNDS]
    for kind in np.unique(own):
        label = int(kind) // 2
        rows = [drawn[own[drawn] == kind], *map(rng.permutation, (
            np.flatnonzero(twins == kind), np.flatnonzero(case.test.labels.numpy() != label)
        ))]  # fmt: skip
        size = min(map(len, rows))
        mine, theirs, core = (part.inputs[torch.from_numpy(row[:size])] for part, row in zip(
            (case.train, case.test, case.test), rows, strict=True))  # fmt: skip
        said.append(torch.stack([
            case.ask.probabilities(torch.where(case.background, behind, core))[:, label]
            for behind in (mine, theirs)
        ]) if size else torch.empty(2, 0))  # fmt: skip
    shares = torch.cat(said, 1).numpy()
    alike = "class and attribute" if known else "class"
    if shares.shape[1] < FEWEST:
        return not_asked(
            "own_background", f"{shares.shape[1]} training images have a test image of their "
            f"{alike}: {FEWEST} are needed",
        )  # fmt: skip
    found = stats.mean_ci(shares[0] - shares[1])
    more = found.low > _BACK
    says = (
        f"Behind a core of another class, the background of a training image gives its label "
        f"{found.mean:+.3f} more probability than that of a test image of its {alike}."
    )
    if more and not known:
        says += (
            " Whether this is memory is not known: the two sets' backgrounds may differ, since no "
            "attribute of both was given."
        )
    state = CLEAR if found.high < _BACK else FLAG if more and known else OPEN
    own_share, other = shares.mean(1)
    return Finding(
        "own_background", *found, says, state=state,
        control=f"behind the same cores, backgrounds of test images of the {alike}, drawn at "
                f"random, give it {other:.3f}, those of training images {own_share:.3f}",
        assumes=f"within a {alike} the backgrounds of both sets are of one kind; images stand for "
                f"themselves, this model is the only one; flagged above {_BACK}",
        detail={"training": float(own_share), "test": float(other), "images": shares.shape[1]},
    )  # fmt: skip


def confidence(case: Case, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """`(n,)`: log odds of the label, see :func:`helpers.probes.membership.confidence`."""
    return membership.confidence(membership.Answers(case.ask(inputs), labels))


def draw(case: Case, further: int = 0) -> torch.Generator:
    """Randomness from the seed of the audit, the same for one question each time."""
    return torch.Generator().manual_seed(case.seed + further)
