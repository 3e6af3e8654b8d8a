"""The results file under everything that can happen to it."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.errors import StoreError
from helpers.sweep import Experiment, grid, stored_rows, sweep
from helpers.sweep.store import decode, encode, key_of

pytestmark = pytest.mark.filterwarnings("error")


# -- values survive the file ----------------------------------------------------------------------


scalars = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(
        [
            "1",
            "1.0",
            "-inf",
            "nan",
            "True",
            '"',
            '"1"',
            "",
            " 1",
            "1_0",
            "\n",
            "\ud800",
            "a,b",
            "\u2028",
            "１",
        ]
    )
)


def same(left, right):
    return type(left) is type(right) and repr(left) == repr(right)


@given(scalars)
def test_every_scalar_is_one_line_and_reads_back_as_itself(value):
    text = encode(value)
    assert "\n" not in text and "\r" not in text
    assert same(decode(text), value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(scalars, st.floats() | st.integers()), min_size=1, max_size=6))
def test_rows_read_back_exactly_through_the_file(rows):
    results = {key_of({"x": x}): y for x, y in rows}
    experiment = Experiment(
        "exact",
        lambda call: {"y": results[key_of({"x": call.x})]},
        lambda p: [{"x": 0}],
        0.0,
        lambda c: True,
    )
    cells = [{"x": x} for x, _ in rows]
    with tempfile.TemporaryDirectory() as store:
        sweep(experiment, cells, store=store, progress=False)
        stored = stored_rows(experiment, Path(store))
    assert len(stored) == len(results)
    for row in stored:
        assert same(row["y"], results[key_of({"x": row["x"]})])


# -- interruptions --------------------------------------------------------------------------------


SCRIPT = """
import sys, time
from helpers.sweep import Experiment, grid, sweep

def trial(call):
    with open(call.data_dir, "a") as file:
        file.write(f"{call.x}\\n")
    time.sleep(0.03)
    return {"y": call.x / 7}

experiment = Experiment("killed", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
count = int(sys.argv[3])
frame = sweep(experiment, grid(x=range(count)), store=sys.argv[1],
              context={"data_dir": sys.argv[2]}, n_jobs=int(sys.argv[4]))
assert frame["y"].tolist() == [x / 7 for x in range(count)], frame
"""


def start(tmp_path, cells, n_jobs=1):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = [sys.executable, script, tmp_path / "store", tmp_path / "log", str(cells)]
    return subprocess.Popen([*arguments, str(n_jobs)], stdout=subprocess.DEVNULL)


def executed(tmp_path):
    log = tmp_path / "log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def stored_cells(tmp_path):
    path = tmp_path / "store" / "killed.csv"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [int(row["x"]) for row in csv.DictReader(whole.splitlines())]


def kill_after(process, tmp_path, count):
    limit = time.monotonic() + 60
    while len(executed(tmp_path)) < count and time.monotonic() < limit:
        time.sleep(0.002)
    # anywhere in the trial, in the writing of its row, or at the start of the next one
    time.sleep(random.Random(count).uniform(0, 0.06))
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_sigkill_loses_nothing_and_repeats_only_the_trial_in_flight(tmp_path):
    cells, kills = 40, (3, 11, 12, 25)
    for count in kills:
        kill_after(start(tmp_path, cells), tmp_path, count)
        before, done = executed(tmp_path), stored_cells(tmp_path)
        assert len(before) - len(set(before)) <= kills.index(count)
        assert len(set(before)) - len(done) <= 1, "all but the trial in flight is stored"
    final = start(tmp_path, cells)
    final.wait()
    assert final.returncode == 0
    runs = executed(tmp_path)
    assert set(runs) == set(range(cells))
    assert len(runs) <= cells + len(kills)
    assert not set(runs[len(before) :]) & set(done), "no stored cell is run again"
    assert sorted(stored_cells(tmp_path)) == list(range(cells)), "each cell stored exactly once"


def test_sigkill_with_two_workers(tmp_path):
    kill_after(start(tmp_path, 20, n_jobs=2), tmp_path, 8)
    done = stored_cells(tmp_path)
    time.sleep(0.1)  # the orphaned workers end their trials
    before = len(executed(tmp_path))
    final = start(tmp_path, 20, n_jobs=2)
    final.wait()
    assert final.returncode == 0
    runs = executed(tmp_path)
    assert set(runs) == set(range(20)) and not set(runs[before:]) & set(done)
    assert sorted(stored_cells(tmp_path)) == list(range(20))


def test_two_processes_on_one_store_write_each_row_once(tmp_path):
    (tmp_path / "store").mkdir()
    both = [start(tmp_path, 25), start(tmp_path, 25)]
    for process in both:
        process.wait()
        assert process.returncode == 0
    assert sorted(stored_cells(tmp_path)) == list(range(25))


def test_a_file_cut_at_any_byte_recovers(toy, tmp_path, capsys):
    """A kill leaves some prefix of what was to be written: try every one of them."""
    experiment = toy()
    whole = sweep(experiment, grid(x=range(3)), store=tmp_path)[["x", "y"]]
    content = (tmp_path / "toy.csv").read_bytes()
    for size in range(len(content)):
        (tmp_path / "toy.csv").write_bytes(content[:size])
        runs = []
        frame = sweep(toy(runs=runs), grid(x=range(3)), store=tmp_path)
        complete = max(0, content[:size].count(b"\n") - 1)
        assert runs == [0, 1, 2][complete:]
        assert frame[["x", "y"]].equals(whole)
        torn = size > 0 and content[size - 1 : size] != b"\n"
        assert ("dropped an incomplete last line" in capsys.readouterr().out) == torn


def test_reading_ignores_a_torn_line_and_leaves_the_file_alone(toy, tmp_path, capsys):
    sweep(toy(), grid(x=range(3)), store=tmp_path)
    path = tmp_path / "toy.csv"
    torn = path.read_bytes()[:-5]
    path.write_bytes(torn)
    assert sweep(toy(), grid(x=range(2)), store=tmp_path)["y"].tolist() == [0, 1]
    assert path.read_bytes() == torn
    assert "ignored an incomplete last line" in capsys.readouterr().out


def test_a_file_replaced_during_the_sweep_still_gets_the_later_rows(toy, lines, tmp_path):
    def result(x):
        if x == 2:  # what `git checkout` does
            path = tmp_path / "toy.csv"
            text = path.read_bytes()
            path.unlink()
            path.write_bytes(text.rpartition(b"\n1,")[0] + b"\n")
        return {"y": x}

    frame = sweep(toy(result=result), grid(x=range(4)), store=tmp_path)
    assert [line.split(b",")[0] for line in lines()] == [b"x", b"0", b"2", b"3", b""]
    assert frame["x"].tolist() == [0, 2, 3]


# -- files and disks that do not do ---------------------------------------------------------------


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda rows: rows[:2] + [b"garbage"] + rows[3:],
            "line 3: 1 fields where the header has 8",
        ),
        (lambda rows: rows[:2] + [b""] + rows[3:], "line 3: 0 fields"),
        (lambda rows: rows[:2] + [b"\x00" * 40] + rows[3:], "line 3"),
        (lambda rows: rows[:2] + [b"\xff" + rows[2]] + rows[3:], "line 3.*decode"),
        (lambda rows: rows[:2] + [rows[2].replace(b",1.0,", b",l.0,")] + rows[3:], "not a number"),
        (
            lambda rows: rows[:2] + [rows[2].replace(b",1.0,", b",,")] + rows[3:],
            "'' is not a number",
        ),
        (lambda rows: rows[:2] + [rows[2] + b',"open'] + rows[3:], "line 3"),
        (lambda rows: rows[:3] + [rows[1]] + rows[3:], "line 4: its cell is already stored"),
        (lambda rows: [b"<<<<<<< HEAD"] + rows, "line 1: the header lacks the columns"),
        (lambda rows: [b"x,x" + rows[0][3:]] + rows[1:], "line 1"),
    ],
)
def test_damage_in_the_middle_is_one_clear_error_and_changes_nothing(
    toy, lines, tmp_path, damage, message
):
    runs = []
    sweep(toy(result=lambda x: {"y": float(x)}), grid(x=range(3)), store=tmp_path)
    damaged = b"\n".join(damage(lines()))
    (tmp_path / "toy.csv").write_bytes(damaged)
    with pytest.raises(StoreError, match=message) as caught:
        sweep(toy(runs=runs), grid(x=range(9)), store=tmp_path)
    assert "toy.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert runs == [] and (tmp_path / "toy.csv").read_bytes() == damaged


def test_other_result_columns_are_an_error_that_names_them(toy, lines, tmp_path):
    sweep(toy(), grid(x=range(2)), store=tmp_path)
    before = lines()
    with pytest.raises(StoreError, match=r"only in the file: \['y'\]; .* new row: \['z'\]"):
        sweep(toy(result=lambda x: {"z": x}), grid(x=range(3)), store=tmp_path)
    assert lines() == before


def test_other_parameters_are_an_error_before_anything_runs(toy, tmp_path):
    runs = []
    sweep(toy(), grid(x=range(2)), store=tmp_path)
    grown = toy(runs=runs, cells=lambda profile: grid(x=7, seed=1))
    with pytest.raises(StoreError, match=r"parameters \['x'\], but .* have \['seed', 'x'\]"):
        sweep(grown, grid(x=7, seed=1), store=tmp_path)
    assert runs == []


def test_a_missing_folder_is_made_and_said_in_one_line(toy, tmp_path, capsys):
    sweep(toy(), grid(x=range(2)), store=tmp_path / "a" / "b")
    assert capsys.readouterr().out == f"created the results folder {tmp_path / 'a' / 'b'}\n"
    assert (tmp_path / "a" / "b" / "toy.csv").exists()


def test_a_store_below_a_regular_file_is_an_error_before_computing(toy, tmp_path):
    runs = []
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="Not a directory"):
        sweep(toy(runs=runs), grid(x=range(2)), store=tmp_path / "file" / "results")
    assert runs == []


@contextmanager
def read_only(folder):
    """`folder` as someone sees it who may read and not write (root may always write)."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def public_folder():
    folder = Path(tempfile.mkdtemp())  # unlike tmp_path, open to everyone
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_read_only_store_is_used_when_it_holds_all_that_is_asked(toy, public_folder):
    runs = []
    sweep(toy(runs=runs), grid(x=range(3)), store=public_folder)
    (public_folder / "toy.csv").chmod(0o444)
    with read_only(public_folder):
        assert sweep(toy(runs=runs), grid(x=range(2)), store=public_folder)["y"].tolist() == [0, 1]
    assert runs == [0, 1, 2]


@pytest.mark.parametrize("stored", [0, 1])
def test_a_read_only_store_is_an_error_before_computing_what_is_missing(toy, public_folder, stored):
    runs = []
    sweep(toy(), grid(x=range(stored)), store=public_folder)
    for path in public_folder.iterdir():
        path.chmod(0o444)
    with read_only(public_folder), pytest.raises(StoreError, match="nothing was computed") as error:
        sweep(toy(runs=runs), grid(x=range(3)), store=public_folder)
    assert "Permission denied" in str(error.value) and runs == []


def test_a_full_disk_keeps_whole_rows_and_shows_the_one_that_did_not_fit(lines, tmp_path):
    """The file-size limit of a process fails in the middle of a write, as a full disk does."""
    script = """
import resource, sys
from pathlib import Path
from helpers.errors import StoreError
from helpers.sweep import Experiment, grid, sweep

def trial(call):
    return {"y": call.x / 7}

toy = Experiment("toy", trial, lambda profile: grid(x=0), 0.0, lambda cell: True)
store = Path(sys.argv[1])
sweep(toy, grid(x=[0, 1]), store=store)
size = (store / "toy.csv").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    sweep(toy, grid(x=2), store=store)
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert "cannot write to" in done.stdout and "'y': 0.2857142857142857" in done.stdout
    assert [line[:2] for line in lines()] == [b"x,", b"0,", b"1,", b""]
