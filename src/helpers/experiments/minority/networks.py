"""The networks of Part III, and what its experiments say of one by group.

Their weights after every epoch are kept in `_build/models`: no experiment trains one twice.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from helpers import data, models, training
from helpers.data import Grouped
from helpers.dependencies import code_of
from helpers.sweep import Call, Cell

BIRDS = (1, 2)  # the rare groups: landbirds on water and waterbirds on land
MINORITY = {"faces": (3,), "sky faces": (1,)}  # blond men alone, and birds in the sky for them
SKYBIRDS = "skybirds"
PLANTED = 120  # images with an identifier that keep their label, and as many that do not
_FEW = {"train": (300, 24, 16, 120), "val": (60,) * 4, "test": (120,) * 4}  # of digits


@dataclass(frozen=True)
class Setting:
    """A data set with its groups, and the network that is trained on it.

    Attributes:
        sizes: images of groups 0 to 3 by split.
        classes: of the garments (or digits) that make up the two classes.
        dataset: where the images come from, see :func:`helpers.data.fashion_birds`, or `SKYBIRDS`
            for the photographs of :func:`helpers.data.sky_birds`.
        network: `"resnet"`, `"vit"`, or `"lite0"`, which saw ImageNet.
        batch: images a step of the training.
        patch: of the transformer.
        augment: of the training, and of what goes on with it, see :class:`training.Recipe`.
        planted: whether identifiers and flipped labels are planted (:data:`PLANTED` of each).
    """

    sizes: dict[str, tuple[int, ...]]
    classes: tuple[tuple[int, ...], tuple[int, ...]] = data.GARMENT_PAIRS
    dataset: str = "fashion_mnist"
    network: str = "resnet"
    batch: int = 128
    patch: int = 8
    planted: bool = False
    augment: bool | str = False


_BIRDS = Setting(data.WATERBIRDS)
_SKY = Setting(data.SKY, dataset=SKYBIRDS, network="lite0", batch=64)
SETTINGS = {
    "sky": _SKY,
    "sky, crops": replace(_SKY, augment=training.MIRRORED),
    "sky faces": replace(_SKY, sizes=data.SKY_FACES),
    "birds": _BIRDS,
    "birds, crops": replace(_BIRDS, augment=training.RESIZED),  # shoes all face one way
    "faces": replace(_BIRDS, sizes=data.CELEBA_LIKE),
    "shirts": replace(_BIRDS, classes=((0, 2), (4, 6))),  # T-shirt, pullover; coat, shirt
    "planted": replace(_BIRDS, planted=True),
    "birds, transformer": replace(_BIRDS, network="vit"),
    "birds, fine transformer": replace(_BIRDS, network="vit", patch=4),
    "digits": Setting(_FEW, data.DIGIT_PAIRS, "mnist5k", batch=16),
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
        mark: `(n,)` marks of :func:`helpers.data.plant_memory`, zeros without planted memory.
        batch: images that it is asked about at a time.
    """

    model: torch.nn.Module
    states: list[dict[str, torch.Tensor]]
    splits: dict[str, Grouped]
    mark: torch.Tensor
    batch: int

    def at(self, epoch: int) -> torch.nn.Module:
        """The network after so many epochs, in the place of `model`."""
        self.model.load_state_dict(self.states[epoch])
        return self.model


def recipe(setting: str, epochs: int) -> training.Recipe:
    """Adam at 1e-3 with a cosine for networks that start from scratch, else at 1e-4: ours."""
    chosen = _setting(setting)
    scratch = chosen.network != "lite0"
    return training.Recipe(
        epochs=epochs, batch=chosen.batch, learning_rate=1e-3 if scratch else 1e-4,
        cosine=scratch, augment=chosen.augment,
    )  # fmt: skip


def untrained(setting: str, seed: int) -> torch.nn.Module:
    """The network of a setting before training."""
    chosen = _setting(setting)
    if chosen.network == "lite0":
        return models.tunable_lite0(2, seed=seed)
    if chosen.network == "vit":
        return models.small_vit(2, patch=chosen.patch, seed=seed)
    return models.small_resnet(2, seed=seed)


def images(
    setting: str, trial: int, data_dir: str | None
) -> tuple[dict[str, Grouped], torch.Tensor]:
    """The splits of a setting, drawn by the trial, and the marks of the training set.

    Raises:
        ValueError: an unknown setting.
        DatasetNotFound: the images are not on this machine.
    """
    chosen = _setting(setting)
    if chosen.dataset == SKYBIRDS:
        splits = data.sky_birds(seed=trial, sizes=chosen.sizes, data_dir=data_dir)
        splits = {k: replace(part, images=part.images.float() / 255) for k, part in splits.items()}
        return splits, torch.zeros(len(splits["train"]), dtype=torch.int64)
    splits = data.fashion_birds(
        seed=trial, sizes=chosen.sizes, dataset=chosen.dataset, classes=chosen.classes,
        data_dir=data_dir,
    )  # fmt: skip
    mark = torch.zeros(len(splits["train"]), dtype=torch.int64)
    if chosen.planted:
        splits["train"], mark = data.plant_memory(
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
        ValueError, DatasetNotFound: as in :func:`images`.
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
    chosen, source = asdict(_setting(setting)), splits["train"].source
    identity = (chosen, source, asdict(how), trial, device, _code())
    file = training.checkpoint_file(identity, "models")
    if file.is_file():
        states = training.load_whole(file, list, device)
    else:
        states = [_copy(net)]
        with training.one_thread():
            training.train(
                net, splits["train"].images, splits["train"].label, how, seed=trial,
                after_epoch=lambda epoch: states.append(_copy(net)),
            )  # fmt: skip
        training.save_whole(states, file)  # several processes may train the same
    # what a large network makes of few images stays in a processor's cache: three times as fast
    batch = 32 if _setting(setting).network == "lite0" else 500
    made = Trained(net.eval(), states, splits, mark, batch)
    made.at(epochs)
    return made


def trained_of(call: Call) -> Trained:
    """The network that a call of a trial names."""
    return trained(call.setting, call.epochs, call.trial, call.device, call.data_dir)


def _code() -> str:
    """What a network depends on besides its setting: a change of it makes all kept ones useless."""
    return code_of("helpers.data.fashion_birds", "helpers.data.planted", "helpers.data.sky_birds",
                   "helpers.models.backbones", "helpers.models.resnets",
                   "helpers.models.transformers", "helpers.training.loop")  # fmt: skip


def _copy(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each column."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


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


# -- grids -----------------------------------------------------------------------------------------


def on_network(setting: str, epochs: int, trials: int, kinds: list[Cell]) -> list[Cell]:
    """Cells of all kinds for each network of a setting; the kinds lack the network."""
    return [
        dict(setting=setting, epochs=epochs, **kind, trial=trial)
        for trial in range(trials)
        for kind in kinds
    ]


def network_of(cell: Cell) -> tuple[str, int, int]:
    """Which network a cell is about."""
    return cell["setting"], cell["epochs"], cell["trial"]


def on_digits(cell: Cell) -> bool:
    """Whether the network of a cell is one that is trained within seconds."""
    return cell["setting"] == "digits"
