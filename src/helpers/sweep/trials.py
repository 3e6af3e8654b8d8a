"""One trial, or the trials of one group: computed, measured, and with its provenance."""

import importlib.metadata
import platform
import subprocess
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from helpers.errors import DatasetNotFound
from helpers.project import describe_device
from helpers.sweep.registry import CONTEXT, Experiment
from helpers.sweep.store import PROVENANCE, Cell, as_results


@dataclass(frozen=True)
class Outcome:
    """What became of one trial: `row` (results and provenance), or why there is none."""

    row: dict[str, Any] | None = None
    absent: str = ""
    failure: str = ""
    traceback: str = ""
    error: Exception | None = None


def attempt(experiment: Experiment, cells: list[Cell], context: dict[str, Any]) -> list[Outcome]:
    """Run the trials of one group here and measure them; an exception becomes an outcome.

    Raises:
        ValueError: a cell has other parameters than those of the experiment.
    """
    calls = [experiment.call(cell, context) for cell in cells]
    reserved = experiment.parameters | {*CONTEXT, *PROVENANCE}
    start = time.perf_counter()
    try:
        results = [as_results(each, reserved) for each in experiment.compute(calls)]
    except DatasetNotFound as error:
        return [Outcome(absent=str(error))] * len(calls)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        failed = Outcome(failure=told, traceback=traceback.format_exc(), error=error)
        return [failed] * len(calls)
    provenance = {
        "device": describe_device(calls[0].device if experiment.on_device else "cpu"),
        "seconds": round((time.perf_counter() - start) / len(calls), 3),
        "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return [Outcome(row=row | {"data_source": source} | provenance) for row, source in results]


@cache
def _versions() -> str:
    parts = [f"python {platform.python_version()}"]
    for package in ("torch", "numpy"):
        try:
            parts.append(f"{package} {importlib.metadata.version(package).partition('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "; ".join(parts)


def revision() -> str:
    """Short commit of the code, ``+`` when the package differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
