"""One trial, or the trials of one group: computed, measured, and with its provenance."""

import importlib.metadata
import os
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
    error: BaseException | None = None


def attempt(experiment: Experiment, cells: list[Cell], context: dict[str, Any]) -> list[Outcome]:
    """Run the trials of one group here and measure them; an exception becomes an outcome.

    Raises:
        ValueError: a cell has other parameters than those of the experiment.
    """
    precision = experiment.precision(context)
    calls = [experiment.call(cell, context | {"precision": precision}) for cell in cells]
    reserved = experiment.parameters | {*CONTEXT, *PROVENANCE}
    start = time.perf_counter()
    try:
        results = [as_results(each, reserved) for each in experiment.compute(calls)]
        experiment.check_tolerances({column for row, _ in results for column in row})
    except DatasetNotFound as error:
        return [Outcome(absent=str(error))] * len(calls)
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        failed = Outcome(failure=told, traceback=traceback.format_exc(), error=error)
        return [failed] * len(calls)
    provenance = {
        "device": describe_device(calls[0].device if experiment.on_device else "cpu")
        + suffix_of(precision),
        # a machine that was moved or lives on a false clock may see even this one jump back
        "seconds": round(max(0.0, time.perf_counter() - start) / len(calls), 3),
        "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return [Outcome(row=row | {"data_source": source} | provenance) for row, source in results]


def suffix_of(precision: str) -> str:
    """What the device of a row says besides, when products were not in float32."""
    return "" if precision == CONTEXT["precision"] else f", {precision} products"


def precision_of(row: dict[str, Any]) -> str:
    """In which precision a stored row was computed.

    >>> precision_of({"device": "a processor, 2 cores, bfloat16 products"})
    'bfloat16'
    """
    half = row["device"].endswith(suffix_of("bfloat16"))
    return "bfloat16" if half else CONTEXT["precision"]


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
    """Short commit of the project, ``+`` when the package differs from it, or "unknown".

    It is unknown outside git and where another repository surrounds the project.
    """
    # git obeys GIT_DIR and its like, as hooks set them, before it looks where it is
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parents[1]), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        )
        return done.stdout.strip()

    try:
        git("rev-parse", "--verify", "HEAD:./")  # fails where the commit has no such folder
        if git("rev-parse", "--show-prefix") != "src/helpers/":
            return "unknown"
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
