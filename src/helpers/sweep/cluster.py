"""Groups of cells on other machines: the workers of a Dask scheduler.

Each thread of a Dask worker has a process of its own that computes, so that a trial that needs too
much memory, or never ends, takes nothing with it that others need. Workers, scheduler and client
may die: a group whose worker is gone goes to another one, and a client that is started again goes
on from the table. Workers may come and go at any time.

A worker is told the device and the data folder as they were given: "auto" is decided there. One
that has other code of a trial than the client is not used, since its rows would pass for ours; one
that lacks the data of a group leaves it to others.
"""

import logging
import os
import queue
import threading
import time
from asyncio import CancelledError
from collections import Counter
from contextlib import suppress
from typing import Any

from helpers.sweep.trials import TrialError
from helpers.sweep.worker import Task
from helpers.sweep.workers import START, Event, Pool

_PAUSE = 1.0  # seconds between looks at the workers
_ANSWER = 15.0  # seconds in which a scheduler has to answer
_FETCH = 30.0  # seconds in which the rows of a group have to come from its worker
_ENDING = ("closing", "closed", "failed")  # states of a worker
_own = threading.local()


class Cluster:
    """The workers of a Dask scheduler.

    Args:
        address: of the scheduler, ``tcp://host:8786``; "": the session's client, else what
            ``$DASK_SCHEDULER_ADDRESS`` or Dask's settings say.

    Raises:
        ImportError: the package distributed is not installed.
        ValueError: there is no address, or nobody answers there.
    """

    remote = True

    def __init__(self, address: str = "") -> None:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise ImportError(
                "backend='dask' needs the package distributed, which is not installed: "
                "pip install distributed, or use the processes of this machine."
            ) from error
        # a lost scheduler is told in one sentence, and not by each part of Dask at length
        for name in [*logging.root.manager.loggerDict]:
            if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._owned = False
        if not address:
            with suppress(ValueError):
                self._client = distributed.get_client()
                self.address = self._client.scheduler.address
                address = "session"
        if address != "session":
            given = address or dask.config.get("scheduler-address", None)
            if not given:
                raise ValueError(
                    "backend='dask' needs the address of a scheduler: --scheduler "
                    "tcp://host:8786, or $DASK_SCHEDULER_ADDRESS"
                )
            try:
                self._client = distributed.Client(given, timeout=_ANSWER, set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise ValueError(f"no Dask scheduler answers at {given}") from error
            self.address, self._owned = given, True
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._called = threading.Event()
        self._futures: dict[int, Any] = {}
        self._bound: dict[int, set[str]] = {}  # to these workers, where not all would do
        self._given: dict[int, str] = {}  # to this worker first
        self._threads: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._looked, self._waiting = float("-inf"), False

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *details: object) -> None:
        for number in list(self._futures):
            self.stop(number)
        if self._owned:
            with suppress(Exception):  # whatever it is that a lost scheduler makes it raise
                self._client.close(timeout=5)

    @property
    def jobs(self) -> int:
        """How many groups are computed at a time."""
        return sum(self._threads.values())

    def free(self) -> int:
        """How many groups can be taken now; `TrialError` when no worker can be used."""
        self._look()
        if self._refused and not self._threads and not self._futures:
            told = "; ".join(f"{worker}: {why}" for worker, why in self._refused.items())
            raise TrialError(f"no worker of {self.address} can be used: {told}")
        return self.jobs - len(self._futures)

    def _look(self) -> None:
        """Which workers there are: they come and go."""
        if time.monotonic() - self._looked < _PAUSE:
            return
        self._looked = time.monotonic()
        self._check()
        with suppress(OSError, TimeoutError):
            known = self._client.nthreads()
            self._refused = {w: why for w, why in self._refused.items() if w in known}
            if not known and not self._waiting:
                print(f"waiting for workers at {self.address}", flush=True)
            self._waiting = not known
            self._threads = {w: n for w, n in known.items() if w not in self._refused}

    def _check(self) -> None:
        if self._client.status in ("closed", "closing"):
            raise TrialError(
                f"the Dask scheduler at {self.address} is gone. Rows finished before are safe; "
                "the next run goes on from them."
            )

    def others(self, avoid: Any) -> bool:
        """Whether there is any worker but these."""
        return bool(self._threads.keys() - set(avoid))

    def submit(self, number: int, task: Task, avoid: frozenset[str] = frozenset()) -> None:
        """Give a group to any worker but these, first to one with a free thread.

        A thread is free when the rows of its last group are here: were its worker given the next
        one before, its death would cost both. The scheduler does not wait for that; where it has
        to leave workers out, it chooses among the others.
        """

        def there(packed: bytes, limit: float | None) -> tuple[str, list[tuple[str, Any]]]:
            # travels as it is, to tell a worker without the package from one with it
            from distributed import get_worker

            where = get_worker().address
            try:
                from helpers.sweep import cluster
            except ImportError as error:
                return where, [("refused", f"{type(error).__name__}: {error}")]
            return where, cluster.compute(packed, limit)

        usable, where = self._threads.keys() - avoid, dict[str, Any]()
        taken = Counter(self._given.values())
        if usable and (avoid or self._refused):  # else those that come later do, too
            where["workers"], self._bound[number] = [*usable], usable
        elif usable and taken.keys() <= usable:  # who has the groups of a dead one is not known
            first = max(usable, key=lambda worker: self._threads[worker] - taken[worker])
            where |= {"workers": [first], "allow_other_workers": True}
            self._given[number] = first
        future = self._client.submit(
            there, task.packed(), task.limit, **where, pure=False, retries=0
        )
        self._futures[number] = future

        def call(done: Any) -> None:
            self._done.put((number, done))
            self._called.set()

        future.add_done_callback(call)

    def wait(self, seconds: float) -> None:
        """Until something happens, at most so many seconds; `TrialError` without a scheduler."""
        self._check()
        if self._done.empty() and not self._called.wait(max(0.0, min(seconds, _PAUSE))):
            self._look()
        self._called.clear()

    def events(self) -> list[Event]:
        """What has happened, in its order.

        A group whose workers are all gone, or whose rows were lost with one, ends without rows.
        """
        happened = list[Event]()
        while not self._done.empty():
            happened += self._became(*self._done.get())
        return happened + [event for n in self._stranded() for event in self._ended(n)]

    def _became(self, number: int, future: Any) -> list[Event]:
        """What there is to tell of a group that is done."""
        if self._futures.get(number) is not future:
            return []
        if future.status == "lost":  # with the worker that had its rows
            return self._ended(number)
        if future.status == "cancelled":  # not by us: the scheduler is gone
            self._client.close(timeout=5)
            return []
        if future.status == "error":
            told = self._cause(future.exception())
            return [Event(number, "died", told), *self._ended(number)]
        try:
            where, told = future.result(timeout=_FETCH)
        except (OSError, TimeoutError, CancelledError):  # the worker has died that has them
            return self._ended(number)
        except Exception as error:  # they cannot be read here
            return [Event(number, "died", self._cause(error)), *self._ended(number)]
        for kind, content in told:
            if kind == "refused":
                self._refused[where] = content
                self._threads.pop(where, None)
        return [*(Event(number, k, content, where) for k, content in told), *self._ended(number)]

    def _stranded(self) -> list[int]:
        """Groups that wait for workers which are no more."""
        return [n for n, bound in self._bound.items() if not bound & self._threads.keys()]

    def _ended(self, number: int) -> list[Event]:
        self.stop(number)
        return [Event(number, "end")]

    def _cause(self, error: BaseException) -> str:
        if type(error).__name__ == "KilledWorker":
            return "each worker that computed it died with it"
        return f"{type(error).__name__}: {error}"

    def stop(self, number: int) -> None:
        """End a group; nothing more is told about it."""
        self._bound.pop(number, None)
        self._given.pop(number, None)
        if future := self._futures.pop(number, None):
            with suppress(Exception):
                future.cancel(force=True)


def compute(packed: bytes, limit: float | None) -> list[tuple[str, Any]]:
    """What a Dask worker does with a group: have a process of its own compute it.

    It stops when the group takes longer than allowed, when nobody wants it any more, and when the
    worker is told to end, as by a queue whose time is up: it would wait for the group.
    """
    from distributed import get_worker
    from distributed.worker import thread_state

    worker, key = get_worker(), thread_state.key
    if not hasattr(_own, "pool"):
        threads = max(1, (os.cpu_count() or 1) // worker.state.nthreads)
        _own.pool = Pool(1, threads)
    told: list[tuple[str, Any]] = []
    _own.pool.submit(0, packed)
    since, started = time.monotonic(), False
    while True:
        _own.pool.wait(_PAUSE)
        for event in _own.pool.events():
            if event.kind == "end":
                return told
            if event.kind == "start":
                since, started = time.monotonic(), True
            else:
                told.append((event.kind, event.content))
        state = worker.state.tasks.get(key)
        if state is None or state.state == "cancelled" or worker.status.name in _ENDING:
            _own.pool.stop(0)
            return told
        if limit is not None and time.monotonic() > since + limit + (0 if started else START):
            _own.pool.stop(0)
            return [*told, ("died", f"stopped after {limit:.0f} s (--trial-limit)")]
