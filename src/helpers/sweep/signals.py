"""Signals that wait: what is done meanwhile is done whole."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_WAIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 1.0  # seconds after which another signal is heeded at once


class SignalsWait:
    """Ctrl-C, and a request to end, wait for the end of this context, and then do what they do now.

    For work between whose steps an exception would leave something half done. Inside of `heeded`
    they do it at once, and so do those that have waited; and where the work takes longer than
    somebody has patience, another one a second later does. What is ignored, or ends the process,
    is left alone. Nothing changes in other threads than the main one, where no signal raises
    anything, nor inside of a context where signals wait already.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: list[tuple[int, FrameType | None]] = []
        self._open, self._since = True, 0.0  # a handler that is open passes signals on

    def __enter__(self) -> "SignalsWait":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _WAIT}
            self._before = {n: h for n, h in handlers.items() if callable(h) and not _waits(h)}
            for number in self._before:
                signal.signal(number, self._handle)
        self._open = False
        return self

    def __exit__(self, *details: object) -> None:
        self._open = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._let_in()

    def hold(self) -> None:
        """Have signals wait again, after an exception in `heeded`."""
        self._open = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """A context in which signals are heeded, those first that came before."""
        try:
            self._open = True
            self._let_in()
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._open and (not self._came or now < self._since + _PATIENCE):
            self._since = self._since if self._came else now
            self._came.append((number, frame))
            return
        self._came.append((number, frame))
        self._let_in()

    def _let_in(self) -> None:
        if self._came:
            number, frame = self._came.pop(0)
            try:
                self._before[number](number, frame)
            finally:  # the others, too, whatever this one raises
                self._let_in()


def _waits(handler: Any) -> bool:
    """Whether this is the handler of a context in which signals wait now."""
    context = getattr(handler, "__self__", None)
    return isinstance(context, SignalsWait) and not context._open
