"""The fitted linear models of Part II against their laws, and against plain ridge regression."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from helpers import sweep, theory
from helpers.experiments.rare import digit_ridge, linear_fits

LAW = (1.0, 5.0, 0.5, 0.1, 0.25)


@pytest.fixture(scope="module")
def digits():
    X, y = digit_ridge.binary_digits()
    rows = np.r_[np.flatnonzero(y > 0)[:60], np.flatnonzero(y < 0)[:60]]
    return X[rows], y[rows]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_question_has_cells_and_none_twice(profile):
    cells = linear_fits.linear_fits_cells(profile)
    assert len({tuple(sorted(cell.items())) for cell in cells}) == len(cells)
    questions = {cell["question"].split(":")[0] for cell in cells}
    assert questions == {"theorem", "noise", "ridge", "transition"}


def test_the_normal_equations_know_the_law_without_its_directions():
    rng = np.random.default_rng(1)
    law = linear_fits.mixture(*LAW, dims=(4, 3), rng=rng)
    w, b = linear_fits.exact_weights(law, 0.3)
    expected = theory.rare_linear(*LAW, 0.3)
    found = *linear_fits.accuracies(w, b, law), w @ law.pattern
    assert found == pytest.approx([float(x) for x in expected], abs=1e-12)


def test_samples_have_the_moments_of_the_law():
    rng = np.random.default_rng(0)
    law = linear_fits.mixture(*LAW, dims=(2, 2), rng=rng)
    inputs, labels = linear_fits.drawn(law, 40_000, rng)
    assert labels.mean() == pytest.approx(0, abs=0.02)
    assert inputs.mean(0) == pytest.approx(0.125 * law.pattern, abs=0.03)
    clean, _ = linear_fits.drawn(law, 40_000, rng, clean=True)
    assert clean[:, 2:].var(0) == pytest.approx(0.1, abs=0.01)


def test_a_fit_comes_near_the_law_and_counts_what_it_says():
    cell = [c for c in linear_fits.linear_fits_cells("smoke") if c["question"] == "theorem"][1]
    row = sweep.sweep("linear_fits", [cell], store=None, progress=False).iloc[0]
    law = theory.rare_linear(*linear_fits.SETTINGS[1][:6])
    for name, value in zip(linear_fits.QUANTITIES, law, strict=True):
        assert row[f"exact_{name}"] == pytest.approx(float(value), abs=1e-12)
        assert row[name] == pytest.approx(float(value), abs=0.03)
    assert row["counted_clean"] == pytest.approx(float(law.clean), abs=0.006)
    assert row["counted_spurious"] == pytest.approx(float(law.spurious), abs=0.006)


def test_cells_of_a_trial_share_their_draws():
    found = []
    for noise in (0.0, 0.3):
        rng = np.random.default_rng(4)
        law = linear_fits.mixture(1, 5, 0.5 + noise, 0.1 + noise, 0.25, dims=(2, 2), rng=rng)
        found.append((*linear_fits.drawn(law, 50, rng), law))
    (plain, labels, law), (noisy, again, other) = found
    assert (labels == again).all() and (law.pattern == other.pattern).all()
    assert np.corrcoef(plain[:, 0], noisy[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_the_shortcut_is_plain_ridge_regression(digits, lam):
    X, y = digits
    model = digit_ridge.DigitRidge.fitted(X, y, lam)
    noise = np.random.default_rng(0).standard_normal((len(y), 25))
    features = model.spurious(model.target[:7], noise)
    plain = Ridge(alpha=len(y) * lam).fit(np.hstack([X, features]), y)
    assert model.reaction(features) == pytest.approx(plain.coef_[-25:].sum(), abs=1e-9)


def test_laws_of_digits_meet_the_mean_of_many_models(digits):
    model = digit_ridge.DigitRidge.fitted(*digits, 0.1)
    counts = [0, 10, 40]
    rows = model.repeated(0.01, counts, 40, np.random.default_rng(0))
    means = rows.groupby("n")["difference"].mean()
    assert means[40] == pytest.approx(model.sample_law(0.01, 40), rel=0.1)
    assert rows[rows["n"] == 0]["difference"].std() == pytest.approx(model.floor(0.01), rel=0.4)
    single = model.reaction(model.spurious(model.target[:1], np.zeros((len(model.labels), 25))))
    noise = np.random.default_rng(0).standard_normal((len(model.labels), 25)) * 0.1
    first = model.repeated(0.01, [0], 1, np.random.default_rng(0))["difference"].item()
    assert first == pytest.approx(model.reaction(noise), abs=1e-12)
    assert model.alone(0)[0] == pytest.approx(single, rel=1e-6)
    clouds = model.general_law(0.01, np.array([10]), digit_ridge.cloud_eta(*digits, 0.1))
    assert clouds != model.general_law(0.01, np.array([10]))


def test_the_first_count_above_a_level_lies_between_counts():
    means = np.array([0.1, 1.0, 0.9])
    assert digit_ridge.first_above([1, 10, 20], means, 10**-0.5) == pytest.approx(10**0.5)
    assert digit_ridge.first_above([1, 10, 20], means, 0.05) == 1
    assert np.isnan(digit_ridge.first_above([1, 10, 20], means, 2.0))
