"""One trial, or the trials of one group: computed, measured, and with its provenance."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from helpers.errors import DatasetNotFound
from helpers.project import describe_device
from helpers.sweep.registry import CONTEXT, Experiment
from helpers.sweep.store import PROVENANCE, Cell, as_results


class TrialError(RuntimeError):
    """Trials failed; the message names experiment and cells. Rows finished before are stored."""


@dataclass(frozen=True)
class Outcome:
    """What became of one trial: `row` (results and provenance), or why there is none."""

    row: dict[str, Any] | None = None
    absent: str = ""
    failure: str = ""
    traceback: str = ""
    error: BaseException | None = None


def attempt(
    experiment: Experiment,
    cells: list[Cell],
    context: dict[str, Any],
    caught: tuple[type[BaseException], ...] = (Exception, SystemExit),
) -> Iterator[Outcome]:
    """Run the trials of one group here and measure them; an exception becomes an outcome.

    A trial that yields its rows one by one has each measured, and handed on, as it comes; when it
    fails in the middle, the outcomes end with that failure. What is no row of numbers is the
    failure of its own cell and of no other.

    Args:
        experiment, cells, context: what to compute.
        caught: what becomes an outcome; where nobody types Ctrl-C, all exceptions may.

    Raises:
        ValueError: a cell has other parameters than those of the experiment.
    """
    precision = experiment.precision(context)
    calls = [experiment.call(cell, context | {"precision": precision}) for cell in cells]
    reserved = experiment.parameters | {*CONTEXT, *PROVENANCE}
    # rows of equal group and date were computed together: the audit goes by it
    date, start = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), time.perf_counter()

    def outcome(result: Any, seconds: float) -> Outcome:
        try:
            row, source = as_results(result, reserved)
            experiment.check_tolerances({*row})
        except (TypeError, ValueError) as error:
            return _failed(error)
        provenance = {
            "data_source": source,
            "device": describe_device(calls[0].device if experiment.on_device else "cpu")
            + suffix_of(precision),
            # a machine that was moved or lives on a false clock may see even this one jump back
            "seconds": round(max(0.0, seconds), 3),
            "versions": f"{_versions()}; threads {threads()}",
            "date": date,
        }
        return Outcome(row=row | provenance)

    done, count = 0, len(calls)
    try:
        found = experiment.compute(calls)
        if isinstance(found, list):
            seconds = (time.perf_counter() - start) / len(calls)
            yield from [outcome(result, seconds) for result in found]
            return
        count = 1  # the trial says which cell it is that fails
        for result in _as_many(found, len(calls)):
            now = time.perf_counter()
            ready, start = outcome(result, now - start), now
            yield ready
            done += 1
    except DatasetNotFound as error:
        yield from [Outcome(absent=str(error))] * (len(calls) - done)
    except caught as error:
        yield from [_failed(error)] * count


def _failed(error: BaseException) -> Outcome:
    """The outcome of the exception that is being handled."""
    told = f"{type(error).__name__}: {error}".removesuffix(": ")
    return Outcome(failure=told, traceback=traceback.format_exc(), error=error)


def _as_many(found: Iterator[Any], count: int) -> Iterator[Any]:
    """What a trial yields; ValueError before the last when there are more or fewer than `count`."""
    for number in range(count):
        try:
            result = next(found)
        except StopIteration:
            raise ValueError(f"{number} results for {count} cells") from None
        if number == count - 1 and next(found, None) is not None:
            raise ValueError(f"more than {count} results for {count} cells")
        yield result


def threads() -> int:
    """How many threads compute here: numbers may depend on it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() else (os.cpu_count() or 1)


_NOTE = re.compile(r"; (threads|code) (\w+)")


def noted(row: dict[str, Any], what: str) -> str:
    """The "threads" or the "code" of a stored row; "" where it is older than these notes.

    >>> noted({"versions": "python 3.13.1; numpy 2.4.6; threads 1; code 0a1b"}, "threads")
    '1'
    """
    return dict(_NOTE.findall(row["versions"])).get(what, "")


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
