"""Rows that do not fit, rows that cannot be stored, and what becomes of those beside them."""

import enum
import math
import os
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from helpers.errors import StoreError
from helpers.sweep import Experiment, Terms, TrialError, grid, stored_rows, sweep
from helpers.sweep.command import main
from helpers.sweep.failures import Failures
from helpers.sweep.store import Store, as_cell, key_of
from helpers.sweep.trials import Outcome

pytestmark = pytest.mark.filterwarnings("error")


# -- exactly what was found -----------------------------------------------------------------------


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    RELU = "relu"


class Number(float):
    def __repr__(self):
        return f"<{float(self)}>"


def bits(value):
    return struct.pack("<d", value)


def test_values_are_stored_as_what_they_are_to_the_last_bit(toy, tmp_path):
    found = {
        "enumeration": Level.HIGH, "own": Number(0.1), "flag": np.bool_(True), "int": np.int64(7),
        "half": np.float16(0.1), "single": np.float32(0.1), "double": np.float64(0.1),
        "minus": -0.0, "tiny": 5e-324, "large": 1.7976931348623157e308, "inf": -math.inf,
        "whole": 2**63 + 1, "array": np.array(1 / 3),
    }  # fmt: skip
    experiment = replace(toy(), trial=lambda call: dict(found))
    sweep(experiment, grid(x=0), store=tmp_path)
    (row,) = stored_rows(experiment, tmp_path)
    for name, value in found.items():
        kind = int if name in ("enumeration", "flag", "int", "whole") else float
        assert type(row[name]) is kind and row[name] == value
        assert kind is int or bits(row[name]) == bits(float(value))


def test_parameters_are_stored_as_what_they_are(toy, tmp_path):
    cell = as_cell({"a": Level.HIGH, "b": Name.RELU, "c": np.str_("x"), "d": Number(0.1)})
    assert [*map(repr, cell.values())] == ["3", "'relu'", "'x'", "0.1"]
    experiment = replace(toy(), trial=lambda call: {"y": 1})
    for x in (Level.HIGH, 3, Name.RELU, "relu"):
        sweep(experiment, [{"x": x}], store=tmp_path)
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == [3, "relu"]


@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_that_could_not_be_read_back_are_refused(toy, tmp_path, sign):
    number = sign * 10**5000
    with pytest.raises(TrialError, match="'y' is a whole number of more than 308 digits"):
        sweep(toy(result=lambda x: {"y": number}), grid(x=0), store=tmp_path)
    with pytest.raises(ValueError, match="'x' is a whole number of more than 308"):
        as_cell({"x": number})


# -- a row that does not fit costs itself ----------------------------------------------------------

WRONG = {"text": {"y": "0.5"}, "no dict": None, "parameter": {"x": 1.0}, "columns": {"z": 1.0}}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("terms", [None, Terms()])
def test_a_row_that_does_not_fit_is_the_failure_of_its_cell_alone(
    together, tmp_path, streams, wrong, terms
):
    calls = []

    def results(group):
        for call in group:
            yield WRONG[wrong] if call.x == 2 else {"y": call.x}

    def at_once(group):
        calls.append(len(group))
        return list(results(group))

    experiment = replace(together(), trial=results if streams else at_once, group=lambda cell: 0)
    with pytest.raises(TrialError, match=r"toy, cell {'x': 2}: "):
        sweep(experiment, grid(x=range(5)), store=tmp_path, terms=terms)
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == [0, 1, 3, 4]


def test_a_row_of_other_columns_stops_no_other_and_three_of_them_stop_it(toy, tmp_path):
    runs = []

    def result(x):
        return {"z": x} if x in (2, 4, 7, 8, 9) else {"y": x}

    experiment = toy(runs=runs, result=result)
    with pytest.raises(StoreError, match=r"other columns than this trial returned.* Nothing new"):
        sweep(experiment, grid(x=range(40)), store=tmp_path, terms=Terms())
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == [0, 1, 3, 5, 6]
    noted = Failures(tmp_path / "toy.csv").read()
    assert {*noted} == {key_of({"x": x}) for x in (2, 4, 7, 8, 9)}


# -- a table that takes no rows any more -----------------------------------------------------------

FULL = """
import resource, sys, time
from pathlib import Path
from helpers.errors import StoreError
from helpers.sweep import Experiment, Terms, grid, sweep

def trial(call):
    if call.x > 0:
        time.sleep(0.3 * call.x)
    return {"y": call.x / 7}

def together(calls):
    return [trial(call) for call in calls]

group = (lambda cell: 0) if sys.argv[2] == "group" else None
toy = Experiment("toy", together if group else trial, lambda profile: grid(x=0), 0.0,
                 lambda cell: True, group)
store = Path(sys.argv[1])
sweep(toy, grid(x=range(-9, 1)), store=store)
size = (store / "toy.csv").stat().st_size
cells, jobs = (grid(x=[1, 2]), 1) if group else (grid(x=[1, 2, 3, 4, 5, 6]), 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    sweep(toy, cells, store=store, n_jobs=jobs, terms=Terms() if jobs > 1 else None)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["group", "jobs"])
def test_what_was_computed_when_the_disk_is_full_is_kept_elsewhere(tmp_path, toy, kind):
    """The file-size limit of a process fails in the middle of a write, as a full disk does."""
    store, spare = tmp_path / "store", tmp_path / "spare"
    spare.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, store, kind], capture_output=True, text=True, check=True,
        env=os.environ | {"TMPDIR": str(spare)},
    )  # fmt: skip
    (kept,) = spare.glob("results-*/toy.csv")
    assert "(File too large). Rows stored before are safe; 2 that could not be" in done.stdout
    assert f"sweep merge toy {kept}. Nothing new was begun" in done.stdout
    rows = stored_rows(toy(), store)
    assert [row["x"] for row in rows] == [*range(-9, 1)], "the table is whole"
    assert [(row["x"], row["y"]) for row in stored_rows(toy(), kept.parent)] == [
        (1, 1 / 7),
        (2, 2 / 7),
    ], "what was in flight came to its end"


def test_rows_kept_elsewhere_can_be_merged_and_a_table_that_takes_rows_again_gets_them(
    registry, toy, tmp_path, monkeypatch
):
    real, broken = Store.append, [True]

    def append(self, *rows):
        if broken and self.path.parent == tmp_path / "store":
            if len(broken) == 1 and rows[0]["x"] == 1:
                broken.clear()
            raise StoreError(f"cannot write to {self.path} (No space). Rows stored before are safe")
        real(self, *rows)

    monkeypatch.setattr(Store, "append", append)
    # the group of both cells ends; by then there is space
    experiment = replace(
        toy(), trial=lambda calls: [{"y": call.x} for call in calls], group=lambda cell: 0
    )
    registry["toy"] = experiment
    with pytest.raises(StoreError, match=r"are safe\. Nothing new was begun\."):
        sweep(experiment, grid(x=range(3)), store=tmp_path / "store")
    assert sorted(row["x"] for row in stored_rows(experiment, tmp_path / "store")) == [0, 1, 2]
    broken += [1, 2]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreError, match="1 that could not be stored there are in .*toy.csv"):
        sweep(experiment, grid(x=range(4)), store=tmp_path / "store")
    broken.clear()
    (kept,) = tmp_path.glob("results-*/toy.csv")
    assert main(["merge", "toy", "--store", str(tmp_path / "store"), str(kept)]) == 0
    assert len(stored_rows(experiment, tmp_path / "store")) == 4


def test_rows_that_can_be_stored_nowhere_are_told(toy, tmp_path, monkeypatch):
    def append(self, *rows):
        raise StoreError("cannot write (No space). Rows stored before are safe")

    monkeypatch.setattr(Store, "append", append)
    with pytest.raises(StoreError, match=r"1 could be stored nowhere: \[{'x': 0, 'y': 0\.0, "):
        sweep(toy(), grid(x=range(3)), store=tmp_path)


def test_where_no_claim_can_be_made_what_is_in_flight_is_stored(toy, lines, tmp_path, monkeypatch):
    def result(x):
        (tmp_path / ".toy.csv.claims" / "full").mkdir(exist_ok=True)
        return {"y": x}

    def take(self, group):
        if (tmp_path / ".toy.csv.claims" / "full").exists():
            raise StoreError("cannot write to the claims (No space). Rows stored before are safe.")
        self._show()
        return True

    monkeypatch.setattr("helpers.sweep.locks.Claims.take", take)
    with pytest.raises(StoreError, match=r"cannot write to the claims .* Nothing new was begun"):
        sweep(toy(result=result), grid(x=range(5)), store=tmp_path)
    assert [line[:2] for line in lines()] == [b"x,", b"0,", b""]


def test_failures_that_cannot_be_noted_are_said_and_rows_are_stored(toy, tmp_path, capsys):
    (tmp_path / "toy.failures").mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*toy\.failures \(Is a directory\)"):
        sweep(toy(), grid(x=range(3)), store=tmp_path, terms=Terms())
    assert not (tmp_path / "toy.csv").exists(), "known before anything is computed"


def test_notes_of_failures_that_find_no_space_cost_no_row(toy, tmp_path, capsys, monkeypatch):
    def add(self, cell, outcome, code):
        raise StoreError("cannot write to toy.failures (No space left on device)")

    monkeypatch.setattr(Failures, "add", add)
    monkeypatch.setattr(Failures, "forget", lambda self, rows: add(self, 0, 0, 0))
    experiment = toy(result=lambda x: {"y": x} if x % 2 else {"y": ""})
    with pytest.raises(TrialError, match="2 of 4 cells failed"):
        sweep(experiment, grid(x=range(4)), store=tmp_path, terms=Terms())
    assert [row["x"] for row in stored_rows(experiment, tmp_path)] == [1, 3]
    told = capsys.readouterr().out
    assert told.count("No space left on device): failures are not noted") == 1


def test_a_note_that_a_kill_has_cut_spoils_no_later_one(tmp_path):
    notes = Failures(tmp_path / "toy.csv")
    for x in range(2):
        notes.add({"x": x}, Outcome(failure="no"), "")
    whole = notes.path.read_bytes()
    notes.path.write_bytes(whole[:-9])
    notes.add({"x": 2}, Outcome(failure="no"), "")
    assert [*Failures(tmp_path / "toy.csv").read()] == [key_of({"x": x}) for x in (0, 2)]


def test_a_trial_that_changes_the_folder_stores_its_rows_where_they_belong(
    toy, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    experiment = toy(result=lambda x: os.chdir(tmp_path / "elsewhere") or {"y": x})
    assert len(sweep(experiment, grid(x=range(3)), store="here")) == 3
    assert len(stored_rows(experiment, tmp_path / "here")) == 3
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_table_of_100_000_rows_is_read_and_grows_as_a_short_one_does(toy, tmp_path):
    """Bytes that one more row costs, counted: no clock, which a busy machine would upset."""
    row = sweep(toy(), grid(x=0), store=None).iloc[0].to_dict()
    store = Store(tmp_path / "toy.csv", frozenset({"x"}))
    store.append(*(row | {"x": x} for x in range(100_000)))
    read, written = [], []
    real = os.pread, os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", lambda fd, n, at: read.append(n) or real[0](fd, n, at))
        patch.setattr(os, "write", lambda fd, data: written.append(len(data)) or real[1](fd, data))
        store.append(row | {"x": 100_000})
        store.read()
    assert sum(written) < 400 and sum(read) < 2_000
    experiment = Experiment("toy", toy().trial, toy().cells, 0.0, bool)
    cells = grid(x=[5, 99_999, 100_001])
    assert sweep(experiment, cells, store=tmp_path)["y"].tolist() == [0, 0, 100_001**2]
