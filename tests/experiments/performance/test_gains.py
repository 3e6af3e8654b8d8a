"""Half precision for each kind of training: each task once, and the table of made-up rows."""

import os

import pandas as pd
import pytest

from helpers.experiments.performance import gains
from helpers.sweep import Call


@pytest.mark.parametrize(
    "name", ["one MLP", "small CNN", "kernel of an MLP", "kernel of a small CNN"]
)
def test_a_task_is_timed_in_both_precisions(name):
    row = gains.measured(name, rounds=1, seed=0)
    assert row["float32"] > 0 and row["bfloat16"] > 0 and row["auto"] in (0, 1)
    if gains.TASKS[name].steps:
        assert row["error"] != row["error"]
    else:  # eight bits of mantissa, and not float32 twice
        assert 1e-4 < row["error"] < 0.05


def test_a_row_is_measured_where_its_instructions_are_allowed(monkeypatch):
    seen = []
    monkeypatch.setattr(
        gains, "apart", lambda *_: seen.append(os.environ.get("ONEDNN_MAX_CPU_ISA")) or {}
    )
    for name in gains.INSTRUCTIONS:
        gains.precision_gains(Call(task="one MLP", instructions=name, rounds=1, trial=0))
    assert seen == [None, "AVX512_CORE"]


def test_instructions_are_allowed_to_new_processes_only(monkeypatch):
    name = "ONEDNN_MAX_CPU_ISA"
    monkeypatch.setenv(name, "AVX2")
    with gains._allowed("AVX512_CORE"):
        assert os.environ[name] == "AVX512_CORE"
    assert os.environ[name] == "AVX2"
    monkeypatch.delenv(name)
    with pytest.raises(KeyError), gains._allowed("AVX512_CORE"):
        raise KeyError
    with gains._allowed(""):
        assert name not in os.environ


def test_the_table_has_a_line_a_task_and_medians_of_ratios():
    rows = pd.DataFrame([
        dict(task=task, instructions=allowed, trial=trial, float32=ratio * (2 + trial),
             bfloat16=2.0 + trial, error=error)
        for task, error in (("kernel of an MLP", 0.003), ("one MLP", float("nan")))
        for allowed, base in (("all", 2.0), ("no bfloat16", 0.5))
        for trial, ratio in enumerate((base, base + 0.1, base + 0.7))
    ])  # fmt: skip
    table = gains.gains(rows)
    assert list(table.index) == ["one MLP", "kernel of an MLP"]
    assert table["all"].tolist() == pytest.approx([2.1, 2.1])
    assert table["no bfloat16"].tolist() == pytest.approx([0.6, 0.6])
    assert table["all, least"].tolist() == pytest.approx([2.0, 2.0])
    assert table["no bfloat16, most"].tolist() == pytest.approx([1.2, 1.2])
    assert pd.isna(table.loc["one MLP", "error"]) and table["part"].iloc[0] == "I, II, V"
    assert table.loc["kernel of an MLP", "error"] == 0.003
