"""The audit finds what has changed, and says what it could not check."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import DatasetNotFound
from helpers.project import describe_device, project_root
from helpers.sweep import Experiment, audit, closeness, grid, register, stored_rows, sweep
from helpers.sweep.audit import codes, power

pytestmark = pytest.mark.filterwarnings("error")


def elsewhere(alter):
    """The one stored row comes from another kind of processor."""
    alter(describe_device("cpu"), "Abacus, 2 cores")


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
        ("16.001", 1e-5, "differs"),
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
    elsewhere(alter)
    assert statuses(audit(store=tmp_path)) == [status]


def test_a_tolerance_is_absolute_below_one(registry, toy, alter, tmp_path):
    sweep(register(toy(tolerance=0.01)), [{"x": 0.0}], store=tmp_path)
    alter("\n0.0,0.0,", "\n0.0,0.009,")
    elsewhere(alter)
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


def test_a_row_is_recomputed_with_those_that_it_was_computed_with(registry, together, tmp_path):
    calls = []
    experiment = register(together(calls=calls))
    sweep(experiment, grid(x=[0, 1, 2]), store=tmp_path)
    path = tmp_path / "toy.csv"
    lines = path.read_text().splitlines(True)
    today = lines[1].split(",")[-2]
    path.write_text("".join(line.replace(today, "2001-01-01T00:00:00Z") for line in lines))
    sweep(experiment, grid(x=range(7)), store=tmp_path)
    assert calls == [[0, 2], [1], [3, 5], [4, 6]]
    calls.clear()
    # a row says how many were computed with it, and which of them it was: another group differs
    assert statuses(audit(store=tmp_path, sample=9)) == ["agrees"] * 7
    assert sorted(calls) == [[0, 2], [1], [3, 5], [4, 6]], "each group once"


def chaotic(drift):
    """A trial of four columns that move a little with `drift`, as on another machine."""

    def trial(call):
        return {c: (call.x + k + 1) / 7 * (1 + drift[0] / 10**k) for k, c in enumerate("abcd")}

    return trial


def test_where_numbers_repeat_one_that_does_not_stands_out(registry, toy, alter, tmp_path):
    experiment = register(replace(toy(tolerance=1.0), trial=chaotic([0.0])))
    sweep(experiment, grid(x=range(3)), store=tmp_path)
    assert statuses(audit(store=tmp_path)) == ["agrees"] * 3
    row = [repr((1 + k + 1) / 7) for k in range(4)]  # of x = 1
    alter(",".join(["\n1", *row]), ",".join(["\n1", row[1], *row[1:]]))  # a swap
    result = audit(store=tmp_path)[1]
    assert result.status == "differs" and result.deviations == {"a": (3 / 7, 2 / 7)}
    assert "same processor and threads" in result.detail


def swapped(path, one, other):
    """Exchange the results of two rows in a table: all but the cell and the provenance."""
    head, *rows = path.read_text().splitlines()
    table = {row.split(",")[0]: row.split(",") for row in rows}
    for k, name in enumerate(head.split(",")):
        if name in "abcd":
            first, second = table[one][k], table[other][k]
            table[one][k], table[other][k] = second, first
    path.write_text("\n".join([head, *(",".join(row) for row in table.values())]) + "\n")


@pytest.mark.parametrize("sample", [1, 9])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_that_were_swapped_as_a_whole_are_noticed(registry, toy, tmp_path, grouped, sample):
    """None of their numbers comes out again: this is no machine that adds up otherwise."""
    trial = chaotic([0.0])
    experiment = replace(toy(tolerance=1.0), trial=trial)
    if grouped:  # both rows of a group: all that is computed with them
        experiment = replace(
            experiment, trial=lambda calls: [trial(c) for c in calls], group=lambda c: c["x"] // 2
        )
    sweep(register(experiment), grid(x=range(8)), store=tmp_path)
    assert statuses(audit(store=tmp_path, sample=8)) == ["agrees"] * 8
    swapped(tmp_path / "toy.csv", "2", "3")
    found = {}
    for seed in range(40 if sample == 1 else 1):
        found |= {r.cell["x"]: r for r in audit(store=tmp_path, sample=sample, seed=seed)}
    assert {x: r.status for x, r in found.items()} == {
        x: "differs" if x in (2, 3) else "agrees" for x in range(8)
    }
    assert found[2].detail == "the numbers of {'x': 3} come out"


@pytest.mark.parametrize("value", ["0.0", "9.0"])
def test_a_row_whose_numbers_are_all_replaced_is_noticed_beside_others(
    registry, toy, alter, tmp_path, value
):
    experiment = register(replace(toy(tolerance=10.0), trial=chaotic([0.0])))
    sweep(experiment, grid(x=range(3)), store=tmp_path)
    row = ",".join(["\n1", *(repr((1 + k + 1) / 7) for k in range(4))])
    alter(row, ",".join(["\n1", *[value] * 4]))
    assert statuses(audit(store=tmp_path)) == ["agrees", "differs", "agrees"]


def test_a_group_that_was_made_up_otherwise_is_no_false_alarm(registry, toy, tmp_path):
    """As rows from before the groups were known: a little apart as a whole, others to the digit."""
    drift = [1e-4]
    trial = lambda call: {c: (call.x + k + 1) / 7 * (1 + drift[0]) for k, c in enumerate("abcd")}  # noqa: E731
    experiment = register(replace(toy(tolerance=0.5), trial=trial))
    sweep(experiment, grid(x=[0]), store=tmp_path)
    drift[0] = 0.0
    sweep(experiment, grid(x=range(4)), store=tmp_path)
    first, *others = audit(store=tmp_path, sample=9)
    assert first.status == "agrees" and "most numbers come out near" in first.detail
    assert all("near" not in r.detail for r in others) and statuses(others) == ["agrees"] * 3


def test_a_grid_that_fails_keeps_no_other_from_the_audit(registry, toy, tmp_path):
    def grid_of_nothing(profile):
        raise KeyError("no grid")

    for name in ("a", "b"):
        sweep(register(toy(name)), grid(x=0), store=tmp_path)
    registry["a"] = toy("a", cells=grid_of_nothing)
    bad, good = audit(store=tmp_path)
    assert (bad.status, good.status) == ("differs", "agrees")
    assert bad.detail == "KeyError: 'no grid'"


@pytest.mark.parametrize(
    "change", [(", 2 cores", ""), ("threads 1", "threads 3"), ("numpy 2", "numpy 1")]
)
def test_elsewhere_a_number_may_differ_by_the_tolerance(
    registry, toy, tmp_path, change, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("helpers.sweep.trials.threads", lambda: 1)
    monkeypatch.setattr("helpers.sweep.trials.describe_device", lambda device: "Abacus, 2 cores")
    drift = [0.0]
    experiment = register(replace(toy(tolerance={"default": 0.5}), trial=chaotic(drift)))
    sweep(experiment, grid(x=0), store=tmp_path)
    path = tmp_path / "toy.csv"
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    drift[0] = 0.1
    (result,) = audit(store=tmp_path)
    assert result.status == "agrees" and "within tolerances only: stored" in result.detail
    drift[0] = 100.0
    assert statuses(audit(store=tmp_path)) == ["differs"]


def test_a_machine_that_adds_up_otherwise_is_found_by_most_numbers(registry, toy, tmp_path):
    drift = [0.0]
    experiment = register(replace(toy(tolerance=0.5), trial=chaotic(drift)))
    sweep(experiment, grid(x=range(2)), store=tmp_path)
    drift[0] = 0.01
    for result in audit(store=tmp_path):
        assert result.status == "agrees" and "most numbers come out near" in result.detail


def test_an_old_row_is_recomputed_in_one_thread_and_a_new_one_in_its_own(registry, toy, tmp_path):
    torch = pytest.importorskip("torch")
    seen = []
    trial = lambda call: seen.append(torch.get_num_threads()) or {"y": 1.0}  # noqa: E731
    sweep(register(replace(toy(), trial=trial)), grid(x=range(2)), store=tmp_path)
    path = tmp_path / "toy.csv"
    first, second, third, end = path.read_text().split("\n")
    second = second.replace(f"; threads {seen[0]}", "")
    third = third.replace(f"; threads {seen[0]}", "; threads 2")
    path.write_text("\n".join([first, second, third, end]))
    seen.clear()
    before = torch.__config__.parallel_info()  # of every library that torch computes with
    audit(store=tmp_path)
    assert seen == [1, 2] and torch.__config__.parallel_info() == before


# -- what it would notice --------------------------------------------------------------------------


values = st.lists(
    st.sampled_from([0.0, 1.0, -1.0, 1e-3, 0.5, 0.5000001, 7.0, math.inf, -math.inf, math.nan]),
    min_size=2, max_size=12,
)  # fmt: skip


@given(values, st.none() | st.sampled_from([0.0, 1e-6, 0.1, 1.0, math.inf]))
def test_the_shares_that_are_noticed_are_those_of_trying_all(values, tolerance):
    size = closeness.usual_size(values)

    def seen(stored, new):
        if tolerance is None:
            return not closeness.repeated(stored, new, size)
        return not closeness.agree(stored, new, tolerance)

    def same(a, b):
        return a == b or (a != a and b != b)

    swaps = [seen(a, b) for a in values for b in values if not same(a, b)]
    zeros = [seen(0.0, v) for v in values if v != 0]
    for found, tried in zip(closeness.noticed(values, tolerance), (swaps, zeros), strict=True):
        assert found == pytest.approx(sum(tried) / len(tried) if tried else math.nan, nan_ok=True)


def test_power_tells_what_is_noticed_and_what_cannot_be_audited(registry, toy, tmp_path):
    sweep(register(toy(tolerance=100.0)), grid(x=range(6)), store=tmp_path)
    sweep(register(toy("timed", audited=False)), grid(x=range(2)), store=tmp_path)
    sweep(register(toy("flat", result=lambda x: {"y": 3})), grid(x=range(2)), store=tmp_path)
    register(toy("unstored"))
    found = {(p.experiment, p.column): p for p in power(store=tmp_path)}
    assert found["toy", "y"].same == (1.0, 1.0) and found["toy", "y"].other == (0.0, 0.0)
    assert found["timed", "y"].reason == "it measures this machine"
    assert found["flat", "y"].reason == "one number in all rows"
    assert len(found) == 3


def test_the_published_tables_would_be_missed_by_few_errors():
    """What is promised of the audit: 90 % of swapped numbers and 99 % of zeros."""
    names = ["membership"]  # for which it was all but blind
    columns = [p for p in power(names, store=project_root() / "book" / "results") if not p.reason]
    swaps, zeros = zip(*(p.same for p in columns), strict=True)
    assert np.nanmean(swaps) > 0.9 and np.nanmean(zeros) > 0.99
    assert np.nanmean([p.other[0] for p in columns]) < 0.5, "which is why the kind is asked for"


# -- code ------------------------------------------------------------------------------------------


def test_rows_of_other_code_are_told(registry, toy, tmp_path, monkeypatch, capsys):
    experiment = register(toy())
    monkeypatch.setattr(Experiment, "code", "aaaa")
    sweep(experiment, grid(x=range(2)), store=tmp_path)
    assert codes(experiment, stored_rows(experiment, tmp_path)) == ""
    assert "WARNING" not in capsys.readouterr().out
    monkeypatch.setattr(Experiment, "code", "bbbb")
    monkeypatch.setattr("helpers.sweep.worker.package_text", lambda: "")
    sweep(experiment, grid(x=range(3)), store=tmp_path)
    assert "WARNING: 2 of 2 stored rows are of other code than this" in capsys.readouterr().out
    told = codes(experiment, stored_rows(experiment, tmp_path))
    assert told == (
        "WARNING: rows of other code than the present bbbb: 2 of aaaa, 1 of bbbb (the present code)"
    )


def test_rows_without_a_note_of_their_code_are_no_reason_for_a_warning(registry, toy, tmp_path):
    experiment = register(toy())
    sweep(experiment, grid(x=range(2)), store=tmp_path)
    assert codes(experiment, stored_rows(experiment, tmp_path)) == ""
