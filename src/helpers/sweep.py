"""Experiments, the stored results of their trials, and the audit of what is stored.

An *experiment* is a pure function ``trial(**cell) -> {column: number}`` and a grid of *cells*
(its parameters). `sweep` runs the cells that no one has run yet and appends each finished row to
``<store>/<name>.csv`` at once, so that a run may be killed at any moment and started again:
nothing is lost and nothing is done twice. `audit` recomputes randomly drawn stored cells and
compares, so that a stored number is a cache that anyone can check.

How a results file stays whole is told in `helpers.store`.

Run ``python -m helpers.sweep --help`` for the command line.

>>> double = Experiment("double", lambda x: {"y": 2 * x}, cells=lambda profile: [{"x": 1.5}],
...                     tolerance=1e-9, cheap=lambda cell: True)
>>> sweep(double, [{"x": 3}, {"x": 0.1}], store=None, progress=False)[["x", "y"]].to_dict("records")
[{'x': 3.0, 'y': 6.0}, {'x': 0.1, 'y': 0.2}]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import inspect
import math
import os
import pkgutil
import platform
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.chapter import PROFILES, Run, describe_device, project_root, resolve_device
from helpers.store import (
    PROVENANCE,
    Cell,
    Key,
    MemoryStore,
    Store,
    StoreError,
    as_cell,
    as_results,
    key_of,
)

_TRIALS_A_SEED = 1_000


class TrialError(RuntimeError):
    """A trial failed; the message names experiment and cell. Rows finished before it are stored."""


# -- experiments ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """A trial, its grid, and how exactly a recomputed number must agree with a stored one.

    trial      ``trial(**cell, **context) -> {column: number}``; it names all its parameters. It
               may also return ``"data_source"``, a string that is kept as provenance. It must
               depend on nothing but its arguments (seeds are parameters).
    cells      ``cells(profile) -> list of cells``; all cells have the same parameters.
    tolerance  allowed ``|new - stored| / max(1, |stored|)``: one number, or one per column with
               the key ``"default"`` for the others.
    cheap      ``cheap(cell) -> bool``: whether the quick audit may draw this cell.
    many       ``many([arguments, …]) -> [results, …]``, if several cells are computed together for
               less than one by one; the arguments are those of `trial`. Each row then states an
               equal share of the seconds.
    group      ``group(cell)``: cells of equal groups go to `many` together.
    audited    False: the audit leaves this experiment out (and says so).
    """

    name: str
    trial: Callable[..., dict[str, Any]]
    cells: Callable[[str], list[Cell]]
    tolerance: float | dict[str, float]
    cheap: Callable[[Cell], bool]
    audited: bool = True
    many: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    group: Callable[[Cell], Hashable] | None = None

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ValueError(
                f"experiment name {self.name!r}: use letters, digits, '-' and '_', "
                "since it names the results file"
            )
        kinds = {p.kind for p in inspect.signature(self.trial).parameters.values()}
        if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
            raise ValueError(f"experiment {self.name}: trial must name each of its parameters")
        if (self.many is None) != (self.group is None):
            raise ValueError(f"experiment {self.name}: many and group go together")
        if isinstance(self.tolerance, dict) and "default" not in self.tolerance:
            raise ValueError(f"experiment {self.name}: tolerance lacks the key 'default'")

    def parameters_among(self, columns: Iterable[str]) -> frozenset[str]:
        """Those of a file's columns that are parameters: the trial takes them from the cell."""
        return frozenset(columns) & _taken_by(self.trial) - set(PROVENANCE)

    def allowed(self, column: str) -> float:
        if isinstance(self.tolerance, dict):
            return self.tolerance.get(column, self.tolerance["default"])
        return self.tolerance


def _taken_by(trial: Callable) -> frozenset[str]:
    """Every name that the trial takes, from the cell or from the context."""
    return frozenset(inspect.signature(trial).parameters)


_REGISTRY: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Make `experiment` known under its name, and return it.

    Raises ValueError when another trial already has the name (reloading a module is fine)."""
    known = _REGISTRY.get(experiment.name)
    if known is not None and _origin(known.trial) != _origin(experiment.trial):
        raise ValueError(
            f"two experiments are called {experiment.name!r}: {_origin(known.trial)} "
            f"and {_origin(experiment.trial)}"
        )
    _REGISTRY[experiment.name] = experiment
    return experiment


def _origin(trial: Callable) -> str:
    return f"{getattr(trial, '__module__', '?')}.{getattr(trial, '__qualname__', repr(trial))}"


def _import_experiments() -> None:
    """Import every module ``helpers.experiments*``: they register on import."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("experiments"):
            importlib.import_module(f"helpers.{module.name}")


def names() -> list[str]:
    """Names of all experiments, sorted."""
    _import_experiments()
    return sorted(_REGISTRY)


_all_names = names  # for where `names` is an argument


def get(name: str) -> Experiment:
    """The experiment called `name`; ValueError names the known ones."""
    _import_experiments()
    if name not in _REGISTRY:
        raise ValueError(f"unknown experiment {name!r}: known are {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


# -- provenance ----------------------------------------------------------------------------------


@cache
def _versions() -> str:
    parts = [f"python {platform.python_version()}"]
    for package in ("torch", "numpy"):
        try:
            parts.append(f"{package} {importlib.metadata.version(package).partition('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "; ".join(parts)


def _revision() -> str:
    """Short commit of the code, ``+`` when the package differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# -- running -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcome:
    """What became of one trial: `row` (results and provenance), or why there is none."""

    row: dict[str, Any] | None = None
    absent: str = ""
    failure: str = ""
    traceback: str = ""
    error: Exception | None = None


def _attempt(trial: Callable, arguments: dict[str, Any]) -> _Outcome:
    """Run one trial here and measure it; an exception becomes part of the outcome."""
    return _attempt_together(trial, None, [arguments])[0]


def _attempt_together(
    trial: Callable, many: Callable | None, calls: list[dict[str, Any]]
) -> list[_Outcome]:
    """One outcome a call: from `many` for all calls at once, or of `trial` for the only one."""
    start = time.perf_counter()
    try:
        found = [trial(**call) for call in calls] if many is None else many(calls)
        if len(found) != len(calls):
            raise ValueError(f"{len(found)} results for {len(calls)} cells")
        results = [as_results(each, _taken_by(trial) | set(PROVENANCE)) for each in found]
    except Exception as error:
        if _is_absent_dataset(error):
            return [_Outcome(absent=str(error))] * len(calls)
        failed = _Outcome(
            failure=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            error=error,
        )
        return [failed] * len(calls)
    provenance = {
        "device": describe_device(str(calls[0].get("device") or "cpu")),
        "seconds": round((time.perf_counter() - start) / len(calls), 3),
        "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return [_Outcome(row=row | {"data_source": source} | provenance) for row, source in results]


def _is_absent_dataset(error: Exception) -> bool:
    # Whoever raised DatasetNotFound has imported its module (which needs torch; this one does not).
    data = sys.modules.get("helpers.data")
    return data is not None and isinstance(error, data.DatasetNotFound)


def _attempt_remotely(
    keys: list[Key], trial: Callable, many: Callable | None, calls: list[dict]
) -> tuple[list[Key], list[_Outcome]]:
    """`_attempt_together` in a worker: nothing travels back that might not be picklable."""
    return keys, [replace(o, error=None) for o in _attempt_together(trial, many, calls)]


def _arguments(experiment: Experiment, cell: Cell, context: dict[str, Any]) -> dict[str, Any]:
    """All that the trial is called with. ValueError when that does not fit its signature."""
    taken = {n: v for n, v in context.items() if n in _taken_by(experiment.trial)}
    try:
        if taken.keys() & cell.keys():
            raise TypeError(f"{sorted(taken.keys() & cell.keys())} in both cell and context")
        inspect.signature(experiment.trial).bind(**cell, **taken)
    except TypeError as error:
        raise ValueError(f"experiment {experiment.name}, cell {cell}: {error}") from error
    return cell | taken


def _outcomes(
    experiment: Experiment,
    todo: dict[Key, dict],
    groups: list[list[Key]],
    n_jobs: int,
    backend: str,
    stop: list,
) -> Iterator[tuple[Key, _Outcome]]:
    """(key, outcome) of each trial as it ends; no new one is started once `stop` is not empty."""
    trial, many = experiment.trial, experiment.many
    pending = ((keys, [todo[key] for key in keys]) for keys in groups if not stop)
    if n_jobs == 1 and backend == "loky":
        for keys, calls in pending:
            yield from zip(keys, _attempt_together(trial, many, calls), strict=True)
        return
    import joblib

    with _backend(backend):
        # As many trials in flight as there are workers: after a failure only these are waited for.
        parallel = joblib.Parallel(
            n_jobs=n_jobs, pre_dispatch="n_jobs", batch_size=1, return_as="generator_unordered"
        )
        try:
            for keys, outcomes in parallel(
                joblib.delayed(_attempt_remotely)(keys, trial, many, calls)
                for keys, calls in pending
            ):
                yield from zip(keys, outcomes, strict=True)
        except BrokenProcessPool as error:
            raise TrialError(
                f"experiment {experiment.name}: a worker process died, most often "
                "for want of memory (try a smaller n_jobs). Rows finished before are "
                "safe; the next run goes on from them."
            ) from error


def _groups(experiment: Experiment, cells: dict[Key, Cell]) -> list[list[Key]]:
    """The keys of cells that are computed together, in the order of the cells."""
    if experiment.group is None:
        return [[key] for key in cells]
    groups: dict[Hashable, list[Key]] = {}
    for key, cell in cells.items():
        groups.setdefault(experiment.group(cell), []).append(key)
    return list(groups.values())


@contextmanager
def _backend(backend: str) -> Iterator[None]:
    import joblib

    if backend not in ("loky", "dask"):
        raise ValueError(f"backend {backend!r}: expected 'loky' (this machine) or 'dask'")
    # loky shares the cores out among its workers' thread pools unless $OMP_NUM_THREADS says
    # otherwise: more threads than cores make small trainings 8 times slower.
    # Workers whose parent was killed end when idle: after 30 s, not after joblib's 5 minutes.
    client = _dask_client() if backend == "dask" else nullcontext()
    options = {} if backend == "dask" else {"idle_worker_timeout": 30}
    with client, joblib.parallel_config(backend=backend, **options):
        yield


def _dask_client() -> Any:
    """The session's distributed client, else one of our own: at $DASK_SCHEDULER_ADDRESS or local.

    Raises ImportError when the package distributed is not installed."""
    try:
        from distributed import Client, get_client
    except ImportError as error:
        raise ImportError(
            "backend='dask' needs the package distributed, which is not installed: "
            "pip install distributed, or use backend='loky'."
        ) from error
    try:
        return nullcontext(get_client())
    except ValueError:
        return Client()


def sweep(
    experiment: Experiment | str,
    cells: Iterable[dict],
    *,
    store: Path | str | None,
    context: dict[str, Any] | None = None,
    n_jobs: int = 1,
    backend: str = "loky",
    progress: bool | None = None,
) -> pd.DataFrame:
    """Results of `cells`, in their order: stored ones are read, the others run and stored.

    cells     parameters of the trials: strings, bools, integers, floats (infinity allowed)
    store     folder of ``<name>.csv``; None computes everything and writes nothing
    context   ``{"device": …, "data_dir": …}``: each entry goes to trials that take it and is not
              part of a cell's identity
    n_jobs    trials at a time (1: in this process; -1: one a core); `backend` is joblib's name:
              "loky" (processes here) or "dask" (other machines, through distributed)
    progress  show a progress bar; default: unless ``$BOOK_PROGRESS`` is "0"

    Returns one row a cell: parameters, results, then `PROVENANCE`. Cells whose dataset is not on
    this machine have no row; ``frame.attrs["missing"]`` lists them as (cell, reason).

    Raises StoreError (file damaged, of other columns, or unwritable while cells are missing: then
    before anything is computed) and TrialError (a trial failed: finished rows are stored).
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    asked = [as_cell(cell) for cell in cells]
    if len({frozenset(cell) for cell in asked}) > 1:
        raise ValueError(f"experiment {experiment.name}: cells have different parameters")
    calls = {key_of(cell): _arguments(experiment, cell, context or {}) for cell in asked}
    by_key = {key_of(cell): cell for cell in asked}
    file = _open(experiment, store, asked)
    todo = {key: call for key, call in calls.items() if key not in file.rows}
    missing: list[tuple[Cell, str]] = []
    if todo:
        file.prepare()
        bar = _bar(experiment.name, len(calls), len(todo), progress)
        _run(experiment, todo, by_key, file, missing, n_jobs, backend, bar)
    frame = _frame(asked, file)
    frame.attrs["missing"] = missing
    return frame


def results(name: str, run: Run) -> pd.DataFrame:
    """The whole grid of an experiment at a chapter's profile, with the chapter's settings.

    A seed above 0 moves the number of every trial: an independent repetition.
    """
    experiment = get(name)
    cells = experiment.cells(run.profile)
    if run.seed:
        cells = [cell | {"trial": cell["trial"] + _TRIALS_A_SEED * run.seed} for cell in cells]
    return sweep(experiment, cells, store=run.store, context=run.context)


def _open(experiment: Experiment, store: Path | str | None, asked: list[Cell]) -> Store:
    """What is stored so far. StoreError when the stored cells have other parameters."""
    if store is None:
        return MemoryStore(Path("(memory)"), experiment.parameters_among)
    file = Store(Path(store) / f"{experiment.name}.csv", experiment.parameters_among)
    if file.read() and all(key_of(cell) in file.rows for cell in asked):
        print(f"{file.path.name}: ignored an incomplete last line (an interrupted run)")
    if file.header and asked and file.parameters != set(asked[0]):
        raise StoreError(
            f"the results file {file.path} has the parameters {sorted(file.parameters)}, but the "
            f"cells asked for have {sorted(asked[0])}. If the experiment has changed, give it a "
            "new name, or move the old file away to compute all cells anew."
        )
    return file


def _run(
    experiment: Experiment,
    todo: dict,
    by_key: dict,
    file: Store,
    missing: list,
    n_jobs: int,
    backend: str,
    bar: Any,
) -> None:
    revision, failed = _revision(), []
    groups = _groups(experiment, {key: by_key[key] for key in todo})
    with bar:
        for key, outcome in _outcomes(experiment, todo, groups, n_jobs, backend, stop=failed):
            if outcome.row is not None:
                file.append(by_key[key] | outcome.row | {"revision": revision})
            elif outcome.absent:
                missing.append((by_key[key], outcome.absent))
            else:
                failed.append((by_key[key], outcome))
                if n_jobs != 1:
                    print(f"{experiment.name}: a trial failed; waiting for those in flight")
            bar.update()
    for reason in dict.fromkeys(reason for _, reason in missing):
        count = sum(other == reason for _, other in missing)
        print(f"{experiment.name}: {count} of {len(todo)} cells not computed: {reason}")
    if failed:
        raise _trial_error(experiment, *failed[0]) from failed[0][1].error


def _trial_error(experiment: Experiment, cell: Cell, outcome: _Outcome) -> TrialError:
    error = TrialError(
        f"experiment {experiment.name}, cell {cell}: {outcome.failure.rstrip('.')}. "
        "Rows finished before are safe; the next run goes on from them."
    )
    if outcome.error is None:
        error.add_note("In the worker:\n" + outcome.traceback)
    return error


def _bar(name: str, total: int, left: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    wanted = os.environ.get("BOOK_PROGRESS") != "0" if progress is None else progress
    return tqdm(desc=name, total=total, initial=total - left, unit="cell", disable=not wanted)


def _frame(asked: list[Cell], file: Store) -> pd.DataFrame:
    rows = [file.rows[key_of(cell)] | cell for cell in asked if key_of(cell) in file.rows]
    header = file.header or [*(asked[0] if asked else ()), *PROVENANCE]
    return pd.DataFrame(rows, columns=header)


# -- audit ---------------------------------------------------------------------------------------


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
    an infinity with itself. `seed` None draws other cells each time. `cheap_only` draws only
    where ``experiment.cheap(cell)``. What cannot be checked (nothing stored, dataset not on this
    machine, not audited) is reported, never passed over.
    """
    if sample < 1:
        raise ValueError(f"audit of {sample} cells: sample must be 1 or more")
    seed = random.randrange(2**31) if seed is None else seed
    results: list[Audited] = []
    for experiment in [get(name) for name in (_all_names() if names is None else names)]:
        draw = random.Random(f"{seed}/{experiment.name}")
        results += _audit_one(experiment, Path(store), sample, draw, cheap_only, context or {})
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
    rows = _stored(experiment, store)
    if not rows:
        return unchecked(f"nothing is stored in {store}")
    parameters = experiment.parameters_among(rows[0])
    cells = [{n: v for n, v in row.items() if n in parameters} for row in rows]
    open_to_draw = [i for i, cell in enumerate(cells) if not cheap_only or experiment.cheap(cell)]
    if not open_to_draw:
        return unchecked("no stored cell is cheap")
    drawn = sorted(draw.sample(open_to_draw, min(sample, len(open_to_draw))))
    return [_audit_cell(experiment, cells[i], rows[i], context) for i in drawn]


def _stored(experiment: Experiment, store: Path) -> list[dict[str, Any]]:
    """All stored rows; the parameters are those columns that the trial takes."""
    file = Store(store / f"{experiment.name}.csv", experiment.parameters_among)
    file.read()
    return list(file.rows.values())


def _audit_cell(
    experiment: Experiment, cell: Cell, row: dict[str, Any], context: dict[str, Any]
) -> Audited:
    try:
        arguments = _arguments(experiment, cell, context)
    except ValueError as error:
        return Audited(experiment.name, cell, "differs", f"the trial does not take it: {error}")
    outcome = _attempt(experiment.trial, arguments)
    if outcome.absent:
        return Audited(experiment.name, cell, "not checked", outcome.absent)
    if outcome.row is None:
        return Audited(experiment.name, cell, "differs", f"the trial failed: {outcome.failure}")
    old, new = _numbers(row, cell), _numbers(outcome.row, cell)
    if old.keys() != new.keys():
        return Audited(
            experiment.name,
            cell,
            "differs",
            f"other columns: stored {sorted(old)}, now {sorted(new)}",
        )
    wrong = {c: (old[c], new[c]) for c in old if not _agree(old[c], new[c], experiment.allowed(c))}
    if not wrong:
        return Audited(
            experiment.name, cell, "agrees", f"{len(old)} numbers, {outcome.row['seconds']:g} s"
        )
    text = ", ".join(
        f"{c}: stored {a!r}, now {b!r} (tolerance {experiment.allowed(c):g})"
        for c, (a, b) in wrong.items()
    )
    here, then = outcome.row["data_source"], row["data_source"]
    if here != then:
        return Audited(
            experiment.name,
            cell,
            "not checked",
            f"other data: stored from {then!r}, here {here!r}; {text}",
            wrong,
        )
    return Audited(experiment.name, cell, "differs", text, wrong)


def _numbers(row: dict[str, Any], cell: Cell) -> dict[str, float]:
    return {c: v for c, v in row.items() if c not in cell and c not in PROVENANCE}


def _agree(old: float, new: float, tolerance: float) -> bool:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return True
    if not (math.isfinite(old) and math.isfinite(new)):
        return False
    return abs(new - old) <= tolerance * max(1.0, abs(old))


# -- command line --------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """``python -m helpers.sweep list | run | audit``; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        return options.command(options)
    except (StoreError, TrialError, ValueError, ImportError) as error:
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished rows are stored, the next run goes on from them", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.sweep",
        description=("Run experiments, store one row a finished trial, and check what is stored."),
    )
    commands = parser.add_subparsers(required=True, metavar="list | run | audit")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--store",
        type=Path,
        help="folder of the results (default: $BOOK_RESULTS, else book/results)",
    )
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("names", nargs="*", metavar="NAME", help="experiments")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (auto)")
    shared.add_argument("--data-dir", default="", help="where the datasets are, if anywhere")

    show = commands.add_parser("list", parents=[common], help="experiments and what is stored")
    show.set_defaults(command=_list)
    run = commands.add_parser("run", parents=[shared], help="compute the missing cells")
    run.add_argument("--all", action="store_true", help="every experiment")
    run.add_argument(
        "--profile",
        choices=PROFILES,
        required=True,
        help="which grid (smoke is stored only with --store)",
    )
    run.add_argument("--jobs", type=int, default=1, help="trials at a time (1; -1: all cores)")
    run.add_argument("--backend", default="loky", help="loky (here) or dask (other machines)")
    run.set_defaults(command=_run_command)
    check = commands.add_parser("audit", parents=[shared], help="recompute random stored cells")
    check.add_argument("--sample", type=int, default=3, help="cells per experiment (3)")
    check.add_argument("--cheap", action="store_true", help="only cells that take seconds")
    check.add_argument("--seed", type=int, help="which cells (default: others each time)")
    check.set_defaults(command=_audit_command)
    return parser


def _store_folder(options: argparse.Namespace) -> Path:
    return options.store or Path(
        os.environ.get("BOOK_RESULTS") or project_root() / "book" / "results"
    )


def _context(options: argparse.Namespace) -> dict[str, Any]:
    if options.data_dir and not os.path.isdir(options.data_dir):
        raise ValueError(f"--data-dir {options.data_dir!r} is not a folder on this machine")
    return {"device": resolve_device(options.device), "data_dir": options.data_dir or None}


def _list(options: argparse.Namespace) -> int:
    store = _store_folder(options)
    for name in names():
        experiment = get(name)
        sizes = ", ".join(f"{p} {len(experiment.cells(p))}" for p in PROFILES)
        print(
            f"{name}: {sizes} cells; {len(_stored(experiment, store))} rows stored"
            + ("" if experiment.audited else "; not audited")
        )
    return 0


def _run_command(options: argparse.Namespace) -> int:
    if bool(options.names) == options.all:
        raise ValueError("name the experiments to run, or say --all")
    # As in the chapters: what a smoke run finds is no result, and is not stored unasked.
    store = None if options.profile == "smoke" and not options.store else _store_folder(options)
    context = _context(options)
    for experiment in [get(name) for name in (names() if options.all else options.names)]:
        start = time.perf_counter()
        frame = sweep(
            experiment,
            experiment.cells(options.profile),
            store=store,
            context=context,
            n_jobs=options.jobs,
            backend=options.backend,
        )
        place = f"in {store / experiment.name}.csv" if store else "computed, not stored"
        print(
            f"{experiment.name}: {len(frame)} cells {place}, {len(frame.attrs['missing'])} "
            f"missing, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return 0


def _audit_command(options: argparse.Namespace) -> int:
    seed = random.randrange(10**6) if options.seed is None else options.seed
    store = _store_folder(options)
    print(f"audit of {store}, --seed {seed}", flush=True)
    results = audit(
        options.names or None,
        store=store,
        seed=seed,
        sample=options.sample,
        cheap_only=options.cheap,
        context=_context(options),
    )
    for r in results:
        cell = "" if r.cell is None else " " + " ".join(f"{n}={v}" for n, v in r.cell.items())
        print(f"{r.status:<12} {r.experiment}{cell}: {r.detail}")
    count = {s: sum(r.status == s for r in results) for s in ("agrees", "differs", "not checked")}
    print(", ".join(f"{number} {status}" for status, number in count.items()))
    if not count["agrees"] + count["differs"]:
        print("NOTHING COULD BE CHECKED")
    return 1 if count["differs"] else 0


if __name__ == "__main__":
    # Experiments register with the module `helpers.sweep`, which is not the same as `__main__`.
    from helpers.sweep import main as run_main

    sys.exit(run_main())
