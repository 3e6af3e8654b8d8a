"""A network of Part III on the table: its units ranked, and what a lesion of them does by group.

The rare groups are complete, the frequent ones cut to a size that keeps a lesion cheap.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch

from helpers import probes, stats
from helpers.data import Grouped, right_answers
from helpers.experiments.minority import networks
from helpers.probes import Unit, lesions, tracing
from helpers.sweep import Call

LARGEST = 650  # images of one group that are looked at
# … of photographs by a network that takes its time: of frequent and of rare groups
FEWER = {"train": (200, 200), "val": (75, 75), "test": (100, 200)}
HARDEST = 200  # images of a group from which its gradient is taken
BY_GROUP = tuple(f"gradient {g}" for g in range(4))
TOLERANCE = {"default": 1.0, "shift": 20.0}  # of effects: those of another network of the same law


class Patient(NamedTuple):
    """A trained network, what it is examined on, and what it answers without lesion.

    Attributes:
        made: the network and its past.
        parts: images by split, at most `LARGEST` of each group.
        before: logits `(n, 2)` on each part.
        units: all channels, or hidden units of a transformer.
        rare, common: minority and majority groups.
        rankings: those made so far, by name.
    """

    made: networks.Trained
    parts: dict[str, Grouped]
    before: dict[str, torch.Tensor]
    units: list[Unit]
    rare: tuple[int, ...]
    common: tuple[int, ...]
    rankings: dict[str, tracing.Ranking]

    @property
    def train(self) -> Grouped:
        """The whole training set."""
        return self.made.splits["train"]

    def answers(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """What another network says on each part."""
        return {name: self.answer(model, part.images) for name, part in self.parts.items()}

    def answer(self, model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits of a network on some images."""
        return probes.evaluate(model, images, batch=self.made.batch)

    def hardest(self, groups: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of the training samples of these groups that are fitted worst."""
        train = self.train
        rows = torch.isin(train.group, torch.tensor(groups, device=train.group.device))
        images, labels = train.images[rows], train.label[rows]
        worst = tracing.hardest(self.made.model, images, labels, n=HARDEST)
        return images[worst], labels[worst]

    def ranked(self, ranking: str) -> tracing.Ranking:
        """The ranking of this name.

        "gradient 0" to "gradient 3": from one group's loss; "taylor": from that of the rare groups,
        to first order; "magnitude", "folded": from the weights alone.

        Raises:
            ValueError: another name.
        """
        if ranking not in self.rankings:
            self.rankings[ranking] = _rank(self, ranking)
        return self.rankings[ranking]

    def overlaps(self, ranking: str, amount: float) -> dict[str, float]:
        """`overlap_<group>`: Jaccard index of the top set with that of each group's gradient."""
        own, *others = (set(self.ranked(r).top(int(amount))) for r in (ranking, *BY_GROUP))
        return networks.by_group("overlap", [len(own & x) / len(own | x) for x in others])

    def effects(self, after: dict[str, torch.Tensor]) -> dict[str, float]:
        """What a lesion with these logits did to each group.

        Returns:
            `lost_<split>_<group>`: accuracy lost, on the same images before and after;
            `right_<group>`: share of the test images answered rightly before which are wrong now;
            `p_<group>`: McNemar's test on training images; `shift`: mean change of the margin
            (class 1 minus class 0) on training images; `offset_<group>`: accuracy lost on training
            images by such an offset alone; `refit_<split>_<group>`: accuracy lost when the output
            bias is fitted anew on the validation images after the lesion.
        """
        row: dict[str, float] = {}
        val, by_group, margin = self.parts["val"], networks.by_group, networks.margin
        bias = lesions.refit_bias(margin(after["val"]), val.label, val.group)
        for split in ("train", "test"):
            part, old, new = self.parts[split], self.before[split], after[split]
            accuracy = partial(probes.accuracy_by_group, labels=part.label, groups=part.group)
            start = accuracy(old)
            row |= by_group(f"lost_{split}", start - accuracy(new))
            fitted = new + new.new_tensor([0.0, bias])
            row |= by_group(f"refit_{split}", start - accuracy(fitted))
            was, now = (right_answers(logits, part.label) for logits in (old, new))
            own = [part.group == g for g in range(4)]
            if split == "test":
                row |= by_group("right", [(~now[o & was]).double().mean() for o in own])
                continue
            row |= by_group("p", [stats.mcnemar(was[o], now[o]) for o in own])
            row["shift"] = float((margin(new) - margin(old)).double().mean())
            row |= by_group("offset", start - accuracy(lesions.shift_matched(old, new)))
        return row


@lru_cache(maxsize=1)
def patient(setting: str, epochs: int, trial: int, device: str, data_dir: str | None) -> Patient:
    """The network of a setting, ready for lesions."""
    made = networks.trained(setting, epochs, trial, device, data_dir)
    groups = networks.minority(setting), networks.majority(setting)

    def size(split: str, group: int, there: int) -> int:
        if networks.SETTINGS[setting].dataset != networks.SKYBIRDS:
            return min(there, LARGEST)
        return min(there, FEWER[split][group in groups[0]])

    parts = {
        name: part.draw([size(name, g, n) for g, n in enumerate(part.counts())], seed=0)
        for name, part in made.splits.items()
    }
    units = (probes.channels if _convolutional(made.model) else probes.hidden_units)(made.model)
    who = Patient(made, parts, {}, units, *groups, {})
    return who._replace(before=who.answers(made.model))


def patient_of(call: Call) -> Patient:
    """The network that a call of a trial names, ready for lesions."""
    return patient(call.setting, call.epochs, call.trial, call.device, call.data_dir)


def _convolutional(model: torch.nn.Module) -> bool:
    # a transformer has one convolution, which cuts the patches, and no batch normalisation
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def _rank(who: Patient, ranking: str) -> tracing.Ranking:
    model, units = who.made.model, who.units
    if ranking in BY_GROUP:
        return tracing.gradient(model, units, *who.hardest([int(ranking[-1])]))
    if ranking == "taylor":
        return tracing.gradient_times_weight(model, units, *who.hardest(who.rare))
    if ranking == "magnitude":
        # the release leaves the 1 x 1 convolutions of shortcuts out here
        return tracing.magnitude(model, [u for u in units if "downsample" not in u.layer])
    if ranking == "folded":
        return tracing.batchnorm_folded(model, units, who.train.images[:1])
    raise ValueError(f"ranking is {ranking!r}: there is none of this name")
