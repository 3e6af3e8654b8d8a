"""Networks that see a few images with a pattern: which are trained together, and with what."""

import math

import pytest

from helpers import data, sweep
from helpers.experiments.rare import setup
from helpers.experiments.rare.patterns import rare, rare_group
from helpers.experiments.rare.setup import HIDDEN
from helpers.project import PROFILES
from helpers.sweep import Call

PLAIN = Call(
    precision="float32",
    dataset="mnist5k", samples=256, network="small mlp", optimiser="adam", epochs=1,
    weight_decay=0.0, noise=0.0, clip_value=math.inf, clip_norm=math.inf, augment=False,
    pattern="S3", spurious=0, target=0, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


GROUP = [
    {},
    {"spurious": 20},
    {"spurious": 20, "pattern": "R3"},
    {"spurious": 3, "pattern": "R3"},
    {"pattern": "R3"},
    {"spurious": 20, "clip_value": 1e-4},
    {"spurious": 20, "noise": 0.5},
]


def assert_rows_agree(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value
        else:  # single precision, and sums in another order
            assert found[name] == pytest.approx(value, abs=5e-3, nan_ok=True), name


def test_a_group_gives_each_cell_what_it_gets_alone():
    calls = [Call(PLAIN, **change) for change in GROUP]
    assert len({rare_group(call) for call in calls}) == 1
    rows = rare(calls)
    for call, row in zip(calls, rows, strict=True):
        assert_rows_agree(row, rare([call])[0])
    assert len({row["rise"] for row in rows}) == len(calls), "no two cells are alike"


def test_networks_that_never_saw_a_pattern_are_one_network(built):
    calls = [Call(PLAIN, pattern=name) for name in data.PATTERNS] + [Call(PLAIN, spurious=5)]
    rows = rare(calls)
    assert built == ["small mlp"] * 2
    assert len({row["clean_accuracy"] for row in rows[:-1]}) == 1
    assert len({row["rise"] for row in rows[:-1]}) == len(rows) - 1, "each is shown its pattern"
    assert [math.isnan(row["spurious_loss"]) for row in rows] == [True] * 7 + [False]


def test_one_convolutional_network_serves_a_group(built):
    calls = [Call(PLAIN, network="cnn", samples=60, pattern=name) for name in ("S3", "R3")]
    assert rare_group(calls[0]) == rare_group(calls[1])
    rows = rare(calls)
    assert built == ["cnn"]
    assert all(math.isnan(row["corner"]) and math.isnan(row["elsewhere"]) for row in rows)
    assert rows[0]["clean_accuracy"] == rows[1]["clean_accuracy"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["rare_patterns", "rare_conditions"])
def test_linear_networks_go_together_and_others_only_where_one_serves_all(name, profile):
    experiment = sweep.get(name)
    groups = {}
    for cell in experiment.cells(profile):
        groups.setdefault(experiment.group(cell), []).append(cell)
    assert {cell["network"] for cells in groups.values() for cell in cells} <= {*setup.NETWORKS}
    for cells in groups.values():
        trained = {setup.setting(cell) for cell in cells}
        if cells[0]["network"] in HIDDEN:
            assert len(trained) > 1
        else:
            assert len(trained) == 1
