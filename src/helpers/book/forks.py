"""Kernels that have the libraries already: forks of one process that has imported them.

To import torch, scipy and matplotlib takes as long as many a chapter. Who runs all chapters has a
server that does it once, in the environment of the kernels; each kernel is a fork of it, and
imports this package itself.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partialmethod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from helpers.book.children import Child

NAME = "helpers-forks"  # of the provisioner, as in pyproject.toml
# neither the backend of notebooks nor pandas: what they do is decided when they are imported, by
# whether they are in a kernel; nor scikit-learn, which imports pandas
LIBRARIES = [
    "ipykernel.kernelapp", "matplotlib.pyplot", "nbformat", "scipy.optimize",
    "scipy.sparse.linalg", "scipy.special", "scipy.stats", "torch", "torch.func",
    "torchvision.models",
]  # fmt: skip
_OWN = str(Path(__file__).resolve().parents[2])  # where this package is imported from
_server: dict[str, str] = {}  # the environment in which it began


class Fork(Child):
    """A `Child` that has the libraries: on Linux, a fork of the process that imports them first.

    On a Mac, not every library survives a fork: there, each process imports its own.
    """

    kind = "forkserver" if sys.platform == "linux" else "spawn"

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        multiprocessing.get_context(self.kind).set_forkserver_preload(LIBRARIES)
        if not _server:
            _server.update(os.environ)
        super().__init__(function, *arguments)


def as_fresh() -> bool:
    """Whether a kernel that is forked now would be as one in a new process.

    On Linux it is, apart from what is registered to run at its end, if the libraries have been
    imported in this very environment, and this process has no settings that it would hand on.
    """
    usual = ("", _OWN, os.getcwd())
    foreign = [
        place
        for place in sys.path
        if place not in usual and not place.startswith((sys.prefix, sys.base_prefix))
    ]
    plain = not (foreign or sys.flags.optimize or sys.warnoptions)
    return sys.platform == "linux" and plain and _server in ({}, dict(os.environ))


class Kernel:
    """The process of a kernel, with what jupyter_client uses of `subprocess.Popen`.

    Args:
        words: the command that would start it.
        cwd, env: folder and environment.
        log: where it writes what is meant for a screen.
        prepare: called in it before it begins.
    """

    stdin = stdout = stderr = None

    def __init__(
        self,
        words: list[str],
        cwd: str | None,
        env: Mapping[str, str],
        log: str = os.devnull,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        told = words[words.index("-f") :]
        self._fork = Fork(_serve, told, str(cwd or os.getcwd()), dict(env), log, prepare)
        self.pid = self._fork.process.pid

    def poll(self) -> int | None:
        """Its exit status; None as long as it runs."""
        return self._fork.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; its exit status."""
        self._fork.process.join(timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._fork.send_signal(number)

    kill = partialmethod(send_signal, number=signal.SIGKILL)
    terminate = partialmethod(send_signal, number=signal.SIGTERM)


def _serve(
    there: Connection,
    words: list[str],
    cwd: str,
    env: dict[str, str],
    log: str,
    prepare: Callable[[], None] | None,
) -> None:
    from ipykernel import kernelapp

    gc.freeze()  # the libraries stay: garbage collection need not look at them again and again
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
    # as in a new process: not the folder of whoever started the server, nor what made this fork
    sys.path[:] = [_OWN, *(place for place in sys.path if place not in ("", _OWN, os.getcwd()))]
    multiprocessing.set_start_method(None, force=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ |= env
    if prepare:
        prepare()
    sys.argv[1:] = words
    # its parent is the server, which has read a variable for this before there was a kernel
    kernelapp.launch_new_instance(parent_handle=os.getppid())


class Provisioner(LocalProvisioner):
    """Forks the kernels of the specifications that name it."""

    async def launch_kernel(self, cmd: list[str], **how: Any) -> KernelConnectionInfo:
        """Start a kernel by the command that would start it as a new process.

        It is one where the server has no place for its socket: the path of `$TMPDIR` may be long.
        """
        try:
            self.process = Kernel(cmd, how.get("cwd"), how["env"], how["stderr"].name)
        except OSError:
            return await super().launch_kernel(cmd, **how)
        self.pid = self.pgid = self.process.pid
        self.cwd = how.get("cwd", Path.cwd())
        return self.connection_info
