"""Ways that are timed against each other: the same numbers, in so much memory and arithmetic."""

import math

import pandas as pd
import pytest
import torch

from helpers.experiments.performance import clock
from helpers.experiments.performance import features as ways
from helpers.project import project_root
from helpers.sweep import Call


def stored(name):
    return pd.read_csv(project_root() / "book" / "results" / f"{name}.csv")


def _peak_memory(arguments):
    ways.streamed(**arguments)
    return clock.peak()


def test_the_pipeline_stays_below_two_gib():
    """Memory does not depend on the width: features are never kept."""
    arguments = dict(samples=1_000, dim=1_000, width=4_096, seed=0)
    assert clock.apart(_peak_memory, arguments) < 2


def test_ways_that_are_timed_against_each_other_compute_the_same_thing():
    arguments = dict(samples=40, dim=60, width=8_000, seed=0)
    streamed = ways.streamed(**arguments)
    for way in ("infinite", "materialised", "elementwise"):
        assert ways.WAYS[way](**arguments) == pytest.approx(streamed, abs=0.15)


def test_published_times_keep_their_promise():
    """Medians over rounds measured side by side, on the machine of the published edition."""
    found = stored("rf_performance")
    large, small = found[found["samples"] == 1_000], found[found["samples"] == 200]
    ours = large["streamed_seconds"]
    assert (ours / large["products_seconds"]).median() < 1.4
    assert (large["materialised_seconds"] / ours).median() > 5
    assert (small["elementwise_seconds"] / small["streamed_seconds"]).median() > 40
    assert large["streamed_memory"].max() < 2


def test_published_ntk_gram_is_a_thousand_times_faster_and_the_same():
    rows = stored("ntk_performance")
    assert (rows["kronecker"] / rows["hadamard_float32"]).median() > 1_000
    assert rows["difference"].max() < 1e-8


def test_operations_are_those_of_the_products(monkeypatch):
    """Counted by the size of what is multiplied; tiles below the diagonal are left out."""
    counted = 0

    def added(self, a, b):
        nonlocal counted
        counted += 2 * self.numel() * a.shape[1]

    def product(a, b, *, out):
        added(out, a, b)

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(torch.Tensor, "addmm_", added)
    size = dict(samples=1_500, dim=20, width=2_048)
    ways.products(**size, seed=0)
    assert counted == ways.operations(**size)
    whole = 2 * size["width"] * size["samples"] * 3 * (size["dim"] + size["samples"])
    assert 0.8 * whole < ways.operations(**size) < whole


def test_a_trial_has_every_way_in_its_columns_and_leaves_a_slow_one_out(monkeypatch):
    monkeypatch.setattr(ways, "apart", lambda work, *arguments: work(*arguments))
    found = ways.rf_performance(Call(samples=30, dim=40, width=1_024, elementwise=False, trial=0))
    assert found.keys() | {"elementwise"} < {*stored("rf_performance").columns}
    absent = {name for name, value in found.items() if math.isnan(value)}
    assert absent == {f"elementwise_{c}" for c in ("seconds", "memory", "spurious", "test")}
    arguments = dict(samples=30, dim=40, width=1_024, seed=0)
    assert [found["streamed_spurious"], found["streamed_test"]] == ways.streamed(**arguments)


def test_both_ways_to_the_ntk_give_one_kernel():
    found = ways.ntk_performance(Call(samples=60, materialised=20, dim=30, width=25, trial=0))
    assert found["difference"] < 1e-12
    assert found.keys() < {*stored("ntk_performance").columns}
