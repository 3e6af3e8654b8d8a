"""Where half precision pays: main kinds of training of the book, and gradients of tangent kernels.

In one thread, in both precisions by turns, with and without the processor's products of bfloat16.
"""

import itertools
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from helpers import kernels, models, training
from helpers.experiments.performance.clock import TIMED, apart, timed
from helpers.experiments.performance.precision import KINDS as PRECISIONS
from helpers.experiments.performance.training import fresh
from helpers.sweep import Call, Cell, experiment, pick

# instructions -> what oneDNN, which multiplies bfloat16 for torch, may use at most
INSTRUCTIONS = {"all": "", "no bfloat16": "AVX512_CORE"}


class Task(NamedTuple):
    """Networks that are trained on images of a shape, or whose tangent kernel is taken."""

    part: str
    build: Callable[[], list[nn.Module]]
    shape: tuple[int, ...]
    batch: int
    steps: int  # of training; 0: the tangent kernel of `batch` images
    networks: int = 1

    @property
    def products(self) -> int:
        """Steps times networks: what a time is divided by."""
        return max(self.steps, 1) * self.networks


def _one(build: Callable[..., nn.Module], *sizes: int) -> Callable[[], list[nn.Module]]:
    return lambda: [build(*sizes, seed=0)]


TASKS = {
    "MLPs, 16 side by side": Task("II", partial(fresh, 16), (1, 28, 28), 128, 10, 16),
    "one MLP": Task("I, II, V", partial(fresh, 1), (1, 28, 28), 128, 60),
    "small CNN": Task("I, II", _one(models.small_cnn, 1, 28, 10), (1, 28, 28), 128, 6),
    "ResNet-20": Task("II, IV", _one(models.cifar_resnet, 20, 10), (3, 32, 32), 128, 2),
    "EfficientNet-Lite0": Task("III", _one(models.tunable_lite0, 2), (3, 64, 64), 32, 2),
    "kernel of an MLP": Task("IV", _one(models.fully_connected, 784, (256,) * 3, 1),
                             (1, 28, 28), 100, 0),
    # torch cannot take gradients image by image through batch normalisation in half precision
    "kernel of a small CNN": Task("IV", _one(models.small_cnn, 1, 28, 1), (1, 28, 28), 20, 0),
}  # fmt: skip


def _cells(profile: str) -> list[Cell]:
    rounds, trials = pick(profile, (1, 1), (3, 3), (5, 5))
    names = ["kernel of an MLP"] if profile == "smoke" else list(TASKS)
    return [
        dict(task=name, instructions=allowed, rounds=rounds, trial=trial)
        for trial, name, allowed in itertools.product(range(trials), names, INSTRUCTIONS)
    ]


@experiment("precision_gains", cells=_cells, **TIMED)
def precision_gains(call: Call) -> dict[str, float | str]:
    """Medians of milliseconds a step and network, or of a tangent kernel, in both precisions.

    `error`, of a kernel only: the distance of the two kernels over the length of the one in single
    precision (Frobenius norm). `auto` is 1 where `Recipe(precision="auto")` takes half precision.
    The two take `rounds` turns. Each row has a process of its own, which starts with the
    `instructions` that it may use.
    """
    with _allowed(INSTRUCTIONS[call.instructions]):
        return apart(measured, call.task, call.rounds, call.trial)


@contextmanager
def _allowed(instructions: str) -> Iterator[None]:
    """Processes that are started meanwhile multiply with these instructions at most."""
    name, before = "ONEDNN_MAX_CPU_ISA", dict(os.environ)
    if instructions:
        os.environ[name] = instructions
    try:
        yield
    finally:
        os.environ.pop(name, None)
        os.environ.update({k: v for k, v in before.items() if k == name})


def measured(name: str, rounds: int, seed: int) -> dict[str, float | str]:
    """A row of :func:`precision_gains`, with the instructions of this process."""
    task = TASKS[name]
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(max(task.steps, 1) * task.batch, *task.shape, generator=draw)
    with training.one_thread():
        work = (_training if task.steps else _kernel)(task, inputs, draw)
        taken: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        found = {}
        for turn, precision in itertools.product(range(rounds + 1), PRECISIONS):
            seconds, found[precision] = timed(partial(work, precision))
            if turn:  # the first loads libraries and maps memory
                taken[precision].append(1e3 * seconds / task.products)
    row = {precision: statistics.median(each) for precision, each in taken.items()}
    row["auto"] = float(training.precision.resolve("auto") == "bfloat16")
    row["error"] = float("nan")
    if not task.steps:
        exact = found["float32"]
        row["error"] = float((found["bfloat16"] - exact).norm() / exact.norm())
    return row | {"data_source": "random images"}


def _training(task: Task, inputs: torch.Tensor, draw: torch.Generator) -> Callable[[str], None]:
    labels = torch.randint(2, (len(inputs),), generator=draw)
    nets = task.build()

    def steps(precision: str) -> None:
        recipe = training.Recipe(epochs=1, batch=task.batch, precision=precision)
        training.train_many(nets, inputs, labels, recipe, seed=0)

    return steps


def _kernel(task: Task, inputs: torch.Tensor, _: torch.Generator) -> Callable[[str], torch.Tensor]:
    (net,) = task.build()
    net.eval()

    def kernel(precision: str) -> torch.Tensor:
        with training.precision.autocast(precision, inputs.device):
            return kernels.empirical_ntk(net, inputs)

    return kernel


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """How many times faster half precision is, by task and instructions: over trials.

    Returns:
        One line a task, in the order of `TASKS`: `part` of the book, three columns for each of the
        `INSTRUCTIONS` (such as `all`, `all, least` and `all, most`), and the largest `error` (NaN
        for a training).
    """
    gain = rows.assign(gain=rows["float32"] / rows["bfloat16"]).groupby(["task", "instructions"])
    made = {"part": pd.Series({name: task.part for name, task in TASKS.items()})}
    for name in INSTRUCTIONS:
        for how, words in (("median", ""), ("min", ", least"), ("max", ", most")):
            made[name + words] = gain["gain"].agg(how).xs(name, level="instructions")
    made["error"] = rows.groupby("task")["error"].max()
    return pd.DataFrame(made).loc[[name for name in TASKS if name in set(rows["task"])]]
