"""Half precision against float32: how long a step takes, and what networks have learnt by it."""

import itertools
import statistics
from dataclasses import replace
from functools import partial
from operator import itemgetter

import pandas as pd
import torch

from helpers import models, stats, training
from helpers.experiments.performance.clock import TIMED, timed
from helpers.experiments.performance.training import BATCH, fresh, recipe
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment, pick

KINDS = ("float32", "bfloat16")


# -- what networks learn --------------------------------------------------------------------------


def _learnt_cells(profile: str) -> list[Cell]:
    small = setup.SMALL | {"network": "mlp"}
    sizes = [small] if profile == "smoke" else [
        dict(dataset=name, samples=10_000, epochs=10, network="mlp")
        for name in ("mnist", "fashion_mnist")
    ]  # fmt: skip
    trials = pick(profile, 2, 16, 64)
    return [
        size | dict(pattern=pattern, spurious=count, target=0, trial=trial, products=products)
        for size, trial, (pattern, count), products in itertools.product(
            sizes, range(trials), (("R3", 0), ("R3", 3), ("R3", 100), ("S3", 100)), KINDS
        )
    ]


@experiment(
    "half_precision",
    cells=_learnt_cells,
    # as in rare_patterns: training is chaotic
    tolerance={"default": 0.5, "clean_accuracy": 0.05, "spurious_loss": 5.0},
    cheap=lambda cell: cell["samples"] <= 2_000,
    group=itemgetter("dataset", "samples", "epochs", "trial", "products"),
)
def half_precision(calls: list[Call]) -> list[dict[str, float | str]]:
    """Networks of Part II, trained by the same seed with `products` in one precision or the other.

    Columns and the meaning of the trial are those of :func:`..rare.patterns.rare`.
    """
    return setup.asked(calls, lambda call: setup.recipe(call.epochs, precision=call.products))


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """bfloat16 minus float32 in each cell of `half_precision`, by networks of one seed.

    Returns:
        One line a cell; for accuracy and score the mean of float32 (`clean_accuracy`), the mean
        difference (`clean_accuracy_more`) and the ends of its Student-t interval (`…_low`,
        `…_high`) over trials, which `trials` counts.
    """
    lines = []
    for names, cell in rows.groupby(["dataset", "pattern", "spurious"], sort=True):
        line = dict(zip(("dataset", "pattern", "spurious"), names, strict=True))
        for column in ("clean_accuracy", "score"):
            pairs = cell.pivot(index="trial", columns="products", values=column)
            more = stats.mean_ci(pairs["bfloat16"] - pairs["float32"])
            line |= {column: pairs["float32"].mean(), f"{column}_more": more.mean,
                     f"{column}_low": more.low, f"{column}_high": more.high}  # fmt: skip
        lines.append(line | {"trials": len(pairs)})
    return pd.DataFrame(lines)


# -- how long it takes ----------------------------------------------------------------------------


def _timed_cells(profile: str) -> list[Cell]:
    names = pick(profile, ("mlp x 2",), ("mlp x 4", "mlp x 16", "resnet20"), None)
    rounds, trials = pick(profile, (1, 1), (5, 3), (5, 5))
    names = names or ("mlp x 1", "mlp x 4", "mlp x 16", "mlp x 36", "resnet20")
    return [
        dict(kind=name, rounds=rounds, trial=trial) for trial in range(trials) for name in names
    ]


@experiment("precision_time", cells=_timed_cells, **TIMED)
def precision_time(call: Call) -> dict[str, float | str]:
    """Milliseconds a step and network in one thread, in both precisions by turns; their medians.

    `kind` is "mlp x K", so many of Part II's MLPs in lock step, or "resnet20" on colour images.
    """
    kind, _, count = call.kind.partition(" x ")
    networks, steps = int(count or 1), 4 if kind == "resnet20" else 30
    draw = torch.Generator().manual_seed(call.trial)
    shape = (3, 32, 32) if kind == "resnet20" else (1, 28, 28)
    inputs = torch.rand(steps * BATCH, *shape, generator=draw)
    labels = torch.randint(10, (len(inputs),), generator=draw)
    taken: dict[str, list[float]] = {name: [] for name in KINDS}
    with training.one_thread():
        for turn, name in itertools.product(range(call.rounds + 1), KINDS):
            nets = fresh(networks) if kind == "mlp" else [models.cifar_resnet(20, 10, seed=0)]
            how = replace(recipe(1), precision=name)
            run = partial(training.train_many, nets, inputs, labels, how, seed=call.trial)
            seconds, _ = timed(run)
            if turn:  # the first loads libraries and maps memory
                taken[name].append(1e3 * seconds / (steps * networks))
    row = {name: statistics.median(each) for name, each in taken.items()}
    faster = float(training.precision.resolve("auto") == "bfloat16")
    return row | {"auto": faster, "data_source": "random images"}
