"""Ways of training that might keep a network from learning a rare pattern (Part II, prevention)."""

import itertools
import math
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from operator import itemgetter

import torch

from helpers import training
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment
from helpers.training import private

NETWORK = "mlp"
# of the paper (noise of 0.05 was not applied there), in order of strength
LEVELS = {
    "none": (0.0,),
    "noise": (0.05, 0.1, 0.2, 0.5, 0.75, 1.0, 5.0),
    "weight decay": (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1),
    "clip value": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    "clip norm": (1e-1, 1e-3, 1e-5),  # ours, as are the next
    "early stopping": (7.0, 5.0, 3.0, 2.0, 1.0),  # epochs of ten
    "private": (0.0, 0.1, 0.3, 1.0),  # noise multipliers of DP-SGD
}
CLIP = 1.0  # norm of one example's gradient, in private training
PRIVATE_RATE = 1e-3  # at the usual rate of 1e-2, private networks learn nothing with Adam


def recipe_of(call: Call) -> training.Recipe:
    """The paper's recipe with one method at one level.

    Raises:
        ValueError: an unknown method, or an early stop after more epochs than the schedule has.
    """
    method, level, epochs = call.method, call.level, call.epochs
    if method not in LEVELS:
        raise ValueError(f"method is {method!r}: allowed are {', '.join(map(repr, LEVELS))}")
    plain = setup.recipe(epochs)
    if method == "early stopping":  # the same schedule, cut off
        if not 1 <= level <= epochs:
            raise ValueError(f"level is {level}: an early stop is after 1 to {epochs} epochs")
        return replace(plain, epochs=int(level))
    if method == "private":
        return replace(plain, learning_rate=PRIVATE_RATE)
    return plain if method == "none" else replace(plain, **{method.replace(" ", "_"): level})


def _group(cell: Cell) -> Hashable:
    """One method at all levels; levels that need epochs or noise of their own by themselves."""
    shared = itemgetter("dataset", "samples", "epochs", "target", "trial", "method")(cell)
    alone = cell["method"] in ("early stopping", "private")
    return (*shared, cell["level"]) if alone else shared


def _train_privately(
    nets: list[torch.nn.Module],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    recipes: list[training.Recipe],
    *,
    seed: int,
    replaced: list[training.Replaced],
    checkpoint: object,
    noise_multiplier: float,
) -> list[training.History]:
    """:func:`helpers.training.private.train` one by one; too short to need the checkpoint."""
    return [
        private.train(
            net, setup.carrying(inputs, own), labels, how, clip=CLIP,
            noise_multiplier=noise_multiplier, seed=seed,
        )
        for net, how, own in zip(nets, recipes, replaced, strict=True)
    ]  # fmt: skip


def mitigation_cells(profile: str) -> list[Cell]:
    """Every method at every level, for S3 and R3 (the paper's Figures 8, 12 and 13)."""
    counts, levels = (0, 3, 100), LEVELS
    if profile == "smoke":
        counts, sizes, trials = (0, 100), [setup.SMALL], 2
        levels = {
            "none": (0.0,), "noise": (0.5,), "weight decay": (1e-3,), "clip value": (1e-3,),
            "early stopping": (1.0,), "private": (0.3,),
        }  # fmt: skip
    elif profile == "laptop":
        sizes = [dict(dataset=d, samples=10_000, epochs=10) for d in ("mnist", "fashion_mnist")]
        trials = 5
    else:
        sizes = [dict(dataset=d, samples=60_000, epochs=70) for d in ("mnist", "fashion_mnist")]
        counts, trials = (0, 1, 3, 5, 10, 20, 100, 1_000), 5
        # the same share of the schedule
        levels = LEVELS | {"early stopping": tuple(7 * e for e in LEVELS["early stopping"])}
    return [
        size | dict(method=method, level=level, pattern=pattern, spurious=count, target=0,
                    trial=trial)
        for size, trial in itertools.product(sizes, range(trials))
        for method in levels
        for level in levels[method]
        for pattern, count in itertools.product(("S3", "R3"), counts)
    ]  # fmt: skip


@experiment(
    "rare_mitigation",
    cells=mitigation_cells,
    # as in rare_patterns: training is chaotic
    tolerance={"default": 0.5, "clean_accuracy": 0.05, "spurious_loss": math.inf},
    cheap=lambda cell: False,
    group=_group,
)
def rare_mitigation(calls: list[Call]) -> list[dict[str, float | str]]:
    """MLPs trained with `spurious` images of class `target` with the pattern, and one method.

    Methods and levels are in `LEVELS`; one that diverges has NaN for results. Columns, groups and
    the meaning of the trial are those of :func:`.patterns.rare`.
    """
    first, trainer = calls[0], None
    if first.method == "private":
        trainer = partial(_train_privately, noise_multiplier=first.level)
    return setup.asked([Call(call, network=NETWORK) for call in calls], recipe_of, trainer)
