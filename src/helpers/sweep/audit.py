"""The audit: stored cells computed anew and compared, and what it would notice."""

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.errors import StoreError
from helpers.project import expanded
from helpers.sweep import closeness, registry
from helpers.sweep.registry import Experiment, get
from helpers.sweep.store import PROVENANCE, Cell, Store
from helpers.sweep.trials import Outcome, attempt, noted, precision_of

# seconds that the quick audit may spend on the group of one drawn cell
_QUICK = 30.0


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

    A cell is computed with those that it was computed with, and with as many threads. On the same
    kind of processor, with the same versions, its numbers have to come out as they were
    (`closeness.repeated`), unless most numbers of the group do not, so that this machine adds up in
    another way after all; otherwise within the tolerances of the experiment. What cannot be checked
    (nothing stored, dataset not on this machine, not audited) is reported, never passed over; a
    file that is damaged or of another experiment differs.

    Args:
        names: of experiments; None for all.
        store: folder of the results files.
        sample: cells of each experiment.
        seed: which cells; None draws other ones each time.
        cheap_only: draw only where ``experiment.cheap(cell)``, and groups that take half a minute.
        context: what the trials are told beside the cell.

    Raises:
        ValueError: a sample below 1, or an unknown name.
    """
    if sample < 1:
        raise ValueError(f"audit of {sample} cells: sample must be 1 or more")
    seed = random.randrange(2**31) if seed is None else seed
    results, store = [], expanded(store)
    for name in registry.names() if names is None else [get(name).name for name in names]:
        draw = random.Random(f"{seed}/{name}")
        try:
            results += _audit_one(get(name), store, sample, draw, cheap_only, context or {})
        except (Exception, SystemExit) as error:  # of its module or grid: the others go on
            told = f"{type(error).__name__}: {error}"
            results.append(Audited(name, None, "differs", told))
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
        table = _Table(experiment, stored_rows(experiment, store))
        for cell in table.cells:
            experiment.call(cell, context)
    except (StoreError, ValueError) as error:
        return [Audited(experiment.name, None, "differs", str(error))]
    if not table.rows:
        return unchecked(f"nothing is stored in {store}")
    open_to_draw = [i for i in range(len(table.rows)) if not cheap_only or table.is_cheap(i)]
    if not open_to_draw:
        return unchecked("no stored cell is cheap")
    drawn = sorted(draw.sample(open_to_draw, min(sample, len(open_to_draw))))
    computed: dict[tuple[int, ...], list[Outcome]] = {}
    for i in drawn:
        group = table.together(i)
        if group not in computed:
            computed[group] = table.recomputed(group, context)
    same = table.is_same_arithmetic(computed)
    return [
        Audited(
            experiment.name, table.cells[i], *table.compared(i, computed[table.together(i)], same)
        )
        for i in drawn
    ]


class _Table:
    """The stored rows of one experiment, and how near recomputed ones come."""

    def __init__(self, experiment: Experiment, rows: list[dict[str, Any]]) -> None:
        self.experiment, self.rows = experiment, rows
        self.cells = [{n: v for n, v in row.items() if n in experiment.parameters} for row in rows]
        columns = [c for c in rows[0] if c in audited_columns(experiment, rows)] if rows else []
        values = {c: [row[c] for row in rows] for c in columns}
        self._sizes = {c: closeness.usual_size(found) for c, found in values.items()}
        self._fine = {c for c, found in values.items() if closeness.is_fine(found)}
        self._groups: dict[Any, list[int]] = {}
        for i in range(len(rows)):
            self._groups.setdefault(self._origin(i), []).append(i)

    def _origin(self, i: int) -> tuple:
        """Equal for rows that were computed together."""
        row = self.rows[i]
        return self.experiment.key(self.cells[i]), row["date"], row["device"]

    def together(self, i: int) -> tuple[int, ...]:
        """The rows that row `i` was computed with, itself among them."""
        return tuple(self._groups[self._origin(i)])

    def is_cheap(self, i: int) -> bool:
        """Whether row `i` can be computed anew, with its group, within half a minute."""
        seconds = sum(self.rows[k]["seconds"] for k in self.together(i))
        return self.experiment.cheap(self.cells[i]) and seconds <= _QUICK

    def recomputed(self, group: tuple[int, ...], context: dict[str, Any]) -> list[Outcome]:
        """What becomes of the rows of a group now, in their order."""
        row, cells = self.rows[group[0]], [self.cells[k] for k in group]
        with closeness.as_many_threads(row):
            found = attempt(self.experiment, cells, context | {"precision": precision_of(row)})
            outcomes = list(found)
        return outcomes + outcomes[-1:] * (len(cells) - len(outcomes))

    def is_same_arithmetic(self, computed: dict[tuple[int, ...], list[Outcome]]) -> bool:
        """Whether most rows come out as they were, of those that should.

        All that was drawn is asked, as one row, or one group, may have been tampered with as a
        whole.
        """
        repeats = [self._repeats(group, found) for group, found in computed.items()]
        return closeness.is_same_arithmetic([one for some in repeats for one in some])

    def _is_near(self, group: tuple[int, ...], outcomes: list[Outcome]) -> bool:
        """Whether a group comes out a little otherwise as a whole: stored by another make of it."""
        apart = self._repeats(group, outcomes)
        near = self._repeats(group, outcomes, closeness.NEAR)
        return not closeness.is_same_arithmetic(apart) and closeness.is_same_arithmetic(near)

    def compared(self, i: int, outcomes: list[Outcome], same: bool) -> tuple:
        """Status, detail and, if any, deviations of one stored row.

        Args:
            i: the row.
            outcomes: those of its group.
            same: whether this machine adds up as that of the rows.
        """
        group = self.together(i)
        row, outcome = self.rows[i], outcomes[group.index(i)]
        if outcome.absent:
            return "not checked", outcome.absent
        if outcome.row is None:
            return "differs", f"the trial failed: {outcome.failure}"
        old, new = self._numbers(row), self._numbers(outcome.row)
        if old.keys() != new.keys():
            return "differs", f"other columns: stored {sorted(old)}, now {sorted(new)}"
        allowed, why = self.experiment.allowed, closeness.other_arithmetic(row, outcome.row)
        wrong = {
            c: (old[c], new[c], f"tolerance {allowed(c):g}")
            for c in old
            if not closeness.agree(old[c], new[c], allowed(c))
        }
        if not why and (cell := self._owner(i, new)):
            return "differs", f"the numbers of {cell} come out", {c: (old[c], new[c]) for c in old}
        if not why and (not same or self._is_near(group, outcomes)):
            why = "most numbers come out near, and not the same"
        if not why:
            wrong = {
                c: (old[c], new[c], "same processor and threads")
                for c in old
                if not closeness.repeated(old[c], new[c], self._sizes[c])
            } | wrong
        if not wrong:
            seconds = sum(o.row["seconds"] for o in outcomes if o.row)
            nearly = f", within tolerances only: {why}" if why else ""
            return "agrees", f"{len(old)} numbers, {seconds:.3g} s{nearly}"
        text = ", ".join(f"{c}: stored {a!r}, now {b!r} ({t})" for c, (a, b, t) in wrong.items())
        deviations = {c: (a, b) for c, (a, b, _) in wrong.items()}
        here, then = outcome.row["data_source"], row["data_source"]
        if here != then:
            other = f"other data: stored from {then!r}, here {here!r}; {text}"
            return "not checked", other, deviations
        return "differs", text, deviations

    def _owner(self, i: int, new: dict[str, float]) -> str:
        """The cell of another row whose numbers these are, to the last digits; "" where none is.

        Columns in which many rows agree do not tell.
        """
        fine = sorted(self._fine & new.keys())

        def is_near(row: dict[str, Any]) -> bool:
            return all(closeness.repeated(row[c], new[c], self._sizes[c]) for c in fine)

        if len(fine) < 2 or is_near(self.rows[i]):
            return ""
        return next((f"{self.cells[k]}" for k, row in enumerate(self.rows) if is_near(row)), "")

    def _numbers(self, row: dict[str, Any]) -> dict[str, float]:
        apart = {*self.experiment.parameters, *PROVENANCE}
        return {c: v for c, v in row.items() if c not in apart}

    def _repeats(
        self, group: tuple[int, ...], outcomes: list[Outcome], share: float = closeness.REPEATS
    ) -> list[bool]:
        """For numbers of the group that might tell: whether they come out as they were."""
        return [
            closeness.repeated(self.rows[k][c], outcome.row[c], self._sizes[c], share)
            for k, outcome in zip(group, outcomes, strict=True)
            if outcome.row and not closeness.other_arithmetic(self.rows[k], outcome.row)
            for c in self._fine & outcome.row.keys()
        ]


def audited_columns(experiment: Experiment, rows: list[dict[str, Any]]) -> list[str]:
    """The result columns of stored rows."""
    apart = {*experiment.parameters, *PROVENANCE}
    return [c for c in rows[0] if c not in apart] if rows else []


def stored_rows(experiment: Experiment, store: Path) -> list[dict[str, Any]]:
    """All stored rows of an experiment in the folder `store`."""
    file = Store(store / f"{experiment.name}.csv", experiment.parameters)
    file.read()
    return list(file.rows.values())


def codes(experiment: Experiment, rows: list[dict[str, Any]]) -> str:
    """A warning when rows of a table come from different code, or not from the present one."""
    known = Counter(noted(row, "code") for row in rows)
    known.pop("", None)
    if not known or set(known) == {present := experiment.code}:
        return ""
    told = ", ".join(
        f"{count} of {code}{' (the present code)' if code == present else ''}"
        for code, count in sorted(known.items())
    )
    return f"WARNING: rows of other code than the present {present or 'one'}: {told}"


@dataclass(frozen=True)
class Power:
    """What the audit would notice in one column: shares of planted swaps and zeros.

    Attributes:
        experiment, column: which.
        same: (swaps, zeros) where the arithmetic is that of the rows.
        other: the same on other kinds of processors.
        reason: why the column cannot be audited; "" where it can.
    """

    experiment: str
    column: str
    same: tuple[float, float] = (math.nan, math.nan)
    other: tuple[float, float] = (math.nan, math.nan)
    reason: str = ""


def power(names: Iterable[str] | None = None, *, store: Path | str) -> list[Power]:
    """What the audit would notice in every stored column, without computing anything anew."""
    found: list[Power] = []
    for experiment in [get(name) for name in (registry.names() if names is None else names)]:
        rows = stored_rows(experiment, expanded(store))
        for column in audited_columns(experiment, rows):
            values = [row[column] for row in rows]
            if not experiment.audited:
                found.append(Power(experiment.name, column, reason="it measures this machine"))
            elif len({repr(v) for v in values}) == 1:
                found.append(Power(experiment.name, column, reason="one number in all rows"))
            else:
                same = closeness.noticed(values, None)
                other = closeness.noticed(values, experiment.allowed(column))
                found.append(Power(experiment.name, column, same, other))
    return found
