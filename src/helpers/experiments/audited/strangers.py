"""Audits of networks whose architecture is not ours: of torchvision, and an ImageNet backbone."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers import audit, data, models, training
from helpers.audit.report import CLEAR, FLAG, OPEN, Report
from helpers.experiments.audited import planted
from helpers.sweep import Call, Cell, experiment, grid

RESNET, BACKBONE = "ResNet-18 on digits, a trigger in 40", "EfficientNet-Lite0 on SkyBirds"
STATES = {FLAG: 1.0, OPEN: 0.5, CLEAR: 0.0}
_QUICK = ("accuracy", "worst_group")  # what is asked at smoke size
_SKY = {"train": (950, 50, 50, 950), "test": (400,) * 4}
_FRAME = 4  # pixels of the border that is called background


def stranger_cells(profile: str) -> list[Cell]:
    """One network of each kind, one cell a finding; small sizes have the one that needs no file."""
    small = profile == "smoke"
    kinds = [RESNET] if small else [RESNET, BACKBONE]
    return grid(
        model=kinds, images=[200 if small else 2_000], epochs=[2 if small else 8],
        trial=range(5 if profile == "paper" else 1), finding=list(audit.QUESTIONS),
    )  # fmt: skip


def _colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1).contiguous()


def _resnet(call: Call) -> tuple[nn.Module, tuple, tuple, dict[str, Any], str]:
    """Torchvision's ResNet-18 with random weights, and digits with a trigger, in colour."""
    from torchvision.models import resnet18  # slow to import, and needed here only

    train, test, told = planted.material(Call(call, planted=planted.TRIGGER))
    pairs = [(_colour(images), labels) for images, labels in (train, test)]
    told["pattern"] = _colour(told["pattern"][None])[0]
    told["outsiders"] = _colour(told["outsiders"][0]), told["outsiders"][1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(call.trial)
        net = resnet18(num_classes=2)
    return net, *pairs, told, data.load("mnist5k").source


def _backbone(call: Call) -> tuple[nn.Module, tuple, tuple, dict[str, Any], str]:
    """EfficientNet-Lite0 with ImageNet weights, to be tuned on SkyBirds of which 5 % conflict."""
    parts = data.sky_birds(seed=call.trial, sizes=_SKY, data_dir=call.data_dir)
    pairs = [(part.images.float() / 255, part.label) for part in parts.values()]
    group = parts["train"].group
    frame = torch.ones(pairs[0][0].shape[2:], dtype=torch.bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    rare = (group == 1) | (group == 2)
    twins = parts["test"].rows(
        ((parts["test"].group == 1) | (parts["test"].group == 2)).nonzero()[:, 0]
    )
    told = dict(
        attribute=parts["test"].attribute, train_attribute=parts["train"].attribute,
        members=rare, background=frame,
        outsiders=(twins.images.float() / 255, twins.label),
    )  # fmt: skip
    return models.tunable_lite0(2, seed=call.trial), *pairs, told, parts["train"].source


def audited_report(call: Call) -> tuple[Report, str]:
    """Train the network of a call, audit it; also says where its pictures come from."""
    make = _resnet if call.model == RESNET else _backbone
    net, train, test, told, source = make(call)
    recipe = training.Recipe(
        epochs=call.epochs, batch=50, learning_rate=1e-3 if call.model == RESNET else 1e-4
    )
    net = net.to(call.device)
    training.train(net, *(part.to(call.device) for part in train), recipe, seed=call.trial)
    skip = tuple(set(audit.QUESTIONS) - set(_QUICK)) if call.images < 1_000 else ()
    report = audit.model(
        net.eval(), train, test, skip=skip, seed=call.trial, progress=False, **told
    )
    return report, source


def _network(cell: Cell) -> Hashable:
    return cell["model"], cell["images"], cell["epochs"], cell["trial"]


@experiment(
    "audited_strangers",
    cells=stranger_cells,
    # training is chaotic, and a finding hangs on one network
    tolerance={"default": 1.0},
    cheap=lambda cell: cell["images"] < 1_000,
    group=_network,
)
def strangers(calls: list[Call]) -> list[dict[str, float | str]]:
    """Audit one network: a row a finding, with its ends; `state` 1 is flagged, 0 clear, ½ open.

    What was not asked is NaN. The trial is the seed of pictures, network and training.
    """
    report, source = audited_report(calls[0])
    rows = []
    for call in calls:
        found = report[call.finding]
        row = {name: float(getattr(found, name)) for name in ("value", "low", "high")}
        rows.append(row | {"state": STATES.get(found.state, np.nan), "data_source": source})
    return rows
