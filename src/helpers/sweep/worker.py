"""The process that computes groups of cells for another.

It is told by pickles on its input, and answers by pickles on its output, one a finished row, so
that nothing finished is lost with it. What trials print goes to the error output. It ends with the
process that started it, in the middle of a trial too, and so does what the trial has started.
"""

import hashlib
import os
import pickle
import queue
import signal
import sys
import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cloudpickle

from helpers.dependencies import package_tree
from helpers.project import resolve_device
from helpers.sweep.registry import Experiment
from helpers.sweep.store import Cell
from helpers.sweep.trials import attempt


@dataclass(frozen=True)
class Task:
    """What a worker is told: cells of one group, and the code that they are meant for.

    Attributes:
        experiment, cells, context: what to compute.
        code: `Experiment.code` where the rows are stored.
        text: `package_text` there: where it is equal, the code need not be looked at.
        limit: seconds that the whole group may take, for workers elsewhere.
    """

    experiment: Experiment
    cells: list[Cell]
    context: dict[str, Any]
    code: str = ""
    text: str = ""
    limit: float | None = None

    def packed(self) -> bytes:
        """For another process, also where the trial is of no module that it could import."""
        return cloudpickle.dumps(self)


def unpacked(task: bytes) -> Task:
    """Raises whatever an import may raise."""
    return cloudpickle.loads(task)


@cache
def package_text() -> str:
    """A hash of the package's text, comments and all."""
    texts = package_tree().texts
    return hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16]


def other_code(task: Task) -> str:
    """What is wrong with the code of this process for a task; "" when nothing is."""
    if not task.code or task.text == package_text() or task.code == task.experiment.code:
        return ""
    return (
        f"other code: experiment {task.experiment.name} is {task.experiment.code} here and "
        f"{task.code} where the rows are stored"
    )


def main() -> None:
    """Compute what comes in until nothing more comes."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    # whoever ends everything at once, as machines do that go down, ends the process that started
    # this one too: by itself it would look like a failure of the trial
    signal.signal(signal.SIGTERM, lambda *_: None)
    process = os.getpid()

    def listen() -> None:
        """Pass on what comes in; without the other process there is nobody to compute for."""
        try:
            while True:
                tasks.put(pickle.load(incoming))
        except (EOFError, OSError, pickle.UnpicklingError):
            _end()

    def tell(kind: str, content: Any = None) -> None:
        if os.getpid() != process:  # a trial has forked, and its child comes back too
            os._exit(1)
        pickle.dump((kind, content), outgoing)
        outgoing.flush()

    sys.path[:] = pickle.load(incoming)
    threading.Thread(target=listen, daemon=True).start()
    while True:
        task = tasks.get()
        try:
            _compute(task, tell)
        except BrokenPipeError:
            _end()
        tell("end")


def _end() -> None:
    """End this process and, where it leads a session of its own, all that its trials started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _compute(packed: bytes, tell: Any) -> None:
    try:
        task = unpacked(packed)
        context = task.context
        if "device" in context:
            context = context | {"device": resolve_device(context["device"])}
        if wrong := other_code(task):
            tell("refused", wrong)
            return
        tell("start")
        for outcome in attempt(task.experiment, task.cells, context, (BaseException,)):
            # nothing travels back that might not be picklable
            tell("row", replace(outcome, error=None))
    except BrokenPipeError:  # nobody listens any more
        raise
    except Exception as error:
        tell("refused", f"{type(error).__name__}: {error}")
