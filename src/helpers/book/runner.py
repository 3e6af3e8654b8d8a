"""Running chapters: parameters in, an executed notebook with a record of what made it out."""

import asyncio
import atexit
import contextlib
import datetime
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from helpers.book.freshness import (
    claims_hash,
    code_hash,
    edition,
    helpers_hash,
    protect,
    text_hash,
)
from helpers.book.sources import BookError, checked, load, shown, sources, tidy, write
from helpers.project import (
    PROFILES,
    PUBLISHED,
    describe_device,
    expanded,
    project_root,
    resolve_device,
)

SMOKE_CELL_TIMEOUT = 600
# with these begin the variables that set how Python and what it imports behave ...
SWITCHES = (
    *("PYTHON", "IPY", "JUPYTER", "MATPLOTLIB", "PANDAS_", "SCIPY_", "SKLEARN_", "TQDM_"),
    *("NVIDIA_TF32", "TORCH_ALLOW_TF32"),
)
# ... apart from those that say where Python has its files
PLACES = (
    *("PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
    *("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
)


def python_environment() -> dict[str, str | None]:
    """Environment (None: not set) in which Python imports this package and heeds no settings.

    Neither `$PYTHONPATH` nor the folder it works in are places to import from.
    """
    unset = [name for name in os.environ if name.startswith(SWITCHES) and name not in PLACES]
    here = str(Path(__file__).resolve().parents[2])
    return dict.fromkeys(unset) | {"PYTHONPATH": here, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}


def kernel_environment(profile: str, data_dir: str | None = None) -> dict[str, str | None]:
    """Environment of the kernels (None: not set): the one place that decides about threads.

    A chapter comes out the same whatever its reader has set for Python, IPython and matplotlib.
    Smoke-sized work loses far more to threads that wait for each other than it gains
    from them, so it gets one; the other profiles take what the machine (or `$OMP_NUM_THREADS`)
    offers. There, threads sleep while they wait: when they spin, a neighbour on the same cores can
    make a chapter of small factorisations thirty times slower.
    """
    set_here = python_environment() | {
        "BOOK_PROGRESS": "0",
        "IPYTHONDIR": str(scratch_folder()),
        "JUPYTER_RUNTIME_DIR": str(scratch_folder()),
        "MATPLOTLIBRC": os.devnull,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    if profile == "smoke":
        library = ("OMP", "MKL", "OPENBLAS")
        set_here |= {f"{name}_NUM_THREADS": "1" for name in library} | {"BOOK_NARROW": "0"}
    else:
        set_here["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    places = {
        "SPURIOUS_DATA": data_dir or os.environ.get("SPURIOUS_DATA"),
        "BOOK_RESULTS": os.environ.get("BOOK_RESULTS"),
    }
    # kernels work in another folder than the one that these are told in
    told = {name: expanded(place).resolve() for name, place in places.items() if place}
    return set_here | {name: str(place) for name, place in told.items()}


@cache
def scratch_folder() -> Path:
    """An empty folder outside the project, for as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="helpers-book-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """`os.environ` with `values` (None: not set), and as it was afterwards."""
    before = {name: os.environ.get(name) for name in values}
    set_environment(values)
    try:
        yield
    finally:
        set_environment(before)


def set_environment(values: Mapping[str, str | None]) -> None:
    """Put `values` into `os.environ` (None: not set)."""
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def provenance(source: Path, profile: str, device: str) -> dict[str, Any]:
    """What an output is made from and on.

    The record of a baseline holds nothing that changes from one run to the next on one machine.
    """
    nb = load(source)
    record = {
        "source": source.name,
        "profile": profile,
        "code": code_hash(nb),
        "text": text_hash(nb),
        "helpers": helpers_hash(nb),
        "claims": claims_hash(source.stem),
        "device": device,
        "python": platform.python_version(),
        "torch": version("torch").partition("+")[0],
        "numpy": version("numpy"),
    }
    if profile != "smoke":
        today = datetime.datetime.now(datetime.UTC).date()
        record |= {"processor": describe_device(device), "date": today.isoformat()}
    return record


def _kernel_manager(fork: bool = False) -> type:
    """Kernels of this very Python, with encrypted sockets and with a log that is not our screen.

    The second ends ipykernel's warning at every start, the third its traceback when interrupted;
    what cells write to stderr is in the notebook all the same. They are new processes, or forks
    of :mod:`helpers.book.forks` where those are the same.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    from helpers.book import forks

    spec = KernelSpec(**get_kernel_dict())
    if fork and forks.as_fresh():
        spec.metadata |= {"kernel_provisioner": {"provisioner_name": forks.NAME}}

    class Manager(AsyncKernelManager):
        interrupted = False
        kernel_spec = spec

        def __init__(self, **kwargs: Any):
            kwargs.setdefault("transport_encryption", "auto")
            super().__init__(**kwargs)

        async def start_kernel(self, **kwargs: Any) -> None:
            with contextlib.suppress(RuntimeError):  # no signals on Windows, nor in a thread
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self.interrupt)
            with _kernel_log().open("w") as log:
                await super().start_kernel(stderr=log, **kwargs)

        def interrupt(self) -> None:
            """Do what nbclient would, and leave a trace: the kernel did not die by itself."""
            Manager.interrupted = True
            self.killing = asyncio.ensure_future(self.shutdown_kernel(now=True))

    return Manager


def _kernel_log() -> Path:
    return scratch_folder() / "kernel.log"


def execute(
    source: Path,
    out: Path,
    profile: str,
    given: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
    fork: bool = False,
) -> Path:
    """Run one chapter into `out`; the previous copy stays unless the chapter ends well.

    `given` holds parameters beside the profile. The kernel works in the project's root. With `fork`
    it is forked from a process that has the libraries: faster for several chapters, and the same.
    Raises BookError for a parameter that is wrong, a cell that fails, an `out` that cannot be
    written.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError

    values = checked(source, {"profile": profile, **(given or {})})
    device = device_of(values.get("device", "auto"))
    scratch = scratch_folder() / f"{source.stem}.ipynb"
    record = provenance(source, profile, device)  # of what runs, not of what is there afterwards
    write(load(source), scratch)
    started, root = time.monotonic(), str(project_root())
    settings = kernel_environment(profile, data_dir) | {"BOOK_ROOT": root}
    with environment(settings):
        manager = _kernel_manager(fork)
    try:
        with environment(settings):
            papermill.execute_notebook(
                str(scratch),
                str(scratch),
                parameters=values,
                kernel_name="python3",
                cwd=root,
                progress_bar=False,
                log_output=False,
                execution_timeout=SMOKE_CELL_TIMEOUT if profile == "smoke" else None,
                kernel_manager_class=manager,
                coalesce_streams=True,
            )
        nb = tidy(nbformat.read(scratch, 4))
        seconds = {"seconds": round(time.monotonic() - started, 1)} if profile != "smoke" else {}
        nb.metadata["book"] = record | seconds
        protect({out: source})
        write(nb, out)
    except papermill.PapermillExecutionError as error:
        what = f"{error.ename}: {' '.join(str(error.evalue).split())[:600]}"
        told = _failure(source, error.exec_count, error.source, what)
        raise BookError(f"{told} {_keep(scratch, out)}") from error
    except CellTimeoutError as error:
        raise BookError(
            f"{source.stem}: a cell took longer than {SMOKE_CELL_TIMEOUT} s, which is "
            "too long for the smoke profile. The previous copy is kept."
        ) from error
    except BookError as error:
        raise BookError(f"{error} {_keep(scratch, out)}") from error
    except RuntimeError as error:
        if manager.interrupted:
            raise KeyboardInterrupt from error
        raise BookError(_dead(source, error, scratch, out)) from error
    finally:
        scratch.unlink(missing_ok=True)
    return out


def device_of(name: str) -> str:
    """The torch device that a name means here; BookError for none."""
    try:
        return resolve_device(name)
    except ValueError as error:
        raise BookError(str(error)) from error


def _keep(scratch: Path, out: Path) -> str:
    """Keep a run that is not taken over: in _build, or beside an `out` outside the project."""
    root, out = project_root(), out.resolve()
    kept = (root / "_build" if out.is_relative_to(root) else out.parent) / "failed" / out.name
    try:
        write(nbformat.read(scratch, 4), kept)
    except BookError as error:
        return f"The previous copy is kept, the new run is not: {error}"
    return f"The previous copy is kept; the new run, as far as it came, is {shown(kept)}."


def _failure(source: Path, number: int, code: str, what: str) -> str:
    lines = map(str.strip, code.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return f"{source.stem} stopped at code cell {number} ({first[:60]!r}) with {what}"


def _dead(source: Path, error: RuntimeError, scratch: Path, out: Path) -> str:
    """What to say of a kernel that died, or never lived."""
    cells = [c for c in nbformat.read(scratch, 4).cells if c.cell_type == "code"]
    begun = [c for c in cells if c.metadata.get("papermill", {}).get("start_time")]
    if begun:
        what = "the death of its kernel: killed, or out of memory?"
        told = _failure(source, len(begun), begun[-1].source, what)
        return f"{told} {_keep(scratch, out)}"
    log = _kernel_log().read_text(errors="replace").split("\n")
    last = next((line for line in reversed(log) if line.strip()), str(error))
    return f"{source.stem}: its kernel did not start: {last.strip()}. The previous copy is kept."


def run(
    names: Iterable[str],
    profile: str,
    given: Mapping[str, Any],
    out: Path | None = None,
    data_dir: str | None = None,
    fork: bool = False,
) -> list[str]:
    """Run chapters one after the other; returns what went wrong, one paragraph a chapter.

    Without `out` the committed copies are made, which take no parameters but the profile (and,
    published, the device): they are the chapters as their sources say.
    """
    if profile not in PROFILES:
        raise BookError(f"unknown profile {profile!r}: expected one of {', '.join(PROFILES)}.")
    device_of(given.get("device", "auto"))
    folder = out or edition(profile)
    free = {"device"} if profile == PUBLISHED else set()
    extra = {n: v for n, v in given.items() if n not in free}
    if folder is None or (out is None and extra):
        what = ", ".join(f"{n}={v}" for n, v in extra.items()) or f"profile={profile}"
        raise BookError(
            f"the committed copies are made at smoke and at {PUBLISHED} with default "
            f"parameters; for {what} say where to put the result with --out."
        )
    chosen = sources(names)
    for source in chosen:  # all of them before the first one computes for an hour
        checked(source, given)
    protect({folder / f"{source.stem}.ipynb": source for source in chosen})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BookError(f"cannot write into {shown(folder)}: {error.strerror}.") from error
    problems = []
    for source in chosen:
        started = time.monotonic()
        try:
            copy = folder / f"{source.stem}.ipynb"
            made = execute(source, copy, profile, given, data_dir, fork)
        except BookError as error:
            problems.append(str(error))
            print(f"FAILED  {error}", file=sys.stderr, flush=True)
        else:
            print(f"{shown(made)}  {time.monotonic() - started:.0f} s", flush=True)
    return problems
