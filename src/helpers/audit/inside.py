"""What lies inside a model: leading modes of its tangent kernel, and channels that matter.

Source: as in :mod:`.after_training`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers import kernels, stats
from helpers.audit.asked import Images, two
from helpers.audit.findings import CONTROLS, MEANT, Case
from helpers.audit.report import CLEAR, FLAG, OPEN, Finding
from helpers.probes import auc, lesions, tracing, units

_KERNEL_IMAGES, _MODES, _FEWEST = 160, 10, 8  # images in all; modes; images of a group
_LESION_IMAGES, _CHANNELS = 100, 3  # of a group; of the network


class _Difference(nn.Module):
    """One logit minus another, `(n, 1)`."""

    def __init__(self, model: nn.Module, single: bool, pair: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.single, self.pair = model, single, pair

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.model(inputs)
        if self.single:
            return outputs.reshape(-1, 1)
        return (outputs[:, self.pair[1]] - outputs[:, self.pair[0]])[:, None]


class _Two(nn.Module):
    """A model with one output, as two logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return two(self.model(inputs).reshape(-1, 1))


def leading_mode(case: Case, bar: Any) -> Finding:
    """How well one of the first modes of the tangent kernel tells the attribute."""
    chosen, group = _pair(case), _groups(case)
    classes = sorted(case.test.labels[chosen].unique().tolist())
    rng, size = np.random.default_rng(case.seed), _KERNEL_IMAGES // 8
    halves: list[list[int]] = [[], []]
    for g in range(4):
        rows = rng.permutation(np.flatnonzero(chosen.numpy() & (group == g)))
        size_ = min(size, len(rows) // 2)
        halves[0] += rows[:size_].tolist()
        halves[1] += rows[size_ : 2 * size_].tolist()
    rows = torch.tensor(halves[0] + halves[1])
    place = next(case.ask.model.parameters())
    images = case.test.inputs[rows].to(place)
    scalar = _Difference(case.ask.model, case.ask.single, (classes[0], classes[-1]))
    K = kernels.empirical_ntk(scalar, images).double().cpu()
    first = len(halves[0])
    own, query = kernels.centred_kernel(K[:first, :first], K[first:, :first])
    seen = kernels.leading(own, query, min(_MODES, first - 2))
    attribute = torch.from_numpy(2.0 * case.attribute[rows.numpy()] - 1)
    label = torch.from_numpy(2.0 * (case.test.labels[rows].numpy() == classes[-1]) - 1)
    areas = {}
    for name, wanted in (("attribute", attribute), ("label", label)):
        modes = [abs(auc(v, wanted[:first]) - 0.5) for v in seen.vectors.T]
        best = int(np.argmax(modes))
        turn = 1 if auc(seen.vectors[:, best], wanted[:first]) > 0.5 else -1
        read = (turn * seen.queries[:, best]).numpy()
        positive = wanted[first:].numpy() > 0
        areas[name] = best + 1, stats.auc_ci(read[positive], read[~positive])
    mode, found = areas["attribute"]
    say, other = areas["label"]
    earlier = mode <= say
    state = FLAG if found.low > 0.75 and earlier else CLEAR if found.high < 0.75 else OPEN
    return Finding(
        "leading_mode", *found,
        f"Mode {mode} of the tangent kernel tells the attribute best and ranks {found.mean:.0%} of "
        f"pairs rightly; the class is in mode {say}, with {other.mean:.0%}.",
        state=state, detail={"mode": mode, "class_mode": say, "class_auc": other.mean},
        control="the class, which goes with the attribute in none of these images",
        assumes=f"{len(rows)} test images, as many of each group; chosen on one half, read on the "
                "other; flagged above 75 % where the class is in no earlier mode",
    )  # fmt: skip


def critical_channels(case: Case, bar: Any) -> Finding:
    """What the channels ranked first for the worst group cost it, beyond random ones."""
    net = _Two(case.ask.model) if case.ask.single else case.ask.model
    right = case.ask.classes(case.test.inputs) == case.test.labels
    group, rng = _all_groups(case), np.random.default_rng(case.seed)
    kinds = np.unique(group)
    worst = min(kinds, key=lambda g: float(right[torch.from_numpy(group == g)].double().mean()))
    parts = {}
    for g in kinds:  # the others' largest loss is compared, so all have as many images
        rows = rng.permutation(np.flatnonzero(group == g))[:_LESION_IMAGES]
        parts[g] = case.test.rows(torch.from_numpy(rows))
    place = next(net.parameters())
    every = units.channels(net)
    mine = parts[worst]
    hard = tracing.hardest(net, mine.inputs.to(place), mine.labels.to(place), n=50)
    ranking = tracing.gradient(
        net, every, mine.inputs[hard.cpu()].to(place), mine.labels[hard.cpu()].to(place)
    )
    top = ranking.top(min(_CHANNELS, len(every)))

    def lost(chosen: list[units.Unit]) -> float:
        """Accuracy that the worst group loses, less the most that another loses."""
        with lesions.perturbed(net, chosen, "zero"):
            then = {g: _share(case, part) for g, part in parts.items()}
        falls = {g: before[g] - then[g] for g in kinds}
        return falls[worst] - max(falls[g] for g in kinds if g != worst)

    before = {g: _share(case, part) for g, part in parts.items()}
    value = lost(top)
    matched = [lost(tracing.layer_matched(top, every, seed=case.seed + k)) for k in range(CONTROLS)]
    spread = stats.mean_ci([value - x for x in matched])
    above = value > max(matched) + MEANT and spread.low > 0
    state = FLAG if above else CLEAR if spread.high < MEANT else OPEN
    return Finding(
        "critical_channels", *spread,
        f"Without the {len(top)} channels ranked first the worst group loses {value:+.1%} more "
        f"than any other; beyond random channels of the same layers this is {spread.mean:+.1%}.",
        state=state, detail={"ranked": value, "matched": float(np.mean(matched))},
        control=f"{CONTROLS} random sets of the same layers lose {np.mean(matched):+.1%}, "
                f"{max(matched):+.1%} at most",
        assumes=f"up to {_LESION_IMAGES} test images of each group, of one network",
    )  # fmt: skip


def _share(case: Case, part: Images) -> float:
    return float((case.ask.classes(part.inputs) == part.labels).double().mean())


def no_modes(case: Case) -> str:
    """Why the tangent kernel cannot be asked; empty if it can."""
    counts = np.bincount(_groups(case)[_pair(case).numpy()], minlength=4)
    if counts.min() < _FEWEST:
        return (
            f"a group of the two commonest classes has {counts.min()} test samples: {_FEWEST} are "
            "needed"
        )
    return ""


def no_channels(case: Case) -> str:
    """Why there are no channels to rank; empty if there are."""
    there = any(isinstance(part, nn.Conv2d) for part in case.ask.model.modules())
    return "" if there else "the model has no convolutions"


def _pair(case: Case) -> Tensor:
    """`(n,)` bool: test samples of the two commonest classes."""
    common = case.test.labels.bincount().topk(2).indices
    return torch.isin(case.test.labels, common)


def _groups(case: Case) -> np.ndarray:
    """`(n,)` 0 to 3 for the two commonest classes: 2 (the later one) + attribute."""
    later = case.test.labels[_pair(case)].max()
    return 2 * (case.test.labels == later).numpy().astype(int) + case.attribute


def _all_groups(case: Case) -> np.ndarray:
    return 2 * case.test.labels.numpy() + case.attribute
