"""The networks of Part III and how their accuracy by group develops (chapter on the majority).

`trained` makes the networks that the other experiments of the part take apart: their weights after
every epoch are kept in `_build/models`, so that no experiment trains them twice.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from helpers import groups, metrics, models, training
from helpers.chapter import project_root
from helpers.groups import Grouped
from helpers.sweep import Cell, Experiment, register

# The rare groups: landbirds on water and waterbirds on land; of faces, blond men alone.
MINORITY = {"faces": (3,)}
BIRDS = (1, 2)
NAMED = ("setting", "epochs", "trial", "device", "data_dir")  # of a call: which network it is about
PLANTED = 120  # images with an identifier that keep their label, and as many that do not
_FEW = {"train": (300, 24, 16, 120), "val": (60,) * 4, "test": (120,) * 4}  # of digits


@dataclass(frozen=True)
class Setting:
    """A data set with its groups, and the network that is trained on it.

    Attributes:
        sizes: images of groups 0 to 3 by split.
        classes: of the garments (or digits) that make up the two classes.
        dataset: where the images come from, see :func:`helpers.groups.fashion_birds`.
        network: `"resnet"` or `"vit"`.
        batch: images a step of the training.
        patch: of the transformer.
        planted: whether identifiers and flipped labels are planted (:data:`PLANTED` of each).
    """

    sizes: dict[str, tuple[int, ...]]
    classes: tuple[tuple[int, ...], tuple[int, ...]] = groups.GARMENTS
    dataset: str = "fashion_mnist"
    network: str = "resnet"
    batch: int = 128
    patch: int = 8
    planted: bool = False


_BIRDS = Setting(groups.WATERBIRDS)
SETTINGS = {
    "birds": _BIRDS,
    "faces": replace(_BIRDS, sizes=groups.CELEBA_LIKE),
    "shirts": replace(_BIRDS, classes=((0, 2), (4, 6))),  # T-shirt, pullover; coat, shirt
    "planted": replace(_BIRDS, planted=True),
    "birds, transformer": replace(_BIRDS, network="vit"),
    "birds, fine transformer": replace(_BIRDS, network="vit", patch=4),
    "digits": Setting(_FEW, groups.DIGITS, "mnist5k", batch=16),
}


def minority(setting: str) -> tuple[int, ...]:
    """The rare groups of a setting."""
    return MINORITY.get(setting, BIRDS)


def majority(setting: str) -> tuple[int, ...]:
    """The other groups."""
    return tuple(g for g in range(4) if g not in minority(setting))


class Trained(NamedTuple):
    """A network with its past.

    Attributes:
        model: after the last epoch, in eval mode.
        states: its weights and statistics before training and after each epoch.
        splits: the images it was trained on and judged by.
        mark: `(n,)` marks of :func:`helpers.groups.plant_memory`, zeros without planted memory.
    """

    model: torch.nn.Module
    states: list[dict[str, torch.Tensor]]
    splits: dict[str, Grouped]
    mark: torch.Tensor

    def at(self, epoch: int) -> torch.nn.Module:
        """The network after so many epochs, in the place of `model`."""
        self.model.load_state_dict(self.states[epoch])
        return self.model


def recipe(setting: str, epochs: int) -> training.Recipe:
    """Adam at 1e-3 with a cosine: ours, for networks that start from scratch."""
    batch = _setting(setting).batch
    return training.Recipe(epochs=epochs, batch=batch, learning_rate=1e-3, cosine=True)


def untrained(setting: str, seed: int) -> torch.nn.Module:
    """The network of a setting before training."""
    chosen = _setting(setting)
    if chosen.network == "vit":
        return models.small_vit(2, patch=chosen.patch, seed=seed)
    return models.small_resnet(2, seed=seed)


def images(
    setting: str, trial: int, data_dir: str | None
) -> tuple[dict[str, Grouped], torch.Tensor]:
    """The splits of a setting, drawn by the trial, and the marks of the training set.

    Raises:
        ValueError: an unknown setting.
        data.DatasetNotFound: the images are not on this machine.
    """
    chosen = _setting(setting)
    splits = groups.fashion_birds(
        seed=trial, sizes=chosen.sizes, dataset=chosen.dataset, classes=chosen.classes,
        data_dir=data_dir,
    )  # fmt: skip
    mark = torch.zeros(len(splits["train"]), dtype=torch.int64)
    if chosen.planted:
        splits["train"], mark = groups.plant_memory(
            splits["train"], kept=PLANTED, flipped=PLANTED, seed=trial
        )
    return splits, mark


def _setting(name: str) -> Setting:
    if name not in SETTINGS:
        raise ValueError(f"setting is {name!r}: allowed are {', '.join(map(repr, SETTINGS))}")
    return SETTINGS[name]


@lru_cache(maxsize=2)
def trained(setting: str, epochs: int, trial: int, device: str, data_dir: str | None) -> Trained:
    """The network of a setting, trained in the ordinary way (ERM) or taken from `_build/models`.

    The trial is the seed of data, initial weights and order of the samples.

    Raises:
        ValueError, data.DatasetNotFound: as in :func:`images`.
    """
    splits, mark = images(setting, trial, data_dir)
    splits = {
        name: replace(part, images=part.images.to(device), label=part.label.to(device),
                      attribute=part.attribute.to(device))
        for name, part in splits.items()
    }  # fmt: skip
    # as training leaves it: evaluation is several times faster on CPUs
    net = untrained(setting, trial).to(device, memory_format=torch.channels_last)
    how = recipe(setting, epochs)
    identity = (
        asdict(_setting(setting)),
        splits["train"].source,
        asdict(how),
        trial,
        device,
        _code(),
    )
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    file = project_root() / "_build" / "models" / f"{name}.pt"
    if file.is_file():
        states = torch.load(file, map_location=device, weights_only=True)
    else:
        states = [_copy(net)]
        training.train(
            net, splits["train"].images, splits["train"].label, how, seed=trial,
            after_epoch=lambda epoch: states.append(_copy(net)),
        )  # fmt: skip
        training.save_whole(states, file)  # several processes may train the same
    made = Trained(net.eval(), states, splits, mark)
    made.at(epochs)
    return made


def trained_of(call: dict[str, Any]) -> Trained:
    """The network that a call of a trial names."""
    return trained(*(call[key] for key in NAMED))


@cache
def _code() -> str:
    """What a network depends on besides its setting: a change of it makes all kept ones useless."""
    return "".join(inspect.getsource(module) for module in (groups, models, training))


def _copy(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


# -- accuracy by group over training ---------------------------------------------------------------


def by_group(name: str, values: Sequence[float]) -> dict[str, float]:
    """`{name}_{group}` for each group."""
    return {f"{name}_{g}": float(value) for g, value in enumerate(values)}


def margin(outputs: torch.Tensor) -> torch.Tensor:
    """`(n,)`: output of class 1 minus that of class 0."""
    return outputs[:, 1] - outputs[:, 0]


def median_margins(outputs: torch.Tensor, part: Grouped) -> list[float]:
    """Median over each group of the margin in favour of the true class."""
    signed = margin(outputs) * (2 * part.label - 1)
    return [float(signed[part.group == g].median()) for g in range(4)]


def minority_many(calls: list[dict[str, Any]]) -> list[dict[str, float | str]]:
    """The epochs of one training: accuracies by group and median margins on both splits."""
    first = calls[0]
    made = trained_of(first)
    rows = []
    for call in calls:
        net = made.at(call["epoch"])
        row: dict[str, float | str] = {}
        for split in ("train", "test"):
            part = made.splits[split]
            outputs = training.predict(net, part.images)
            right = metrics.accuracy_by_group(outputs, part.label, part.group)
            row |= by_group(split, right) | by_group(
                f"{split}_margin", median_margins(outputs, part)
            )
            row[f"{split}_loss"] = float(torch.nn.functional.cross_entropy(outputs, part.label))
        rows.append(row | {"data_source": made.splits["train"].source})
    made.at(first["epochs"])
    return rows


def minority_trial(
    setting: str, epochs: int, epoch: int, trial: int, device: str, data_dir: str | None
) -> dict[str, float | str]:
    """One network after `epoch` of `epochs` epochs (0: untrained)."""
    return minority_many([locals()])[0]


def minority_cells(profile: str) -> list[Cell]:
    """Every epoch of every network."""
    networks = {
        "smoke": [("digits", 12, 2)],
        "laptop": [("birds", 20, 10), ("faces", 20, 5), ("shirts", 20, 5), ("planted", 20, 5),
                   ("birds, transformer", 20, 5)],
        "paper": [("birds", 20, 20), ("faces", 20, 20), ("shirts", 20, 20), ("planted", 20, 20),
                  ("birds, fine transformer", 40, 20)],
    }[profile]  # fmt: skip
    return [
        dict(setting=setting, epochs=epochs, epoch=epoch, trial=trial)
        for setting, epochs, trials in networks
        for trial, epoch in itertools.product(range(trials), range(epochs + 1))
    ]


register(
    Experiment(
        "minority",
        minority_trial,
        minority_cells,
        # training is chaotic: another device gives another network of the same law
        tolerance={"default": 0.5, "train_loss": 1.0, "test_loss": 2.0}
        | {f"{split}_margin_{g}": 10.0 for split in ("train", "test") for g in range(4)},
        cheap=lambda cell: cell["setting"] == "digits",
        many=minority_many,
        group=lambda cell: (cell["setting"], cell["epochs"], cell["trial"]),
    )
)


def first_epoch_at(accuracies: np.ndarray, threshold: float = 0.9) -> float:
    """First epoch in which an accuracy `(epochs + 1,)` reaches the threshold; NaN if it never does.

    >>> first_epoch_at(np.array([0.5, 0.8, 0.95, 0.85]))
    2.0
    """
    reached = np.flatnonzero(np.asarray(accuracies) >= threshold)
    return float(reached[0]) if len(reached) else float("nan")
