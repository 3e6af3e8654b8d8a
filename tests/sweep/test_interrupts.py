"""Ctrl-C at any line: no finished row is lost, nothing stays behind that a next run waits for."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

import helpers.sweep
from helpers.sweep import Terms, grid, stored_rows, sweep
from helpers.sweep.locks import lock_file
from helpers.sweep.signals import signals_wait
from helpers.sweep.trials import attempt
from helpers.sweep.workers import Event

OWN = str(Path(helpers.sweep.__file__).parent)


@pytest.fixture(autouse=True)
def heeded():
    """Jobs in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Ready:
    """Groups that are computed as soon as they are there: all rows are finished that a wait sees.

    Attributes:
        finished: cells whose rows have been announced.
    """

    remote, jobs = False, 1

    def __init__(self):
        self._told, self._busy, self.finished = [], 0, set()

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._told = []

    def free(self):
        return 1 - self._busy

    def submit(self, number, task, avoid=frozenset()):
        outcomes = [*attempt(task.experiment, task.cells, task.context)]
        self._told += [Event(number, "row", outcome) for outcome in outcomes]
        self._told.append(Event(number, "end"))
        self.finished |= {cell["x"] for cell in task.cells}
        self._busy = 1

    def wait(self, seconds):
        self._busy = 0

    def events(self):
        told, self._told = self._told, []
        return told


def interrupted_at(line, work):
    """Whether Ctrl-C came at a line of what stores rows, counted from the first that is run."""
    seen = 0

    def look(frame, event, value):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(OWN):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGINT)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    assert seen < line, "a signal was lost"
    return False


def test_ctrl_c_at_any_line_of_a_sweep(toy, tmp_path, monkeypatch):
    """At one line of three."""
    line, stopped = 0, True
    while stopped:
        line += 3
        store, ready = tmp_path / str(line), Ready()
        monkeypatch.setattr("helpers.sweep.run._executor", lambda *told, made=ready: made)

        def run(into=store):
            sweep(toy(), grid(x=range(2)), store=into, terms=Terms())

        stopped = interrupted_at(line, run)
        rows = {row["x"] for row in stored_rows(toy(), store)} if store.exists() else set()
        assert rows == ready.finished, f"line {line}"
        assert not list(store.glob(".*")), f"line {line}"
    assert line > 300 and rows == {0, 1}


def test_ctrl_c_at_any_line_of_a_lock(tmp_path):
    """It would stay behind, and this process would wait half a minute for itself."""
    line, stopped, entered = 0, True, 0

    def hold():
        nonlocal entered
        with lock_file(tmp_path / "lock"):
            entered += 1

    while stopped:
        line += 1
        stopped = interrupted_at(line, hold)
        assert not list(tmp_path.iterdir()), f"line {line}"
    assert line > 20 and 10 < entered < line


def test_signals_that_wait_are_heeded_by_whoever_heeded_them():
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with signals_wait() as heeded:
            os.kill(os.getpid(), signal.SIGTERM)
            with signals_wait():
                os.kill(os.getpid(), signal.SIGTERM)
            assert told == []
            with heeded():
                assert told == [signal.SIGTERM] * 2
                os.kill(os.getpid(), signal.SIGTERM)
                assert told == [signal.SIGTERM] * 3
            with pytest.raises(KeyboardInterrupt), heeded():
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == [signal.SIGTERM] * 3
        assert told == [signal.SIGTERM] * 4
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_so_and_an_error_is_its_context():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals_wait():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as stop, signals_wait():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("disk full")
    assert isinstance(stop.value.__context__, OSError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_change_no_handler():
    seen = []

    def work():
        with signals_wait() as heeded, heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
