"""What a trained classifier leans on and remembers.

Source: the spurious score of Yang, Chou & Chaudhuri 2022; membership by confidence of Carlini et
al. 2022; own backgrounds after Bombari & Mondelli 2024; modes after Lim, Kim & Moon 2025; channels
after You et al. 2025. How they are put together is ours.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from helpers.audit import findings, inside
from helpers.audit.asked import Images, array_of, asked, gathered, in_order, mask_of, numbers
from helpers.audit.before_training import two_valued
from helpers.audit.report import Finding, Report, not_asked

# what asks, and what an audit must be given for it
QUESTIONS = {
    "accuracy": (findings.accuracy, ""),
    "worst_group": (findings.worst_group, "attribute"),
    "spurious_score": (findings.spurious_score, "pattern"),
    "hidden_pattern": (findings.hidden_pattern, ""),
    "membership_auc": (findings.membership_auc, "members"),
    "own_background": (findings.own_background, "background"),
    "leading_mode": (inside.leading_mode, "attribute"),
    "critical_channels": (inside.critical_channels, "attribute"),
}
_PICTURES = ("hidden_pattern", "own_background")


def model(
    classifier: nn.Module,
    train: Any,
    test: Any,
    *,
    pattern: Any = None,
    target: int | None = None,
    attribute: Any = None,
    train_attribute: Any = None,
    members: Any = None,
    outsiders: Any = None,
    background: Any = None,
    skip: tuple[str, ...] = (),
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Audit a trained classifier of any kind, in eval mode and with logits for outputs.

    Findings: ``accuracy``; ``worst_group`` (needs `attribute`); ``spurious_score`` (needs
    `pattern`); ``hidden_pattern``, a search for a small square that decides alone and was taught;
    ``membership_auc`` (needs `members`), can one tell by its confidence that images with something
    odd were trained on; ``own_background`` (needs `background`), does the background of a training
    image bring back its label; ``leading_mode`` (needs `attribute`), the first modes of the tangent
    kernel that carry the attribute; ``critical_channels`` (needs `attribute`), do a few channels
    carry the worst group. What could not be asked, or failed for a reason of its own (memory too),
    says why, and the others go on. Interrupted, the report has what was found until then.

    Args:
        classifier: gives `(n, classes)` logits, or `(n, 1)` for two classes, on any device.
        train, test: pairs `(inputs, labels)` of tensors or arrays, or loaders; as the model was
            trained on them (size, normalisation), without augmentation. Labels from 0 on (or -1 and
            +1 for two classes). Bytes are divided by 255. What is told of
            each sample (`members`, attributes) fits no loader that shuffles.
        pattern: `(c, h, w)`, added to images, within the range that the images have.
        target: class that the pattern should call; the one it raises most, if None.
        attribute: `(n,)` of the test images, two values.
        train_attribute: `(n,)` of the training images, the same two values; ``own_background`` then
            compares images of one attribute.
        members: `(n,)` bool, the training images that are odd: they carry a pattern, a rare
            attribute, or a wrong label.
        outsiders: images that are as odd, with the labels that they would have had, but were not
            trained on, as `test`. If None: test images of the members' classes, with the pattern.
        background: `(h, w)` bool, True where a picture shows background.
        skip: questions that are not to be asked.
        seed: of what is drawn.
        progress: show a bar.

    Raises:
        ValueError: a model that is in training mode, cannot take the inputs, gives no logits, or
            numbers that are not finite; sets without images or with one class; a loader that
            shuffles beside what is told sample by sample; arguments that do not fit the images.
    """
    for name, given, what, told in (
        ("train", train, "members", members), ("train", train, "train_attribute", train_attribute),
        ("test", test, "attribute", attribute),
    ):  # fmt: skip
        if told is not None:
            in_order(name, given, what)
    sets = [gathered(name, given) for name, given in (("train", train), ("test", test))]
    others = None if outsiders is None else gathered("outsiders", outsiders)
    ask, seen, held, others = asked(classifier, *sets, others)
    pattern = None if pattern is None else numbers("pattern", pattern)
    mask = None if background is None else array_of("background", background)
    classes = ask(held.inputs[:1]).shape[1]
    _fit(held, classes, pattern=pattern, target=target, background=mask)
    if strange := set(skip) - set(QUESTIONS):
        raise ValueError(f"skip has {sorted(strange)[0]!r}: allowed are {', '.join(QUESTIONS)}")
    higher = _higher(attribute, train_attribute, len(held), len(seen))
    case = findings.Case(
        ask, seen, held, seed,
        higher[0],
        None if members is None else mask_of("members", members, len(seen)),
        others, pattern, target, None if mask is None else torch.from_numpy(mask.copy()),
        higher[1],
    )  # fmt: skip
    found = []
    with tqdm(QUESTIONS, desc="audit", disable=not progress) as bar:
        try:
            for name in bar:
                bar.set_postfix_str(name)
                found.append(_ask(name, case, skip, bar))
        except KeyboardInterrupt:
            left = list(QUESTIONS)[len(found) :]
            found += [not_asked(name, "the audit was interrupted") for name in left]
    shape = " x ".join(map(str, held.inputs.shape[1:]))
    about = (
        f"{type(classifier).__name__}, {len(seen):,} training and {len(held):,} test samples, "
        f"{classes} classes, inputs of {shape} numbers from {float(held.inputs.min()):.3g} to "
        f"{float(held.inputs.max()):.3g}"
    )
    return Report("model", about, found)


def _higher(
    attribute: Any, train_attribute: Any, held: int, seen: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Which test and which training samples have the higher attribute, `(held,)` and `(seen,)`."""
    if attribute is None:
        if train_attribute is not None:
            raise ValueError("train_attribute was given without the attribute of the test images")
        return None, None
    found = two_valued("attribute", attribute, held) > 0
    if train_attribute is None:
        return found, None
    own = two_valued("train_attribute", train_attribute, seen) > 0
    both = np.concatenate([
        array_of("attribute", attribute), array_of("train_attribute", train_attribute)
    ])  # fmt: skip
    two_valued("attribute, of test and training images together,", both, held + seen)
    return found, own


def _ask(name: str, case: findings.Case, skip: tuple[str, ...], bar: tqdm) -> Finding:
    """One finding, or why there is none."""
    if name in skip:
        return not_asked(name, "it was skipped")
    try:
        why = _missing(name, case)
        return not_asked(name, why) if why else QUESTIONS[name][0](case, bar)
    except ValueError as error:
        return not_asked(name, str(error))
    except (RuntimeError, MemoryError) as error:
        lines = str(error).strip().splitlines() or ["without a word"]
        return not_asked(name, f"{type(error).__name__}: {lines[0]}")


def _missing(name: str, case: findings.Case) -> str:
    """What a question lacks; empty if it can be asked."""
    needed = QUESTIONS[name][1]
    if needed and getattr(case, needed) is None:
        return f"not given: {needed}"
    if name in _PICTURES and not case.test.pictures:
        return "the inputs are no pictures (n, c, h, w)"
    if name == "leading_mode":
        return inside.no_modes(case)
    return inside.no_channels(case) if name == "critical_channels" else ""


def _fit(
    held: Images, classes: int, *, pattern: Tensor | None, target: int | None,
    background: np.ndarray | None,
) -> None:  # fmt: skip
    """ValueError for arguments that do not fit the images or the classes."""
    shape = tuple(held.inputs.shape[1:])
    if pattern is not None and tuple(pattern.shape) != shape:
        raise ValueError(f"pattern has shape {tuple(pattern.shape)}: an image has {shape}")
    if target is not None and target not in range(classes):
        raise ValueError(f"target is {target!r}: allowed is 0 to {classes - 1}")
    if background is not None:
        fits = background.dtype == bool and background.shape == shape[1:]
        if not fits or background.all() or not background.any():
            raise ValueError(
                f"background has shape {background.shape} and kind {background.dtype}: "
                f"expected {shape[1:]} of bool, somewhere true and somewhere false"
            )
