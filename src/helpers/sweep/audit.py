"""The audit: stored cells computed anew and compared."""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.errors import StoreError
from helpers.project import expanded
from helpers.sweep import registry
from helpers.sweep.registry import Experiment, get
from helpers.sweep.store import PROVENANCE, Cell, Store
from helpers.sweep.trials import attempt, precision_of


@dataclass(frozen=True)
class Audited:
    """One line of the audit: what became of one drawn cell (or why none was drawn)."""

    experiment: str
    cell: Cell | None
    status: str  # "agrees", "differs" or "not checked"
    detail: str
    deviations: dict[str, tuple[float, float]] = field(default_factory=dict)  # stored, new


def audit(
    names: Iterable[str] | None = None,
    *,
    store: Path | str,
    sample: int = 3,
    seed: int | None = None,
    cheap_only: bool = False,
    context: dict[str, Any] | None = None,
) -> list[Audited]:
    """Recompute `sample` random stored cells of each experiment and compare with what is stored.

    A column agrees when ``|new - stored| <= tolerance * max(1, |stored|)``; nan agrees with nan,
    an infinity with itself. What cannot be checked (nothing stored, dataset not on this machine,
    not audited) is reported, never passed over; a file that is damaged or of another experiment
    differs.

    Args:
        names: of experiments; None for all.
        store: folder of the results files.
        sample: cells of each experiment.
        seed: which cells; None draws other ones each time.
        cheap_only: draw only where ``experiment.cheap(cell)``.
        context: what the trials are told beside the cell.

    Raises:
        ValueError: a sample below 1, or an unknown name.
    """
    if sample < 1:
        raise ValueError(f"audit of {sample} cells: sample must be 1 or more")
    seed = random.randrange(2**31) if seed is None else seed
    results, store = [], expanded(store)
    for experiment in [get(name) for name in (registry.names() if names is None else names)]:
        draw = random.Random(f"{seed}/{experiment.name}")
        results += _audit_one(experiment, store, sample, draw, cheap_only, context or {})
    return results


def _audit_one(
    experiment: Experiment,
    store: Path,
    sample: int,
    draw: random.Random,
    cheap_only: bool,
    context: dict[str, Any],
) -> list[Audited]:
    def unchecked(reason: str) -> list[Audited]:
        return [Audited(experiment.name, None, "not checked", reason)]

    if not experiment.audited:
        return unchecked("marked as not audited")
    try:
        rows = stored_rows(experiment, store)
        cells = [{n: v for n, v in row.items() if n in experiment.parameters} for row in rows]
        for cell in cells:
            experiment.call(cell, context)
    except (StoreError, ValueError) as error:
        return [Audited(experiment.name, None, "differs", str(error))]
    if not rows:
        return unchecked(f"nothing is stored in {store}")
    open_to_draw = [i for i, cell in enumerate(cells) if not cheap_only or experiment.cheap(cell)]
    if not open_to_draw:
        return unchecked("no stored cell is cheap")
    drawn = sorted(draw.sample(open_to_draw, min(sample, len(open_to_draw))))
    return [
        Audited(experiment.name, cells[i], *_compared(experiment, cells[i], rows[i], context))
        for i in drawn
    ]


def stored_rows(experiment: Experiment, store: Path) -> list[dict[str, Any]]:
    """All stored rows of an experiment in the folder `store`."""
    file = Store(store / f"{experiment.name}.csv", experiment.parameters)
    file.read()
    return list(file.rows.values())


def _compared(
    experiment: Experiment, cell: Cell, row: dict[str, Any], context: dict[str, Any]
) -> tuple:
    """Status, detail and, if any, deviations of one stored row."""
    (outcome,) = attempt(experiment, [cell], context | {"precision": precision_of(row)})
    if outcome.absent:
        return "not checked", outcome.absent
    if outcome.row is None:
        return "differs", f"the trial failed: {outcome.failure}"
    old, new = ({c: v for c, v in r.items() if c not in {*cell, *PROVENANCE}}
                for r in (row, outcome.row))  # fmt: skip
    if old.keys() != new.keys():
        return "differs", f"other columns: stored {sorted(old)}, now {sorted(new)}"
    wrong = {c: (old[c], new[c]) for c in old if not _agree(old[c], new[c], experiment.allowed(c))}
    if not wrong:
        return "agrees", f"{len(old)} numbers, {outcome.row['seconds']:g} s"
    text = ", ".join(
        f"{c}: stored {a!r}, now {b!r} (tolerance {experiment.allowed(c):g})"
        for c, (a, b) in wrong.items()
    )
    here, then = outcome.row["data_source"], row["data_source"]
    if here != then:
        return "not checked", f"other data: stored from {then!r}, here {here!r}; {text}", wrong
    return "differs", text, wrong


def _agree(old: float, new: float, tolerance: float) -> bool:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return True
    if not (math.isfinite(old) and math.isfinite(new)):
        return False
    return abs(new - old) <= tolerance * max(1.0, abs(old))
