"""What a trained classifier leans on and remembers.

Source: the spurious score of Yang, Chou & Chaudhuri 2022; membership by confidence of Carlini et
al. 2022; own backgrounds after Bombari & Mondelli 2024; modes after Lim, Kim & Moon 2025; channels
after You et al. 2025. How they are put together is ours.
"""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.audit import findings, inside
from helpers.audit.asked import Images, asked, gathered, mask_of
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
    pattern: Tensor | None = None,
    target: int | None = None,
    attribute: Any = None,
    members: Any = None,
    outsiders: Any = None,
    background: Tensor | None = None,
    skip: tuple[str, ...] = (),
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Audit a trained classifier of any kind, in eval mode and with logits for outputs.

    Findings: ``accuracy``; ``worst_group`` (needs `attribute`); ``spurious_score`` (needs
    `pattern`); ``hidden_pattern``, a search for a small square that decides alone;
    ``membership_auc`` (needs `members`), can one tell by its confidence that images with something
    odd were trained on; ``own_background`` (needs `background`), does the background of a training
    image bring back its label; ``leading_mode`` (needs `attribute`), the first modes of the tangent
    kernel that carry the attribute; ``critical_channels`` (needs `attribute`), do a few channels
    carry the worst group. What could not be asked says why. Interrupted, the report has what was
    found until then.

    Args:
        classifier: gives `(n, classes)` logits, or `(n, 1)` for two classes, on any device.
        train, test: pairs `(inputs, labels)` of tensors, or loaders; as the model was trained on
            them, without augmentation. Labels from 0 on (or -1 and +1 for two classes).
        pattern: `(c, h, w)`, added to images, within the range that the images have.
        target: class that the pattern should call; the one it raises most, if None.
        attribute: `(n,)` of the test images, two values.
        members: `(n,)` bool, the training images that are odd: they carry a pattern, a rare
            attribute, or a wrong label.
        outsiders: images that are as odd, with the labels that they would have had, but were not
            trained on, as `test`. If None: test images of the members' classes, with the pattern.
        background: `(h, w)` bool, True where a picture shows background.
        skip: questions that are not to be asked.
        seed: of what is drawn.
        progress: show a bar.

    Raises:
        ValueError: a model that is in training mode, gives no logits, or numbers that are not
            finite; sets without images or with one class; arguments that do not fit the images.
    """
    sets = [gathered(name, given) for name, given in (("train", train), ("test", test))]
    ask, seen, held = asked(classifier, *sets)
    check = dict(pattern=pattern, target=target, background=background)
    _fit(held, len(ask(held.inputs[:1])[0]), **check)
    if strange := set(skip) - set(QUESTIONS):
        raise ValueError(f"skip has {sorted(strange)[0]!r}: allowed are {', '.join(QUESTIONS)}")
    case = findings.Case(
        ask, seen, held, seed,
        None if attribute is None else two_valued("attribute", attribute, len(held)) > 0,
        None if members is None else mask_of("members", members, len(seen)),
        None if outsiders is None else gathered("outsiders", outsiders),
        pattern, target, background,
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
    about = (
        f"{type(classifier).__name__}, {len(seen):,} training and {len(held):,} test samples, "
        f"{len(ask(held.inputs[:1])[0])} classes"
    )
    return Report("model", about, found)


def _ask(name: str, case: findings.Case, skip: tuple[str, ...], bar: tqdm) -> Finding:
    """One finding, or why there is none."""
    question, needed = QUESTIONS[name]
    if name in skip:
        why = "it was skipped"
    elif needed and getattr(case, needed) is None:
        why = f"no {needed} was given"
    elif name in _PICTURES and not case.test.pictures:
        why = "the inputs are no pictures (n, c, h, w)"
    elif name == "leading_mode":
        why = inside.no_modes(case)
    else:
        why = inside.no_channels(case) if name == "critical_channels" else ""
    return not_asked(name, why) if why else question(case, bar)


def _fit(
    held: Images, classes: int, *, pattern: Tensor | None, target: int | None,
    background: Tensor | None,
) -> None:  # fmt: skip
    """ValueError for arguments that do not fit the images or the classes."""
    shape = tuple(held.inputs.shape[1:])
    if pattern is not None and tuple(pattern.shape) != shape:
        raise ValueError(f"pattern has shape {tuple(pattern.shape)}: an image has {shape}")
    if target is not None and target not in range(classes):
        raise ValueError(f"target is {target!r}: allowed is 0 to {classes - 1}")
    if background is not None:
        fits = background.dtype == torch.bool and tuple(background.shape) == shape[1:]
        if not fits or background.all() or not background.any():
            raise ValueError(
                f"background has shape {tuple(background.shape)} and kind {background.dtype}: "
                f"expected {shape[1:]} of bool, somewhere true and somewhere false"
            )
