"""Mitigation by contrast with a pruned copy, and its rivals, on the networks of Part III.

A row is one epoch of one run, so that any rule for choosing an epoch can be applied to them.
"""

import itertools
from dataclasses import replace

import torch

from helpers import probes, remedies, training
from helpers.experiments.minority.networks import (
    Trained,
    by_group,
    median_margins,
    on_digits,
    trained_of,
)
from helpers.remedies import Contrast
from helpers.sweep import Call, Cell, experiment

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
        right = probes.accuracy_by_group(outputs, part.label, part.group)
        row |= by_group(split, right)
        if split == "train":
            row |= by_group("margin", median_margins(outputs, part))
    return row


def _run(made: Trained, call: Call) -> list[dict[str, float]]:
    """Accuracies after each epoch of a run; the first row is the network it starts from."""
    method = call.method
    if method == "early stopping":  # the last epoch comes last: the network is what it was
        return [accuracies(made, made.at(epoch)) for epoch in range(call.epochs + 1)]
    start = accuracies(made, made.model)
    if method == "last layer":
        net = remedies.last_layer_retraining(made.model, made.splits["val"], seed=call.trial)
        return [start, accuracies(made, net)]
    if method not in (*METHODS, "group DRO"):
        allowed = ", ".join(map(repr, (*METHODS, *OTHERS)))
        raise ValueError(f"method is {method!r}: allowed are {allowed}")
    tune = remedies.group_dro if method == "group DRO" else remedies.finetune
    recipe = replace(METHODS.get(method, _PLAIN), epochs=call.tuning)
    tuned = tune(
        made.model, made.splits["train"], recipe, seed=call.trial,
        evaluate=lambda net, epoch: accuracies(made, net),
    )  # fmt: skip
    return [start, *({key: row[key] for key in start} for row in tuned.rows)]


MAIN = ("released", "gradient mask", "no mask", "random mask", "random filters", "cross-entropy",
        "class-balanced", "group-balanced", *OTHERS)  # fmt: skip


def mitigation_cells(profile: str) -> list[Cell]:
    """All methods on birds, the main ones on faces and on the transformer."""
    few = ("released", "gradient mask", "no mask", "random mask", "cross-entropy",
           "class-balanced", "last layer", "early stopping")  # fmt: skip
    vit = ("released", "gradient mask, weights", "cross-entropy")
    faces = ("released", "gradient mask", "cross-entropy", "last layer")
    rest = [method for method in METHODS if method not in (*MAIN, *vit)]
    # (setting, epochs, methods, tuning, trials)
    runs = {
        "smoke": [("digits", 12, few, 2, 2)],
        "laptop": [("birds", 20, MAIN, 6, 5), ("birds, transformer", 20, vit, 4, 5),
                   ("faces", 20, faces, 4, 5), ("birds", 20, rest, 4, 2)],
        "paper": [("birds", 20, MAIN, 21, 20), ("birds", 20, rest, 21, 10),
                  ("faces", 20, faces, 21, 20), ("birds, fine transformer", 40, vit, 21, 20)],
    }[profile]  # fmt: skip
    return [
        dict(setting=setting, epochs=epochs, method=method, tuning=length, epoch=epoch, trial=trial)
        for setting, epochs, methods, tuning, trials in runs
        for method, trial in itertools.product(methods, range(trials))
        for length in [{"last layer": 1, "early stopping": epochs}.get(method, tuning)]
        for epoch in range(length + 1)
    ]


@experiment(
    "mitigation",
    cells=mitigation_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance={"default": 1.0} | {f"margin_{g}": 20.0 for g in range(4)},
    cheap=on_digits,
    group=lambda cell: tuple(cell[k] for k in ("setting", "epochs", "method", "tuning", "trial")),
)
def finetuned(calls: list[Call]) -> list[dict[str, float | str]]:
    """A network of `setting` after `epoch` of `tuning` epochs of a method (0: before).

    Returns:
        What `accuracies` says. For "early stopping" the epochs are those of the first training.
    """
    made = trained_of(calls[0])
    rows, source = _run(made, calls[0]), made.splits["train"].source
    return [rows[call.epoch] | {"data_source": source} for call in calls]
