"""What lies inside a model: leading modes of its tangent kernel, and channels that matter.

Source: as in :mod:`.after_training`.
"""

from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from helpers import kernels, stats
from helpers.audit.asked import Images, two
from helpers.audit.findings import CONTROLS, FEWEST, MEANT, SHUFFLES, Case
from helpers.audit.report import CLEAR, FLAG, OPEN, Finding
from helpers.probes import lesions, tracing, units

_KERNEL_IMAGES, _MODES = 160, 10  # images in all; modes
_CLEARLY = 0.75  # of pairs ranked rightly, below which a mode does not tell the attribute
_LESION_IMAGES, _CHANNELS, _GROUPS = 100, 3, 20  # in half a group; of the network; at most
_DRAWS = 4_000


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
    modes = seen.vectors.numpy(), seen.queries.numpy()
    attribute = case.attribute[rows.numpy()]
    label = case.test.labels[rows].numpy() == classes[-1]
    mode, read = _told(modes, attribute)
    say, other = _told(modes, label)
    there = attribute[first:]
    found, area = stats.auc_ci(read[there], read[~there]), _areas(other[None], label[first:])[0]
    usual = _by_chance(modes, attribute, label, rng)
    level, ahead = max(_CLEARLY, usual), mode <= say or area < found.mean
    state = FLAG if found.low > level and ahead else CLEAR if found.high < level else OPEN
    return Finding(
        "leading_mode", *found,
        f"Mode {mode} of the tangent kernel tells the attribute best and ranks {found.mean:.0%} of "
        f"pairs rightly; the class is in mode {say}, with {area:.0%}.",
        state=state,
        detail={"mode": mode, "class_mode": say, "class_auc": float(area), "shuffled": usual},
        control=f"with attributes shuffled within the classes the best mode ranks {usual:.0%} or "
                f"less in 97.5 % of {SHUFFLES} cases; the class goes with the attribute in none of "
                "these images",
        assumes=f"{len(rows)} test images, as many of each group; chosen on one half, read on the "
                f"other; flagged above {_CLEARLY:.0%} and above shuffled attributes, unless the "
                "class is in an earlier mode and told as well",
    )  # fmt: skip


def _told(modes: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of the mode that tells best on one half, and what it reads off the other half.

    modes: `(n, modes)` on each half, wanted: `(2 n,)` bool.
    """
    areas = _areas(modes[0].T, wanted[: len(modes[0])])
    best = int(np.abs(areas - 0.5).argmax())
    return best + 1, (1 if areas[best] > 0.5 else -1) * modes[1][:, best]


def _areas(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row of scores `(k, n)` for wanted `(n,)` bool."""
    high = wanted.sum()
    over = rankdata(scores, axis=1)[:, wanted].sum(1) - high * (high + 1) / 2
    return over / (high * (len(wanted) - high))


def _by_chance(
    modes: tuple[np.ndarray, np.ndarray],
    attribute: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Upper end of the area for attributes that are shuffled within class and half."""
    first, found = len(modes[0]), []
    part = 2 * (np.arange(len(label)) >= first) + label
    for _ in range(SHUFFLES):
        mixed = attribute.copy()
        for k in range(4):
            mixed[part == k] = rng.permutation(mixed[part == k])
        found.append(_areas(_told(modes, mixed)[1][None], mixed[first:])[0])
    return float(np.quantile(found, 0.975))


def critical_channels(case: Case, bar: Any) -> Finding:
    """What the channels ranked first for the worst group cost it, beyond any other group.

    Ranked on one half of each group, measured on the other. Control: random channels of the same
    layers, and what channels that are ranked for another group cost that group.
    """
    net = _Two(case.ask.model) if case.ask.single else case.ask.model
    right = (case.ask.classes(case.test.inputs) == case.test.labels).numpy()
    group, rng = _all_groups(case), np.random.default_rng(case.seed)
    large = _large(group)
    worst = min(large, key=lambda g: right[group == g].mean())
    rest = rng.permutation(large[large != worst])[: _GROUPS - 1]
    halves = {}
    for g in (worst, *rest):  # the others' largest loss is compared, so all have as many images
        rows = rng.permutation(np.flatnonzero(group == g))
        half = min(_LESION_IMAGES, len(rows) // 2)
        halves[g] = [case.test.rows(torch.from_numpy(part))
                     for part in (rows[:half], rows[half : 2 * half])]  # fmt: skip
    every = units.channels(net)
    before = {g: _right(case, part) for g, (_, part) in halves.items()}

    def lost(chosen: list[units.Unit]) -> dict[int, np.ndarray]:
        """1 for an image that was right and is wrong without these channels, -1 the other way."""
        with lesions.perturbed(net, chosen, "zero"):
            return {g: before[g] - _right(case, part) for g, (_, part) in halves.items()}

    top = _ranked(net, every, halves[worst][0])
    falls = lost(top)
    value = _beyond(falls, worst)
    matched = [
        _beyond(lost(tracing.layer_matched(top, every, seed=case.seed + k)), worst)
        for k in range(CONTROLS)
    ]
    others = [_beyond(lost(_ranked(net, every, halves[g][0])), g) for g in rest[:CONTROLS]]
    draws = _beyond({g: _drawn(fall, rng) for g, fall in falls.items()}, worst)
    low, high = np.quantile(draws, (0.025, 0.975))
    found = value, min(float(low), value), max(float(high), value)
    bound = max(*matched, *others)
    hits = stats.share_ci(int(before[worst].sum()), len(before[worst]))
    bare = hits.low < max(bound, 0.0) + MEANT
    state = FLAG if found[1] > bound + MEANT else CLEAR if found[2] < bound + MEANT else OPEN
    says = (
        f"Without the {len(top)} channels ranked first for it the worst group loses {value:+.1%} "
        "more than any other."
    )
    if bare and state == CLEAR:
        state = OPEN
        says += f" With them it has {hits.mean:.1%} right, so there is too little to lose."
    return Finding(
        "critical_channels", *found, says, state=state,
        detail={"matched": float(np.mean(matched)), "others": max(others), "right": hits.mean},
        control=f"{CONTROLS} random sets of the same layers cost it {max(matched):+.1%} more at "
                f"most; channels ranked for another group cost that one {max(others):+.1%} more at "
                "most",
        assumes=f"{len(before[worst])} test images of this group, other ones than those that "
                "ranked; of one network",
    )  # fmt: skip


def _ranked(net: nn.Module, every: list[units.Unit], part: Images) -> list[units.Unit]:
    """The channels with the largest gradients on the images of a group that are hardest."""
    place = next(net.parameters())
    hard = tracing.hardest(net, part.inputs.to(place), part.labels.to(place.device), n=50).cpu()
    images, labels = part.inputs[hard].to(place), part.labels[hard].to(place.device)
    return tracing.gradient(net, every, images, labels).top(min(_CHANNELS, len(every)))


def _beyond(falls: dict[int, np.ndarray], group: int) -> Any:
    """Mean loss of a group less the most that another loses, over the last axis."""
    means = {g: fall.mean(-1) for g, fall in falls.items()}
    most = np.max([mean for g, mean in means.items() if g != group], 0)
    return means[group] - most


def _drawn(fall: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`(draws, 1)`: means that these images allow, of one more image that could be any."""
    counts = [int((fall == kind).sum()) for kind in (-1, 0, 1)]
    return rng.dirichlet(np.array(counts) + 1 / 3, _DRAWS) @ np.array([[-1.0], [0.0], [1.0]])


def _right(case: Case, part: Images) -> np.ndarray:
    """`(n,)`: 1.0 where the class is right."""
    return (case.ask.classes(part.inputs) == part.labels).double().numpy()


def no_modes(case: Case) -> str:
    """Why the tangent kernel cannot be asked; empty if it can."""
    if not any(part.requires_grad for part in case.ask.model.parameters()):
        return "the model has no trainable parameters, of which this kernel is made"
    counts = np.bincount(_groups(case)[_pair(case).numpy()], minlength=4)
    if counts.min() < FEWEST:
        return (
            f"a group of the two commonest classes has {counts.min()} test samples: {FEWEST} are "
            "needed"
        )
    return ""


def no_channels(case: Case) -> str:
    """Why there are no channels to rank; empty if there are.

    Frozen ones can be ranked: their gradients are taken all the same.
    """
    if not any(isinstance(part, nn.Conv2d) for part in case.ask.model.modules()):
        return "the model has no convolutions"
    if len(_large(_all_groups(case))) < 2:
        return f"fewer than two groups have {2 * FEWEST} test samples"
    return ""


def _large(group: np.ndarray) -> np.ndarray:
    """Groups of which both halves are large enough."""
    kinds, counts = np.unique(group, return_counts=True)
    return kinds[counts >= 2 * FEWEST]


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
