"""Fine-tuning against memory, and its controls, on the networks of Part III.

A network is trained and tuned with the same augmentation, or with none in both: tuning on pictures
of a kind that the first training has never shown would measure that. A row is one epoch of one run,
so that any rule for choosing an epoch can be applied to the rows.
"""

import itertools
from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache

import torch

from helpers import probes, remedies, training
from helpers.data import Grouped
from helpers.experiments.minority import networks
from helpers.experiments.minority.networks import Trained, by_group, margin, on_digits
from helpers.remedies import Contrast
from helpers.sweep import Call, Cell, experiment

_PLAIN = Contrast(contrast_weight=0.0, label_weight=1.0, head="logits")
METHODS: dict[str, Contrast] = {
    "released": Contrast(),  # of the released code, but for epochs and augmentation
    "gradient mask": Contrast(mask="gradient"),
    "no mask": Contrast(mask="none"),
    "random mask": Contrast(mask="random"),
    "random filters": Contrast(mask="random filters"),
    "cross-entropy": _PLAIN,
    "class-balanced": replace(_PLAIN, class_weights=True),
}
# the last layer is refitted at once; "early stopping" has the epochs of the first training itself,
# and `tuning` says how many there were
OTHERS = ("last layer", "early stopping")
# our networks are not the release's: a rate that suits one may ruin another
SLOWER = {f"{name}, quarter rate": replace(how, learning_rate=how.learning_rate / 4)
          for name, how in METHODS.items()}  # fmt: skip
LONGER = ("released", "cross-entropy")  # how much hangs on the number of epochs
LOOKED_AT = 400  # training images of a group on which accuracy is measured


def tuning_cells(profile: str) -> list[Cell]:
    """All methods for each network; photographs first."""
    all_methods, slow = (*METHODS, *SLOWER, *OTHERS), ", quarter rate"
    few = ("released", "gradient mask", "no mask", "cross-entropy")
    vit = (*few, *(name + slow for name in few))
    # (setting, epochs, methods, tuning, trials)
    plans = {
        "smoke": [("digits", 12, all_methods, 1, 2), ("digits", 12, LONGER, 2, 1)],
        "laptop": [("sky", 12, all_methods, 2, 10), ("sky, crops", 12, all_methods, 2, 10),
                   ("birds, transformer", 20, vit, 6, 5),
                   ("birds", 20, all_methods, 6, 5), ("birds, crops", 20, all_methods, 6, 5),
                   ("birds", 20, LONGER, 21, 5),
                   ("sky", 12, tuple(name + slow for name in LONGER), 4, 5)],
        "paper": [("sky", 12, all_methods, 21, 20), ("sky, crops", 12, all_methods, 21, 20),
                  ("birds", 20, all_methods, 21, 20), ("birds, crops", 20, all_methods, 21, 20),
                  ("birds, fine transformer", 40, vit, 21, 20)],
    }[profile]  # fmt: skip
    return [
        dict(setting=setting, epochs=epochs, method=method, tuning=length, epoch=epoch, trial=trial)
        for setting, epochs, methods, tuning, trials in plans
        for trial, method in itertools.product(range(trials), methods)
        for length in [{"last layer": 1, "early stopping": epochs}.get(method, tuning)]
        for epoch in range(length + 1)
    ]


def looked_at(made: Trained) -> dict[str, Grouped]:
    """The splits, with at most :data:`LOOKED_AT` training images of a group."""
    train = made.splits["train"]
    few = train.draw([min(n, LOOKED_AT) for n in train.counts()], seed=0)
    return made.splits | {"train": few}


def accuracies(made: Trained, parts: dict[str, Grouped], net: torch.nn.Module) -> dict[str, float]:
    """What a network says of each group.

    Returns:
        `<split>_<g>`: accuracy; `refit_<g>`: test accuracy with that bias of the output that is
        best for the worst group of the validation images, as an epoch is chosen;
        `one_test`: share of the test images that are taken for class 1.
    """
    outputs = {
        name: training.predict(net, part.images, batch=made.batch) for name, part in parts.items()
    }
    val, test = parts["val"], parts["test"]
    bias = remedies.worst_group_bias(margin(outputs["val"]), val.label, val.group)
    row = {}
    for split, part in parts.items():
        right = probes.accuracy_by_group(outputs[split], part.label, part.group)
        row |= by_group(split, right)
    shifted = outputs["test"] + outputs["test"].new_tensor([0.0, bias])
    row |= by_group("refit", probes.accuracy_by_group(shifted, test.label, test.group))
    return row | {"one_test": float((margin(outputs["test"]) > 0).double().mean())}


def _recipe(made: Trained, call: Call) -> Contrast:
    chosen = (METHODS | SLOWER)[call.method]
    convolutional = any(isinstance(m, torch.nn.BatchNorm2d) for m in made.model.modules())
    unit = "filter" if convolutional else "weight"
    return replace(
        chosen, epochs=call.tuning, augment=networks.SETTINGS[call.setting].augment,
        gradient_unit=unit,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _before(*network: Hashable) -> dict[str, float]:
    made = networks.trained(*network)
    return accuracies(made, looked_at(made), made.model)


def _run(made: Trained, call: Call) -> list[dict[str, float]]:
    """Accuracies after each epoch of a run; the first row is the network it starts from."""
    parts = looked_at(made)
    if call.method == "early stopping":  # the last epoch comes last: the network is what it was
        return [accuracies(made, parts, made.at(epoch)) for epoch in range(call.epochs + 1)]
    start = _before(call.setting, call.epochs, call.trial, call.device, call.data_dir)
    if call.method == "last layer":
        net = remedies.last_layer_retraining(made.model, made.splits["val"], seed=call.trial)
        return [start, accuracies(made, parts, net)]
    if call.method not in METHODS | SLOWER:
        allowed = ", ".join(map(repr, (*METHODS, *SLOWER, *OTHERS)))
        raise ValueError(f"method is {call.method!r}: allowed are {allowed}")
    with training.one_thread():
        tuned = remedies.finetune(
            made.model, made.splits["train"], _recipe(made, call), seed=call.trial,
            evaluate=lambda net, epoch: accuracies(made, parts, net),
        )  # fmt: skip
    return [start, *({key: row[key] for key in start} for row in tuned.rows)]


@experiment(
    "fine_tuning",
    cells=tuning_cells,
    # training is chaotic: another device gives another network of the same law
    tolerance=1.0,
    cheap=on_digits,
    group=lambda cell: tuple(cell[k] for k in ("setting", "epochs", "method", "tuning", "trial")),
)
def fine_tuned(calls: list[Call]) -> list[dict[str, float | str]]:
    """A network of `setting` after `epoch` of `tuning` epochs of a method (0: before).

    Returns:
        What :func:`accuracies` says. For "early stopping" the epochs are those of the first
        training.
    """
    made = networks.trained_of(calls[0])
    rows, source = _run(made, calls[0]), made.splits["train"].source
    return [rows[call.epoch] | {"data_source": source} for call in calls]
