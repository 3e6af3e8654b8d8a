"""Limits of losses of the margin: against closed forms, samples, and long descents."""

import numpy as np
import pytest

from helpers import data
from helpers.experiments.shortcut import margin_limits as experiments
from helpers.experiments.shortcut import margins
from helpers.sweep import Call, get
from helpers.training import margin_losses

CELL = dict(core=0.0, samples=150, dim=40, trial=0)


def puli(by="limit", steps=0, loss="logistic", **change):
    strength = dict(margins.LOSSES)[loss]
    return experiments.margin_limits(
        Call(CELL | change, loss=loss, strength=strength, by=by, steps=steps)
    )


def test_accuracies_are_those_of_samples(monkeypatch):
    found = puli("descent", 300, core=0.5)
    train = data.two_axis_sample(150, **margins.PULI, sigma_c=0.5, extra=38, seed=10_000)
    w = margin_losses.fit_linear(
        train.x, train.label, margin_losses.logistic, method="descent", iterations=300
    ).weights
    draw = margins.PULI | {"rho": 0.5}
    test = data.two_axis_sample(40_000, **draw, sigma_c=0.5, extra=38, seed=1)
    right = test.x @ w * test.label > 0
    assert found["conflicting"] == pytest.approx(right[~test.aligned].mean(), abs=0.02)
    assert found["aligned"] == pytest.approx(right[test.aligned].mean(), abs=0.02)
    assert found["train_accuracy"] == (train.x @ w * train.label > 0).mean()


@pytest.mark.parametrize("loss", ["squared", "sd", "marg_log"])
def test_a_perfect_core_is_found_by_every_loss_that_controls_the_margin(loss):
    found = puli(loss=loss)
    assert found["reliance"] < 1e-5 and found["conflicting"] > 0.999


def test_descent_ends_in_the_limit_where_there_is_a_minimum():
    end, near = puli(loss="sd", core=0.5), puli("descent", 5_000, "sd", core=0.5)
    assert near["reliance"] == pytest.approx(end["reliance"], rel=1e-3)


def test_the_largest_margin_turns_to_the_shortcut_when_dimensions_are_many():
    # 4 k = 60 for the k = 15 samples against the trend
    few, many = puli(), puli(dim=145)
    assert few["reliance"] < many["reliance"]
    assert many["conflicting"] < 0.7 < 0.95 < few["conflicting"]
    assert puli("limit of signs")["reliance"] > few["reliance"]


def test_data_that_cannot_be_separated_have_the_minimiser_for_a_limit():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 3)), draw.choice([-1.0, 1.0], 60)
    w = experiments.limit(x, y, margin_losses.logistic)
    assert np.abs(x.T @ (y / (1 + np.exp(y * (x @ w))))).max() < 1e-3


def test_digits_are_those_of_the_other_experiment():
    cell = dict(task="colored", source="mnist5k", rho=0.9, samples=300, trial=0, data_dir=None)
    found = experiments.margin_digit_limits(Call(cell, loss="squared", strength=0.0))
    stopped = Call(cell, loss="squared", strength=0.0, steps=20_000)
    [near] = margins.margin_digits([stopped])
    assert found["conflicting"] == pytest.approx(near["conflicting"], abs=0.1)
    assert (
        experiments.margin_digit_limits(Call(cell, loss="logistic", strength=0.0))["train_accuracy"]
        == 1
    )


def test_every_draw_has_all_ways_and_losses():
    cells = get("margin_limits").cells("laptop")
    assert len({cell["trial"] for cell in cells}) >= 5
    assert {c["loss"] for c in cells if c["by"] == "limit"} == dict(margins.LOSSES).keys()
