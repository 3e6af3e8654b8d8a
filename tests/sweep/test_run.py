"""What a sweep computes, returns and stores; groups of cells; workers."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from helpers.errors import DatasetNotFound
from helpers.project import Run, describe_device
from helpers.sweep import PROVENANCE, Experiment, TrialError, grid, register, results, sweep

pytestmark = pytest.mark.filterwarnings("error")


def test_only_missing_cells_run_and_the_frame_has_the_asked_ones_in_their_order(
    toy, lines, tmp_path
):
    runs = []
    sweep(toy(runs=runs), grid(x=range(3)), store=tmp_path)
    frame = sweep(toy(runs=runs), [{"x": 4}, {"x": 1}, {"x": 0}, {"x": 1}], store=tmp_path)
    assert runs == [0, 1, 2, 4]
    assert frame["x"].tolist() == [4, 1, 0, 1]
    assert frame["y"].tolist() == [16, 1, 0, 1]
    assert frame.attrs["missing"] == []
    assert len(lines()) == 1 + 4 + 1


def test_provenance_stands_in_every_row(toy, tmp_path):
    frame = sweep(toy(), grid(x=range(2)), store=tmp_path)
    assert tuple(frame.columns) == ("x", "y", *PROVENANCE)
    row = frame.iloc[0]
    assert row["data_source"] == "made up, here"
    assert row["versions"].startswith("python 3.") and "; numpy " in row["versions"]
    assert row["device"] == describe_device("cpu")
    assert row["revision"] == "abc1234"
    assert 0 <= row["seconds"] < 60
    assert len(row["date"]) == len("2030-01-01T00:00:00Z")


def test_memory_and_store_give_the_same_frame(toy, tmp_path):
    result = {
        0: {"a": 1, "b": math.inf},
        1: {"a": np.float32(0.1), "b": np.array(True)},
        2: {"a": math.nan, "b": -0.0},
    }
    experiment = toy(result=lambda x: result[x])
    columns = ["x", "a", "b"]
    memory = sweep(experiment, grid(x=range(3)), store=None)
    fresh = sweep(experiment, grid(x=range(3)), store=tmp_path)
    stored = sweep(toy(result=None), grid(x=range(3)), store=tmp_path)
    assert memory[columns].equals(fresh[columns])
    assert memory[columns].equals(stored[columns])
    assert memory["a"].tolist()[:2] == [1, float(np.float32(0.1))]
    assert memory["b"].tolist() == [math.inf, 1, 0]


def test_no_cells_give_an_empty_frame_and_write_nothing(toy, tmp_path):
    frame = sweep(toy(), [], store=tmp_path / "absent")
    assert len(frame) == 0 and not (tmp_path / "absent").exists()


def test_numbers_of_equal_value_are_one_cell_and_strings_and_booleans_are_others(tmp_path):
    seen = []
    experiment = Experiment(
        "kinds",
        lambda call: seen.append(call.x) or {"y": 0},
        cells=lambda p: [{"x": 0}],
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


def test_context_reaches_the_trials_and_is_not_part_of_a_cell(toy, tmp_path):
    def trial(call):
        return {"y": call.x, "on_cpu": call.device == "cpu", "told": call["data_dir"] == "/there"}

    experiment = replace(toy("context"), trial=trial)
    context = {"device": "cpu", "data_dir": "/there"}
    frame = sweep(experiment, grid(x=0), store=tmp_path, context=context)
    assert frame[["on_cpu", "told"]].values.tolist() == [[1, 1]] and "data_dir" not in frame
    again = sweep(experiment, grid(x=0), store=tmp_path)
    assert again["told"].tolist() == [1], "the stored row is used, whatever the context"
    assert sweep(experiment, grid(x=0), store=None)["told"].tolist() == [0]


def test_a_tilde_is_the_home_folder(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    told = []
    experiment = replace(toy(), trial=lambda call: told.append(call.data_dir) or {"y": call.x})
    for _ in range(2):
        sweep(experiment, grid(x=0), store="~/r", context={"data_dir": "~/d"})
    assert told == [str(tmp_path / "d")]
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    with pytest.raises(ValueError, match="'~nobody-here/toy.csv' names a home folder that is not"):
        sweep(toy(), grid(x=0), store="~nobody-here")


def test_the_device_is_that_of_the_context_unless_the_trial_computes_elsewhere(toy):
    for options, device in (({}, "mps"), ({"on_device": False}, describe_device("cpu"))):
        frame = sweep(toy(**options), grid(x=0), store=None, context={"device": "mps"})
        assert frame["device"].tolist() == [device]


def test_half_precision_is_for_trials_that_take_it_and_their_rows_say_so(toy, monkeypatch):
    monkeypatch.setattr("helpers.training.precision._faster", lambda kind: "bfloat16")
    told, here = [], describe_device("cpu")
    trial = lambda call: told.append(call.precision) or {"y": call.x}  # noqa: E731
    for half, context, precision in (
        (True, {"precision": "auto"}, "bfloat16"),
        (True, {"precision": "float32"}, "float32"),
        (True, {}, "float32"),
        (False, {"precision": "auto"}, "float32"),
    ):
        experiment = replace(toy(), trial=trial, half=half)
        frame = sweep(experiment, grid(x=0), store=None, context=context)
        assert told.pop() == precision
        text = here if precision == "float32" else f"{here}, bfloat16 products"
        assert frame["device"].tolist() == [text]
    with pytest.raises(ValueError, match="precision is 'double': allowed are 'float32'"):
        sweep(replace(toy(), half=True), grid(x=0), store=None, context={"precision": "double"})


@pytest.mark.parametrize(
    "cells, message",
    [
        ([{"x": 1, "z": 2}], r"cell {'x': 1, 'z': 2}: its parameters are \['x'\]"),
        ([{"seed": 1}], r"its parameters are \['x'\]"),
        ([{"x": 0}, {"x": [1, 2]}], r"parameter 'x' is \[1, 2\]"),
        ([{"x": 0}, {"x": None}], "parameter 'x' is None"),
        ([{"x": 0}, {"x": math.nan}], "infinity allowed, nan not"),
        ([{"x": 1}, {"x": 1, "seed": 2}], r"cell {'x': 1, 'seed': 2}: its parameters are"),
        ([{"x": 1, "device": "cpu"}], r"its parameters are \['x'\]"),
    ],
)
def test_cells_that_do_not_fit_are_refused_before_anything_runs(toy, tmp_path, cells, message):
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
        ({"device": 1.0}, "name of a parameter"),
        ({"data_dir": 1.0}, "name of a parameter"),
        ({"seconds": 1.0}, "name of a parameter or provenance"),
        ({"two\nlines": 1.0}, "cannot head a column"),
        ({"y": 1.0, "data_source": 3}, "data_source is 3"),
    ],
)
def test_results_that_are_not_numbers_are_errors_that_name_them(toy, tmp_path, result, message):
    experiment = toy(result=lambda x: result)
    with pytest.raises(TrialError, match=message) as caught:
        sweep(experiment, grid(x=range(1)), store=tmp_path)
    assert "experiment toy, cell {'x': 0}" in str(caught.value)


def test_a_failing_trial_keeps_the_rows_before_it_and_the_next_run_goes_on(toy, tmp_path):
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
        sweep(experiment, grid(x=range(4)), store=tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    broken.clear()
    assert sweep(experiment, grid(x=range(4)), store=tmp_path)["y"].tolist() == [0, 1, 2, 3]
    assert runs == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("code, told", [(0, ": 0"), (None, ""), ("enough", ": enough")])
def test_a_trial_that_wants_to_exit_is_a_failure_as_any_other(
    toy, lines, tmp_path, code, told, n_jobs
):
    def result(x):
        if x == 2:
            sys.exit(code)
        return {"y": x}

    with pytest.raises(TrialError, match=rf"toy, cell \{{'x': 2\}}: SystemExit{told}\. Rows"):
        sweep(toy(result=result), grid(x=range(3)), store=tmp_path, n_jobs=n_jobs)
    assert len(lines()) == 1 + 2 + 1


def test_tolerances_of_what_is_no_result_are_an_error_that_names_them(toy, tmp_path):
    for column in ("x", "seconds", "z"):
        experiment = toy(tolerance={"default": 0.1, "y": 0.2, column: 1.0})
        with pytest.raises(
            TrialError, match=rf"tolerances for \['{column}'\], which are no results"
        ):
            sweep(experiment, grid(x=range(1)), store=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_absent_dataset_leaves_its_cells_out_and_says_so(toy, tmp_path, capsys):

    def result(x):
        if x in (1, 3):
            raise DatasetNotFound("no cats here; get them there")
        return {"y": x}

    frame = sweep(toy(result=result), grid(x=range(4)), store=tmp_path)
    assert frame["x"].tolist() == [0, 2]
    assert frame.attrs["missing"] == [({"x": x}, "no cats here; get them there") for x in (1, 3)]
    assert "toy: 2 of 4 cells not computed: no cats here; get them there" in capsys.readouterr().out


def test_another_missing_file_is_a_failure(toy, tmp_path):
    def result(x):
        raise FileNotFoundError("weights.bin")

    with pytest.raises(TrialError, match="FileNotFoundError: weights.bin"):
        sweep(toy(result=result), grid(x=range(1)), store=tmp_path)


def test_all_datasets_absent_leaves_no_file(toy, tmp_path):

    def result(x):
        raise DatasetNotFound("nothing")

    frame = sweep(toy(result=result), grid(x=range(2)), store=tmp_path / "new")
    assert frame.empty and list(frame.columns) == ["x", *PROVENANCE]
    assert list((tmp_path / "new").iterdir()) == []


def test_progress_bar_can_be_switched_on_and_off(toy, tmp_path, capsys, monkeypatch):
    sweep(toy(), grid(x=range(1)), store=tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("BOOK_PROGRESS")
    sweep(toy(), grid(x=range(3)), store=tmp_path)
    assert "3/3" in capsys.readouterr().err
    sweep(toy(), grid(x=range(3)), store=tmp_path)
    assert capsys.readouterr().err == "", "nothing missing, nothing shown"


def test_a_frame_can_be_copied_and_exported(toy, tmp_path):
    frame = sweep(toy(), grid(x=range(2)), store=tmp_path)
    assert json.loads(frame.copy().to_json(orient="records"))[1]["y"] == 1


def test_sweep_takes_the_name_of_a_registered_experiment(registry, toy):
    register(toy())
    assert sweep("toy", grid(x=range(2)), store=None)["y"].tolist() == [0, 1]


def test_results_takes_all_from_the_run_of_a_chapter(registry, toy, tmp_path, monkeypatch):
    register(toy())
    monkeypatch.setenv("BOOK_RESULTS", str(tmp_path))
    assert results("toy", Run("smoke", "cpu", 0, None))["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []
    assert len(results("toy", Run("laptop", "cpu", 0, None))) == 6
    assert (tmp_path / "toy.csv").exists()


def test_results_can_keep_a_part_of_the_grid_and_ask_before_trials_are_moved(registry):
    def trial(call):
        return {"y": call.x}

    def cells(profile):
        return grid(x=[1, 2], trial=range(2))

    register(Experiment("part", trial, cells, 0.0, bool))
    kept = results("part", Run("smoke", "cpu", 3, None), lambda cell: cell["trial"] == 1)
    assert kept["x"].tolist() == [1, 2]
    assert set(kept["trial"]) == {3_001}


def test_another_seed_is_another_set_of_trials(registry):
    def trial(call):
        return {"y": call.trial}

    register(Experiment("drawn", trial, lambda profile: grid(trial=range(3)), 0.0, bool))
    first, other = (results("drawn", Run("smoke", "cpu", s, None)) for s in (0, 7))
    assert first["trial"].tolist() == [0, 1, 2]
    assert not set(first["trial"]) & set(other["trial"])


# -- cells that are computed together -------------------------------------------------------------


def test_cells_of_a_group_go_to_one_call_in_their_order(together, lines, tmp_path):
    calls = []
    cells = [{"x": x} for x in (5, 4, 0, 3, 2, 3)]
    frame = sweep(together(calls=calls), cells, store=tmp_path)
    assert calls == [[5, 3], [4, 0, 2]]
    assert frame["x"].tolist() == [5, 4, 0, 3, 2, 3]
    assert frame["place"].tolist() == [0, 0, 1, 1, 2, 1]
    assert len(lines()) == 1 + 5 + 1


def test_rows_of_cells_computed_together_are_those_of_single_trials(toy, together, tmp_path):
    many = lambda calls: [{"y": c["x"] ** 2.0, "data_source": "made up, here"} for c in calls]  # noqa: E731
    columns = ["x", "y", "data_source", "device", "versions", "revision"]
    grouped = sweep(together(many=many), grid(x=range(5)), store=tmp_path / "grouped")
    single = sweep(toy(), grid(x=range(5)), store=tmp_path / "single")
    assert grouped[columns].equals(single[columns])
    assert tuple(grouped.columns) == tuple(single.columns)


def test_a_group_is_told_cells_and_context(together):
    seen = []
    experiment = together(many=lambda calls: seen.extend(calls) or [{"y": c.x} for c in calls])
    sweep(experiment, grid(x=[0, 2]), store=None, context={"device": "cpu", "data_dir": "/there"})
    told = {"device": "cpu", "data_dir": "/there", "precision": "float32"}
    assert seen == [{"x": x} | told for x in (0, 2)]


def test_each_row_of_a_group_states_an_equal_share_of_the_seconds(together, monkeypatch):
    class Clock:
        perf_counter = iter([100.0, 106.0, 200.0, 201.0]).__next__

    monkeypatch.setattr("helpers.sweep.trials.time", Clock)
    frame = sweep(together(), [{"x": x} for x in (0, 2, 4, 1)], store=None)
    assert frame["seconds"].tolist() == [2.0, 2.0, 2.0, 1.0]


def test_only_the_missing_cells_of_a_group_are_computed(together, tmp_path):
    calls = []
    sweep(together(calls=calls), [{"x": 2}], store=tmp_path)
    frame = sweep(together(calls=calls), grid(x=range(6)), store=tmp_path)
    assert calls == [[2], [0, 4], [1, 3, 5]]
    assert frame["size"].tolist() == [2, 3, 1, 3, 2, 3]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_group_keeps_the_rows_of_finished_ones(together, tmp_path, n_jobs):
    def many(calls):
        if calls[0]["x"] % 2:
            time.sleep(0.3 * (n_jobs > 1))  # the other worker ends first
            raise ZeroDivisionError("no way")
        return [{"y": call["x"]} for call in calls]

    with pytest.raises(
        TrialError, match=r"experiment toy, cell \{'x': 1\}: ZeroDivisionError: no way\. Rows finis"
    ):
        sweep(together(many=many), grid(x=range(5)), store=tmp_path, n_jobs=n_jobs)
    calls = []
    fixed = together(many=lambda cs: calls.append([c["x"] for c in cs]) or [{"y": 7} for _ in cs])
    assert sweep(fixed, grid(x=range(5)), store=tmp_path)["y"].tolist() == [0, 7, 2, 7, 4]
    assert calls == [[1, 3]]


@pytest.mark.parametrize("found", [2, 4])
def test_too_few_or_too_many_results_are_an_error(together, tmp_path, found):
    experiment = together(many=lambda calls: [{"y": 0}] * found)
    with pytest.raises(TrialError, match=f"cell {{'x': 0}}: ValueError: {found} results for 3 cel"):
        sweep(experiment, grid(x=range(5)), store=tmp_path)
    assert list(tmp_path.glob("*.csv")) == []


def test_groups_among_two_workers(together, tmp_path):
    frame = sweep(together(), grid(x=range(7)), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [x * x for x in range(7)]
    assert frame["size"].tolist() == [4, 3, 4, 3, 4, 3, 4]
    assert frame["place"].tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_an_absent_dataset_leaves_a_whole_group_out(together, tmp_path, capsys):

    def many(calls):
        if calls[-1]["x"] == 3:
            raise DatasetNotFound("no cats here")
        return [{"y": call["x"]} for call in calls]

    frame = sweep(together(many=many), grid(x=range(5)), store=tmp_path)
    assert frame["x"].tolist() == [0, 2, 4]
    assert frame.attrs["missing"] == [({"x": x}, "no cats here") for x in (1, 3)]
    assert "toy: 2 of 5 cells not computed: no cats here" in capsys.readouterr().out


# -- workers --------------------------------------------------------------------------------------


def test_an_experiment_of_lambdas_travels_to_two_workers(tmp_path):
    experiment = Experiment(
        "lambdas",
        lambda calls: [{"y": call.x**2, "size": len(calls), "pid": os.getpid()} for call in calls],
        cells=lambda profile: grid(x=range(4)),
        tolerance=0.0,
        cheap=lambda cell: True,
        group=lambda cell: cell["x"] % 2,
    )
    frame = sweep(experiment, experiment.cells("smoke"), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [0, 1, 4, 9] and set(frame["size"]) == {2}
    assert os.getpid() not in set(frame["pid"])


def test_two_workers_give_the_same_numbers_and_limit_their_threads(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def result(x):
        return {"y": x / 7, "process": os.getpid(), "threads": int(os.environ["OMP_NUM_THREADS"])}

    frame = sweep(toy(result=result), grid(x=range(6)), store=tmp_path, n_jobs=2)
    assert frame["y"].tolist() == [x / 7 for x in range(6)]
    assert os.getpid() not in set(frame["process"])
    assert set(frame["threads"]) == {max(1, os.cpu_count() // 2)}


def test_a_failure_in_a_worker_keeps_finished_rows_and_starts_no_new_trials(toy, lines, tmp_path):
    def result(x):
        if x == 0:
            raise KeyError("oh")
        time.sleep(0.2)
        return {"y": x}

    with pytest.raises(TrialError, match=r"toy, cell \{'x': 0\}: KeyError: 'oh'") as caught:
        sweep(toy(result=result), grid(x=range(30)), store=tmp_path, n_jobs=2)
    assert any("In the worker" in note and "result" in note for note in caught.value.__notes__)
    rows = len(lines()) - 2
    assert 1 <= rows <= 4


def test_a_dead_worker_is_a_trial_error(toy, tmp_path):
    def result(x):
        if x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": x}

    with pytest.raises(TrialError, match=r"cell \{'x': 1\}: its worker process was killed"):
        sweep(toy(result=result), grid(x=range(4)), store=tmp_path, n_jobs=2)


def test_absent_data_in_a_worker(toy, tmp_path):

    def result(x):
        if x:
            raise DatasetNotFound("elsewhere")
        return {"y": x}

    frame = sweep(toy(result=result), grid(x=range(2)), store=tmp_path, n_jobs=2)
    assert frame["x"].tolist() == [0] and frame.attrs["missing"] == [({"x": 1}, "elsewhere")]


def test_one_job_runs_in_this_process(toy, tmp_path):
    unpicklable = (x for x in range(1))
    frame = sweep(
        toy(result=lambda x: {"y": os.getpid() + 0 * len(repr(unpicklable))}),
        grid(x=range(1)),
        store=tmp_path,
    )
    assert frame["y"].tolist() == [os.getpid()]


def test_backends_that_are_not_there(toy, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="backend 'slurm'"):
        sweep(toy(), grid(x=range(1)), store=tmp_path, backend="slurm")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed"):
        sweep(toy(), grid(x=range(1)), store=tmp_path, backend="dask")


# -- provenance -----------------------------------------------------------------------------------


def test_sweep_does_not_import_torch(tmp_path):
    script = """
import sys
from helpers.sweep import Experiment, grid, sweep

toy = Experiment("toy", lambda call: {"y": call.x}, lambda profile: grid(x=1), 0.0, bool)
sweep(toy, grid(x=1), store=sys.argv[1], context={"device": "cpu"})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def test_the_description_of_the_cpu_ends_with_its_cores():
    assert describe_device("cpu").split(", ")[-1].split()[1] in ("core", "cores")
    assert describe_device("mps") == "mps"
