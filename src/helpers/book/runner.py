"""Running chapters: parameters in, an executed notebook with a record of what made it out."""

import contextlib
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from helpers.book.freshness import claims_hash, code_hash, edition, helpers_hash
from helpers.book.sources import BookError, checked, load, shown, sources, tidy, write
from helpers.project import PROFILES, PUBLISHED, describe_device, project_root, resolve_device

SMOKE_CELL_TIMEOUT = 600


def kernel_environment(profile: str, data_dir: str | None = None) -> dict[str, str]:
    """Environment of the kernels: the one place that decides about threads.

    Smoke-sized work loses far more to threads that wait for each other than it gains from them, so
    it gets one; the other profiles take what the machine (or `$OMP_NUM_THREADS`) offers. There,
    threads sleep while they wait: when they spin, a neighbour on the same cores can make a chapter
    of small factorisations thirty times slower.
    """
    set_here = {"BOOK_PROGRESS": "0", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    if profile == "smoke":
        set_here["OMP_NUM_THREADS"] = "1"
    else:
        set_here["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    if data_dir:
        set_here["SPURIOUS_DATA"] = str(Path(data_dir).expanduser().resolve())
    return set_here


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """`os.environ` with `values`, as it was afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
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


def _kernel_manager() -> type:
    """Kernels with encrypted sockets and without a log of their own on our screen.

    The first ends ipykernel's warning at every start, the second its traceback when interrupted;
    what cells write to stderr is in the notebook all the same.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs: Any):
            kwargs.setdefault("transport_encryption", "auto")
            super().__init__(**kwargs)

        async def start_kernel(self, **kwargs: Any) -> None:
            await super().start_kernel(stderr=subprocess.DEVNULL, **kwargs)

    return Manager


def execute(
    source: Path,
    out: Path,
    profile: str,
    given: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
) -> Path:
    """Run one chapter into `out`; the previous copy stays unless the chapter ends well.

    `given` holds parameters beside the profile. The kernel works in the project's root.
    Raises BookError for a parameter that is wrong, a cell that fails, an `out` that cannot be
    written.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    values = checked(source, {"profile": profile, **(given or {})})
    device = device_of(values.get("device", "auto"))
    scratch = project_root() / "_build" / "running" / f"{os.getpid()}-{source.stem}.ipynb"
    record = provenance(source, profile, device)  # of what runs, not of what is there afterwards
    write(load(source), scratch)
    started = time.monotonic()
    try:
        with environment(kernel_environment(profile, data_dir)):
            papermill.execute_notebook(
                str(scratch),
                str(scratch),
                parameters=values,
                kernel_name="python3",
                cwd=str(project_root()),
                progress_bar=False,
                log_output=False,
                execution_timeout=SMOKE_CELL_TIMEOUT if profile == "smoke" else None,
                kernel_manager_class=_kernel_manager(),
                coalesce_streams=True,
            )
        nb = tidy(nbformat.read(scratch, 4))
        seconds = {"seconds": round(time.monotonic() - started, 1)} if profile != "smoke" else {}
        nb.metadata["book"] = record | seconds
        write(nb, out)
    except papermill.PapermillExecutionError as error:
        raise BookError(_failure(source, error, _keep(scratch, source))) from error
    except CellTimeoutError as error:
        raise BookError(
            f"{source.stem}: a cell took longer than {SMOKE_CELL_TIMEOUT} s, which is "
            "too long for the smoke profile. The previous copy is kept."
        ) from error
    except DeadKernelError as error:
        raise KeyboardInterrupt from error
    finally:
        scratch.unlink(missing_ok=True)
    return out


def device_of(name: str) -> str:
    """The torch device that a name means here; BookError for none."""
    try:
        return resolve_device(name)
    except ValueError as error:
        raise BookError(str(error)) from error


def _keep(scratch: Path, source: Path) -> Path:
    kept = project_root() / "_build" / "failed" / f"{source.stem}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(scratch, kept)
    return kept


def _failure(source: Path, error: Any, kept: Path) -> str:
    first = next(
        (
            line.strip()
            for line in error.source.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ),
        "",
    )
    text = " ".join(str(error.evalue).split())
    return (
        f"{source.stem} stopped at code cell {error.exec_count} ({first[:60]!r}) with "
        f"{error.ename}: {text[:600]} The previous copy is kept; the run up to that cell is "
        f"{shown(kept)}."
    )


def run(
    names: Iterable[str],
    profile: str,
    given: Mapping[str, Any],
    out: Path | None = None,
    data_dir: str | None = None,
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
    problems = []
    for source in chosen:
        started = time.monotonic()
        try:
            made = execute(source, folder / f"{source.stem}.ipynb", profile, given, data_dir)
        except BookError as error:
            problems.append(str(error))
            print(f"FAILED  {error}", file=sys.stderr, flush=True)
        else:
            print(f"{shown(made)}  {time.monotonic() - started:.0f} s", flush=True)
    return problems
