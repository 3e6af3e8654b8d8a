"""The results file under everything that can happen to it."""

import csv
import errno
import fcntl
import itertools
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
from helpers.sweep import Experiment, TrialError, grid, stored_rows, sweep
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
            "TRUE",
            "1.5E-07",
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


def start(tmp_path, cells, n_jobs=1, **environment):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = [sys.executable, script, tmp_path / "store", tmp_path / "log", str(cells)]
    environment = os.environ | environment
    return subprocess.Popen([*arguments, str(n_jobs)], stdout=subprocess.DEVNULL, env=environment)


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


# -- file systems without locks -------------------------------------------------------------------


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EPERM", "EIO"])
def no_flock(request, monkeypatch):
    def refuse(fd, operation):
        raise OSError(getattr(errno, request.param), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("helpers.sweep.locks._LOOKS", 3)


def test_without_locks_rows_are_stored_read_and_mended(no_flock, toy, lines, tmp_path):
    runs = []
    sweep(toy(runs=runs), grid(x=range(2)), store=tmp_path)
    with (tmp_path / "toy.csv").open("a") as file:
        file.write("torn")
    frame = sweep(toy(runs=runs), grid(x=range(4)), store=tmp_path)
    assert runs == frame["x"].tolist() == [0, 1, 2, 3]
    assert len(lines()) == 1 + 4 + 1
    assert [path.name for path in tmp_path.iterdir()] == ["toy.csv"]


def test_without_locks_a_read_only_store_is_read(no_flock, toy, public_folder):
    sweep(toy(), grid(x=range(3)), store=public_folder)
    (public_folder / "toy.csv").chmod(0o444)
    with read_only(public_folder):
        assert sweep(toy(), grid(x=range(2)), store=public_folder)["y"].tolist() == [0, 1]


def test_without_locks_what_cannot_be_written_is_known_before_computing(
    no_flock, toy, public_folder
):
    runs = []
    sweep(toy(), grid(x=0), store=public_folder)
    (public_folder / "toy.csv").chmod(0o666)
    with read_only(public_folder), pytest.raises(StoreError, match="nothing was computed"):
        sweep(toy(runs=runs), grid(x=range(3)), store=public_folder)
    assert runs == []


@pytest.mark.parametrize("holder", ["", "another-host, process 7, 1"])
def test_the_lock_file_of_a_dead_process_does_not_stay(no_flock, toy, tmp_path, capsys, holder):
    lock = tmp_path / ".toy.csv.lock"
    lock.write_text(holder)
    assert sweep(toy(), grid(x=range(2)), store=tmp_path)["y"].tolist() == [0, 1]
    told = capsys.readouterr().out
    assert told == f"removed the lock {lock} that was left by {holder or 'an unknown process'}\n"
    assert not lock.exists()


def test_a_lock_file_that_changes_hands_is_waited_for(no_flock, toy, tmp_path, monkeypatch):
    lock, others = tmp_path / ".toy.csv.lock", iter(range(20))
    lock.write_text("first")

    def pause(seconds):
        following = next(others, None)
        lock.unlink() if following is None else lock.write_text(f"process {following}")

    monkeypatch.setattr("helpers.sweep.locks.time.sleep", pause)
    assert sweep(toy(), grid(x=0), store=tmp_path)["y"].tolist() == [0]
    assert next(others, None) is None, "20 others came first"


@pytest.fixture(scope="module")
def without_flock(tmp_path_factory):
    """The environment of a process for whom the system has no `flock`."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    source = tmp_path_factory.mktemp("preload") / "flock.c"
    source.write_text("#include <errno.h>\nint flock(int a, int b) { errno = ENOSYS; return -1; }")
    library = source.with_suffix(".so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


def test_without_locks_two_processes_write_each_row_once(without_flock, tmp_path):
    (tmp_path / "store").mkdir()
    both = [start(tmp_path, 25, **without_flock) for _ in range(2)]
    for process in both:
        process.wait()
        assert process.returncode == 0
    assert sorted(stored_cells(tmp_path)) == list(range(25))
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["killed.csv"]


# -- files that were cut, replaced, or saved by another program -----------------------------------


def test_a_file_from_an_editor_is_read_and_grows(toy, tmp_path, capsys):
    """Byte order marks, carriage returns, blank lines at the end, quotes that need not be."""
    path = tmp_path / "toy.csv"
    sweep(toy(), grid(x=range(2)), store=tmp_path)
    plain = path.read_bytes()
    for mark, end, tail, quoted in itertools.product(
        [b"", b"\xef\xbb\xbf"], [b"\n", b"\r\n"], [0, 1, 3], [False, True]
    ):
        saved = plain.replace(b"made up, here", b"here").replace(b'"here"', b"here")
        if quoted:
            saved = saved.replace(b",here,", b',"here",')
        path.write_bytes(mark + saved.replace(b"\n", end) + tail * end)
        runs = []
        assert sweep(toy(runs=runs), grid(x=range(2)), store=tmp_path)["y"].tolist() == [0, 1]
        assert path.read_bytes().endswith(tail * end), "reading changes nothing"
        sweep(toy(runs=runs), grid(x=range(4)), store=tmp_path)
        assert sweep(toy(runs=runs), grid(x=range(4)), store=tmp_path)["y"].tolist() == [0, 1, 4, 9]
        assert runs == [2, 3] and capsys.readouterr().out == ""
        grown = path.read_bytes()
        assert grown.startswith(mark + b"x,y,") and grown.count(b"\n") == grown.count(end) == 5


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"x,y"])
def test_a_file_without_a_whole_line_counts_as_empty(toy, lines, tmp_path, content):
    (tmp_path / "toy.csv").write_bytes(content)
    assert sweep(toy(), grid(x=range(2)), store=tmp_path)["y"].tolist() == [0, 1]
    assert [line[:2] for line in lines()] == [b"x,", b"0,", b"1,", b""]


def test_a_file_with_a_header_only_is_used(toy, lines, tmp_path):
    sweep(toy(), grid(x=0), store=tmp_path)
    header = lines()[0].replace(b"x,y", b"y,x")
    (tmp_path / "toy.csv").write_bytes(header + b"\n")
    assert sweep(toy(), grid(x=3), store=tmp_path)["y"].tolist() == [9]
    assert lines()[0] == header and lines()[1].startswith(b"9.0,3,")


@pytest.mark.parametrize("place", ["with space", "[a-z]*?", "äöü ß", "~tilde", "#%&;'"])
def test_a_store_may_have_any_name(toy, tmp_path, place):
    runs = []
    for _ in range(2):
        assert len(sweep(toy(runs=runs), grid(x=range(2)), store=tmp_path / place)) == 2
    assert runs == [0, 1] and (tmp_path / place / "toy.csv").exists()


def test_numbers_that_lost_their_point_are_the_same_cells_and_booleans_are_not(
    toy, alter, tmp_path
):
    runs = []
    experiment = toy(runs=runs, result=lambda x: {"y": 2.0 * x})
    sweep(experiment, [{"x": 3.0}, {"x": True}], store=tmp_path)
    alter("\n3.0,6.0,", "\n3,6,")
    frame = sweep(experiment, [{"x": 3.0}, {"x": True}], store=tmp_path)
    assert frame["y"].tolist() == [6, 2] and len(runs) == 2
    alter("\nTrue,", "\nTRUE,")
    with pytest.raises(StoreError, match="line 3: TRUE was written by a spreadsheet"):
        sweep(experiment, [{"x": 3.0}, {"x": True}], store=tmp_path)
    assert len(runs) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace(b",0.25,", b",2.50E-01,"), "2.50E-01 was written by a spread"),
        (lambda text: text.replace(b",0.25,", b',"0,25",'), "'0,25' is not a number"),
        (lambda text: text.replace(b",", b";"), "line 1: the header lacks the columns"),
        (lambda text: text.replace(b",abc1234\n", b",1234567\n"), "revision is 1234567, not text"),
        (lambda text: text.replace(b"\n", b"\r"), "line 1: lines end in a lone carriage return"),
        (lambda text: text.decode().encode("utf-16"), "line 1.*decode"),
    ],
)
def test_what_a_spreadsheet_may_do_is_named_and_changes_nothing(toy, tmp_path, change, message):
    runs, path = [], tmp_path / "toy.csv"
    sweep(toy(result=lambda x: {"y": 0.25}), grid(x=range(2)), store=tmp_path)
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            sweep(toy(runs=runs), grid(x=range(9)), store=tmp_path)
    assert runs == [] and path.read_bytes() == damaged


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


def test_a_results_file_that_is_a_folder_is_an_error_before_computing(toy, tmp_path):
    runs = []
    (tmp_path / "toy.csv").mkdir()
    with pytest.raises(StoreError, match="cannot read the results file .*Is a directory"):
        sweep(toy(runs=runs), grid(x=range(2)), store=tmp_path)
    assert runs == []


def test_other_result_columns_are_an_error_that_names_them(toy, lines, tmp_path):
    sweep(toy(), grid(x=range(2)), store=tmp_path)
    before = lines()
    with pytest.raises(TrialError, match=r"only in the file: \['y'\]; .* new row: \['z'\]"):
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
