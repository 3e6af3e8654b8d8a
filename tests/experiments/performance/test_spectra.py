"""What is measured of kernel and solvers, and floors that were worked out by hand."""

import pandas as pd
import pytest
import torch

from helpers import kernels
from helpers.experiments.performance import spectra
from helpers.project import project_root
from helpers.sweep import Call


def test_all_solvers_find_the_same_modes():
    row = spectra.spectra_performance(Call(samples=300, dim=50, modes=4, trial=0))
    assert max(row["subspace_apart"], row["lobpcg_apart"]) < 1e-4
    assert row["lanczos_residual"] < 1e-5 and row["lanczos_apart"] == 0
    stored = pd.read_csv(project_root() / "book" / "results" / "spectra_performance.csv")
    assert row.keys() < {*stored.columns}
    assert all(row[f"{name}_reads"] >= 2 for name in ("lanczos", "subspace", "lobpcg"))


def test_each_piece_of_work_is_timed_under_its_name(monkeypatch):
    def timed(work):
        return clock[work.keywords.get("solver", work.func.__name__)], work()

    clock = {"relu_ntk": 1.0, "lanczos": 2.0, "subspace": 3.0, "by_lobpcg": 4.0}
    monkeypatch.setattr(spectra, "timed", timed)
    row = spectra._measure(100, 20, 3, 0)
    names = ("kernel", "lanczos", "subspace", "lobpcg")
    assert [row[f"{name}_seconds"] for name in names] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rate", "bandwidth", "expected"),
    [
        # a million entries, two numbers for each of 100 pixels and 60 more, of one half
        (1e9, 1e15, {"kernel": 0.13, "lanczos": 30 * 0.002, "subspace": 10 * 0.05}),
        # four megabytes written in a second; half of the matrix read a pass, or all of it
        (1e15, 4e6, {"kernel": 1.0, "lanczos": 30 * 0.5, "subspace": 10 * 1.0}),
    ],
)
def test_floors_are_the_larger_of_arithmetic_and_traffic(rate, bandwidth, expected):
    row = {"rate": rate, "bandwidth": bandwidth, "lanczos_reads": 30, "subspace_reads": 10}
    found = spectra.floors(1_000, 100, 20, row)
    assert found == pytest.approx({f"{name}_floor": value for name, value in expected.items()})


def test_inputs_have_one_strong_direction_of_two_values():
    X = spectra.inputs(500, 30, seed=1)
    assert set(X[:, 0].abs().tolist()) == {3.0}
    K = X @ X.T
    top = kernels.top_modes(K, 2).vectors[:, 0]
    assert float((torch.sign(X[:, 0]) @ top).square() / 500) > 0.9
