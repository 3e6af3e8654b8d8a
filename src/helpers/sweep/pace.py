"""How fast a run gets on, and what comes first in it where time is short."""

from collections import Counter

from helpers.sweep.costs import REPEATED, Costs
from helpers.sweep.store import Cell, Key, key_of

_TELLING = 60.0  # seconds of stored rows that have to be computed again before they tell a speed


class Pace:
    """What is left to do, by the seconds of stored rows and of those that this run has computed.

    Args:
        costs: what stored rows tell.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        # seconds of this run's rows, what stored ones told for them, and for all that is left
        self._took = self._told = self._due = 0.0
        self._rows = 0

    def begin(self, todo: list[Cell]) -> None:
        """All this has to be done."""
        self._due = self._costs.total(todo) or 0.0

    def saw(self, cell: Cell, seconds: float) -> None:
        """A row was computed here."""
        self._took += seconds
        self._told += self._costs.seconds(cell)[0] or 0.0
        self._rows += 1

    def expected(self, cells: list[Cell]) -> float:
        """Seconds that cells take here; 0 where nothing tells."""
        seconds = self._costs.total(cells)
        if seconds is None:  # the table was empty: what this run has seen of it
            return self._took / self._rows * len(cells) if self._rows else 0.0
        # slower, or faster, than where the rows are from; that it is faster takes some time to tell
        ratio = self._took / self._told if self._told else 1.0
        return seconds * (ratio if self._told > _TELLING else max(1.0, ratio))

    def left(self, cells: list[Cell], count: int, jobs: int) -> str:
        """So many of these cells need no more waiting for: what is left then, for so many jobs."""
        self._due -= (self._costs.total(cells) or 0.0) * count / len(cells)
        if self._due <= 0 or not self._told:
            return ""
        return f"about {span(self._due * self._took / self._told / max(1, jobs))} left"


def in_turn(groups: list[list[Cell]], grid: list[Cell]) -> list[list[Cell]]:
    """Groups such that first repetitions of everything come before second ones.

    Args:
        groups: some of the grid's.
        grid: all cells that are wanted, the stored ones among them: a run that goes on keeps to it.

    >>> grid = [{"n": n, "trial": t} for n in (5, 9) for t in (0, 1)]
    >>> [cell["trial"] for group in in_turn([[cell] for cell in grid], grid) for cell in group]
    [0, 0, 1, 1]
    """
    turns: dict[Key, int] = {}
    count: Counter[Key] = Counter()
    for cell in grid:
        setting = key_of({name: v for name, v in cell.items() if name not in REPEATED})
        turns[key_of(cell)] = count[setting]
        count[setting] += 1
    return sorted(groups, key=lambda cells: min(turns[key_of(cell)] for cell in cells))


def span(seconds: float) -> str:
    """A time in the unit in which one thinks of it.

    >>> span(100), span(3000), span(30_000)
    ('100 s', '50 min', '8.3 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
