"""Signals that wait: what is done meanwhile is done whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

_WAIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_wait() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Ctrl-C, and a request to end, are heeded when this is over, by whoever heeds them now.

    For work between whose steps an exception would leave something half done. Inside of what is
    yielded, called, they are heeded at once, and so are those that have waited. What is ignored,
    or ends the process, still does; so it is in other threads than the main one, where no signal
    raises anything.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext
        return
    before = {number: signal.getsignal(number) for number in _WAIT}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    came: list[tuple[int, FrameType | None]] = []

    def hold() -> None:
        for number in before:
            signal.signal(number, lambda *told: came.append(told))

    def let_in() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        while came:
            number, frame = came.pop(0)
            before[number](number, frame)

    @contextmanager
    def heeded() -> Iterator[None]:
        let_in()
        try:
            yield
        finally:
            hold()

    try:
        hold()
        yield heeded
    finally:
        let_in()
