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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import StoreError
from helpers.project import Run
from helpers.sweep.course import Course, Terms
from helpers.sweep.registry import Experiment, get
from helpers.sweep.store import PROVENANCE, Cell, MemoryStore, Store, as_cell, key_of
from helpers.sweep.trials import TrialError, revision
from helpers.sweep.workers import Here, Pool

if TYPE_CHECKING:
    import pandas as pd

_TRIALS_A_SEED = 1_000


def sweep(
    experiment: Experiment | str,
    cells: Iterable[dict],
    *,
    store: Path | str | None,
    context: dict[str, Any] | None = None,
    n_jobs: int = 1,
    backend: str = "local",
    progress: bool | None = None,
    terms: Terms | None = None,
    scheduler: str = "",
) -> "pd.DataFrame":
    """Results of `cells`, in their order: stored ones are read, the others run and stored.

    Args:
        experiment: one of its kind, or the name of a registered one.
        cells: parameters of the trials: strings, bools, integers, floats (infinity allowed).
        store: folder of ``<name>.csv``; None computes everything and writes nothing.
        context: ``{"device": …, "data_dir": …}``, told to the trials and no part of a cell.
        n_jobs: trials at a time (1: in this process unless there are `terms`; -1: one a core).
        backend: "local" (processes here) or "dask" (other machines, see `helpers.sweep.cluster`).
        progress: show a progress bar; None: unless ``$BOOK_PROGRESS`` is "0".
        terms: for runs that nobody watches: limits of time, and a trial that fails keeps no other
            from running. None: the first failure ends the sweep.
        scheduler: address for "dask"; "": the session's client, or ``$DASK_SCHEDULER_ADDRESS``.

    Returns:
        One row a cell: parameters, results, then `PROVENANCE`. Cells whose dataset is not on this
        machine have no row; ``frame.attrs["missing"]`` lists them as (cell, reason), and
        ``frame.attrs["left"]`` counts those that the time did not suffice for.

    Raises:
        ValueError: cells with other parameters than the experiment's.
        StoreError: file damaged, of other parameters, or unwritable while cells are missing: then
            before anything is computed. One that becomes unwritable: when what is in flight has
            ended; the message says where finished rows are.
        TrialError: trials failed, or returned what does not fit the table; finished rows are
            stored.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    asked, context = [as_cell(cell) for cell in cells], context or {}
    for cell in asked:
        experiment.call(cell, context)
    file = _open(experiment, store, asked)
    by_key = {key_of(cell): cell for cell in asked}
    todo = [cell for key, cell in by_key.items() if key not in file.rows]
    missing, left = list[tuple[Cell, str]](), 0
    if todo:
        file.prepare()
        executor = _executor(n_jobs, backend, terms, scheduler)
        with _bar(experiment.name, len(by_key), len(todo), progress) as bar:
            course = Course(experiment, context, file, executor, terms, revision(), bar)
            course.run(todo, [*by_key.values()])
        left, missing = len(course.left), course.missing
        _report(experiment.name, course)
    frame = _frame(asked, file)
    frame.attrs.update(missing=missing, left=left)
    return frame


def results(
    name: str, run: Run, keep: Callable[[Cell], bool] = lambda cell: True
) -> "pd.DataFrame":
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


def _executor(jobs: int, backend: str, terms: Terms | None, scheduler: str) -> Any:
    """Where groups are computed; ValueError for a backend that there is not."""
    if backend == "dask":
        from helpers.sweep.cluster import Cluster

        return Cluster(scheduler)
    if backend != "local":
        raise ValueError(f"backend {backend!r}: expected 'local' (this machine) or 'dask'")
    return Here() if jobs == 1 and terms is None else Pool(jobs)


def _report(name: str, course: Course) -> None:
    """Say what is missing, once a reason; TrialError names what failed."""
    for reason in dict.fromkeys(reason for _, reason in course.missing):
        count = sum(other == reason for _, other in course.missing)
        print(f"{name}: {count} of {course.asked} cells not computed: {reason}")
    if course.left:
        print(f"{name}: the time was up, {len(course.left)} cells are left for the next run")
    if not course.failed:
        return
    told = [f"cell {cell}: {outcome.failure.rstrip('.')}" for cell, outcome in course.failed]
    safe = "Rows finished before are safe; the next run goes on from them."
    cell, outcome = course.failed[0]
    if len(told) == 1 or course.strict:
        error = TrialError(f"experiment {name}, {told[0]}. {safe}")
    else:
        error = TrialError(f"experiment {name}: {len(told)} of {course.asked} cells failed. {safe}")
        for line in told:
            error.add_note(f"  {line}")
    if outcome.error is None and outcome.traceback and course.untold:
        error.add_note("In the worker:\n" + outcome.traceback)
    raise error from outcome.error


def _bar(name: str, total: int, left: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    wanted = os.environ.get("BOOK_PROGRESS") != "0" if progress is None else progress
    return tqdm(desc=name, total=total, initial=total - left, unit="cell", disable=not wanted)


def _frame(asked: list[Cell], file: Store) -> "pd.DataFrame":
    import pandas as pd  # here, since workers, which import this module, need none

    rows = [file.rows[key_of(cell)] | cell for cell in asked if key_of(cell) in file.rows]
    header = file.header or [*(asked[0] if asked else ()), *PROVENANCE]
    return pd.DataFrame(rows, columns=header)
