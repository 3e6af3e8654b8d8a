"""One way through the groups of cells that are not stored yet: who is next, and what became of it.

Rows are stored as they come. A trial that raises, exits, kills its process, never ends or finds
nothing but nan costs its group and no other. Groups that failed before come last.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from helpers.sweep.costs import Costs
from helpers.sweep.failures import TRIES, Failures
from helpers.sweep.locks import Claims
from helpers.sweep.registry import Experiment
from helpers.sweep.store import PROVENANCE, Cell, Key, Store, key_of
from helpers.sweep.trials import Outcome, noted
from helpers.sweep.worker import Task, package_text
from helpers.sweep.workers import START, Event

_TELLING = 60.0  # seconds of stored rows that have to be computed again before they tell a speed
_LOOK = 1.0  # seconds between looks at what other clients compute


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
        self.left: list[Cell] = []
        self.asked = 0
        self.strict, self._revision = terms is None, revision
        stored = file.path if file.shared else None
        self._code = experiment.code if stored or executor.remote else ""
        self._text = package_text() if self._code else ""
        self._claims, self._failures = Claims(stored), Failures(None if self.strict else stored)
        self.untold = self.strict or not stored
        self._pending: deque[list[Cell]] = deque()
        self._elsewhere: list[list[Cell]] = []
        self._number, self._looked = 0, 0.0
        self._running: dict[int, Running] = {}
        self._lacking: dict[Key, dict[str, str]] = {}
        self._costs = Costs(experiment, list(file.rows.values()))
        # seconds of this run's rows, what stored ones told for them, and for all that is left
        self._took = self._told = self._due = 0.0
        self._rows, self._said = 0, set[str]()

    def run(self, todo: list[Cell]) -> None:
        """Compute these cells, as far as the terms allow."""
        self._warn()
        self.asked = len(todo)
        self._due = self._costs.total(todo) or 0.0
        self._pending = deque(self._ordered(todo))
        with self._claims, self.executor:
            while self._pending or self._running or self._elsewhere:
                self._submit()
                if self._pending or self._running or self._elsewhere:
                    for event in self.executor.wait(self._patience()):
                        self._take(event)
                    self._stop_late_ones()
        self._failures.forget(self.file.rows)

    def _ordered(self, todo: list[Cell]) -> list[list[Cell]]:
        """Groups in their order, those that failed before last; what was given up is left out."""
        before, tried = self._failures.read(), []
        for cell in todo:
            known = before.get(key_of(cell))
            if known and known.count >= TRIES and known.code == self._code and not self.terms.retry:
                told = f"given up after {known.count} tries (--retry), the last: {known.reason}"
                self.failed.append((cell, Outcome(failure=told)))
                self._advance([cell], 1)
            else:
                tried.append(cell)
        groups = self.experiment.groups(tried)
        return sorted(groups, key=lambda cells: any(key_of(c) in before for c in cells))

    def _warn(self) -> None:
        """Rows of other code stand in the table that is about to grow."""
        known = [noted(row, "code") for row in self.file.rows.values()]
        if other := sum(code not in ("", self._code) for code in known) if self._code else 0:
            self._say(f"WARNING: {other} of {len(known)} stored rows are of other code than this")

    # -- what is next ------------------------------------------------------------------------------

    def _submit(self) -> None:
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
        return late or bool(self.strict and self.failed)

    def _begin(self, cells: list[Cell]) -> None:
        """Compute a claimed group, but for what another client has stored meanwhile."""
        self.file.read()
        todo = [cell for cell in cells if key_of(cell) not in self.file.rows]
        self._advance(cells, len(cells) - len(todo))
        lacking = self._lacking.get(key_of(todo[0]), {}) if todo else {}
        if lacking and not self.executor.others(lacking):
            for cell in todo:
                self.missing.append((cell, next(iter(lacking.values()))))
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

    def _fits(self, cells: list[Cell], now: float) -> bool:
        """Whether a group ends in time, as far as is known."""
        return self.terms.ends is None or now + self._expected(cells) < self.terms.ends

    def _expected(self, cells: list[Cell]) -> float:
        """Seconds that cells take here; 0 where nothing tells."""
        seconds = self._costs.total(cells)
        if seconds is None:  # the table was empty: what this run has seen of it
            return self._took / self._rows * len(cells) if self._rows else 0.0
        # slower, or faster, than where the rows are from; that it is faster takes some time to tell
        ratio = self._took / self._told if self._told else 1.0
        return seconds * (ratio if self._told > _TELLING else max(1.0, ratio))

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
            self.file.append(self._complete(cell, outcome.row))
            self._took += outcome.row["seconds"]
            self._told += self._costs.seconds(cell)[0] or 0.0
            self._rows += 1
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
                self._failures.add(cell, outcome, self._code)
        if self.strict and outcome.error is None and len(self.failed) == len(cells):
            self._say("a trial failed; waiting for those in flight")
        group.done += len(cells)
        self._advance(cells, len(cells))

    def _finish(self, number: int, group: Running) -> None:
        del self._running[number]
        self._claims.drop(self.experiment.key(group.cells[0]))
        # what a failing trial had not come to, or what another worker shall try
        if again := group.without + group.cells[group.done :]:
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
        self._due -= (self._costs.total(cells) or 0.0) * count / len(cells)
        if self._due > 0 and self._told:
            left = self._due * self._took / self._told / max(1, self.executor.jobs)
            self.bar.set_postfix_str(f"about {span(left)} left", refresh=False)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"{self.experiment.name}: {text}", flush=True)


def span(seconds: float) -> str:
    """A time in the unit in which one thinks of it.

    >>> span(100), span(3000), span(30_000)
    ('100 s', '50 min', '8.3 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
