"""Kernels of ResNet-18 with their controls."""

import pytest
import torch

from helpers import data, kernels, sweep
from helpers.experiments.shortcut import resnet, resnet_kernels


def axes(seed, heavy, light, n=400):
    """Images of which one direction tells the attribute and another the label."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (2 * n,), generator=draw) * 2.0 - 1
    flip = torch.rand(2 * n, generator=draw) < torch.tensor([0.1] * n + [0.5] * n)
    b = torch.where(flip, -y, y)
    X = torch.randn(2 * n, 12, generator=draw)
    X[:, 0], X[:, 1] = heavy * b, light * y + X[:, 1]
    parts = [data.Grouped(X[rows], y[rows], b[rows]) for rows in (slice(0, n), slice(n, None))]
    rows = X.double()
    return resnet_kernels.of_kernel(rows @ rows.T, *parts, seed=seed)


@pytest.mark.parametrize("way", ["raw", "centred"])
def test_a_heavy_attribute_is_found_and_a_light_one_is_not(way):
    found, lost = axes(0, heavy=5.0, light=1.0), axes(0, heavy=0.1, light=5.0)
    assert found[f"told_{way}"] > 0.95 and found[f"conflicting_{way}"] < 0.3
    assert found[f"meet_{way}"] == 1 and found[f"a_bias_{way}"] > 5 * found[f"a_core_{way}"]
    assert lost[f"told_{way}"] < 0.7 and lost[f"conflicting_{way}"] > 0.7
    assert lost[f"meet_{way}"] == 0 and lost[f"a_bias_{way}"] < lost[f"a_label_{way}"]
    assert abs(found[f"null_told_{way}"] - 0.5) < 0.1
    assert found[f"a_null_{way}"] == pytest.approx(1 / 400, rel=1)


def test_centring_takes_the_constant_out_of_the_first_modes():
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (400,), generator=draw) * 2.0 - 1
    X = torch.randn(400, 8, generator=draw).double()
    K = X @ X.T + 50
    b = y * torch.tensor([1.0, 1.0, -1.0]).repeat(134)[:400]
    parts = [data.Grouped(X[r], y[r], b[r]) for r in (slice(0, 200), slice(200, None))]
    row = resnet_kernels.of_kernel(K, *parts, seed=0)
    assert row["first_raw"] > 0.8 and row["first_centred"] < 0.2


@pytest.mark.parametrize(("fits", "explained"), [("attribute", "bias"), ("label", "label")])
def test_output_is_explained_by_what_it_follows(fits, explained):
    test = resnet.sets("few colored digits", 80, 80, 0.9, 0, None)[1]
    f = getattr(test, fits) + 0.01 * torch.randn(80, generator=torch.Generator().manual_seed(0))
    X = test.images.flatten(1).double()
    row = resnet_kernels.of_output(X @ X.T, f, f, test, test)
    assert row[f"explained_{explained}"] > 0.99
    other = {"bias": "label", "label": "bias"}[explained]
    assert row[f"explained_{other}"] < 0.1
    assert row["aligned_output"] == 1 and row["conflicting_output"] == (explained == "label")


def test_stages_and_statistics_are_different_networks_of_one_trial():
    experiment = sweep.get("resnet_kernels")
    cells = [c for c in experiment.cells("smoke") if c["kernel"] == "resnet" and c["rho"] == 0.9]
    found = sweep.sweep(experiment, cells, store=None, progress=False)
    start = found[found["stage"] == "start"].set_index("statistics")
    assert start.loc["data", "first_raw"] != start.loc["none", "first_raw"]
    ways = found[found["statistics"] == "data"].set_index(["stage", "loss"])["a_bias_centred"]
    assert ways.nunique() == len(ways) == 4


def test_the_closed_forms_are_taken_on_inputs_without_their_mean():
    train, test, _ = resnet.sets("few colored digits", 80, 80, 0.9, 0, None)
    K = resnet_kernels._closed_form("linear", train, test)
    X = train.images.flatten(1).double()
    X = X - X.mean(0)
    torch.testing.assert_close(K[:80, :80], X @ X.T)
    own, _ = kernels.centred_kernel(K[:80, :80], K[80:, :80])
    torch.testing.assert_close(own, K[:80, :80])
