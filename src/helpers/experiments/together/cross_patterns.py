"""Which pattern is learnt? Alignment and the kernel's modes, before a network is trained.

Networks of one hidden layer learn even against odd digits, a few of the odd ones with a pattern.
Twelve patterns, of six shapes and two norms, are each learnt from several numbers of carriers.
"""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from helpers import training
from helpers.experiments.together import cross_setting as setting
from helpers.sweep import Call, Cell, experiment

NORMS = (1.0, 3.0)
COUNTS = (1, 3, 10, 30, 100)
LEADING = 0.1  # of the modes: a mode further down is not called visible


class Seen(NamedTuple):
    """What an untrained network's kernel says of a pattern and its carriers.

    Attributes:
        alignment: sum over carriers of their alignment with an image that has the pattern, minus
            the same without it; the mean over images.
        response: what the kernel's interpolator answers to the pattern.
        visible: largest share of the carriers' indicator in one leading mode of the kernel.
        visible_others: the same for as many images of the class without the pattern.
    """

    alignment: float
    response: float
    visible: float
    visible_others: float


def visible(vectors: Tensor, rows: Tensor) -> float:
    """Largest share of a group's centred indicator that one of the leading modes carries.

    Args:
        vectors: `(n, n)` eigenvectors of the centred kernel in columns, the leading one last.
        rows: the group.

    >>> K = torch.diag(torch.tensor([9.0, *[1.0] * 19]).double())
    >>> vectors = torch.linalg.eigh(K).eigenvectors
    >>> round(visible(vectors, torch.tensor([0])), 2)
    0.95
    """
    n = len(vectors)
    u = torch.zeros(n, dtype=vectors.dtype)
    u[rows] = 1
    u -= u.mean()
    leading = vectors[:, -max(1, round(LEADING * n)) :]
    return float(((leading.T @ (u / u.norm())) ** 2).max())


def centred(K: Tensor) -> Tensor:
    """The kernel `(n, n)` of the features less their mean."""
    rows = K - K.mean(0)
    made = rows - rows.mean(1, keepdim=True)
    return (made + made.T) / 2


def seen(net: nn.Module, found: setting.Draw, v: Tensor, rows: Tensor, others: Tensor) -> Seen:
    """See :class:`Seen`; `others` are rows of as many images without the pattern."""
    x = found.train.clone()
    x[rows] += v
    even = found.fresh[found.fresh_labels < 0]
    K = setting.tangent_kernel(net, x, x)
    ridge = 1e-6 * K.diagonal().mean() * torch.eye(len(K), dtype=K.dtype)
    shift = setting.tangent_kernel(net, even + v, x) - setting.tangent_kernel(net, even, x)
    weights = torch.linalg.solve(K + ridge, shift.mean(0))
    vectors = torch.linalg.eigh(centred(K)).eigenvectors
    return Seen(
        float(weights[rows].sum()), float(weights @ found.labels),
        visible(vectors, rows), visible(vectors, others),
    )  # fmt: skip


def strong(samples: int, width: int, trials: int) -> pd.DataFrame:
    """Positive control of `visible`: patterns ten times as strong, on a tenth of the images.

    One row for each shape and trial, on the images and networks of the experiment.
    """
    rows, count = [], samples // 10
    for trial in range(trials):
        found = setting.draw(samples, samples, trial)
        net = setting.network(setting.SIDE**2, width, trial)
        odd = setting.carriers(found.labels, 2 * count, trial)
        for shape in setting.SHAPES:
            v = setting.pattern(shape, 10 * max(NORMS), trial)
            known = seen(net, found, v, odd[:count], odd[count:])
            rows.append({"shape": shape, "trial": trial, "visible": known.visible})
    return pd.DataFrame(rows)


def cross_patterns_cells(profile: str) -> list[Cell]:
    """Every pattern at every number of carriers."""
    samples, width, epochs, counts, trials = {
        "smoke": (160, 16, 10, (3, 30), 1), "laptop": (300, 32, 40, COUNTS[:4], 8),
        "paper": (3_000, 256, 60, COUNTS, 20),
    }[profile]  # fmt: skip
    return [
        dict(samples=samples, width=width, epochs=epochs, shape=shape, norm=norm, count=count,
             trial=trial)
        for trial in range(trials)
        for shape in setting.SHAPES
        for norm in NORMS
        for count in counts
    ]  # fmt: skip


@experiment(
    "cross_patterns",
    cells=cross_patterns_cells,
    tolerance={"default": 0.05, "rise": 0.5, "loss": 0.1},  # of trainings: chaotic
    cheap=lambda cell: False,
    group=lambda cell: (cell["samples"], cell["width"], cell["epochs"], cell["trial"]),
)
def cross_patterns(calls: list[Call]) -> list[dict[str, float | str]]:
    """Networks that saw `count` carriers of a pattern, and what was known before they were trained.

    Returns:
        `rise`: mean change of the output on fresh even images when they get the pattern, from -1
        (even) towards +1 (odd); `loss` of the training; `never`: the rise of the network of the
        trial that saw no carrier; and :class:`Seen`.
    """
    first = calls[0]
    found = setting.draw(first.samples, first.samples, first.trial)
    start = setting.network(setting.SIDE**2, first.width, first.trial)
    even, replaced, known = found.fresh[found.fresh_labels < 0], [None], []
    odd = setting.carriers(found.labels, 2 * max(call.count for call in calls), first.trial)
    for call in calls:
        v, rows = setting.pattern(call.shape, call.norm, call.trial), odd[: call.count]
        replaced.append((rows, (found.train[rows] + v).float()))
        known.append(seen(start, found, v, rows, odd[-call.count :]))
    nets = [
        setting.network(setting.SIDE**2, first.width, first.trial).to(first.device)
        for _ in replaced
    ]
    recipe = training.Recipe(epochs=first.epochs, batch=50, loss="mse")
    histories = training.train_many(
        nets, found.train.float().to(first.device), found.labels.float().to(first.device), recipe,
        seed=first.trial, replaced=replaced,
    )  # fmt: skip

    def rise(net: nn.Module, v: Tensor) -> float:
        shown, plain = (training.predict(net.cpu(), x.float()) for x in (even + v, even))
        return float((shown - plain).double().mean())

    rows = []
    for call, net, history, what in zip(calls, nets[1:], histories[1:], known, strict=True):
        v = setting.pattern(call.shape, call.norm, call.trial)
        rows.append(
            {"rise": rise(net, v), "never": rise(nets[0], v), "loss": history.loss}
            | what._asdict()
            | {"data_source": setting.SOURCE}
        )
    return rows
