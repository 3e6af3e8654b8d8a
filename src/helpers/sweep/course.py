"""One way through the groups of cells that are not stored yet: who is next, and what became of it.

Rows are stored as they come. A trial that raises, exits, kills its process, never ends or finds
nothing but nan costs its group and no other. Cells that failed before come last. When the table
cannot be written any more nothing new is begun, and what is in flight is kept.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from helpers.errors import RowError, StoreError
from helpers.sweep.costs import Costs
from helpers.sweep.failures import TRIES, Failures
from helpers.sweep.locks import Claims
from helpers.sweep.pace import Pace, in_turn
from helpers.sweep.registry import Experiment
from helpers.sweep.signals import SignalsWait
from helpers.sweep.store import PROVENANCE, Cell, Key, Store, kept_elsewhere, key_of
from helpers.sweep.trials import Outcome, TrialError, noted
from helpers.sweep.worker import Task, package_text
from helpers.sweep.workers import START, Event

_LOOK = 1.0  # seconds between looks at what other clients compute
_MISFITS = 3  # rows of other columns than the table, one after the other, that end it
_BARREN = 2  # failures of a group, one after the other and no row between, that end it


@dataclass(frozen=True)
class Terms:
    """How far a sweep goes on its own.

    Attributes:
        limit: seconds that one trial may take (a group: as many times as it has cells).
        ends: `time.monotonic()` at which all has to be over.
        retry: try what was given up, too.
    """

    limit: float | None = None
    ends: float | None = None
    retry: bool = False


@dataclass
class Running:
    """A group that is being computed."""

    cells: list[Cell]
    since: float
    started: bool = False
    done: int = 0
    rows: int = 0
    failed: bool = False
    without: list[Cell] = field(default_factory=list)  # data, where it was tried


class Course:
    """What is left to do, what is being done, and what became of the rest.

    Args:
        experiment, context: as for `sweep`.
        file: where rows go.
        executor: where groups are computed (`workers.Here`, `workers.Pool`, `cluster.Cluster`).
        terms: None: the first failure ends it, and nothing is kept of failures.
        revision: of the project, kept with each row.
        bar: shows progress.

    Attributes:
        failed: cells with the outcome that says why.
        missing: cells whose data is not there, with the reason.
        left: cells that the time did not suffice for.
        asked: how many cells there were.
        strict: whether the first failure ends it.
        untold: whether nothing keeps what the trials' tracebacks say.
    """

    def __init__(
        self,
        experiment: Experiment,
        context: dict[str, Any],
        file: Store,
        executor: Any,
        terms: Terms | None,
        revision: str,
        bar: Any,
    ) -> None:
        self.experiment, self.context, self.file = experiment, context, file
        self.executor, self.terms, self.bar = executor, terms or Terms(), bar
        self.failed: list[tuple[Cell, Outcome]] = []
        self.missing: list[tuple[Cell, str]] = []
        self.left, self.asked = list[Cell](), 0
        self.strict, self._revision = terms is None, revision
        stored = file.path if file.shared else None
        self._code = experiment.code if stored or executor.remote else ""
        self._text = package_text() if self._code else ""
        self._claims, self._failures = Claims(stored), Failures(None if self.strict else stored)
        self._before = self._failures.read()
        self.untold = self.strict or not stored
        self._pending: deque[list[Cell]] = deque()
        self._elsewhere: list[list[Cell]] = []
        self._number, self._looked, self._misfits = 0, 0.0, 0
        self._running: dict[int, Running] = {}
        self._signals = SignalsWait()
        self._lacking: dict[Key, dict[str, str]] = {}
        self._pace = Pace(Costs(experiment, list(file.rows.values())))
        self._said = set[str]()
        self._barren: dict[Any, int] = {}  # failures of a group since its last row
        # why the table cannot grow any more, and the finished rows that it did not take
        self._fault: StoreError | None = None
        self._unstored: list[dict[str, Any]] = []

    def run(self, todo: list[Cell], asked: list[Cell] | None = None) -> None:
        """Compute these cells, as far as the terms allow.

        Args:
            todo: what is not stored.
            asked: the whole grid, which decides on the order where time is short.

        Raises:
            StoreError: the table cannot be read or written any more; says where finished rows are.
        """
        self._warn()
        self.asked = len(todo)
        self._pace.begin(todo)
        self._pending = deque(self._ordered(todo, asked or todo))
        with self._signals, self._claims, self.executor:
            try:
                while True:
                    self._submit()
                    with self._signals.heeded():
                        if not (self._pending or self._running or self._elsewhere):
                            break
                        self.executor.wait(self._patience())
                    self._take_all()
                    self._stop_late_ones()
            except (KeyboardInterrupt, TrialError):
                self._signals.hold()
                self._take_all()  # what has come in meanwhile is finished, too
                if self._fault:
                    self._say(self._told())
                raise
            if self._fault:
                raise StoreError(self._told()) from self._fault
        self._note(self._failures.forget, self.file.rows)

    def _ordered(self, todo: list[Cell], asked: list[Cell]) -> list[list[Cell]]:
        """Groups in their order, what failed before last; what was given up is left out.

        Cells of a group that failed are a group of their own, so that they keep no other from being
        computed. Where the time is limited, first repetitions come before second ones.
        """
        fresh, again = [], []
        for cell in todo:
            known = self._before.get(key_of(cell))
            if known and known.count >= TRIES and known.code == self._code and not self.terms.retry:
                told = f"given up after {known.count} tries (--retry), the last: {known.reason}"
                self.failed.append((cell, Outcome(failure=told)))
                self._advance([cell], 1)
            else:
                (again if known else fresh).append(cell)
        groups = [*map(self.experiment.groups, (fresh, again))]
        if self.terms.ends is not None:
            groups = [in_turn(some, asked) for some in groups]
        return groups[0] + groups[1]

    def _warn(self) -> None:
        """Rows of other code stand in the table that is about to grow."""
        known = [noted(row, "code") for row in self.file.rows.values()]
        if other := sum(code not in ("", self._code) for code in known) if self._code else 0:
            self._say(f"WARNING: {other} of {len(known)} stored rows are of other code than this")

    # -- what is next ------------------------------------------------------------------------------

    def _submit(self) -> None:
        try:
            self._begin_next()
        except StoreError as error:
            self._fault = self._fault or error

    def _begin_next(self) -> None:
        now = time.monotonic()
        if self._elsewhere and not self._pending and now - self._looked >= _LOOK:
            self._pending, self._elsewhere = deque(self._elsewhere), []
            self._looked = now
        if self._over(now):
            for cells in [*self._pending, *self._elsewhere]:
                self.left += [] if self.strict else cells
            self._pending.clear()
            self._elsewhere.clear()
        while self._pending and self.executor.free() > 0:
            with self._signals.heeded():  # others may be at a thousand of them
                pass
            cells = self._pending.popleft()
            if not self._fits(cells, now):
                self.left += cells
            elif not self._claims.take(self.experiment.key(cells[0])):
                self._elsewhere.append(cells)
            else:
                self._begin(cells)

    def _over(self, now: float) -> bool:
        """Whether nothing new is begun."""
        late = self.terms.ends is not None and now >= self.terms.ends
        return late or self._fault is not None or bool(self.strict and self.failed)

    def _begin(self, cells: list[Cell]) -> None:
        """Compute a claimed group, but for what another client has stored meanwhile."""
        self.file.read()
        todo = [cell for cell in cells if key_of(cell) not in self.file.rows]
        todo = [cell for cell in todo if not self._failed_elsewhere(cell)]
        self._advance(cells, len(cells) - len(todo))
        lacking = self._lacking.get(key_of(todo[0]), {}) if todo else {}
        if lacking and not self.executor.others(lacking):
            self.missing += [(cell, next(iter(lacking.values()))) for cell in todo]
            self._advance(todo, len(todo))
            todo = []
        if not todo:
            self._claims.drop(self.experiment.key(cells[0]))
            return
        self._number += 1
        limit = self.terms.limit and self.terms.limit * len(todo)
        task = Task(self.experiment, todo, self.context, self._code, self._text, limit)
        self._running[self._number] = Running(todo, time.monotonic())
        self.executor.submit(self._number, task, frozenset(lacking))

    def _failed_elsewhere(self, cell: Cell) -> bool:
        """Whether another client has tried a cell since this one began, and failed."""
        before, now = self._before.get(key_of(cell)), self._failures.read().get(key_of(cell))
        if now is None or now.code != self._code or (before and now.count <= before.count):
            return False
        told = f"another client tried it: {now.reason}"
        self.failed.append((cell, Outcome(failure=told)))
        return True

    def _fits(self, cells: list[Cell], now: float) -> bool:
        """Whether a group ends in time, as far as is known."""
        return self.terms.ends is None or now + self._pace.expected(cells) < self.terms.ends

    def _patience(self) -> float:
        """Seconds to wait for something to happen, before a look around."""
        times, now = [_LOOK if self._elsewhere or self.executor.remote else 60.0], time.monotonic()
        times += [end - now for end in map(self._end, self._running.values()) if end is not None]
        return max(0.01, min(times))

    def _end(self, group: Running) -> float | None:
        """When a group has to be stopped; None: never."""
        ends = [] if self.terms.ends is None else [self.terms.ends]
        if self.terms.limit is not None and not self.executor.remote:
            allowed = self.terms.limit * len(group.cells)
            ends.append(group.since + allowed + (0.0 if group.started else START))
        return min(ends, default=None)

    def _stop_late_ones(self) -> None:
        now = time.monotonic()
        for number, group in list(self._running.items()):
            end = self._end(group)
            if end is None or now < end:
                continue
            self.executor.stop(number)
            if end == self.terms.ends:
                self.left += group.cells[group.done :]
                group.done = len(group.cells)
            else:
                told = f"stopped after {now - group.since:.0f} s (--trial-limit)"
                self._fail(group, Outcome(failure=told), whole=not self.experiment.streams)
            self._finish(number, group)

    # -- what became of it -------------------------------------------------------------------------

    def _take_all(self) -> None:
        for event in self.executor.events():
            self._take(event)

    def _take(self, event: Event) -> None:
        group = self._running.get(event.number)
        if group is None:
            return
        streams, content = self.experiment.streams, event.content
        if event.kind == "start":
            group.started, group.since = True, time.monotonic()
        elif event.kind == "row":
            self._take_outcome(group, content, event.where)
        elif event.kind == "died":
            self._fail(group, Outcome(failure=content), whole=not streams)
        elif event.kind == "refused":
            if event.where:
                self._say(f"{event.where} is not used: {content}")
            else:
                self._fail(group, Outcome(failure=f"not computed: {content}"), whole=True)
        else:
            self._finish(event.number, group)

    def _take_outcome(self, group: Running, outcome: Outcome, where: str) -> None:
        cell = group.cells[group.done]
        if outcome.row is not None and not self.strict and self._is_nothing(outcome.row):
            self._fail(group, Outcome(failure="the trial found nothing but nan"), whole=False)
            return
        if outcome.row is not None:
            try:
                self._store(self._complete(cell, outcome.row))
            except RowError as error:
                self._fail(group, Outcome(failure=str(error), error=error), whole=False)
                return
            group.rows += 1
            self._pace.saw(cell, outcome.row["seconds"])
        elif outcome.absent and where:  # another machine may have the data
            known = self._lacking.setdefault(key_of(cell), {})
            known[where] = outcome.absent
            self._say(f"{where} lacks data: {outcome.absent}")
            group.without.append(cell)
        elif outcome.absent:
            self.missing.append((cell, outcome.absent))
        else:
            self._fail(group, outcome, whole=False)
            return
        group.done += 1
        self._advance([cell], 0 if where and outcome.absent else 1)

    def _store(self, row: dict[str, Any]) -> None:
        """Store a finished row, or keep it at hand when the table takes no rows; `RowError`."""
        try:
            self.file.append(row)
            self._misfits = 0
        except RowError as error:
            self._misfits += 1
            if self._misfits == _MISFITS and not self.strict:  # the experiment has changed
                self._fault = self._fault or error
            raise
        except StoreError as error:
            self._fault = self._fault or error
            self._unstored.append(row)

    def _told(self) -> str:
        """What is wrong with the table, and where the rows are that it did not take."""
        told, rows = str(self._fault).removesuffix("."), self._unstored
        if rows:
            try:
                self.file.append(*rows)
            except StoreError:
                told += f"; {kept_elsewhere(self.file.path, rows, self.experiment.parameters)}"
        return f"{told}. Nothing new was begun."

    def _is_nothing(self, row: dict[str, Any]) -> bool:
        """Whether all that a trial found is nan."""
        found = [value for name, value in row.items() if name not in PROVENANCE]
        return bool(found) and all(value != value for value in found)

    def _fail(self, group: Running, outcome: Outcome, *, whole: bool) -> None:
        """The next cell of a group has failed, or all that are left of it."""
        cells = group.cells[group.done :] if whole else group.cells[group.done : group.done + 1]
        for cell in cells:
            self.failed.append((cell, outcome))
            if not self.strict:
                self._note(self._failures.add, cell, outcome, self._code)
        group.failed = True
        if self.strict and outcome.error is None and len(self.failed) == len(cells):
            self._say("a trial failed; waiting for those in flight")
        group.done += len(cells)
        self._advance(cells, len(cells))

    def _note(self, write: Callable[..., None], *what: Any) -> None:
        """Write down failures: rows are worth more than notes, which may be in want of space."""
        try:
            write(*what)
        except StoreError as error:
            self._say(f"WARNING: {error}: failures are not noted")

    def _finish(self, number: int, group: Running) -> None:
        del self._running[number]
        key = self.experiment.key(group.cells[0])
        self._claims.drop(key)
        self._barren[key] = 0 if group.rows else self._barren.get(key, 0) + group.failed
        # what a failing trial had not come to, or what another worker shall try
        again = group.without + group.cells[group.done :]
        if again and self._barren[key] >= _BARREN:  # it may well be what all of them have in common
            told = f"not tried: its group failed {_BARREN} times, and no row came between"
            self.failed += [(cell, Outcome(failure=told)) for cell in again]
            self._advance(again, len(again))
        elif again:
            self._pending.appendleft(again)

    def _complete(self, cell: Cell, row: dict[str, Any]) -> dict[str, Any]:
        code = f"; code {self._code}" if self._code else ""
        noted = {"versions": row["versions"] + code, "revision": self._revision}
        return cell | row | noted

    def _advance(self, cells: list[Cell], count: int) -> None:
        """Show that so many of these cells need no more waiting for."""
        if not count:
            return
        self.bar.update(count)
        if left := self._pace.left(cells, count, self.executor.jobs):
            self.bar.set_postfix_str(left, refresh=False)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"{self.experiment.name}: {text}", flush=True)
