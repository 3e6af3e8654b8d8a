"""The trials on linear networks: they agree with closed forms and with other solvers."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from helpers import data, theory
from helpers.experiments.shortcut import linear_mixtures as experiments
from helpers.sweep import Call

SETTING = dict(rho=0.9, m_s=2.0, m_c=1.0, sigma_s=0.7, sigma_c=0.5)


def test_a_trial_depends_on_its_cell_alone():
    cell = dict(**SETTING, samples=2_000)
    first = experiments.mixture_two_axis(Call(cell, trial=1))
    assert experiments.mixture_two_axis(Call(cell, trial=2)) != first
    assert experiments.mixture_two_axis(Call(cell, trial=1)) == first


def test_clusters_follow_proposition_3_1():
    found = experiments.mixture_clusters(Call(samples=60_000, dim=12, trial=3))
    assert found["spikes_off"] < 0.03 and found["bulk_mean_off"] < 0.01
    assert found["overlap"] > 0.97 and found["bulk_overlap"] > 0.99


def test_the_moment_of_a_sample_does_not_depend_on_blocks(monkeypatch):
    means = experiments.cluster_means(5, 0)
    weights, variances = experiments.CLUSTER_WEIGHTS, experiments.CLUSTER_VARIANCES
    law = theory.mixture_spectrum(weights, means, variances).moment
    monkeypatch.setattr(experiments, "_BLOCK", 3_000)
    found = experiments.sample_moment(weights, means, variances, 40_000, trial=0)
    np.testing.assert_allclose(found, law, atol=0.3)


def test_the_weight_of_a_cluster_lifts_its_eigenvalue():
    for weight in (0.2, 0.7):
        found = experiments.mixture_weight(Call(weight=weight, norm=3.0, samples=50_000, trial=0))
        assert found["eigenvalue"] == pytest.approx(1 + 9 * weight, rel=0.03)


def test_two_axes_follow_the_closed_form():
    found = experiments.mixture_two_axis(Call(SETTING, samples=200_000, trial=0))
    law = theory.two_axis(**SETTING)
    assert [found["mu_1"], found["mu_2"]] == pytest.approx(law.eigenvalues.tolist(), rel=0.02)
    assert found["angle"] == pytest.approx(law.angle, abs=0.01)
    assert found["bias_1"] == pytest.approx(law.bias_alignments[0], abs=0.01)
    assert found["reliance"] == pytest.approx(law.reliance, rel=0.03)
    assert found["trained_conflicting"] == pytest.approx(law.conflicting, abs=0.01)
    halves = [math.log(2) / mu for mu in law.eigenvalues]
    assert [found["half_1"], found["half_2"]] == pytest.approx(halves, rel=0.03)
    assert found["ratio_falls"] == 1


def test_the_trained_function_is_least_squares():
    sample = data.two_axis_sample(2_000, **SETTING, seed=6)
    w = LinearRegression(fit_intercept=False).fit(sample.x, sample.label).coef_
    found = experiments.mixture_two_axis(Call(SETTING, samples=2_000, trial=3))
    assert found["reliance"] == pytest.approx(2 * w[0] / w[1])


@pytest.mark.parametrize(("ratio", "ridge"), ((0.5, 0.0), (3.0, 0.0), (1.0, 1.0)))
def test_few_samples_act_as_a_ridge(ratio, ridge):
    cell = dict(ratio=ratio, ridge=ridge, samples=300)
    m, rho = experiments.FEW_AMPLITUDE, experiments.FEW_RHO
    found = [experiments.mixture_few(Call(cell, trial=trial)) for trial in range(6)]
    kappa = theory.effective_ridge(1.0, round(300 * ratio), 300, ridge)
    laws = {
        "biased": math.sqrt(2) * rho * m / (2 * rho * m**2 + kappa),
        "light": math.sqrt(2) * (1 - rho) * m / (2 * (1 - rho) * m**2 + kappa),
    }
    for name, tolerance in (("biased", 0.04), ("light", 0.15)):
        mean = np.mean([one[name] for one in found])
        assert mean == pytest.approx(laws[name], rel=tolerance)


def test_a_spike_shows_as_it_should_for_both_shapes():
    for ratio in (0.5, 2.0):
        cell = dict(lift=5.0, ratio=ratio, samples=300)
        found = [experiments.mixture_spike(Call(cell, trial=trial)) for trial in range(4)]
        law = theory.visible_spike(5.0, 1.0, ratio)
        for name in ("eigenvalue", "overlap"):
            mean = np.mean([one[name] for one in found])
            assert mean == pytest.approx(getattr(law, name), rel=0.08)


@pytest.mark.parametrize(("depth", "tolerance"), ((1, 0.02), (2, 0.15), (3, 0.2)))
def test_deep_linear_networks_follow_their_kernel(depth, tolerance):
    found = experiments.deep_linear(Call(depth=depth, width=256, trial=1))
    for feature in (1, 2):
        law = found[f"law_{feature}"]
        assert found[f"half_{feature}"] == pytest.approx(law, rel=tolerance)
    assert found["kernel_off"] <= (0 if depth == 1 else 4 / math.sqrt(256))


def test_the_clusters_of_two_axes_have_their_moment():
    setting = {**experiments.AXES, "sigma_c": 0.4}
    for rho in (0.7, 1.0):
        spectrum = theory.mixture_spectrum(*experiments.two_axis_clusters(rho, **setting))
        law = theory.two_axis(rho, **setting)
        np.testing.assert_allclose(spectrum.values, law.eigenvalues)


def test_early_stopping_is_gradient_flow_and_its_ridges_are_ridge_regressions():
    cell = dict(ratio=0.5, samples=100)
    found = experiments.mixture_stopped(Call(cell, time=0.3, trial=1))
    train = data.two_axis_sample(100, 0.95, 3.0, 3.0, 1, 1, extra=48, seed=1)
    moment, target = train.x.T @ train.x / 100, train.x.T @ train.label / 100
    w, steps = np.zeros(50), 30_000
    for _ in range(steps):
        w += 0.3 / steps * (target - moment @ w)
    assert found["biased"] == pytest.approx((w[0] + w[1]) / math.sqrt(2), rel=1e-3)
    assert found["light"] == pytest.approx((w[1] - w[0]) / math.sqrt(2), rel=1e-3)
    for name, ridge in (("ridge", found["ridge"]), ("inverse", 1 / 0.3)):
        w = np.linalg.solve(moment + ridge * np.eye(50), target)
        assert found[f"{name}_biased"] == pytest.approx((w[0] + w[1]) / math.sqrt(2))
        assert found[f"{name}_light"] == pytest.approx((w[1] - w[0]) / math.sqrt(2))


def test_long_training_is_no_ridge_at_all():
    found = experiments.mixture_stopped(Call(ratio=0.1, samples=100, time=200.0, trial=0))
    assert found["ridge_light"] == pytest.approx(found["light"], rel=0.01)
    assert found["ridge"] < 0.01
