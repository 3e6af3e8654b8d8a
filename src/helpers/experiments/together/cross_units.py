"""Over how many units does a model spread a rare group? Random features against trained networks.

Twelve even digits carry a pattern and are called odd. Units are ranked by what they contribute to
the margins of these images, and removed from the first on until most of them are forgotten.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import kernels, training
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call, Cell, experiment
from helpers.theory import smoother

KINDS = ("random features", "trained", "trained, small start", "planted")
RARE, NORM = 12, 3.0
RIDGE = 1e-3  # of random features, a sample, as a share of the kernel's mean diagonal
SMALL = 0.1  # factor on all weights of a small start
DECILES = 10  # of size, within which random units are matched
ORDERS = 10  # matched random orders


class Lesions(NamedTuple):
    """How a model forgets a rare group as its units are removed.

    Attributes:
        units: removed when fewer than half of the rare images are still right; all and one more
            if that never happens.
        clean: accuracy on the other training images then, as a share of what it was.
    """

    units: int
    clean: float


def lesion(rare: Tensor, clean: Tensor, rests: tuple[float, float], order: Tensor) -> Lesions:
    """Remove units in this order.

    Args:
        rare, clean: `(n, w)` contributions of the units to the margins of both groups.
        rests: what is left of the margins `(n,)` without units (biases), for each group.
        order: `(w,)` units, the first to go first.
    """
    left = [
        (rest[:, None] + part.sum(1, keepdim=True) - part[:, order].cumsum(1) > 0).double().mean(0)
        for part, rest in zip((rare, clean), rests, strict=True)
    ]
    gone = (left[0] < 0.5).nonzero().flatten()
    if not len(gone):
        return Lesions(len(order) + 1, 0.0)
    start = float((rests[1] + clean.sum(1) > 0).double().mean())
    return Lesions(int(gone[0]) + 1, float(left[1][gone[0]]) / start)


def matched_order(order: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """An order of random units: at each place one whose size is in the same tenth.

    Args:
        order: `(w,)` units, the order to match.
        size: `(w,)` of each unit.
        generator: of the draws.
    """
    tenth = torch.empty(len(size), dtype=torch.long)
    tenth[size.argsort()] = torch.arange(len(size)) * DECILES // len(size)
    made = torch.empty_like(order)
    for t in range(DECILES):
        places = tenth[order] == t
        members = order[places]
        made[places] = members[torch.randperm(len(members), generator=generator)]
    return made


class Fitted(NamedTuple):
    """Units `(n, w)` of the training images, output weights `(w,)`, and the output's bias."""

    units: Tensor
    weights: Tensor
    bias: float


def fitted(kind: str, width: int, x: Tensor, labels: Tensor, rare: Tensor, trial: int) -> Fitted:
    """A model of one hidden layer that has learnt the training set.

    Raises:
        ValueError: a kind that is not in `KINDS`.
    """
    if kind in ("random features", "planted"):
        V = kernels.random_weights(width, x.shape[1], seed=trial) * 3
        units = torch.relu(x @ V.T) / width**0.5
        if kind == "planted":
            units[:, 0] = 0.0
            units[rare, 0] = 3 * float(units.square().sum(1).mean()) ** 0.5
        K = units @ units.T
        model = smoother.smooth(K, RIDGE * len(x) * float(K.diagonal().mean()))
        return Fitted(units, units.T @ model.coefficients(labels), 0.0)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: allowed are {', '.join(map(repr, KINDS))}")
    net = setting.network(x.shape[1], width, trial)
    if kind == "trained, small start":
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(SMALL)
    recipe = training.Recipe(epochs=100, batch=50, loss="mse", stop_loss=1e-3)
    training.train(net, x.float(), labels.float(), recipe, seed=trial)
    first, last = (layer for layer in net if isinstance(layer, nn.Linear))
    W, b, a = (p.detach().double() for p in (first.weight, first.bias, last.weight[0]))
    return Fitted(torch.relu(x @ W.T + b), a, float(last.bias.detach()))


def cross_units_cells(profile: str) -> list[Cell]:
    """Every kind at every width."""
    samples, widths, trials = {
        "smoke": (100, (120, 240), 2), "laptop": (120, (150, 300, 600), 8),
        "paper": (400, (500, 1_000, 2_000, 4_000, 8_000), 20),
    }[profile]  # fmt: skip
    return [
        dict(samples=samples, kind=kind, width=width, trial=trial)
        for kind in KINDS
        for width in widths
        for trial in range(trials)
    ]


@experiment(
    "cross_units",
    cells=cross_units_cells,
    tolerance={"default": 0.3, "units": 3.0, "units_random": 3.0},  # training is chaotic
    cheap=lambda cell: cell["kind"] in ("random features", "planted"),
    on_device=False,
)
def cross_units(call: Call) -> dict[str, float | str]:
    """Lesions of one model.

    Returns:
        `units` to be removed, ranked by their contribution, before most of the rare group is
        forgotten, and `units_random`: of matched random orders, the mean; `clean`, `clean_random`:
        share of the accuracy on other images that is left then; `participation`: the effective
        number of contributing units over the width; `rare`: accuracy on the group before.
    """
    found = setting.draw(call.samples, 1, call.trial)
    x, labels = found.train.clone(), found.labels.clone()
    even = (labels < 0).nonzero().flatten()
    rare = even[torch.randperm(len(even), generator=torch.Generator().manual_seed(call.trial))]
    rare = rare[:RARE]
    x[rare] += setting.pattern("noise", NORM, call.trial)
    labels[rare] = 1.0
    model = fitted(call.kind, call.width, x, labels, rare, call.trial)
    margins = labels[:, None] * model.units * model.weights
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[rare] = False
    parts, rests = (
        (margins[rare], margins[kept]),
        tuple(model.bias * labels[which] for which in (rare, kept)),
    )
    gave = parts[0].mean(0)
    order = gave.argsort(descending=True)
    own = lesion(*parts, rests, order)
    generator = torch.Generator().manual_seed(call.trial)
    size = model.weights.abs() * model.units.square().mean(0).sqrt()
    chance = [lesion(*parts, rests, matched_order(order, size, generator)) for _ in range(ORDERS)]
    return {
        "units": own.units, "clean": own.clean,
        "units_random": sum(c.units for c in chance) / ORDERS,
        "clean_random": sum(c.clean for c in chance) / ORDERS,
        "participation": float(gave.abs().sum() ** 2 / gave.square().sum() / len(gave)),
        "rare": float((parts[0].sum(1) + rests[0] > 0).double().mean()),
        "data_source": setting.SOURCE,
    }  # fmt: skip
