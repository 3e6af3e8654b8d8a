"""Run the cells that no one has run yet, and store each finished row at once.

An *experiment* is a pure function ``trial(call) -> {column: number}`` and a grid of *cells*
(its parameters). `sweep` appends each finished row to ``<store>/<name>.csv``, so that a run may be
killed at any moment and started again: nothing is lost and nothing is done twice. How a results
file stays whole is told in `helpers.sweep.store`.

>>> double = Experiment("double", lambda call: {"y": 2 * call.x}, cells=lambda _: [{"x": 1.5}],
...                     tolerance=1e-9, cheap=lambda cell: True)
>>> sweep(double, [{"x": 3}, {"x": 0.1}], store=None, progress=False)[["x", "y"]].to_dict("list")
{'x': [3.0, 0.1], 'y': [6.0, 0.2]}
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.errors import StoreError
from helpers.project import Run
from helpers.sweep.registry import Experiment, get
from helpers.sweep.store import PROVENANCE, Cell, MemoryStore, Store, as_cell, key_of
from helpers.sweep.trials import Outcome, attempt, revision

_TRIALS_A_SEED = 1_000


class TrialError(RuntimeError):
    """A trial failed; the message names experiment and cell. Rows finished before it are stored."""


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

    Args:
        experiment: one of its kind, or the name of a registered one.
        cells: parameters of the trials: strings, bools, integers, floats (infinity allowed).
        store: folder of ``<name>.csv``; None computes everything and writes nothing.
        context: ``{"device": …, "data_dir": …}``, told to the trials and no part of a cell.
        n_jobs: trials at a time (1: in this process; -1: one a core).
        backend: joblib's name: "loky" (processes here) or "dask" (other machines, by distributed).
        progress: show a progress bar; None: unless ``$BOOK_PROGRESS`` is "0".

    Returns:
        One row a cell: parameters, results, then `PROVENANCE`. Cells whose dataset is not on this
        machine have no row; ``frame.attrs["missing"]`` lists them as (cell, reason).

    Raises:
        ValueError: cells with other parameters than the experiment's.
        StoreError: file damaged, of other columns, or unwritable while cells are missing: then
            before anything is computed.
        TrialError: a trial failed; finished rows are stored.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    asked, context = [as_cell(cell) for cell in cells], context or {}
    for cell in asked:
        experiment.call(cell, context)
    file = _open(experiment, store, asked)
    by_key = {key_of(cell): cell for cell in asked}
    todo = [cell for key, cell in by_key.items() if key not in file.rows]
    missing: list[tuple[Cell, str]] = []
    if todo:
        file.prepare()
        failed: list[tuple[Cell, Outcome]] = []
        outcomes = _outcomes(
            experiment, _groups(experiment, todo), context, n_jobs, backend, failed
        )
        with _bar(experiment.name, len(by_key), len(todo), progress) as bar:
            missing = _keep(experiment.name, outcomes, file, failed, bar)
        _report(experiment.name, len(todo), missing, failed)
    frame = _frame(asked, file)
    frame.attrs["missing"] = missing
    return frame


def results(name: str, run: Run, keep: Callable[[Cell], bool] = lambda cell: True) -> pd.DataFrame:
    """The grid of an experiment at a chapter's profile, with the chapter's settings.

    A seed above 0 moves the number of every trial: an independent repetition. A grid without
    trials, where nothing is drawn, stays as it is.

    Args:
        name: of the experiment.
        run: the chapter's settings.
        keep: which cells of the grid are wanted, all by default; asked before trials are moved.
    """
    experiment = get(name)
    cells = [cell for cell in experiment.cells(run.profile) if keep(cell)]
    if run.seed and "trial" in experiment.parameters:
        cells = [cell | {"trial": cell["trial"] + _TRIALS_A_SEED * run.seed} for cell in cells]
    return sweep(experiment, cells, store=run.store, context=run.context)


def _open(experiment: Experiment, store: Path | str | None, asked: list[Cell]) -> Store:
    """What is stored so far. StoreError when the stored cells have other parameters."""
    if store is None:
        return MemoryStore(Path("(memory)"), experiment.parameters)
    file = Store(Path(store) / f"{experiment.name}.csv", experiment.parameters)
    if file.read() and all(key_of(cell) in file.rows for cell in asked):
        print(f"{file.path.name}: ignored an incomplete last line (an interrupted run)")
    if file.header and asked and file.parameters != set(asked[0]):
        raise StoreError(
            f"the results file {file.path} has the parameters {sorted(file.parameters)}, but the "
            f"cells asked for have {sorted(asked[0])}. If the experiment has changed, give it a "
            "new name, or move the old file away to compute all cells anew."
        )
    return file


def _groups(experiment: Experiment, cells: list[Cell]) -> list[list[Cell]]:
    """Cells that are computed together, in the order of the cells."""
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((experiment.group or key_of)(cell), []).append(cell)
    return list(groups.values())


def _outcomes(
    experiment: Experiment,
    groups: list[list[Cell]],
    context: dict[str, Any],
    n_jobs: int,
    backend: str,
    stop: list,
) -> Iterator[tuple[Cell, Outcome]]:
    """(cell, outcome) of each trial as it ends; no new one is started once `stop` is not empty."""
    pending = (cells for cells in groups if not stop)
    if n_jobs == 1 and backend == "loky":
        for cells in pending:
            yield from zip(cells, attempt(experiment, cells, context), strict=True)
        return
    import joblib

    with _backend(backend):
        # As many trials in flight as there are workers: after a failure only these are waited for.
        parallel = joblib.Parallel(
            n_jobs=n_jobs, pre_dispatch="n_jobs", batch_size=1, return_as="generator_unordered"
        )
        remote = joblib.delayed(_attempt_remotely)
        try:
            for ended in parallel(remote(experiment, cells, context) for cells in pending):
                yield from ended
        except BrokenProcessPool as error:
            raise TrialError(
                f"experiment {experiment.name}: a worker process died, most often "
                "for want of memory (try a smaller n_jobs). Rows finished before are "
                "safe; the next run goes on from them."
            ) from error


def _attempt_remotely(
    experiment: Experiment, cells: list[Cell], context: dict[str, Any]
) -> list[tuple[Cell, Outcome]]:
    """`attempt` in a worker: nothing travels back that might not be picklable."""
    outcomes = attempt(experiment, cells, context)
    return [(cell, replace(o, error=None)) for cell, o in zip(cells, outcomes, strict=True)]


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

    Raises:
        ImportError: the package distributed is not installed.
    """
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


def _keep(
    name: str,
    outcomes: Iterable[tuple[Cell, Outcome]],
    file: Store,
    failed: list[tuple[Cell, Outcome]],
    bar: Any,
) -> list[tuple[Cell, str]]:
    """Store rows as they come and note failures in `failed`; returns the cells without data."""
    code, missing = revision(), []
    for cell, outcome in outcomes:
        if outcome.row is not None:
            file.append(cell | outcome.row | {"revision": code})
        elif outcome.absent:
            missing.append((cell, outcome.absent))
        else:
            failed.append((cell, outcome))
            if outcome.error is None:
                print(f"{name}: a trial failed; waiting for those in flight")
        bar.update()
    return missing


def _report(
    name: str, todo: int, missing: list[tuple[Cell, str]], failed: list[tuple[Cell, Outcome]]
) -> None:
    """Say what is missing, once a reason; TrialError for the first failure."""
    for reason in dict.fromkeys(reason for _, reason in missing):
        count = sum(other == reason for _, other in missing)
        print(f"{name}: {count} of {todo} cells not computed: {reason}")
    if failed:
        cell, outcome = failed[0]
        error = TrialError(
            f"experiment {name}, cell {cell}: {outcome.failure.rstrip('.')}. "
            "Rows finished before are safe; the next run goes on from them."
        )
        if outcome.error is None:
            error.add_note("In the worker:\n" + outcome.traceback)
        raise error from outcome.error


def _bar(name: str, total: int, left: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    wanted = os.environ.get("BOOK_PROGRESS") != "0" if progress is None else progress
    return tqdm(desc=name, total=total, initial=total - left, unit="cell", disable=not wanted)


def _frame(asked: list[Cell], file: Store) -> pd.DataFrame:
    rows = [file.rows[key_of(cell)] | cell for cell in asked if key_of(cell) in file.rows]
    header = file.header or [*(asked[0] if asked else ()), *PROVENANCE]
    return pd.DataFrame(rows, columns=header)
