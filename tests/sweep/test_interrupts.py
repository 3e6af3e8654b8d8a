"""Ctrl-C at any line: no finished row is lost, nothing stays behind that a next run waits for."""

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import helpers.sweep
from helpers.errors import StoreError
from helpers.sweep import Terms, command, grid, stored_rows, sweep
from helpers.sweep.locks import lock_file
from helpers.sweep.signals import SignalsWait
from helpers.sweep.trials import attempt
from helpers.sweep.workers import Event

PLACES = (str(Path(helpers.sweep.__file__).parent), contextlib.__file__)


@pytest.fixture(autouse=True)
def heeded():
    """Jobs in the background ignore Ctrl-C; the loop of a browser here cannot read of so many."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    wakes = signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(wakes)
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


def interrupted_at(lines, work):
    """How often Ctrl-C came before it was heeded: at these lines, counted from the first run.

    Of what stores rows, and of the contexts that it is written with.
    """
    seen = sent = 0

    def look(frame, event, value):
        nonlocal seen, sent
        if not frame.f_code.co_filename.startswith(PLACES):
            return None
        if event == "line":
            seen += 1
            if seen in lines:
                sent += 1
                os.kill(os.getpid(), signal.SIGINT)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    stopped = False
    try:
        work()
    except KeyboardInterrupt:
        stopped = True
    finally:
        sys.settrace(before)
    assert stopped == bool(sent), "a signal was lost"
    with pytest.raises(KeyboardInterrupt):  # nobody is deaf
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return sent


def everywhere(step, work, check, *, twice=False):
    """Have Ctrl-C at every so manieth line of some work; what is left is checked each time."""
    line = 0
    while True:
        line += step
        # the second one soon after the first, where somebody is impatient
        sent = interrupted_at({line, line + 40} if twice else {line}, lambda at=line: work(at))
        check(line)
        if not sent:
            return line


def test_ctrl_c_at_any_line_of_a_sweep(toy, tmp_path, monkeypatch):
    """At one line of five: what is finished is stored, and nothing stays behind."""
    made = []
    monkeypatch.setattr("helpers.sweep.run._executor", lambda *told: made[-1])

    def run(line):
        made.append(Ready())
        sweep(toy(), grid(x=range(2)), store=tmp_path / str(line), terms=Terms())

    def check(line):
        store = tmp_path / str(line)
        rows = {row["x"] for row in stored_rows(toy(), store)} if store.exists() else set()
        assert rows == made[-1].finished, f"line {line}"
        assert not list(store.glob(".*")), f"line {line}"

    assert everywhere(5, run, check) > 300
    assert made[-1].finished == {0, 1}


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_at_any_line_where_trials_run_here(together, tmp_path, twice):
    """Nothing stays behind, and the next run goes on at once."""

    def run(line):
        sweep(together(), grid(x=range(4)), store=tmp_path / str(line))

    def check(line):
        store, start = tmp_path / str(line), time.monotonic()
        assert not list(store.glob(".*")), f"line {line}"
        run(line)
        assert {row["x"] for row in stored_rows(together(), store)} == {0, 1, 2, 3}
        assert time.monotonic() - start < 10, f"line {line}"

    assert everywhere(31, run, check, twice=twice) > 300


def test_ctrl_c_at_any_line_of_a_lock(tmp_path):
    """It would stay behind, and this process would wait half a minute for itself."""
    entered = []

    def hold(line):
        with lock_file(tmp_path / "lock"):
            entered.append(line)

    def check(line):
        assert not list(tmp_path.iterdir()), f"line {line}"

    assert everywhere(1, hold, check) > 20 and len(entered) > 10


def test_signals_that_wait_are_heeded_by_whoever_heeded_them():
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with SignalsWait() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            with SignalsWait():
                os.kill(os.getpid(), signal.SIGTERM)
            assert told == []
            with signals.heeded():
                assert told == [signal.SIGTERM] * 2
                os.kill(os.getpid(), signal.SIGTERM)
                assert told == [signal.SIGTERM] * 3
                with SignalsWait():
                    os.kill(os.getpid(), signal.SIGTERM)
                    assert told == [signal.SIGTERM] * 3
                assert told == [signal.SIGTERM] * 4
            with pytest.raises(KeyboardInterrupt), signals.heeded():
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == [signal.SIGTERM] * 4
        assert told == [signal.SIGTERM] * 5
    finally:
        signal.signal(signal.SIGTERM, before)


def test_of_two_that_wait_none_is_lost_when_the_first_raises():
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), SignalsWait():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_one_a_second_later_is_heeded_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("helpers.sweep.signals.time.monotonic", lambda: now[0])
    steps = []
    with pytest.raises(KeyboardInterrupt), SignalsWait():
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.9
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("both wait")
        now[0] += 0.2
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("never")
    assert steps == ["both wait"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_so_and_an_error_is_its_context():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SignalsWait():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as stop, SignalsWait():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("disk full")
    assert isinstance(stop.value.__context__, OSError)


def test_other_threads_change_no_handler():
    seen = []

    def work():
        with SignalsWait() as signals, signals.heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_client_that_waits_for_a_table_ends_when_it_is_asked_twice(toy, tmp_path):
    """Another process has the table locked, and stands still."""
    table = (tmp_path / "toy.csv").open("a+")
    timers = [threading.Timer(t, os.kill, (os.getpid(), signal.SIGINT)) for t in (0.5, 1.8)]

    def result(x):
        fcntl.flock(table, fcntl.LOCK_EX)
        for timer in timers:
            timer.start()
        return {"y": x}

    start = time.monotonic()
    with table, pytest.raises(KeyboardInterrupt):
        sweep(toy(result=result), grid(x=[0]), store=tmp_path)
    assert 1.7 < time.monotonic() - start < 30
    assert not list(tmp_path.glob(".*"))


def test_what_was_told_when_ctrl_c_came_is_told(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("helpers.sweep.command._run", lambda options: stop())

    def stop():
        with SignalsWait():
            os.kill(os.getpid(), signal.SIGINT)
            raise StoreError("cannot write; 3 rows are elsewhere")

    assert command.main(["run", "toy"]) == 130
    told = capsys.readouterr().err
    assert "error: cannot write; 3 rows are elsewhere" in told and "stopped" in told
