"""Kernels of nbval that have the libraries already, and rows that chapters share.

Many chapters show the same experiments. Within one run of the tests, what one process has computed
others take from it as long as their package computes the same: a planted bug that an experiment
reaches gives it another code, and so another table.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from helpers.book.forks import LIBRARIES, Kernel

# pandas decides when it is imported how wide tables are printed; the checks of replays are numbers
LIBRARIES += ["pandas", "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection"]
# names the folder with the tables of this run of the tests
ROWS = "BOOK_ROWS_OF_TESTS"


def share_rows() -> None:
    """Have chapters that compute on a small scale keep their rows in `$BOOK_ROWS_OF_TESTS`."""
    from helpers.sweep import run

    compute = run.sweep

    def sweep(experiment: Any, cells: Any, *, store: Any, **options: Any) -> Any:
        if store is None and experiment.code and os.environ.get(ROWS):
            store = Path(os.environ[ROWS], experiment.code)
            store.mkdir(parents=True, exist_ok=True)
        return compute(experiment, cells, store=store, **options)

    run.sweep = sweep  # what `results` calls; what a chapter itself calls stays as it is


def kernels_of_nbval() -> None:
    """Have nbval fork its kernels; those that others start are processes from scratch."""
    from jupyter_client.provisioning import local_provisioner
    from nbval import kernel

    launch = local_provisioner.launch_kernel

    def launched(cmd: list[str], *, forked: bool = False, **options: Any) -> Any:
        if forked:
            env = options.get("env") or os.environ
            return Kernel(cmd, options.get("cwd"), env, prepare=share_rows)
        return launch(cmd, **options)

    local_provisioner.launch_kernel = launched
    kernel.start_new_kernel = partial(kernel.start_new_kernel, forked=True)
