"""Experiments: a trial, its grid, and how exactly its numbers come out again."""

import importlib
import inspect
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from helpers.dependencies import PACKAGE, package_tree
from helpers.project import expanded
from helpers.sweep.store import PROVENANCE, Cell, key_of

# modules that run trials and compute nothing of them
_MACHINERY = tuple(
    f"{PACKAGE}.{m}" for m in ("sweep", "dependencies", "syntax", "errors", "project")
)

# what a trial may know about the machine, and what no result may depend on
CONTEXT = {"device": "cpu", "data_dir": None, "precision": "float32"}


class Call(dict):
    """All that a trial is told, its cell and the context: ``call.alpha`` or ``call["alpha"]``.

    >>> Call(alpha=0.5).alpha
    0.5
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the cell has no {name!r}: it has {sorted(self)}") from None


@dataclass(frozen=True)
class Experiment:
    """A trial, its grid, and how exactly a recomputed number must agree with a stored one.

    Attributes:
        name: of the results file.
        trial: ``trial(call) -> {column: number}`` with the parameters of a cell and the context
            (`CONTEXT`); with `group`, ``trial(calls) -> [{column: number}, …]``. It may also return
            ``"data_source"``, a string that is kept as provenance. It must depend on nothing but
            the cell (seeds are parameters).
        cells: ``cells(profile) -> list of cells``; all cells have the same parameters.
        tolerance: allowed ``|new - stored| / max(1, |stored|)``: one number, or one per column with
            the key ``"default"`` for the others.
        cheap: ``cheap(cell)``: whether the quick audit may draw this cell.
        group: ``group(cell)``: cells of equal groups are computed together, for less than one by
            one. A trial that returns a list gives each row an equal share of the seconds; one that
            yields its rows, in the order of the cells, has each stored as it comes, and a row must
            then not depend on those after it. None: one by one.
        audited: False: the audit leaves this experiment out (and says so).
        on_device: False: the trial computes on the processor, whatever the device.
        half: whether its trainings take the `precision` of the context; a sweep may then be told
            "auto", and its rows say what that came to. Others are computed in float32 always.

    Raises:
        TypeError: a trial, cells, cheap or group that is no function.
        ValueError: a name that no file can have, or tolerances that are below 0, no numbers or
            without a default.
    """

    name: str
    trial: Callable[..., Any]
    cells: Callable[[str], list[Cell]]
    tolerance: float | dict[str, float]
    cheap: Callable[[Cell], bool]
    group: Callable[[Cell], Hashable] | None = None
    audited: bool = True
    on_device: bool = True
    half: bool = False

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ValueError(
                f"experiment name {self.name!r}: use letters, digits, '-' and '_', "
                "since it names the results file"
            )
        for part in ("trial", "cells", "cheap", "group"):
            given = getattr(self, part)
            if not callable(given) and not (part == "group" and given is None):
                raise TypeError(f"experiment {self.name}: {part} is {given!r}, not a function")
        if "default" not in self._tolerances:
            raise ValueError(f"experiment {self.name}: tolerance lacks the key 'default'")
        for column, size in self._tolerances.items():
            if not (isinstance(size, int | float) and size >= 0):
                raise ValueError(
                    f"experiment {self.name}: tolerance {column!r} is {size!r}, not a number from 0"
                )

    @property
    def _tolerances(self) -> dict[str, float]:
        return self.tolerance if isinstance(self.tolerance, dict) else {"default": self.tolerance}

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters of its cells; ValueError for one that means something else."""
        names = frozenset().union(*self.cells("smoke"))
        if taken := names & {*CONTEXT, *PROVENANCE}:
            raise ValueError(
                f"experiment {self.name}: {sorted(taken)} are of the context or provenance, and "
                "no parameters"
            )
        return names

    def call(self, cell: Cell, context: dict[str, Any]) -> Call:
        """All that the trial is told; ValueError for other parameters, or an unknown context."""
        if unknown := context.keys() - CONTEXT.keys():
            raise ValueError(
                f"experiment {self.name}: the context has {sorted(unknown)}: it may have "
                f"{', '.join(CONTEXT)}"
            )
        if cell.keys() != self.parameters:
            raise ValueError(
                f"experiment {self.name}, cell {cell}: its parameters are {sorted(self.parameters)}"
            )
        folder = context.get("data_dir")
        return Call(CONTEXT | context | {"data_dir": folder and str(expanded(folder))} | cell)

    def precision(self, context: dict[str, Any]) -> str:
        """What products of matrices are computed in: "float32", or, where `half`, "bfloat16".

        Raises:
            ValueError: a precision that there is not.
        """
        asked = context.get("precision", CONTEXT["precision"])
        if asked == CONTEXT["precision"] or not self.half:
            return CONTEXT["precision"]
        from helpers.training import precision  # torch, which a trial in half precision needs too

        return precision.resolve(asked, context.get("device", CONTEXT["device"]))

    def compute(self, calls: list[Call]) -> list[dict[str, Any]] | Iterator[dict[str, Any]]:
        """Results of these calls, of one group; ValueError when there are more or fewer.

        A trial that yields gives an iterator, whose rows are not counted yet.
        """
        found = [self.trial(c) for c in calls] if self.group is None else self.trial(calls)
        if isinstance(found, Iterator):
            return found
        if len(found) != len(calls):
            raise ValueError(f"{len(found)} results for {len(calls)} cells")
        return list(found)

    @property
    def streams(self) -> bool:
        """Whether the trial yields the rows of a group one by one."""
        return inspect.isgeneratorfunction(self.trial)

    def key(self, cell: Cell) -> Hashable:
        """Equal for cells that are computed together."""
        return (self.group or key_of)(cell)

    def groups(self, cells: list[Cell]) -> list[list[Cell]]:
        """Cells that are computed together, in the order of the cells."""
        found: dict[Hashable, list[Cell]] = {}
        for cell in cells:
            found.setdefault(self.key(cell), []).append(cell)
        return list(found.values())

    @property
    def code(self) -> str:
        """A hash of what the trial does and of all that it reaches in the package.

        "" for a trial that is not of the package; the sweep itself computes no numbers and does
        not count, nor do grids.
        """
        module = getattr(self.trial, "__module__", None) or ""
        return _code(module) if module.partition(".")[0] == PACKAGE else ""

    def allowed(self, column: str) -> float:
        """The tolerance of one column."""
        return self._tolerances.get(column, self._tolerances["default"])

    def check_tolerances(self, columns: set[str]) -> None:
        """ValueError for a tolerance of a column that is not among these, a trial's."""
        if unknown := self._tolerances.keys() - columns - {"default"}:
            raise ValueError(f"there are tolerances for {sorted(unknown)}, which are no results")


_REGISTRY: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Make `experiment` known under its name, and return it.

    Raises:
        ValueError: another trial already has the name (reloading a module is fine).
    """
    known = _REGISTRY.get(experiment.name)
    if known is not None and _origin(known.trial) != _origin(experiment.trial):
        raise ValueError(
            f"two experiments are called {experiment.name!r}: {_origin(known.trial)} "
            f"and {_origin(experiment.trial)}"
        )
    _REGISTRY[experiment.name] = experiment
    return experiment


def experiment(name: str, **settings: Any) -> Callable[[Callable], Callable]:
    """Decorator that registers a trial as the experiment `name`; see `Experiment`.

    The name is written out where it is used: what a chapter depends on is read from the text.
    """
    if not isinstance(name, str):
        raise TypeError(f"@experiment takes a name and settings in brackets, not {name!r}")

    def registered(trial: Callable) -> Callable:
        register(Experiment(name, trial, **settings))
        return trial

    return registered


def grid(**axes: object) -> list[Cell]:
    """All combinations; what is no list, tuple or range is the same in every cell.

    >>> grid(a=1, trial=(0, 1))
    [{'a': 1, 'trial': 0}, {'a': 1, 'trial': 1}]
    """
    listed = {k: v if isinstance(v, list | tuple | range) else [v] for k, v in axes.items()}
    return [dict(zip(listed, point, strict=True)) for point in itertools.product(*listed.values())]


def pick(profile: str, smoke: Any, laptop: Any, paper: Any) -> Any:
    """The value that belongs to a profile.

    >>> pick("laptop", 50, 1_000, 1_000)
    1000
    """
    return {"smoke": smoke, "laptop": laptop, "paper": paper}[profile]


@cache
def _code(module: str) -> str:
    tree = package_tree()
    if module not in tree.texts:
        return ""
    reached = tree.closure(f"import {module}") | {module}
    return tree.digest((m for m in reached if not m.startswith(_MACHINERY)), grids=False)


def _origin(trial: Callable) -> str:
    return f"{getattr(trial, '__module__', '?')}.{getattr(trial, '__qualname__', repr(trial))}"


def _import_experiments(name: str | None = None) -> set[str]:
    """Import the module that registers this experiment, or all that register any.

    Returns:
        Names of experiments whose modules cannot be imported, where all were to be.
    """
    modules, broken = package_tree().experiments, set[str]()
    if name in modules:
        importlib.import_module(modules[name])
        return broken
    for module in sorted(set(modules.values())):
        try:
            importlib.import_module(module)
        except Exception:  # `get` says which when it is asked for one of them
            broken |= {known for known, place in modules.items() if place == module}
    return broken


def names() -> list[str]:
    """Names of all experiments, sorted; of those that cannot be imported, too."""
    return sorted(_import_experiments() | _REGISTRY.keys())


def get(name: str) -> Experiment:
    """The experiment called `name`; ValueError names the known ones.

    Raises:
        ImportError: its module cannot be imported (or whatever else that raises).
        ValueError: there is none of this name.
    """
    if name not in _REGISTRY:
        _import_experiments(name)
    if name not in _REGISTRY:
        raise ValueError(f"unknown experiment {name!r}: known are {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]
