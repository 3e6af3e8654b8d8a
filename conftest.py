"""The environment of all tests: doctests, replayed notebooks, and what is in tests/.

Kernels inherit this process's environment, so what is set here holds in every notebook that nbval
replays. It has to be set before anything imports torch, and what is loaded by then is told apart.
"""

import atexit
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from threadpoolctl import threadpool_limits

from helpers.book import runner
from helpers.project import own_package

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # `pytest` alone, unlike `python -m pytest`, leaves it out
from tests.forks import ROWS, kernels_of_nbval  # noqa: E402

own_package(ROOT)
for name in ("BOOK_ROOT", "BOOK_RESULTS", "SPURIOUS_DATA"):
    os.environ.pop(name, None)
runner.set_environment(runner.kernel_environment("smoke"))
threadpool_limits(1)  # numpy has been imported by then
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / "_build" / ".cache" / "hypothesis")


class NetworkUsed(OSError):
    """A test has asked for the network."""


def _is_here(host: object) -> bool:
    """Whether a host, by name or address, is this machine."""
    try:
        return host in (None, "", "localhost") or ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _only_here(name: str) -> None:
    """Let a function of sockets that is told a host reach this machine alone."""
    own = getattr(socket.socket, name)

    def checked(self: socket.socket, address: object) -> object:
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and not _is_here(address[0]):
            raise NetworkUsed(f"tests use no network, and {address[0]} was asked for")
        return own(self, address)

    setattr(socket.socket, name, checked)


def _find_here(host: object, *arguments: object, **options: object) -> object:
    """`socket.getaddrinfo` for this machine alone."""
    told = host.decode() if isinstance(host, bytes) else host
    if not (_is_here(told) or told == socket.gethostname()):
        raise NetworkUsed(f"tests use no network, and {told} was looked up")
    return _getaddrinfo(host, *arguments, **options)


_only_here("connect")
_only_here("connect_ex")
_getaddrinfo, socket.getaddrinfo = socket.getaddrinfo, _find_here

kernels_of_nbval()
if "PYTEST_XDIST_WORKER" not in os.environ:  # those have the folder of the one that starts them
    os.environ[ROWS] = tempfile.mkdtemp(prefix="rows-")
    atexit.register(shutil.rmtree, os.environ[ROWS], ignore_errors=True)
