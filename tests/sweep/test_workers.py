"""Processes that compute: what trials may do to them, and how a sweep is ended."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from helpers.sweep import Terms, TrialError, grid, stored_rows, sweep

pytestmark = pytest.mark.filterwarnings("error")


def noting(path, result):
    """A trial that notes its cell in a file before it computes ``result(x)``."""

    def trial(call):
        with open(path, "a") as file:
            file.write(f"{call.x}\n")
        return result(call.x)

    return trial


def tried(path):
    return [int(line) for line in path.read_text().split()]


# -- trials and their processes --------------------------------------------------------------------


def forks_and_dies(x):
    """Leaves a child that holds the output of its process open, and dies."""
    if x == 1 and os.fork() == 0:
        time.sleep(600)
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": x}


def forks_a_session_and_dies(x):
    if x == 1 and os.fork() == 0:
        os.setsid()
        time.sleep(30)
        os._exit(0)
    if x == 1:
        time.sleep(0.5)  # until the child is out of reach
        os._exit(3)
    return {"y": x}


@pytest.mark.parametrize("result", [forks_and_dies, forks_a_session_and_dies])
def test_a_trial_that_leaves_a_child_and_dies_is_named_and_stops_no_other(toy, tmp_path, result):
    start = time.monotonic()
    with pytest.raises(TrialError, match=r"toy, cell {'x': 1}: its worker process"):
        sweep(toy(result=result), grid(x=range(4)), store=tmp_path, terms=Terms())
    assert [row["x"] for row in stored_rows(toy(), tmp_path)] == [0, 2, 3]
    assert time.monotonic() - start < 25


def test_the_child_of_a_trial_that_forks_hands_in_no_second_row(toy, tmp_path):
    """Both come back from the trial: a second row would be taken for that of the next cell."""

    def result(x):
        child = os.fork()
        time.sleep(0.2 if child == 0 else 0)
        return {"y": x, "parent": child > 0}

    frame = sweep(toy(result=result), grid(x=range(4)), store=tmp_path, terms=Terms())
    assert frame["y"].tolist() == [0, 1, 2, 3] and set(frame["parent"]) == {1}


def test_trials_that_hang_in_threads_are_stopped(toy, tmp_path):
    def result(x):
        if x == 1:
            import threading

            for _ in range(3):
                threading.Thread(target=time.sleep, args=[600]).start()
            raise ValueError("no")
        return {"y": x}

    with pytest.raises(TrialError, match="cell {'x': 1}: ValueError: no"):
        sweep(toy(result=result), grid(x=range(4)), store=tmp_path, terms=Terms(limit=30.0))
    assert [row["x"] for row in stored_rows(toy(), tmp_path)] == [0, 2, 3]


def test_what_trials_print_is_no_message(toy, tmp_path, capfd):
    def result(x):
        print("row", x, flush=True)
        os.write(1, b"\x80\x04]\x94.")
        sys.stdin.read()
        return {"y": x}

    frame = sweep(toy(result=result), grid(x=range(3)), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [0, 1, 2] and "row 0" in capfd.readouterr().err


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit, BaseException])
def test_whatever_a_trial_raises_is_its_failure(together, tmp_path, kind, streams):
    calls = []

    def trial(group):
        for call in group:
            if call.x == 1:
                raise kind("oh")
            yield {"y": call.x}

    at_once = lambda group: calls.append(1) or list(trial(group))  # noqa: E731
    experiment = replace(together(), trial=trial if streams else at_once, group=lambda cell: 0)
    with pytest.raises(TrialError) as caught:
        sweep(experiment, grid(x=range(3)), store=tmp_path, terms=Terms())
    told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert sum(f"{kind.__name__}: oh" in line for line in told) == (1 if streams else 3)
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == ([0, 2] if streams else [])


def test_a_process_that_died_while_it_waited_costs_no_trial(toy, tmp_path):
    def result(x):
        if x == 0:  # dies when its row is handed in, before the next cell comes
            subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {os.getpid()}"])
        if x == 1:
            time.sleep(1.5)
        return {"y": x, "process": os.getpid()}

    # two processes; the one of cell 0 waits, as cells 2 and 3 are one group with cell 1
    experiment = toy(result=result)
    group = lambda cell: min(cell["x"], 1)  # noqa: E731
    trial = experiment.trial
    experiment = replace(experiment, trial=lambda calls: [trial(c) for c in calls], group=group)
    frame = sweep(experiment, grid(x=range(4)), store=tmp_path, n_jobs=2)
    assert len(frame) == 4


# -- groups that fail again and again --------------------------------------------------------------


def test_a_group_whose_beginning_fails_is_tried_twice_and_not_once_a_cell(together, tmp_path):
    path = tmp_path / "log"

    def trial(calls):
        noting(path, lambda x: x)(calls[0])
        raise MemoryError("no room for the data")
        yield

    experiment = replace(together(), trial=trial, group=lambda cell: 0)
    with pytest.raises(TrialError, match="20 of 20 cells failed") as caught:
        sweep(experiment, grid(x=range(20)), store=tmp_path, terms=Terms())
    assert tried(path) == [0, 1]
    told = caught.value.__notes__
    assert (
        sum("not tried: its group failed 2 times, and no row came between" in t for t in told) == 18
    )


def test_cells_that_were_not_tried_or_failed_keep_no_other_from_the_next_start(together, tmp_path):
    path = tmp_path / "log"

    def trial(calls):
        for call in calls:
            yield noting(path, lambda x: {"y": x} if x > 2 else {}[x])(call)

    experiment = replace(together(), trial=trial, group=lambda cell: 0)
    for start, expected in enumerate([[0, 1], [2, 3, 4, 5, 0, 1], [0, 1]]):
        before = len(tried(path)) if start else 0
        with pytest.raises(TrialError):
            sweep(experiment, grid(x=range(6)), store=tmp_path, terms=Terms())
        assert tried(path)[before:] == expected
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == [3, 4, 5]


def test_what_failed_with_another_client_is_not_tried_again_by_this_one(toy, tmp_path):
    """Two clients share a table; cell 0 hangs, and one limit of time is enough for it."""
    script = """
import sys, time
from helpers.sweep import Experiment, Terms, grid, sweep

def trial(call):
    with open(call.data_dir, "a") as file:
        file.write(f"{call.x}\\n")
    time.sleep(600 if call.x == 0 else 0.3)
    return {"y": call.x}

toy = Experiment("toy", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
sweep(toy, grid(x=range(20)), store=sys.argv[1], terms=Terms(limit=3.0),
      context={"data_dir": sys.argv[2]})
"""
    arguments = [sys.executable, "-c", script, tmp_path, tmp_path / "log"]
    both = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert sorted(tried(tmp_path / "log")) == list(range(20)), "each once, by whichever client"
    assert sum("another client tried it: stopped after 3 s" in text for text in told) == 1
    assert sum("cell {'x': 0}: stopped after 3 s" in text for text in told) == 1


# -- the end ---------------------------------------------------------------------------------------


ENDED = """
import os, signal, sys, time
from helpers.sweep import command, grid, registry

registry._import_experiments = lambda name=None: set()
number, how = getattr(signal, sys.argv[2]), sys.argv[3]
# not as whoever runs the tests has it, in the background say
usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
signal.signal(number, signal.SIG_IGN if how == "ignored" else usual)

@registry.experiment("toy", cells=lambda profile: grid(x=range(9)), tolerance=0.0, cheap=bool)
def trial(call):
    if call.x == 3:  # whoever ends a machine tells all processes at once
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getppid(), number)
        time.sleep(60 if how == "told" else 0)
    return {"y": call.x}

sys.exit(command.main(["run", "toy", "--device", "cpu", "--store", sys.argv[1]]))
"""


@pytest.mark.parametrize("how", ["told", "ignored"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_request_to_end_is_obeyed_in_order_and_ignored_where_it_is_to_be(
    toy, tmp_path, name, how
):
    done = subprocess.run(
        [sys.executable, "-c", ENDED, tmp_path, name, how],
        text=True, capture_output=True, timeout=50, env=os.environ | {"BOOK_PROGRESS": "0"},
    )  # fmt: skip
    stored = [row["x"] for row in stored_rows(toy(), tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["toy.csv"], "no failure, no claim is left"
    assert "Traceback" not in done.stderr
    if how == "ignored":
        assert done.returncode == 0 and stored == [*range(9)]
        return
    assert done.returncode == 128 + getattr(signal, name) and stored == [0, 1, 2]
    assert "stopped; finished rows are stored" in done.stderr


def test_children_of_trials_end_with_a_killed_client(left_by_a_killed_client):
    children = left_by_a_killed_client('subprocess.Popen(["sleep", "600"]).pid')
    until = time.monotonic() + 20
    while time.monotonic() < until and any(os.path.exists(f"/proc/{c}") for c in children):
        time.sleep(0.05)
    assert len(children) == 2 and not any(os.path.exists(f"/proc/{c}") for c in children)
