"""The results store under everything that can happen to it, and the audit of what it holds."""

import csv
import json
import math
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

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import sweep as module
from helpers.chapter import Run, describe_device
from helpers.store import PROVENANCE, StoreError, as_cell, decode, encode, key_of
from helpers.sweep import (
    Experiment,
    TrialError,
    audit,
    get,
    main,
    names,
    register,
    sweep,
)

REVISION = module._revision

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("BOOK_PROGRESS", "0")
    monkeypatch.setattr(module, "_revision", lambda: "abc1234")


@pytest.fixture
def registry(monkeypatch):
    """An empty registry, and no experiments of the book in it."""
    monkeypatch.setattr(module, "_REGISTRY", {})
    monkeypatch.setattr(module, "_import_experiments", lambda: None)


def toy(
    name="toy",
    *,
    runs=None,
    tolerance=1e-9,
    cheap=lambda cell: cell["x"] < 3,
    cells=None,
    result=None,
    **options,
):
    """Squares x, and notes each execution in the list `runs`."""

    def trial(x, seed=0):
        if runs is not None:
            runs.append(x)
        return result(x) if result else {"y": x * x + seed / 7, "data_source": "made up, here"}

    grid = cells or (lambda profile: [{"x": x} for x in range(3 if profile == "smoke" else 6)])
    return Experiment(name, trial, cells=grid, tolerance=tolerance, cheap=cheap, **options)


def grid(count):
    return [{"x": x} for x in range(count)]


def lines(store, name="toy"):
    return (store / f"{name}.csv").read_bytes().split(b"\n")


# -- what a sweep returns and stores -------------------------------------------------------------


def test_only_missing_cells_run_and_the_frame_has_the_asked_ones_in_their_order(tmp_path):
    runs = []
    sweep(toy(runs=runs), grid(3), store=tmp_path)
    frame = sweep(toy(runs=runs), [{"x": 4}, {"x": 1}, {"x": 0}, {"x": 1}], store=tmp_path)
    assert runs == [0, 1, 2, 4]
    assert frame["x"].tolist() == [4, 1, 0, 1]
    assert frame["y"].tolist() == [16, 1, 0, 1]
    assert frame.attrs["missing"] == []
    assert len(lines(tmp_path)) == 1 + 4 + 1


def test_provenance_stands_in_every_row(tmp_path):
    frame = sweep(toy(), grid(2), store=tmp_path)
    assert tuple(frame.columns) == ("x", "y", *PROVENANCE)
    row = frame.iloc[0]
    assert row["data_source"] == "made up, here"
    assert row["versions"].startswith("python 3.") and "; numpy " in row["versions"]
    assert row["device"] == describe_device("cpu")
    assert row["revision"] == "abc1234"
    assert row["seconds"] >= 0
    assert len(row["date"]) == len("2030-01-01T00:00:00Z")


def test_memory_and_store_give_the_same_frame(tmp_path):
    result = {
        0: {"a": 1, "b": math.inf},
        1: {"a": np.float32(0.1), "b": np.array(True)},
        2: {"a": math.nan, "b": -0.0},
    }
    experiment = toy(result=lambda x: result[x])
    columns = ["x", "a", "b"]
    memory = sweep(experiment, grid(3), store=None)
    fresh = sweep(experiment, grid(3), store=tmp_path)
    stored = sweep(toy(result=None), grid(3), store=tmp_path)
    assert memory[columns].equals(fresh[columns])
    assert memory[columns].equals(stored[columns])
    assert memory["a"].tolist()[:2] == [1, float(np.float32(0.1))]
    assert memory["b"].tolist() == [math.inf, 1, 0]


def test_no_cells_give_an_empty_frame_and_write_nothing(tmp_path):
    frame = sweep(toy(), [], store=tmp_path / "absent")
    assert len(frame) == 0 and not (tmp_path / "absent").exists()


def test_numbers_of_equal_value_are_one_cell_and_strings_and_booleans_are_others(tmp_path):
    seen = []
    experiment = Experiment(
        "kinds",
        lambda x: seen.append(x) or {"y": 0},
        cells=lambda p: [],
        tolerance=0,
        cheap=lambda c: True,
    )
    kinds = [{"x": v} for v in (1, 1.0, np.float64(1), "1", True, "True", "1.0", math.inf, "inf")]
    sweep(experiment, kinds, store=tmp_path)
    frame = sweep(experiment, kinds, store=tmp_path)
    assert len(seen) == 6 + 1
    assert [repr(v) for v in frame["x"]] == [
        "1",
        "1.0",
        "1.0",
        "'1'",
        "True",
        "'True'",
        "'1.0'",
        "inf",
        "'inf'",
    ]


def test_context_reaches_the_trials_that_take_it_and_is_not_part_of_a_cell(tmp_path):
    def trial(x, device="none"):
        return {"y": x, "on_cpu": device == "cpu"}

    experiment = Experiment("context", trial, lambda p: [], 0.0, lambda c: True)
    context = {"device": "cpu", "data_dir": "/somewhere"}
    frame = sweep(experiment, grid(1), store=tmp_path, context=context)
    assert frame["on_cpu"].tolist() == [1] and "data_dir" not in frame
    again = sweep(experiment, grid(1), store=tmp_path)
    assert again["on_cpu"].tolist() == [1], "the stored row is used, whatever the context"


@pytest.mark.parametrize(
    "cells, message",
    [
        ([{"x": 1, "z": 2}], "unexpected keyword argument 'z'"),
        ([{"seed": 1}], "missing a required argument: 'x'"),
        ([{"x": 0}, {"x": [1, 2]}], "parameter 'x' is \\[1, 2\\]"),
        ([{"x": 0}, {"x": None}], "parameter 'x' is None"),
        ([{"x": 0}, {"x": math.nan}], "infinity allowed, nan not"),
        ([{"x": 1}, {"x": 1, "seed": 2}], "different parameters"),
        ([{"x": 1, "device": "cpu"}], "provenance column"),
    ],
)
def test_cells_that_do_not_fit_are_refused_before_anything_runs(tmp_path, cells, message):
    runs = []
    with pytest.raises(ValueError, match=message):
        sweep(toy(runs=runs), cells, store=tmp_path)
    assert runs == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "result, message",
    [
        (None, "returned NoneType, not a dict"),
        ({"y": None}, "'y' is NoneType"),
        ({"y": "0.5"}, "'y' is str"),
        ({"y": np.zeros(2)}, "'y' is ndarray"),
        ({"y": 1j}, "'y' is complex"),
        ({"x": 1.0}, "name of a parameter"),
        ({"seconds": 1.0}, "name of a parameter or provenance"),
        ({"two\nlines": 1.0}, "cannot head a column"),
        ({"y": 1.0, "data_source": 3}, "data_source is 3"),
    ],
)
def test_results_that_are_not_numbers_are_errors_that_name_them(tmp_path, result, message):
    experiment = toy(result=lambda x: result)
    with pytest.raises(TrialError, match=message) as caught:
        sweep(experiment, grid(1), store=tmp_path)
    assert "experiment toy, cell {'x': 0}" in str(caught.value)


def test_a_failing_trial_keeps_the_rows_before_it_and_the_next_run_goes_on(tmp_path):
    runs, broken = [], [True]

    def result(x):
        if x == 2 and broken:
            raise ZeroDivisionError("no way.")
        return {"y": x}

    experiment = toy(runs=runs, result=result)
    with pytest.raises(
        TrialError,
        match=r"experiment toy, cell \{'x': 2\}: ZeroDivisionError: no "
        r"way\. Rows finished before are safe",
    ) as caught:
        sweep(experiment, grid(4), store=tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    broken.clear()
    assert sweep(experiment, grid(4), store=tmp_path)["y"].tolist() == [0, 1, 2, 3]
    assert runs == [0, 1, 2, 2, 3]


def test_an_absent_dataset_leaves_its_cells_out_and_says_so(tmp_path, capsys):
    data = pytest.importorskip("helpers.data")

    def result(x):
        if x in (1, 3):
            raise data.DatasetNotFound("no cats here; get them there")
        return {"y": x}

    frame = sweep(toy(result=result), grid(4), store=tmp_path)
    assert frame["x"].tolist() == [0, 2]
    assert frame.attrs["missing"] == [({"x": x}, "no cats here; get them there") for x in (1, 3)]
    assert "toy: 2 of 4 cells not computed: no cats here; get them there" in capsys.readouterr().out


def test_another_missing_file_is_a_failure(tmp_path):
    def result(x):
        raise FileNotFoundError("weights.bin")

    with pytest.raises(TrialError, match="FileNotFoundError: weights.bin"):
        sweep(toy(result=result), grid(1), store=tmp_path)


def test_all_datasets_absent_leaves_no_file(tmp_path):
    data = pytest.importorskip("helpers.data")

    def result(x):
        raise data.DatasetNotFound("nothing")

    frame = sweep(toy(result=result), grid(2), store=tmp_path / "new")
    assert frame.empty and list(frame.columns) == ["x", *PROVENANCE]
    assert list((tmp_path / "new").iterdir()) == []


def test_progress_bar_can_be_switched_on_and_off(tmp_path, capsys, monkeypatch):
    sweep(toy(), grid(1), store=tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("BOOK_PROGRESS")
    sweep(toy(), grid(3), store=tmp_path)
    assert "3/3" in capsys.readouterr().err
    sweep(toy(), grid(3), store=tmp_path)
    assert capsys.readouterr().err == "", "nothing missing, nothing shown"


# -- cells that are computed together ------------------------------------------------------------


def together(name="toy", *, calls=None, many=None, **options):
    """`toy`, but even and odd cells are computed at once; notes what each call got in `calls`.

    A row says how many cells were computed with it, and which of them it was."""

    def squares(group):
        if calls is not None:
            calls.append([call["x"] for call in group])
        return [
            {"y": call["x"] ** 2, "size": len(group), "place": place}
            for place, call in enumerate(group)
        ]

    return toy(name, many=many or squares, group=lambda cell: cell["x"] % 2, **options)


def test_cells_of_a_group_go_to_one_call_in_their_order(tmp_path):
    calls, runs = [], []
    cells = [{"x": x} for x in (5, 4, 0, 3, 2, 3)]
    frame = sweep(together(calls=calls, runs=runs), cells, store=tmp_path)
    assert calls == [[5, 3], [4, 0, 2]] and runs == []
    assert frame["x"].tolist() == [5, 4, 0, 3, 2, 3]
    assert frame["place"].tolist() == [0, 0, 1, 1, 2, 1]
    assert len(lines(tmp_path)) == 1 + 5 + 1


def test_rows_of_cells_computed_together_are_those_of_single_trials(tmp_path):
    many = lambda calls: [{"y": c["x"] ** 2.0, "data_source": "made up, here"} for c in calls]  # noqa: E731
    columns = ["x", "y", "data_source", "device", "versions", "revision"]
    grouped = sweep(together(many=many), grid(5), store=tmp_path / "grouped")
    single = sweep(toy(), grid(5), store=tmp_path / "single")
    assert grouped[columns].equals(single[columns])
    assert tuple(grouped.columns) == tuple(single.columns)


def test_the_arguments_of_many_are_those_of_the_trial(tmp_path):
    seen = []
    experiment = Experiment(
        "context", lambda x, device: {"y": x}, list, 0.0, bool,
        many=lambda calls: seen.extend(calls) or [{"y": call["x"]} for call in calls],
        group=lambda cell: tuple(cell),
    )  # fmt: skip
    sweep(experiment, grid(2), store=None, context={"device": "cpu", "data_dir": "/somewhere"})
    assert seen == [{"x": 0, "device": "cpu"}, {"x": 1, "device": "cpu"}]


def test_each_row_of_a_group_states_an_equal_share_of_the_seconds(monkeypatch):
    class Clock:
        perf_counter = iter([100.0, 106.0, 200.0, 201.0]).__next__

    monkeypatch.setattr(module, "time", Clock)
    frame = sweep(together(), [{"x": x} for x in (0, 2, 4, 1)], store=None)
    assert frame["seconds"].tolist() == [2.0, 2.0, 2.0, 1.0]


def test_only_the_missing_cells_of_a_group_are_computed(tmp_path):
    calls = []
    sweep(together(calls=calls), [{"x": 2}], store=tmp_path)
    frame = sweep(together(calls=calls), grid(6), store=tmp_path)
    assert calls == [[2], [0, 4], [1, 3, 5]]
    assert frame["size"].tolist() == [2, 3, 1, 3, 2, 3]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_group_keeps_the_rows_of_finished_ones(tmp_path, n_jobs):
    def many(calls):
        if calls[0]["x"] % 2:
            time.sleep(0.3 * (n_jobs > 1))  # the other worker ends first
            raise ZeroDivisionError("no way")
        return [{"y": call["x"]} for call in calls]

    with pytest.raises(
        TrialError, match=r"experiment toy, cell \{'x': 1\}: ZeroDivisionError: no way\. Rows finis"
    ):
        sweep(together(many=many), grid(5), store=tmp_path, n_jobs=n_jobs)
    calls = []
    fixed = together(many=lambda cs: calls.append([c["x"] for c in cs]) or [{"y": 7} for _ in cs])
    assert sweep(fixed, grid(5), store=tmp_path)["y"].tolist() == [0, 7, 2, 7, 4]
    assert calls == [[1, 3]]


@pytest.mark.parametrize("found", [2, 4])
def test_too_few_or_too_many_results_are_an_error(tmp_path, found):
    experiment = together(many=lambda calls: [{"y": 0}] * found)
    with pytest.raises(TrialError, match=f"cell {{'x': 0}}: ValueError: {found} results for 3 cel"):
        sweep(experiment, grid(5), store=tmp_path)
    assert list(tmp_path.glob("*.csv")) == []


def test_groups_among_two_workers(tmp_path):
    frame = sweep(together(), grid(7), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [x * x for x in range(7)]
    assert frame["size"].tolist() == [4, 3, 4, 3, 4, 3, 4]
    assert frame["place"].tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_an_absent_dataset_leaves_a_whole_group_out(tmp_path, capsys):
    data = pytest.importorskip("helpers.data")

    def many(calls):
        if calls[-1]["x"] == 3:
            raise data.DatasetNotFound("no cats here")
        return [{"y": call["x"]} for call in calls]

    frame = sweep(together(many=many), grid(5), store=tmp_path)
    assert frame["x"].tolist() == [0, 2, 4]
    assert frame.attrs["missing"] == [({"x": x}, "no cats here") for x in (1, 3)]
    assert "toy: 2 of 5 cells not computed: no cats here" in capsys.readouterr().out


def test_the_audit_of_cells_computed_together_runs_the_trial(registry, tmp_path):
    calls, runs = [], []
    many = lambda cs: calls.append(cs) or [{"y": c["x"] ** 2, "data_source": ""} for c in cs]  # noqa: E731
    experiment = register(together(many=many, runs=runs, result=lambda x: {"y": x * x}))
    sweep(experiment, grid(4), store=tmp_path)
    assert (len(calls), runs) == (2, [])
    assert [r.status for r in audit(store=tmp_path, sample=9)] == ["agrees"] * 4
    assert (len(calls), sorted(runs)) == (2, [0, 1, 2, 3])


# -- values survive the file ---------------------------------------------------------------------

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
        lambda x: {"y": results[key_of({"x": x})]},
        lambda p: [],
        0.0,
        lambda c: True,
    )
    cells = [{"x": x} for x, _ in rows]
    with tempfile.TemporaryDirectory() as store:
        sweep(experiment, cells, store=store, progress=False)
        stored = module._stored(experiment, Path(store))
    assert len(stored) == len(results)
    for row in stored:
        assert same(row["y"], results[key_of({"x": row["x"]})])


# -- interruptions -------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from helpers import sweep

def trial(x, log):
    with open(log, "a") as file:
        file.write(f"{x}\\n")
    time.sleep(0.03)
    return {"y": x / 7}

experiment = sweep.Experiment("killed", trial, lambda profile: [], 0.0, lambda cell: True)
frame = sweep.sweep(experiment, [{"x": x} for x in range(int(sys.argv[3]))], store=sys.argv[1],
                    context={"log": sys.argv[2]}, n_jobs=int(sys.argv[4]))
assert frame["y"].tolist() == [x / 7 for x in range(int(sys.argv[3]))], frame
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


def test_a_file_cut_at_any_byte_recovers(tmp_path, capsys):
    """A kill leaves some prefix of what was to be written: try every one of them."""
    experiment = toy()
    whole = sweep(experiment, grid(3), store=tmp_path)[["x", "y"]]
    content = (tmp_path / "toy.csv").read_bytes()
    for size in range(len(content)):
        (tmp_path / "toy.csv").write_bytes(content[:size])
        runs = []
        frame = sweep(toy(runs=runs), grid(3), store=tmp_path)
        complete = max(0, content[:size].count(b"\n") - 1)
        assert runs == [0, 1, 2][complete:]
        assert frame[["x", "y"]].equals(whole)
        torn = size > 0 and content[size - 1 : size] != b"\n"
        assert ("dropped an incomplete last line" in capsys.readouterr().out) == torn


def test_reading_ignores_a_torn_line_and_leaves_the_file_alone(tmp_path, capsys):
    sweep(toy(), grid(3), store=tmp_path)
    path = tmp_path / "toy.csv"
    torn = path.read_bytes()[:-5]
    path.write_bytes(torn)
    assert sweep(toy(), grid(2), store=tmp_path)["y"].tolist() == [0, 1]
    assert path.read_bytes() == torn
    assert "ignored an incomplete last line" in capsys.readouterr().out


def test_a_file_replaced_during_the_sweep_still_gets_the_later_rows(tmp_path):
    def result(x):
        if x == 2:  # what `git checkout` does
            path = tmp_path / "toy.csv"
            text = path.read_bytes()
            path.unlink()
            path.write_bytes(text.rpartition(b"\n1,")[0] + b"\n")
        return {"y": x}

    frame = sweep(toy(result=result), grid(4), store=tmp_path)
    assert [line.split(b",")[0] for line in lines(tmp_path)] == [b"x", b"0", b"2", b"3", b""]
    assert frame["x"].tolist() == [0, 2, 3]


# -- files and disks that do not do --------------------------------------------------------------


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
def test_damage_in_the_middle_is_one_clear_error_and_changes_nothing(tmp_path, damage, message):
    runs = []
    sweep(toy(result=lambda x: {"y": float(x)}), grid(3), store=tmp_path)
    damaged = b"\n".join(damage(lines(tmp_path)))
    (tmp_path / "toy.csv").write_bytes(damaged)
    with pytest.raises(StoreError, match=message) as caught:
        sweep(toy(runs=runs), grid(9), store=tmp_path)
    assert "toy.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert runs == [] and (tmp_path / "toy.csv").read_bytes() == damaged


def test_other_result_columns_are_an_error_that_names_them(tmp_path):
    sweep(toy(), grid(2), store=tmp_path)
    before = lines(tmp_path)
    with pytest.raises(StoreError, match=r"only in the file: \['y'\]; .* new row: \['z'\]"):
        sweep(toy(result=lambda x: {"z": x}), grid(3), store=tmp_path)
    assert lines(tmp_path) == before


def test_other_parameters_are_an_error_before_anything_runs(tmp_path):
    runs = []
    sweep(toy(), grid(2), store=tmp_path)
    with pytest.raises(StoreError, match=r"parameters \['x'\], but .* have \['seed', 'x'\]"):
        sweep(toy(runs=runs), [{"x": 7, "seed": 1}], store=tmp_path)
    assert runs == []


def test_a_missing_folder_is_made_and_said_in_one_line(tmp_path, capsys):
    sweep(toy(), grid(2), store=tmp_path / "a" / "b")
    assert capsys.readouterr().out == f"created the results folder {tmp_path / 'a' / 'b'}\n"
    assert (tmp_path / "a" / "b" / "toy.csv").exists()


def test_a_store_below_a_regular_file_is_an_error_before_computing(tmp_path):
    runs = []
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="Not a directory"):
        sweep(toy(runs=runs), grid(2), store=tmp_path / "file" / "results")
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


def test_a_read_only_store_is_used_when_it_holds_all_that_is_asked(public_folder):
    runs = []
    sweep(toy(runs=runs), grid(3), store=public_folder)
    (public_folder / "toy.csv").chmod(0o444)
    with read_only(public_folder):
        assert sweep(toy(runs=runs), grid(2), store=public_folder)["y"].tolist() == [0, 1]
    assert runs == [0, 1, 2]


@pytest.mark.parametrize("stored", [0, 1])
def test_a_read_only_store_is_an_error_before_computing_what_is_missing(public_folder, stored):
    runs = []
    sweep(toy(), grid(stored), store=public_folder)
    for path in public_folder.iterdir():
        path.chmod(0o444)
    with read_only(public_folder), pytest.raises(StoreError, match="nothing was computed") as error:
        sweep(toy(runs=runs), grid(3), store=public_folder)
    assert "Permission denied" in str(error.value) and runs == []


def test_a_full_disk_keeps_whole_rows_and_shows_the_one_that_did_not_fit(tmp_path):
    """The file-size limit of a process fails in the middle of a write, as a full disk does."""
    script = """
import resource, sys
from pathlib import Path
from helpers import sweep

def trial(x):
    return {"y": x / 7}

toy = sweep.Experiment("toy", trial, lambda profile: [], 0.0, lambda cell: True)
store = Path(sys.argv[1])
sweep.sweep(toy, [{"x": 0}, {"x": 1}], store=store)
size = (store / "toy.csv").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    sweep.sweep(toy, [{"x": 2}], store=store)
except sweep.StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert "cannot write to" in done.stdout and "'y': 0.2857142857142857" in done.stdout
    assert [line[:2] for line in lines(tmp_path)] == [b"x,", b"0,", b"1,", b""]


# -- workers -------------------------------------------------------------------------------------


def test_two_workers_give_the_same_numbers_and_limit_their_threads(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def trial(x):
        return {"y": x / 7, "process": os.getpid(), "threads": int(os.environ["OMP_NUM_THREADS"])}

    experiment = Experiment("loky", trial, lambda p: [], 0.0, lambda c: True)
    frame = sweep(experiment, grid(6), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [x / 7 for x in range(6)]
    assert os.getpid() not in set(frame["process"])
    assert set(frame["threads"]) == {max(1, os.cpu_count() // 2)}


def test_a_failure_in_a_worker_keeps_finished_rows_and_starts_no_new_trials(tmp_path):
    def result(x):
        if x == 0:
            raise KeyError("oh")
        time.sleep(0.2)
        return {"y": x}

    with pytest.raises(TrialError, match=r"toy, cell \{'x': 0\}: KeyError: 'oh'") as caught:
        sweep(toy(result=result), grid(30), store=tmp_path, n_jobs=2)
    assert any("In the worker" in note and "result" in note for note in caught.value.__notes__)
    rows = len(lines(tmp_path)) - 2
    assert 1 <= rows <= 4


def test_a_dead_worker_is_a_trial_error(tmp_path):
    def result(x):
        if x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": x}

    with pytest.raises(TrialError, match="a worker process died"):
        sweep(toy(result=result), grid(4), store=tmp_path, n_jobs=2)


def test_absent_data_in_a_worker(tmp_path):
    pytest.importorskip("helpers.data")

    def result(x):
        from helpers.data import DatasetNotFound

        if x:
            raise DatasetNotFound("elsewhere")
        return {"y": x}

    frame = sweep(toy(result=result), grid(2), store=tmp_path, n_jobs=2)
    assert frame["x"].tolist() == [0] and frame.attrs["missing"] == [({"x": 1}, "elsewhere")]


def test_one_job_runs_in_this_process(tmp_path):
    unpicklable = (x for x in range(1))
    frame = sweep(
        toy(result=lambda x: {"y": os.getpid() + 0 * len(repr(unpicklable))}),
        grid(1),
        store=tmp_path,
    )
    assert frame["y"].tolist() == [os.getpid()]


def test_backends_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="backend 'slurm'"):
        sweep(toy(), grid(1), store=tmp_path, backend="slurm")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed"):
        sweep(toy(), grid(1), store=tmp_path, backend="dask")


def test_dask(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ):
        frame = sweep(toy(), grid(4), store=tmp_path, backend="dask")
    assert frame["y"].tolist() == [0, 1, 4, 9]


# -- provenance ----------------------------------------------------------------------------------


def test_sweep_does_not_import_torch(tmp_path):
    script = """
import sys
from helpers import sweep

toy = sweep.Experiment("toy", lambda x, device: {"y": x}, list, 0.0, bool)
sweep.sweep(toy, [{"x": 1}], store=sys.argv[1], context={"device": "cpu"})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def test_the_description_of_the_cpu_ends_with_its_cores():
    assert describe_device("cpu").split(", ")[-1].split()[1] in ("core", "cores")
    assert describe_device("mps") == "mps"


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


def test_the_revision_is_the_commit_and_says_when_the_package_differs(tmp_path, monkeypatch):
    package = tmp_path / "src" / "helpers"
    package.mkdir(parents=True)
    source = package / "sweep.py"
    source.write_text("first")
    monkeypatch.setattr(module, "__file__", str(source))
    assert REVISION() == "unknown", "no repository"
    git(tmp_path, "init")
    assert REVISION() == "unknown", "no commit yet"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = REVISION()
    assert 7 <= len(clean) <= 12 and set(clean) <= set("0123456789abcdef")
    (tmp_path / "README").write_text("changes outside the package do not count")
    assert REVISION() == clean
    source.write_text("second")
    assert REVISION() == clean + "+"
    monkeypatch.setenv("PATH", "/nowhere")
    assert REVISION() == "unknown", "no git"


# -- experiments ---------------------------------------------------------------------------------


def test_register_and_get(registry):
    experiment = register(toy())
    assert get("toy") is experiment and names() == ["toy"]
    register(toy())  # a module that is loaded again
    with pytest.raises(ValueError, match="unknown experiment 'tox': known are toy"):
        get("tox")
    with pytest.raises(ValueError, match="two experiments are called 'toy'"):
        register(Experiment("toy", lambda x: {}, list, 0.0, bool))


def test_sweep_takes_the_name_of_a_registered_experiment(registry):
    register(toy())
    assert sweep("toy", grid(2), store=None)["y"].tolist() == [0, 1]


def test_results_takes_all_from_the_run_of_a_chapter(registry, tmp_path, monkeypatch):
    register(toy())
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path))
    assert module.results("toy", Run("smoke", "cpu", 0, None))["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []
    assert len(module.results("toy", Run("laptop", "cpu", 0, None))) == 6
    assert (tmp_path / "toy.csv").exists()


def test_another_seed_is_another_set_of_trials(registry):
    def trial(trial):
        return {"y": trial}

    register(
        Experiment("drawn", trial, lambda profile: [{"trial": t} for t in range(3)], 0.0, bool)
    )
    first, other = (module.results("drawn", Run("smoke", "cpu", s, None)) for s in (0, 7))
    assert first["trial"].tolist() == [0, 1, 2]
    assert not set(first["trial"]) & set(other["trial"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "a/b"}, "experiment name 'a/b'"),
        ({"name": ""}, "experiment name ''"),
        ({"tolerance": {"y": 1.0}}, "lacks the key 'default'"),
        ({"trial": lambda **cell: {}}, "must name each of its parameters"),
        ({"many": lambda calls: []}, "many and group go together"),
        ({"group": lambda cell: 0}, "many and group go together"),
    ],
)
def test_experiments_that_cannot_work_are_refused(change, message):
    usual = dict(name="e", trial=lambda x: {}, cells=list, tolerance=0.0, cheap=bool)
    with pytest.raises(ValueError, match=message):
        Experiment(**(usual | change))


def test_the_experiments_of_the_book_have_grids_that_their_trials_take():
    for name in names():
        experiment = get(name)
        for profile in module.PROFILES:
            cells = [as_cell(cell) for cell in experiment.cells(profile)]
            assert len({key_of(cell) for cell in cells}) == len(cells), "a cell twice"
            for cell in cells:
                module._arguments(experiment, cell, {"device": "cpu", "data_dir": None})
                assert experiment.cheap(cell) in (True, False)


# -- audit ---------------------------------------------------------------------------------------


def statuses(results):
    return [r.status for r in results]


def alter(store, old, new, name="toy"):
    path = store / f"{name}.csv"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_audit_recomputes_and_agrees(registry, tmp_path):
    runs = []
    sweep(register(toy(runs=runs)), grid(6), store=tmp_path)
    runs.clear()
    results = audit(store=tmp_path, sample=4, seed=3)
    assert statuses(results) == ["agrees"] * 4 and len(set(runs)) == 4
    assert [r.cell for r in audit(store=tmp_path, sample=4, seed=3)] == [r.cell for r in results]
    assert statuses(audit(store=tmp_path, sample=100)) == ["agrees"] * 6


def test_the_audit_catches_an_altered_number(registry, tmp_path):
    sweep(register(toy()), grid(6), store=tmp_path)
    alter(tmp_path, "\n4,16.0,", "\n4,16.001,")
    results = audit(["toy"], store=tmp_path, sample=6)
    assert statuses(results).count("differs") == 1
    wrong = next(r for r in results if r.status == "differs")
    assert wrong.cell == {"x": 4} and wrong.deviations == {"y": (16.001, 16.0)}


@pytest.mark.parametrize(
    "stored, tolerance, status",
    [
        ("16.001", 1e-4, "agrees"),
        ("16.001", {"default": 1e-9, "y": 1e-4}, "agrees"),
        ("16.001", {"default": 1.0, "y": 1e-5}, "differs"),
        ("nan", 1.0, "differs"),
        ("inf", 1.0, "differs"),
        ("-inf", 1.0, "differs"),
    ],
)
def test_tolerances_are_relative_above_one_and_per_column(
    registry, tmp_path, stored, tolerance, status
):
    experiment = register(toy(tolerance=tolerance))
    sweep(experiment, [{"x": 4}], store=tmp_path)
    alter(tmp_path, "\n4,16.0,", f"\n4,{stored},")
    assert statuses(audit(store=tmp_path)) == [status]


def test_a_tolerance_is_absolute_below_one(registry, tmp_path):
    sweep(register(toy(tolerance=0.01)), [{"x": 0.0}], store=tmp_path)
    alter(tmp_path, "\n0.0,0.0,", "\n0.0,0.009,")
    assert statuses(audit(store=tmp_path)) == ["agrees"]


def test_nan_agrees_with_nan_and_infinity_with_itself(registry, tmp_path):
    experiment = register(toy(result=lambda x: {"a": math.nan, "b": math.inf}))
    sweep(experiment, grid(1), store=tmp_path)
    assert statuses(audit(store=tmp_path)) == ["agrees"]


def test_the_quick_audit_draws_cheap_cells_only(registry, tmp_path):
    runs = []
    sweep(register(toy(runs=runs)), grid(6), store=tmp_path)
    runs.clear()
    assert statuses(audit(store=tmp_path, sample=9, cheap_only=True)) == ["agrees"] * 3
    assert sorted(runs) == [0, 1, 2]


def test_what_the_audit_cannot_check_is_reported(registry, tmp_path):
    data = pytest.importorskip("helpers.data")
    absent = []

    def result(x):
        if absent:
            raise data.DatasetNotFound("no cats here")
        return {"y": x, "data_source": "cats"}

    sweep(register(toy(result=result)), grid(1), store=tmp_path)
    sweep(register(toy("costly", cheap=lambda cell: False)), grid(1), store=tmp_path)
    sweep(register(toy("exempt", audited=False)), grid(1), store=tmp_path)
    register(toy("unstored"))
    absent.append(True)
    results = {r.experiment: r for r in audit(store=tmp_path, cheap_only=True)}
    assert {r.status for r in results.values()} == {"not checked"}
    assert results["toy"].detail == "no cats here"
    assert results["costly"].detail == "no stored cell is cheap"
    assert results["exempt"].detail == "marked as not audited"
    assert results["unstored"].detail.startswith("nothing is stored")


def test_other_data_are_not_a_difference_of_the_numbers(registry, tmp_path):
    source = ["the original files"]
    experiment = toy(result=lambda x: {"y": len(source[0]), "data_source": source[0]})
    sweep(register(experiment), grid(1), store=tmp_path)
    source[0] = "recoded copies"
    (result,) = audit(store=tmp_path)
    assert result.status == "not checked" and "'the original files', here" in result.detail


def test_trials_that_fail_or_have_changed_differ(registry, tmp_path):
    answer = [{"y": 1}]
    sweep(register(toy(result=lambda x: answer[0])), grid(1), store=tmp_path)
    answer[0] = {"z": 1}
    assert "other columns: stored ['y'], now ['z']" in audit(store=tmp_path)[0].detail
    answer[0] = None
    assert "the trial failed: TypeError" in audit(store=tmp_path)[0].detail
    assert statuses(audit(store=tmp_path)) == ["differs"]


def test_a_trial_with_a_new_parameter_differs(registry, tmp_path):
    sweep(register(toy()), grid(1), store=tmp_path)
    module._REGISTRY.clear()
    register(Experiment("toy", lambda x, y2: {"y": 0}, list, 0.0, bool))
    (result,) = audit(store=tmp_path)
    assert result.status == "differs" and "missing a required argument: 'y2'" in result.detail


def test_an_audit_of_no_cells_is_refused(registry, tmp_path):
    with pytest.raises(ValueError, match="sample must be 1 or more"):
        audit(store=tmp_path, sample=0)


# -- command line --------------------------------------------------------------------------------


def test_help_and_list_run_as_a_module():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "helpers.sweep", *arguments],
            text=True,
            capture_output=True,
            check=True,
        ).stdout

    assert "list | run | audit" in run("--help")
    assert [line.partition(":")[0] for line in run("list").splitlines()] == names()


@pytest.mark.parametrize("command, option", [("run", "--profile"), ("audit", "--cheap")])
def test_each_command_has_help(command, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and option in capsys.readouterr().out


def test_run_and_audit_in_a_process_of_their_own(tmp_path):
    script = """
import sys
from helpers import sweep

def trial(x):
    return {"y": x / 7}

sweep._import_experiments = lambda: None
sweep.register(sweep.Experiment("toy", trial, lambda profile: [{"x": 1}, {"x": 2}], 0.0, bool))
sys.exit(sweep.main(sys.argv[1:]))
"""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", script, *arguments, "--store", tmp_path, "--device", "cpu"],
            text=True,
            capture_output=True,
        )

    assert "toy: 2 cells in" in run("run", "toy", "--profile", "laptop").stdout
    good = run("audit", "--sample", "2", "--seed", "1")
    assert good.returncode == 0 and "2 agrees, 0 differs, 0 not checked" in good.stdout
    alter(tmp_path, "0.14285714285714285", "0.15")
    bad = run("audit", "--sample", "2", "--seed", "1")
    assert bad.returncode == 1 and "stored 0.15, now 0.14285714285714285" in bad.stdout


def test_run_all_and_list(registry, tmp_path, capsys):
    register(toy("first"))
    register(toy("second", audited=False))
    where = ["--store", str(tmp_path)]
    assert main(["run", "--all", "--profile", "smoke", "--device", "cpu", *where]) == 0
    assert capsys.readouterr().out.count("3 cells in") == 2
    assert main(["list", *where]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "first: smoke 3, laptop 6, paper 6 cells; 3 rows stored",
        "second: smoke 3, laptop 6, paper 6 cells; 3 rows stored; not audited",
    ]


def test_the_store_is_that_of_the_book_and_smoke_runs_stay_out_of_it(
    registry, tmp_path, capsys, monkeypatch
):
    register(toy())
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    monkeypatch.delenv("BOOK_RESULTS", raising=False)
    assert main(["run", "toy", "--profile", "smoke", "--device", "cpu"]) == 0
    assert "3 cells computed, not stored" in capsys.readouterr().out
    assert main(["run", "toy", "--profile", "laptop", "--device", "cpu"]) == 0
    assert (tmp_path / "book" / "results" / "toy.csv").exists()
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path / "elsewhere"))
    assert main(["run", "toy", "--profile", "paper", "--device", "cpu"]) == 0
    assert (tmp_path / "elsewhere" / "toy.csv").exists()


def test_an_audit_that_checked_nothing_says_so(registry, tmp_path, capsys):
    register(toy())
    assert main(["audit", "--store", str(tmp_path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "not checked  toy: nothing is stored" in out and "NOTHING COULD BE CHECKED" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--profile", "laptop"], "name the experiments to run, or say --all"),
        (
            ["run", "toy", "--all", "--profile", "laptop"],
            "name the experiments to run, or say --all",
        ),
        (["run", "tox", "--profile", "laptop"], "unknown experiment 'tox'"),
        (["run", "toy", "--profile", "laptop", "--data-dir", "/not/there"], "is not a folder"),
        (["audit", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "broken", "--profile", "laptop"], "experiment broken, cell {'x': 0}: KeyError"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(registry, tmp_path, capsys, arguments, message):
    def result(x):
        raise KeyError("x")

    register(toy())
    register(toy("broken", result=result))
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert main([*arguments, "--store", str(tmp_path), *device]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_unknown_profile_is_refused(registry, capsys):
    with pytest.raises(SystemExit):
        main(["run", "toy", "--profile", "huge"])
    assert "huge" in capsys.readouterr().err


def test_ctrl_c_is_not_a_traceback(registry, tmp_path, capsys):
    def result(x):
        if x == 2:
            raise KeyboardInterrupt
        return {"y": x}

    register(toy(result=result))
    where = ["--store", str(tmp_path), "--device", "cpu"]
    assert main(["run", "toy", "--profile", "laptop", *where]) == 130
    assert "finished rows are stored" in capsys.readouterr().err
    assert len(lines(tmp_path)) == 1 + 2 + 1


def test_a_frame_can_be_copied_and_exported(tmp_path):
    frame = sweep(toy(), grid(2), store=tmp_path)
    assert json.loads(frame.copy().to_json(orient="records"))[1]["y"] == 1
