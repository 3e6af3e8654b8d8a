"""What cells will cost, from the seconds of those that are stored."""

import csv
import io
import math
from collections import defaultdict
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np

from helpers.sweep.registry import Experiment
from helpers.sweep.store import Cell, encode, key_of

# parameters that only number repetitions
REPEATED = frozenset({"trial", "seed", "number", "restart"})
# parameters that say how much there is to compute: in proportion, where no pair of rows tells
_SIZES = frozenset({
    "samples", "n", "epochs", "steps", "width", "depth", "pool", "test", "units", "draws", "dim",
    "amount", "count",
})  # fmt: skip
_STEEPEST = 3.0  # exponent of a size, at most
_ALIKE = 200  # of the most similar rows, as many are looked at

Setting = tuple[Any, ...]


class Costs:
    """Seconds that cells take, as far as the rows of an experiment tell.

    A cell that differs from stored ones in its repetition alone takes their mean. For others the
    most similar rows are taken, with a power of each size in which they differ: fitted to the rows
    that differ in this size alone, else 1 for what is called by the name of a size and 0 for the
    rest.

    Args:
        experiment: whose cells.
        rows: stored ones.
    """

    def __init__(self, experiment: Experiment, rows: list[dict[str, Any]]) -> None:
        self._names = sorted(experiment.parameters - REPEATED)
        seconds: dict[Setting, list[float]] = defaultdict(list)
        for row in rows:
            seconds[self._setting(row)].append(row["seconds"])
        self._stored = {setting: fmean(found) for setting, found in seconds.items()}
        self._settings = list(self._stored)
        self._guessed: dict[Setting, float] = {}
        self._exponents: dict[int, tuple[float, bool]] = {}
        self._codes: np.ndarray | None = None

    def _setting(self, cell: dict[str, Any]) -> Setting:
        return tuple(cell[name] for name in self._names)

    def seconds(self, cell: Cell) -> tuple[float | None, bool]:
        """What a cell takes, None where nothing is stored; and whether a stored one is its like."""
        setting = self._setting(cell)
        if not self._stored:
            return None, False
        if setting in self._stored:
            return self._stored[setting], True
        if setting not in self._guessed:
            self._guessed[setting] = self._scaled(setting)
        return self._guessed[setting], False

    def total(self, cells: list[Cell]) -> float | None:
        """What cells take together; None where nothing is stored."""
        return sum(self.seconds(cell)[0] for cell in cells) if self._stored else None

    def _scaled(self, setting: Setting) -> float:
        if self._codes is None:
            self._codes = np.array([[hash(v) for v in s] for s in self._settings]).reshape(
                len(self._settings), -1
            )
        # likeness in kind counts before any likeness in size
        weights = [1 if _is_size(v) else len(setting) + 1 for v in setting]
        equal = (self._codes == [hash(v) for v in setting]) @ np.array(weights)
        alike = np.flatnonzero(equal == equal.max())[:_ALIKE]
        return fmean(
            self._stored[self._settings[i]] * self._factor(self._settings[i], setting)
            for i in alike
        )

    def _factor(self, stored: Setting, asked: Setting) -> float:
        factor = 1.0
        for place, (old, new) in enumerate(zip(stored, asked, strict=True)):
            if old != new and _is_size(old) and _is_size(new):
                power, fitted = self._exponent(place)
                # what is guessed makes nothing cheaper
                factor *= (new / old if fitted else max(1.0, new / old)) ** power
        return factor

    def _exponent(self, place: int) -> tuple[float, bool]:
        """Of one size: the slope of rows that differ in nothing else, in logarithms; if known."""
        if place not in self._exponents:
            alike = defaultdict(list)
            for setting, seconds in self._stored.items():
                if _is_size(setting[place]) and seconds > 0:
                    others = setting[:place] + setting[place + 1 :]
                    alike[others].append((math.log(setting[place]), math.log(seconds)))
            up = across = 0.0
            for points in alike.values():
                x, y = np.array(points).T
                across += float(((x - x.mean()) ** 2).sum())
                up += float(((x - x.mean()) * (y - y.mean())).sum())
            known = 1.0 if self._names[place] in _SIZES else 0.0
            slope = up / across if across else known
            self._exponents[place] = min(max(slope, 0.0), _STEEPEST), across > 0
        return self._exponents[place]


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass(frozen=True)
class Plan:
    """What it takes to fill the grid of one experiment.

    Attributes:
        experiment, profile: which grid.
        cells, groups: its size; a group is computed at once.
        missing, missing_groups: what is not stored.
        seconds: of the missing cells, one process; None where nothing is stored to go by.
        whole: of the whole grid.
        own: share of `seconds` that rows of like cells tell, the rest is scaled.
        device: what the rows were computed on that the seconds come from.
        size: bytes of the whole table, None where nothing is stored.
    """

    experiment: str
    profile: str
    cells: int
    groups: int
    missing: int
    missing_groups: int
    seconds: float | None
    whole: float | None
    own: float
    device: str
    size: int | None


def plan(experiment: Experiment, profile: str, rows: list[dict[str, Any]]) -> Plan:
    """The plan of one grid, given the stored rows of the experiment."""
    cells, costs = experiment.cells(profile), Costs(experiment, rows)
    names = experiment.parameters
    stored = {key_of({n: v for n, v in row.items() if n in names}) for row in rows}
    missing = [cell for cell in cells if key_of(cell) not in stored]
    told = [costs.seconds(cell) for cell in missing]
    whole = costs.total(cells)
    lengths = [len(",".join(encode(v) for v in row.values())) + 1 for row in rows]
    return Plan(
        experiment=experiment.name,
        profile=profile,
        cells=len(cells),
        groups=len(experiment.groups(cells)),
        missing=len(missing),
        missing_groups=len(experiment.groups(missing)),
        seconds=sum(s for s, _ in told) if rows else None,
        whole=whole,
        own=sum(s for s, own in told if own) / max(1e-9, sum(s for s, _ in told)) if rows else 0.0,
        device="; ".join(sorted({row["device"] for row in rows})),
        size=round(fmean(lengths) * len(cells)) if rows else None,
    )


_HEAD = ("experiment", "cells", "groups", "missing", "hours left", "hours of all", "of which told "
         "by like rows", "table", "measured on")  # fmt: skip


def _line(one: Plan) -> list[str]:
    def hours(seconds: float | None) -> str:
        return "?" if seconds is None else f"{seconds / 3600:.3g}"

    size = "?" if one.size is None else f"{one.size / 1000:.0f} kB"
    own = f"{one.own:.0%}" if one.seconds else "-"
    missing = f"{one.missing} in {one.missing_groups}"
    counts = [str(one.cells), str(one.groups), missing]
    return [one.experiment, *counts, hours(one.seconds), hours(one.whole), own, size, one.device]


def as_text(plans: list[Plan]) -> str:
    """Plans as a table with a line for all of them."""
    lines = [list(_HEAD), *map(_line, plans)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(f"{cell:<{w}}" for cell, w in zip(x, widths, strict=True)) for x in lines]
    unknown = [one.experiment for one in plans if one.seconds is None]
    told = f"all: {sum(one.missing for one in plans)} cells missing, "
    told += f"{sum(one.seconds or 0 for one in plans) / 3600:.3g} hours of one process left"
    told += f"; nothing is known of {', '.join(unknown)}" if unknown else ""
    return "\n".join([*(text.rstrip() for text in texts), told])


def as_csv(plans: list[Plan]) -> str:
    """Plans as the file that the book makes its table from."""
    names = [field.name for field in fields(Plan)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for one in plans:
        values = [getattr(one, name) for name in names]
        writer.writerow(
            "" if v is None else f"{v:.4g}" if isinstance(v, float) else v for v in values
        )
    return buffer.getvalue()
