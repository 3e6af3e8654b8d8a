"""Processes that end with the one that started them, and chapters side by side in such ones."""

import copy
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

GRACE = 30  # seconds in which an interrupted process may tidy up
_HEEDED = {signal.SIGINT, signal.SIGTERM}


class Child:
    """A new process that calls a function with one end of a pipe, and has the other.

    It leads a group of its own, which ends when nobody has our end any more.

    Args:
        function: called as ``function(there, *arguments)``; it and its arguments are pickled.

    Raises:
        ChildProcessError: it, or what it is forked from, ended before it had begun.
    """

    kind = "spawn"

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        processes = multiprocessing.get_context(self.kind)
        self.pipe, there = processes.Pipe()
        self.process = processes.Process(target=_begin, args=(function, there, *arguments))
        # Ctrl-C is for us: we and it heed signals once it can be ended. To start the tracker, which
        # is done first, would let them through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            try:
                self.process.start()
                there.close()
                self.pipe.recv()  # it leads a group of its own: who ends that does not end us
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        except EOFError as error:
            self.close()
            raise ChildProcessError("a process has ended before it began") from error
        except KeyboardInterrupt:
            self.close()
            raise

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone, unless it has ended."""
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def close(self) -> None:
        """End it, and what it has started."""
        self.pipe.close()
        with suppress(ProcessLookupError, PermissionError):  # the second on a Mac, of the dead
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def usual_lanes() -> int:
    """As many as there are processors for this process, and 4 at most: each has its libraries.

    On Linux alone: elsewhere it is not told at once that the other end of a pipe is gone.
    """
    return min(4, len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1


def side_by_side(
    work: Callable[[str], list[str]], names: Sequence[str], lanes: int
) -> Iterator[tuple[str, list[str] | None]]:
    """Each name, in the order in which they are done, and what `work` made of it.

    None instead where the process has ended before it was done. With one lane, or one name, the
    work is done in this process, and so it is wherever the usual number of lanes is one.

    Args:
        work: can be pickled; an exception in one process ends all, and is raised here.
        names: what to do, in this order.
        lanes: how many processes at most.
    """
    lanes = min(lanes, len(names))
    if lanes < 2 or sys.platform != "linux":
        yield from ((name, work(name)) for name in names)
        return
    todo, begun = list(names), dict[Connection, str]()
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)
    children = dict[Connection, Child]()
    try:
        for _ in range(lanes):
            child = Child(_lane, work)
            children[child.pipe] = child
        while children:
            for pipe in wait([*children]):
                try:
                    done, error = pipe.recv()
                except (EOFError, ConnectionResetError):  # at its end, or before
                    children.pop(pipe).close()
                    if pipe in begun:
                        yield begun.pop(pipe), None
                    continue
                if error:
                    raise error
                if pipe in begun:
                    yield begun.pop(pipe), done
                if todo:
                    begun[pipe] = todo.pop(0)
                with suppress(BrokenPipeError):  # told by its end
                    pipe.send(begun.get(pipe))
        yield from ((name, None) for name in todo)
    finally:
        for child in children.values():
            child.send_signal(signal.SIGINT)
        for child in children.values():
            child.process.join(GRACE)
            child.close()
        signal.signal(signal.SIGTERM, terminated)


def _lane(there: Connection, work: Callable[[str], list[str]]) -> None:
    there.send((None, None))
    with suppress(EOFError):  # we are about to be ended
        for name in iter(there.recv, None):
            try:
                done, error = work(name), None
            except Exception as what:
                done, error = None, _portable(what)
            there.send((done, error))


def _portable(error: Exception) -> Exception:
    """The exception with what is lost on its way; RuntimeError where it would be lost itself."""
    told = traceback.format_exc()
    try:
        pickle.dumps(error)
        copy.copy(error)  # made anew from its arguments, as at the other end
    except Exception:
        return RuntimeError(told)
    error.add_note(told)
    return error


def _begin(function: Callable[..., None], there: Connection, *arguments: Any) -> None:
    os.setsid()
    there.send("begun")
    threading.Thread(target=_end_with, args=[there.fileno()], daemon=True).start()
    # who began in the background ignores it, but may be told to end us
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        function(there, *arguments)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end_with(pipe: int) -> None:
    """End this process, and what it has started, when nobody reads from a pipe any more.

    Nobody else would: a server ends when the last of its forks has.
    """
    reader = select.poll()
    reader.register(pipe, 0)  # that it is gone is told unasked
    reader.poll()
    os.killpg(0, signal.SIGKILL)
