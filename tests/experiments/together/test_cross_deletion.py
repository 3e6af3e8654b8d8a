"""How far an influence step reaches: against refits, and the law against simulated data."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from helpers.experiments.together import cross_deletion as experiment
from helpers.sweep import Call

GEN = torch.Generator().manual_seed(0)


def answers(features, labels, ridge, shift):
    model = Ridge(alpha=ridge, solver="cholesky").fit(features, labels)
    return float(shift.numpy() @ model.coef_)


def test_truth_is_a_refit_without_the_group_and_the_step_its_first_order():
    x = torch.randn(40, 6, generator=GEN, dtype=torch.float64)
    g = torch.sign(torch.randn(40, generator=GEN, dtype=torch.float64))
    asked, group, ridge = (
        torch.randn(5, 6, generator=GEN, dtype=torch.float64),
        torch.arange(4),
        3.0,
    )
    marked = asked + x[0]
    step, truth = experiment.reach(x, g, group, asked, marked, ridge)
    shift = (marked - asked).mean(0)
    whole = answers(x, g, ridge, shift)
    assert truth == pytest.approx(whole - answers(x[4:], g[4:], ridge, shift), rel=1e-3)
    # first order: the group's weight in the loss lowered by a millionth
    weights = np.ones(40)
    weights[:4] -= 1e-6
    less = Ridge(alpha=ridge, solver="cholesky").fit(x, g, sample_weight=weights)
    assert step == pytest.approx((whole - float(shift.numpy() @ less.coef_)) / 1e-6, rel=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_the_law_holds_on_gaussian_data_with_unlike_directions(share):
    n, p = 400, 80
    scales = torch.linspace(0.2, 2, p, dtype=torch.float64)
    ratios, told = [], None
    for trial in range(12):
        draw = torch.Generator().manual_seed(trial)
        x, fresh = (torch.randn(m, p, generator=draw, dtype=torch.float64) * scales
                    for m in (n, 6_000))  # fmt: skip
        g = torch.sign(x[:, 0] + torch.randn(n, generator=draw, dtype=torch.float64))
        v = torch.zeros(p, dtype=torch.float64)
        v[10:20] = 1.0
        group = (g > 0).nonzero().flatten()[: int(share * n)]
        x[group] += v
        k = 0.5
        step, truth = experiment.reach(x, g, group, fresh[:50], fresh[:50] + v, k * n)
        ratios.append(step / truth)
        told = experiment.law(experiment.Clean.of(fresh), v, k, n, share)
    assert float(np.mean(ratios)) == pytest.approx(told["predicted"], rel=0.05)
    assert told["predicted"] == pytest.approx((1 - share) * told["rare"])
    assert told["rare"] < told["tau"] < 1


def test_a_grid_cell_gives_all_columns():
    cell = experiment.cross_deletion_cells("smoke")[0]
    (row,) = experiment.cross_deletion([Call(cell, device="cpu", data_dir=None)])
    assert row["ratio"] == pytest.approx(row["step"] / row["truth"])
    assert 0 < row["predicted"] < row["tau"] < 1
    with pytest.raises(ValueError, match="features is 'tanh'"):
        experiment.features_of("tanh", 3, 0)
