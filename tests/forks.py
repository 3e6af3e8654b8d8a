"""Processes that have the libraries already: forks of one that has imported them.

To import torch, scipy, pandas, scikit-learn and matplotlib takes as long as many a chapter. Each
process of the tests has a server that does it once; a fork of it can be the kernel of a notebook,
or execute one without a kernel. The package itself is imported by each fork.

Many chapters show the same experiments. Within one run of the tests, what one fork has computed
others take from it as long as their package computes the same: a planted bug that an experiment
reaches gives it another code, and so another table.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, partialmethod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIBRARIES = [
    "ipykernel.kernelapp", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "nbformat",
    "pandas", "scipy.optimize", "scipy.sparse.linalg", "scipy.special", "scipy.stats",
    "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection", "torch", "torch.func",
    "torchvision.models",
]  # fmt: skip

# names the folder with the tables of this run of the tests
ROWS = "BOOK_ROWS_OF_TESTS"


class Fork:
    """A process that calls a function with one end of a pipe, and has the other."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        # on a Mac, not every library survives a fork: there, each process imports its own
        kind = "forkserver" if sys.platform == "linux" else "spawn"
        processes = multiprocessing.get_context(kind)
        processes.set_forkserver_preload(LIBRARIES)
        self.pipe, there = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_begin, args=(function, there, *arguments))
        self.process.start()
        there.close()
        # leads a group of its own from here on: who ends the group does not end the tests
        assert self.pipe.recv() == self.process.pid

    def close(self) -> None:
        """End it, and what it has started."""
        self.pipe.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def _begin(function: Callable[..., None], there: Connection, *arguments: Any) -> None:
    os.setsid()
    there.send(os.getpid())
    function(there, *arguments)


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


# -- kernels ---------------------------------------------------------------------------------------


class Kernel:
    """The process of a kernel, with what jupyter_client uses of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, words: list[str], cwd: str | None, env: Mapping[str, str]) -> None:
        self._fork = Fork(_serve, words[words.index("-f") :], cwd or os.getcwd(), dict(env))
        self.pid = self._fork.process.pid

    def poll(self) -> int | None:
        return self._fork.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._fork.process.join(timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    kill = partialmethod(send_signal, number=signal.SIGKILL)
    terminate = partialmethod(send_signal, number=signal.SIGTERM)


def _serve(there: Connection, words: list[str], cwd: str, env: dict[str, str]) -> None:
    from ipykernel import kernelapp

    there.close()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as nbval has it
    os.chdir(cwd)
    os.environ.clear()
    # a kernel ends with its parent, which here is the server
    os.environ |= env | {"JPY_PARENT_PID": str(os.getppid())}
    share_rows()
    sys.argv[1:] = words
    kernelapp.launch_new_instance()


def kernels_of_nbval() -> None:
    """Have nbval fork its kernels; those that others start are processes from scratch."""
    from jupyter_client.provisioning import local_provisioner
    from nbval import kernel

    launch = local_provisioner.launch_kernel

    def launched(cmd: list[str], *, forked: bool = False, **options: Any) -> Any:
        if forked:
            return Kernel(cmd, options.get("cwd"), options.get("env") or os.environ)
        return launch(cmd, **options)

    local_provisioner.launch_kernel = launched
    kernel.start_new_kernel = partial(kernel.start_new_kernel, forked=True)
