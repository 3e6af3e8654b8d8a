"""How times grow: slopes of made-up rows, operations against what torch counts, each path once."""

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers import sweep
from helpers.experiments.performance import growth
from helpers.sweep import Call


def rows(power, trials=3, path="tangent kernel"):
    return pd.DataFrame([
        dict(path=path, size=size, trial=trial, taken=(1 + 0.1 * trial) * size**power,
             operations=growth.PATHS[path].operations(size))
        for trial in range(trials) for size in (500, 1_000, 2_000)
    ])  # fmt: skip


@pytest.mark.parametrize("power", [0.5, 1.0, 2.2])
def test_a_power_is_found_whatever_its_factor(power):
    found = growth.exponents(rows(power)).loc["tangent kernel"]
    assert [found[name] for name in ("measured", "low", "high")] == pytest.approx([power] * 3)
    assert 1.8 < found["predicted"] < 2  # the product with the weights grows with one power
    assert (found["first"], found["last"], found["grows"]) == (500, 2_000, "samples")


def test_one_round_has_no_interval_and_one_size_no_slope():
    found = growth.exponents(rows(1.0, trials=1)).loc["tangent kernel"]
    assert found["measured"] == pytest.approx(1) and pd.isna(found["low"])
    with pytest.raises(ValueError, match="'tangent kernel' has one size in each round"):
        growth.exponents(rows(1.0)[lambda r: r["size"] == 500])


COUNTED = ["random features", "random features, wider", "empirical kernel"]


@pytest.mark.parametrize("name", COUNTED)
def test_operations_grow_as_torch_counts_them(name):
    """The second size over the first; torch counts products only."""
    path = growth.PATHS[name]
    small, large = path.sizes["smoke"]
    counted = []
    for size in (small, large):
        work = path.work(size, 0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            work()
        counted.append(counter.get_total_flops())
    expected = path.operations(large) / path.operations(small)
    assert counted[1] / counted[0] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", growth.PATHS)
def test_each_path_takes_time_at_its_smallest_size(name):
    size = growth.PATHS[name].sizes["smoke"][0]
    row = growth.growth_performance(Call(path=name, size=size, trial=0))
    assert row["taken"] > 0 and row["operations"] > 0


def test_a_row_can_be_stored():
    cell = next(c for c in sweep.get("growth_performance").cells("smoke"))
    found = sweep.sweep("growth_performance", [cell], store=None, progress=False)
    assert found["taken"].iloc[0] > 0
