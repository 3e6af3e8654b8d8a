"""Ways of training that might keep a network from learning a rare pattern (Part II, prevention)."""

import itertools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from operator import itemgetter

from helpers import training
from helpers.experiments.rare import setup
from helpers.sweep import Call, Cell, experiment

NETWORK = "mlp"
# of the paper (noise of 0.05 was not applied there), in order of strength; the last two are ours
LEVELS = {
    "none": (0.0,),
    "noise": (0.05, 0.1, 0.2, 0.5, 0.75, 1.0, 5.0),
    "weight decay": (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1),
    "clip value": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    "clip norm": (1e-1, 1e-3, 1e-5, 1e-6, 1e-7),
    "early stopping": (7.0, 5.0, 3.0, 2.0, 1.0),  # epochs of ten
}
# those worth a look on 60,000 images: weaker ones did nothing, stronger ones cost too much
USEFUL = {
    "noise": (0.1, 0.2, 0.5),
    "weight decay": (1e-4, 1e-3, 1e-2),
    "clip norm": (1e-5, 1e-6, 1e-7),
    "clip value": (1e-1, 1e-2, 1e-3),
    "early stopping": (5.0, 3.0, 1.0),
}
_GREY, _PATTERNS = ("mnist", "fashion_mnist"), ("S3", "R3")
JUDGED, CHOOSING = range(5), range(5, 7)  # trials: a level is chosen on others than it is judged on
COUNTS = {"judged": (0, 1, 3, 10, 100), "choosing": (0, 10, 100)}
# what `helpers.claims.part2.prevention.chosen` says of the stored trials that choose
CHOSEN = {
    ("mnist", "S3"): {
        "noise": 0.5, "weight decay": 0.0001, "clip norm": 1e-06, "clip value": 0.1,
        "early stopping": 5.0,
    },
    ("mnist", "R3"): {
        "noise": 0.5, "weight decay": 0.001, "clip norm": 1e-07, "clip value": 0.1,
        "early stopping": 3.0,
    },
    ("fashion_mnist", "S3"): {
        "noise": 0.2, "weight decay": 0.001, "clip norm": 1e-06, "clip value": 0.01,
        "early stopping": 5.0,
    },
    ("fashion_mnist", "R3"): {
        "noise": 0.2, "weight decay": 0.001, "clip norm": 1e-07, "clip value": 0.1,
        "early stopping": 5.0,
    },
}  # fmt: skip


def recipe_of(call: Call) -> training.Recipe:
    """The paper's recipe with one method at one level.

    Raises:
        ValueError: an unknown method, or an early stop after more epochs than the schedule has.
    """
    method, level, epochs = call.method, call.level, call.epochs
    if method not in LEVELS:
        raise ValueError(f"method is {method!r}: allowed are {', '.join(map(repr, LEVELS))}")
    plain = setup.recipe(epochs, precision=call.precision)
    if method == "early stopping":  # the same schedule, cut off
        if not 1 <= level <= epochs:
            raise ValueError(f"level is {level}: an early stop is after 1 to {epochs} epochs")
        return replace(plain, epochs=int(level))
    return plain if method == "none" else replace(plain, **{method.replace(" ", "_"): level})


def _group(cell: Cell) -> Hashable:
    """One method at all levels; levels that need epochs of their own by themselves."""
    shared = itemgetter("dataset", "samples", "epochs", "target", "trial", "method")(cell)
    return (*shared, cell["level"]) if cell["method"] == "early stopping" else shared


def _cells(
    size: Mapping, trial: int, levels: Mapping, counts: Iterable[int], patterns=_PATTERNS
) -> list[Cell]:
    return [
        size | dict(method=method, level=level, pattern=pattern, spurious=count, target=0,
                    trial=trial)
        for method in levels
        for level in levels[method]
        for pattern, count in itertools.product(patterns, counts)
    ]  # fmt: skip


def mitigation_cells(profile: str) -> list[Cell]:
    """Methods and levels for S3 and R3 (the paper's Figures 8, 12 and 13), trial by trial.

    The trials that choose come first: they have all levels that may be of use. At laptop size the
    trials that judge have the chosen levels only.
    """
    if profile == "smoke":
        levels = {
            "none": (0.0,), "noise": (0.5,), "weight decay": (1e-3,), "clip norm": (1e-5,),
            "clip value": (1e-3,), "early stopping": (1.0,),
        }  # fmt: skip
        return [c for trial in (5, 0) for c in _cells(setup.SMALL, trial, levels, (0, 100))]
    if profile == "laptop":
        return _laptop_cells()
    sizes = [dict(dataset=d, samples=60_000, epochs=70) for d in _GREY]
    counts = (0, 1, 3, 5, 10, 20, 100, 1_000)
    # the same share of the schedule
    levels = LEVELS | {"early stopping": tuple(7 * e for e in LEVELS["early stopping"])}
    return [
        cell
        for trial, size in itertools.product((*CHOOSING, *JUDGED), sizes)
        for cell in _cells(size, trial, levels, counts)
    ]


def _laptop_cells() -> list[Cell]:
    sizes = [dict(dataset=d, samples=60_000, epochs=10) for d in _GREY]
    base, cells = {"none": (0.0,)}, []
    for trial, size in itertools.product(CHOOSING, sizes):
        cells += _cells(size, trial, base | USEFUL, COUNTS["choosing"])
    for trial, size in itertools.product(JUDGED, sizes):
        cells += _cells(size, trial, base, COUNTS["judged"])
        for method, pattern in itertools.product(USEFUL, _PATTERNS):
            level = CHOSEN[size["dataset"], pattern][method]
            cells += _cells(size, trial, {method: (level,)}, COUNTS["judged"], (pattern,))
    return cells


@experiment(
    "rare_mitigation",
    cells=mitigation_cells,
    # as in rare_patterns: training is chaotic
    tolerance={"default": 0.5, "clean_accuracy": 0.05, "spurious_loss": float("inf")},
    cheap=lambda cell: False,
    group=_group,
    half=True,
)
def rare_mitigation(calls: list[Call]) -> list[dict[str, float | str]]:
    """MLPs trained with `spurious` images of class `target` with the pattern, and one method.

    Methods and levels are in `LEVELS`; one that diverges has NaN for results. Columns, groups and
    the meaning of the trial are those of :func:`.patterns.rare`.
    """
    return setup.asked([Call(call, network=NETWORK) for call in calls], recipe_of)
