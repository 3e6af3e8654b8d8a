"""Where groups of cells are computed: in this process, or in processes of this machine.

Both are told groups and give back events. A process that dies, or is stopped, takes one group with
it and nothing else; the next group gets a new one.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from helpers.sweep.trials import attempt
from helpers.sweep.worker import Task

START = 300.0  # seconds that a process may take to begin a group
_LOOK, _SILENT = 1.0, 5.0  # seconds between looks at processes; of silence after one's death
# the libraries that would else take all cores for each process
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Event(NamedTuple):
    """What happened to a group.

    Attributes:
        number: of the group.
        kind: "start"; "row" with an outcome; "refused" or "died" with the reason; "end".
        content: an outcome, or a reason.
        where: the worker, where there are several machines.
    """

    number: int
    kind: str
    content: Any = None
    where: str = ""


class Here:
    """One group after the other, in this process, where none can be stopped."""

    remote, jobs = False, 1

    def __init__(self) -> None:
        self._events: Iterator[Event] | None = None
        self._happened: list[Event] = []
        self._streams = True

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *details: object) -> None:
        self._events = None

    def free(self) -> int:
        """How many groups can be taken now."""
        return 1 if self._events is None else 0

    def submit(self, number: int, task: Task, avoid: frozenset[str] = frozenset()) -> None:
        """Take a group; it is computed while `wait` is called."""
        self._events, self._streams = self._run(number, task), task.experiment.streams

    def _run(self, number: int, task: Task) -> Iterator[Event]:
        for outcome in attempt(task.experiment, task.cells, task.context):
            yield Event(number, "row", outcome)
        yield Event(number, "end")

    def wait(self, seconds: float) -> None:
        """Until something happens."""
        if self._events is None:
            time.sleep(min(seconds, _LOOK))
            return
        events, self._events = self._events, None  # Ctrl-C in a trial ends its group
        for event in events:
            self._happened.append(event)
            if self._streams and event.kind != "end":  # the next row takes its time
                self._events = events
                return

    def events(self) -> list[Event]:
        """What has happened, in its order."""
        happened, self._happened = self._happened, []
        return happened

    def stop(self, number: int) -> None:
        """Nothing can be stopped here."""

    def others(self, avoid: Any) -> bool:
        """There is no other machine."""
        return False


@dataclass(eq=False)
class _Process:
    process: subprocess.Popen
    number: int | None = None
    tell: Callable[[Any], None] = field(default=lambda task: None)
    dead: float | None = None  # since when


class Pool:
    """Processes of this machine, each with one group at a time.

    Args:
        jobs: how many; -1: one a core.
        threads: of each, unless the environment says so; None: its share of the cores.

    Raises:
        ValueError: other numbers.
    """

    remote = False

    def __init__(self, jobs: int, threads: int | None = None) -> None:
        cores = os.cpu_count() or 1
        if jobs != -1 and jobs < 1:
            raise ValueError(f"{jobs} trials at a time: 1 or more, or -1 for one a core")
        self.jobs = cores if jobs == -1 else jobs
        self._threads = threads or max(1, cores // self.jobs)
        self._messages: deque[tuple[_Process, Any]] = deque()
        self._called = threading.Event()
        self._idle: list[_Process] = []
        self._busy: dict[int, _Process] = {}

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *details: object) -> None:
        for worker in [*self._idle, *self._busy.values()]:
            _kill(worker.process)
        self._idle, self._busy = [], {}

    def free(self) -> int:
        """How many groups can be taken now."""
        return self.jobs - len(self._busy)

    def submit(self, number: int, task: Task | bytes, avoid: frozenset[str] = frozenset()) -> None:
        """Give a group to a process."""
        packed = task if isinstance(task, bytes) else task.packed()
        self._idle = [worker for worker in self._idle if worker.process.poll() is None]
        worker = self._idle.pop() if self._idle else self._started()
        worker.number = number
        self._busy[number] = worker
        # one that has just died is seen by its last message
        with suppress(BrokenPipeError):
            worker.tell(packed)

    def _started(self) -> _Process:
        own = str(Path(__file__).parents[2])
        path = os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])
        given = {name: str(self._threads) for name in _THREADS if name not in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-c", "from helpers.sweep.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | given | {"PYTHONPATH": path},
            start_new_session=True,  # what a trial starts ends with it; Ctrl-C is for us
        )

        def tell(content: Any) -> None:
            pickle.dump(content, process.stdin)
            process.stdin.flush()

        worker = _Process(process, tell=tell)
        tell(sys.path)
        threading.Thread(target=self._listen, args=[worker], daemon=True).start()
        return worker

    def _listen(self, worker: _Process) -> None:
        try:
            while True:
                self._call(worker, pickle.load(worker.process.stdout))
        except Exception:  # its end, or whatever bytes that are no message may raise
            self._call(worker, None)
        finally:
            worker.process.stdout.close()

    def _call(self, worker: _Process, message: Any) -> None:
        self._messages.append((worker, message))
        self._called.set()

    def wait(self, seconds: float) -> None:
        """Until something happens, at most so many seconds."""
        until = time.monotonic() + seconds
        while True:
            if not self._messages:
                self._called.wait(max(0.0, min(until - time.monotonic(), _LOOK)))
            self._called.clear()
            self._look()
            if self._messages or time.monotonic() >= until:
                return

    def events(self) -> list[Event]:
        """What has happened, in its order."""
        happened: list[Event] = []
        while self._messages:
            happened += self._taken(*self._messages.popleft())
        return happened

    def _look(self) -> None:
        """See to processes that are dead, and whose output what they started holds open."""
        for worker in self._busy.values():
            if worker.process.poll() is not None:
                now = time.monotonic()
                if worker.dead is None:
                    worker.dead = now
                    _kill(worker.process)
                elif now > worker.dead + _SILENT:
                    self._call(worker, None)

    def _taken(self, worker: _Process, message: Any) -> list[Event]:
        number = worker.number
        if message is None:  # it is no more
            self._idle = [other for other in self._idle if other is not worker]
            reason = _cause(worker.process)
            if number is None:
                return []
            worker.number = None
            del self._busy[number]
            return [Event(number, "died", reason), Event(number, "end")]
        if number is None:  # it was stopped, and told something before
            return []
        kind, content = message
        if kind == "end":
            worker.number = None
            del self._busy[number]
            self._idle.append(worker)
        return [Event(number, kind, content)]

    def others(self, avoid: Any) -> bool:
        """There is no other machine."""
        return False

    def stop(self, number: int) -> None:
        """End a group at once; nothing more is told about it."""
        if worker := self._busy.pop(number, None):
            worker.number = None
            _kill(worker.process)


def _kill(process: subprocess.Popen) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(OSError):
        process.stdin.close()


def _cause(process: subprocess.Popen) -> str:
    """How a process that has closed its output came to its end."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    ended = process.poll()
    _kill(process)
    if ended is None:
        return "its worker process went silent"
    if ended == -signal.SIGKILL:
        return "its worker process was killed, most often for want of memory"
    if ended < 0:
        return f"its worker process died of {signal.Signals(-ended).name}"
    return f"its worker process ended with status {ended}"
