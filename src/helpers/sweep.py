"""Experiments, the stored results of their trials, and the audit of what is stored.

An *experiment* is a pure function ``trial(**cell) -> {column: number}`` and a grid of *cells*
(its parameters). `sweep` runs the cells that no one has run yet and appends each finished row to
``<store>/<name>.csv`` at once, so that a run may be killed at any moment and started again:
nothing is lost and nothing is done twice. `audit` recomputes randomly drawn stored cells and
compares, so that a stored number is a cache that anyone can check.

One file is one table: a header, then one line a trial with its parameters, its results and its
provenance (`PROVENANCE`). How it stays whole:

* a row is one ``write`` to a file opened with ``O_APPEND``, under an exclusive ``flock``, followed
  by ``fsync``; the lock dies with its process, so there is never a stale one;
* no field contains a line break, so that a last line without ``\\n`` is a torn one: reading
  ignores it, writing first truncates it, and its cell is computed again;
* a row whose cell another process has stored meanwhile is not written twice.

Run ``python -m helpers.sweep --help`` for the command line.

>>> double = Experiment("double", lambda x: {"y": 2 * x}, cells=lambda profile: [{"x": 1.5}],
...                     tolerance=1e-9, cheap=lambda cell: True)
>>> sweep(double, [{"x": 3}, {"x": 0.1}], store=None, progress=False)[["x", "y"]].to_dict("records")
[{'x': 3.0, 'y': 6.0}, {'x': 0.1, 'y': 0.2}]
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import importlib
import importlib.metadata
import inspect
import io
import json
import math
import os
import pkgutil
import platform
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.chapter import PROFILES, Run, project_root, resolve_device

PROVENANCE = ("data_source", "device", "seconds", "versions", "date", "revision")
_TEXT = ("data_source", "device", "versions", "date", "revision")

Scalar = str | int | float | bool
Cell = dict[str, Scalar]
Key = tuple[tuple[str, Any], ...]


class StoreError(RuntimeError):
    """A results file cannot be used: unreadable, unwritable, or not of this experiment's shape."""


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
    audited    False: the audit leaves this experiment out (and says so).
    """

    name: str
    trial: Callable[..., dict[str, Any]]
    cells: Callable[[str], list[Cell]]
    tolerance: float | dict[str, float]
    cheap: Callable[[Cell], bool]
    audited: bool = True

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ValueError(f"experiment name {self.name!r}: use letters, digits, '-' and '_', "
                             "since it names the results file")
        kinds = {p.kind for p in inspect.signature(self.trial).parameters.values()}
        if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
            raise ValueError(f"experiment {self.name}: trial must name each of its parameters")
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
        raise ValueError(f"two experiments are called {experiment.name!r}: {_origin(known.trial)} "
                         f"and {_origin(experiment.trial)}")
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


# -- values and keys -----------------------------------------------------------------------------


def encode(value: Scalar) -> str:
    """One field of the file, on one line, such that ``decode(encode(value))`` is `value` exactly.

    Strings stay bare unless they would read as something else; those are written as JSON.

    >>> [encode(v) for v in (1, 1.0, 0.1, float("inf"), True, "relu", "1")]
    ['1', '1.0', '0.1', 'inf', 'True', 'relu', '"1"']
    """
    if not isinstance(value, str):
        return repr(value)
    bare = value.isprintable() and not value.startswith('"') and isinstance(decode(value), str)
    return value if bare else json.dumps(value)


def decode(text: str) -> Scalar:
    """The value of one field; ValueError when it starts like JSON text and is not."""
    if text in ("True", "False"):
        return text == "True"
    if text.startswith('"'):
        return json.loads(text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _decode_number(text: str) -> int | float:
    value = decode(text)
    if isinstance(value, bool | str):
        raise ValueError(f"{text!r} is not a number")
    return value


def _plain(value: Any) -> Any:
    """numpy and torch scalars (also 0-dimensional arrays) as Python ones, the rest as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _as_cell(cell: dict[str, Any]) -> Cell:
    plain = {name: _plain(value) for name, value in cell.items()}
    for name, value in plain.items():
        if not isinstance(value, str | int | float) or value != value:
            raise ValueError(f"cell {cell}: parameter {name!r} is {value!r}; parameters are "
                             "strings, bools, integers and floats (infinity allowed, nan not)")
        if name in PROVENANCE:
            raise ValueError(f"cell {cell}: {name!r} is a provenance column, not a parameter")
    return plain


def _key(cell: Cell) -> Key:
    """Equal for equal cells: 1 and 1.0 are one value; 1, True and "1" are three."""
    return tuple((name, ("bool", cell[name]) if isinstance(cell[name], bool) else cell[name])
                 for name in sorted(cell))


def _as_results(results: Any, reserved: frozenset[str]) -> tuple[dict[str, int | float], str]:
    """Checked numbers of one trial, and its data source. Raises TypeError or ValueError."""
    if not isinstance(results, dict):
        raise TypeError(f"the trial returned {type(results).__name__}, not a dict of numbers")
    values = {name: _plain(value) for name, value in results.items()}
    source = values.pop("data_source", "")
    if not isinstance(source, str):
        raise TypeError(f"data_source is {source!r}, not a string")
    for name, value in values.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            raise TypeError(f"result name {name!r} cannot head a column")
        if not isinstance(value, int | float):
            raise TypeError(f"result {name!r} is {type(value).__name__} {value!r}, not a number")
        if name in reserved:
            raise ValueError(f"result {name!r} has the name of a parameter or provenance column")
    return {n: int(v) if isinstance(v, bool) else v for n, v in values.items()}, source


# -- the file ------------------------------------------------------------------------------------


class Store:
    """The results file of one experiment. `rows`: key of the cell -> {column: value}.

    `parameters_among` tells which of the header's columns are parameters."""

    def __init__(self, path: Path, parameters_among: Callable[[Iterable[str]], frozenset[str]]):
        self.path = path
        self.parameters_among = parameters_among
        self.header: list[str] = []
        self.rows: dict[Key, dict[str, Any]] = {}
        self._seen = b""

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that the file has columns for."""
        return self.parameters_among(self.header)

    def read(self) -> bool:
        """Read what is stored, touching nothing; True when a torn last line was left out."""
        try:
            # Shared with other readers; a writer in the middle of its row is waited for.
            with _locked(self.path, os.O_RDONLY, fcntl.LOCK_SH) as fd:
                return self._absorb(fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"cannot read the results file {self.path}: {error.strerror}"
                             ) from error

    def prepare(self) -> None:
        """Make sure that rows can be written: create the folder, drop a torn last line.

        Raises StoreError when they cannot. Leaves no empty file behind."""
        folder = self.path.parent
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                print(f"created the results folder {folder}")
            if not self.path.exists():
                tempfile.TemporaryFile(dir=folder).close()
                return
            with self._writing():
                pass
        except OSError as error:
            raise StoreError(
                f"cells are missing from {self.path} and it cannot be written "
                f"({error.strerror}); nothing was computed. Make the folder writable, choose "
                "another one (BOOK_RESULTS), or pass store=None to compute without storing."
            ) from error

    def append(self, row: dict[str, Any]) -> None:
        """Store one finished trial, unless its cell is stored by now.

        Raises StoreError when the columns differ from the header's or the row cannot be written;
        what is stored stays as it was."""
        try:
            with self._writing() as fd:
                self._append(fd, row)
        except OSError as error:
            raise StoreError(f"cannot write to {self.path} ({error.strerror}). Rows stored before "
                             f"are safe; this one is not stored: {row}") from error

    def _append(self, fd: int, row: dict[str, Any]) -> None:
        self._check_columns(row)
        columns = self.header or list(row)
        if self.key(row) in self.rows:
            return
        lines = [] if self.header else [columns]
        lines.append([encode(row[column]) for column in columns])
        _write(fd, _csv(lines))
        self._absorb(fd)

    def key(self, row: dict[str, Any]) -> Key:
        """The identity of a row's cell."""
        return _key({name: row[name] for name in self.parameters_among(row)})

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The file, open and locked for one change, with its torn last line gone."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with _locked(self.path, flags, fcntl.LOCK_EX) as fd:
            if self._absorb(fd):
                os.ftruncate(fd, len(self._seen))
                print(f"{self.path.name}: dropped an incomplete last line (an interrupted run); "
                      "its cell counts as not yet computed")
            yield fd

    def _absorb(self, fd: int) -> bool:
        """Take in what the file holds beyond what was read before; True when a torn line is left.

        A file that was replaced meanwhile (by git, say) is read again from its beginning."""
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if not whole.startswith(self._seen):
            self.header, self.rows, self._seen = [], {}, b""
        first = self._seen.count(b"\n") + 1
        for number, line in enumerate(whole[len(self._seen):].split(b"\n")[:-1], start=first):
            self._take(number, line)
        self._seen = whole
        return len(data) > len(whole)

    def _take(self, number: int, line: bytes) -> None:
        try:
            fields = next(csv.reader([line.decode("utf-8")], strict=True), [])
            if number == 1:
                self._take_header(fields)
            else:
                self._take_row(fields)
        except (ValueError, csv.Error) as error:
            raise StoreError(
                f"the results file {self.path} is damaged in line {number}: {error}. Nothing was "
                "changed. Restore the file from git, or delete that line, whose cell will then be "
                "computed again.") from error

    def _take_header(self, fields: list[str]) -> None:
        if len(set(fields)) != len(fields):
            raise ValueError("a column appears twice in the header")
        absent = [column for column in PROVENANCE if column not in fields]
        if absent:
            raise ValueError(f"the header lacks the columns {', '.join(absent)}")
        self.header = fields

    def _take_row(self, fields: list[str]) -> None:
        if len(fields) != len(self.header):
            raise ValueError(f"{len(fields)} fields where the header has {len(self.header)}")
        texts = {*self.parameters, *_TEXT}
        row = {column: decode(field) if column in texts else _decode_number(field)
               for column, field in zip(self.header, fields, strict=True)}
        if self.key(row) in self.rows:
            raise ValueError("its cell is already stored in an earlier line")
        self.rows[self.key(row)] = row

    def _check_columns(self, row: dict[str, Any]) -> None:
        columns, header = set(row), set(self.header)
        if header and columns != header:
            raise StoreError(
                f"the results in {self.path} have other columns than this trial returned: only in "
                f"the file: {sorted(header - columns) or 'none'}; only in the new row: "
                f"{sorted(columns - header) or 'none'}. If the experiment has changed, give it a "
                "new name, or move the old file away to compute all cells anew.")


class _Memory(Store):
    """A store without a file, for ``store=None``."""

    def read(self) -> bool:
        return False

    def prepare(self) -> None:
        pass

    def append(self, row: dict[str, Any]) -> None:
        self._check_columns(row)
        self.header = self.header or list(row)
        self.rows[self.key(row)] = row


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o666)
    try:
        fcntl.flock(fd, lock)
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    """Append all of `data`, or nothing and OSError (a full disk takes what fits, then fails)."""
    size = os.fstat(fd).st_size
    try:
        while data:
            data = data[os.write(fd, data):]
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise


def _csv(lines: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue().encode("utf-8")


# -- provenance ----------------------------------------------------------------------------------


def describe_device(device: str = "cpu") -> str:
    """What computes: the GPU's name for ``cuda…``, else the CPU's model and usable cores.

    ``auto`` means the GPU when torch is loaded and sees one; torch is imported for ``cuda`` only.
    """
    if device == "auto":
        torch = sys.modules.get("torch")
        device = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()}, {cores} core{'s' if cores != 1 else ''}"


@cache
def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
        return subprocess.run(["git", "-C", str(Path(__file__).parent), *arguments],
                              capture_output=True, text=True, check=True).stdout.strip()
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
    start = time.perf_counter()
    try:
        results, source = _as_results(trial(**arguments), _taken_by(trial) | set(PROVENANCE))
    except Exception as error:
        if _is_absent_dataset(error):
            return _Outcome(absent=str(error))
        return _Outcome(failure=f"{type(error).__name__}: {error}",
                        traceback=traceback.format_exc(), error=error)
    seconds = round(time.perf_counter() - start, 3)
    return _Outcome(row=results | {
        "data_source": source, "device": describe_device(str(arguments.get("device") or "cpu")),
        "seconds": seconds, "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})


def _is_absent_dataset(error: Exception) -> bool:
    # Whoever raised DatasetNotFound has imported its module (which needs torch; this one does not).
    data = sys.modules.get("helpers.data")
    return data is not None and isinstance(error, data.DatasetNotFound)


def _attempt_remotely(key: Key, trial: Callable, arguments: dict) -> tuple[Key, _Outcome]:
    """`_attempt` in a worker: nothing travels back that might not be picklable."""
    outcome = _attempt(trial, arguments)
    return key, replace(outcome, error=None)


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


def _outcomes(experiment: Experiment, todo: dict[Key, dict], n_jobs: int, backend: str,
              stop: list) -> Iterator[tuple[Key, _Outcome]]:
    """(key, outcome) of each trial as it ends; no new one is started once `stop` is not empty."""
    pending = ((key, arguments) for key, arguments in todo.items() if not stop)
    if n_jobs == 1 and backend == "loky":
        for key, arguments in pending:
            yield key, _attempt(experiment.trial, arguments)
        return
    import joblib

    with _backend(backend):
        # As many trials in flight as there are workers: after a failure only these are waited for.
        parallel = joblib.Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs", batch_size=1,
                                   return_as="generator_unordered")
        try:
            yield from parallel(joblib.delayed(_attempt_remotely)(key, experiment.trial, arguments)
                                for key, arguments in pending)
        except BrokenProcessPool as error:
            raise TrialError(f"experiment {experiment.name}: a worker process died, most often "
                             "for want of memory (try a smaller n_jobs). Rows finished before are "
                             "safe; the next run goes on from them.") from error


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
        raise ImportError("backend='dask' needs the package distributed, which is not installed: "
                          "pip install distributed, or use backend='loky'.") from error
    try:
        return nullcontext(get_client())
    except ValueError:
        return Client()


def sweep(experiment: Experiment | str, cells: Iterable[dict], *, store: Path | str | None,
          context: dict[str, Any] | None = None, n_jobs: int = 1, backend: str = "loky",
          progress: bool | None = None) -> pd.DataFrame:
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
    asked = [_as_cell(cell) for cell in cells]
    if len({frozenset(cell) for cell in asked}) > 1:
        raise ValueError(f"experiment {experiment.name}: cells have different parameters")
    calls = {_key(cell): _arguments(experiment, cell, context or {}) for cell in asked}
    by_key = {_key(cell): cell for cell in asked}
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
    """The whole grid of an experiment at a chapter's profile: `sweep` with the chapter's settings."""
    experiment = get(name)
    return sweep(experiment, experiment.cells(run.profile), store=run.store, context=run.context)


def _open(experiment: Experiment, store: Path | str | None, asked: list[Cell]) -> Store:
    """What is stored so far. StoreError when the stored cells have other parameters."""
    if store is None:
        return _Memory(Path("(memory)"), experiment.parameters_among)
    file = Store(Path(store) / f"{experiment.name}.csv", experiment.parameters_among)
    if file.read() and all(_key(cell) in file.rows for cell in asked):
        print(f"{file.path.name}: ignored an incomplete last line (an interrupted run)")
    if file.header and asked and file.parameters != set(asked[0]):
        raise StoreError(
            f"the results file {file.path} has the parameters {sorted(file.parameters)}, but the "
            f"cells asked for have {sorted(asked[0])}. If the experiment has changed, give it a "
            "new name, or move the old file away to compute all cells anew.")
    return file


def _run(experiment: Experiment, todo: dict, by_key: dict, file: Store, missing: list,
         n_jobs: int, backend: str, bar: Any) -> None:
    revision, failed = _revision(), []
    with bar:
        for key, outcome in _outcomes(experiment, todo, n_jobs, backend, stop=failed):
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
    error = TrialError(f"experiment {experiment.name}, cell {cell}: {outcome.failure.rstrip('.')}. "
                       "Rows finished before are safe; the next run goes on from them.")
    if outcome.error is None:
        error.add_note("In the worker:\n" + outcome.traceback)
    return error


def _bar(name: str, total: int, left: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    wanted = os.environ.get("BOOK_PROGRESS") != "0" if progress is None else progress
    return tqdm(desc=name, total=total, initial=total - left, unit="cell", disable=not wanted)


def _frame(asked: list[Cell], file: Store) -> pd.DataFrame:
    rows = [file.rows[_key(cell)] | cell for cell in asked if _key(cell) in file.rows]
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


def audit(names: Iterable[str] | None = None, *, store: Path | str, sample: int = 3,
          seed: int | None = None, cheap_only: bool = False,
          context: dict[str, Any] | None = None) -> list[Audited]:
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


def _audit_one(experiment: Experiment, store: Path, sample: int, draw: random.Random,
               cheap_only: bool, context: dict[str, Any]) -> list[Audited]:
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


def _audit_cell(experiment: Experiment, cell: Cell, row: dict[str, Any],
                context: dict[str, Any]) -> Audited:
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
        return Audited(experiment.name, cell, "differs", "other columns: stored "
                       f"{sorted(old)}, now {sorted(new)}")
    wrong = {c: (old[c], new[c]) for c in old if not _agree(old[c], new[c], experiment.allowed(c))}
    if not wrong:
        return Audited(experiment.name, cell, "agrees", f"{len(old)} numbers, "
                       f"{outcome.row['seconds']:g} s")
    text = ", ".join(f"{c}: stored {a!r}, now {b!r} (tolerance {experiment.allowed(c):g})"
                     for c, (a, b) in wrong.items())
    here, then = outcome.row["data_source"], row["data_source"]
    if here != then:
        return Audited(experiment.name, cell, "not checked",
                       f"other data: stored from {then!r}, here {here!r}; {text}", wrong)
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
    parser = argparse.ArgumentParser(prog="python -m helpers.sweep", description=(
        "Run experiments, store one row a finished trial, and check what is stored."))
    commands = parser.add_subparsers(required=True, metavar="list | run | audit")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", type=Path, help="folder of the results (default: "
                        "$BOOK_RESULTS, else book/results)")
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("names", nargs="*", metavar="NAME", help="experiments")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (auto)")
    shared.add_argument("--data-dir", default="", help="where the datasets are, if anywhere")

    show = commands.add_parser("list", parents=[common], help="experiments and what is stored")
    show.set_defaults(command=_list)
    run = commands.add_parser("run", parents=[shared], help="compute the missing cells")
    run.add_argument("--all", action="store_true", help="every experiment")
    run.add_argument("--profile", choices=PROFILES, required=True,
                     help="which grid (smoke is stored only with --store)")
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
    return options.store or Path(os.environ.get("BOOK_RESULTS")
                                 or project_root() / "book" / "results")


def _context(options: argparse.Namespace) -> dict[str, Any]:
    if options.data_dir and not os.path.isdir(options.data_dir):
        raise ValueError(f"--data-dir {options.data_dir!r} is not a folder on this machine")
    return {"device": resolve_device(options.device), "data_dir": options.data_dir or None}


def _list(options: argparse.Namespace) -> int:
    store = _store_folder(options)
    for name in names():
        experiment = get(name)
        sizes = ", ".join(f"{p} {len(experiment.cells(p))}" for p in PROFILES)
        print(f"{name}: {sizes} cells; {len(_stored(experiment, store))} rows stored"
              + ("" if experiment.audited else "; not audited"))
    return 0


def _run_command(options: argparse.Namespace) -> int:
    if bool(options.names) == options.all:
        raise ValueError("name the experiments to run, or say --all")
    # As in the chapters: what a smoke run finds is no result, and is not stored unasked.
    store = None if options.profile == "smoke" and not options.store else _store_folder(options)
    context = _context(options)
    for experiment in [get(name) for name in (names() if options.all else options.names)]:
        start = time.perf_counter()
        frame = sweep(experiment, experiment.cells(options.profile), store=store, context=context,
                      n_jobs=options.jobs, backend=options.backend)
        place = f"in {store / experiment.name}.csv" if store else "computed, not stored"
        print(f"{experiment.name}: {len(frame)} cells {place}, {len(frame.attrs['missing'])} "
              f"missing, {time.perf_counter() - start:.0f} s", flush=True)
    return 0


def _audit_command(options: argparse.Namespace) -> int:
    seed = random.randrange(10**6) if options.seed is None else options.seed
    store = _store_folder(options)
    print(f"audit of {store}, --seed {seed}", flush=True)
    results = audit(options.names or None, store=store, seed=seed,
                    sample=options.sample, cheap_only=options.cheap, context=_context(options))
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
