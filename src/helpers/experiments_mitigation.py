"""The experiment of the chapter on mitigation: contrast with a pruned copy, and its rivals.

Each run starts from a network of :mod:`helpers.experiments_minority`; a row is one epoch of one
run, so that any rule for choosing an epoch can be applied to the stored results.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch

from helpers import metrics, mitigation, training
from helpers.experiments_minority import Trained, by_group, median_margins, trained_of
from helpers.mitigation import Contrast
from helpers.sweep import Cell, Experiment, register

RELEASED = Contrast()  # of the released code, but for the number of epochs
_PLAIN = Contrast(contrast_weight=0.0, label_weight=1.0, head="logits")
_WEAK = Contrast(contrast_weight=0.1, label_weight=1.0, head="logits")
METHODS: dict[str, Contrast] = {
    "released": RELEASED,
    "gradient mask": replace(RELEASED, mask="gradient"),
    "gradient mask, weights": replace(RELEASED, mask="gradient", gradient_unit="weight"),
    "both masks": replace(RELEASED, mask="both"),
    "no mask": replace(RELEASED, mask="none"),
    "random mask": replace(RELEASED, mask="random"),
    "random filters": replace(RELEASED, mask="random filters"),
    "weak contrast": _WEAK,
    "weak contrast, gradient mask": replace(_WEAK, mask="gradient"),
    "weak contrast, no mask": replace(_WEAK, mask="none"),
    "projection head": replace(_WEAK, contrast_weight=1.0, features="penultimate"),
    "cross-entropy": _PLAIN,
    "class-balanced": replace(_PLAIN, class_weights=True),
    "group-balanced": replace(_PLAIN, sampling="group-balanced"),
}
SHARES = (0.1, 0.3, 0.6, 0.9)  # of weights that the magnitude mask drops, besides 0.01
METHODS |= {f"magnitude {share:g}": replace(RELEASED, share=share) for share in SHARES}
FILTERS = (0.05, 0.2)  # of filters that the gradient mask drops, besides 0.01
METHODS |= {
    f"gradient {share:g}": replace(RELEASED, mask="gradient", share=share) for share in FILTERS
}
# group DRO takes the recipe of plain training on; the last layer is refitted at once; "early
# stopping" has the epochs of the first training itself, and `tuning` says how many there were
OTHERS = ("group DRO", "last layer", "early stopping")


def accuracies(made: Trained, net: torch.nn.Module) -> dict[str, float]:
    """`<split>_<group>` accuracy, and `margin_<group>`: median margin on the training set."""
    row = {}
    for split, part in made.splits.items():
        outputs = training.predict(net, part.images)
        right = metrics.accuracy_by_group(outputs, part.label, part.group)
        row |= by_group(split, right)
        if split == "train":
            row |= by_group("margin", median_margins(outputs, part))
    return row


def _rows(made: Trained, call: dict[str, Any]) -> list[dict[str, float]]:
    """Accuracies after each epoch of a run; the first row is the network it starts from.

    For "early stopping" these are the epochs of the first training, from the untrained network on.
    """
    train, method, seed = made.splits["train"], call["method"], call["trial"]
    if method == "early stopping":
        past = [accuracies(made, made.at(epoch)) for epoch in range(call["epochs"] + 1)]
        made.at(call["epochs"])
        return past
    start = accuracies(made, made.model)

    def evaluate(net: torch.nn.Module, epoch: int) -> dict[str, float]:
        return accuracies(made, net)

    if method == "last layer":
        net = mitigation.last_layer_retraining(made.model, made.splits["val"], seed=seed)
        return [start, accuracies(made, net)]
    if method == "group DRO":
        recipe = replace(_PLAIN, epochs=call["tuning"])
        tuned = mitigation.group_dro(made.model, train, recipe, seed=seed, evaluate=evaluate)
    elif method in METHODS:
        recipe = replace(METHODS[method], epochs=call["tuning"])
        tuned = mitigation.finetune(made.model, train, recipe, seed=seed, evaluate=evaluate)
    else:
        allowed = ", ".join(map(repr, (*METHODS, *OTHERS)))
        raise ValueError(f"method is {method!r}: allowed are {allowed}")
    return [start, *({key: row[key] for key in start} for row in tuned.rows)]


def mitigation_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """The epochs of one run."""
    made = trained_of(calls[0])
    rows = _rows(made, calls[0])
    source = made.splits["train"].source
    return [rows[call["epoch"]] | {"data_source": source} for call in calls]


def mitigation_trial(
    setting: str, epochs: int, method: str, tuning: int, epoch: int, trial: int, device: str,
    data_dir: str | None,
) -> dict[str, float | str]:  # fmt: skip
    """A network of `setting` after `epoch` of `tuning` epochs of a method (0: before)."""
    return mitigation_many([locals()])[0]


def _runs(setting: str, epochs: int, methods: Any, tuning: int, trials: int) -> list[Cell]:
    return [
        dict(setting=setting, epochs=epochs, method=method, tuning=length, epoch=epoch, trial=trial)
        for method, trial in itertools.product(methods, range(trials))
        for length in [{"last layer": 1, "early stopping": epochs}.get(method, tuning)]
        for epoch in range(length + 1)
    ]


MAIN = ("released", "gradient mask", "no mask", "random mask", "random filters", "cross-entropy",
        "class-balanced", "group-balanced", *OTHERS)  # fmt: skip


def mitigation_cells(profile: str) -> list[Cell]:
    """All methods on birds, the main ones on faces and on the transformer."""
    vit = ("released", "gradient mask, weights", "cross-entropy")
    faces = ("released", "gradient mask", "cross-entropy", "last layer")
    rest = [method for method in METHODS if method not in (*MAIN, *vit)]
    if profile == "smoke":
        few = ("released", "gradient mask", "no mask", "random mask", "cross-entropy",
               "class-balanced", "last layer", "early stopping")  # fmt: skip
        return _runs("digits", 12, few, 2, 2)
    if profile == "laptop":
        return [
            *_runs("birds", 20, MAIN, 6, 5), *_runs("birds, transformer", 20, vit, 4, 5),
            *_runs("faces", 20, faces, 4, 5), *_runs("birds", 20, rest, 4, 2),
        ]  # fmt: skip
    return [
        *_runs("birds", 20, MAIN, 21, 20), *_runs("birds", 20, rest, 21, 10),
        *_runs("faces", 20, faces, 21, 20), *_runs("birds, fine transformer", 40, vit, 21, 20),
    ]  # fmt: skip


register(
    Experiment(
        "mitigation",
        mitigation_trial,
        mitigation_cells,
        # training is chaotic: another device gives another network of the same law
        tolerance={"default": 1.0} | {f"margin_{g}": 20.0 for g in range(4)},
        cheap=lambda cell: cell["setting"] == "digits",
        many=mitigation_many,
        group=lambda cell: (
            *(cell[k] for k in ("setting", "epochs", "method", "tuning", "trial")),
        ),
    )
)
