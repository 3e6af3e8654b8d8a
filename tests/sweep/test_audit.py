"""The audit finds what has changed, and says what it could not check."""

import math
from dataclasses import replace

import pytest

from helpers.errors import DatasetNotFound
from helpers.sweep import audit, grid, register, sweep

pytestmark = pytest.mark.filterwarnings("error")


def statuses(results):
    return [r.status for r in results]


def test_the_audit_recomputes_and_agrees(registry, toy, tmp_path):
    runs = []
    sweep(register(toy(runs=runs)), grid(x=range(6)), store=tmp_path)
    runs.clear()
    results = audit(store=tmp_path, sample=4, seed=3)
    assert statuses(results) == ["agrees"] * 4 and len(set(runs)) == 4
    assert [r.cell for r in audit(store=tmp_path, sample=4, seed=3)] == [r.cell for r in results]
    assert statuses(audit(store=tmp_path, sample=100)) == ["agrees"] * 6


def test_the_audit_catches_an_altered_number(registry, toy, alter, tmp_path):
    sweep(register(toy()), grid(x=range(6)), store=tmp_path)
    alter("\n4,16.0,", "\n4,16.001,")
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
    registry, toy, alter, tmp_path, stored, tolerance, status
):
    experiment = register(toy(tolerance=tolerance))
    sweep(experiment, [{"x": 4}], store=tmp_path)
    alter("\n4,16.0,", f"\n4,{stored},")
    assert statuses(audit(store=tmp_path)) == [status]


def test_a_tolerance_is_absolute_below_one(registry, toy, alter, tmp_path):
    sweep(register(toy(tolerance=0.01)), [{"x": 0.0}], store=tmp_path)
    alter("\n0.0,0.0,", "\n0.0,0.009,")
    assert statuses(audit(store=tmp_path)) == ["agrees"]


def test_nan_agrees_with_nan_and_infinity_with_itself(registry, toy, tmp_path):
    experiment = register(toy(result=lambda x: {"a": math.nan, "b": math.inf}))
    sweep(experiment, grid(x=range(1)), store=tmp_path)
    assert statuses(audit(store=tmp_path)) == ["agrees"]


def test_the_quick_audit_draws_cheap_cells_only(registry, toy, tmp_path):
    runs = []
    sweep(register(toy(runs=runs)), grid(x=range(6)), store=tmp_path)
    runs.clear()
    assert statuses(audit(store=tmp_path, sample=9, cheap_only=True)) == ["agrees"] * 3
    assert sorted(runs) == [0, 1, 2]


def test_what_the_audit_cannot_check_is_reported(registry, toy, tmp_path):
    absent = []

    def result(x):
        if absent:
            raise DatasetNotFound("no cats here")
        return {"y": x, "data_source": "cats"}

    sweep(register(toy(result=result)), grid(x=range(1)), store=tmp_path)
    sweep(register(toy("costly", cheap=lambda cell: False)), grid(x=range(1)), store=tmp_path)
    sweep(register(toy("exempt", audited=False)), grid(x=range(1)), store=tmp_path)
    register(toy("unstored"))
    absent.append(True)
    results = {r.experiment: r for r in audit(store=tmp_path, cheap_only=True)}
    assert {r.status for r in results.values()} == {"not checked"}
    assert results["toy"].detail == "no cats here"
    assert results["costly"].detail == "no stored cell is cheap"
    assert results["exempt"].detail == "marked as not audited"
    assert results["unstored"].detail.startswith("nothing is stored")


def test_other_data_are_not_a_difference_of_the_numbers(registry, toy, tmp_path):
    source = ["the original files"]
    experiment = toy(result=lambda x: {"y": len(source[0]), "data_source": source[0]})
    sweep(register(experiment), grid(x=range(1)), store=tmp_path)
    source[0] = "recoded copies"
    (result,) = audit(store=tmp_path)
    assert result.status == "not checked" and "'the original files', here" in result.detail


def test_trials_that_fail_or_have_changed_differ(registry, toy, tmp_path):
    answer = [{"y": 1}]
    sweep(register(toy(result=lambda x: answer[0])), grid(x=range(1)), store=tmp_path)
    answer[0] = {"z": 1}
    assert "other columns: stored ['y'], now ['z']" in audit(store=tmp_path)[0].detail
    answer[0] = None
    assert "the trial failed: TypeError" in audit(store=tmp_path)[0].detail
    assert statuses(audit(store=tmp_path)) == ["differs"]


def test_a_trial_with_a_new_parameter_differs(registry, toy, tmp_path):
    sweep(register(toy()), grid(x=0), store=tmp_path)
    registry.clear()
    register(toy(cells=lambda profile: grid(x=0, y2=1)))
    (result,) = audit(store=tmp_path)
    assert result.status == "differs" and "its parameters are ['x', 'y2']" in result.detail


def test_a_damaged_table_keeps_no_other_from_the_audit(registry, toy, tmp_path):
    for name in ("bad", "good", "odd"):
        sweep(register(toy(name)), grid(x=0), store=tmp_path)
    with (tmp_path / "bad.csv").open("a") as file:
        file.write("garbage\n")
    (tmp_path / "odd.csv").unlink()
    (tmp_path / "odd.csv").mkdir()
    bad, good, odd = audit(store=tmp_path)
    assert (bad.status, good.status, odd.status) == ("differs", "agrees", "differs")
    assert "bad.csv is damaged in line 3" in bad.detail and "Is a directory" in odd.detail


def test_a_table_that_lacks_a_parameter_differs_before_cells_are_drawn(registry, toy, tmp_path):
    sweep(register(toy()), grid(x=0), store=tmp_path)
    registry.clear()
    register(toy(cells=lambda profile: grid(x=0, cost=1), cheap=lambda cell: cell["cost"] < 2))
    (result,) = audit(store=tmp_path, cheap_only=True)
    assert result.status == "differs" and "its parameters are ['cost', 'x']" in result.detail


def test_the_audit_knows_the_home_folder(registry, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sweep(register(toy()), grid(x=0), store=tmp_path / "r")
    assert statuses(audit(store="~/r")) == ["agrees"]


def test_a_row_is_recomputed_in_its_own_precision(registry, toy, tmp_path):
    told = []
    trial = lambda call: told.append(call.precision) or {"y": 1.0}  # noqa: E731
    experiment = register(replace(toy(), trial=trial, half=True))
    for x, precision in enumerate(("bfloat16", "float32")):
        sweep(experiment, grid(x=x), store=tmp_path, context={"precision": precision})
    told.clear()
    results = audit(store=tmp_path, seed=0, context={"precision": "float32"})
    assert [r.status for r in results] == ["agrees", "agrees"]
    assert told == ["bfloat16", "float32"]


def test_an_audit_of_no_cells_is_refused(registry, tmp_path):
    with pytest.raises(ValueError, match="sample must be 1 or more"):
        audit(store=tmp_path, sample=0)


def test_the_audit_computes_cells_of_a_group_one_by_one(registry, together, tmp_path):
    calls = []

    def many(group):
        calls.append([call.x for call in group])
        return [{"y": call.x**2} for call in group]

    experiment = register(together(many=many))
    sweep(experiment, grid(x=range(4)), store=tmp_path)
    assert calls == [[0, 2], [1, 3]]
    assert [r.status for r in audit(store=tmp_path, sample=9)] == ["agrees"] * 4
    assert sorted(calls[2:]) == [[0], [1], [2], [3]]
