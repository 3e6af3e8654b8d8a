"""Runs that nobody watches: trials that fail in every way, clients that share a table, the time."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.errors import StoreError
from helpers.sweep import Experiment, Terms, TrialError, grid, locks, register, sweep
from helpers.sweep.command import main
from helpers.sweep.locks import Claims, lock_file
from helpers.sweep.store import Store

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def log(tmp_path):
    """A file for the cells that were tried, from whichever process."""
    path = tmp_path / "log"

    def tried():
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    tried.path = str(path)
    return tried


def noting(log, result):
    """A trial that notes its cell in `log` before it computes ``result(x)``."""
    path = log.path

    def trial(call):
        with open(path, "a") as file:
            file.write(f"{call.x}\n")
        return result(call.x)

    return trial


def in_all_ways(x):
    """Fails in another way for each of the cells 1 to 6."""
    if x == 1:
        raise KeyError("oh")
    if x == 2:
        sys.exit(0)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 4:
        os._exit(0)
    if x == 5:
        return {"y": math.nan}
    if x == 6:
        time.sleep(600)
    return {"y": x}


REASONS = {
    1: "KeyError: 'oh'",
    2: "SystemExit: 0",
    3: "its worker process was killed, most often for want of memory",
    4: "its worker process ended with status 0",
    5: "the trial found nothing but nan",
    6: "stopped after",
}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_trials_that_fail_in_all_ways_stop_no_other_and_are_named(
    toy, log, lines, tmp_path, n_jobs
):
    experiment = replace(toy(), trial=noting(log, in_all_ways))
    terms = Terms(limit=4.0)
    with pytest.raises(TrialError, match=r"toy: 6 of 9 cells failed\. Rows finished be") as caught:
        sweep(experiment, grid(x=range(9)), store=tmp_path, n_jobs=n_jobs, terms=terms)
    told = caught.value.__notes__
    for x, reason in REASONS.items():
        assert sum(line.startswith(f"  cell {{'x': {x}}}: {reason}") for line in told) == 1
    assert sorted(log()) == list(range(9)), "each was tried once"
    assert sorted(line.split(b",")[0] for line in lines()[1:-1]) == [b"0", b"7", b"8"]


def test_what_failed_is_tried_last_and_given_up_after_three_starts(toy, log, tmp_path):
    def result(x):
        if x < 2:
            raise ValueError(f"no {x}")
        return {"y": x}

    experiment = replace(toy(), trial=noting(log, result))
    for start, cells in enumerate([range(3), range(5), range(7), range(9)]):
        before = len(log())
        with pytest.raises(TrialError) as caught:
            sweep(experiment, grid(x=cells), store=tmp_path, terms=Terms())
        failing = [0, 1] if start < 3 else []
        new = [x for x in cells if x >= 2 and x not in log()[:before]]
        assert log()[before:] == (new + failing if start else failing + new)
    assert "given up after 3 tries (--retry), the last: ValueError: no 0" in str(
        caught.value.__notes__
    )
    before = len(log())
    with pytest.raises(TrialError):
        sweep(experiment, grid(x=range(9)), store=tmp_path, terms=Terms(retry=True))
    assert log()[before:] == [0, 1]


def test_other_code_is_another_chance_and_success_forgets(toy, log, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.touch()

    def result(x):
        if x == 0 and broken.exists():
            raise ValueError("no")
        return {"y": x}

    experiment = replace(toy(), trial=noting(log, result))
    notes = tmp_path / "toy.failures"
    for _ in range(3):
        with pytest.raises(TrialError):
            sweep(experiment, grid(x=range(2)), store=tmp_path, terms=Terms())
    entries = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [e["cell"] for e in entries] == [{"x": 0}] * 3
    assert entries[0]["reason"] == "ValueError: no" and "in result" in entries[0]["trace"]
    with notes.open("a") as file:
        file.write('{"cell": {"x"')  # a kill cut it
    broken.unlink()
    with pytest.raises(TrialError, match="given up after 3 tries"):
        sweep(experiment, grid(x=range(2)), store=tmp_path, terms=Terms())
    text = notes.read_text().replace('"code": ""', '"code": "other"')
    notes.write_text(text)
    assert len(sweep(experiment, grid(x=range(2)), store=tmp_path, terms=Terms())) == 2
    assert not notes.exists()


def test_the_command_names_what_failed_goes_on_and_exits_with_1(registry, toy, tmp_path, capsys):
    register(toy("hangs", result=lambda x: time.sleep(600) if x == 1 else {"y": x}))
    register(toy("well"))
    where = ["--profile", "smoke", "--device", "cpu", "--store", str(tmp_path)]
    assert main(["run", "--all", "--trial-limit", "3s", *where]) == 1
    told = capsys.readouterr()
    assert "hangs, cell {'x': 1}: stopped after" in told.err and "(--trial-limit)" in told.err
    assert "1 of 2 experiments failed: hangs" in told.err and "well: 3 cells in" in told.out


def test_without_terms_a_worker_that_dies_ends_the_sweep_with_the_name_of_its_cell(toy, tmp_path):
    with pytest.raises(TrialError, match=r"toy, cell \{'x': 3\}: its worker process was killed"):
        cells = [{"x": 3}, *grid(x=range(7, 60))]
        sweep(toy(result=in_all_ways), cells, store=tmp_path, n_jobs=2)


def test_nan_in_one_of_two_columns_is_a_result(toy, tmp_path):
    experiment = toy(result=lambda x: {"y": x, "z": math.nan})
    assert len(sweep(experiment, grid(x=range(2)), store=tmp_path, terms=Terms())) == 2


# -- groups whose rows come one by one -------------------------------------------------------------


def streaming(log, result):
    path = log.path

    def trial(calls):
        for call in calls:
            with open(path, "a") as file:
                file.write(f"{call.x}\n")
            yield result(call.x)

    return trial


@pytest.mark.parametrize("bad", [1, 2, 3, 4, 5, 6])
def test_a_group_that_yields_its_rows_loses_one_cell_to_each_fault(
    together, log, lines, tmp_path, bad
):
    experiment = replace(together(), trial=streaming(log, in_all_ways), group=lambda cell: 0)
    cells = [{"x": x} for x in (0, 7, bad, 8, 9)]
    with pytest.raises(TrialError, match=f"cell {{'x': {bad}}}: {REASONS[bad][:20]}"):
        sweep(experiment, cells, store=tmp_path, terms=Terms(limit=1.0))
    assert [line.split(b",")[0] for line in lines()[1:-1]] == [b"0", b"7", b"8", b"9"]
    assert log() == [0, 7, bad, 8, 9]


def test_rows_that_a_group_yields_are_stored_as_they_come(together, log, lines, tmp_path):
    def result(x):
        assert len(log()) == 1 or len(lines()) == 1 + (len(log()) - 1) + 1
        time.sleep(0.01 * x)
        return {"y": x}

    experiment = replace(together(), trial=streaming(log, result), group=lambda cell: 0)
    frame = sweep(experiment, grid(x=[0, 3, 6]), store=tmp_path)
    assert frame["y"].tolist() == [0, 3, 6]
    assert (frame["seconds"] >= 0.01 * frame["x"]).all(), "each states its own"
    assert frame["seconds"].nunique() > 1
    assert frame["date"].nunique() == 1, "what was computed together has one date"


@pytest.mark.parametrize("found", [2, 4])
def test_too_few_or_too_many_yielded_rows_are_an_error(together, tmp_path, found):
    def trial(calls):
        for k in range(found):
            yield {"y": k}

    experiment = replace(together(), trial=trial, group=lambda cell: 0)
    with pytest.raises(TrialError, match=r"results for 3 cells"):
        sweep(experiment, grid(x=range(3)), store=tmp_path)


# -- the time --------------------------------------------------------------------------------------


def test_the_budget_ends_a_run_before_a_group_that_does_not_fit_and_the_next_goes_on(
    registry, toy, tmp_path, capsys
):
    register(toy(result=lambda x: time.sleep(1.0) or {"y": x}, cells=lambda p: grid(x=range(20))))
    where = ["run", "toy", "--profile", "laptop", "--device", "cpu", "--store", str(tmp_path)]
    start = time.monotonic()
    assert main([*where, "--budget", "12s"]) == 0
    took, told = time.monotonic() - start, capsys.readouterr().out
    assert took < 14
    done = int(told.split("toy: ")[-1].split()[0])
    assert 2 <= done <= 12 and f"{20 - done} left for the next run" in told
    file = Store(tmp_path / "toy.csv", frozenset({"x"}))
    file.read()
    assert [row["x"] for row in file.rows.values()] == list(range(done)), "in the grid's order"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_group_that_does_not_fit_is_not_begun_and_smaller_ones_are(toy, log, tmp_path):
    trial = noting(log, lambda x: {"y": x})
    experiment = replace(toy(cells=lambda p: grid(x=0, trial=0)), trial=trial)
    cells = [{"x": x, "trial": t} for t in (0, 1) for x in (0, 1, 2)]
    sweep(experiment, cells[:3], store=tmp_path)
    path = tmp_path / "toy.csv"
    head, *rows = path.read_text().splitlines()
    place = head.split(",").index("seconds")
    for k in range(3):
        fields = rows[k].split(",")
        fields[place - len(head.split(","))] = ["0.5", "900.0", "0.5"][k]
        rows[k] = ",".join(fields)
    path.write_text("\n".join([head, *rows]) + "\n")
    frame = sweep(experiment, cells, store=tmp_path, terms=Terms(ends=time.monotonic() + 100))
    assert log()[3:] == [0, 2] and frame.attrs["left"] == 1 and len(frame) == 5


def test_a_trial_in_flight_when_the_time_is_up_is_stopped_and_is_no_failure(toy, log, tmp_path):
    experiment = replace(toy(), trial=noting(log, lambda x: time.sleep(100 * x) or {"y": x}))
    start = time.monotonic()
    frame = sweep(experiment, grid(x=range(3)), store=tmp_path, terms=Terms(ends=start + 6))
    assert time.monotonic() - start < 9 and frame.attrs["left"] == 2
    assert frame["x"].tolist() == [0] and not (tmp_path / "toy.failures").exists()


@pytest.mark.parametrize("text", ["50", "0s", "1d", "m", "1.2.3h"])
def test_times_that_are_none_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["run", "x", "--profile", "smoke", "--budget", text])
    assert f"'{text}' is no time" in capsys.readouterr().err


# -- two clients -----------------------------------------------------------------------------------


CLIENT = """
import fcntl, os, sys, time
from helpers.sweep import Experiment, Terms, grid, sweep

how = sys.argv[3]
if how == "nothing":
    fcntl.flock = lambda fd, operation: None
elif how == "fails":
    def flock(fd, operation):
        raise OSError(38, "no locks here")
    fcntl.flock = flock

def trial(call):
    with open(call.data_dir, "a") as file:
        file.write(f"{call.x}\\n")
    time.sleep(0.05)
    return {"y": call.x / 7}

experiment = Experiment("shared", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
frame = sweep(experiment, grid(x=range(40)), store=sys.argv[1], context={"data_dir": sys.argv[2]})
assert frame["y"].tolist() == [x / 7 for x in range(40)], frame
"""


def client(tmp_path, how="works"):
    arguments = [sys.executable, "-c", CLIENT, tmp_path / "store", tmp_path / "log", how]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("how", ["works", "nothing", "fails"])
def test_clients_of_one_table_compute_each_cell_once_whatever_flock_does(tmp_path, log, how):
    (tmp_path / "store").mkdir()
    both = [client(tmp_path, how) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]
    assert sorted(set(log())) == list(range(40)) and len(log()) < 1.2 * 40
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["shared.csv"]


def test_what_a_killed_client_was_at_is_computed_by_the_other(tmp_path, log):
    (tmp_path / "store").mkdir()
    both = [client(tmp_path) for _ in range(2)]
    while len(log()) < 8:
        time.sleep(0.01)
    both[0].kill()
    assert both[0].wait() == -signal.SIGKILL and both[1].wait() == 0
    assert sorted(set(log())) == list(range(40)) and len(log()) <= 41
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["shared.csv"]


def test_a_claim_is_respected_until_its_client_is_dead_or_silent(tmp_path, monkeypatch):
    table = tmp_path / "toy.csv"
    with Claims(table) as first, Claims(table) as second:
        assert first.take("a") and not second.take("a") and second.take("b")
        first.drop("a")
        assert second.take("a")
        monkeypatch.setattr("helpers.sweep.locks._SILENCE", 0.0)
        assert not first.take("b"), "the first look only begins the watch"
        assert first.take("b"), "no sign of life since then"
    assert list(tmp_path.iterdir()) == []


def test_signs_of_life_keep_a_claim(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.sweep.locks._BEAT", 0.05)
    monkeypatch.setattr("helpers.sweep.locks._SILENCE", 2.0)
    with Claims(tmp_path / "toy.csv") as first, Claims(tmp_path / "toy.csv") as second:
        assert first.take("a")
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            assert not second.take("a")
            time.sleep(0.2)


def test_the_lock_of_a_dead_process_of_this_machine_is_no_hindrance(tmp_path, capsys):
    script = """
import os, sys
from pathlib import Path
from helpers.sweep.locks import lock_file
with lock_file(Path(sys.argv[1])):
    os._exit(0)
"""
    lock = tmp_path / "lock"
    subprocess.run([sys.executable, "-c", script, lock], check=True)
    assert lock.exists()
    start = time.monotonic()
    with lock_file(lock):
        assert time.monotonic() - start < 5
    assert "removed the lock" in capsys.readouterr().out and not lock.exists()


def test_of_two_that_find_a_lock_that_was_left_one_removes_it(tmp_path, capsys):
    """The slower one finds the lock of the faster one in its place, and leaves it."""
    lock = tmp_path / "lock"
    lock.write_text("of another")
    locks._remove(lock, "that was left")
    assert lock.read_text() == "of another" and list(tmp_path.iterdir()) == [lock]
    assert capsys.readouterr().out == ""
    locks._remove(lock, "of another")
    locks._remove(lock, "of another")
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out.count("removed the lock") == 1


def test_a_process_of_another_container_of_this_name_is_not_taken_for_dead():
    script = "import os; from helpers.sweep import locks; print(locks._signature(), end='')"
    dead = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True).stdout
    assert locks._is_dead(dead) and not locks._is_dead(locks._signature())
    assert not locks._is_dead(dead.replace("pid:[", "pid:[1"))


@pytest.mark.parametrize("when", ["take", "drop", "end"])
def test_claims_that_cannot_be_written_or_removed_are_no_crash(tmp_path, monkeypatch, when):
    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied")

    claims = Claims(tmp_path / "toy.csv")
    with claims:
        if when != "take":
            assert claims.take("a")
        monkeypatch.setattr(Path, "mkdir" if when == "take" else "unlink", refuse)
        if when == "take":
            with pytest.raises(StoreError, match=r"claims \(Permission denied\)"):
                claims.take("a")
        if when == "drop":
            claims.drop("a")
            monkeypatch.undo()
    assert when == "end" or list(tmp_path.iterdir()) == []


def test_a_claim_that_found_no_space_does_not_stay(tmp_path, monkeypatch):
    real = Path.open

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    def full(self, mode="r", **options):
        real(self, mode, **options).close()
        return Full()

    with Claims(tmp_path / "toy.csv") as claims:
        assert claims.take("a")
        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(StoreError, match="No space left on device"):
            claims.take("b")
        monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


# -- long tables, orphans --------------------------------------------------------------------------


def test_appending_costs_the_same_in_a_long_table_as_in_a_short_one(toy, tmp_path, monkeypatch):
    """Bytes read and written for one row, counted: no clock, which a busy machine would upset."""
    row = sweep(toy(), grid(x=0), store=None).iloc[0].to_dict()
    touched = []
    for name in ("pread", "write"):
        real = getattr(os, name)

        def counting(fd, what, *rest, real=real):
            done = real(fd, what, *rest)
            touched.append(done if isinstance(done, int) else len(done))
            return done

        monkeypatch.setattr(os, name, counting)
    cost = {}
    for size in (10, 5_000):
        store = Store(tmp_path / f"{size}.csv", frozenset({"x"}))
        store.append(*(row | {"x": 100_000 + x} for x in range(size)))
        touched.clear()
        store.append(row | {"x": 1})
        store.append(row | {"x": 2})
        cost[size] = sum(touched)
        assert len(store.rows) == size + 2
    assert cost[5_000] <= cost[10] + 16


def test_workers_end_with_their_client(left_by_a_killed_client):
    workers = left_by_a_killed_client("os.getpid()")
    until = time.monotonic() + 20
    while time.monotonic() < until and any(map(alive, workers)):
        time.sleep(0.05)
    assert len(workers) == 2 and not any(map(alive, workers))


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_other_code_in_a_worker_is_refused(tmp_path, monkeypatch):
    """The package is edited between the start of the client and that of its worker."""
    monkeypatch.setattr(Experiment, "code", "0123456789abcdef")
    monkeypatch.setattr("helpers.sweep.course.package_text", lambda: "another text")
    cell = {"weight": 0.5, "norm": 1.0, "samples": 100, "trial": 0}
    with pytest.raises(TrialError, match="not computed: other code: experiment mixture_weight is"):
        sweep("mixture_weight", [cell], store=tmp_path, n_jobs=2)
    assert not (tmp_path / "mixture_weight.csv").exists()
